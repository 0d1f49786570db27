//! `compare`: brokers side by side, each started here, each under the same loads, round by round.
//!
//! In every round each workload meets each subject once, A B A B, on a fresh directory and with an empty
//! page cache, so that a machine that slows down slows down everyone. The load is this program again, as
//! `run`; what it says of a run is the line that is kept. [`summary`] makes medians and ratios of the
//! lines, [`page`] makes them visible.

mod bare;
mod goals;
pub(crate) mod options;
mod page;
mod peers;
mod plots;
mod set;
mod subject;
mod summary;

use crate::exit::Exit;
use crate::load::options::Labels;
use crate::load::{host, report};
use options::{Cores, Entry, Options};
use peers::Peers;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};
use subject::{Running, Subject};
use summary::Summary;

/// How long a started broker rests before its memory counts as that of an idle one.
const REST: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a run takes at first, as long as none was seen, besides what `run` is told.
const RUN_AT_FIRST: Duration = Duration::from_secs(30);

pub(crate) fn main(options: &Options) -> Exit {
    match Comparison::new(options) {
        Ok(mut comparison) => comparison.run(),
        Err((why, exit)) => {
            eprintln!("corelane-bench: {why}");
            exit
        }
    }
}

/// One run of one workload against one subject.
struct Turn<'a> {
    subject: Subject,
    entry: &'a Entry,
    round: u32,
}

struct Comparison<'a> {
    options: &'a Options,
    peers: Peers,
    /// All that this process may use.
    cores: Vec<usize>,
    /// Who weighs the bare echo and the bare write, if that is wanted.
    scales: Option<PathBuf>,
    begun: Instant,
    lines: Vec<Value>,
    /// How long the last turn of each kind took: entry and subject.
    took: BTreeMap<(usize, &'static str), Duration>,
    /// Who did not start once is not tried again.
    gone: BTreeMap<&'static str, String>,
    left_out: Vec<String>,
    worst: Exit,
}

/// Why a turn has no result.
enum NotOnce {
    Start(String),
    Run(String),
}

impl<'a> Comparison<'a> {
    fn new(options: &'a Options) -> Result<Self, (String, Exit)> {
        let cores = host::cores();
        let entries = &options.entries;
        if cores.len() < 2 && entries.iter().any(|it| it.cores == Cores::Split) {
            let why = "one core cannot be split; say --cores shared, or --only -shared";
            return Err((why.to_owned(), Exit::Usage));
        }
        let subjects: Vec<_> = entries.iter().flat_map(|it| it.subjects.clone()).collect();
        let not_started = |why| (why, Exit::NotStarted);
        let peers = peers::gather(&subjects, options.corelane.as_deref()).map_err(not_started)?;
        let weighs = entries.iter().any(|it| it.bare);
        let scales = weighs.then(bare::scales).transpose().map_err(not_started)?;
        Ok(Self {
            options,
            peers,
            cores,
            scales,
            begun: Instant::now(),
            lines: Vec::new(),
            took: BTreeMap::new(),
            gone: BTreeMap::new(),
            left_out: Vec::new(),
            worst: Exit::Fine,
        })
    }

    fn run(&mut self) -> Exit {
        for round in 1..=self.options.rounds {
            for (at, entry) in self.options.entries.iter().enumerate() {
                let bare = self.weigh(entry);
                for subject in &entry.subjects {
                    self.turn(at, &Turn { subject: *subject, entry, round }, &bare);
                }
            }
        }
        self.tell()
    }

    /// What the machine itself costs, if the entry wants to know.
    fn weigh(&mut self, entry: &Entry) -> Value {
        let Some(scales) = self.scales.as_ref().filter(|_| entry.bare) else { return Value::Null };
        match bare::weigh(scales, &self.options.data) {
            Ok(bare) => bare,
            Err(why) => {
                eprintln!("corelane-bench: {why}");
                self.worst = self.worst.max(Exit::Failed);
                Value::Null
            }
        }
    }

    fn turn(&mut self, at: usize, turn: &Turn<'_>, bare: &Value) {
        let subject = turn.subject.name();
        let what = format!("round {}: {subject}, {}", turn.round, turn.entry.workload.display());
        let expected = self.took.get(&(at, subject)).copied().unwrap_or(RUN_AT_FIRST);
        if self.options.time.is_some_and(|it| it < self.begun.elapsed() + expected) {
            self.left_out.push(what);
            return;
        }
        eprintln!("{what}, cores {}", turn.entry.cores.name());
        let begun = Instant::now();
        let ended = match self.gone.get(subject) {
            Some(why) => Err(NotOnce::Start(why.clone())),
            None => self.once(turn),
        };
        self.took.insert((at, subject), begun.elapsed());
        let mut line = match ended {
            Ok((line, exit)) => {
                self.worst = self.worst.max(exit);
                line
            }
            Err(NotOnce::Start(why)) => {
                self.worst = self.worst.max(Exit::NotStarted);
                let why = format!("{subject} did not start: {why}");
                if self.gone.insert(subject, why.clone()).is_none() {
                    eprintln!("corelane-bench: {why}");
                }
                nothing(turn, &why)
            }
            Err(NotOnce::Run(why)) => {
                eprintln!("corelane-bench: {why}");
                self.worst = self.worst.max(Exit::Failed);
                nothing(turn, &why)
            }
        };
        line["extra"]["cores"] = json!(turn.entry.cores.name());
        line["extra"]["bare"] = bare.clone();
        if let Some(path) = &self.options.json
            && let Err(it) = append(path, &line)
        {
            eprintln!("corelane-bench: {}: {it}", path.display());
            self.worst = self.worst.max(Exit::Failed);
        }
        self.lines.push(line);
    }

    /// Starts the subject, runs the load, stops the subject; the line and how the load ended.
    fn once(&self, turn: &Turn<'_>) -> Result<(Value, Exit), NotOnce> {
        let (load_cores, broker_cores) = match turn.entry.cores {
            Cores::Shared => (&self.cores[..], &self.cores[..]),
            Cores::Split => self.cores.split_at(self.cores.len() / 2),
        };
        if let Err(error) = host::drop_caches() {
            eprintln!("the page cache stays as it is: {error}");
        }
        let folder = self.options.data.join(format!("corelane-compare-{}", process::id()));
        let mut running = Running::start(turn.subject, &self.peers, &folder, broker_cores)
            .map_err(NotOnce::Start)?;
        thread::sleep(REST);
        let idle =
            host::resident_bytes(running.pid()).map_err(|it| NotOnce::Start(it.to_string()))?;
        let answered = load(turn, &running, load_cores, &folder);
        let stopped = running.stop();
        let (mut line, mut exit) = answered.map_err(|it| NotOnce::Run(running.explain(&it)))?;
        if let Err(it) = stopped {
            // What was measured before is as good as any.
            eprintln!("corelane-bench: {} did not stop: {it}", turn.subject.name());
            exit = exit.max(Exit::Failed);
        }
        line["extra"]["start_ms"] = json!(running.started_in().as_secs_f64() * 1e3);
        line["extra"]["idle_rss_bytes"] = json!(idle);
        Ok((line, exit))
    }

    /// The tables, the page, and how it all ended.
    fn tell(&self) -> Exit {
        let summary = Summary::of(&self.lines);
        print!("{}", summary.text());
        let goals = goals::rows(&summary);
        if !goals.is_empty() {
            print!("{}", goals::text(&goals));
        }
        for it in &self.left_out {
            println!("left out, the time was over: {it}");
        }
        if let Some(path) = &self.options.html {
            let asked: Vec<_> = env::args().skip(1).collect();
            let html = page::page(&summary, &self.lines, &asked.join(" "));
            if let Err(error) = fs::write(path, html) {
                eprintln!("corelane-bench: {}: {error}", path.display());
                return self.worst.max(Exit::Failed);
            }
        }
        self.worst
    }
}

/// The line of a turn without a result.
fn nothing(turn: &Turn<'_>, why: &str) -> Value {
    let labels = Labels {
        subject: turn.subject.name().to_owned(),
        subject_version: None,
        round: turn.round,
        ack_means: Some(turn.subject.ack_means().to_owned()),
    };
    let file = turn.entry.workload.to_string_lossy().into_owned();
    let told = crate::load::options::parse(std::slice::from_ref(&file));
    // It was read before anything was started, and may have gone since.
    let name = told.and_then(|it| crate::load::check(&it)).unwrap_or(file);
    report::nothing(&name, &labels, why)
}

fn append(path: &Path, line: &Value) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")
}

/// Runs this program as `run` on its own cores.
fn load(
    turn: &Turn<'_>,
    running: &Running,
    cores: &[usize],
    folder: &Path,
) -> Result<(Value, Exit), String> {
    let program = env::current_exe().map_err(|it| format!("where am I: {it}"))?;
    let result: PathBuf = folder.join("result.jsonl");
    let mut command = on_cores(cores);
    command.arg(program).arg("run").arg(&turn.entry.workload);
    command.args(["-b", running.address()]);
    command.args(["--broker-pid", &running.pid().to_string()]);
    command.args(["--subject", turn.subject.name(), "--ack-means", turn.subject.ack_means()]);
    command.args(["--subject-version", running.version()]);
    command.args(["--round", &turn.round.to_string()]);
    // The broker goes, and its topics with it.
    command.arg("--keep-topics");
    command.arg("--json").arg(&result);
    command.args(&turn.entry.passed_on);
    let mut child = command.spawn().map_err(|it| format!("the load: {it}"))?;
    let status = ended(&mut child, turn.entry.within).map_err(|it| format!("the load: {it}"))?;
    let exit = match status.code() {
        Some(0) => Exit::Fine,
        Some(1) => Exit::Failed,
        _ => return Err(format!("the load ended with {status}")),
    };
    let text =
        fs::read_to_string(&result).map_err(|it| format!("the load left no result: {it}"))?;
    let line = text.lines().last().unwrap_or_default();
    let line = serde_json::from_str(line).map_err(|it| format!("the load's result: {it}"))?;
    Ok((line, exit))
}

/// Waits for a process, and ends it when it takes too long.
fn ended(child: &mut Child, within: Option<Duration>) -> io::Result<ExitStatus> {
    let Some(within) = within else { return child.wait() };
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if within < begun.elapsed() {
            child.kill()?;
            return child.wait();
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A command that will run on these cores alone.
fn on_cores(cores: &[usize]) -> Command {
    let list: Vec<_> = cores.iter().map(usize::to_string).collect();
    let mut command = Command::new("taskset");
    command.args(["-c", &list.join(",")]);
    command
}

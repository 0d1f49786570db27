//! `compare`: brokers side by side, each started here, each under the same loads, round by round.
//!
//! In every round each workload meets each subject once, A B A B, on a fresh directory and with an empty
//! page cache, so that a machine that slows down slows down everyone. The load is this program again, as
//! `run`; what it says of a run is the line that is kept. [`summary`] makes medians and ratios of the
//! lines, [`page`] makes them visible.

pub(crate) mod options;
mod page;
mod peers;
mod plots;
mod subject;
mod summary;

use crate::exit::Exit;
use crate::load::host;
use options::{Cores, Options};
use serde_json::{Value, json};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;
use subject::{Running, Subject};

/// How long a started broker rests before its memory counts as that of an idle one.
const REST: Duration = Duration::from_secs(2);

/// One run of one workload against one subject.
struct Turn<'a> {
    subject: Subject,
    workload: &'a Path,
    round: u32,
}

pub(crate) fn main(options: &Options) -> Exit {
    let cores = host::cores();
    let (ours, theirs) = match options.cores {
        Cores::Shared => (cores.clone(), cores),
        Cores::Split if cores.len() < 2 => {
            eprintln!("corelane-bench: one core cannot be split; say --cores shared");
            return Exit::Usage;
        }
        Cores::Split => {
            let (load, broker) = cores.split_at(cores.len() / 2);
            (load.to_vec(), broker.to_vec())
        }
    };
    let peers = match peers::gather(&options.subjects, options.corelane.as_deref()) {
        Ok(peers) => peers,
        Err(why) => {
            eprintln!("corelane-bench: {why}");
            return Exit::NotStarted;
        }
    };
    let mut lines = Vec::new();
    let mut worst = Exit::Fine;
    for round in 1..=options.rounds {
        for workload in &options.workloads {
            for subject in &options.subjects {
                let turn = Turn { subject: *subject, workload, round };
                eprintln!("round {round}: {}, {}", subject.name(), workload.display());
                match once(&turn, &peers, options, &ours, &theirs) {
                    Ok((line, exit)) => {
                        worst = worst.max(exit);
                        lines.push(line);
                    }
                    Err(NotOnce::Start(why)) => {
                        eprintln!("corelane-bench: {} did not start: {why}", subject.name());
                        return Exit::NotStarted;
                    }
                    Err(NotOnce::Run(why)) => {
                        eprintln!("corelane-bench: {why}");
                        worst = worst.max(Exit::Failed);
                    }
                }
            }
        }
    }
    let summary = summary::Summary::of(&lines);
    print!("{}", summary.text());
    if let Some(path) = &options.html {
        let asked: Vec<_> = env::args().skip(1).collect();
        let html = page::page(&summary, &lines, &asked.join(" "));
        if let Err(error) = fs::write(path, html) {
            eprintln!("corelane-bench: {}: {error}", path.display());
            return Exit::Failed;
        }
    }
    worst
}

enum NotOnce {
    Start(String),
    Run(String),
}

/// Starts the subject, runs the load, stops the subject; the line and how the load ended.
fn once(
    turn: &Turn<'_>,
    peers: &peers::Peers,
    options: &Options,
    load_cores: &[usize],
    broker_cores: &[usize],
) -> Result<(Value, Exit), NotOnce> {
    if let Err(error) = host::drop_caches() {
        eprintln!("the page cache stays as it is: {error}");
    }
    let folder = options.data.join(format!("corelane-compare-{}", process::id()));
    let mut running =
        Running::start(turn.subject, peers, &folder, broker_cores).map_err(NotOnce::Start)?;
    std::thread::sleep(REST);
    let idle = host::resident_bytes(running.pid()).map_err(|it| NotOnce::Start(it.to_string()))?;
    let answered = load(turn, &running, options, load_cores, &folder);
    let stopped = running.stop();
    let (mut line, exit) = answered.map_err(NotOnce::Run)?;
    stopped.map_err(|it| NotOnce::Run(format!("{} did not stop: {it}", turn.subject.name())))?;
    line["extra"]["start_ms"] = json!(running.started_in().as_secs_f64() * 1e3);
    line["extra"]["idle_rss_bytes"] = json!(idle);
    line["extra"]["cores"] = json!(match options.cores {
        Cores::Split => "split",
        Cores::Shared => "shared",
    });
    if let Some(path) = &options.json {
        append(path, &line).map_err(|it| NotOnce::Run(format!("{}: {it}", path.display())))?;
    }
    Ok((line, exit))
}

fn append(path: &Path, line: &Value) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")
}

/// Runs this program as `run` on its own cores.
fn load(
    turn: &Turn<'_>,
    running: &Running,
    options: &Options,
    cores: &[usize],
    folder: &Path,
) -> Result<(Value, Exit), String> {
    let program = env::current_exe().map_err(|it| format!("where am I: {it}"))?;
    let result: PathBuf = folder.join("result.jsonl");
    let mut command = on_cores(cores);
    command.arg(program).arg("run").arg(turn.workload);
    command.args(["-b", running.address()]);
    command.args(["--broker-pid", &running.pid().to_string()]);
    command.args(["--subject", turn.subject.name(), "--ack-means", turn.subject.ack_means()]);
    command.args(["--subject-version", running.version()]);
    command.args(["--round", &turn.round.to_string()]);
    command.arg("--json").arg(&result);
    command.args(&options.passed_on);
    let status = command.status().map_err(|it| format!("the load: {it}"))?;
    let exit = match status.code() {
        Some(0) => Exit::Fine,
        Some(1) => Exit::Failed,
        _ => return Err(format!("the load ended with {status}")),
    };
    let text = fs::read_to_string(&result).map_err(|it| format!("{}: {it}", result.display()))?;
    let line = text.lines().last().unwrap_or_default();
    let line = serde_json::from_str(line).map_err(|it| format!("the load's result: {it}"))?;
    Ok((line, exit))
}

/// A command that will run on these cores alone.
fn on_cores(cores: &[usize]) -> Command {
    let list: Vec<_> = cores.iter().map(usize::to_string).collect();
    let mut command = Command::new("taskset");
    command.args(["-c", &list.join(",")]);
    command
}

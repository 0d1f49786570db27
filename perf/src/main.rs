//! `corelane-perf WHAT`: small things weighed exactly, each beside its twins.
//!
//! A scale knows its subjects and its cases and takes readings of one subject in one case. What is done
//! here is the same for all: runs interleaved, so that a machine that slows down slows down everyone;
//! a table for people, JSON lines for machines.

mod allocations;
mod commit;
mod counts;
mod door;
mod echo;
mod hot;
mod log;
mod meter;
mod on_glommio;
mod on_lane;
mod origin;
mod plan;
mod report;
mod subject;
mod sys;
mod wire;

use core_affinity::CoreId;
use plan::{LogPlan, Plan};
use report::{Reading, Report};
use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

struct Scale {
    name: &'static str,
    about: &'static str,
    subjects: &'static [&'static str],
    cases: &'static [&'static str],
    weigh: fn(&str, &str, &Plan) -> io::Result<Vec<Reading>>,
}

const SCALES: &[Scale] = &[
    Scale {
        name: "echo",
        about: "a request over TCP and its answer: CPU of the server, latency",
        subjects: echo::SUBJECTS,
        cases: echo::CASES,
        weigh: echo::weigh,
    },
    Scale {
        name: "commit",
        about: "a durable write, one at a time: CPU of the writer, latency",
        subjects: commit::SUBJECTS,
        cases: commit::CASES,
        weigh: commit::weigh,
    },
    Scale {
        name: "idle",
        about: "silent connections: memory of each, CPU of all",
        subjects: echo::SUBJECTS,
        cases: echo::IDLE_CASES,
        weigh: echo::weigh_idle,
    },
    Scale {
        name: "wire",
        about: "a request's frame in, its answer's frame out: CPU, allocations",
        subjects: wire::SUBJECTS,
        cases: wire::CASES,
        weigh: wire::weigh,
    },
    Scale {
        name: "counts",
        about: "a request through the whole broker: what can be counted of it",
        subjects: counts::SUBJECTS,
        cases: counts::CASES,
        weigh: counts::weigh,
    },
    Scale {
        name: "fixed",
        about: "registered descriptors and buffers of the ring, beside plain ones",
        subjects: door::FIXED_SUBJECTS,
        cases: door::FIXED_CASES,
        weigh: door::weigh,
    },
    Scale {
        name: "file",
        about: "bytes of a warm file into a socket, the ways there are",
        subjects: door::FILE_SUBJECTS,
        cases: door::FILE_CASES,
        weigh: door::weigh,
    },
    Scale {
        name: "large",
        about: "an append by way of the journal, and straight to its segment: CPU, bytes, latency",
        subjects: log::LARGE_SUBJECTS,
        cases: log::LARGE_CASES,
        weigh: log::weigh_large,
    },
    Scale {
        name: "append",
        about: "durable appends over few and many partitions, beside plain and bare writes",
        subjects: log::APPEND_SUBJECTS,
        cases: log::APPEND_CASES,
        weigh: log::weigh_append,
    },
    Scale {
        name: "recovery",
        about: "a start after a crash, with much history and some bytes in journals only",
        subjects: log::RECOVERY_SUBJECTS,
        cases: log::RECOVERY_CASES,
        weigh: log::weigh_recovery,
    },
    Scale {
        name: "cold-read",
        about: "appends beside a reader of old records",
        subjects: log::COLD_SUBJECTS,
        cases: log::COLD_CASES,
        weigh: log::weigh_cold,
    },
];

struct Options {
    scale: &'static Scale,
    json: Option<PathBuf>,
    runs: u32,
    subjects: Vec<&'static str>,
    cases: Vec<&'static str>,
    plan: Plan,
}

const RUNS: u32 = 5;
const MEASURED: Duration = Duration::from_secs(2);
const SECONDS_MAX: f64 = 3600.0;
/// Mebibytes, and times, that can be asked for.
const COUNT_MAX: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == subject::ROLE) {
        return exit_code(be_subject(&arguments[1..]).map_err(|it| it.to_string()));
    }
    if arguments.iter().any(|it| it == "--help" || it == "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    exit_code(parse(&arguments).and_then(|it| weigh(&it)))
}

fn exit_code(ended: Result<(), String>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("corelane-perf: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = "usage: corelane-perf WHAT [options]\n\nWHAT is one of\n".to_owned();
    for it in SCALES {
        text += &format!("  {:<8} {}\n", it.name, it.about);
        text += &format!("           subjects: {}\n", it.subjects.join(", "));
        text += &format!("           cases:    {}\n", it.cases.join("; "));
    }
    text + "\noptions
  --json FILE      append the results to FILE, one JSON object per line
  --runs N         runs of each subject in each case, interleaved (5)
  --seconds S      how long a run measures (2)
  --subject NAME   only this subject; may be repeated
  --case TEXT      only cases that contain TEXT; may be repeated
  --dir FOLDER     where files are written (beside this program)
of append, recovery and cold-read
  --journal MIB    the size of the journal (64)
  --cycles N       how many times as many bytes are appended (5)
  --history MIB    what was written long ago (2048)
  --dirty MIB      what only the journal has at a crash (64)
  --forget-names   before a start, have the kernel forget the names of all files (root)
"
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut words = arguments.iter().map(String::as_str);
    let what = words.next().ok_or_else(usage)?;
    let scale = SCALES.iter().find(|it| it.name == what);
    let scale = scale.ok_or_else(|| format!("nothing to weigh is called {what:?}; see --help"))?;
    let (mut json, mut runs, mut measured, mut folder) = (None, RUNS, MEASURED, None);
    let (mut subjects, mut cases) = (Vec::new(), Vec::new());
    let mut log = LogPlan::default();
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option {
            "--json" => json = Some(PathBuf::from(value()?)),
            "--dir" => folder = Some(PathBuf::from(value()?)),
            "--runs" => {
                let text = value()?;
                runs = text.parse().ok().filter(|it| 0 < *it).ok_or_else(|| bad(option, text))?;
            }
            "--journal" => log.journal_bytes = mebibytes(option, value()?)?,
            "--history" => log.history_bytes = mebibytes(option, value()?)?,
            "--dirty" => log.dirty_bytes = mebibytes(option, value()?)?,
            "--forget-names" => log.forget_names = true,
            "--cycles" => {
                let text = value()?;
                let cycles = text.parse().ok().filter(|it| (1..=COUNT_MAX).contains(it));
                log.cycles = cycles.ok_or_else(|| bad(option, text))?;
            }
            "--seconds" => {
                let text = value()?;
                let seconds = text.parse().ok().filter(|it| 0.0 < *it && *it <= SECONDS_MAX);
                measured = Duration::from_secs_f64(seconds.ok_or_else(|| bad(option, text))?);
            }
            "--subject" => {
                let name = value()?;
                let known = scale.subjects.iter().find(|it| **it == name);
                subjects.push(*known.ok_or_else(|| {
                    format!("{what} has no subject {name:?}, only {}", scale.subjects.join(", "))
                })?);
            }
            "--case" => {
                let text = value()?;
                let before = cases.len();
                cases.extend(scale.cases.iter().filter(|it| it.contains(text)));
                if cases.len() == before {
                    let all = scale.cases.join("; ");
                    return Err(format!("{what} has no case with {text:?}, only {all}"));
                }
            }
            other => return Err(format!("no option is called {other}; see --help")),
        }
    }
    let folder = match folder {
        Some(folder) => folder,
        None => beside_this_program().map_err(|it| format!("where am I: {it}; say --dir"))?,
    };
    Ok(Options {
        scale,
        json,
        runs,
        subjects: or_all(subjects, scale.subjects),
        cases: or_all(cases, scale.cases),
        plan: Plan { measured, folder, log },
    })
}

fn mebibytes(option: &str, text: &str) -> Result<u64, String> {
    let count: Option<u64> = text.parse().ok().filter(|it| (1..=COUNT_MAX).contains(it));
    count.map(|it| it << 20).ok_or_else(|| bad(option, text))
}

fn bad(option: &str, text: &str) -> String {
    format!("{option} cannot be {text:?}")
}

fn or_all(chosen: Vec<&'static str>, all: &[&'static str]) -> Vec<&'static str> {
    if chosen.is_empty() { all.to_vec() } else { chosen }
}

fn beside_this_program() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.parent().expect("a program is in a folder").to_owned())
}

fn weigh(options: &Options) -> Result<(), String> {
    let origin = origin::origin();
    let scale = options.scale;
    let mut report = Report::new(scale.name);
    for case in &options.cases {
        for _run in 0..options.runs {
            for subject in &options.subjects {
                let readings = (scale.weigh)(subject, case, &options.plan)
                    .map_err(|it| format!("{}, {subject}, {case}: {it}", scale.name))?;
                for reading in readings {
                    report.add(subject, case, reading);
                }
            }
        }
    }
    report.print(&origin, &mut io::stdout().lock()).map_err(|it| format!("the table: {it}"))?;
    if let Some(path) = &options.json {
        report.append_json(&origin, path).map_err(|it| format!("{}: {it}", path.display()))?;
    }
    Ok(())
}

/// What this program does when it is its own child.
fn be_subject(arguments: &[String]) -> io::Result<()> {
    let (core, arguments) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let core = CoreId { id: core.parse().map_err(io::Error::other)? };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |it: &str| it.parse().map_err(io::Error::other);
    match words[..] {
        ["echo", subject, buffer] => {
            echo::serve(core, subject, usize::try_from(number(buffer)?).map_err(io::Error::other)?)
        }
        ["commit", subject, path, block, nanos] => commit::run(
            core,
            subject,
            path.as_ref(),
            usize::try_from(number(block)?).map_err(io::Error::other)?,
            Duration::from_nanos(number(nanos)?),
        ),
        ["work", name, steps] => work(name, number(steps)?),
        ["log", ref words @ ..] => log::run(core, words),
        ["broker", data] => counts::be_broker(data),
        ["door", subject, case, path, port, nanos] => door::run(
            core,
            subject,
            case,
            path.as_ref(),
            port.parse().map_err(io::Error::other)?,
            Duration::from_nanos(number(nanos)?),
        ),
        _ => Err(io::Error::other("no such subject")),
    }
}

/// Fixed work, for whoever counts its instructions.
fn work(name: &str, steps: u64) -> io::Result<()> {
    let unknown =
        || io::Error::other(format!("no path is {name:?}, only {}", hot::NAMES.join("; ")));
    let mut step = hot::path(name).or_else(|| wire::path(name)).ok_or_else(unknown)?;
    let sum = (0..steps).fold(0_u64, |sum, _| sum.wrapping_add(step()));
    println!("worked {sum}");
    Ok(())
}

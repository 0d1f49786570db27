//! `corelane-disk`: the release binary on real disks, in real processes: killed, without power, without
//! room. The load comes from our own client, and what it was promised is what it looks for.
//!
//! Prints a line for each scenario and, at the end, `N passed, N failed, N skipped`.

mod broker;
mod check;
mod cuts;
mod device;
mod dice;
mod full;
mod kills;
mod load;
mod machine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use corelane_broker::config::args::{self, Command};
use corelane_broker::config::{host, load as load_config};
use corelane_broker::exit::Exit;
use corelane_broker::mutant::Mutant;
use corelane_broker::start::start_broken;

use machine::Trouble;

/// As the first argument: be a broker that does not flush.
const NO_FLUSH: &str = "broker-without-flush";

const HELP: &str = "\
usage: corelane-disk [--kills N] [--cuts N] [--seed S] [--only kills|cuts|control|full]
";

struct Wanted {
    kills: u64,
    cuts: u64,
    seed: u64,
    only: Option<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|it| it == NO_FLUSH) {
        return std::process::Termination::report(without_flush());
    }
    let Some(wanted) = read(arguments) else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    match run(&wanted) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn read(mut arguments: impl Iterator<Item = String>) -> Option<Wanted> {
    let mut wanted = Wanted { kills: 20, cuts: 5, seed: 1, only: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match &*name {
            "--kills" => wanted.kills = value.parse().ok()?,
            "--cuts" => wanted.cuts = value.parse().ok()?,
            "--seed" => wanted.seed = value.parse().ok()?,
            "--only" => wanted.only = Some(value),
            _ => return None,
        }
    }
    Some(wanted)
}

/// A broker like any other, but for its flushes.
fn without_flush() -> Exit {
    let arguments = ["start".into()].into_iter().chain(std::env::args_os().skip(2));
    let Ok(Command::Start(args)) = args::parse(arguments) else { return Exit::Usage };
    let Ok(inputs) = host::gather(args) else { return Exit::Usage };
    match load_config::load(&inputs) {
        Ok(config) => start_broken(&config, Some(Mutant::NoFlush)),
        Err(_) => Exit::Usage,
    }
}

/// How many scenarios failed.
fn run(wanted: &Wanted) -> u32 {
    let no_loops = machine::no_loop_devices();
    let no_disks = no_loops
        .clone()
        .or_else(|| (!Path::new("/dev/fuse").exists()).then(|| "there is no /dev/fuse".to_owned()));
    type Scenario = fn(&Path, &Wanted) -> Result<String, Trouble>;
    let scenarios: [(&str, Option<String>, Scenario); 4] = [
        ("kills", None, |at, it| kills::run(at, it.kills, it.seed)),
        ("cuts", no_disks.clone(), |at, it| cuts::run(at, it.cuts, it.seed)),
        ("control", no_disks, |at, it| cuts::control(at, it.seed)),
        ("full", no_loops, |at, _| full::run(at)),
    ];
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, lacking, scenario) in scenarios {
        if wanted.only.as_deref().is_some_and(|it| it != name) {
            continue;
        }
        if let Some(why) = lacking {
            println!("SKIPPED disk-{name}: {why}");
            skipped += 1;
            continue;
        }
        let directory = directory_of(name);
        let began = Instant::now();
        let outcome = match fresh(&directory) {
            Ok(()) => scenario(&directory, wanted),
            Err(trouble) => Err(trouble),
        };
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(told) => {
                passed += 1;
                println!("ok disk-{name} ({seconds:.1} s): {told}");
                if let Err(error) = std::fs::remove_dir_all(&directory) {
                    println!("# {} stays: {error}", directory.display());
                }
            }
            Err(trouble) => {
                failed += 1;
                println!("FAILED disk-{name}: {trouble}");
                println!("replay: ./test disk --only {name} --seed {}", wanted.seed);
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed
}

/// Beside the binaries: on the disk that the workspace is on.
fn directory_of(scenario: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let target = here.ancestors().nth(2).unwrap_or(Path::new("target"));
    target.join("disk").join(format!("{scenario}-{}", std::process::id()))
}

fn fresh(directory: &Path) -> Result<(), Trouble> {
    std::fs::create_dir_all(directory).map_err(|error| Trouble::of("making a folder", &error))
}

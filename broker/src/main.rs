//! The binary: reads what it is asked, says what is wrong with it, and starts the broker.

use corelane_broker::config::args::{self, Command, StartArgs};
use corelane_broker::config::{host, load, print};
use corelane_broker::exit::Exit;
use corelane_broker::{start, tune};
use std::io::Write as _;

fn main() -> Exit {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => say(args::HELP),
        Ok(Command::Version) => say(concat!("corelane ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Start(args)) if args.print_defaults => say(&print::defaults()),
        Ok(Command::Start(args)) => configured(args),
        Ok(Command::Tune(args)) => tune::tune(&args),
        Err(error) => {
            eprintln!("corelane: {error}\nTry corelane --help.");
            Exit::Usage
        }
    }
}

fn configured(args: StartArgs) -> Exit {
    let only_check = args.check_config;
    let inputs = match host::gather(args) {
        Ok(inputs) => inputs,
        Err(error) => {
            eprintln!("corelane: {error}");
            return Exit::Usage;
        }
    };
    let config = match load::load(&inputs) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("corelane: {problem}");
            }
            return Exit::Usage;
        }
    };
    for warning in &config.warnings {
        eprintln!("corelane: warning: {warning}");
    }
    if only_check { say(&print::check_report(&config)) } else { start::start(&config) }
}

/// A reader that went away has read enough.
fn say(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Clean,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Clean,
        Err(error) => {
            eprintln!("corelane: cannot write to stdout: {error}");
            Exit::Failure
        }
    }
}

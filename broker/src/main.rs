//! The binary: reads what it is asked, says what is wrong with it, and starts the broker.

use corelane_broker::config::args::{self, Command, StartArgs};
use corelane_broker::config::{host, load, print};
use corelane_broker::exit::Exit;
use corelane_broker::{speech, start, tune};

fn main() -> Exit {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => say(args::HELP),
        Ok(Command::Version) => say(concat!("corelane ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Start(args)) if args.print_defaults => say(&print::defaults()),
        Ok(Command::Start(args)) => configured(args),
        Ok(Command::Tune(args)) => tune::tune(&args),
        Err(error) => {
            speech::say(&format!("{error}\nTry corelane --help."));
            Exit::Usage
        }
    }
}

fn configured(args: StartArgs) -> Exit {
    let only_check = args.check_config;
    let inputs = match host::gather(args) {
        Ok(inputs) => inputs,
        Err(error) => {
            speech::say(&error.to_string());
            return Exit::Usage;
        }
    };
    let config = match load::load(&inputs) {
        Ok(config) => config,
        Err(refused) => {
            warn(&refused.warnings);
            for problem in refused.problems {
                speech::say(&problem.to_string());
            }
            return Exit::Usage;
        }
    };
    warn(&config.warnings);
    if only_check { say(&print::check_report(&config)) } else { start::start(&config) }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        speech::say(&format!("warning: {warning}"));
    }
}

fn say(text: &str) -> Exit {
    match speech::print(text) {
        Ok(()) => Exit::Clean,
        Err(error) => {
            speech::say(&format!("cannot write to stdout: {error}"));
            Exit::Failure
        }
    }
}

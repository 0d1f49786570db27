//! `corelane-bench`: brokers under the loads that the field uses, and what they cost.

mod compare;
mod exit;
mod load;

use exit::Exit;
use std::env;

const USAGE: &str = "\
usage: corelane-bench WHAT [options]; corelane-bench WHAT --help says more

  run       one workload against a broker that is there
  compare   brokers side by side, each started for it
";

fn main() -> Exit {
    let words: Vec<String> = env::args().skip(1).collect();
    let (what, words) = match words.split_first() {
        Some((what, words)) => (what.as_str(), words),
        None => ("", &[][..]),
    };
    let help = words.iter().any(|it| it == "--help" || it == "-h");
    match what {
        "run" if help => say(load::options::USAGE),
        "run" => match load::options::parse(words) {
            Ok(options) => load::run::main(&options),
            Err(why) => refuse(&why),
        },
        "compare" if help => say(compare::options::USAGE),
        "compare" => match compare::options::parse(words) {
            Ok(options) => compare::main(&options),
            Err(why) => refuse(&why),
        },
        "--help" | "-h" => say(USAGE),
        "" => refuse("what is to be done?"),
        other => refuse(&format!("there is no {other}")),
    }
}

fn say(text: &str) -> Exit {
    print!("{text}");
    Exit::Fine
}

fn refuse(why: &str) -> Exit {
    eprintln!("corelane-bench: {why}\nTry corelane-bench --help.");
    Exit::Usage
}

//! `corelane tune`: what this host is set to, what that means for a broker, and what would be better.
//!
//! [`host`] reads and writes the kernel's files, [`rules`] concludes, [`measure`] asks the disk. Nothing is
//! changed unless told to, and what is changed lasts until the next start of the machine.

mod host;
mod measure;
mod rules;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::config::args::TuneArgs;
use crate::exit::Exit;
use host::Host;
use rules::{Change, Finding, Level};

/// Looks at the host, tells, and with `--apply` changes it.
#[must_use]
pub fn tune(args: &TuneArgs) -> Exit {
    let host = Host::real();
    if let Some(sign) = host.container() {
        eprintln!(
            "corelane: this is a container ({sign}), and what could be tuned belongs to the machine around it; \
             run corelane tune there"
        );
        return Exit::Host;
    }
    let data = Path::new(&args.data);
    let facts = host.facts(data);
    let mut findings = rules::findings(&facts);
    if 0 < args.seconds {
        match measure::flushes(data, args.seconds) {
            Ok(flushes) => findings.push(rules::flushes(&flushes, &facts)),
            Err(why) => {
                eprintln!("corelane: the data disk was not measured: {why}");
                return Exit::Host;
            }
        }
    }
    for finding in &findings {
        print!("{}", tell(finding));
    }
    let changes: Vec<_> = findings.iter().flat_map(|it| &it.changes).collect();
    if args.apply { apply(&host, &changes) } else { advise(&changes) }
}

fn advise(changes: &[&Change]) -> Exit {
    match changes.len() {
        0 => println!("\nThere is nothing corelane tune could change here."),
        count => println!(
            "\n{count} settings would be changed. Nothing was: say corelane tune --apply to change them, until \
             the next start of the machine."
        ),
    }
    Exit::Clean
}

/// All of them, even when one is refused.
fn apply(host: &Host, changes: &[&Change]) -> Exit {
    let mut exit = Exit::Clean;
    println!();
    for change in changes {
        match host.change(change) {
            Ok(()) => println!("changed {} from {} to {}", change.path, change.from, change.to),
            Err(error) => {
                println!("not changed: {}: {error}", change.path);
                exit = Exit::Failure;
            }
        }
    }
    if changes.is_empty() {
        println!("There is nothing to change.");
    } else {
        println!("These last until the next start of the machine.");
    }
    exit
}

/// A finding as people read it.
fn tell(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Good => "ok     ",
        Level::Note => "note   ",
        Level::Warning => "warning",
    };
    let mut text = format!("{mark}  {}: {}\n", finding.what, finding.found);
    let mut more = |line: &str| text += &format!("         {line}\n");
    if finding.level != Level::Good {
        more(&finding.means);
    }
    for change in &finding.changes {
        more(&format!("would write {} to {} (now {})", change.to, change.path, change.from));
    }
    if let Some(remedy) = &finding.remedy {
        more(remedy);
    }
    text
}

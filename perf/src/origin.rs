//! Which code and which machine a reading belongs to. A number without these two is worth nothing.

use crate::report::Origin;
use std::fs;
use std::process::Command;

pub(crate) fn origin() -> Origin {
    Origin { commit: commit(), machine: machine() }
}

/// The commit of the working tree, with `+` when the tree differs from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let changed = changed.is_none_or(|it| !it.is_empty());
    if changed { commit + "+" } else { commit }
}

/// `AMD EPYC 7B13, 2 cores, Linux 6.18.0`.
fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|it| it.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let cores = core_affinity::get_core_ids().map_or(0, |it| it.len());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel = release.map_or("unknown".to_owned(), |it| it.trim().to_owned());
    format!("{processor}, {cores} cores, Linux {kernel}")
}

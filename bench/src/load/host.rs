//! What the kernel says of processes and of this machine.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// The kernel counts processor time of other processes in these, whatever it is built with.
const TICKS_PER_SECOND: f64 = 100.0;

/// Java's compilers are threads of these names.
const COMPILERS: [&str; 2] = ["(C1 CompilerThre", "(C2 CompilerThre"];

/// What a process has used up since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Used {
    pub(crate) cpu_s: f64,
    /// The part of it that compilers took: how far from warm a program is that compiles while it runs.
    pub(crate) compiler_cpu_s: f64,
    pub(crate) ctx_switches: u64,
    pub(crate) disk_write_bytes: u64,
    /// Of all disks of this machine: a flush belongs to nobody.
    pub(crate) disk_flushes: u64,
}

impl Used {
    /// What was used up since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_s: self.cpu_s - before.cpu_s,
            // A compiler's thread that has ended takes its time with it.
            compiler_cpu_s: (self.compiler_cpu_s - before.compiler_cpu_s).max(0.0),
            ctx_switches: self.ctx_switches.saturating_sub(before.ctx_switches),
            disk_write_bytes: self.disk_write_bytes.saturating_sub(before.disk_write_bytes),
            disk_flushes: self.disk_flushes.saturating_sub(before.disk_flushes),
        }
    }
}

/// Reads what `pid` has used.
pub(crate) fn used(pid: u32) -> io::Result<Used> {
    let folder = format!("/proc/{pid}");
    let stat = fs::read_to_string(format!("{folder}/stat"))?;
    let (mut ctx_switches, mut compiler_cpu_s) = (0, 0.0);
    for task in fs::read_dir(format!("{folder}/task"))? {
        let task = task?.path();
        // A thread may end between the two.
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        let Ok(thread) = fs::read_to_string(task.join("stat")) else { continue };
        if COMPILERS.iter().any(|it| thread.contains(it)) {
            compiler_cpu_s += cpu_s(&thread);
        }
        ctx_switches += row(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        ctx_switches += row(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    let io = fs::read_to_string(format!("{folder}/io"))?;
    Ok(Used {
        cpu_s: cpu_s(&stat),
        compiler_cpu_s,
        ctx_switches,
        disk_write_bytes: row(&io, "write_bytes:").unwrap_or(0),
        disk_flushes: flushes()?,
    })
}

/// User and system time of a line of `stat`.
fn cpu_s(stat: &str) -> f64 {
    // The name may hold anything; what follows its last bracket does not.
    let fields: Vec<&str> =
        stat.rsplit_once(") ").map(|it| it.1.split_whitespace().collect()).unwrap_or_default();
    let number = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
    // The fields 14 and 15, of which two stand before the bracket.
    (number(11) + number(12)) / TICKS_PER_SECOND
}

/// Memory of `pid` that is resident now.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(row(&status, "VmRSS:").unwrap_or(0) * 1024)
}

/// The number in a line that begins with `name`.
fn row(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|it| it.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

/// Flushes that whole disks have completed since the machine started.
fn flushes() -> io::Result<u64> {
    let mut all = 0;
    for disk in fs::read_dir("/sys/block")? {
        let Ok(stat) = fs::read_to_string(disk?.path().join("stat")) else { continue };
        // The sixteenth field; kernels before 5.5 have fewer.
        let field = stat.split_whitespace().nth(15).and_then(|it| it.parse::<u64>().ok());
        all += field.unwrap_or(0);
    }
    Ok(all)
}

/// Processor time of all threads of this process, in seconds, to the nanosecond.
pub(crate) fn own_cpu_s() -> io::Result<f64> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += stat.split_whitespace().next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanos as f64 / 1e9)
}

/// Empties the page cache, so that what is read next comes from the disk.
pub(crate) fn drop_caches() -> io::Result<()> {
    Command::new("sync").status()?;
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Cores this process may run on, by number.
pub(crate) fn cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.into_iter().map(|it| it.id).collect()
}

/// `AMD EPYC 7B13, 2 cores, Linux 6.18.0`.
pub(crate) fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|it| it.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |it| it.1.trim());
    // Of the machine: this process may have been given fewer.
    let cores = text.lines().filter(|it| it.starts_with("processor")).count();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.map_or("unknown".to_owned(), |it| it.trim().to_owned());
    format!("{model}, {cores} cores, Linux {release}")
}

/// The commit of the tree this was built from, with `+` when the tree differs from it.
pub(crate) fn commit() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(here).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = here.is_dir().then(|| git(&["rev-parse", "--short=12", "HEAD"])).flatten()
    else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_none_or(|it| !it.is_empty()) { commit + "+" } else { commit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_work() {
        let me = std::process::id();
        let before = used(me).expect("this process is there");
        let mut sum = 0u64;
        while own_cpu_s().expect("this process is there") < 0.05 {
            sum = sum.wrapping_add(1);
        }
        let after = used(me).expect("this process is there");
        assert!(before.cpu_s <= after.cpu_s, "{before:?} {after:?}");
        assert!(0 < after.ctx_switches && 0 < resident_bytes(me).expect("it has memory"));
        assert!(used(u32::MAX).is_err(), "nobody has this number");
    }
}

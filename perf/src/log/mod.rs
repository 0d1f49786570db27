//! `append`, `recovery`, `cold-read`: the log on a real disk, whole, on one lane.
//!
//! Each subject runs in a process of its own, in a folder of its own that is gone afterwards. What a
//! case asks is the same for all numbers of partitions: the same bytes, the same appends in flight.
//! The journal is made small, so that a run of some seconds fills it many times.

mod accounts;
mod append;
mod bare;
mod cases;
mod cold;
mod load;
mod plain;
mod recovery;
mod store;

use crate::plan::{LogPlan, Plan};
use crate::report::Reading;
use crate::subject::Subject;
use cases::Case;
use core_affinity::CoreId;
use corelane_storage::extent::ExtentRules;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

pub(crate) use cases::{APPEND_CASES, LARGE_CASES};
pub(crate) use cold::{COLD_CASES, COLD_SUBJECTS, weigh_cold};
pub(crate) use recovery::{RECOVERY_CASES, RECOVERY_SUBJECTS, weigh_recovery};
pub(crate) const APPEND_SUBJECTS: &[&str] = &["log", "bare", "plain"];
/// The two ways of an append, whatever its size.
pub(crate) const LARGE_SUBJECTS: &[&str] = &["journal", "straight"];

const METRICS: &[&str] = &[
    "p50_us",
    "p99_us",
    "batches_per_s",
    "mb_per_s",
    "cpu_us_per_batch",
    "allocs_per_batch",
    "quiet_allocs_per_batch",
    "least_allocs_per_batch",
    "written_per_byte",
    "device_per_byte",
    "journal_per_byte",
    "carried_per_byte",
    "segment_writes",
    "commits",
    "flushes",
    "durable_writes",
    "opens",
    "cycles",
    "peak_mib",
    "open_ms",
    "open_cpu_ms",
    "dirty_mib",
    "operations",
    "read_mib",
    "written_mib",
    "clean_open_ms",
    "clean_open_cpu_ms",
    "clean_opens",
    "alone_p50_us",
    "beside_p50_us",
    "alone_p99_us",
    "beside_p99_us",
    "p99_ratio",
    "read_mb_per_s",
];

/// What a child found, before it is said.
type Found = Vec<(&'static str, f64)>;

/// What a child is told.
struct Task {
    folder: PathBuf,
    plan: LogPlan,
    /// How long a subject may take that is too slow for all bytes.
    time: Duration,
    extents: ExtentRules,
}

pub(crate) fn weigh_append(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    if subject == "bare" && !Case::of(case).is_large() {
        // A direct write has whole blocks: nothing compares to batches smaller than one.
        return Ok(Vec::new());
    }
    let folder = Folder::create(&plan.folder)?;
    ask(&["append", subject, case], &folder, plan)?.expect_readings(METRICS)
}

pub(crate) fn weigh_large(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let folder = Folder::create(&plan.folder)?;
    ask(&["large", subject, case], &folder, plan)?.expect_readings(METRICS)
}

fn ask(what: &[&str], folder: &Folder, plan: &Plan) -> io::Result<Subject> {
    let path = folder.0.to_str().ok_or_else(|| io::Error::other("the folder is not text"))?;
    let LogPlan { journal_bytes, cycles, history_bytes, dirty_bytes, forget_names: _ } = plan.log;
    let numbers = [journal_bytes, cycles, history_bytes, dirty_bytes];
    let mut arguments = vec!["log".to_owned()];
    arguments.extend(what.iter().map(|it| (*it).to_owned()));
    arguments.push(path.to_owned());
    arguments.extend(numbers.map(|it| it.to_string()));
    arguments.push(plan.measured.as_nanos().to_string());
    Subject::start(&arguments)
}

/// What a child does that was started by [`ask`].
pub(crate) fn run(core: CoreId, words: &[&str]) -> io::Result<()> {
    let [what, subject, case, folder, numbers @ ..] = words else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let numbers: Result<Vec<u64>, _> = numbers.iter().map(|it| it.parse()).collect();
    let numbers = numbers.map_err(io::Error::other)?;
    let [journal_bytes, cycles, history_bytes, dirty_bytes, nanos] = numbers[..] else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let plan = LogPlan { journal_bytes, cycles, history_bytes, dirty_bytes, ..LogPlan::default() };
    let extents = match *subject {
        "journal" => ExtentRules::never(),
        "straight" => ExtentRules { bytes_min: 0, bytes_min_dear: 0, ..ExtentRules::default() },
        _ => ExtentRules::default(),
    };
    let task = Task { folder: folder.into(), plan, time: Duration::from_nanos(nanos), extents };
    let case = Case::of(case);
    let found = match (*what, *subject) {
        ("append", "log") | ("large", _) => append::run(core, case, task)?,
        ("append", "bare") => bare::run(core, case, task)?,
        ("append", "plain") => plain::run(core, case, &task)?,
        ("recovery", what) => recovery::run(core, what, case, task)?,
        ("cold-read", what) => cold::run(core, what, case, task)?,
        other => return Err(io::Error::other(format!("nobody is {other:?}"))),
    };
    say(&found);
    Ok(())
}

/// Tells the parent.
fn say(found: &Found) {
    let found: Vec<_> = found.iter().map(|(metric, value)| format!("{metric}={value}")).collect();
    println!("readings {}", found.join(" "));
}

/// A data directory of this run alone; gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn create(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!("corelane-perf-{}.log.tmp", process::id()));
        fs::create_dir(&path)
            .map_err(|it| io::Error::new(it.kind(), format!("{}: {it}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(it) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {it}", self.0.display());
        }
    }
}

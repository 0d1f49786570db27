//! `recovery`: how long a start takes after a crash, with much history and some bytes in journals only.
//!
//! One child writes the history and ends in order. A second one opens the folder, which is a start after a
//! clean stop, appends what is dirty, in small batches, and is killed. A third child opens what it left.
//! Before each start the pages of all files are given up, and, if asked for, every name the kernel knows.

use super::accounts::line_of;
use super::cases::{Case, batch};
use super::load::append_all;
use super::store::{Opened, create, open};
use super::{Folder, Found, METRICS, Task, ask, say};
use crate::on_lane::{self, failed};
use crate::plan::Plan;
use crate::report::Reading;
use crate::sys;
use core_affinity::CoreId;
use corelane_core::lane::Lane;
use corelane_storage::log::partition::LogRules;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

pub(crate) const RECOVERY_SUBJECTS: &[&str] = &["log"];
pub(crate) const RECOVERY_CASES: &[&str] = &["1 KiB, 16 partitions", "1 KiB, 10000 partitions"];

/// So many times what is dirty fits into the journal: then nothing of it is written elsewhere.
const JOURNAL_TIMES: u64 = 8;
/// A history is appended in large batches through a small journal, so that little of it stays dirty. They
/// are whole blocks: a clean stop leaves no partition's end within one.
const HISTORY_BATCH_BYTES: usize = 64 * 1024;
const HISTORY_IN_FLIGHT: usize = 16;
const HISTORY_JOURNAL_BYTES: u64 = 16 << 20;

/// Where the kernel is asked to forget, and what: names without pages.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const DROP_NAMES: &str = "2";

pub(crate) fn weigh_recovery(_log: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let folder = Folder::create(&plan.folder)?;
    ask(&["recovery", "history", case], &folder, plan)?.expect("readings")?;
    forget_all(&folder.0, plan)?;
    let mut dirty = ask(&["recovery", "dirty", case], &folder, plan)?;
    let clean = dirty.expect_readings(METRICS)?;
    dirty.kill()?;
    forget_all(&folder.0, plan)?;
    let mut found = ask(&["recovery", "start", case], &folder, plan)?.expect_readings(METRICS)?;
    found.extend(clean);
    Ok(found)
}

fn forget_all(folder: &Path, plan: &Plan) -> io::Result<()> {
    forget(folder)?;
    if plan.log.forget_names {
        fs::write(DROP_CACHES, DROP_NAMES)?;
    }
    Ok(())
}

pub(super) fn run(core: CoreId, what: &str, case: Case, mut task: Task) -> io::Result<Found> {
    task.plan.journal_bytes = match what {
        "history" => HISTORY_JOURNAL_BYTES,
        _ => JOURNAL_TIMES * task.plan.dirty_bytes,
    };
    match what {
        "history" => write_history(core, case, task),
        "dirty" => on_lane::run(core, async move |lane| {
            let (opened, weighed) = open_weighed(&lane, &task).await?;
            let all = opened.store.partitions();
            let partitions: Rc<[_]> = all.iter().map(|it| it.borrow().of).collect();
            let count = case.batches(task.plan.dirty_bytes);
            let batch = batch(case.batch_bytes);
            append_all(&opened.store, &partitions, &batch, count, case.in_flight).await?;
            let clean = weighed.into_iter().filter_map(|(metric, value)| {
                let (_, after_a_clean_stop) = CLEAN.iter().find(|it| it.0 == metric)?;
                Some((*after_a_clean_stop, value))
            });
            say(&clean.collect());
            // Until it is killed, or nobody is left to do so.
            io::stdin().lines().for_each(drop);
            Ok(Found::new())
        }),
        _ => on_lane::run(core, async move |lane| {
            let (_opened, found) = open_weighed(&lane, &task).await?;
            Ok(found)
        }),
    }
}

const MIB: f64 = (1 << 20) as f64;

/// What is told of the start after a clean stop, and its name there.
const CLEAN: [(&str, &str); 3] =
    [("open_ms", "clean_open_ms"), ("open_cpu_ms", "clean_open_cpu_ms"), ("opens", "clean_opens")];

/// Opens the folder, and says what that cost.
async fn open_weighed(lane: &Lane, task: &Task) -> io::Result<(Opened, Found)> {
    let begun = Instant::now();
    let cpu = sys::process_cpu()?;
    let before = lane.counts();
    let moved = || ["read_bytes:", "write_bytes:"].map(|it| line_of("/proc/self/io", it));
    let moved_before = moved();
    let opened = open(lane, task).await?;
    let open_ms = begun.elapsed().as_secs_f64() * 1e3;
    let cpu_ms = (sys::process_cpu()? - cpu).as_secs_f64() * 1e3;
    let asked = lane.counts();
    let mut found = vec![
        ("open_ms", open_ms),
        ("open_cpu_ms", cpu_ms),
        ("opens", (asked.opens - before.opens) as f64),
        ("operations", (asked.completions - before.completions) as f64),
        ("flushes", (asked.flushes - before.flushes) as f64),
        ("durable_writes", (asked.durable_writes - before.durable_writes) as f64),
        ("dirty_mib", opened.found_bytes as f64 / MIB),
    ];
    let names = ["read_mib", "written_mib"];
    for ((name, now), before) in names.into_iter().zip(moved()).zip(moved_before) {
        if let (Some(now), Some(before)) = (now, before) {
            found.push((name, (now - before) as f64 / MIB));
        }
    }
    if let Some(kib) = line_of("/proc/self/status", "VmHWM:") {
        found.push(("peak_mib", kib as f64 / 1024.0));
    }
    Ok((opened, found))
}

/// Appends a history over all partitions of a case, and ends in order.
pub(super) fn write_history(core: CoreId, case: Case, task: Task) -> io::Result<Found> {
    on_lane::run(core, async move |lane| {
        let opened = open(&lane, &task).await?;
        let store = &opened.store;
        let partitions: Rc<[_]> =
            create(store, case.partitions, &LogRules::default()).await?.into();
        let batch = batch(HISTORY_BATCH_BYTES);
        let count = task.plan.history_bytes / HISTORY_BATCH_BYTES as u64;
        append_all(store, &partitions, &batch, count, HISTORY_IN_FLIGHT).await?;
        store.close().await.map_err(failed)?;
        Ok(Found::new())
    })
}

/// Gives up what the kernel keeps of the bytes of all files below `folder`.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            sys::forget_pages(&file)?;
        }
    }
    Ok(())
}

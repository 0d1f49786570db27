//! `recovery`: how long a start takes after a crash, with much history and some bytes in journals only.
//!
//! One child writes the history and ends in order. A second one appends what is dirty, in small batches,
//! and is killed. The pages of all files are given up, then a third child opens the folder.

use super::cases::{Case, batch};
use super::load::append_all;
use super::store::{create, open};
use super::{Folder, Found, METRICS, Task, ask};
use crate::on_lane::{self, failed};
use crate::plan::Plan;
use crate::report::Reading;
use crate::sys;
use core_affinity::CoreId;
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
/// A history is appended in large batches through a small journal, so that little of it stays dirty.
const HISTORY_BATCH_BYTES: usize = 64 * 1024;
const HISTORY_IN_FLIGHT: usize = 16;
const HISTORY_JOURNAL_BYTES: u64 = 16 << 20;

pub(crate) fn weigh_recovery(_log: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let folder = Folder::create(&plan.folder)?;
    ask(&["recovery", "history", case], &folder, plan)?.expect("readings")?;
    let mut dirty = ask(&["recovery", "dirty", case], &folder, plan)?;
    dirty.expect("dirty")?;
    dirty.kill()?;
    forget(&folder.0)?;
    ask(&["recovery", "start", case], &folder, plan)?.expect_readings(METRICS)
}

pub(super) fn run(core: CoreId, what: &str, case: Case, mut task: Task) -> io::Result<Found> {
    task.plan.journal_bytes = match what {
        "history" => HISTORY_JOURNAL_BYTES,
        _ => JOURNAL_TIMES * task.plan.dirty_bytes,
    };
    match what {
        "history" => write_history(core, case, task),
        "dirty" => on_lane::run(core, async move |lane| {
            let opened = open(&lane, &task).await?;
            let all = opened.store.partitions();
            let partitions: Rc<[_]> = all.iter().map(|it| it.borrow().of).collect();
            let count = case.batches(task.plan.dirty_bytes);
            let batch = batch(case.batch_bytes);
            append_all(&opened.store, &partitions, &batch, count, case.in_flight).await?;
            println!("dirty");
            // Until it is killed, or nobody is left to do so.
            io::stdin().lines().for_each(drop);
            Ok(Found::new())
        }),
        _ => on_lane::run(core, async move |lane| {
            let begun = Instant::now();
            let cpu = sys::process_cpu()?;
            let opened = open(&lane, &task).await?;
            Ok(vec![
                ("open_ms", begun.elapsed().as_secs_f64() * 1e3),
                ("open_cpu_ms", (sys::process_cpu()? - cpu).as_secs_f64() * 1e3),
                ("opens", lane.counts().opens as f64),
                ("flushes", lane.counts().flushes as f64),
                ("durable_writes", lane.counts().durable_writes as f64),
                ("dirty_mib", opened.found_bytes as f64 / f64::from(1 << 20)),
            ])
        }),
    }
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

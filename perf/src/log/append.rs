//! The log itself: a journal's worth of appends that does not count, then those that do.

use super::accounts::Accounts;
use super::cases::{Case, batch};
use super::load::append_all;
use super::store::{RECENT_BYTES, create, open};
use super::{Found, Task};
use crate::on_lane::{self, failed};
use core_affinity::CoreId;
use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_storage::log::partition::LogRules;
use std::io;
use std::rc::Rc;

pub(super) fn run(core: CoreId, case: Case, task: Task) -> io::Result<Found> {
    on_lane::run(core, async move |lane| {
        let opened = open(&lane, &task).await?;
        let store = &opened.store;
        let batch = batch(case.batch_bytes);
        // A journal's worth; for large batches also until memory is used again.
        let warm = if case.is_large() { 2 * RECENT_BYTES as u64 } else { 0 };
        let warm_up = case.batches(task.plan.journal_bytes.max(warm));
        let count = case.batches(task.plan.journal_bytes * task.plan.cycles);
        let rules = rules(case, (warm_up + count) * batch.len() as u64);
        let partitions: Rc<[_]> = create(store, case.partitions, &rules).await?.into();
        append_all(store, &partitions, &batch, warm_up, case.in_flight).await?;
        let counted = Counted::now(&lane, &opened.metrics);
        let accounts = Accounts::now(&task.folder)?;
        let done = append_all(store, &partitions, &batch, count, case.in_flight).await?;
        let mut found = accounts.since(&task.folder, &done.seen, batch.len())?;
        found.push(("quiet_allocs_per_batch", done.quiet_allocations));
        found.push(("least_allocs_per_batch", done.least_allocations));
        let payload = (count * batch.len() as u64) as f64;
        let now = Counted::now(&lane, &opened.metrics);
        counted.until(&now, payload, task.plan.journal_bytes, &mut found);
        store.close().await.map_err(failed)?;
        Ok(found)
    })
}

fn rules(case: Case, bytes: u64) -> LogRules {
    let rules = LogRules::default();
    let Some(segments) = case.segments else { return rules };
    // What does not fill a segment begins the next one.
    LogRules { segment_bytes: bytes / u64::from(case.partitions) / segments, ..rules }
}

/// What the log counts of itself, and then what its lane asked of the kernel.
struct Counted([u64; 7]);

const COUNTED: [&str; 4] =
    ["journal.bytes", "log.carried_bytes", "log.segment_writes", "journal.commits"];

impl Counted {
    fn now(lane: &Lane, metrics: &Metrics) -> Self {
        let [journal, carried, writes, commits] = COUNTED.map(|it| metrics.counter(it).get());
        let asked = lane.counts();
        let (flushes, durable, opens) = (asked.flushes, asked.durable_writes, asked.opens);
        Self([journal, carried, writes, commits, flushes, durable, opens])
    }

    fn until(&self, now: &Self, payload: f64, journal_bytes: u64, found: &mut Found) {
        let more: Vec<f64> = now.0.iter().zip(self.0).map(|(now, it)| (now - it) as f64).collect();
        found.push(("journal_per_byte", more[0] / payload));
        found.push(("carried_per_byte", more[1] / payload));
        found.push(("segment_writes", more[2]));
        found.push(("commits", more[3]));
        found.push(("flushes", more[4]));
        found.push(("durable_writes", more[5]));
        found.push(("opens", more[6]));
        found.push(("cycles", more[0] / journal_bytes as f64));
    }
}

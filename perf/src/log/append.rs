//! The log itself: a journal's worth of appends that does not count, then those that do.

use super::accounts::Accounts;
use super::cases::{Case, batch};
use super::load::append_all;
use super::store::{create, open};
use super::{Found, Task};
use crate::on_lane::{self, failed};
use core_affinity::CoreId;
use corelane_core::metrics::Metrics;
use corelane_storage::log::partition::LogRules;
use std::io;
use std::rc::Rc;

pub(super) fn run(core: CoreId, case: Case, task: Task) -> io::Result<Found> {
    on_lane::run(core, async move |lane| {
        let opened = open(&lane, &task).await?;
        let store = &opened.store;
        let batch = batch(case.batch_bytes);
        let warm_up = case.batches(task.plan.journal_bytes);
        let count = case.batches(task.plan.journal_bytes * task.plan.cycles);
        let rules = rules(case, (warm_up + count) * batch.len() as u64);
        let partitions: Rc<[_]> = create(store, case.partitions, &rules).await?.into();
        append_all(store, &partitions, &batch, warm_up, case.in_flight).await?;
        let counted = Counted::now(&opened.metrics);
        let accounts = Accounts::now(&task.folder)?;
        let done = append_all(store, &partitions, &batch, count, case.in_flight).await?;
        let mut found = accounts.since(&task.folder, &done.seen, batch.len())?;
        found.push(("quiet_allocs_per_batch", done.quiet_allocations));
        let payload = (count * batch.len() as u64) as f64;
        counted.since(&opened.metrics, payload, task.plan.journal_bytes, &mut found);
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

/// What the log counts of itself.
struct Counted([u64; 5]);

const COUNTED: [&str; 5] =
    ["journal.bytes", "log.carried_bytes", "log.segment_writes", "log.flushes", "journal.commits"];

impl Counted {
    fn now(metrics: &Metrics) -> Self {
        Self(COUNTED.map(|it| metrics.counter(it).get()))
    }

    fn since(self, metrics: &Metrics, payload: f64, journal_bytes: u64, found: &mut Found) {
        let now = Self::now(metrics).0;
        let more: Vec<f64> = now.iter().zip(self.0).map(|(now, it)| (now - it) as f64).collect();
        found.push(("journal_per_byte", more[0] / payload));
        found.push(("carried_per_byte", more[1] / payload));
        found.push(("segment_writes", more[2]));
        found.push(("flushes", more[3]));
        found.push(("commits", more[4]));
        found.push(("cycles", more[0] / journal_bytes as f64));
    }
}

//! `cold-read`: what a reader of old records does to a writer on the same lane.
//!
//! The history is written by another process, and its pages are given up. Then a writer appends small
//! batches to other partitions, alone and beside a reader that goes through the history without a pause,
//! in turns.

use super::cases::{Case, batch, partition};
use super::load::append_all;
use super::recovery::{forget, write_history};
use super::store::{create, open};
use super::{Folder, Found, METRICS, Task, ask};
use crate::meter::Seen;
use crate::on_lane;
use crate::plan::Plan;
use crate::report::Reading;
use core_affinity::CoreId;
use corelane_core::ids::TopicPartition;
use corelane_core::lane::Importance;
use corelane_core::sync::Event;
use corelane_storage::batch::Batches;
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::store::{ReadError, ReadUpTo, ReadWant, Store};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

pub(crate) const COLD_SUBJECTS: &[&str] = &["log"];
pub(crate) const COLD_CASES: &[&str] = &["1 KiB, 16 partitions"];

const READ_BYTES: usize = 1024 * 1024;
/// How often the writer is measured, half of the times beside the reader.
const TURNS: u64 = 4;

pub(crate) fn weigh_cold(_log: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let folder = Folder::create(&plan.folder)?;
    ask(&["cold-read", "history", case], &folder, plan)?.expect("readings")?;
    forget(&folder.0)?;
    ask(&["cold-read", "writer", case], &folder, plan)?.expect_readings(METRICS)
}

pub(super) fn run(core: CoreId, what: &str, case: Case, task: Task) -> io::Result<Found> {
    if what == "history" {
        return write_history(core, case, task);
    }
    on_lane::run(core, async move |lane| {
        let opened = open(&lane, &task).await?;
        let store = &opened.store;
        // The first half has the history, the second one is written now.
        let all = create(store, 2 * case.partitions, &LogRules::default()).await?;
        let fresh: Rc<[_]> = all[case.partitions as usize..].into();
        let batch = batch(case.batch_bytes);
        let count = case.batches(task.plan.journal_bytes * task.plan.cycles) / TURNS;
        append_all(store, &fresh, &batch, case.batches(task.plan.journal_bytes), case.in_flight)
            .await?;
        let (mut alone, mut beside, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..TURNS {
            let reader = (turn % 2 == 1).then(|| Reader::start(store, case.partitions));
            let done = append_all(store, &fresh, &batch, count, case.in_flight).await?;
            match reader {
                Some(reader) => {
                    let bytes = reader.end().await?;
                    read.push(done.seen.per_second(bytes as f64 / 1e6));
                    beside.push(done.seen);
                }
                None => alone.push(done.seen),
            }
        }
        let mean =
            |of: &[Seen], at| of.iter().map(|it| it.micros_at(at)).sum::<f64>() / of.len() as f64;
        Ok(vec![
            ("alone_p50_us", mean(&alone, 0.5)),
            ("beside_p50_us", mean(&beside, 0.5)),
            ("alone_p99_us", mean(&alone, 0.99)),
            ("beside_p99_us", mean(&beside, 0.99)),
            ("p99_ratio", mean(&beside, 0.99) / mean(&alone, 0.99)),
            ("read_mb_per_s", read.iter().sum::<f64>() / read.len() as f64),
        ])
    })
}

/// Somebody who reads the history again and again.
struct Reader {
    stopped: Cell<bool>,
    bytes: Cell<u64>,
    ended: Event,
    outcome: RefCell<Option<io::Result<()>>>,
}

impl Reader {
    fn start(store: &Store, partitions: u32) -> Rc<Self> {
        let it = Rc::new(Self {
            stopped: Cell::new(false),
            bytes: Cell::new(0),
            ended: Event::new(store.lane()),
            outcome: RefCell::default(),
        });
        let (reader, store) = (Rc::clone(&it), store.clone());
        let lane = store.lane().clone();
        lane.spawn("reads", Importance::Serving, async move {
            let outcome = reader.read_all(&store, partitions).await;
            reader.outcome.replace(Some(outcome));
            reader.ended.notify();
        });
        it
    }

    /// Stops it; what it has read.
    async fn end(&self) -> io::Result<u64> {
        self.stopped.set(true);
        loop {
            let seen = self.ended.seen();
            if let Some(outcome) = self.outcome.take() {
                return outcome.map(|()| self.bytes.get());
            }
            self.ended.past(seen).await;
        }
    }

    async fn read_all(&self, store: &Store, partitions: u32) -> io::Result<()> {
        for index in (0..partitions).cycle() {
            let before = self.bytes.get();
            self.read_one(store, &partition(index)).await?;
            if self.stopped.get() {
                return Ok(());
            }
            if before == self.bytes.get() {
                return Err(io::Error::other("there is no history to read"));
            }
        }
        Ok(())
    }

    async fn read_one(&self, store: &Store, of: &TopicPartition) -> io::Result<()> {
        let mut from = corelane_core::ids::Offset::ZERO;
        while !self.stopped.get() {
            let up_to = ReadUpTo::Visible;
            let want = ReadWant {
                from,
                up_to,
                bytes_max: READ_BYTES,
                at_least_one: true,
                file_bytes_min: ReadWant::NO_FILES,
            };
            let done = match store.read(of, &want).await {
                Ok(done) => done,
                Err(ReadError::Overloaded) => {
                    store.lane().yield_now().await;
                    continue;
                }
                Err(why) => return Err(io::Error::other(format!("unreadable: {why:?}"))),
            };
            if done.bytes == 0 {
                return Ok(());
            }
            self.bytes.set(self.bytes.get() + done.bytes as u64);
            let mut last = from;
            for slice in &done.slices {
                for batch in Batches::new(slice) {
                    last = batch.map_err(|it| io::Error::other(format!("{it:?}")))?.next_offset();
                }
            }
            if last == from {
                return Err(io::Error::other("a read that leads nowhere"));
            }
            from = last;
        }
        Ok(())
    }
}

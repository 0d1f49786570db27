//! Appends by a number of writers on the lane, each with one append in flight, over all partitions in turn.

use super::store::append;
use crate::allocations::requested;
use crate::meter::{Meter, Seen};
use crate::on_lane::failed;
use corelane_core::ids::TopicPartition;
use corelane_core::lane::Importance;
use corelane_core::sync::Event;
use corelane_storage::log::store::Store;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

/// Allocations are counted apart for each so many batches: few enough for most windows to lie within one
/// file of the journal.
const WINDOW: u64 = 128;

struct Load {
    store: Store,
    partitions: Rc<[TopicPartition]>,
    next: Cell<u64>,
    count: u64,
    writers: Cell<usize>,
    ended: Event,
    failed: RefCell<Option<io::Error>>,
    meter: RefCell<Meter>,
    windows: RefCell<Windows>,
}

/// Allocations of each window that is over.
struct Windows {
    left: u64,
    before: u64,
    each: Vec<u64>,
}

pub(super) struct Done {
    pub(super) seen: Seen,
    /// Allocations for each batch in the median window.
    pub(super) quiet_allocations: f64,
    /// The same in the window with the fewest.
    pub(super) least_allocations: f64,
}

/// Makes `count` copies of `batch` durable.
pub(super) async fn append_all(
    store: &Store,
    partitions: &Rc<[TopicPartition]>,
    batch: &[u8],
    count: u64,
    in_flight: usize,
) -> io::Result<Done> {
    let load = Rc::new(Load {
        store: store.clone(),
        partitions: Rc::clone(partitions),
        next: Cell::new(0),
        count,
        writers: Cell::new(in_flight),
        ended: Event::new(store.lane()),
        failed: RefCell::default(),
        meter: RefCell::new(Meter::start()),
        windows: RefCell::new(Windows::with_room(count)),
    });
    for _ in 0..in_flight {
        let (load, batch) = (Rc::clone(&load), batch.to_vec());
        store.lane().spawn("appends", Importance::Serving, async move {
            if let Err(why) = load.write(batch).await {
                load.next.set(load.count);
                load.failed.replace(Some(why));
            }
            load.writers.set(load.writers.get() - 1);
            load.ended.notify();
        });
    }
    loop {
        let seen = load.ended.seen();
        if load.writers.get() == 0 {
            break;
        }
        load.ended.past(seen).await;
    }
    if let Some(why) = load.failed.take() {
        return Err(why);
    }
    let (least_allocations, quiet_allocations) = load.windows.borrow_mut().least_and_median();
    let seen = load.meter.replace(Meter::start()).finish();
    Ok(Done { seen, quiet_allocations, least_allocations })
}

impl Load {
    async fn write(&self, mut batch: Vec<u8>) -> io::Result<()> {
        while self.next.get() < self.count {
            let at = self.next.replace(self.next.get() + 1);
            let of = self.partitions[(at % self.partitions.len() as u64) as usize];
            let begun = Instant::now();
            let commit = append(&self.store, &of, &mut batch).await?;
            self.store.durable(commit).await.map_err(failed)?;
            self.meter.borrow_mut().record(begun.elapsed());
            self.windows.borrow_mut().note();
        }
        Ok(())
    }
}

impl Windows {
    fn with_room(count: u64) -> Self {
        let each = Vec::with_capacity((count / WINDOW) as usize + 1);
        Self { left: WINDOW, before: requested().times, each }
    }

    fn note(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            let now = requested().times;
            self.each.push(now - self.before);
            (self.left, self.before) = (WINDOW, now);
        }
    }

    /// The best window and the median one, for each batch; of all when there were too few for a window.
    fn least_and_median(&mut self) -> (f64, f64) {
        if self.each.is_empty() {
            let batches = (WINDOW - self.left).max(1);
            let all = (requested().times - self.before) as f64 / batches as f64;
            return (all, all);
        }
        self.each.sort_unstable();
        let of = |at: usize| self.each[at] as f64 / WINDOW as f64;
        (of(0), of(self.each.len() / 2))
    }
}

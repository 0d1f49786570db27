//! Giving memory back: tails that take too much of it are written out, and what is on disk is
//! forgotten.
//!
//! Who has much to write or something to forget stands in a line, so that nothing here grows with the
//! number of partitions: all of them are looked at only when memory is nearly used up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::Errno;

use super::partition::Partition;
use super::segment::Segment;
use super::store::{Shared, Store};
use crate::frame::BLOCK_BYTES;

/// The share of the lane's memory, as a divisor, above which what is on disk is forgotten, whatever
/// the rules allow.
const FORGET_SHARE: usize = 2;

/// The share of that, as a divisor, which bytes may take that are in no segment file, before large
/// tails are written out; and down to which they are.
const DIRTY_SHARE: (u64, u64) = (2, 4);

/// A tail is large from here on: written out together, so many bytes cost one durable write.
const LARGE_BYTES: u64 = 64 << 10;

/// The share of the lane's memory, as a divisor, which such bytes may take before tails are written out
/// however small they are; and by which there must be more before it is tried again.
const TIGHT_SHARE: (u64, u64) = (4, 32);

/// Of less than this, in a segment, all is forgotten at once.
const FORGET_BYTES_MIN: u64 = 64 << 10;

/// Segments that stand in line to be forgotten at most: of more, the first go whatever there is.
const WRITTEN_MAX: usize = 1 << 16;

/// Who stands in line, and how much there is.
#[derive(Default)]
pub(super) struct Relief {
    /// Bytes that are in no segment file, as far as they were followed; counted anew with the space on
    /// the disk.
    pub(super) dirty_bytes: Cell<u64>,
    /// As many as were left when small tails were written out the last time.
    tight_bytes: Cell<u64>,
    /// Whose open segment's tail is large.
    large: RefCell<VecDeque<TopicPartition>>,
    /// Segments with memory that is also on disk, the one written longest ago first.
    written: RefCell<VecDeque<(TopicPartition, Offset)>>,
}

impl Store {
    /// What may be lent before what is on disk is forgotten.
    fn memory_bytes_max(&self) -> usize {
        let budget = self.0.lane.pool().budget_bytes() / FORGET_SHARE;
        budget.min(self.0.upkeep_rules.memory_bytes_max)
    }

    pub(super) fn is_short(&self) -> bool {
        self.memory_bytes_max() <= self.0.lane.pool().lent_bytes()
    }

    fn is_too_dirty(&self) -> bool {
        let max = self.memory_bytes_max() as u64 / DIRTY_SHARE.0;
        max < self.0.keep.relief.dirty_bytes.get()
    }

    /// So many bytes came to the end of the open segment.
    pub(super) fn note_appended(&self, partition: &mut Partition, bytes: usize) {
        let relief = &self.0.keep.relief;
        relief.dirty_bytes.set(relief.dirty_bytes.get() + bytes as u64);
        let of = partition.of;
        let is_large = LARGE_BYTES <= partition.open_segment().dirty_bytes();
        if is_large && !partition.stands_as_large {
            partition.stands_as_large = true;
            relief.large.borrow_mut().push_back(of);
            if self.is_too_dirty() {
                self.0.upkeep.notify();
            }
        }
    }

    /// So many bytes went to a segment's file: they can be forgotten, here or later.
    pub(super) fn note_written(&self, shared: &Shared, base: Offset, bytes: u64) {
        let relief = &self.0.keep.relief;
        relief.dirty_bytes.set(relief.dirty_bytes.get().saturating_sub(bytes));
        {
            let mut partition = shared.borrow_mut();
            let of = partition.of;
            let Some(segment) = partition.segment_mut(base) else { return };
            if !segment.stands_as_written {
                segment.stands_as_written = true;
                relief.written.borrow_mut().push_back((of, base));
            }
        }
        self.forget_some();
    }

    /// Forgets what is on disk while memory is short, oldest first and by halves, so that readers near
    /// the end still find it.
    fn forget_some(&self) {
        let written = &self.0.keep.relief.written;
        loop {
            let is_long = WRITTEN_MAX < written.borrow().len();
            if !is_long && !self.is_short() {
                return;
            }
            let Some((of, base)) = written.borrow_mut().pop_front() else { return };
            let Some(shared) = self.partition(&of) else { continue };
            let mut partition = shared.borrow_mut();
            let Some(segment) = partition.segment_mut(base) else { continue };
            segment.stands_as_written = forget(segment, is_long);
            if segment.stands_as_written {
                written.borrow_mut().push_back((of, base));
            }
        }
    }

    /// Gives memory back when it is short.
    pub(super) async fn relieve_memory(&self) -> Result<(), Errno> {
        self.forget_some();
        let relief = &self.0.keep.relief;
        let most = self.memory_bytes_max() as u64;
        if self.is_too_dirty() {
            while most / DIRTY_SHARE.1 < relief.dirty_bytes.get() {
                let some = self.some_large();
                if some.is_empty() {
                    break;
                }
                self.write_many(&some).await?;
            }
        }
        let budget = self.0.lane.pool().budget_bytes() as u64;
        let left = relief.tight_bytes.get();
        if (budget / TIGHT_SHARE.0).max(left + budget / TIGHT_SHARE.1) < relief.dirty_bytes.get() {
            self.write_small(budget / TIGHT_SHARE.0).await?;
            relief.tight_bytes.set(relief.dirty_bytes.get());
        } else if relief.dirty_bytes.get() < left {
            relief.tight_bytes.set(relief.dirty_bytes.get());
        }
        Ok(())
    }

    /// Those who stand in line, as many as are worked on together.
    fn some_large(&self) -> Vec<Shared> {
        let mut some = Vec::new();
        while some.len() < self.files_at_once() {
            let Some(of) = self.0.keep.relief.large.borrow_mut().pop_front() else { break };
            let Some(shared) = self.partition(&of) else { continue };
            let is_large = {
                let mut partition = shared.borrow_mut();
                partition.stands_as_large = false;
                LARGE_BYTES <= partition.open_segment().dirty_bytes()
            };
            if is_large {
                some.push(shared);
            }
        }
        some
    }

    /// Writes out tails, the largest first, until no more than `bytes` of all are in no file.
    async fn write_small(&self, bytes: u64) -> Result<(), Errno> {
        let mut all: Vec<(u64, Shared)> = Vec::new();
        let mut left = 0;
        for shared in self.partitions() {
            let dirty = shared.borrow().open_segment().dirty_bytes();
            left += dirty;
            if BLOCK_BYTES as u64 <= dirty {
                all.push((dirty, shared));
            }
        }
        all.sort_unstable_by_key(|it| std::cmp::Reverse(it.0));
        let mut largest = Vec::new();
        for (dirty, shared) in &all {
            if left <= bytes {
                break;
            }
            left -= dirty - dirty % BLOCK_BYTES as u64;
            largest.push(Rc::clone(shared));
        }
        self.write_many(&largest).await
    }
}

/// Forgets all of what is on disk, or a part of it. Says whether there may be more.
fn forget(segment: &mut Segment, all: bool) -> bool {
    if segment.finished {
        segment.forget();
        return false;
    }
    let start = segment.tail.start();
    let known = segment.flushed.saturating_sub(start);
    if FORGET_BYTES_MIN < known && !all {
        segment.forget_below(start + known / 2);
    }
    if segment.tail.start() == start && 0 < known {
        segment.forget_below(segment.flushed);
        return false;
    }
    0 < known
}

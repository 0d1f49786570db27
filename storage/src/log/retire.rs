//! Giving journal files back: what they hold is written to segments or carried to the head first.
//!
//! RETIRE-1: a file is given back only once a durable checkpoint says that no byte of it is needed.
//! RETIRE-2: segments get whole blocks from the first one missing, each once.

use std::rc::Rc;

use corelane_core::ids::Offset;
use corelane_core::ring::{Errno, Sync};

use super::crowd;
use super::mutant::Mutant;
use super::store::{Shared, Store};
use crate::frame::BLOCK_BYTES;

/// Partitions whose files are made together when journal files are given back.
const FILES_AT_ONCE: usize = 256;

/// The share of the lane's memory, as a divisor, above which what is on disk is forgotten, whatever
/// the rules allow.
const FORGET_SHARE: usize = 2;

/// The share of that, as a divisor, which bytes may take that are in no segment file, before the
/// largest tails are written out; and down to which they are.
const DIRTY_SHARE: (u64, u64) = (2, 4);

/// Where nothing could be forgotten, it is tried again when this share more is lent, as a divisor.
const AGAIN_SHARE: usize = 32;

/// Each time, the older half of what is on disk is forgotten; after so many times, all of it.
const HALVES_MAX: u32 = 6;

impl Store {
    /// Gives the older half of the full journal files back. Says whether there was one.
    pub(super) async fn retire(&self) -> Result<bool, Errno> {
        let full = self.0.journal.full_files();
        let Some(last) = full.len().checked_sub(1) else { return Ok(false) };
        let number = full[last / 2];
        // Only these bytes must be elsewhere before the files go; what came later is in later files.
        let held = self.0.journal.carried_in(number);
        let mut all: Vec<Shared> = Vec::new();
        let mut before = None;
        for (of, _) in held.keys() {
            if before.replace(*of) != Some(*of) {
                all.extend(self.partition(of));
            }
        }
        crowd::each(&all, |shared| self.finish_all(shared)).await?;
        let pending = all.into_iter().map(|it| (dirty(&it), it)).filter(|it| 0 < it.0);
        let mut all: Vec<(u64, Shared)> = pending.collect();
        // Largest first; of those that could be carried, the largest are written after all when
        // together they are too much.
        all.sort_by_key(|it| std::cmp::Reverse(it.0));
        let rules = &self.0.upkeep_rules;
        let mut small: u64 =
            all.iter().map(|it| it.0).filter(|it| *it < rules.segment_write_bytes_min).sum();
        let too_much = self.0.journal.carried_bytes_max();
        let mut large = Vec::new();
        for (pending, shared) in &all {
            let whole = pending - pending % BLOCK_BYTES as u64;
            let is_small = *pending < rules.segment_write_bytes_min;
            let write = rules.segment_write_bytes_min <= whole || (too_much < small && 0 < whole);
            if write {
                large.push(Rc::clone(shared));
                if is_small {
                    small -= whole;
                }
            }
        }
        for some in large.chunks(self.files_at_once()) {
            self.make_files(some).await?;
            crowd::each(some, |it| self.write_blocks(it)).await?;
        }
        for (_, shared) in &all {
            self.carry(shared, Some(&held)).await?;
        }
        self.checkpoint(number).await?;
        self.0.journal.retire(number);
        self.0.keep.counts.retired.add(full.iter().filter(|it| **it <= number).count() as u64);
        Ok(true)
    }

    /// So many files can be made and then written to before the first of them is closed again.
    pub(super) fn files_at_once(&self) -> usize {
        (self.0.upkeep_rules.open_files_max / 2).clamp(1, FILES_AT_ONCE)
    }

    /// Writes the whole blocks of the open segment that its file does not have.
    pub(super) async fn write_blocks(&self, shared: &Shared) -> Result<(), Errno> {
        let (base, to) = {
            let partition = shared.borrow();
            let open = partition.open_segment();
            (open.base, open.len() - open.len() % BLOCK_BYTES as u64)
        };
        if self.0.journal.config().broken == Some(Mutant::PartialBlockRewritten) {
            return self.write_ragged(shared, base).await;
        }
        self.write_up_to(shared, base, to).await
    }

    /// The mistake of writing a block that will be written again.
    async fn write_ragged(&self, shared: &Shared, base: Offset) -> Result<(), Errno> {
        let file = self.file_to_write(shared, base).await?;
        let (from, len, bytes) = {
            let partition = shared.borrow();
            let Some(segment) = partition.segment(base) else { return Ok(()) };
            let from = segment.flushed - segment.flushed % BLOCK_BYTES as u64;
            let mut bytes = Vec::new();
            segment.tail.copy(from, segment.len(), &mut bytes);
            (from, segment.len(), bytes)
        };
        let mut buf = corelane_core::buf::Buf::unpooled(bytes.len());
        buf.put(&bytes);
        buf.pad_to(bytes.len().next_multiple_of(BLOCK_BYTES));
        self.0.lane.write_all(&file, from, buf.freeze(), Sync::Data).await?;
        let mut partition = shared.borrow_mut();
        let of = partition.of;
        if let Some(segment) = partition.segment_mut(base) {
            segment.wrote(of, len);
            partition.version += 1;
        }
        Ok(())
    }

    /// What may be lent before what is on disk is forgotten.
    fn memory_bytes_max(&self) -> usize {
        let budget = self.0.lane.pool().budget_bytes() / FORGET_SHARE;
        budget.min(self.0.upkeep_rules.memory_bytes_max)
    }

    pub(super) fn is_short(&self) -> bool {
        self.memory_bytes_max() <= self.0.lane.pool().lent_bytes()
    }

    /// Forgets the older part of what is on disk when memory is short.
    pub(super) fn forget_if_short(&self, shared: &Shared, base: Offset) {
        // What was just written can be forgotten, here or by whoever relieves memory.
        self.0.keep.kept_bytes.set(0);
        if self.is_short()
            && let Some(segment) = shared.borrow_mut().segment_mut(base)
        {
            forget(segment, false);
        }
    }

    /// Gives memory back: writes out the largest tails when they take too much of it, then forgets
    /// what is on disk, oldest first, so that readers near the end still find it.
    pub(super) async fn relieve_memory(&self) -> Result<(), Errno> {
        let kept = &self.0.keep.kept_bytes;
        if !self.is_short() {
            kept.set(0);
            return Ok(());
        }
        let most = self.memory_bytes_max();
        let lent = || self.0.lane.pool().stats().lent_bytes;
        if lent() < kept.get() + most / AGAIN_SHARE {
            return Ok(());
        }
        let most = most as u64;
        let partitions = self.partitions();
        let mut left: u64 = partitions.iter().map(dirty).sum();
        if most / DIRTY_SHARE.0 < left {
            let mut largest: Vec<_> = partitions.iter().map(|it| (dirty(it), it)).collect();
            largest.sort_by_key(|it| std::cmp::Reverse(it.0));
            for (bytes, shared) in largest {
                let enough = left <= most / DIRTY_SHARE.1;
                if enough || bytes < self.0.upkeep_rules.segment_write_bytes_min {
                    break;
                }
                self.finish_all(shared).await?;
                self.write_blocks(shared).await?;
                left = left.saturating_sub(bytes);
            }
        }
        for round in 1..=HALVES_MAX {
            for shared in &partitions {
                if !self.is_short() {
                    return Ok(());
                }
                let all = round == HALVES_MAX;
                shared.borrow_mut().segments.iter_mut().for_each(|it| forget(it, all));
                self.0.lane.spend(BLOCK_BYTES).await;
            }
        }
        kept.set(lent());
        Ok(())
    }
}

/// Forgets what is on disk: all of it, or what lies in the older half of what is here.
fn forget(segment: &mut super::segment::Segment, all: bool) {
    let (start, end) = (segment.tail.start(), segment.tail.end());
    let half = start + (end - start) / 2;
    if segment.finished {
        segment.forget();
    } else if all && 0 < segment.flushed {
        segment.forget_below(segment.flushed);
    } else if start < half.min(segment.flushed) {
        segment.forget_below(half.min(segment.flushed));
    }
}

fn dirty(shared: &Shared) -> u64 {
    shared.borrow().open_segment().dirty_bytes()
}

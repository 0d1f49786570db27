//! Giving journal files back: what they hold is written to segments or carried to the head first.
//!
//! RETIRE-1: a file is given back only once a durable checkpoint says that no byte of it is needed.
//! RETIRE-2: segments get whole blocks from the first one missing, each once.
//! RETIRE-3: what is carried finds room before it is: the last block of each partition is in no segment, and
//! with very many of them that is more than a journal of any size fixed before has to spare.

use std::rc::Rc;

use corelane_core::ids::Offset;
use corelane_core::ring::{Errno, Sync};

use super::crowd;
use super::mutant::Mutant;
use super::store::{Shared, Store};
use crate::frame::{BLOCK_BYTES, ENTRY_HEADER_BYTES};

/// Partitions whose files are made together when journal files are given back.
const FILES_AT_ONCE: usize = 256;

/// The share of the full files, as a divisor, that is given back at a time: less than that would be one
/// checkpoint more, more would leave tails less time to grow.
const RETIRED_SHARE: usize = 4;

/// Of what is given back, the part, as a divisor, that may be carried: the rest is gained.
const CARRIED_SHARE: u64 = 2;

/// Of the room that is kept free on a disk, the part, as a divisor, that the journal leaves when it grows.
const RESERVE_SHARE: u64 = 2;

/// What a step over many partitions costs the lane for each of them, in bytes copied.
const STEP_BYTES: usize = 512;

/// A partition with bytes in files that are to be given back.
struct Held {
    shared: Shared,
    /// Its segments, and up to where their bytes are in those files.
    segments: Vec<(Offset, u64)>,
}

impl Held {
    /// Bytes that are nowhere else than in those files.
    fn needed(&self) -> u64 {
        let partition = self.shared.borrow();
        let of_each = self.segments.iter().map(|(base, to)| {
            let segment = partition.segment(*base);
            segment.map_or(0, |it| it.len().min(*to).saturating_sub(it.flushed))
        });
        of_each.sum()
    }

    /// Whole blocks that the open segment's file does not have.
    fn whole(&self) -> u64 {
        let dirty = self.shared.borrow().open_segment().dirty_bytes();
        dirty - dirty % BLOCK_BYTES as u64
    }
}

impl Store {
    /// Gives the oldest of the full journal files back. Says whether there was one.
    pub(super) async fn retire(&self) -> Result<bool, Errno> {
        let full = self.0.journal.full_files();
        let files = full.len().div_ceil(RETIRED_SHARE);
        let Some(number) = files.checked_sub(1).map(|it| full[it]) else { return Ok(false) };
        // Only these bytes must be elsewhere before the files go; what came later is in later files.
        let mut all = self.held_up_to(number).await;
        let has_closed = |it: &&Held| {
            let partition = it.shared.borrow();
            partition.segments.iter().any(|it| it.sealed && !it.finished)
        };
        let closed: Vec<_> = all.iter().filter(has_closed).collect();
        crowd::each(closed, |it| self.finish_all(&it.shared)).await?;
        let rules = &self.0.upkeep_rules;
        let mut large = Vec::new();
        let mut small = Vec::new();
        let mut carried = 0;
        for (at, it) in all.iter().enumerate() {
            let (needed, whole) = (it.needed(), it.whole());
            if needed == 0 {
                continue;
            }
            if rules.segment_write_bytes_min <= whole {
                large.push(Rc::clone(&it.shared));
            } else {
                carried += needed;
                small.push((whole, needed, at));
            }
        }
        // Of those that could be carried, the largest are written after all when together they are
        // too much.
        let carried_max = files as u64 * self.0.journal.config().slot_bytes / CARRIED_SHARE;
        if carried_max < carried {
            small.sort_unstable_by_key(|it| std::cmp::Reverse(*it));
            for (_, needed, at) in small.iter().take_while(|it| 0 < it.0) {
                large.push(Rc::clone(&all[*at].shared));
                carried -= needed;
                if carried <= carried_max {
                    break;
                }
            }
        }
        self.write_many(&large).await?;
        self.make_journal_large_enough(&all, carried_max).await?;
        for it in all.drain(..) {
            if 0 < it.needed() {
                for (base, to) in it.segments {
                    self.carry(&it.shared, base, to).await?;
                }
            }
            self.0.lane.spend(STEP_BYTES).await;
        }
        self.checkpoint(number).await?;
        self.0.journal.retire(number);
        self.0.keep.counts.retired.add(files as u64);
        Ok(true)
    }

    /// Lets the journal grow until what must be carried now finds room in it (RETIRE-3), and by what is not
    /// gained because too much of it is carried.
    async fn make_journal_large_enough(&self, all: &[Held], wanted: u64) -> Result<(), Errno> {
        let journal = &self.0.journal;
        let entries = all.iter().map(Held::needed).filter(|it| 0 < *it);
        let bytes: u64 = entries.map(|it| it + ENTRY_HEADER_BYTES as u64).sum();
        let slot_bytes = journal.config().slot_bytes;
        let not_gained = bytes.saturating_sub(wanted).div_ceil(slot_bytes) as usize;
        let slots = journal.missing_for(bytes).max(not_gained);
        if slots == 0 {
            return Ok(());
        }
        let space = self.0.lane.space(&self.0.config.data).await?;
        // What is kept free on a full disk is kept for this, among other things.
        let free = space.free_bytes.saturating_sub(self.space_reserve(&space) / RESERVE_SHARE);
        if free < slots as u64 * slot_bytes {
            return Err(Errno::NOSPC);
        }
        self.0.keep.counts.grown.add(slots as u64);
        journal.grow(slots);
        Ok(())
    }

    /// Who has bytes in journal files up to `number` that are in no other file yet.
    async fn held_up_to(&self, number: u64) -> Vec<Held> {
        let mut all: Vec<Held> = Vec::new();
        let mut last = None;
        for ((of, base), to) in self.0.journal.carried_in(number) {
            if last.replace(of) != Some(of) {
                self.0.lane.spend(STEP_BYTES).await;
                let Some(shared) = self.partition(&of) else {
                    last = None;
                    continue;
                };
                all.push(Held { shared, segments: Vec::new() });
            }
            let held = all.last_mut().expect("just pushed");
            let is_needed =
                held.shared.borrow().segment(base).is_some_and(|it| it.flushed < it.len().min(to));
            if is_needed {
                held.segments.push((base, to));
            }
        }
        all.retain(|it| !it.segments.is_empty());
        all
    }

    /// Writes the whole blocks of many open segments to their files, a few at a time.
    pub(super) async fn write_many(&self, all: &[Shared]) -> Result<(), Errno> {
        for some in all.chunks(self.files_at_once()) {
            self.make_files(some).await?;
            crowd::each(some, |it| self.write_blocks(it)).await?;
        }
        Ok(())
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
}

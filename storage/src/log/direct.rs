//! Writing to segments: whole blocks, each once, by one writer at a time; for large appends at once.
//!
//! A large append's blocks skip the journal: they are written to the segment with everything before
//! them that the file does not have yet, and the journal's frame that speaks of them waits for it.
//! So an extent that the journal speaks of is durable, and so is the file below it.
//!
//! DIRECT-1: an extent's frame is held until the file is durable up to the extent's end.
//! DIRECT-2: large appends go through the journal until their segment has a durable name and room.

use std::rc::Rc;

use corelane_core::buf::Slice;
use corelane_core::ids::Offset;
use corelane_core::lane::{Importance, join_all};
use corelane_core::ring::{Errno, Sync};

use super::journal::Commit;
use super::mutant::Mutant;
use super::partition::Partition;
use super::segment::Segment;
use super::store::{Shared, Store};
use super::upkeep::PAUSE;
use crate::checksum;
use crate::extent::Parts;
use crate::frame::{BLOCK_BYTES, Body, Entry, EntryHead};

/// Written to a segment at once at most.
const WRITE_BYTES_MAX: u64 = 4 << 20;

/// Up to so many pieces are durable writes of their own; of more, a flush is cheaper.
const DURABLE_PIECES_MAX: usize = 8;

/// Pieces of a tail that are smaller than this on average are written as one.
const PIECE_BYTES_MIN: usize = 32 << 10;

/// Room made in advance in a segment at most, and the share of what appends may claim, as a divisor.
const AHEAD_BYTES_MAX: u64 = 256 << 10;
const AHEAD_SHARE: u64 = 1 << 16;

/// Large appends go through the journal when this many times as much as may be is without a
/// checkpoint.
const UNTOLD_FACTOR: u64 = 4;

impl Store {
    /// Whether an append of `bytes` skips the journal, and how it is split then.
    pub(super) fn goes_straight(&self, partition: &Partition, bytes: usize) -> Option<Parts> {
        let rules = &self.0.upkeep_rules.extents;
        let dear = self.0.journal.first_writes_are_dear();
        if bytes < if dear { rules.bytes_min_dear } else { rules.bytes_min } {
            return None;
        }
        let open = partition.open_segment();
        let parts = Parts::split(open.len(), bytes)?;
        let end = parts.end(open.len());
        if !open.named || open.allocated < end + rules.room_bytes_min / 2 {
            self.0.keep.rooms.borrow_mut().insert(partition.of);
            self.0.keep.room.notify();
        }
        let told = self.0.keep.untold_bytes.get() < rules.untold_bytes_max * UNTOLD_FACTOR;
        (open.named && end <= open.allocated && told).then_some(parts)
    }

    /// Puts a large append that is in the tail already into the journal's order, and begins to
    /// write its blocks.
    pub(super) fn push_extent(
        &self,
        shared: &Shared,
        partition: &mut Partition,
        head: EntryHead,
        parts: Parts,
        append: &[u8],
        whole_crc: u32,
    ) -> Commit {
        let crc = parts.extent_crc(append, whole_crc);
        let at = head.position + u32::try_from(parts.head_bytes).expect("less than a block");
        let bytes = parts.extent_bytes;
        let body = Body::Extent {
            head: &append[..parts.head_bytes],
            extent_bytes: u32::try_from(bytes).expect("segments stay below 4 GiB"),
            extent_checksum: checksum::place(head.of, head.segment, at, crc, bytes),
            tail: &append[parts.head_bytes + bytes..],
        };
        let (commit, hold) = self.0.journal.push_held(&Entry { head, body });
        let keep = &self.0.keep;
        keep.counts.extents.add(1);
        keep.counts.extent_bytes.add(bytes as u64);
        keep.untold_bytes.set(keep.untold_bytes.get() + append.len() as u64);
        let mut hold = Some(hold);
        if self.0.journal.config().broken == Some(Mutant::ExtentBeforeItsBytes) {
            hold.take().expect("just made").release();
        }
        let open = partition.open_segment_mut();
        open.write_through(u64::from(at) + bytes as u64, hold);
        if !open.writing {
            self.begin_writing(shared, head.segment);
        }
        commit
    }

    /// A task of its own: an append does not wait, and upkeep may be busy elsewhere.
    fn begin_writing(&self, shared: &Shared, base: Offset) {
        let (store, shared) = (self.clone(), Rc::clone(shared));
        self.0.lane.spawn("segment writer", Importance::Serving, async move {
            loop {
                let wanted = shared.borrow().segment(base).and_then(Segment::wanted);
                let Some(to) = wanted else { return };
                match store.write_up_to(&shared, base, to).await {
                    Ok(()) => return,
                    // The file was closed to save descriptors; nothing was written yet.
                    Err(Errno::MFILE | Errno::NOMEM) => {
                        store.0.lane.sleep(PAUSE).await;
                    }
                    Err(errno) => return store.0.journal.fence(errno),
                }
            }
        });
    }

    /// Makes a segment's file durable up to `to`, a whole number of blocks, unless it is already.
    pub(super) async fn write_up_to(
        &self,
        shared: &Shared,
        base: Offset,
        to: u64,
    ) -> Result<(), Errno> {
        loop {
            let seen = self.0.keep.wrote.seen();
            if let Some(errno) = self.0.journal.failed() {
                return Err(errno);
            }
            {
                let mut partition = shared.borrow_mut();
                let gone = partition.deleted;
                let Some(segment) = partition.segment_mut(base) else { return Ok(()) };
                // Of a deleted partition only what a frame waits for is still written.
                if to <= segment.flushed || (gone && segment.wanted().is_none()) {
                    return Ok(());
                }
                if !segment.writing {
                    segment.writing = true;
                    break;
                }
            }
            self.0.keep.wrote.past(seen).await;
        }
        let done = self.write_blocks_up_to(shared, base, to).await;
        let more = {
            let mut partition = shared.borrow_mut();
            partition.segment_mut(base).is_some_and(|it| {
                it.writing = false;
                it.wanted().is_some()
            })
        };
        self.0.keep.wrote.notify();
        if more && done.is_ok() {
            self.begin_writing(shared, base);
        }
        done
    }

    async fn write_blocks_up_to(
        &self,
        shared: &Shared,
        base: Offset,
        to: u64,
    ) -> Result<(), Errno> {
        self.cut_is_durable(shared).await?;
        let file = self.file_to_write(shared, base).await?;
        let lane = &self.0.lane;
        let (mut at, allocated, ahead) = {
            let partition = shared.borrow();
            let Some(segment) = partition.segment(base) else { return Ok(()) };
            let ahead = self.room_ahead(&partition, segment, to);
            (segment.flushed, segment.allocated, ahead)
        };
        if allocated < to {
            let from = at.max(allocated);
            lane.allocate(&file, from, to + ahead - from).await?;
            self.claim(ahead);
            if let Some(segment) = shared.borrow_mut().segment_mut(base) {
                segment.allocated = segment.allocated.max(to + ahead);
            }
        }
        let mut parts = Vec::new();
        while at < to {
            let end = to.min(at + WRITE_BYTES_MAX);
            {
                let partition = shared.borrow();
                let Some(segment) = partition.segment(base) else { return Ok(()) };
                if partition.deleted && segment.wanted().is_none() {
                    return Ok(());
                }
                segment.tail.slices(at, end, &mut parts);
            }
            self.join_pieces(&mut parts, (end - at) as usize);
            let sync = if parts.len() <= DURABLE_PIECES_MAX { Sync::Data } else { Sync::None };
            let counts = &self.0.keep.counts;
            counts.segment_writes.add(parts.len() as u64);
            counts.segment_bytes.add(end - at);
            if let Some(whole) = parts.pop_if(|it| it.len() as u64 == end - at) {
                lane.write_all(&file, at, whole, sync).await?;
            } else {
                let mut position = at;
                let writes = parts.drain(..).map(|part| {
                    let from = position;
                    position += part.len() as u64;
                    lane.write_all(&file, from, part, sync)
                });
                for wrote in join_all(writes).await {
                    wrote?;
                }
            }
            if sync == Sync::None {
                lane.flush(&file).await?;
                counts.flushes.add(1);
            }
            lane.spend((end - at) as usize).await;
            let mut partition = shared.borrow_mut();
            let of = partition.of;
            let Some(segment) = partition.segment_mut(base) else { return Ok(()) };
            segment.wrote(of, end);
            partition.version += 1;
            drop(partition);
            self.note_written(shared, base, end - at);
            at = end;
        }
        Ok(())
    }

    /// Makes one piece of many that are so small that copying them costs less than writes of their own.
    fn join_pieces(&self, parts: &mut Vec<Slice>, bytes: usize) {
        if parts.len() < 2 || PIECE_BYTES_MIN * parts.len() <= bytes {
            return;
        }
        let Some(mut whole) = self.0.lane.pool().get(bytes) else { return };
        parts.drain(..).for_each(|part| whole.put(&part));
        parts.push(whole.freeze());
    }

    /// What is allocated behind `to`, so that not every small write asks for room of its own: as much
    /// again as there is, within bounds.
    fn room_ahead(&self, partition: &Partition, segment: &Segment, to: u64) -> u64 {
        let max = AHEAD_BYTES_MAX.min(self.0.keep.space_left.get() / AHEAD_SHARE);
        let ahead = to.min(max).min(partition.rules.segment_bytes.saturating_sub(to));
        if segment.sealed { 0 } else { ahead - ahead % BLOCK_BYTES as u64 }
    }

    /// Makes room for large appends where some came, until the log ends.
    pub(super) async fn make_rooms(self) {
        loop {
            let seen = self.0.keep.room.seen();
            if self.0.keep.stopped.get() || self.0.journal.failed().is_some() {
                return;
            }
            let next = self.0.keep.rooms.borrow_mut().pop_first();
            let Some(of) = next else {
                self.0.keep.room.past(seen).await;
                continue;
            };
            let Some(shared) = self.partition(&of) else { continue };
            let alone = self.0.keep.work.take(1).await;
            let made = self.make_room(&shared).await;
            drop(alone);
            match made {
                // Without room, or while the name is taken, they go through the journal.
                Ok(()) | Err(Errno::NOSPC | Errno::EXIST | Errno::NOMEM | Errno::MFILE) => {}
                Err(errno) => {
                    self.0.journal.fence(errno);
                    return;
                }
            }
        }
    }

    async fn make_room(&self, shared: &Shared) -> Result<(), Errno> {
        let rules = &self.0.upkeep_rules.extents;
        let space = self.0.lane.space(&self.0.config.data).await?;
        let unused: u64 = self.partitions().iter().map(unused_room).sum();
        let (base, from, room) = {
            let partition = shared.borrow();
            let open = partition.open_segment();
            let from = open.allocated.max(open.flushed);
            let used = from.max(open.len().next_multiple_of(BLOCK_BYTES as u64));
            let room = rules.room(used, partition.rules.segment_bytes, unused);
            (open.base, from, if room == 0 { 0 } else { used + room - from })
        };
        let reserve = self.space_reserve(&space) + self.dirty_bytes();
        if room == 0 || shared.borrow().deleted || space.free_bytes < reserve + 2 * room {
            return Ok(());
        }
        let file = self.file_to_write(shared, base).await?;
        self.claim(room);
        self.0.lane.allocate(&file, from, room).await?;
        let mut partition = shared.borrow_mut();
        // It may have been closed meanwhile: then its end takes the room back.
        if let Some(segment) = partition.segment_mut(base).filter(|it| !it.sealed) {
            segment.allocated = segment.allocated.max(from + room);
        }
        Ok(())
    }
}

fn unused_room(shared: &Shared) -> u64 {
    let partition = shared.borrow();
    let open = partition.open_segment();
    open.allocated.saturating_sub(open.flushed)
}

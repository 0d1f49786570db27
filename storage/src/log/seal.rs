//! Finishing a segment that takes no more: its last bytes, its length, its index.
//!
//! SEAL-1: a segment is finished only once all of its bytes, its length and its index are durable;
//! a crash before that finds it unfinished, with its bytes in the journal.

use corelane_core::buf::Buf;
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::{Errno, Sync};

use super::boot::{IndexFault, Notice};
use super::scan::{Next, ScanError, Source, scan};
use super::segment::{BatchFacts, Segment, Signpost};
use super::small;
use super::store::{Shared, Store};
use crate::batch::Batch;
use crate::dirs::SegmentFile;
use crate::frame::BLOCK_BYTES;
use crate::index::{INTERVAL_BYTES, Index, IndexBuilder, IndexError, IndexedBatch, TimeEntry};
use crate::producers::Aborted;

/// Half of the batches between two signposts are walked on average: one per interval is enough.
const SIGNPOST_STEP_BYTES: u64 = INTERVAL_BYTES as u64;

impl Store {
    /// Finishes all segments of a partition that are closed.
    pub(super) async fn finish_all(&self, shared: &Shared) -> Result<(), Errno> {
        let closed: Vec<Offset> = {
            let partition = shared.borrow();
            let closed = partition.segments.iter().filter(|it| it.sealed && !it.finished);
            closed.map(|it| it.base).collect()
        };
        for base in closed {
            self.finish(shared, base).await?;
        }
        Ok(())
    }

    /// Writes out a closed segment whole (SEAL-1).
    pub(super) async fn finish(&self, shared: &Shared, base: Offset) -> Result<(), Errno> {
        let (len, damaged) = {
            let partition = shared.borrow();
            let segment = partition.segment(base).filter(|it| it.sealed && !it.finished);
            let Some(segment) = segment.filter(|_| !partition.deleted) else { return Ok(()) };
            (segment.len(), partition.damage.is_some())
        };
        let whole = len - len % BLOCK_BYTES as u64;
        self.write_up_to(shared, base, whole).await?;
        if damaged {
            return Ok(());
        }
        self.write_end(shared, base, len).await?;
        {
            let mut partition = shared.borrow_mut();
            let of = partition.of;
            let Some(segment) = partition.segment_mut(base) else { return Ok(()) };
            if segment.flushed < len {
                segment.wrote(of, len);
            }
        }
        let Some(bytes) = self.index_bytes(shared, base).await? else { return Ok(()) };
        let path = self.partition_dir(shared).join(SegmentFile::Index(base).name());
        small::replace(&self.0.lane, &path, &bytes, self.0.journal.config().broken).await?;
        let mut partition = shared.borrow_mut();
        if let Some(segment) = partition.segment_mut(base) {
            segment.finish();
            // Its memory stays for readers at the tail until it is needed elsewhere.
            segment.extents = Vec::new();
            segment.index = None;
            partition.version += 1;
            self.0.keep.counts.sealed.add(1);
        }
        drop(partition);
        self.note_written(shared, base, len % BLOCK_BYTES as u64);
        Ok(())
    }

    /// Writes the block that a segment ends in, behind those that are in its file, and makes the file
    /// as long as the segment. Nothing may be appended meanwhile.
    pub(super) async fn write_end(
        &self,
        shared: &Shared,
        base: Offset,
        len: u64,
    ) -> Result<(), Errno> {
        let whole = len - len % BLOCK_BYTES as u64;
        let lane = &self.0.lane;
        self.cut_is_durable(shared).await?;
        let file = self.file_to_write(shared, base).await?;
        let mut last = Vec::new();
        if whole < len {
            let partition = shared.borrow();
            let Some(segment) = partition.segment(base) else { return Ok(()) };
            segment.tail.copy(whole, len, &mut last);
        }
        if !last.is_empty() {
            let mut buf = Buf::unpooled(BLOCK_BYTES);
            buf.put(&last);
            buf.pad_to(BLOCK_BYTES);
            lane.write_all(&file, whole, buf.freeze(), Sync::None).await?;
        }
        lane.truncate(&file, len).await?;
        lane.flush(&file).await?;
        self.0.keep.counts.flushes.add(1);
        if let Some(segment) = shared.borrow_mut().segment_mut(base) {
            segment.allocated = whole;
        }
        Ok(())
    }

    /// The index of a segment that takes no more, or nothing for now; `None` when it is damaged.
    pub(super) async fn index_bytes(
        &self,
        shared: &Shared,
        base: Offset,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let known = shared.borrow().segment(base).is_some_and(|it| it.index.is_some());
        if !known {
            let mut walked = self.walk_segment(shared, base).await;
            if let Err(ScanError::Corrupt { .. }) = walked {
                // The disk may have given other bytes than it has.
                walked = self.walk_segment(shared, base).await;
            }
            match walked {
                Ok(found) => {
                    if let Some(segment) = shared.borrow_mut().segment_mut(base) {
                        found.teach(segment, true);
                    }
                }
                Err(ScanError::Disk(errno)) => return Err(errno),
                Err(ScanError::Corrupt { position }) => {
                    self.take_offline(shared, self.segment_path(shared, base), position);
                    return Ok(None);
                }
            }
        }
        let mut bytes = Vec::new();
        {
            let mut partition = shared.borrow_mut();
            let aborted = aborted_in(&partition, base);
            let Some(segment) = partition.segment_mut(base) else { return Ok(None) };
            let extents = std::mem::take(&mut segment.extents);
            if let Some(index) = &mut segment.index {
                // A gap at the front would make the list unreadable: ranges of an earlier run may
                // be missing.
                let whole = extents.first().is_some_and(|it| it.position == 0);
                index.encode(&aborted, if whole { &extents } else { &[] }, &mut bytes);
            }
            segment.extents = extents;
        }
        Ok(Some(bytes))
    }

    /// Makes sure that a segment found on disk knows where its batches are: from its index, or by
    /// reading it through.
    pub(super) async fn ensure_indexed(
        &self,
        shared: &Shared,
        base: Offset,
    ) -> Result<(), ScanError> {
        let (of, finished, len) = {
            let partition = shared.borrow();
            match partition.segment(base) {
                Some(it) if !it.indexed => (partition.of, it.finished, it.len()),
                _ => return Ok(()),
            }
        };
        let mut rebuilt = None;
        let path = self.partition_dir(shared).join(SegmentFile::Index(base).name());
        if finished {
            let bytes = small::read_whole(&self.0.lane, &path).await.map_err(ScanError::Disk)?;
            match bytes.as_deref().map(|it| Index::decode(it, of, base)) {
                Some(Ok(index)) if u64::from(index.length()) == len => {
                    let (signposts, latest) = read_signposts(&index, base);
                    let first = self.first_timestamp(shared, base).await?;
                    if let Some(segment) = shared.borrow_mut().segment_mut(base) {
                        segment.learn(signposts, first, latest);
                    }
                    return Ok(());
                }
                Some(Ok(_)) => rebuilt = Some(IndexFault::Length),
                Some(Err(IndexError::Format { version })) => {
                    rebuilt = Some(IndexFault::Format { version });
                }
                Some(Err(_)) => rebuilt = Some(IndexFault::Damaged),
                None => rebuilt = Some(IndexFault::Missing),
            }
        }
        let found = self.walk_segment(shared, base).await?;
        if finished && found.end != self.end_of(shared, base) {
            // The segment does not hold the offsets the checkpoint says it holds.
            return Err(ScanError::Corrupt { position: len });
        }
        if let Some(segment) = shared.borrow_mut().segment_mut(base) {
            found.teach(segment, !finished);
        }
        if let Some(why) = rebuilt {
            self.replace_index(shared, base, &found).await?;
            self.0.keep.tell(Notice::IndexRebuilt { file: path, why });
        }
        Ok(())
    }

    /// Makes the index of a finished segment again, from its batches.
    pub(super) async fn rebuild_index(
        &self,
        shared: &Shared,
        base: Offset,
    ) -> Result<Vec<u8>, ScanError> {
        let found = self.walk_segment(shared, base).await?;
        self.replace_index(shared, base, &found).await
    }

    async fn replace_index(
        &self,
        shared: &Shared,
        base: Offset,
        found: &Walked,
    ) -> Result<Vec<u8>, ScanError> {
        let mut bytes = Vec::new();
        let aborted = aborted_in(&shared.borrow(), base);
        found.index.clone().encode(&aborted, &[], &mut bytes);
        let path = self.partition_dir(shared).join(SegmentFile::Index(base).name());
        let broken = self.0.journal.config().broken;
        let replaced = small::replace(&self.0.lane, &path, &bytes, broken).await;
        replaced.map_err(ScanError::Disk)?;
        Ok(bytes)
    }

    fn end_of(&self, shared: &Shared, base: Offset) -> Offset {
        let partition = shared.borrow();
        let after = partition.segments.partition_point(|it| it.base <= base);
        partition.segments.get(after).map_or(partition.end(), |it| it.base)
    }

    pub(super) async fn first_timestamp(
        &self,
        shared: &Shared,
        base: Offset,
    ) -> Result<Option<i64>, ScanError> {
        let mut first = None;
        self.scan_segment(shared, base, 0, |batch, _| {
            first = Some(batch.max_timestamp());
            Next::Enough
        })
        .await?;
        Ok(first)
    }

    /// Gives the batches of a segment from a position on, wherever they are.
    pub(super) async fn scan_segment(
        &self,
        shared: &Shared,
        base: Offset,
        from: u64,
        each: impl FnMut(&Batch<'_>, u64) -> Next,
    ) -> Result<(), ScanError> {
        let (in_file, memory, memory_from) = {
            let partition = shared.borrow();
            let Some(segment) = partition.segment(base) else { return Ok(()) };
            let start = segment.tail.start().max(segment.flushed);
            let mut memory = Vec::new();
            if !segment.finished && start < segment.tail.end() {
                segment.tail.copy(start, segment.tail.end(), &mut memory);
            }
            (segment.flushed, memory, segment.flushed)
        };
        let file = if from < in_file {
            Some(self.segment_file(shared, base).await.map_err(ScanError::Disk)?)
        } else {
            None
        };
        let source = Source { file: file.as_ref(), in_file, memory: &memory, memory_from };
        scan(&self.0.lane, &source, from, each).await
    }

    async fn walk_segment(&self, shared: &Shared, base: Offset) -> Result<Walked, ScanError> {
        let (of, epochs) = {
            let partition = shared.borrow();
            (partition.of, partition.epochs.clone())
        };
        let mut walked = match self.left_index(shared, base).await? {
            Some(it) => it,
            None => Walked::new(of, base),
        };
        let mut wrong = None;
        let from = u64::from(walked.index.length());
        self.scan_segment(shared, base, from, |batch, position| {
            // Epochs below the log's start may be forgotten.
            let epoch = epochs.epoch_at(batch.base_offset());
            let of_its_epoch = epoch.is_none_or(|it| it == batch.leader_epoch());
            if !of_its_epoch || !walked.follows(batch) {
                wrong = Some(position);
                return Next::Enough;
            }
            walked.take(batch, position);
            Next::More
        })
        .await?;
        match wrong {
            Some(position) => Err(ScanError::Corrupt { position }),
            None => Ok(walked),
        }
    }
}

impl Store {
    /// What the index says that a clean stop left of an open segment: only what came later has to be
    /// read (LEAVE-2).
    async fn left_index(&self, shared: &Shared, base: Offset) -> Result<Option<Walked>, ScanError> {
        let (of, left_bytes) = {
            let partition = shared.borrow();
            match partition.segment(base) {
                Some(it) if !it.finished && 0 < it.left_bytes => (partition.of, it.left_bytes),
                _ => return Ok(None),
            }
        };
        let path = self.partition_dir(shared).join(SegmentFile::Index(base).name());
        let bytes = small::read_whole(&self.0.lane, &path).await.map_err(ScanError::Disk)?;
        let Some(Ok(index)) = bytes.as_deref().map(|it| Index::decode(it, of, base)) else {
            return Ok(None);
        };
        if u64::from(index.length()) != left_bytes {
            return Ok(None);
        }
        let first = self.first_timestamp(shared, base).await?;
        let (signposts, latest) = read_signposts(&index, base);
        Ok(Some(Walked {
            end: index.last_known().map_or(base, |it| it.advance(1)),
            index: IndexBuilder::resumed(of, &index, INTERVAL_BYTES),
            signposts,
            first,
            max_timestamp: latest.map_or(-1, |it| it.timestamp),
        }))
    }
}

/// What reading a segment through tells.
pub(super) struct Walked {
    pub(super) index: IndexBuilder,
    signposts: Vec<Signpost>,
    first: Option<i64>,
    max_timestamp: i64,
    end: Offset,
}

impl Walked {
    pub(super) fn new(of: TopicPartition, base: Offset) -> Self {
        Self {
            index: IndexBuilder::new(of, base, INTERVAL_BYTES),
            signposts: Vec::new(),
            first: None,
            max_timestamp: -1,
            end: base,
        }
    }

    /// A batch's checksum covers neither its offset nor its epoch: it must continue the segment.
    pub(super) fn follows(&self, batch: &Batch<'_>) -> bool {
        self.end <= batch.base_offset()
            && batch.base_offset() < batch.next_offset()
            && self.index.fits(batch.last_offset())
    }

    pub(super) fn take(&mut self, batch: &Batch<'_>, position: u64) {
        let facts = BatchFacts {
            base: batch.base_offset(),
            end: batch.next_offset(),
            max_timestamp: batch.max_timestamp(),
            max_timestamp_offset: batch.last_offset(),
        };
        self.index.add(&IndexedBatch {
            base: facts.base,
            last: batch.last_offset(),
            position: u32::try_from(position).expect("segments stay below 4 GiB"),
            bytes: batch.bytes().len() as u32,
            max_timestamp: facts.max_timestamp,
            max_timestamp_offset: facts.max_timestamp_offset,
        });
        let due =
            self.signposts.last().is_none_or(|it| it.position + SIGNPOST_STEP_BYTES <= position);
        if due {
            let (offset, max_timestamp) = (facts.base, self.max_timestamp);
            self.signposts.push(Signpost { offset, position, max_timestamp });
        }
        self.first = self.first.or(Some(facts.max_timestamp));
        self.max_timestamp = self.max_timestamp.max(facts.max_timestamp);
        self.end = facts.end;
    }

    /// `keep` the index too, for a segment that goes on or is about to be sealed.
    pub(super) fn teach(&self, segment: &mut Segment, keep: bool) {
        segment.learn(self.signposts.clone(), self.first, self.index.latest());
        // Batches may have come while the segment was read; then it is read again at the seal.
        if keep && u64::from(self.index.length()) == segment.len() {
            segment.index = Some(self.index.clone());
        }
    }
}

fn aborted_in(partition: &super::partition::Partition, base: Offset) -> Vec<Aborted> {
    let after = partition.segments.partition_point(|it| it.base <= base);
    let end = partition.segments.get(after).map_or(partition.end(), |it| it.base);
    let all = partition.producers.aborted(base, end);
    all.filter(|it| base <= it.last && it.last < end).copied().collect()
}

/// Signposts from an index: its entries are as sparse, and its times bound what came before.
fn read_signposts(index: &Index<'_>, base: Offset) -> (Vec<Signpost>, Option<TimeEntry>) {
    let signposts = index.entries_by_offset().map(|(offset, position)| {
        let max_timestamp = index.bound_before(offset).unwrap_or(-1);
        Signpost { offset, position: u64::from(position), max_timestamp }
    });
    let signposts: Vec<_> = signposts.collect();
    debug_assert!(signposts.first().is_none_or(|it| it.offset == base));
    (signposts, index.latest())
}

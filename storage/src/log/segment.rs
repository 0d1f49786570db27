//! One segment of a partition: where its bytes are, and where its batches begin.
//!
//! SEG-1: bytes below `flushed` are whole blocks of the file, written once and durable;
//! SEG-2: everything not durable in the file is in the tail, so `tail.start() <= flushed`;
//! SEG-3: a finished segment is whole on disk, trimmed to its length, and has no tail.

use std::collections::VecDeque;

use corelane_core::buf::{Pool, Slice};
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::Fd;

use super::journal::Hold;
use super::sums::Sums;
use super::tail::{NoMemory, Tail};
use super::warm::Warm;
use crate::checkpoint::ExtentSum;
use crate::checksum;
use crate::frame::BLOCK_BYTES;
use crate::index::{INTERVAL_BYTES, IndexBuilder, IndexedBatch, TimeEntry};

/// Neighbouring writes share a checksum up to this size.
const EXTENT_BYTES_MAX: usize = 1 << 20;

/// A batch in memory: where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset after its last record.
    pub end: Offset,
    /// The position after its last byte.
    pub position: u64,
}

/// A place to begin looking: the batch at `position` holds `offset` or starts with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signpost {
    pub offset: Offset,
    pub position: u64,
    /// The largest timestamp of all batches before this one.
    pub max_timestamp: i64,
}

/// What a batch tells its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFacts {
    pub base: Offset,
    pub end: Offset,
    pub max_timestamp: i64,
    /// The offset of the record with that timestamp.
    pub max_timestamp_offset: Offset,
}

/// An append whose journal frame waits until the file is durable up to `to`.
struct Direct {
    to: u64,
    hold: Option<Hold>,
}

pub struct Segment {
    pub base: Offset,
    pub tail: Tail,
    /// Bytes of the file that are durable.
    pub flushed: u64,
    /// Bytes the file has room for.
    pub allocated: u64,
    pub file: Option<Fd>,
    /// Only of a finished segment.
    pub warm: Warm,
    /// It stands in line to be forgotten, as far as it is on disk.
    pub stands_as_written: bool,
    /// Somebody writes to the file: one at a time.
    pub writing: bool,
    /// Appends whose blocks go straight to the file, in order.
    direct: VecDeque<Direct>,
    /// No appends any more.
    pub sealed: bool,
    /// The file's name is durable.
    pub named: bool,
    /// How long it was when a clean stop left its index, if nothing came in between.
    pub left_bytes: u64,
    /// SEG-3.
    pub finished: bool,
    /// Signposts, times and index cover all batches, not only those that came since the start.
    pub indexed: bool,
    /// Checksums of ranges of the file, in order.
    pub extents: Vec<ExtentSum>,
    /// The plain checksum of the last extent, while it may still grow.
    last_extent_crc: Option<u32>,
    /// The index as far as it goes; `None` where the segment was not read from its start.
    pub index: Option<IndexBuilder>,
    pub max_timestamp: i64,
    pub max_timestamp_offset: Offset,
    /// Of the first batch; the segment's age counts from it. `None` where that batch came in an
    /// earlier run, or has no time, until somebody looks.
    pub first_timestamp: Option<i64>,
    /// Of everything that is not durable in the file.
    sums: Sums,
    marks: VecDeque<Mark>,
    /// Where the first batch that has a mark begins.
    marks_from: Mark,
    signposts: Vec<Signpost>,
    signpost_at: u64,
    len: u64,
}

impl Segment {
    /// An empty segment.
    #[must_use]
    pub fn new(base: Offset) -> Self {
        Self {
            base,
            tail: Tail::at(0),
            flushed: 0,
            allocated: 0,
            file: None,
            warm: Warm::default(),
            stands_as_written: false,
            writing: false,
            direct: VecDeque::new(),
            sealed: false,
            named: false,
            left_bytes: 0,
            finished: false,
            indexed: true,
            extents: Vec::new(),
            last_extent_crc: None,
            index: None,
            max_timestamp: -1,
            max_timestamp_offset: Offset(-1),
            first_timestamp: None,
            sums: Sums::at(0),
            marks: VecDeque::new(),
            marks_from: Mark { end: base, position: 0 },
            signposts: Vec::new(),
            signpost_at: 0,
            len: 0,
        }
    }

    /// A segment of which the first `flushed` bytes lie in its file.
    #[must_use]
    pub fn on_disk(base: Offset, flushed: u64, len: u64, finished: bool) -> Self {
        assert!(flushed <= len && (finished || flushed.is_multiple_of(BLOCK_BYTES as u64)));
        let tail = if finished { Tail::at(0) } else { Tail::at(flushed) };
        let len = if finished { len } else { flushed };
        Self {
            sums: Sums::at(tail.end()),
            tail,
            marks_from: Mark { end: Offset(i64::MAX), position: u64::MAX },
            flushed,
            allocated: flushed,
            sealed: finished,
            named: 0 < flushed,
            finished,
            indexed: len == 0,
            len,
            ..Self::new(base)
        }
    }

    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are only in memory and in the journal.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.len - self.flushed
    }

    /// Adds a batch, whose bytes have the checksum `crc`.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing is changed then.
    pub fn append(
        &mut self,
        pool: &Pool,
        bytes: &[u8],
        crc: u32,
        facts: &BatchFacts,
        index_interval_bytes: u64,
    ) -> Result<(), NoMemory> {
        assert!(!self.sealed, "a sealed segment takes nothing");
        self.tail.append(pool, bytes)?;
        self.sums.push(bytes, Some(crc));
        let position = self.len;
        self.len += bytes.len() as u64;
        self.note(facts, position, bytes.len() as u64, index_interval_bytes);
        self.marks.push_back(Mark { end: facts.end, position: self.len });
        Ok(())
    }

    /// Learns of a batch that lies at `position`.
    pub fn note(
        &mut self,
        facts: &BatchFacts,
        position: u64,
        bytes: u64,
        index_interval_bytes: u64,
    ) {
        if let Some(index) = &mut self.index {
            index.add(&IndexedBatch {
                base: facts.base,
                last: Offset(facts.end.0 - 1),
                position: u32::try_from(position).expect("segments stay below 4 GiB"),
                bytes: u32::try_from(bytes).expect("batches stay below 4 GiB"),
                max_timestamp: facts.max_timestamp,
                max_timestamp_offset: facts.max_timestamp_offset,
            });
        }
        if self.signposts.is_empty() || self.signpost_at + index_interval_bytes <= position {
            self.signposts.push(Signpost {
                offset: facts.base,
                position,
                max_timestamp: self.max_timestamp,
            });
            self.signpost_at = position;
        }
        if position == 0 {
            self.first_timestamp = Some(facts.max_timestamp).filter(|it| 0 <= *it);
        }
        if self.max_timestamp < facts.max_timestamp {
            self.max_timestamp = facts.max_timestamp;
            self.max_timestamp_offset = facts.max_timestamp_offset;
        }
    }

    /// Collects the index from the first batch on.
    pub fn index_from_start(&mut self, of: TopicPartition) {
        assert!(self.signposts.is_empty(), "batches went by already");
        self.index = Some(IndexBuilder::new(of, self.base, INTERVAL_BYTES));
    }

    /// Learns where everything is from an index or a walk, for a segment found on disk.
    pub fn learn(
        &mut self,
        signposts: Vec<Signpost>,
        first: Option<i64>,
        latest: Option<TimeEntry>,
    ) {
        self.set_signposts(signposts);
        self.first_timestamp = first.filter(|it| 0 <= *it).or(self.first_timestamp);
        if let Some(it) = latest.filter(|it| self.max_timestamp <= it.timestamp) {
            self.max_timestamp = it.timestamp;
            self.max_timestamp_offset = it.offset;
        }
        self.indexed = true;
    }

    /// Takes over bytes that recovery found beyond `flushed`.
    ///
    /// # Errors
    /// [`NoMemory`] when the budget is smaller than what must be kept.
    pub fn restore(&mut self, pool: &Pool, bytes: &[u8]) -> Result<(), NoMemory> {
        self.tail.append(pool, bytes)?;
        self.sums.push(bytes, None);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Learns where restored batches end; the first mark is the end of what came before them.
    pub fn set_marks(&mut self, from: Mark, marks: VecDeque<Mark>) {
        self.marks_from = from;
        self.marks = marks;
    }

    #[must_use]
    pub fn signposts(&self) -> &[Signpost] {
        &self.signposts
    }

    pub fn set_signposts(&mut self, signposts: Vec<Signpost>) {
        self.signpost_at = signposts.last().map_or(0, |it| it.position);
        self.signposts = signposts;
    }

    /// The last signpost at or before `offset`.
    #[must_use]
    pub fn signpost(&self, offset: Offset) -> Signpost {
        let after = self.signposts.partition_point(|it| it.offset <= offset);
        let start = Signpost { offset: self.base, position: 0, max_timestamp: -1 };
        after.checked_sub(1).map_or(start, |it| self.signposts[it])
    }

    /// The last signpost before which every timestamp is below `timestamp`.
    #[must_use]
    pub fn signpost_before(&self, timestamp: i64) -> Signpost {
        let after = self.signposts.partition_point(|it| it.max_timestamp < timestamp);
        let start = Signpost { offset: self.base, position: 0, max_timestamp: -1 };
        after.checked_sub(1).map_or(start, |it| self.signposts[it])
    }

    /// The whole batches from the one with `from`, up to about `bytes_max` and below `limit`; one
    /// batch at least, however large, if `at_least_one`. `None` if the first is not in memory.
    #[must_use]
    pub fn in_memory(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Option<Vec<Slice>> {
        if from < self.marks_from.end {
            return None;
        }
        let first = self.marks.partition_point(|it| it.end <= from);
        let before = first.checked_sub(1).map_or(self.marks_from, |it| self.marks[it]);
        if before.position < self.tail.start() {
            return None;
        }
        let visible = self.marks.partition_point(|it| it.end <= limit);
        let room = before.position + bytes_max as u64;
        let mut last = self.marks.partition_point(|it| it.position <= room).min(visible);
        if last <= first && at_least_one && first < visible {
            last = first + 1;
        }
        let mut slices = Vec::new();
        if first < last {
            self.tail.slices(before.position, self.marks[last - 1].position, &mut slices);
        }
        Some(slices)
    }

    /// Forgets memory below `position`, which must be durable in the file.
    pub fn forget_below(&mut self, position: u64) {
        assert!(position <= self.flushed, "what is not in the file must stay");
        self.tail.forget_below(position);
        while self.marks.front().is_some_and(|it| it.position <= self.tail.start()) {
            self.marks_from = self.marks.pop_front().expect("just seen");
        }
    }

    /// The bytes from `flushed` up to `to` are durable in the file.
    pub fn wrote(&mut self, of: TopicPartition, to: u64) {
        assert!(self.flushed < to && to <= self.len, "SEG-1: {} < {to}", self.flushed);
        assert!(self.flushed.is_multiple_of(BLOCK_BYTES as u64), "SEG-1: blocks are written once");
        while self.flushed < to {
            let end = to.min(self.flushed + EXTENT_BYTES_MAX as u64);
            let crc = self.sums.of(self.flushed, end, &self.tail);
            self.note_extent(of, end, crc);
            self.sums.forget_below(end, &self.tail);
            self.flushed = end;
        }
        self.named = true;
        self.release();
    }

    /// Keeps the checksum of what is in the file up to `to` now.
    fn note_extent(&mut self, of: TopicPartition, to: u64, crc: u32) {
        let bytes = (to - self.flushed) as usize;
        let grows = self.extents.last().filter(|it| it.bytes as usize + bytes <= EXTENT_BYTES_MAX);
        let (position, bytes, crc) = match (grows.copied(), self.last_extent_crc) {
            (Some(last), Some(before)) => {
                self.extents.pop();
                let whole = checksum::combine(before, crc, bytes);
                (last.position, last.bytes as usize + bytes, whole)
            }
            _ => (u32::try_from(self.flushed).expect("segments stay below 4 GiB"), bytes, crc),
        };
        let checksum = checksum::place(of, self.base, position, crc, bytes);
        let bytes = u32::try_from(bytes).expect("segments stay below 4 GiB");
        self.extents.push(ExtentSum { position, bytes, checksum });
        self.last_extent_crc = Some(crc);
    }

    /// The blocks up to `to` are to be written now; `hold` is released once they are durable.
    pub fn write_through(&mut self, to: u64, hold: Option<Hold>) {
        assert!(self.flushed < to && to <= self.len && to.is_multiple_of(BLOCK_BYTES as u64));
        assert!(self.direct.back().is_none_or(|it| it.to < to), "appends come in order");
        self.direct.push_back(Direct { to, hold });
    }

    /// Up to where the file is wanted now.
    #[must_use]
    pub fn wanted(&self) -> Option<u64> {
        self.direct.back().map(|it| it.to)
    }

    /// Lets go of the frames whose blocks are durable.
    fn release(&mut self) {
        while let Some(it) = self.direct.pop_front_if(|it| it.to <= self.flushed) {
            if let Some(hold) = it.hold {
                hold.release();
            }
        }
    }

    /// SEG-3 holds from now on.
    pub fn finish(&mut self) {
        assert!(self.sealed && self.flushed == self.len);
        self.finished = true;
    }

    /// Forgets all memory of a finished segment.
    pub fn forget(&mut self) {
        assert!(self.finished, "an unfinished segment lives in memory");
        self.tail.clear();
        self.marks.clear();
        self.marks_from = Mark { end: Offset(i64::MAX), position: u64::MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends batches of `records:bytes`, reads, and tells the lengths.
    #[track_caller]
    fn check(batches: &[(u32, usize)], from: i64, limit: i64, max: usize, one: bool, expect: &str) {
        let pool = Pool::new(1 << 22);
        let mut segment = Segment::new(Offset(100));
        let mut base = Offset(100);
        for &(records, bytes) in batches {
            let end = base.advance(records);
            let facts = BatchFacts { base, end, max_timestamp: 5, max_timestamp_offset: base };
            let batch = vec![1; bytes];
            segment.append(&pool, &batch, checksum::of(&batch), &facts, 4096).expect("in budget");
            base = end;
        }
        let found = segment.in_memory(Offset(from), Offset(limit), max, one);
        let told = found.map_or("elsewhere".to_owned(), |it| {
            it.iter().map(|it| it.len()).sum::<usize>().to_string()
        });
        assert_eq!(told, expect);
    }

    #[test]
    fn whole_batches_are_found_by_offset_size_and_limit() {
        let batches = [(3, 50), (1, 70), (2, 5000)];
        check(&batches, 100, 106, 10_000, false, "5120");
        check(&batches, 102, 106, 10_000, false, "5120");
        check(&batches, 103, 106, 100, false, "70");
        check(&batches, 103, 104, 10_000, false, "70");
        check(&batches, 104, 106, 100, false, "0");
        check(&batches, 104, 106, 100, true, "5000");
        check(&batches, 104, 105, 100, true, "0");
        check(&batches, 106, 106, 100, true, "0");
        check(&batches, 99, 106, 100, true, "elsewhere");
    }

    #[test]
    fn what_was_forgotten_is_read_elsewhere() {
        let pool = Pool::new(1 << 22);
        let mut segment = Segment::new(Offset(0));
        for base in 0..100 {
            let (base, end) = (Offset(base), Offset(base + 1));
            let facts = BatchFacts { base, end, max_timestamp: base.0, max_timestamp_offset: base };
            let crc = checksum::of(&[1; 1000]);
            segment.append(&pool, &[1; 1000], crc, &facts, 4096).expect("in budget");
        }
        segment.flushed = 98_304;
        segment.forget_below(98_304);
        assert!(segment.in_memory(Offset(3), Offset(100), 5000, true).is_none());
        let last = segment.in_memory(Offset(99), Offset(100), 5000, true).expect("in memory");
        assert_eq!(last.iter().map(|it| it.len()).sum::<usize>(), 1000);
        let sign = segment.signpost(Offset(50));
        assert!(sign.offset <= Offset(50) && Offset(44) < sign.offset, "{sign:?}");
        assert_eq!(segment.signpost_before(0).position, 0);
        assert!(segment.signpost_before(70).offset <= Offset(70));
    }
}

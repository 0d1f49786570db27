//! The index beside a segment: where offsets and times are, what was taken back, and checksums.
//!
//! One file per segment, written when the segment is sealed and rebuilt when missing or wrong. Its
//! entries are sparse: [`IndexBuilder`] adds one whenever enough bytes went by, always for the
//! first batch of its stretch. A lookup gives the position to start walking batches from, never
//! one beyond what is sought.
//!
//! - Offset entries: a batch's base offset, position and last offset, all strictly growing.
//! - Time entries: the largest timestamp so far and the first offset that has it, both strictly
//!   growing; the last one is the segment's largest.
//! - Aborted transactions whose marker lies in this segment.
//! - Extents: ranges of the segment with their checksums bound to the place, without a gap.

use crate::{
    bytes::{Put, Reader, Short},
    checkpoint::{ExtentSum, put_extents, take_extents},
    checksum,
    producers::{Aborted, put_aborted, take_aborted},
};
use corelane_core::ids::{Offset, TopicPartition};

pub const INDEX_MAGIC: [u8; 8] = *b"CLindex\n";
/// The only format of indexes that is read or written.
pub const INDEX_FORMAT: u16 = 2;
pub const INDEX_HEADER_BYTES: usize = 64;
/// Bytes of the segment between two offset entries: Kafka's default of `index.interval.bytes`.
pub const INTERVAL_BYTES: u32 = 4096;

const UNSUMMED_BYTES: usize = 16;
const AT_CHECKSUM: usize = 12;
const OFFSET_ENTRY_BYTES: usize = 12;
const TIME_ENTRY_BYTES: usize = 12;

/// Why bytes are not this segment's index. It can be rebuilt from the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    Magic {
        found: [u8; 8],
    },
    /// A whole index of another format: every format has its checksum and length where this one has.
    Format {
        version: u16,
    },
    Length {
        used: u64,
        available: usize,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
    /// A whole index of another segment.
    Segment {
        expected: (TopicPartition, Offset),
        found: (TopicPartition, Offset),
    },
    /// The sum is right but the entries make no sense.
    Entries,
}

/// A batch as the index sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedBatch {
    pub base: Offset,
    pub last: Offset,
    pub position: u32,
    pub bytes: u32,
    pub max_timestamp: i64,
    /// The first record with that timestamp.
    pub max_timestamp_offset: Offset,
}

/// A timestamp and the first offset that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    pub timestamp: i64,
    pub offset: Offset,
}

/// A batch that can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffsetEntry {
    /// Its first and last offset, relative to the segment.
    base: u32,
    last: u32,
    position: u32,
}

/// Collects a segment's index while it is written. Cheap per batch; may be asked at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexBuilder {
    of: TopicPartition,
    segment: Offset,
    interval_bytes: u32,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    /// The largest timestamp so far, not yet an entry.
    latest: Option<TimeEntry>,
    /// Where the next offset entry is due.
    due: u32,
    length: u32,
}

impl IndexBuilder {
    #[must_use]
    pub fn new(of: TopicPartition, segment: Offset, interval_bytes: u32) -> Self {
        Self {
            of,
            segment,
            interval_bytes,
            offsets: Vec::new(),
            times: Vec::new(),
            latest: None,
            due: 0,
            length: 0,
        }
    }

    /// Goes on from a file, which was made for the segment's beginning.
    #[must_use]
    pub fn resumed(of: TopicPartition, index: &Index<'_>, interval_bytes: u32) -> Self {
        let offsets: Vec<_> =
            (0..index.offset_entries()).map(|at| index.offset_entry(at)).collect();
        let due = offsets.last().map_or(0, |it| it.position.saturating_add(interval_bytes));
        Self {
            of,
            segment: index.segment,
            interval_bytes,
            offsets,
            times: (0..index.time_entries()).map(|at| index.time_entry(at)).collect(),
            latest: index.latest(),
            due,
            length: index.length,
        }
    }

    /// Whether a batch at this offset may still be added: offsets in a segment are kept as 32-bit
    /// distances from its base.
    #[must_use]
    pub fn fits(&self, last: Offset) -> bool {
        (0..=i64::from(i32::MAX)).contains(&last.distance_from(self.segment))
    }

    /// Adds the next batch.
    ///
    /// # Panics
    /// When it does not follow the one before.
    pub fn add(&mut self, batch: &IndexedBatch) {
        assert_eq!(batch.position, self.length, "batches are added in order");
        assert!(self.fits(batch.last), "the segment is rolled before its offsets run out");
        if self.latest.is_none_or(|it| it.timestamp < batch.max_timestamp) {
            let (timestamp, offset) = (batch.max_timestamp, batch.max_timestamp_offset);
            self.latest = Some(TimeEntry { timestamp, offset });
        }
        if self.due <= batch.position {
            let relative = |it: Offset| it.distance_from(self.segment) as u32;
            let (base, last) = (relative(batch.base), relative(batch.last));
            self.offsets.push(OffsetEntry { base, last, position: batch.position });
            self.due = batch.position.saturating_add(self.interval_bytes);
            self.note_time();
        }
        self.length += batch.bytes;
    }

    fn note_time(&mut self) {
        let known = self.times.last().copied();
        if let Some(it) = self.latest
            && known.is_none_or(|known| known.timestamp < it.timestamp && known.offset < it.offset)
        {
            self.times.push(it);
        }
    }

    /// The segment now has `length` bytes and ends at `end`. The largest timestamp may have been
    /// among what is gone: `latest` is what is left, found by walking from the last time entry.
    pub fn truncate(&mut self, end: Offset, length: u32, latest: Option<TimeEntry>) {
        self.offsets.retain(|it| it.position < length);
        self.times.retain(|it| it.offset < end);
        self.latest = latest;
        self.length = length;
        let due = |it: &OffsetEntry| it.position.saturating_add(self.interval_bytes);
        self.due = self.offsets.last().map_or(0, due);
    }

    /// The position of the batch to start walking from to find `offset`.
    #[must_use]
    pub fn position_of(&self, offset: Offset) -> u32 {
        let relative = offset.distance_from(self.segment);
        let after = self.offsets.partition_point(|it| i64::from(it.base) <= relative);
        after.checked_sub(1).map_or(0, |it| self.offsets[it].position)
    }

    /// The largest timestamp of the segment.
    #[must_use]
    pub fn latest(&self) -> Option<TimeEntry> {
        self.latest
    }

    /// Bytes of the segment that were indexed.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The file: header, offsets, times, aborted transactions, extents.
    pub fn encode(&mut self, aborted: &[Aborted], extents: &[ExtentSum], out: &mut Vec<u8>) {
        self.note_time();
        out.clear();
        out.put(&INDEX_MAGIC);
        out.put_u16(INDEX_FORMAT);
        out.put_u16(0);
        out.put_u32(0);
        out.put_u64(0);
        out.put_partition(self.of);
        out.put_i64(self.segment.0);
        out.put_u32(self.length);
        out.put_count(self.offsets.len());
        out.put_count(self.times.len());
        debug_assert_eq!(out.len(), INDEX_HEADER_BYTES);
        for it in &self.offsets {
            out.put_u32(it.base);
            out.put_u32(it.position);
            out.put_u32(it.last);
        }
        for it in &self.times {
            out.put_i64(it.timestamp);
            out.put_u32(it.offset.distance_from(self.segment) as u32);
        }
        put_aborted(out, aborted);
        put_extents(out, extents);
        let used = out.len() as u64;
        out[16..24].copy_from_slice(&used.to_le_bytes());
        let checksum = checksum::of(&out[UNSUMMED_BYTES..]);
        out[AT_CHECKSUM..UNSUMMED_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A verified index, its entries borrowed.
#[derive(Debug, Clone)]
pub struct Index<'a> {
    segment: Offset,
    length: u32,
    offsets: &'a [u8],
    times: &'a [u8],
    aborted: Vec<Aborted>,
    extents: Vec<ExtentSum>,
}

impl<'a> Index<'a> {
    /// Reads the index of the given segment. Bytes after it are not looked at.
    ///
    /// # Errors
    /// With the reason why this is not that segment's index.
    pub fn decode(
        bytes: &'a [u8],
        of: TopicPartition,
        segment: Offset,
    ) -> Result<Self, IndexError> {
        let available = bytes.len();
        let short = |Short| IndexError::Length { used: 0, available };
        let mut reader = Reader::new(bytes);
        let found: [u8; 8] = reader.array().map_err(short)?;
        if found != INDEX_MAGIC {
            return Err(IndexError::Magic { found });
        }
        let version = reader.u16().map_err(short)?;
        let _reserved = reader.u16().map_err(short)?;
        let stored = reader.u32().map_err(short)?;
        let used = reader.u64().map_err(short)?;
        let length = IndexError::Length { used, available };
        let whole = usize::try_from(used).ok().and_then(|it| bytes.get(..it)).ok_or(length)?;
        if whole.len() < INDEX_HEADER_BYTES {
            return Err(length);
        }
        let computed = checksum::of(&whole[UNSUMMED_BYTES..]);
        if stored != computed {
            return Err(IndexError::Checksum { stored, computed });
        }
        if version != INDEX_FORMAT {
            return Err(IndexError::Format { version });
        }
        let mut reader = Reader::new(&whole[24..]);
        let found_of = reader.partition().map_err(short)?;
        let found_segment = reader.offset().map_err(short)?;
        if (found_of, found_segment) != (of, segment) {
            let (expected, found) = ((of, segment), (found_of, found_segment));
            return Err(IndexError::Segment { expected, found });
        }
        let it = Self::entries(&mut reader, segment).map_err(|Short| IndexError::Entries)?;
        if !reader.rest().is_empty() || !it.is_ordered() {
            return Err(IndexError::Entries);
        }
        Ok(it)
    }

    fn entries(reader: &mut Reader<'a>, segment: Offset) -> Result<Self, Short> {
        let length = reader.u32()?;
        let offsets = reader.u32()? as usize;
        let times = reader.u32()? as usize;
        let offsets = reader.bytes(offsets.checked_mul(OFFSET_ENTRY_BYTES).ok_or(Short)?)?;
        let times = reader.bytes(times.checked_mul(TIME_ENTRY_BYTES).ok_or(Short)?)?;
        let aborted = take_aborted(reader)?;
        let extents = take_extents(reader)?;
        Ok(Self { segment, length, offsets, times, aborted, extents })
    }

    fn is_ordered(&self) -> bool {
        let mut offsets = (0..self.offset_entries()).map(|at| self.offset_entry(at));
        let times = (0..self.time_entries()).map(|at| self.time_entry(at));
        let mut gapless = 0;
        offsets.clone().is_sorted_by(|a, b| a.last < b.base && a.position < b.position)
            && offsets.clone().all(|it| it.base <= it.last)
            && offsets.next_back().is_none_or(|it| it.position < self.length)
            && times.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.offset < b.offset)
            && self.aborted.is_sorted_by_key(|it| it.last)
            && self.extents.iter().all(|it| {
                let follows = it.position == gapless;
                gapless = it.position.saturating_add(it.bytes);
                follows && gapless <= self.length
            })
    }

    /// Bytes of the segment it was made for.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    #[must_use]
    pub fn aborted(&self) -> &[Aborted] {
        &self.aborted
    }

    #[must_use]
    pub fn extents(&self) -> &[ExtentSum] {
        &self.extents
    }

    /// The extents that overlap a range of the segment.
    #[must_use]
    pub fn extents_over(&self, from: u32, to: u32) -> &[ExtentSum] {
        let first = self.extents.partition_point(|it| it.position + it.bytes <= from);
        let after = self.extents.partition_point(|it| it.position < to);
        &self.extents[first..after.max(first)]
    }

    /// The position of the batch to start walking from to find `offset`.
    #[must_use]
    pub fn position_of(&self, offset: Offset) -> u32 {
        let relative = offset.distance_from(self.segment);
        let after = partition_point(self.offset_entries(), |at| {
            i64::from(self.offset_entry(at).base) <= relative
        });
        after.checked_sub(1).map_or(0, |at| self.offset_entry(at).position)
    }

    /// The position to start walking from to find the first record at or after `timestamp`;
    /// `None` when all of the segment's records are older.
    #[must_use]
    pub fn position_at(&self, timestamp: i64) -> Option<u32> {
        let newer =
            partition_point(self.time_entries(), |at| self.time_entry(at).timestamp < timestamp);
        if newer == self.time_entries() {
            return None;
        }
        // Everything up to the entry before is older; its offset is a safe place to start.
        Some(newer.checked_sub(1).map_or(0, |at| self.position_of(self.time_entry(at).offset)))
    }

    /// The segment's largest timestamp and the first record that has it.
    #[must_use]
    pub fn latest(&self) -> Option<TimeEntry> {
        self.time_entries().checked_sub(1).map(|at| self.time_entry(at))
    }

    /// Base offsets of batches and their positions, sparse and in order.
    pub fn entries_by_offset(&self) -> impl Iterator<Item = (Offset, u32)> + '_ {
        (0..self.offset_entries()).map(|at| {
            let it = self.offset_entry(at);
            (Offset(self.segment.0.wrapping_add(i64::from(it.base))), it.position)
        })
    }

    /// The last offset of the last batch that has an entry.
    #[must_use]
    pub fn last_known(&self) -> Option<Offset> {
        let last = self.offset_entries().checked_sub(1).map(|at| self.offset_entry(at).last);
        last.map(|it| Offset(self.segment.0.wrapping_add(i64::from(it))))
    }

    /// Last offsets of batches, relative to the segment, and their positions.
    pub fn entries_by_last(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.offset_entries()).map(|at| self.offset_entry(at)).map(|it| (it.last, it.position))
    }

    /// Largest timestamps so far.
    pub fn entries_by_time(&self) -> impl Iterator<Item = TimeEntry> + '_ {
        (0..self.time_entries()).map(|at| self.time_entry(at))
    }

    /// A timestamp that no batch before `offset` exceeds, as close as the entries tell.
    #[must_use]
    pub fn bound_before(&self, offset: Offset) -> Option<i64> {
        let after = partition_point(self.time_entries(), |at| self.time_entry(at).offset < offset);
        let entry = (after < self.time_entries()).then(|| self.time_entry(after));
        entry.or(self.latest()).map(|it| it.timestamp)
    }

    fn offset_entries(&self) -> usize {
        self.offsets.len() / OFFSET_ENTRY_BYTES
    }

    fn time_entries(&self) -> usize {
        self.times.len() / TIME_ENTRY_BYTES
    }

    fn offset_entry(&self, at: usize) -> OffsetEntry {
        let mut reader = Reader::new(&self.offsets[at * OFFSET_ENTRY_BYTES..]);
        let mut next = || reader.u32().expect("entries are whole");
        let (base, position) = (next(), next());
        OffsetEntry { base, position, last: next() }
    }

    fn time_entry(&self, at: usize) -> TimeEntry {
        let mut reader = Reader::new(&self.times[at * TIME_ENTRY_BYTES..]);
        let timestamp = reader.i64().expect("entries are whole");
        let relative = reader.u32().expect("entries are whole");
        TimeEntry { timestamp, offset: Offset(self.segment.0.wrapping_add(i64::from(relative))) }
    }
}

/// The first of `count` numbers for which `before` does not hold any more.
fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::ids::{PartitionIndex, ProducerId, TopicId};

    const SEGMENT: Offset = Offset(1_000);

    fn of() -> TopicPartition {
        TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(1) }
    }

    /// Batches of three records and a hundred bytes; timestamps as given.
    fn batches(timestamps: &[i64]) -> Vec<IndexedBatch> {
        let one = |(at, &max_timestamp): (u32, &i64)| {
            let base = SEGMENT.advance(3 * at);
            let max_timestamp_offset = base.advance(1);
            let (last, position) = (base.advance(2), 100 * at);
            IndexedBatch { base, last, position, bytes: 100, max_timestamp, max_timestamp_offset }
        };
        (0..).zip(timestamps).map(one).collect()
    }

    fn file(all: &[IndexedBatch]) -> Vec<u8> {
        let mut builder = IndexBuilder::new(of(), SEGMENT, 250);
        all.iter().for_each(|it| builder.add(it));
        let aborted = [Aborted {
            producer: ProducerId(1),
            first: Offset(1000),
            last: Offset(1005),
            last_stable: Offset(1006),
        }];
        let half = builder.length() / 2;
        let extents = [
            ExtentSum { position: 0, bytes: half, checksum: 1 },
            ExtentSum { position: half, bytes: builder.length() - half, checksum: 2 },
        ];
        let mut out = Vec::new();
        builder.encode(&aborted, &extents, &mut out);
        out
    }

    /// Every offset and every time is found by walking from where the index says, and the index
    /// never says a place beyond it.
    #[test]
    fn a_lookup_never_starts_beyond_what_is_sought() {
        for shape in 0..4_i64 {
            let timestamps: Vec<i64> = (0..40)
                .map(|at| match shape {
                    0 => at * 10,
                    1 => 1_000 - at * 10,
                    2 => (at * 7919) % 1000,
                    _ => 5,
                })
                .collect();
            let all = batches(&timestamps);
            let bytes = file(&all);
            let index = Index::decode(&bytes, of(), SEGMENT).unwrap();
            for (number, it) in all.iter().enumerate() {
                for record in 0..3 {
                    let position = index.position_of(it.base.advance(record));
                    assert!(position <= it.position && it.position - position < 400);
                }
                let first = timestamps.iter().position(|at| timestamps[number] <= *at).unwrap();
                let position = index.position_at(timestamps[number]).unwrap();
                assert!(position <= all[first].position, "shape {shape}, batch {number}");
            }
            let max = timestamps.iter().copied().max().unwrap();
            let first = timestamps.iter().position(|it| *it == max).unwrap();
            let latest = TimeEntry { timestamp: max, offset: all[first].max_timestamp_offset };
            assert_eq!(index.latest(), Some(latest));
            assert_eq!(index.position_at(max + 1), None);
            assert_eq!(index.position_of(Offset(0)), 0);
        }
    }

    #[test]
    fn the_builder_answers_like_the_file() {
        let all = batches(&[5, 3, 9, 9, 2, 30, 8, 1, 50, 7]);
        let mut builder = IndexBuilder::new(of(), SEGMENT, 250);
        all.iter().for_each(|it| builder.add(it));
        let bytes = file(&all);
        let index = Index::decode(&bytes, of(), SEGMENT).unwrap();
        for offset in 990..1_040 {
            assert_eq!(builder.position_of(Offset(offset)), index.position_of(Offset(offset)));
        }
        assert_eq!(builder.latest(), index.latest());
        // A cut log is indexed as if what is gone had never been.
        let latest = TimeEntry { timestamp: 9, offset: Offset(1_007) };
        builder.truncate(Offset(1_015), 500, Some(latest));
        let mut fresh = IndexBuilder::new(of(), SEGMENT, 250);
        all[..5].iter().for_each(|it| fresh.add(it));
        assert_eq!(builder, fresh);
        assert!(builder.fits(Offset(1_000 + i64::from(i32::MAX))));
        assert!(!builder.fits(Offset(1_001 + i64::from(i32::MAX))));
    }

    #[test]
    fn a_builder_goes_on_from_a_file_as_if_it_had_seen_all() {
        let all = batches(&[5, 3, 9, 9, 2, 30, 8, 1, 50, 7]);
        for known in 1..all.len() {
            let bytes = file(&all[..known]);
            let index = Index::decode(&bytes, of(), SEGMENT).unwrap();
            let mut resumed = IndexBuilder::resumed(of(), &index, 250);
            let mut fresh = IndexBuilder::new(of(), SEGMENT, 250);
            all[..known].iter().for_each(|it| fresh.add(it));
            fresh.note_time();
            all[known..].iter().for_each(|it| {
                resumed.add(it);
                fresh.add(it);
            });
            assert_eq!(resumed, fresh, "after {known}");
        }
    }

    #[test]
    fn extents_over_a_range_are_all_that_touch_it() {
        let bytes = file(&batches(&[1; 10]));
        let index = Index::decode(&bytes, of(), SEGMENT).unwrap();
        let over = |from, to| index.extents_over(from, to).len();
        assert_eq!(
            [over(0, 1), over(0, 500), over(499, 501), over(500, 501), over(0, 1000)],
            [1, 1, 2, 1, 2]
        );
    }

    #[test]
    fn another_segments_index_is_refused() {
        let bytes = file(&batches(&[1; 10]));
        let error = Index::decode(&bytes, of(), Offset(0)).unwrap_err();
        assert_eq!(
            error,
            IndexError::Segment { expected: (of(), Offset(0)), found: (of(), SEGMENT) }
        );
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_damage_goes_unseen() {
        let whole = file(&batches(&[5, 3, 9, 9, 2, 30, 8, 1, 50, 7]));
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1 << (at % 8);
            // The two reserved bytes beside the format say nothing yet.
            assert!(
                matches!(at, 10 | 11) || Index::decode(&broken, of(), SEGMENT).is_err(),
                "byte {at}"
            );
            assert!(Index::decode(&whole[..at], of(), SEGMENT).is_err());
            for value in [0, 1, 0x7f, 0xff] {
                broken[at] = value;
                let sum = checksum::of(&broken[UNSUMMED_BYTES..]);
                broken[AT_CHECKSUM..UNSUMMED_BYTES].copy_from_slice(&sum.to_le_bytes());
                if let Ok(it) = Index::decode(&broken, of(), SEGMENT) {
                    let _ = it.position_of(Offset(1_010));
                    let _ = it.position_at(9);
                    let _ = it.extents_over(0, 1_000);
                }
            }
        }
    }

    /// The layout is a promise to older data: change the format number before this test.
    #[test]
    fn the_layout_is_pinned() {
        let bytes = file(&batches(&[9]));
        let mut expect = b"CLindex\n\x02\0\0\0".to_vec();
        expect.extend(&bytes[12..16]);
        expect.extend([0x98, 0, 0, 0, 0, 0, 0, 0]);
        expect.extend([7; 16]);
        expect.extend(b"\x01\0\0\0\xe8\x03\0\0\0\0\0\0\x64\0\0\0\x01\0\0\0\x01\0\0\0");
        expect.extend(b"\0\0\0\0\0\0\0\0\x02\0\0\0\x09\0\0\0\0\0\0\0\x01\0\0\0");
        expect.extend(b"\x01\0\0\0\x01\0\0\0\0\0\0\0\xe8\x03\0\0\0\0\0\0\xed\x03\0\0\0\0\0\0\xee\x03\0\0\0\0\0\0");
        expect.extend(b"\x02\0\0\0\0\0\0\0\x32\0\0\0\x01\0\0\0\x32\0\0\0\x32\0\0\0\x02\0\0\0");
        assert_eq!(bytes, expect);
    }
}

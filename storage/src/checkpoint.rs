//! The lane checkpoint: what a lane knows of its partitions, written down now and then.
//!
//! A checkpoint file is a chain of sections. The first holds every partition; each later one only
//! those that changed since, and those that are gone. A partition's record is always whole and
//! replaces the one before. Sections are whole blocks, so that one can be appended with a single
//! durable write; a new file is started with a full section and swapped in by renaming.
//!
//! CKPT-1: a section tells the state after frame `as_of` and nothing of later ones, and is written
//! only when that frame is durable. CKPT-2: no journal frame after `from` is recycled before a
//! section that no longer needs it is durable. A torn last section is therefore harmless: the one
//! before it and the journal say the same.

use crate::{
    bytes::{Put, Reader, Short},
    chain::ChainHead,
    checksum,
    epochs::LeaderEpochs,
    frame::{BLOCK_BYTES, FramePlace, JournalId},
    producers::Producers,
};
use corelane_core::ids::{LaneId, Offset, TopicPartition};
use std::collections::BTreeMap;

/// The first bytes of every section.
pub const SECTION_MAGIC: [u8; 8] = *b"CLckpnt\n";
/// The only format of checkpoints that is read or written.
pub const CHECKPOINT_FORMAT: u16 = 1;
pub const SECTION_HEADER_BYTES: usize = 112;
/// The largest section; a length beyond it is not believed.
pub const SECTION_BYTES_MAX: usize = 1 << 30;

/// Bytes before the summed part: magic, format, kind, checksum.
const UNSUMMED_BYTES: usize = 16;
const AT_CHECKSUM: usize = 12;
const NAME_BYTES_MAX: usize = 249;
/// The least bytes a partition's record takes.
const PARTITION_BYTES_MIN: usize = 80;
const SEGMENT_BYTES: usize = 21;
const EXTENT_BYTES: usize = 12;

/// Where a lane's journal is to be read from, and up to where the checkpoint knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHead {
    pub lane: LaneId,
    /// Grows with every section, over all files.
    pub generation: u64,
    /// The frame before the first one that is still needed.
    pub from: ChainHead,
    /// Where the first frame that is still needed lies.
    pub from_place: FramePlace,
    /// The last frame whose effects are in the records.
    pub as_of: u64,
}

/// A segment of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    pub base: Offset,
    /// Bytes of the log that are durable in the file itself; what follows is in the journal.
    pub stored: u32,
    /// Bytes of the log that belong to this segment.
    pub length: u32,
    /// Complete, trimmed and flushed, its index too.
    pub sealed: bool,
    /// Checksums that no index holds yet.
    pub extents: Vec<ExtentSum>,
}

/// The checksum of a range of a segment, bound to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentSum {
    pub position: u32,
    pub bytes: u32,
    pub checksum: u32,
}

/// Everything a lane remembers of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecord {
    pub of: TopicPartition,
    pub topic: String,
    pub ownership: u64,
    pub log_start: Offset,
    pub end: Offset,
    pub high_watermark: Offset,
    /// Oldest first, never empty; the last one is being written.
    pub segments: Vec<SegmentRecord>,
    pub epochs: LeaderEpochs,
    pub producers: Producers,
}

/// Why bytes are not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Nothing was written here.
    Blank,
    Magic {
        found: [u8; 8],
    },
    /// Written by a newer version, or damaged.
    Format {
        found: u16,
    },
    Length {
        blocks: u32,
        used: u32,
        available: usize,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
    /// A file begins with a full section, and none follows in it.
    Kind {
        found: u16,
    },
    /// A section that does not follow the one before.
    Chain {
        expected: u32,
        found: u32,
    },
    /// The sum is right but a record makes no sense.
    Record {
        at: usize,
    },
}

/// What a checkpoint file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub head: CheckpointHead,
    pub partitions: BTreeMap<TopicPartition, PartitionRecord>,
    /// Where the next section goes, and what it names as the one before.
    pub bytes: usize,
    pub last_checksum: u32,
    /// Why the section after these, if there is one, does not count.
    pub stopped: Option<CheckpointError>,
}

/// Whether a section starts a file or continues it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Full,
    /// Follows the section with this checksum.
    Delta {
        previous: u32,
    },
}

/// A partition's record as it is written: what may be large is only looked at.
#[derive(Debug, Clone, Copy)]
pub struct PartitionView<'a> {
    pub of: TopicPartition,
    pub topic: &'a str,
    pub ownership: u64,
    pub log_start: Offset,
    pub end: Offset,
    pub high_watermark: Offset,
    pub epochs: &'a LeaderEpochs,
    pub producers: &'a Producers,
}

/// A segment's record as it is written.
#[derive(Debug, Clone, Copy)]
pub struct SegmentView<'a> {
    pub base: Offset,
    pub stored: u32,
    pub length: u32,
    pub sealed: bool,
    pub extents: &'a [ExtentSum],
}

/// A section that is being written to the end of a file.
#[must_use = "a section counts once it is ended"]
pub struct SectionWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    lengths_at: usize,
    count_at: usize,
    count: u32,
}

impl<'a> SectionWriter<'a> {
    /// Begins behind `out`, which is a whole number of blocks long before and after.
    pub fn begin(
        section: Section,
        head: &CheckpointHead,
        gone: &[TopicPartition],
        out: &'a mut Vec<u8>,
    ) -> Self {
        assert!(out.len().is_multiple_of(BLOCK_BYTES), "sections begin at blocks");
        let start = out.len();
        let (kind, previous) = match section {
            Section::Full => (0, 0),
            Section::Delta { previous } => (1, previous),
        };
        out.put(&SECTION_MAGIC);
        out.put_u16(CHECKPOINT_FORMAT);
        out.put_u16(kind);
        out.put_u32(0);
        out.put_u32(previous);
        let lengths_at = out.len();
        out.put_u64(0);
        out.put_u16(head.lane.0);
        out.put_u16(0);
        out.put_u64(head.generation);
        out.put(&head.from.journal.0);
        out.put_u64(head.from.incarnation);
        out.put_u64(head.from.sequence);
        out.put_u32(head.from.checksum);
        out.put_u32(0);
        out.put_u64(head.from_place.file);
        out.put_u64(head.from_place.position);
        out.put_u64(head.as_of);
        out.put_u64(0);
        debug_assert_eq!(out.len() - start, SECTION_HEADER_BYTES);
        out.put_count(gone.len());
        for it in gone {
            out.put_partition(*it);
        }
        let count_at = out.len();
        out.put_u32(0);
        Self { out, start, lengths_at, count_at, count: 0 }
    }

    /// Adds a partition with its segments, oldest first and never none.
    pub fn put<'s>(
        &mut self,
        it: &PartitionView<'_>,
        segments: impl ExactSizeIterator<Item = SegmentView<'s>>,
    ) {
        let out = &mut *self.out;
        assert!(it.topic.len() <= NAME_BYTES_MAX, "the rule for topic names bounds them");
        assert!(0 < segments.len(), "a partition has a segment");
        out.put_partition(it.of);
        out.put_u16(it.topic.len() as u16);
        out.put(it.topic.as_bytes());
        out.put_u64(it.ownership);
        out.put_i64(it.log_start.0);
        out.put_i64(it.end.0);
        out.put_i64(it.high_watermark.0);
        out.put_count(segments.len());
        for segment in segments {
            out.put_i64(segment.base.0);
            out.put_u32(segment.stored);
            out.put_u32(segment.length);
            out.put_u8(u8::from(segment.sealed));
            put_extents(out, segment.extents);
        }
        it.epochs.encode(out);
        it.producers.encode(out);
        self.count += 1;
    }

    /// Gives the section's checksum.
    pub fn end(self) -> u32 {
        let Self { out, start, lengths_at, count_at, count } = self;
        out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        let used = out.len() - start;
        assert!(used <= SECTION_BYTES_MAX, "a lane's partitions fit in one section");
        let bytes = used.next_multiple_of(BLOCK_BYTES);
        out.resize(start + bytes, 0);
        let mut lengths = Vec::with_capacity(8);
        lengths.put_count(bytes / BLOCK_BYTES);
        lengths.put_count(used);
        out[lengths_at..lengths_at + 8].copy_from_slice(&lengths);
        let checksum = checksum::of(&out[start + UNSUMMED_BYTES..start + used]);
        out[start + AT_CHECKSUM..start + UNSUMMED_BYTES].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }
}

/// Appends a whole section to `out`, see [`SectionWriter`]; returns its checksum.
pub fn encode_section<'a>(
    section: Section,
    head: &CheckpointHead,
    changed: impl Iterator<Item = &'a PartitionRecord>,
    gone: &[TopicPartition],
    out: &mut Vec<u8>,
) -> u32 {
    let mut writer = SectionWriter::begin(section, head, gone, out);
    for it in changed {
        let view = PartitionView {
            of: it.of,
            topic: &it.topic,
            ownership: it.ownership,
            log_start: it.log_start,
            end: it.end,
            high_watermark: it.high_watermark,
            epochs: &it.epochs,
            producers: &it.producers,
        };
        let segments = it.segments.iter().map(|it| SegmentView {
            base: it.base,
            stored: it.stored,
            length: it.length,
            sealed: it.sealed,
            extents: &it.extents,
        });
        writer.put(&view, segments);
    }
    writer.end()
}

impl Checkpoint {
    /// Reads a file: its first section, and those that follow while they are whole.
    ///
    /// # Errors
    /// When the first section is not whole; a later one only ends the file, see `stopped`.
    pub fn load(file: &[u8]) -> Result<Self, CheckpointError> {
        let mut it = Self {
            head: CheckpointHead {
                lane: LaneId(0),
                generation: 0,
                from: ChainHead {
                    journal: JournalId([0; 16]),
                    incarnation: 0,
                    sequence: 0,
                    checksum: 0,
                },
                from_place: FramePlace { file: 0, position: 0 },
                as_of: 0,
            },
            partitions: BTreeMap::new(),
            bytes: 0,
            last_checksum: 0,
            stopped: None,
        };
        it.section(file, true)?;
        while it.bytes < file.len() {
            match it.section(&file[it.bytes..], false) {
                Ok(()) => {}
                Err(CheckpointError::Blank) => break,
                Err(error) => {
                    it.stopped = Some(error);
                    break;
                }
            }
        }
        Ok(it)
    }

    /// Applies the section at the start of `bytes`; changes nothing when it is refused.
    fn section(&mut self, bytes: &[u8], first: bool) -> Result<(), CheckpointError> {
        let available = bytes.len();
        let short = |Short| CheckpointError::Length { blocks: 0, used: 0, available };
        let mut reader = Reader::new(bytes);
        let magic: [u8; 8] = reader.array().map_err(short)?;
        if magic == [0; 8] {
            return Err(CheckpointError::Blank);
        }
        if magic != SECTION_MAGIC {
            return Err(CheckpointError::Magic { found: magic });
        }
        let format = reader.u16().map_err(short)?;
        if format != CHECKPOINT_FORMAT {
            return Err(CheckpointError::Format { found: format });
        }
        let kind = reader.u16().map_err(short)?;
        let stored = reader.u32().map_err(short)?;
        let previous = reader.u32().map_err(short)?;
        let (blocks, used) = (reader.u32().map_err(short)?, reader.u32().map_err(short)?);
        let used_bytes = used as usize;
        let frame_bytes = blocks as usize * BLOCK_BYTES;
        let fits = (SECTION_HEADER_BYTES..=SECTION_BYTES_MAX).contains(&used_bytes)
            && used_bytes.next_multiple_of(BLOCK_BYTES) == frame_bytes
            && frame_bytes <= available;
        if !fits {
            return Err(CheckpointError::Length { blocks, used, available });
        }
        let computed = checksum::of(&bytes[UNSUMMED_BYTES..used_bytes]);
        if stored != computed {
            return Err(CheckpointError::Checksum { stored, computed });
        }
        if kind != u16::from(!first) {
            return Err(CheckpointError::Kind { found: kind });
        }
        if previous != self.last_checksum {
            return Err(CheckpointError::Chain { expected: self.last_checksum, found: previous });
        }
        let mut reader = Reader::new(&bytes[28..used_bytes]);
        let wrong =
            |rest: &Reader<'_>| CheckpointError::Record { at: used_bytes - rest.rest().len() };
        let read = read_section(&mut reader);
        let Ok((head, gone, changed)) = read else {
            return Err(wrong(&reader));
        };
        if !reader.rest().is_empty() {
            return Err(wrong(&reader));
        }
        self.head = head;
        for it in gone {
            self.partitions.remove(&it);
        }
        for it in changed {
            self.partitions.insert(it.of, it);
        }
        self.bytes += frame_bytes;
        self.last_checksum = stored;
        Ok(())
    }
}

type SectionBody = (CheckpointHead, Vec<TopicPartition>, Vec<PartitionRecord>);

fn read_section(reader: &mut Reader<'_>) -> Result<SectionBody, Short> {
    let lane = LaneId(reader.u16()?);
    let _reserved = reader.u16()?;
    let generation = reader.u64()?;
    let journal = JournalId(reader.array()?);
    let incarnation = reader.u64()?;
    let sequence = reader.u64()?;
    let from = ChainHead { journal, incarnation, sequence, checksum: reader.u32()? };
    let _reserved = reader.u32()?;
    let from_place = FramePlace { file: reader.u64()?, position: reader.u64()? };
    let as_of = reader.u64()?;
    let _reserved = reader.u64()?;
    let head = CheckpointHead { lane, generation, from, from_place, as_of };
    let gone = reader.count(20)?;
    let gone = (0..gone).map(|_| reader.partition()).collect::<Result<Vec<_>, _>>()?;
    let count = reader.count(PARTITION_BYTES_MIN)?;
    let changed = (0..count).map(|_| take_record(reader)).collect::<Result<Vec<_>, _>>()?;
    Ok((head, gone, changed))
}

fn take_record(reader: &mut Reader<'_>) -> Result<PartitionRecord, Short> {
    let of = reader.partition()?;
    let name_len = usize::from(reader.u16()?);
    if NAME_BYTES_MAX < name_len {
        return Err(Short);
    }
    let topic = std::str::from_utf8(reader.bytes(name_len)?).map_err(|_| Short)?.to_owned();
    let ownership = reader.u64()?;
    let (log_start, end, high_watermark) = (reader.offset()?, reader.offset()?, reader.offset()?);
    let count = reader.count(SEGMENT_BYTES)?;
    let mut segments: Vec<SegmentRecord> = Vec::with_capacity(count);
    for _ in 0..count {
        let base = reader.offset()?;
        let (stored, length) = (reader.u32()?, reader.u32()?);
        let sealed = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Short),
        };
        if length < stored || segments.last().is_some_and(|it| base <= it.base) {
            return Err(Short);
        }
        let extents = take_extents(reader)?;
        segments.push(SegmentRecord { base, stored, length, sealed, extents });
    }
    if segments.is_empty() || end < segments[segments.len() - 1].base || end < log_start {
        return Err(Short);
    }
    let epochs = LeaderEpochs::decode(reader)?;
    let producers = Producers::decode(reader, crate::producers::PRODUCERS_MAX)?;
    Ok(PartitionRecord {
        of,
        topic,
        ownership,
        log_start,
        end,
        high_watermark,
        segments,
        epochs,
        producers,
    })
}

pub(crate) fn put_extents(out: &mut Vec<u8>, list: &[ExtentSum]) {
    out.put_count(list.len());
    for it in list {
        out.put_u32(it.position);
        out.put_u32(it.bytes);
        out.put_u32(it.checksum);
    }
}

pub(crate) fn take_extents(reader: &mut Reader<'_>) -> Result<Vec<ExtentSum>, Short> {
    let count = reader.count(EXTENT_BYTES)?;
    let mut list: Vec<ExtentSum> = Vec::with_capacity(count);
    let mut end = 0;
    for _ in 0..count {
        let it =
            ExtentSum { position: reader.u32()?, bytes: reader.u32()?, checksum: reader.u32()? };
        if it.position < end || it.bytes == 0 {
            return Err(Short);
        }
        end = it.position.checked_add(it.bytes).ok_or(Short)?;
        list.push(it);
    }
    Ok(list)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::validate::ProducerStamp;
    use corelane_core::ids::{LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId, TopicId};

    pub(crate) fn record(partition: i32, end: i64) -> PartitionRecord {
        let of = TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(partition) };
        let mut epochs = LeaderEpochs::default();
        epochs.assign(LeaderEpoch(4), Offset(0)).unwrap();
        let mut producers = Producers::default();
        let stamp = ProducerStamp {
            id: ProducerId(1),
            epoch: ProducerEpoch(0),
            base_sequence: 0,
            last_sequence: 4,
            transactional: true,
        };
        producers.appended(&stamp, Offset(0), Offset(4), 1, 2);
        PartitionRecord {
            of,
            topic: "orders".into(),
            ownership: 1,
            log_start: Offset(0),
            end: Offset(end),
            high_watermark: Offset(end),
            segments: vec![SegmentRecord {
                base: Offset(0),
                stored: 4096,
                length: 5000,
                sealed: false,
                extents: vec![ExtentSum { position: 0, bytes: 4096, checksum: 5 }],
            }],
            epochs,
            producers,
        }
    }

    pub(crate) fn head(generation: u64, as_of: u64) -> CheckpointHead {
        let journal = JournalId(*b"journal of lane ");
        CheckpointHead {
            lane: LaneId(2),
            generation,
            from: ChainHead { journal, incarnation: 3, sequence: 10, checksum: 77 },
            from_place: FramePlace { file: 2, position: 8192 },
            as_of,
        }
    }

    #[test]
    fn later_sections_change_what_earlier_ones_said() {
        let mut file = Vec::new();
        let first = [record(0, 5), record(1, 5), record(2, 5)];
        let sum = encode_section(Section::Full, &head(1, 10), first.iter(), &[], &mut file);
        let full_bytes = file.len();
        let later = [record(1, 9)];
        let delta = Section::Delta { previous: sum };
        let sum = encode_section(delta, &head(2, 12), later.iter(), &[first[2].of], &mut file);
        let it = Checkpoint::load(&file).unwrap();
        assert_eq!((it.head, it.bytes, it.last_checksum), (head(2, 12), file.len(), sum));
        assert_eq!(
            it.partitions.values().cloned().collect::<Vec<_>>(),
            [record(0, 5), record(1, 9)]
        );
        assert_eq!(it.stopped, None);

        // Zeros after the last section are room for the next; a torn one does not count.
        file.resize(file.len() + BLOCK_BYTES, 0);
        assert_eq!(Checkpoint::load(&file).unwrap(), it);
        file[full_bytes + 50] ^= 1;
        let it = Checkpoint::load(&file).unwrap();
        assert_eq!((it.head, it.bytes, it.partitions.len()), (head(1, 10), full_bytes, 3));
        assert!(matches!(it.stopped, Some(CheckpointError::Checksum { .. })));
    }

    #[test]
    fn a_section_of_another_file_does_not_continue_this_one() {
        let mut file = Vec::new();
        let only = [record(0, 5)];
        encode_section(Section::Full, &head(1, 10), only.iter(), &[], &mut file);
        let foreign = Section::Delta { previous: 99 };
        encode_section(foreign, &head(2, 12), only.iter(), &[], &mut file);
        let it = Checkpoint::load(&file).unwrap();
        assert!(matches!(it.stopped, Some(CheckpointError::Chain { found: 99, .. })));
        assert_eq!(it.head, head(1, 10));
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let mut file = Vec::new();
        encode_section(Section::Full, &head(1, 10), [].iter(), &[], &mut file);
        file[8] = 2;
        assert_eq!(Checkpoint::load(&file), Err(CheckpointError::Format { found: 2 }));
        assert_eq!(
            Checkpoint::load(&[]).unwrap_err(),
            CheckpointError::Length { blocks: 0, used: 0, available: 0 }
        );
        assert_eq!(Checkpoint::load(&[0; 4096]), Err(CheckpointError::Blank));
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_damage_goes_unseen() {
        let mut file = Vec::new();
        encode_section(Section::Full, &head(1, 10), [record(0, 5)].iter(), &[], &mut file);
        let used = u32::from_le_bytes(file[24..28].try_into().unwrap()) as usize;
        for at in 0..used {
            let mut broken = file.clone();
            broken[at] ^= 1 << (at % 8);
            assert!(Checkpoint::load(&broken).is_err(), "byte {at}");
            // The same damage under a right checksum: refused or taken, never a panic.
            for value in [0, 1, 0x7f, 0xff] {
                broken[at] = value;
                let sum = checksum::of(&broken[UNSUMMED_BYTES..used]);
                broken[AT_CHECKSUM..UNSUMMED_BYTES].copy_from_slice(&sum.to_le_bytes());
                let _ = Checkpoint::load(&broken);
            }
        }
        for cut in 0..file.len() {
            assert!(Checkpoint::load(&file[..cut]).is_err());
        }
    }

    /// The layout is a promise to older data: change the format number before this test.
    #[test]
    fn the_layout_is_pinned() {
        let mut file = Vec::new();
        let sum =
            encode_section(Section::Full, &head(1, 10), [record(0, 5)].iter(), &[], &mut file);
        let mut expect = b"CLckpnt\n\x01\0\0\0".to_vec();
        expect.extend(sum.to_le_bytes());
        expect
            .extend(b"\0\0\0\0\x01\0\0\0\x3c\x01\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0journal of lane ");
        expect.extend(b"\x03\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x4d\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        expect.extend([0, 0x20, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(file[..expect.len()], expect);
        assert_eq!((expect.len(), sum), (SECTION_HEADER_BYTES, 0x234f_1663));
    }
}

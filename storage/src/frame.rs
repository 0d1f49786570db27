//! A journal frame: one commit of a lane, with the entries of many partitions.
//!
//! The layout is fixed and written down in `docs/formats.md`; integers are little-endian. A frame
//! is a whole number of blocks. Its checksum covers where it lies (file and position are fields),
//! so a frame found anywhere else is refused. Frames form a chain: each carries its sequence
//! number, which never restarts, and the checksum of the frame before it (see `chain`).
//!
//! The encoder writes into a buffer it is lent for each call and allocates nothing; bytes whose
//! checksum is known are not read again. The decoder borrows, and refuses with a reason.

use crate::{
    bytes::{Put, Reader, Short, Slots},
    checksum,
};
use corelane_core::buf::copy_past_cache;
use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};

/// Frames begin and end at multiples of this, and segments are written in units of it.
pub const BLOCK_BYTES: usize = 4096;
/// The first bytes of every frame.
pub const FRAME_MAGIC: [u8; 8] = *b"CLframe\n";
/// The only format of frames that is read or written.
pub const FRAME_FORMAT: u16 = 1;
pub const FRAME_HEADER_BYTES: usize = 96;
pub const ENTRY_HEADER_BYTES: usize = 72;
/// The largest frame; a length field beyond it is not believed.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// From this length on it is cheaper to combine a known checksum than to compute it again.
pub const COMBINE_BYTES_MIN: usize = 1024;

/// Bytes before the summed part of the header: magic, format, header length, checksum.
const UNSUMMED_BYTES: usize = 16;
const AT_CHECKSUM: usize = 12;
/// Extent entries begin their body with the extent's length and checksum.
const EXTENT_PREFIX_BYTES: usize = 8;
/// The longest topic name; longer ones never come here.
const NAME_BYTES_MAX: usize = 249;

/// Which journal: made with the lane's first file, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub [u8; 16]);

/// The place of a frame: the journal file's number and the position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FramePlace {
    pub file: u64,
    pub position: u64,
}

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub journal: JournalId,
    /// Raised durably before a run's first write.
    pub incarnation: u64,
    /// One more than the frame before, over all runs.
    pub sequence: u64,
    /// The checksum of the frame before.
    pub previous: u32,
    /// The highest sequence known durable when this frame was written.
    pub durable: u64,
    pub place: FramePlace,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Appended bytes.
    Data = 1,
    /// An append whose whole blocks went straight to the segment; its ragged ends are here.
    Extent = 2,
    /// The log now ends at the end offset.
    Truncate = 3,
    /// A new segment begins at the end offset; the old one has `position` bytes.
    Roll = 4,
    /// The log now starts at the base offset.
    LogStart = 5,
    /// The entry's leader epoch starts at the base offset.
    EpochStart = 6,
    /// The partition exists; the body is the topic's name.
    Create = 7,
    /// The partition does not exist any more.
    Delete = 8,
    /// Bytes that are in the log already, written again so that an older file can be retired.
    Carried = 9,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Data,
            2 => Self::Extent,
            3 => Self::Truncate,
            4 => Self::Roll,
            5 => Self::LogStart,
            6 => Self::EpochStart,
            7 => Self::Create,
            8 => Self::Delete,
            9 => Self::Carried,
            _ => return None,
        })
    }
}

/// The fields every entry has, whether its kind uses them or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead {
    pub of: TopicPartition,
    /// How often the partition changed its lane; entries of a lower number are void.
    pub ownership: u64,
    pub leader_epoch: LeaderEpoch,
    /// The first offset of what is appended, or the kind's offset.
    pub base: Offset,
    /// The end of the log after this entry.
    pub end: Offset,
    /// The segment, by its base offset.
    pub segment: Offset,
    /// The position in the segment where the entry's bytes begin.
    pub position: u32,
}

/// An entry to be written or as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub head: EntryHead,
    pub body: Body<'a>,
}

/// What an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    Data {
        bytes: &'a [u8],
    },
    Carried {
        bytes: &'a [u8],
    },
    /// `head` lies at the entry's position, the extent after it, `tail` after that.
    Extent {
        head: &'a [u8],
        extent_bytes: u32,
        /// Bound to its place, see [`checksum::place`].
        extent_checksum: u32,
        tail: &'a [u8],
    },
    Truncate,
    Roll,
    LogStart,
    EpochStart,
    Create {
        name: &'a str,
    },
    Delete,
}

impl Body<'_> {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Data { .. } => Kind::Data,
            Self::Carried { .. } => Kind::Carried,
            Self::Extent { .. } => Kind::Extent,
            Self::Truncate => Kind::Truncate,
            Self::Roll => Kind::Roll,
            Self::LogStart => Kind::LogStart,
            Self::EpochStart => Kind::EpochStart,
            Self::Create { .. } => Kind::Create,
            Self::Delete => Kind::Delete,
        }
    }

    /// Bytes of the segment from the entry's position on that it stands for.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        match self {
            Self::Data { bytes } | Self::Carried { bytes } => bytes.len() as u64,
            Self::Extent { head, extent_bytes, tail, .. } => {
                u64::from(*extent_bytes) + (head.len() + tail.len()) as u64
            }
            Self::Truncate
            | Self::Roll
            | Self::LogStart
            | Self::EpochStart
            | Self::Create { .. }
            | Self::Delete => 0,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Data { bytes } | Self::Carried { bytes } => bytes.len(),
            Self::Extent { head, tail, .. } => EXTENT_PREFIX_BYTES + head.len() + tail.len(),
            Self::Create { name } => name.len(),
            Self::Truncate | Self::Roll | Self::LogStart | Self::EpochStart | Self::Delete => 0,
        }
    }
}

impl Entry<'_> {
    /// Bytes it takes in a frame.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        ENTRY_HEADER_BYTES + self.body.len()
    }
}

/// Why bytes are not a frame, or not the one that belongs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Nothing was ever written here.
    Blank,
    /// Something else is written here.
    Magic { found: [u8; 8] },
    /// Written by a newer version, or the field is damaged; see [`Frame::unreadable`].
    Format { found: u16 },
    /// The lengths do not fit each other or the bytes at hand.
    Length { blocks: u32, used: u32, available: usize },
    /// A whole frame that belongs elsewhere.
    Place { expected: FramePlace, found: FramePlace },
    /// The bytes are not those that were summed.
    Checksum { stored: u32, computed: u32 },
    /// The sum is right but an entry makes no sense.
    Entry { at: usize },
}

/// The frame does not take this entry any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameFull {
    pub needed: usize,
    pub free: usize,
}

/// A frame that is ready to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a sealed frame that is never written breaks the chain"]
pub struct SealedFrame {
    /// Whole blocks from the buffer's start.
    pub bytes: usize,
    /// What the next frame carries as `previous`.
    pub checksum: u32,
}

/// Collects entries into a buffer. The buffer is lent to each call and stays the caller's.
#[derive(Debug, Clone)]
pub struct FrameEncoder {
    budget: usize,
    used: usize,
    entries: u32,
    entries_crc: u32,
    summed_bytes: u64,
}

impl FrameEncoder {
    /// `budget` bounds the frame, header and padding included.
    ///
    /// # Panics
    /// When the budget is no whole number of blocks.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        assert!(0 < budget && budget <= FRAME_BYTES_MAX && budget.is_multiple_of(BLOCK_BYTES));
        let entries_crc = checksum::of(&[]);
        Self { budget, used: FRAME_HEADER_BYTES, entries: 0, entries_crc, summed_bytes: 0 }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    #[must_use]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Bytes an entry may take, its header included.
    #[must_use]
    pub fn free(&self) -> usize {
        self.budget - self.used
    }

    /// Bytes the frame would take if sealed now.
    #[must_use]
    pub fn sealed_bytes(&self) -> usize {
        self.used.next_multiple_of(BLOCK_BYTES)
    }

    /// Bytes that went through the checksum so far; those with a known one did not.
    #[must_use]
    pub fn summed_bytes(&self) -> u64 {
        self.summed_bytes
    }

    /// Appends an entry. `known_crc` is the plain checksum of the bytes of a `Data` or `Carried`
    /// entry, if somebody computed it before.
    ///
    /// # Errors
    /// When the budget does not allow it; nothing is changed then.
    ///
    /// # Panics
    /// When the buffer is shorter than the budget, or an extent does not begin at a block.
    pub fn push(
        &mut self,
        buffer: &mut [u8],
        entry: &Entry<'_>,
        known_crc: Option<u32>,
    ) -> Result<(), FrameFull> {
        assert!(self.budget <= buffer.len(), "the buffer is what the budget says");
        let needed = entry.encoded_bytes();
        if self.free() < needed {
            return Err(FrameFull { needed, free: self.free() });
        }
        let start = self.used;
        let head_bytes = match entry.body {
            Body::Extent { head, extent_bytes, .. } => {
                let at = entry.head.position as usize + head.len();
                assert!(at.is_multiple_of(BLOCK_BYTES), "an extent begins at a block");
                assert!((extent_bytes as usize).is_multiple_of(BLOCK_BYTES));
                head.len()
            }
            _ => 0,
        };
        let mut out = Slots { bytes: buffer, at: start };
        let it = &entry.head;
        out.put_u8(entry.body.kind() as u8);
        out.put(&[0; 3]);
        out.put_count(entry.body.len());
        out.put_partition(it.of);
        out.put_i32(it.leader_epoch.0);
        out.put_u64(it.ownership);
        out.put_i64(it.base.0);
        out.put_i64(it.end.0);
        out.put_i64(it.segment.0);
        out.put_u32(it.position);
        out.put_count(head_bytes);
        debug_assert_eq!(out.at, start + ENTRY_HEADER_BYTES);
        let mut plain_from = start;
        let mut known = None;
        match entry.body {
            Body::Data { bytes } | Body::Carried { bytes } => {
                if COMBINE_BYTES_MIN <= bytes.len()
                    && let Some(crc) = known_crc
                {
                    known = Some((crc, bytes.len()));
                    // Nobody but the disk looks at them again.
                    copy_past_cache(&mut out.bytes[out.at..out.at + bytes.len()], bytes);
                    out.at += bytes.len();
                } else {
                    out.put(bytes);
                }
            }
            Body::Extent { head, extent_bytes, extent_checksum, tail } => {
                out.put_u32(extent_bytes);
                out.put_u32(extent_checksum);
                out.put(head);
                out.put(tail);
            }
            Body::Create { name } => {
                assert!(name.len() <= NAME_BYTES_MAX, "the rule for topic names bounds them");
                out.put(name.as_bytes());
            }
            Body::Truncate | Body::Roll | Body::LogStart | Body::EpochStart | Body::Delete => {}
        }
        let end = out.at;
        if let Some((crc, len)) = known {
            debug_assert_eq!(crc, checksum::of(&buffer[end - len..end]), "a wrong known sum");
            self.sum(&buffer[plain_from..end - len]);
            self.entries_crc = checksum::combine(self.entries_crc, crc, len);
            plain_from = end;
        }
        self.sum(&buffer[plain_from..end]);
        self.used = end;
        self.entries += 1;
        Ok(())
    }

    fn sum(&mut self, bytes: &[u8]) {
        self.entries_crc = checksum::append(self.entries_crc, bytes);
        self.summed_bytes += bytes.len() as u64;
    }

    /// Writes the header and pads the last block with zeros.
    pub fn seal(self, buffer: &mut [u8], header: &FrameHeader) -> SealedFrame {
        let bytes = self.sealed_bytes();
        buffer[self.used..bytes].fill(0);
        let mut out = Slots { bytes: buffer, at: 0 };
        out.put(&FRAME_MAGIC);
        out.put_u16(FRAME_FORMAT);
        out.put_u16(FRAME_HEADER_BYTES as u16);
        out.put_u32(0);
        out.put(&header.journal.0);
        out.put_u64(header.incarnation);
        out.put_u64(header.sequence);
        out.put_u32(header.previous);
        out.put_count(bytes / BLOCK_BYTES);
        out.put_u64(header.durable);
        out.put_count(self.used);
        out.put_u32(self.entries);
        out.put_u64(header.place.file);
        out.put_u64(header.place.position);
        out.put_u64(0);
        debug_assert_eq!(out.at, FRAME_HEADER_BYTES);
        let head = checksum::of(&buffer[UNSUMMED_BYTES..FRAME_HEADER_BYTES]);
        let checksum = checksum::combine(head, self.entries_crc, self.used - FRAME_HEADER_BYTES);
        buffer[AT_CHECKSUM..UNSUMMED_BYTES].copy_from_slice(&checksum.to_le_bytes());
        SealedFrame { bytes, checksum }
    }
}

/// A whole frame, verified.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub header: FrameHeader,
    pub checksum: u32,
    /// Bytes it occupies: where the next frame begins.
    pub bytes: usize,
    entries: &'a [u8],
}

impl<'a> Frame<'a> {
    /// How many bytes the frame at the start of `block` takes, if it looks like one: read so
    /// many, then decode. Nothing else is promised.
    ///
    /// # Errors
    /// When it does not even look like a frame.
    pub fn length(block: &[u8]) -> Result<usize, FrameError> {
        let preamble = Preamble::read(block)?;
        Ok(preamble.blocks as usize * BLOCK_BYTES)
    }

    /// Where the frame at the start of `block` says it lies, if it looks like one. Nothing is
    /// promised: it tells which file this may be, and decoding decides.
    #[must_use]
    pub fn claimed_place(block: &[u8]) -> Option<FramePlace> {
        Preamble::read(block).ok().map(|it| it.header.place)
    }

    /// Decodes the frame at the start of `bytes`, read from `place`. What follows is not looked at.
    ///
    /// # Errors
    /// With the reason why this is not the frame that belongs here.
    pub fn decode(bytes: &'a [u8], place: FramePlace) -> Result<Self, FrameError> {
        let Preamble { stored, blocks, used, count, header, .. } = Preamble::read(bytes)?;
        let length = FrameError::Length { blocks, used, available: bytes.len() };
        let frame_bytes = blocks as usize * BLOCK_BYTES;
        if bytes.len() < frame_bytes {
            return Err(length);
        }
        let computed = checksum::of(&bytes[UNSUMMED_BYTES..used as usize]);
        if stored != computed {
            return Err(FrameError::Checksum { stored, computed });
        }
        if header.place != place {
            return Err(FrameError::Place { expected: place, found: header.place });
        }
        let entries = &bytes[FRAME_HEADER_BYTES..used as usize];
        let mut reader = Reader::new(entries);
        for _ in 0..count {
            let at = used as usize - reader.rest().len();
            read_entry(&mut reader).map_err(|Short| FrameError::Entry { at })?;
        }
        if !reader.rest().is_empty() {
            return Err(FrameError::Entry { at: used as usize - reader.rest().len() });
        }
        Ok(Self { header, checksum: stored, bytes: frame_bytes, entries })
    }

    /// What the frame at the start of `bytes` says of itself when its checksum holds but it cannot be
    /// read: it is of another format, or its entries make no sense. Every format keeps the places of
    /// the fields of this one's header and what its checksum covers, so that a frame nobody has read
    /// yet is told from one that was torn.
    #[must_use]
    pub fn unreadable(bytes: &'a [u8]) -> Option<Unreadable> {
        let (format, it) = Preamble::read_any(bytes).ok()?;
        let whole = bytes.get(UNSUMMED_BYTES..it.used as usize)?;
        let holds = it.stored == checksum::of(whole);
        let reads = || Self::decode(bytes, it.header.place).is_ok();
        (holds && !reads()).then_some(Unreadable { format, header: it.header })
    }

    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries { reader: Reader::new(self.entries) }
    }
}

/// A frame that was written whole and is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    pub format: u16,
    pub header: FrameHeader,
}

/// The entries of a frame, in order.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.reader.rest().is_empty() {
            return None;
        }
        Some(read_entry(&mut self.reader).expect("checked when the frame was decoded"))
    }
}

/// The header with what only the decoder needs.
struct Preamble {
    stored: u32,
    header_bytes: u16,
    blocks: u32,
    used: u32,
    count: u32,
    header: FrameHeader,
}

impl Preamble {
    fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let (format, it) = Self::read_any(bytes)?;
        if format != FRAME_FORMAT || usize::from(it.header_bytes) != FRAME_HEADER_BYTES {
            return Err(FrameError::Format { found: format });
        }
        Ok(it)
    }

    /// Whatever format it says it has.
    fn read_any(bytes: &[u8]) -> Result<(u16, Self), FrameError> {
        let available = bytes.len();
        let short = |Short| FrameError::Length { blocks: 0, used: 0, available };
        let mut reader = Reader::new(bytes);
        let found: [u8; 8] = reader.array().map_err(short)?;
        if found == [0; 8] {
            return Err(FrameError::Blank);
        }
        if found != FRAME_MAGIC {
            return Err(FrameError::Magic { found });
        }
        let format = reader.u16().map_err(short)?;
        let header_bytes = reader.u16().map_err(short)?;
        let mut rest = || {
            let stored = reader.u32()?;
            let journal = JournalId(reader.array()?);
            let incarnation = reader.u64()?;
            let sequence = reader.u64()?;
            let previous = reader.u32()?;
            let blocks = reader.u32()?;
            let durable = reader.u64()?;
            let used = reader.u32()?;
            let count = reader.u32()?;
            let place = FramePlace { file: reader.u64()?, position: reader.u64()? };
            let _reserved = reader.u64()?;
            let header = FrameHeader { journal, incarnation, sequence, previous, durable, place };
            Ok(Self { stored, header_bytes, blocks, used, count, header })
        };
        let it = rest().map_err(short)?;
        let (blocks, used) = (it.blocks as usize, it.used as usize);
        let fits = FRAME_HEADER_BYTES <= used
            && blocks <= FRAME_BYTES_MAX / BLOCK_BYTES
            && used.div_ceil(BLOCK_BYTES) == blocks;
        if !fits {
            return Err(FrameError::Length { blocks: it.blocks, used: it.used, available });
        }
        Ok((format, it))
    }
}

fn read_entry<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, Short> {
    let [kind, 0, 0, 0] = reader.array()? else {
        return Err(Short);
    };
    let kind = Kind::from_number(kind).ok_or(Short)?;
    let body_bytes = reader.u32()? as usize;
    let of = reader.partition()?;
    let leader_epoch = reader.epoch()?;
    let ownership = reader.u64()?;
    let base = reader.offset()?;
    let end = reader.offset()?;
    let segment = reader.offset()?;
    let position = reader.u32()?;
    let head_bytes = reader.u32()? as usize;
    let bytes = reader.bytes(body_bytes)?;
    let body = match kind {
        Kind::Data => Body::Data { bytes },
        Kind::Carried => Body::Carried { bytes },
        Kind::Extent => {
            let mut reader = Reader::new(bytes);
            let extent_bytes = reader.u32()?;
            let extent_checksum = reader.u32()?;
            let head = reader.bytes(head_bytes)?;
            let tail = reader.rest();
            let at = u64::from(position) + head_bytes as u64;
            let whole = at.is_multiple_of(BLOCK_BYTES as u64)
                && (extent_bytes as usize).is_multiple_of(BLOCK_BYTES)
                && at + u64::from(extent_bytes) + tail.len() as u64 <= u64::from(u32::MAX);
            if !whole {
                return Err(Short);
            }
            Body::Extent { head, extent_bytes, extent_checksum, tail }
        }
        Kind::Create => {
            if NAME_BYTES_MAX < bytes.len() {
                return Err(Short);
            }
            Body::Create { name: std::str::from_utf8(bytes).map_err(|_| Short)? }
        }
        _ if !bytes.is_empty() => return Err(Short),
        Kind::Truncate => Body::Truncate,
        Kind::Roll => Body::Roll,
        Kind::LogStart => Body::LogStart,
        Kind::EpochStart => Body::EpochStart,
        Kind::Delete => Body::Delete,
    };
    if kind != Kind::Extent && head_bytes != 0 {
        return Err(Short);
    }
    if u64::from(position) + bytes.len() as u64 > u64::from(u32::MAX) {
        return Err(Short);
    }
    let head = EntryHead { of, ownership, leader_epoch, base, end, segment, position };
    Ok(Entry { head, body })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use corelane_core::ids::{PartitionIndex, TopicId};

    pub(crate) fn head(partition: i32, base: i64, end: i64, position: u32) -> EntryHead {
        EntryHead {
            of: TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(partition) },
            ownership: 1,
            leader_epoch: LeaderEpoch(4),
            base: Offset(base),
            end: Offset(end),
            segment: Offset::ZERO,
            position,
        }
    }

    pub(crate) fn header(sequence: u64, previous: u32) -> FrameHeader {
        FrameHeader {
            journal: JournalId(*b"journal of lane "),
            incarnation: 3,
            sequence,
            previous,
            durable: sequence - 1,
            place: FramePlace { file: 2, position: 8192 },
        }
    }

    fn all_kinds(bytes: &[u8]) -> Vec<Entry<'_>> {
        let extent = Body::Extent {
            head: &bytes[..96],
            extent_bytes: 8192,
            extent_checksum: 0x1234_5678,
            tail: &bytes[..3],
        };
        vec![
            Entry { head: head(0, 0, 0, 0), body: Body::Create { name: "orders" } },
            Entry { head: head(0, 0, 0, 0), body: Body::EpochStart },
            Entry { head: head(0, 0, 5, 0), body: Body::Data { bytes } },
            Entry { head: head(1, 0, 9, 4000), body: extent },
            Entry { head: head(0, 5, 5, 2000), body: Body::Roll },
            Entry { head: head(0, 0, 3, 1000), body: Body::Truncate },
            Entry { head: head(0, 2, 3, 0), body: Body::LogStart },
            Entry { head: head(1, 0, 9, 0), body: Body::Carried { bytes: &bytes[..10] } },
            Entry { head: head(0, 0, 0, 0), body: Body::Delete },
        ]
    }

    fn encode(entries: &[Entry<'_>], known: bool) -> (Vec<u8>, SealedFrame, u64) {
        let mut buffer = vec![0xaa; 16 << 10];
        let mut encoder = FrameEncoder::new(buffer.len());
        for it in entries {
            let crc = match it.body {
                Body::Data { bytes } | Body::Carried { bytes } if known => {
                    Some(checksum::of(bytes))
                }
                _ => None,
            };
            encoder.push(&mut buffer, it, crc).unwrap();
        }
        let summed = encoder.summed_bytes();
        let sealed = encoder.seal(&mut buffer, &header(9, 77));
        buffer.truncate(sealed.bytes);
        (buffer, sealed, summed)
    }

    #[test]
    fn entries_read_as_they_were_written() {
        let bytes: Vec<u8> = (0..2000_u32).map(|it| (it * 7) as u8).collect();
        let entries = all_kinds(&bytes);
        let (buffer, sealed, _) = encode(&entries, false);
        assert_eq!(Frame::length(&buffer[..BLOCK_BYTES]), Ok(buffer.len()));
        let frame = Frame::decode(&buffer, header(9, 77).place).unwrap();
        assert_eq!(frame.header, header(9, 77));
        assert_eq!((frame.bytes, frame.checksum), (sealed.bytes, sealed.checksum));
        assert_eq!(frame.entries().collect::<Vec<_>>(), entries);
    }

    #[test]
    fn known_checksums_are_combined_instead_of_computed() {
        let bytes: Vec<u8> = (0..2000_u32).map(|it| (it * 7) as u8).collect();
        let entries = all_kinds(&bytes);
        let (plain, _, plain_summed) = encode(&entries, false);
        let (combined, _, combined_summed) = encode(&entries, true);
        assert_eq!(plain, combined);
        assert_eq!(plain_summed - combined_summed, 2000);
    }

    #[test]
    fn a_full_frame_refuses_and_stays_as_it_was() {
        let mut buffer = vec![0; BLOCK_BYTES];
        let mut encoder = FrameEncoder::new(BLOCK_BYTES);
        let bytes = [1; 4096];
        let exact = BLOCK_BYTES - FRAME_HEADER_BYTES - ENTRY_HEADER_BYTES;
        let entry =
            |len| Entry { head: head(0, 0, 1, 0), body: Body::Data { bytes: &bytes[..len] } };
        let full = encoder.push(&mut buffer, &entry(exact + 1), None).unwrap_err();
        assert_eq!(full, FrameFull { needed: 4001, free: 4000 });
        assert!(encoder.is_empty());
        encoder.push(&mut buffer, &entry(exact), None).unwrap();
        assert_eq!((encoder.free(), encoder.sealed_bytes()), (0, BLOCK_BYTES));
        let sealed = encoder.seal(&mut buffer, &header(1, 0));
        assert_eq!(sealed.bytes, BLOCK_BYTES);
        assert_eq!(Frame::decode(&buffer, header(1, 0).place).unwrap().entries().count(), 1);
    }

    #[test]
    fn a_frame_belongs_to_one_place() {
        let (buffer, ..) = encode(&all_kinds(&[1; 2000]), false);
        let expected = FramePlace { file: 2, position: 4096 };
        let found = header(9, 77).place;
        let error = Frame::decode(&buffer, expected).unwrap_err();
        assert_eq!(error, FrameError::Place { expected, found });
        assert_eq!(Frame::length(&[0; BLOCK_BYTES]), Err(FrameError::Blank));
    }

    /// Any single damaged byte of what is used is found; padding may be anything.
    #[test]
    fn no_damage_goes_unseen() {
        let (whole, ..) = encode(&all_kinds(&[1; 2000]), false);
        let used = u32::from_le_bytes(whole[64..68].try_into().unwrap()) as usize;
        let place = header(9, 77).place;
        for at in 0..used {
            let mut broken = whole.clone();
            broken[at] ^= 1 << (at % 8);
            assert!(Frame::decode(&broken, place).is_err(), "byte {at}");
        }
        for cut in 0..whole.len() {
            assert!(Frame::decode(&whole[..cut], place).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_whole_frame_of_another_format_is_told_from_a_torn_one() {
        let (ours, ..) = encode(&all_kinds(&[1; 2000]), false);
        assert_eq!(Frame::unreadable(&ours), None);
        let mut newer = ours.clone();
        newer[8] = 7;
        let place = header(9, 77).place;
        assert_eq!(Frame::decode(&newer, place).unwrap_err(), FrameError::Format { found: 7 });
        let told = Unreadable { format: 7, header: header(9, 77) };
        assert_eq!(Frame::unreadable(&newer), Some(told));
        newer[200] ^= 1;
        assert_eq!(Frame::unreadable(&newer), None, "nothing is known of a torn one");
        assert_eq!(Frame::unreadable(&[0; BLOCK_BYTES]), None);
        let mut unknown = ours;
        unknown[FRAME_HEADER_BYTES] = 99;
        let used = u32::from_le_bytes(unknown[64..68].try_into().unwrap()) as usize;
        let sum = checksum::of(&unknown[UNSUMMED_BYTES..used]);
        unknown[AT_CHECKSUM..UNSUMMED_BYTES].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Frame::unreadable(&unknown).map(|it| it.format), Some(FRAME_FORMAT));
    }

    /// Entries that are nonsense under a right checksum are refused, never a panic.
    #[test]
    fn nonsense_under_a_right_checksum_is_refused() {
        let (whole, ..) = encode(&all_kinds(&[1; 2000]), false);
        let used = u32::from_le_bytes(whole[64..68].try_into().unwrap()) as usize;
        let mut refused = 0;
        for at in UNSUMMED_BYTES..used {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let sum = checksum::of(&broken[UNSUMMED_BYTES..used]);
                broken[AT_CHECKSUM..UNSUMMED_BYTES].copy_from_slice(&sum.to_le_bytes());
                match Frame::decode(&broken, header(9, 77).place) {
                    Ok(frame) => assert_eq!(frame.entries().count(), 9),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(300 < refused, "the walk went empty: {refused}");
    }

    /// The layout is a promise to older data: change the format number before this test.
    #[test]
    fn the_layout_is_pinned() {
        let entry = Entry { head: head(1, 2, 3, 4), body: Body::Data { bytes: b"abc" } };
        let (buffer, sealed, _) = encode(&[entry], false);
        let mut expect = b"CLframe\n\x01\0\x60\0".to_vec();
        expect.extend(sealed.checksum.to_le_bytes());
        expect.extend(b"journal of lane \x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x4d\0\0\0\x01\0\0\0");
        expect.extend(b"\x08\0\0\0\0\0\0\0\xab\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0");
        expect.extend([0, 0x20, 0, 0, 0, 0, 0, 0]);
        expect.extend([0; 8]);
        expect.extend(b"\x01\0\0\0\x03\0\0\0");
        expect.extend([7; 16]);
        expect
            .extend(b"\x01\0\0\0\x04\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        expect.extend(b"\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0abc");
        assert_eq!(buffer[..expect.len()], expect);
        assert!(buffer[expect.len()..].iter().all(|it| *it == 0));
        assert_eq!(sealed.checksum, 0x6a58_3025);
    }
}

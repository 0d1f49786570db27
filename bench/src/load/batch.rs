//! Record batches as the load needs them: written record by record into memory that is used again,
//! read back without a copy.
//!
//! Each value begins with a stamp: when the record was due, who sent it, to which partition, and
//! its number there. That is what latency end to end and the verification are made of.

use corelane_storage::compress::{Codec, Compressor, DecompressError, Decompressor, Level};
use std::fmt;

const HEADER_BYTES: usize = 61;
/// Bytes before those that the length counts.
const PREFIX_BYTES: usize = 12;
/// Where those begin that the checksum covers.
const SUMMED_FROM: usize = 21;
/// The most that a batch may unfold to.
const UNFOLDED_BYTES_MAX: usize = 256 << 20;

/// The beginning of every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) due: u64,
    pub(crate) producer: u32,
    pub(crate) partition: u32,
    pub(crate) number: u64,
}

impl Stamp {
    pub(crate) const BYTES: usize = 24;

    fn put(self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.due.to_le_bytes());
        out[8..12].copy_from_slice(&self.producer.to_le_bytes());
        out[12..16].copy_from_slice(&self.partition.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
    }

    fn of(value: &[u8]) -> Option<Self> {
        let (due, rest) = value.split_first_chunk()?;
        let (producer, rest) = rest.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        Some(Self {
            due: u64::from_le_bytes(*due),
            producer: u32::from_le_bytes(*producer),
            partition: u32::from_le_bytes(*partition),
            number: u64::from_le_bytes(*rest.first_chunk()?),
        })
    }
}

/// Who sends, for brokers that tell a repeated batch by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct Filling {
    /// The header's place and the records.
    pub(crate) bytes: Vec<u8>,
    /// When each record was due.
    pub(crate) due: Vec<u64>,
    /// The number of the first record in its partition.
    pub(crate) first: u64,
    /// Of keys and values.
    pub(crate) payload_bytes: u64,
}

impl Filling {
    /// Of `bytes` before the first record.
    pub(crate) const EMPTY_BYTES: usize = HEADER_BYTES;

    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], due: Vec::new(), first: 0, payload_bytes: 0 }
    }

    /// Empty again, with its memory.
    pub(crate) fn restart(&mut self, first: u64) {
        self.bytes.resize(HEADER_BYTES, 0);
        self.due.clear();
        self.first = first;
        self.payload_bytes = 0;
    }

    /// What a record of this size takes in a batch, at most.
    pub(crate) fn record_bytes_max(key: usize, value: usize) -> usize {
        // Length, attributes, two deltas, two lengths, headers.
        5 + 1 + 1 + 5 + 5 + key + 5 + value + 1
    }

    pub(crate) fn push(&mut self, stamp: Stamp, key: Option<&[u8]>, value: &[u8]) {
        let delta = self.due.len() as u64;
        let key_length = key.map_or(1, |it| zigzag(it.len()));
        let value_length = zigzag(value.len());
        let delta = delta << 1;
        let body = 1
            + 1
            + varint_bytes(delta)
            + varint_bytes(key_length)
            + key.map_or(0, <[u8]>::len)
            + varint_bytes(value_length)
            + value.len()
            + 1;
        let out = &mut self.bytes;
        put_varint(out, zigzag(body));
        out.extend_from_slice(&[0, 0]); // no attributes; the time of the batch
        put_varint(out, delta);
        put_varint(out, key_length);
        out.extend_from_slice(key.unwrap_or_default());
        put_varint(out, value_length);
        let at = out.len();
        out.extend_from_slice(value);
        stamp.put(&mut out[at..]);
        out.push(0); // no headers
        self.due.push(stamp.due);
        self.payload_bytes += (key.map_or(0, <[u8]>::len) + value.len()) as u64;
    }

    /// Writes the header, and compresses what is behind it.
    pub(crate) fn seal(
        &mut self,
        wall_ms: i64,
        name: Option<Name>,
        codec: Codec,
        compressor: &mut Compressor,
        scratch: &mut Vec<u8>,
    ) {
        if codec != Codec::None {
            scratch.clear();
            scratch.resize(HEADER_BYTES, 0);
            compressor.compress(codec, Level::Default, &self.bytes[HEADER_BYTES..], scratch);
            std::mem::swap(scratch, &mut self.bytes);
        }
        let count = i32::try_from(self.due.len()).expect("a batch counts in 31 bits");
        let name = name.unwrap_or(Name { id: -1, epoch: -1, sequence: -1 });
        let length = i32::try_from(self.bytes.len() - PREFIX_BYTES).expect("a batch is small");
        let out = &mut self.bytes[..];
        out[0..8].copy_from_slice(&0i64.to_be_bytes());
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        out[16] = 2;
        out[21..23].copy_from_slice(&codec.attribute_bits().to_be_bytes());
        out[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        out[27..35].copy_from_slice(&wall_ms.to_be_bytes());
        out[35..43].copy_from_slice(&wall_ms.to_be_bytes());
        out[43..51].copy_from_slice(&name.id.to_be_bytes());
        out[51..53].copy_from_slice(&name.epoch.to_be_bytes());
        out[53..57].copy_from_slice(&name.sequence.to_be_bytes());
        out[57..61].copy_from_slice(&count.to_be_bytes());
        let sum = crc_fast::crc32_iscsi(&out[SUMMED_FROM..]);
        out[17..21].copy_from_slice(&sum.to_be_bytes());
    }
}

fn zigzag(length: usize) -> u64 {
    (length as u64) << 1
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Why what was fetched is not what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchError {
    Length {
        at: i64,
        found: i32,
    },
    Format {
        at: i64,
        found: u8,
    },
    Checksum {
        at: i64,
        said: u32,
        found: u32,
    },
    Unfold {
        at: i64,
        why: DecompressError,
    },
    Codec {
        at: i64,
        found: i16,
    },
    Malformed {
        at: i64,
    },
    /// A value too short to be one of ours.
    Stampless {
        at: i64,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { at, found } => write!(f, "the batch at {at} says it has {found} bytes"),
            Self::Format { at, found } => write!(f, "the batch at {at} has format {found}, not 2"),
            Self::Checksum { at, said, found } => {
                write!(f, "the batch at {at} says {said:08x} and has {found:08x}")
            }
            Self::Unfold { at, why } => write!(f, "the batch at {at} does not unfold: {why:?}"),
            Self::Codec { at, found } => write!(f, "the batch at {at} has codec {found}"),
            Self::Malformed { at } => write!(f, "the records of the batch at {at} are malformed"),
            Self::Stampless { at } => write!(f, "the batch at {at} has a record that is not ours"),
        }
    }
}

/// How records are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Checksums too.
    All,
    Shape,
}

/// Walks whole batches; `each` is given every record's offset, stamp, and bytes of key and value.
/// Gives the offset after the last whole batch, if there was one.
pub(crate) fn walk(
    bytes: &[u8],
    check: Check,
    unfold: &mut Decompressor,
    mut each: impl FnMut(i64, Stamp, usize),
) -> Result<Option<i64>, BatchError> {
    let mut rest = bytes;
    let mut next = None;
    while let Some(head) = rest.first_chunk::<HEADER_BYTES>() {
        let at = i64::from_be_bytes(field(head, 0));
        let found = i32::from_be_bytes(field(head, 8));
        let whole = usize::try_from(found).ok().filter(|it| HEADER_BYTES - PREFIX_BYTES <= *it);
        let whole = whole.ok_or(BatchError::Length { at, found })? + PREFIX_BYTES;
        if head[16] != 2 {
            return Err(BatchError::Format { at, found: head[16] });
        }
        let Some(batch) = rest.get(..whole) else { break };
        rest = &rest[whole..];
        if check == Check::All {
            let (said, found) =
                (u32::from_be_bytes(field(head, 17)), crc_fast::crc32_iscsi(&batch[SUMMED_FROM..]));
            if said != found {
                return Err(BatchError::Checksum { at, said, found });
            }
        }
        let attributes = i16::from_be_bytes(field(head, 21));
        next = Some(at + i64::from(i32::from_be_bytes(field(head, 23))) + 1);
        const CONTROL: i16 = 1 << 5;
        if attributes & CONTROL != 0 {
            continue;
        }
        let codec = attributes & 7;
        let codec = u8::try_from(codec)
            .ok()
            .and_then(Codec::from_number)
            .ok_or(BatchError::Codec { at, found: codec })?;
        let mut records = &batch[HEADER_BYTES..];
        if codec != Codec::None {
            records = unfold
                .decompress(codec, records, UNFOLDED_BYTES_MAX)
                .map_err(|why| BatchError::Unfold { at, why })?;
        }
        let count = i32::from_be_bytes(field(head, 57));
        let mut cursor = Cursor(records);
        for _ in 0..count {
            let record = cursor.record().ok_or(BatchError::Malformed { at })?;
            let stamp = record.value.and_then(Stamp::of).ok_or(BatchError::Stampless { at })?;
            each(at + record.delta, stamp, record.payload_bytes);
        }
    }
    Ok(next)
}

fn field<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("inside of the header")
}

struct Cursor<'a>(&'a [u8]);

struct RecordView<'a> {
    delta: i64,
    value: Option<&'a [u8]>,
    payload_bytes: usize,
}

impl<'a> Cursor<'a> {
    /// Headers are passed over with the rest of the record: ours have none.
    fn record(&mut self) -> Option<RecordView<'a>> {
        let length = usize::try_from(self.varint()?).ok()?;
        let mut body = Cursor(self.take(length)?);
        body.take(1)?;
        body.varint()?;
        let delta = body.varint()?;
        let key = body.bytes()?.map_or(0, <[u8]>::len);
        let value = body.bytes()?;
        Some(RecordView { delta, value, payload_bytes: key + value.map_or(0, <[u8]>::len) })
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?)),
        }
    }

    fn varint(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64) -> Stamp {
        Stamp { due: number * 7, producer: 3, partition: 9, number }
    }

    fn sealed(codec: Codec) -> Vec<u8> {
        let mut batch = Filling::new();
        batch.restart(0);
        for number in 0..200 {
            let key = (number % 2 == 0).then_some(&b"a key"[..]);
            batch.push(stamp(number), key, &[5; 100]);
        }
        batch.seal(1_000, None, codec, &mut Compressor::new(), &mut Vec::new());
        batch.bytes
    }

    #[test]
    fn what_was_written_is_read_in_every_codec() {
        for codec in Codec::ALL {
            let bytes = sealed(codec);
            let mut seen = Vec::new();
            let next =
                walk(&bytes, Check::All, &mut Decompressor::new(), |offset, stamp, bytes| {
                    assert_eq!(offset as u64, stamp.number);
                    assert_eq!(bytes, if stamp.number % 2 == 0 { 105 } else { 100 });
                    seen.push(stamp);
                });
            assert_eq!(next, Ok(Some(200)), "{codec:?}");
            assert_eq!(seen, (0..200).map(stamp).collect::<Vec<_>>(), "{codec:?}");
        }
    }

    #[test]
    fn the_broker_accepts_the_same_bytes() {
        let bytes = sealed(Codec::None);
        let (batch, rest) = corelane_storage::batch::Batch::split(&bytes).expect("a batch");
        assert!(rest.is_empty());
        assert_eq!(batch.crc(), batch.computed_crc());
        assert_eq!(batch.last_offset_delta(), 199);
    }

    #[test]
    fn a_changed_byte_is_found_and_half_a_batch_waits() {
        let mut bytes = sealed(Codec::None);
        let none = walk(&bytes[..500], Check::All, &mut Decompressor::new(), |_, _, _| {});
        assert_eq!(none, Ok(None));
        bytes[300] ^= 1;
        let found = walk(&bytes, Check::All, &mut Decompressor::new(), |_, _, _| {});
        assert!(matches!(found, Err(BatchError::Checksum { at: 0, .. })), "{found:?}");
    }
}

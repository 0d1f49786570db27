//! Records into batches and out of them again. Written apart from the broker's own
//! code on purpose: what one of them gets wrong, the other finds.

use std::fmt;

use crate::codec::Codec;

/// Bytes of a batch before its records.
const HEADER_BYTES: usize = 61;
/// Bytes before those that the length counts.
const PREFIX_BYTES: usize = 12;
/// Where those begin that the checksum covers.
const SUMMED_FROM: usize = 21;

/// One record, to be sent or as received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record with a value and nothing else.
    #[must_use]
    pub fn of_value(timestamp_ms: i64, value: impl Into<Vec<u8>>) -> Self {
        Self { timestamp_ms, value: Some(value.into()), ..Self::default() }
    }
}

/// Who sends a batch, for brokers to tell a repeated one; `None` for whoever does not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub first: i32,
}

/// Builds the one batch that holds these records.
///
/// # Panics
/// Without records, or with more than a batch can count.
#[must_use]
pub fn batch(records: &[Record], sequence: Option<Sequence>, codec: Codec) -> Vec<u8> {
    let count = i32::try_from(records.len()).expect("a batch counts in 31 bits");
    assert!(0 < count, "a batch has records");
    let first_ms = records[0].timestamp_ms;
    let max_ms = records.iter().map(|it| it.timestamp_ms).max().expect("not empty");
    let sequence = sequence.unwrap_or(Sequence { producer_id: -1, producer_epoch: -1, first: -1 });
    let mut out = vec![0; PREFIX_BYTES];
    out.extend((-1i32).to_be_bytes()); // leader epoch: the broker's business
    out.push(2); // format
    out.extend([0; 4]); // checksum, below
    out.extend((codec as i16).to_be_bytes()); // attributes: nothing else
    out.extend((count - 1).to_be_bytes());
    out.extend(first_ms.to_be_bytes());
    out.extend(max_ms.to_be_bytes());
    out.extend(sequence.producer_id.to_be_bytes());
    out.extend(sequence.producer_epoch.to_be_bytes());
    out.extend(sequence.first.to_be_bytes());
    out.extend(count.to_be_bytes());
    let mut plain = Vec::new();
    for (record, delta) in records.iter().zip(0..) {
        put_record(&mut plain, record, record.timestamp_ms - first_ms, delta);
    }
    out.extend(codec.fold(&plain));
    let length = i32::try_from(out.len() - PREFIX_BYTES).expect("a batch fits into a frame");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let sum = crc_fast::crc32_iscsi(&out[SUMMED_FROM..]);
    out[17..21].copy_from_slice(&sum.to_be_bytes());
    out
}

fn put_record(out: &mut Vec<u8>, record: &Record, timestamp_delta: i64, offset_delta: i64) {
    let mut body = vec![0]; // attributes: none exist
    put_varint(&mut body, timestamp_delta);
    put_varint(&mut body, offset_delta);
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_bytes(&mut body, Some(name.as_bytes()));
        put_bytes(&mut body, value.as_deref());
    }
    put_varint(out, body.len() as i64);
    out.extend(body);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |it| it.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while 0x80 <= rest {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Why bytes that a broker sent are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordsError {
    Format {
        at: i64,
        found: u8,
    },
    Length {
        at: i64,
        found: i32,
    },
    Checksum {
        at: i64,
        said: u32,
        found: u32,
    },
    /// A codec nobody knows, or not what it writes.
    Compressed {
        at: i64,
        codec: i16,
    },
    Malformed {
        at: i64,
    },
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { at, found } => write!(f, "the batch at {at} has format {found}, not 2"),
            Self::Length { at, found } => write!(f, "the batch at {at} says it has {found} bytes"),
            Self::Checksum { at, said, found } => {
                write!(f, "the batch at {at} says {said:08x} and has {found:08x}")
            }
            Self::Compressed { at, codec } => {
                write!(f, "the batch at {at} does not unfold with codec {codec}")
            }
            Self::Malformed { at } => write!(f, "the records of the batch at {at} are malformed"),
        }
    }
}

impl std::error::Error for RecordsError {}

/// The records in what was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read {
    /// Each record with its offset; records before the offset asked for may lead.
    pub records: Vec<(i64, Record)>,
    /// The offset after the last whole batch, if there was one. Batches of markers count too.
    pub next: Option<i64>,
}

/// Reads whole batches; what follows the last whole one is left for the next fetch.
///
/// # Errors
/// With the first batch that is not one.
pub fn read(bytes: &[u8]) -> Result<Read, RecordsError> {
    let mut all = Read::default();
    let mut rest = bytes;
    while let Some(head) = rest.first_chunk::<HEADER_BYTES>() {
        let at = i64::from_be_bytes(*head.first_chunk().expect("long enough"));
        let length = i32::from_be_bytes(field(head, 8));
        let whole = usize::try_from(length).ok().filter(|it| HEADER_BYTES - PREFIX_BYTES <= *it);
        let whole = whole.ok_or(RecordsError::Length { at, found: length })? + PREFIX_BYTES;
        if head[16] != 2 {
            return Err(RecordsError::Format { at, found: head[16] });
        }
        let Some(batch) = rest.get(..whole) else { break };
        rest = &rest[whole..];
        let (said, found) =
            (u32::from_be_bytes(field(head, 17)), crc_fast::crc32_iscsi(&batch[SUMMED_FROM..]));
        if said != found {
            return Err(RecordsError::Checksum { at, said, found });
        }
        let attributes = i16::from_be_bytes(field(head, 21));
        all.next = Some(at + i64::from(i32::from_be_bytes(field(head, 23))) + 1);
        const CONTROL: i16 = 1 << 5;
        if attributes & CONTROL != 0 {
            continue;
        }
        let plain =
            Codec::of_attributes(attributes).and_then(|it| it.unfold(&batch[HEADER_BYTES..]));
        let wrong = RecordsError::Compressed { at, codec: attributes & 7 };
        let plain = plain.ok_or(wrong)?;
        const LOG_APPEND_TIME: i16 = 1 << 3;
        let appended_ms =
            (attributes & LOG_APPEND_TIME != 0).then(|| i64::from_be_bytes(field(head, 35)));
        let first_ms = i64::from_be_bytes(field(head, 27));
        let count = i32::from_be_bytes(field(head, 57));
        let mut cursor = Cursor(&plain);
        for _ in 0..count {
            let found = cursor.record(first_ms).ok_or(RecordsError::Malformed { at })?;
            let (delta, mut record) = found;
            record.timestamp_ms = appended_ms.unwrap_or(record.timestamp_ms);
            all.records.push((at + delta, record));
        }
        if !cursor.0.is_empty() {
            return Err(RecordsError::Malformed { at });
        }
    }
    Ok(all)
}

fn field<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("inside of the header")
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn record(&mut self, first_ms: i64) -> Option<(i64, Record)> {
        let length = usize::try_from(self.varint()?).ok()?;
        let mut body = Cursor(self.take(length)?);
        body.take(1)?;
        let timestamp_ms = first_ms.checked_add(body.varint()?)?;
        let offset_delta = body.varint()?;
        let key = body.bytes()?.map(<[u8]>::to_vec);
        let value = body.bytes()?.map(<[u8]>::to_vec);
        let count = usize::try_from(body.varint()?).ok()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = String::from_utf8(body.bytes()??.to_vec()).ok()?;
            headers.push((name, body.bytes()?.map(<[u8]>::to_vec)));
        }
        body.0.is_empty().then_some((offset_delta, Record { timestamp_ms, key, value, headers }))
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
            let byte = self.take(1)?[0];
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

    fn records() -> Vec<Record> {
        let full = Record {
            timestamp_ms: 40,
            key: Some(b"k".to_vec()),
            value: Some(vec![7; 300]),
            headers: vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)],
        };
        vec![Record::of_value(50, "first"), full, Record::default()]
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let sequence = Sequence { producer_id: 7, producer_epoch: 0, first: 3 };
        let codecs = Codec::ALL.into_iter().map(|it| (Some(sequence), it));
        for (sequence, codec) in codecs.chain([(None, Codec::None)]) {
            let bytes = batch(&records(), sequence, codec);
            let read = read(&bytes).expect("our own batch");
            let expected: Vec<_> = (0..).zip(records()).collect();
            assert_eq!(read, Read { records: expected, next: Some(3) });
        }
    }

    #[test]
    fn a_part_of_a_batch_is_left_for_later_and_a_wrong_one_is_named() {
        let one = batch(&records(), None, Codec::None);
        let two = [one.clone(), one.clone()].concat();
        for cut in 0..two.len() {
            let found = read(&two[..cut]).expect("whole batches");
            assert_eq!(found.records.len(), 3 * (cut / one.len()), "cut at {cut}");
        }
        for at in [8, 16, 21, 60, one.len() - 1] {
            let mut wrong = one.clone();
            wrong[at] ^= 0x84;
            let told = read(&wrong).expect_err("it is wrong").to_string();
            assert!(told.starts_with("the batch at 0 "), "{told}");
        }
    }
}

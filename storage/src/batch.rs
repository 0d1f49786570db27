//! A record batch: the header read and patched where it lies.
//!
//! [`Batch`] is a borrowed view of exactly one whole batch of format version 2; [`Batches`] walks
//! a buffer of them. Nothing is copied and no bytes make it panic: what is not a whole batch is
//! refused with the reason. The view knows nothing of the records inside (see `record`).
//!
//! Invariant of a view: at least [`HEADER_BYTES`] long, and exactly as long as its length field
//! says. Only the header is ever changed, by [`BatchMut`], and a change under the checksum brings
//! the checksum along without reading the records again.

use crate::checksum;
use corelane_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the length field does not count: the base offset and itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// Bytes the checksum does not cover; it covers everything after them.
pub const UNSUMMED_BYTES: usize = 21;
/// The only format version that is read or written.
pub const MAGIC: i8 = 2;

const AT_LENGTH: usize = 8;
const AT_LEADER_EPOCH: usize = 12;
const AT_MAGIC: usize = 16;
const AT_CRC: usize = 17;
const AT_ATTRIBUTES: usize = 21;
const AT_LAST_OFFSET_DELTA: usize = 23;
const AT_BASE_TIMESTAMP: usize = 27;
const AT_MAX_TIMESTAMP: usize = 35;
const AT_PRODUCER_ID: usize = 43;
const AT_PRODUCER_EPOCH: usize = 51;
const AT_BASE_SEQUENCE: usize = 53;
const AT_COUNT: usize = 57;

const _: () = assert!(AT_COUNT + 4 == HEADER_BYTES);

/// The bits of the attributes field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    pub const TRANSACTIONAL: i16 = 1 << 4;
    pub const CONTROL: i16 = 1 << 5;
    pub const DELETE_HORIZON: i16 = 1 << 6;

    /// The number of the codec; five to seven name none.
    #[must_use]
    pub fn codec_number(self) -> u8 {
        (self.0 & Self::CODEC) as u8
    }

    #[must_use]
    pub fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }
}

/// Why some bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    Incomplete { needed: usize, found: usize },
    /// The length field says less than a header takes.
    Length { found: i32 },
    /// An older or newer format.
    Magic { found: i8 },
}

/// One whole batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the first batch of a buffer; gives back what follows it.
    ///
    /// # Errors
    /// When the buffer does not start with a whole batch of version 2.
    pub fn split(buffer: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let len = whole_len(buffer)?;
        let (bytes, rest) = buffer.split_at(len);
        Ok((Self { bytes }, rest))
    }

    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(self.field(0)))
    }

    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(self.field(AT_LEADER_EPOCH)))
    }

    /// The checksum the header carries.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(AT_CRC))
    }

    /// The checksum the bytes have.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        checksum::of(&self.bytes[UNSUMMED_BYTES..])
    }

    /// The checksum of all bytes of the batch, the header's first ones too, derived from the
    /// header's checksum. Right only where that checksum was verified.
    #[must_use]
    pub fn whole_crc(&self) -> u32 {
        let (head, summed) = self.bytes.split_at(UNSUMMED_BYTES);
        checksum::combine(checksum::of(head), self.crc(), summed.len())
    }

    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes(i16::from_be_bytes(self.field(AT_ATTRIBUTES)))
    }

    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes().has(Attributes::CONTROL)
    }

    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes().has(Attributes::TRANSACTIONAL)
    }

    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(AT_LAST_OFFSET_DELTA))
    }

    /// The offset of the last record; wraps on bytes that were never validated.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().0.wrapping_add(i64::from(self.last_offset_delta())))
    }

    /// The offset after the last record; wraps on bytes that were never validated.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// The timestamp the records' deltas count from; with the delete-horizon bit, that horizon.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(AT_BASE_TIMESTAMP))
    }

    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(AT_MAX_TIMESTAMP))
    }

    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(self.field(AT_PRODUCER_ID)))
    }

    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(self.field(AT_PRODUCER_EPOCH)))
    }

    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(AT_BASE_SEQUENCE))
    }

    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.field(AT_COUNT))
    }

    /// The records, compressed if the attributes say so.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        field(self.bytes, at)
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("base_offset", &self.base_offset().0)
            .field("bytes", &self.bytes.len())
            .field("leader_epoch", &self.leader_epoch().0)
            .field("attributes", &self.attributes().0)
            .field("records", &self.record_count())
            .finish_non_exhaustive()
    }
}

/// One whole batch whose header may be patched.
#[derive(Debug)]
pub struct BatchMut<'a> {
    bytes: &'a mut [u8],
}

impl<'a> BatchMut<'a> {
    /// The first batch of a buffer.
    ///
    /// # Errors
    /// When the buffer does not start with a whole batch of version 2.
    pub fn first(buffer: &'a mut [u8]) -> Result<Self, BatchError> {
        let len = whole_len(buffer)?;
        Ok(Self { bytes: &mut buffer[..len] })
    }

    #[must_use]
    pub fn view(&self) -> Batch<'_> {
        Batch { bytes: self.bytes }
    }

    /// Gives the batch its place in the log. Outside the checksum.
    pub fn assign(&mut self, base: Offset, epoch: LeaderEpoch) {
        self.bytes[..AT_LENGTH].copy_from_slice(&base.0.to_be_bytes());
        self.bytes[AT_LEADER_EPOCH..AT_MAGIC].copy_from_slice(&epoch.0.to_be_bytes());
    }

    /// Sets the latest timestamp and whose clock it is.
    ///
    /// The header's checksum must be right before; it is right after. The records are not read.
    pub fn set_timestamps(&mut self, max_timestamp: i64, log_append_time: bool) {
        let before = self.view();
        let attributes = before.attributes().0 & !Attributes::LOG_APPEND_TIME
            | if log_append_time { Attributes::LOG_APPEND_TIME } else { 0 };
        if attributes == before.attributes().0 && max_timestamp == before.max_timestamp() {
            return;
        }
        let records_len = self.bytes.len() - HEADER_BYTES;
        let head = checksum::of(&self.bytes[UNSUMMED_BYTES..HEADER_BYTES]);
        let records_crc = checksum::without_head(head, before.crc(), records_len);
        self.bytes[AT_ATTRIBUTES..AT_LAST_OFFSET_DELTA].copy_from_slice(&attributes.to_be_bytes());
        self.bytes[AT_MAX_TIMESTAMP..AT_PRODUCER_ID].copy_from_slice(&max_timestamp.to_be_bytes());
        let head = checksum::of(&self.bytes[UNSUMMED_BYTES..HEADER_BYTES]);
        let crc = checksum::combine(head, records_crc, records_len);
        self.bytes[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The batches of a buffer, in order. Ends after the first that is not whole.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    #[must_use]
    pub fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer }
    }

    /// What was not walked yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Batch::split(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Everything a header says, for writing one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderFields {
    pub(crate) base_offset: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

/// Writes the header over the first bytes of `batch`, whose payload is already in place.
pub(crate) fn write_header(batch: &mut [u8], fields: &HeaderFields) {
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).expect("a batch beyond 2 GiB");
    let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &fields.base_offset.0.to_be_bytes());
    put(AT_LENGTH, &length.to_be_bytes());
    put(AT_LEADER_EPOCH, &fields.leader_epoch.0.to_be_bytes());
    put(AT_MAGIC, &MAGIC.to_be_bytes());
    put(AT_ATTRIBUTES, &fields.attributes.to_be_bytes());
    put(AT_LAST_OFFSET_DELTA, &fields.last_offset_delta.to_be_bytes());
    put(AT_BASE_TIMESTAMP, &fields.base_timestamp.to_be_bytes());
    put(AT_MAX_TIMESTAMP, &fields.max_timestamp.to_be_bytes());
    put(AT_PRODUCER_ID, &fields.producer_id.0.to_be_bytes());
    put(AT_PRODUCER_EPOCH, &fields.producer_epoch.0.to_be_bytes());
    put(AT_BASE_SEQUENCE, &fields.base_sequence.to_be_bytes());
    put(AT_COUNT, &fields.record_count.to_be_bytes());
    let crc = checksum::of(&batch[UNSUMMED_BYTES..]);
    batch[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

/// The length of the batch a buffer starts with.
fn whole_len(buffer: &[u8]) -> Result<usize, BatchError> {
    let found = buffer.len();
    if found <= AT_MAGIC {
        return Err(BatchError::Incomplete { needed: HEADER_BYTES, found });
    }
    let magic = i8::from_be_bytes(field(buffer, AT_MAGIC));
    if magic != MAGIC {
        return Err(BatchError::Magic { found: magic });
    }
    let length = i32::from_be_bytes(field(buffer, AT_LENGTH));
    let needed = match usize::try_from(length) {
        Ok(length) if HEADER_BYTES - LENGTH_PREFIX_BYTES <= length => length + LENGTH_PREFIX_BYTES,
        _ => return Err(BatchError::Length { found: length }),
    };
    if found < needed {
        return Err(BatchError::Incomplete { needed, found });
    }
    Ok(needed)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::BatchBuilder;

    fn batch(records: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for at in 0..records {
            builder.record(1_000 + at, Some(b"key"), Some(b"value"));
        }
        builder.build()
    }

    #[test]
    fn a_buffer_is_walked_batch_by_batch() {
        let mut buffer = batch(1);
        let first_len = buffer.len();
        buffer.extend(batch(3));
        let mut counts = Vec::new();
        for it in Batches::new(&buffer) {
            let it = it.unwrap();
            assert_eq!(it.crc(), it.computed_crc());
            assert_eq!(it.whole_crc(), checksum::of(it.bytes()));
            counts.push(it.record_count());
        }
        assert_eq!(counts, [1, 3]);

        // A cut anywhere in the second leaves the first whole and says what is missing.
        for cut in first_len + 1..buffer.len() {
            let found: Vec<_> = Batches::new(&buffer[..cut]).collect();
            assert_eq!(found.len(), 2);
            assert!(found[0].is_ok());
            assert!(matches!(found[1], Err(BatchError::Incomplete { .. })), "{:?}", found[1]);
        }
    }

    #[test]
    fn a_place_is_outside_the_checksum() {
        let mut buffer = batch(2);
        let crc = Batch::split(&buffer).unwrap().0.crc();
        BatchMut::first(&mut buffer).unwrap().assign(Offset(77), LeaderEpoch(5));
        let (it, rest) = Batch::split(&buffer).unwrap();
        assert_eq!((it.base_offset(), it.leader_epoch()), (Offset(77), LeaderEpoch(5)));
        assert_eq!((it.last_offset(), it.next_offset()), (Offset(78), Offset(79)));
        assert_eq!((it.crc(), it.computed_crc()), (crc, crc));
        assert!(rest.is_empty());
    }

    #[test]
    fn new_timestamps_bring_their_checksum_without_reading_the_records() {
        let mut buffer = batch(2);
        for (max, log_append_time) in [(5, true), (1_001, false), (-1, false), (i64::MAX, true)] {
            let mut it = BatchMut::first(&mut buffer).unwrap();
            it.set_timestamps(max, log_append_time);
            let it = it.view();
            assert_eq!(it.max_timestamp(), max);
            assert_eq!(it.attributes().has(Attributes::LOG_APPEND_TIME), log_append_time);
            assert_eq!(it.crc(), it.computed_crc());
        }
    }

    #[test]
    fn what_is_not_a_batch_is_refused_with_the_reason() {
        let whole = batch(1);
        let with = |at: usize, bytes: &[u8]| {
            let mut it = whole.clone();
            it[at..at + bytes.len()].copy_from_slice(bytes);
            Batch::split(&it).unwrap_err()
        };
        assert_eq!(with(AT_MAGIC, &[1]), BatchError::Magic { found: 1 });
        assert_eq!(with(AT_LENGTH, &48_i32.to_be_bytes()), BatchError::Length { found: 48 });
        assert_eq!(with(AT_LENGTH, &(-1_i32).to_be_bytes()), BatchError::Length { found: -1 });
        let far = i32::MAX.to_be_bytes();
        let needed = i32::MAX as usize + LENGTH_PREFIX_BYTES;
        assert_eq!(with(AT_LENGTH, &far), BatchError::Incomplete { needed, found: whole.len() });
    }
}

//! Little-endian fields of our own formats, read from slices and written into vectors.
//!
//! A reader never looks past its slice: what is missing is [`Short`]. Counts from outside are
//! checked against what remains before anything is allocated for them.

use corelane_core::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

/// The bytes ended inside a field, or promise more than they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

/// Takes fields from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Short)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Short> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Short> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn offset(&mut self) -> Result<Offset, Short> {
        self.i64().map(Offset)
    }

    pub(crate) fn epoch(&mut self) -> Result<LeaderEpoch, Short> {
        self.i32().map(LeaderEpoch)
    }

    pub(crate) fn partition(&mut self) -> Result<TopicPartition, Short> {
        let topic = TopicId(self.array()?);
        let partition = PartitionIndex(self.i32()?);
        Ok(TopicPartition { topic, partition })
    }

    /// A count of things that take at least `each` bytes.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Short> {
        let count = self.u32()? as usize;
        if self.rest.len() / each < count { Err(Short) } else { Ok(count) }
    }
}

/// Appends fields.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_i16(&mut self, value: i16) {
        self.put(&value.to_le_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.put(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }

    fn put_partition(&mut self, value: TopicPartition) {
        self.put(&value.topic.0);
        self.put_i32(value.partition.0);
    }

    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).expect("a count beyond 2^32"));
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends into a fixed slice that is large enough.
pub(crate) struct Slots<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) at: usize,
}

impl Put for Slots<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

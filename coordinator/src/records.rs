//! The records of `__consumer_offsets`, byte for byte as Kafka writes them, because lag tools read the topic.
//!
//! A key is a 16-bit kind and its fields; a value is a 16-bit version and its fields; no value is a tombstone.
//! Offsets (kinds 0 and 1, values 0 to 4) and classic groups (kind 2, values 0 to 4) are read; offsets are written
//! with value 3, or 1 when they carry their own expiry, groups with value 3. Value 4 of both is the flexible form:
//! compact lengths and tagged fields. Other kinds belong to other groups or to newer brokers and are skipped.
//!
//! Reading never panics and never allocates more than the bytes at hand could fill. What is written can be read
//! back to the same value; names longer than the format's 16 bits are refused long before they come here.

use std::fmt;

const KIND_OFFSET_OLD: i16 = 0;
const KIND_OFFSET: i16 = 1;
const KIND_GROUP: i16 = 2;

const OFFSET_VERSION_EXPIRING: i16 = 1;
const OFFSET_VERSION: i16 = 3;
const OFFSET_VERSION_MAX: i16 = 4;
const GROUP_VERSION: i16 = 3;
const GROUP_VERSION_MAX: i16 = 4;
const FLEXIBLE_FROM: i16 = 4;

/// The bytes of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Vec<u8>,
    /// Absent for a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Record {
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// What one record says. The last word per key is the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Absent value: the offset is forgotten.
    Offset { group: String, topic: String, partition: i32, value: Option<OffsetValue> },
    /// Absent value: the group is gone.
    Group { group: String, value: Option<GroupValue> },
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    /// -1 when not known.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_unix_ms: i64,
    /// Set by old clients that name their own retention.
    pub expire_unix_ms: Option<i64>,
}

/// A classic group between two rebalances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// Empty when the group has no type.
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// Since when the group is in its state; old records do not know it.
    pub state_unix_ms: Option<i64>,
    pub members: Vec<MemberValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// The session time-out in records that do not have it.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Vec<u8>,
    pub assignment: Vec<u8>,
}

/// Why bytes could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// A field reaches beyond the end of the bytes.
    Short { wanted: usize, left: usize },
    /// A length or count that no writer produces.
    Length { found: i64 },
    /// Text that is not UTF-8.
    Text,
    /// A version of a value this broker does not know.
    Version { kind: i16, found: i16 },
    /// A required field is null.
    Null,
    /// The fields were read but contradict each other.
    Inconsistent(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { wanted, left } => {
                write!(f, "a field of {wanted} bytes where {left} are left")
            }
            Self::Length { found } => write!(f, "a length of {found}"),
            Self::Text => f.write_str("text that is not UTF-8"),
            Self::Version { kind, found } => {
                write!(f, "value version {found} of kind {kind} is not known")
            }
            Self::Null => f.write_str("a required field is null"),
            Self::Inconsistent(what) => write!(f, "inconsistent group: {what}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// What bytes turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Change(Change),
    /// A kind this room does not keep.
    Foreign {
        kind: i16,
    },
}

/// Reads one record.
///
/// # Errors
/// The bytes are not what any Kafka writes for their kind.
pub fn read(key: &[u8], value: Option<&[u8]>) -> Result<Read, RecordError> {
    let mut key = Bytes::new(key, false);
    match key.i16()? {
        KIND_OFFSET_OLD | KIND_OFFSET => {
            let (group, topic, partition) = (key.text()?, key.text()?, key.i32()?);
            let value = value.map(read_offset).transpose()?;
            Ok(Read::Change(Change::Offset { group, topic, partition, value }))
        }
        KIND_GROUP => {
            let group = key.text()?;
            let value = value.map(read_group).transpose()?;
            Ok(Read::Change(Change::Group { group, value }))
        }
        kind => Ok(Read::Foreign { kind }),
    }
}

fn read_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
    let version = Bytes::new(bytes, false).i16()?;
    if !(0..=OFFSET_VERSION_MAX).contains(&version) {
        return Err(RecordError::Version { kind: KIND_OFFSET, found: version });
    }
    let mut bytes = Bytes::new(&bytes[2..], FLEXIBLE_FROM <= version);
    let offset = bytes.i64()?;
    let leader_epoch = if 3 <= version { bytes.i32()? } else { -1 };
    let metadata = bytes.text()?;
    let commit_unix_ms = bytes.i64()?;
    let expire = if version == 1 { bytes.i64()? } else { -1 };
    bytes.skip_tags()?;
    let expire_unix_ms = (expire != -1).then_some(expire);
    Ok(OffsetValue { offset, leader_epoch, metadata, commit_unix_ms, expire_unix_ms })
}

fn read_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let version = Bytes::new(bytes, false).i16()?;
    if !(0..=GROUP_VERSION_MAX).contains(&version) {
        return Err(RecordError::Version { kind: KIND_GROUP, found: version });
    }
    let mut bytes = Bytes::new(&bytes[2..], FLEXIBLE_FROM <= version);
    let protocol_type = bytes.text()?;
    let generation = bytes.i32()?;
    let protocol = bytes.text_or_null()?;
    let leader = bytes.text_or_null()?;
    let since = if 2 <= version { bytes.i64()? } else { -1 };
    let count = bytes.count()?;
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(read_member(&mut bytes, version)?);
    }
    bytes.skip_tags()?;
    let state_unix_ms = (since != -1).then_some(since);
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_unix_ms, members })
}

fn read_member(bytes: &mut Bytes<'_>, version: i16) -> Result<MemberValue, RecordError> {
    let member = bytes.text()?;
    let instance = if 3 <= version { bytes.text_or_null()? } else { None };
    let client_id = bytes.text()?;
    let client_host = bytes.text()?;
    let rebalance = if 1 <= version { bytes.i32()? } else { -1 };
    let session_timeout_ms = bytes.i32()?;
    let subscription = bytes.blob()?;
    let assignment = bytes.blob()?;
    bytes.skip_tags()?;
    let rebalance_timeout_ms = if rebalance == -1 { session_timeout_ms } else { rebalance };
    Ok(MemberValue {
        member,
        instance,
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    })
}

/// Writes one record.
///
/// # Panics
/// A name is longer than the format can say; the rules refuse such names when they come in.
pub fn write(change: &Change) -> Record {
    let mut key = Vec::new();
    match change {
        Change::Offset { group, topic, partition, value } => {
            put_i16(&mut key, KIND_OFFSET);
            put_text(&mut key, group);
            put_text(&mut key, topic);
            put_i32(&mut key, *partition);
            Record { key, value: value.as_ref().map(write_offset) }
        }
        Change::Group { group, value } => {
            put_i16(&mut key, KIND_GROUP);
            put_text(&mut key, group);
            Record { key, value: value.as_ref().map(write_group) }
        }
    }
}

fn write_offset(value: &OffsetValue) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + 8 + 4 + 2 + value.metadata.len() + 8);
    // Only version 1 has a place for an expiry, and none for the leader epoch.
    let version =
        if value.expire_unix_ms.is_some() { OFFSET_VERSION_EXPIRING } else { OFFSET_VERSION };
    put_i16(&mut out, version);
    put_i64(&mut out, value.offset);
    if version == OFFSET_VERSION {
        put_i32(&mut out, value.leader_epoch);
    }
    put_text(&mut out, &value.metadata);
    put_i64(&mut out, value.commit_unix_ms);
    if let Some(expire) = value.expire_unix_ms {
        put_i64(&mut out, expire);
    }
    out
}

fn write_group(value: &GroupValue) -> Vec<u8> {
    let mut out = Vec::new();
    put_i16(&mut out, GROUP_VERSION);
    put_text(&mut out, &value.protocol_type);
    put_i32(&mut out, value.generation);
    put_text_or_null(&mut out, value.protocol.as_deref());
    put_text_or_null(&mut out, value.leader.as_deref());
    put_i64(&mut out, value.state_unix_ms.unwrap_or(-1));
    put_i32(&mut out, length(value.members.len()));
    for member in &value.members {
        put_text(&mut out, &member.member);
        put_text_or_null(&mut out, member.instance.as_deref());
        put_text(&mut out, &member.client_id);
        put_text(&mut out, &member.client_host);
        put_i32(&mut out, member.rebalance_timeout_ms);
        put_i32(&mut out, member.session_timeout_ms);
        put_blob(&mut out, &member.subscription);
        put_blob(&mut out, &member.assignment);
    }
    out
}

fn put_i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("names are bounded when they come in");
    put_i16(out, length);
    out.extend_from_slice(text.as_bytes());
}

fn put_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => put_i16(out, -1),
    }
}

fn put_blob(out: &mut Vec<u8>, blob: &[u8]) {
    put_i32(out, length(blob.len()));
    out.extend_from_slice(blob);
}

fn length(count: usize) -> i32 {
    i32::try_from(count).expect("lists are bounded when they come in")
}

/// A place in foreign bytes. Every step is checked against what is left.
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { rest: bytes, flexible }
    }

    fn take(&mut self, wanted: usize) -> Result<&'a [u8], RecordError> {
        if self.rest.len() < wanted {
            return Err(RecordError::Short { wanted, left: self.rest.len() });
        }
        let (taken, rest) = self.rest.split_at(wanted);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("took as many bytes"))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// An unsigned number of up to 32 bits in groups of seven, lowest first.
    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Length { found: i64::MAX });
            }
        }
        Err(RecordError::Length { found: i64::MAX })
    }

    fn text_length(&mut self) -> Result<Option<usize>, RecordError> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1).map(|length| length as usize));
        }
        match self.i16()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(RecordError::Length { found: i64::from(length) }),
            },
        }
    }

    fn text_or_null(&mut self) -> Result<Option<String>, RecordError> {
        let Some(length) = self.text_length()? else { return Ok(None) };
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Text)?;
        Ok(Some(text.to_owned()))
    }

    pub(crate) fn text(&mut self) -> Result<String, RecordError> {
        self.text_or_null()?.ok_or(RecordError::Null)
    }

    fn list_length(&mut self) -> Result<usize, RecordError> {
        if self.flexible {
            return match self.varint()?.checked_sub(1) {
                Some(length) => Ok(length as usize),
                None => Err(RecordError::Null),
            };
        }
        let length = self.i32()?;
        usize::try_from(length).map_err(|_| RecordError::Length { found: i64::from(length) })
    }

    fn blob(&mut self) -> Result<Vec<u8>, RecordError> {
        let length = self.list_length()?;
        Ok(self.take(length)?.to_vec())
    }

    /// A count of elements, each of which takes at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize, RecordError> {
        let count = self.list_length()?;
        if self.rest.len() < count {
            return Err(RecordError::Short { wanted: count, left: self.rest.len() });
        }
        Ok(count)
    }

    /// Tagged fields, none of which is needed here.
    fn skip_tags(&mut self) -> Result<(), RecordError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()? as usize;
            self.take(length)?;
        }
        Ok(())
    }
}

//! What happens to the metadata, as facts that are stored one after another.
//!
//! The image is nothing but the sum of these events. Each stands in a frame of its own, little
//! end first:
//!
//! ```text
//! magic u32 | version u8 | kind u8 | zero u16 | body length u32 | CRC-32C u32 | body
//! ```
//!
//! The checksum covers everything but the magic and itself. In a body numbers are little end
//! first, a string is its length (u32) and its bytes, a map its count (u32) and its pairs in
//! order of their keys: one event has one form. Reading trusts nothing: every count is bounded by
//! what remains, and a body must end where it says.

use crate::config::layers::Configs;
use corelane_core::ids::{BrokerId, TopicId};
use corelane_storage::checksum;
use std::collections::BTreeMap;
use std::fmt;

/// Whose values changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Topic(TopicId),
    Broker(BrokerId),
    /// Every broker of the cluster.
    Cluster,
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    TopicCreated {
        id: TopicId,
        name: String,
        partitions: u32,
        configs: Configs,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// The topic has so many partitions now, more than before.
    PartitionsAdded {
        id: TopicId,
        partitions: u32,
    },
    /// Keys that have a new value, or (`None`) none of their own any more.
    ConfigsChanged {
        resource: Resource,
        changes: BTreeMap<String, Option<String>>,
    },
}

/// Bytes that are no event of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// There are fewer bytes than a frame has, or than this one says it has.
    Short {
        needed: usize,
        found: usize,
    },
    Magic {
        found: u32,
    },
    /// Written by a newer version of the broker.
    Version {
        known: u8,
        found: u8,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
    TooLong {
        bytes: usize,
    },
    Kind {
        found: u8,
    },
    /// The checksum holds and the body still makes no sense.
    Body {
        what: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, found } => {
                write!(f, "metadata ends after {found} of {needed} bytes")
            }
            Self::Magic { found } => {
                write!(f, "metadata starts with {found:#010x}, not {MAGIC:#010x}")
            }
            Self::Version { known, found } => {
                write!(f, "metadata has version {found}, and this broker knows {known}")
            }
            Self::Checksum { stored, computed } => {
                write!(f, "metadata has checksum {computed:#010x}, not the stored {stored:#010x}")
            }
            Self::TooLong { bytes } => {
                write!(f, "a metadata event of {bytes} bytes, more than {EVENT_BYTES_MAX}")
            }
            Self::Kind { found } => write!(f, "a metadata event of the unknown kind {found}"),
            Self::Body { what } => write!(f, "a metadata event with {what}"),
        }
    }
}

const MAGIC: u32 = u32::from_le_bytes(*b"CLmd");
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_AT: usize = 12;

/// The largest body: every key of a topic with the longest value, and room to spare.
pub const EVENT_BYTES_MAX: usize = 64 << 20;

mod kind {
    pub(super) const TOPIC_CREATED: u8 = 1;
    pub(super) const TOPIC_DELETED: u8 = 2;
    pub(super) const PARTITIONS_ADDED: u8 = 3;
    pub(super) const CONFIGS_CHANGED: u8 = 4;
}

mod resource {
    pub(super) const TOPIC: u8 = 1;
    pub(super) const BROKER: u8 = 2;
    pub(super) const CLUSTER: u8 = 3;
}

impl Event {
    fn kind(&self) -> u8 {
        match self {
            Self::TopicCreated { .. } => kind::TOPIC_CREATED,
            Self::TopicDeleted { .. } => kind::TOPIC_DELETED,
            Self::PartitionsAdded { .. } => kind::PARTITIONS_ADDED,
            Self::ConfigsChanged { .. } => kind::CONFIGS_CHANGED,
        }
    }

    /// Writes the event behind what `out` holds.
    ///
    /// # Panics
    /// When the event is larger than any request that could cause it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend(MAGIC.to_le_bytes());
        out.extend([VERSION, self.kind(), 0, 0]);
        out.extend([0; HEADER_BYTES - 8]);
        match self {
            Self::TopicCreated { id, name, partitions, configs } => {
                out.extend(id.0);
                put_text(out, name);
                out.extend(partitions.to_le_bytes());
                put_count(out, configs.len());
                for (key, value) in configs {
                    put_text(out, key);
                    put_text(out, value);
                }
            }
            Self::TopicDeleted { id } => out.extend(id.0),
            Self::PartitionsAdded { id, partitions } => {
                out.extend(id.0);
                out.extend(partitions.to_le_bytes());
            }
            Self::ConfigsChanged { resource, changes } => {
                match resource {
                    Resource::Topic(id) => {
                        out.push(resource::TOPIC);
                        out.extend(id.0);
                    }
                    Resource::Broker(BrokerId(id)) => {
                        out.push(resource::BROKER);
                        out.extend(id.to_le_bytes());
                    }
                    Resource::Cluster => out.push(resource::CLUSTER),
                }
                put_count(out, changes.len());
                for (key, value) in changes {
                    put_text(out, key);
                    out.push(u8::from(value.is_some()));
                    if let Some(value) = value {
                        put_text(out, value);
                    }
                }
            }
        }
        let frame = &mut out[at..];
        let body = frame.len() - HEADER_BYTES;
        assert!(body <= EVENT_BYTES_MAX, "an event of {body} bytes");
        let length = u32::try_from(body).expect("bounded above");
        frame[8..CHECKSUM_AT].copy_from_slice(&length.to_le_bytes());
        let checksum = checksum_of(frame);
        frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the event at the start of `bytes`, and how many of them it takes.
    ///
    /// # Errors
    /// The bytes are cut short, damaged, or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let short = |needed| DecodeError::Short { needed, found: bytes.len() };
        let header = bytes.get(..HEADER_BYTES).ok_or_else(|| short(HEADER_BYTES))?;
        let word = |at: usize| {
            u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes of sixteen"))
        };
        if word(0) != MAGIC {
            return Err(DecodeError::Magic { found: word(0) });
        }
        if header[4] != VERSION {
            return Err(DecodeError::Version { known: VERSION, found: header[4] });
        }
        let body = word(8) as usize;
        if EVENT_BYTES_MAX < body {
            return Err(DecodeError::TooLong { bytes: body });
        }
        let frame = bytes.get(..HEADER_BYTES + body).ok_or_else(|| short(HEADER_BYTES + body))?;
        let (stored, computed) = (word(CHECKSUM_AT), checksum_of(frame));
        if stored != computed {
            return Err(DecodeError::Checksum { stored, computed });
        }
        if header[6..8] != [0, 0] {
            return Err(DecodeError::Body { what: "reserved bytes in use" });
        }
        let mut body = Body(&frame[HEADER_BYTES..]);
        let event = body.event(header[5])?;
        if !body.0.is_empty() {
            return Err(DecodeError::Body { what: "bytes behind its end" });
        }
        Ok((event, frame.len()))
    }
}

/// Everything but the magic, which is checked by itself, and the checksum.
fn checksum_of(frame: &[u8]) -> u32 {
    let head = checksum::of(&frame[4..CHECKSUM_AT]);
    checksum::append(head, &frame[HEADER_BYTES..])
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).expect("no request carries so many").to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend(text.as_bytes());
}

/// What remains of a body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn event(&mut self, kind: u8) -> Result<Event, DecodeError> {
        Ok(match kind {
            kind::TOPIC_CREATED => Event::TopicCreated {
                id: self.id()?,
                name: self.text()?,
                partitions: self.number()?,
                configs: self.map(Self::text)?,
            },
            kind::TOPIC_DELETED => Event::TopicDeleted { id: self.id()? },
            kind::PARTITIONS_ADDED => {
                Event::PartitionsAdded { id: self.id()?, partitions: self.number()? }
            }
            kind::CONFIGS_CHANGED => {
                let [resource] = self.bytes()?;
                let resource = match resource {
                    resource::TOPIC => Resource::Topic(self.id()?),
                    resource::BROKER => {
                        Resource::Broker(BrokerId(i32::from_le_bytes(self.bytes()?)))
                    }
                    resource::CLUSTER => Resource::Cluster,
                    _ => return Err(DecodeError::Body { what: "an unknown resource" }),
                };
                let changes = self.map(|it| match it.bytes()? {
                    [0] => Ok(None),
                    [1] => it.text().map(Some),
                    [_] => Err(DecodeError::Body { what: "a value neither there nor not" }),
                })?;
                Event::ConfigsChanged { resource, changes }
            }
            found => return Err(DecodeError::Kind { found }),
        })
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self
            .0
            .split_first_chunk()
            .ok_or(DecodeError::Body { what: "an end before its time" })?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u32, DecodeError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn id(&mut self) -> Result<TopicId, DecodeError> {
        self.bytes().map(TopicId)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let length = self.number()? as usize;
        let text =
            self.0.get(..length).ok_or(DecodeError::Body { what: "a text beyond its end" })?;
        let text = str::from_utf8(text).map_err(|_| DecodeError::Body { what: "a broken text" })?;
        self.0 = &self.0[length..];
        Ok(text.to_owned())
    }

    fn map<T>(
        &mut self,
        mut value: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<BTreeMap<String, T>, DecodeError> {
        let mut map = BTreeMap::new();
        for _ in 0..self.number()? {
            let key = self.text()?;
            if map.last_key_value().is_some_and(|(last, _)| key <= *last) {
                return Err(DecodeError::Body { what: "keys out of order" });
            }
            map.insert(key, value(self)?);
        }
        Ok(map)
    }
}

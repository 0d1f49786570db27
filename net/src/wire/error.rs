//! Why bytes are not a message, and why a message cannot become bytes.

use super::Versions;
use std::fmt;

/// Bytes from outside are not what they should be. The reader's position is meaningless then;
/// the connection they came from has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    Version {
        message: &'static str,
        version: i16,
        known: Versions,
    },
    /// A value needs more bytes than there are.
    Short {
        wanted: usize,
        remaining: usize,
    },
    /// An array claims more elements than the remaining bytes can hold.
    Count {
        count: usize,
        bytes_min: usize,
        remaining: usize,
    },
    /// An array has more elements than the message may still have.
    Elements {
        count: usize,
        left: u32,
    },
    /// A length or count below -1.
    Negative {
        length: i64,
    },
    /// A variable-length number that does not end, or does not fit 32 bits.
    Varint,
    Utf8 {
        valid_up_to: usize,
    },
    /// Null where the version does not allow it.
    Null,
    /// The key of a record says that it is another one.
    RecordType {
        number: i16,
        expected: i16,
    },
    /// A tagged field took fewer bytes than it announced.
    TagSize {
        tag: u32,
        announced: usize,
        unread: usize,
    },
    /// The piece is over before the message: nothing is wrong with it so far.
    Unfinished,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Version { message, version, known } => {
                write!(f, "{message} version {version} is not one of {known}")
            }
            Self::Short { wanted, remaining } => {
                write!(f, "{wanted} bytes wanted where {remaining} remain")
            }
            Self::Count { count, bytes_min, remaining } => write!(
                f,
                "{count} elements of at least {bytes_min} bytes announced where {remaining} bytes remain"
            ),
            Self::Elements { count, left } => {
                write!(f, "an array of {count} elements where {left} more are allowed")
            }
            Self::Negative { length } => write!(f, "length {length} is below -1"),
            Self::Varint => write!(f, "a variable-length number does not fit 32 bits"),
            Self::Utf8 { valid_up_to } => {
                write!(f, "a string stops being UTF-8 after {valid_up_to} bytes")
            }
            Self::Null => write!(f, "null where the version does not allow it"),
            Self::RecordType { number, expected } => {
                write!(f, "a record key of type {number} where {expected} was expected")
            }
            Self::TagSize { tag, announced, unread } => {
                write!(f, "tagged field {tag} announced {announced} bytes and left {unread} unread")
            }
            Self::Unfinished => write!(f, "not all was looked at yet"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A message cannot be said in a version. This is a mistake of the writer, not of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    Version {
        message: &'static str,
        version: i16,
        known: Versions,
    },
    /// The field is set, the version has no place for it, and dropping it would change the meaning.
    Lacks {
        field: &'static str,
        version: i16,
    },
    /// The field is null and the version has no null for it.
    Null {
        field: &'static str,
        version: i16,
    },
    /// A length that the format cannot say.
    TooLong {
        length: usize,
        length_max: usize,
    },
    /// Records were left outside, but this writer has nowhere to note their place.
    NoSplices {
        bytes: u32,
    },
    /// The piece is over before the message: the next one goes on.
    Unfinished,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Version { message, version, known } => {
                write!(f, "{message} version {version} is not one of {known}")
            }
            Self::Lacks { field, version } => {
                write!(f, "field {field} is set and version {version} has no place for it")
            }
            Self::Null { field, version } => {
                write!(f, "field {field} is null and version {version} does not allow it")
            }
            Self::TooLong { length, length_max } => {
                write!(f, "length {length} is above {length_max}")
            }
            Self::NoSplices { bytes } => {
                write!(f, "{bytes} bytes of records were left outside a writer that copies")
            }
            Self::Unfinished => write!(f, "not all was written yet"),
        }
    }
}

impl std::error::Error for EncodeError {}

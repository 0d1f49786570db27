//! The grammar under every message: how numbers, strings, arrays and tagged fields lie in bytes.
//!
//! - Reading borrows. A decoded message points into the frame it came from and owns nothing;
//!   arrays are views that decode their elements when they are walked ([`Array`]).
//! - Reading is total. Every length and count is compared with the bytes that remain before
//!   anything is done with it, so no input can panic, overflow or allocate.
//! - Writing happens once, front to back; lengths that are known late are patched in.
//!   Record bytes may stay where they are: the writer notes the place instead ([`Splice`]).
//!
//! Which fields a message has is not known here; the generated [`crate::messages`] know.

mod array;
mod error;
mod pieces;
mod reader;
mod record;
mod values;
mod writer;

pub use array::{Array, Iter};
pub use error::{DecodeError, EncodeError};
pub use pieces::{Checked, PIECE_ELEMENTS_MAX, Written};
pub use reader::Reader;
pub use record::{RecordKey, decode_value, encode_value, record_type};
pub use values::{Records, Uuid, range_of};
pub use writer::{Run, Splice, Writer};

use crate::api::ApiKey;

/// Something that has a place inside messages.
pub trait Wire<'a>: Sized + Clone {
    /// The fewest bytes one value takes, in any version. Not zero for what arrays are made of: a
    /// count of elements is bounded by the bytes that remain.
    const BYTES_MIN: usize;

    /// Whether every value takes exactly that.
    const IS_FIXED: bool = false;

    /// # Errors
    /// When the bytes are not such a value.
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// # Errors
    /// When the value cannot be said in the writer's version.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError>;

    /// Passes over a value, checking all that [`Wire::read`] would check.
    ///
    /// # Errors
    /// When the bytes are not such a value.
    #[inline]
    fn check(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        Self::read(reader).map(|_| ())
    }

    /// As [`Wire::check`], `count` times.
    ///
    /// # Errors
    /// When the bytes are not such values.
    #[inline]
    fn check_all(reader: &mut Reader<'a>, count: usize) -> Result<(), DecodeError> {
        // A copy can stay in registers.
        let mut own = *reader;
        for _ in 0..count {
            Self::check(&mut own)?;
        }
        *reader = own;
        Ok(())
    }
}

/// Versions of one message, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    #[must_use]
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}

/// A whole message: a request's or response's body, a header, a record of an internal topic.
pub trait Message<'a>: Wire<'a> {
    const NAME: &'static str;
    /// Every version this code can read and write, whether or not a broker offers it.
    const VERSIONS: Versions;
    /// From this version on, lengths are compact and tagged fields exist. `None`: never.
    const FLEXIBLE_FROM: Option<i16>;

    /// Reads the message at the start of `bytes` and says how many bytes it took. Bytes after
    /// it are the caller's business: a request may have some, and they are ignored.
    ///
    /// # Errors
    /// When the version is unknown or the bytes are not such a message.
    fn decode(bytes: &'a [u8], version: i16) -> Result<(Self, usize), DecodeError> {
        Self::decode_within(bytes, version, u32::MAX)
    }

    /// As [`Message::decode`], but refuses a message whose arrays have more elements than this, all
    /// together: what a message costs to serve grows with them.
    ///
    /// # Errors
    /// When the version is unknown, the bytes are not such a message, or it has too many elements.
    fn decode_within(
        bytes: &'a [u8],
        version: i16,
        elements_max: u32,
    ) -> Result<(Self, usize), DecodeError> {
        Self::decode_from(bytes, version, |reader| reader.within(elements_max))
    }

    /// As [`Message::decode_within`], one piece of it. `checked` is the message's own, and new at first.
    ///
    /// # Errors
    /// [`DecodeError::Unfinished`] when there is more to do, by the same call; else as
    /// [`Message::decode_within`].
    fn decode_piece(
        bytes: &'a [u8],
        version: i16,
        elements_max: u32,
        checked: &'a Checked,
    ) -> Result<(Self, usize), DecodeError> {
        checked.begin_piece();
        let in_pieces = |it: Reader<'a>| it.within(elements_max).in_pieces(checked);
        let done = Self::decode_from(bytes, version, in_pieces)?;
        checked.finish();
        Ok(done)
    }

    /// As [`Message::decode`], by a reader of this kind.
    ///
    /// # Errors
    /// As [`Message::decode`], and what the reader refuses.
    fn decode_from(
        bytes: &'a [u8],
        version: i16,
        reader: impl FnOnce(Reader<'a>) -> Reader<'a>,
    ) -> Result<(Self, usize), DecodeError> {
        if !Self::VERSIONS.contains(version) {
            return Err(DecodeError::Version {
                message: Self::NAME,
                version,
                known: Self::VERSIONS,
            });
        }
        let flexible = is_flexible(Self::FLEXIBLE_FROM, version);
        let mut reader = reader(Reader::new(bytes, version, flexible));
        let message = Self::read(&mut reader)?;
        Ok((message, bytes.len() - reader.remaining()))
    }

    /// Appends the message to `out`, record bytes included.
    ///
    /// # Errors
    /// When the version is unknown, or a field is set that the version cannot carry and that
    /// must not be dropped silently. `out` is as before then.
    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.encode_with(version, &mut Writer::copying(out))
    }

    /// Appends the message to a writer; for messages with records left outside.
    ///
    /// # Errors
    /// As [`Message::encode`].
    fn encode_with(&self, version: i16, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(version) {
            return Err(EncodeError::Version {
                message: Self::NAME,
                version,
                known: Self::VERSIONS,
            });
        }
        writer.whole(version, is_flexible(Self::FLEXIBLE_FROM, version), |it| self.write(it))
    }
}

fn is_flexible(from: Option<i16>, version: i16) -> bool {
    from.is_some_and(|from| from <= version)
}

/// The body of a request: it knows its key and what the answer looks like.
pub trait Request<'a>: Message<'a> {
    const KEY: ApiKey;
    type Response<'b>: Message<'b>;
}

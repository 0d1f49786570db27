//! The values that have no Rust type of their own: ids of 16 bytes, and record bytes.

use std::{fmt, ops::Range};

/// An id of 16 bytes: of a topic, a directory, a metric subscription.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Means "none" everywhere in the protocol.
    pub const ZERO: Self = Self([0; 16]);

    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Uuid {
    /// URL-safe base 64 without padding, as Kafka's tools print ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::with_capacity(22);
        for chunk in self.0.chunks(3) {
            let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
            let group = at(0) << 16 | at(1) << 8 | at(2);
            for digit in 0..=chunk.len() {
                let six = (group >> (18 - 6 * digit)) & 63;
                text.push(char::from(DIGITS[six as usize]));
            }
        }
        f.pad(&text)
    }
}

/// The bytes of record batches, which messages carry without looking inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records<'a> {
    /// The bytes themselves. Decoding always gives this; encoding copies them.
    Bytes(&'a [u8]),
    /// So many bytes, which the caller sends from where they are. Encoding writes their length
    /// and notes the place where they belong.
    Outside { bytes: u32 },
}

impl<'a> Records<'a> {
    /// How many bytes of records there are, wherever they lie.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Outside { bytes } => *bytes as usize,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, or nothing when they lie outside. Decoded records always have them.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Outside { .. } => &[],
        }
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Self::Bytes(&[])
    }
}

/// Where `part` lies inside `frame`. For record bytes that are validated and patched in the
/// receive buffer after the borrowed message has been let go.
///
/// # Panics
/// When `part` was not borrowed from `frame`.
#[must_use]
pub fn range_of(frame: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(frame.as_ptr() as usize);
    let end = start.saturating_add(part.len());
    assert!(start <= frame.len() && end <= frame.len(), "a part of another frame");
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_kafka_prints_it() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let mut one = Uuid::ZERO;
        one.0[15] = 1;
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn a_part_knows_its_place() {
        let frame = [1u8, 2, 3, 4];
        assert_eq!(range_of(&frame, &frame[1..3]), 1..3);
        assert_eq!(range_of(&frame, &frame[4..]), 4..4);
    }
}

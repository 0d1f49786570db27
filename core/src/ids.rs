//! The names of things: one type per kind of number, so that they cannot be swapped.
//!
//! Invariants: an [`Offset`] counts records, never bytes; a [`TopicId`] is what a partition *is*,
//! its name is only what it is called. Nothing here checks whether a thing exists.

use std::fmt;

/// The position of a record in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    pub const ZERO: Self = Self(0);
    /// What the protocol writes where there is no offset.
    pub const NONE: Self = Self(-1);

    /// The offset `records` further on.
    ///
    /// # Panics
    /// When the sum leaves `i64`: whoever takes an offset from outside refuses it long before.
    #[must_use]
    pub fn advance(self, records: u32) -> Self {
        Self(self.0.checked_add(i64::from(records)).expect("an offset beyond i64"))
    }

    /// How many offsets lie between `from` and this one; negative when this one is before it.
    #[must_use]
    pub fn distance_from(self, from: Self) -> i64 {
        self.0.saturating_sub(from.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One reign of one leader over one partition. Grows with every election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// What the protocol writes where no epoch is known.
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An idempotent or transactional producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// A batch without idempotence carries this.
    pub const NONE: Self = Self(-1);

    #[must_use]
    pub fn is_some(self) -> bool {
        0 <= self.0
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One incarnation of a producer; an older one is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a partition within its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionIndex(pub i32);

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lane of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LaneId(pub u16);

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl BrokerId {
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a topic: a re-created topic of the same name is another one.
///
/// Its text is Kafka's: sixteen bytes in the URL-safe base64 alphabet, without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

/// Letters in the text form of a topic id.
const TOPIC_ID_TEXT_LEN: usize = 22;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    pub const ZERO: Self = Self([0; 16]);

    /// Reads the text form; nothing but the exact form a topic id is written in.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != TOPIC_ID_TEXT_LEN {
            return None;
        }
        let mut value: u128 = 0;
        for (at, letter) in text.iter().enumerate() {
            let six = ALPHABET.iter().position(|it| it == letter)? as u128;
            if at + 1 < TOPIC_ID_TEXT_LEN {
                value = value << 6 | six;
            } else {
                // 22 letters hold 132 bits: the last four must be zero, or two texts would
                // name one topic.
                if six & 0b1111 != 0 {
                    return None;
                }
                value = value << 2 | six >> 4;
            }
        }
        Some(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = [0; TOPIC_ID_TEXT_LEN];
        for (at, letter) in text.iter_mut().enumerate() {
            let six = if at + 1 < TOPIC_ID_TEXT_LEN { value >> (122 - 6 * at) } else { value << 4 };
            *letter = ALPHABET[(six & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// A partition of a topic, by identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_as_it_was_written() {
        for seed in 0..64_u8 {
            let id = TopicId(std::array::from_fn(|at| {
                seed.wrapping_mul(37) ^ (at as u8).wrapping_mul(89)
            }));
            assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(TopicId([255; 16]).to_string(), "_____________________w");
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn no_second_text_names_the_same_topic() {
        assert_eq!(TopicId::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
        assert_eq!(TopicId::parse("AAAAAAAAAAAAAAAAAAAAA="), None);
        assert_eq!(TopicId::parse("AAAAAAAAAAAAAAAAAAAAA"), None);
        assert_eq!(TopicId::parse(""), None);
        assert_eq!(TopicId::parse("ÄAAAAAAAAAAAAAAAAAAAA"), None);
    }
}

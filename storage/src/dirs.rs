//! Names of directories and files, and how they read back.
//!
//! A partition's directory carries its topic's name for people; what it holds is known by the
//! topic id inside. A deleted partition is renamed first, with its id, so that a topic created
//! again under the same name never meets the old bytes. Every name has one spelling: what does not
//! read back to itself is not ours and is left alone.

use corelane_core::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

/// The longest topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// The longest name of a directory or file that file systems take.
const FILE_NAME_BYTES_MAX: usize = 255;
const OFFSET_DIGITS: usize = 20;
const DELETING: &str = "-delete";

/// Why a topic cannot have this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicNameError {
    Empty,
    TooLong {
        bytes: usize,
    },
    /// `.` and `..` are places already.
    Dots,
    Letter {
        found: char,
    },
}

/// Kafka's rule for topic names.
///
/// # Errors
/// With what is wrong about it.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if TOPIC_NAME_BYTES_MAX < name.len() {
        return Err(TopicNameError::TooLong { bytes: name.len() });
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    let good = |it: &char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
    match name.chars().find(|it| !good(it)) {
        Some(found) => Err(TopicNameError::Letter { found }),
        None => Ok(()),
    }
}

/// A directory under the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionDir {
    Live {
        topic: String,
        partition: PartitionIndex,
    },
    /// On its way out. The topic's name may be cut short.
    Deleting {
        topic: String,
        of: TopicPartition,
    },
}

impl PartitionDir {
    /// What the name says; `None` when it is not ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let dir = if let Some(rest) = name.strip_suffix(DELETING) {
            let (rest, id) = rest.rsplit_once('.')?;
            let (topic, partition) = split(rest)?;
            let of = TopicPartition { topic: TopicId::parse(id)?, partition };
            Self::Deleting { topic, of }
        } else {
            let (topic, partition) = split(name)?;
            Self::Live { topic, partition }
        };
        (dir.name() == name).then_some(dir)
    }

    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Live { topic, partition } => format!("{topic}-{partition}"),
            Self::Deleting { topic, of } => {
                let rest = format!("-{}.{}{DELETING}", of.partition, of.topic);
                let kept = topic.len().min(FILE_NAME_BYTES_MAX - rest.len());
                format!("{}{rest}", &topic[..kept])
            }
        }
    }
}

fn split(text: &str) -> Option<(String, PartitionIndex)> {
    let (topic, partition) = text.rsplit_once('-')?;
    check_topic_name(topic).ok()?;
    let partition = partition.parse().ok().filter(|it| 0 <= *it)?;
    Some((topic.to_owned(), PartitionIndex(partition)))
}

/// A file in a partition's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentFile {
    Log(Offset),
    Index(Offset),
    /// Kafka's own, left by a clean stop.
    KafkaIndex(Offset),
    KafkaTimes(Offset),
    KafkaAborted(Offset),
    KafkaSnapshot(Offset),
}

impl SegmentFile {
    /// Everything that lies beside each other for one segment.
    #[must_use]
    pub fn all(base: Offset) -> [Self; 6] {
        let kafka = [Self::KafkaIndex, Self::KafkaTimes, Self::KafkaAborted, Self::KafkaSnapshot];
        let [offsets, times, aborted, snapshot] = kafka.map(|it| it(base));
        [Self::Log(base), Self::Index(base), offsets, times, aborted, snapshot]
    }

    fn parts(self) -> (Offset, &'static str) {
        match self {
            Self::Log(base) => (base, "log"),
            Self::Index(base) => (base, "idx"),
            Self::KafkaIndex(base) => (base, "index"),
            Self::KafkaTimes(base) => (base, "timeindex"),
            Self::KafkaAborted(base) => (base, "txnindex"),
            Self::KafkaSnapshot(end) => (end, "snapshot"),
        }
    }

    #[must_use]
    pub fn name(self) -> String {
        let (base, ending) = self.parts();
        format!("{:0OFFSET_DIGITS$}.{ending}", base.0)
    }

    /// What the name says; `None` when it is not ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (digits, ending) = name.split_once('.')?;
        let base = Offset(digits.parse().ok().filter(|it| 0 <= *it)?);
        let file = Self::all(base).into_iter().find(|it| it.parts().1 == ending)?;
        (file.name() == name).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        assert_eq!(check_topic_name("a.B_c-9"), Ok(()));
        assert_eq!(check_topic_name("..."), Ok(()));
        assert_eq!(check_topic_name(""), Err(TopicNameError::Empty));
        assert_eq!(check_topic_name("."), Err(TopicNameError::Dots));
        assert_eq!(check_topic_name(".."), Err(TopicNameError::Dots));
        assert_eq!(check_topic_name("a/b"), Err(TopicNameError::Letter { found: '/' }));
        assert_eq!(check_topic_name("a\0"), Err(TopicNameError::Letter { found: '\0' }));
        assert_eq!(check_topic_name("ä"), Err(TopicNameError::Letter { found: 'ä' }));
        assert_eq!(check_topic_name(&"x".repeat(249)), Ok(()));
        assert_eq!(check_topic_name(&"x".repeat(250)), Err(TopicNameError::TooLong { bytes: 250 }));
    }

    #[test]
    fn names_read_back() {
        let of = TopicPartition { topic: TopicId([0xfb; 16]), partition: PartitionIndex(12) };
        let live =
            |topic: &str| PartitionDir::Live { topic: topic.into(), partition: of.partition };
        let deleting = |topic: &str| PartitionDir::Deleting { topic: topic.into(), of };
        for topic in ["orders", "a-1", "a-1.b-delete", "-", "...", &"x".repeat(200)] {
            for dir in [live(topic), deleting(topic)] {
                assert_eq!(PartitionDir::parse(&dir.name()), Some(dir), "{topic}");
            }
        }
        assert_eq!(live("orders").name(), "orders-12");
        assert_eq!(deleting("orders").name(), "orders-12.-_v7-_v7-_v7-_v7-_v7-w-delete");
    }

    #[test]
    fn the_longest_name_still_fits_when_deleted() {
        let of = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(i32::MAX) };
        let name = PartitionDir::Deleting { topic: "x".repeat(249), of }.name();
        assert_eq!(name.len(), FILE_NAME_BYTES_MAX);
        let Some(PartitionDir::Deleting { of: read, .. }) = PartitionDir::parse(&name) else {
            panic!("{name}");
        };
        assert_eq!(read, of);
    }

    #[test]
    fn what_has_another_spelling_is_not_ours() {
        for name in [
            "orders",
            "orders-",
            "orders-01",
            "orders-+1",
            "-1",
            "a b-0",
            "orders-0-delete",
            "orders-0.abc-delete",
            "..-0",
            "lost+found",
            "orders-99999999999",
        ] {
            assert_eq!(PartitionDir::parse(name), None, "{name}");
        }
        let file = SegmentFile::Log(Offset(42));
        assert_eq!(file.name(), "00000000000000000042.log");
        assert_eq!(SegmentFile::parse(&file.name()), Some(file));
        assert_eq!(SegmentFile::Index(Offset(i64::MAX)).name(), "09223372036854775807.idx");
        for file in SegmentFile::all(Offset(7)) {
            assert_eq!(SegmentFile::parse(&file.name()), Some(file));
        }
        for name in [
            "42.log",
            "00000000000000000042.LOG",
            "+0000000000000000042.log",
            "-0000000000000000042.log",
            "99999999999999999999.log",
            "00000000000000000042.indexes",
        ] {
            assert_eq!(SegmentFile::parse(name), None, "{name}");
        }
    }
}

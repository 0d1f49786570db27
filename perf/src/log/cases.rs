//! What is appended: sizes, partitions, how much at once.

use corelane_core::ids::{PartitionIndex, TopicId, TopicPartition};
use corelane_storage::build::BatchBuilder;

const KIB: usize = 1024;

/// One case of `append`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) batch_bytes: usize,
    pub(super) partitions: u32,
    /// Appends that are not durable yet, in all partitions together.
    pub(super) in_flight: usize,
    /// Segments each partition has at the end, at least; `None` for one that is never full.
    pub(super) segments: Option<u64>,
}

const SMALL: Case = Case { batch_bytes: KIB, partitions: 1, in_flight: 64, segments: None };
const MEDIUM: Case = Case { batch_bytes: 64 * KIB, partitions: 1, in_flight: 16, segments: None };
const LARGE: Case = Case { batch_bytes: 1024 * KIB, partitions: 1, in_flight: 8, segments: None };

pub(crate) const APPEND_CASES: &[&str] = &[
    "1 KiB, 1 partition",
    "1 KiB, 16 partitions",
    "1 KiB, 1000 partitions",
    "1 KiB, 10000 partitions",
    "1 KiB, 10000 partitions, 3 segments",
    "64 KiB, 1 partition",
    "64 KiB, 16 partitions",
    "1 MiB, 1 partition",
    "1 MiB, 16 partitions",
];

/// Sizes around which it begins to pay that an append is written once.
pub(crate) const LARGE_CASES: &[&str] =
    &["16 KiB", "32 KiB", "64 KiB", "128 KiB", "256 KiB", "1 MiB"];

impl Case {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "1 KiB, 1 partition" => SMALL,
            "1 KiB, 16 partitions" => Self { partitions: 16, ..SMALL },
            "1 KiB, 1000 partitions" => Self { partitions: 1000, ..SMALL },
            "1 KiB, 10000 partitions" => Self { partitions: 10_000, ..SMALL },
            "1 KiB, 10000 partitions, 3 segments" => {
                Self { partitions: 10_000, segments: Some(3), ..SMALL }
            }
            "64 KiB, 1 partition" => MEDIUM,
            "64 KiB, 16 partitions" => Self { partitions: 16, ..MEDIUM },
            "1 MiB, 1 partition" => LARGE,
            "1 MiB, 16 partitions" => Self { partitions: 16, ..LARGE },
            "16 KiB" => Self { batch_bytes: 16 * KIB, ..MEDIUM },
            "32 KiB" => Self { batch_bytes: 32 * KIB, ..MEDIUM },
            "64 KiB" => MEDIUM,
            "128 KiB" => Self { batch_bytes: 128 * KIB, ..MEDIUM },
            "256 KiB" => Self { batch_bytes: 256 * KIB, ..MEDIUM },
            "1 MiB" => LARGE,
            other => panic!("a case nobody knows: {other}"),
        }
    }

    /// Whether a bare writer of whole blocks can be put beside it.
    pub(super) fn is_large(&self) -> bool {
        MEDIUM.batch_bytes <= self.batch_bytes
    }

    /// The number of batches in `bytes`.
    pub(super) fn batches(&self, bytes: u64) -> u64 {
        bytes / self.batch_bytes as u64
    }
}

pub(super) fn partition(index: u32) -> TopicPartition {
    let index = i32::try_from(index).expect("there are not so many partitions");
    TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(index) }
}

/// A batch of one record, as a client would send it, of exactly `bytes`.
pub(super) fn batch(bytes: usize) -> Vec<u8> {
    let build = |value_bytes: usize| {
        // Not all the same, so that nothing on the way can make it small.
        let value: Vec<u8> = (0..value_bytes).map(|it| ((it * it) >> 3) as u8).collect();
        BatchBuilder::new().record(1_700_000_000_000, None, Some(&value)).build()
    };
    let mut value_bytes = bytes;
    loop {
        let built = build(value_bytes);
        if built.len() <= bytes {
            return built;
        }
        value_bytes -= built.len() - bytes;
    }
}

//! What went wrong, in words for people: clients get those about their batches, and operators those
//! about their files. Each says both sides of the disagreement, where there are two.

use std::fmt::{Display, Formatter, Result};

use crate::batch::BatchError;
use crate::checkpoint::CheckpointError;
use crate::compress::DecompressError;
use crate::index::INDEX_FORMAT;
use crate::log::boot::IndexFault;
use crate::log::partition::OutOfRange;
use crate::log::small::SmallError;
use crate::log::store::{AppendError, DeleteRecordsError, ReadError};
use crate::producers::ProducerRefusal;
use crate::record::RecordError;
use crate::recover::Fault;
use crate::validate::AppendRefusal;

/// The version of batches that are understood.
const MAGIC: i8 = 2;

/// Codecs have numbers below this one.
const CODECS: usize = crate::compress::Codec::ALL.len();

impl Display for AppendRefusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Empty => f.write_str("there is no batch of records"),
            Self::Malformed(error) => error.fmt(f),
            Self::ManyBatches { first, all } => write!(
                f,
                "there must be exactly one batch, and the first ends after {first} of {all} bytes"
            ),
            Self::BaseOffset { found } => {
                write!(f, "the batch begins at offset {}, and a client's begin at 0", found.0)
            }
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "the batch has {bytes} bytes, and max.message.bytes is {bytes_max}")
            }
            Self::Checksum { stored, computed } => write!(
                f,
                "the batch says that its checksum is {stored:#010x}, and it is {computed:#010x}"
            ),
            Self::Count { records, last_offset_delta } => write!(
                f,
                "the batch says that it has {records} records and that its last offset is \
                 {last_offset_delta}"
            ),
            Self::Control => f.write_str("a client cannot write control batches"),
            Self::Producer { id, epoch, base_sequence, transactional } => write!(
                f,
                "the producer {} with epoch {} and sequence {base_sequence} cannot write a {} batch",
                id.0,
                epoch.0,
                if *transactional { "transactional" } else { "plain" }
            ),
            Self::Codec { number } => {
                write!(f, "the codec {number} is unknown, they are below {CODECS}")
            }
            Self::Unfold(error) => error.fmt(f),
            Self::Record { index, error } => write!(f, "the record {index} of the batch: {error}"),
            Self::Records { total, .. } => {
                write!(f, "{total} record(s) of this batch are not accepted")
            }
            Self::SegmentTooSmall { bytes, bytes_max } => {
                write!(f, "the batch has {bytes} bytes, and segment.bytes is {bytes_max}")
            }
        }
    }
}

impl Display for BatchError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Incomplete { needed, found } => {
                write!(f, "the batch needs at least {needed} bytes, and {found} are there")
            }
            Self::Length { found } => {
                write!(f, "the batch says that its length is {found}, which is less than a header")
            }
            Self::Magic { found } => {
                write!(f, "the batch has the version {found}, and only {MAGIC} is taken")
            }
        }
    }
}

impl Display for RecordError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Truncated => f.write_str("the records end inside it"),
            Self::Length { found, remaining } => {
                write!(f, "it says that its length is {found}, and {remaining} bytes are left")
            }
            Self::Field => f.write_str("its key, value or a header reaches beyond its end"),
            Self::Header => f.write_str("a header has no name, or there are fewer than it says"),
            Self::Slack { bytes } => write!(f, "{bytes} bytes are behind its last field"),
            Self::LeftOver { bytes } => write!(f, "{bytes} bytes are behind the last record"),
        }
    }
}

impl Display for DecompressError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Malformed { codec } => {
                write!(f, "the records are not what {} compresses to", codec.name())
            }
            Self::TooLarge { limit } => {
                write!(f, "the records unfold to more than {limit} bytes")
            }
        }
    }
}

impl Display for ProducerRefusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Epoch { theirs, ours } => {
                write!(f, "the producer's epoch {} is over, its newest is {}", theirs.0, ours.0)
            }
            Self::Sequence { expected: -1, found } => {
                write!(f, "the sequence {found} comes where any other would start anew")
            }
            Self::Sequence { expected, found } => {
                write!(f, "the sequence {found} comes where {expected} is expected")
            }
            Self::InsideTransaction { first } => write!(
                f,
                "the producer has a transaction open since offset {}, and this is outside of it",
                first.0
            ),
            Self::NotVerified => f.write_str("the transaction is not known to be open"),
            Self::Coordinator { theirs, ours } => write!(
                f,
                "the transaction coordinator's epoch {theirs} is over, the newest is {ours}"
            ),
            Self::Overloaded { producers_max } => {
                write!(f, "all {producers_max} producers of the partition have transactions open")
            }
        }
    }
}

impl Display for OutOfRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "the offset is not among {} to {}", self.log_start.0, self.end.0)
    }
}

const NOT_HERE: &str = "the partition is not here";
const OFFLINE: &str = "the partition is offline, for its bytes are damaged";
const OVERLOADED: &str = "memory is used up for now";

impl Display for AppendError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::NotHere => f.write_str(NOT_HERE),
            Self::Offline => f.write_str(OFFLINE),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Producer(refusal) => refusal.fmt(f),
            Self::Overloaded => f.write_str(OVERLOADED),
            Self::TimedOut => f.write_str("there was no room until the request's time was over"),
            Self::NoSpace => f.write_str("the disk is full"),
            Self::Failed(errno) => write!(f, "the data directory failed: {errno}"),
        }
    }
}

impl Display for ReadError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::NotHere => f.write_str(NOT_HERE),
            Self::Offline => f.write_str(OFFLINE),
            Self::OutOfRange(range) => range.fmt(f),
            Self::Overloaded => f.write_str(OVERLOADED),
            Self::Corrupt { path, position } => {
                write!(f, "{} is damaged at position {position}", path.display())
            }
            Self::Failed(errno) => write!(f, "a read of the data directory failed: {errno}"),
        }
    }
}

impl Display for DeleteRecordsError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::NotHere => f.write_str(NOT_HERE),
            Self::Offline => f.write_str(OFFLINE),
            Self::OutOfRange(range) => range.fmt(f),
            Self::Overloaded => f.write_str(OVERLOADED),
            Self::Failed(errno) => write!(f, "the data directory failed: {errno}"),
        }
    }
}

impl Display for SmallError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Magic => f.write_str("something else is written there"),
            Self::Newer { version } => {
                write!(f, "it has format {version}, which is newer than ours")
            }
            Self::Checksum => f.write_str("its bytes are not those that were summed"),
            Self::Length => f.write_str("it is shorter or longer than what it says"),
        }
    }
}

impl Display for IndexFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::Damaged => f.write_str("it is damaged"),
            Self::Format { version } if *version < INDEX_FORMAT => {
                write!(f, "it has format {version}, which is older than ours")
            }
            Self::Format { version } => {
                write!(f, "it has format {version}, which is newer than ours")
            }
            Self::Length => f.write_str("it was made for another length"),
        }
    }
}

impl Display for CheckpointError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Blank => f.write_str("nothing was written there"),
            Self::Magic { .. } => f.write_str("something else is written there"),
            Self::Format { found } => write!(f, "it has the unknown format {found}"),
            Self::Length { blocks, used, available } => write!(
                f,
                "a section of {blocks} blocks with {used} bytes does not fit into {available} bytes"
            ),
            Self::Checksum { stored, computed } => write!(
                f,
                "its bytes are not those that were summed: {stored:#010x} is written, and the sum is \
                 {computed:#010x}"
            ),
            Self::Kind { found } => write!(f, "a section of kind {found} stands where it cannot"),
            Self::Chain { expected, found } => write!(
                f,
                "a section follows {found:#010x}, and the one before it is {expected:#010x}"
            ),
            Self::Record { at } => write!(f, "the record at byte {at} of a section makes no sense"),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Gap { origin, expected, found } => write!(
                f,
                "commit {} of lane {} continues at offset {}, and the log ends at {}",
                origin.sequence, origin.lane, found.0, expected.0
            ),
            Self::Place { origin, expected, found } => write!(
                f,
                "commit {} of lane {} continues segment {} at {}, and the log ends in segment {} at {}",
                origin.sequence, origin.lane, found.0.0, found.1, expected.0.0, expected.1
            ),
            Self::Epoch { origin, error } => write!(
                f,
                "commit {} of lane {} begins epoch {} at offset {}, after epoch {} at offset {}",
                origin.sequence,
                origin.lane,
                error.found.epoch.0,
                error.found.start.0,
                error.latest.epoch.0,
                error.latest.start.0
            ),
            Self::Ownership { lane, ours, found } => write!(
                f,
                "lane {lane} writes it under the number {found}, and it is known under {ours}"
            ),
            Self::Hole { segment, from, to } => write!(
                f,
                "neither segment {} nor a journal has the bytes from {from} to {to}",
                segment.0
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Codec;
    use corelane_core::ids::Offset;

    #[test]
    fn what_clients_are_told_says_both_sides() {
        let said = |it: AppendRefusal| it.to_string();
        assert_eq!(
            said(AppendRefusal::TooLarge { bytes: 2_000_074, bytes_max: 1_048_588 }),
            "the batch has 2000074 bytes, and max.message.bytes is 1048588"
        );
        assert_eq!(
            said(AppendRefusal::Malformed(BatchError::Magic { found: 1 })),
            "the batch has the version 1, and only 2 is taken"
        );
        assert_eq!(
            said(AppendRefusal::Unfold(DecompressError::Malformed { codec: Codec::Gzip })),
            "the records are not what gzip compresses to"
        );
        assert_eq!(
            said(AppendRefusal::Record { index: 3, error: RecordError::Slack { bytes: 2 } }),
            "the record 3 of the batch: 2 bytes are behind its last field"
        );
        assert_eq!(
            said(AppendRefusal::BaseOffset { found: Offset(9) }),
            "the batch begins at offset 9, and a client's begin at 0"
        );
    }

    #[test]
    fn what_operators_are_told_names_the_damage() {
        assert_eq!(SmallError::Checksum.to_string(), "its bytes are not those that were summed");
        let hole = Fault::Hole { segment: Offset(7), from: 4096, to: 8192 };
        assert_eq!(
            hole.to_string(),
            "neither segment 7 nor a journal has the bytes from 4096 to 8192"
        );
    }
}

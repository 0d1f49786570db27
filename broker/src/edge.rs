//! The one place where our refusals become Kafka's error codes.

use std::fmt::Display;

use corelane_coordinator::GroupError;
use corelane_net::ErrorCode;
use corelane_storage::batch::BatchError;
use corelane_storage::compress::DecompressError;
use corelane_storage::log::store::{AppendError, DeleteRecordsError, ReadError};
use corelane_storage::producers::ProducerRefusal;
use corelane_storage::validate::{AppendRefusal, Fault};

use crate::config::alter::AlterError;
use crate::handle::{
    AssignError, BadCursor, ElectError, EndpointError, KeepError, NoAuthorizer, ResourceError,
    Undecided,
};
use crate::node::Refused;
use crate::topics::configs::ChangeError;
use crate::topics::create::{AssignmentError, CreateError};
use crate::topics::grow::GrowError;
use crate::topics::internal::AutoCreateError;
use crate::topics::name::NameError;
use crate::topics::remove::DeleteError;

/// Whatever has a code.
pub trait Code {
    fn code(&self) -> ErrorCode;
}

/// A refusal on its way to a client: its code, and the words for whoever reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    code: ErrorCode,
    pub message: String,
}

impl Code for Told {
    fn code(&self) -> ErrorCode {
        self.code
    }
}

/// Puts a refusal into a code and words.
pub fn tell<E: Code + Display>(error: &E) -> Told {
    Told { code: error.code(), message: error.to_string() }
}

impl Code for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotHere => ErrorCode::UnknownTopicOrPartition,
            Self::Refused(refusal) => refusal.code(),
            Self::Producer(refusal) => refusal.code(),
            // Retriable: clients wait and send again.
            Self::Overloaded | Self::TimedOut => ErrorCode::RequestTimedOut,
            // A full disk may have room again, and another replica may have it now: retriable too.
            Self::NoSpace | Self::Failed(_) | Self::Offline => ErrorCode::KafkaStorageError,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

impl Code for AppendRefusal {
    fn code(&self) -> ErrorCode {
        match self {
            // Batches of the older versions are refused as what they are; what is no batch is damaged.
            Self::Malformed(BatchError::Magic { found: 0 | 1 } | BatchError::Incomplete { .. }) => {
                ErrorCode::InvalidRecord
            }
            // Clients that are told so make smaller batches of it; damage they send again and again.
            Self::TooLarge { .. } | Self::Unfold(DecompressError::TooLarge { .. }) => {
                ErrorCode::MessageTooLarge
            }
            Self::Checksum { .. } | Self::Unfold(_) | Self::Malformed(_) => {
                ErrorCode::CorruptMessage
            }
            Self::SegmentTooSmall { .. } => ErrorCode::RecordListTooLarge,
            Self::Records { timestamp: true, .. } => ErrorCode::InvalidTimestamp,
            _ => ErrorCode::InvalidRecord,
        }
    }
}

impl Code for ProducerRefusal {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Epoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::Sequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InsideTransaction { .. } | Self::NotVerified => ErrorCode::InvalidTxnState,
            Self::Coordinator { .. } => ErrorCode::TransactionCoordinatorFenced,
            _ => ErrorCode::NotEnoughReplicas,
        }
    }
}

impl Code for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotHere => ErrorCode::UnknownTopicOrPartition,
            Self::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
            Self::Failed(_) | Self::Offline | Self::Corrupt { .. } => ErrorCode::KafkaStorageError,
            // A reader that gets nothing asks again.
            Self::Overloaded => ErrorCode::None,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

impl Code for DeleteRecordsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotHere => ErrorCode::UnknownTopicOrPartition,
            Self::OutOfRange(_) => ErrorCode::OffsetOutOfRange,
            Self::Overloaded => ErrorCode::RequestTimedOut,
            Self::Failed(_) | Self::Offline => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for Refused {
    fn code(&self) -> ErrorCode {
        match self.0 {
            AppendError::Failed(_) | AppendError::Offline => ErrorCode::KafkaStorageError,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

impl Code for CreateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Duplicate
            | Self::Prohibited { .. }
            | Self::AssignmentAndPartitions
            | Self::AssignmentAndFactor => ErrorCode::InvalidRequest,
            Self::Name(_) | Self::Collides { .. } => ErrorCode::InvalidTopicException,
            Self::Exists { .. } => ErrorCode::TopicAlreadyExists,
            Self::AssignmentTwice { .. }
            | Self::AssignmentWithHoles { .. }
            | Self::Assignment(_) => ErrorCode::InvalidReplicaAssignment,
            Self::Partitions { .. } => ErrorCode::InvalidPartitions,
            Self::Factor { .. } | Self::TooFewBrokers { .. } => ErrorCode::InvalidReplicationFactor,
            Self::TooManyInRequest { .. } | Self::TooManyOnNode { .. } => {
                ErrorCode::PolicyViolation
            }
            Self::Config(_) => ErrorCode::InvalidConfig,
        }
    }
}

impl Code for Undecided {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Late => ErrorCode::RequestTimedOut,
            Self::Refused(refused) => refused.code(),
        }
    }
}

impl Code for DeleteError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Disabled => ErrorCode::TopicDeletionDisabled,
            Self::Neither | Self::Both | Self::NameTwice | Self::IdTwice | Self::NamedBothWays => {
                ErrorCode::InvalidRequest
            }
            Self::UnknownName { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownId { .. } => ErrorCode::UnknownTopicId,
        }
    }
}

impl Code for GrowError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Duplicate | Self::Fixed { .. } => ErrorCode::InvalidRequest,
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::AlreadyHas { .. } | Self::NotMore { .. } => ErrorCode::InvalidPartitions,
            Self::AssignmentCount { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::Assignment(error) => error.code(),
            Self::TooManyInRequest { .. } | Self::TooManyOnNode { .. } => {
                ErrorCode::PolicyViolation
            }
        }
    }
}

impl Code for AssignmentError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoReplicas | Self::UnknownBroker { .. } | Self::BrokerTwice { .. } => {
                ErrorCode::InvalidReplicaAssignment
            }
        }
    }
}

impl Code for AssignError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::NothingToCancel => ErrorCode::NoReassignmentInProgress,
            Self::Replicas(error) => error.code(),
        }
    }
}

impl Code for ElectError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownKind { .. } => ErrorCode::InvalidRequest,
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::NotNeeded => ErrorCode::ElectionNotNeeded,
        }
    }
}

impl Code for KeepError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Self::Internal => ErrorCode::InvalidTopicException,
            Self::Compacted => ErrorCode::PolicyViolation,
            Self::Late => ErrorCode::RequestTimedOut,
            Self::Log(error) => error.code(),
        }
    }
}

impl Code for EndpointError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Controllers => ErrorCode::MismatchedEndpointType,
            Self::Unknown { .. } => ErrorCode::UnsupportedEndpointType,
        }
    }
}

impl Code for BadCursor {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidRequest
    }
}

impl Code for NoAuthorizer {
    fn code(&self) -> ErrorCode {
        ErrorCode::SecurityDisabled
    }
}

impl Code for ResourceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. }
            | Self::Twice
            | Self::Nameless { .. }
            | Self::OtherBroker { .. }
            | Self::NotOffered { .. }
            | Self::UnknownOperation { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl Code for NameError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Empty | Self::Dots { .. } | Self::TooLong { .. } | Self::BadLetter { .. } => {
                ErrorCode::InvalidTopicException
            }
        }
    }
}

impl Code for ChangeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::OtherBroker { .. } => ErrorCode::InvalidRequest,
            Self::Alter(error) => error.code(),
        }
    }
}

impl Code for AlterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::KeyTwice { .. }
            | Self::NullValue { .. }
            | Self::Static { .. }
            | Self::UnknownBrokerKey { .. }
            | Self::BadBrokerValue(_) => ErrorCode::InvalidRequest,
            Self::Topic(_) | Self::NotAList { .. } => ErrorCode::InvalidConfig,
        }
    }
}

impl Code for AutoCreateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::Name(_) => ErrorCode::InvalidTopicException,
            Self::Create(error) => error.code(),
        }
    }
}

impl Code for GroupError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::UnknownMemberId => ErrorCode::UnknownMemberId,
            Self::FencedInstanceId => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            Self::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            Self::InvalidCommitOffsetSize => ErrorCode::InvalidCommitOffsetSize,
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

/// The code of what a coordinator answered.
#[must_use]
pub fn group_code(error: Option<GroupError>) -> ErrorCode {
    error.as_ref().map_or(ErrorCode::None, GroupError::code)
}

/// What a producer is told about single records, and about the batch.
#[must_use]
pub fn record_errors(refusal: &AppendRefusal) -> (Vec<(i32, String)>, Option<String>) {
    let AppendRefusal::Records { faults, .. } = refusal else {
        return (Vec::new(), Some(sentence(refusal)));
    };
    let tell = |why: &Fault| match why {
        Fault::MissingKey => "Compacted topic cannot accept message without key".to_owned(),
        Fault::Timestamp { found, now_ms } => {
            format!("Timestamp {found} is outside of the accepted range around {now_ms}")
        }
        Fault::LogAppendTime => "Only the broker stamps records with its own time".to_owned(),
    };
    let each = faults.iter().map(|it| (it.index as i32, tell(&it.why))).collect();
    (each, Some(sentence(refusal)))
}

/// What is told to clients begins with a capital letter, as all that they are told.
pub(crate) fn sentence(what: &impl Display) -> String {
    let what = what.to_string();
    let mut letters = what.chars();
    letters.next().map_or_else(String::new, |it| it.to_uppercase().chain(letters).collect())
}

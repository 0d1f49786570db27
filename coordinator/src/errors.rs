//! What a coordinator refuses, and what the log may answer to a write.
//!
//! The names are Kafka's; the numbers are not known here. The edge of the broker is the one place that has them.

use std::fmt;

/// An expected refusal. The state is unchanged unless the variant says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupError {
    /// The log behind the coordinator cannot take a record now, or the coordinator is stopping.
    CoordinatorNotAvailable,
    /// The state is being read from the log, or a bound on waiting work is reached. Try the same node again.
    CoordinatorLoadInProgress,
    /// Another node leads this partition now.
    NotCoordinator,
    UnknownMemberId,
    /// The instance id belongs to a newer member.
    FencedInstanceId,
    IllegalGeneration,
    RebalanceInProgress,
    /// The member offers another protocol type, or no protocol all members know.
    InconsistentGroupProtocol,
    /// Not a failure: join again with the id in this answer.
    MemberIdRequired,
    InvalidSessionTimeout,
    InvalidGroupId,
    GroupMaxSizeReached,
    NonEmptyGroup,
    GroupIdNotFound,
    /// The group still reads the topic whose offset was to be deleted.
    GroupSubscribedToTopic,
    OffsetMetadataTooLarge,
    /// The commit does not fit into one write, or the group has too many offsets.
    InvalidCommitOffsetSize,
    /// A name or a list is longer than the record format or a bound allows.
    InvalidRequest,
    /// The group's record would be larger than the log takes.
    UnknownServerError,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoordinatorNotAvailable => "the coordinator is not available",
            Self::CoordinatorLoadInProgress => "the coordinator is loading or busy",
            Self::NotCoordinator => "this node does not coordinate the group",
            Self::UnknownMemberId => "the member is not known to the group",
            Self::FencedInstanceId => "the instance id belongs to a newer member",
            Self::IllegalGeneration => "the generation is not the group's",
            Self::RebalanceInProgress => "the group is rebalancing",
            Self::InconsistentGroupProtocol => "the group and the member share no protocol",
            Self::MemberIdRequired => "the member must join again with its id",
            Self::InvalidSessionTimeout => "the session time-out is outside the allowed range",
            Self::InvalidGroupId => "the group id is empty or too long",
            Self::GroupMaxSizeReached => "the group has as many members as it may",
            Self::NonEmptyGroup => "the group has members",
            Self::GroupIdNotFound => "the group does not exist",
            Self::GroupSubscribedToTopic => "the group is subscribed to the topic",
            Self::OffsetMetadataTooLarge => "the offset's metadata is too large",
            Self::InvalidCommitOffsetSize => "the commit is too large",
            Self::InvalidRequest => "the request is longer than a bound allows",
            Self::UnknownServerError => "the group's record is too large for the log",
        })
    }
}

impl std::error::Error for GroupError {}

/// Why the log did not take a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    /// Too few replicas, no space, a time-out: the same node may succeed later.
    Unavailable,
    /// This node lost the partition, or its log directory is offline.
    NotLeader,
    /// The batch is larger than the log takes.
    TooLarge,
}

impl WriteFailure {
    /// What a member is told.
    pub(crate) fn to_member(self) -> GroupError {
        match self {
            Self::Unavailable => GroupError::CoordinatorNotAvailable,
            Self::NotLeader => GroupError::NotCoordinator,
            Self::TooLarge => GroupError::UnknownServerError,
        }
    }

    /// What somebody who commits an offset is told.
    pub(crate) fn to_committer(self) -> GroupError {
        match self {
            Self::Unavailable => GroupError::CoordinatorNotAvailable,
            Self::NotLeader => GroupError::NotCoordinator,
            Self::TooLarge => GroupError::InvalidCommitOffsetSize,
        }
    }
}

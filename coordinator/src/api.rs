//! What a driver says to a host and what it hears back. Plain values, no wire format.
//!
//! Each request speaks of one group, except [`ListGroups`]: a handler whose wire request names several groups
//! sends one request per group to the host that owns it and gathers the answers. Where Kafka's behaviour depends
//! on the version of the request, the request carries it as `version`.

use crate::errors::GroupError;
use crate::records::Record;

/// The time of an event. Time-outs follow the first, time stamps in records the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970, which a clock may set back.
    pub unix_ms: i64,
}

/// The driver's name for a request: the answer carries it back, at once or much later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The host's name for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Records to append, in this order and in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a write that is never appended keeps its answers and its group waiting for ever"]
pub struct Write {
    pub ticket: Ticket,
    pub records: Vec<Record>,
}

/// One answer and the request it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub token: Token,
    pub answer: Answer,
}

/// What an event led to. A request that is not among the replies is parked; a later outcome has its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "an outcome carries answers and writes that nobody else has"]
pub struct Outcome {
    pub writes: Vec<Write>,
    pub replies: Vec<Reply>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    OffsetCommit(OffsetCommit),
    OffsetFetch(OffsetFetch),
    OffsetDelete(OffsetDelete),
    Describe(DescribeGroup),
    List(ListGroups),
    Delete(DeleteGroup),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
    Heartbeat(HeartbeatAnswer),
    Leave(LeaveAnswer),
    OffsetCommit(OffsetCommitAnswer),
    OffsetFetch(OffsetFetchAnswer),
    OffsetDelete(OffsetDeleteAnswer),
    Describe(DescribeAnswer),
    List(ListAnswer),
    Delete(DeleteAnswer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// From 4 on a dynamic member is first told its id; from 9 on it understands `skip_assignment`.
    pub version: i16,
    pub group: String,
    /// Empty for a member that has no id yet.
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// Negative where the request's version has none: the session time-out counts then.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// 128 random bits for the id of a new member.
    pub fresh_id: u128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    pub error: Option<GroupError>,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Empty with an error.
    pub leader: String,
    pub skip_assignment: bool,
    pub member: String,
    /// Only the leader sees them.
    pub members: Vec<JoinedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member: String,
    pub instance: Option<String>,
    pub metadata: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    pub group: String,
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Member id and assignment; empty unless the leader speaks.
    pub assignments: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    pub error: Option<GroupError>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub group: String,
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub error: Option<GroupError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroup {
    pub group: String,
    pub members: Vec<LeavingMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty to name a static member by its instance alone.
    pub member: String,
    pub instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveAnswer {
    pub error: Option<GroupError>,
    pub members: Vec<LeftMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    pub member: String,
    pub instance: Option<String>,
    pub error: Option<GroupError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// From 9 on a missing group is named as such; before, the generation is blamed.
    pub version: i16,
    pub group: String,
    /// Negative from a consumer that assigns its partitions itself.
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
    /// How long to keep these offsets, where the request's version has it and it is not -1.
    pub retention_ms: Option<i64>,
    pub topics: Vec<CommitTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTopic {
    pub topic: String,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: i64,
    /// -1 when not known.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitAnswer {
    pub topics: Vec<TopicResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    pub topic: String,
    pub partitions: Vec<PartitionResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResult {
    pub partition: i32,
    pub error: Option<GroupError>,
}

/// A fetch never overtakes a commit of the same group that the host saw before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetch {
    pub group: String,
    /// Topics with their partitions; all the group has when absent.
    pub topics: Option<Vec<(String, Vec<i32>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchAnswer {
    pub error: Option<GroupError>,
    pub topics: Vec<FetchedTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    pub topic: String,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    pub partition: i32,
    /// -1 when nothing was committed.
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDelete {
    pub group: String,
    pub topics: Vec<(String, Vec<i32>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDeleteAnswer {
    pub error: Option<GroupError>,
    pub topics: Vec<TopicResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeGroup {
    pub group: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeAnswer {
    /// [`GroupError::GroupIdNotFound`] where the state is `Dead`; versions before 6 do not tell their client.
    pub error: Option<GroupError>,
    pub group: String,
    /// Kafka's word: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: &'static str,
    pub protocol_type: String,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

/// Metadata and assignment are empty unless the group is stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Vec<u8>,
    pub assignment: Vec<u8>,
}

/// Empty filters let everything pass; letter case and outer blanks do not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListGroups {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAnswer {
    pub error: Option<GroupError>,
    pub groups: Vec<ListedGroup>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    pub state: &'static str,
    /// Kafka's word for the kind of group.
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteGroup {
    pub group: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteAnswer {
    pub error: Option<GroupError>,
}

impl Request {
    /// The group a request speaks of; none for a listing.
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Join(r) => Some(&r.group),
            Self::Sync(r) => Some(&r.group),
            Self::Heartbeat(r) => Some(&r.group),
            Self::Leave(r) => Some(&r.group),
            Self::OffsetCommit(r) => Some(&r.group),
            Self::OffsetFetch(r) => Some(&r.group),
            Self::OffsetDelete(r) => Some(&r.group),
            Self::Describe(r) => Some(&r.group),
            Self::List(_) => None,
            Self::Delete(r) => Some(&r.group),
        }
    }

    /// The answer to this request when it is refused whole.
    pub fn refuse(&self, error: GroupError) -> Answer {
        match self {
            Self::Join(r) => Answer::Join(JoinAnswer::refused(&r.member, error)),
            Self::Sync(_) => Answer::Sync(SyncAnswer::refused(error)),
            Self::Heartbeat(_) => Answer::Heartbeat(HeartbeatAnswer { error: Some(error) }),
            Self::Leave(_) => {
                Answer::Leave(LeaveAnswer { error: Some(error), members: Vec::new() })
            }
            Self::OffsetCommit(r) => Answer::OffsetCommit(r.refused(error)),
            Self::OffsetFetch(_) => {
                Answer::OffsetFetch(OffsetFetchAnswer { error: Some(error), topics: Vec::new() })
            }
            Self::OffsetDelete(_) => {
                Answer::OffsetDelete(OffsetDeleteAnswer { error: Some(error), topics: Vec::new() })
            }
            Self::Describe(r) => Answer::Describe(DescribeAnswer {
                error: Some(error),
                group: r.group.clone(),
                state: "",
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            }),
            Self::List(_) => Answer::List(ListAnswer { error: Some(error), groups: Vec::new() }),
            Self::Delete(_) => Answer::Delete(DeleteAnswer { error: Some(error) }),
        }
    }
}

impl JoinAnswer {
    pub fn refused(member: &str, error: GroupError) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member: member.to_owned(),
            members: Vec::new(),
        }
    }
}

impl SyncAnswer {
    pub fn refused(error: GroupError) -> Self {
        Self { error: Some(error), protocol_type: None, protocol: None, assignment: Vec::new() }
    }
}

impl OffsetCommit {
    /// Every partition of the request with the same refusal.
    pub fn refused(&self, error: GroupError) -> OffsetCommitAnswer {
        let one =
            |p: &CommitPartition| PartitionResult { partition: p.partition, error: Some(error) };
        OffsetCommitAnswer {
            topics: self
                .topics
                .iter()
                .map(|t| TopicResult {
                    topic: t.topic.clone(),
                    partitions: t.partitions.iter().map(one).collect(),
                })
                .collect(),
        }
    }
}

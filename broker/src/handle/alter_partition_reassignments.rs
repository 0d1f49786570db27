//! Giving partitions other copies. The only ones a single node can have are those it has, so a wish
//! is fulfilled at once or refused, and there is never one under way to call off.

use std::fmt;

use corelane_core::ids::BrokerId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::Call;
use super::places::{self, ByTopic};
use crate::edge::{Code, Told, tell};
use crate::topics::create::{AssignmentError, check_replicas};

/// A partition and the brokers that shall have it. `None`: nothing shall change any more.
struct Wanted {
    index: i32,
    replicas: Option<Vec<BrokerId>>,
}

/// Why a partition stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignError {
    UnknownTopic { topic: String },
    UnknownPartition { topic: String, index: i32 },
    NothingToCancel,
    Replicas(AssignmentError),
}

impl fmt::Display for AssignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic { topic } => write!(f, "Unable to find a topic named {topic}."),
            Self::UnknownPartition { topic, index } => {
                write!(f, "Unable to find partition {topic}:{index}.")
            }
            Self::NothingToCancel => f.write_str("No partition reassignment is in progress."),
            Self::Replicas(error) => error.fmt(f),
        }
    }
}

pub(super) async fn handle(call: Call) -> Reply {
    let (wanted, factor_may_change) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let done: Vec<(i32, Option<Told>)> = wanted
        .all()
        .map(|(topic, it)| (it.index, judge(&call, topic, it).err().map(|it| tell(&it))))
        .collect();
    let mut done = done.iter().map(|(index, told)| ReassignablePartitionResponse {
        partition_index: *index,
        error_code: told.as_ref().map_or(ErrorCode::None, Code::code).code(),
        error_message: told.as_ref().map(|it| it.message.as_str()),
    });
    let responses = wanted.0.iter().map(|(name, parts)| ReassignableTopicResponse {
        name,
        partitions: done.by_ref().take(parts.len()).collect(),
    });
    call.answer(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: factor_may_change,
        error_message: None,
        responses: responses.collect(),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<(ByTopic<Wanted>, bool), Reply> {
    let request = call.decode::<AlterPartitionReassignmentsRequest<'_>>().await?;
    let topics = request.topics.iter().map(|it| {
        let partitions = it.partitions.iter().map(|it| Wanted {
            index: it.partition_index,
            replicas: it.replicas.map(|all| all.iter().map(BrokerId).collect()),
        });
        (it.name.to_owned(), partitions.collect())
    });
    Ok((ByTopic(topics.collect()), request.allow_replication_factor_change))
}

fn judge(call: &Call, topic: &str, wanted: &Wanted) -> Result<(), AssignError> {
    let image = call.node.image();
    let (name, index) = (topic.to_owned(), wanted.index);
    if image.topic_named(topic).is_none() {
        return Err(AssignError::UnknownTopic { topic: name });
    }
    if places::partition(&image, topic, index).is_none() {
        return Err(AssignError::UnknownPartition { topic: name, index });
    }
    match &wanted.replicas {
        None => Err(AssignError::NothingToCancel),
        Some(replicas) => check_replicas(replicas, call.node.id()).map_err(AssignError::Replicas),
    }
}

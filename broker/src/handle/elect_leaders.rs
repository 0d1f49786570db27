//! Elections. There is one copy of everything and it leads, so nobody has to be elected.

use std::fmt;

use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

use super::Call;
use super::places::{self, ByTopic};
use crate::edge::{Code, Told, tell};

/// The kinds of elections: of the preferred copy, or of any that is left.
const KINDS: std::ops::RangeInclusive<i8> = 0..=1;

/// Why nobody is elected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElectError {
    UnknownKind { kind: i8 },
    UnknownTopic { topic: String },
    UnknownPartition { topic: String, index: i32 },
    NotNeeded,
}

impl fmt::Display for ElectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind { kind } => write!(f, "Unknown election type {kind}"),
            Self::UnknownTopic { topic } => write!(f, "No such topic as {topic}"),
            Self::UnknownPartition { topic, index } => {
                write!(f, "No such partition as {topic}-{index}")
            }
            Self::NotNeeded => f.write_str("Leader election not needed for topic partition."),
        }
    }
}

pub(super) async fn handle(call: Call) -> Reply {
    let (kind, wanted) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    if !KINDS.contains(&kind) {
        return call
            .answer(&ElectLeadersResponse {
                error_code: ElectError::UnknownKind { kind }.code().code(),
                ..Default::default()
            })
            .await;
    }
    // Who asks for all is told of those that changed, and none does.
    let Some(wanted) = wanted else { return call.answer(&ElectLeadersResponse::default()).await };
    let told: Vec<(i32, Told)> =
        wanted.all().map(|(topic, index)| (*index, tell(&judge(&call, topic, *index)))).collect();
    let mut told = told.iter().map(|(index, told)| PartitionResult {
        partition_id: *index,
        error_code: told.code().code(),
        error_message: Some(&told.message),
    });
    let results = wanted.0.iter().map(|(topic, indexes)| ReplicaElectionResult {
        topic,
        partition_result: told.by_ref().take(indexes.len()).collect(),
    });
    call.answer(&ElectLeadersResponse {
        error_code: ErrorCode::None.code(),
        replica_election_results: results.collect(),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<(i8, Option<ByTopic<i32>>), Reply> {
    let request = call.decode::<ElectLeadersRequest<'_>>().await?;
    let wanted = request.topic_partitions.map(|topics| {
        let topics = topics.iter();
        ByTopic(topics.map(|it| (it.topic.to_owned(), it.partitions.iter().collect())).collect())
    });
    Ok((request.election_type, wanted))
}

fn judge(call: &Call, topic: &str, index: i32) -> ElectError {
    let image = call.node.image();
    let name = topic.to_owned();
    if image.topic_named(topic).is_none() {
        return ElectError::UnknownTopic { topic: name };
    }
    match places::partition(&image, topic, index) {
        Some(_) => ElectError::NotNeeded,
        None => ElectError::UnknownPartition { topic: name, index },
    }
}

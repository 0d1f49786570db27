//! Who keeps the metadata: this node, the only voter, with the log on its first lane.

use corelane_core::ids::{LaneId, Offset};
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node as QuorumNode, ReplicaState,
    ResponsePartitionData, ResponseTopicData,
};
use corelane_net::wire::Uuid;

use super::Call;
use super::places::ByTopic;
use crate::node::{METADATA, Node};
use crate::topics::create::CLUSTER_METADATA;

/// The first version in which nodes have addresses, and replicas directories.
const NODES_FROM: i16 = 2;

/// The metadata log as it stands.
struct Standing {
    visible: Offset,
    end: Offset,
}

pub(super) async fn handle(call: Call) -> Reply {
    let asked = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let standing = call.node.on_lane(LaneId(0), standing).await;
    let id = call.node.id().0;
    let now_ms = call.node.lane().wall().0;
    let partition = |name: &str, index: i32| {
        if name != CLUSTER_METADATA || index != METADATA.partition.0 {
            return ResponsePartitionData {
                partition_index: index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                ..Default::default()
            };
        }
        // A leader has everything it has, now.
        let voter = ReplicaState {
            replica_id: id,
            replica_directory_id: if NODES_FROM <= call.version {
                call.node.facts().directory
            } else {
                Uuid::ZERO
            },
            log_end_offset: standing.end.0,
            last_fetch_timestamp: now_ms,
            last_caught_up_timestamp: now_ms,
        };
        ResponsePartitionData {
            partition_index: index,
            error_code: ErrorCode::None.code(),
            leader_id: id,
            leader_epoch: epoch(call.node.facts().incarnation),
            high_watermark: standing.visible.0,
            current_voters: [voter].into(),
            ..Default::default()
        }
    };
    let topics = asked.0.iter().map(|(name, parts)| ResponseTopicData {
        topic_name: name,
        partitions: parts.iter().map(|it| partition(name, *it)).collect(),
    });
    let listeners = call.node.facts().endpoints.iter();
    let listeners =
        listeners.map(|it| Listener { name: &it.listener, host: &it.host, port: it.port });
    let nodes = [QuorumNode { node_id: id, listeners: listeners.collect() }];
    call.answer(&DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: nodes.into_iter().filter(|_| NODES_FROM <= call.version).collect(),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<ByTopic<i32>, Reply> {
    let request = call.decode::<DescribeQuorumRequest<'_>>().await?;
    let topics = request.topics.iter();
    let topics = topics.map(|it| {
        let partitions = it.partitions.iter().map(|it| it.partition_index);
        (it.topic_name.to_owned(), partitions.collect())
    });
    Ok(ByTopic(topics.collect()))
}

/// Each start of the only voter is an election, and starts are counted durably.
fn epoch(incarnation: u64) -> i32 {
    i32::try_from(incarnation).unwrap_or(i32::MAX)
}

fn standing(node: &Node) -> Standing {
    let shared = node.store().partition(&METADATA).expect("lane 0 keeps the metadata");
    let log = shared.borrow();
    Standing { visible: log.visible(), end: log.end() }
}

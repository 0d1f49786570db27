//! Where a log begins and ends, and where its records of some time are.

use std::collections::BTreeMap;
use std::ops::Range;

use corelane_core::ids::{LaneId, PartitionIndex, TopicPartition};
use corelane_core::lane::join_all;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use corelane_net::wire::Array;

use super::Call;
use crate::edge::Code;
use crate::node::{LEADER_EPOCH, Node};

/// Times with a meaning, as the protocol numbers them.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The first version that knows each of them.
const MAX_TIMESTAMP_FROM: i16 = 7;
const EARLIEST_LOCAL_FROM: i16 = 8;
const LATEST_TIERED_FROM: i16 = 9;
const EARLIEST_PENDING_FROM: i16 = 11;

/// The first version that tells leader epochs.
const LEADER_EPOCH_FROM: i16 = 4;

/// A topic of the request, and its parts among all.
struct Topic {
    name: String,
    parts: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    index: i32,
    timestamp: i64,
    of: Result<TopicPartition, ErrorCode>,
}

/// A timestamp and an offset, both −1 when there is none.
pub(crate) type Place = Result<(i64, i64), ErrorCode>;

pub(super) async fn handle(call: Call) -> Reply {
    let (topics, parts, isolated) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let places = look_up(&call.node, &parts, isolated).await;
    let part = |at: usize| answer(call.version, parts[at].index, places[at]);
    let topic = |at: usize| {
        let Topic { name, parts } = &topics[at];
        ListOffsetsTopicResponse { name, partitions: Array::made(parts.clone(), &part) }
    };
    let topics = Array::made(0..topics.len(), &topic);
    call.answer(&ListOffsetsResponse { topics, ..Default::default() }).await
}

async fn read(call: &Call) -> Result<(Vec<Topic>, Vec<Part>, bool), Reply> {
    let request = call.decode::<ListOffsetsRequest<'_>>().await?;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut parts = Vec::new();
    for topic in &request.topics {
        let known = call.node.image().topic_named(topic.name).cloned();
        let first = parts.len();
        for it in &topic.partitions {
            let there = known.as_ref().filter(|known| {
                u32::try_from(it.partition_index).is_ok_and(|index| index < known.partitions)
            });
            let epoch = it.current_leader_epoch;
            let of = match there {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(_) if LEADER_EPOCH.0 < epoch => Err(ErrorCode::UnknownLeaderEpoch),
                Some(_) if !knows(call.version, it.timestamp) => Err(ErrorCode::UnsupportedVersion),
                Some(known) => Ok(TopicPartition {
                    topic: known.id,
                    partition: PartitionIndex(it.partition_index),
                }),
            };
            parts.push(Part { index: it.partition_index, timestamp: it.timestamp, of });
            call.node.one_more().await;
        }
        topics.push(Topic { name: topic.name.to_owned(), parts: first..parts.len() });
        call.node.one_more().await;
    }
    Ok((topics, parts, request.isolation_level == 1))
}

fn knows(version: i16, timestamp: i64) -> bool {
    match timestamp {
        MAX_TIMESTAMP => MAX_TIMESTAMP_FROM <= version,
        EARLIEST_LOCAL => EARLIEST_LOCAL_FROM <= version,
        LATEST_TIERED => LATEST_TIERED_FROM <= version,
        EARLIEST_PENDING_UPLOAD => EARLIEST_PENDING_FROM <= version,
        other => EARLIEST <= other,
    }
}

async fn look_up(node: &Node, parts: &[Part], isolated: bool) -> Vec<Place> {
    let mut by_lane: BTreeMap<LaneId, Vec<(usize, TopicPartition, i64)>> = BTreeMap::new();
    let mut places: Vec<Place> = parts.iter().map(|it| it.of.map(|_| (-1, -1))).collect();
    for (at, part) in parts.iter().enumerate() {
        if let Ok(of) = part.of {
            by_lane.entry(node.home(of)).or_default().push((at, of, part.timestamp));
        }
        node.one_more().await;
    }
    let asks = by_lane.into_iter().map(|(home, wanted)| async move {
        let ats: Vec<usize> = wanted.iter().map(|it| it.0).collect();
        let work = move |node: &Node| {
            let node = node.clone();
            async move {
                let mut places = Vec::with_capacity(wanted.len());
                for (_, of, timestamp) in wanted {
                    places.push(place(&node, of, timestamp, isolated).await);
                    node.one_more().await;
                }
                places
            }
        };
        (ats, node.work_on_lane(home, work).await)
    });
    for (ats, found) in join_all(asks).await {
        for (at, place) in ats.into_iter().zip(found) {
            places[at] = place;
            node.one_more().await;
        }
    }
    places
}

/// What the lane that owns the partition says.
async fn place(node: &Node, of: TopicPartition, timestamp: i64, isolated: bool) -> Place {
    let store = node.store();
    let shared = store.readable(&of).map_err(|it| it.code())?;
    let (log_start, visible, stable) = {
        let partition = shared.borrow();
        (partition.log_start(), partition.visible(), partition.stable())
    };
    let end = if isolated { stable } else { visible };
    let found = match timestamp {
        LATEST => return Ok((-1, end.0)),
        EARLIEST | EARLIEST_LOCAL => return Ok((-1, log_start.0)),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok((-1, -1)),
        MAX_TIMESTAMP => store.max_timestamp(&of).await,
        _ => store.offset_for_timestamp(&of, timestamp).await,
    };
    let found = found.map_err(|it| it.code())?;
    Ok(found.filter(|it| it.offset < end).map_or((-1, -1), |it| (it.timestamp, it.offset.0)))
}

fn answer(version: i16, index: i32, place: Place) -> ListOffsetsPartitionResponse {
    match place {
        Err(error) => ListOffsetsPartitionResponse {
            partition_index: index,
            error_code: error.code(),
            timestamp: -1,
            offset: -1,
            ..Default::default()
        },
        Ok((timestamp, offset)) => ListOffsetsPartitionResponse {
            partition_index: index,
            timestamp,
            offset,
            leader_epoch: if offset < 0 || version < LEADER_EPOCH_FROM {
                -1
            } else {
                LEADER_EPOCH.0
            },
            ..Default::default()
        },
    }
}

//! Records out. Each lane is asked once for what it has; when that is too little, each is asked
//! once to tell when there is more, and the first that does starts one more round.
//!
//! No session is kept: every fetch says in full what it wants, which every client accepts.

use std::collections::BTreeMap;
use std::ops::Range;

use corelane_core::buf::Slice;
use corelane_core::ids::{LaneId, Offset, PartitionIndex, TopicId, TopicPartition};
use corelane_core::lane::join_all;
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::fetch::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use corelane_net::wire::{Array, Records, Uuid};
use corelane_storage::log::store::{ReadDone, ReadError, ReadUpTo, ReadWant};

use super::Call;
use crate::config::keys;
use crate::edge::Code;
use crate::node::{Ask, LEADER_EPOCH, ReadPart, Tell, WatchPart};

/// Asks as a consumer that may look past the high watermark: the tool that compares replicas.
const DEBUGGING_CONSUMER: i32 = -2;

struct Named {
    name: String,
    id: TopicId,
    /// Its partitions among all of the request.
    parts: Range<usize>,
}

struct Part {
    index: i32,
    read: Result<ReadPart, ErrorCode>,
}

struct Wanted {
    topics: Vec<Named>,
    parts: Vec<Part>,
    bytes_min: usize,
    bytes_max: usize,
    until: Nanos,
    isolated: bool,
}

type Reads = Vec<Result<ReadDone, ReadError>>;

pub(super) async fn handle(call: Call) -> Reply {
    let wanted = match read(&call) {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    loop {
        let reads = read_all(&call, &wanted).await;
        let bytes: usize = reads.iter().filter_map(|it| it.as_ref().ok()).map(|it| it.bytes).sum();
        let refused = wanted.parts.iter().any(|it| it.read.is_err());
        let enough = wanted.bytes_min <= bytes
            || refused
            || reads.iter().any(Result::is_err)
            || wanted.until <= call.node.lane().now();
        if enough {
            return answer(&call, &wanted, reads);
        }
        wait(&call, &wanted, &reads).await;
    }
}

fn read(call: &Call) -> Result<Wanted, Reply> {
    let request = call.decode::<FetchRequest<'_>>()?;
    let replica =
        if call.version < 15 { request.replica_id } else { request.replica_state.replica_id };
    if 0 <= replica {
        return Err(Reply::Close(format!("a fetch as replica {replica} on a client's listener")));
    }
    let isolated = request.isolation_level == 1;
    let up_to = match (replica, isolated) {
        (DEBUGGING_CONSUMER, _) => ReadUpTo::End,
        (_, true) => ReadUpTo::Stable,
        (_, false) => ReadUpTo::Visible,
    };
    let ours = call.node.facts().config.settings.number(&keys::FETCH_BYTES_MAX);
    let bytes_max = i64::from(request.max_bytes).clamp(0, ours);
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut parts = Vec::new();
    for topic in &request.topics {
        let id = TopicId(topic.topic_id.0);
        let known = call.node.topic(topic.topic, id);
        let first = parts.len();
        for it in &topic.partitions {
            let there = known.as_ref().filter(|known| {
                u32::try_from(it.partition).is_ok_and(|index| index < known.partitions)
            });
            let read = match there {
                None if call.version < 13 || known.is_some() => {
                    Err(ErrorCode::UnknownTopicOrPartition)
                }
                None => Err(ErrorCode::UnknownTopicId),
                Some(_)
                    if 0 <= it.current_leader_epoch
                        && it.current_leader_epoch != LEADER_EPOCH.0 =>
                {
                    Err(if it.current_leader_epoch < LEADER_EPOCH.0 {
                        ErrorCode::FencedLeaderEpoch
                    } else {
                        ErrorCode::UnknownLeaderEpoch
                    })
                }
                Some(known) => Ok(ReadPart {
                    of: TopicPartition { topic: known.id, partition: PartitionIndex(it.partition) },
                    want: ReadWant {
                        from: Offset(it.fetch_offset),
                        up_to,
                        bytes_max: usize::try_from(it.partition_max_bytes).unwrap_or(0),
                        at_least_one: true,
                    },
                }),
            };
            parts.push(Part { index: it.partition, read });
        }
        topics.push(Named { name: topic.topic.to_owned(), id, parts: first..parts.len() });
    }
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    Ok(Wanted {
        topics,
        parts,
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(bytes_max).unwrap_or(0),
        until: call.node.lane().now() + Nanos::millis(wait_ms),
        isolated,
    })
}

/// Reads of all lanes, in the order of the request's partitions that are not refused already.
async fn read_all(call: &Call, wanted: &Wanted) -> Reads {
    let node = &call.node;
    let parts: Vec<ReadPart> =
        wanted.parts.iter().filter_map(|it| it.read.as_ref().ok().copied()).collect();
    let mut by_lane: BTreeMap<LaneId, (Vec<usize>, Vec<ReadPart>)> = BTreeMap::new();
    for (at, part) in parts.iter().enumerate() {
        let (places, reads) = by_lane.entry(node.home(part.of)).or_default();
        places.push(at);
        reads.push(*part);
    }
    let mut done: Vec<Option<Result<ReadDone, ReadError>>> = parts.iter().map(|_| None).collect();
    let mut asks = Vec::new();
    let mut places_of = Vec::new();
    for (home, (places, parts)) in by_lane {
        places_of.push(places);
        asks.push(read_on(call, home, parts, wanted.bytes_max));
    }
    for (places, reads) in places_of.into_iter().zip(join_all(asks).await) {
        for (at, read) in places.into_iter().zip(reads) {
            done[at] = Some(read);
        }
    }
    let mut left = wanted.bytes_max;
    let mut reads = Vec::with_capacity(done.len());
    for read in done {
        let mut read = read.expect("every part was asked for");
        if let Ok(it) = &mut read {
            // Several lanes each had the whole budget: what is too much is left for the next fetch.
            let first = left == wanted.bytes_max;
            if left < it.bytes && !first {
                it.slices.clear();
                it.bytes = 0;
                it.aborted.clear();
            }
            left = left.saturating_sub(it.bytes);
        }
        reads.push(read);
    }
    reads
}

async fn read_on(call: &Call, home: LaneId, parts: Vec<ReadPart>, bytes_max: usize) -> Reads {
    if home == call.node.lane().id() {
        return call.node.read_all(&parts, bytes_max).await;
    }
    match call.node.ask(home, Ask::Read { parts, bytes_max }).await {
        Tell::Read(reads) => reads,
        _ => panic!("a read is answered with what was read"),
    }
}

/// Waits until some lane has more, or the time is over.
async fn wait(call: &Call, wanted: &Wanted, reads: &Reads) {
    let node = &call.node;
    let mut by_lane: BTreeMap<LaneId, Vec<WatchPart>> = BTreeMap::new();
    let parts = wanted.parts.iter().filter_map(|it| it.read.as_ref().ok());
    for (part, read) in parts.zip(reads) {
        // What was read already does not count as news.
        let seen = read.as_ref().map_or(Offset(0), |it| match part.want.up_to {
            ReadUpTo::Visible => it.visible,
            ReadUpTo::Stable => it.stable,
            ReadUpTo::End => part.want.from.max(it.visible),
        });
        let from = part.want.from.max(seen);
        let watch = WatchPart { of: part.of, from, up_to: part.want.up_to };
        by_lane.entry(node.home(part.of)).or_default().push(watch);
    }
    node.watch(by_lane, wanted.until).await;
}

fn answer(call: &Call, wanted: &Wanted, reads: Reads) -> Reply {
    let mut records: Vec<Vec<Slice>> = Vec::new();
    let mut reads = reads.into_iter();
    let mut partitions: Vec<PartitionData<'_>> = Vec::with_capacity(wanted.parts.len());
    for part in &wanted.parts {
        let data = match &part.read {
            Err(error) => refused(part.index, *error),
            Ok(_) => match reads.next().expect("every part was read") {
                Err(error) => refused(part.index, error.code()),
                Ok(done) => {
                    let bytes = u32::try_from(done.bytes).expect("bounded by fetch.max.bytes");
                    let aborted = wanted.isolated.then(|| {
                        let tell = |it: &corelane_storage::producers::Aborted| AbortedTransaction {
                            producer_id: it.producer.0,
                            first_offset: it.first.0,
                        };
                        done.aborted.iter().map(tell).collect::<Array<'_, _>>()
                    });
                    let data = PartitionData {
                        partition_index: part.index,
                        high_watermark: done.visible.0,
                        last_stable_offset: done.stable.0,
                        log_start_offset: done.log_start.0,
                        aborted_transactions: aborted,
                        records: Some(Records::Outside { bytes }),
                        ..Default::default()
                    };
                    if 0 < bytes {
                        records.push(done.slices);
                    }
                    data
                }
            },
        };
        partitions.push(data);
    }
    let topic = |at: usize| {
        let topic = &wanted.topics[at];
        FetchableTopicResponse {
            topic: &topic.name,
            topic_id: Uuid(topic.id.0),
            partitions: partitions[topic.parts.clone()].into(),
        }
    };
    let responses = Array::made(0..wanted.topics.len(), &topic);
    let response = FetchResponse { responses, ..Default::default() };
    call.answer_with(&response, records)
}

fn refused(index: i32, error: ErrorCode) -> PartitionData<'static> {
    PartitionData {
        partition_index: index,
        error_code: error.code(),
        high_watermark: -1,
        records: Some(Records::Bytes(&[])),
        ..Default::default()
    }
}

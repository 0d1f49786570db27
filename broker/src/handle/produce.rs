//! Records in. Batches are appended where they lie in the frame: those of this lane's partitions at
//! once, those of another lane by that lane, which is asked one question with its parts of the frame.
//! Where a log has no room for them they wait there in their order, for the request's own time.

use std::collections::BTreeMap;
use std::ops::Range;

use corelane_core::ids::{LaneId, Offset, PartitionIndex, TopicId, TopicPartition};
use corelane_core::lane::join_all;
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use corelane_net::wire::{Array, Uuid, range_of};
use corelane_storage::batch::Batch;
use corelane_storage::compress::Codec;
use corelane_storage::log::store::AppendError;

use super::Call;
use crate::edge::{Code, record_errors, sentence};
use crate::node::{Ask, ProducePart, Produced, Sent, Tell};
use crate::topics::internal::is_internal;

/// The first version whose clients know zstd. Fetch has no such bound: what is stored is given as it is.
const ZSTD_FROM: i16 = 7;

/// One batch of the request, and where its answer goes.
struct Part {
    index: i32,
    /// Where the batch lies in the frame, or why it is not wanted.
    batch: Result<(TopicPartition, Range<usize>), ErrorCode>,
}

/// One topic of the request, as its answer names it.
struct Named {
    name: String,
    id: TopicId,
    /// Its batches among all of the request.
    parts: Range<usize>,
}

pub(super) async fn handle(mut call: Call) -> Reply {
    let (acks, timeout, topics, parts) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let wait = acks != 0;
    if !(-1..=1).contains(&acks) {
        let told = parts.iter().map(|_| Some(refused(ErrorCode::InvalidRequiredAcks)));
        let told: Vec<_> = told.collect();
        return answer(&call, &topics, &parts, &told).await;
    }
    let produced = append(&mut call, &parts, wait, timeout).await;
    if !wait {
        // Nobody is told of an error, so the connection ends: the only sign a client can see.
        return match produced.iter().flatten().find_map(|it| it.error) {
            None => Reply::Silent,
            Some(error) => {
                Reply::Close(format!("records without acknowledgement: {}", error.name()))
            }
        };
    }
    answer(&call, &topics, &parts, &produced).await
}

async fn read(call: &Call) -> Result<(i16, Nanos, Vec<Named>, Vec<Part>), Reply> {
    let request = call.decode::<ProduceRequest<'_>>().await?;
    if request.transactional_id.is_some() {
        return Err(Reply::Close(
            "a transactional produce where no transactions are offered".into(),
        ));
    }
    let frame = call.frame();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    let mut parts = Vec::new();
    for data in &request.topic_data {
        let id = TopicId(data.topic_id.0);
        let known = call.node.topic(data.name, id);
        let first = parts.len();
        parts.reserve(data.partition_data.len());
        for partition in &data.partition_data {
            let batch = match &known {
                None if call.version < 13 => Err(ErrorCode::UnknownTopicOrPartition),
                None => Err(ErrorCode::UnknownTopicId),
                Some(topic) if is_internal(&topic.name) => Err(ErrorCode::InvalidTopicException),
                Some(topic) => {
                    let there =
                        u32::try_from(partition.index).is_ok_and(|it| it < topic.partitions);
                    let of = TopicPartition {
                        topic: topic.id,
                        partition: PartitionIndex(partition.index),
                    };
                    if there {
                        let bytes = partition.records.map(|it| it.bytes());
                        if call.version < ZSTD_FROM && bytes.is_some_and(is_zstd) {
                            Err(ErrorCode::UnsupportedCompressionType)
                        } else {
                            // Nothing is somewhere, too: its append is refused as empty.
                            let range = bytes.map(|it| range_of(frame, it));
                            Ok((of, range.unwrap_or_default()))
                        }
                    } else {
                        Err(ErrorCode::UnknownTopicOrPartition)
                    }
                }
            };
            parts.push(Part { index: partition.index, batch });
            call.node.one_more().await;
        }
        topics.push(Named { name: data.name.to_owned(), id, parts: first..parts.len() });
        call.node.one_more().await;
    }
    let timeout = Nanos::millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    Ok((request.acks, timeout, topics, parts))
}

/// Whether the records of a batch are compressed with zstd. What is no batch is refused later.
fn is_zstd(bytes: &[u8]) -> bool {
    let batch = Batch::split(bytes);
    batch.is_ok_and(|(it, _)| {
        Codec::from_number(it.attributes().codec_number()) == Some(Codec::Zstd)
    })
}

/// What a client is told about one batch.
struct Outcome {
    error: Option<ErrorCode>,
    base: i64,
    log_append_ms: i64,
    log_start: i64,
    faults: Vec<(i32, String)>,
    message: Option<String>,
}

fn refused(error: ErrorCode) -> Outcome {
    Outcome {
        error: Some(error),
        base: -1,
        log_append_ms: -1,
        log_start: -1,
        faults: Vec::new(),
        message: None,
    }
}

/// What is told of a batch that was not looked at.
fn turned_away(error: ErrorCode) -> Outcome {
    let message = (error == ErrorCode::UnsupportedCompressionType)
        .then(|| format!("Produce requests before version {ZSTD_FROM} cannot have zstd batches"));
    Outcome { message, ..refused(error) }
}

fn outcome(produced: Produced) -> Outcome {
    let Offset(log_start) = produced.log_start;
    match produced.result {
        Ok(stored) => Outcome {
            error: None,
            base: stored.base.0,
            log_append_ms: stored.log_append_ms.unwrap_or(-1),
            log_start,
            faults: Vec::new(),
            message: None,
        },
        Err(error) => {
            let (faults, message) = match &error {
                AppendError::Refused(refusal) => record_errors(refusal),
                _ => (Vec::new(), Some(sentence(&error))),
            };
            Outcome { faults, message, log_start, ..refused(error.code()) }
        }
    }
}

/// What became of each batch. None is without.
async fn append(
    call: &mut Call,
    parts: &[Part],
    wait: bool,
    timeout: Nanos,
) -> Vec<Option<Outcome>> {
    let node = call.node.clone();
    let sent = Sent { from: call.peer.addr, until: node.lane().now() + timeout };
    let here = node.lane().id();
    let mut told: Vec<Option<Outcome>> = parts.iter().map(|_| None).collect();
    let mut pending = Vec::new();
    let mut away: BTreeMap<LaneId, (Vec<usize>, Vec<ProducePart>)> = BTreeMap::new();
    // In the frame's order; what has no bytes is anywhere.
    let mut end = 0;
    let ranges: Vec<_> = parts
        .iter()
        .filter_map(|it| it.batch.as_ref().ok())
        .map(|(_, range)| {
            let range = if range.is_empty() { end..end } else { range.clone() };
            end = range.end;
            range
        })
        .collect();
    let mut pieces = call.split_frame(&ranges).into_iter();
    for (at, part) in parts.iter().enumerate() {
        let of = match &part.batch {
            Ok((of, _)) => *of,
            Err(error) => {
                told[at] = Some(turned_away(*error));
                continue;
            }
        };
        let batch = pieces.next().expect("a piece for each batch");
        let home = node.home(of);
        if home == here {
            pending.push(node.append(&of, batch, sent));
            node.one_more().await;
        } else {
            let (places, asks) = away.entry(home).or_default();
            places.push(at);
            asks.push(ProducePart { of, batch });
        }
    }
    let mut away_at = Vec::new();
    let mut asks = Vec::new();
    for (home, (places, parts)) in away {
        away_at.push(places);
        asks.push(node.ask(home, Ask::Produce { parts, wait, sent }));
    }
    call.reached(|it| &it.queued);
    let (answers, settled) = both(join_all(asks), node.settle(pending, wait)).await;
    call.reached(|it| &it.committed);
    for (places, tell) in away_at.into_iter().zip(answers) {
        let Tell::Produced(produced) = tell else { panic!("batches are answered one by one") };
        for (at, produced) in places.into_iter().zip(produced) {
            told[at] = Some(outcome(produced));
            node.one_more().await;
        }
    }
    // What is left are those of this lane, in their order.
    let mut settled = settled.into_iter();
    for place in told.iter_mut().filter(|it| it.is_none()) {
        *place = Some(outcome(settled.next().expect("every batch has an outcome")));
        node.one_more().await;
    }
    assert!(settled.next().is_none(), "every outcome has its batch");
    told
}

/// Waits for both, started in this order.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let mut first = std::pin::pin!(first);
    let mut second = std::pin::pin!(second);
    let (mut one, mut two) = (None, None);
    std::future::poll_fn(|context| {
        if one.is_none()
            && let std::task::Poll::Ready(it) = first.as_mut().poll(context)
        {
            one = Some(it);
        }
        if two.is_none()
            && let std::task::Poll::Ready(it) = second.as_mut().poll(context)
        {
            two = Some(it);
        }
        match (one.take(), two.take()) {
            (Some(a), Some(b)) => std::task::Poll::Ready((a, b)),
            (a, b) => {
                (one, two) = (a, b);
                std::task::Poll::Pending
            }
        }
    })
    .await
}

/// Nothing is gathered for the answer: each part of it is made while it is written.
async fn answer(call: &Call, topics: &[Named], parts: &[Part], told: &[Option<Outcome>]) -> Reply {
    let part = |at: usize| {
        let told = told[at].as_ref().expect("every batch has an outcome");
        let faults = told.faults.iter().map(|(index, why)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(why),
        });
        PartitionProduceResponse {
            index: parts[at].index,
            error_code: told.error.unwrap_or(ErrorCode::None).code(),
            base_offset: told.base,
            log_append_time_ms: told.log_append_ms,
            log_start_offset: told.log_start,
            record_errors: faults.collect(),
            error_message: told.message.as_deref(),
            ..Default::default()
        }
    };
    let topic = |at: usize| TopicProduceResponse {
        name: &topics[at].name,
        topic_id: Uuid(topics[at].id.0),
        partition_responses: Array::made(topics[at].parts.clone(), &part),
    };
    let responses = Array::made(0..topics.len(), &topic);
    call.answer(&ProduceResponse { responses, ..Default::default() }).await
}

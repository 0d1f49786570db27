//! Moving the start of logs forward. What lies before is gone, for readers and for good, once the
//! answer comes.

use std::fmt;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::{Race, join_all, race};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use corelane_storage::log::store::DeleteRecordsError;

use super::Call;
use super::places::{self, ByTopic};
use crate::edge::Code;
use crate::node::Node;
use crate::topics::internal::is_internal;

/// Everything that is durable.
const HIGH_WATERMARK: i64 = -1;

/// A partition, and where its log shall begin.
struct Wanted {
    index: i32,
    offset: i64,
}

/// Why records stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepError {
    UnknownPartition,
    /// The broker needs them.
    Internal,
    /// The topic is compacted and never deletes by age or size.
    Compacted,
    Late,
    Log(DeleteRecordsError),
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPartition => f.write_str("there is no such partition"),
            Self::Internal => f.write_str("records of an internal topic are not deleted"),
            Self::Compacted => f.write_str("the topic's policy does not delete records"),
            Self::Late => f.write_str("the client's time is over"),
            Self::Log(error) => error.fmt(f),
        }
    }
}

/// The new start of the log.
type Deleted = Result<Offset, KeepError>;

pub(super) async fn handle(call: Call) -> Reply {
    let (wanted, timeout_ms) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let deleted = call.committed(delete(&call.node, &wanted, timeout_ms)).await;
    let told = wanted.all().zip(deleted).map(|((_, it), done)| answer(it, done));
    let told = call.node.gather(told).await;
    let mut left = told.as_slice();
    let topics = call.node.gather(wanted.0.iter().map(|(name, parts)| {
        let (here, rest) = left.split_at(parts.len());
        left = rest;
        DeleteRecordsTopicResult { name, partitions: here.into() }
    }));
    let topics = topics.await.into();
    call.answer(&DeleteRecordsResponse { topics, ..Default::default() }).await
}

async fn read(call: &Call) -> Result<(ByTopic<Wanted>, i32), Reply> {
    let request = call.decode::<DeleteRecordsRequest<'_>>().await?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for it in &request.topics {
        let partitions = it.partitions.iter();
        let partitions =
            partitions.map(|it| Wanted { index: it.partition_index, offset: it.offset });
        topics.push((it.name.to_owned(), call.node.gather(partitions).await));
        call.node.one_more().await;
    }
    Ok((ByTopic(topics), request.timeout_ms))
}

async fn delete(node: &Node, wanted: &ByTopic<Wanted>, timeout_ms: i32) -> Vec<Deleted> {
    let mut deleted: Vec<Deleted> = Vec::new();
    let mut accepted = Vec::new();
    for (at, (topic, it)) in wanted.all().enumerate() {
        match accept(node, topic, it.index) {
            Ok(of) => {
                let start = (it.offset != HIGH_WATERMARK).then_some(Offset(it.offset));
                accepted.push((of, (at, start)));
                deleted.push(Err(KeepError::Late));
            }
            Err(error) => deleted.push(Err(error)),
        }
        node.one_more().await;
    }
    let patience = Nanos::millis(u64::try_from(timeout_ms).unwrap_or(0));
    let until = node.lane().now().0.saturating_add(patience.0);
    let asks = places::by_lane(node, accepted).into_iter().map(|(home, parts)| async move {
        let ats: Vec<usize> = parts.iter().map(|it| it.1.0).collect();
        let work = node.work_on_lane(home, move |node| {
            let begun =
                parts.iter().map(|(of, (_, start))| node.store().delete_records(of, *start));
            settle(node.clone(), begun.collect())
        });
        match race(work, node.lane().sleep_until(Nanos(until))).await {
            Race::First(done) => (ats, Some(done)),
            Race::Second(()) => (ats, None),
        }
    });
    for (ats, done) in join_all(asks).await {
        for (at, done) in ats.into_iter().zip(done.into_iter().flatten()) {
            deleted[at] = done.map_err(KeepError::Log);
        }
    }
    deleted
}

fn accept(node: &Node, topic: &str, index: i32) -> Result<TopicPartition, KeepError> {
    let image = node.image();
    let of = places::partition(&image, topic, index).ok_or(KeepError::UnknownPartition)?;
    if is_internal(topic) {
        return Err(KeepError::Internal);
    }
    let layers = image.layers(&node.facts().config.settings, node.id());
    let settings = image.settings_of(image.topic(of.topic).expect("just found"), &layers);
    if settings.compact && !settings.delete {
        return Err(KeepError::Compacted);
    }
    Ok(of)
}

type Begun = Result<(Offset, corelane_storage::log::journal::Commit), DeleteRecordsError>;

/// Waits, on the lane of the logs, until every new start is durable.
async fn settle(node: Node, begun: Vec<Begun>) -> Vec<Result<Offset, DeleteRecordsError>> {
    let commit = begun.iter().filter_map(|it| it.as_ref().ok()).map(|it| it.1).max();
    let durable = match commit {
        Some(commit) => node.store().durable(commit).await,
        None => Ok(()),
    };
    let settle = |it: Begun| match (it, durable) {
        (Ok(_), Err(errno)) => Err(DeleteRecordsError::Failed(errno)),
        (Ok((start, _)), Ok(())) => Ok(start),
        (Err(error), _) => Err(error),
    };
    begun.into_iter().map(settle).collect()
}

fn answer(wanted: &Wanted, deleted: Deleted) -> DeleteRecordsPartitionResult {
    let (low_watermark, error) = match deleted {
        Ok(start) => (start.0, ErrorCode::None),
        Err(error) => (-1, error.code()),
    };
    DeleteRecordsPartitionResult {
        partition_index: wanted.index,
        low_watermark,
        error_code: error.code(),
    }
}

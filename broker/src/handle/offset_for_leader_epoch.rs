//! Where the records of an epoch end: how a careful consumer finds out that its log was cut.

use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};
use corelane_core::lane::join_all;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};

use super::Call;
use super::places::{self, ByTopic};
use crate::edge::Code;
use crate::node::{LEADER_EPOCH, Node};
use crate::topics::image::Image;

struct Wanted {
    index: i32,
    /// What the client takes for the epoch of today's leader; −1 when it does not know.
    current: LeaderEpoch,
    epoch: LeaderEpoch,
}

/// An epoch and its end, −1 both when none is known.
type Ended = Result<(LeaderEpoch, Offset), ErrorCode>;

pub(super) async fn handle(call: Call) -> Reply {
    let wanted = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let ended = look_up(&call.node, &wanted).await;
    let told = wanted.all().zip(ended).map(|((_, it), end)| answer(it, end));
    let told = call.node.gather(told).await;
    let mut left = told.as_slice();
    let topics = call.node.gather(wanted.0.iter().map(|(topic, parts)| {
        let (here, rest) = left.split_at(parts.len());
        left = rest;
        OffsetForLeaderTopicResult { topic, partitions: here.into() }
    }));
    let topics = topics.await.into();
    call.answer(&OffsetForLeaderEpochResponse { topics, ..Default::default() }).await
}

async fn read(call: &Call) -> Result<ByTopic<Wanted>, Reply> {
    let request = call.decode::<OffsetForLeaderEpochRequest<'_>>().await?;
    let mut topics = Vec::with_capacity(request.topics.len());
    for it in &request.topics {
        let partitions = it.partitions.iter().map(|it| Wanted {
            index: it.partition,
            current: LeaderEpoch(it.current_leader_epoch),
            epoch: LeaderEpoch(it.leader_epoch),
        });
        topics.push((it.topic.to_owned(), call.node.gather(partitions).await));
        call.node.one_more().await;
    }
    Ok(ByTopic(topics))
}

async fn look_up(node: &Node, wanted: &ByTopic<Wanted>) -> Vec<Ended> {
    let image = node.image();
    let (mut ended, mut accepted) = (Vec::new(), Vec::new());
    for (at, (topic, it)) in wanted.all().enumerate() {
        match accept(&image, topic, it) {
            Ok(of) => {
                accepted.push((of, (at, it.epoch)));
                ended.push(Ok((LeaderEpoch::NONE, Offset::NONE)));
            }
            Err(code) => ended.push(Err(code)),
        }
        node.one_more().await;
    }
    let asks = places::by_lane(node, accepted).into_iter().map(|(home, parts)| async move {
        let ats: Vec<usize> = parts.iter().map(|it| it.1.0).collect();
        let look = move |node: &Node| {
            let node = node.clone();
            async move {
                let end = |(of, (_, epoch)): &(TopicPartition, (usize, LeaderEpoch))| {
                    end_of(&node, of, *epoch)
                };
                node.gather(parts.iter().map(end)).await
            }
        };
        (ats, node.work_on_lane(home, look).await)
    });
    for (ats, found) in join_all(asks).await {
        for (at, end) in ats.into_iter().zip(found) {
            ended[at] = end;
        }
    }
    ended
}

fn accept(image: &Image, topic: &str, wanted: &Wanted) -> Result<TopicPartition, ErrorCode> {
    let of = places::partition(image, topic, wanted.index);
    let of = of.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match wanted.current {
        LeaderEpoch::NONE => Ok(of),
        it if it < LEADER_EPOCH => Err(ErrorCode::FencedLeaderEpoch),
        it if LEADER_EPOCH < it => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(of),
    }
}

/// What the lane that owns the partition knows.
fn end_of(node: &Node, of: &TopicPartition, epoch: LeaderEpoch) -> Ended {
    let shared = node.store().readable(of).map_err(|it| it.code())?;
    let partition = shared.borrow();
    let known = partition.end_of_epoch(epoch);
    // What is not durable may be taken back, and was never shown.
    let told = known.map(|(epoch, end)| (epoch, end.min(partition.visible())));
    Ok(told.unwrap_or((LeaderEpoch::NONE, Offset::NONE)))
}

fn answer(wanted: &Wanted, ended: Ended) -> EpochEndOffset {
    let (error, (epoch, end)) = match ended {
        Ok(end) => (ErrorCode::None, end),
        Err(code) => (code, (LeaderEpoch::NONE, Offset::NONE)),
    };
    EpochEndOffset {
        error_code: error.code(),
        partition: wanted.index,
        leader_epoch: epoch.0,
        end_offset: end.0,
    }
}

//! How far a group has read. Only partitions that exist are kept; the others are refused one by
//! one, and the answer names all in the order of the request.

use std::collections::BTreeMap;

use corelane_coordinator::{Answer, CommitPartition, CommitTopic, OffsetCommit, Request};
use corelane_core::ids::TopicId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use corelane_net::wire::{Array, Uuid};

use super::Call;
use crate::edge::group_code;

/// From this version on topics have ids and no names.
const IDS_FROM: i16 = 10;

/// What old clients say when the broker's retention counts.
const DEFAULT_RETENTION: i64 = -1;

/// One topic of the request, as its answer names it.
struct Named {
    name: String,
    id: TopicId,
    /// The topic's own name, if it is there.
    known: Option<String>,
    partitions: Vec<(i32, ErrorCode)>,
}

pub(super) async fn handle(call: Call) -> Reply {
    let (request, mut topics) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    if !request.topics.is_empty() {
        let answer = call.committed(call.node.ask_group(Request::OffsetCommit(request))).await;
        let Answer::OffsetCommit(committed) = answer else { panic!("a commit is answered as one") };
        let mut results = BTreeMap::new();
        for topic in &committed.topics {
            for it in &topic.partitions {
                results.insert((topic.topic.as_str(), it.partition), group_code(it.error));
                call.node.one_more().await;
            }
        }
        for topic in &mut topics {
            let Some(known) = &topic.known else { continue };
            for (partition, error) in &mut topic.partitions {
                if *error == ErrorCode::None {
                    let result = results.get(&(known.as_str(), *partition));
                    *error = *result.expect("every partition of a commit has its result");
                }
                call.node.one_more().await;
            }
        }
    }
    answer(&call, &topics).await
}

async fn read(call: &Call) -> Result<(OffsetCommit, Vec<Named>), Reply> {
    let request = call.decode::<OffsetCommitRequest<'_>>().await?;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut commits = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let id = TopicId(topic.topic_id.0);
        let known = if call.version < IDS_FROM {
            call.node.image().topic_named(topic.name).cloned()
        } else {
            call.node.image().topic(id).cloned()
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let mut kept = Vec::with_capacity(topic.partitions.len());
        for it in &topic.partitions {
            let error = match &known {
                None if IDS_FROM <= call.version => ErrorCode::UnknownTopicId,
                Some(known)
                    if u32::try_from(it.partition_index)
                        .is_ok_and(|index| index < known.partitions) =>
                {
                    kept.push(CommitPartition {
                        partition: it.partition_index,
                        offset: it.committed_offset,
                        leader_epoch: it.committed_leader_epoch,
                        metadata: it.committed_metadata.map(str::to_owned),
                    });
                    ErrorCode::None
                }
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            partitions.push((it.partition_index, error));
            call.node.one_more().await;
        }
        let known = known.map(|it| it.name.clone());
        if let (Some(known), false) = (&known, kept.is_empty()) {
            commits.push(CommitTopic { topic: known.clone(), partitions: kept });
        }
        topics.push(Named { name: topic.name.to_owned(), id, known, partitions });
        call.node.one_more().await;
    }
    let retention = request.retention_time_ms;
    let commit = OffsetCommit {
        version: call.version,
        group: request.group_id.to_owned(),
        generation: request.generation_id_or_member_epoch,
        member: request.member_id.to_owned(),
        instance: request.group_instance_id.map(str::to_owned),
        retention_ms: (retention != DEFAULT_RETENTION).then_some(retention),
        topics: commits,
    };
    Ok((commit, topics))
}

async fn answer(call: &Call, topics: &[Named]) -> Reply {
    let told = call.node.gather(topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let told = partitions.map(|(partition, error)| OffsetCommitResponsePartition {
            partition_index: *partition,
            error_code: error.code(),
        });
        (topic, told.collect::<Vec<_>>())
    }));
    let told = told.await;
    let topic = |at: usize| {
        let (topic, partitions) = &told[at];
        OffsetCommitResponseTopic {
            name: &topic.name,
            topic_id: Uuid(topic.id.0),
            partitions: partitions.into(),
        }
    };
    let topics = Array::made(0..told.len(), &topic);
    call.answer(&OffsetCommitResponse { topics, ..Default::default() }).await
}

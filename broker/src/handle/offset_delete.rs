//! Forgets how far a group has read some partitions.

use std::collections::BTreeMap;

use corelane_coordinator::{Answer, OffsetDelete, Request};
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::Call;
use crate::edge::group_code;

type Topics = Vec<(String, Vec<(i32, ErrorCode)>)>;

pub(super) async fn handle(call: Call) -> Reply {
    let (request, mut topics) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let answer = call.committed(call.node.ask_group(Request::OffsetDelete(request))).await;
    let Answer::OffsetDelete(deleted) = answer else {
        panic!("a deletion of offsets is answered as one")
    };
    if deleted.error.is_some() {
        let error_code = group_code(deleted.error).code();
        return call.answer(&OffsetDeleteResponse { error_code, ..Default::default() }).await;
    }
    let mut results = BTreeMap::new();
    for topic in &deleted.topics {
        for it in &topic.partitions {
            results.insert((topic.topic.as_str(), it.partition), group_code(it.error));
            call.node.one_more().await;
        }
    }
    for (name, partitions) in &mut topics {
        for (partition, error) in partitions {
            if *error == ErrorCode::None {
                let result = results.get(&(name.as_str(), *partition));
                *error = *result.expect("every partition asked for has its result");
            }
        }
    }
    let told = topics.iter().map(|(name, partitions)| OffsetDeleteResponseTopic {
        name,
        partitions: partitions
            .iter()
            .map(|(partition, error)| OffsetDeleteResponsePartition {
                partition_index: *partition,
                error_code: error.code(),
            })
            .collect(),
    });
    call.answer(&OffsetDeleteResponse { topics: told.collect(), ..Default::default() }).await
}

/// Partitions that are not there are refused here, the others by the group.
async fn read(call: &Call) -> Result<(OffsetDelete, Topics), Reply> {
    let request = call.decode::<OffsetDeleteRequest<'_>>().await?;
    let image = call.node.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut wanted = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = image.topic_named(topic.name).map_or(0, |it| it.partitions);
        let there = |index: i32| u32::try_from(index).is_ok_and(|it| it < partitions);
        let named = topic.partitions.iter().map(|it| it.partition_index);
        let judged = named.map(|it| match there(it) {
            true => (it, ErrorCode::None),
            false => (it, ErrorCode::UnknownTopicOrPartition),
        });
        let judged: Vec<(i32, ErrorCode)> = call.node.gather(judged).await;
        let kept = judged.iter().map(|it| it.0).filter(|&it| there(it));
        let kept: Vec<i32> = call.node.gather(kept).await;
        if !kept.is_empty() {
            wanted.push((topic.name.to_owned(), kept));
        }
        topics.push((topic.name.to_owned(), judged));
    }
    Ok((OffsetDelete { group: request.group_id.to_owned(), topics: wanted }, topics))
}

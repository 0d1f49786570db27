//! Where groups go on reading. Three shapes of one question: a group by its topics' names, several
//! groups, and several groups by their topics' ids.

use std::collections::BTreeSet;

use corelane_coordinator::{
    Answer, FetchedPartition, FetchedTopic, GroupError, OffsetFetch, OffsetFetchAnswer, Request,
};
use corelane_core::ids::TopicId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use corelane_net::wire::Uuid;

use super::Call;
use crate::edge::group_code;

/// From this version on an error of the whole group has its own field.
const GROUP_ERROR_FROM: i16 = 2;

/// From this version on several groups are asked at once.
const BATCHED_FROM: i16 = 8;

/// From this version on topics have ids and no names.
const IDS_FROM: i16 = 10;

/// What is said where no offset was committed.
const NOTHING: i64 = -1;

/// What a client asks of one group. No topics: all the group has.
struct Wanted {
    group: String,
    topics: Option<Vec<WantedTopic>>,
}

struct WantedTopic {
    id: TopicId,
    /// `None`: the id is nobody's.
    name: Option<String>,
    partitions: Vec<i32>,
}

/// What it is told.
struct Told {
    group: String,
    error: Option<GroupError>,
    topics: Vec<ToldTopic>,
}

struct ToldTopic {
    id: TopicId,
    name: String,
    partitions: Vec<(FetchedPartition, ErrorCode)>,
}

pub(super) async fn handle(call: Call) -> Reply {
    // Whether only stable offsets count makes no difference: none is part of a transaction.
    let wanted = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let requests = call.node.gather(wanted.iter().map(request)).await;
    let answers = call.node.ask_groups(requests).await;
    let told: Vec<Told> = wanted
        .into_iter()
        .zip(answers)
        .map(|(wanted, answer)| {
            let Answer::OffsetFetch(fetched) = answer else {
                panic!("a fetch of offsets is answered as one")
            };
            tell(&call, wanted, fetched)
        })
        .collect();
    if call.version < BATCHED_FROM {
        answer_one(&call, &told[0]).await
    } else {
        answer_all(&call, &told).await
    }
}

async fn read(call: &Call) -> Result<Vec<Wanted>, Reply> {
    let request = call.decode::<OffsetFetchRequest<'_>>().await?;
    if call.version < BATCHED_FROM {
        let mut wanted = Vec::new();
        for it in request.topics.iter().flatten() {
            let (id, name) = (TopicId::ZERO, Some(it.name.to_owned()));
            let partitions = call.node.gather(it.partition_indexes.iter()).await;
            wanted.push(WantedTopic { id, name, partitions });
            call.node.one_more().await;
        }
        let topics = request.topics.is_some().then_some(wanted);
        return Ok(vec![Wanted { group: request.group_id.to_owned(), topics }]);
    }
    let image = call.node.image();
    // Who asks twice for all of a group is told once: else a short question had an endless answer.
    let mut whole = BTreeSet::new();
    let mut is_new = |it: &OffsetFetchRequestGroup<'_>| {
        it.topics.is_some() || whole.insert(it.group_id.to_owned())
    };
    let mut groups = Vec::new();
    for group in &request.groups {
        call.node.one_more().await;
        if !is_new(&group) {
            continue;
        }
        let mut wanted = Vec::new();
        for it in group.topics.iter().flatten() {
            let id = TopicId(it.topic_id.0);
            let name = if call.version < IDS_FROM {
                Some(it.name.to_owned())
            } else {
                image.topic(id).map(|it| it.name.clone())
            };
            let partitions = call.node.gather(it.partition_indexes.iter()).await;
            wanted.push(WantedTopic { id, name, partitions });
            call.node.one_more().await;
        }
        let topics = group.topics.is_some().then_some(wanted);
        groups.push(Wanted { group: group.group_id.to_owned(), topics });
    }
    Ok(groups)
}

fn request(wanted: &Wanted) -> Request {
    let topics = wanted.topics.as_ref().map(|topics| {
        let known = |it: &WantedTopic| Some((it.name.clone()?, it.partitions.clone()));
        topics.iter().filter_map(known).collect()
    });
    Request::OffsetFetch(OffsetFetch { group: wanted.group.clone(), topics })
}

fn tell(call: &Call, wanted: Wanted, fetched: OffsetFetchAnswer) -> Told {
    let error = fetched.error;
    let alone_in_error = error.is_some() && call.version < GROUP_ERROR_FROM;
    let topics = match wanted.topics {
        Some(topics) if alone_in_error => {
            let code = group_code(error);
            topics.into_iter().map(|it| refused(it, code)).collect()
        }
        _ if error.is_some() => Vec::new(),
        Some(topics) => {
            // Topics that exist were all asked for, in this order.
            let mut fetched = fetched.topics.into_iter();
            let mut one = |it: WantedTopic| match it.name {
                None => refused(it, ErrorCode::UnknownTopicId),
                Some(_) => {
                    let topic = fetched.next().expect("every topic asked for is answered");
                    found(it.id, topic)
                }
            };
            topics.into_iter().map(&mut one).collect()
        }
        None => {
            let image = call.node.image();
            let with_id = |it: FetchedTopic| {
                let id = image.topic_named(&it.topic).map(|it| it.id);
                // A topic that is gone has no id to be named by.
                let id = if call.version < IDS_FROM { Some(TopicId::ZERO) } else { id };
                id.map(|id| found(id, it))
            };
            fetched.topics.into_iter().filter_map(with_id).collect()
        }
    };
    Told { group: wanted.group, error, topics }
}

fn found(id: TopicId, topic: FetchedTopic) -> ToldTopic {
    let partitions = topic.partitions.into_iter().map(|it| (it, ErrorCode::None)).collect();
    ToldTopic { id, name: topic.topic, partitions }
}

fn refused(topic: WantedTopic, error: ErrorCode) -> ToldTopic {
    let nothing = |partition| FetchedPartition {
        partition,
        offset: NOTHING,
        leader_epoch: -1,
        metadata: String::new(),
    };
    ToldTopic {
        id: topic.id,
        name: topic.name.unwrap_or_default(),
        partitions: topic.partitions.into_iter().map(|it| (nothing(it), error)).collect(),
    }
}

async fn answer_one(call: &Call, told: &Told) -> Reply {
    let topics = told.topics.iter().map(|topic| OffsetFetchResponseTopic {
        name: &topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|(it, error)| OffsetFetchResponsePartition {
                partition_index: it.partition,
                committed_offset: it.offset,
                committed_leader_epoch: it.leader_epoch,
                metadata: Some(&it.metadata),
                error_code: error.code(),
            })
            .collect(),
    });
    call.answer(&OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group_code(told.error).code(),
        ..Default::default()
    })
    .await
}

async fn answer_all(call: &Call, told: &[Told]) -> Reply {
    let groups = told.iter().map(|told| OffsetFetchResponseGroup {
        group_id: &told.group,
        topics: told
            .topics
            .iter()
            .map(|topic| OffsetFetchResponseTopics {
                name: &topic.name,
                topic_id: Uuid(topic.id.0),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|(it, error)| OffsetFetchResponsePartitions {
                        partition_index: it.partition,
                        committed_offset: it.offset,
                        committed_leader_epoch: it.leader_epoch,
                        metadata: Some(&it.metadata),
                        error_code: error.code(),
                    })
                    .collect(),
            })
            .collect(),
        error_code: group_code(told.error).code(),
    });
    call.answer(&OffsetFetchResponse { groups: groups.collect(), ..Default::default() }).await
}

//! Topics and their partitions, in pages: a client goes on where the cursor of the last page stood.

use std::collections::BTreeSet;
use std::fmt;

use corelane_core::ids::TopicId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ResponseCursor,
};
use corelane_net::wire::{Array, Uuid};

use super::{Call, operations, places};
use crate::edge::{Code, tell};
use crate::node::{LEADER_EPOCH, Node};
use crate::topics::image::Image;
use crate::topics::internal::is_internal;
use crate::topics::name;

/// Partitions on one page at most, whatever the client asks for.
const PAGE_PARTITIONS_MAX: i32 = 2000;

/// Where a page begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    topic: String,
    partition: u32,
}

/// A cursor that points nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCursor {
    pub partition: i32,
}

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a cursor at partition {}", self.partition)
    }
}

struct Asked {
    /// `None`: all topics.
    topics: Option<BTreeSet<String>>,
    from: Option<Cursor>,
    partitions_max: u32,
}

/// A stretch of a topic's partitions, or why there is none.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Partitions { topic: String, from: u32, to: u32 },
    Missing { topic: String, why: ErrorCode },
}

pub(super) async fn handle(call: Call) -> Reply {
    let asked = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let image = call.node.image();
    let (pieces, next) = page(&image, &asked);
    let replicas = [call.node.id().0];
    let id_of = |topic: &str| image.topic_named(topic).expect("it is on the page").id;
    let topics = pieces.iter().map(|it| match it {
        Piece::Missing { topic, why } => DescribeTopicPartitionsResponseTopic {
            error_code: why.code(),
            name: Some(topic),
            is_internal: is_internal(topic),
            topic_authorized_operations: operations::OF_TOPIC,
            ..Default::default()
        },
        Piece::Partitions { topic, from, to } => DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(topic),
            topic_id: Uuid(id_of(topic).0),
            is_internal: is_internal(topic),
            partitions: (*from..*to)
                .map(|it| partition(&call.node, id_of(topic), it, &replicas))
                .collect(),
            topic_authorized_operations: operations::OF_TOPIC,
        },
    });
    call.answer(&DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        next_cursor: next.as_ref().map(|it| ResponseCursor {
            topic_name: &it.topic,
            partition_index: i32::try_from(it.partition).expect("partitions are few enough"),
        }),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<Asked, Reply> {
    let request = call.decode::<DescribeTopicPartitionsRequest<'_>>().await?;
    let mut names = BTreeSet::new();
    for it in &request.topics {
        names.insert(it.name.to_owned());
        call.node.one_more().await;
    }
    let from = match &request.cursor {
        None => None,
        Some(it) => match u32::try_from(it.partition_index) {
            Ok(partition) => Some(Cursor { topic: it.topic_name.to_owned(), partition }),
            Err(_) => {
                // The answer has no place for an error of its own, so every topic bears it.
                let bad = tell(&BadCursor { partition: it.partition_index });
                return Err(refuse_all(call, &names, bad.code()).await);
            }
        },
    };
    let partitions_max = request.response_partition_limit.clamp(1, PAGE_PARTITIONS_MAX);
    Ok(Asked {
        topics: (!names.is_empty()).then_some(names),
        from,
        partitions_max: u32::try_from(partitions_max).expect("clamped to positive numbers"),
    })
}

async fn refuse_all(call: &Call, names: &BTreeSet<String>, why: ErrorCode) -> Reply {
    let topics = names.iter().map(|name| DescribeTopicPartitionsResponseTopic {
        error_code: why.code(),
        name: Some(name),
        ..Default::default()
    });
    call.answer(&DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() })
        .await
}

/// What stands on the page, and where the next one begins. The next topic may be gone when it is
/// asked for; its page then says so, or goes on behind it.
fn page(image: &Image, asked: &Asked) -> (Vec<Piece>, Option<Cursor>) {
    let start = asked.from.as_ref().map_or("", |it| it.topic.as_str());
    let names: Vec<&str> = match &asked.topics {
        None => image.topics_from(start).map(|it| it.name.as_str()).collect(),
        Some(names) => names.iter().map(String::as_str).filter(|it| start <= *it).collect(),
    };
    let mut left = asked.partitions_max;
    let mut pieces = Vec::new();
    for topic in names {
        if left == 0 {
            return (pieces, Some(Cursor { topic: topic.to_owned(), partition: 0 }));
        }
        let topic = topic.to_owned();
        let Some(found) = image.topic_named(&topic) else {
            let why = match name::check(&topic) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(error) => error.code(),
            };
            pieces.push(Piece::Missing { topic, why });
            continue;
        };
        let resumed = asked.from.as_ref().filter(|it| it.topic == topic);
        let from = resumed.map_or(0, |it| it.partition).min(found.partitions);
        let to = found.partitions.min(from + left);
        left -= to - from;
        pieces.push(Piece::Partitions { topic: topic.clone(), from, to });
        if to < found.partitions {
            return (pieces, Some(Cursor { topic, partition: to }));
        }
    }
    (pieces, None)
}

fn partition<'a>(
    node: &Node,
    topic: TopicId,
    index: u32,
    replicas: &'a [i32; 1],
) -> DescribeTopicPartitionsResponsePartition<'a> {
    let index = i32::try_from(index).expect("partitions are few enough");
    let place = places::standing(node, topic, index);
    DescribeTopicPartitionsResponsePartition {
        error_code: place.error.code(),
        partition_index: index,
        leader_id: place.leader,
        leader_epoch: LEADER_EPOCH.0,
        replica_nodes: replicas.into(),
        isr_nodes: replicas.into(),
        // The only copy is the leader: nobody else is eligible or ever was.
        eligible_leader_replicas: Some(Array::empty()),
        last_known_elr: Some(Array::empty()),
        offline_replicas: replicas[..usize::from(place.is_offline())].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::event::Event;

    fn image(topics: &[(&str, u32)]) -> Image {
        let events = topics.iter().zip(1u8..).map(|((name, partitions), id)| Event::TopicCreated {
            id: TopicId([id; 16]),
            name: (*name).to_owned(),
            partitions: *partitions,
            configs: Default::default(),
        });
        Image::replay(&events.collect::<Vec<_>>()).unwrap()
    }

    /// All pages, one after the other: each a list of `topic[from..to]`.
    #[track_caller]
    fn check(wanted: Option<&[&str]>, partitions_max: u32, expect: &[&str]) {
        let image = image(&[("b", 3), ("a", 2), ("c", 1)]);
        let mut asked = Asked {
            topics: wanted.map(|it| it.iter().map(|it| (*it).to_owned()).collect()),
            from: None,
            partitions_max,
        };
        let mut told = Vec::new();
        loop {
            let (pieces, next) = page(&image, &asked);
            let pieces = pieces.iter().map(|it| match it {
                Piece::Partitions { topic, from, to } => format!("{topic}[{from}..{to}]"),
                Piece::Missing { topic, why } => format!("{topic} {why}"),
            });
            told.push(pieces.collect::<Vec<_>>().join(" "));
            if next.is_none() {
                break;
            }
            asked.from = next;
        }
        assert_eq!(told, expect);
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        check(None, 100, &["a[0..2] b[0..3] c[0..1]"]);
        check(None, 4, &["a[0..2] b[0..2]", "b[2..3] c[0..1]"]);
        check(None, 2, &["a[0..2]", "b[0..2]", "b[2..3] c[0..1]"]);
        check(None, 1, &["a[0..1]", "a[1..2]", "b[0..1]", "b[1..2]", "b[2..3]", "c[0..1]"]);
    }

    #[test]
    fn a_name_that_nobody_has_takes_no_place_on_a_page() {
        let wanted: &[&str] = &["a", "aa", "no/slash", "c"];
        check(
            Some(wanted),
            3,
            &["a[0..2] aa UNKNOWN_TOPIC_OR_PARTITION c[0..1]", "no/slash INVALID_TOPIC_EXCEPTION"],
        );
    }
}

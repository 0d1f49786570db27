//! Who the brokers are, and which topics there are. A client may name a topic that is not there
//! and get it made; the answer then already shows it finished. Only the first who names a deleted
//! topic is told that it is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_core::ids::TopicId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use corelane_net::wire::Uuid;

use super::{Call, operations, places};
use crate::edge::Code;
use crate::node::Decided;
use crate::topics::image::Topic;
use crate::topics::internal::{is_internal, plan_missing};

/// What a client asks of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Name(String),
    Id(TopicId),
}

/// What it is told.
enum Told {
    Topic(Arc<Topic>),
    Missing { name: Option<String>, id: TopicId, error: ErrorCode },
}

/// Whether the client wants to know what it may do.
#[derive(Debug, Clone, Copy)]
struct AskedOperations {
    of_cluster: bool,
    of_topics: bool,
}

pub(super) async fn handle(call: Call) -> Reply {
    let (wanted, allow_creation, asked) = {
        let request = match call.decode::<MetadataRequest<'_>>() {
            Ok(it) => it,
            Err(reply) => return reply,
        };
        // In version 0 an empty list means all, later a missing one does.
        let all = match &request.topics {
            None => true,
            Some(topics) => call.version == 0 && topics.is_empty(),
        };
        let wanted =
            (!all).then(|| once(request.topics.iter().flatten().map(|it| wanted(&it)).collect()));
        let asked = AskedOperations {
            of_cluster: request.include_cluster_authorized_operations,
            of_topics: request.include_topic_authorized_operations,
        };
        (wanted, call.version < 4 || request.allow_auto_topic_creation, asked)
    };
    let told = match wanted {
        None => call.node.image().topics_from("").map(|it| Told::Topic(Arc::clone(it))).collect(),
        Some(wanted) => find(&call, wanted, allow_creation).await,
    };
    answer(&call, &told, asked)
}

/// Who names a topic twice is told once: else a short question had an endless answer.
fn once(mut wanted: Vec<Wanted>) -> Vec<Wanted> {
    if 1 < wanted.len() {
        let mut named = BTreeSet::new();
        wanted.retain(|it| named.insert(it.clone()));
    }
    wanted
}

fn wanted(topic: &corelane_net::messages::metadata::MetadataRequestTopic<'_>) -> Wanted {
    match topic.name {
        Some(name) => Wanted::Name(name.to_owned()),
        None => Wanted::Id(TopicId(topic.topic_id.0)),
    }
}

async fn find(call: &Call, wanted: Vec<Wanted>, allow_creation: bool) -> Vec<Told> {
    let image = call.node.image();
    let mut missing: BTreeSet<String> = wanted
        .iter()
        .filter_map(|it| match it {
            Wanted::Name(name) if image.topic_named(name).is_none() => Some(name.clone()),
            Wanted::Name(_) | Wanted::Id(_) => None,
        })
        .collect();
    if allow_creation && !missing.is_empty() {
        for gone in call.node.tell_gone(missing.clone()).await {
            missing.remove(&gone);
        }
    }
    let mut refusals = std::collections::BTreeMap::new();
    if !missing.is_empty() {
        let decided = call.node.decide(move |image, rules, draw| {
            // Somebody else may have made it meanwhile: then it is there, and that is all.
            let still: BTreeSet<&str> = missing
                .iter()
                .map(String::as_str)
                .filter(|it| image.topic_named(it).is_none())
                .collect();
            let mut events = Vec::new();
            let mut say = Vec::new();
            for (name, planned) in plan_missing(image, rules, &still, allow_creation, draw) {
                match planned {
                    Ok(event) => events.push(event),
                    Err(error) => say.push((name.to_owned(), error.code())),
                }
            }
            Decided { events, say }
        });
        match decided.await {
            Ok(said) => refusals.extend(said),
            Err(refused) => {
                let code = refused.code();
                refusals.extend(wanted.iter().filter_map(|it| match it {
                    Wanted::Name(name) => Some((name.clone(), code)),
                    Wanted::Id(_) => None,
                }));
            }
        }
    }
    let image = call.node.image();
    let tell = |it: Wanted| match it {
        Wanted::Name(name) => match image.topic_named(&name) {
            Some(topic) => Told::Topic(Arc::clone(topic)),
            None => {
                let unknown = ErrorCode::UnknownTopicOrPartition;
                let error = refusals.get(&name).copied().unwrap_or(unknown);
                Told::Missing { name: Some(name), id: TopicId([0; 16]), error }
            }
        },
        Wanted::Id(id) => match image.topic(id) {
            Some(topic) => Told::Topic(Arc::clone(topic)),
            None => Told::Missing { name: None, id, error: ErrorCode::UnknownTopicId },
        },
    };
    wanted.into_iter().map(tell).collect()
}

fn answer(call: &Call, told: &[Told], asked: AskedOperations) -> Reply {
    let node = &call.node;
    let endpoint = node.endpoint(&call.peer.listener);
    let id = node.id().0;
    let replicas = [id];
    let rack = node.facts().config.settings.text(&crate::config::keys::BROKER_RACK);
    let brokers = [MetadataResponseBroker {
        node_id: id,
        host: &endpoint.host,
        port: i32::from(endpoint.port),
        rack: rack.as_deref(),
    }];
    let partition = |topic, index| {
        let place = places::standing(node, topic, index);
        MetadataResponsePartition {
            error_code: place.error.code(),
            partition_index: index,
            leader_id: place.leader,
            leader_epoch: crate::node::LEADER_EPOCH.0,
            replica_nodes: (&replicas).into(),
            isr_nodes: (&replicas).into(),
            offline_replicas: replicas[..usize::from(place.is_offline())].into(),
        }
    };
    let topics = told
        .iter()
        .map(|it| match it {
            Told::Topic(topic) => MetadataResponseTopic {
                name: Some(&topic.name),
                topic_id: Uuid(topic.id.0),
                is_internal: is_internal(&topic.name),
                partitions: (0..i32::try_from(topic.partitions).unwrap_or(i32::MAX))
                    .map(|index| partition(topic.id, index))
                    .collect(),
                topic_authorized_operations: operations::when(
                    asked.of_topics,
                    operations::OF_TOPIC,
                ),
                ..Default::default()
            },
            Told::Missing { name, id, error } => MetadataResponseTopic {
                error_code: error.code(),
                // Before version 12 a name must be said, even for an id that nobody knows.
                name: name.as_deref().or((call.version < 12).then_some("")),
                topic_id: Uuid(id.0),
                ..Default::default()
            },
        })
        .collect();
    call.answer(&MetadataResponse {
        brokers: (&brokers).into(),
        cluster_id: Some(&node.facts().cluster_id),
        controller_id: id,
        topics,
        cluster_authorized_operations: operations::when(asked.of_cluster, operations::OF_CLUSTER),
        ..Default::default()
    })
}

//! Who the brokers are, and which topics there are. A client may name a topic that is not there
//! and get it made; the answer then already shows it finished. Only the first who names a deleted
//! topic is told that it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corelane_core::ids::TopicId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use corelane_net::wire::{Array, Uuid};

use super::{Call, operations, places};
use crate::edge::Code;
use crate::node::Decided;
use crate::topics::image::Topic;
use crate::topics::internal::{is_internal, plan_missing};

/// Missing topics that are decided about together.
const NAMES_PER_PLAN: usize = 256;

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
        let request = match call.decode::<MetadataRequest<'_>>().await {
            Ok(it) => it,
            Err(reply) => return reply,
        };
        // In version 0 an empty list means all, later a missing one does.
        let all = match &request.topics {
            None => true,
            Some(topics) => call.version == 0 && topics.is_empty(),
        };
        let wanted = if all { None } else { Some(once(&call, &request).await) };
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
    answer(&call, &told, asked).await
}

/// Who names a topic twice is told once: else a short question had an endless answer.
async fn once(call: &Call, request: &MetadataRequest<'_>) -> Vec<Wanted> {
    let mut named = BTreeSet::new();
    let mut all = Vec::new();
    for topic in request.topics.iter().flatten() {
        let it = wanted(&topic);
        if named.insert(it.clone()) {
            all.push(it);
        }
        call.node.one_more().await;
    }
    all
}

fn wanted(topic: &corelane_net::messages::metadata::MetadataRequestTopic<'_>) -> Wanted {
    match topic.name {
        Some(name) => Wanted::Name(name.to_owned()),
        None => Wanted::Id(TopicId(topic.topic_id.0)),
    }
}

async fn find(call: &Call, wanted: Vec<Wanted>, allow_creation: bool) -> Vec<Told> {
    let mut missing = BTreeSet::new();
    for it in &wanted {
        if let Wanted::Name(name) = it
            && call.node.image().topic_named(name).is_none()
        {
            missing.insert(name.clone());
        }
        call.node.one_more().await;
    }
    if allow_creation && !missing.is_empty() {
        for gone in call.node.tell_gone(missing.clone()).await {
            missing.remove(&gone);
        }
    }
    let mut refusals = BTreeMap::new();
    // Each plan is one step of the lane that decides, so it has a few names only.
    while let Some(last) = missing.iter().nth(NAMES_PER_PLAN - 1).or(missing.last()).cloned() {
        let mut names = missing;
        missing = names.split_off(&last);
        missing.remove(&last);
        names.insert(last);
        let told = names.clone();
        let decided = call.node.decide(move |image, rules, draw| {
            // Somebody else may have made it meanwhile: then it is there, and that is all.
            let still: BTreeSet<&str> = names
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
                refusals.extend(told.into_iter().map(|name| (name, code)));
            }
        }
        call.node.more(NAMES_PER_PLAN).await;
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
    call.node.gather(wanted.into_iter().map(tell)).await
}

async fn answer(call: &Call, told: &[Told], asked: AskedOperations) -> Reply {
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
    // How partitions stand may change while the answer is written; it is looked at once.
    let mut standings = Vec::new();
    let mut of_topic = Vec::with_capacity(told.len());
    for it in told {
        let first = standings.len();
        if let Told::Topic(topic) = it {
            for index in 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX) {
                standings.push((index, places::standing(node, topic.id, index)));
                node.one_more().await;
            }
        }
        of_topic.push(first..standings.len());
        node.one_more().await;
    }
    let partition = |at: usize| {
        let (index, place) = &standings[at];
        MetadataResponsePartition {
            error_code: place.error.code(),
            partition_index: *index,
            leader_id: place.leader,
            leader_epoch: crate::node::LEADER_EPOCH.0,
            replica_nodes: (&replicas).into(),
            isr_nodes: (&replicas).into(),
            offline_replicas: replicas[..usize::from(place.is_offline())].into(),
        }
    };
    let topic = |at: usize| match &told[at] {
        Told::Topic(topic) => MetadataResponseTopic {
            name: Some(&topic.name),
            topic_id: Uuid(topic.id.0),
            is_internal: is_internal(&topic.name),
            partitions: Array::made(of_topic[at].clone(), &partition),
            topic_authorized_operations: operations::when(asked.of_topics, operations::OF_TOPIC),
            ..Default::default()
        },
        Told::Missing { name, id, error } => MetadataResponseTopic {
            error_code: error.code(),
            // Before version 12 a name must be said, even for an id that nobody knows.
            name: name.as_deref().or((call.version < 12).then_some("")),
            topic_id: Uuid(id.0),
            ..Default::default()
        },
    };
    let topics = Array::made(0..told.len(), &topic);
    call.answer(&MetadataResponse {
        brokers: (&brokers).into(),
        cluster_id: Some(&node.facts().cluster_id),
        controller_id: id,
        topics,
        cluster_authorized_operations: operations::when(asked.of_cluster, operations::OF_CLUSTER),
        ..Default::default()
    })
    .await
}

//! New topics, each made or refused by itself; the answer comes once every lane has them.

use corelane_core::ids::{BrokerId, TopicId};
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use corelane_net::wire::Uuid;

use super::Call;
use super::decide::in_time;
use crate::config::describe::{self, Described};
use crate::edge::{Code, Told, tell};
use crate::node::Decided;
use crate::topics::create::{self, NewTopic, Rules};
use crate::topics::event::Event;

/// A topic as its creator is told about it.
struct Made {
    id: TopicId,
    partitions: u32,
    configs: Vec<Described>,
}

pub(super) async fn handle(call: Call) -> Reply {
    let (wishes, timeout_ms, only_validate) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let names: Vec<String> = wishes.iter().map(|it| it.name.clone()).collect();
    let decided = call.node.decide(move |image, rules, draw| {
        let (mut events, mut say) = (Vec::new(), Vec::new());
        for planned in create::plan(image, rules, &wishes, draw) {
            say.push(planned.as_ref().map(|it| made(it, rules, only_validate)).map_err(tell));
            events.extend(planned.ok().filter(|_| !only_validate));
        }
        Decided { events, say }
    });
    match call.committed(in_time(&call.node, timeout_ms, decided)).await {
        Ok(made) => answer(&call, &names, &made).await,
        Err(undecided) => {
            let all = names.iter().map(|_| Err(tell(&undecided))).collect::<Vec<_>>();
            answer(&call, &names, &all).await
        }
    }
}

async fn read(call: &Call) -> Result<(Vec<NewTopic>, i32, bool), Reply> {
    let request = call.decode::<CreateTopicsRequest<'_>>().await?;
    let wishes = call.node.gather(request.topics.iter().map(|it| wish(&it))).await;
    Ok((wishes, request.timeout_ms, request.validate_only))
}

fn wish(topic: &CreatableTopic<'_>) -> NewTopic {
    let assignments = topic.assignments.iter();
    let configs = topic.configs.iter();
    NewTopic {
        name: topic.name.to_owned(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|it| (it.partition_index, it.broker_ids.iter().map(BrokerId).collect()))
            .collect(),
        configs: configs.map(|it| (it.name.to_owned(), it.value.map(str::to_owned))).collect(),
    }
}

/// What is validated only has no id: the one that was drawn belongs to nothing.
fn made(event: &Event, rules: &Rules<'_>, only_validated: bool) -> Made {
    let Event::TopicCreated { id, partitions, configs, .. } = event else {
        panic!("a topic is created by being created: {event:?}")
    };
    Made {
        id: if only_validated { TopicId::ZERO } else { *id },
        partitions: *partitions,
        configs: describe::topic(configs, &rules.layers, None),
    }
}

async fn answer(call: &Call, names: &[String], made: &[Result<Made, Told>]) -> Reply {
    let results = names.iter().zip(made).map(|(name, made)| match made {
        Ok(made) => CreatableTopicResult {
            name,
            topic_id: Uuid(made.id.0),
            error_code: ErrorCode::None.code(),
            error_message: None,
            num_partitions: i32::try_from(made.partitions).expect("the rules bound it"),
            replication_factor: 1,
            configs: Some(made.configs.iter().map(config).collect()),
            ..Default::default()
        },
        Err(told) => CreatableTopicResult {
            name,
            error_code: told.code().code(),
            error_message: Some(&told.message),
            ..Default::default()
        },
    });
    call.answer(&CreateTopicsResponse { topics: results.collect(), ..Default::default() }).await
}

fn config(it: &Described) -> CreatableTopicConfigs<'_> {
    CreatableTopicConfigs {
        name: it.name,
        value: it.value.as_deref().filter(|_| !it.sensitive),
        read_only: it.read_only,
        config_source: it.origin.code(),
        is_sensitive: it.sensitive,
    }
}

//! Topics that grow; the answer comes once every lane has the new partitions.

use corelane_core::ids::BrokerId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use super::Call;
use super::decide::in_time;
use crate::edge::{Code, Told, tell};
use crate::node::Decided;
use crate::topics::grow::{self, Growth};

pub(super) async fn handle(call: Call) -> Reply {
    let (wishes, timeout_ms, only_validate) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let names: Vec<String> = wishes.iter().map(|it| it.name.clone()).collect();
    let decided = call.node.decide(move |image, rules, _| {
        let (mut events, mut say) = (Vec::new(), Vec::new());
        for planned in grow::plan(image, rules, &wishes) {
            say.push(planned.as_ref().map(|_| ()).map_err(tell));
            events.extend(planned.ok().filter(|_| !only_validate));
        }
        Decided { events, say }
    });
    match call.committed(in_time(&call.node, timeout_ms, decided)).await {
        Ok(grown) => answer(&call, &names, &grown).await,
        Err(undecided) => {
            let all = names.iter().map(|_| Err(tell(&undecided))).collect::<Vec<_>>();
            answer(&call, &names, &all).await
        }
    }
}

async fn read(call: &Call) -> Result<(Vec<Growth>, i32, bool), Reply> {
    let request = call.decode::<CreatePartitionsRequest<'_>>().await?;
    let wishes = call.node.gather(request.topics.iter().map(|it| wish(&it))).await;
    Ok((wishes, request.timeout_ms, request.validate_only))
}

fn wish(topic: &CreatePartitionsTopic<'_>) -> Growth {
    let brokers = |it: corelane_net::messages::create_partitions::CreatePartitionsAssignment<
        '_,
    >| { it.broker_ids.iter().map(BrokerId).collect() };
    Growth {
        name: topic.name.to_owned(),
        count: topic.count,
        assignments: topic.assignments.as_ref().map(|it| it.iter().map(brokers).collect()),
    }
}

async fn answer(call: &Call, names: &[String], grown: &[Result<(), Told>]) -> Reply {
    let results = names.iter().zip(grown).map(|(name, grown)| match grown {
        Ok(()) => CreatePartitionsTopicResult {
            name,
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        Err(told) => CreatePartitionsTopicResult {
            name,
            error_code: told.code().code(),
            error_message: Some(&told.message),
        },
    });
    call.answer(&CreatePartitionsResponse { results: results.collect(), ..Default::default() })
        .await
}

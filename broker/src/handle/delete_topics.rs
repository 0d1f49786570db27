//! Topics that go, by name or by id; the answer comes once every lane has let go of them.

use corelane_core::ids::TopicId;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use corelane_net::wire::Uuid;

use super::Call;
use super::decide::in_time;
use crate::config::keys;
use crate::edge::{Code, Told, tell};
use crate::node::Decided;
use crate::topics::event::Event;
use crate::topics::remove::{self, Target};

/// The first version that has ids.
const IDS_FROM: i16 = 6;

/// The first version in which clients know that deleting can be disabled.
const DISABLED_FROM: i16 = 3;

/// The name and the id of a topic that is gone.
type Gone = (String, TopicId);

pub(super) async fn handle(call: Call) -> Reply {
    let (targets, timeout_ms) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let wanted = targets.clone();
    let decided = call.node.decide(move |image, rules, _| {
        let enabled = rules.layers.settings.flag(&keys::DELETE_TOPIC_ENABLE);
        let (mut events, mut say) = (Vec::new(), Vec::new());
        for planned in remove::plan(image, enabled, &targets) {
            let gone = planned.as_ref().map(|it| {
                let Event::TopicDeleted { id } = it else {
                    panic!("a topic is deleted by being deleted: {it:?}")
                };
                (image.topic(*id).expect("the plan found it").name.clone(), *id)
            });
            say.push(gone.map_err(tell));
            events.extend(planned.ok());
        }
        Decided { events, say }
    });
    match call.committed(in_time(&call.node, timeout_ms, decided)).await {
        Ok(gone) => answer(&call, &wanted, &gone).await,
        Err(undecided) => {
            let all = wanted.iter().map(|_| Err(tell(&undecided))).collect::<Vec<_>>();
            answer(&call, &wanted, &all).await
        }
    }
}

async fn read(call: &Call) -> Result<(Vec<Target>, i32), Reply> {
    let request = call.decode::<DeleteTopicsRequest<'_>>().await?;
    let targets = if IDS_FROM <= call.version {
        let either = request.topics.iter();
        let either = either
            .map(|it| Target { name: it.name.map(str::to_owned), id: TopicId(it.topic_id.0) });
        call.node.gather(either).await
    } else {
        let names = request.topic_names.iter();
        let names = names.map(|it| Target { name: Some(it.to_owned()), id: TopicId::ZERO });
        call.node.gather(names).await
    };
    Ok((targets, request.timeout_ms))
}

async fn answer(call: &Call, wanted: &[Target], gone: &[Result<Gone, Told>]) -> Reply {
    let responses = wanted.iter().zip(gone).map(|(wanted, gone)| match gone {
        Ok((name, id)) => {
            DeletableTopicResult { name: Some(name), topic_id: Uuid(id.0), ..Default::default() }
        }
        Err(told) => {
            let code = match told.code() {
                ErrorCode::TopicDeletionDisabled if call.version < DISABLED_FROM => {
                    ErrorCode::InvalidRequest
                }
                code => code,
            };
            DeletableTopicResult {
                name: wanted.name.as_deref(),
                topic_id: Uuid(wanted.id.0),
                error_code: code.code(),
                error_message: Some(&told.message),
            }
        }
    });
    call.answer(&DeleteTopicsResponse { responses: responses.collect(), ..Default::default() })
        .await
}

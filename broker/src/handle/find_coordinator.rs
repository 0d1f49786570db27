//! Who coordinates a group: this node, always. What clients need is the address, and a
//! coordinator that is ready when they come.
//!
//! Nobody coordinates transactions yet. Who looks for such a coordinator is told so with the one error at
//! which every client gives up at once; at most others some ask again until their time is over.

use corelane_coordinator::GroupError;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

use super::Call;
use crate::config::keys;
use crate::edge::Code;

/// From this version on several keys are asked at once.
const BATCHED_FROM: i16 = 4;

/// From this version on share groups may be asked for.
const SHARE_FROM: i16 = 6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// What is said where the offsets can have no topic.
const TOO_FEW_NODES: &str = "The topic of the offsets cannot be made: offsets.topic.replication.factor is larger \
                             than 1, and this node is alone; set it to 1";

const NO_SHARE_GROUPS: &str = "There are no share groups yet";

/// What is said with the refusal of a transaction.
const NO_TRANSACTIONS: &str = "There are no transactions yet; set no transactional.id";

pub(super) async fn handle(call: Call) -> Reply {
    let (kind, keys) = match call.decode::<FindCoordinatorRequest<'_>>().await {
        Ok(it) if call.version < BATCHED_FROM => (it.key_type, vec![it.key.to_owned()]),
        Ok(it) => (it.key_type, it.coordinator_keys.iter().map(str::to_owned).collect()),
        Err(reply) => return reply,
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let error = match kind {
            GROUP => call.node.group_looked_up(&key).await.err().as_ref().map(GroupError::code),
            TRANSACTION => Some(ErrorCode::TransactionalIdAuthorizationFailed),
            // Nobody coordinates share groups here.
            SHARE if SHARE_FROM <= call.version => Some(ErrorCode::CoordinatorNotAvailable),
            _ => Some(ErrorCode::InvalidRequest),
        };
        found.push((key, error));
    }
    answer(&call, kind, &found).await
}

/// What people are told beside the code.
fn words(kind: i8, offsets_replicas: i64, error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::TransactionalIdAuthorizationFailed => NO_TRANSACTIONS,
        ErrorCode::CoordinatorNotAvailable if kind == SHARE => NO_SHARE_GROUPS,
        ErrorCode::CoordinatorNotAvailable if 1 < offsets_replicas => TOO_FEW_NODES,
        _ => "",
    }
}

async fn answer(call: &Call, kind: i8, found: &[(String, Option<ErrorCode>)]) -> Reply {
    let replicas = call.node.facts().config.settings.number(&keys::OFFSETS_REPLICATION_FACTOR);
    let words = |error| Some(words(kind, replicas, error));
    let endpoint = call.node.endpoint(&call.peer.listener);
    let tell = |(key, error): &'_ (String, Option<ErrorCode>)| match error {
        None => {
            (key.clone(), ErrorCode::None, call.node.id().0, &*endpoint.host, endpoint.port.into())
        }
        Some(error) => (key.clone(), *error, -1, "", -1),
    };
    let told: Vec<_> = found.iter().map(tell).collect();
    if call.version < BATCHED_FROM {
        let (_, error, node_id, host, port) = &told[0];
        return call
            .answer(&FindCoordinatorResponse {
                error_code: error.code(),
                error_message: words(*error),
                node_id: *node_id,
                host,
                port: *port,
                ..Default::default()
            })
            .await;
    }
    let coordinators = told.iter().map(|(key, error, node_id, host, port)| Coordinator {
        key,
        node_id: *node_id,
        host,
        port: *port,
        error_code: error.code(),
        error_message: words(*error),
    });
    call.answer(&FindCoordinatorResponse {
        coordinators: coordinators.collect(),
        ..Default::default()
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let unavailable = ErrorCode::CoordinatorNotAvailable;
        assert_eq!(words(GROUP, 3, unavailable), TOO_FEW_NODES);
        assert_eq!(words(GROUP, 1, unavailable), "", "it comes by itself");
        assert_eq!(words(SHARE, 1, unavailable), NO_SHARE_GROUPS);
        assert_eq!(words(GROUP, 3, ErrorCode::None), "");
        let refused = ErrorCode::TransactionalIdAuthorizationFailed;
        assert_eq!(words(TRANSACTION, 1, refused), NO_TRANSACTIONS);
    }
}

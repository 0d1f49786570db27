//! A name for an idempotent producer, never given twice. There are no transactions yet: a producer that
//! asks for one nevertheless is told what its search for a coordinator told it (`find_coordinator.rs`).

use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::Call;

pub(super) async fn handle(call: Call) -> Reply {
    let transactional = match call.decode::<InitProducerIdRequest<'_>>().await {
        Ok(it) => it.transactional_id.is_some(),
        Err(reply) => return reply,
    };
    let answer = if transactional {
        InitProducerIdResponse {
            error_code: ErrorCode::TransactionalIdAuthorizationFailed.code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        }
    } else {
        InitProducerIdResponse {
            producer_id: call.node.new_producer_id(),
            producer_epoch: 0,
            ..Default::default()
        }
    };
    call.answer(&answer).await
}

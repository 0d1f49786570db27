//! A member is alive, and hears whether its group still is as it believes.

use corelane_coordinator::{Answer, Heartbeat, Request};
use corelane_net::conn::Reply;
use corelane_net::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::Call;
use crate::edge::group_code;

pub(super) async fn handle(call: Call) -> Reply {
    let request = match call.decode::<HeartbeatRequest<'_>>().await {
        Ok(it) => Heartbeat {
            group: it.group_id.to_owned(),
            generation: it.generation_id,
            member: it.member_id.to_owned(),
            instance: it.group_instance_id.map(str::to_owned),
        },
        Err(reply) => return reply,
    };
    let Answer::Heartbeat(beat) = call.node.ask_group(Request::Heartbeat(request)).await else {
        panic!("a heartbeat is answered as one")
    };
    let error_code = group_code(beat.error).code();
    call.answer(&HeartbeatResponse { error_code, ..Default::default() }).await
}

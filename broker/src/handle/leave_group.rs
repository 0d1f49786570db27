//! Members go: one that says so itself, or several that an administrator names.

use corelane_coordinator::{Answer, LeaveGroup, LeavingMember, Request};
use corelane_net::conn::Reply;
use corelane_net::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};

use super::Call;
use crate::edge::group_code;

/// From this version on several members leave at once.
const BATCHED_FROM: i16 = 3;

pub(super) async fn handle(call: Call) -> Reply {
    let request = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let Answer::Leave(left) = call.node.ask_group(Request::Leave(request)).await else {
        panic!("a leave is answered as one")
    };
    if call.version < BATCHED_FROM {
        // The only member's fate is the request's.
        let error = left.error.or_else(|| left.members.first().and_then(|it| it.error));
        let error_code = group_code(error).code();
        return call.answer(&LeaveGroupResponse { error_code, ..Default::default() }).await;
    }
    let members = left.members.iter().map(|it| MemberResponse {
        member_id: &it.member,
        group_instance_id: it.instance.as_deref(),
        error_code: group_code(it.error).code(),
    });
    call.answer(&LeaveGroupResponse {
        error_code: group_code(left.error).code(),
        members: members.collect(),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<LeaveGroup, Reply> {
    let request = call.decode::<LeaveGroupRequest<'_>>().await?;
    let named = |it: MemberIdentity<'_>| LeavingMember {
        member: it.member_id.to_owned(),
        instance: it.group_instance_id.map(str::to_owned),
    };
    let members = if call.version < BATCHED_FROM {
        vec![LeavingMember { member: request.member_id.to_owned(), instance: None }]
    } else {
        request.members.iter().map(named).collect()
    };
    Ok(LeaveGroup { group: request.group_id.to_owned(), members })
}

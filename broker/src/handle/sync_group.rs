//! A member asks for its share of the work; the leader brings everybody's.

use corelane_coordinator::{Answer, GroupError, Request, SyncAnswer, SyncGroup};
use corelane_net::conn::Reply;
use corelane_net::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::Call;
use crate::edge::group_code;

/// From this version on a member must say which protocol it means.
const PROTOCOL_FROM: i16 = 5;

pub(super) async fn handle(call: Call) -> Reply {
    let request = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let unsaid = request.protocol_type.is_none() || request.protocol.is_none();
    if PROTOCOL_FROM <= call.version && unsaid {
        return answer(&call, &SyncAnswer::refused(GroupError::InconsistentGroupProtocol)).await;
    }
    let Answer::Sync(synced) = call.node.ask_group(Request::Sync(request)).await else {
        panic!("a sync is answered as one")
    };
    answer(&call, &synced).await
}

async fn answer(call: &Call, synced: &SyncAnswer) -> Reply {
    call.answer(&SyncGroupResponse {
        error_code: group_code(synced.error).code(),
        protocol_type: synced.protocol_type.as_deref(),
        protocol_name: synced.protocol.as_deref(),
        assignment: &synced.assignment,
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<SyncGroup, Reply> {
    let request = call.decode::<SyncGroupRequest<'_>>().await?;
    let assignments = request.assignments.iter();
    Ok(SyncGroup {
        group: request.group_id.to_owned(),
        generation: request.generation_id,
        member: request.member_id.to_owned(),
        instance: request.group_instance_id.map(str::to_owned),
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignments: assignments
            .map(|it| (it.member_id.to_owned(), it.assignment.to_vec()))
            .collect(),
    })
}

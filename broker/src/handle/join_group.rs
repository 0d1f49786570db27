//! A member comes, or comes back for the next generation. The answer may take as long as the
//! slowest of the others.

use corelane_coordinator::{Answer, JoinGroup, MEMBER_METADATA_BYTES_MAX, Protocol, Request};
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};

use super::Call;
use crate::edge::group_code;

/// From this version on a protocol that was not chosen is said as null.
const NULL_PROTOCOL_FROM: i16 = 7;

pub(super) async fn handle(call: Call) -> Reply {
    let request = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let Answer::Join(joined) = call.node.ask_group(Request::Join(request)).await else {
        panic!("a join is answered as one")
    };
    let members = joined.members.iter().map(|it| JoinGroupResponseMember {
        member_id: &it.member,
        group_instance_id: it.instance.as_deref(),
        metadata: &it.metadata,
    });
    let unchosen = (call.version < NULL_PROTOCOL_FROM).then_some("");
    call.answer(&JoinGroupResponse {
        error_code: group_code(joined.error).code(),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.as_deref(),
        protocol_name: joined.protocol.as_deref().or(unchosen),
        leader: &joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: &joined.member,
        members: members.collect(),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<JoinGroup, Reply> {
    let request = call.decode::<JoinGroupRequest<'_>>().await?;
    // What is too much is refused as the coordinator would, and not copied first.
    let told: usize = request.protocols.iter().map(|it| it.name.len() + it.metadata.len()).sum();
    if MEMBER_METADATA_BYTES_MAX < told {
        return Err(call
            .answer(&JoinGroupResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                generation_id: -1,
                protocol_name: (call.version < NULL_PROTOCOL_FROM).then_some(""),
                member_id: request.member_id,
                ..Default::default()
            })
            .await);
    }
    let protocol = |it: corelane_net::messages::join_group::JoinGroupRequestProtocol<'_>| {
        Protocol { name: it.name.to_owned(), metadata: it.metadata.to_vec() }
    };
    let lane = call.node.lane();
    Ok(JoinGroup {
        version: call.version,
        group: request.group_id.to_owned(),
        member: request.member_id.to_owned(),
        instance: request.group_instance_id.map(str::to_owned),
        client_id: call.client().unwrap_or_default().to_owned(),
        client_host: format!("/{}", call.peer.addr.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_owned(),
        protocols: request.protocols.iter().map(protocol).collect(),
        fresh_id: u128::from(lane.random()) << 64 | u128::from(lane.random()),
    })
}

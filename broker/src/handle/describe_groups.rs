//! What groups are doing, and with whom.

use std::collections::BTreeSet;

use corelane_coordinator::{Answer, DescribeAnswer, DescribeGroup, GroupError, Request};
use corelane_net::conn::Reply;
use corelane_net::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::Call;
use crate::edge::group_code;

/// From this version on a group that is not there is an error.
const NOT_FOUND_FROM: i16 = 6;

/// Bits of the operations a group knows: read, delete, describe, describe and alter configs.
/// Nobody is refused any of them here.
const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Said to whom did not ask for operations.
const NOT_ASKED: i32 = i32::MIN;

pub(super) async fn handle(call: Call) -> Reply {
    let (requests, operations) = match call.decode::<DescribeGroupsRequest<'_>>().await {
        Ok(it) => {
            let describe =
                |group: &str| Request::Describe(DescribeGroup { group: group.to_owned() });
            // Who names a group twice is told once: else a short question had an endless answer.
            let mut named = BTreeSet::new();
            let mut requests = Vec::new();
            for group in &it.groups {
                if named.insert(group) {
                    requests.push(describe(group));
                }
                call.node.one_more().await;
            }
            (requests, it.include_authorized_operations)
        }
        Err(reply) => return reply,
    };
    let described: Vec<DescribeAnswer> = call
        .node
        .ask_groups(requests)
        .await
        .into_iter()
        .map(|it| match it {
            Answer::Describe(it) => it,
            _ => panic!("a description is answered as one"),
        })
        .collect();
    let groups = described.iter().map(|it| {
        let missing = it.error == Some(GroupError::GroupIdNotFound);
        let error = it.error.filter(|_| !missing || NOT_FOUND_FROM <= call.version);
        let members = it.members.iter().map(|member| DescribedGroupMember {
            member_id: &member.member,
            group_instance_id: member.instance.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            member_metadata: &member.metadata,
            member_assignment: &member.assignment,
        });
        DescribedGroup {
            error_code: group_code(error).code(),
            error_message: error.filter(|_| missing).map(|_| "The group does not exist."),
            group_id: &it.group,
            group_state: it.state,
            protocol_type: &it.protocol_type,
            protocol_data: &it.protocol,
            members: members.collect(),
            authorized_operations: if operations && error.is_none() {
                OPERATIONS
            } else {
                NOT_ASKED
            },
        }
    });
    call.answer(&DescribeGroupsResponse { groups: groups.collect(), ..Default::default() }).await
}

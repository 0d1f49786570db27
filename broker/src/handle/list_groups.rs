//! All groups of this node, from all its coordinators.

use corelane_coordinator::{Answer, ListGroups, ListedGroup};
use corelane_net::conn::Reply;
use corelane_net::messages::list_groups::{
    ListGroupsRequest, ListGroupsResponse, ListedGroup as ToldGroup,
};

use super::Call;
use crate::edge::group_code;

pub(super) async fn handle(call: Call) -> Reply {
    let filter = match call.decode::<ListGroupsRequest<'_>>().await {
        Ok(it) => ListGroups {
            states: it.states_filter.iter().map(str::to_owned).collect(),
            types: it.types_filter.iter().map(str::to_owned).collect(),
        },
        Err(reply) => return reply,
    };
    let mut groups: Vec<ListedGroup> = Vec::new();
    let mut error = None;
    for answer in call.node.list_groups(&filter).await {
        let Answer::List(listed) = answer else { panic!("a listing is answered as one") };
        error = error.or(listed.error);
        groups.extend(listed.groups);
    }
    if error.is_some() {
        // A list that may lack some groups would be taken for the whole.
        groups.clear();
    }
    let told = groups.iter().map(|it| ToldGroup {
        group_id: &it.group,
        protocol_type: &it.protocol_type,
        group_state: it.state,
        group_type: it.kind,
    });
    call.answer(&ListGroupsResponse {
        error_code: group_code(error).code(),
        groups: told.collect(),
        ..Default::default()
    })
    .await
}

//! Forgets groups without members, and all they have committed.

use corelane_coordinator::{Answer, DeleteGroup, Request};
use corelane_net::conn::Reply;
use corelane_net::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::Call;
use crate::edge::group_code;

pub(super) async fn handle(call: Call) -> Reply {
    let names: Vec<String> = match call.decode::<DeleteGroupsRequest<'_>>().await {
        Ok(it) => it.groups_names.iter().map(str::to_owned).collect(),
        Err(reply) => return reply,
    };
    let delete = |group: &String| Request::Delete(DeleteGroup { group: group.clone() });
    let answers = call.committed(call.node.ask_groups(names.iter().map(delete).collect())).await;
    let results = names.iter().zip(answers).map(|(group_id, answer)| {
        let Answer::Delete(deleted) = answer else { panic!("a deletion is answered as one") };
        let error_code = group_code(deleted.error).code();
        DeletableGroupResult { group_id, error_code, ..Default::default() }
    });
    call.answer(&DeleteGroupsResponse { results: results.collect(), ..Default::default() }).await
}

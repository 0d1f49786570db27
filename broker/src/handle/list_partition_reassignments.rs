//! Partitions on their way from one set of brokers to another. A single node has none.

use corelane_net::conn::Reply;
use corelane_net::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::Call;

pub(super) async fn handle(call: Call) -> Reply {
    match call.decode::<ListPartitionReassignmentsRequest<'_>>().await {
        Ok(_) => {
            call.answer(&ListPartitionReassignmentsResponse {
                error_message: None,
                ..Default::default()
            })
            .await
        }
        Err(reply) => reply,
    }
}

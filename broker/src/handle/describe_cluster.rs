//! Who is in the cluster, as seen from this listener.

use std::fmt;

use corelane_net::conn::Reply;
use corelane_net::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::{Call, operations};
use crate::edge::{Code, tell};

/// Whose addresses are asked for.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Why there are no addresses of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointError {
    /// The controller has no listener of its own to ask for.
    Controllers,
    Unknown {
        kind: i8,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controllers => f.write_str(
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
                 type CONTROLLER",
            ),
            Self::Unknown { kind } => write!(f, "Unsupported endpoint type {kind}"),
        }
    }
}

pub(super) async fn handle(call: Call) -> Reply {
    let request = match call.decode::<DescribeClusterRequest>().await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(EndpointError::Controllers),
        kind => Some(EndpointError::Unknown { kind }),
    };
    if let Some(error) = refused {
        let told = tell(&error);
        return call
            .answer(&DescribeClusterResponse {
                error_code: told.code().code(),
                error_message: Some(&told.message),
                ..Default::default()
            })
            .await;
    }
    let node = &call.node;
    let endpoint = node.endpoint(&call.peer.listener);
    let rack = node.facts().config.settings.text(&crate::config::keys::BROKER_RACK);
    let brokers = [DescribeClusterBroker {
        broker_id: node.id().0,
        host: &endpoint.host,
        port: i32::from(endpoint.port),
        rack: rack.as_deref(),
        is_fenced: false,
    }];
    let asked = request.include_cluster_authorized_operations;
    call.answer(&DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: &node.facts().cluster_id,
        controller_id: node.id().0,
        brokers: (&brokers).into(),
        cluster_authorized_operations: operations::when(asked, operations::OF_CLUSTER),
        ..Default::default()
    })
    .await
}

//! Everything that can have values of its own.

use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::Call;
use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};

/// The kinds that each version knows, in the order in which they are told.
const KINDS: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
const KINDS_AT_FIRST: &[i8] = &[CLIENT_METRICS];

pub(super) async fn handle(call: Call) -> Reply {
    let wanted: Vec<i8> = match call.decode::<ListConfigResourcesRequest<'_>>().await {
        Ok(request) => request.resource_types.iter().collect(),
        Err(reply) => return reply,
    };
    let known = if call.version == 0 { KINDS_AT_FIRST } else { KINDS };
    if wanted.iter().any(|it| !known.contains(it)) {
        return call
            .answer(&ListConfigResourcesResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                ..Default::default()
            })
            .await;
    }
    let image = call.node.image();
    let ours = call.node.id().to_string();
    let asked = |kind: &i8| wanted.is_empty() || wanted.contains(kind);
    let mut found = Vec::new();
    for &kind in known.iter().filter(|it| asked(it)) {
        let named = |name| ConfigResource { resource_name: name, resource_type: kind };
        match kind {
            TOPIC => found.extend(image.topics_from("").map(|it| named(it.name.as_str()))),
            BROKER | BROKER_LOGGER => found.push(named(&ours)),
            // There are none of the others.
            _ => {}
        }
    }
    call.answer(&ListConfigResourcesResponse {
        config_resources: found.into(),
        ..Default::default()
    })
    .await
}

//! What this broker offers, and which features are final.

use corelane_net::ErrorCode;
use corelane_net::api;
use corelane_net::conn::Reply;
use corelane_net::messages::api_versions::{
    ApiVersionsRequest, FinalizedFeatureKey, SupportedFeatureKey,
};

use super::Call;

/// The metadata version that Kafka 4.3 calls final: clients read from it how new we are.
const METADATA_VERSION: i16 = 30;

/// The first that a broker of this generation knows.
const METADATA_VERSION_MIN: i16 = 7;

pub(super) async fn handle(call: Call) -> Reply {
    let request = match call.decode::<ApiVersionsRequest<'_>>().await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let mut answer = api::api_versions();
    if 3 <= call.version
        && !(is_name(request.client_software_name) && is_name(request.client_software_version))
    {
        answer.error_code = ErrorCode::InvalidRequest.code();
        answer.api_keys = corelane_net::wire::Array::empty();
        return call.answer(&answer).await;
    }
    let supported = [SupportedFeatureKey {
        name: "metadata.version",
        min_version: METADATA_VERSION_MIN,
        max_version: METADATA_VERSION,
    }];
    let finalized = [FinalizedFeatureKey {
        name: "metadata.version",
        min_version_level: METADATA_VERSION,
        max_version_level: METADATA_VERSION,
    }];
    answer.supported_features = (&supported).into();
    answer.finalized_features = (&finalized).into();
    answer.finalized_features_epoch = 0;
    call.answer(&answer).await
}

/// The characters of a client's name and version: letters, digits, `-` and `.`, neither at an end.
fn is_name(text: &str) -> bool {
    let inner = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'.';
    let outer = |it: Option<&u8>| it.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(|&it| inner(it))
}

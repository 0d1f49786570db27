//! Changing single values: set, unset, add to a list or take from it.

use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::Call;
use super::alter::{Wanted, alter};
use super::resources::ResourceError;
use crate::config::alter::{Alteration, Operation};
use crate::edge::Code;
use crate::topics::configs::Wish;

pub(super) async fn handle(call: Call) -> Reply {
    let (wanted, only_validate) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let altered = call.committed(alter(&call.node, &wanted, only_validate)).await;
    let responses = wanted.iter().zip(&altered).map(|(it, altered)| {
        let told = altered.as_ref().err();
        AlterConfigsResourceResponse {
            error_code: told.map_or(ErrorCode::None, Code::code).code(),
            error_message: told.map(|it| it.message.as_str()),
            resource_type: it.kind,
            resource_name: &it.name,
        }
    });
    call.answer(&IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    })
    .await
}

async fn read(call: &Call) -> Result<(Vec<Wanted>, bool), Reply> {
    let request = call.decode::<IncrementalAlterConfigsRequest<'_>>().await?;
    let wanted = request.resources.iter().map(|it| Wanted {
        kind: it.resource_type,
        name: it.resource_name.to_owned(),
        wish: it
            .configs
            .iter()
            .map(|it| alteration(&it))
            .collect::<Result<_, _>>()
            .map(Wish::Alter),
    });
    Ok((wanted.collect(), request.validate_only))
}

fn alteration(it: &AlterableConfig<'_>) -> Result<Alteration, ResourceError> {
    let (code, key) = (it.config_operation, it.name.to_owned());
    match Operation::of_code(code) {
        Some(operation) => Ok(Alteration { key, operation, value: it.value.map(str::to_owned) }),
        None => Err(ResourceError::UnknownOperation { code, key }),
    }
}

//! The old way to change values: what is not named returns to its default.

use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::Call;
use super::alter::{Wanted, alter};
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
    call.answer(&AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
        .await
}

async fn read(call: &Call) -> Result<(Vec<Wanted>, bool), Reply> {
    let request = call.decode::<AlterConfigsRequest<'_>>().await?;
    let wanted = request.resources.iter().map(|it| {
        let values = it.configs.iter();
        let values = values.map(|it| (it.name.to_owned(), it.value.map(str::to_owned)));
        Wanted {
            kind: it.resource_type,
            name: it.resource_name.to_owned(),
            wish: Ok(Wish::Replace(values.collect())),
        }
    });
    Ok((wanted.collect(), request.validate_only))
}

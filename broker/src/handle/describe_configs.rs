//! The values of topics and brokers: where each comes from, and what it would be otherwise.

use std::collections::BTreeSet;

use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::Call;
use super::resources::{self, ResourceError};
use crate::config::describe::{self, Described};
use crate::config::keys;
use crate::edge::{Code, Told, tell};
use crate::node::Node;
use crate::topics::configs::{ChangeError, Named, find};
use crate::topics::event::Resource;
use crate::topics::name;

/// What is asked about one resource.
struct Asked {
    kind: i8,
    name: String,
    /// `None`: all keys.
    keys: Option<Vec<String>>,
}

pub(super) async fn handle(call: Call) -> Reply {
    let (asked, synonyms, documentation) = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let mut found = Vec::with_capacity(asked.len());
    for it in &asked {
        found.push(look(&call.node, it));
        // Each has some dozen values.
        call.node.more(16).await;
    }
    let results = asked.iter().zip(&found).map(|(asked, found)| {
        let told = found.as_ref().err();
        let all = found.iter().flatten();
        DescribeConfigsResult {
            error_code: told.map_or(ErrorCode::None, Code::code).code(),
            error_message: told.map(|it| it.message.as_str()),
            resource_type: asked.kind,
            resource_name: &asked.name,
            configs: all.map(|it| config(it, synonyms, documentation)).collect(),
        }
    });
    call.answer(&DescribeConfigsResponse { results: results.collect(), ..Default::default() }).await
}

async fn read(call: &Call) -> Result<(Vec<Asked>, bool, bool), Reply> {
    let request = call.decode::<DescribeConfigsRequest<'_>>().await?;
    // Who names a resource twice is told once: else a short question had an endless answer.
    let mut named = BTreeSet::new();
    let mut asked = Vec::new();
    for it in &request.resources {
        call.node.one_more().await;
        if !named.insert((it.resource_type, it.resource_name.to_owned())) {
            continue;
        }
        // Some clients send an empty list when they mean all.
        let keys = match it.configuration_keys.filter(|keys| !keys.is_empty()) {
            Some(keys) => Some(call.node.gather(keys.iter().map(str::to_owned)).await),
            None => None,
        };
        asked.push(Asked { kind: it.resource_type, name: it.resource_name.to_owned(), keys });
    }
    Ok((asked, request.include_synonyms, request.include_documentation))
}

fn look(node: &Node, asked: &Asked) -> Result<Vec<Described>, Told> {
    match asked.kind {
        resources::TOPIC => {
            name::check(&asked.name).map_err(|it| tell(&it))?;
            look_at(node, &Named::Topic(asked.name.clone()), asked).map_err(|it| tell(&it))
        }
        resources::BROKER => {
            look_at(node, &Named::Broker(asked.name.clone()), asked).map_err(|it| tell(&it))
        }
        other => nothing_of(node, other, &asked.name).map(|()| Vec::new()).map_err(|it| tell(&it)),
    }
}

fn look_at(node: &Node, named: &Named, asked: &Asked) -> Result<Vec<Described>, ChangeError> {
    let image = node.image();
    let layers = image.layers(&node.facts().config.settings, node.id());
    let wanted = asked.keys.as_deref();
    Ok(match find(&image, node.id(), named)? {
        Resource::Topic(id) => {
            let topic = image.topic(id).expect("it was just found");
            describe::topic(&topic.configs, &layers, wanted)
        }
        Resource::Broker(_) => {
            let mut all = describe::broker(&layers, wanted);
            show_endpoints(node, &mut all);
            all
        }
        Resource::Cluster => describe::cluster(&layers, wanted),
    })
}

/// What is advertised when nothing is said about it follows from the listeners; whoever looks
/// wants to see it.
fn show_endpoints(node: &Node, all: &mut [Described]) {
    let unsaid = |it: &&mut Described| {
        it.name == keys::ADVERTISED_LISTENERS.name && it.value.as_deref().is_none_or(str::is_empty)
    };
    if let Some(it) = all.iter_mut().find(unsaid) {
        let endpoints = node.facts().endpoints.iter();
        let told: Vec<String> =
            endpoints.map(|it| format!("{}://{}:{}", it.listener, it.host, it.port)).collect();
        it.value = Some(told.join(","));
    }
}

/// Kinds that this broker has nothing of: they have no values, and a wrong name is still wrong.
fn nothing_of(node: &Node, kind: i8, name: &str) -> Result<(), ResourceError> {
    match kind {
        resources::BROKER_LOGGER if name.is_empty() => {
            Err(ResourceError::Nameless { what: "Broker id" })
        }
        resources::BROKER_LOGGER if name.parse() != Ok(node.id().0) => {
            Err(ResourceError::OtherBroker { named: name.to_owned(), ours: node.id().0 })
        }
        resources::CLIENT_METRICS if name.is_empty() => {
            Err(ResourceError::Nameless { what: "Client metrics subscription name" })
        }
        resources::GROUP if name.is_empty() => Err(ResourceError::Nameless { what: "Group name" }),
        resources::BROKER_LOGGER | resources::CLIENT_METRICS | resources::GROUP => Ok(()),
        kind => Err(ResourceError::Unknown { kind }),
    }
}

fn config(
    it: &Described,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult<'_> {
    let all = it.synonyms.iter().filter(|_| synonyms);
    DescribeConfigsResourceResult {
        name: it.name,
        value: it.value.as_deref().filter(|_| !it.sensitive),
        read_only: it.read_only,
        config_source: it.origin.code(),
        is_sensitive: it.sensitive,
        synonyms: all
            .map(|said| DescribeConfigsSynonym {
                name: said.name,
                value: Some(said.value.as_str()).filter(|_| !it.sensitive),
                source: said.origin.code(),
            })
            .collect(),
        config_type: it.kind.code(),
        documentation: documentation.then_some(it.doc),
    }
}

//! From a change of values to the event that says what is different.

use super::event::{Event, Resource};
use super::image::Image;
use crate::config::alter::{self, AlterError, Alteration, Level};
use crate::config::layers::Configs;
use crate::config::settings::Settings;
use corelane_core::ids::BrokerId;
use std::collections::BTreeMap;
use std::fmt;

/// A resource as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Topic(String),
    /// A broker's number; empty: every broker of the cluster.
    Broker(String),
}

/// The wish for a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Some keys change.
    Alter(Vec<Alteration>),
    /// These are all values it has from now on.
    Replace(Vec<(String, Option<String>)>),
}

/// Why nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    UnknownTopic { name: String },
    OtherBroker { named: String, ours: BrokerId },
    Alter(AlterError),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic { name } => write!(f, "The topic '{name}' does not exist."),
            Self::OtherBroker { named, ours } => write!(
                f,
                "Unexpected broker id, expected {ours} or empty string, but received {named}"
            ),
            Self::Alter(error) => error.fmt(f),
        }
    }
}

/// The resource a name means.
///
/// # Errors
/// There is no such topic, or the broker is another one.
pub fn find(image: &Image, ours: BrokerId, named: &Named) -> Result<Resource, ChangeError> {
    match named {
        Named::Topic(name) => match image.topic_named(name) {
            Some(topic) => Ok(Resource::Topic(topic.id)),
            None => Err(ChangeError::UnknownTopic { name: name.clone() }),
        },
        Named::Broker(name) if name.is_empty() => Ok(Resource::Cluster),
        Named::Broker(name) if name.parse() == Ok(ours.0) => Ok(Resource::Broker(ours)),
        Named::Broker(name) => Err(ChangeError::OtherBroker { named: name.clone(), ours }),
    }
}

/// What comes of a wish: an event, or `None` when everything is already so.
///
/// # Errors
/// The resource is not there, or the wish cannot be granted. Nothing changes then.
pub fn plan(
    image: &Image,
    settings: &Settings,
    ours: BrokerId,
    named: &Named,
    wish: &Wish,
) -> Result<Option<Event>, ChangeError> {
    let resource = find(image, ours, named)?;
    let layers = image.layers(settings, ours);
    let broker = |level: Level| match wish {
        Wish::Alter(changes) => alter::alter_broker(level, changes, &layers),
        Wish::Replace(values) => alter::replace_broker(level, values, &layers),
    };
    let (before, after) = match resource {
        Resource::Topic(id) => {
            let own = &image.topic(id).expect("found above").configs;
            let after = match wish {
                Wish::Alter(changes) => alter::alter_topic(own, changes, &layers),
                Wish::Replace(values) => alter::replace_topic(values, &layers),
            };
            (own, after)
        }
        Resource::Broker(_) => (layers.broker, broker(Level::Broker)),
        Resource::Cluster => (layers.cluster, broker(Level::Cluster)),
    };
    let changes = difference(before, &after.map_err(ChangeError::Alter)?);
    Ok((!changes.is_empty()).then_some(Event::ConfigsChanged { resource, changes }))
}

fn difference(before: &Configs, after: &Configs) -> BTreeMap<String, Option<String>> {
    let gone = before.keys().filter(|it| !after.contains_key(*it)).map(|it| (it.clone(), None));
    let new = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    gone.chain(new.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}

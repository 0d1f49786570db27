//! What the node knows: its topics, and the values changed while it ran. A value, replaced whole.
//!
//! Invariants, all checked by [`Image::check`]:
//! - META-1: the image is the sum of its events, in their order, and of nothing else;
//! - META-2: a name belongs to one topic at a time, and so does its folded form;
//! - META-3: a topic never loses a partition while it lives, and an id is never used again by the
//!   node that drew it at random.
//!
//! Events that come from disk are not trusted: one that contradicts the image is refused, and the
//! image stays as it was. Topics are shared between images, so a copy of one with many is cheap
//! enough for how rarely it changes.

use super::event::{Event, Resource};
use super::name;
use crate::config::layers::{Configs, Layers};
use crate::config::settings::Settings;
use crate::config::topic::TopicSettings;
use corelane_core::ids::{BrokerId, TopicId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A topic. Every partition has one copy, on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    pub partitions: u32,
    /// The values the topic itself sets.
    pub configs: Configs,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    topics: BTreeMap<TopicId, Arc<Topic>>,
    by_name: BTreeMap<String, TopicId>,
    /// The names taken, folded, with the name that took each.
    folded: BTreeMap<String, String>,
    partitions: u64,
    brokers: BTreeMap<BrokerId, Configs>,
    cluster: Configs,
}

/// An event that cannot have followed what came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    IdTaken { id: TopicId },
    NameTaken { name: String, by: String },
    BadName { name: String },
    NoPartitions { id: TopicId },
    NoSuchTopic { id: TopicId },
    NotMore { id: TopicId, has: u32, told: u32 },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdTaken { id } => write!(f, "topic {id} is created and exists"),
            Self::NameTaken { name, by } => write!(f, "topic {name} is created beside {by}"),
            Self::BadName { name } => write!(f, "a topic is created with the name {name:?}"),
            Self::NoPartitions { id } => write!(f, "topic {id} is created without a partition"),
            Self::NoSuchTopic { id } => write!(f, "topic {id} changes and does not exist"),
            Self::NotMore { id, has, told } => {
                write!(f, "topic {id} has {has} partitions and is told to grow to {told}")
            }
        }
    }
}

impl Image {
    /// The image that events make, from nothing.
    ///
    /// # Errors
    /// The first event that contradicts those before it.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, ApplyError> {
        let mut image = Self::default();
        for event in events {
            image.apply(event)?;
        }
        Ok(image)
    }

    /// Adds one event.
    ///
    /// # Errors
    /// The event contradicts the image, which is unchanged then.
    pub fn apply(&mut self, event: &Event) -> Result<(), ApplyError> {
        match event {
            Event::TopicCreated { id, name, partitions, configs } => {
                self.refuse_creation(*id, name, *partitions)?;
                let (id, name, partitions, configs) =
                    (*id, name.clone(), *partitions, configs.clone());
                self.partitions += u64::from(partitions);
                self.by_name.insert(name.clone(), id);
                self.folded.insert(name::folded(&name), name.clone());
                self.topics.insert(id, Arc::new(Topic { id, name, partitions, configs }));
            }
            Event::TopicDeleted { id } => {
                let topic = self.topics.remove(id).ok_or(ApplyError::NoSuchTopic { id: *id })?;
                self.partitions -= u64::from(topic.partitions);
                self.by_name.remove(&topic.name);
                self.folded.remove(&name::folded(&topic.name));
            }
            Event::PartitionsAdded { id, partitions } => {
                let topic = self.topics.get_mut(id).ok_or(ApplyError::NoSuchTopic { id: *id })?;
                let (has, told) = (topic.partitions, *partitions);
                if told <= has {
                    return Err(ApplyError::NotMore { id: *id, has, told });
                }
                Arc::make_mut(topic).partitions = told;
                self.partitions += u64::from(told - has);
            }
            Event::ConfigsChanged { resource, changes } => {
                let values = match resource {
                    Resource::Topic(id) => {
                        let topic = self.topics.get_mut(id);
                        let topic = topic.ok_or(ApplyError::NoSuchTopic { id: *id })?;
                        &mut Arc::make_mut(topic).configs
                    }
                    Resource::Broker(id) => self.brokers.entry(*id).or_default(),
                    Resource::Cluster => &mut self.cluster,
                };
                for (key, value) in changes {
                    match value {
                        Some(value) => values.insert(key.clone(), value.clone()),
                        None => values.remove(key),
                    };
                }
                self.brokers.retain(|_, it| !it.is_empty());
            }
        }
        Ok(())
    }

    fn refuse_creation(&self, id: TopicId, name: &str, partitions: u32) -> Result<(), ApplyError> {
        if self.topics.contains_key(&id) || id == TopicId::ZERO {
            return Err(ApplyError::IdTaken { id });
        }
        if name::check(name).is_err() {
            return Err(ApplyError::BadName { name: name.to_owned() });
        }
        if let Some(by) = self.colliding(name) {
            return Err(ApplyError::NameTaken { name: name.to_owned(), by: by.to_owned() });
        }
        if partitions == 0 || i32::try_from(partitions).is_err() {
            return Err(ApplyError::NoPartitions { id });
        }
        Ok(())
    }

    /// The fewest events that make this image: what a checkpoint holds.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let created = self.topics.values().map(|it| Event::TopicCreated {
            id: it.id,
            name: it.name.clone(),
            partitions: it.partitions,
            configs: it.configs.clone(),
        });
        let brokers = self.brokers.iter().map(|(id, it)| (Resource::Broker(*id), it));
        let cluster = Some((Resource::Cluster, &self.cluster)).filter(|(_, it)| !it.is_empty());
        let configs = brokers.chain(cluster).map(|(resource, values)| {
            let pairs = values.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
            Event::ConfigsChanged { resource, changes: pairs.collect() }
        });
        created.chain(configs)
    }

    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name).map(|id| &self.topics[id])
    }

    /// All topics in order of their names, from the first that is not before `from`: the order in
    /// which pages of them are told.
    pub fn topics_from(&self, from: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let bounds = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        self.by_name.range::<str, _>(bounds).map(|(_, id)| &self.topics[id])
    }

    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics together.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.partitions
    }

    /// The topic that a new one of this name would collide with, if any; itself included.
    #[must_use]
    pub fn colliding(&self, name: &str) -> Option<&str> {
        self.folded.get(&name::folded(name)).map(String::as_str)
    }

    /// What was changed for a broker.
    #[must_use]
    pub fn broker_configs(&self, broker: BrokerId) -> &Configs {
        static NONE: Configs = Configs::new();
        self.brokers.get(&broker).unwrap_or(&NONE)
    }

    /// What was changed for every broker.
    #[must_use]
    pub fn cluster_configs(&self) -> &Configs {
        &self.cluster
    }

    /// The layers from which this broker's values come now.
    #[must_use]
    pub fn layers<'a>(&'a self, settings: &'a Settings, broker: BrokerId) -> Layers<'a> {
        Layers { settings, broker: self.broker_configs(broker), cluster: &self.cluster }
    }

    /// What a topic runs with now.
    #[must_use]
    pub fn settings_of(&self, topic: &Topic, layers: &Layers<'_>) -> TopicSettings {
        TopicSettings::resolve(&topic.configs, layers)
    }

    /// Stops the process when an invariant is broken.
    pub fn check(&self) {
        assert_eq!(self.topics.len(), self.by_name.len(), "META-2");
        assert_eq!(self.topics.len(), self.folded.len(), "META-2");
        for (id, topic) in &self.topics {
            assert_eq!(*id, topic.id, "META-1");
            assert_eq!(self.by_name.get(&topic.name), Some(id), "META-2");
            assert_eq!(self.folded.get(&name::folded(&topic.name)), Some(&topic.name), "META-2");
            assert!(0 < topic.partitions, "META-3");
        }
        let partitions: u64 = self.topics.values().map(|it| u64::from(it.partitions)).sum();
        assert_eq!(partitions, self.partitions, "META-1");
        assert!(self.brokers.values().all(|it| !it.is_empty()), "META-1");
    }
}

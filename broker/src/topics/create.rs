//! Creating topics.
//!
//! One request may create many; each succeeds or fails by itself, and each sees those before it,
//! so that two of one request cannot collide. The node is its own cluster: a topic has one copy,
//! here.

use super::event::Event;
use super::image::Image;
use super::name::{self, NameError};
use crate::config::keys;
use crate::config::layers::{Configs, Layers};
use crate::config::topic::{self, TopicConfigError};
use corelane_core::ids::{BrokerId, TopicId};
use std::collections::BTreeMap;
use std::fmt;

/// The one topic that nobody may create: other brokers keep their metadata under this name.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// A topic somebody wants. Fields as in CreateTopics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// −1: as many as the broker's default.
    pub partitions: i32,
    /// −1: the broker's default.
    pub replication_factor: i16,
    /// Partition and brokers; empty: the broker decides.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with everything left to the broker.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

/// An assignment of copies that this node cannot carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentError {
    NoReplicas,
    UnknownBroker { broker: BrokerId },
    BrokerTwice { broker: BrokerId },
}

impl fmt::Display for AssignmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReplicas => {
                f.write_str("The manual partition assignment includes an empty replica list.")
            }
            Self::UnknownBroker { broker } => write!(
                f,
                "The manual partition assignment includes broker {broker}, but no such broker is \
                 registered."
            ),
            Self::BrokerTwice { broker } => write!(
                f,
                "The manual partition assignment includes the broker {broker} more than once."
            ),
        }
    }
}

/// Whether the copies of a partition can be these: on a single node, itself and once.
///
/// # Errors
/// What is wrong with them.
pub fn check_replicas(replicas: &[BrokerId], node: BrokerId) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::NoReplicas);
    }
    if let Some(&broker) = replicas.iter().find(|it| **it != node) {
        return Err(AssignmentError::UnknownBroker { broker });
    }
    if 1 < replicas.len() {
        return Err(AssignmentError::BrokerTwice { broker: node });
    }
    Ok(())
}

/// Why a topic is not created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// The request names it twice; neither is created.
    Duplicate,
    Name(NameError),
    Prohibited {
        name: String,
    },
    Exists {
        name: String,
    },
    Collides {
        name: String,
        with: String,
    },
    AssignmentAndPartitions,
    AssignmentAndFactor,
    AssignmentTwice {
        partition: i32,
    },
    AssignmentWithHoles,
    Assignment(AssignmentError),
    Partitions {
        given: i32,
    },
    Factor {
        given: i16,
    },
    TooFewBrokers {
        factor: i64,
        brokers: usize,
    },
    TooManyInRequest {
        max: u64,
    },
    TooManyOnNode {
        has: u64,
        more: u64,
        max: u64,
    },
    Config(TopicConfigError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate => f.write_str("Duplicate topic name."),
            Self::Name(error) => error.fmt(f),
            Self::Prohibited { name } => {
                write!(f, "Creation of internal topic {name} is prohibited.")
            }
            Self::Exists { name } => write!(f, "Topic '{name}' already exists."),
            Self::Collides { name, with } => {
                write!(f, "Topic '{name}' collides with existing topic: {with}")
            }
            Self::AssignmentAndPartitions => f.write_str(
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            ),
            Self::AssignmentAndFactor => f.write_str(
                "A manual partition assignment was specified, but replication factor was not set \
                 to -1.",
            ),
            Self::AssignmentTwice { partition } => {
                write!(f, "Found multiple manual partition assignments for partition {partition}")
            }
            Self::AssignmentWithHoles => {
                f.write_str("partitions should be a consecutive 0-based integer sequence")
            }
            Self::Assignment(error) => error.fmt(f),
            Self::Partitions { .. } => {
                f.write_str("Number of partitions was set to an invalid non-positive value.")
            }
            Self::Factor { .. } => f.write_str(
                "Replication factor must be larger than 0, or -1 to use the default value.",
            ),
            Self::TooFewBrokers { factor, brokers } => write!(
                f,
                "Unable to replicate the partition {factor} time(s): The target replication factor \
                 of {factor} cannot be reached because only {brokers} broker(s) are registered."
            ),
            Self::TooManyInRequest { max } => {
                write!(f, "Excessively large number of partitions per request: more than {max}.")
            }
            Self::TooManyOnNode { has, more, max } => write!(
                f,
                "This broker has {has} partitions, and {more} more would pass \
                 corelane.partitions.max, which is {max}."
            ),
            Self::Config(error) => error.fmt(f),
        }
    }
}

/// What the rules need to know besides the image.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub layers: Layers<'a>,
    pub node: BrokerId,
}

impl Rules<'_> {
    fn number(&self, row: &'static crate::config::row::Row) -> i64 {
        self.layers.settings.number(row)
    }

    /// Partitions one request may create.
    pub(super) fn request_max(&self) -> u64 {
        u64::try_from(self.number(&keys::CREATE_PARTITIONS_MAX)).expect("its row bounds it")
    }

    /// Partitions this node may have.
    pub(super) fn node_max(&self) -> u64 {
        u64::try_from(self.number(&keys::PARTITIONS_MAX)).expect("its row bounds it")
    }
}

/// What comes of each wish, in order. An event counts once it is durable; whoever only validates
/// drops it. `draw_id` gives an id nobody has: sixteen random bytes will do, ids in use and ids
/// with a meaning are drawn again.
pub fn plan(
    image: &Image,
    rules: &Rules<'_>,
    wishes: &[NewTopic],
    draw_id: &mut dyn FnMut() -> TopicId,
) -> Vec<Result<Event, CreateError>> {
    let mut named: BTreeMap<&str, u32> = BTreeMap::new();
    for wish in wishes {
        *named.entry(&wish.name).or_default() += 1;
    }
    let mut batch = Batch::default();
    let plan_one = |wish: &NewTopic| {
        if 1 < named[wish.name.as_str()] {
            return Err(CreateError::Duplicate);
        }
        let (partitions, configs) = accept(image, rules, wish, &batch)?;
        let id = fresh_id(image, &batch, draw_id);
        batch.ids.push(id);
        batch.partitions += u64::from(partitions);
        batch.folded.insert(name::folded(&wish.name), wish.name.clone());
        Ok(Event::TopicCreated { id, name: wish.name.clone(), partitions, configs })
    };
    wishes.iter().map(plan_one).collect()
}

/// What earlier wishes of the same request have taken.
#[derive(Default)]
struct Batch {
    folded: BTreeMap<String, String>,
    ids: Vec<TopicId>,
    partitions: u64,
}

/// Ids below this have a meaning in the protocol, or may get one.
const RESERVED_IDS: u128 = 100;

fn fresh_id(image: &Image, batch: &Batch, draw: &mut dyn FnMut() -> TopicId) -> TopicId {
    const DRAWS_MAX: u32 = 1000;
    for _ in 0..DRAWS_MAX {
        let mut id = draw();
        // The marks of a random UUID, for those who look.
        id.0[6] = id.0[6] & 0x0f | 0x40;
        id.0[8] = id.0[8] & 0x3f | 0x80;
        let reserved = u128::from_be_bytes(id.0) < RESERVED_IDS;
        // A text that starts with a dash is taken for a flag by command line tools.
        let dashed = id.to_string().starts_with('-');
        if !reserved && !dashed && image.topic(id).is_none() && !batch.ids.contains(&id) {
            return id;
        }
    }
    panic!("{DRAWS_MAX} draws gave no fresh topic id: the source of randomness is broken");
}

fn accept(
    image: &Image,
    rules: &Rules<'_>,
    wish: &NewTopic,
    batch: &Batch,
) -> Result<(u32, Configs), CreateError> {
    let name = wish.name.clone();
    if name == CLUSTER_METADATA {
        return Err(CreateError::Prohibited { name });
    }
    name::check(&name).map_err(CreateError::Name)?;
    let taken = batch.folded.get(&name::folded(&name)).map(String::as_str);
    match image.colliding(&name).or(taken) {
        Some(by) if by == name => return Err(CreateError::Exists { name }),
        Some(by) => return Err(CreateError::Collides { name, with: by.to_owned() }),
        None => {}
    }
    let configs = accept_configs(&wish.configs, &rules.layers)?;
    let partitions = accept_shape(rules, wish)?;
    let (more, max) = (u64::from(partitions), rules.request_max());
    if max < batch.partitions + more {
        return Err(CreateError::TooManyInRequest { max });
    }
    let (has, max) = (image.partition_count() + batch.partitions, rules.node_max());
    if max < has + more {
        return Err(CreateError::TooManyOnNode { has, more, max });
    }
    Ok((partitions, configs))
}

fn accept_configs(
    given: &[(String, Option<String>)],
    layers: &Layers<'_>,
) -> Result<Configs, CreateError> {
    let mut configs = Configs::new();
    for (key, value) in given {
        let Some(value) = value else {
            return Err(CreateError::Config(TopicConfigError::Null { key: key.clone() }));
        };
        configs.insert(key.clone(), value.trim().to_owned());
    }
    topic::check(&configs, layers).map_err(CreateError::Config)?;
    Ok(configs)
}

/// The number of partitions, when copies and assignments are ones this node can have.
fn accept_shape(rules: &Rules<'_>, wish: &NewTopic) -> Result<u32, CreateError> {
    if !wish.assignments.is_empty() {
        return accept_assignments(rules.node, wish);
    }
    let factor = match wish.replication_factor {
        -1 => rules.number(&keys::DEFAULT_REPLICATION_FACTOR),
        given if given < 1 => return Err(CreateError::Factor { given }),
        given => i64::from(given),
    };
    let partitions = match wish.partitions {
        -1 => rules.number(&keys::NUM_PARTITIONS),
        given if given < 1 => return Err(CreateError::Partitions { given }),
        given => i64::from(given),
    };
    if factor != 1 {
        return Err(CreateError::TooFewBrokers { factor, brokers: 1 });
    }
    Ok(u32::try_from(partitions).expect("a positive int"))
}

fn accept_assignments(node: BrokerId, wish: &NewTopic) -> Result<u32, CreateError> {
    if wish.replication_factor != -1 {
        return Err(CreateError::AssignmentAndFactor);
    }
    if wish.partitions != -1 {
        return Err(CreateError::AssignmentAndPartitions);
    }
    let mut sorted: Vec<i32> = wish.assignments.iter().map(|(partition, _)| *partition).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|it| it[0] == it[1]) {
        return Err(CreateError::AssignmentTwice { partition: pair[0] });
    }
    for (_, replicas) in &wish.assignments {
        check_replicas(replicas, node).map_err(CreateError::Assignment)?;
    }
    if sorted.iter().zip(0..).any(|(partition, place)| *partition != place) {
        return Err(CreateError::AssignmentWithHoles);
    }
    Ok(u32::try_from(sorted.len()).expect("no request carries so many"))
}

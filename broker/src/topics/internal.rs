//! Topics that nobody asked for: the broker's own, and those made because a client named them.

use super::create::{self, CreateError, NewTopic, Rules};
use super::event::Event;
use super::image::Image;
use super::name::{self, NameError};
use crate::config::keys;
use corelane_core::ids::TopicId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Keeps the offsets of groups, in Kafka's own records.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Names that clients treat as the broker's own, whether this broker keeps something there or not.
const INTERNAL: &[&str] = &[CONSUMER_OFFSETS, "__transaction_state", "__share_group_state"];

#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// How the broker makes a topic of its own. `None`: it has no use for one of this name.
#[must_use]
pub fn own_topic(name: &str, rules: &Rules<'_>) -> Option<NewTopic> {
    if name != CONSUMER_OFFSETS {
        return None;
    }
    let settings = rules.layers.settings;
    let partitions = settings.number(&keys::OFFSETS_PARTITIONS);
    let factor = settings.number(&keys::OFFSETS_REPLICATION_FACTOR);
    let segment_bytes = settings.number(&keys::OFFSETS_SEGMENT_BYTES).to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", &segment_bytes),
        // A group must not forget what it was told is committed, whatever the default is.
        ("corelane.durability", "flushed"),
    ];
    Some(NewTopic {
        name: name.to_owned(),
        partitions: i32::try_from(partitions).expect("an int key holds an int"),
        replication_factor: i16::try_from(factor).expect("a short key holds a short"),
        assignments: Vec::new(),
        configs: configs.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).into(),
    })
}

/// Why a topic that is not there stays so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoCreateError {
    /// The client or the broker does not want topics made this way.
    Unknown {
        name: String,
    },
    Name(NameError),
    Create(CreateError),
}

impl fmt::Display for AutoCreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { .. } => f.write_str("This server does not host this topic-partition."),
            Self::Name(error) => error.fmt(f),
            Self::Create(error) => error.fmt(f),
        }
    }
}

/// A client named topics that are not there: what comes of each name.
pub fn plan_missing<'a>(
    image: &Image,
    rules: &Rules<'_>,
    names: &BTreeSet<&'a str>,
    client_allows: bool,
    draw_id: &mut dyn FnMut() -> TopicId,
) -> BTreeMap<&'a str, Result<Event, AutoCreateError>> {
    let enabled = client_allows && rules.layers.settings.flag(&keys::AUTO_CREATE_TOPICS);
    let mut answers = BTreeMap::new();
    let mut wishes = Vec::new();
    for &name in names {
        match wish_for(name, rules, enabled) {
            Ok(wish) => wishes.push((name, wish)),
            Err(error) => {
                answers.insert(name, Err(error));
            }
        }
    }
    let (wanted, wishes): (Vec<&str>, Vec<NewTopic>) = wishes.into_iter().unzip();
    let created = create::plan(image, rules, &wishes, draw_id).into_iter();
    let created = created.map(|it| it.map_err(AutoCreateError::Create));
    answers.extend(wanted.into_iter().zip(created));
    answers
}

fn wish_for(name: &str, rules: &Rules<'_>, enabled: bool) -> Result<NewTopic, AutoCreateError> {
    name::check(name).map_err(AutoCreateError::Name)?;
    let own = own_topic(name, rules);
    if !enabled || (is_internal(name) && own.is_none()) {
        return Err(AutoCreateError::Unknown { name: name.to_owned() });
    }
    Ok(own.unwrap_or_else(|| NewTopic::named(name)))
}

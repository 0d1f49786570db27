//! Deleting topics, by name or by id.

use super::event::Event;
use super::image::Image;
use corelane_core::ids::TopicId;
use std::collections::BTreeMap;
use std::fmt;

/// A topic somebody wants gone, as DeleteTopics names it: by one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: Option<String>,
    /// Zero: not given.
    pub id: TopicId,
}

/// Why a topic is not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeleteError {
    /// `delete.topic.enable` is off.
    Disabled,
    Neither,
    Both,
    NameTwice,
    IdTwice,
    /// Named once by name and once by id.
    NamedBothWays,
    UnknownName {
        name: String,
    },
    UnknownId {
        id: TopicId,
    },
}

impl fmt::Display for DeleteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "Topic deletion is disabled.",
            Self::Neither => "Neither topic name nor id were specified.",
            Self::Both => "You may not specify both topic name and topic id.",
            Self::NameTwice => "Duplicate topic name.",
            Self::IdTwice => "Duplicate topic id.",
            Self::NamedBothWays => {
                "The provided topic name maps to an ID that was already supplied."
            }
            Self::UnknownName { .. } => "This server does not host this topic-partition.",
            Self::UnknownId { .. } => "This server does not host this topic ID.",
        })
    }
}

/// What comes of each wish, in order. A topic that is named twice is not deleted: one of the two
/// was meant otherwise.
#[must_use]
pub fn plan(image: &Image, enabled: bool, targets: &[Target]) -> Vec<Result<Event, DeleteError>> {
    let found: Vec<Result<TopicId, DeleteError>> = targets
        .iter()
        .map(|it| if enabled { find(image, it) } else { Err(DeleteError::Disabled) })
        .collect();
    let mut by_name: BTreeMap<&str, u32> = BTreeMap::new();
    let mut by_id: BTreeMap<TopicId, u32> = BTreeMap::new();
    let mut meant: BTreeMap<TopicId, u32> = BTreeMap::new();
    for (target, found) in targets.iter().zip(&found) {
        match &target.name {
            Some(name) => *by_name.entry(name).or_default() += 1,
            None => *by_id.entry(target.id).or_default() += 1,
        }
        if let Ok(id) = found {
            *meant.entry(*id).or_default() += 1;
        }
    }
    let judge = |(target, found): (&Target, Result<TopicId, DeleteError>)| match found {
        Err(error @ (DeleteError::Disabled | DeleteError::Both | DeleteError::Neither)) => {
            Err(error)
        }
        found => {
            match &target.name {
                Some(name) if 1 < by_name[name.as_str()] => return Err(DeleteError::NameTwice),
                None if 1 < by_id[&target.id] => return Err(DeleteError::IdTwice),
                _ => {}
            }
            let id = found?;
            if 1 < meant[&id] {
                return Err(DeleteError::NamedBothWays);
            }
            Ok(Event::TopicDeleted { id })
        }
    };
    targets.iter().zip(found).map(judge).collect()
}

fn find(image: &Image, target: &Target) -> Result<TopicId, DeleteError> {
    match (&target.name, target.id) {
        (Some(_), id) if id != TopicId::ZERO => Err(DeleteError::Both),
        (Some(name), _) => match image.topic_named(name) {
            Some(topic) => Ok(topic.id),
            None => Err(DeleteError::UnknownName { name: name.clone() }),
        },
        (None, TopicId::ZERO) => Err(DeleteError::Neither),
        (None, id) if image.topic(id).is_none() => Err(DeleteError::UnknownId { id }),
        (None, id) => Ok(id),
    }
}

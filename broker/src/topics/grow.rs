//! Adding partitions to a topic. Partitions are never taken away.

use super::create::{AssignmentError, Rules, check_replicas};
use super::event::Event;
use super::image::Image;
use super::internal;
use corelane_core::ids::BrokerId;
use std::collections::BTreeMap;
use std::fmt;

/// A topic that should have more partitions, as CreatePartitions says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    pub name: String,
    /// How many it should have then.
    pub count: i32,
    /// The copies of each new partition; `None`: the broker decides.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Why a topic does not grow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrowError {
    Duplicate,
    UnknownTopic {
        name: String,
    },
    /// Which group belongs to which partition depends on their number.
    Fixed {
        name: String,
    },
    AlreadyHas {
        count: u32,
    },
    NotMore {
        name: String,
        has: u32,
        wanted: i32,
    },
    AssignmentCount {
        more: u32,
        given: usize,
    },
    Assignment(AssignmentError),
    TooManyInRequest {
        max: u64,
    },
    TooManyOnNode {
        has: u64,
        more: u64,
        max: u64,
    },
}

impl fmt::Display for GrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate => f.write_str("Duplicate topic name."),
            Self::UnknownTopic { .. } => {
                f.write_str("This server does not host this topic-partition.")
            }
            Self::Fixed { name } => write!(
                f,
                "The number of partitions of internal topic {name} is settled when it is created."
            ),
            Self::AlreadyHas { count } => write!(f, "Topic already has {count} partition(s)."),
            Self::NotMore { name, has, wanted } => write!(
                f,
                "The topic {name} currently has {has} partition(s); {wanted} would not be an \
                 increase."
            ),
            Self::AssignmentCount { more, given } => write!(
                f,
                "Attempted to add {more} additional partition(s), but only {given} assignment(s) \
                 were specified."
            ),
            Self::Assignment(error) => error.fmt(f),
            Self::TooManyInRequest { max } => {
                write!(f, "Excessively large number of partitions per request: more than {max}.")
            }
            Self::TooManyOnNode { has, more, max } => write!(
                f,
                "This broker has {has} partitions, and {more} more would pass \
                 corelane.partitions.max, which is {max}."
            ),
        }
    }
}

/// What comes of each wish, in order. Whoever only validates drops the events.
#[must_use]
pub fn plan(image: &Image, rules: &Rules<'_>, wishes: &[Growth]) -> Vec<Result<Event, GrowError>> {
    let mut named: BTreeMap<&str, u32> = BTreeMap::new();
    for wish in wishes {
        *named.entry(&wish.name).or_default() += 1;
    }
    let mut taken: u64 = 0;
    let plan_one = |wish: &Growth| {
        if 1 < named[wish.name.as_str()] {
            return Err(GrowError::Duplicate);
        }
        let (event, more) = accept(image, rules, wish, taken)?;
        taken += more;
        Ok(event)
    };
    wishes.iter().map(plan_one).collect()
}

fn accept(
    image: &Image,
    rules: &Rules<'_>,
    wish: &Growth,
    taken: u64,
) -> Result<(Event, u64), GrowError> {
    let name = wish.name.clone();
    let Some(topic) = image.topic_named(&name) else {
        return Err(GrowError::UnknownTopic { name });
    };
    if internal::is_internal(&name) {
        return Err(GrowError::Fixed { name });
    }
    let has = topic.partitions;
    let partitions = match u32::try_from(wish.count) {
        Ok(count) if count == has => return Err(GrowError::AlreadyHas { count }),
        Ok(count) if has < count => count,
        _ => return Err(GrowError::NotMore { name, has, wanted: wish.count }),
    };
    let more = partitions - has;
    if let Some(assignments) = &wish.assignments {
        if assignments.len() != more as usize {
            return Err(GrowError::AssignmentCount { more, given: assignments.len() });
        }
        for replicas in assignments {
            check_replicas(replicas, rules.node).map_err(GrowError::Assignment)?;
        }
    }
    let (more, max) = (u64::from(more), rules.request_max());
    if max < taken + more {
        return Err(GrowError::TooManyInRequest { max });
    }
    let (has, max) = (image.partition_count() + taken, rules.node_max());
    if max < has + more {
        return Err(GrowError::TooManyOnNode { has, more, max });
    }
    Ok((Event::PartitionsAdded { id: topic.id, partitions }, more))
}

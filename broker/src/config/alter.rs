//! Changing values while the broker runs: of a topic, of this broker, of the whole cluster.
//!
//! Pure: takes the values a resource has, returns those it will have, or refuses and changes
//! nothing. Whoever calls makes the difference durable. Refusals carry the words Kafka's tools
//! show. Deleting what is not set succeeds: the wish is fulfilled.

use super::keys;
use super::layers::{Configs, Layers};
use super::row::{Change, Row};
use super::topic::{self, TopicConfigError};
use super::value::{BadValue, Kind, split_list};
use std::fmt;

/// What to do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    /// By the number in IncrementalAlterConfigs.
    #[must_use]
    pub fn of_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        })
    }
}

/// One wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    pub key: String,
    pub operation: Operation,
    pub value: Option<String>,
}

/// For whom a broker's key is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Broker,
    Cluster,
}

/// Why a change is refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterError {
    KeyTwice {
        key: String,
    },
    NullValue {
        keys: Vec<String>,
    },
    NotAList {
        operation: Operation,
        key: String,
    },
    Topic(TopicConfigError),
    UnknownBrokerKey {
        key: String,
    },
    /// Keys that are read at start only.
    Static {
        keys: Vec<String>,
    },
    BadBrokerValue(BadValue),
}

impl fmt::Display for AlterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTwice { key } => write!(f, "Error due to duplicate config keys: {key}"),
            Self::NullValue { keys } => {
                write!(f, "Null value not supported for : {}", keys.join(","))
            }
            Self::NotAList { operation, key } => {
                write!(f, "Can't {operation} to key {key} because its type is not LIST.")
            }
            Self::Topic(error) => error.fmt(f),
            Self::UnknownBrokerKey { key } => write!(f, "Unknown broker config name: {key}"),
            Self::Static { keys } => {
                write!(f, "Cannot update these configs dynamically: [{}]", keys.join(", "))
            }
            Self::BadBrokerValue(bad) => bad.fmt(f),
        }
    }
}

/// What a topic's own values are after these changes.
///
/// # Errors
/// A change that is malformed, names an unknown key, or leads to values that cannot stand.
pub fn alter_topic(
    own: &Configs,
    changes: &[Alteration],
    layers: &Layers<'_>,
) -> Result<Configs, AlterError> {
    refuse_malformed(changes)?;
    let mut next = own.clone();
    for change in changes {
        let Some(row) = topic::find(&change.key) else {
            // Nobody can have set it, so deleting it is done already.
            if change.operation == Operation::Delete {
                continue;
            }
            let key = change.key.clone();
            return Err(AlterError::Topic(TopicConfigError::Unknown { key }));
        };
        let unset = || layers.inherited(row).unwrap_or_default();
        change_one(&mut next, change, row, unset)?;
    }
    topic::check(&next, layers).map_err(AlterError::Topic)?;
    Ok(next)
}

/// A topic's own values when they are replaced as a whole: what is not named returns to its
/// default.
///
/// # Errors
/// As [`alter_topic`].
pub fn replace_topic(
    values: &[(String, Option<String>)],
    layers: &Layers<'_>,
) -> Result<Configs, AlterError> {
    alter_topic(&Configs::new(), &as_sets(values), layers)
}

/// What the changes made for a broker, or for the cluster, are after these.
///
/// # Errors
/// A change that is malformed, names an unknown key or one that is read at start only, or a value
/// the key does not take.
pub fn alter_broker(
    level: Level,
    changes: &[Alteration],
    layers: &Layers<'_>,
) -> Result<Configs, AlterError> {
    let current = match level {
        Level::Broker => layers.broker,
        Level::Cluster => layers.cluster,
    };
    change_broker(level, current.clone(), changes, layers)
}

/// As [`alter_broker`], the values replaced as a whole.
///
/// # Errors
/// As [`alter_broker`].
pub fn replace_broker(
    level: Level,
    values: &[(String, Option<String>)],
    layers: &Layers<'_>,
) -> Result<Configs, AlterError> {
    change_broker(level, Configs::new(), &as_sets(values), layers)
}

fn change_broker(
    level: Level,
    mut next: Configs,
    changes: &[Alteration],
    layers: &Layers<'_>,
) -> Result<Configs, AlterError> {
    refuse_malformed(changes)?;
    let mut fixed = Vec::new();
    for change in changes {
        let key = change.key.clone();
        match keys::find(&key) {
            Some(row) if row.change == Change::Static => fixed.push(key),
            Some(_) => {}
            None if change.operation == Operation::Delete => {}
            None => return Err(AlterError::UnknownBrokerKey { key }),
        }
    }
    if !fixed.is_empty() {
        return Err(AlterError::Static { keys: fixed });
    }
    for change in changes {
        let Some(row) = keys::find(&change.key) else { continue };
        // What the level below says is the list that an append at this level starts from.
        let below = match level {
            Level::Broker => Layers { broker: &Configs::new(), ..*layers }.current(row),
            Level::Cluster => Layers::of_start(layers.settings).current(row),
        };
        change_one(&mut next, change, row, || below.unwrap_or_default())?;
        if let Some(value) = next.get(&change.key) {
            row.parse(value).map_err(AlterError::BadBrokerValue)?;
        }
    }
    let after = match level {
        Level::Broker => Layers { broker: &next, ..*layers },
        Level::Cluster => Layers { cluster: &next, ..*layers },
    };
    topic::check(&Configs::new(), &after).map_err(AlterError::Topic)?;
    Ok(next)
}

fn as_sets(values: &[(String, Option<String>)]) -> Vec<Alteration> {
    let set = |(key, value): &(String, Option<String>)| Alteration {
        key: key.clone(),
        operation: Operation::Set,
        value: value.clone(),
    };
    values.iter().map(set).collect()
}

fn refuse_malformed(changes: &[Alteration]) -> Result<(), AlterError> {
    for (at, change) in changes.iter().enumerate() {
        if changes[..at].iter().any(|it| it.key == change.key) {
            return Err(AlterError::KeyTwice { key: change.key.clone() });
        }
    }
    let needs_value = |it: &&Alteration| it.operation != Operation::Delete && it.value.is_none();
    let keys: Vec<String> = changes.iter().filter(needs_value).map(|it| it.key.clone()).collect();
    if keys.is_empty() { Ok(()) } else { Err(AlterError::NullValue { keys }) }
}

fn change_one(
    values: &mut Configs,
    change: &Alteration,
    row: &Row,
    unset: impl FnOnce() -> String,
) -> Result<(), AlterError> {
    let given = change.value.as_deref().unwrap_or_default();
    let key = change.key.clone();
    match change.operation {
        Operation::Delete => {
            values.remove(&key);
        }
        Operation::Set => {
            values.insert(key, given.trim().to_owned());
        }
        Operation::Append | Operation::Subtract if row.kind != Kind::List => {
            return Err(AlterError::NotAList { operation: change.operation, key });
        }
        Operation::Append => {
            let mut list = split_list(&values.get(&key).cloned().unwrap_or_else(unset));
            for entry in split_list(given) {
                if !list.contains(&entry) {
                    list.push(entry);
                }
            }
            values.insert(key, list.join(","));
        }
        Operation::Subtract => {
            let mut list = split_list(&values.get(&key).cloned().unwrap_or_else(unset));
            let gone = split_list(given);
            list.retain(|it| !gone.contains(it));
            values.insert(key, list.join(","));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Settings, Source};
    use super::*;

    /// `key=value` sets, `key` deletes, `key+value` appends, `key-=value` subtracts, `key!` sets
    /// null.
    fn changes(script: &str) -> Vec<Alteration> {
        let one = |word: &str| {
            let (key, operation, value) = if let Some((key, value)) = word.split_once("-=") {
                (key, Operation::Subtract, Some(value))
            } else if let Some((key, value)) = word.split_once("+=") {
                (key, Operation::Append, Some(value))
            } else if let Some((key, value)) = word.split_once('=') {
                (key, Operation::Set, Some(value))
            } else if let Some(key) = word.strip_suffix('!') {
                (key, Operation::Set, None)
            } else {
                (word, Operation::Delete, None)
            };
            Alteration { key: key.to_owned(), operation, value: value.map(str::to_owned) }
        };
        script.split_whitespace().map(one).collect()
    }

    fn told(result: Result<Configs, AlterError>) -> String {
        match result {
            Ok(values) => values
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("refused, {error}"),
        }
    }

    /// Runs each step on what the step before left, and tells what the last one says.
    #[track_caller]
    fn topic(steps: &[&str], expect: &str) {
        let settings = Settings::default();
        let layers = Layers::of_start(&settings);
        let mut own = Configs::new();
        let (last, before) = steps.split_last().unwrap();
        for step in before {
            own = alter_topic(&own, &changes(step), &layers).unwrap();
        }
        assert_eq!(told(alter_topic(&own, &changes(last), &layers)), expect);
    }

    #[test]
    fn set_and_delete_and_delete_again() {
        topic(&["retention.ms=5 segment.bytes=2000000"], "retention.ms=5 segment.bytes=2000000");
        topic(&["retention.ms=5", "retention.ms"], "");
        topic(&["retention.ms"], "");
        topic(&["no.such.key"], "");
    }

    #[test]
    fn lists_grow_from_what_holds_without_them() {
        topic(&["cleanup.policy+=compact"], "cleanup.policy=delete,compact");
        topic(&["cleanup.policy+=delete"], "cleanup.policy=delete");
        topic(&["cleanup.policy+=compact", "cleanup.policy-=delete"], "cleanup.policy=compact");
        topic(&["cleanup.policy-=delete"], "cleanup.policy=");
    }

    #[test]
    fn refusals_say_what_kafka_says() {
        for (script, said) in [
            (
                "retention.ms=soon",
                "Invalid value soon for configuration retention.ms: Not a number \
              of type LONG",
            ),
            ("retention.sm=5", "Unknown topic config name: retention.sm"),
            ("retention.ms+=5", "Can't APPEND to key retention.ms because its type is not LIST."),
            ("retention.ms-=5", "Can't SUBTRACT to key retention.ms because its type is not LIST."),
            ("retention.ms! segment.ms!", "Null value not supported for : retention.ms,segment.ms"),
            ("segment.ms=1 segment.ms", "Error due to duplicate config keys: segment.ms"),
            (
                "min.compaction.lag.ms=9 max.compaction.lag.ms=8",
                "conflict topic config setting \
              min.compaction.lag.ms (9) > max.compaction.lag.ms (8)",
            ),
            (
                "remote.storage.enable=true",
                "Invalid value true for configuration \
              remote.storage.enable: there is no tiered storage, so only the default is accepted",
            ),
            (
                "segment.bytes=1000",
                "Invalid value 1000 for configuration segment.bytes: Value must \
              be at least 1048576",
            ),
        ] {
            topic(&[script], &format!("refused, {said}"));
        }
    }

    #[test]
    fn what_only_keeps_its_default_may_be_set_to_it() {
        topic(
            &["remote.storage.enable=FALSE local.retention.ms=-2"],
            "local.retention.ms=-2 remote.storage.enable=FALSE",
        );
    }

    #[test]
    fn replacing_forgets_what_is_not_named() {
        let settings = Settings::default();
        let layers = Layers::of_start(&settings);
        let values = [("segment.ms".to_owned(), Some("5".to_owned()))];
        assert_eq!(told(replace_topic(&values, &layers)), "segment.ms=5");
        let null = [("segment.ms".to_owned(), None)];
        assert_eq!(
            told(replace_topic(&null, &layers)),
            "refused, Null value not supported for : segment.ms"
        );
    }

    #[test]
    fn a_brokers_keys_change_if_they_are_dynamic() {
        let settings = Settings::default();
        let layers = Layers::of_start(&settings);
        let alter = |script| told(alter_broker(Level::Cluster, &changes(script), &layers));
        assert_eq!(alter("log.retention.ms=5"), "log.retention.ms=5");
        assert_eq!(alter("log.retention.ms no.such.key"), "");
        assert_eq!(
            alter("node.id=5 listeners=x log.retention.ms=1"),
            "refused, Cannot update these configs dynamically: [node.id, listeners]"
        );
        assert_eq!(alter("node.id"), "refused, Cannot update these configs dynamically: [node.id]");
        assert_eq!(alter("what=5"), "refused, Unknown broker config name: what");
        assert_eq!(
            alter("max.connections=-1"),
            "refused, Invalid value -1 for configuration max.connections: Value must be at least 0"
        );
        assert_eq!(
            alter("log.cleaner.max.compaction.lag.ms=1 log.cleaner.min.compaction.lag.ms=2"),
            "refused, conflict topic config setting min.compaction.lag.ms (2) > \
             max.compaction.lag.ms (1)"
        );
    }

    #[test]
    fn a_list_of_the_broker_grows_from_the_level_below() {
        let mut settings = Settings::default();
        settings.give(&keys::LOG_CLEANUP_POLICY, "compact", Source::Set).unwrap();
        let cluster = Configs::from([("log.cleanup.policy".to_owned(), String::new())]);
        let layers = Layers { cluster: &cluster, ..Layers::of_start(&settings) };
        let append = changes("log.cleanup.policy+=delete");
        assert_eq!(
            told(alter_broker(Level::Broker, &append, &layers)),
            "log.cleanup.policy=delete"
        );
        let layers = Layers::of_start(&settings);
        assert_eq!(
            told(alter_broker(Level::Cluster, &append, &layers)),
            "log.cleanup.policy=compact,delete"
        );
    }
}

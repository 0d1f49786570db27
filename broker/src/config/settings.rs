//! What was set at start, by whom, and the typed reading of it.
//!
//! Precedence is by source: a flag, `--set`, the environment, the file, the default. Where one
//! thing has several spellings (`log.retention.ms`, `.minutes`, `.hours`), a spelling in a higher
//! source silences all of them in lower ones; within one source the finest is heard.
//! Invariant: every value kept here has passed its row.

use super::keys::BROKER_KEYS;
use super::layers::{Configs, Layers, family};
use super::row::Row;
use super::value::{BadValue, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Who said so. The order is the precedence, the loudest last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    File { path: String, line: usize },
    Environment { variable: String },
    Set,
    Flag { flag: &'static str },
}

impl Source {
    fn rank(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Environment { .. } => 1,
            Self::Set => 2,
            Self::Flag { .. } => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}, line {line}"),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Set => f.write_str("--set"),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub value: String,
    pub source: Source,
}

/// The values set at start. Whatever is not set has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Given>,
}

impl Settings {
    /// Takes a value, unless a louder source already set the key. Of two from the same source the
    /// later counts.
    ///
    /// # Errors
    /// The key does not take the value; nothing is changed then.
    pub fn give(&mut self, row: &'static Row, value: &str, source: Source) -> Result<(), BadValue> {
        row.parse(value)?;
        let spellings = spellings_of(row);
        let rank = source.rank();
        let louder = |it: &&Row| self.given.get(it.name).is_some_and(|it| rank < it.source.rank());
        if spellings.iter().any(louder) {
            return Ok(());
        }
        for spelling in spellings {
            if self.given.get(spelling.name).is_some_and(|it| it.source.rank() < rank) {
                self.given.remove(spelling.name);
            }
        }
        self.given.insert(row.name, Given { value: value.trim().to_owned(), source });
        Ok(())
    }

    /// The value set at start for exactly this key.
    #[must_use]
    pub fn given(&self, row: &Row) -> Option<&str> {
        self.given.get(row.name).map(|it| it.value.as_str())
    }

    #[must_use]
    pub fn source(&self, row: &Row) -> Option<&Source> {
        self.given.get(row.name).map(|it| &it.source)
    }

    /// Everything that was set, in the order of the table.
    pub fn all_given(&self) -> impl Iterator<Item = (&'static Row, &Given)> {
        BROKER_KEYS.iter().filter_map(|row| Some((*row, self.given.get(row.name)?)))
    }

    /// What the key is at start, other spellings considered. `None`: no value and no default.
    #[must_use]
    pub fn value(&self, row: &'static Row) -> Option<Value> {
        let text = Layers::of_start(self).current(row)?;
        Some(row.parse(&text).expect("a value that was taken has passed its row"))
    }

    /// # Panics
    /// As the other typed readings: when the row is not of that type or has no value. Which type
    /// a row has is ours to know.
    #[must_use]
    pub fn number(&self, row: &'static Row) -> i64 {
        match self.value(row) {
            Some(Value::Number(number)) => number,
            other => panic!("{} is read as a number and is {other:?}", row.name),
        }
    }

    #[must_use]
    pub fn flag(&self, row: &'static Row) -> bool {
        match self.value(row) {
            Some(Value::Boolean(flag)) => flag,
            other => panic!("{} is read as a flag and is {other:?}", row.name),
        }
    }

    #[must_use]
    pub fn list(&self, row: &'static Row) -> Vec<String> {
        match self.value(row) {
            Some(Value::List(list)) => list,
            other => panic!("{} is read as a list and is {other:?}", row.name),
        }
    }

    #[must_use]
    pub fn text(&self, row: &'static Row) -> Option<String> {
        match self.value(row) {
            Some(Value::Text(text)) => Some(text),
            None => None,
            other => panic!("{} is read as text and is {other:?}", row.name),
        }
    }

    /// The values as a map, for those who only show them.
    #[must_use]
    pub fn as_configs(&self) -> Configs {
        self.given.iter().map(|(name, it)| ((*name).to_owned(), it.value.clone())).collect()
    }
}

/// Every spelling of the thing that `row` spells, itself included.
fn spellings_of(row: &'static Row) -> Vec<&'static Row> {
    let finest = BROKER_KEYS.iter().copied().find(|it| it.fallback.contains(&row));
    family(finest.unwrap_or(row))
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    fn file() -> Source {
        Source::File { path: "x.toml".into(), line: 1 }
    }

    #[test]
    fn a_louder_source_wins_whatever_the_order() {
        let mut settings = Settings::default();
        settings.give(&keys::NUM_PARTITIONS, "2", Source::Set).unwrap();
        settings.give(&keys::NUM_PARTITIONS, "3", file()).unwrap();
        assert_eq!(settings.number(&keys::NUM_PARTITIONS), 2);
        settings.give(&keys::NUM_PARTITIONS, "4", Source::Set).unwrap();
        assert_eq!(settings.number(&keys::NUM_PARTITIONS), 4);
    }

    #[test]
    fn the_finest_spelling_of_one_source_is_heard() {
        let mut settings = Settings::default();
        assert_eq!(settings.number(&keys::LOG_RETENTION_MS), 604_800_000);
        settings.give(&keys::LOG_RETENTION_HOURS, "1", file()).unwrap();
        assert_eq!(settings.number(&keys::LOG_RETENTION_MS), 3_600_000);
        settings.give(&keys::LOG_RETENTION_MINUTES, "-1", file()).unwrap();
        assert_eq!(settings.number(&keys::LOG_RETENTION_MS), -1);
        settings.give(&keys::LOG_RETENTION_MS, "5", file()).unwrap();
        assert_eq!(settings.number(&keys::LOG_RETENTION_MS), 5);
    }

    #[test]
    fn a_coarse_spelling_in_a_louder_source_silences_the_finer_one_below() {
        let mut settings = Settings::default();
        settings.give(&keys::LOG_RETENTION_MS, "5", file()).unwrap();
        settings.give(&keys::LOG_RETENTION_HOURS, "2", Source::Set).unwrap();
        assert_eq!(settings.number(&keys::LOG_RETENTION_MS), 7_200_000);
        settings.give(&keys::LOG_RETENTION_MINUTES, "9", file()).unwrap();
        assert_eq!(settings.number(&keys::LOG_RETENTION_MS), 7_200_000);
    }

    #[test]
    fn a_value_the_key_does_not_take_changes_nothing() {
        let mut settings = Settings::default();
        let refused = settings.give(&keys::NUM_PARTITIONS, "none", Source::Set).unwrap_err();
        let said = refused.to_string();
        assert_eq!(
            said,
            "Invalid value none for configuration num.partitions: Not a number of type INT"
        );
        assert_eq!(settings, Settings::default());
    }
}

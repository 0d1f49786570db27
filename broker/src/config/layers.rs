//! The layers a value can come from while the broker runs, and which of them is heard.
//!
//! A topic's own value, a change made through the protocol for this broker, one made for the whole
//! cluster, what was set at start, the default: the first that is there is heard. The two layers
//! of changes are part of the metadata; here they are only borrowed.

use super::row::Row;
use super::settings::Settings;
use std::collections::BTreeMap;

/// Values by key, as they were given.
pub type Configs = BTreeMap<String, String>;

/// Where a value comes from, with the number the protocol gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
}

impl Origin {
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// A value, the key it was given under, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: String,
    pub origin: Origin,
}

/// The broker-wide layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    pub settings: &'a Settings,
    /// Changes made for this broker.
    pub broker: &'a Configs,
    /// Changes made for every broker of the cluster.
    pub cluster: &'a Configs,
}

impl<'a> Layers<'a> {
    /// Only what was set at start.
    #[must_use]
    pub fn of_start(settings: &'a Settings) -> Self {
        static NONE: Configs = Configs::new();
        Self { settings, broker: &NONE, cluster: &NONE }
    }

    /// Every value that these keys have, the one that is heard first.
    #[must_use]
    pub fn values(&self, rows: &[&'static Row]) -> Vec<Synonym> {
        let mut found = Vec::new();
        for (origin, changes) in
            [(Origin::DynamicBroker, self.broker), (Origin::DynamicDefaultBroker, self.cluster)]
        {
            for row in rows {
                if let Some(value) = changes.get(row.name) {
                    found.push(Synonym { name: row.name, value: value.clone(), origin });
                }
            }
        }
        for row in rows {
            if let Some(value) = self.settings.given(row) {
                let value = value.to_owned();
                found.push(Synonym { name: row.name, value, origin: Origin::StaticBroker });
            }
        }
        for row in rows {
            if let Some(default) = row.default {
                let value = default.to_owned();
                found.push(Synonym { name: row.name, value, origin: Origin::Default });
            }
        }
        found
    }

    /// What `row` is when the topic itself says nothing.
    #[must_use]
    pub fn inherited(&self, row: &Row) -> Option<String> {
        match self.values(row.fallback).into_iter().next() {
            Some(first) => Some(in_units_of(row, &first)),
            None => row.default.map(str::to_owned),
        }
    }

    /// What a broker key is now.
    #[must_use]
    pub fn current(&self, row: &'static Row) -> Option<String> {
        self.values(&family(row)).into_iter().next().map(|it| in_units_of(row, &it))
    }
}

/// A key and the other spellings of it, the finest first.
#[must_use]
pub fn family(row: &'static Row) -> Vec<&'static Row> {
    let mut rows = vec![row];
    rows.extend(row.fallback);
    rows
}

fn in_units_of(row: &Row, found: &Synonym) -> String {
    let spelling = row.fallback.iter().find(|it| it.name == found.name);
    match spelling {
        Some(spelling) if spelling.name != row.name => spelling.scaled(&found.value),
        _ => found.value.clone(),
    }
}

//! Reading the partition's log back into a host.

use super::{Group, Host, Phase};
use crate::api::{Now, Outcome};
use crate::classic::{ClassicGroup, Effects};
use crate::records::{self, Change, Read, RecordError};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    Applied,
    /// A kind this host does not keep; another kind of group, or a newer broker's.
    Skipped {
        kind: i16,
    },
}

impl Host {
    /// Takes one record of the log, oldest first.
    ///
    /// # Errors
    /// The record is not one a broker wrote. Nothing changed; the caller decides whether to go on without it.
    ///
    /// # Panics
    /// The host already serves.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, RecordError> {
        assert_eq!(self.phase, Phase::Loading, "records are replayed before the host serves");
        match records::read(key, value)? {
            Read::Foreign { kind } => return Ok(Replayed::Skipped { kind }),
            Read::Change(Change::Offset { group, topic, partition, value }) => {
                self.loading(&group).offsets.replay(&topic, partition, value);
                self.prune(&group);
            }
            Read::Change(Change::Group { group, value }) => {
                let classic = match value {
                    Some(value) => ClassicGroup::from_value(value)?,
                    None => ClassicGroup::new(BEGINNING),
                };
                self.loading(&group).classic = classic;
                self.prune(&group);
            }
        }
        Ok(Replayed::Applied)
    }

    /// The log is read to its end; the host serves from now on, and its members' time begins.
    ///
    /// # Panics
    /// The host already serves.
    pub fn loaded(&mut self, now: Now) -> Outcome {
        assert_eq!(self.phase, Phase::Loading, "a host is loaded once");
        self.phase = Phase::Serving;
        self.expiry_due_ms =
            now.monotonic_ms.saturating_add(self.config.offsets_retention_check_interval_ms);
        let mut out = Outcome::default();
        let names: Vec<String> = self.groups.keys().cloned().collect();
        for name in names {
            self.change(now, &name, &mut out, |group, config, effects: &mut Effects| {
                group.classic.loaded(now, config, effects);
                None
            });
        }
        self.debug_check();
        out
    }

    fn loading(&mut self, name: &str) -> &mut Group {
        if !self.groups.contains_key(name) {
            self.groups.insert(name.to_owned(), Group::new(BEGINNING));
        }
        self.groups.get_mut(name).expect("just made")
    }

    /// Everything the log must say about what this host holds: committed offsets, and the groups that are neither
    /// rebalancing nor waiting for a record of theirs. For tests and tools.
    pub fn image(&self) -> Vec<Change> {
        let mut image = Vec::new();
        for (name, group) in &self.groups {
            if let Some(value) = group.classic.settled_image() {
                image.push(Change::Group { group: name.clone(), value: Some(value) });
            }
            image.extend(group.offsets.committed().map(|(topic, partition, value)| {
                Change::Offset {
                    group: name.clone(),
                    topic: topic.to_owned(),
                    partition,
                    value: Some(value.clone()),
                }
            }));
        }
        image
    }
}

/// What is read from a log has its time stamps in its records.
const BEGINNING: Now = Now { monotonic_ms: 0, unix_ms: 0 };

//! Which task wakes when. Ordered by time, then by who asked first.

use std::collections::BTreeMap;

use super::tasks::TaskId;
use crate::time::Nanos;

/// Names one armed timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(Nanos, u64);

#[derive(Default)]
pub(super) struct Timers {
    armed: BTreeMap<TimerId, TaskId>,
    count: u64,
}

impl Timers {
    pub(super) fn arm(&mut self, at: Nanos, task: TaskId) -> TimerId {
        self.count += 1;
        let id = TimerId(at, self.count);
        self.armed.insert(id, task);
        id
    }

    pub(super) fn disarm(&mut self, id: TimerId) {
        self.armed.remove(&id);
    }

    pub(super) fn next(&self) -> Option<Nanos> {
        self.armed.first_key_value().map(|(id, _)| id.0)
    }

    /// The next task whose time has come.
    pub(super) fn expire(&mut self, now: Nanos) -> Option<TaskId> {
        let first = self.armed.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }
}

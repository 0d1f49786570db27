//! What happens when nothing happens: promises, sessions, joins and syncs that end.
//!
//! The alarm `wake_at_ms` is a lower bound. A sign of life only moves a member's own deadline; the next alarm then
//! finds nothing due and is set anew, so that a heartbeat costs the same in a group of ten thousand.

use super::{ClassicGroup, Effects, NEVER_MS, State};
use crate::api::Now;
use crate::errors::GroupError;
use crate::limits::GroupConfig;

impl ClassicGroup {
    /// When the group wants to be told the time. Not while it is at rest: then the log speaks next.
    pub(crate) fn wake_at_ms(&self) -> u64 {
        if self.rest.is_some() { NEVER_MS } else { self.wake_at_ms }
    }

    /// The earliest of all deadlines.
    pub(super) fn earliest_ms(&self) -> u64 {
        let members = self.members.values().filter(|member| member.can_expire());
        let deadlines = members.map(|member| member.deadline_ms);
        let promises = self.promised.values().copied();
        let others = [self.join_deadline_ms, self.sync_deadline_ms, self.rewrite_at_ms];
        deadlines.chain(promises).chain(others.into_iter().flatten()).min().unwrap_or(NEVER_MS)
    }

    /// Time has passed. Stops where the group comes to rest; what else is due waits for the log.
    pub(crate) fn tick(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        assert!(self.rest.is_none(), "the host keeps time back while the group is at rest");
        let steps: [fn(&mut Self, Now, &GroupConfig, &mut Effects); 5] = [
            Self::expire_promises,
            Self::expire_members,
            Self::expire_join,
            Self::expire_sync,
            Self::rewrite,
        ];
        for step in steps {
            if self.rest.is_none() {
                step(self, now, config, out);
            }
        }
        self.wake_at_ms = self.earliest_ms();
        self.debug_check();
    }

    fn expire_promises(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        let before = self.promised.len();
        self.promised.retain(|_, until_ms| now.monotonic_ms < *until_ms);
        if self.promised.len() < before {
            self.complete_join_if_all_came(now, config, out);
            if self.state == State::Empty && self.promised.is_empty() {
                self.window = None;
            }
        }
    }

    fn expire_members(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        let due =
            |member: &super::Member| member.can_expire() && member.deadline_ms <= now.monotonic_ms;
        let dead: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| due(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &dead {
            self.remove_member(id, GroupError::UnknownMemberId, out);
        }
        if !dead.is_empty() {
            self.rebalance(now, config, out);
        }
    }

    fn expire_join(&mut self, now: Now, _: &GroupConfig, out: &mut Effects) {
        if self.join_deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now.monotonic_ms) {
            self.complete_join(now, out);
        }
    }

    fn expire_sync(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        if self.sync_deadline_ms.is_none_or(|deadline_ms| now.monotonic_ms < deadline_ms) {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.remove_member(&id, GroupError::UnknownMemberId, out);
        }
        self.prepare_rebalance(now, config, out);
    }

    fn rewrite(&mut self, now: Now, _: &GroupConfig, out: &mut Effects) {
        if self.state == State::Empty
            && self.rewrite_at_ms.is_some_and(|again_ms| again_ms <= now.monotonic_ms)
        {
            self.write_empty(out);
        }
    }
}

//! How a rebalance begins and ends.
//!
//! An *initial* rebalance, one that began with an empty group, ends with its window and not earlier: when nobody new
//! was seen for the quiet time and every promised member has come, at the latest when the initial delay is over.
//! Any other rebalance ends as soon as every member has joined again, at the latest after the longest rebalance
//! time-out of its members. Dynamic members that did not come are out then; static ones keep their place.

use super::{ClassicGroup, Effects, State, Window};
use crate::api::{Now, SyncAnswer};
use crate::errors::GroupError;
use crate::limits::{GroupConfig, PROMISED_MEMBER_WAIT_MS};

impl ClassicGroup {
    /// Somebody looks for the group's coordinator: in the first rebalance, another member is probably near.
    pub(crate) fn newcomer_seen(&mut self, now: Now, config: &GroupConfig) {
        let starting = self.state == State::Empty || self.initial;
        if !starting || self.is_at_rest() {
            return;
        }
        self.open_window(now, config);
        self.window.as_mut().expect("just opened").seen_ms = now.monotonic_ms;
        self.refresh_window(config);
    }

    /// Opens the window, unless it is open. One that led to nothing says nothing about members that start now.
    fn open_window(&mut self, now: Now, config: &GroupConfig) {
        let open = self.window.as_ref().is_some_and(|window| {
            let wait_ms = config.initial_rebalance_quiet_ms.max(PROMISED_MEMBER_WAIT_MS);
            let seen_until_ms = window.seen_ms.saturating_add(wait_ms);
            let until_ms = window.opened_ms.saturating_add(config.initial_rebalance_delay_ms_max);
            now.monotonic_ms < seen_until_ms.min(until_ms)
        });
        if !open && !self.initial {
            self.window = Some(Window { opened_ms: now.monotonic_ms, seen_ms: now.monotonic_ms });
        }
    }

    /// The same, for an event that is no reason to open a window.
    pub(crate) fn looked_up(&mut self, now: Now, config: &GroupConfig) {
        if self.initial {
            self.newcomer_seen(now, config);
        }
    }

    fn window_end_ms(&self, window: &Window, config: &GroupConfig) -> u64 {
        let wait_ms = if self.promised.is_empty() {
            config.initial_rebalance_quiet_ms
        } else {
            config.initial_rebalance_quiet_ms.max(PROMISED_MEMBER_WAIT_MS)
        };
        let quiet_ms = window.seen_ms.saturating_add(wait_ms);
        quiet_ms.min(window.opened_ms.saturating_add(config.initial_rebalance_delay_ms_max))
    }

    /// The end of the window depends on who is promised and who was seen.
    pub(super) fn refresh_window(&mut self, config: &GroupConfig) {
        if !self.initial {
            return;
        }
        let window = self.window.as_ref().expect("an initial rebalance has a window");
        let end_ms = self.window_end_ms(window, config);
        self.join_deadline_ms = Some(end_ms);
        self.wake_by(end_ms);
    }

    /// The members changed: begins a rebalance, or goes on with the one that runs.
    pub(super) fn rebalance(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        match self.state {
            State::PreparingRebalance => self.complete_join_if_all_came(now, config, out),
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(now, config, out);
            }
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(now, GroupError::RebalanceInProgress, out);
        }
        self.unsynced.clear();
        self.sync_deadline_ms = None;
        self.rewrite_at_ms = None;
        let initial = self.state == State::Empty;
        if initial {
            self.open_window(now, config);
        }
        self.initial = initial;
        self.set_state(now, State::PreparingRebalance);
        if initial {
            self.refresh_window(config);
        } else {
            let deadline_ms = now.monotonic_ms.saturating_add(self.rebalance_timeout_ms());
            self.join_deadline_ms = Some(deadline_ms);
            self.wake_by(deadline_ms);
            self.complete_join_if_all_came(now, config, out);
        }
    }

    /// The assignment of this generation will not come: nobody keeps one, and who waits joins again.
    pub(super) fn refuse_syncs(&mut self, now: Now, error: GroupError, out: &mut Effects) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("listed");
            member.assignment.clear();
            if let Some(token) = member.syncing.take() {
                out.reply_sync(token, SyncAnswer::refused(error));
                self.touch(now, &id);
            }
        }
    }

    pub(super) fn complete_join_if_all_came(
        &mut self,
        now: Now,
        config: &GroupConfig,
        out: &mut Effects,
    ) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if self.initial {
            if self.members.is_empty() {
                self.call_off(now, out);
            } else {
                self.refresh_window(config);
            }
        } else if self.all_joined() {
            self.complete_join(now, out);
        }
    }

    /// The first members left before their window ended. A group that never had a generation is as empty as it was.
    fn call_off(&mut self, now: Now, out: &mut Effects) {
        if self.logged || 0 < self.generation {
            self.become_empty(now, out);
            return;
        }
        self.initial = false;
        self.join_deadline_ms = None;
        self.protocol_type = None;
        self.set_state(now, State::Empty);
        if self.promised.is_empty() {
            self.window = None;
        }
    }

    /// The time for joining is over.
    pub(super) fn complete_join(&mut self, now: Now, out: &mut Effects) {
        assert_eq!(self.state, State::PreparingRebalance, "a rebalance runs");
        let absent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in absent {
            self.remove_member(&id, GroupError::UnknownMemberId, out);
        }
        if self.members.is_empty() {
            if self.initial { self.call_off(now, out) } else { self.become_empty(now, out) }
        } else if self.elect_leader() {
            self.begin_generation(now, out);
        } else {
            // Only absent static members are left. They may still come.
            let deadline_ms = now.monotonic_ms.saturating_add(self.rebalance_timeout_ms().max(1));
            self.join_deadline_ms = Some(deadline_ms);
            self.wake_by(deadline_ms);
        }
    }

    /// Whoever leads must be here to assign. False when nobody is.
    fn elect_leader(&mut self) -> bool {
        let leads =
            |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(leads) {
            return true;
        }
        let Some((id, _)) = self.members.iter().find(|(_, member)| member.joining.is_some()) else {
            return false;
        };
        self.leader = Some(id.clone());
        true
    }

    fn end_rebalance(&mut self) {
        self.initial = false;
        self.window = None;
        self.join_deadline_ms = None;
        self.unsynced.clear();
        // A group as old as its numbers starts them again, above every loser's -1 and above nobody's generation.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }

    fn become_empty(&mut self, now: Now, out: &mut Effects) {
        self.end_rebalance();
        self.protocol = None;
        self.subscribed = self.read_subscriptions();
        self.set_state(now, State::Empty);
        self.write_empty(out);
    }

    /// Tells the log that the group has no members.
    pub(super) fn write_empty(&mut self, out: &mut Effects) {
        assert!(out.write.is_none(), "one event writes a group once");
        self.rewrite_at_ms = None;
        self.rest = Some(super::Rest::Emptied);
        out.write = Some(self.image(self.since_unix_ms, None));
    }

    fn begin_generation(&mut self, now: Now, out: &mut Effects) {
        self.end_rebalance();
        self.protocol = self.choose_protocol();
        self.subscribed = self.read_subscriptions();
        self.set_state(now, State::CompletingRebalance);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            let answer = self.join_answer_of(id);
            let member = self.members.get_mut(id).expect("listed");
            member.is_new = false;
            if let Some(token) = member.joining.take() {
                out.reply_join(token, answer);
            }
            self.touch(now, id);
        }
        self.unsynced.extend(ids);
        let deadline_ms = now.monotonic_ms.saturating_add(self.rebalance_timeout_ms());
        self.sync_deadline_ms = Some(deadline_ms);
        self.wake_by(deadline_ms);
    }
}

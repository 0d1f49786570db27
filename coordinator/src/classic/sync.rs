//! SyncGroup: the leader hands in the assignment, everybody takes theirs away once it is committed.

use std::collections::BTreeMap;

use super::{ClassicGroup, Effects, Rest, State};
use crate::api::{Now, SyncAnswer, SyncGroup, Token};
use crate::errors::{GroupError, WriteFailure};
use crate::limits::GroupConfig;

impl ClassicGroup {
    pub(crate) fn sync(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &SyncGroup,
        out: &mut Effects,
    ) {
        assert!(self.rest.is_none(), "the host keeps syncs back while the group is at rest");
        match self.sync_refusal(request) {
            Some(error) => out.reply_sync(token, SyncAnswer::refused(error)),
            None if self.state == State::Stable => {
                self.came_to_sync(&request.member);
                out.reply_sync(token, self.sync_answer(&request.member));
            }
            None => self.sync_waits(now, config, token, request, out),
        }
        self.debug_check();
    }

    fn sync_refusal(&self, request: &SyncGroup) -> Option<GroupError> {
        let differs = |theirs: &Option<String>, ours: &Option<String>| match (theirs, ours) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        };
        if let Err(error) = self.validate(&request.member, request.instance.as_deref()) {
            Some(error)
        } else if request.generation != self.generation {
            Some(GroupError::IllegalGeneration)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            Some(GroupError::InconsistentGroupProtocol)
        } else if self.state == State::PreparingRebalance {
            Some(GroupError::RebalanceInProgress)
        } else {
            None
        }
    }

    fn sync_waits(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &SyncGroup,
        out: &mut Effects,
    ) {
        let member = self.members.get_mut(&request.member).expect("validated");
        if let Some(before) = member.syncing.replace(token) {
            out.reply_sync(before, SyncAnswer::refused(GroupError::RebalanceInProgress));
        }
        let leads = self.is_leader(&request.member);
        if !leads {
            self.came_to_sync(&request.member);
            return;
        }
        let mut assignments: BTreeMap<String, Vec<u8>> =
            request.assignments.iter().cloned().collect();
        assignments.retain(|id, _| self.members.contains_key(id));
        let value = self.image(Some(now.unix_ms), Some(&assignments));
        if self.is_too_large(&value) {
            self.assignment_refused(now, config, GroupError::UnknownServerError, out);
            return;
        }
        self.came_to_sync(&request.member);
        self.rest = Some(Rest::Assigned { assignments, since_unix_ms: now.unix_ms });
        out.write = Some(value);
    }

    fn came_to_sync(&mut self, id: &str) {
        self.unsynced.remove(id);
        // While the leader is missed, the rebalance must end even if all others came.
        if self.unsynced.is_empty() && (self.state == State::Stable || self.is_leader(id)) {
            self.sync_deadline_ms = None;
        }
    }

    fn sync_answer(&self, id: &str) -> SyncAnswer {
        SyncAnswer {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members[id].assignment.clone(),
        }
    }

    /// The log has answered the group's record.
    pub(crate) fn written(
        &mut self,
        now: Now,
        config: &GroupConfig,
        result: Result<(), WriteFailure>,
        out: &mut Effects,
    ) {
        match (self.rest.as_ref().expect("a record was on its way"), result) {
            (Rest::Removed, Ok(())) => self.forget_record(),
            (Rest::Removed, Err(_)) => self.rest = None,
            (_, Ok(())) => {
                self.logged = true;
                self.record_committed(now, out);
            }
            (_, Err(failure)) => self.record_refused(now, config, failure, out),
        }
        self.debug_check();
    }

    fn record_committed(&mut self, now: Now, out: &mut Effects) {
        match self.rest.take().expect("a record was on its way") {
            Rest::Assigned { mut assignments, since_unix_ms } => {
                self.state = State::Stable;
                self.since_unix_ms = Some(since_unix_ms);
                if self.unsynced.is_empty() {
                    self.sync_deadline_ms = None;
                }
                let ids: Vec<String> = self.members.keys().cloned().collect();
                for id in ids {
                    let member = self.members.get_mut(&id).expect("listed");
                    member.assignment = assignments.remove(&id).unwrap_or_default();
                    if let Some(token) = member.syncing.take() {
                        out.reply_sync(token, self.sync_answer(&id));
                        self.touch(now, &id);
                    }
                }
            }
            Rest::Replaced { new, leader_before, version, .. } => {
                self.replacement_committed(&new, leader_before, version, out);
            }
            Rest::Emptied => {}
            Rest::Removed => unreachable!("a removal has no record"),
        }
        self.wake_at_ms = self.earliest_ms();
    }

    fn record_refused(
        &mut self,
        now: Now,
        config: &GroupConfig,
        failure: WriteFailure,
        out: &mut Effects,
    ) {
        match self.rest.as_ref().expect("a record was on its way") {
            Rest::Assigned { .. } => {
                self.rest = None;
                self.assignment_refused(now, config, failure.to_member(), out);
            }
            Rest::Replaced { .. } => self.undo_replacement(now, failure.to_member(), out),
            Rest::Emptied => {
                // The members are gone whatever the log says; it is told again.
                self.rest = None;
                let again_ms = now.monotonic_ms.saturating_add(crate::limits::REWRITE_AFTER_MS);
                self.rewrite_at_ms = Some(again_ms);
            }
            Rest::Removed => unreachable!("a removal has no record"),
        }
        self.wake_at_ms = self.earliest_ms();
    }

    fn assignment_refused(
        &mut self,
        now: Now,
        config: &GroupConfig,
        error: GroupError,
        out: &mut Effects,
    ) {
        self.refuse_syncs(now, error, out);
        self.prepare_rebalance(now, config, out);
    }
}

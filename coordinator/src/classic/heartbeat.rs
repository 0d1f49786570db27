//! Signs of life: heartbeats, and commits that count as one.

use super::{ClassicGroup, State};
use crate::api::{Heartbeat, Now, OffsetCommit};
use crate::errors::GroupError;

impl ClassicGroup {
    pub(crate) fn heartbeat(&mut self, now: Now, request: &Heartbeat) -> Result<(), GroupError> {
        self.validate(&request.member, request.instance.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.touch(now, &request.member);
        match self.state {
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty => unreachable!("an empty group knows no member"),
        }
    }

    /// The member was heard of.
    pub(super) fn touch(&mut self, now: Now, id: &str) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.deadline_ms = now.monotonic_ms.saturating_add(member.session_timeout_ms);
        let deadline_ms = member.deadline_ms;
        self.wake_by(deadline_ms);
    }

    /// Whether this commit may be made. Consumers that assign their partitions themselves commit without a
    /// generation, to a group without members.
    pub(crate) fn may_commit(
        &mut self,
        now: Now,
        request: &OffsetCommit,
    ) -> Result<(), GroupError> {
        if request.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if request.generation < 0 && request.member.is_empty() && request.instance.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.validate(&request.member, request.instance.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            // Its partitions may already be somebody else's.
            State::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            State::PreparingRebalance | State::Stable => {
                self.touch(now, &request.member);
                Ok(())
            }
            State::Empty => unreachable!("an empty group knows no member"),
        }
    }
}

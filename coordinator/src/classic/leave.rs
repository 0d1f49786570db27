//! LeaveGroup: members that go by themselves, or are sent away by an administrator.

use super::{ClassicGroup, Effects};
use crate::api::{LeaveGroup, LeavingMember, LeftMember, Now};
use crate::errors::GroupError;
use crate::limits::GroupConfig;

impl ClassicGroup {
    /// Takes the members out, one result for each.
    pub(crate) fn leave(
        &mut self,
        now: Now,
        config: &GroupConfig,
        request: &LeaveGroup,
        out: &mut Effects,
    ) -> Vec<LeftMember> {
        assert!(self.rest.is_none(), "the host keeps leaves back while the group is at rest");
        let results: Vec<LeftMember> =
            request.members.iter().map(|member| self.leave_one(member, out)).collect();
        let anybody = results.iter().any(|result| result.error.is_none());
        if anybody && self.state != super::State::Empty {
            self.rebalance(now, config, out);
        }
        self.debug_check();
        results
    }

    fn leave_one(&mut self, leaving: &LeavingMember, out: &mut Effects) -> LeftMember {
        let error = match self.find_leaving(leaving) {
            Ok(Some(id)) => {
                self.remove_member(&id, GroupError::UnknownMemberId, out);
                None
            }
            Ok(None) => {
                self.promised.remove(&leaving.member);
                None
            }
            Err(error) => Some(error),
        };
        LeftMember { member: leaving.member.clone(), instance: leaving.instance.clone(), error }
    }

    /// The member's id, or nothing for one that was only promised its id.
    fn find_leaving(&self, leaving: &LeavingMember) -> Result<Option<String>, GroupError> {
        if leaving.member.is_empty() {
            let id = leaving.instance.as_ref().and_then(|instance| self.statics.get(instance));
            return id.cloned().map(Some).ok_or(GroupError::UnknownMemberId);
        }
        if self.promised.contains_key(&leaving.member) {
            return Ok(None);
        }
        self.validate(&leaving.member, leaving.instance.as_deref())?;
        Ok(Some(leaving.member.clone()))
    }
}

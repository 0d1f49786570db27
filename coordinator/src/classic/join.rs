//! JoinGroup: who may come in, under which id, and whether it starts a rebalance.

use super::member::{Member, rebalance_timeout_ms, session_timeout_ms};
use super::{ClassicGroup, Effects, Rest, State};
use crate::api::{JoinAnswer, JoinGroup, JoinedMember, Now, SyncAnswer, Token};
use crate::errors::GroupError;
use crate::limits::{GroupConfig, MEMBERS_PER_GROUP_MAX, NEW_MEMBER_JOIN_MS_MAX};

/// From this version on a dynamic member must join with an id it was told.
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version on a leader can be told that the assignment still counts.
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl ClassicGroup {
    pub(crate) fn join(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &JoinGroup,
        out: &mut Effects,
    ) {
        assert!(self.rest.is_none(), "the host keeps joins back while the group is at rest");
        if !self.accepts(config, &request.member) {
            // A member of a group that was larger once makes room, too.
            self.remove_member(&request.member, GroupError::GroupMaxSizeReached, out);
            out.reply_join(token, JoinAnswer::refused("", GroupError::GroupMaxSizeReached));
            self.complete_join_if_all_came(now, config, out);
        } else if !self.has_room_for(config, &request.member, &request.protocols) {
            let error = GroupError::GroupMaxSizeReached;
            out.reply_join(token, JoinAnswer::refused(&request.member, error));
        } else if request.member.is_empty() {
            self.join_unknown(now, config, token, request, out);
        } else {
            self.join_known(now, config, token, request, out);
        }
        self.debug_check();
    }

    fn accepts(&self, config: &GroupConfig, id: &str) -> bool {
        let is_member = self.members.contains_key(id) || self.promised.contains_key(id);
        if !is_member && MEMBERS_PER_GROUP_MAX <= self.members.len() + self.promised.len() {
            return false;
        }
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let waiting = |member: &&Member| member.joining.is_some();
                self.members.get(id).as_ref().is_some_and(waiting)
                    || self.members.len() < config.group_size_max
                    || self.members.values().filter(waiting).count() < config.group_size_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(id) || self.members.len() < config.group_size_max
            }
        }
    }

    fn join_unknown(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &JoinGroup,
        out: &mut Effects,
    ) {
        if !self.supports(&request.protocol_type, &request.protocols) {
            out.reply_join(token, JoinAnswer::refused("", GroupError::InconsistentGroupProtocol));
            return;
        }
        let id = fresh_member_id(request);
        if self.members.contains_key(&id) || self.promised.contains_key(&id) {
            // The same random bits twice: the next try draws others.
            out.reply_join(token, JoinAnswer::refused("", GroupError::CoordinatorLoadInProgress));
            return;
        }
        match &request.instance {
            Some(instance) => match self.statics.get(instance).cloned() {
                Some(old) => self.replace_static(now, config, token, request, &old, &id, out),
                None => self.add_and_rebalance(now, config, token, request, &id, out),
            },
            None if MEMBER_ID_REQUIRED_FROM <= request.version => {
                self.promise(now, config, request, &id);
                out.reply_join(token, JoinAnswer::refused(&id, GroupError::MemberIdRequired));
            }
            None => self.add_and_rebalance(now, config, token, request, &id, out),
        }
    }

    fn promise(&mut self, now: Now, config: &GroupConfig, request: &JoinGroup, id: &str) {
        let until_ms = now.monotonic_ms.saturating_add(session_timeout_ms(request));
        self.promised.insert(id.to_owned(), until_ms);
        self.wake_by(until_ms);
        self.newcomer_seen(now, config);
    }

    fn join_known(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &JoinGroup,
        out: &mut Effects,
    ) {
        let id = request.member.as_str();
        if !self.supports(&request.protocol_type, &request.protocols) {
            out.reply_join(token, JoinAnswer::refused(id, GroupError::InconsistentGroupProtocol));
            return;
        }
        if self.promised.contains_key(id) && request.instance.is_none() {
            self.add_and_rebalance(now, config, token, request, id, out);
            return;
        }
        if let Err(error) = self.validate(id, request.instance.as_deref()) {
            out.reply_join(token, JoinAnswer::refused(id, error));
            return;
        }
        let unchanged = self.members[id].protocols == request.protocols;
        let stays = match self.state {
            State::Empty | State::PreparingRebalance => false,
            State::CompletingRebalance => unchanged,
            // The leader joins again to have the group assigned anew.
            State::Stable => unchanged && !self.is_leader(id),
        };
        if stays {
            let members = self.members_for(id);
            out.reply_join(token, self.join_answer(id, members));
            return;
        }
        self.update_member(id, request, token, out);
        self.rebalance(now, config, out);
    }

    fn add_and_rebalance(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &JoinGroup,
        id: &str,
        out: &mut Effects,
    ) {
        let was_promised = self.promised.contains_key(id);
        let deadline_ms = now.monotonic_ms.saturating_add(NEW_MEMBER_JOIN_MS_MAX);
        self.add_member(id, Member::from_join(request, token, deadline_ms));
        self.wake_by(deadline_ms);
        if !was_promised {
            self.newcomer_seen(now, config);
        }
        self.rebalance(now, config, out);
        self.refresh_window(config);
    }

    /// What the member says now counts; whoever waited in its name before is told to try again.
    fn update_member(&mut self, id: &str, request: &JoinGroup, token: Token, out: &mut Effects) {
        let mut member = self.members.remove(id).expect("validated");
        self.uncount_protocols(&member);
        member.protocols.clone_from(&request.protocols);
        member.session_timeout_ms = session_timeout_ms(request);
        member.rebalance_timeout_ms = rebalance_timeout_ms(request);
        if let Some(before) = member.joining.replace(token) {
            out.reply_join(before, JoinAnswer::refused(id, GroupError::RebalanceInProgress));
        }
        if let Some(before) = member.syncing.take() {
            out.reply_sync(before, SyncAnswer::refused(GroupError::RebalanceInProgress));
        }
        self.count_protocols(&member);
        self.members.insert(id.to_owned(), member);
    }

    /// A static member came back without an id. It takes its predecessor's place, and if the chosen protocol stays
    /// the same, nobody else notices.
    #[expect(
        clippy::too_many_arguments,
        reason = "the old and the new id belong to no other group of arguments"
    )]
    fn replace_static(
        &mut self,
        now: Now,
        config: &GroupConfig,
        token: Token,
        request: &JoinGroup,
        old_id: &str,
        id: &str,
        out: &mut Effects,
    ) {
        let leader_before = self.leader.clone().unwrap_or_default();
        let old = self.rename(old_id, id, GroupError::FencedInstanceId, out);
        self.update_member(id, request, token, out);
        self.touch(now, id);
        match self.state {
            State::Stable if self.choose_protocol() == self.protocol => {
                self.rest = Some(Rest::Replaced {
                    old_id: old_id.to_owned(),
                    old: Box::new(old),
                    new: id.to_owned(),
                    leader_before,
                    version: request.version,
                });
                let value = self.image(self.since_unix_ms, None);
                if self.is_too_large(&value) {
                    self.undo_replacement(now, GroupError::UnknownServerError, out);
                } else {
                    out.write = Some(value);
                }
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, config, out),
            State::PreparingRebalance => self.complete_join_if_all_came(now, config, out),
            State::Empty => unreachable!("an empty group has no static members"),
        }
    }

    /// Gives a static member another id. Its old self, as it was, is handed back.
    fn rename(&mut self, from: &str, to: &str, error: GroupError, out: &mut Effects) -> Member {
        let mut member = self.members.remove(from).expect("the instance id names a member");
        if let Some(token) = member.joining.take() {
            out.reply_join(token, JoinAnswer::refused(from, error));
        }
        if let Some(token) = member.syncing.take() {
            out.reply_sync(token, SyncAnswer::refused(error));
        }
        let old = member.clone();
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), to.to_owned());
        }
        if self.is_leader(from) {
            self.leader = Some(to.to_owned());
        }
        if self.unsynced.remove(from) {
            self.unsynced.insert(to.to_owned());
        }
        self.members.insert(to.to_owned(), member);
        old
    }

    /// The record of the replacement is committed.
    pub(super) fn replacement_committed(
        &mut self,
        new: &str,
        leader_before: String,
        version: i16,
        out: &mut Effects,
    ) {
        let Some(token) = self.members.get_mut(new).and_then(|member| member.joining.take()) else {
            return;
        };
        let mut answer = self.join_answer(new, Vec::new());
        if SKIP_ASSIGNMENT_FROM <= version {
            answer.members = self.members_for(new);
            answer.skip_assignment = self.is_leader(new);
        } else {
            // It must not believe that it leads: it would assign anew.
            answer.leader = leader_before;
        }
        self.members.get_mut(new).expect("still there").is_new = false;
        out.reply_join(token, answer);
    }

    /// The record of the replacement was refused: the predecessor is back.
    pub(super) fn undo_replacement(&mut self, now: Now, error: GroupError, out: &mut Effects) {
        let Some(Rest::Replaced { old_id, old, new, .. }) = self.rest.take() else {
            unreachable!("only a replacement is undone");
        };
        if let Some(token) = self.members.get_mut(&new).and_then(|member| member.joining.take()) {
            out.reply_join(token, JoinAnswer::refused("", error));
        }
        let replaced = self.rename(&new, &old_id, error, out);
        self.uncount_protocols(&replaced);
        self.count_protocols(&old);
        self.members.insert(old_id.clone(), *old);
        self.touch(now, &old_id);
    }

    fn members_for(&self, id: &str) -> Vec<JoinedMember> {
        if !self.is_leader(id) {
            return Vec::new();
        }
        let protocol = self.protocol.as_deref().unwrap_or("");
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member: id.clone(),
                instance: member.instance.clone(),
                metadata: member.metadata(protocol).unwrap_or_default().to_vec(),
            })
            .collect()
    }

    pub(super) fn join_answer_of(&self, id: &str) -> JoinAnswer {
        self.join_answer(id, self.members_for(id))
    }

    fn join_answer(&self, id: &str, members: Vec<JoinedMember>) -> JoinAnswer {
        JoinAnswer {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member: id.to_owned(),
            members,
        }
    }
}

/// The instance or client id and a random part, so that people recognise it and nobody guesses it.
fn fresh_member_id(request: &JoinGroup) -> String {
    let name = request.instance.as_deref().unwrap_or(&request.client_id);
    // The version and variant bits of a random UUID.
    let bits = request.fresh_id & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{name}-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

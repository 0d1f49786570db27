//! A group as its record says it, and back.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::{ClassicGroup, Effects, State};
use crate::api::{DescribedMember, Now, Protocol};
use crate::limits::{GROUP_METADATA_BYTES_MAX, GroupConfig};
use crate::records::{GroupValue, MemberValue, RecordError};

impl ClassicGroup {
    /// The record's value: with the members' own assignments, or with those a leader has just sent.
    pub(super) fn image(
        &self,
        state_unix_ms: Option<i64>,
        assignments: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let one = |(id, member): (&String, &Member)| MemberValue {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: to_i32(member.rebalance_timeout_ms),
            session_timeout_ms: to_i32(member.session_timeout_ms),
            subscription: member.metadata(protocol).unwrap_or_default().to_vec(),
            assignment: match assignments {
                Some(sent) => sent.get(id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        };
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_unix_ms,
            members: self.members.iter().map(one).collect(),
        }
    }

    /// What the log must say about this group, when the two agree.
    pub(crate) fn settled_image(&self) -> Option<GroupValue> {
        self.is_settled().then(|| self.image(self.since_unix_ms, None))
    }

    pub(super) fn is_too_large(&self, value: &GroupValue) -> bool {
        let member = |m: &MemberValue| {
            let names = m.member.len() + m.instance.as_ref().map_or(0, String::len);
            let client = m.client_id.len() + m.client_host.len();
            names + client + m.subscription.len() + m.assignment.len() + 24
        };
        GROUP_METADATA_BYTES_MAX < value.members.iter().map(member).sum()
    }

    /// The group a record describes. Its members have their time-outs before them from `loaded` on.
    ///
    /// # Errors
    /// The record contradicts itself: no broker wrote it.
    pub(crate) fn from_value(value: GroupValue) -> Result<Self, RecordError> {
        let mut group = Self::new(Now { monotonic_ms: 0, unix_ms: 0 });
        group.since_unix_ms = value.state_unix_ms;
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.logged = true;
        if value.members.is_empty() {
            group.protocol = value.protocol;
            group.subscribed = group.read_subscriptions();
            return Ok(group);
        }
        let Some(protocol) = value.protocol else {
            return Err(RecordError::Inconsistent("members without a protocol"));
        };
        let Some(protocol_type) = group.protocol_type.clone() else {
            return Err(RecordError::Inconsistent("members without a protocol type"));
        };
        let mut instances = BTreeSet::new();
        for member in value.members {
            let twice = group.members.contains_key(&member.member)
                || member
                    .instance
                    .as_ref()
                    .is_some_and(|instance| !instances.insert(instance.clone()));
            if twice {
                return Err(RecordError::Inconsistent("the same member twice"));
            }
            let id = member.member.clone();
            group.add_member(&id, loaded_member(member, &protocol_type, &protocol));
        }
        group.state = State::Stable;
        group.protocol = Some(protocol);
        // A leader that is no member cannot be asked to lead.
        group.leader = value.leader.filter(|id| group.members.contains_key(id)).or(group.leader);
        group.subscribed = group.read_subscriptions();
        Ok(group)
    }

    /// The log is read: from now on silence counts. A group larger than it may be now rebalances.
    pub(crate) fn loaded(&mut self, now: Now, config: &GroupConfig, out: &mut Effects) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(now, id);
        }
        if self.state == State::Stable && config.group_size_max < self.members.len() {
            self.prepare_rebalance(now, config, out);
        }
        self.debug_check();
    }

    pub(crate) fn describe_members(&self) -> Vec<DescribedMember> {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().unwrap_or("");
        let one = |(id, member): (&String, &Member)| DescribedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(protocol).filter(|_| stable).unwrap_or_default().to_vec(),
            assignment: if stable { member.assignment.clone() } else { Vec::new() },
        };
        self.members.iter().map(one).collect()
    }

    pub(crate) fn described_protocol(&self) -> String {
        match self.state {
            State::Stable => self.protocol.clone().unwrap_or_default(),
            State::Empty | State::PreparingRebalance | State::CompletingRebalance => String::new(),
        }
    }
}

fn loaded_member(value: MemberValue, protocol_type: &str, protocol: &str) -> Member {
    let positive = |timeout_ms: i32| u64::try_from(timeout_ms).unwrap_or(0);
    Member {
        instance: value.instance,
        client_id: value.client_id,
        client_host: value.client_host,
        session_timeout_ms: positive(value.session_timeout_ms),
        rebalance_timeout_ms: positive(value.rebalance_timeout_ms),
        protocol_type: protocol_type.to_owned(),
        protocols: vec![Protocol { name: protocol.to_owned(), metadata: value.subscription }],
        assignment: value.assignment,
        is_new: false,
        joining: None,
        syncing: None,
        deadline_ms: u64::MAX,
    }
}

/// Time-outs came as 32-bit numbers.
fn to_i32(timeout_ms: u64) -> i32 {
    i32::try_from(timeout_ms).unwrap_or(i32::MAX)
}

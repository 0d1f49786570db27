//! One classic group: who is in it, who leads it, and which generation of assignments counts.
//!
//! | from | event | to |
//! |---|---|---|
//! | Empty | a member joins | PreparingRebalance, *initial*: ends with its window |
//! | PreparingRebalance | all members joined again, or the time for it is over | CompletingRebalance |
//! | PreparingRebalance | the same, and nobody is left | Empty |
//! | CompletingRebalance | the leader's assignment is committed | Stable |
//! | CompletingRebalance, Stable | a member joins, changes, leaves or dies | PreparingRebalance |
//! | Empty | the group is deleted or expires | gone, which Kafka calls Dead |
//!
//! Records of a group are written at three moments: the assignment of a generation, a static member that takes over
//! its predecessor's place, and the end of the last member; deletion writes a tombstone. While such a write is in
//! flight the group is *at rest*: its host keeps back every request and timer that could change it, in order. So a
//! group that is not rebalancing says what its record says, and a refused write is undone exactly.
//!
//! Invariants ([`ClassicGroup::check`]):
//! - GROUP-1: the generation grows by one per completed rebalance and at no other time.
//! - GROUP-2: a group with members has a leader, and the leader is a member.
//! - GROUP-3: outside Empty and PreparingRebalance all members know the chosen protocol.
//! - GROUP-4: an instance id names exactly one member.
//! - GROUP-5: joins wait only in PreparingRebalance (or for a static member's own record), syncs only in
//!   CompletingRebalance: nobody waits for an event that cannot come.
//! - GROUP-6: no deadline is earlier than `wake_at_ms`.
//!
//! It does not know offsets, other groups, or who carries its answers.

mod heartbeat;
mod image;
mod join;
mod leave;
mod member;
mod protocols;
mod rebalance;
mod sync;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Answer, JoinAnswer, Now, Reply, SyncAnswer, Token};
use crate::errors::GroupError;
use crate::limits::THING_BYTES;
use crate::records::GroupValue;
use member::Member;
pub(crate) use member::told_bytes;

pub(crate) const CONSUMER: &str = "consumer";
const NEVER_MS: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The first rebalance of an empty group: how long to wait for members that start together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    opened_ms: u64,
    /// When somebody new was last seen.
    seen_ms: u64,
}

/// What is undone or finished when the group's record is answered by the log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rest {
    /// The leader's assignment.
    Assigned { assignments: BTreeMap<String, Vec<u8>>, since_unix_ms: i64 },
    /// A static member took the place of `old`.
    Replaced { old_id: String, old: Box<Member>, new: String, leader_before: String, version: i16 },
    /// The last member is gone.
    Emptied,
    /// The group is about to be removed.
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicGroup {
    state: State,
    /// The running rebalance began with an empty group.
    initial: bool,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    /// Since when the group is in its state; absent for records too old to know.
    since_unix_ms: Option<i64>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    statics: BTreeMap<String, String>,
    /// Ids that were promised and not yet used, with the end of the promise.
    promised: BTreeMap<String, u64>,
    /// Members whose sync of this generation has not come.
    unsynced: BTreeSet<String>,
    /// How many members know a protocol.
    known: BTreeMap<String, usize>,
    /// Names and metadata of all members' protocols.
    protocol_bytes: usize,
    /// Topics of all members, where they can be read.
    subscribed: Option<BTreeSet<String>>,
    window: Option<Window>,
    join_deadline_ms: Option<u64>,
    sync_deadline_ms: Option<u64>,
    /// The record of an emptied group was refused; it is written again then.
    rewrite_at_ms: Option<u64>,
    /// The log has a record of this group.
    logged: bool,
    rest: Option<Rest>,
    wake_at_ms: u64,
}

/// What an event of the machine led to.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) replies: Vec<Reply>,
    /// The group's new record. The group is at rest until the log has answered it.
    pub(crate) write: Option<GroupValue>,
}

impl Effects {
    pub(crate) fn reply(&mut self, token: Token, answer: Answer) {
        self.replies.push(Reply { token, answer });
    }

    fn reply_join(&mut self, token: Token, answer: JoinAnswer) {
        self.reply(token, Answer::Join(answer));
    }

    fn reply_sync(&mut self, token: Token, answer: SyncAnswer) {
        self.reply(token, Answer::Sync(answer));
    }
}

impl ClassicGroup {
    /// A group that nobody joined yet. It leaves no trace in the log before its first generation.
    pub(crate) fn new(now: Now) -> Self {
        Self {
            state: State::Empty,
            initial: false,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            since_unix_ms: Some(now.unix_ms),
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            promised: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            known: BTreeMap::new(),
            protocol_bytes: 0,
            subscribed: None,
            window: None,
            join_deadline_ms: None,
            sync_deadline_ms: None,
            rewrite_at_ms: None,
            logged: false,
            rest: None,
            wake_at_ms: NEVER_MS,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn since_unix_ms(&self) -> Option<i64> {
        self.since_unix_ms
    }

    /// The group waits for the log; nothing but heartbeats may touch it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// The group waits for its tombstone; offsets may not be touched either.
    pub(crate) fn is_being_removed(&self) -> bool {
        self.rest == Some(Rest::Removed)
    }

    /// Nothing would be lost by forgetting the group: it never had a generation, and the log does not know it.
    pub(crate) fn is_blank(&self) -> bool {
        self.may_vanish() && !self.logged && self.generation == 0 && self.rest.is_none()
    }

    /// Nobody is in the group or about to be.
    pub(crate) fn may_vanish(&self) -> bool {
        self.state == State::Empty && self.promised.is_empty()
    }

    /// The state and the log's record say the same: no rebalance runs and no write is in flight or owed.
    pub(crate) fn is_settled(&self) -> bool {
        self.rest.is_none()
            && self.rewrite_at_ms.is_none()
            && match self.state {
                State::Empty => self.logged,
                State::Stable => true,
                State::PreparingRebalance | State::CompletingRebalance => false,
            }
    }

    /// Removal was decided; the driver writes the tombstone.
    pub(crate) fn remove(&mut self) {
        assert!(
            self.state == State::Empty && self.rest.is_none(),
            "only an empty group is removed"
        );
        self.rest = Some(Rest::Removed);
    }

    /// The tombstone is committed. Members that were told an id may still come, to a group that starts anew.
    pub(crate) fn forget_record(&mut self) {
        assert_eq!(self.rest, Some(Rest::Removed), "only a removed group loses its record");
        self.rest = None;
        self.rewrite_at_ms = None;
        self.logged = false;
        self.generation = 0;
        self.protocol_type = None;
        self.protocol = None;
        self.subscribed = None;
        self.debug_check();
    }

    fn set_state(&mut self, now: Now, state: State) {
        self.state = state;
        self.since_unix_ms = Some(now.unix_ms);
    }

    fn wake_by(&mut self, deadline_ms: u64) {
        self.wake_at_ms = self.wake_at_ms.min(deadline_ms);
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// What the group takes in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| id.len() + member.held_bytes());
        let promised = self.promised.keys().map(|id| THING_BYTES + id.len());
        members.chain(promised).sum()
    }

    /// What a member takes of that, if it is one.
    pub(crate) fn held_bytes_of(&self, id: &str) -> usize {
        self.members.get(id).map_or(0, |member| id.len() + member.held_bytes())
    }

    /// What the members were told to do takes of that.
    pub(crate) fn assigned_bytes(&self) -> usize {
        self.members.values().map(|member| member.assignment.len()).sum()
    }

    /// The longest any member wants to have for a rebalance.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// Whether the id, and the instance if one is named, are this group's.
    pub(crate) fn validate(&self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(known) if known != member => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    fn add_member(&mut self, id: &str, member: Member) {
        if let Some(instance) = &member.instance {
            let before = self.statics.insert(instance.clone(), id.to_owned());
            assert!(before.is_none(), "GROUP-4: the instance id is free");
        }
        if self.members.is_empty() {
            self.protocol_type = Some(member.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.to_owned());
        }
        self.count_protocols(&member);
        self.promised.remove(id);
        let before = self.members.insert(id.to_owned(), member);
        assert!(before.is_none(), "the member id is free");
    }

    /// Takes a member out and answers whatever it waits for.
    fn remove_member(&mut self, id: &str, error: GroupError, out: &mut Effects) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.uncount_protocols(&member);
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        self.unsynced.remove(id);
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        if let Some(token) = member.joining.take() {
            out.reply_join(token, JoinAnswer::refused("", error));
        }
        if let Some(token) = member.syncing.take() {
            out.reply_sync(token, SyncAnswer::refused(error));
        }
    }

    /// Stops the machine: whoever waits is told why.
    pub(crate) fn dismiss(&mut self, error: GroupError, out: &mut Effects) {
        for (id, member) in &mut self.members {
            if let Some(token) = member.joining.take() {
                out.reply_join(token, JoinAnswer::refused(id, error));
            }
            if let Some(token) = member.syncing.take() {
                out.reply_sync(token, SyncAnswer::refused(error));
            }
        }
    }

    /// The check costs more than an event, so a release build leaves it to the tests.
    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// States the invariants.
    pub(crate) fn check(&self) {
        self.check_members();
        self.check_waiting();
        let rests = match &self.rest {
            None => true,
            Some(Rest::Assigned { .. }) => self.state == State::CompletingRebalance,
            Some(Rest::Replaced { new, .. }) => {
                self.state == State::Stable && self.members.contains_key(new)
            }
            Some(Rest::Emptied | Rest::Removed) => self.state == State::Empty,
        };
        assert!(rests, "the group rests in the state its write belongs to");
    }

    fn check_members(&self) {
        match self.state {
            State::Empty => assert!(self.members.is_empty(), "an empty group has no members"),
            State::PreparingRebalance => {}
            State::CompletingRebalance | State::Stable => {
                assert!(!self.members.is_empty(), "a generation has members");
                let protocol = self.protocol.as_deref().expect("a generation has a protocol");
                let known = self.members.values().all(|member| member.metadata(protocol).is_some());
                assert!(known, "GROUP-3: every member knows {protocol}");
            }
        }
        match &self.leader {
            Some(leader) => {
                assert!(self.members.contains_key(leader), "GROUP-2: the leader is a member");
            }
            None => assert!(self.members.is_empty(), "GROUP-2: members have a leader"),
        }
        for (instance, id) in &self.statics {
            let member = self.members.get(id).expect("GROUP-4: an instance id names a member");
            assert_eq!(member.instance.as_ref(), Some(instance), "GROUP-4: and that member alone");
        }
        let statics = self.members.values().filter(|member| member.instance.is_some()).count();
        assert_eq!(statics, self.statics.len(), "GROUP-4: every static member is named");
        assert!(
            self.promised.keys().all(|id| !self.members.contains_key(id)),
            "a promise ends with joining"
        );
        self.check_known();
    }

    fn check_waiting(&self) {
        let joining = self.members.values().any(|member| member.joining.is_some());
        let replaced = matches!(self.rest, Some(Rest::Replaced { .. }));
        assert!(
            !joining || self.state == State::PreparingRebalance || replaced,
            "GROUP-5: joins can end"
        );
        let syncing = self.members.values().any(|member| member.syncing.is_some());
        assert!(!syncing || self.state == State::CompletingRebalance, "GROUP-5: syncs can end");
        assert_eq!(
            self.join_deadline_ms.is_some(),
            self.state == State::PreparingRebalance,
            "GROUP-5: a rebalance ends by itself"
        );
        assert!(
            self.sync_deadline_ms.is_none() || !self.unsynced.is_empty(),
            "a sync is waited for"
        );
        if self.state == State::CompletingRebalance && self.rest.is_none() {
            assert!(
                self.sync_deadline_ms.is_some(),
                "GROUP-5: a missing sync is not waited for for ever"
            );
        }
        assert!(
            !self.initial || self.state == State::PreparingRebalance,
            "an initial rebalance is one"
        );
        assert!(self.unsynced.iter().all(|id| self.members.contains_key(id)), "members sync");
        assert!(self.wake_at_ms <= self.earliest_ms(), "GROUP-6: nothing is due before the alarm");
    }
}

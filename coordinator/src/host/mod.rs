//! The host of one partition of `__consumer_offsets`: its groups, their offsets, and what is on its way to the log.
//!
//! A request reads state and leads to answers, or to a write and an answer that waits for it. The driver appends the
//! write and says how it went; only then does the answer leave. The rules of a group are in `classic`, the offsets
//! of a group in `offsets`; the host routes, keeps order, and holds the clock's alarms. It does no I/O, and nothing
//! in it knows how a record reaches a disk.
//!
//! Invariants ([`Host::check`], and tests that rebuild a host from the log after every step):
//! - HOST-1: no answer that speaks of a record leaves before the record is committed.
//! - HOST-2: what the log says, read from its beginning, is what the host holds: every committed offset, and every
//!   group that is not in the middle of a rebalance.
//! - HOST-3: every token is answered once. It waits in a group for other members, behind a write, or in the queue
//!   of a group at rest, and each of these ends.
//! - HOST-4: the alarm of a group is not later than the group's own.

mod listing;
mod load;
mod offsets;
mod timers;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::api::{
    Answer, HeartbeatAnswer, JoinAnswer, JoinGroup, LeaveAnswer, LeaveGroup, LeftMember, Now,
    OffsetFetch, Outcome, Reply, Request, SyncAnswer, SyncGroup, Ticket, Token,
};
use crate::classic::{ClassicGroup, Effects, told_bytes};
use crate::errors::GroupError;
use crate::limits::{
    DEFERRED_PER_GROUP_MAX, GroupConfig, MEMBER_METADATA_BYTES_MAX, NAME_BYTES_MAX,
    PROTOCOLS_PER_MEMBER_MAX, THING_BYTES, WRITES_IN_FLIGHT_MAX,
};
use crate::offsets::GroupOffsets;
use crate::records::Change;

pub use load::Replayed;

const NEVER_MS: u64 = u64::MAX;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    config: GroupConfig,
    phase: Phase,
    groups: BTreeMap<String, Group>,
    /// What all groups take in memory.
    held_bytes: usize,
    /// Oldest first.
    in_flight: VecDeque<InFlight>,
    next_ticket: u64,
    alarms: BTreeSet<(u64, String)>,
    expiry_due_ms: u64,
    /// The group after which the running round of expiry goes on.
    expiry_after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Serving,
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    classic: ClassicGroup,
    offsets: GroupOffsets,
    /// Requests that came while the group was at rest, in order.
    deferred: VecDeque<(Token, Request)>,
    /// What `alarms` holds for this group.
    alarm_ms: u64,
    /// What was counted for it.
    held_bytes: usize,
}

/// A write the log has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InFlight {
    ticket: Ticket,
    changes: Vec<Change>,
    answer: Option<Reply>,
    /// The group that is at rest until this write is answered.
    resting: Option<String>,
    /// Reads that must not overtake it.
    reads: Vec<(Token, OffsetFetch)>,
}

impl Host {
    /// A host that reads its partition: [`Host::replay`] each record, then [`Host::loaded`].
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            held_bytes: 0,
            in_flight: VecDeque::new(),
            next_ticket: 0,
            alarms: BTreeSet::new(),
            expiry_due_ms: NEVER_MS,
            expiry_after: None,
        }
    }

    /// Takes a request. The token returns with the answer, now or in a later outcome.
    pub fn handle(&mut self, now: Now, token: Token, request: Request) -> Outcome {
        let mut out = Outcome::default();
        match self.phase {
            Phase::Serving => self.serve(now, token, request, &mut out),
            // A member is not to think it lost its place because the log is being read.
            Phase::Loading if matches!(request, Request::Heartbeat(_)) => {
                push(&mut out, token, Answer::Heartbeat(HeartbeatAnswer { error: None }));
            }
            Phase::Loading => {
                push(&mut out, token, request.refuse(GroupError::CoordinatorLoadInProgress));
            }
            Phase::Stopped => push(&mut out, token, request.refuse(GroupError::NotCoordinator)),
        }
        self.debug_check();
        out
    }

    /// Somebody asked where the group's coordinator is. A first rebalance that runs waits a little longer for it.
    /// Optional: a driver that does not know costs its users at most one more rebalance.
    pub fn looked_up(&mut self, now: Now, group: &str) {
        if let Some(found) = self.groups.get_mut(group) {
            found.classic.looked_up(now, &self.config);
            self.set_alarm(group);
        }
    }

    /// Ends the service: everybody who waits is told, and later requests go elsewhere. Writes in flight are answered
    /// as failed; whether the log took them, the next host of the partition will read.
    pub fn stop(&mut self, error: GroupError) -> Outcome {
        let mut effects = Effects::default();
        for write in std::mem::take(&mut self.in_flight) {
            effects.replies.extend(write.answer.map(|reply| writes::failed(reply, error)));
            for (token, fetch) in write.reads {
                effects.reply(token, Request::OffsetFetch(fetch).refuse(error));
            }
        }
        for group in self.groups.values_mut() {
            group.classic.dismiss(error, &mut effects);
            for (token, request) in std::mem::take(&mut group.deferred) {
                effects.reply(token, request.refuse(error));
            }
        }
        self.phase = Phase::Stopped;
        self.groups.clear();
        self.held_bytes = 0;
        self.alarms.clear();
        self.expiry_due_ms = NEVER_MS;
        Outcome { writes: Vec::new(), replies: effects.replies }
    }

    /// Writes the log has not answered.
    pub fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What all groups take in memory, about.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn serve(&mut self, now: Now, token: Token, request: Request, out: &mut Outcome) {
        if let Err(error) = self.admit(&request) {
            push(out, token, request.refuse(error));
            return;
        }
        if let Some(group) = request.group().and_then(|group| self.groups.get_mut(group))
            && must_wait(&group.classic, &request)
        {
            if group.deferred.len() == DEFERRED_PER_GROUP_MAX {
                push(out, token, request.refuse(GroupError::CoordinatorLoadInProgress));
            } else {
                group.deferred.push_back((token, request));
            }
            return;
        }
        match request {
            Request::Join(request) => self.join(now, token, &request, out),
            Request::Sync(request) => self.sync(now, token, &request, out),
            Request::Heartbeat(request) => {
                let error = match self.groups.get_mut(&request.group) {
                    Some(group) => group.classic.heartbeat(now, &request).err(),
                    None => Some(GroupError::UnknownMemberId),
                };
                self.set_alarm(&request.group);
                push(out, token, Answer::Heartbeat(HeartbeatAnswer { error }));
            }
            Request::Leave(request) => self.leave(now, token, &request, out),
            Request::OffsetCommit(request) => self.commit_offsets(now, token, &request, out),
            Request::OffsetFetch(request) => self.fetch_offsets(token, request, out),
            Request::OffsetDelete(request) => self.delete_offsets(token, &request, out),
            Request::Describe(request) => {
                push(out, token, Answer::Describe(self.describe(&request.group)));
            }
            Request::List(request) => push(out, token, Answer::List(self.list(&request))),
            Request::Delete(request) => self.delete_group(token, &request.group, out),
        }
    }

    /// Refuses what no record could hold and what no bound allows, before anything is looked at.
    fn admit(&self, request: &Request) -> Result<(), GroupError> {
        let group = request.group().unwrap_or_default();
        let names_a_group = matches!(
            request,
            Request::Join(_)
                | Request::Sync(_)
                | Request::Heartbeat(_)
                | Request::Leave(_)
                | Request::OffsetDelete(_)
        );
        if NAME_BYTES_MAX < group.len() || (names_a_group && group.is_empty()) {
            return Err(GroupError::InvalidGroupId);
        }
        match request {
            Request::Join(join) => self.admit_join(join),
            Request::OffsetCommit(_) | Request::OffsetDelete(_) | Request::Delete(_)
                if WRITES_IN_FLIGHT_MAX <= self.in_flight.len() =>
            {
                Err(GroupError::CoordinatorLoadInProgress)
            }
            _ => Ok(()),
        }
    }

    fn admit_join(&self, join: &JoinGroup) -> Result<(), GroupError> {
        let allowed = self.config.session_timeout_ms_min..=self.config.session_timeout_ms_max;
        if !allowed.contains(&join.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let instance = join.instance.as_deref().unwrap_or_default();
        let mut names = vec![&*join.client_id, &*join.client_host, instance, &*join.protocol_type];
        names.extend(join.protocols.iter().map(|protocol| &*protocol.name));
        let metadata: usize = join.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
        let fits = names.iter().all(|name| name.len() <= NAME_BYTES_MAX)
            && join.protocols.len() <= PROTOCOLS_PER_MEMBER_MAX
            && metadata <= MEMBER_METADATA_BYTES_MAX;
        if fits { Ok(()) } else { Err(GroupError::InvalidRequest) }
    }

    fn join(&mut self, now: Now, token: Token, request: &JoinGroup, out: &mut Outcome) {
        let group = self.groups.get(&request.group);
        let before = group.map_or(0, |it| it.classic.held_bytes_of(&request.member));
        let growth = (told_bytes(request) + request.member.len()).saturating_sub(before);
        if !self.has_room(growth + self.growth_of_making(&request.group)) {
            let error = GroupError::CoordinatorLoadInProgress;
            push(out, token, Answer::Join(JoinAnswer::refused(&request.member, error)));
            return;
        }
        if !self.groups.contains_key(&request.group) {
            // Only somebody without an id can be new here.
            let refusal = if !request.member.is_empty() {
                Some(JoinAnswer::refused(&request.member, GroupError::UnknownMemberId))
            } else if self.is_full() {
                Some(JoinAnswer::refused("", GroupError::CoordinatorLoadInProgress))
            } else {
                None
            };
            if let Some(refusal) = refusal {
                push(out, token, Answer::Join(refusal));
                return;
            }
        }
        self.change(now, &request.group, out, |group, config, effects| {
            group.classic.join(now, config, token, request, effects);
            None
        });
    }

    fn sync(&mut self, now: Now, token: Token, request: &SyncGroup, out: &mut Outcome) {
        if !self.groups.contains_key(&request.group) {
            push(out, token, Answer::Sync(SyncAnswer::refused(GroupError::UnknownMemberId)));
            return;
        }
        let assigned: usize = request.assignments.iter().map(|(_, bytes)| bytes.len()).sum();
        let before = self.groups[&request.group].classic.assigned_bytes();
        if !self.has_room(assigned.saturating_sub(before)) {
            let error = GroupError::CoordinatorLoadInProgress;
            push(out, token, Answer::Sync(SyncAnswer::refused(error)));
            return;
        }
        self.change(now, &request.group, out, |group, config, effects| {
            group.classic.sync(now, config, token, request, effects);
            None
        });
    }

    fn leave(&mut self, now: Now, token: Token, request: &LeaveGroup, out: &mut Outcome) {
        if !self.groups.contains_key(&request.group) {
            let unknown = |leaving: &crate::api::LeavingMember| LeftMember {
                member: leaving.member.clone(),
                instance: leaving.instance.clone(),
                error: Some(GroupError::UnknownMemberId),
            };
            let members = request.members.iter().map(unknown).collect();
            push(out, token, Answer::Leave(LeaveAnswer { error: None, members }));
            return;
        }
        self.change(now, &request.group, out, |group, config, effects| {
            let members = group.classic.leave(now, config, request, effects);
            Some(Reply { token, answer: Answer::Leave(LeaveAnswer { error: None, members }) })
        });
    }

    /// Runs one event of a group. What it writes goes out; the answer, if there is one, waits for that.
    fn change(
        &mut self,
        now: Now,
        name: &str,
        out: &mut Outcome,
        event: impl FnOnce(&mut Group, &GroupConfig, &mut Effects) -> Option<Reply>,
    ) {
        let mut effects = Effects::default();
        if !self.groups.contains_key(name) {
            self.groups.insert(name.to_owned(), Group::new(now));
        }
        let group = self.groups.get_mut(name).expect("just made");
        let answer = event(group, &self.config, &mut effects);
        out.replies.append(&mut effects.replies);
        match effects.write {
            Some(value) => {
                let change = Change::Group { group: name.to_owned(), value: Some(value) };
                self.begin_write(vec![change], answer, Some(name.to_owned()), out);
            }
            None => out.replies.extend(answer),
        }
        self.set_alarm(name);
        self.recount(name);
        self.prune(name);
    }

    /// Whether so much more may be held. Who takes no more than before always may.
    fn has_room(&self, growth: usize) -> bool {
        growth == 0 || self.held_bytes + growth <= self.config.partition_bytes_max
    }

    /// What a group takes by being there, if it is not yet.
    fn growth_of_making(&self, name: &str) -> usize {
        if self.groups.contains_key(name) { 0 } else { THING_BYTES + name.len() }
    }

    /// To be called when a group may have changed.
    fn recount(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let held_bytes = group.count_bytes(name);
        self.held_bytes = self.held_bytes - group.held_bytes + held_bytes;
        group.held_bytes = held_bytes;
    }

    fn is_full(&self) -> bool {
        self.config.groups_max <= self.groups.len()
    }

    /// Forgets a group that nothing speaks of any more.
    fn prune(&mut self, name: &str) {
        let void = self.groups.get(name).is_some_and(|group| {
            group.classic.is_blank() && group.offsets.is_empty() && group.deferred.is_empty()
        });
        if void {
            let group = self.groups.remove(name).expect("just seen");
            self.held_bytes -= group.held_bytes;
            self.alarms.remove(&(group.alarm_ms, name.to_owned()));
        }
    }

    /// States the invariants.
    ///
    /// # Panics
    /// One of them does not hold.
    pub fn check(&self) {
        for (name, group) in &self.groups {
            group.classic.check();
            group.offsets.check();
            if self.phase == Phase::Serving {
                assert_eq!(group.held_bytes, group.count_bytes(name), "{name} was counted");
            }
            let resting =
                self.in_flight.iter().filter(|write| write.resting.as_ref() == Some(name)).count();
            assert_eq!(
                resting,
                usize::from(group.classic.is_at_rest()),
                "a group rests for one write"
            );
            assert!(
                group.deferred.is_empty() || group.classic.is_at_rest(),
                "HOST-3: a queue has an end"
            );
            assert!(
                group.alarm_ms <= group.classic.wake_at_ms(),
                "HOST-4: {name} is woken in time"
            );
            let alarm = (group.alarm_ms, name.clone());
            assert_eq!(
                group.alarm_ms != NEVER_MS,
                self.alarms.contains(&alarm),
                "alarms are the groups'"
            );
        }
        let held_bytes: usize = self.groups.values().map(|group| group.held_bytes).sum();
        assert_eq!(held_bytes, self.held_bytes, "what is held is counted");
        let alarms = self.groups.values().filter(|group| group.alarm_ms != NEVER_MS).count();
        assert_eq!(alarms, self.alarms.len(), "nobody else has an alarm");
        assert!(self.in_flight.iter().is_sorted_by_key(|write| write.ticket), "tickets grow");
    }

    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            self.check();
        }
    }
}

impl Group {
    fn new(now: Now) -> Self {
        Self {
            classic: ClassicGroup::new(now),
            offsets: GroupOffsets::default(),
            deferred: VecDeque::new(),
            alarm_ms: NEVER_MS,
            held_bytes: 0,
        }
    }

    fn count_bytes(&self, name: &str) -> usize {
        THING_BYTES + name.len() + self.classic.held_bytes() + self.offsets.held_bytes()
    }
}

fn push(out: &mut Outcome, token: Token, answer: Answer) {
    out.replies.push(Reply { token, answer });
}

/// While a group is at rest, whatever could change it waits; while it is being removed, its offsets do, too.
fn must_wait(classic: &ClassicGroup, request: &Request) -> bool {
    match request {
        Request::Join(_) | Request::Sync(_) | Request::Leave(_) | Request::Delete(_) => {
            classic.is_at_rest()
        }
        Request::OffsetCommit(_) | Request::OffsetDelete(_) => classic.is_being_removed(),
        Request::Heartbeat(_)
        | Request::OffsetFetch(_)
        | Request::Describe(_)
        | Request::List(_) => false,
    }
}

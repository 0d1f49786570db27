//! Requests about offsets, and the end of offsets and groups: deletion, expiry, deleted topics.

use super::{Group, Host, push};
use crate::api::{
    Answer, CommitPartition, DeleteAnswer, FetchedPartition, FetchedTopic, Now, OffsetCommit,
    OffsetCommitAnswer, OffsetDelete, OffsetDeleteAnswer, OffsetFetch, OffsetFetchAnswer, Outcome,
    PartitionResult, Reply, Token, TopicResult,
};
use crate::classic::State;
use crate::errors::GroupError;
use crate::limits::{
    EXPIRED_PER_ROUND_MAX, GroupConfig, NAME_BYTES_MAX, OFFSETS_PER_GROUP_MAX,
    READS_BEHIND_WRITE_MAX, WRITE_BYTES_MAX,
};
use crate::offsets::GroupOffsets;
use crate::records::{self, Change, OffsetValue};

/// From this version on a missing group is named as such.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

impl Host {
    pub(super) fn offsets_of(&mut self, group: &str) -> &mut GroupOffsets {
        &mut self.groups.get_mut(group).expect("a group with writes in flight stays").offsets
    }

    pub(super) fn commit_offsets(
        &mut self,
        now: Now,
        token: Token,
        request: &OffsetCommit,
        out: &mut Outcome,
    ) {
        let outcome = self.plan_commit(now, request);
        self.set_alarm(&request.group);
        match outcome {
            Err(error) => push(out, token, Answer::OffsetCommit(request.refused(error))),
            Ok((answer, changes)) => {
                let reply = Reply { token, answer: Answer::OffsetCommit(answer) };
                if changes.is_empty() {
                    out.replies.push(reply);
                } else {
                    self.groups.entry(request.group.clone()).or_insert_with(|| Group::new(now));
                    self.begin_write(changes, Some(reply), None, out);
                }
            }
        }
    }

    fn plan_commit(
        &mut self,
        now: Now,
        request: &OffsetCommit,
    ) -> Result<(OffsetCommitAnswer, Vec<Change>), GroupError> {
        let is_full = self.is_full();
        match self.groups.get_mut(&request.group) {
            Some(group) => group.classic.may_commit(now, request)?,
            None if 0 <= request.generation && GROUP_ID_NOT_FOUND_FROM <= request.version => {
                return Err(GroupError::GroupIdNotFound);
            }
            None if 0 <= request.generation => return Err(GroupError::IllegalGeneration),
            None if is_full => return Err(GroupError::CoordinatorLoadInProgress),
            None => {}
        }
        let retention_ms = request.retention_ms.filter(|retention_ms| 0 <= *retention_ms);
        let expire_unix_ms =
            retention_ms.map(|retention_ms| now.unix_ms.saturating_add(retention_ms));
        let mut changes = Vec::new();
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for commit in &topic.partitions {
                let error = refuse_commit(&self.config, &topic.topic, commit);
                if error.is_none() {
                    changes.push(Change::Offset {
                        group: request.group.clone(),
                        topic: topic.topic.clone(),
                        partition: commit.partition,
                        value: Some(OffsetValue {
                            offset: commit.offset,
                            // The record with an expiry has no place for the epoch.
                            leader_epoch: if expire_unix_ms.is_some() {
                                -1
                            } else {
                                commit.leader_epoch
                            },
                            metadata: commit.metadata.clone().unwrap_or_default(),
                            commit_unix_ms: now.unix_ms,
                            expire_unix_ms,
                        }),
                    });
                }
                partitions.push(PartitionResult { partition: commit.partition, error });
            }
            topics.push(TopicResult { topic: topic.topic.clone(), partitions });
        }
        self.bound_commit(&request.group, &changes)?;
        Ok((OffsetCommitAnswer { topics }, changes))
    }

    fn bound_commit(&self, group: &str, changes: &[Change]) -> Result<(), GroupError> {
        let offsets = self.groups.get(group).map(|group| &group.offsets);
        let is_new = |change: &&Change| match change {
            Change::Offset { topic, partition, .. } => {
                offsets.is_none_or(|offsets| !offsets.has(topic, *partition))
            }
            Change::Group { .. } => false,
        };
        let new = changes.iter().filter(is_new).count();
        if OFFSETS_PER_GROUP_MAX < offsets.map_or(0, GroupOffsets::len) + new || !fits(changes) {
            return Err(GroupError::InvalidCommitOffsetSize);
        }
        let growth = |change: &Change| match change {
            Change::Offset { topic, partition, value, .. } => {
                let text = value.as_ref().map_or("", |it| &it.metadata);
                let nothing = GroupOffsets::default();
                offsets.unwrap_or(&nothing).growth(topic, *partition, text)
            }
            Change::Group { .. } => 0,
        };
        let before = self.growth_of_making(group);
        if !self.has_room(before + changes.iter().map(growth).sum::<usize>()) {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        Ok(())
    }

    pub(super) fn fetch_offsets(&mut self, token: Token, request: OffsetFetch, out: &mut Outcome) {
        let waits =
            self.groups.get(&request.group).is_some_and(|group| group.offsets.has_pending());
        if !waits {
            push(out, token, Answer::OffsetFetch(self.committed_offsets(&request)));
            return;
        }
        let last = self.in_flight.back_mut().expect("values in flight belong to a write");
        if last.reads.len() < READS_BEHIND_WRITE_MAX {
            last.reads.push((token, request));
        } else {
            let error = Some(GroupError::CoordinatorLoadInProgress);
            push(out, token, Answer::OffsetFetch(OffsetFetchAnswer { error, topics: Vec::new() }));
        }
    }

    pub(super) fn committed_offsets(&self, request: &OffsetFetch) -> OffsetFetchAnswer {
        let topics = match (self.groups.get(&request.group), &request.topics) {
            (Some(group), Some(topics)) => group.offsets.fetch(topics),
            (Some(group), None) => group.offsets.fetch_all(),
            (None, Some(topics)) => {
                topics.iter().map(|(topic, partitions)| nothing(topic, partitions)).collect()
            }
            (None, None) => Vec::new(),
        };
        OffsetFetchAnswer { error: None, topics }
    }

    pub(super) fn delete_offsets(
        &mut self,
        token: Token,
        request: &OffsetDelete,
        out: &mut Outcome,
    ) {
        let (answer, changes) = match self.plan_delete_offsets(request) {
            Ok(planned) => planned,
            Err(error) => {
                (OffsetDeleteAnswer { error: Some(error), topics: Vec::new() }, Vec::new())
            }
        };
        let reply = Reply { token, answer: Answer::OffsetDelete(answer) };
        if changes.is_empty() {
            out.replies.push(reply);
        } else {
            self.begin_write(changes, Some(reply), None, out);
        }
    }

    fn plan_delete_offsets(
        &self,
        request: &OffsetDelete,
    ) -> Result<(OffsetDeleteAnswer, Vec<Change>), GroupError> {
        let group = self.groups.get(&request.group).ok_or(GroupError::GroupIdNotFound)?;
        if group.classic.state() != State::Empty && !group.classic.is_consumer() {
            return Err(GroupError::NonEmptyGroup);
        }
        let mut changes = Vec::new();
        let mut topics = Vec::new();
        for (topic, partitions) in &request.topics {
            let subscribed =
                group.classic.is_subscribed_to(topic) && group.classic.state() != State::Empty;
            let error = subscribed.then_some(GroupError::GroupSubscribedToTopic);
            for partition in partitions {
                if error.is_none() && group.offsets.has(topic, *partition) {
                    changes.push(forget(&request.group, topic, *partition));
                }
            }
            let one = |partition: &i32| PartitionResult { partition: *partition, error };
            let partitions = partitions.iter().map(one).collect();
            topics.push(TopicResult { topic: topic.clone(), partitions });
        }
        if !fits(&changes) {
            return Err(GroupError::InvalidRequest);
        }
        Ok((OffsetDeleteAnswer { error: None, topics }, changes))
    }

    pub(super) fn delete_group(&mut self, token: Token, name: &str, out: &mut Outcome) {
        let refuse = |error| Answer::Delete(DeleteAnswer { error: Some(error) });
        let Some(group) = self.groups.get_mut(name) else {
            push(out, token, refuse(GroupError::GroupIdNotFound));
            return;
        };
        if group.classic.state() != State::Empty {
            push(out, token, refuse(GroupError::NonEmptyGroup));
            return;
        }
        let latest = group.offsets.latest();
        let mut changes: Vec<Change> =
            latest.map(|(topic, partition, _)| forget(name, topic, partition)).collect();
        changes.push(Change::Group { group: name.to_owned(), value: None });
        if !fits(&changes) {
            // Its offsets can be deleted in portions, or expire, which goes by portions.
            push(out, token, refuse(GroupError::UnknownServerError));
            return;
        }
        group.classic.remove();
        let reply = Reply { token, answer: Answer::Delete(DeleteAnswer { error: None }) };
        self.begin_write(changes, Some(reply), Some(name.to_owned()), out);
    }

    /// Topics are gone, and with them the offsets all groups have in them.
    pub fn topics_deleted(&mut self, topics: &[String]) -> Outcome {
        let mut out = Outcome::default();
        if self.phase != super::Phase::Serving {
            return out;
        }
        let mut changes = Vec::new();
        let mut writes = Vec::new();
        for (name, group) in
            self.groups.iter().filter(|(_, group)| !group.classic.is_being_removed())
        {
            for topic in topics {
                for partition in group.offsets.partitions_of(topic) {
                    changes.push(forget(name, topic, partition));
                    if changes.len() == EXPIRED_PER_ROUND_MAX {
                        writes.push(std::mem::take(&mut changes));
                    }
                }
            }
        }
        writes.push(changes);
        for changes in writes.into_iter().filter(|changes| !changes.is_empty()) {
            self.begin_write(changes, None, None, &mut out);
        }
        self.debug_check();
        out
    }

    /// One group's part of a round of expiry. Offsets leave when their group has not used them for the retention
    /// time; a group without members leaves with its last offset.
    pub(super) fn expire_group(&mut self, now: Now, name: &str, out: &mut Outcome) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.classic.is_at_rest() || group.offsets.has_pending() {
            return;
        }
        let expired: Vec<Change> = group
            .offsets
            .latest()
            .filter(|(topic, _, value)| is_expired(&self.config, now, group, topic, value))
            .take(EXPIRED_PER_ROUND_MAX)
            .map(|(topic, partition, _)| forget(name, topic, partition))
            .collect();
        let mut changes = expired;
        let ends = changes.len() == group.offsets.len() && group.classic.may_vanish();
        let resting = if ends {
            changes.push(Change::Group { group: name.to_owned(), value: None });
            group.classic.remove();
            Some(name.to_owned())
        } else {
            None
        };
        if !changes.is_empty() {
            self.begin_write(changes, None, resting, out);
        }
    }
}

/// Since when an offset is unused depends on its group: for one without members since the last left, for a consumer
/// group at work since the commit, if nobody reads the topic any more; in all other groups it is used.
fn is_expired(
    config: &GroupConfig,
    now: Now,
    group: &Group,
    topic: &str,
    value: &OffsetValue,
) -> bool {
    let classic = &group.classic;
    let unused_since = match (classic.protocol_type(), classic.state()) {
        (None, State::Empty) => value.commit_unix_ms,
        (Some(_), State::Empty) => classic.since_unix_ms().unwrap_or(value.commit_unix_ms),
        (Some(_), State::Stable)
            if classic.is_consumer()
                && classic.knows_its_topics()
                && !classic.is_subscribed_to(topic) =>
        {
            value.commit_unix_ms
        }
        _ => return false,
    };
    match value.expire_unix_ms {
        Some(expire_unix_ms) => expire_unix_ms <= now.unix_ms,
        None => config.offsets_retention_ms <= now.unix_ms.saturating_sub(unused_since),
    }
}

fn refuse_commit(
    config: &GroupConfig,
    topic: &str,
    commit: &CommitPartition,
) -> Option<GroupError> {
    let metadata = commit.metadata.as_deref().unwrap_or_default();
    let units = metadata.encode_utf16().count();
    if config.offset_metadata_units_max < units || NAME_BYTES_MAX < metadata.len() {
        Some(GroupError::OffsetMetadataTooLarge)
    } else if NAME_BYTES_MAX < topic.len() || commit.partition < 0 {
        Some(GroupError::InvalidRequest)
    } else {
        None
    }
}

fn forget(group: &str, topic: &str, partition: i32) -> Change {
    Change::Offset { group: group.to_owned(), topic: topic.to_owned(), partition, value: None }
}

fn fits(changes: &[Change]) -> bool {
    changes.iter().map(|change| records::write(change).bytes()).sum::<usize>() <= WRITE_BYTES_MAX
}

fn nothing(topic: &str, partitions: &[i32]) -> FetchedTopic {
    let one = |partition: &i32| FetchedPartition {
        partition: *partition,
        offset: -1,
        leader_epoch: -1,
        metadata: String::new(),
    };
    FetchedTopic { topic: topic.to_owned(), partitions: partitions.iter().map(one).collect() }
}

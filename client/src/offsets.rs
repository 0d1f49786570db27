//! How far a group has read: said, and asked.

use std::collections::BTreeMap;

use corelane_net::api::ApiKey;
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use corelane_net::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use corelane_net::wire::Uuid;

use crate::assign::Owned;
use crate::error::{ClientError, check};
use crate::group::Member;

/// From this version on topics go by their ids alone, in both requests.
const IDS_FROM: i16 = 10;
/// From this version on several groups are asked about at once.
const BATCHED_FROM: i16 = 8;

/// An offset for each partition, by topic.
pub type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

impl Member {
    /// Says how far this member has read: for each partition the offset to go on at.
    ///
    /// # Errors
    /// When it is refused, for whichever partition, or nobody answers.
    pub async fn commit(&self, offsets: &Offsets) -> Result<(), ClientError> {
        self.learn(self.try_commit(offsets).await)
    }

    async fn try_commit(&self, offsets: &Offsets) -> Result<(), ClientError> {
        // Who this is now; another call may learn meanwhile that it is nobody any more, and nobody's
        // commits are taken whenever the group is empty.
        let (id, generation) = (self.id(), self.generation());
        let connection = self.connect().await?;
        let version = connection.version_of::<OffsetCommitRequest<'_>>()?;
        let mut topics = Vec::with_capacity(offsets.len());
        for (name, partitions) in offsets {
            let partition = |(index, offset): (&i32, &i64)| OffsetCommitRequestPartition {
                partition_index: *index,
                committed_offset: *offset,
                ..Default::default()
            };
            let partitions = partitions.iter().map(partition).collect();
            let (name, topic_id) = self.named(version, name).await?;
            topics.push(OffsetCommitRequestTopic { name, topic_id, partitions });
        }
        let request = OffsetCommitRequest {
            group_id: &self.0.options.group,
            generation_id_or_member_epoch: generation,
            member_id: &id,
            group_instance_id: self.0.options.instance.as_deref(),
            topics: topics.into(),
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let said = answer.decode::<OffsetCommitResponse<'_>>()?;
        let mut told = 0;
        for topic in &said.topics {
            for it in &topic.partitions {
                told += 1;
                let learnt = check(ApiKey::OffsetCommit, it.error_code, None);
                learnt.inspect_err(|error| self.forget_topics(offsets.keys(), error))?;
            }
        }
        let asked: usize = offsets.values().map(BTreeMap::len).sum();
        let missing = ClientError::Missing { key: answer.key, what: "a partition committed to" };
        if told < asked { Err(missing) } else { Ok(()) }
    }

    /// Where this group goes on in these partitions; what it never committed is absent.
    ///
    /// # Errors
    /// When it is refused, for whichever partition, or nobody answers.
    pub async fn committed(&self, wanted: &Owned) -> Result<Offsets, ClientError> {
        self.learn(self.try_committed(wanted).await)
    }

    async fn try_committed(&self, wanted: &Owned) -> Result<Offsets, ClientError> {
        let connection = self.connect().await?;
        let version = connection.version_of::<OffsetFetchRequest<'_>>()?;
        let group = &self.0.options.group;
        let mut names = BTreeMap::new();
        let mut by_group = Vec::new();
        let mut by_topic = Vec::new();
        for (name, partitions) in wanted {
            if version < BATCHED_FROM {
                by_topic
                    .push(OffsetFetchRequestTopic { name, partition_indexes: partitions.into() });
                continue;
            }
            let (told, topic_id) = self.named(version, name).await?;
            names.insert(topic_id, name);
            by_group.push(OffsetFetchRequestTopics {
                name: told,
                topic_id,
                partition_indexes: partitions.into(),
            });
        }
        let request = if version < BATCHED_FROM {
            let topics = Some(by_topic.into());
            OffsetFetchRequest { group_id: group, topics, ..Default::default() }
        } else {
            let one = OffsetFetchRequestGroup {
                group_id: group,
                topics: Some(by_group.into()),
                ..Default::default()
            };
            OffsetFetchRequest { groups: [one].into(), ..Default::default() }
        };
        let answer = connection.call(&request).await?;
        let said = answer.decode::<OffsetFetchResponse<'_>>()?;
        let mut found = Offsets::new();
        let mut keep = |topic: &str, partition: i32, offset: i64, code: i16| {
            check(ApiKey::OffsetFetch, code, None)?;
            if 0 <= offset {
                found.entry(topic.to_owned()).or_default().insert(partition, offset);
            }
            Ok(())
        };
        if version < BATCHED_FROM {
            check(ApiKey::OffsetFetch, said.error_code, None)?;
            for topic in &said.topics {
                for it in &topic.partitions {
                    keep(topic.name, it.partition_index, it.committed_offset, it.error_code)?;
                }
            }
            return Ok(found);
        }
        let missing = ClientError::Missing { key: answer.key, what: "the group asked about" };
        let told = said.groups.iter().find(|it| it.group_id == group).ok_or(missing.clone())?;
        check(ApiKey::OffsetFetch, told.error_code, None)?;
        for topic in &told.topics {
            let name = if version < IDS_FROM {
                topic.name
            } else {
                names.get(&topic.topic_id).ok_or(missing.clone())?
            };
            for it in &topic.partitions {
                let kept = keep(name, it.partition_index, it.committed_offset, it.error_code);
                kept.inspect_err(|error| self.forget_topics(wanted.keys(), error))?;
            }
        }
        Ok(found)
    }

    /// A topic as a request of this version names it.
    async fn named<'a>(&self, version: i16, name: &'a str) -> Result<(&'a str, Uuid), ClientError> {
        if version < IDS_FROM {
            return Ok((name, Uuid::ZERO));
        }
        Ok(("", self.0.client.topic(name).await?.id))
    }

    fn forget_topics<'a>(&self, topics: impl Iterator<Item = &'a String>, error: &ClientError) {
        for topic in topics {
            self.0.client.learn_from(topic, error);
        }
    }
}

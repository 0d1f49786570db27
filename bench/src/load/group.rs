//! A member of a consumer group, in the classic protocol: join, be told what is one's own, keep the
//! heart beating, say how far one is, and come again when the group asks.
//!
//! The leader deals partitions out in ranges. Before a member joins again it stops reading and commits;
//! so a group that only grows reads nothing twice.

use super::consumer::{Consumer, Place};
use super::link::{Link, LinkError, refuse};
use super::threads::Said;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription,
};
use corelane_net::messages::find_coordinator::FindCoordinatorRequest;
use corelane_net::messages::heartbeat::HeartbeatRequest;
use corelane_net::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use corelane_net::messages::leave_group::LeaveGroupRequest;
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane_net::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use corelane_net::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use corelane_net::wire::{decode_value, encode_value};
use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const HEARTBEAT: Duration = Duration::from_millis(500);
const BACKOFF: Duration = Duration::from_millis(50);
/// How often a coordinator may say that it is not there yet.
const TRIES_MAX: u32 = 1_200;
const PROTOCOL: &str = "range";
/// The version of what members tell each other.
const VERSION: i16 = 0;

pub(crate) struct Member {
    consumer: Consumer,
    group: String,
    link: Link,
    id: String,
    generation: i32,
    tries: u32,
}

/// What a member does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Join,
    Stay,
}

impl Member {
    pub(crate) async fn open(consumer: Consumer, group: String) -> Result<Self, LinkError> {
        let mut tries = 0;
        let link = coordinator(&consumer, &group, &mut tries).await?;
        Ok(Self { consumer, group, link, id: String::new(), generation: -1, tries })
    }

    /// A member until the run ends.
    pub(crate) async fn run(mut self, tell: &Sender<Said>) -> Result<(), LinkError> {
        let control = std::sync::Arc::clone(&self.consumer.common.control);
        let asked = Instant::now();
        let mut told = false;
        while !control.stopping() {
            if !self.join().await? {
                continue;
            }
            if !told {
                told = true;
                // A coordinator that has gone has failed, and said so.
                drop(tell.send(Said::Joined(asked.elapsed())));
            }
            self.stay().await?;
            // First nothing more is read, then it is said how far that was.
            let read = self.consumer.owned.replace(BTreeMap::new());
            self.commit(&read).await?;
        }
        let request =
            LeaveGroupRequest { group_id: &self.group, member_id: &self.id, ..Default::default() };
        let answer = self.link.ask(&request).await?;
        let said = answer.decode::<LeaveGroupRequest<'_>>()?;
        refuse(ApiKey::LeaveGroup, said.error_code, &self.group)
    }

    /// Joins and is given its part; false when it has to be tried again.
    async fn join(&mut self) -> Result<bool, LinkError> {
        let topic = self.consumer.common.cluster.topics[self.consumer.topic as usize].name.clone();
        let subscription =
            ConsumerProtocolSubscription { topics: [&topic[..]].into(), ..Default::default() };
        let mut metadata = Vec::new();
        encode_value(VERSION, &subscription, &mut metadata)?;
        let request = JoinGroupRequest {
            group_id: &self.group,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: &self.id,
            protocol_type: "consumer",
            protocols: [JoinGroupRequestProtocol { name: PROTOCOL, metadata: &metadata }].into(),
            ..Default::default()
        };
        let (code, id, dealt) = {
            let answer = self.link.ask(&request).await?;
            let said = answer.decode::<JoinGroupRequest<'_>>()?;
            let mut members: Vec<_> =
                said.members.iter().map(|it| it.member_id.to_owned()).collect();
            members.sort_unstable();
            if said.error_code == 0 {
                self.generation = said.generation_id;
            }
            let leads = said.error_code == 0 && said.leader == said.member_id;
            (said.error_code, said.member_id.to_owned(), leads.then_some(members))
        };
        if code == ErrorCode::MemberIdRequired.code() {
            self.id = id;
            return Ok(false);
        }
        if !self.pass(ApiKey::JoinGroup, code).await? {
            return Ok(false);
        }
        self.id = id;
        let parts = self.deal(&topic, dealt.unwrap_or_default())?;
        self.sync(&topic, &parts).await
    }

    /// What the leader gives to each: ranges of one topic, as equal as they can be.
    fn deal(&self, topic: &str, members: Vec<String>) -> Result<Vec<(String, Vec<u8>)>, LinkError> {
        let all = self.consumer.common.workload.partitions as usize;
        let count = members.len();
        let mut parts = Vec::new();
        for (at, member) in members.into_iter().enumerate() {
            let range = (all * at / count) as i32..(all * (at + 1) / count) as i32;
            let part =
                ConsumerProtocolAssignmentTopicPartition { topic, partitions: range.collect() };
            let assignment =
                ConsumerProtocolAssignment { assigned_partitions: [part].into(), user_data: None };
            let mut bytes = Vec::new();
            encode_value(VERSION, &assignment, &mut bytes)?;
            parts.push((member, bytes));
        }
        Ok(parts)
    }

    async fn sync(&mut self, topic: &str, parts: &[(String, Vec<u8>)]) -> Result<bool, LinkError> {
        let parts = parts
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
        let request = SyncGroupRequest {
            group_id: &self.group,
            generation_id: self.generation,
            member_id: &self.id,
            protocol_type: Some("consumer"),
            protocol_name: Some(PROTOCOL),
            assignments: parts.collect(),
            ..Default::default()
        };
        let mut mine: Vec<i32> = Vec::new();
        let code = {
            let answer = self.link.ask(&request).await?;
            let said = answer.decode::<SyncGroupRequest<'_>>()?;
            if said.error_code == 0 && !said.assignment.is_empty() {
                let told: ConsumerProtocolAssignment<'_> = decode_value(said.assignment)?;
                for part in told.assigned_partitions.iter().filter(|it| it.topic == topic) {
                    mine.extend(part.partitions.iter());
                }
            }
            said.error_code
        };
        if !self.pass(ApiKey::SyncGroup, code).await? {
            return Ok(false);
        }
        let next = self.committed(topic, &mine).await?;
        self.consumer.owned.replace(next);
        Ok(true)
    }

    /// How far the group is in each of these; from the start where it never was.
    async fn committed(
        &mut self,
        topic: &str,
        mine: &[i32],
    ) -> Result<BTreeMap<Place, i64>, LinkError> {
        let mut next = BTreeMap::new();
        if mine.is_empty() {
            return Ok(next);
        }
        let named = OffsetFetchRequestTopic { name: topic, partition_indexes: mine.into() };
        let request = OffsetFetchRequest {
            group_id: &self.group,
            topics: Some([named].into()),
            ..Default::default()
        };
        let answer = self.link.ask(&request).await?;
        let said = answer.decode::<OffsetFetchRequest<'_>>()?;
        refuse(ApiKey::OffsetFetch, said.error_code, &self.group)?;
        for part in said.topics.iter().flat_map(|it| it.partitions.iter().collect::<Vec<_>>()) {
            refuse(ApiKey::OffsetFetch, part.error_code, &self.group)?;
            let place = (self.consumer.topic, part.partition_index as u32);
            next.insert(place, part.committed_offset.max(0));
        }
        Ok(next)
    }

    /// Keeps its place until the group moves, or the run ends.
    async fn stay(&mut self) -> Result<(), LinkError> {
        let control = std::sync::Arc::clone(&self.consumer.common.control);
        let commit_every = self.consumer.common.workload.own.commit_every;
        let mut committed = Instant::now();
        while !control.stopping() {
            glommio::timer::sleep(HEARTBEAT).await;
            if commit_every <= committed.elapsed() {
                let read = self.consumer.owned.next.borrow().clone();
                self.commit(&read).await?;
                committed = Instant::now();
            }
            if self.beat().await? == Next::Join {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<Next, LinkError> {
        let request = HeartbeatRequest {
            group_id: &self.group,
            generation_id: self.generation,
            member_id: &self.id,
            ..Default::default()
        };
        let code = {
            let answer = self.link.ask(&request).await?;
            answer.decode::<HeartbeatRequest<'_>>()?.error_code
        };
        Ok(if self.pass(ApiKey::Heartbeat, code).await? { Next::Stay } else { Next::Join })
    }

    async fn commit(&mut self, read: &BTreeMap<Place, i64>) -> Result<(), LinkError> {
        let parts = read.iter().map(|(place, next)| OffsetCommitRequestPartition {
            partition_index: place.1 as i32,
            committed_offset: *next,
            committed_leader_epoch: -1,
            committed_metadata: Some(""),
        });
        let parts: Vec<_> = parts.collect();
        if parts.is_empty() {
            return Ok(());
        }
        let topic = self.consumer.common.cluster.topics[self.consumer.topic as usize].name.clone();
        let named = OffsetCommitRequestTopic {
            name: &topic,
            partitions: (&parts).into(),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: &self.group,
            generation_id_or_member_epoch: self.generation,
            member_id: &self.id,
            topics: [named].into(),
            ..Default::default()
        };
        let code = {
            let answer = self.link.ask(&request).await?;
            let said = answer.decode::<OffsetCommitRequest<'_>>()?;
            let parts = said.topics.iter().flat_map(|it| it.partitions.iter().collect::<Vec<_>>());
            parts.map(|it| it.error_code).find(|it| *it != 0).unwrap_or(0)
        };
        self.pass(ApiKey::OffsetCommit, code).await.map(drop)
    }

    /// True when all is well; false when the group moves, or its coordinator does. Other errors are
    /// the end.
    async fn pass(&mut self, key: ApiKey, code: i16) -> Result<bool, LinkError> {
        if code == 0 {
            self.tries = 0;
            return Ok(true);
        }
        let forgotten = [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration];
        if forgotten.iter().any(|it| it.code() == code) {
            self.id.clear();
            self.generation = -1;
        } else if is_elsewhere(code) {
            self.link = coordinator(&self.consumer, &self.group, &mut self.tries).await?;
        } else if code != ErrorCode::RebalanceInProgress.code() {
            return refuse(key, code, &self.group).map(|()| true);
        }
        Ok(false)
    }
}

/// What a broker says that is not the coordinator, or not yet.
fn is_elsewhere(code: i16) -> bool {
    let elsewhere = [
        ErrorCode::NotCoordinator,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::CoordinatorLoadInProgress,
    ];
    elsewhere.iter().any(|it| it.code() == code)
}

async fn coordinator(consumer: &Consumer, group: &str, tries: &mut u32) -> Result<Link, LinkError> {
    let mut link = Link::open(consumer.common.cluster.bootstrap).await?;
    loop {
        let request = FindCoordinatorRequest { key: group, ..Default::default() };
        let (code, place) = {
            let answer = link.ask(&request).await?;
            let said = answer.decode::<FindCoordinatorRequest<'_>>()?;
            (said.error_code, (said.host.to_owned(), said.port as u16))
        };
        if code == 0 {
            let addr = (&place.0[..], place.1).to_socket_addrs()?.next();
            return Link::open(addr.ok_or(LinkError::Closed)?).await;
        }
        *tries += 1;
        if !is_elsewhere(code) || TRIES_MAX < *tries {
            refuse(ApiKey::FindCoordinator, code, group)?;
        }
        glommio::timer::sleep(BACKOFF).await;
    }
}

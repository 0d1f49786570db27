//! Groups as clients meet them: real frames, on a node of two lanes in the simulated world.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use corelane_core::buf::Buf;
use corelane_core::ids::{LaneId, PartitionIndex, TopicPartition};
use corelane_core::lane::{Importance, Lane, join_all};
use corelane_core::mailbox::{Port, mesh};
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::api::{Api, ApiKey};
use corelane_net::conn::{Peer, Principal, Reply, Service};
use corelane_net::frame::{decode_response, encode_request};
use corelane_net::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use corelane_net::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use corelane_net::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelane_net::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelane_net::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use corelane_net::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use corelane_net::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use corelane_net::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
};
use corelane_net::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use corelane_net::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use corelane_net::wire::{Array, Request as WireRequest, Uuid, Writer};
use corelane_storage::frame::JournalId;
use corelane_storage::log::journal::{Journal, JournalConfig};
use corelane_storage::log::store::{Store, StoreConfig};

use crate::config::args::StartArgs;
use crate::config::load::{Inputs, load};
use crate::handle::Handlers;
use crate::node::{Ask, Controller, Endpoint, Facts, Node, Tell};
use crate::topics::image::Image;

const LANES: u16 = 2;

/// The whole of a story at most, in the world's time.
const STORY: Nanos = Nanos::secs(600);

/// The range of versions that are answered.
fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let accepted = Api::of(key).accepted().expect("groups are offered");
    accepted.min..=accepted.max
}

/// A client of lane 0. Half of all groups live on the other.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) node: Node,
    peer: Rc<Peer>,
    handlers: Rc<Handlers>,
}

impl Client {
    /// The frame of the answer, without its size.
    pub(crate) async fn ask<'a, R: WireRequest<'a>>(&self, version: i16, request: &R) -> Vec<u8> {
        let mut out = Vec::new();
        encode_request(version, 7, Some("me"), request, &mut Writer::copying(&mut out))
            .expect("a request of this version");
        let reply = self.handlers.call(&self.peer, Buf::copy_of(&out)).await;
        let Reply::Answer(parts) = reply else { panic!("{:?} {version}: {reply:?}", R::KEY) };
        let mut frame = Vec::new();
        for part in parts {
            frame.extend_from_slice(&part);
        }
        frame.split_off(4)
    }

    pub(crate) async fn make_topic(&self, name: &str) -> Uuid {
        let topics = [MetadataRequestTopic { name: Some(name), ..Default::default() }];
        let request = MetadataRequest {
            topics: Some((&topics).into()),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let frame = self.ask(12, &request).await;
        let (_, told): (_, MetadataResponse<'_>) =
            decode_response(ApiKey::Metadata, 12, &frame).expect("decodes");
        told.topics.first().expect("one topic").topic_id
    }

    async fn join(&self, version: i16, group: &str, member: &str) -> (ErrorCode, i32, String) {
        let protocols = [JoinGroupRequestProtocol { name: "range", metadata: b"subscribed" }];
        let request = JoinGroupRequest {
            group_id: group,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if version == 0 { -1 } else { 60_000 },
            member_id: member,
            protocol_type: "consumer",
            protocols: (&protocols).into(),
            ..Default::default()
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, JoinGroupResponse<'_>) =
            decode_response(ApiKey::JoinGroup, version, &frame).expect("decodes");
        (error(told.error_code), told.generation_id, told.member_id.to_owned())
    }

    /// Joins as clients of this version do: those of newer ones are told their id first.
    async fn join_fully(&self, version: i16, group: &str) -> (i32, String) {
        let (mut told, mut generation, mut member) = self.join(version, group, "").await;
        if told == ErrorCode::MemberIdRequired {
            (told, generation, member) = self.join(version, group, &member).await;
        }
        assert_eq!(told, ErrorCode::None, "version {version}");
        (generation, member)
    }

    async fn sync(&self, version: i16, group: &str, generation: i32, member: &str) -> Vec<u8> {
        let assignments = [SyncGroupRequestAssignment { member_id: member, assignment: b"share" }];
        let request = SyncGroupRequest {
            group_id: group,
            generation_id: generation,
            member_id: member,
            protocol_type: (5 <= version).then_some("consumer"),
            protocol_name: (5 <= version).then_some("range"),
            assignments: (&assignments).into(),
            ..Default::default()
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, SyncGroupResponse<'_>) =
            decode_response(ApiKey::SyncGroup, version, &frame).expect("decodes");
        assert_eq!(error(told.error_code), ErrorCode::None, "version {version}");
        told.assignment.to_vec()
    }

    async fn commit(
        &self,
        version: i16,
        group: &str,
        topic: (&str, Uuid),
        partition: i32,
        offset: i64,
    ) -> ErrorCode {
        let partitions = [OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_metadata: Some("note"),
            ..Default::default()
        }];
        let topics = [OffsetCommitRequestTopic {
            name: if version < 10 { topic.0 } else { "" },
            topic_id: if version < 10 { Uuid::ZERO } else { topic.1 },
            partitions: (&partitions).into(),
        }];
        let request = OffsetCommitRequest {
            group_id: group,
            generation_id_or_member_epoch: -1,
            topics: (&topics).into(),
            ..Default::default()
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, OffsetCommitResponse<'_>) =
            decode_response(ApiKey::OffsetCommit, version, &frame).expect("decodes");
        let told = told.topics.first().expect("one topic");
        assert_eq!((told.name, told.topic_id), (topics[0].name, topics[0].topic_id));
        error(told.partitions.first().expect("one partition").error_code)
    }

    /// The offset of partition 0, and how many topics were told of; by name, or all there are.
    async fn fetch(&self, version: i16, group: &str, topic: Option<(&str, Uuid)>) -> (i64, usize) {
        let indexes = [0];
        let old = topic.map(|it| {
            [OffsetFetchRequestTopic { name: it.0, partition_indexes: (&indexes).into() }]
        });
        let new = topic.map(|it| {
            [OffsetFetchRequestTopics {
                name: if version < 10 { it.0 } else { "" },
                topic_id: if version < 10 { Uuid::ZERO } else { it.1 },
                partition_indexes: (&indexes).into(),
            }]
        });
        let groups = [OffsetFetchRequestGroup {
            group_id: group,
            topics: new.as_ref().map(Into::into),
            ..Default::default()
        }];
        let request = if version < 8 {
            let topics = old.as_ref().map(Into::into);
            OffsetFetchRequest { group_id: group, topics, ..Default::default() }
        } else {
            OffsetFetchRequest { groups: (&groups).into(), ..Default::default() }
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, OffsetFetchResponse<'_>) =
            decode_response(ApiKey::OffsetFetch, version, &frame).expect("decodes");
        if version < 8 {
            assert_eq!(error(told.error_code), ErrorCode::None);
            let first = told.topics.first().and_then(|it| it.partitions.first());
            return (first.map_or(-1, |it| it.committed_offset), told.topics.len());
        }
        let told = told.groups.first().expect("one group");
        assert_eq!((told.group_id, error(told.error_code)), (group, ErrorCode::None));
        let first = told.topics.first().and_then(|it| it.partitions.first());
        (first.map_or(-1, |it| it.committed_offset), told.topics.len())
    }

    /// State, members and operations of a group.
    async fn describe(&self, version: i16, group: &str) -> (ErrorCode, String, usize, i32) {
        let groups = [group];
        let request = DescribeGroupsRequest {
            groups: (&groups).into(),
            include_authorized_operations: 3 <= version,
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, DescribeGroupsResponse<'_>) =
            decode_response(ApiKey::DescribeGroups, version, &frame).expect("decodes");
        let told = told.groups.first().expect("one group");
        if let Some(member) = told.members.first() {
            assert_eq!((member.client_id, member.client_host), ("me", "/10.0.0.9"));
        }
        let state = told.group_state.to_owned();
        (error(told.error_code), state, told.members.len(), told.authorized_operations)
    }

    async fn list(&self, version: i16, state: Option<&str>) -> Vec<String> {
        let states: Vec<&str> = state.into_iter().collect();
        let request =
            ListGroupsRequest { states_filter: (&states).into(), types_filter: Array::empty() };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, ListGroupsResponse<'_>) =
            decode_response(ApiKey::ListGroups, version, &frame).expect("decodes");
        assert_eq!(error(told.error_code), ErrorCode::None);
        let mut groups: Vec<_> = told.groups.iter().map(|it| it.group_id.to_owned()).collect();
        groups.sort();
        groups
    }

    async fn heartbeat(
        &self,
        version: i16,
        group: &str,
        generation: i32,
        member: &str,
    ) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: group,
            generation_id: generation,
            member_id: member,
            ..Default::default()
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, HeartbeatResponse) =
            decode_response(ApiKey::Heartbeat, version, &frame).expect("decodes");
        error(told.error_code)
    }

    async fn leave(&self, version: i16, group: &str, member: &str) -> ErrorCode {
        let members = [MemberIdentity { member_id: member, ..Default::default() }];
        let request = if version < 3 {
            LeaveGroupRequest { group_id: group, member_id: member, ..Default::default() }
        } else {
            LeaveGroupRequest { group_id: group, members: (&members).into(), ..Default::default() }
        };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, LeaveGroupResponse<'_>) =
            decode_response(ApiKey::LeaveGroup, version, &frame).expect("decodes");
        assert_eq!(error(told.error_code), ErrorCode::None);
        told.members.first().map_or(ErrorCode::None, |it| error(it.error_code))
    }

    async fn delete(&self, version: i16, group: &str) -> ErrorCode {
        let names = [group];
        let request = DeleteGroupsRequest { groups_names: (&names).into() };
        let frame = self.ask(version, &request).await;
        let (_, told): (_, DeleteGroupsResponse<'_>) =
            decode_response(ApiKey::DeleteGroups, version, &frame).expect("decodes");
        error(told.results.first().expect("one group").error_code)
    }
}

fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code of the protocol")
}

/// Runs a story with a client of a fresh broker.
pub(crate) fn story<F: Future<Output = ()> + 'static>(
    tell: impl Fn(Client) -> F + Clone + 'static,
) {
    let mut world = World::new(1, Faults::none());
    let machine = world.node(LANES);
    let ports: Vec<Option<Port<Ask, Tell>>> = mesh(LANES, 64).into_iter().map(Some).collect();
    let ports = RefCell::new(ports);
    let done = Rc::new(Cell::new(false));
    world.start(machine, |lane| {
        let port = ports.borrow_mut()[usize::from(lane.id().0)].take().expect("taken once");
        let (tell, done) = (tell.clone(), Rc::clone(&done));
        async move {
            let node = node_on(&lane, port).await;
            if lane.id() == LaneId(0) {
                let controller = Controller::load(&node).await.expect("nothing to replay");
                node.lead(controller).await;
                let addr = "10.0.0.9:555".parse().expect("an address");
                let peer = Rc::new(Peer {
                    addr,
                    listener: "PLAINTEXT".into(),
                    principal: Principal::Anonymous,
                });
                let handlers = Rc::new(Handlers::new(&node));
                tell(Client { node, peer, handlers }).await;
                done.set(true);
            }
        }
    });
    assert!(world.run_to(STORY, || done.get()), "the story has an end");
}

async fn node_on(lane: &Lane, port: Port<Ask, Tell>) -> Node {
    let link = port.attach(lane);
    let metrics = Metrics::default();
    let set = [("offsets.topic.num.partitions", "8"), ("group.initial.rebalance.delay.ms", "100")];
    let args = StartArgs {
        set: set.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Default::default()
    };
    let inputs = Inputs { args, ..Inputs::default() };
    let facts = Facts {
        config: load(&inputs).expect("a good configuration"),
        cluster_id: "cluster".to_owned(),
        directory: Uuid::default(),
        data: "/data".to_owned(),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "here".to_owned(),
            port: 9092,
        }],
        lanes: NonZeroU16::new(LANES).expect("some lanes"),
        incarnation: 1,
        offline: Vec::new(),
        broken: None,
    };
    let journal = JournalConfig {
        dir: PathBuf::from(format!("/journal-{}", lane.id().0)),
        id: JournalId([lane.id().0.to_be_bytes()[1]; 16]),
        incarnation: 1,
        broken: None,
        slot_bytes: 1 << 20,
        slots_max: 64,
        carried_bytes: 0,
    };
    let journal = Journal::create(lane, journal, &metrics).await.expect("a journal");
    let config = StoreConfig { data: PathBuf::from("/data"), unfold_bytes_max: 64 << 20 };
    let store = Store::new(lane, config, journal, &metrics);
    let node = Node::new(lane, Arc::new(facts), store, link, metrics);
    lane.spawn("lanes", Importance::Serving, node.clone().serve_lanes());
    node
}

/// Ends all coordinators and lets new ones read the log.
async fn read_back(node: &Node) {
    node.on_every_lane(|node: &Node| {
        node.stop_groups();
        node.0.groups.seats.borrow_mut().clear();
        node.groups_learn(&Image::default(), &node.image());
    })
    .await;
}

#[test]
fn the_first_question_makes_the_topic_and_finds_this_node() {
    story(|client| async move {
        assert_eq!(client.list(0, None).await, [""; 0], "a listing makes nothing");
        assert!(client.node.image().topic_named("__consumer_offsets").is_none());
        for version in versions(ApiKey::FindCoordinator) {
            let keys = ["readers", "others"];
            let request = if version < 4 {
                FindCoordinatorRequest { key: "readers", ..Default::default() }
            } else {
                let coordinator_keys = (&keys).into();
                FindCoordinatorRequest { coordinator_keys, ..Default::default() }
            };
            let frame = client.ask(version, &request).await;
            let (_, told): (_, FindCoordinatorResponse<'_>) =
                decode_response(ApiKey::FindCoordinator, version, &frame).expect("decodes");
            if version < 4 {
                assert_eq!((told.error_code, told.host, told.port), (0, "here", 9092));
            } else {
                assert_eq!(told.coordinators.len(), 2);
                for (it, key) in told.coordinators.iter().zip(keys) {
                    let all = (it.key, it.error_code, it.node_id, it.host, it.port);
                    assert_eq!(all, (key, 0, client.node.id().0, "here", 9092));
                }
            }
        }
        let image = client.node.image();
        let topic = image.topic_named("__consumer_offsets").expect("made");
        assert_eq!(topic.partitions, 8);
    });
}

#[test]
fn transactions_have_no_coordinator_here_and_nonsense_has_none_anywhere() {
    story(|client| async move {
        for (version, key_type, expected) in [
            (1, 1, ErrorCode::TransactionalIdAuthorizationFailed),
            (6, 1, ErrorCode::TransactionalIdAuthorizationFailed),
            (6, 2, ErrorCode::CoordinatorNotAvailable),
            (5, 2, ErrorCode::InvalidRequest),
            (6, 9, ErrorCode::InvalidRequest),
        ] {
            let keys = ["it"];
            let request = if version < 4 {
                FindCoordinatorRequest { key: "it", key_type, ..Default::default() }
            } else {
                let coordinator_keys = (&keys).into();
                FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() }
            };
            let frame = client.ask(version, &request).await;
            let (_, told): (_, FindCoordinatorResponse<'_>) =
                decode_response(ApiKey::FindCoordinator, version, &frame).expect("decodes");
            let code = told.coordinators.first().map_or(told.error_code, |it| it.error_code);
            assert_eq!(error(code), expected, "version {version}, type {key_type}");
        }
    });
}

#[test]
fn a_member_joins_works_and_leaves_in_every_version() {
    story(|client| async move {
        for version in versions(ApiKey::JoinGroup) {
            let group = format!("group-{version}");
            let capped = |key: ApiKey| version.min(*versions(key).end());
            let (generation, member) = client.join_fully(version, &group).await;
            assert_eq!(generation, 1);
            let share = client.sync(capped(ApiKey::SyncGroup), &group, 1, &member).await;
            assert_eq!(share, b"share");
            let beat = capped(ApiKey::Heartbeat);
            assert_eq!(client.heartbeat(beat, &group, 1, &member).await, ErrorCode::None);
            let late = client.heartbeat(beat, &group, 0, &member).await;
            assert_eq!(late, ErrorCode::IllegalGeneration);
            let describe = capped(ApiKey::DescribeGroups);
            let operations = if 3 <= describe { 3400 } else { i32::MIN };
            let stable = (ErrorCode::None, "Stable".to_owned(), 1, operations);
            assert_eq!(client.describe(describe, &group).await, stable);
            let list = capped(ApiKey::ListGroups);
            assert!(client.list(list, None).await.contains(&group));
            if 4 <= list {
                assert_eq!(client.list(list, Some("Stable")).await, [group.as_str()]);
            }
            let delete = capped(ApiKey::DeleteGroups);
            assert_eq!(client.delete(delete, &group).await, ErrorCode::NonEmptyGroup);
            let leave = capped(ApiKey::LeaveGroup);
            assert_eq!(client.leave(leave, &group, &member).await, ErrorCode::None);
            assert_eq!(client.delete(delete, &group).await, ErrorCode::None);
            assert_eq!(client.delete(delete, &group).await, ErrorCode::GroupIdNotFound);
            let (told, state, _, _) = client.describe(describe, &group).await;
            let expected = if 6 <= describe { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
            assert_eq!((told, &*state), (expected, "Dead"));
        }
    });
}

#[test]
fn a_committed_offset_is_found_in_every_version() {
    story(|client| async move {
        let id = client.make_topic("events").await;
        let events = ("events", id);
        let mut offset = 40;
        for version in versions(ApiKey::OffsetCommit) {
            offset += 1;
            assert_eq!(client.commit(version, "readers", events, 0, offset).await, ErrorCode::None);
            for version in versions(ApiKey::OffsetFetch) {
                let found = client.fetch(version, "readers", Some(events)).await;
                assert_eq!(found, (offset, 1), "version {version}");
                if 2 <= version {
                    assert_eq!(client.fetch(version, "readers", None).await, (offset, 1));
                    assert_eq!(client.fetch(version, "nobody", None).await, (-1, 0));
                }
                assert_eq!(client.fetch(version, "nobody", Some(events)).await, (-1, 1));
            }
        }
    });
}

#[test]
fn what_does_not_exist_is_not_committed() {
    story(|client| async move {
        let id = client.make_topic("events").await;
        let commit = |version, topic, partition| client.commit(version, "g", topic, partition, 1);
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(commit(9, ("nothing", id), 0).await, unknown);
        assert_eq!(commit(9, ("events", id), 1).await, unknown);
        assert_eq!(commit(9, ("events", id), -1).await, unknown);
        assert_eq!(commit(10, ("", Uuid([9; 16])), 0).await, ErrorCode::UnknownTopicId);
        assert_eq!(client.fetch(9, "g", None).await, (-1, 0));
    });
}

#[test]
fn an_offset_is_forgotten_on_request() {
    story(|client| async move {
        let id = client.make_topic("events").await;
        let done = client.commit(9, "g", ("events", id), 0, 5).await;
        assert_eq!(done, ErrorCode::None);
        let partitions = [0, 7].map(|it| OffsetDeleteRequestPartition { partition_index: it });
        let topics =
            [OffsetDeleteRequestTopic { name: "events", partitions: (&partitions).into() }];
        let request = OffsetDeleteRequest { group_id: "g", topics: (&topics).into() };
        let frame = client.ask(0, &request).await;
        let (_, told): (_, OffsetDeleteResponse<'_>) =
            decode_response(ApiKey::OffsetDelete, 0, &frame).expect("decodes");
        let topic = told.topics.first().expect("one topic");
        let codes: Vec<_> = topic.partitions.iter().map(|it| error(it.error_code)).collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
        assert_eq!(client.fetch(9, "g", None).await, (-1, 0));
    });
}

#[test]
fn a_silent_member_is_missed() {
    story(|client| async move {
        let (generation, member) = client.join_fully(9, "g").await;
        client.sync(5, "g", generation, &member).await;
        client.node.lane().sleep(Nanos::secs(11)).await;
        let told = client.heartbeat(4, "g", generation, &member).await;
        assert_eq!(told, ErrorCode::UnknownMemberId);
    });
}

#[test]
fn many_members_wait_for_each_other_without_taking_all_places_between_lanes() {
    story(|client| async move {
        // More than there are places for questions between two lanes.
        const MEMBERS: usize = 100;
        for group in ["one", "two", "three", "four"] {
            let joins = (0..MEMBERS).map(|_| client.join_fully(9, group));
            let joined = join_all(joins).await;
            let first = joined[0].0;
            assert!(joined.iter().all(|it| it.0 == first), "all are of one generation");
            let (_, state, members, _) = client.describe(6, group).await;
            assert_eq!((&*state, members), ("CompletingRebalance", MEMBERS));
        }
    });
}

#[test]
fn a_new_coordinator_reads_from_the_log_what_the_old_one_told() {
    story(|client| async move {
        let id = client.make_topic("events").await;
        let mut members = Vec::new();
        for at in 0..6_i16 {
            let group = format!("g{at}");
            let (generation, member) = client.join_fully(9, &group).await;
            client.sync(5, &group, generation, &member).await;
            let offsets = format!("o{at}");
            let done = client.commit(9, &offsets, ("events", id), 0, i64::from(at)).await;
            assert_eq!(done, ErrorCode::None);
            members.push((group, generation, member, offsets));
        }
        read_back(&client.node).await;
        for (at, (group, generation, member, offsets)) in members.iter().enumerate() {
            let found = client.fetch(9, offsets, None).await;
            assert_eq!(found, (i64::try_from(at).expect("few"), 1));
            let told = client.heartbeat(4, group, *generation, member).await;
            assert_eq!(told, ErrorCode::None, "a member keeps its place");
            let (_, state, count, _) = client.describe(6, group).await;
            assert_eq!((&*state, count), ("Stable", 1));
        }
    });
}

#[test]
fn those_who_wait_are_told_when_their_coordinator_ends() {
    story(|client| async move {
        let (_, first) = client.join_fully(9, "g").await;
        let waiting = Rc::new(Cell::new(None));
        let (told, its_client) = (Rc::clone(&waiting), client.clone());
        // The second waits until the first comes back, which it does not.
        client.node.lane().spawn("second", Importance::Serving, async move {
            let (_, _, member) = its_client.join(9, "g", "").await;
            let joined = its_client.join(9, "g", &member).await;
            told.set(Some(joined.0));
        });
        client.node.lane().sleep(Nanos::secs(1)).await;
        assert_eq!(waiting.get(), None);
        client.node.on_every_lane(Node::stop_groups).await;
        client.node.lane().sleep(Nanos::millis(10)).await;
        assert_eq!(waiting.get(), Some(ErrorCode::CoordinatorNotAvailable));
        let told = client.heartbeat(4, "g", 1, &first).await;
        assert_eq!(told, ErrorCode::NotCoordinator);
    });
}

#[test]
fn groups_are_spread_over_the_lanes() {
    story(|client| async move {
        client.join_fully(9, "g").await;
        let image = client.node.image();
        let topic = image.topic_named("__consumer_offsets").expect("made");
        let homes: std::collections::BTreeSet<LaneId> = (0..8)
            .map(|it| TopicPartition { topic: topic.id, partition: PartitionIndex(it) })
            .map(|it| client.node.home(it))
            .collect();
        assert_eq!(homes.len(), usize::from(LANES), "the stories here cross lanes");
    });
}

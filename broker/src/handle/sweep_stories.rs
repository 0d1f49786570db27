//! Every version that is announced of every request is answered: one small request of each that has
//! something to do, over real frames in the simulator.

use std::collections::BTreeSet;

use corelane_net::api::{APIS, ApiKey};
use corelane_net::messages::alter_configs::{self, AlterConfigsRequest};
use corelane_net::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use corelane_net::messages::api_versions::ApiVersionsRequest;
use corelane_net::messages::create_acls::{AclCreation, CreateAclsRequest};
use corelane_net::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use corelane_net::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use corelane_net::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use corelane_net::messages::delete_groups::DeleteGroupsRequest;
use corelane_net::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use corelane_net::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use corelane_net::messages::describe_acls::DescribeAclsRequest;
use corelane_net::messages::describe_cluster::DescribeClusterRequest;
use corelane_net::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use corelane_net::messages::describe_groups::DescribeGroupsRequest;
use corelane_net::messages::describe_log_dirs::DescribeLogDirsRequest;
use corelane_net::messages::describe_quorum::{
    DescribeQuorumRequest, RequestPartitionData, RequestTopicData,
};
use corelane_net::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use corelane_net::messages::elect_leaders::ElectLeadersRequest;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::find_coordinator::FindCoordinatorRequest;
use corelane_net::messages::heartbeat::HeartbeatRequest;
use corelane_net::messages::incremental_alter_configs::{self, IncrementalAlterConfigsRequest};
use corelane_net::messages::init_producer_id::InitProducerIdRequest;
use corelane_net::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use corelane_net::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use corelane_net::messages::list_config_resources::ListConfigResourcesRequest;
use corelane_net::messages::list_groups::ListGroupsRequest;
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use corelane_net::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane_net::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use corelane_net::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use corelane_net::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::messages::sync_group::SyncGroupRequest;
use corelane_net::wire::{Records, Request};
use corelane_storage::build::BatchBuilder;

use crate::testing::{Client, answer, story};
use crate::topics::create::CLUSTER_METADATA;

const TOPIC: &str = "t";
const GROUP: &str = "g";
const A_TOPIC: i8 = 2;
const WHATEVER: i8 = 1;

/// What was asked, and what was not answered.
struct Sweep {
    client: Client,
    asked: BTreeSet<i16>,
    lost: Vec<(ApiKey, i16)>,
}

impl Sweep {
    async fn of<'a, R: Request<'a>>(&mut self, request: impl Fn(i16) -> R) {
        let versions = ApiKey::facts(R::KEY).versions;
        let api = APIS.iter().find(|it| it.key == R::KEY).expect("all are there");
        let accepted = api.accepted().expect("it is served");
        assert!(versions.min <= accepted.min && accepted.max <= versions.max);
        self.asked.insert(R::KEY.code());
        for version in accepted.min..=accepted.max {
            let mut other = self.client.another().await;
            if other.try_ask(version, &request(version)).await.is_none() {
                self.lost.push((R::KEY, version));
            }
        }
    }
}

#[test]
fn every_announced_version_is_answered() {
    story(2, |mut client| async move {
        let topics = [MetadataRequestTopic { name: Some(TOPIC), ..Default::default() }];
        let metadata = MetadataRequest {
            topics: Some(topics.into()),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let frame = client.ask(12, &metadata).await;
        let id = answer(12, &frame, &metadata).topics.first().expect("the topic").topic_id;
        let mut batch = BatchBuilder::new();
        batch.record(0, None, Some(b"value"));
        let batch = batch.build();
        let mut it = Sweep { client, asked: BTreeSet::new(), lost: Vec::new() };

        it.of(|_| metadata.clone()).await;
        it.of(|_| ApiVersionsRequest {
            client_software_name: "story",
            client_software_version: "1",
            ..Default::default()
        })
        .await;
        it.of(|_| {
            let part = PartitionProduceData { index: 0, records: Some(Records::Bytes(&batch)) };
            let topic = TopicProduceData {
                name: TOPIC,
                partition_data: [part].into(),
                ..Default::default()
            };
            ProduceRequest {
                acks: -1,
                timeout_ms: 1000,
                topic_data: [topic].into(),
                ..Default::default()
            }
        })
        .await;
        it.of(|_| {
            let part = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
            let topic = FetchTopic { topic: TOPIC, topic_id: id, partitions: [part].into() };
            FetchRequest { topics: [topic].into(), max_bytes: 1 << 20, ..Default::default() }
        })
        .await;
        for timestamp in [-1, -2, -3, 0] {
            it.of(|_| {
                let part = ListOffsetsPartition { timestamp, ..Default::default() };
                let topic = ListOffsetsTopic { name: TOPIC, partitions: [part].into() };
                ListOffsetsRequest { topics: [topic].into(), ..Default::default() }
            })
            .await;
        }
        it.of(|_| {
            let part = OffsetForLeaderPartition::default();
            let topic = OffsetForLeaderTopic { topic: TOPIC, partitions: [part].into() };
            OffsetForLeaderEpochRequest { topics: [topic].into(), ..Default::default() }
        })
        .await;
        it.of(|_| {
            let part = DeleteRecordsPartition { partition_index: 0, offset: 1 };
            let topic = DeleteRecordsTopic { name: TOPIC, partitions: [part].into() };
            DeleteRecordsRequest { topics: [topic].into(), timeout_ms: 1000 }
        })
        .await;
        it.of(|_| InitProducerIdRequest::default()).await;

        groups(&mut it, id).await;
        topics_and_configs(&mut it).await;
        acls(&mut it).await;
        it.of(|_| {
            let part = RequestPartitionData { partition_index: 0 };
            let topic =
                RequestTopicData { topic_name: CLUSTER_METADATA, partitions: [part].into() };
            DescribeQuorumRequest { topics: [topic].into() }
        })
        .await;
        it.of(|_| DescribeClusterRequest::default()).await;

        assert!(it.lost.is_empty(), "not answered: {:?}", it.lost);
        let served = APIS.iter().filter(|it| it.accepted().is_some()).map(|it| it.key.code());
        let left: Vec<_> = served.filter(|code| !it.asked.contains(code)).collect();
        assert!(left.is_empty(), "nobody asked {left:?}");
    });
}

async fn groups(it: &mut Sweep, topic_id: corelane_net::wire::Uuid) {
    it.of(|version| {
        if version < 4 {
            FindCoordinatorRequest { key: GROUP, ..Default::default() }
        } else {
            FindCoordinatorRequest { coordinator_keys: [GROUP].into(), ..Default::default() }
        }
    })
    .await;
    let names: Vec<_> = (0..20).map(|it| format!("{GROUP}-{it}")).collect();
    it.of(|version| JoinGroupRequest {
        group_id: &names[usize::from(version.unsigned_abs())],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer",
        protocols: [JoinGroupRequestProtocol { name: "range", metadata: b"m" }].into(),
        ..Default::default()
    })
    .await;
    it.of(|_| SyncGroupRequest { group_id: GROUP, member_id: "m", ..Default::default() }).await;
    it.of(|_| HeartbeatRequest { group_id: GROUP, member_id: "m", ..Default::default() }).await;
    it.of(|version| {
        let member = MemberIdentity { member_id: "m", ..Default::default() };
        if version < 3 {
            LeaveGroupRequest { group_id: GROUP, member_id: "m", ..Default::default() }
        } else {
            LeaveGroupRequest { group_id: GROUP, members: [member].into(), ..Default::default() }
        }
    })
    .await;
    it.of(|_| {
        let part = OffsetCommitRequestPartition {
            committed_offset: 1,
            committed_metadata: Some("m"),
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic { name: TOPIC, topic_id, partitions: [part].into() };
        OffsetCommitRequest { group_id: GROUP, topics: [topic].into(), ..Default::default() }
    })
    .await;
    it.of(|version| {
        if version < 8 {
            let topic = OffsetFetchRequestTopic { name: TOPIC, partition_indexes: [0].into() };
            let topics = Some([topic].into());
            return OffsetFetchRequest { group_id: GROUP, topics, ..Default::default() };
        }
        let group = OffsetFetchRequestGroup { group_id: GROUP, topics: None, ..Default::default() };
        OffsetFetchRequest { groups: [group].into(), ..Default::default() }
    })
    .await;
    it.of(|_| DescribeGroupsRequest {
        groups: [GROUP, "g-0"].into(),
        include_authorized_operations: false,
    })
    .await;
    it.of(|_| ListGroupsRequest::default()).await;
    it.of(|_| {
        let part = OffsetDeleteRequestPartition { partition_index: 0 };
        let topic = OffsetDeleteRequestTopic { name: TOPIC, partitions: [part].into() };
        OffsetDeleteRequest { group_id: GROUP, topics: [topic].into() }
    })
    .await;
    it.of(|_| DeleteGroupsRequest { groups_names: [GROUP].into() }).await;
}

async fn topics_and_configs(it: &mut Sweep) {
    let names: Vec<_> = (0..10).map(|it| format!("made-{it}")).collect();
    let names = |version: i16| names[usize::from(version.unsigned_abs())].as_str();
    it.of(|version| {
        let topic = CreatableTopic {
            name: names(version),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        CreateTopicsRequest { topics: [topic].into(), ..Default::default() }
    })
    .await;
    it.of(|version| {
        let count = 2 + i32::from(version);
        let topic = CreatePartitionsTopic { name: TOPIC, count, assignments: None };
        CreatePartitionsRequest { topics: [topic].into(), timeout_ms: 1000, validate_only: false }
    })
    .await;
    it.of(|version| {
        if version < 6 {
            let topic_names = [names(version)].into();
            return DeleteTopicsRequest { topic_names, timeout_ms: 1000, ..Default::default() };
        }
        let topic = DeleteTopicState { name: Some(names(version)), ..Default::default() };
        DeleteTopicsRequest { topics: [topic].into(), timeout_ms: 1000, ..Default::default() }
    })
    .await;
    it.of(|_| DescribeTopicPartitionsRequest {
        topics: [TopicRequest { name: TOPIC }].into(),
        ..Default::default()
    })
    .await;
    it.of(|_| {
        let resource = DescribeConfigsResource {
            resource_type: A_TOPIC,
            resource_name: TOPIC,
            configuration_keys: None,
        };
        DescribeConfigsRequest {
            resources: [resource].into(),
            include_synonyms: true,
            ..Default::default()
        }
    })
    .await;
    it.of(|_| {
        let config = alter_configs::AlterableConfig { name: "retention.ms", value: Some("1000") };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: A_TOPIC,
            resource_name: TOPIC,
            configs: [config].into(),
        };
        AlterConfigsRequest { resources: [resource].into(), validate_only: false }
    })
    .await;
    it.of(|_| {
        let config = incremental_alter_configs::AlterableConfig {
            name: "retention.ms",
            config_operation: 0,
            value: Some("2000"),
        };
        let resource = incremental_alter_configs::AlterConfigsResource {
            resource_type: A_TOPIC,
            resource_name: TOPIC,
            configs: [config].into(),
        };
        IncrementalAlterConfigsRequest { resources: [resource].into(), validate_only: false }
    })
    .await;
    it.of(|_| ListConfigResourcesRequest::default()).await;
    it.of(|_| DescribeLogDirsRequest { topics: None }).await;
    it.of(|_| ElectLeadersRequest { topic_partitions: None, ..Default::default() }).await;
    it.of(|_| {
        let part = ReassignablePartition { partition_index: 0, replicas: None };
        let topic = ReassignableTopic { name: TOPIC, partitions: [part].into() };
        AlterPartitionReassignmentsRequest { topics: [topic].into(), ..Default::default() }
    })
    .await;
    it.of(|_| ListPartitionReassignmentsRequest::default()).await;
}

async fn acls(it: &mut Sweep) {
    it.of(|_| DescribeAclsRequest {
        resource_type_filter: WHATEVER,
        pattern_type_filter: WHATEVER,
        operation: WHATEVER,
        permission_type: WHATEVER,
        ..Default::default()
    })
    .await;
    it.of(|_| {
        let acl = AclCreation {
            resource_type: A_TOPIC,
            resource_name: TOPIC,
            resource_pattern_type: 3,
            principal: "User:a",
            host: "*",
            operation: 3,
            permission_type: 3,
        };
        CreateAclsRequest { creations: [acl].into() }
    })
    .await;
    it.of(|_| {
        let filter = DeleteAclsFilter {
            resource_type_filter: WHATEVER,
            pattern_type_filter: WHATEVER,
            operation: WHATEVER,
            permission_type: WHATEVER,
            ..Default::default()
        };
        DeleteAclsRequest { filters: [filter].into() }
    })
    .await;
}

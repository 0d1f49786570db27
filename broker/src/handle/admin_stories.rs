//! Stories of a broker that is administered, over real frames in the simulator.

use corelane_core::ids::{ProducerEpoch, ProducerId};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::api::Api;
use corelane_net::messages::alter_configs::AlterConfigsRequest;
use corelane_net::messages::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use corelane_net::messages::create_acls::{AclCreation, CreateAclsRequest};
use corelane_net::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use corelane_net::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use corelane_net::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use corelane_net::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use corelane_net::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use corelane_net::messages::describe_acls::DescribeAclsRequest;
use corelane_net::messages::describe_cluster::DescribeClusterRequest;
use corelane_net::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use corelane_net::messages::describe_log_dirs::DescribeLogDirsRequest;
use corelane_net::messages::describe_quorum::{
    DescribeQuorumRequest, RequestPartitionData, RequestTopicData,
};
use corelane_net::messages::describe_topic_partitions::DescribeTopicPartitionsRequest;
use corelane_net::messages::elect_leaders::ElectLeadersRequest;
use corelane_net::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use corelane_net::messages::list_config_resources::ListConfigResourcesRequest;
use corelane_net::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use corelane_net::messages::metadata::MetadataRequest;
use corelane_net::messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Records, Request, Uuid};
use corelane_storage::build::BatchBuilder;

use super::resources::{BROKER, TOPIC};
use crate::testing::{Client, answer, story};

fn name(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a known code")
}

/// Every version that is offered is answered with something its client can read.
async fn every_version<'a, R: Request<'a>>(client: &mut Client, request: R) -> u32 {
    let accepted = Api::of(R::KEY).accepted().expect("it is offered");
    for version in accepted.min..=accepted.max {
        let frame = client.ask(version, &request).await;
        let _ = answer(version, &frame, &request);
    }
    u32::try_from(accepted.max - accepted.min + 1).expect("few")
}

#[test]
fn every_version_of_every_request_is_answered() {
    story(2, |mut client| async move {
        let c = &mut client;
        let topic = CreatableTopic {
            name: "t",
            num_partitions: 3,
            replication_factor: 1,
            ..Default::default()
        };
        let mut told = 0;
        told +=
            every_version(c, CreateTopicsRequest { topics: [topic].into(), ..Default::default() })
                .await;
        let growth = CreatePartitionsTopic { name: "t", count: 4, assignments: None };
        told += every_version(
            c,
            CreatePartitionsRequest {
                topics: [growth].into(),
                timeout_ms: 1000,
                ..Default::default()
            },
        )
        .await;
        told += every_version(c, DeleteRecordsRequest::default()).await;
        let of_topic = |name| DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: name,
            configuration_keys: None,
        };
        let of_broker = |name| DescribeConfigsResource { resource_type: BROKER, ..of_topic(name) };
        let resources = [of_topic("t"), of_topic("none"), of_broker("1"), of_broker("")];
        told += every_version(
            c,
            DescribeConfigsRequest { resources: resources.into(), ..Default::default() },
        )
        .await;
        told += every_version(c, AlterConfigsRequest::default()).await;
        told += every_version(c, IncrementalAlterConfigsRequest::default()).await;
        told += every_version(c, ListConfigResourcesRequest::default()).await;
        told += every_version(c, DescribeClusterRequest::default()).await;
        told += every_version(c, DescribeTopicPartitionsRequest::default()).await;
        told += every_version(c, DescribeLogDirsRequest::default()).await;
        told += every_version(c, DescribeQuorumRequest::default()).await;
        told += every_version(c, ElectLeadersRequest::default()).await;
        told += every_version(c, ListPartitionReassignmentsRequest::default()).await;
        told += every_version(c, AlterPartitionReassignmentsRequest::default()).await;
        told += every_version(c, DescribeAclsRequest::default()).await;
        let creations = [AclCreation::default()];
        told += every_version(c, CreateAclsRequest { creations: creations.into() }).await;
        let filters = [DeleteAclsFilter::default()];
        told += every_version(c, DeleteAclsRequest { filters: filters.into() }).await;
        told += every_version(c, OffsetForLeaderEpochRequest::default()).await;
        told += every_version(c, MetadataRequest::default()).await;
        assert!(50 < told, "the walk went empty: {told}");
    });
}

async fn create(client: &mut Client, topic: &str, partitions: i32, only_validate: bool) -> String {
    let wish = CreatableTopic {
        name: topic,
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: [wish].into(),
        validate_only: only_validate,
        ..Default::default()
    };
    let frame = client.ask(7, &request).await;
    let made = answer(7, &frame, &request).topics.first().expect("one topic");
    format!("{} {} partitions", name(made.error_code), made.num_partitions)
}

async fn delete(client: &mut Client, topic: &str) -> ErrorCode {
    let state = DeleteTopicState { name: Some(topic), ..Default::default() };
    let request =
        DeleteTopicsRequest { topics: [state].into(), timeout_ms: 1000, ..Default::default() };
    let frame = client.ask(6, &request).await;
    name(answer(6, &frame, &request).responses.first().expect("one topic").error_code)
}

#[test]
fn a_topic_is_made_once_and_gone_once() {
    story(2, |mut client| async move {
        let c = &mut client;
        assert_eq!(create(c, "t", 3, true).await, "NONE 3 partitions");
        assert_eq!(create(c, "t", 3, false).await, "NONE 3 partitions");
        assert_eq!(create(c, "t", 3, false).await, "TOPIC_ALREADY_EXISTS -1 partitions");
        assert_eq!(create(c, "no/slash", 3, false).await, "INVALID_TOPIC_EXCEPTION -1 partitions");
        assert_eq!(delete(c, "t").await, ErrorCode::None);
        assert_eq!(delete(c, "t").await, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(create(c, "t", 1, false).await, "NONE 1 partitions");
    });
}

async fn set(client: &mut Client, kind: i8, of: &str, key: &str, value: &str) -> ErrorCode {
    let config = AlterableConfig { name: key, config_operation: 0, value: Some(value) };
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: of, configs: [config].into() };
    let request =
        IncrementalAlterConfigsRequest { resources: [resource].into(), ..Default::default() };
    let frame = client.ask(1, &request).await;
    name(answer(1, &frame, &request).responses.first().expect("one resource").error_code)
}

async fn shown(client: &mut Client, topic: &str, key: &str) -> String {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic,
        configuration_keys: Some([key].into()),
    };
    let request = DescribeConfigsRequest { resources: [resource].into(), ..Default::default() };
    let frame = client.ask(4, &request).await;
    let result = answer(4, &frame, &request).results.first().expect("one resource");
    let config = result.configs.first().expect("one key");
    format!("{} from {}", config.value.unwrap_or("-"), config.config_source)
}

#[test]
fn a_value_is_heard_from_the_nearest_place() {
    story(2, |mut client| async move {
        let c = &mut client;
        create(c, "t", 1, false).await;
        assert_eq!(shown(c, "t", "retention.ms").await, "604800000 from 5");
        assert_eq!(set(c, BROKER, "", "log.retention.ms", "7").await, ErrorCode::None);
        assert_eq!(shown(c, "t", "retention.ms").await, "7 from 3");
        assert_eq!(set(c, BROKER, "1", "log.retention.ms", "8").await, ErrorCode::None);
        assert_eq!(shown(c, "t", "retention.ms").await, "8 from 2");
        assert_eq!(set(c, TOPIC, "t", "retention.ms", "9").await, ErrorCode::None);
        assert_eq!(shown(c, "t", "retention.ms").await, "9 from 1");
        assert_eq!(set(c, TOPIC, "t", "retention.ms", "soon").await, ErrorCode::InvalidConfig);
        assert_eq!(set(c, BROKER, "1", "node.id", "2").await, ErrorCode::InvalidRequest);
        assert_eq!(
            set(c, TOPIC, "none", "retention.ms", "9").await,
            ErrorCode::UnknownTopicOrPartition
        );
    });
}

#[test]
fn what_is_read_at_start_only_is_not_altered_later() {
    story(2, |mut client| async move {
        for (key, value) in [
            ("group.initial.rebalance.delay.ms", "0"),
            ("group.min.session.timeout.ms", "10"),
            ("group.max.session.timeout.ms", "1000000"),
            ("group.max.size", "5"),
            ("offset.metadata.max.bytes", "10"),
            ("offsets.retention.minutes", "10"),
            ("offsets.topic.num.partitions", "10"),
        ] {
            for of in ["", "1"] {
                let told = set(&mut client, BROKER, of, key, value).await;
                assert_eq!(told, ErrorCode::InvalidRequest, "{key}");
            }
        }
    });
}

async fn send(client: &mut Client, sequence: i32) -> ErrorCode {
    let mut batch = BatchBuilder::new();
    batch.producer(ProducerId(77), ProducerEpoch(0), sequence);
    batch.record(0, None, Some(b"value"));
    let batch = batch.build();
    let partition = PartitionProduceData { index: 0, records: Some(Records::Bytes(&batch)) };
    let topic =
        TopicProduceData { name: "t", partition_data: [partition].into(), ..Default::default() };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: [topic].into(),
        ..Default::default()
    };
    let frame = client.ask(11, &request).await;
    let topic = answer(11, &frame, &request).responses.first().expect("one topic");
    name(topic.partition_responses.first().expect("one partition").error_code)
}

#[test]
fn how_long_a_silent_producer_is_known_can_be_altered() {
    story(2, |mut client| async move {
        let c = &mut client;
        create(c, "t", 1, false).await;
        assert_eq!(send(c, 0).await, ErrorCode::None);
        c.sleep(Nanos::secs(150)).await;
        assert_eq!(send(c, 5).await, ErrorCode::OutOfOrderSequenceNumber, "it is known");
        let altered = set(c, BROKER, "", "producer.id.expiration.ms", "60000").await;
        assert_eq!(altered, ErrorCode::None);
        c.sleep(Nanos::secs(250)).await;
        assert_eq!(send(c, 5).await, ErrorCode::None, "of a stranger any sequence is the first");
    });
}

#[test]
fn the_only_voter_has_the_name_of_its_directory() {
    story(2, |mut client| async move {
        let partition = RequestPartitionData { partition_index: 0 };
        let topic =
            RequestTopicData { topic_name: "__cluster_metadata", partitions: [partition].into() };
        let request = DescribeQuorumRequest { topics: [topic].into() };
        let frame = client.ask(2, &request).await;
        let topic = answer(2, &frame, &request).topics.first().expect("one topic");
        let partition = topic.partitions.first().expect("one partition");
        let voter = partition.current_voters.first().expect("one voter");
        assert_ne!(voter.replica_directory_id, Uuid::ZERO);
        // Each start is an election.
        assert_eq!(partition.leader_epoch, 1);
    });
}

#[test]
fn records_of_an_empty_log_can_be_deleted_up_to_its_end_and_no_further() {
    story(2, |mut client| async move {
        create(&mut client, "t", 2, false).await;
        let parts = [(0, -1), (1, 5), (2, 0)]
            .map(|(partition_index, offset)| DeleteRecordsPartition { partition_index, offset });
        let topic = DeleteRecordsTopic { name: "t", partitions: parts.into() };
        let request = DeleteRecordsRequest { topics: [topic].into(), timeout_ms: 1000 };
        let frame = client.ask(2, &request).await;
        let topic = answer(2, &frame, &request).topics.first().expect("one topic");
        let told = topic.partitions.iter();
        let told: Vec<_> =
            told.map(|it| format!("{} {}", name(it.error_code), it.low_watermark)).collect();
        assert_eq!(told, ["NONE 0", "OFFSET_OUT_OF_RANGE -1", "UNKNOWN_TOPIC_OR_PARTITION -1"]);
    });
}

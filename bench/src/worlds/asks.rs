//! Somebody who asks a broker everything else, so that no request is first spoken in a storm outside
//! of the simulator. Refusals are answers; what must not be is an answer that cannot be read.

use corelane_client::ClientError;
use corelane_client::conn::Connection;
use corelane_core::lane::Lane;
use corelane_core::time::Nanos;
use corelane_net::messages::alter_configs::{self, AlterConfigsRequest};
use corelane_net::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use corelane_net::messages::create_acls::CreateAclsRequest;
use corelane_net::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use corelane_net::messages::delete_acls::DeleteAclsRequest;
use corelane_net::messages::delete_groups::DeleteGroupsRequest;
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
use corelane_net::messages::incremental_alter_configs::{self, IncrementalAlterConfigsRequest};
use corelane_net::messages::list_config_resources::ListConfigResourcesRequest;
use corelane_net::messages::list_groups::ListGroupsRequest;
use corelane_net::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use corelane_net::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use corelane_net::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelane_net::wire::Request;

use super::load::{BORN, Shared};
use super::members::GROUPS;

/// What the type of a topic is in requests about configurations.
const TOPIC: i8 = 2;

/// A topic that gets more partitions again and again.
const GROWN: &str = "grown";

const TIMEOUT_MS: i32 = 5_000;

/// Asks until the storm is over.
pub async fn ask_everything(lane: Lane, shared: Shared) {
    while !shared.over.get() {
        let asked = async {
            let connection = Connection::open(&lane, shared.broker, &shared.options()).await?;
            for question in QUESTIONS {
                lane.sleep(Nanos::millis(lane.random() % 100)).await;
                if shared.over.get() {
                    break;
                }
                question(&shared, &lane, &connection).await?;
            }
            Ok(())
        };
        if let Err(error @ (ClientError::Malformed { .. } | ClientError::Unsayable { .. })) =
            asked.await
        {
            shared.history.borrow_mut().fault(format!("malformed: {error}"));
        }
        lane.sleep(Nanos::millis(lane.random() % 500)).await;
    }
}

type Asked<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), ClientError>> + 'a>>;
type Question = for<'a> fn(&'a Shared, &'a Lane, &'a Connection) -> Asked<'a>;

const QUESTIONS: &[Question] = &[
    |_, _, to| Box::pin(about_cluster(to)),
    |shared, lane, to| Box::pin(about_topics(shared, lane, to)),
    |_, lane, to| Box::pin(about_configs(lane, to)),
    |_, _, to| Box::pin(about_replicas(to)),
    |_, _, to| Box::pin(about_groups(to)),
    |_, _, to| Box::pin(about_rights(to)),
];

async fn ask<'r, R: Request<'r>>(to: &Connection, request: R) -> Result<(), ClientError> {
    to.call(&request).await?.decode::<R::Response<'_>>().map(|_| ())
}

async fn about_cluster(to: &Connection) -> Result<(), ClientError> {
    ask(to, DescribeClusterRequest::default()).await?;
    ask(to, DescribeLogDirsRequest::default()).await?;
    let partition = RequestPartitionData { partition_index: 0 };
    let metadata =
        RequestTopicData { topic_name: "__cluster_metadata", partitions: [partition].into() };
    ask(to, DescribeQuorumRequest { topics: [metadata].into() }).await
}

async fn about_topics(shared: &Shared, lane: &Lane, to: &Connection) -> Result<(), ClientError> {
    let topic = TopicRequest { name: BORN };
    let request = DescribeTopicPartitionsRequest {
        topics: [topic].into(),
        response_partition_limit: 1,
        cursor: None,
    };
    ask(to, request).await?;
    let partition =
        OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch: 0 };
    let topic = OffsetForLeaderTopic { topic: BORN, partitions: [partition].into() };
    ask(to, OffsetForLeaderEpochRequest { replica_id: -1, topics: [topic].into() }).await?;
    // It is there from the second time on; the first time makes it.
    let client = shared.client(lane);
    let count = client.topic(GROWN).await?.leaders.len();
    let count = i32::try_from(count + 1).expect("a few");
    let topic = CreatePartitionsTopic { name: GROWN, count: count.min(8), assignments: None };
    let request = CreatePartitionsRequest {
        topics: [topic].into(),
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    };
    ask(to, request).await
}

async fn about_configs(lane: &Lane, to: &Connection) -> Result<(), ClientError> {
    ask(to, ListConfigResourcesRequest::default()).await?;
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: BORN,
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: [resource].into(),
        include_synonyms: true,
        include_documentation: false,
    };
    ask(to, request).await?;
    let value = (3_600_000 + lane.random() % 1_000_000).to_string();
    let config = incremental_alter_configs::AlterableConfig {
        name: "segment.ms",
        config_operation: 0,
        value: Some(&value),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: GROWN,
        configs: [config].into(),
    };
    let resources = [resource].into();
    ask(to, IncrementalAlterConfigsRequest { resources, validate_only: false }).await?;
    let config = alter_configs::AlterableConfig { name: "segment.ms", value: Some(&value) };
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: GROWN,
        configs: [config].into(),
    };
    let resources = [resource].into();
    ask(to, AlterConfigsRequest { resources, validate_only: false }).await
}

async fn about_replicas(to: &Connection) -> Result<(), ClientError> {
    ask(to, ElectLeadersRequest { timeout_ms: TIMEOUT_MS, ..Default::default() }).await?;
    let request = ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None };
    ask(to, request).await?;
    let partition = ReassignablePartition { partition_index: 0, replicas: None };
    let topic = ReassignableTopic { name: BORN, partitions: [partition].into() };
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: TIMEOUT_MS,
        topics: [topic].into(),
        ..Default::default()
    };
    ask(to, request).await
}

async fn about_groups(to: &Connection) -> Result<(), ClientError> {
    ask(to, ListGroupsRequest::default()).await?;
    let request = DescribeGroupsRequest {
        groups: GROUPS.as_slice().into(),
        include_authorized_operations: true,
    };
    ask(to, request).await?;
    let partition = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic { name: BORN, partitions: [partition].into() };
    let topics = [topic].into();
    ask(to, OffsetDeleteRequest { group_id: "nobody", topics }).await?;
    ask(to, DeleteGroupsRequest { groups_names: ["nobody"].into() }).await
}

async fn about_rights(to: &Connection) -> Result<(), ClientError> {
    /// Any, of each kind.
    const ANY: i8 = 1;
    let request = DescribeAclsRequest {
        resource_type_filter: ANY,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        ..Default::default()
    };
    ask(to, request).await?;
    ask(to, CreateAclsRequest::default()).await?;
    ask(to, DeleteAclsRequest::default()).await
}

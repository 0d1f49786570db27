//! The rows.

use super::needs::{Need, Operation, Resource};
use super::{Api, ApiKey, Handler, Listener, Offer};
use crate::conn::{Access, Effect};
use crate::wire::Versions;

const fn offers(
    key: ApiKey,
    handler: Handler,
    (min, max): (i16, i16),
    effect: Effect,
    needs: &'static [Need],
) -> Api {
    let versions = Versions::new(min, max);
    let offer = Offer::Versions { accepted: versions, announced: versions, handler, effect };
    Api { key, listener: Listener::Clients, needs, offer }
}

const fn lacks(key: ApiKey, what: &'static str, needs: &'static [Need]) -> Api {
    Api { key, listener: Listener::Clients, needs, offer: Offer::Lacks(what) }
}

impl Api {
    const fn announced_from(mut self, min: i16) -> Self {
        let Offer::Versions { announced, .. } = &mut self.offer else {
            panic!("what is not offered is not announced")
        };
        announced.min = min;
        self
    }

    const fn between_nodes(mut self) -> Self {
        self.listener = Listener::Nodes;
        self
    }
}

// What is lacking.

pub(super) const BETWEEN_NODES: &str = "is spoken between Kafka's own nodes";
const CONSUMER_GROUPS: &str = "consumer groups of the second generation";
const FEATURES: &str = "feature levels that can change";
const LOG_DIRS: &str = "several log directories";
const MEMBERSHIP: &str = "a cluster whose members change";
const QUOTAS: &str = "quotas";
const SECURITY: &str = "authentication";
const SHARE_GROUPS: &str = "share groups";
const STREAMS_GROUPS: &str = "streams groups";
const TELEMETRY: &str = "client telemetry";
const TRANSACTIONS: &str = "transactions";

// What requests do with what others look at.

use Access::{Add, Change, Look, None};

const FREE: Effect = Effect::FREE;
const APPENDS: Effect = Effect { metadata: Look, records: Add, groups: None };
const LOOKS_AT_RECORDS: Effect = Effect { metadata: Look, records: Look, groups: None };
const CHANGES_RECORDS: Effect = Effect { metadata: Look, records: Change, groups: None };
const LOOKS_AT_METADATA: Effect = Effect { metadata: Look, records: None, groups: None };
const CHANGES_METADATA: Effect = Effect { metadata: Change, records: None, groups: None };
/// Appends that were asked for before must not meet it.
const CHANGES_BOTH: Effect = Effect { metadata: Change, records: Change, groups: None };
const GROUPS: Effect = Effect { metadata: None, records: None, groups: Add };
/// Offsets are of topics, which have to be there.
const GROUPS_AND_NAMES: Effect = Effect { metadata: Look, records: None, groups: Add };

// What clients have to be allowed.

const ALTER_CLUSTER: Need = Need::new(Operation::Alter, Resource::Cluster);
const ALTER_CONFIGS_CLUSTER: Need = Need::new(Operation::AlterConfigs, Resource::Cluster);
const ALTER_CONFIGS_TOPIC: Need = Need::new(Operation::AlterConfigs, Resource::Topic);
const ALTER_TOPIC: Need = Need::new(Operation::Alter, Resource::Topic);
const CLUSTER_ACTION: Need = Need::new(Operation::ClusterAction, Resource::Cluster);
const CREATE_CLUSTER: Need = Need::new(Operation::Create, Resource::Cluster);
const CREATE_TOKENS_USER: Need = Need::new(Operation::CreateTokens, Resource::User);
const CREATE_TOPIC: Need = Need::new(Operation::Create, Resource::Topic);
const DELETE_GROUP: Need = Need::new(Operation::Delete, Resource::Group);
const DELETE_TOPIC: Need = Need::new(Operation::Delete, Resource::Topic);
const DESCRIBE_CLUSTER: Need = Need::new(Operation::Describe, Resource::Cluster);
const DESCRIBE_CONFIGS_CLUSTER: Need = Need::new(Operation::DescribeConfigs, Resource::Cluster);
const DESCRIBE_CONFIGS_TOPIC: Need = Need::new(Operation::DescribeConfigs, Resource::Topic);
const DESCRIBE_GROUP: Need = Need::new(Operation::Describe, Resource::Group);
const DESCRIBE_TOKEN: Need = Need::new(Operation::Describe, Resource::DelegationToken);
const DESCRIBE_TOKENS_USER: Need = Need::new(Operation::DescribeTokens, Resource::User);
const DESCRIBE_TOPIC: Need = Need::new(Operation::Describe, Resource::Topic);
const DESCRIBE_TRANSACTIONAL_ID: Need = Need::new(Operation::Describe, Resource::TransactionalId);
const IDEMPOTENT_WRITE: Need = Need::new(Operation::IdempotentWrite, Resource::Cluster);
const READ_GROUP: Need = Need::new(Operation::Read, Resource::Group);
const READ_TOPIC: Need = Need::new(Operation::Read, Resource::Topic);
const WRITE_TOPIC: Need = Need::new(Operation::Write, Resource::Topic);
const WRITE_TRANSACTIONAL_ID: Need = Need::new(Operation::Write, Resource::TransactionalId);

/// Every key that is alive, in order.
///
/// Old librdkafka switches compression off unless Produce 0 is announced, although Kafka has
/// long stopped answering it; so it is announced. Produce 12 would tell clients that
/// transactions of the second kind work. Metadata makes topics that are missing. ElectLeaders needs what
/// Kafka asks for it, which is not what its documents say.
pub const APIS: &[Api] = &[
    offers(
        ApiKey::Produce,
        Handler::Produce,
        (3, 11),
        APPENDS,
        &[
            WRITE_TOPIC,
            IDEMPOTENT_WRITE.only("idempotent"),
            WRITE_TRANSACTIONAL_ID.only("transactional"),
        ],
    )
    .announced_from(0),
    offers(
        ApiKey::Fetch,
        Handler::Fetch,
        (4, 18),
        LOOKS_AT_RECORDS,
        &[READ_TOPIC.only("consumers"), CLUSTER_ACTION.only("followers")],
    ),
    offers(ApiKey::ListOffsets, Handler::ListOffsets, (1, 11), LOOKS_AT_RECORDS, &[DESCRIBE_TOPIC]),
    offers(
        ApiKey::Metadata,
        Handler::Metadata,
        (0, 13),
        CHANGES_METADATA,
        &[DESCRIBE_TOPIC, CREATE_CLUSTER.only("of missing topics"), CREATE_TOPIC.or_else()],
    ),
    offers(
        ApiKey::OffsetCommit,
        Handler::OffsetCommit,
        (2, 10),
        GROUPS_AND_NAMES,
        &[READ_GROUP, READ_TOPIC],
    ),
    offers(
        ApiKey::OffsetFetch,
        Handler::OffsetFetch,
        (1, 10),
        GROUPS_AND_NAMES,
        &[DESCRIBE_GROUP, DESCRIBE_TOPIC],
    ),
    offers(
        ApiKey::FindCoordinator,
        Handler::FindCoordinator,
        (0, 6),
        FREE,
        &[DESCRIBE_GROUP.only("of groups"), DESCRIBE_TRANSACTIONAL_ID.only("of transactions")],
    ),
    offers(ApiKey::JoinGroup, Handler::JoinGroup, (0, 9), GROUPS, &[READ_GROUP]),
    offers(ApiKey::Heartbeat, Handler::Heartbeat, (0, 4), GROUPS, &[READ_GROUP]),
    offers(ApiKey::LeaveGroup, Handler::LeaveGroup, (0, 5), GROUPS, &[READ_GROUP]),
    offers(ApiKey::SyncGroup, Handler::SyncGroup, (0, 5), GROUPS, &[READ_GROUP]),
    offers(ApiKey::DescribeGroups, Handler::DescribeGroups, (0, 6), GROUPS, &[DESCRIBE_GROUP]),
    offers(
        ApiKey::ListGroups,
        Handler::ListGroups,
        (0, 5),
        GROUPS,
        &[DESCRIBE_CLUSTER, DESCRIBE_GROUP.or_else()],
    ),
    lacks(ApiKey::SaslHandshake, SECURITY, &[]),
    offers(ApiKey::ApiVersions, Handler::ApiVersions, (0, 4), FREE, &[]),
    offers(
        ApiKey::CreateTopics,
        Handler::CreateTopics,
        (2, 7),
        CHANGES_METADATA,
        &[CREATE_CLUSTER, CREATE_TOPIC.or_else()],
    ),
    offers(ApiKey::DeleteTopics, Handler::DeleteTopics, (1, 6), CHANGES_BOTH, &[DELETE_TOPIC]),
    offers(ApiKey::DeleteRecords, Handler::DeleteRecords, (0, 2), CHANGES_RECORDS, &[DELETE_TOPIC]),
    offers(
        ApiKey::InitProducerId,
        Handler::InitProducerId,
        (0, 5),
        FREE,
        &[IDEMPOTENT_WRITE.only("idempotent"), WRITE_TRANSACTIONAL_ID.only("transactional")],
    ),
    offers(
        ApiKey::OffsetForLeaderEpoch,
        Handler::OffsetForLeaderEpoch,
        (2, 4),
        LOOKS_AT_RECORDS,
        &[CLUSTER_ACTION, DESCRIBE_TOPIC.or_else()],
    ),
    lacks(ApiKey::AddPartitionsToTxn, TRANSACTIONS, &[WRITE_TRANSACTIONAL_ID, WRITE_TOPIC]),
    lacks(ApiKey::AddOffsetsToTxn, TRANSACTIONS, &[WRITE_TRANSACTIONAL_ID, READ_GROUP]),
    lacks(ApiKey::EndTxn, TRANSACTIONS, &[WRITE_TRANSACTIONAL_ID]),
    lacks(ApiKey::WriteTxnMarkers, TRANSACTIONS, &[ALTER_CLUSTER, CLUSTER_ACTION.or_else()])
        .between_nodes(),
    lacks(ApiKey::TxnOffsetCommit, TRANSACTIONS, &[WRITE_TRANSACTIONAL_ID, READ_GROUP, READ_TOPIC]),
    offers(
        ApiKey::DescribeAcls,
        Handler::DescribeAcls,
        (1, 3),
        LOOKS_AT_METADATA,
        &[DESCRIBE_CLUSTER],
    ),
    offers(ApiKey::CreateAcls, Handler::CreateAcls, (1, 3), CHANGES_METADATA, &[ALTER_CLUSTER]),
    offers(ApiKey::DeleteAcls, Handler::DeleteAcls, (1, 3), CHANGES_METADATA, &[ALTER_CLUSTER]),
    offers(
        ApiKey::DescribeConfigs,
        Handler::DescribeConfigs,
        (1, 4),
        LOOKS_AT_METADATA,
        &[DESCRIBE_CONFIGS_CLUSTER.only("of brokers"), DESCRIBE_CONFIGS_TOPIC.only("of topics")],
    ),
    offers(
        ApiKey::AlterConfigs,
        Handler::AlterConfigs,
        (0, 2),
        CHANGES_BOTH,
        &[ALTER_CONFIGS_CLUSTER.only("of brokers"), ALTER_CONFIGS_TOPIC.only("of topics")],
    ),
    lacks(ApiKey::AlterReplicaLogDirs, LOG_DIRS, &[ALTER_CLUSTER]),
    offers(
        ApiKey::DescribeLogDirs,
        Handler::DescribeLogDirs,
        (1, 5),
        LOOKS_AT_RECORDS,
        &[DESCRIBE_CLUSTER],
    ),
    lacks(ApiKey::SaslAuthenticate, SECURITY, &[]),
    offers(
        ApiKey::CreatePartitions,
        Handler::CreatePartitions,
        (0, 3),
        CHANGES_METADATA,
        &[ALTER_TOPIC],
    ),
    lacks(ApiKey::CreateDelegationToken, SECURITY, &[CREATE_TOKENS_USER.only("for others")]),
    lacks(ApiKey::RenewDelegationToken, SECURITY, &[]),
    lacks(ApiKey::ExpireDelegationToken, SECURITY, &[]),
    lacks(
        ApiKey::DescribeDelegationToken,
        SECURITY,
        &[DESCRIBE_TOKEN, DESCRIBE_TOKENS_USER.only("of others")],
    ),
    offers(ApiKey::DeleteGroups, Handler::DeleteGroups, (0, 2), GROUPS, &[DELETE_GROUP]),
    offers(ApiKey::ElectLeaders, Handler::ElectLeaders, (0, 2), CHANGES_METADATA, &[ALTER_CLUSTER]),
    offers(
        ApiKey::IncrementalAlterConfigs,
        Handler::IncrementalAlterConfigs,
        (0, 1),
        CHANGES_BOTH,
        &[ALTER_CONFIGS_CLUSTER.only("of brokers"), ALTER_CONFIGS_TOPIC.only("of topics")],
    ),
    offers(
        ApiKey::AlterPartitionReassignments,
        Handler::AlterPartitionReassignments,
        (0, 1),
        CHANGES_METADATA,
        &[ALTER_CLUSTER],
    ),
    offers(
        ApiKey::ListPartitionReassignments,
        Handler::ListPartitionReassignments,
        (0, 0),
        LOOKS_AT_METADATA,
        &[DESCRIBE_CLUSTER],
    ),
    offers(
        ApiKey::OffsetDelete,
        Handler::OffsetDelete,
        (0, 0),
        GROUPS_AND_NAMES,
        &[DELETE_GROUP, READ_TOPIC],
    ),
    lacks(ApiKey::DescribeClientQuotas, QUOTAS, &[DESCRIBE_CONFIGS_CLUSTER]),
    lacks(ApiKey::AlterClientQuotas, QUOTAS, &[ALTER_CONFIGS_CLUSTER]),
    lacks(ApiKey::DescribeUserScramCredentials, SECURITY, &[DESCRIBE_CLUSTER]),
    lacks(ApiKey::AlterUserScramCredentials, SECURITY, &[ALTER_CLUSTER]),
    lacks(ApiKey::Vote, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::BeginQuorumEpoch, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::EndQuorumEpoch, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    offers(
        ApiKey::DescribeQuorum,
        Handler::DescribeQuorum,
        (0, 2),
        LOOKS_AT_METADATA,
        &[DESCRIBE_CLUSTER],
    ),
    lacks(ApiKey::AlterPartition, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::UpdateFeatures, FEATURES, &[ALTER_CLUSTER]),
    lacks(ApiKey::Envelope, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::FetchSnapshot, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    offers(
        ApiKey::DescribeCluster,
        Handler::DescribeCluster,
        (0, 2),
        LOOKS_AT_METADATA,
        &[DESCRIBE_CLUSTER],
    ),
    lacks(ApiKey::DescribeProducers, TRANSACTIONS, &[READ_TOPIC]),
    lacks(ApiKey::BrokerRegistration, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::BrokerHeartbeat, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::UnregisterBroker, MEMBERSHIP, &[ALTER_CLUSTER]),
    lacks(ApiKey::DescribeTransactions, TRANSACTIONS, &[DESCRIBE_TRANSACTIONAL_ID]),
    lacks(ApiKey::ListTransactions, TRANSACTIONS, &[DESCRIBE_TRANSACTIONAL_ID]),
    lacks(ApiKey::AllocateProducerIds, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::ConsumerGroupHeartbeat, CONSUMER_GROUPS, &[READ_GROUP]),
    lacks(ApiKey::ConsumerGroupDescribe, CONSUMER_GROUPS, &[DESCRIBE_GROUP]),
    lacks(ApiKey::ControllerRegistration, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::GetTelemetrySubscriptions, TELEMETRY, &[]),
    lacks(ApiKey::PushTelemetry, TELEMETRY, &[]),
    lacks(ApiKey::AssignReplicasToDirs, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    offers(
        ApiKey::ListConfigResources,
        Handler::ListConfigResources,
        (0, 1),
        LOOKS_AT_METADATA,
        &[DESCRIBE_CONFIGS_CLUSTER],
    ),
    offers(
        ApiKey::DescribeTopicPartitions,
        Handler::DescribeTopicPartitions,
        (0, 0),
        LOOKS_AT_METADATA,
        &[DESCRIBE_TOPIC],
    ),
    lacks(ApiKey::ShareGroupHeartbeat, SHARE_GROUPS, &[READ_GROUP]),
    lacks(ApiKey::ShareGroupDescribe, SHARE_GROUPS, &[DESCRIBE_GROUP]),
    lacks(ApiKey::ShareFetch, SHARE_GROUPS, &[READ_GROUP, READ_TOPIC]),
    lacks(ApiKey::ShareAcknowledge, SHARE_GROUPS, &[READ_GROUP, READ_TOPIC]),
    lacks(ApiKey::AddRaftVoter, MEMBERSHIP, &[ALTER_CLUSTER]),
    lacks(ApiKey::RemoveRaftVoter, MEMBERSHIP, &[ALTER_CLUSTER]),
    lacks(ApiKey::UpdateRaftVoter, BETWEEN_NODES, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::InitializeShareGroupState, SHARE_GROUPS, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::ReadShareGroupState, SHARE_GROUPS, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::WriteShareGroupState, SHARE_GROUPS, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::DeleteShareGroupState, SHARE_GROUPS, &[CLUSTER_ACTION]).between_nodes(),
    lacks(ApiKey::ReadShareGroupStateSummary, SHARE_GROUPS, &[CLUSTER_ACTION]).between_nodes(),
    lacks(
        ApiKey::StreamsGroupHeartbeat,
        STREAMS_GROUPS,
        &[READ_GROUP, DESCRIBE_TOPIC, CREATE_TOPIC.only("of internal topics")],
    ),
    lacks(ApiKey::StreamsGroupDescribe, STREAMS_GROUPS, &[DESCRIBE_GROUP, DESCRIBE_TOPIC]),
    lacks(ApiKey::DescribeShareGroupOffsets, SHARE_GROUPS, &[DESCRIBE_GROUP, DESCRIBE_TOPIC]),
    lacks(ApiKey::AlterShareGroupOffsets, SHARE_GROUPS, &[READ_GROUP, READ_TOPIC]),
    lacks(ApiKey::DeleteShareGroupOffsets, SHARE_GROUPS, &[DELETE_GROUP, READ_TOPIC]),
    lacks(ApiKey::StreamsGroupTopologyDescriptionUpdate, STREAMS_GROUPS, &[READ_GROUP]),
    lacks(ApiKey::UnregisterController, MEMBERSHIP, &[ALTER_CLUSTER]),
];

//! What each request does with what later requests of its connection look at.

use corelane_net::api::ApiKey;
use corelane_net::conn::Effect;

/// A key that nobody thought of keeps the strictest order.
pub(super) fn effect(key: ApiKey) -> Effect {
    match key {
        ApiKey::Produce => Effect::Append,
        ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeAcls
        | ApiKey::DescribeCluster
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeLogDirs
        | ApiKey::DescribeQuorum
        | ApiKey::DescribeTopicPartitions
        | ApiKey::ListConfigResources
        | ApiKey::ListPartitionReassignments => Effect::Look,
        // Groups keep the order of their offsets themselves; topics are theirs to name only.
        ApiKey::OffsetCommit | ApiKey::OffsetDelete | ApiKey::OffsetFetch => Effect::Name,
        ApiKey::ApiVersions
        | ApiKey::DeleteGroups
        | ApiKey::DescribeGroups
        | ApiKey::FindCoordinator
        | ApiKey::Heartbeat
        | ApiKey::InitProducerId
        | ApiKey::JoinGroup
        | ApiKey::LeaveGroup
        | ApiKey::ListGroups
        | ApiKey::SyncGroup => Effect::Free,
        // Metadata is among them: it makes topics that are missing.
        _ => Effect::Change,
    }
}

//! Which requests this broker offers: one table, and what is derived from it.
//!
//! A row says of one key which versions are accepted and which are announced; nothing else in
//! the project decides that. What the protocol knows of a key, offered or not, is
//! [`ApiKey::facts`]. Handlers and authorization are attached by the broker.

use crate::{
    ErrorCode,
    messages::api_versions::{ApiVersion, ApiVersionsResponse},
    wire::Versions,
};
use std::fmt::Write;

pub use crate::messages::api_key::{ApiKey, Facts};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    pub offer: Offer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Requests in these versions are answered.
    Versions {
        accepted: Versions,
        /// What ApiVersions says. Wider than `accepted` only where clients need to be told so.
        announced: Versions,
    },
    /// Not offered, for want of this.
    Lacks(&'static str),
}

impl Api {
    /// Whether a request in this version is answered.
    #[must_use]
    pub const fn accepts(&self, version: i16) -> bool {
        match self.offer {
            Offer::Versions { accepted, .. } => accepted.contains(version),
            Offer::Lacks(_) => false,
        }
    }

    #[must_use]
    pub const fn accepted(&self) -> Option<Versions> {
        match self.offer {
            Offer::Versions { accepted, .. } => Some(accepted),
            Offer::Lacks(_) => None,
        }
    }

    #[must_use]
    pub const fn announced(&self) -> Option<Versions> {
        match self.offer {
            Offer::Versions { announced, .. } => Some(announced),
            Offer::Lacks(_) => None,
        }
    }

    /// The row of a key, without a search.
    #[must_use]
    pub const fn of(key: ApiKey) -> &'static Self {
        &APIS[place(key.code())]
    }
}

/// Four keys of the protocol's youth are dead; the rows close up behind them.
const fn place(code: i16) -> usize {
    (if code < 4 { code } else { code - 4 }) as usize
}

const _: () = {
    assert!(APIS.len() == ApiKey::ALL.len());
    let mut at = 0;
    while at < APIS.len() {
        assert!(place(APIS[at].key.code()) == at, "a row is not where its key leads");
        if let Offer::Versions { accepted, announced } = APIS[at].offer {
            let known = APIS[at].key.facts().versions;
            assert!(known.min <= accepted.min && accepted.max <= known.max);
            assert!(announced.min <= accepted.min && accepted.max == announced.max);
        }
        at += 1;
    }
};

const fn from(key: ApiKey, min: i16, max: i16) -> Api {
    let versions = Versions::new(min, max);
    Api { key, offer: Offer::Versions { accepted: versions, announced: versions } }
}

const fn lacks(key: ApiKey, what: &'static str) -> Api {
    Api { key, offer: Offer::Lacks(what) }
}

const BETWEEN_NODES: &str = "is spoken between Kafka's own nodes";
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

/// Every key that is alive, in order.
///
/// Old librdkafka switches compression off unless Produce 0 is announced, although Kafka has
/// long stopped answering it; so it is announced. Produce 12 would tell clients that
/// transactions of the second kind work.
pub const APIS: &[Api] = &[
    Api {
        key: ApiKey::Produce,
        offer: Offer::Versions { accepted: Versions::new(3, 11), announced: Versions::new(0, 11) },
    },
    from(ApiKey::Fetch, 4, 18),
    from(ApiKey::ListOffsets, 1, 11),
    from(ApiKey::Metadata, 0, 13),
    from(ApiKey::OffsetCommit, 2, 10),
    from(ApiKey::OffsetFetch, 1, 10),
    from(ApiKey::FindCoordinator, 0, 6),
    from(ApiKey::JoinGroup, 0, 9),
    from(ApiKey::Heartbeat, 0, 4),
    from(ApiKey::LeaveGroup, 0, 5),
    from(ApiKey::SyncGroup, 0, 5),
    from(ApiKey::DescribeGroups, 0, 6),
    from(ApiKey::ListGroups, 0, 5),
    lacks(ApiKey::SaslHandshake, SECURITY),
    from(ApiKey::ApiVersions, 0, 4),
    from(ApiKey::CreateTopics, 2, 7),
    from(ApiKey::DeleteTopics, 1, 6),
    from(ApiKey::DeleteRecords, 0, 2),
    from(ApiKey::InitProducerId, 0, 5),
    from(ApiKey::OffsetForLeaderEpoch, 2, 4),
    lacks(ApiKey::AddPartitionsToTxn, TRANSACTIONS),
    lacks(ApiKey::AddOffsetsToTxn, TRANSACTIONS),
    lacks(ApiKey::EndTxn, TRANSACTIONS),
    lacks(ApiKey::WriteTxnMarkers, TRANSACTIONS),
    lacks(ApiKey::TxnOffsetCommit, TRANSACTIONS),
    from(ApiKey::DescribeAcls, 1, 3),
    from(ApiKey::CreateAcls, 1, 3),
    from(ApiKey::DeleteAcls, 1, 3),
    from(ApiKey::DescribeConfigs, 1, 4),
    from(ApiKey::AlterConfigs, 0, 2),
    lacks(ApiKey::AlterReplicaLogDirs, LOG_DIRS),
    from(ApiKey::DescribeLogDirs, 1, 5),
    lacks(ApiKey::SaslAuthenticate, SECURITY),
    from(ApiKey::CreatePartitions, 0, 3),
    lacks(ApiKey::CreateDelegationToken, SECURITY),
    lacks(ApiKey::RenewDelegationToken, SECURITY),
    lacks(ApiKey::ExpireDelegationToken, SECURITY),
    lacks(ApiKey::DescribeDelegationToken, SECURITY),
    from(ApiKey::DeleteGroups, 0, 2),
    from(ApiKey::ElectLeaders, 0, 2),
    from(ApiKey::IncrementalAlterConfigs, 0, 1),
    from(ApiKey::AlterPartitionReassignments, 0, 1),
    from(ApiKey::ListPartitionReassignments, 0, 0),
    from(ApiKey::OffsetDelete, 0, 0),
    lacks(ApiKey::DescribeClientQuotas, QUOTAS),
    lacks(ApiKey::AlterClientQuotas, QUOTAS),
    lacks(ApiKey::DescribeUserScramCredentials, SECURITY),
    lacks(ApiKey::AlterUserScramCredentials, SECURITY),
    lacks(ApiKey::Vote, BETWEEN_NODES),
    lacks(ApiKey::BeginQuorumEpoch, BETWEEN_NODES),
    lacks(ApiKey::EndQuorumEpoch, BETWEEN_NODES),
    from(ApiKey::DescribeQuorum, 0, 2),
    lacks(ApiKey::AlterPartition, BETWEEN_NODES),
    lacks(ApiKey::UpdateFeatures, FEATURES),
    lacks(ApiKey::Envelope, BETWEEN_NODES),
    lacks(ApiKey::FetchSnapshot, BETWEEN_NODES),
    from(ApiKey::DescribeCluster, 0, 2),
    lacks(ApiKey::DescribeProducers, TRANSACTIONS),
    lacks(ApiKey::BrokerRegistration, BETWEEN_NODES),
    lacks(ApiKey::BrokerHeartbeat, BETWEEN_NODES),
    lacks(ApiKey::UnregisterBroker, MEMBERSHIP),
    lacks(ApiKey::DescribeTransactions, TRANSACTIONS),
    lacks(ApiKey::ListTransactions, TRANSACTIONS),
    lacks(ApiKey::AllocateProducerIds, BETWEEN_NODES),
    lacks(ApiKey::ConsumerGroupHeartbeat, CONSUMER_GROUPS),
    lacks(ApiKey::ConsumerGroupDescribe, CONSUMER_GROUPS),
    lacks(ApiKey::ControllerRegistration, BETWEEN_NODES),
    lacks(ApiKey::GetTelemetrySubscriptions, TELEMETRY),
    lacks(ApiKey::PushTelemetry, TELEMETRY),
    lacks(ApiKey::AssignReplicasToDirs, BETWEEN_NODES),
    from(ApiKey::ListConfigResources, 0, 1),
    from(ApiKey::DescribeTopicPartitions, 0, 0),
    lacks(ApiKey::ShareGroupHeartbeat, SHARE_GROUPS),
    lacks(ApiKey::ShareGroupDescribe, SHARE_GROUPS),
    lacks(ApiKey::ShareFetch, SHARE_GROUPS),
    lacks(ApiKey::ShareAcknowledge, SHARE_GROUPS),
    lacks(ApiKey::AddRaftVoter, MEMBERSHIP),
    lacks(ApiKey::RemoveRaftVoter, MEMBERSHIP),
    lacks(ApiKey::UpdateRaftVoter, BETWEEN_NODES),
    lacks(ApiKey::InitializeShareGroupState, SHARE_GROUPS),
    lacks(ApiKey::ReadShareGroupState, SHARE_GROUPS),
    lacks(ApiKey::WriteShareGroupState, SHARE_GROUPS),
    lacks(ApiKey::DeleteShareGroupState, SHARE_GROUPS),
    lacks(ApiKey::ReadShareGroupStateSummary, SHARE_GROUPS),
    lacks(ApiKey::StreamsGroupHeartbeat, STREAMS_GROUPS),
    lacks(ApiKey::StreamsGroupDescribe, STREAMS_GROUPS),
    lacks(ApiKey::DescribeShareGroupOffsets, SHARE_GROUPS),
    lacks(ApiKey::AlterShareGroupOffsets, SHARE_GROUPS),
    lacks(ApiKey::DeleteShareGroupOffsets, SHARE_GROUPS),
    lacks(ApiKey::StreamsGroupTopologyDescriptionUpdate, STREAMS_GROUPS),
    lacks(ApiKey::UnregisterController, MEMBERSHIP),
];

/// The answer to ApiVersions: every offered key that brokers answer. Features are the caller's
/// to add.
#[must_use]
pub fn api_versions<'a>() -> ApiVersionsResponse<'a> {
    let keys = APIS.iter().filter(|it| it.key.facts().broker);
    let ranges = keys.filter_map(|it| Some((it.key.code(), it.announced()?)));
    let api_keys = ranges.map(|(api_key, it)| ApiVersion {
        api_key,
        min_version: it.min,
        max_version: it.max,
    });
    ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() }
}

/// The answer to ApiVersions in a version that nobody knows. It must be written in version 0:
/// that, clients of every age can read, and they ask again.
#[must_use]
pub fn api_versions_refusal() -> ApiVersionsResponse<'static> {
    let known = Api::of(ApiKey::ApiVersions).announced().expect("without it no client comes far");
    let range = ApiVersion {
        api_key: ApiKey::ApiVersions.code(),
        min_version: known.min,
        max_version: known.max,
    };
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: [range].into(),
        ..Default::default()
    }
}

/// The table as a page of documentation.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(
        "# Requests\n\n\
         Which of the protocol's requests Corelane answers, and in which versions. This page is\n\
         printed from the table that the broker itself uses.\n\n\
         A client need not wait for an answer before it asks on. On one connection requests take effect\n\
         in the order in which they came, and a later one sees what an earlier one did, and waits for\n\
         it where it has to. Records sent with `acks=0` are the exception. They are appended in their\n\
         order, but nobody waits until they are durable: who asks right behind them may not see them yet.\n\n\
         There are no transactions yet. A producer with a transactional id is told so when it looks for its\n\
         coordinator (FindCoordinator: 53 with a message), for at that code every client gives up at once.\n\n\
         Batches of the older versions 0 and 1 are refused (87), and so is zstd in Produce requests before\n\
         version 7 (76). Fetch gives what is stored to readers of every version.\n\n\
         | key | request | versions answered | versions there are | remarks |\n\
         | --: | --- | --- | --- | --- |\n",
    );
    for api in APIS {
        let Facts { name, versions, latest_is_unstable, .. } = api.key.facts();
        let accepted = api.accepted().map_or_else(|| "-".to_owned(), |it| it.to_string());
        let mut remarks = Vec::new();
        match api.offer {
            Offer::Versions { accepted, announced } if accepted != announced => {
                remarks.push(format!("announced as {announced}"));
            }
            Offer::Versions { .. } => {}
            Offer::Lacks(BETWEEN_NODES) => remarks.push(BETWEEN_NODES.to_owned()),
            Offer::Lacks(what) => remarks.push(format!("waits for {what}")),
        }
        if latest_is_unstable {
            remarks.push(format!("{} is not final", versions.max));
        }
        let (key, remarks) = (api.key.code(), remarks.join("; "));
        writeln!(page, "| {key} | {name} | {accepted} | {versions} | {remarks} |")
            .expect("a string takes all that is written");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_finds_its_row() {
        for &key in ApiKey::ALL {
            assert_eq!(Api::of(key).key, key);
            assert_eq!(ApiKey::from_code(key.code()), Some(key));
        }
        for dead in [-1, 4, 5, 6, 7, 95, i16::MAX, i16::MIN] {
            assert_eq!(ApiKey::from_code(dead), None);
        }
    }

    #[test]
    fn produce_zero_is_announced_and_refused() {
        let produce = Api::of(ApiKey::Produce);
        assert_eq!(produce.announced(), Some(Versions::new(0, 11)));
        assert!(!produce.accepts(2) && produce.accepts(3) && !produce.accepts(12));
    }

    #[test]
    fn no_version_that_may_still_change_is_offered() {
        for api in APIS {
            let facts = api.key.facts();
            if facts.latest_is_unstable {
                assert!(!api.accepts(facts.versions.max), "{} is offered", facts.name);
            }
        }
    }

    #[test]
    fn brokers_do_not_announce_what_only_controllers_answer() {
        let answer = api_versions();
        assert_eq!(
            answer.api_keys.len(),
            APIS.iter().filter(|it| it.announced().is_some()).count()
        );
        for range in &answer.api_keys {
            let key = ApiKey::from_code(range.api_key).expect("announced keys are alive");
            assert!(key.facts().broker);
        }
    }
}

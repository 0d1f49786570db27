//! Which requests this broker offers: one table, and what is derived from it.
//!
//! A row says of one key which versions are accepted and which are announced, who serves it, by which
//! listeners it may come, what it does with what others look at, and what its client has to be allowed;
//! nothing else in the project decides that. What the protocol knows of a key, offered or not, is
//! [`ApiKey::facts`]. A [`Handler`] names whoever serves a request; the broker has one for each, which
//! its compiler sees to.
//!
//! What a client has to be allowed is written down and not asked yet: there is no authorizer.

mod needs;
mod page;
mod table;

use crate::{
    ErrorCode,
    conn::Effect,
    messages::api_versions::{ApiVersion, ApiVersionsResponse},
    wire::Versions,
};

pub use crate::messages::api_key::{ApiKey, Facts};
pub use needs::{Need, Operation, Resource, When};
pub use page::documentation;
pub use table::APIS;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    /// By which listeners it may come.
    pub listener: Listener,
    /// What a client has to be allowed, in the order in which it is asked. Nobody asks yet.
    pub needs: &'static [Need],
    pub offer: Offer,
}

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Anybody. So far every listener is one of these.
    Clients,
    /// Kafka's own nodes speak it to each other. No client's listener ever serves it.
    Nodes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Requests in these versions are answered.
    Versions {
        accepted: Versions,
        /// What ApiVersions says. Wider than `accepted` only where clients need to be told so.
        announced: Versions,
        handler: Handler,
        effect: Effect,
    },
    /// Not offered, for want of this.
    Lacks(&'static str),
}

/// Who serves a request that is offered: one for each, named as its key and in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DeleteRecords,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeAcls,
    CreateAcls,
    DeleteAcls,
    DescribeConfigs,
    AlterConfigs,
    DescribeLogDirs,
    CreatePartitions,
    DeleteGroups,
    ElectLeaders,
    IncrementalAlterConfigs,
    AlterPartitionReassignments,
    ListPartitionReassignments,
    OffsetDelete,
    DescribeQuorum,
    DescribeCluster,
    ListConfigResources,
    DescribeTopicPartitions,
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

    /// Who serves it.
    #[must_use]
    pub const fn handler(&self) -> Option<Handler> {
        match self.offer {
            Offer::Versions { handler, .. } => Some(handler),
            Offer::Lacks(_) => None,
        }
    }

    /// What it does with what others of its connection look at. What is not offered does nothing.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        match self.offer {
            Offer::Versions { effect, .. } => effect,
            Offer::Lacks(_) => Effect::FREE,
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

/// Handlers there are. The last one is of the newest key.
const HANDLERS: usize = Handler::DescribeTopicPartitions as usize + 1;

const _: () = {
    assert!(APIS.len() == ApiKey::ALL.len());
    let (mut at, mut handlers) = (0, 0);
    while at < APIS.len() {
        assert!(place(APIS[at].key.code()) == at, "a row is not where its key leads");
        if let Offer::Versions { accepted, announced, handler, .. } = APIS[at].offer {
            let known = APIS[at].key.facts().versions;
            assert!(known.min <= accepted.min && accepted.max <= known.max);
            assert!(announced.min <= accepted.min && accepted.max == announced.max);
            assert!(matches!(APIS[at].listener, Listener::Clients), "nothing else listens");
            assert!(handler as usize == handlers, "a handler is of another row, or of none");
            handlers += 1;
        }
        at += 1;
    }
    assert!(handlers == HANDLERS, "a handler is of no row");
};

/// The answer to ApiVersions: every offered key that brokers answer. Features are the caller's
/// to add.
#[must_use]
pub fn api_versions<'a>() -> ApiVersionsResponse<'a> {
    let keys = APIS.iter().filter(|it| it.listener == Listener::Clients && it.key.facts().broker);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Access;

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

    /// The names are the same, so that nobody is served by another's handler.
    #[test]
    fn every_request_has_the_handler_of_its_name() {
        for api in APIS {
            if let Some(handler) = api.handler() {
                assert_eq!(format!("{handler:?}"), format!("{:?}", api.key));
            }
        }
    }

    /// What Kafka asks ClusterAction for and nothing else is spoken between nodes.
    #[test]
    fn what_only_nodes_are_allowed_comes_by_no_clients_listener() {
        for api in APIS {
            let for_nodes = |it: &Need| it.operation == Operation::ClusterAction;
            let nodes_only = !api.needs.is_empty() && api.needs.iter().all(for_nodes);
            assert!(!nodes_only || api.listener == Listener::Nodes, "{:?}", api.key);
        }
    }

    /// Requests that carry no name of a thing need nothing; every other needs something.
    #[test]
    fn only_greetings_and_telemetry_need_nothing() {
        let free: Vec<_> = APIS.iter().filter(|it| it.needs.is_empty()).map(|it| it.key).collect();
        assert_eq!(
            free,
            [
                ApiKey::SaslHandshake,
                ApiKey::ApiVersions,
                ApiKey::SaslAuthenticate,
                ApiKey::RenewDelegationToken,
                ApiKey::ExpireDelegationToken,
                ApiKey::GetTelemetrySubscriptions,
                ApiKey::PushTelemetry,
            ]
        );
    }

    /// What its client must be allowed to change, it changes; what it may only see, it does not.
    #[test]
    fn what_a_request_needs_and_what_it_does_agree() {
        for api in APIS.iter().filter(|it| it.accepted().is_some()) {
            let effect = api.effect();
            let of = |it: &Need| it.operation;
            let looks_only = api.needs.iter().map(of).all(|it| {
                matches!(it, Operation::Describe | Operation::DescribeConfigs | Operation::Read)
            });
            let changes = [effect.metadata, effect.records].contains(&Access::Change);
            assert!(!(changes && looks_only), "{:?} changes what it may only see", api.key);
            let administers = api.needs.iter().any(|it| {
                matches!(
                    it.operation,
                    Operation::Alter | Operation::AlterConfigs | Operation::Create
                ) || it.operation == Operation::Delete && it.resource == Resource::Topic
            });
            assert_eq!(changes, administers, "{:?}: {effect}", api.key);
        }
    }

    /// A produce may stand in line for long. Who belongs to a group must be heard meanwhile.
    #[test]
    fn what_is_asked_of_groups_does_not_wait_behind_records() {
        let produce = Api::of(ApiKey::Produce).effect();
        assert_eq!((produce.metadata, produce.groups), (Access::Look, Access::None));
        let mut found = 0;
        for api in APIS.iter().filter(|it| it.effect().groups != Access::None) {
            assert_eq!(api.effect().records, Access::None, "{:?}", api.key);
            assert_ne!(api.effect().metadata, Access::Change, "{:?}", api.key);
            found += 1;
        }
        assert_eq!(found, 10);
    }
}

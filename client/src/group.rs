//! A member of a group: finds the coordinator, joins, takes its share of the partitions, says that it
//! is alive, and says how far it has read.
//!
//! Every call tries once and says what went wrong; when to try again, and when to join again, is
//! the business of whoever calls. What a refusal teaches is kept: a coordinator that moved is
//! looked up again, and a member that is no longer known comes as somebody new.
//!
//! - MEMBER-1: a commit says who commits in which generation; the coordinator refuses it from anybody
//!   else, so what a member that was replaced sent late does no harm;
//! - MEMBER-2: calls of one member go over one connection and so keep their order. Two members need
//!   two clients: a join is answered when all others have come, and everything behind it waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelane_net::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelane_net::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use corelane_net::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use corelane_net::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};

use crate::assign::{self, Owned, Wish};
use crate::client::{Client, Use};
use crate::conn::Connection;
use crate::error::{ClientError, check};

/// What consumers call the kind of their groups.
const CONSUMER: &str = "consumer";
/// The ways in which the leader shares partitions out.
const RANGE: &str = "range";
const COOPERATIVE: &str = "cooperative-sticky";

/// From this version on several members leave with one request, and a refusal is said for each.
const LEAVE_BATCHED_FROM: i16 = 3;

/// Who joins which group, and how long it may be silent.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    pub group: String,
    pub topics: Vec<String>,
    /// The name under which a static member comes back.
    pub instance: Option<String>,
    pub session_timeout: Nanos,
    /// How long the others wait for this member when the group gathers anew.
    pub rebalance_timeout: Nanos,
    /// Members keep what they have while the group gathers anew, and give up only what another one is
    /// to have. All members of a group must want the same.
    pub cooperative: bool,
}

impl GroupOptions {
    #[must_use]
    pub fn new(group: &str, topics: &[&str]) -> Self {
        Self {
            group: group.to_owned(),
            topics: topics.iter().map(|it| (*it).to_owned()).collect(),
            instance: None,
            session_timeout: Nanos::secs(45),
            rebalance_timeout: Nanos::secs(300),
            cooperative: false,
        }
    }
}

/// What a member was given to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub generation: i32,
    pub member: String,
    pub partitions: Owned,
    /// What this member had and has no more. It must join again, so that others get it.
    pub given_up: Owned,
    /// In which this member was told what it had before.
    pub before: i32,
}

/// A handle to one member.
#[derive(Clone)]
pub struct Member(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) options: GroupOptions,
    coordinator: Cell<Option<std::net::SocketAddr>>,
    /// Empty until the coordinator gave one.
    id: RefCell<String>,
    generation: Cell<i32>,
    /// What this member was told that it owns, and in which generation.
    owned: RefCell<(Owned, i32)>,
}

/// What the leader learns from its join.
struct Joined {
    generation: i32,
    leads: bool,
    /// Of everybody, for the leader: who wants which topics.
    wishes: Vec<(String, Wish)>,
}

impl Member {
    /// Asks nobody anything yet.
    #[must_use]
    pub fn new(client: &Client, options: GroupOptions) -> Self {
        Self(Rc::new(Inner {
            client: client.clone(),
            options,
            coordinator: Cell::new(None),
            id: RefCell::default(),
            generation: Cell::new(-1),
            owned: RefCell::new((Owned::new(), -1)),
        }))
    }

    /// As the coordinator knows it; empty before it does.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id.borrow().clone()
    }

    #[must_use]
    pub fn generation(&self) -> i32 {
        self.0.generation.get()
    }

    /// Comes as somebody new next time, for instance when it is unknown what became of a commit.
    pub fn forget(&self) {
        self.0.id.borrow_mut().clear();
        self.0.generation.set(-1);
        self.0.owned.replace((Owned::new(), -1));
    }

    /// What this member owns, as far as it knows: nothing once it is nobody.
    #[must_use]
    pub fn owned(&self) -> Owned {
        self.0.owned.borrow().0.clone()
    }

    /// Joins, or joins again, and gives what this member owns from now on. A group that gathers
    /// anew while this member waits refuses with `REBALANCE_IN_PROGRESS`: then join again.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn join(&self) -> Result<Share, ClientError> {
        let joined = self.learn(self.try_join().await)?;
        let shared = match self.plan(&joined).await {
            Ok(plan) => self.sync(&joined, &plan).await,
            Err(error) => Err(error),
        };
        let partitions = self.learn(shared)?;
        let now = (partitions.clone(), joined.generation);
        let (had, before) = self.0.owned.replace(now);
        let given_up =
            if self.0.options.cooperative { lost(had, &partitions) } else { Owned::new() };
        let (generation, member) = (joined.generation, self.id());
        Ok(Share { generation, member, partitions, given_up, before })
    }

    fn protocol(&self) -> &'static str {
        if self.0.options.cooperative { COOPERATIVE } else { RANGE }
    }

    async fn try_join(&self) -> Result<Joined, ClientError> {
        let options = &self.0.options;
        let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        loop {
            let connection = self.connect().await?;
            let id = self.id();
            let wish = if options.cooperative {
                let owned = self.0.owned.borrow();
                assign::wish_and_owned(&topics, &owned.0, owned.1)?
            } else {
                assign::wish(&topics)?
            };
            let millis = |it: Nanos| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
            let request = JoinGroupRequest {
                group_id: &options.group,
                session_timeout_ms: millis(options.session_timeout),
                rebalance_timeout_ms: millis(options.rebalance_timeout),
                member_id: &id,
                group_instance_id: options.instance.as_deref(),
                protocol_type: CONSUMER,
                protocols: [JoinGroupRequestProtocol { name: self.protocol(), metadata: &wish }]
                    .into(),
                reason: None,
            };
            let answer = connection.start(&request, options.rebalance_timeout).await?;
            let answer = answer.answer().await?;
            let said = answer.decode::<JoinGroupResponse<'_>>()?;
            if said.error_code == ErrorCode::MemberIdRequired.code() && id.is_empty() {
                self.0.id.replace(said.member_id.to_owned());
                continue;
            }
            check(ApiKey::JoinGroup, said.error_code, None)?;
            self.0.id.replace(said.member_id.to_owned());
            self.0.generation.set(said.generation_id);
            // Whoever leads is told when there is nothing to share out anew.
            let leads = said.leader == said.member_id && !said.skip_assignment;
            let mut wishes = Vec::new();
            for it in said.members.iter().filter(|_| leads) {
                wishes.push((it.member_id.to_owned(), assign::wished(it.metadata)?));
            }
            return Ok(Joined { generation: said.generation_id, leads, wishes });
        }
    }

    /// Shares the partitions out, if this member leads.
    async fn plan(&self, joined: &Joined) -> Result<Vec<(String, Vec<u8>)>, ClientError> {
        if !joined.leads {
            return Ok(Vec::new());
        }
        let mut counts = BTreeMap::new();
        for topic in joined.wishes.iter().flat_map(|it| &it.1.topics) {
            if !counts.contains_key(topic) {
                let leaders = self.0.client.topic(topic).await?.leaders;
                counts.insert(topic.clone(), leaders.last_key_value().map_or(0, |it| it.0 + 1));
            }
        }
        let shares = if self.0.options.cooperative {
            assign::cooperative(&joined.wishes, &counts)
        } else {
            assign::range(&joined.wishes, &counts)
        };
        shares.into_iter().map(|(id, owned)| Ok((id, assign::share(&owned)?))).collect()
    }

    async fn sync(
        &self,
        joined: &Joined,
        plan: &[(String, Vec<u8>)],
    ) -> Result<Owned, ClientError> {
        let options = &self.0.options;
        let id = self.id();
        let assignments = plan.iter().map(|(member, share)| SyncGroupRequestAssignment {
            member_id: member,
            assignment: share,
        });
        let request = SyncGroupRequest {
            group_id: &options.group,
            generation_id: joined.generation,
            member_id: &id,
            group_instance_id: options.instance.as_deref(),
            protocol_type: Some(CONSUMER),
            protocol_name: Some(self.protocol()),
            assignments: assignments.collect(),
        };
        let connection = self.connect().await?;
        let answer = connection.start(&request, options.rebalance_timeout).await?.answer().await?;
        let said = answer.decode::<SyncGroupResponse<'_>>()?;
        check(ApiKey::SyncGroup, said.error_code, None)?;
        assign::shared(said.assignment)
    }

    /// Says that this member is alive. `REBALANCE_IN_PROGRESS` asks it to join again.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn heartbeat(&self) -> Result<(), ClientError> {
        self.learn(self.try_heartbeat().await)
    }

    async fn try_heartbeat(&self) -> Result<(), ClientError> {
        let id = self.id();
        let request = HeartbeatRequest {
            group_id: &self.0.options.group,
            generation_id: self.generation(),
            member_id: &id,
            group_instance_id: self.0.options.instance.as_deref(),
        };
        let answer = self.connect().await?.call(&request).await?;
        let said = answer.decode::<HeartbeatResponse>()?;
        check(ApiKey::Heartbeat, said.error_code, None)
    }

    /// Leaves the group, so that the others need not wait for the silence to be long enough.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let left = self.learn(self.try_leave().await);
        self.forget();
        left
    }

    async fn try_leave(&self) -> Result<(), ClientError> {
        let id = self.id();
        let connection = self.connect().await?;
        let batched = LEAVE_BATCHED_FROM <= connection.version_of::<LeaveGroupRequest<'_>>()?;
        let group_id = &self.0.options.group;
        let request = if batched {
            let member = MemberIdentity {
                member_id: &id,
                group_instance_id: self.0.options.instance.as_deref(),
                reason: None,
            };
            LeaveGroupRequest { group_id, members: [member].into(), ..Default::default() }
        } else {
            LeaveGroupRequest { group_id, member_id: &id, ..Default::default() }
        };
        let answer = connection.call(&request).await?;
        let said = answer.decode::<LeaveGroupResponse<'_>>()?;
        check(ApiKey::LeaveGroup, said.error_code, None)?;
        let alone = said.members.first().map_or(0, |it| it.error_code);
        check(ApiKey::LeaveGroup, alone, None)
    }

    /// A connection to the coordinator, looked up when it is not known.
    pub(crate) async fn connect(&self) -> Result<Connection, ClientError> {
        if let Some(addr) = self.0.coordinator.get() {
            return self.0.client.to(addr, Use::Group).await;
        }
        let addr = self.0.client.coordinator(&self.0.options.group).await?;
        self.0.coordinator.set(Some(addr));
        self.0.client.to(addr, Use::Group).await
    }

    /// Keeps what a refusal teaches.
    pub(crate) fn learn<T>(&self, outcome: Result<T, ClientError>) -> Result<T, ClientError> {
        let Err(error) = &outcome else { return outcome };
        let moved = match error {
            ClientError::Connect { .. }
            | ClientError::ConnectTimedOut { .. }
            | ClientError::Lost { .. } => true,
            _ => matches!(
                error.code(),
                Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
            ),
        };
        if moved {
            self.0.coordinator.set(None);
        }
        if matches!(error.code(), Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId)) {
            self.forget();
        }
        outcome
    }
}

/// What of `had` is not in `now`.
fn lost(mut had: Owned, now: &Owned) -> Owned {
    for (topic, partitions) in &mut had {
        let kept = now.get(topic);
        partitions.retain(|it| !kept.is_some_and(|kept| kept.contains(it)));
    }
    had.retain(|_, it| !it.is_empty());
    had
}

impl Client {
    /// The address of a group's coordinator.
    ///
    /// # Errors
    /// When there is none now, or nobody answers.
    pub async fn coordinator(&self, group: &str) -> Result<std::net::SocketAddr, ClientError> {
        /// From this version on several groups are asked about at once.
        const BATCHED_FROM: i16 = 4;
        let connection = self.to_any(Use::Ask).await?;
        let batched = BATCHED_FROM <= connection.version_of::<FindCoordinatorRequest<'_>>()?;
        let request = if batched {
            FindCoordinatorRequest { coordinator_keys: [group].into(), ..Default::default() }
        } else {
            FindCoordinatorRequest { key: group, ..Default::default() }
        };
        let answer = connection.call(&request).await?;
        let said = answer.decode::<FindCoordinatorResponse<'_>>()?;
        check(ApiKey::FindCoordinator, said.error_code, said.error_message)?;
        if !batched {
            return self.address(said.host, said.port);
        }
        let missing = ClientError::Missing { key: answer.key, what: "the group asked about" };
        let found = said.coordinators.iter().find(|it| it.key == group).ok_or(missing)?;
        check(ApiKey::FindCoordinator, found.error_code, found.error_message)?;
        self.address(found.host, found.port)
    }
}

//! Which brokers there are, who leads which partition, and a connection to each as needed.
//!
//! What is learnt is kept until somebody finds it wrong: a call that a broker refused because
//! it is not the leader, or that lost its connection, forgets; the next one asks again.
//! Calls here try once; patience is the business of whoever calls (see [`crate::producer`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use corelane_core::lane::Lane;
use corelane_core::sync::Permits;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use corelane_net::wire::Uuid;

use crate::conn::{ConnOptions, Connection};
use crate::error::{ClientError, check};

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Any of its brokers.
    pub bootstrap: Vec<SocketAddr>,
    pub conn: ConnOptions,
    /// Whether asking for a topic that is not there makes it.
    pub create_topics: bool,
    /// What the name of a broker's host means. The ring knows addresses only.
    pub resolve: fn(&str) -> Option<IpAddr>,
}

impl Options {
    #[must_use]
    pub fn new(bootstrap: Vec<SocketAddr>) -> Self {
        Self { bootstrap, conn: ConnOptions::default(), create_topics: false, resolve: literal }
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(IpAddr::from([127, 0, 0, 1])) } else { host.parse().ok() }
}

/// What a connection is for. Answers come in order, so what waits long has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    Ask,
    Produce,
    Fetch,
    Group,
}

/// One topic, as the cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    pub id: Uuid,
    /// The leader of each partition, by index.
    pub leaders: BTreeMap<i32, Leader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    pub node: i32,
    pub epoch: i32,
}

#[derive(Default)]
struct Known {
    brokers: BTreeMap<i32, SocketAddr>,
    controller: Option<i32>,
    topics: BTreeMap<String, TopicInfo>,
}

/// A handle to everything this client knows and holds open.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    lane: Lane,
    options: Options,
    known: RefCell<Known>,
    connections: RefCell<BTreeMap<(SocketAddr, Use), Connection>>,
    opened: Cell<u64>,
    /// Who opens a connection does it alone: two tasks that want the same one get the same one.
    opening: Permits,
}

impl Client {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(lane: &Lane, options: Options) -> Self {
        assert!(!options.bootstrap.is_empty(), "a client knows at least one address");
        Self(Rc::new(Inner {
            lane: lane.clone(),
            options,
            known: RefCell::default(),
            connections: RefCell::default(),
            opened: Cell::new(0),
            opening: Permits::new(lane, 1),
        }))
    }

    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.0.lane
    }

    /// Connections opened so far. What was sent over one that was lost may yet arrive behind what was
    /// sent over its successor.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.opened.get()
    }

    /// Closes every connection. The next call opens what it needs.
    pub fn disconnect(&self) {
        let all = std::mem::take(&mut *self.0.connections.borrow_mut());
        for connection in all.into_values() {
            connection.close();
        }
    }

    pub(crate) async fn to(&self, addr: SocketAddr, of: Use) -> Result<Connection, ClientError> {
        let _alone = self.0.opening.take(1).await;
        let key = (addr, of);
        let there = self.0.connections.borrow().get(&key).cloned();
        if let Some(there) = there.filter(|it| it.lost().is_none()) {
            return Ok(there);
        }
        let opened = Connection::open(&self.0.lane, addr, &self.0.options.conn).await;
        let mut connections = self.0.connections.borrow_mut();
        match opened {
            Ok(opened) => {
                self.0.opened.set(self.0.opened.get() + 1);
                connections.insert(key, opened.clone());
                Ok(opened)
            }
            Err(error) => {
                connections.remove(&key);
                Err(error)
            }
        }
    }

    /// A connection to whichever broker answers first, the known ones before the bootstrap.
    pub(crate) async fn to_any(&self, of: Use) -> Result<Connection, ClientError> {
        let mut addrs: Vec<SocketAddr> = self.0.known.borrow().brokers.values().copied().collect();
        for addr in &self.0.options.bootstrap {
            if !addrs.contains(addr) {
                addrs.push(*addr);
            }
        }
        let mut refused = None;
        for addr in addrs {
            match self.to(addr, of).await {
                Ok(it) => return Ok(it),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.expect("there is at least one address"))
    }

    pub(crate) async fn to_node(&self, node: i32, of: Use) -> Result<Connection, ClientError> {
        let addr = self.0.known.borrow().brokers.get(&node).copied();
        match addr {
            Some(addr) => self.to(addr, of).await,
            None => self.to_any(of).await,
        }
    }

    pub(crate) fn address(&self, host: &str, port: i32) -> Result<SocketAddr, ClientError> {
        let ip = (self.0.options.resolve)(host);
        match (ip, u16::try_from(port)) {
            (Some(ip), Ok(port)) => Ok(SocketAddr::new(ip, port)),
            _ => Err(ClientError::Address { host: host.to_owned(), port }),
        }
    }

    /// Asks for topics, or for all of them; learns the brokers along the way.
    ///
    /// # Errors
    /// When nobody answers, or a topic that was named is refused.
    pub async fn metadata(&self, names: Option<&[&str]>) -> Result<Vec<TopicInfo>, ClientError> {
        let topics = names.map(|it| {
            let topic = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
            it.iter().copied().map(topic).collect()
        });
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: self.0.options.create_topics,
            ..Default::default()
        };
        let answer = self.to_any(Use::Ask).await?.call(&request).await?;
        let said = answer.decode::<MetadataResponse<'_>>()?;
        check(ApiKey::Metadata, said.error_code, None)?;
        let mut brokers = BTreeMap::new();
        for it in &said.brokers {
            brokers.insert(it.node_id, self.address(it.host, it.port)?);
        }
        let mut topics = Vec::with_capacity(said.topics.len());
        let mut refused = Ok(());
        for it in &said.topics {
            match check(ApiKey::Metadata, it.error_code, it.name) {
                Ok(()) => topics.push(info(&it)),
                Err(error) => refused = Err(error),
            }
        }
        let mut known = self.0.known.borrow_mut();
        known.brokers = brokers;
        known.controller = Some(said.controller_id).filter(|it| 0 <= *it);
        for topic in &topics {
            known.topics.insert(topic.name.clone(), topic.clone());
        }
        refused.map(|()| topics)
    }

    /// One topic, from memory if it is known.
    ///
    /// # Errors
    /// As [`Self::metadata`].
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        if let Some(known) = self.0.known.borrow().topics.get(name) {
            return Ok(known.clone());
        }
        let found = self.metadata(Some(&[name])).await?;
        let missing = ClientError::Missing { key: ApiKey::Metadata, what: "the topic asked for" };
        found.into_iter().find(|it| it.name == name).ok_or(missing)
    }

    /// Forgets what is known of a topic.
    pub fn forget(&self, name: &str) {
        self.0.known.borrow_mut().topics.remove(name);
    }

    /// Forgets a topic if this refusal says that what is known of it is wrong.
    pub(crate) fn learn_from(&self, name: &str, error: &ClientError) {
        let stale = match error {
            ClientError::Connect { .. }
            | ClientError::ConnectTimedOut { .. }
            | ClientError::Lost { .. }
            | ClientError::NoLeader { .. } => true,
            _ => matches!(
                error.code(),
                Some(
                    ErrorCode::NotLeaderOrFollower
                        | ErrorCode::LeaderNotAvailable
                        | ErrorCode::UnknownTopicOrPartition
                        | ErrorCode::UnknownTopicId
                        | ErrorCode::InconsistentTopicId
                        | ErrorCode::FencedLeaderEpoch
                        | ErrorCode::UnknownLeaderEpoch
                )
            ),
        };
        if stale {
            self.forget(name);
        }
    }

    /// The topic's id and a connection to the leader of one of its partitions.
    pub(crate) async fn to_leader(
        &self,
        topic: &str,
        partition: i32,
        of: Use,
    ) -> Result<(Uuid, Leader, Connection), ClientError> {
        let info = self.topic(topic).await?;
        let Some(leader) = info.leaders.get(&partition).copied() else {
            self.forget(topic);
            return Err(ClientError::NoLeader { topic: topic.to_owned(), partition });
        };
        let connection = self.to_node(leader.node, of).await;
        let connection = connection.inspect_err(|error| self.learn_from(topic, error))?;
        Ok((info.id, leader, connection))
    }

    /// A connection to whoever decides about topics.
    pub(crate) async fn to_controller(&self) -> Result<Connection, ClientError> {
        let known = self.0.known.borrow().controller;
        if known.is_none() {
            self.metadata(Some(&[])).await?;
        }
        let controller = self.0.known.borrow().controller;
        match controller {
            Some(node) => self.to_node(node, Use::Ask).await,
            None => self.to_any(Use::Ask).await,
        }
    }
}

fn info(topic: &MetadataResponseTopic<'_>) -> TopicInfo {
    let led = topic.partitions.iter().filter(|it| it.error_code == 0 && 0 <= it.leader_id);
    let leader =
        led.map(|it| (it.partition_index, Leader { node: it.leader_id, epoch: it.leader_epoch }));
    TopicInfo {
        name: topic.name.unwrap_or_default().to_owned(),
        id: topic.topic_id,
        leaders: leader.collect(),
    }
}

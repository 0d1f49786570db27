//! A host, the log under it, and clients above it.

use std::collections::{BTreeMap, VecDeque};

use corelane_coordinator::*;

const LOG_RECORDS_MAX: usize = 12;
pub(crate) const GROUP: &str = "g";
/// A metadata of a consumer: version 0, one topic "t", no user data.
pub(crate) const READS_T: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff];

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) config: GroupConfig,
    pub(crate) log: Vec<Record>,
    pub(crate) in_flight: VecDeque<Write>,
    pub(crate) now: Now,
    pub(crate) clients: Vec<Client>,
    /// Requests without an answer.
    pub(crate) waiting: BTreeMap<Token, (usize, Request)>,
    pub(crate) answers: Vec<(Token, Answer)>,
    /// Who owns which assignment in which generation.
    owners: BTreeMap<(i32, Vec<u8>), String>,
    generation_seen: i32,
    tokens: u64,
    ids: u128,
}

/// What a client knows of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) version: i16,
    pub(crate) instance: Option<String>,
    pub(crate) member: String,
    pub(crate) generation: i32,
    pub(crate) leads: bool,
    pub(crate) members: Vec<String>,
    pub(crate) protocols: Vec<&'static str>,
    pub(crate) last_error: Option<GroupError>,
    pub(crate) assignment: Option<Vec<u8>>,
}

impl World {
    pub(crate) fn new(config: GroupConfig) -> Self {
        let now = Now { monotonic_ms: 1_000, unix_ms: 1_700_000_000_000 };
        let mut host = Host::new(config.clone());
        let outcome = host.loaded(now);
        assert_eq!(outcome, Outcome::default(), "an empty log says nothing");
        Self {
            host,
            config,
            log: Vec::new(),
            in_flight: VecDeque::new(),
            now,
            clients: Vec::new(),
            waiting: BTreeMap::new(),
            answers: Vec::new(),
            owners: BTreeMap::new(),
            generation_seen: 0,
            tokens: 0,
            ids: 0,
        }
    }

    pub(crate) fn with_clients(config: GroupConfig, clients: &[(i16, Option<&str>)]) -> Self {
        let mut world = Self::new(config);
        for (version, instance) in clients {
            world.clients.push(Client {
                version: *version,
                instance: instance.map(str::to_owned),
                protocols: vec!["range"],
                ..Client::default()
            });
        }
        world
    }

    pub(crate) fn ask(&mut self, client: usize, request: Request) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.waiting.insert(token, (client, request.clone()));
        let outcome = self.host.handle(self.now, token, request);
        self.take(outcome);
        token
    }

    pub(crate) fn take(&mut self, outcome: Outcome) {
        for reply in outcome.replies {
            let (client, request) =
                self.waiting.remove(&reply.token).expect("a token is answered once");
            self.audit(&request, &reply.answer);
            self.learn(client, &request, &reply.answer);
            self.answers.push((reply.token, reply.answer));
        }
        self.in_flight.extend(outcome.writes);
    }

    pub(crate) fn join(&mut self, client: usize) -> Token {
        self.ids += 1;
        let c = &self.clients[client];
        let protocol =
            |name: &&str| Protocol { name: (*name).to_owned(), metadata: READS_T.to_vec() };
        let request = JoinGroup {
            version: c.version,
            group: GROUP.into(),
            member: c.member.clone(),
            instance: c.instance.clone(),
            client_id: format!("c{client}"),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            protocol_type: "consumer".into(),
            protocols: c.protocols.iter().map(protocol).collect(),
            fresh_id: self.ids,
        };
        self.ask(client, Request::Join(request))
    }

    pub(crate) fn sync(&mut self, client: usize) -> Token {
        let c = &self.clients[client];
        let assign =
            |(place, id): (usize, &String)| (id.clone(), vec![u8::try_from(place).unwrap() + 1]);
        let request = SyncGroup {
            group: GROUP.into(),
            generation: c.generation,
            member: c.member.clone(),
            instance: c.instance.clone(),
            protocol_type: None,
            protocol: None,
            assignments: if c.leads {
                c.members.iter().enumerate().map(assign).collect()
            } else {
                Vec::new()
            },
        };
        self.ask(client, Request::Sync(request))
    }

    pub(crate) fn beat(&mut self, client: usize) -> Token {
        let c = &self.clients[client];
        let request = Heartbeat {
            group: GROUP.into(),
            generation: c.generation,
            member: c.member.clone(),
            instance: c.instance.clone(),
        };
        self.ask(client, Request::Heartbeat(request))
    }

    pub(crate) fn leave(&mut self, client: usize) -> Token {
        let c = &self.clients[client];
        let leaving = LeavingMember { member: c.member.clone(), instance: c.instance.clone() };
        self.ask(client, Request::Leave(LeaveGroup { group: GROUP.into(), members: vec![leaving] }))
    }

    pub(crate) fn commit_request(
        &self,
        client: Option<usize>,
        partition: i32,
        offset: i64,
    ) -> OffsetCommit {
        let nobody = Client { generation: -1, ..Client::default() };
        let c = client.map_or(&nobody, |client| &self.clients[client]);
        OffsetCommit {
            version: 8,
            group: GROUP.into(),
            generation: c.generation,
            member: c.member.clone(),
            instance: c.instance.clone(),
            retention_ms: None,
            topics: vec![CommitTopic {
                topic: "t".into(),
                partitions: vec![CommitPartition {
                    partition,
                    offset,
                    leader_epoch: 3,
                    metadata: None,
                }],
            }],
        }
    }

    pub(crate) fn commit(&mut self, client: Option<usize>, partition: i32, offset: i64) -> Token {
        let request = self.commit_request(client, partition, offset);
        self.ask(0, Request::OffsetCommit(request))
    }

    /// A process that ends without a word. Its successor knows nothing.
    pub(crate) fn crash(&mut self, client: usize) {
        let c = &mut self.clients[client];
        c.member.clear();
        c.generation = 0;
        c.leads = false;
        c.assignment = None;
    }

    pub(crate) fn log_takes_one(&mut self) -> bool {
        let Some(write) = self.in_flight.pop_front() else { return false };
        if LOG_RECORDS_MAX < self.log.len() {
            self.compact();
        }
        self.log.extend(write.records);
        if self.logged_group().is_none() {
            // A group that was removed, or is only offsets, starts anew.
            self.generation_seen = 0;
            self.owners.clear();
        }
        let outcome = self.host.on_committed(self.now, write.ticket);
        self.take(outcome);
        true
    }

    pub(crate) fn log_takes_all(&mut self) {
        while self.log_takes_one() {}
    }

    pub(crate) fn log_refuses(&mut self, place: usize, failure: WriteFailure) -> bool {
        let Some(write) = self.in_flight.remove(place) else { return false };
        let outcome = self.host.on_failed(self.now, write.ticket, failure);
        self.take(outcome);
        true
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += i64::try_from(ms).unwrap();
        let outcome = self.host.tick(self.now);
        self.take(outcome);
    }

    /// Lets time pass until something may happen. False when nothing ever will.
    pub(crate) fn pass_to_deadline(&mut self) -> bool {
        let Some(deadline_ms) = self.host.next_deadline_ms() else { return false };
        self.pass(deadline_ms.saturating_sub(self.now.monotonic_ms));
        true
    }

    /// The node dies; what the log has is all that is left. Nobody who waited hears anything.
    pub(crate) fn restart(&mut self) {
        self.in_flight.clear();
        self.waiting.clear();
        self.host = self.rebuilt();
        // A generation whose assignment never reached the log was nobody's, and its number is used again.
        self.generation_seen = self.logged_group().map_or(0, |group| group.generation);
        let outcome = self.host.loaded(self.now);
        self.take(outcome);
    }

    /// Keeps the last record of every key, as the log's cleaner does.
    fn compact(&mut self) {
        let last: BTreeMap<Vec<u8>, usize> = self
            .log
            .iter()
            .enumerate()
            .map(|(place, record)| (record.key.clone(), place))
            .collect();
        let mut place = 0;
        self.log.retain(|record| {
            place += 1;
            last[&record.key] == place - 1 && record.value.is_some()
        });
    }

    fn rebuilt(&self) -> Host {
        let mut host = Host::new(self.config.clone());
        for record in &self.log {
            host.replay(&record.key, record.value.as_deref()).expect("our own records can be read");
        }
        host
    }

    pub(crate) fn answer(&self, token: Token) -> Option<&Answer> {
        self.answers.iter().find(|(answered, _)| *answered == token).map(|(_, answer)| answer)
    }

    pub(crate) fn state(&mut self) -> &'static str {
        let token = self.ask(0, Request::Describe(DescribeGroup { group: GROUP.into() }));
        match self.answer(token) {
            Some(Answer::Describe(described)) => described.state,
            other => panic!("a description is answered at once, not {other:?}"),
        }
    }

    /// HOST-2: what the log says is what the host holds.
    pub(crate) fn verify(&self) {
        self.host.check();
        let living = self.host.image();
        let logged = self.rebuilt().image();
        let offsets = |image: &[Change]| -> Vec<Change> {
            image.iter().filter(|change| matches!(change, Change::Offset { .. })).cloned().collect()
        };
        assert_eq!(offsets(&living), offsets(&logged), "HOST-2: committed offsets are the log's");
        let group = |image: &[Change]| -> Option<Change> {
            image.iter().find(|change| matches!(change, Change::Group { .. })).cloned()
        };
        if let Some(settled) = group(&living) {
            assert_eq!(Some(settled), group(&logged), "HOST-2: a settled group is the log's");
        } else if group(&logged).is_some() {
            assert!(0 < self.host.group_count(), "HOST-2: what the log has, the host has");
        }
    }

    /// HOST-3: whatever waits is answered, once the log and the time go on.
    pub(crate) fn drain(&mut self) {
        for _ in 0..200 {
            self.log_takes_all();
            if self.waiting.is_empty() {
                self.verify();
                return;
            }
            assert!(
                self.pass_to_deadline(),
                "HOST-3: {:?} wait and nothing will happen",
                self.waiting
            );
        }
        panic!("HOST-3: {:?} still wait", self.waiting);
    }

    /// What an answer promises must be in the log by now.
    fn audit(&mut self, request: &Request, answer: &Answer) {
        match (request, answer) {
            (Request::OffsetCommit(commit), Answer::OffsetCommit(answer)) => {
                for (topic, result) in commit.topics.iter().zip(&answer.topics) {
                    for (partition, result) in topic.partitions.iter().zip(&result.partitions) {
                        if result.error.is_none() {
                            self.logged_offset(&topic.topic, partition);
                        }
                    }
                }
            }
            (Request::Sync(sync), Answer::Sync(answer)) if answer.error.is_none() => {
                let group = self.logged_group().expect("HOST-1: an assignment is in the log");
                assert_eq!(group.generation, sync.generation, "HOST-1: this generation's");
                let member = group.members.iter().find(|member| member.member == sync.member);
                let member = member.expect("HOST-1: with this member");
                assert_eq!(member.assignment, answer.assignment, "HOST-1: as it is answered");
                if !answer.assignment.is_empty() {
                    let key = (sync.generation, answer.assignment.clone());
                    let name = sync.instance.clone().unwrap_or(sync.member.clone());
                    let owner = self.owners.entry(key).or_insert(name.clone());
                    assert_eq!(*owner, name, "one owner per partition and generation");
                }
            }
            (Request::Join(_), Answer::Join(answer)) if answer.error.is_none() => {
                assert!(
                    self.generation_seen <= answer.generation,
                    "GROUP-1: generations do not go back"
                );
                self.generation_seen = answer.generation;
                let leads = answer.leader == answer.member;
                assert!(!leads || answer.members.iter().any(|m| m.member == answer.leader));
                assert!(leads || answer.members.is_empty(), "only the leader sees the members");
            }
            (Request::Delete(_), Answer::Delete(answer)) if answer.error.is_none() => {
                assert_eq!(self.logged_group(), None, "HOST-1: the tombstone is in the log");
            }
            _ => {}
        }
    }

    fn logged_offset(&self, wanted: &str, commit: &CommitPartition) {
        let found = self.log.iter().any(|record| {
            matches!(
                read_record(&record.key, record.value.as_deref()),
                Ok(Read::Change(Change::Offset { topic, partition, value: Some(value), .. }))
                    if topic == wanted && partition == commit.partition && value.offset == commit.offset
            )
        });
        assert!(found, "HOST-1: an acknowledged offset is in the log");
    }

    fn logged_group(&self) -> Option<GroupValue> {
        let mut groups = self.log.iter().rev().filter_map(|record| {
            match read_record(&record.key, record.value.as_deref()) {
                Ok(Read::Change(Change::Group { value, .. })) => Some(value),
                _ => None,
            }
        });
        groups.next().flatten()
    }

    fn learn(&mut self, client: usize, request: &Request, answer: &Answer) {
        let Some(c) = self.clients.get_mut(client) else { return };
        match (request, answer) {
            (Request::Join(_), Answer::Join(answer)) => {
                c.last_error = answer.error;
                match answer.error {
                    None => {
                        c.member.clone_from(&answer.member);
                        c.generation = answer.generation;
                        c.leads = answer.leader == answer.member;
                        c.members =
                            answer.members.iter().map(|member| member.member.clone()).collect();
                    }
                    Some(GroupError::MemberIdRequired) => c.member.clone_from(&answer.member),
                    Some(GroupError::UnknownMemberId) => c.member.clear(),
                    Some(_) => {}
                }
            }
            (Request::Sync(_), Answer::Sync(answer)) => {
                c.last_error = answer.error;
                c.assignment = answer.error.is_none().then(|| answer.assignment.clone());
            }
            (Request::Heartbeat(_), Answer::Heartbeat(answer)) => c.last_error = answer.error,
            (Request::Leave(_), Answer::Leave(answer)) => {
                c.last_error =
                    answer.error.or(answer.members.first().and_then(|member| member.error));
                c.member.clear();
            }
            _ => {}
        }
    }
}

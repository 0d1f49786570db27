//! What strangers may make a coordinator remember.

use corelane_coordinator::*;

const GROUPS_MAX: usize = 50;
const NOW: Now = Now { monotonic_ms: 0, unix_ms: 0 };

struct Door {
    host: Host,
    asked: u64,
}

impl Door {
    fn new() -> Self {
        Self::with(GroupConfig { groups_max: GROUPS_MAX, ..GroupConfig::default() })
    }

    fn with(config: GroupConfig) -> Self {
        let mut host = Host::new(config);
        let outcome = host.loaded(NOW);
        assert!(outcome.replies.is_empty(), "nobody waits");
        Self { host, asked: 0 }
    }

    /// Commits offsets of so many partitions, each with a text of so many bytes, and lets the log take them.
    fn commit(&mut self, group: &str, partitions: i32, bytes: usize) -> Option<GroupError> {
        self.asked += 1;
        let partition = |partition| CommitPartition {
            partition,
            offset: 5,
            leader_epoch: -1,
            metadata: Some("x".repeat(bytes)),
        };
        let topic = "t".to_owned();
        let partitions = (0..partitions).map(partition).collect();
        let request = OffsetCommit {
            version: 8,
            group: group.to_owned(),
            generation: -1,
            member: String::new(),
            instance: None,
            retention_ms: None,
            topics: vec![CommitTopic { topic, partitions }],
        };
        let token = Token(self.asked);
        let mut outcome = self.host.handle(NOW, token, Request::OffsetCommit(request));
        for write in std::mem::take(&mut outcome.writes) {
            outcome.replies.extend(self.host.on_committed(NOW, write.ticket).replies);
        }
        let mine = outcome.replies.into_iter().find(|it| it.token == token);
        match mine.expect("it was answered").answer {
            Answer::OffsetCommit(answer) => answer.topics[0].partitions[0].error,
            other => panic!("a commit is answered with {other:?}"),
        }
    }

    /// Joins with so many bytes of metadata. Tells the refusal, if it is one.
    fn join(&mut self, group: &str, member: &str, bytes: usize) -> Option<GroupError> {
        self.asked += 1;
        let metadata = vec![7; bytes - "p".len()];
        let request = JoinGroup {
            version: 3,
            group: group.to_owned(),
            member: member.to_owned(),
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "connect".to_owned(),
            protocols: vec![Protocol { name: "p".to_owned(), metadata }],
            fresh_id: u128::from(self.asked),
        };
        let token = Token(self.asked);
        let outcome = self.host.handle(NOW, token, Request::Join(request));
        let mine = outcome.replies.into_iter().find(|it| it.token == token);
        mine.and_then(|it| match it.answer {
            Answer::Join(answer) => answer.error,
            other => panic!("a join is answered with {other:?}"),
        })
    }
}

#[test]
fn what_one_member_tells_and_what_all_of_a_group_tell_is_bounded() {
    let mut door = Door::new();
    let most = MEMBER_METADATA_BYTES_MAX;
    assert_eq!(door.join("g", "", most + 1), Some(GroupError::InvalidRequest));
    for _ in 0..GroupConfig::default().members_bytes_max / most {
        assert_eq!(door.join("g", "", most), None, "it waits for the others");
    }
    for bytes in [2, most] {
        assert_eq!(door.join("g", "", bytes), Some(GroupError::GroupMaxSizeReached));
    }
    assert_eq!(door.join("other", "", most), None, "another group has room of its own");
    door.host.check();
}

#[test]
fn a_group_beyond_those_a_partition_may_have_is_refused_until_one_is_gone() {
    let mut door = Door::new();
    for number in 0..GROUPS_MAX {
        assert_eq!(door.join(&format!("group-{number}"), "", 10), None);
    }
    let refused = Some(GroupError::CoordinatorLoadInProgress);
    assert_eq!(door.join("one more", "", 10), refused);
    assert_eq!(door.join("group-7", "", 10), None, "who is known goes on");
    door.host.check();
}

/// Many groups, each of which is small enough.
#[test]
fn what_all_groups_of_a_partition_hold_is_bounded() {
    const MOST: usize = 1 << 20;
    let config = GroupConfig { partition_bytes_max: MOST, ..GroupConfig::default() };
    let again = Some(GroupError::CoordinatorLoadInProgress);
    let beside = |bytes: usize| bytes + bytes / 10;

    // By members.
    let mut door = Door::with(config.clone());
    let each = 50_000;
    let joined = (0..1000).take_while(|it| door.join(&format!("g{it}"), "", each).is_none());
    let joined = joined.count();
    assert!((MOST / beside(each)..=MOST / each).contains(&joined), "{joined} joined");
    assert_eq!(door.join("small", "", 100_000), again);
    assert_eq!(door.join("g3", "", each), again, "a group that is known may not grow");
    assert!(door.host.held_bytes() <= MOST);
    door.host.check();

    // By offsets and their texts, on which nothing is spent when they are told anew.
    let mut door = Door::with(config.clone());
    let (partitions, text) = (10, 1000);
    let commits =
        (0..1000).take_while(|it| door.commit(&format!("g{it}"), partitions, text).is_none());
    let (commits, each) = (commits.count(), partitions as usize * text);
    assert!((MOST / (3 * each)..=MOST / each).contains(&commits), "{commits} committed");
    assert_eq!(door.commit("one more", partitions, text), again);
    assert_eq!(door.commit("g0", partitions, text), None, "the same again");
    assert_eq!(door.commit("g0", partitions, text + 1000), again);
    let before = door.host.held_bytes();
    assert_eq!(door.commit("g0", partitions, 0), None, "less");
    assert_eq!(before - door.host.held_bytes(), each);
    assert_eq!(door.commit("g0", 5, text), None, "what was given back may be taken");
    door.host.check();

    // By names alone.
    let mut door = Door::with(config);
    let named = (0..1000)
        .take_while(|it| door.commit(&format!("{it}{}", "n".repeat(20_000)), 1, 0).is_none());
    let named = named.count();
    assert!((MOST / beside(20_000)..=MOST / 20_000).contains(&named), "{named} names");
    assert!(door.host.held_bytes() <= MOST);
    door.host.check();
}

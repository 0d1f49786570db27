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
        let config = GroupConfig { groups_max: GROUPS_MAX, ..GroupConfig::default() };
        let mut host = Host::new(config);
        let outcome = host.loaded(NOW);
        assert!(outcome.replies.is_empty(), "nobody waits");
        Self { host, asked: 0 }
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

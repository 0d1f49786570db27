//! Records, byte by byte, written by hand from the format's description.

use corelane_coordinator::*;

fn offset(value: Option<OffsetValue>) -> Change {
    Change::Offset { group: "g".into(), topic: "t".into(), partition: 7, value }
}

fn committed() -> OffsetValue {
    OffsetValue {
        offset: 42,
        leader_epoch: 5,
        metadata: "m".into(),
        commit_unix_ms: 1000,
        expire_unix_ms: None,
    }
}

const OFFSET_KEY: &[u8] = &[0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 7];
const GROUP_KEY: &[u8] = &[0, 2, 0, 1, b'g'];

fn read_offset(value: &[u8]) -> OffsetValue {
    match read_record(OFFSET_KEY, Some(value)) {
        Ok(Read::Change(Change::Offset { value: Some(value), .. })) => value,
        other => panic!("an offset was expected, not {other:?}"),
    }
}

fn read_group(value: &[u8]) -> Result<GroupValue, RecordError> {
    match read_record(GROUP_KEY, Some(value))? {
        Read::Change(Change::Group { value: Some(value), .. }) => Ok(value),
        other => panic!("a group was expected, not {other:?}"),
    }
}

#[test]
fn an_offset_is_written_as_value_3() {
    let record = write_record(&offset(Some(committed())));
    assert_eq!(record.key, OFFSET_KEY);
    let mut value = vec![0, 3];
    value.extend([0, 0, 0, 0, 0, 0, 0, 42]);
    value.extend([0, 0, 0, 5]);
    value.extend([0, 1, b'm']);
    value.extend([0, 0, 0, 0, 0, 0, 3, 0xe8]);
    assert_eq!(record.value, Some(value));
}

#[test]
fn an_offset_with_its_own_expiry_is_written_as_value_1() {
    let kept = OffsetValue { expire_unix_ms: Some(2000), leader_epoch: -1, ..committed() };
    let record = write_record(&offset(Some(kept.clone())));
    let mut value = vec![0, 1];
    value.extend([0, 0, 0, 0, 0, 0, 0, 42]);
    value.extend([0, 1, b'm']);
    value.extend([0, 0, 0, 0, 0, 0, 3, 0xe8]);
    value.extend([0, 0, 0, 0, 0, 0, 7, 0xd0]);
    assert_eq!(record.value.as_deref(), Some(&*value));
    assert_eq!(read_offset(&value), kept);
}

#[test]
fn offsets_of_every_version_are_read() {
    let number = [0, 0, 0, 0, 0, 0, 0, 42];
    let time = [0, 0, 0, 0, 0, 0, 3, 0xe8];
    let old = OffsetValue { leader_epoch: -1, ..committed() };
    let plain = |version: u8| [&[0, version][..], &number, &[0, 1, b'm'], &time].concat();
    assert_eq!(read_offset(&plain(0)), old);
    assert_eq!(read_offset(&[&plain(1)[..], &[0xff; 8]].concat()), old);
    assert_eq!(read_offset(&plain(2)), old);
    let third = [&[0, 3][..], &number, &[0, 0, 0, 5], &[0, 1, b'm'], &time].concat();
    assert_eq!(read_offset(&third), committed());
    // The flexible form: a compact text, and one tagged field, the topic's id.
    let tags = [&[1, 0, 16][..], &[9; 16]].concat();
    let fourth = [&[0, 4][..], &number, &[0, 0, 0, 5], &[2, b'm'], &time, &tags].concat();
    assert_eq!(read_offset(&fourth), committed());
}

#[test]
fn a_tombstone_is_a_key_alone() {
    assert_eq!(write_record(&offset(None)), Record { key: OFFSET_KEY.to_vec(), value: None });
    assert_eq!(read_record(OFFSET_KEY, None), Ok(Read::Change(offset(None))));
    let gone = Change::Group { group: "g".into(), value: None };
    assert_eq!(write_record(&gone), Record { key: GROUP_KEY.to_vec(), value: None });
    assert_eq!(read_record(GROUP_KEY, None), Ok(Read::Change(gone)));
}

#[test]
fn the_oldest_kind_of_key_is_an_offset_too() {
    let key = [&[0, 0][..], &OFFSET_KEY[2..]].concat();
    assert_eq!(read_record(&key, None), Ok(Read::Change(offset(None))));
}

fn one_member() -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("m".into()),
        state_unix_ms: Some(1000),
        members: vec![MemberValue {
            member: "m".into(),
            instance: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 2,
            session_timeout_ms: 1,
            subscription: vec![8],
            assignment: vec![9, 9],
        }],
    }
}

const HEAD: &[u8] = b"\x00\x08consumer\x00\x00\x00\x03\x00\x05range\x00\x01m";

#[test]
fn a_group_is_written_as_value_3() {
    let record = write_record(&Change::Group { group: "g".into(), value: Some(one_member()) });
    assert_eq!(record.key, GROUP_KEY);
    let member = b"\x00\x01m\x00\x01i\x00\x01c\x00\x02/h\x00\x00\x00\x02\x00\x00\x00\x01\
        \x00\x00\x00\x01\x08\x00\x00\x00\x02\x09\x09";
    let value = [&[0, 3], HEAD, &[0, 0, 0, 0, 0, 0, 3, 0xe8], &[0, 0, 0, 1], member].concat();
    assert_eq!(record.value.as_deref(), Some(&*value));
    assert_eq!(read_group(&value), Ok(one_member()));
}

#[test]
fn groups_of_every_version_are_read() {
    let old_member =
        b"\x00\x01m\x00\x01c\x00\x02/h\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x02\x09\x09";
    let mut expected = one_member();
    expected.state_unix_ms = None;
    expected.members[0].instance = None;
    expected.members[0].rebalance_timeout_ms = 1;
    let zero = [&[0, 0], HEAD, &[0, 0, 0, 1], old_member].concat();
    assert_eq!(read_group(&zero), Ok(expected.clone()));

    expected.members[0].rebalance_timeout_ms = 2;
    let member = b"\x00\x01m\x00\x01c\x00\x02/h\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x02\x09\x09";
    let one = [&[0, 1], HEAD, &[0, 0, 0, 1], member].concat();
    assert_eq!(read_group(&one), Ok(expected.clone()));

    expected.state_unix_ms = Some(1000);
    let two = [&[0, 2], HEAD, &[0, 0, 0, 0, 0, 0, 3, 0xe8], &[0, 0, 0, 1], member].concat();
    assert_eq!(read_group(&two), Ok(expected));

    let flexible_head = b"\x09consumer\x00\x00\x00\x03\x06range\x02m";
    let flexible_member =
        b"\x02m\x02i\x02c\x03/h\x00\x00\x00\x02\x00\x00\x00\x01\x02\x08\x03\x09\x09\x00";
    let four =
        [&[0, 4], &flexible_head[..], &[0, 0, 0, 0, 0, 0, 3, 0xe8], &[2], flexible_member, &[0]]
            .concat();
    assert_eq!(read_group(&four), Ok(one_member()));
}

#[test]
fn other_kinds_are_skipped_and_newer_versions_are_named() {
    let mut host = Host::new(GroupConfig::default());
    assert_eq!(host.replay(&[0, 3, 0, 1, b'g'], Some(&[0, 0])), Ok(Replayed::Skipped { kind: 3 }));
    assert_eq!(host.replay(&[0, 99], None), Ok(Replayed::Skipped { kind: 99 }));
    let newer = host.replay(GROUP_KEY, Some(&[0, 5]));
    assert_eq!(newer, Err(RecordError::Version { kind: 2, found: 5 }));
}

#[test]
fn a_group_that_contradicts_itself_is_refused_whole() {
    let mut host = Host::new(GroupConfig::default());
    let mut try_one = |change: &dyn Fn(&mut GroupValue)| {
        let mut value = one_member();
        change(&mut value);
        let record = write_record(&Change::Group { group: "g".into(), value: Some(value) });
        host.replay(&record.key, record.value.as_deref())
    };
    assert!(try_one(&|value| value.protocol = None).is_err());
    assert!(try_one(&|value| value.protocol_type.clear()).is_err());
    assert!(try_one(&|value| value.members.push(value.members[0].clone())).is_err());
    // A leader that is no member is replaced; everything else stays.
    assert_eq!(try_one(&|value| value.leader = Some("nobody".into())), Ok(Replayed::Applied));
    assert_eq!(host.image(), [Change::Group { group: "g".into(), value: Some(one_member()) }]);
}

#[test]
fn foreign_bytes_are_refused_and_never_panic() {
    let member = write_record(&Change::Group { group: "g".into(), value: Some(one_member()) });
    let offset = write_record(&offset(Some(committed())));
    for record in [member, offset] {
        let value = record.value.expect("not a tombstone");
        for end in 0..value.len() {
            assert!(
                read_record(&record.key, Some(&value[..end])).is_err(),
                "cut after {end} bytes"
            );
        }
        for end in 0..record.key.len() {
            assert!(read_record(&record.key[..end], None).is_err(), "key cut after {end} bytes");
        }
        // Each byte changed in turn: whatever comes out, nothing breaks, and the host holds its invariants.
        for place in 0..value.len() {
            for byte in [0x00, 0x01, 0x04, 0x7f, 0x80, 0xff] {
                let mut broken = value.clone();
                broken[place] = byte;
                let mut host = Host::new(GroupConfig::default());
                let _ = host.replay(&record.key, Some(&broken));
                let now = Now { monotonic_ms: 0, unix_ms: 0 };
                let _ = host.loaded(now);
                let _ = host.tick(Now { monotonic_ms: u64::MAX - 1, unix_ms: i64::MAX });
                host.check();
            }
        }
    }
}

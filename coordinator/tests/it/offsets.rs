//! What happens to committed offsets, told one at a time.

use corelane_coordinator::*;

use crate::world::{GROUP, World};

fn world() -> World {
    World::with_clients(GroupConfig::default(), &[(3, None)])
}

/// A group "g" of one member that reads topic "t".
fn reading() -> World {
    let mut world = world();
    world.join(0);
    world.pass(20);
    world.sync(0);
    world.log_takes_all();
    world
}

fn committed(world: &mut World) -> String {
    let token =
        world.ask(0, Request::OffsetFetch(OffsetFetch { group: GROUP.into(), topics: None }));
    match world.answer(token) {
        Some(Answer::OffsetFetch(answer)) => {
            let mut found = Vec::new();
            for topic in &answer.topics {
                found.extend(
                    topic
                        .partitions
                        .iter()
                        .map(|p| format!("{}-{}:{}", topic.topic, p.partition, p.offset)),
                );
            }
            found.join(" ")
        }
        None => "waits".into(),
        other => panic!("a fetch is answered as one, not {other:?}"),
    }
}

fn commit_error(world: &World, token: Token) -> Option<GroupError> {
    match world.answer(token) {
        Some(Answer::OffsetCommit(answer)) => answer.topics[0].partitions[0].error,
        other => panic!("a commit was to be answered, not {other:?}"),
    }
}

fn delete_offset(world: &mut World, topic: &str) -> Token {
    let topics = vec![(topic.to_owned(), vec![0])];
    world.ask(0, Request::OffsetDelete(OffsetDelete { group: GROUP.into(), topics }))
}

fn delete_group(world: &mut World) -> Token {
    world.ask(0, Request::Delete(DeleteGroup { group: GROUP.into() }))
}

#[test]
fn a_commit_is_answered_when_its_record_is_committed() {
    let mut world = world();
    let token = world.commit(None, 0, 42);
    assert_eq!(world.answer(token), None);
    world.log_takes_one();
    assert_eq!(commit_error(&world, token), None);
    assert_eq!(committed(&mut world), "t-0:42");
    world.verify();
}

#[test]
fn a_fetch_does_not_overtake_a_commit_before_it() {
    let mut world = world();
    world.commit(None, 0, 1);
    assert_eq!(committed(&mut world), "waits");
    world.log_takes_one();
    assert!(world.waiting.is_empty());
    assert!(
        matches!(&world.answers.last(), Some((_, Answer::OffsetFetch(a))) if a.topics[0].partitions[0].offset == 1)
    );
}

#[test]
fn a_refused_commit_leaves_what_was_there() {
    let mut world = world();
    world.commit(None, 0, 1);
    world.log_takes_one();
    let second = world.commit(None, 0, 2);
    let third = world.commit(None, 1, 3);
    world.log_refuses(0, WriteFailure::Unavailable);
    assert_eq!(commit_error(&world, second), Some(GroupError::CoordinatorNotAvailable));
    world.log_takes_one();
    assert_eq!(commit_error(&world, third), None);
    assert_eq!(committed(&mut world), "t-0:1 t-1:3");
    world.verify();
}

#[test]
fn a_group_whose_only_commit_was_refused_was_never_there() {
    let mut world = world();
    world.commit(None, 0, 1);
    world.log_refuses(0, WriteFailure::TooLarge);
    assert_eq!(world.host.group_count(), 0);
}

#[test]
fn a_read_behind_a_refused_write_still_waits_for_older_ones() {
    let mut world = world();
    world.commit(None, 0, 1);
    world.commit(None, 0, 2);
    assert_eq!(committed(&mut world), "waits");
    world.log_refuses(1, WriteFailure::Unavailable);
    assert_eq!(world.waiting.len(), 2, "the first commit and the read");
    world.log_takes_one();
    assert_eq!(committed(&mut world), "t-0:1");
    assert!(world.waiting.is_empty());
}

#[test]
fn commits_are_checked_against_the_generation() {
    let mut world = reading();
    let mut wrong = world.commit_request(Some(0), 0, 1);
    wrong.generation = 7;
    let token = world.ask(0, Request::OffsetCommit(wrong));
    assert_eq!(commit_error(&world, token), Some(GroupError::IllegalGeneration));
    // A consumer that assigns its own partitions has no business in a group with members.
    let token = world.commit(None, 0, 1);
    assert_eq!(commit_error(&world, token), Some(GroupError::UnknownMemberId));
    let mut missing = world.commit_request(Some(0), 0, 1);
    missing.group = "other".into();
    let token = world.ask(0, Request::OffsetCommit(missing.clone()));
    assert_eq!(commit_error(&world, token), Some(GroupError::IllegalGeneration));
    missing.version = 9;
    let token = world.ask(0, Request::OffsetCommit(missing));
    assert_eq!(commit_error(&world, token), Some(GroupError::GroupIdNotFound));
}

#[test]
fn metadata_has_a_limit_of_its_own_and_spares_the_other_partitions() {
    let mut world = world();
    let mut request = world.commit_request(None, 0, 1);
    let mut large = request.topics[0].partitions[0].clone();
    large.partition = 1;
    large.metadata = Some("x".repeat(4_097));
    request.topics[0].partitions.push(large);
    let token = world.ask(0, Request::OffsetCommit(request));
    world.log_takes_all();
    let Some(Answer::OffsetCommit(answer)) = world.answer(token) else { panic!("committed") };
    let errors: Vec<_> = answer.topics[0].partitions.iter().map(|p| p.error).collect();
    assert_eq!(errors, [None, Some(GroupError::OffsetMetadataTooLarge)]);
    assert_eq!(committed(&mut world), "t-0:1");
}

#[test]
fn what_was_never_committed_is_minus_one_even_without_a_group() {
    let mut world = world();
    let topics = Some(vec![("t".to_owned(), vec![0])]);
    let token = world.ask(0, Request::OffsetFetch(OffsetFetch { group: "nobody".into(), topics }));
    let Some(Answer::OffsetFetch(answer)) = world.answer(token) else { panic!("answered at once") };
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((answer.error, partition.offset, partition.leader_epoch), (None, -1, -1));
}

#[test]
fn the_offset_of_a_topic_the_group_reads_cannot_be_deleted() {
    let mut world = reading();
    world.commit(Some(0), 0, 5);
    world.log_takes_all();
    let token = delete_offset(&mut world, "t");
    let Some(Answer::OffsetDelete(answer)) = world.answer(token) else {
        panic!("answered at once")
    };
    assert_eq!(answer.topics[0].partitions[0].error, Some(GroupError::GroupSubscribedToTopic));
    let mut other = world.commit_request(Some(0), 0, 6);
    other.topics[0].topic = "u".into();
    world.ask(0, Request::OffsetCommit(other));
    world.log_takes_all();
    delete_offset(&mut world, "u");
    world.log_takes_all();
    assert_eq!(committed(&mut world), "t-0:5");
    world.verify();
}

#[test]
fn deleting_a_group_takes_the_offsets_in_flight_with_it() {
    let mut world = world();
    world.commit(None, 0, 1);
    let token = delete_group(&mut world);
    let late = world.commit(None, 1, 2);
    assert_eq!(world.in_flight.len(), 2, "the late commit waits for the deletion");
    world.log_takes_one();
    world.log_takes_one();
    assert_eq!(world.answer(token), Some(&Answer::Delete(DeleteAnswer { error: None })));
    world.log_takes_one();
    assert_eq!(commit_error(&world, late), None);
    assert_eq!(committed(&mut world), "t-1:2");
    world.verify();
}

#[test]
fn a_refused_deletion_changes_nothing() {
    let mut world = world();
    world.commit(None, 0, 1);
    world.log_takes_one();
    let token = delete_group(&mut world);
    world.log_refuses(0, WriteFailure::NotLeader);
    let refused = DeleteAnswer { error: Some(GroupError::NotCoordinator) };
    assert_eq!(world.answer(token), Some(&Answer::Delete(refused)));
    assert_eq!(committed(&mut world), "t-0:1");
}

#[test]
fn only_an_empty_group_that_exists_can_be_deleted() {
    let mut world = reading();
    let token = delete_group(&mut world);
    let busy = DeleteAnswer { error: Some(GroupError::NonEmptyGroup) };
    assert_eq!(world.answer(token), Some(&Answer::Delete(busy)));
    let token = world.ask(0, Request::Delete(DeleteGroup { group: "nobody".into() }));
    let missing = DeleteAnswer { error: Some(GroupError::GroupIdNotFound) };
    assert_eq!(world.answer(token), Some(&Answer::Delete(missing)));
}

const DAY_MS: u64 = 24 * 3_600_000;

#[test]
fn an_empty_groups_offsets_expire_after_the_last_member_left_and_the_group_with_them() {
    let mut world = reading();
    world.commit(Some(0), 0, 1);
    world.log_takes_all();
    // Committed long ago, but in use until now.
    for _ in 0..8 * 24 * 360 {
        world.pass(10_000 - 1);
        world.beat(0);
    }
    world.leave(0);
    world.log_takes_all();
    world.pass(6 * DAY_MS);
    world.log_takes_all();
    assert_eq!(committed(&mut world), "t-0:1");
    world.pass(DAY_MS + 600_000);
    world.log_takes_all();
    assert_eq!(world.host.group_count(), 0);
    world.verify();
}

#[test]
fn a_simple_groups_offsets_expire_by_their_commits() {
    let mut world = world();
    world.commit(None, 0, 1);
    world.log_takes_all();
    world.pass(4 * DAY_MS);
    world.commit(None, 1, 2);
    world.log_takes_all();
    world.pass(3 * DAY_MS + 600_000);
    world.log_takes_all();
    assert_eq!(committed(&mut world), "t-1:2");
    world.verify();
}

#[test]
fn an_offset_may_bring_its_own_expiry() {
    let mut world = world();
    let mut request = world.commit_request(None, 0, 1);
    request.retention_ms = Some(1_000);
    world.ask(0, Request::OffsetCommit(request));
    world.log_takes_all();
    world.pass(600_000);
    world.log_takes_all();
    assert_eq!(world.host.group_count(), 0);
}

#[test]
fn offsets_of_deleted_topics_go_with_them() {
    let mut world = world();
    world.commit(None, 0, 1);
    world.log_takes_all();
    let outcome = world.host.topics_deleted(&["t".to_owned(), "other".to_owned()]);
    world.take(outcome);
    world.log_takes_all();
    assert_eq!(world.host.group_count(), 0);
    world.verify();
}

#[test]
fn a_round_of_expiry_reaches_more_groups_than_one_tick_does() {
    let mut world = world();
    for name in 0..2 * EXPIRY_GROUPS_PER_TICK_MAX + 1 {
        let mut request = world.commit_request(None, 0, 1);
        request.group = format!("simple-{name}");
        world.ask(0, Request::OffsetCommit(request));
        world.log_takes_all();
    }
    world.pass(7 * DAY_MS);
    for _ in 0..2 {
        world.pass_to_deadline();
    }
    world.log_takes_all();
    assert_eq!(world.host.group_count(), 0);
}

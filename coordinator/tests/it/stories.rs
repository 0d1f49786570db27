//! What members live through, told one at a time.

use corelane_coordinator::*;

use crate::world::{GROUP, World};

fn world(clients: &[(i16, Option<&str>)]) -> World {
    World::with_clients(GroupConfig::default(), clients)
}

/// Clients join until each has a place, and sync until each has an assignment.
fn stable(clients: &[(i16, Option<&str>)]) -> World {
    let mut world = world(clients);
    for client in 0..clients.len() {
        come_in(&mut world, client);
    }
    world.pass(20);
    for client in 0..clients.len() {
        world.sync(client);
    }
    world.log_takes_all();
    assert_eq!(world.state(), "Stable");
    assert!(world.waiting.is_empty());
    world.verify();
    world
}

fn come_in(world: &mut World, client: usize) {
    world.join(client);
    if world.clients[client].last_error == Some(GroupError::MemberIdRequired) {
        world.join(client);
    }
}

fn join_answer(world: &World, token: Token) -> &JoinAnswer {
    match world.answer(token) {
        Some(Answer::Join(answer)) => answer,
        other => panic!("a join was to be answered, not {other:?}"),
    }
}

#[test]
fn a_lone_member_has_its_first_generation_after_the_quiet_time() {
    let mut world = world(&[(5, None)]);
    let first = world.join(0);
    assert_eq!(join_answer(&world, first).error, Some(GroupError::MemberIdRequired));
    world.pass(1);
    let second = world.join(0);
    assert_eq!(world.answer(second), None);
    // The second join was announced by the first: it does not begin the quiet time again.
    world.pass(18);
    assert_eq!(world.answer(second), None);
    world.pass(1);
    let answer = join_answer(&world, second);
    assert_eq!((answer.error, answer.generation), (None, 1));
    assert_eq!(answer.leader, answer.member);
    assert_eq!(answer.members.len(), 1);
}

#[test]
fn members_that_start_together_share_the_first_generation() {
    let mut world = world(&[(5, None), (5, None), (3, None)]);
    for client in 0..3 {
        come_in(&mut world, client);
        world.pass(15);
    }
    world.pass(5);
    assert!(world.waiting.is_empty());
    assert!(world.clients.iter().all(|client| client.generation == 1));
}

#[test]
fn the_first_generation_waits_for_a_member_that_was_promised_its_id() {
    let mut world = world(&[(5, None), (5, None)]);
    come_in(&mut world, 0);
    world.join(1);
    world.pass(200);
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(1);
    world.pass(20);
    assert!(world.clients.iter().all(|client| client.generation == 1));
}

#[test]
fn a_promised_member_that_never_comes_costs_a_quarter_of_a_second() {
    let mut world = world(&[(5, None), (5, None)]);
    come_in(&mut world, 0);
    world.join(1);
    world.pass(PROMISED_MEMBER_WAIT_MS);
    assert_eq!(world.clients[0].generation, 1);
}

#[test]
fn a_look_up_during_the_first_rebalance_makes_it_wait() {
    let mut world = world(&[(3, None), (3, None)]);
    world.join(0);
    world.pass(15);
    world.host.looked_up(world.now, GROUP);
    world.pass(15);
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(1);
    world.pass(20);
    assert!(world.clients.iter().all(|client| client.generation == 1));
}

#[test]
fn newcomers_cannot_prolong_the_first_rebalance_beyond_the_initial_delay() {
    let config = GroupConfig { initial_rebalance_delay_ms_max: 100, ..GroupConfig::default() };
    let mut world = World::with_clients(config, &[(3, None)]);
    world.join(0);
    for _ in 0..9 {
        world.pass(10);
        world.host.looked_up(world.now, GROUP);
    }
    assert_eq!(world.clients[0].generation, 0);
    world.pass(10);
    assert_eq!(world.clients[0].generation, 1);
}

#[test]
fn without_an_initial_delay_nobody_waits() {
    let config = GroupConfig { initial_rebalance_delay_ms_max: 0, ..GroupConfig::default() };
    let mut world = World::with_clients(config, &[(3, None)]);
    world.join(0);
    world.pass_to_deadline();
    assert_eq!((world.now.monotonic_ms, world.clients[0].generation), (1_000, 1));
}

#[test]
fn nobody_has_an_assignment_before_it_is_committed() {
    let mut world = world(&[(5, None), (5, None)]);
    come_in(&mut world, 0);
    come_in(&mut world, 1);
    world.pass(20);
    world.sync(0);
    world.sync(1);
    assert_eq!(world.waiting.len(), 2);
    assert_eq!(world.state(), "CompletingRebalance");
    world.log_takes_one();
    assert!(world.waiting.is_empty());
    assert_eq!(world.clients[0].assignment, Some(vec![1]));
    assert_eq!(world.clients[1].assignment, Some(vec![2]));
}

#[test]
fn a_refused_assignment_is_nobodys() {
    let mut world = world(&[(5, None), (5, None)]);
    come_in(&mut world, 0);
    come_in(&mut world, 1);
    world.pass(20);
    let follower = usize::from(world.clients[0].leads);
    world.sync(follower);
    world.sync(1 - follower);
    world.log_refuses(0, WriteFailure::Unavailable);
    assert!(world.waiting.is_empty());
    assert_eq!(world.clients[follower].last_error, Some(GroupError::CoordinatorNotAvailable));
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(0);
    world.join(1);
    assert!(world.clients.iter().all(|client| client.generation == 2));
}

#[test]
fn a_newcomer_makes_the_others_join_again() {
    let mut world = stable(&[(5, None), (5, None)]);
    world.clients.push(crate::world::Client {
        version: 5,
        protocols: vec!["range"],
        ..Default::default()
    });
    come_in(&mut world, 2);
    world.beat(0);
    assert_eq!(world.clients[0].last_error, Some(GroupError::RebalanceInProgress));
    // What it read may still be committed: it still owns its partitions.
    let commit = world.commit(Some(0), 0, 5);
    world.log_takes_all();
    assert!(
        matches!(world.answer(commit), Some(Answer::OffsetCommit(a)) if a.topics[0].partitions[0].error.is_none())
    );
    world.join(0);
    world.join(1);
    assert!(world.clients.iter().all(|client| client.generation == 2));
    // Now its partitions may be somebody else's.
    let commit = world.commit(Some(0), 0, 6);
    let refused = GroupError::RebalanceInProgress;
    assert!(
        matches!(world.answer(commit), Some(Answer::OffsetCommit(a)) if a.topics[0].partitions[0].error == Some(refused))
    );
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut world = stable(&[(5, None), (5, None)]);
    world.pass(6_000);
    world.beat(0);
    world.pass(4_000);
    assert_eq!(world.state(), "PreparingRebalance");
    world.beat(1);
    assert_eq!(world.clients[1].last_error, Some(GroupError::UnknownMemberId));
    world.join(0);
    assert_eq!(world.clients[0].generation, 2);
    assert_eq!(world.clients[0].members.len(), 1);
}

#[test]
fn a_member_that_does_not_join_again_is_out_after_the_rebalance_time() {
    let mut world = stable(&[(5, None), (5, None)]);
    let leader = usize::from(world.clients[1].leads);
    world.join(leader);
    for _ in 0..4 {
        world.pass(5_000);
        world.beat(1 - leader);
    }
    assert_eq!(world.clients[leader].generation, 2);
    assert_eq!(world.clients[1 - leader].last_error, Some(GroupError::UnknownMemberId));
}

#[test]
fn a_leader_that_never_assigns_is_out_and_another_leads() {
    let mut world = world(&[(5, None), (5, None)]);
    come_in(&mut world, 0);
    come_in(&mut world, 1);
    world.pass(20);
    let leader = usize::from(world.clients[1].leads);
    world.sync(1 - leader);
    for _ in 0..4 {
        world.pass(5_000);
        world.beat(leader);
    }
    assert_eq!(world.clients[1 - leader].last_error, Some(GroupError::RebalanceInProgress));
    world.join(1 - leader);
    assert!(world.clients[1 - leader].leads);
    assert_eq!(world.clients[1 - leader].generation, 2);
}

#[test]
fn the_last_member_to_leave_waits_for_the_log() {
    let mut world = stable(&[(5, None)]);
    let left = world.leave(0);
    assert_eq!(world.answer(left), None);
    assert_eq!(world.state(), "Empty");
    world.log_takes_one();
    assert!(matches!(world.answer(left), Some(Answer::Leave(a)) if a.error.is_none()));
    world.verify();
}

#[test]
fn an_emptied_group_is_written_again_when_the_log_refused_it() {
    let mut world = stable(&[(5, None)]);
    world.leave(0);
    world.log_refuses(0, WriteFailure::Unavailable);
    assert!(world.in_flight.is_empty());
    world.pass(REWRITE_AFTER_MS);
    assert_eq!(world.in_flight.len(), 1);
    world.log_takes_one();
    world.verify();
    assert!(
        matches!(&world.host.image()[..], [Change::Group { value: Some(v), .. }] if v.members.is_empty())
    );
}

#[test]
fn a_static_member_that_restarts_takes_its_place_without_a_rebalance() {
    let mut world = stable(&[(9, Some("rock")), (5, None)]);
    let before = world.clients[0].member.clone();
    let leads = world.clients[0].leads;
    world.crash(0);
    let token = world.join(0);
    assert_eq!(world.answer(token), None, "its new id is not known before it is committed");
    world.log_takes_one();
    let answer = join_answer(&world, token);
    assert_eq!((answer.error, answer.generation), (None, 1));
    assert_eq!(answer.skip_assignment, leads);
    assert_ne!(answer.member, before);
    world.sync(0);
    let place = if leads { 1 } else { 2 };
    assert!(world.clients[0].assignment.as_ref().is_some_and(|a| a.len() == 1), "{place}");
    assert_eq!(world.state(), "Stable");
    let zombie = Heartbeat {
        group: GROUP.into(),
        generation: 1,
        member: before,
        instance: Some("rock".into()),
    };
    let token = world.ask(1, Request::Heartbeat(zombie));
    let fenced = HeartbeatAnswer { error: Some(GroupError::FencedInstanceId) };
    assert_eq!(world.answer(token), Some(&Answer::Heartbeat(fenced)));
}

#[test]
fn an_old_static_leader_is_told_the_leader_before_it() {
    let mut world = stable(&[(6, Some("rock"))]);
    let before = world.clients[0].member.clone();
    world.crash(0);
    let token = world.join(0);
    world.log_takes_one();
    let answer = join_answer(&world, token);
    assert_eq!(answer.leader, before);
    assert!(answer.members.is_empty() && !answer.skip_assignment);
}

#[test]
fn a_refused_replacement_leaves_the_predecessor_in_its_place() {
    let mut world = stable(&[(9, Some("rock"))]);
    let image = world.host.image();
    let old = world.clients[0].clone();
    world.crash(0);
    world.join(0);
    world.log_refuses(0, WriteFailure::NotLeader);
    assert_eq!(world.clients[0].last_error, Some(GroupError::NotCoordinator));
    assert_eq!(world.host.image(), image);
    world.clients[0] = old;
    world.beat(0);
    assert_eq!(world.clients[0].last_error, None);
}

#[test]
fn a_static_member_keeps_its_place_while_it_is_away() {
    let mut world = stable(&[(5, Some("rock")), (5, None)]);
    world.leave(1);
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(0);
    assert_eq!(world.clients[0].generation, 2);
}

#[test]
fn requests_wait_in_order_while_the_group_is_at_rest() {
    let mut world = stable(&[(5, None), (5, None)]);
    let leader = usize::from(world.clients[1].leads);
    world.join(leader);
    world.join(1 - leader);
    let leader = usize::from(world.clients[1].leads);
    world.sync(leader);
    let left = world.leave(1 - leader);
    assert_eq!(world.answer(left), None);
    world.log_takes_one();
    assert!(matches!(world.answer(left), Some(Answer::Leave(a)) if a.members[0].error.is_none()));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn members_vote_for_the_first_protocol_all_of_them_know() {
    let mut world = world(&[(3, None), (3, None), (3, None)]);
    world.clients[0].protocols = vec!["cooperative-sticky", "range"];
    world.clients[1].protocols = vec!["roundrobin", "range", "cooperative-sticky"];
    world.clients[2].protocols = vec!["cooperative-sticky", "range"];
    let token = world.join(0);
    world.join(1);
    world.join(2);
    world.pass(20);
    assert_eq!(join_answer(&world, token).protocol.as_deref(), Some("cooperative-sticky"));
}

#[test]
fn somebody_who_shares_no_protocol_is_refused() {
    let mut world = stable(&[(5, None)]);
    world.clients.push(crate::world::Client {
        version: 5,
        protocols: vec!["other"],
        ..Default::default()
    });
    world.join(1);
    assert_eq!(world.clients[1].last_error, Some(GroupError::InconsistentGroupProtocol));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let config = GroupConfig { group_size_max: 1, ..GroupConfig::default() };
    let mut world = World::with_clients(config, &[(3, None), (3, None)]);
    world.join(0);
    world.join(1);
    assert_eq!(world.clients[1].last_error, Some(GroupError::GroupMaxSizeReached));
}

#[test]
fn groups_and_their_members_survive_a_restart() {
    let mut world = stable(&[(5, None), (9, Some("rock"))]);
    let image = world.host.image();
    world.restart();
    assert_eq!(world.host.image(), image);
    world.beat(0);
    world.beat(1);
    assert_eq!((world.clients[0].last_error, world.clients[1].last_error), (None, None));
    world.pass(6_000);
    world.beat(1);
    world.pass(4_000);
    assert_eq!(world.state(), "PreparingRebalance", "after the restart silence counts again");
}

#[test]
fn a_host_that_loads_asks_for_patience_and_keeps_members_calm() {
    let mut host = Host::new(GroupConfig::default());
    let now = Now { monotonic_ms: 0, unix_ms: 0 };
    let beat = Heartbeat { group: GROUP.into(), generation: 1, member: "m".into(), instance: None };
    let outcome = host.handle(now, Token(1), Request::Heartbeat(beat));
    assert_eq!(outcome.replies[0].answer, Answer::Heartbeat(HeartbeatAnswer { error: None }));
    let outcome = host.handle(now, Token(2), Request::Delete(DeleteGroup { group: GROUP.into() }));
    let loading = DeleteAnswer { error: Some(GroupError::CoordinatorLoadInProgress) };
    assert_eq!(outcome.replies[0].answer, Answer::Delete(loading));
}

#[test]
fn a_host_that_stops_answers_everybody() {
    let mut world = world(&[(3, None), (3, None)]);
    world.join(0);
    world.commit(None, 0, 1);
    let outcome = world.host.stop(GroupError::NotCoordinator);
    world.take(outcome);
    assert!(world.waiting.is_empty());
    world.join(1);
    assert_eq!(world.clients[1].last_error, Some(GroupError::NotCoordinator));
}

#[test]
fn time_outs_outside_the_range_and_empty_names_are_refused() {
    let mut world = world(&[(5, None)]);
    let ask = |world: &mut World, group: &str, session_timeout_ms: i32| {
        let request = JoinGroup {
            version: 5,
            group: group.into(),
            member: String::new(),
            instance: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms,
            rebalance_timeout_ms: -1,
            protocol_type: "connect".into(),
            protocols: vec![Protocol { name: "sessioned".into(), metadata: vec![1] }],
            fresh_id: 1,
        };
        let token = world.ask(0, Request::Join(request));
        join_answer(world, token).error
    };
    assert_eq!(ask(&mut world, "", 10_000), Some(GroupError::InvalidGroupId));
    assert_eq!(ask(&mut world, "g", 5_999), Some(GroupError::InvalidSessionTimeout));
    assert_eq!(ask(&mut world, "g", 1_800_001), Some(GroupError::InvalidSessionTimeout));
    assert_eq!(ask(&mut world, "g", 6_000), Some(GroupError::MemberIdRequired));
}

#[test]
fn an_assignment_larger_than_a_record_is_refused_and_the_group_starts_over() {
    let mut world = world(&[(5, None)]);
    come_in(&mut world, 0);
    world.pass(20);
    let request = SyncGroup {
        group: GROUP.into(),
        generation: 1,
        member: world.clients[0].member.clone(),
        instance: None,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: vec![(world.clients[0].member.clone(), vec![0; GROUP_METADATA_BYTES_MAX])],
    };
    world.ask(0, Request::Sync(request));
    assert_eq!(world.clients[0].last_error, Some(GroupError::UnknownServerError));
    assert!(world.in_flight.is_empty());
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut world = stable(&[(5, None)]);
    let mut other = world.commit_request(None, 0, 1);
    other.group = "simple".into();
    world.ask(0, Request::OffsetCommit(other));
    world.log_takes_all();
    let mut list = |states: &[&str], types: &[&str]| {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let token =
            world.ask(0, Request::List(ListGroups { states: own(states), types: own(types) }));
        match world.answer(token) {
            Some(Answer::List(list)) => list
                .groups
                .iter()
                .map(|g| format!("{}:{}:{}", g.group, g.state, g.protocol_type))
                .collect::<Vec<_>>()
                .join(" "),
            other => panic!("a listing is answered at once, not {other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), "g:Stable:consumer simple:Empty:");
    assert_eq!(list(&[" stable"], &["Classic"]), "g:Stable:consumer");
    assert_eq!(list(&["Empty", "Dead"], &[]), "simple:Empty:");
    assert_eq!(list(&[], &["consumer"]), "");
}

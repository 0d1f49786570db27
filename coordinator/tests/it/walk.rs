//! Every short history, from four places: nobody there, two members at work, an assignment on its way to the log,
//! and a static member beside a dynamic one.

use corelane_coordinator::{DeleteGroup, GroupConfig, Request, WriteFailure};

use crate::world::{GROUP, World};

#[derive(Debug, Clone, Copy)]
enum Step {
    Join(usize),
    Sync(usize),
    Leave(usize),
    Crash(usize),
    Beat(usize),
    Commit(usize),
    Taken,
    Refused,
    Time,
    Delete,
    Restart,
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for client in 0..2 {
        steps.extend([Step::Join(client), Step::Sync(client), Step::Leave(client)]);
    }
    steps.extend([Step::Crash(0), Step::Beat(1), Step::Commit(1), Step::Taken, Step::Refused]);
    steps.extend([Step::Time, Step::Delete, Step::Restart]);
    steps
}

fn apply(world: &mut World, step: Step) -> bool {
    match step {
        Step::Join(client) => drop(world.join(client)),
        Step::Sync(client) => drop(world.sync(client)),
        Step::Leave(client) => drop(world.leave(client)),
        Step::Crash(client) if world.clients[client].member.is_empty() => return false,
        Step::Crash(client) => world.crash(client),
        Step::Beat(client) => drop(world.beat(client)),
        Step::Commit(client) => drop(world.commit(Some(client), 0, 7)),
        Step::Taken => return world.log_takes_one(),
        Step::Refused => return world.log_refuses(0, WriteFailure::Unavailable),
        Step::Time => return world.pass_to_deadline(),
        Step::Delete => drop(world.ask(0, Request::Delete(DeleteGroup { group: GROUP.into() }))),
        Step::Restart if world.log.is_empty() => return false,
        Step::Restart => world.restart(),
    }
    true
}

/// Walks every history of `depth` steps. Returns how many steps were taken, and how many histories ended.
fn walk(world: &World, depth: usize, steps: &[Step]) -> (usize, usize) {
    if depth == 0 {
        world.clone().drain();
        return (0, 1);
    }
    let (mut taken, mut ended) = (0, 0);
    for step in steps {
        let mut next = world.clone();
        if apply(&mut next, *step) {
            next.verify();
            let (more, leaves) = walk(&next, depth - 1, steps);
            taken += 1 + more;
            ended += leaves;
        }
    }
    (taken, ended)
}

const DEPTH: usize = 4;

fn check(world: &World, histories_min: usize) {
    let (taken, ended) = walk(world, DEPTH, &steps());
    assert!(
        histories_min < ended && ended < taken,
        "the walk became empty: {taken} steps, {ended} histories"
    );
}

fn two_at_work(clients: &[(i16, Option<&str>)]) -> World {
    let mut world = World::with_clients(GroupConfig::default(), clients);
    for client in 0..2 {
        world.join(client);
        if world.clients[client].generation == 0 && !world.clients[client].member.is_empty() {
            world.join(client);
        }
    }
    world.pass_to_deadline();
    world
}

#[test]
fn every_short_history_from_an_empty_group() {
    check(&World::with_clients(GroupConfig::default(), &[(5, None), (3, None)]), 5_000);
}

#[test]
fn every_short_history_of_two_members_at_work() {
    let mut world = two_at_work(&[(5, None), (9, None)]);
    world.sync(0);
    world.sync(1);
    world.log_takes_all();
    assert_eq!(world.state(), "Stable");
    check(&world, 5_000);
}

#[test]
fn every_short_history_while_an_assignment_is_in_flight() {
    let mut world = two_at_work(&[(5, None), (5, None)]);
    let leader = usize::from(world.clients[1].leads);
    world.sync(leader);
    assert_eq!(world.in_flight.len(), 1);
    check(&world, 5_000);
}

#[test]
fn every_short_history_of_a_static_member() {
    let mut world = two_at_work(&[(9, Some("rock")), (5, None)]);
    world.sync(0);
    world.sync(1);
    world.log_takes_all();
    assert_eq!(world.state(), "Stable");
    check(&world, 5_000);
}

//! Long random histories of four clients, with everything that can go wrong. A failure prints its seed;
//! `COORDINATOR_SEED=n cargo test -p corelane-coordinator --test it random` replays it.

use corelane_coordinator::*;

use crate::world::{GROUP, World};

/// A small generator of ours, so that a seed means the same for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Reached {
    stable: u32,
    refused: u32,
    commits: u32,
    deleted: u32,
    expired: u32,
    replaced: u32,
}

fn history(seed: u64, steps: u32) -> Reached {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let config = GroupConfig { group_size_max: 3, ..GroupConfig::default() };
    let clients = [(5, None), (3, None), (9, Some("rock")), (6, Some("sand"))];
    let mut world = World::with_clients(config, &clients);
    world.clients[1].protocols = vec!["range", "roundrobin"];
    let mut reached = Reached::default();
    for _ in 0..steps {
        one_step(&mut world, &mut dice, &mut reached);
        world.verify();
        world.answers.clear();
    }
    world.drain();
    reached
}

fn one_step(world: &mut World, dice: &mut Dice, reached: &mut Reached) {
    let client = usize::try_from(dice.below(4)).unwrap();
    match dice.below(100) {
        0..=21 => drop(world.join(client)),
        22..=37 => drop(world.sync(client)),
        38..=41 => drop(world.beat(client)),
        42..=44 => drop(world.leave(client)),
        45..=46 => {
            reached.replaced += u32::from(world.clients[client].instance.is_some());
            world.crash(client);
        }
        47..=54 => {
            let who = Some(client).filter(|_| dice.below(4) != 0);
            let offset = i64::try_from(dice.below(1_000)).unwrap();
            world.commit(who, i32::try_from(dice.below(3)).unwrap(), offset);
            reached.commits += 1;
        }
        55..=57 => {
            let topics = (dice.below(2) == 0).then(|| vec![("t".to_owned(), vec![0, 1])]);
            world.ask(client, Request::OffsetFetch(OffsetFetch { group: GROUP.into(), topics }));
        }
        58 => {
            let topics = vec![("t".to_owned(), vec![0])];
            world.ask(client, Request::OffsetDelete(OffsetDelete { group: GROUP.into(), topics }));
        }
        59 => {
            let before = world.host.group_count();
            world.ask(client, Request::Delete(DeleteGroup { group: GROUP.into() }));
            reached.deleted += u32::from(before == 1 && world.in_flight.len() == 1);
        }
        60 => {
            let outcome = world.host.topics_deleted(&["t".to_owned()]);
            world.take(outcome);
        }
        61 if dice.below(4) == 0 => world.restart(),
        62 if dice.below(4) == 0 => {
            world.pass(8 * 24 * 3_600_000);
            reached.expired += 1;
        }
        63..=66 => {
            let kinds =
                [WriteFailure::Unavailable, WriteFailure::NotLeader, WriteFailure::TooLarge];
            let kind = kinds[usize::try_from(dice.below(3)).unwrap()];
            let place = usize::try_from(dice.below(2)).unwrap();
            reached.refused += u32::from(world.log_refuses(place, kind));
        }
        67..=86 => drop(world.log_takes_one()),
        87..=93 => world.pass(dice.below(30)),
        94..=97 => drop(world.pass_to_deadline()),
        _ => reached.stable += u32::from(world.state() == "Stable"),
    }
}

#[test]
fn long_random_histories_hold_what_they_promise() {
    if let Ok(seed) = std::env::var("COORDINATOR_SEED") {
        history(seed.parse().expect("a seed is a number"), 2_000);
        return;
    }
    let mut sum = Reached::default();
    for seed in 0..40 {
        let reached = std::panic::catch_unwind(|| history(seed, 1_500)).unwrap_or_else(|panic| {
            eprintln!(
                "COORDINATOR_SEED={seed} cargo test -p corelane-coordinator --test it random"
            );
            std::panic::resume_unwind(panic)
        });
        sum.stable += reached.stable;
        sum.refused += reached.refused;
        sum.commits += reached.commits;
        sum.deleted += reached.deleted;
        sum.expired += reached.expired;
        sum.replaced += reached.replaced;
    }
    let all = [sum.stable, sum.refused, sum.commits, sum.deleted, sum.expired, sum.replaced];
    assert!(all.iter().all(|count| 0 < *count), "the histories became empty: {sum:?}");
}

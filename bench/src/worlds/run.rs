//! One seed: a broker, its clients, a storm, and rest.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::pin::Pin;

use corelane_broker::mutant::Mutation;
use corelane_core::lane::{Importance, Lane};
use corelane_core::ring::sim::{Chance, Faults, NodeId, Reached, World};
use corelane_core::time::Nanos;
use corelane_net::api::ApiKey;

use super::history::Place;
use super::history::Tally;
use super::load::{self, Shared};
use super::members::{self, GROUPS, Who};
use super::server::{PORT, Server};
use super::storm::{Deed, Plan, Storm};
use super::{asks, configs, lives};

/// After a storm everything that was begun is done within this time. A producer may be patient for
/// half a minute, and then try once more.
const REST: Nanos = Nanos::secs(60);

/// The largest number of lanes a broker has here.
const LANES_MAX: u64 = 3;

/// What a run did, whether or not it went well.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What must never be seen and was; empty after a good run.
    pub complaints: Vec<String>,
    pub tally: Tally,
    pub reached: Reached,
    /// What was done by hand.
    pub deeds: BTreeMap<Deed, u64>,
    /// Answers that came, by request.
    pub answers: BTreeMap<ApiKey, u64>,
    pub trace_hash: u64,
    /// What the broker said, for whoever looks into a failure.
    pub said: Vec<String>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_plan(seed, Plan::of(seed), None)
}

/// Runs a seed with a plan of one's own, and perhaps with a mistake made on purpose.
#[must_use]
pub fn run_plan(seed: u64, plan: Plan, broken: Mutation) -> Outcome {
    let mut world = World::new(seed, Faults::none());
    let lanes = u16::try_from(1 + world.random() % LANES_MAX).expect("a few");
    let server = Server::new(&mut world, NonZeroU16::new(lanes).expect("at least one"), broken);
    let clients = vec![world.node(1), world.node(1)];
    let shared = Shared::new(world.addr(server.node, PORT));
    server.start(&mut world);
    let roles = Roles::of(seed);
    let start = |world: &mut World, client: NodeId| {
        let machine = if client == clients[0] { 1 } else { 2 };
        let (shared, roles) = (shared.clone(), roles);
        world.start(client, move |lane| busy(lane, shared.clone(), machine, roles));
    };
    for client in &clients {
        start(&mut world, *client);
    }
    let mut storm = Storm::new(seed, plan, clients.clone());
    storm.rage(&mut world, &server, &start);
    storm.heal(&mut world, &server);
    shared.over.set(true);
    let mut late = Vec::new();
    let mut rest = |world: &mut World, what: &str| {
        let open = &shared.open;
        let limit = world.now() + REST;
        while 0 < open.get() && world.now() < limit {
            world.run_for(Nanos::millis(20));
            server.watch(world);
            if !world.is_running(server.node) {
                server.restart(world);
            }
        }
        if 0 < open.get() {
            late.push(format!("{what}: {} are not done within {REST:?}", open.get()));
            open.set(0);
        }
    };
    rest(&mut world, "work of the storm");
    let quiet = world.node(1);
    let mut restarted = false;
    for phase in [Phase::Settle, Phase::Drain, Phase::Again, Phase::Again, Phase::ReadAll] {
        if let Phase::Again = phase {
            if !roles.again {
                continue;
            }
            if !std::mem::replace(&mut restarted, true) {
                // What is read now lies in files alone; and whoever comes next shares it.
                world.kill(server.node);
            }
        }
        let shared = shared.clone();
        world.start(quiet, move |lane| calm(lane, shared.clone(), phase, roles));
        world.run_for(Nanos::millis(1));
        rest(&mut world, &format!("{phase:?}"));
        world.kill(quiet);
    }
    let mut history = shared.history.take();
    history.tally.add("restarts", server.restarts.get());
    let disorder = shared.counts.disorder();
    if 0 < disorder {
        late.push(format!("answers: {disorder} came out of order"));
    }
    for complaint in late {
        history.fault(complaint);
    }
    let (complaints, tally) = history.finish();
    let (reached, trace_hash) = (world.reached(), world.trace_hash());
    let (answers, said) = (shared.counts.all(), server.said.take());
    let deeds = storm.done().clone();
    Outcome { complaints, tally, reached, deeds, answers, trace_hash, said }
}

/// What clients do in a world besides writing and reading. Few things at a time leave each other room.
#[derive(Debug, Clone, Copy)]
struct Roles {
    /// How many of the groups there are.
    groups: usize,
    /// Whether a topic comes and goes.
    lives: bool,
    /// Whether logs lose their beginnings.
    cuts: bool,
    /// Whether somebody asks everything.
    asks: bool,
    /// Whether somebody reads everything again and again.
    again: bool,
    /// Which of the groups gather without letting go of what they have.
    cooperative: [bool; GROUPS.len()],
    /// Whether values are altered.
    alters: bool,
}

impl Roles {
    fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed).fork(0x0000_4013);
        Self {
            groups: [0, 1, 1, 2][chance.length(0, 3)],
            lives: chance.below(3) == 0,
            cuts: chance.below(3) == 0,
            asks: chance.below(4) == 0,
            again: chance.below(3) == 0,
            cooperative: [(); GROUPS.len()].map(|()| chance.below(2) == 0),
            alters: chance.below(3) == 0,
        }
    }
}

/// A client's machine during the storm.
async fn busy(lane: Lane, shared: Shared, machine: u32, roles: Roles) {
    let spawn = |name, work: Work| lane.spawn(name, Importance::Serving, work);
    if machine == 1 {
        spawn("make topic", Box::pin(load::make_topic(lane.clone(), shared.clone())));
    }
    for (place, at) in load::places().into_iter().zip(0..) {
        let number = machine * 100 + at;
        let (lane2, shared) = (lane.clone(), shared.clone());
        if !lane.random().is_multiple_of(3) {
            let work = load::produce(lane2.clone(), shared.clone(), place.clone(), number);
            spawn("produce", Box::pin(work));
        }
        if !lane.random().is_multiple_of(3) {
            spawn("read along", Box::pin(load::read_along(lane2, shared, place, number)));
        }
    }
    for (group, at) in GROUPS.into_iter().zip(0..).take(roles.groups) {
        let cooperative = roles.cooperative[at as usize];
        for member in 0..1 + lane.random() % 2 {
            let number = machine * 100 + 50 + 10 * at + member as u32;
            let instance = lane.random().is_multiple_of(3).then(|| format!("fixed-{number}"));
            let who = Who { group, instance, number, cooperative };
            spawn("member", Box::pin(members::take_part(lane.clone(), shared.clone(), who)));
        }
    }
    let (lane2, shared2) = (lane.clone(), shared.clone());
    if roles.lives && machine == 1 {
        spawn("lives", Box::pin(lives::live_and_die(lane2.clone(), shared2.clone(), 180)));
    }
    if roles.cuts && machine == 2 {
        let place = Place { topic: load::BORN.to_owned(), partition: 0 };
        spawn("cuts", Box::pin(lives::cut(lane2.clone(), shared2.clone(), place)));
    }
    if roles.again && machine == 2 {
        for (place, at) in load::places().into_iter().zip(0..) {
            let work = load::read_again(lane.clone(), shared.clone(), place, 600 + at);
            spawn("read again", Box::pin(work));
        }
    }
    if roles.alters && machine == 1 {
        spawn("alters", Box::pin(configs::alter(lane2.clone(), shared2.clone())));
    }
    if roles.asks && machine == 2 {
        spawn("asks", Box::pin(asks::ask_everything(lane2, shared2)));
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Debug, Clone, Copy)]
enum Phase {
    Settle,
    Drain,
    Again,
    ReadAll,
}

/// A client's machine after the storm.
async fn calm(lane: Lane, shared: Shared, phase: Phase, roles: Roles) {
    let spawn = |name, work: Work| lane.spawn(name, Importance::Serving, work);
    if let Phase::Drain = phase {
        for (group, at) in GROUPS.into_iter().zip(0..).take(roles.groups) {
            let cooperative = roles.cooperative[at as usize];
            let who = Who { group, instance: None, number: 800 + at, cooperative };
            let work = members::drain(lane.clone(), shared.clone(), who);
            spawn("drain", Box::pin(work));
        }
        return;
    }
    if let (Phase::ReadAll, true) = (phase, roles.alters) {
        spawn("look at last", Box::pin(configs::look_at_last(lane.clone(), shared.clone())));
    }
    for (place, at) in load::places().into_iter().zip(0..) {
        let (lane, shared) = (lane.clone(), shared.clone());
        match phase {
            Phase::Settle => {
                spawn("settle", Box::pin(load::settle(lane, shared, place, 900 + at)));
            }
            Phase::Again => {
                spawn("read again", Box::pin(load::read_once_more(lane, shared, place, 930 + at)));
            }
            Phase::ReadAll => {
                spawn("read all", Box::pin(load::read_all(lane, shared, place, 950 + at)));
            }
            Phase::Drain => {}
        }
    }
}

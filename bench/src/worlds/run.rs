//! One seed: a broker, its clients, a storm, and rest.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use corelane_broker::mutant::Mutation;
use corelane_core::lane::{Importance, Lane};
use corelane_core::ring::sim::{Faults, Reached, World};
use corelane_core::time::Nanos;
use corelane_net::api::ApiKey;

use super::history::Tally;
use super::load::{self, Shared};
use super::server::{PORT, Server};
use super::storm::{Plan, Storm};

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
    for (client, number) in clients.iter().zip(1..) {
        let shared = shared.clone();
        world.start(*client, move |lane| busy(lane, shared.clone(), number));
    }
    let mut storm = Storm::new(seed, plan, clients);
    storm.rage(&mut world, &server);
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
    for phase in [Phase::Settle, Phase::ReadAll] {
        let shared = shared.clone();
        world.start(quiet, move |lane| calm(lane, shared.clone(), phase));
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
    Outcome { complaints, tally, reached, answers, trace_hash, said }
}

/// A client's machine during the storm.
async fn busy(lane: Lane, shared: Shared, machine: u32) {
    if machine == 1 {
        let work = load::make_topic(lane.clone(), shared.clone());
        lane.spawn("make topic", Importance::Serving, work);
    }
    for (place, at) in load::places().into_iter().zip(0..) {
        let number = machine * 100 + at;
        if !lane.random().is_multiple_of(3) {
            let work = load::produce(lane.clone(), shared.clone(), place.clone(), number);
            lane.spawn("produce", Importance::Serving, work);
        }
        if !lane.random().is_multiple_of(3) {
            let work = load::read_along(lane.clone(), shared.clone(), place, number);
            lane.spawn("read along", Importance::Serving, work);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Settle,
    ReadAll,
}

/// A client's machine after the storm.
async fn calm(lane: Lane, shared: Shared, phase: Phase) {
    for (place, at) in load::places().into_iter().zip(0..) {
        let (lane2, shared) = (lane.clone(), shared.clone());
        match phase {
            Phase::Settle => {
                let work = load::settle(lane2, shared, place, 900 + at);
                lane.spawn("settle", Importance::Serving, work);
            }
            Phase::ReadAll => {
                let work = load::read_all(lane2, shared, place, 950 + at);
                lane.spawn("read all", Importance::Serving, work);
            }
        }
    }
}

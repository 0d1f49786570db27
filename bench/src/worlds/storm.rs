//! What befalls a world: faults by chance, deeds by hand, all by the seed.
//!
//! Each seed leaves some kinds out. With everything on, the first deaths hide what only shows later.

use std::collections::{BTreeMap, BTreeSet};

use corelane_core::ids::LaneId;
use corelane_core::ring::sim::{Chance, Cut, Fault, Faults, NodeId, World};
use corelane_core::time::Nanos;

use super::server::Server;

/// Something that is done to a machine, and undone after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Kill,
    CutPower,
    Pause,
    HoldLane,
    Split,
    SplitOneWay,
    ResetConnections,
    JumpClock,
    DriftClock,
    SlowDisk,
    StallDisk,
    KillClient,
    CutClientPower,
}

impl Deed {
    pub const ALL: [Self; 13] = [
        Self::Kill,
        Self::CutPower,
        Self::Pause,
        Self::HoldLane,
        Self::Split,
        Self::SplitOneWay,
        Self::ResetConnections,
        Self::JumpClock,
        Self::DriftClock,
        Self::SlowDisk,
        Self::StallDisk,
        Self::KillClient,
        Self::CutClientPower,
    ];

    /// What it is called where it is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::CutPower => "cut-power",
            Self::KillClient => "kill-client",
            Self::CutClientPower => "cut-client-power",
            Self::Pause => "pause",
            Self::HoldLane => "hold-lane",
            Self::Split => "split",
            Self::SplitOneWay => "split-one-way",
            Self::ResetConnections => "reset-connections",
            Self::JumpClock => "clock-jump",
            Self::DriftClock => "clock-drift",
            Self::SlowDisk => "slow-disk",
            Self::StallDisk => "stall-disk",
        }
    }
}

/// Which things happen in a world, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    pub faults: Faults,
    pub deeds: Vec<Deed>,
    /// Mean time between two deeds.
    pub pause: Nanos,
    pub span: Nanos,
}

/// Faults of disks, network and processors that leave durable bytes alone.
pub const FAULTS: [Fault; 16] = Fault::CRASH;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed).fork(0x5702_11AD);
        let calm = chance.below(10) == 0;
        let deeds = Deed::ALL.into_iter().filter(|_| !calm && chance.below(2) == 0).collect();
        let faults = if calm {
            Faults::none()
        } else {
            // Disks that fail a thousand times a run would let nobody get anywhere.
            let rates = [
                (Fault::DiskDies, 100),
                (Fault::WriteError, 300),
                (Fault::SpaceGone, 500),
                (Fault::FileLimit, 1_000),
                // Few files are read or flushed: most writes are durable by themselves.
                (Fault::FlushError, 5_000),
                (Fault::ReadError, 20_000),
                (Fault::ShortRead, 100_000),
            ];
            let usual = Faults::usual(&FAULTS);
            rates.iter().fold(usual, |faults, it| faults.with(it.0, it.1)).swarm(seed)
        };
        let pause = Nanos::millis(chance.between(200, 3_000));
        Self { faults, deeds, pause, span: Nanos::secs(chance.between(6, 14)) }
    }
}

/// The storm of one world.
pub struct Storm {
    plan: Plan,
    chance: Chance,
    clients: Vec<NodeId>,
    next: Nanos,
    /// When each deed is undone.
    undo: BTreeSet<(Nanos, Deed)>,
    done: BTreeMap<Deed, u64>,
}

impl Storm {
    #[must_use]
    pub fn new(seed: u64, plan: Plan, clients: Vec<NodeId>) -> Self {
        let chance = Chance::new(seed).fork(0x000D_33D5);
        Self {
            plan,
            chance,
            clients,
            next: Nanos::secs(1),
            undo: BTreeSet::new(),
            done: BTreeMap::new(),
        }
    }

    /// How often each thing was done.
    #[must_use]
    pub fn done(&self) -> &BTreeMap<Deed, u64> {
        &self.done
    }

    /// Lets the storm rage for its span. `restart` starts what runs on a client's machine.
    pub fn rage(
        &mut self,
        world: &mut World,
        server: &Server,
        restart: &dyn Fn(&mut World, NodeId),
    ) {
        world.set_faults(self.plan.faults.clone());
        let end = world.now() + self.plan.span;
        while world.now() < end {
            let step = self.step_end(end);
            world.run_until(step.max(world.now() + Nanos::millis(1)));
            server.keep_up(world, &mut self.chance);
            self.undo_due(world, server, restart);
            if self.next <= world.now() {
                self.next = world.now() + self.span_around(self.plan.pause);
                self.do_something(world, server);
            }
        }
    }

    /// The next moment to look at the world: soon enough to see a process that ended.
    fn step_end(&self, end: Nanos) -> Nanos {
        let first_undo = self.undo.first().map_or(end, |it| it.0);
        end.min(self.next).min(first_undo)
    }

    fn span_around(&mut self, mean: Nanos) -> Nanos {
        Nanos(self.chance.between(mean.0 / 10, mean.0 * 2))
    }

    fn do_something(&mut self, world: &mut World, server: &Server) {
        let Some(last) = self.plan.deeds.len().checked_sub(1) else { return };
        let deed = self.plan.deeds[self.chance.length(0, last)];
        let node = server.node;
        let peer = self.clients[self.chance.length(0, self.clients.len() - 1)];
        let undo_at = world.now() + Nanos::millis(self.chance.between(1, 4_000));
        let restarting = [Deed::Kill, Deed::CutPower].contains(&deed) && !world.is_running(node);
        let without =
            [Deed::KillClient, Deed::CutClientPower].contains(&deed) && !world.is_running(peer);
        if restarting || without {
            return;
        }
        *self.done.entry(deed).or_default() += 1;
        match deed {
            Deed::Kill => world.kill(node),
            Deed::CutPower => {
                let cut = [Cut::KeepNone, Cut::KeepAll, Cut::Random];
                world.cut_power(node, cut[self.chance.length(0, 2)]);
            }
            Deed::KillClient => {
                world.kill(peer);
                self.undo.insert((undo_at, deed));
            }
            Deed::CutClientPower => {
                world.cut_power(peer, Cut::KeepNone);
                self.undo.insert((undo_at, deed));
            }
            Deed::Pause => {
                world.pause(node);
                self.undo.insert((undo_at, deed));
            }
            Deed::HoldLane => {
                let lane = LaneId(self.chance.below(u64::from(server.lanes())) as u16);
                world.hold_lane(node, lane, Nanos::millis(self.chance.between(1, 500)));
            }
            Deed::Split => {
                world.partition(node, peer);
                self.undo.insert((undo_at, deed));
            }
            Deed::SplitOneWay => {
                let out = self.chance.below(2) == 0;
                let (from, to) = if out { (node, peer) } else { (peer, node) };
                world.partition_one_way(from, to);
                self.undo.insert((undo_at, deed));
            }
            Deed::ResetConnections => world.reset_connections(node, peer),
            Deed::JumpClock => {
                // Records far from the broker's own time are refused, and rightly so.
                let ms = self.chance.between(0, 40 * 60_000) as i64 - 20 * 60_000;
                world.jump_clock(node, ms);
            }
            Deed::DriftClock => {
                world.set_clock_drift(node, self.chance.between(0, 200_000) as i64 - 100_000);
            }
            Deed::SlowDisk => {
                world.slow_disk(node, self.chance.between(2, 100));
                self.undo.insert((undo_at, deed));
            }
            Deed::StallDisk => {
                world.stall_disk(node, Nanos::millis(self.chance.between(1, 5_000)));
            }
        }
    }

    fn undo_due(
        &mut self,
        world: &mut World,
        server: &Server,
        restart: &dyn Fn(&mut World, NodeId),
    ) {
        while let Some((at, deed)) = self.undo.first().copied()
            && at <= world.now()
        {
            self.undo.pop_first();
            match deed {
                Deed::KillClient | Deed::CutClientPower => {
                    for client in self.clients.iter().copied() {
                        if !world.is_running(client) {
                            restart(world, client);
                        }
                    }
                }
                _ => undo(world, server, deed),
            }
        }
    }

    /// Everything heals.
    pub fn heal(&mut self, world: &mut World, server: &Server) {
        world.set_faults(Faults::none());
        self.undo.clear();
        for deed in [Deed::Pause, Deed::Split, Deed::SlowDisk] {
            undo(world, server, deed);
        }
        world.set_clock_drift(server.node, 0);
    }
}

fn undo(world: &mut World, server: &Server, deed: Deed) {
    match deed {
        Deed::Pause => world.resume(server.node),
        Deed::Split | Deed::SplitOneWay => world.heal(),
        Deed::SlowDisk => world.slow_disk(server.node, 1),
        _ => panic!("{deed:?} is not undone"),
    }
}

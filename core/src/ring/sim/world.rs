//! The world a test holds: its nodes, what runs on them, what befalls them, and how far time has come.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::clock::WallClock;
use super::disk::{Disk, Hurt};
use super::faults::{Fault, Faults, Reached};
use super::image::Cut;
use super::kernel::{Event, Kernel, LaneKey, Node, Recording};
use super::ring::SimRing;
use super::sockets::{FIRST_PORT, address};
use super::trace::Trace;
use crate::buf::Pool;
use crate::ids::LaneId;
use crate::lane::{Executor, Importance, Lane, Step};
use crate::ring::Closing;
use crate::time::Nanos;

/// A machine of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(super) usize);

/// A moment at which power could have failed.
#[derive(Debug, Clone)]
pub struct CrashPoint {
    pub at: Nanos,
    /// What the program had promised by then; see [`World::record_crash_points`].
    pub promised: u64,
    /// The disk at that moment. [`Disk::cut`] says what would have been left of it.
    pub disk: Disk,
}

/// Memory of one simulated lane.
const POOL_BYTES: usize = 64 << 20;

/// Descriptors one process may have, unless told otherwise.
const OPEN_MAX: usize = 4096;

/// One simulation. See the [module](super) for an example.
pub struct World {
    kernel: Rc<RefCell<Kernel>>,
    executors: BTreeMap<LaneKey, Executor>,
    lanes: Vec<u16>,
}

impl World {
    /// A world in which everything that is left to chance follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let kernel = Rc::new(RefCell::new(Kernel::new(seed, faults)));
        Self { kernel, executors: BTreeMap::new(), lanes: Vec::new() }
    }

    /// A machine with an empty disk, on which a process of `lanes` lanes can be started.
    pub fn node(&mut self, lanes: u16) -> NodeId {
        self.node_with_disk(lanes, Disk::new())
    }

    /// The same with a disk that was used before.
    pub fn node_with_disk(&mut self, lanes: u16, disk: Disk) -> NodeId {
        assert!(0 < lanes, "a process has at least one lane");
        let mut kernel = self.kernel.borrow_mut();
        kernel.nodes.push(Node {
            run: 0,
            running: false,
            powered: true,
            paused: false,
            disk,
            disk_dead: false,
            disk_stalled_until: Nanos::ZERO,
            disk_slowness: 1,
            clock: WallClock::default(),
            lanes: Vec::new(),
            open: BTreeMap::new(),
            locks: BTreeMap::new(),
            closing: Closing::default(),
            forced: BTreeMap::new(),
            open_max: OPEN_MAX,
            next_port: FIRST_PORT,
            completions: 0,
            recording: None,
        });
        self.lanes.push(lanes);
        NodeId(self.lanes.len() - 1)
    }

    /// Starts a process: `main` is called once for each lane and gives that lane's first task.
    /// The machine gets its power back if it had lost it.
    pub fn start<F>(&mut self, node: NodeId, main: impl Fn(Lane) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let run = {
            let mut kernel = self.kernel.borrow_mut();
            let it = &mut kernel.nodes[node.0];
            assert!(!it.running, "a process runs there already");
            it.run += 1;
            it.running = true;
            if !it.powered {
                it.powered = true;
                it.disk_dead = false;
            }
            it.run
        };
        self.reach("start");
        for lane in (0..self.lanes[node.0]).map(LaneId) {
            let key = LaneKey { node, run, lane };
            let pool = Pool::new(POOL_BYTES);
            pool.poison_returned();
            self.kernel.borrow_mut().add_lane(key, pool.clone());
            let ring = SimRing { kernel: Rc::clone(&self.kernel), key, pool };
            let executor = Executor::new(Box::new(ring));
            let lane = executor.lane();
            lane.spawn("main", Importance::Serving, main(lane.clone()));
            self.executors.insert(key, executor);
        }
    }

    // Time.

    /// The world's time. Lanes may be ahead of it.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.kernel.borrow().now
    }

    /// Lets everything up to a time happen.
    pub fn run_until(&mut self, until: Nanos) {
        while self.one_event(until) {}
        let mut kernel = self.kernel.borrow_mut();
        kernel.now = kernel.now.max(until);
    }

    pub fn run_for(&mut self, span: Nanos) {
        self.run_until(self.now() + span);
    }

    /// Lets things happen until `done`, but not past `span`. Says whether it was done in time.
    pub fn run_to(&mut self, span: Nanos, mut done: impl FnMut() -> bool) -> bool {
        let limit = self.now() + span;
        while !done() {
            if !self.one_event(limit) {
                return done();
            }
        }
        true
    }

    /// Lets things happen until a node's rings have completed `count` operations since the world began,
    /// but not past `span`: the place to kill a process at a completion.
    pub fn run_to_completion(&mut self, node: NodeId, count: u64, span: Nanos) -> bool {
        let kernel = Rc::clone(&self.kernel);
        self.run_to(span, || count <= kernel.borrow().nodes[node.0].completions)
    }

    fn one_event(&mut self, limit: Nanos) -> bool {
        let Some(event) = self.kernel.borrow_mut().next(limit) else { return false };
        let Event::Step(key) = event else {
            self.kernel.borrow_mut().happen(event);
            return true;
        };
        if self.kernel.borrow_mut().begin_step(key) {
            let executor = self.executors.get_mut(&key).expect("a live lane has its executor");
            let step = executor.step();
            let mut kernel = self.kernel.borrow_mut();
            let again = match step {
                Step::Ready => Some(kernel.local_now(key)),
                Step::Idle { until } => until,
            };
            kernel.end_step(key, again);
        }
        true
    }

    // What befalls processes and machines.

    /// Ends a process between two instructions. Its machine goes on: what was written remains,
    /// connections are closed, operations on their way happened or did not.
    pub fn kill(&mut self, node: NodeId) {
        self.reach("kill");
        self.end(node);
    }

    /// Takes the power from a machine. Peers hear nothing of it. Its disk is what `cut` leaves.
    pub fn cut_power(&mut self, node: NodeId, cut: Cut) {
        self.reach("cut-power");
        let seed = {
            let mut kernel = self.kernel.borrow_mut();
            kernel.nodes[node.0].powered = false;
            kernel.chance.draw()
        };
        self.end(node);
        let mut kernel = self.kernel.borrow_mut();
        let it = &mut kernel.nodes[node.0];
        it.disk = it.disk.cut(cut, seed);
    }

    fn end(&mut self, node: NodeId) {
        // The ring first: destructors of what the process had in memory reach nothing any more.
        self.kernel.borrow_mut().end_process(node);
        self.executors.retain(|key, _| key.node != node);
    }

    #[must_use]
    pub fn is_running(&self, node: NodeId) -> bool {
        self.kernel.borrow().nodes[node.0].running
    }

    /// Holds a whole process until [`Self::resume`]. Its operations go on meanwhile.
    pub fn pause(&mut self, node: NodeId) {
        self.reach("pause");
        self.kernel.borrow_mut().nodes[node.0].paused = true;
    }

    pub fn resume(&mut self, node: NodeId) {
        let mut kernel = self.kernel.borrow_mut();
        kernel.nodes[node.0].paused = false;
        let keys: Vec<_> = self.executors.keys().copied().filter(|it| it.node == node).collect();
        for key in keys {
            kernel.resume_lane(key);
        }
    }

    /// Holds one lane of a process for a while, as when its core is taken away.
    pub fn hold_lane(&mut self, node: NodeId, lane: LaneId, span: Nanos) {
        self.reach("hold-lane");
        let mut kernel = self.kernel.borrow_mut();
        let run = kernel.nodes[node.0].run;
        kernel.hold_lane(LaneKey { node, run, lane }, span);
    }

    // The network.

    /// The address of a node, as its peers reach it.
    #[must_use]
    pub fn ip(&self, node: NodeId) -> IpAddr {
        address(node)
    }

    #[must_use]
    pub fn addr(&self, node: NodeId, port: u16) -> SocketAddr {
        SocketAddr::new(address(node), port)
    }

    /// Nothing passes between two nodes, in either direction.
    pub fn partition(&mut self, a: NodeId, b: NodeId) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Nothing passes from one node to another; the other direction stays open.
    pub fn partition_one_way(&mut self, from: NodeId, to: NodeId) {
        self.reach("partition");
        self.kernel.borrow_mut().net.cut.insert((from, to));
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.kernel.borrow_mut().net.cut.clear();
    }

    /// Breaks all connections between two nodes, in the middle of what they carry.
    pub fn reset_connections(&mut self, a: NodeId, b: NodeId) {
        self.reach("reset-connections");
        self.kernel.borrow_mut().reset_between(a, b);
    }

    // The clock.

    /// Moves a node's time of day.
    pub fn jump_clock(&mut self, node: NodeId, ms: i64) {
        self.reach("clock-jump");
        self.kernel.borrow_mut().nodes[node.0].clock.jump(ms);
    }

    /// Lets a node's time of day go faster or slower from now on.
    pub fn set_clock_drift(&mut self, node: NodeId, ppm: i64) {
        self.reach("clock-drift");
        let mut kernel = self.kernel.borrow_mut();
        let now = kernel.now;
        kernel.nodes[node.0].clock.set_drift(now, ppm);
    }

    // Disks and other faults.

    /// Befalls the next `times` operations of a node to which this fault can happen.
    pub fn strike(&mut self, node: NodeId, fault: Fault, times: u32) {
        self.kernel.borrow_mut().nodes[node.0].forced.insert(fault, times);
    }

    /// Replaces the plan of faults, for a phase in which everything must heal.
    pub fn set_faults(&mut self, faults: Faults) {
        self.kernel.borrow_mut().faults = faults;
    }

    /// Makes everything a disk does take this many times as long.
    pub fn slow_disk(&mut self, node: NodeId, factor: u64) {
        self.reach("slow-disk");
        self.kernel.borrow_mut().nodes[node.0].disk_slowness = factor.max(1);
    }

    /// What a disk does from now on begins only after `span`.
    pub fn stall_disk(&mut self, node: NodeId, span: Nanos) {
        self.reach("stall-disk");
        let mut kernel = self.kernel.borrow_mut();
        let until = kernel.now + span;
        kernel.nodes[node.0].disk_stalled_until = until;
    }

    /// How many descriptors a node's process may have.
    pub fn limit_open_files(&mut self, node: NodeId, count: usize) {
        self.kernel.borrow_mut().nodes[node.0].open_max = count;
    }

    /// A node's disk as it is now.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> Disk {
        self.kernel.borrow().nodes[node.0].disk.clone()
    }

    /// Changes a node's disk behind the back of whoever runs there.
    pub fn with_disk<T>(&mut self, node: NodeId, change: impl FnOnce(&mut Disk) -> T) -> T {
        change(&mut self.kernel.borrow_mut().nodes[node.0].disk)
    }

    /// Puts another disk into a machine on which nothing runs.
    pub fn replace_disk(&mut self, node: NodeId, disk: Disk) {
        let mut kernel = self.kernel.borrow_mut();
        assert!(!kernel.nodes[node.0].running, "somebody works on the old one");
        kernel.nodes[node.0].disk = disk;
        kernel.nodes[node.0].disk_dead = false;
    }

    /// What a node's medium did to its data without saying so.
    #[must_use]
    pub fn hurts(&self, node: NodeId) -> Vec<Hurt> {
        self.kernel.borrow().nodes[node.0].disk.hurts().to_vec()
    }

    /// Keeps the disk of a node at every boundary from now on, together with what `promised` says
    /// then, for instance how many records its program has reported durable.
    pub fn record_crash_points(&mut self, node: NodeId, promised: impl Fn() -> u64 + 'static) {
        let recording = Recording { promised: Rc::new(promised), points: Vec::new() };
        self.kernel.borrow_mut().nodes[node.0].recording = Some(recording);
    }

    /// Takes the points kept so far and keeps no more.
    pub fn take_crash_points(&mut self, node: NodeId) -> Vec<CrashPoint> {
        let recording = self.kernel.borrow_mut().nodes[node.0].recording.take();
        recording.map_or_else(Vec::new, |it| it.points)
    }

    // What happened.

    /// A number for all that happened so far.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.kernel.borrow().trace.hash()
    }

    #[must_use]
    pub fn trace(&self) -> Ref<'_, Trace> {
        Ref::map(self.kernel.borrow(), |it| &it.trace)
    }

    /// Keeps a line of text per event from now on.
    pub fn keep_trace_lines(&mut self) {
        self.kernel.borrow_mut().trace.keep_lines();
    }

    #[must_use]
    pub fn reached(&self) -> Reached {
        self.kernel.borrow().reached.clone()
    }

    /// A number from the world's own stream of chance, for whoever decides what befalls it.
    pub fn random(&mut self) -> u64 {
        self.kernel.borrow_mut().chance.draw()
    }

    #[must_use]
    pub fn seed(&self) -> u64 {
        self.kernel.borrow().seed()
    }

    fn reach(&mut self, deed: &'static str) {
        self.kernel.borrow_mut().reached.named(deed);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::seeds::print_replay(self.seed());
        }
        for node in (0..self.lanes.len()).map(NodeId) {
            self.end(node);
        }
    }
}

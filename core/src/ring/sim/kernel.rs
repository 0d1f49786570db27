//! The kernel of one simulation: every node's lanes, operations in flight, and what happens next.
//!
//! Everything that happens is an event with a time; events of one time happen in the order they were
//! made. An operation starts at the local time of the lane that submitted it, which may be ahead of the
//! event that runs the lane: simulated CPU is charged to lanes, not to the world.
//!
//! Invariants:
//! - SIM-1: nothing here depends on an address, a map's order, the machine's clock or its chance;
//! - SIM-2: time never goes back, for the world or for any lane;
//! - SIM-3: when a process is gone, its operations are gone, and events that mention them do nothing.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::chance::Chance;
use super::clock::WallClock;
use super::disk::Disk;
use super::faults::{Fault, Faults, Reached};
use super::image::Moment;
use super::names::Ino;
use super::sockets::Net;
use super::trace::{Trace, digest, name};
use super::world::{CrashPoint, NodeId};
use crate::buf::Pool;
use crate::ids::LaneId;
use crate::limits::OPS_IN_FLIGHT_MAX;
use crate::ring::{Closing, Completion, Errno, Fd, Op, Outcome, Ticket};
use crate::time::{Nanos, WallMillis};

/// One lane of one process. A process started again is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) node: NodeId,
    pub(super) run: u32,
    pub(super) lane: LaneId,
}

/// Names an operation in flight; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpId(pub(super) u64);

/// What can happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// A lane runs.
    Step(LaneKey),
    /// An operation is looked at for the first time.
    Start(OpId),
    /// An operation's time is over.
    Finish(OpId),
    Cancel(OpId),
    Woken(LaneKey),
    Net(super::sockets::NetEvent),
}

pub(super) struct InFlight {
    pub(super) key: LaneKey,
    pub(super) ticket: Ticket,
    pub(super) op: Op,
    /// The operation as it was submitted; what it owns must not change until it completes (RING-3).
    outline: u64,
    /// What had completed on the node's disk when this was submitted (RING-5).
    pub(super) submitted: Moment,
    /// The write as the disk knows it.
    pub(super) write: Option<u64>,
}

pub(super) struct LaneState {
    run: u32,
    local: Nanos,
    chance: Chance,
    tickets: Vec<Option<OpId>>,
    free: Vec<u32>,
    due: VecDeque<Completion>,
    step: Option<(Nanos, u64)>,
    pub(super) pool: Pool,
    completions: u64,
}

/// What a descriptor number leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Open {
    File { ino: Ino, direct: bool, write: bool },
    Listener { port: u16 },
    Socket(super::sockets::End),
}

pub(super) struct Node {
    pub(super) run: u32,
    pub(super) running: bool,
    /// Whether the machine has power, with or without our process on it.
    pub(super) powered: bool,
    pub(super) paused: bool,
    pub(super) disk: Disk,
    pub(super) disk_dead: bool,
    pub(super) disk_stalled_until: Nanos,
    pub(super) disk_slowness: u64,
    pub(super) clock: WallClock,
    pub(super) lanes: Vec<LaneState>,
    pub(super) open: BTreeMap<i32, Open>,
    pub(super) locks: BTreeMap<Ino, i32>,
    pub(super) closing: Closing,
    pub(super) forced: BTreeMap<Fault, u32>,
    pub(super) open_max: usize,
    pub(super) next_port: u16,
    pub(super) completions: u64,
    pub(super) recording: Option<Recording>,
}

/// The disk of a node at every boundary where power could have failed, with what its program had
/// promised by then.
pub(super) struct Recording {
    pub(super) promised: Rc<dyn Fn() -> u64>,
    pub(super) points: Vec<CrashPoint>,
}

/// See the [module](self).
pub(super) struct Kernel {
    seed: u64,
    pub(super) now: Nanos,
    events: BTreeMap<(Nanos, u64), Event>,
    made: u64,
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) reached: Reached,
    pub(super) trace: Trace,
    pub(super) nodes: Vec<Node>,
    pub(super) ops: BTreeMap<OpId, InFlight>,
    next_op: u64,
    pub(super) net: Net,
    /// Operations a ring holds.
    depth: usize,
}

/// Depth of the shallow rings that some seeds have.
const SHALLOW: usize = 64;

impl Kernel {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut chance = Chance::new(seed);
        let depth = if chance.strikes(250_000) { SHALLOW } else { OPS_IN_FLIGHT_MAX };
        Self {
            seed,
            now: Nanos::secs(1),
            events: BTreeMap::new(),
            made: 0,
            chance,
            faults,
            reached: Reached::default(),
            trace: Trace::default(),
            nodes: Vec::new(),
            ops: BTreeMap::new(),
            next_op: 0,
            net: Net::default(),
            depth,
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    // Events.

    pub(super) fn at(&mut self, time: Nanos, event: Event) -> (Nanos, u64) {
        self.made += 1;
        let key = (time.max(self.now), self.made);
        self.events.insert(key, event);
        key
    }

    pub(super) fn after(&mut self, span: u64, event: Event) {
        self.at(self.now + Nanos(span), event);
    }

    /// Moves to the next event, if it is no later than `limit`.
    pub(super) fn next(&mut self, limit: Nanos) -> Option<Event> {
        let first = self.events.first_entry()?;
        if limit < first.key().0 {
            return None;
        }
        let ((time, _), event) = first.remove_entry();
        assert!(self.now <= time, "time goes back: {:?} after {:?} (SIM-2)", time, self.now);
        self.now = time;
        Some(event)
    }

    /// Everything but [`Event::Step`], which needs the executor.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Step(_) => {}
            Event::Start(id) => self.start(id),
            Event::Finish(id) => self.finish_file(id),
            Event::Cancel(id) => self.cancelled(id),
            Event::Woken(key) => {
                if self.is_alive(key) {
                    let woken = Completion {
                        ticket: Ticket::WOKEN,
                        result: Ok(Outcome::Done),
                        op: None,
                        last: true,
                    };
                    self.push_due(key, woken);
                }
            }
            Event::Net(event) => self.on_net(event),
        }
    }

    // Lanes.

    pub(super) fn add_lane(&mut self, key: LaneKey, pool: Pool) {
        let label = u64::from(key.run) << 32 | u64::from(key.lane.0) << 16 | key.node.0 as u64;
        let local = self.now + Nanos(self.chance.below(1_000_000));
        let lane = LaneState {
            run: key.run,
            local,
            chance: Chance::new(self.seed).fork(label),
            tickets: Vec::new(),
            free: Vec::new(),
            due: VecDeque::new(),
            step: None,
            pool,
            completions: 0,
        };
        self.nodes[key.node.0].lanes.push(lane);
        self.step_at(key, local);
    }

    pub(super) fn is_alive(&self, key: LaneKey) -> bool {
        let node = &self.nodes[key.node.0];
        node.running && node.run == key.run
    }

    pub(super) fn lane(&self, key: LaneKey) -> Option<&LaneState> {
        self.nodes[key.node.0].lanes.get(usize::from(key.lane.0)).filter(|it| it.run == key.run)
    }

    fn lane_mut(&mut self, key: LaneKey) -> Option<&mut LaneState> {
        let lane = self.nodes[key.node.0].lanes.get_mut(usize::from(key.lane.0));
        lane.filter(|it| it.run == key.run)
    }

    /// Lets a lane run at `time`, or at its local time if that is later, unless it runs earlier.
    pub(super) fn step_at(&mut self, key: LaneKey, time: Nanos) {
        if !self.is_alive(key) || self.nodes[key.node.0].paused {
            return;
        }
        let lane = self.lane_mut(key).expect("the process is alive");
        let time = time.max(lane.local);
        match lane.step {
            Some(planned) if planned.0 <= time => return,
            Some(planned) => {
                self.events.remove(&planned);
            }
            None => {}
        }
        let planned = self.at(time, Event::Step(key));
        self.lane_mut(key).expect("as before").step = Some(planned);
    }

    /// A lane is about to run. Says whether it still can.
    pub(super) fn begin_step(&mut self, key: LaneKey) -> bool {
        if !self.is_alive(key) || self.nodes[key.node.0].paused {
            return false;
        }
        let now = self.now;
        let lane = self.lane_mut(key).expect("the process is alive");
        lane.step = None;
        lane.local = lane.local.max(now);
        true
    }

    /// A lane has run; it has something to do at `again`.
    pub(super) fn end_step(&mut self, key: LaneKey, again: Option<Nanos>) {
        self.close_dropped(key.node);
        self.record(key.node);
        let Some(lane) = self.lane(key) else { return };
        let again = if lane.due.is_empty() { again } else { Some(lane.local) };
        if let Some(again) = again {
            self.step_at(key, again);
        }
    }

    /// Lets a lane of a process that was held run again: it sees at once how late it is.
    pub(super) fn resume_lane(&mut self, key: LaneKey) {
        if let Some(lane) = self.lane_mut(key) {
            if let Some(planned) = lane.step.take() {
                self.events.remove(&planned);
            }
            self.step_at(key, self.now);
        }
    }

    /// Holds a lane, as when its core is taken away.
    pub(super) fn hold_lane(&mut self, key: LaneKey, span: Nanos) {
        let now = self.now;
        let Some(lane) = self.lane_mut(key) else { return };
        lane.local = lane.local.max(now) + span;
        if let Some(planned) = lane.step.take() {
            let until = lane.local;
            self.events.remove(&planned);
            self.step_at(key, until);
        }
    }

    // What rings call.

    pub(super) fn submit(&mut self, key: LaneKey, op: Op) -> Result<Ticket, Op> {
        let depth = self.depth;
        let alive = self.is_alive(key);
        let submitted = self.nodes[key.node.0].disk.moment();
        let Some(lane) = self.lane_mut(key).filter(|_| alive) else { return Err(op) };
        if depth <= lane.tickets.len() - lane.free.len() {
            self.reached.named("ring-full");
            return Err(op);
        }
        self.next_op += 1;
        let id = OpId(self.next_op);
        let lane = self.lane_mut(key).expect("as before");
        let index = lane.free.pop().unwrap_or_else(|| {
            lane.tickets.push(None);
            u32::try_from(lane.tickets.len() - 1).expect("as deep as the ring")
        });
        lane.tickets[index as usize] = Some(id);
        let local = lane.local;
        let ticket = Ticket(index);
        let (kind, detail) = outline(&op);
        self.reached.named(kind);
        self.trace.note(
            local,
            &[1, key.node.0 as u64, u64::from(key.lane.0), u64::from(index), name(kind), detail],
            format_args!("{}.{} submit #{index} {kind} {op:?}", key.node.0, key.lane),
        );
        self.ops.insert(id, InFlight { key, ticket, op, outline: detail, submitted, write: None });
        self.at(local, Event::Start(id));
        Ok(ticket)
    }

    pub(super) fn cancel(&mut self, key: LaneKey, ticket: Ticket) {
        if !self.is_alive(key) {
            return;
        }
        let Some(lane) = self.lane(key) else { return };
        if let Some(Some(id)) = lane.tickets.get(ticket.0 as usize).copied() {
            let local = lane.local;
            self.reached.named("cancel");
            self.at(local, Event::Cancel(id));
        }
    }

    pub(super) fn collect(&mut self, key: LaneKey, completed: &mut Vec<Completion>) {
        if !self.is_alive(key) {
            return;
        }
        self.close_dropped(key.node);
        let lane = self.lane_mut(key).expect("the process is alive");
        for completion in lane.due.drain(..) {
            if completion.last && completion.ticket != Ticket::WOKEN {
                lane.tickets[completion.ticket.0 as usize] = None;
                lane.free.push(completion.ticket.0);
            }
            completed.push(completion);
        }
    }

    pub(super) fn local_now(&self, key: LaneKey) -> Nanos {
        self.lane(key).map_or(self.now, |it| it.local)
    }

    pub(super) fn wall(&self, key: LaneKey) -> WallMillis {
        self.nodes[key.node.0].clock.read(self.local_now(key))
    }

    pub(super) fn random(&mut self, key: LaneKey) -> u64 {
        self.lane_mut(key).map_or(0, |it| it.chance.draw())
    }

    /// A poll costs some hundreds of nanoseconds, now and then some milliseconds.
    pub(super) fn polled(&mut self, key: LaneKey) {
        let mut cost = self.chance.between(100, 3_000);
        if self.strikes(key.node, Fault::SlowPoll) {
            cost += self.chance.between(500_000, 20_000_000);
        }
        if let Some(lane) = self.lane_mut(key) {
            lane.local = lane.local + Nanos(cost);
        }
    }

    pub(super) fn lane_counts(&self, key: LaneKey) -> Vec<(&'static str, u64)> {
        let completions = self.lane(key).map_or(0, |it| it.completions);
        vec![("sim_completions", completions), ("sim_events", self.trace.events())]
    }

    // Operations.

    /// Whether a fault befalls what is being looked at.
    pub(super) fn strikes(&mut self, node: NodeId, fault: Fault) -> bool {
        let forced = self.nodes[node.0].forced.get_mut(&fault).filter(|it| 0 < **it);
        let struck = match forced {
            Some(left) => {
                *left -= 1;
                true
            }
            None => self.chance.strikes(self.faults.rate_ppm(fault)),
        };
        if struck {
            self.reached.fault(fault);
        }
        struck
    }

    fn start(&mut self, id: OpId) {
        let Some(flight) = self.ops.get(&id) else { return };
        match &flight.op {
            Op::Wake { lane } => {
                let to = LaneKey { lane: *lane, ..flight.key };
                if self.lane(to).is_some() {
                    let span = self.chance.between(500, 20_000);
                    self.after(span, Event::Woken(to));
                    self.complete(id, Ok(Outcome::Done));
                } else {
                    self.complete(id, Err(Errno::NOENT));
                }
            }
            Op::Listen { .. }
            | Op::Accept { .. }
            | Op::AcceptOne { .. }
            | Op::Connect { .. }
            | Op::Receive { .. }
            | Op::ReceiveBlock { .. }
            | Op::Send { .. }
            | Op::SendFile { .. }
            | Op::Shutdown { .. } => self.start_socket(id),
            Op::Open { .. }
            | Op::Read { .. }
            | Op::Resident { .. }
            | Op::Write { .. }
            | Op::Flush { .. }
            | Op::Allocate { .. }
            | Op::Truncate { .. }
            | Op::Stat { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::MakeDir { .. }
            | Op::List { .. }
            | Op::FlushDir { .. }
            | Op::Lock { .. }
            | Op::Space { .. } => self.start_file(id),
        }
    }

    /// A disk finishes what it began; what waits for a peer can be given up.
    fn cancelled(&mut self, id: OpId) {
        if self.ops.contains_key(&id) && self.stop_waiting(id) {
            self.complete(id, Err(Errno::CANCELED));
        }
    }

    /// The last completion of an operation.
    pub(super) fn complete(&mut self, id: OpId, result: Result<Outcome, Errno>) {
        let flight = self.ops.remove(&id).expect("an operation completes once");
        if matches!(flight.op, Op::Write { .. } | Op::Send { .. }) {
            let (kind, outline) = outline(&flight.op);
            assert_eq!(outline, flight.outline, "a {kind} changed while the kernel owned it");
        }
        let completion =
            Completion { ticket: flight.ticket, result, op: Some(flight.op), last: true };
        self.push_due(flight.key, completion);
    }

    /// A completion that more will follow.
    pub(super) fn complete_one(&mut self, id: OpId, outcome: Outcome) {
        let flight = &self.ops[&id];
        let completion =
            Completion { ticket: flight.ticket, result: Ok(outcome), op: None, last: false };
        self.push_due(flight.key, completion);
    }

    fn push_due(&mut self, key: LaneKey, completion: Completion) {
        let detail = match &completion.result {
            Ok(Outcome::Done) => 1,
            Ok(Outcome::Bytes(count)) => u64::from(*count) << 8 | 2,
            Ok(Outcome::Received(buf)) => digest(buf.filled()),
            Ok(Outcome::Opened { file, bytes }) => *bytes << 16 | file.number() as u64,
            Ok(Outcome::Connected(it)) => u64::from(it.peer.port()) << 8 | 3,
            Ok(Outcome::Listening(it)) => u64::from(it.1.port()) << 8 | 4,
            Ok(Outcome::Stat(it)) => it.bytes << 8 | 5,
            Ok(Outcome::Entries(it)) => (it.len() as u64) << 8 | 6,
            Ok(Outcome::Space(it)) => it.free_bytes << 8 | 7,
            Ok(Outcome::Resident(it)) => u64::from(*it) << 8 | 9,
            Err(errno) => u64::from(errno.0.unsigned_abs()) << 8 | 8,
        };
        let bytes = match &completion.op {
            Some(Op::Read { buf, .. } | Op::Receive { buf, .. }) => digest(buf.filled()),
            Some(_) | None => 0,
        };
        let index = completion.ticket.0;
        self.trace.note(
            self.now,
            &[2, key.node.0 as u64, u64::from(key.lane.0), u64::from(index), detail, bytes],
            format_args!("{}.{} complete #{index} {:?}", key.node.0, key.lane, completion.result),
        );
        self.nodes[key.node.0].completions += 1;
        let lane = self.lane_mut(key).expect("completions are for live lanes");
        lane.completions += 1;
        lane.due.push_back(completion);
        self.step_at(key, self.now);
        self.record(key.node);
    }

    /// Keeps the disk as it is now, if somebody wants to return here.
    pub(super) fn record(&mut self, node: NodeId) {
        let at = self.now;
        let node = &mut self.nodes[node.0];
        if let Some(recording) = &mut node.recording {
            let promised = (recording.promised)();
            recording.points.push(CrashPoint { at, promised, disk: node.disk.clone() });
        }
    }

    // Descriptors.

    /// Gives a number to something open.
    pub(super) fn new_fd(&mut self, node: NodeId, open: Open) -> Fd {
        let node = &mut self.nodes[node.0];
        // The lowest that is free, as a kernel does, so that a stale number soon means something else.
        let number = (3..).find(|it| !node.open.contains_key(it)).expect("numbers do not run out");
        node.open.insert(number, open);
        Fd::new(number, &node.closing)
    }

    pub(super) fn open(&self, node: NodeId, fd: &Fd) -> Option<Open> {
        self.nodes[node.0].open.get(&fd.number()).copied()
    }

    fn close_dropped(&mut self, node: NodeId) {
        while let Some(number) = self.nodes[node.0].closing.next() {
            self.close(node, number);
        }
    }

    fn close(&mut self, id: NodeId, number: i32) {
        let node = &mut self.nodes[id.0];
        let open = node.open.remove(&number).expect("a descriptor is closed once");
        match open {
            Open::File { ino, .. } => {
                node.locks.retain(|_, holder| *holder != number);
                node.disk.close(ino);
            }
            Open::Listener { port } => self.close_listener(id, port, number),
            Open::Socket(end) => self.close_socket(end),
        }
    }

    /// The process is gone. Its machine closes what it had open, if it still has power.
    pub(super) fn end_process(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        node.running = false;
        node.paused = false;
        let lanes = std::mem::take(&mut node.lanes);
        let powered = node.powered;
        node.locks.clear();
        node.closing = Closing::default();
        let open = std::mem::take(&mut node.open);
        for lane in &lanes {
            if let Some(planned) = lane.step {
                self.events.remove(&planned);
            }
        }
        self.ops.retain(|_, it| it.key.node != id);
        for (number, open) in open {
            match open {
                Open::File { .. } => {}
                Open::Listener { port } => self.close_listener(id, port, number),
                Open::Socket(end) if powered => self.close_socket(end),
                Open::Socket(end) => self.lose_socket(end),
            }
        }
        if powered {
            let mut chance = self.chance.fork(self.now.0);
            self.nodes[id.0].disk.close_all(&mut chance);
        }
    }
}

/// An operation for the trace: its name, and a number for everything that makes it what it is.
fn outline(op: &Op) -> (&'static str, u64) {
    let path = |it: &std::path::Path| digest(it.as_os_str().as_encoded_bytes());
    let fd = |it: &Fd| u64::from(it.number().unsigned_abs());
    let mix =
        |words: &[u64]| digest(&words.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>());
    match op {
        Op::Listen { addr, .. } => ("listen", u64::from(addr.port())),
        Op::Accept { listener } => ("accept", fd(listener)),
        Op::AcceptOne { listener } => ("accept-one", fd(listener)),
        Op::Connect { addr } => ("connect", u64::from(addr.port())),
        Op::Receive { socket, buf } => ("receive", mix(&[fd(socket), buf.room() as u64])),
        Op::ReceiveBlock { socket } => ("receive-block", fd(socket)),
        Op::Send { socket, parts } => {
            let mut words = vec![fd(socket)];
            words.extend(parts.iter().map(|it| digest(it)));
            ("send", mix(&words))
        }
        Op::SendFile { socket, file, at, bytes } => {
            ("send-file", mix(&[fd(socket), fd(file), *at, u64::from(*bytes)]))
        }
        Op::Shutdown { socket } => ("shutdown", fd(socket)),
        Op::Open { path: it, .. } => ("open", path(it)),
        Op::Read { file, at, buf, bytes_max } => {
            ("read", mix(&[fd(file), *at, buf.room().min(*bytes_max) as u64]))
        }
        Op::Resident { file, at, bytes } => ("resident", mix(&[fd(file), *at, u64::from(*bytes)])),
        Op::Write { file, at, data, .. } => ("write", mix(&[fd(file), *at, digest(data)])),
        Op::Flush { file } => ("flush", fd(file)),
        Op::Allocate { file, at, bytes } => ("allocate", mix(&[fd(file), *at, *bytes])),
        Op::Truncate { file, bytes } => ("truncate", mix(&[fd(file), *bytes])),
        Op::Stat { path: it } => ("stat", path(it)),
        Op::Rename { from, to } => ("rename", mix(&[path(from), path(to)])),
        Op::Remove { path: it, .. } => ("remove", path(it)),
        Op::MakeDir { path: it } => ("make-dir", path(it)),
        Op::List { path: it } => ("list", path(it)),
        Op::FlushDir { path: it } => ("flush-dir", path(it)),
        Op::Lock { file } => ("lock", fd(file)),
        Op::Space { path: it } => ("space", path(it)),
        Op::Wake { lane } => ("wake", u64::from(lane.0)),
    }
}

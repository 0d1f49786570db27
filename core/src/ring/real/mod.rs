//! The real ring: one io_uring for each lane.
//!
//! Requests go into a queue shared with the kernel and are started together, once a turn; the same
//! call sleeps and brings the answers. What has no request of its own is done at once when it
//! cannot block (listen, lock, shutdown), and by one helper thread when it can.
//!
//! Invariants:
//! - REAL-1: everything a request points to is owned by its flight, at an address that does not
//!   move, until the kernel's last answer (RING-3);
//! - REAL-2: cancels and requests reach the kernel in the order they were made, so a cancel never
//!   meets a later operation in the same slot;
//! - REAL-3: the ring is not dropped before the kernel gave everything back.
//!
//! Registered files and buffers are not used. Nothing of io_uring shows above this folder.
#![expect(unsafe_code, reason = "requests that point into memory")]

mod begin;
mod blocks;
mod errands;
mod finish;
mod flight;
mod peers;
mod probe;
mod refusal;
mod sys;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use io_uring::squeue::Entry;
use io_uring::types::{self, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use self::begin::Begin;
use self::blocks::Blocks;
use self::errands::{Errand, Errands};
use self::flight::{Aid, Flights, Stage};
pub use self::peers::{Peers, RemoteWake};
use self::probe::Features;
pub use self::refusal::{KERNEL_NEEDED, Refusal};
use crate::buf::Pool;
use crate::ids::LaneId;
use crate::ring::{Closing, Completion, Errno, Op, Outcome, Ring, Ticket, Wait};
use crate::time::{Nanos, WallMillis};

/// Requests the shared queue holds; more wait in our own memory or go to the kernel early.
pub const QUEUE_ENTRIES: u32 = 1024;

/// Answers the kernel keeps for each place in the queue before it must store them elsewhere.
const CQ_PER_SQ: u32 = 8;

/// Modes of what we create, before the process's mask.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// A block for one receive where the kernel cannot choose blocks by itself.
const FALLBACK_BLOCK_BYTES: usize = 4 * crate::limits::BLOCK_BYTES;

/// Bytes sent in one go, from memory or a file: the kernel copies them while the lane waits, and one
/// reader must not hold it.
const SEND_BYTES_MAX: usize = 512 * 1024;

/// Random bytes fetched at once.
const RANDOM_BYTES: usize = 256;

// The kernel's flags for entering a ring.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// What a request's answer is for: the upper half of the number that travels with it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum For {
    Op = 0,
    Bell = 1,
    Close = 2,
    Cancel = 3,
    /// Sent by another lane's ring.
    Woken = 4,
}

const fn user_data(what: For, slot: u32) -> u64 {
    (what as u64) << 32 | slot as u64
}

/// What a ring is made from.
#[derive(Clone)]
pub struct RingSetup {
    pub lane: LaneId,
    pub peers: Peers,
    pub pool: Pool,
    /// A size for the shared queue; the kernel may give less.
    pub queue_entries: u32,
}

impl RingSetup {
    #[must_use]
    pub fn new(lane: LaneId, peers: &Peers, pool: Pool) -> Self {
        Self { lane, peers: peers.clone(), pool, queue_entries: QUEUE_ENTRIES }
    }
}

/// The ring of one lane, on the lane's own thread.
pub struct RealRing {
    uring: IoUring,
    features: Features,
    lane: LaneId,
    peers: Peers,
    pool: Pool,
    closing: Closing,
    flights: Flights,
    /// Requests that found the shared queue full, oldest first.
    backlog: VecDeque<Entry>,
    /// Results that need no kernel.
    ready: Vec<(u32, Result<Outcome, Errno>)>,
    arrived: Vec<cqueue::Entry>,
    errands: Errands,
    blocks: Option<Blocks>,
    /// Where the bell's count is read to.
    bell_count: Box<u64>,
    bell_armed: bool,
    bell_failed: bool,
    woken: bool,
    /// Closes and cancels the kernel has not answered.
    unanswered: usize,
    random: [u8; RANDOM_BYTES],
    random_used: usize,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    enters: u64,
    submissions: u64,
    completions: u64,
    backlogged: u64,
    out_of_blocks: u64,
    closed: u64,
}

/// The kernel's extended argument for entering a ring.
#[repr(C)]
struct EnterArg {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    time: u64,
}

impl RealRing {
    /// Makes the ring of a lane. Call it on the thread that will drive it.
    ///
    /// # Errors
    /// When this host cannot carry it; the refusal says what to do.
    pub fn open(setup: RingSetup) -> Result<Self, Refusal> {
        let RingSetup { lane, peers, pool, queue_entries } = setup;
        assert!(lane.0 < peers.lanes(), "no lane {lane:?} among {}", peers.lanes());
        let (uring, features) = probe::set_up(queue_entries)?;
        let blocks = Blocks::register(&uring.submitter(), pool.stats().budget_bytes);
        let shared = sys::duplicate(uring.as_raw_fd())
            .map_err(|errno| Refusal::Other { what: "a second descriptor of the ring", errno })?;
        peers.of(lane).set_ring(Some(Arc::new(shared)));
        Ok(Self {
            uring,
            features,
            lane,
            errands: Errands::new(peers.clone(), lane),
            peers,
            pool,
            closing: Closing::default(),
            flights: Flights::default(),
            backlog: VecDeque::new(),
            ready: Vec::new(),
            arrived: Vec::new(),
            blocks,
            bell_count: Box::new(0),
            bell_armed: false,
            bell_failed: false,
            woken: false,
            unanswered: 0,
            random: [0; RANDOM_BYTES],
            random_used: RANDOM_BYTES,
            counts: Counts::default(),
        })
    }

    /// Starts, or starts again, the operation in a slot.
    fn start(&mut self, slot: u32) {
        let flight = self.flights.known(slot);
        flight.stage = Stage::Kernel;
        match &flight.op {
            Op::SendFile { .. } => return self.send_file(slot),
            Op::Resident { file, at, bytes } => {
                let resident = sys::is_resident(file.number(), *at, *bytes) == Some(true);
                return self.set_ready(slot, Ok(Outcome::Resident(resident)));
            }
            Op::Wake { lane } => {
                let lane = *lane;
                return self.wake(slot, lane);
            }
            _ => {}
        }
        let provided = self.blocks.is_some();
        match begin::begin(flight, &self.features, provided, &self.pool, &self.closing) {
            Begin::Ask(entry) => self.push(&entry.user_data(user_data(For::Op, slot))),
            Begin::Send(errand) => {
                flight.stage = Stage::Helper;
                self.errands.send(slot, errand);
            }
            Begin::Ready(result) => self.set_ready(slot, result),
        }
    }

    fn set_ready(&mut self, slot: u32, result: Result<Outcome, Errno>) {
        self.flights.known(slot).stage = Stage::Ready;
        self.ready.push((slot, result));
    }

    /// Sends what the page cache has; what it lacks is read by the helper first.
    fn send_file(&mut self, slot: u32) {
        let flight = self.flights.known(slot);
        let Op::SendFile { socket, file, at, bytes } = &flight.op else { unreachable!() };
        let (socket, file, at) = (socket.number(), file.number(), *at);
        let bytes = (*bytes).min(SEND_BYTES_MAX as u32);
        let warmed = matches!(flight.aid, Aid::Warmed);
        if !warmed && sys::is_resident(file, at, bytes) != Some(true) {
            flight.stage = Stage::Helper;
            self.errands.send(slot, Errand::Warm { file, at, bytes });
            return;
        }
        match sys::send_file(socket, file, at, bytes) {
            Err(Errno::AGAIN) => {
                flight.stage = Stage::Room;
                let room = opcode::PollAdd::new(types::Fd(socket), libc::POLLOUT as u32).build();
                self.push(&room.user_data(user_data(For::Op, slot)));
            }
            result => self.set_ready(slot, result.map(Outcome::Bytes)),
        }
    }

    fn wake(&mut self, slot: u32, lane: LaneId) {
        assert!(lane.0 < self.peers.lanes(), "no lane {lane:?} among {}", self.peers.lanes());
        if lane == self.lane {
            self.woken = true;
            return self.set_ready(slot, Ok(Outcome::Done));
        }
        let peer = self.peers.of(lane);
        match peer.ring().filter(|_| self.features.message_ring) {
            Some(ring) => {
                let to = types::Fd(ring.as_raw_fd());
                let entry = opcode::MsgRingData::new(to, 0, user_data(For::Woken, 0), None).build();
                self.flights.known(slot).aid = Aid::Ring(ring);
                self.push(&entry.user_data(user_data(For::Op, slot)));
            }
            None => {
                peer.wake();
                self.set_ready(slot, Ok(Outcome::Done));
            }
        }
    }

    /// Puts a request behind all earlier ones (REAL-2).
    fn push(&mut self, entry: &Entry) {
        if self.backlog.is_empty() {
            if self.try_push(entry) {
                return;
            }
            self.enter(None);
            if self.try_push(entry) {
                return;
            }
        }
        self.counts.backlogged += 1;
        self.backlog.push_back(entry.clone());
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        // SAFETY: what the request points to is owned by its flight until the last answer, or by
        // the ring itself, which waits for that answer before it goes (REAL-1, REAL-3).
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    /// Moves waiting requests into the shared queue, handing full queues to the kernel.
    fn push_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if self.try_push(&entry) {
                continue;
            }
            self.enter(None);
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Gives the kernel what is queued. With a time, sleeps until an answer or that time; the
    /// outer `None` does not sleep, the inner one sleeps as long as it takes.
    fn enter(&mut self, sleep: Option<Option<Nanos>>) {
        let queue = self.uring.submission();
        let (queued, waiting) = (queue.len() as u32, queue.taskrun() || queue.cq_overflow());
        drop(queue);
        if queued == 0 && sleep.is_none() && self.features.taskrun_flag && !waiting {
            return;
        }
        let mut flags = ENTER_GETEVENTS;
        if self.features.no_iowait {
            flags |= ENTER_NO_IOWAIT;
        }
        let time = match sleep {
            Some(Some(span)) => {
                Timespec::new().sec(span.0 / 1_000_000_000).nsec((span.0 % 1_000_000_000) as u32)
            }
            _ => Timespec::new(),
        };
        let arg = matches!(sleep, Some(Some(_))).then(|| {
            flags |= ENTER_EXT_ARG;
            let time = (&raw const time).addr() as u64;
            EnterArg { sigmask: 0, sigmask_bytes: 0, min_wait_us: 0, time }
        });
        self.counts.enters += 1;
        let want = u32::from(sleep.is_some());
        // SAFETY: the argument and the time it points to live through the call and have the
        // kernel's layout; what the queued requests point to is kept (REAL-1).
        let entered = unsafe { self.uring.submitter().enter(queued, want, flags, arg.as_ref()) };
        match entered {
            Ok(taken) => self.counts.submissions += taken as u64,
            Err(error) => {
                let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
                // Short of memory, full of answers, time over, a signal: the next turn goes on.
                let passing = [
                    Errno::AGAIN,
                    Errno::NOMEM,
                    Errno::INTR,
                    Errno(libc::EBUSY),
                    Errno(libc::ETIME),
                ];
                assert!(passing.contains(&errno), "the ring is broken: {errno}");
            }
        }
    }

    /// Waits for the bell, by which the helper and other threads are heard.
    fn arm_bell(&mut self) {
        if self.bell_armed || self.bell_failed {
            return;
        }
        self.bell_armed = true;
        let bell = types::Fd(self.peers.of(self.lane).bell().as_raw_fd());
        let to: *mut u64 = &raw mut *self.bell_count;
        let entry = opcode::Read::new(bell, to.cast(), 8).build();
        self.push(&entry.user_data(user_data(For::Bell, 0)));
    }

    /// Closes what nobody holds any more.
    fn close_unheld(&mut self) {
        while let Some(number) = self.closing.next() {
            self.unanswered += 1;
            self.counts.closed += 1;
            let entry = opcode::Close::new(types::Fd(number)).build();
            self.push(&entry.user_data(user_data(For::Close, 0)));
        }
    }

    /// Takes the kernel's answers.
    fn reap(&mut self, completed: &mut Vec<Completion>) {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.extend(self.uring.completion());
        self.counts.completions += arrived.len() as u64;
        for entry in arrived.drain(..) {
            let (what, slot) = ((entry.user_data() >> 32) as u32, entry.user_data() as u32);
            if what == For::Op as u32 {
                self.answered(slot, entry.result(), entry.flags(), completed);
            } else if what == For::Bell as u32 {
                self.bell_armed = false;
                // Only a cancel at the end stops the reading of a counter for good.
                self.bell_failed = entry.result() == -libc::ECANCELED;
                self.woken |= self.peers.of(self.lane).take_rung();
            } else if what == For::Woken as u32 {
                self.woken = true;
            } else {
                self.unanswered -= 1;
            }
        }
        self.arrived = arrived;
    }

    fn reap_helper(&mut self) {
        while let Some(done) = self.errands.next_done() {
            let flight = self.flights.known(done.slot);
            let sends = matches!(flight.op, Op::SendFile { .. });
            match done.result {
                Ok(_) if sends && flight.cancelled => {
                    self.set_ready(done.slot, Err(Errno::CANCELED));
                }
                Ok(_) if sends => {
                    flight.aid = Aid::Warmed;
                    self.send_file(done.slot);
                }
                result => self.set_ready(done.slot, result),
            }
        }
    }

    fn complete(
        &mut self,
        slot: u32,
        result: Result<Outcome, Errno>,
        completed: &mut Vec<Completion>,
    ) {
        let flight = self.flights.remove(slot);
        completed.push(Completion {
            ticket: Ticket(slot),
            result,
            op: Some(flight.op),
            last: true,
        });
    }

    fn request_cancel(&mut self, what: u64) {
        self.unanswered += 1;
        let entry = opcode::AsyncCancel::new(what).build();
        self.push(&entry.user_data(user_data(For::Cancel, 0)));
    }
}

/// The clock of every real ring.
pub(crate) fn now() -> Nanos {
    Nanos(sys::clock(libc::CLOCK_MONOTONIC) as u64)
}

impl Ring for RealRing {
    fn submit(&mut self, op: Op) -> Result<Ticket, Op> {
        if self.flights.is_full() {
            return Err(op);
        }
        let slot = self.flights.add(op);
        self.start(slot);
        Ok(Ticket(slot))
    }

    fn cancel(&mut self, ticket: Ticket) {
        let Some(flight) = self.flights.get(ticket.0) else { return };
        if flight.cancelled {
            return;
        }
        flight.cancelled = true;
        // What the helper or nobody works on ends soon by itself; a flush after a write must not
        // be separated from it.
        if matches!(flight.stage, Stage::Kernel | Stage::Room) {
            self.request_cancel(user_data(For::Op, ticket.0));
        }
    }

    fn turn(&mut self, wait: Wait, completed: &mut Vec<Completion>) {
        self.close_unheld();
        self.reap_helper();
        if let Some(blocks) = &mut self.blocks {
            blocks.refill(&self.pool);
        }
        self.push_backlog();
        self.arm_bell();
        let awake = !self.ready.is_empty()
            || self.woken
            || !self.backlog.is_empty()
            || !self.uring.completion().is_empty();
        let sleep = match wait {
            Wait::Until(until) if !awake => match until.map(|it| it.since(self.now())) {
                Some(Nanos::ZERO) => None,
                span => Some(span),
            },
            _ => None,
        };
        self.enter(sleep);
        self.reap(completed);
        self.reap_helper();
        let mut ready = std::mem::take(&mut self.ready);
        for (slot, result) in ready.drain(..) {
            self.complete(slot, result, completed);
        }
        self.ready = ready;
        if std::mem::take(&mut self.woken) {
            let result = Ok(Outcome::Done);
            completed.push(Completion { ticket: Ticket::WOKEN, result, op: None, last: true });
        }
    }

    fn now(&self) -> Nanos {
        now()
    }

    fn wall(&self) -> WallMillis {
        WallMillis(sys::clock(libc::CLOCK_REALTIME).div_euclid(1_000_000) as i64)
    }

    fn random(&mut self) -> u64 {
        if self.random_used == RANDOM_BYTES {
            sys::random(&mut self.random);
            self.random_used = 0;
        }
        let at = self.random_used;
        self.random_used += 8;
        u64::from_le_bytes(self.random[at..at + 8].try_into().expect("eight bytes"))
    }

    fn lane(&self) -> LaneId {
        self.lane
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn describe(&self) -> Vec<String> {
        let mut lines = self.features.describe();
        let params = self.uring.params();
        lines.push(format!(
            "a queue of {} requests and {} answers",
            params.sq_entries(),
            params.cq_entries()
        ));
        lines.push(match self.blocks {
            Some(_) => "provided blocks".to_owned(),
            None => "no provided blocks: each idle connection holds one".to_owned(),
        });
        lines
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let Counts { enters, submissions, completions, backlogged, out_of_blocks, closed } =
            self.counts;
        // SAFETY: the mapped counter is read only here, and nobody holds the completion queue.
        let overflows = unsafe { self.uring.completion_shared() }.overflow();
        vec![
            ("enters", enters),
            ("submissions", submissions),
            ("completions", completions),
            ("backlogged", backlogged),
            ("out_of_blocks", out_of_blocks),
            ("closed", closed),
            ("helper_errands", self.errands.sent()),
            ("completions_lost", u64::from(overflows)),
            ("in_flight", self.flights.count() as u64),
        ]
    }
}

impl Drop for RealRing {
    fn drop(&mut self) {
        self.peers.of(self.lane).set_ring(None);
        for slot in self.flights.taken() {
            self.cancel(Ticket(slot));
        }
        let mut completed = Vec::new();
        while 0 < self.flights.count() {
            self.turn(Wait::Until(None), &mut completed);
            completed.clear();
        }
        // No flight is left, so the helper has nothing to do and the bell no one to speak for.
        if self.bell_armed {
            self.request_cancel(user_data(For::Bell, 0));
        }
        self.close_unheld();
        while self.bell_armed || 0 < self.unanswered {
            self.push_backlog();
            self.enter(Some(None));
            self.reap(&mut completed);
        }
        if let Some(blocks) = self.blocks.take() {
            blocks.unregister(&self.uring.submitter());
        }
        while let Some(number) = self.closing.next() {
            sys::close(number);
        }
    }
}

/// Whether files in a directory can be read and written around the page cache.
///
/// # Errors
/// When they cannot, or when the directory does not let us try.
pub fn check_direct_io(dir: &Path) -> Result<(), Refusal> {
    let path = dir.join(format!(".direct-io-{}", std::process::id()));
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    let written = opened.and_then(|file| {
        use std::os::unix::fs::FileExt;
        let mut block = crate::buf::Buf::unpooled(crate::limits::BLOCK_BYTES);
        block.pad_to(crate::limits::BLOCK_BYTES);
        file.write_all_at(block.filled(), 0)
    });
    // The file may not even exist; whether it could be removed changes nothing for the caller.
    drop(std::fs::remove_file(&path));
    written.map_err(|error| match Errno(error.raw_os_error().unwrap_or(libc::EIO)) {
        Errno::INVAL | Errno::OPNOTSUPP => Refusal::NoDirectIo {
            path: dir.to_owned(),
            file_system: sys::space(dir).map_or_else(|it| it.to_string(), |it| it.file_system),
        },
        errno => Refusal::Other { what: "writing to the data directory", errno },
    })
}

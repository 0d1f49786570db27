//! Appends that wait: journal or memory are used up for now, and those who came first go first.
//!
//! A lane has one line. Whoever comes while somebody stands in it stands behind, so that nothing
//! overtakes; whoever has a partition's answer in hand has its place in that partition's log. A batch that
//! takes long to look at steps aside ([`super::long`]), and only its own partition waits for it. A wait
//! ends with room, with its own time, or with the disk: an error that more room does not mend is
//! given at once.
//!
//! Invariants:
//! - LINE-1: appends take effect in the order in which they came, whether they waited or not; who steps
//!   aside keeps its place among those to its partition;
//! - LINE-2: when one is given up, for its time or for the disk, so is what its client sent behind
//!   it to the same partition: it would overtake when the first is sent again;
//! - LINE-3: a share of the lane's memory is left to what makes room.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use corelane_core::buf::Piece;
use corelane_core::ids::TopicPartition;
use corelane_core::lane::{Importance, Lane};
use corelane_core::metrics::{Counter, Gauge, Latency, Metrics};
use corelane_core::sync::{Event, Giver, Taker, once};
use corelane_core::time::Nanos;

use super::store::{AppendError, Appended, Store};

/// The share of the lane's memory, as a divisor, that appends of clients leave alone.
const MEMORY_LEFT_SHARE: usize = 8;

/// How often the line looks for memory that came home, or room on the disk: nobody tells it of that.
const LOOK: Nanos = Nanos::millis(2);

/// The longest wait, whatever the client would allow.
const WAIT_MAX: Nanos = Nanos::secs(300);

/// The end of a patience that nobody loses.
const NEVER: Nanos = Nanos(u64::MAX);

/// The work a look at a batch may take before it steps aside.
const UNITS_AT_ONCE: usize = 128 << 10;

pub(super) struct Waiting {
    pub(super) of: TopicPartition,
    pub(super) from: SocketAddr,
    pub(super) batch: Piece,
    since: Nanos,
    pub(super) until: Nanos,
    pub(super) giver: Giver<Result<Appended, AppendError>>,
}

/// The appends of one lane that wait.
pub(super) struct Line {
    waiting: RefCell<VecDeque<Waiting>>,
    /// Nobody in the line gives up before.
    patient_until: Cell<Nanos>,
    came: Event,
    waited: Counter,
    given_up: Counter,
    wait: Latency,
    length: Gauge,
}

impl Line {
    pub(super) fn new(lane: &Lane, metrics: &Metrics) -> Self {
        Self {
            waiting: RefCell::default(),
            patient_until: Cell::new(NEVER),
            came: Event::new(lane),
            waited: metrics.counter("log.appends_waited"),
            given_up: metrics.counter("log.appends_given_up"),
            wait: metrics.latency("log.append_wait"),
            length: metrics.gauge("log.appends_waiting"),
        }
    }
}

/// An append whose place in the order is taken.
#[must_use = "an append says what became of it"]
pub enum InTurn {
    Done(Result<Appended, AppendError>),
    Waits(Taker<Result<Appended, AppendError>>),
}

impl InTurn {
    /// Waits until the append took effect, or never will.
    ///
    /// # Errors
    /// As [`Store::append`], and [`AppendError::TimedOut`].
    pub async fn done(mut self) -> Result<Appended, AppendError> {
        self.wait().await.clone()
    }

    /// As [`Self::done`], where it lies.
    ///
    /// # Errors
    /// As [`Self::done`].
    pub async fn wait(&mut self) -> &Result<Appended, AppendError> {
        if let Self::Waits(taker) = self {
            let done = std::future::poll_fn(|_| taker.poll_take()).await;
            // Without an answer the line went away with its lane.
            *self = Self::Done(done.unwrap_or(Err(AppendError::TimedOut)));
        }
        self.result().expect("just seen")
    }

    /// What became of it, if that is known.
    #[must_use]
    pub fn result(&self) -> Option<&Result<Appended, AppendError>> {
        match self {
            Self::Done(done) => Some(done),
            Self::Waits(_) => None,
        }
    }
}

impl Store {
    /// As [`Self::append`], but waits until `until` where that is told to come again. The order is
    /// that of the calls. `from` is whoever sent it.
    pub fn append_in_turn(
        &self,
        of: &TopicPartition,
        mut batch: Piece,
        from: SocketAddr,
        until: Nanos,
    ) -> InTurn {
        let (line, long) = (&self.0.line, &self.0.long);
        let now = self.0.lane.now();
        let mut steps_aside = false;
        if line.waiting.borrow().is_empty() {
            steps_aside = long.is_ahead_of(of);
            if !steps_aside && !long.needs_room() && self.takes(batch.len()) {
                match self.append_within(of, &mut batch, false, UNITS_AT_ONCE) {
                    None => steps_aside = true,
                    Some(Err(AppendError::Overloaded)) => {}
                    Some(done) => return InTurn::Done(done),
                }
            }
        }
        if !steps_aside && until <= now {
            line.given_up.add(1);
            return InTurn::Done(Err(AppendError::TimedOut));
        }
        let (giver, taker) = once(&self.0.lane);
        let until = until.min(now + WAIT_MAX);
        let it = Waiting { of: *of, from, batch, since: now, until, giver };
        if steps_aside {
            long.push(it);
            return InTurn::Waits(taker);
        }
        line.waiting.borrow_mut().push_back(it);
        line.patient_until.set(line.patient_until.get().min(until));
        line.waited.add(1);
        line.came.notify();
        self.0.upkeep.notify();
        InTurn::Waits(taker)
    }

    /// Appends that wait now.
    #[must_use]
    pub fn appends_waiting(&self) -> usize {
        self.0.line.waiting.borrow().len() + self.0.long.len()
    }

    /// Whether a client's batch of so many bytes may be tried. An error that room does not mend
    /// must be said: then it may.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let pool = self.0.lane.pool();
        let memory = pool.budget_bytes() - pool.budget_bytes() / MEMORY_LEFT_SHARE;
        let hopeless = self.0.journal.failed().is_some() || self.0.keep.no_space.get();
        // Once in the tail, once in a frame.
        hopeless
            || (pool.lent_bytes().saturating_add(2 * bytes) <= memory
                && self.0.journal.has_room_for_clients(bytes))
    }

    /// Lets those in the line go on, as long as the lane runs.
    pub(super) async fn keep_line(self) {
        let line = &self.0.line;
        loop {
            let came = line.came.seen();
            while let Some(bytes) = self.next_in_line() {
                self.0.lane.spend(bytes).await;
            }
            self.give_up_late();
            line.length.set(i64::try_from(line.waiting.borrow().len()).unwrap_or(i64::MAX));
            if line.waiting.borrow().is_empty() {
                line.came.past(came).await;
                continue;
            }
            self.freed().await;
        }
    }

    /// Waits until an append, a creation or a removal that was refused because everything is used up
    /// may be tried again.
    pub async fn room(&self) {
        self.0.upkeep.notify();
        self.freed().await;
    }

    pub(super) async fn freed(&self) {
        let look = self.0.lane.now() + LOOK;
        // The time being over is as good a reason as any. Nobody says that upkeep had a look: whoever
        // waits calls for it, and the two would keep each other awake.
        let _either = self.0.lane.until(look, self.0.journal.moved()).await;
    }

    /// Appends the first in the line, if it can be. Says how large it was.
    fn next_in_line(&self) -> Option<usize> {
        let line = &self.0.line;
        let mut waiting = line.waiting.borrow_mut();
        let first = waiting.front_mut()?;
        if self.0.long.is_ahead_of(&first.of) {
            self.0.long.push(waiting.pop_front().expect("just seen"));
            return Some(0);
        }
        let now = self.0.lane.now();
        if first.until <= now || self.0.long.needs_room() || !self.takes(first.batch.len()) {
            return None;
        }
        let done = match self.append_within(&first.of, &mut first.batch, false, UNITS_AT_ONCE) {
            Some(Err(AppendError::Overloaded)) => return None,
            Some(done) => done,
            None => {
                self.0.long.push(waiting.pop_front().expect("just seen"));
                return Some(UNITS_AT_ONCE);
            }
        };
        let it = waiting.pop_front().expect("just seen");
        let bytes = it.batch.len();
        line.wait.record(now.since(it.since));
        if let Err(error @ (AppendError::NoSpace | AppendError::Failed(_))) = &done {
            give_up(&mut waiting, &it, error);
        }
        it.giver.give(done);
        Some(bytes)
    }

    /// LINE-2: what the same client sent to the same partition behind one that was given up.
    pub(super) fn give_up_in_line(&self, gone: &Waiting, error: &AppendError) {
        give_up(&mut self.0.line.waiting.borrow_mut(), gone, error);
    }

    /// LINE-2.
    fn give_up_late(&self) {
        let line = &self.0.line;
        let now = self.0.lane.now();
        // Not asked of each of them: the line may be long, and something moves all the time.
        if now < line.patient_until.get() {
            return;
        }
        let mut waiting = line.waiting.borrow_mut();
        let mut patient_until = NEVER;
        let mut given_up = BTreeSet::new();
        for it in std::mem::take(&mut *waiting) {
            let key = (it.from, it.of);
            if it.until <= now || given_up.contains(&key) {
                given_up.insert(key);
                line.given_up.add(1);
                it.giver.give(Err(AppendError::TimedOut));
            } else {
                patient_until = patient_until.min(it.until);
                waiting.push_back(it);
            }
        }
        line.patient_until.set(patient_until);
    }

    pub(super) fn start_line(&self) {
        self.start_long();
        let store = self.clone();
        let keep = async move { store.keep_line().await };
        self.0.lane.spawn("appends that wait", Importance::Serving, keep);
    }
}

/// LINE-2.
pub(super) fn give_up(waiting: &mut VecDeque<Waiting>, gone: &Waiting, error: &AppendError) {
    for behind in std::mem::take(waiting) {
        if (behind.from, behind.of) == (gone.from, gone.of) {
            behind.giver.give(Err(error.clone()));
        } else {
            waiting.push_back(behind);
        }
    }
}

//! The loop of a lane, and the handle by which everything on it is reached.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::ops::Slots;
use super::tasks::{Importance, Polled, TaskId, Tasks};
use super::timers::Timers;
use super::wait::{Sleep, TimedOut, Yield};
use crate::buf::Pool;
use crate::ids::LaneId;
use crate::limits::{GAVE_WAY_NS_MAX, POLLS_PER_TURN_MAX, SLICE_BYTES, STALL_NS, TURN_NS_MAX};
use crate::ring::{Completion, Op, Ring, Sync, Ticket, Wait};
use crate::time::{Nanos, WallMillis};

/// A handle to the lane we run on. Cheap to clone; cannot leave the lane.
#[derive(Clone)]
pub struct Lane(pub(super) Rc<Inner>);

pub(super) struct Inner {
    pub(super) ring: RefCell<Box<dyn Ring>>,
    pub(super) tasks: RefCell<Tasks>,
    pub(super) timers: RefCell<Timers>,
    pub(super) slots: RefCell<Slots>,
    /// Tasks whose operation found the ring full; woken after the next turn.
    pub(super) refused: RefCell<VecDeque<TaskId>>,
    /// Tasks that run once what was asked for in this turn has reached the kernel.
    later: RefCell<Vec<TaskId>>,
    current: Cell<Option<TaskId>>,
    /// Bytes the current task processed since it was polled.
    spent_bytes: Cell<usize>,
    /// Lanes that got mail from us in this turn.
    bells: RefCell<BTreeSet<LaneId>>,
    /// What to do when another lane rang.
    on_mail: RefCell<Vec<Rc<dyn Fn()>>>,
    stopping: Cell<bool>,
    counts: RefCell<LaneCounts>,
    id: LaneId,
    pool: Pool,
}

/// What a lane did so far. A plain value: copy it, subtract it, print it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneCounts {
    pub turns: u64,
    pub polls: u64,
    pub completions: u64,
    /// Submits that found the ring full and had to wait.
    pub ring_full: u64,
    /// Time spent in polls, by importance.
    pub busy_ns: [u64; 3],
    /// Polls over half a millisecond while serving work waited.
    pub stalls: u64,
    pub worst_stall: Option<Stall>,
    /// Files opened or made.
    pub opens: u64,
    /// Flushes asked for, of files and of directories.
    pub flushes: u64,
    /// Writes that were to be durable when they ended.
    pub durable_writes: u64,
}

/// A task that held the lane too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    pub task: &'static str,
    pub ns: u64,
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Some task is ready: step again.
    Ready,
    /// Nothing to do before `until`, or before a completion.
    Idle { until: Option<Nanos> },
}

/// The loop. Whoever owns it drives the lane: a pinned thread, or the simulator.
pub struct Executor {
    lane: Lane,
    completed: Vec<Completion>,
}

impl Executor {
    #[must_use]
    pub fn new(ring: Box<dyn Ring>) -> Self {
        let id = ring.lane();
        let pool = ring.pool().clone();
        let inner = Inner {
            ring: RefCell::new(ring),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            slots: RefCell::default(),
            refused: RefCell::default(),
            later: RefCell::default(),
            current: Cell::new(None),
            spent_bytes: Cell::new(0),
            bells: RefCell::default(),
            on_mail: RefCell::default(),
            stopping: Cell::new(false),
            counts: RefCell::default(),
            id,
            pool,
        };
        Self { lane: Lane(Rc::new(inner)), completed: Vec::with_capacity(1024) }
    }

    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// One turn. Sleeps in the ring only when no task is ready.
    pub fn step(&mut self) -> Step {
        self.run_ready();
        self.meet_the_kernel()
    }

    /// The second half of a turn: hands over what was asked for and takes what has come.
    fn meet_the_kernel(&mut self) -> Step {
        self.ring_bells();
        self.enter();
        self.give_out();
        let inner = &*self.lane.0;
        let now = self.lane.now();
        while let Some(task) = inner.timers.borrow_mut().expire(now) {
            inner.tasks.borrow_mut().wake(task);
        }
        inner.counts.borrow_mut().turns += 1;
        if inner.tasks.borrow().any_ready() {
            Step::Ready
        } else {
            Step::Idle { until: inner.timers.borrow().next() }
        }
    }

    /// Runs until `work` is done and gives its result. Other tasks stay where they are.
    pub fn block_on<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(Cell::new(None));
        let put = Rc::clone(&result);
        self.lane.spawn("main", Importance::Serving, async move { put.set(Some(work.await)) });
        loop {
            self.run_ready();
            // Before the ring sleeps: when the work is done, nothing may ever come.
            if let Some(result) = result.take() {
                self.hand_over();
                return result;
            }
            self.meet_the_kernel();
        }
    }

    /// Gives the kernel what it was asked for last, and waits for nothing: a lane that is told of a
    /// letter after its writer has gone would never be told.
    fn hand_over(&mut self) {
        loop {
            self.ring_bells();
            self.turn(Wait::No);
            self.give_out();
            if self.lane.0.bells.borrow().is_empty() {
                return;
            }
        }
    }

    /// Runs until somebody calls [`Lane::stop`].
    pub fn run(&mut self) {
        while !self.lane.0.stopping.get() {
            self.step();
        }
    }

    fn run_ready(&mut self) {
        let inner = &*self.lane.0;
        let mut before = self.lane.now();
        let start = before;
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..POLLS_PER_TURN_MAX {
            let Some(polled) = inner.tasks.borrow_mut().next() else { break };
            let Polled { id, name, importance, line, mut body } = polled;
            inner.current.set(Some(id));
            inner.spent_bytes.set(0);
            let polled = body.as_mut().poll(&mut context);
            inner.current.set(None);
            inner.ring.borrow_mut().polled();
            match polled {
                Poll::Ready(()) => {
                    inner.tasks.borrow_mut().remove(id);
                    drop(body);
                }
                Poll::Pending => {
                    let ended = inner.tasks.borrow_mut().put_back(id, body);
                    drop(ended);
                }
            }
            let after = self.lane.now();
            let ns = after.since(before).0;
            inner.tasks.borrow_mut().charge(line, ns);
            self.account(name, importance, ns);
            before = after;
            let spent = after.since(start).0;
            // Who gave way lets those run first whom the kernel is about to wake.
            let rest_gave_way = !inner.tasks.borrow().newly_woken_wait();
            if TURN_NS_MAX < spent || rest_gave_way && GAVE_WAY_NS_MAX < spent {
                break;
            }
        }
    }

    fn account(&self, name: &'static str, importance: Importance, ns: u64) {
        let inner = &*self.lane.0;
        let tasks = inner.tasks.borrow();
        let mut counts = inner.counts.borrow_mut();
        counts.polls += 1;
        counts.busy_ns[importance as usize] += ns;
        if STALL_NS < ns && tasks.serving_waits() {
            counts.stalls += 1;
            if counts.worst_stall.as_ref().is_none_or(|it| it.ns < ns) {
                counts.worst_stall = Some(Stall { task: name, ns });
            }
        }
    }

    fn ring_bells(&self) {
        let inner = &*self.lane.0;
        while let Some(lane) = inner.bells.borrow_mut().pop_first() {
            let submitted = inner.ring.borrow_mut().submit(Op::Wake { lane });
            match submitted {
                Ok(ticket) => inner.slots.borrow_mut().expect_nothing(ticket),
                Err(_) => {
                    inner.bells.borrow_mut().insert(lane);
                    break;
                }
            }
        }
    }

    fn enter(&mut self) {
        let inner = &*self.lane.0;
        let wait = if inner.tasks.borrow().any_ready()
            || !inner.bells.borrow().is_empty()
            || !inner.refused.borrow().is_empty()
            || !inner.later.borrow().is_empty()
            || inner.stopping.get()
        {
            Wait::No
        } else {
            Wait::Until(inner.timers.borrow().next())
        };
        self.turn(wait);
    }

    fn turn(&mut self, wait: Wait) {
        let inner = &*self.lane.0;
        inner.ring.borrow_mut().turn(wait, &mut self.completed);
        // What found the ring full may try again.
        let mut tasks = inner.tasks.borrow_mut();
        for task in inner.refused.borrow_mut().drain(..) {
            tasks.wake(task);
        }
        for task in inner.later.borrow_mut().drain(..) {
            tasks.wake(task);
        }
    }

    fn give_out(&mut self) {
        let inner = &*self.lane.0;
        inner.counts.borrow_mut().completions += self.completed.len() as u64;
        let mut woken = false;
        for completion in self.completed.drain(..) {
            if completion.ticket == Ticket::WOKEN {
                woken = true;
                continue;
            }
            // Bound first: what nobody waits for is dropped outside of any borrow.
            let (task, unwanted) = inner.slots.borrow_mut().complete(completion);
            drop(unwanted);
            if let Some(task) = task {
                inner.tasks.borrow_mut().wake(task);
            }
        }
        if woken {
            let pumps = inner.on_mail.borrow().clone();
            for pump in pumps {
                pump();
            }
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks hold the lane and the lane holds the tasks: untie them, then the ring goes last.
        loop {
            let bodies = self.lane.0.tasks.borrow_mut().clear();
            if bodies.is_empty() {
                break;
            }
            drop(bodies);
        }
        self.lane.0.on_mail.borrow_mut().clear();
        self.lane.0.timers.borrow_mut().clear();
        let slots = std::mem::take(&mut *self.lane.0.slots.borrow_mut());
        drop(slots);
    }
}

impl Lane {
    #[must_use]
    pub fn id(&self) -> LaneId {
        self.0.id
    }

    #[must_use]
    pub fn now(&self) -> Nanos {
        self.0.ring.borrow().now()
    }

    #[must_use]
    pub fn wall(&self) -> WallMillis {
        self.0.ring.borrow().wall()
    }

    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.ring.borrow_mut().random()
    }

    /// The lane's memory.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Starts a task. It runs until it is done or cancelled, whether or not anybody watches.
    pub fn spawn(
        &self,
        name: &'static str,
        importance: Importance,
        work: impl Future<Output = ()> + 'static,
    ) -> TaskId {
        self.0.tasks.borrow_mut().add(name, importance, Box::pin(work))
    }

    /// Ends a task now. Operations it waits for finish without it. A task cannot cancel itself.
    pub fn cancel(&self, task: TaskId) {
        assert!(self.0.current.get() != Some(task), "a task ends itself by returning");
        let body = self.0.tasks.borrow_mut().remove(task);
        drop(body);
    }

    /// Whether a task still lives.
    #[must_use]
    pub fn is_alive(&self, task: TaskId) -> bool {
        self.0.tasks.borrow().is_alive(task)
    }

    #[must_use]
    pub fn tasks_alive(&self) -> usize {
        self.0.tasks.borrow().alive()
    }

    /// Makes [`Executor::run`] return after this turn.
    pub fn stop(&self) {
        self.0.stopping.set(true);
    }

    /// Sleeps for a while.
    pub fn sleep(&self, span: Nanos) -> Sleep {
        self.sleep_until(self.now() + span)
    }

    pub fn sleep_until(&self, at: Nanos) -> Sleep {
        Sleep::new(self.clone(), at)
    }

    /// Waits for `work`, but not past `at`.
    ///
    /// # Errors
    /// [`TimedOut`], with `work` dropped, when the time came first.
    pub async fn until<T>(&self, at: Nanos, work: impl Future<Output = T>) -> Result<T, TimedOut> {
        super::wait::until(self.sleep_until(at), work).await
    }

    /// Lets other tasks run first, those that asked for nothing of late before all.
    pub fn yield_now(&self) -> impl Future<Output = ()> + use<> {
        Yield::new(self.clone())
    }

    /// Accounts for bytes processed in a loop, and lets others run once the slice is used up.
    pub async fn spend(&self, bytes: usize) {
        let spent = self.0.spent_bytes.get() + bytes;
        self.0.spent_bytes.set(spent);
        if SLICE_BYTES <= spent {
            self.yield_now().await;
        }
    }

    /// Whether the task being polled has used up its slice, by what it accounted for.
    #[must_use]
    pub fn is_slice_spent(&self) -> bool {
        SLICE_BYTES <= self.0.spent_bytes.get()
    }

    #[must_use]
    pub fn counts(&self) -> LaneCounts {
        self.0.counts.borrow().clone()
    }

    pub(super) fn count(&self, op: &Op) {
        let mut counts = self.0.counts.borrow_mut();
        match op {
            Op::Open { .. } => counts.opens += 1,
            Op::Flush { .. } | Op::FlushDir { .. } => counts.flushes += 1,
            Op::Write { sync: Sync::Data, .. } => counts.durable_writes += 1,
            _ => {}
        }
    }

    /// What the ring found at start, and what it counted since.
    #[must_use]
    pub fn ring_facts(&self) -> (Vec<String>, Vec<(&'static str, u64)>) {
        let ring = self.0.ring.borrow();
        (ring.describe(), ring.counts())
    }

    /// The task being polled. Who waits for something notes it first.
    #[must_use]
    pub fn current(&self) -> TaskId {
        self.0.current.get().expect("a lane's futures are polled by its own tasks")
    }

    /// Makes a task run again. Does nothing for one that is gone.
    pub fn wake(&self, task: TaskId) {
        self.0.tasks.borrow_mut().wake(task);
    }

    /// Makes the task being polled run again, behind those that did not give way.
    pub(super) fn give_way(&self) {
        self.0.tasks.borrow_mut().give_way(self.current());
    }

    /// Wakes a task once what was asked for in this turn has reached the kernel.
    pub(crate) fn wake_later(&self, task: TaskId) {
        self.0.later.borrow_mut().push(task);
    }

    /// Rings another lane's bell at the end of this turn.
    pub(crate) fn ring_bell(&self, lane: LaneId) {
        self.0.bells.borrow_mut().insert(lane);
    }

    /// Calls `pump` whenever somebody outside woke this lane.
    pub fn on_wake(&self, pump: Rc<dyn Fn()>) {
        self.0.on_mail.borrow_mut().push(pump);
    }

    pub(super) fn count_full(&self) {
        self.0.counts.borrow_mut().ring_full += 1;
    }
}

//! Appends that step aside: a look at them takes long, because they unfold to much, or have very many
//! records. One at a time is looked at, a step after the other, and the lane does other things in between.
//!
//! Who comes for a partition that has such a batch waits behind it; appends to other partitions go on.
//! Memory is that of one batch, however many wait: the others are still folded.
//!
//! - LONG-1: appends to a partition take effect in the order in which they came;
//! - LONG-2: one that was looked at and finds no room is the next to find some.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use corelane_core::ids::TopicPartition;
use corelane_core::lane::{Importance, Lane};
use corelane_core::metrics::{Counter, Metrics};
use corelane_core::sync::Event;

use super::line::{Waiting, give_up};
use super::store::{AppendError, Appended, Store};
use crate::validate::{Examination, Scratch};

/// The work of one step.
const UNITS_PER_STEP: usize = 64 << 10;

/// The appends of one lane that stepped aside.
pub(super) struct Long {
    /// The first is being looked at.
    waiting: RefCell<VecDeque<Waiting>>,
    came: Event,
    scratch: RefCell<Scratch>,
    /// Whether the first was looked at, and only needs room.
    needs_room: Cell<bool>,
    stepped_aside: Counter,
    steps: Counter,
}

impl Long {
    pub(super) fn new(lane: &Lane, unfold_bytes_max: usize, metrics: &Metrics) -> Self {
        Self {
            waiting: RefCell::default(),
            came: Event::new(lane),
            scratch: RefCell::new(Scratch::new(unfold_bytes_max)),
            needs_room: Cell::new(false),
            stepped_aside: metrics.counter("log.appends_stepped_aside"),
            steps: metrics.counter("log.append_steps"),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether somebody is here whom an append to this partition may not overtake.
    pub(super) fn is_ahead_of(&self, of: &TopicPartition) -> bool {
        self.waiting.borrow().iter().any(|it| it.of == *of)
    }

    /// LONG-2.
    pub(super) fn needs_room(&self) -> bool {
        self.needs_room.get()
    }

    pub(super) fn push(&self, it: Waiting) {
        self.waiting.borrow_mut().push_back(it);
        self.stepped_aside.add(1);
        self.came.notify();
    }
}

impl Store {
    /// Looks at those that stepped aside, as long as the lane runs.
    async fn keep_long(self) {
        let long = &self.0.long;
        loop {
            let came = long.came.seen();
            if long.waiting.borrow().is_empty() {
                long.came.past(came).await;
                continue;
            }
            let done = self.append_first().await;
            long.needs_room.set(false);
            let it = long.waiting.borrow_mut().pop_front().expect("it was looked at here");
            if let Err(
                error @ (AppendError::NoSpace | AppendError::Failed(_) | AppendError::TimedOut),
            ) = &done
            {
                give_up(&mut long.waiting.borrow_mut(), &it, error);
                self.give_up_in_line(&it, error);
            }
            it.giver.give(done);
        }
    }

    async fn append_first(&self) -> Result<Appended, AppendError> {
        let long = &self.0.long;
        let (of, until) = {
            let waiting = long.waiting.borrow();
            let first = waiting.front().expect("somebody is here");
            (first.of, first.until)
        };
        let accepted = loop {
            let rules = self.writable(&of)?.borrow().rules.append.clone();
            let mut examination = self.with_first(|first, scratch| {
                Examination::begin(&rules, self.0.lane.wall().0, &first.batch, scratch)
            })?;
            loop {
                long.steps.add(1);
                let done = self.with_first(|first, scratch| {
                    examination.step(&rules, &first.batch, scratch, UNITS_PER_STEP)
                })?;
                self.0.lane.yield_now().await;
                if done {
                    break;
                }
            }
            // Somebody may have changed them meanwhile.
            if self.writable(&of)?.borrow().rules.append == rules {
                let accepted = self.with_first(|first, scratch| {
                    examination.finish(&rules, &mut first.batch, scratch)
                })?;
                break accepted;
            }
        };
        loop {
            let shared = self.writable(&of)?;
            let done = self.with_first(|first, scratch| {
                if !self.takes(first.batch.len()) {
                    return Err(AppendError::Overloaded);
                }
                let batch = if accepted.replaced {
                    scratch.replaced()
                } else {
                    &mut first.batch[..accepted.bytes]
                };
                self.place(&shared, &mut shared.borrow_mut(), batch, &accepted, false)
            });
            if done != Err(AppendError::Overloaded) {
                return done;
            }
            if until <= self.0.lane.now() {
                return Err(AppendError::TimedOut);
            }
            long.needs_room.set(true);
            self.room().await;
        }
    }

    fn with_first<T, E>(
        &self,
        work: impl FnOnce(&mut Waiting, &mut Scratch) -> Result<T, E>,
    ) -> Result<T, AppendError>
    where
        AppendError: From<E>,
    {
        let mut waiting = self.0.long.waiting.borrow_mut();
        let first = waiting.front_mut().expect("it is looked at here");
        work(first, &mut self.0.long.scratch.borrow_mut()).map_err(AppendError::from)
    }

    pub(super) fn start_long(&self) {
        let store = self.clone();
        let keep = async move { store.keep_long().await };
        self.0.lane.spawn("long appends", Importance::Serving, keep);
    }
}

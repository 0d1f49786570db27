//! How much memory the requests of one lane may take, all connections together.
//!
//! A connection reserves before it allocates, and what it cannot reserve stays with the kernel and,
//! through it, with the peer. Small needs come first: the last quarter is kept for them, so that a
//! few large requests do not silence everybody else.
//!
//! - BUDGET-1: reservations granted by [`Reservation::try_hold`] never exceed the total, but for
//!   one connection at a time, which may pass it for one request while none of its others is here:
//!   else many half-received requests could wait for each other for ever;
//! - BUDGET-2: bytes that have come already are always held; then the total is exceeded by no more
//!   than what the kernel had been told it may bring;
//! - BUDGET-3: whoever waits is woken when something is given back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use corelane_core::lane::Lane;
use corelane_core::sync::{Giver, Taker, once};

/// Needs above this are large.
const SMALL_BYTES: usize = 64 * 1024;

/// The share of the budget, as a divisor, that only small needs may use.
const SMALL_SHARE: usize = 4;

/// One lane's budget.
#[derive(Clone)]
pub struct Budget(Rc<Inner>);

struct Inner {
    lane: Lane,
    bytes_max: usize,
    held: Cell<usize>,
    held_most: Cell<usize>,
    /// Whether some connection passes the total.
    passing: Cell<bool>,
    waiting: RefCell<[VecDeque<Giver<()>>; 2]>,
}

impl Budget {
    #[must_use]
    pub fn new(lane: &Lane, bytes_max: usize) -> Self {
        Self(Rc::new(Inner {
            lane: lane.clone(),
            bytes_max,
            held: Cell::new(0),
            held_most: Cell::new(0),
            passing: Cell::new(false),
            waiting: RefCell::default(),
        }))
    }

    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Bytes reserved now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.get()
    }

    /// The most bytes that were ever reserved at once.
    #[must_use]
    pub fn held_most(&self) -> usize {
        self.0.held_most.get()
    }

    pub(super) fn reservation(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0, passes: false }
    }

    fn add(&self, bytes: usize) {
        let held = self.0.held.get() + bytes;
        self.0.held.set(held);
        self.0.held_most.set(self.0.held_most.get().max(held));
    }

    /// Wakes the first of each kind. One that cannot use it wakes nobody, and waits again.
    fn wake(&self) {
        for kind in &mut *self.0.waiting.borrow_mut() {
            while let Some(giver) = kind.pop_front() {
                if !giver.is_unwanted() {
                    giver.give(());
                    break;
                }
            }
        }
    }
}

/// What one connection holds of the budget.
pub(super) struct Reservation {
    budget: Budget,
    bytes: usize,
    passes: bool,
}

impl Reservation {
    /// Holds `bytes` from now on, because they are there already or because they are fewer.
    pub(super) fn hold(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if before < bytes {
            self.budget.add(bytes - before);
        } else if bytes < before {
            self.budget.0.held.set(self.budget.held() - (before - bytes));
            // Whoever has got through what was large must not keep others from passing.
            if self.passes && (bytes <= SMALL_BYTES || self.fits()) {
                self.stop_passing();
            }
            self.budget.wake();
        }
    }

    /// Holds `bytes` from now on, if the budget allows it. `may_pass`: nobody frees memory by itself if
    /// this connection does not.
    pub(super) fn try_hold(&mut self, bytes: usize, may_pass: bool) -> bool {
        let inner = &self.budget.0;
        if self.bytes < bytes && !(self.passes && may_pass) {
            let others = inner.held.get() - self.bytes;
            if Self::limit(&self.budget, bytes) < others + bytes {
                if inner.passing.get() || !may_pass {
                    return false;
                }
                inner.passing.set(true);
                self.passes = true;
            }
        }
        self.hold(bytes);
        // There may be room for the next in the row, too.
        self.budget.wake();
        true
    }

    /// Whether everybody together is within the total.
    pub(super) fn fits(&self) -> bool {
        self.budget.held() <= self.budget.bytes_max()
    }

    fn limit(budget: &Budget, bytes: usize) -> usize {
        let total = budget.0.bytes_max;
        if bytes <= SMALL_BYTES { total } else { total - total / SMALL_SHARE }
    }

    /// The total is no longer passed: somebody else may.
    fn stop_passing(&mut self) {
        self.passes = false;
        self.budget.0.passing.set(false);
    }

    /// Comes true when it is worth trying to hold `bytes` again.
    pub(super) fn wait(&self, bytes: usize) -> Taker<()> {
        let (giver, taker) = once(&self.budget.0.lane);
        let kind = usize::from(SMALL_BYTES < bytes);
        self.budget.0.waiting.borrow_mut()[kind].push_back(giver);
        taker
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.hold(0);
        if self.passes {
            self.stop_passing();
        }
        // Perhaps it was woken and did not use it.
        self.budget.wake();
    }
}

//! All connections of one lane: what they share, and how they are told to end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::lane::{Lane, TaskId};
use corelane_core::sync::Event;

use super::ConnLimits;
use super::budget::Budget;
use super::outbound::Outbound;

/// The connections of a lane.
#[derive(Clone)]
pub struct Crowd(Rc<Inner>);

struct Inner {
    lane: Lane,
    limits: ConnLimits,
    budget: Budget,
    outbound: Outbound,
    /// The task of each connection, to be woken when it is to end.
    members: RefCell<BTreeMap<u64, TaskId>>,
    entered: Cell<u64>,
    stopping: Cell<bool>,
    left: Event,
}

impl Crowd {
    /// `receive_bytes_max` is what all requests may take that are here and not answered,
    /// `send_bytes_max` what all answers may take that have not left.
    #[must_use]
    pub fn new(
        lane: &Lane,
        limits: ConnLimits,
        receive_bytes_max: usize,
        send_bytes_max: usize,
    ) -> Self {
        Self(Rc::new(Inner {
            lane: lane.clone(),
            limits,
            budget: Budget::new(lane, receive_bytes_max),
            outbound: Outbound::new(send_bytes_max),
            members: RefCell::default(),
            entered: Cell::new(0),
            stopping: Cell::new(false),
            left: Event::new(lane),
        }))
    }

    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.0.lane
    }

    #[must_use]
    pub fn limits(&self) -> &ConnLimits {
        &self.0.limits
    }

    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    #[must_use]
    pub fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    /// Connections open now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.members.borrow().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every connection, now and from now on, to read nothing more, answer what is open, and close.
    pub fn stop(&self) {
        self.0.stopping.set(true);
        for task in self.0.members.borrow().values() {
            self.0.lane.wake(*task);
        }
    }

    /// Waits until every connection has ended.
    pub async fn gone(&self) {
        while !self.is_empty() {
            self.0.left.wait().await;
        }
    }

    /// One more, served by the task being polled.
    pub(super) fn enter(&self) -> Membership {
        let number = self.0.entered.get();
        self.0.entered.set(number + 1);
        self.0.members.borrow_mut().insert(number, self.0.lane.current());
        Membership { crowd: self.clone(), number }
    }
}

/// One connection's place in the crowd.
pub(super) struct Membership {
    crowd: Crowd,
    number: u64,
}

impl Membership {
    pub(super) fn lane(&self) -> &Lane {
        self.crowd.lane()
    }

    pub(super) fn limits(&self) -> &ConnLimits {
        self.crowd.limits()
    }

    /// Whether the connection is to end. Its task is woken when that begins.
    pub(super) fn is_stopping(&self) -> bool {
        self.crowd.0.stopping.get()
    }

    pub(super) fn outbound(&self) -> &Outbound {
        self.crowd.outbound()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.crowd.0.members.borrow_mut().remove(&self.number);
        self.crowd.0.left.notify();
    }
}

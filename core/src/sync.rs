//! Tasks of one lane waiting for each other: an event, a one-time slot, permits, a bounded queue.
//! None of these leaves its lane; between lanes there is the [mailbox](crate::mailbox).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::lane::{Lane, TaskId};

/// Something happened, perhaps several times. Everybody who waits is told.
#[derive(Clone)]
pub struct Event(Rc<EventInner>);

struct EventInner {
    lane: Lane,
    happened: Cell<u64>,
    waiting: RefCell<Vec<TaskId>>,
}

impl Event {
    #[must_use]
    pub fn new(lane: &Lane) -> Self {
        Self(Rc::new(EventInner {
            lane: lane.clone(),
            happened: Cell::new(0),
            waiting: RefCell::default(),
        }))
    }

    /// Tells everybody who waits.
    pub fn notify(&self) {
        self.0.happened.set(self.0.happened.get() + 1);
        for task in self.0.waiting.borrow_mut().drain(..) {
            self.0.lane.wake(task);
        }
    }

    /// As [`Self::notify`], for those who can wait: they run once what others asked for in this turn has
    /// reached the kernel.
    pub fn notify_later(&self) {
        self.0.happened.set(self.0.happened.get() + 1);
        for task in self.0.waiting.borrow_mut().drain(..) {
            self.0.lane.wake_later(task);
        }
    }

    /// How often it happened. Take it before looking at what the event is about, then wait past it.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.0.happened.get()
    }

    /// Waits until it happened more often than `seen`.
    pub async fn past(&self, seen: u64) {
        poll_fn(|_| self.poll_past(seen)).await;
    }

    /// [`Self::past`] for those that poll several things at once.
    pub fn poll_past(&self, seen: u64) -> Poll<()> {
        if seen < self.0.happened.get() {
            return Poll::Ready(());
        }
        let task = self.0.lane.current();
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.contains(&task) {
            // Who ended without being told is forgotten before more memory is taken.
            if waiting.len() == waiting.capacity() {
                waiting.retain(|it| self.0.lane.is_alive(*it));
            }
            waiting.push(task);
        }
        Poll::Pending
    }

    /// How many it would tell, those included that ended.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    /// Waits until it happens again.
    pub async fn wait(&self) {
        self.past(self.seen()).await;
    }
}

/// One value, once, from one task to another.
pub fn once<T>(lane: &Lane) -> (Giver<T>, Taker<T>) {
    let shared = Rc::new(Shared {
        lane: lane.clone(),
        value: Cell::new(None),
        given_up: Cell::new(false),
        waiting: Cell::new(None),
    });
    (Giver(Rc::clone(&shared)), Taker(shared))
}

struct Shared<T> {
    lane: Lane,
    value: Cell<Option<T>>,
    given_up: Cell<bool>,
    waiting: Cell<Option<TaskId>>,
}

/// The giving end. Dropped without a value it tells the other that none will come.
pub struct Giver<T>(Rc<Shared<T>>);

/// The taking end.
pub struct Taker<T>(Rc<Shared<T>>);

impl<T> Giver<T> {
    pub fn give(self, value: T) {
        self.0.value.set(Some(value));
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.given_up.set(true);
        if let Some(task) = self.0.waiting.take() {
            self.0.lane.wake(task);
        }
    }
}

impl<T> Taker<T> {
    /// The value, or `None` if the giver went away without one.
    pub async fn take(self) -> Option<T> {
        poll_fn(|_| self.poll_take()).await
    }

    /// The value, if it is there already. Nobody is told later.
    #[must_use]
    pub fn now(&self) -> Option<T> {
        self.0.value.take()
    }

    /// [`Self::take`] for those that poll several things at once.
    pub fn poll_take(&self) -> Poll<Option<T>> {
        if let Some(value) = self.0.value.take() {
            return Poll::Ready(Some(value));
        }
        if self.0.given_up.get() {
            return Poll::Ready(None);
        }
        self.0.waiting.set(Some(self.0.lane.current()));
        Poll::Pending
    }
}

/// A number of permits, given out in the order they were asked for.
#[derive(Clone)]
pub struct Permits(Rc<PermitsInner>);

struct PermitsInner {
    lane: Lane,
    total: usize,
    free: Cell<usize>,
    asked: Cell<u64>,
    /// Who waits, in order: ticket, task, amount.
    waiting: RefCell<VecDeque<(u64, TaskId, usize)>>,
}

/// Some permits, given back on drop.
#[must_use = "permits that are dropped at once bound nothing"]
pub struct Permit {
    from: Permits,
    amount: usize,
}

impl Permits {
    #[must_use]
    pub fn new(lane: &Lane, total: usize) -> Self {
        Self(Rc::new(PermitsInner {
            lane: lane.clone(),
            total,
            free: Cell::new(total),
            asked: Cell::new(0),
            waiting: RefCell::default(),
        }))
    }

    #[must_use]
    pub fn free(&self) -> usize {
        self.0.free.get()
    }

    #[must_use]
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// Takes `amount` at once, or nothing. Does not overtake those who wait.
    pub fn try_take(&self, amount: usize) -> Option<Permit> {
        if !self.0.waiting.borrow().is_empty() || self.0.free.get() < amount {
            return None;
        }
        Some(self.hand_out(amount))
    }

    /// Waits for `amount`. More than there are in all is given when all are free.
    pub async fn take(&self, amount: usize) -> Permit {
        let amount = amount.min(self.0.total);
        if let Some(permit) = self.try_take(amount) {
            return permit;
        }
        let ticket = self.0.asked.get();
        self.0.asked.set(ticket + 1);
        let _place = Place { permits: self, ticket };
        poll_fn(|_| {
            let task = self.0.lane.current();
            let mut waiting = self.0.waiting.borrow_mut();
            match waiting.iter_mut().position(|it| it.0 == ticket) {
                None => waiting.push_back((ticket, task, amount)),
                Some(0) if amount <= self.0.free.get() => {
                    waiting.pop_front();
                    drop(waiting);
                    return Poll::Ready(self.hand_out(amount));
                }
                Some(place) => waiting[place].1 = task,
            }
            Poll::Pending
        })
        .await
    }

    fn hand_out(&self, amount: usize) -> Permit {
        self.0.free.set(self.0.free.get() - amount);
        self.wake_first();
        Permit { from: self.clone(), amount }
    }

    fn wake_first(&self) {
        if let Some(&(_, task, amount)) = self.0.waiting.borrow().front()
            && amount <= self.0.free.get()
        {
            self.0.lane.wake(task);
        }
    }
}

/// A place in the row, given up when its holder stops waiting.
struct Place<'a> {
    permits: &'a Permits,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.permits.0.waiting.borrow_mut().retain(|it| it.0 != self.ticket);
        self.permits.wake_first();
    }
}

impl Permit {
    #[must_use]
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Gives some back early.
    pub fn shrink_to(&mut self, amount: usize) {
        assert!(amount <= self.amount, "a permit of {} cannot grow to {amount}", self.amount);
        let back = self.amount - amount;
        self.amount = amount;
        self.from.0.free.set(self.from.0.free.get() + back);
        self.from.wake_first();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// A bounded queue between tasks of a lane.
pub struct Queue<T> {
    items: Rc<RefCell<VecDeque<T>>>,
    capacity: usize,
    changed: Event,
    closed: Rc<Cell<bool>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            items: Rc::clone(&self.items),
            capacity: self.capacity,
            changed: self.changed.clone(),
            closed: Rc::clone(&self.closed),
        }
    }
}

impl<T> Queue<T> {
    #[must_use]
    pub fn new(lane: &Lane, capacity: usize) -> Self {
        assert!(0 < capacity, "a queue holds something");
        Self { items: Rc::default(), capacity, changed: Event::new(lane), closed: Rc::default() }
    }

    /// # Errors
    /// Gives the item back when the queue is full or closed.
    pub fn try_push(&self, item: T) -> Result<(), T> {
        if self.closed.get() || self.capacity <= self.items.borrow().len() {
            return Err(item);
        }
        self.items.borrow_mut().push_back(item);
        self.changed.notify();
        Ok(())
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// Gives the item back when the queue is closed.
    pub async fn push(&self, mut item: T) -> Result<(), T> {
        loop {
            let seen = self.changed.seen();
            match self.try_push(item) {
                Ok(()) => return Ok(()),
                Err(back) if self.closed.get() => return Err(back),
                Err(back) => item = back,
            }
            self.changed.past(seen).await;
        }
    }

    #[must_use]
    pub fn try_pop(&self) -> Option<T> {
        let item = self.items.borrow_mut().pop_front();
        if item.is_some() {
            self.changed.notify();
        }
        item
    }

    /// Waits for an item. `None` once the queue is closed and empty.
    pub async fn pop(&self) -> Option<T> {
        loop {
            let seen = self.changed.seen();
            if let Some(item) = self.try_pop() {
                return Some(item);
            }
            if self.closed.get() {
                return None;
            }
            self.changed.past(seen).await;
        }
    }

    /// Refuses further items; those inside can still be taken.
    pub fn close(&self) {
        self.closed.set(true);
        self.changed.notify();
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.borrow().is_empty()
    }
}

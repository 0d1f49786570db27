//! Waiting for time, for others, for the first of two.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::executor::Lane;
use super::tasks::TaskId;
use super::timers::TimerId;
use crate::time::Nanos;

/// The time came before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

/// Waits for a moment.
pub struct Sleep {
    lane: Lane,
    at: Nanos,
    armed: Option<(TimerId, TaskId)>,
}

impl Sleep {
    pub(super) fn new(lane: Lane, at: Nanos) -> Self {
        Self { lane, at, armed: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.lane.now() {
            return Poll::Ready(());
        }
        // Armed already, unless we have moved to another task since.
        let task = self.lane.current();
        if self.armed.is_none_or(|(_, armed_for)| armed_for != task) {
            let mut timers = self.lane.0.timers.borrow_mut();
            if let Some((old, _)) = self.armed {
                timers.disarm(old);
            }
            let armed = timers.arm(self.at, task);
            drop(timers);
            self.armed = Some((armed, task));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((armed, _)) = self.armed {
            self.lane.0.timers.borrow_mut().disarm(armed);
        }
    }
}

/// Lets others run before this one goes on.
pub(super) struct Yield {
    lane: Lane,
    yielded: bool,
}

impl Yield {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, yielded: false }
    }
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        self.lane.give_way();
        Poll::Pending
    }
}

/// Which of two came first.
#[derive(Debug, PartialEq, Eq)]
pub enum Race<A, B> {
    First(A),
    Second(B),
}

/// Waits for the first of two; the other is dropped. The first wins a tie.
pub async fn race<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Race<A, B> {
    let mut first = pin!(first);
    let mut second = pin!(second);
    std::future::poll_fn(|context| {
        if let Poll::Ready(it) = first.as_mut().poll(context) {
            return Poll::Ready(Race::First(it));
        }
        second.as_mut().poll(context).map(Race::Second)
    })
    .await
}

pub(super) async fn until<T>(sleep: Sleep, work: impl Future<Output = T>) -> Result<T, TimedOut> {
    match race(work, sleep).await {
        Race::First(it) => Ok(it),
        Race::Second(()) => Err(TimedOut),
    }
}

/// Waits for all, within one task. Results are in the order of the futures.
pub async fn join_all<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut work: Vec<_> = work.into_iter().map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, result) in &mut work {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(it) => *result = Some(it),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    work.into_iter().map(|(_, it)| it.expect("all are done")).collect()
}

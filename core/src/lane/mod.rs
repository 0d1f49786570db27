//! The lane: one executor on one ring. Tasks of a lane never leave it and never run at once.
//!
//! The executor needs no wakers: every future that can wait is one of this room's, knows its lane,
//! and notes the task that polls it; a completion, a timer or another task then wakes that task by
//! its name. So waking costs no atomics, and the order in which tasks run depends on nothing but
//! completions. What it asks in return: futures of other crates that rely on a `Waker` do not work here,
//! and a future may be polled although nothing changed for it.
//!
//! One turn: run what is ready (within a budget), ring the bells of lanes that got mail, enter the
//! ring once for everything, give out completions, expire timers.

mod executor;
mod ops;
mod tasks;
mod timers;
mod wait;

pub use executor::{Executor, Lane, LaneCounts, Stall, Step};
pub use ops::{Pending, Recurring};
pub use tasks::{Importance, TaskId};
pub use wait::{Race, Sleep, TimedOut, join_all, race};

#[cfg(test)]
mod tests;

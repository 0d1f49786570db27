//! The one door: everything that crosses to the kernel is an [`Op`] handed to a [`Ring`].
//!
//! The contract, for every ring, real or simulated:
//! - RING-1: `submit` takes the operation in whole, or gives it back because the queue is full;
//! - RING-2: each accepted operation completes exactly once, `Recurring` ones any number of times and
//!   then once marked last. Only the last completion gives the operation back, with its buffers;
//! - RING-3: nothing an operation owns is touched by anybody else before its last completion;
//!   dropping interest never drops the operation;
//! - RING-4: completions may come in any order, late, short, or with an error;
//! - RING-5: a write with [`Sync::Data`] is durable when it completes, and makes nothing else
//!   durable; a [`Op::Flush`] covers what had completed on that file before it was submitted;
//! - RING-6: a cancelled operation still completes, with its result or [`Errno::CANCELED`].
//!
//! A ring decides nothing. It does not retry, reorder, or hide a short write: helpers above it do
//! (see [`crate::lane`]).

mod errno;
mod fd;
mod op;
mod parts;
pub mod real;
pub mod sim;

pub use errno::Errno;
pub use fd::{Closing, Fd};
pub use op::{
    Access, Completion, Connection, Entry, FileKind, FileRange, FileStat, Op, Outcome, Space, Sync,
};
pub use parts::Parts;

use crate::buf::Pool;
use crate::ids::LaneId;
use crate::time::{Nanos, WallMillis};

/// Names one accepted operation until its last completion. Slots are reused; the ring never
/// reuses one before its last completion was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u32);

impl Ticket {
    /// The completion that says: another lane sent something.
    pub const WOKEN: Self = Self(u32::MAX);
}

/// How long a turn may sleep in the kernel when nothing has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something completes or this time comes. `None` waits for something to happen.
    Until(Option<Nanos>),
}

/// The door. One lane owns one ring; nobody else calls it.
pub trait Ring {
    /// Accepts an operation, to be started no later than at the next turn.
    ///
    /// # Errors
    /// Gives the operation back when as many as the ring can hold are in flight.
    fn submit(&mut self, op: Op) -> Result<Ticket, Op>;

    /// Asks for an early end. The completion still comes (RING-6).
    fn cancel(&mut self, ticket: Ticket);

    /// Starts what was submitted, sleeps as told, and collects what has completed.
    fn turn(&mut self, wait: Wait, completed: &mut Vec<Completion>);

    /// Time that only moves forward, since some point before the lane started.
    fn now(&self) -> Nanos;

    /// Time of day. It may jump.
    fn wall(&self) -> WallMillis;

    /// A random number. The only source of chance.
    fn random(&mut self) -> u64;

    /// The lane this ring belongs to.
    fn lane(&self) -> LaneId;

    /// The memory that received bytes are handed out from, and that the lane uses for its own.
    fn pool(&self) -> &Pool;

    /// Told after each poll of a task; the simulated ring charges it time.
    fn polled(&mut self) {}

    /// What was found at start, one line each, for people.
    fn describe(&self) -> Vec<String>;

    /// Counts kept by the ring, by name.
    fn counts(&self) -> Vec<(&'static str, u64)>;
}

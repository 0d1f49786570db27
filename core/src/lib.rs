//! The lane: one pinned thread with one ring, one executor, its timers, buffers and mailboxes.
//!
//! Everything above this room is written against [`lane::Lane`], which is a value: nothing here
//! or above uses thread-local state, an address as a key, a clock or a source of chance other than the ring's.

pub mod buf;
pub mod host;
pub mod ids;
pub mod lane;
pub mod limits;
pub mod mailbox;
pub mod metrics;
pub mod ring;
pub mod sync;
pub mod time;

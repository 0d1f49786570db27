//! The coordinator from outside: stories, every short history, and long random ones.
//!
//! All of them run in a [`world::World`]: a host, a log, and clients that do what clients do. After every step the
//! host is rebuilt from the log and compared with the living one.
//!
//! Broken on purpose, by hand, to see whether this bites: a commit answered before its record is durable; a refused
//! assignment that leaves the group stable; a refused replacement that keeps the new id; a generation that does not
//! grow when a rebalance ends; a removed member that keeps its place as leader; a deletion that forgets an offset in
//! flight; a follower's sync answered while the assignment is in flight; a quiet window that every join of the same
//! member prolongs; an alarm that is not moved forward. Each failed at least one test here.

mod bounds;
mod bytes;
mod offsets;
mod random;
mod stories;
mod walk;
mod world;

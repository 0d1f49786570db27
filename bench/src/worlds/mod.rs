//! The whole broker in the simulator: real frames from real clients over a network, a disk and clocks
//! that follow from one seed, and a checker that knows what must never be seen.
//!
//! A [run](run::run) has two parts. In the storm, clients produce and read while [faults and
//! deeds](storm) befall the broker and its network. Then everything heals, and all must come to rest
//! within a bound: every send is answered, every partition takes records again and is read from its
//! start. What clients saw goes into a [history], which complains about whatever contradicts
//! what was said before; when it complains, the seed fails.

pub mod history;
pub mod load;
pub mod run;
pub mod server;
pub mod storm;

//! The whole broker in the simulator: real frames from real clients over a network, a disk and clocks
//! that follow from one seed, and a checker that knows what must never be seen.
//!
//! A [run](run::run) has two parts. In the storm, clients produce, read,
//! share partitions out in groups, and make and remove topics, while [faults and
//! deeds](storm) befall the broker and its network. Then everything heals, and all must come to rest
//! within a bound: every send is answered, every partition takes records again and is read from its
//! start, every group has read everything. What clients saw goes into a [history], which complains about whatever contradicts
//! what was said before; when it complains, the seed fails.

pub mod asks;
pub mod configs;
pub mod groups;
pub mod history;
pub mod lives;
pub mod load;
pub mod members;
pub mod run;
pub mod server;
pub mod storm;

//! The log of one lane: what is appended, made durable, kept in memory, written out and read back.
//!
//! [`boot`] finds what an earlier run left, whatever its number of lanes was; [`open`] gives each
//! lane its share under a new generation; [`store`] appends and reads; the upkeep behind it writes
//! segments, retires journal files and takes away what was deleted.

mod ahead;
pub mod boot;
mod checkpointing;
mod cold;
mod crowd;
pub mod damage;
mod direct;
mod diverge;
mod extents;
mod folders;
pub mod journal;
pub mod leave;
pub mod line;
mod long;
pub mod mutant;
pub mod open;
mod pace;
pub mod partition;
pub mod reaches;
mod relief;
mod remove;
mod retire;
mod scan;
mod seal;
pub mod segment;
pub mod small;
pub mod store;
mod sums;
pub mod tail;
mod times;
pub mod truncate;
mod upkeep;
mod walk;
mod warm;

//! From nothing to serving, the same on a real machine and in the simulator.
//!
//! Every lane answers the boot's questions; lane 0 asks them, in this order: take the data directory,
//! find the ports, read back what is on disk, open every lane's log, replay the metadata, show it
//! to every lane, and only then listen. So no client meets a broker that does not know its topics.

mod accept;
mod all;
#[cfg(test)]
mod door_stories;
mod gate;
mod identity;
mod lane;
mod notices;
mod pace;
mod report;
mod telling;

pub use gate::Gate;
pub(crate) use lane::receive_bytes_of;
pub use lane::{Boot, BootAsk, BootTell, Ports, run};
pub use report::{Listening, Ready, Report, Reporter, Trouble};

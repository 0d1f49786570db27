//! The machine under the lanes: how many it can carry, what it allows, the threads they run on, and
//! the signals it sends us.
//!
//! What to conclude from the kernel's texts is decided in [`rules`], apart from reading them. This
//! folder starts threads and changes limits only when asked to; it never ends the process.

mod facts;
mod lanes;
pub mod rules;
mod signals;

pub use facts::{Facts, raise_descriptors};
pub use lanes::{Lanes, LanesFailed, LanesSetup, start_lanes};
pub use signals::{Signal, Signals};

//! Configuration: one table of keys, and everything that follows from it.
//!
//! `keys` and `topic` are the tables, `row` and `value` what a line of them is. At start, `args`,
//! `text` and `host` bring in what was said, `load` puts it together. `limits` tells people what bounds
//! a stranger. While the broker runs,
//! `layers` says which value is heard, `alter` changes them and `describe` shows them.
//! Invariant: a value is checked by its row where it enters, and nowhere read without one.

pub mod alter;
pub mod args;
pub mod describe;
pub mod host;
pub mod keys;
pub mod layers;
pub mod limits;
pub mod listeners;
pub mod load;
mod nearest;
pub mod print;
pub mod row;
pub mod settings;
pub mod text;
pub mod topic;
pub mod value;

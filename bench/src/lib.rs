//! The whole: loads, worlds and comparisons.

pub mod worlds;

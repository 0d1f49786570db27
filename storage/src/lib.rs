//! The log: what a lane keeps on disk, and how it comes back.
//!
//! Rules and formats here are pure: no ring, no clock, no randomness. Time comes as an argument,
//! bytes come from outside and are refused with a reason, never asserted.

pub mod batch;
pub mod build;
mod bytes;
pub mod chain;
pub mod checkpoint;
pub mod checksum;
pub mod compress;
pub mod dirs;
pub mod epochs;
pub mod extent;
pub mod frame;
#[cfg(test)]
mod golden;
pub mod index;
pub mod kafka_files;
pub mod log;
pub mod producers;
pub mod record;
pub mod recover;
mod stream;
mod unfold;
pub mod validate;
mod varint;
mod words;

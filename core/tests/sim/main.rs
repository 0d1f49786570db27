//! The simulated ring on trial, and the first program on it that promises something.

mod append;
mod durable_append;
mod guard;
mod meta;
mod world;

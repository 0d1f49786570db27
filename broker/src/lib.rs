//! The process: configuration, start and stop, request handlers.

pub mod boot;
pub mod config;
pub mod edge;
mod ending;
pub mod exit;
mod file_systems;
pub mod groups;
pub mod handle;
pub mod mutant;
pub mod node;
pub mod speech;
pub mod start;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod tune;

//! How the process ends: a contract with whoever runs it.

use std::process::{ExitCode, Termination};

/// The exit codes, each with one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Clean = 0,
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// This kernel or its limits cannot run the broker.
    Host = 3,
    AddressInUse = 4,
    /// The data directory is locked, newer, damaged or not writable.
    DataDirectory = 5,
    /// The data directory was fenced by a failed write or flush.
    Fenced = 6,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

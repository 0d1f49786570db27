//! How the program ends.

use std::process::{ExitCode, Termination};

/// What others may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    Fine = 0,
    /// Verification failed, or the run broke.
    Failed = 1,
    Usage = 2,
    /// A broker did not start, or did not answer.
    NotStarted = 3,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

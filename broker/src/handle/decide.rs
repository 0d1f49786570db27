//! Changing metadata for a client that waits only so long.

use std::fmt;

use corelane_core::lane::{Race, race};
use corelane_core::time::Nanos;

use crate::node::{Node, Refused};

/// A change whose outcome the client does not learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecided {
    /// The client's time is over. The change may still come, as the protocol has it.
    Late,
    Refused(Refused),
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("The request timed out."),
            Self::Refused(refused) => {
                write!(f, "The change could not be made durable: {}", refused.0)
            }
        }
    }
}

/// Waits for a decision, `timeout_ms` at most.
pub(super) async fn in_time<T>(
    node: &Node,
    timeout_ms: i32,
    decided: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Undecided> {
    let patience = Nanos::millis(u64::try_from(timeout_ms).unwrap_or(0));
    match race(decided, node.lane().sleep(patience)).await {
        Race::First(decided) => decided.map_err(Undecided::Refused),
        Race::Second(()) => Err(Undecided::Late),
    }
}

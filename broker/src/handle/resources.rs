//! What can have values of its own, by the protocol's numbers, and what is said of the kinds that
//! this broker has nothing of.

use std::fmt;

/// The numbers of the kinds.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Why a resource is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceError {
    Unknown {
        kind: i8,
    },
    /// Named twice by one request; neither is changed.
    Twice,
    Nameless {
        what: &'static str,
    },
    OtherBroker {
        named: String,
        ours: i32,
    },
    /// Nothing of this kind can have values here.
    NotOffered {
        what: &'static str,
    },
    UnknownOperation {
        code: i8,
        key: String,
    },
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { kind } => write!(f, "Unsupported resource type: {kind}"),
            Self::Twice => f.write_str("Each resource must appear at most once."),
            Self::Nameless { what } => write!(f, "{what} must not be empty"),
            Self::OtherBroker { named, ours } => {
                write!(f, "Unexpected broker id, expected {ours}, but received {named}")
            }
            Self::NotOffered { what } => {
                write!(f, "This broker has no {what}, so there is nothing to configure.")
            }
            Self::UnknownOperation { code, key } => {
                write!(f, "Unknown operation {code} for config {key}")
            }
        }
    }
}

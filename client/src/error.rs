//! What can go wrong on the way to an answer, and what the other end answered instead of it.

use std::fmt;
use std::net::SocketAddr;

use corelane_core::ring::Errno;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::wire::{DecodeError, EncodeError, Versions};

/// Why a connection is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// The other end closed it.
    Closed,
    Receive(Errno),
    Send(Errno),
    /// An answer did not come in time. Answers come in order, so those behind it are lost with it.
    TimedOut {
        after_ms: u64,
    },
    /// An answer announced more bytes than are taken, or fewer than none.
    Size {
        bytes: i32,
        bytes_max: u32,
    },
    /// An answer to another question than the oldest open one.
    Order {
        expected: i32,
        found: i32,
    },
    /// No memory to receive into.
    NoMemory,
    /// Nobody on this end holds it any more.
    Dropped,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the broker closed the connection"),
            Self::Receive(errno) => write!(f, "cannot receive: {errno}"),
            Self::Send(errno) => write!(f, "cannot send: {errno}"),
            Self::TimedOut { after_ms } => write!(f, "no answer within {after_ms} ms"),
            Self::Size { bytes, bytes_max } => {
                write!(f, "an answer of {bytes} bytes where {bytes_max} are taken")
            }
            Self::Order { expected, found } => {
                write!(f, "an answer to request {found} where {expected} was the oldest")
            }
            Self::NoMemory => write!(f, "no memory to receive into"),
            Self::Dropped => write!(f, "the connection was given up on this end"),
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClientError {
    /// No address of a broker can be connected to; the last one tried, and why not.
    Connect { addr: SocketAddr, errno: Errno },
    /// The connection attempt took too long.
    ConnectTimedOut { addr: SocketAddr, after_ms: u64 },
    /// A broker is named by something that is no address here.
    Address { host: String, port: i32 },
    /// The connection ended with the call open: whether the broker did what was asked is unknown.
    Lost { peer: SocketAddr, why: Lost },
    /// Broker and client have no version of this request in common.
    Version { key: ApiKey, ours: Versions, theirs: Option<(i16, i16)> },
    /// The answer is not what this request is answered with.
    Malformed { key: ApiKey, version: i16, error: DecodeError },
    /// The request cannot be said in the version both know.
    Unsayable { key: ApiKey, version: i16, error: EncodeError },
    /// The answer lacks the part that was asked for.
    Missing { key: ApiKey, what: &'static str },
    /// The broker refused.
    Refused { key: ApiKey, code: ErrorCode, message: Option<String> },
    /// The broker refused with a number that is no error code known here.
    RefusedOddly { key: ApiKey, code: i16 },
    /// Nobody leads this partition now.
    NoLeader { topic: String, partition: i32 },
}

impl ClientError {
    /// Whether the broker may have done what was asked although no such answer came.
    #[must_use]
    pub fn is_indefinite(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Malformed { .. } | Self::Missing { .. } => true,
            Self::Refused { code, .. } => is_indefinite(*code),
            Self::RefusedOddly { .. } => true,
            Self::Connect { .. }
            | Self::ConnectTimedOut { .. }
            | Self::Address { .. }
            | Self::Version { .. }
            | Self::Unsayable { .. }
            | Self::NoLeader { .. } => false,
        }
    }

    /// Whether the same call may succeed later, or elsewhere.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::ConnectTimedOut { .. }
            | Self::Lost { .. }
            | Self::NoLeader { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Address { .. }
            | Self::Version { .. }
            | Self::Malformed { .. }
            | Self::Unsayable { .. }
            | Self::Missing { .. }
            | Self::RefusedOddly { .. } => false,
        }
    }

    /// The broker's own word, if that is what it is.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Refusals after which what was asked may still have happened, or still happen.
fn is_indefinite(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::RequestTimedOut
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::KafkaStorageError
            | ErrorCode::UnknownServerError
    )
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { addr, errno } => write!(f, "cannot connect to {addr}: {errno}"),
            Self::ConnectTimedOut { addr, after_ms } => {
                write!(f, "cannot connect to {addr} within {after_ms} ms")
            }
            Self::Address { host, port } => {
                write!(f, "the broker {host}:{port} is no address here")
            }
            Self::Lost { peer, why } => write!(f, "connection to {peer}: {why}"),
            Self::Version { key, ours, theirs: Some((min, max)) } => {
                write!(f, "{key:?}: we speak versions {ours}, the broker {min}-{max}")
            }
            Self::Version { key, ours, theirs: None } => {
                write!(f, "{key:?}: we speak versions {ours}, the broker none")
            }
            Self::Malformed { key, version, error } => {
                write!(f, "the answer to {key:?} version {version} is malformed: {error}")
            }
            Self::Unsayable { key, version, error } => {
                write!(f, "{key:?} cannot be said in version {version}: {error}")
            }
            Self::Missing { key, what } => write!(f, "the answer to {key:?} lacks {what}"),
            Self::Refused { key, code, message: Some(message) } => {
                write!(f, "{key:?} was refused: {}: {message}", code.name())
            }
            Self::Refused { key, code, message: None } => {
                write!(f, "{key:?} was refused: {}", code.name())
            }
            Self::RefusedOddly { key, code } => {
                write!(f, "{key:?} was refused with the unknown code {code}")
            }
            Self::NoLeader { topic, partition } => {
                write!(f, "nobody leads {topic}-{partition} now")
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// Turns the number in an answer into a refusal.
pub(crate) fn check(key: ApiKey, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(ClientError::Refused { key, code, message: message.map(str::to_owned) }),
        None => Err(ClientError::RefusedOddly { key, code }),
    }
}

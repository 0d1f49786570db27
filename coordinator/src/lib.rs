//! The groups: who reads what, decided by pure rules.
//!
//! [`Host`] keeps the classic consumer groups and the committed offsets of one partition of `__consumer_offsets`.
//! It takes the time as an argument, does no I/O and draws no random number: the same calls lead to the same
//! answers and records on every machine.
//!
//! # How a driver uses it
//!
//! One host per partition of `__consumer_offsets` that this node leads, on the lane that owns the partition; the
//! partition of a group is [`partition_for`]. A driver does four things, and decides nothing:
//!
//! 1. *Load*: [`Host::replay`] every record of the partition, then [`Host::loaded`].
//! 2. *Ask*: [`Host::handle`] with a token that names the waiting request.
//! 3. *Carry*: every [`Outcome`], whichever call it came from, has answers to deliver to their tokens and writes to
//!    append. A write is one batch; the outcomes' order is the log's order. When the log has it (`acks=all`),
//!    [`Host::on_committed`], in the order of the tickets; when the log refused it for good, [`Host::on_failed`].
//!    Both lead to an outcome again.
//! 4. *Wait*: until [`Host::next_deadline_ms`], then [`Host::tick`].
//!
//! ```
//! use corelane_coordinator::*;
//! # let now = Now { monotonic_ms: 0, unix_ms: 1_700_000_000_000 };
//! # let key: Vec<u8> = vec![0, 3];
//! # let the_log_says = Ok::<(), WriteFailure>(());
//! let mut host = Host::new(GroupConfig::default());
//! host.replay(&key, None)?;
//! let mut outcomes = vec![host.loaded(now)];
//!
//! // A consumer that assigns its own partitions commits an offset.
//! let commit = CommitPartition { partition: 0, offset: 42, leader_epoch: -1, metadata: None };
//! outcomes.push(host.handle(
//!     now,
//!     Token(7),
//!     Request::OffsetCommit(OffsetCommit {
//!         version: 8,
//!         group: "readers".into(),
//!         generation: -1,
//!         member: String::new(),
//!         instance: None,
//!         retention_ms: None,
//!         topics: vec![CommitTopic { topic: "events".into(), partitions: vec![commit] }],
//!     }),
//! ));
//!
//! let mut answered = Vec::new();
//! while let Some(outcome) = outcomes.pop() {
//!     answered.extend(outcome.replies);
//!     for write in outcome.writes {
//!         // Append `write.records` as one batch, wait for its commit without borrowing the host, then:
//!         outcomes.push(match the_log_says {
//!             Ok(()) => host.on_committed(now, write.ticket),
//!             Err(failure) => host.on_failed(now, write.ticket, failure),
//!         });
//!     }
//! }
//! assert_eq!(answered[0].token, Token(7));
//! # Ok::<(), RecordError>(())
//! ```
//!
//! A driver never waits inside a call: it appends, lets go of the host, and comes back with the result. Several
//! writes may be in flight; what later requests see includes them, what readers are told does not. A client that
//! hangs up needs no call: its parked request is answered in time, to nobody.
//!
//! When the node loses the partition or stops, [`Host::stop`] answers everybody who waits.

mod api;
mod classic;
mod errors;
mod host;
mod limits;
mod offsets;
mod partition;
mod records;

pub use api::*;
pub use errors::{GroupError, WriteFailure};
pub use host::{Host, Replayed};
pub use limits::*;
pub use partition::partition_for;
pub use records::{
    Change, GroupValue, MemberValue, OffsetValue, Read, Record, RecordError, read as read_record,
    write as write_record,
};

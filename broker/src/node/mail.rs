//! What lanes ask of each other. One question per lane and request, whatever it touches there.

use std::any::Any;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use corelane_coordinator::{Answer, Request};
use corelane_core::buf::Piece;
use corelane_core::ids::{LaneId, LeaderEpoch, Offset, TopicId, TopicPartition};
use corelane_core::time::Nanos;
use corelane_storage::log::store::{AppendError, ReadDone, ReadError, ReadUpTo, ReadWant};

use super::Node;
use super::controller::{Decided, Refused};
use crate::topics::create::Rules;
use crate::topics::image::Image;

/// A look at another lane's share.
pub(crate) type Look = Box<dyn FnOnce(&Node) -> Box<dyn Any + Send> + Send>;

/// What another lane does: its effects at once, in the order of the questions; then it may wait.
pub(crate) type Work = Box<dyn FnOnce(&Node) -> Working + Send>;

/// Work whose effects have happened.
pub type Working = Pin<Box<dyn Future<Output = Box<dyn Any + Send>>>>;

/// A plan to change metadata.
pub(crate) type Plan = Box<
    dyn FnOnce(&Image, &Rules<'_>, &mut dyn FnMut() -> TopicId) -> Decided<Box<dyn Any + Send>>
        + Send,
>;

/// A question to a lane.
pub enum Ask {
    /// Append these batches; answered once all are durable, if `wait`.
    Produce {
        parts: Vec<ProducePart>,
        wait: bool,
        sent: Sent,
    },
    /// Read these partitions, `bytes_max` in all.
    Read {
        parts: Vec<ReadPart>,
        bytes_max: usize,
    },
    /// Tell the reader `number` of the lane `from` when one of these logs has something for it, or
    /// changed; not after `until`.
    Watch {
        from: LaneId,
        number: u64,
        parts: Vec<WatchPart>,
        until: Nanos,
    },
    /// That reader does not wait any more.
    Unwatch {
        from: LaneId,
        number: u64,
    },
    /// What this lane's reader `number` waits for has happened on the lane `by`.
    Grown {
        by: LaneId,
        number: u64,
    },
    Look(Look),
    /// Ask coordinators of groups.
    Groups(Vec<(TopicPartition, Request)>),
    Work(Work),
    /// Lane 0 only.
    Decide(Plan),
    /// The metadata is this from now on.
    Learn(Arc<Image>),
}

/// The answer, of the same name.
pub enum Tell {
    Produced(Vec<Produced>),
    Read(Vec<Result<ReadDone, ReadError>>),
    Watching,
    /// To what needs no other answer.
    Heard,
    Looked(Box<dyn Any + Send>),
    Groups(Vec<Answer>),
    Worked(Box<dyn Any + Send>),
    Decided(Result<Box<dyn Any + Send>, Refused>),
    Learnt,
}

/// Who sent batches, and until when they may wait for room.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub from: SocketAddr,
    pub until: Nanos,
}

pub struct ProducePart {
    pub of: TopicPartition,
    /// Where the batch lies in its request's frame.
    pub batch: Piece,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub struct Produced {
    pub result: Result<Stored, AppendError>,
    pub log_start: Offset,
}

#[derive(Debug, Clone, Copy)]
pub struct Stored {
    pub base: Offset,
    pub log_append_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub struct ReadPart {
    pub of: TopicPartition,
    /// The epoch of the record before, negative if the reader does not say.
    pub last: LeaderEpoch,
    pub want: ReadWant,
}

/// A reader that has everything below `from`.
#[derive(Debug, Clone, Copy)]
pub struct WatchPart {
    pub of: TopicPartition,
    pub from: Offset,
    pub up_to: ReadUpTo,
}

/// The leader epoch of every partition of a single node: nobody else ever led.
pub const LEADER_EPOCH: LeaderEpoch = LeaderEpoch(0);

//! Reading a coordinator's partition back after a restart.
//!
//! A record that nobody could have written is counted and left out: one damaged group must not
//! take all others of its partition with it. A log that cannot be read is tried again, because
//! serving without it would tell members that their offsets are gone.

use std::fmt;

use corelane_coordinator::{Host, Replayed};
use corelane_core::ids::TopicPartition;
use corelane_core::time::Nanos;
use corelane_storage::batch::Batch;
use corelane_storage::compress::{Codec, Decompressor};
use corelane_storage::log::store::{ReadError, ReadUpTo, ReadWant};
use corelane_storage::record::Records;

use super::seat::Seat;
use crate::node::Node;

/// Read at once.
const READ_BYTES: usize = 1 << 20;

/// What one batch may unfold to.
const UNFOLD_BYTES_MAX: usize = 64 << 20;

/// Between two tries.
const AGAIN: Nanos = Nanos::secs(1);

/// How long a read steps back when memory is used up.
const BUSY: Nanos = Nanos::millis(1);

/// Why a partition could not be read back.
#[derive(Debug)]
enum LoadError {
    Read(ReadError),
    /// Nothing more is there, though the log goes on.
    Hole {
        at: i64,
        end: i64,
    },
    Malformed {
        at: i64,
        why: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Hole { at, end } => {
                write!(f, "nothing is at offset {at}, though the log ends at {end}")
            }
            Self::Malformed { at, why } => write!(f, "the batch at offset {at}: {why}"),
        }
    }
}

/// Whether there is nothing to read back.
pub(super) fn is_empty(node: &Node, of: TopicPartition) -> bool {
    node.store().partition(&of).is_some_and(|it| {
        let it = it.borrow();
        it.damage.is_none() && it.log_start() == it.end()
    })
}

/// Reads until it succeeds or the seat ends.
pub(super) async fn load(node: &Node, seat: &std::rc::Rc<Seat>) {
    let _turn = node.group_loads().take(1).await;
    while !seat.is_ended() {
        match read_back(node, seat).await {
            Ok(host) => {
                seat.serve(node, host);
                return;
            }
            Err(error) => {
                node.metrics().counter("groups.loads_failed").add(1);
                node.note(|| format!("warning: groups of partition {} wait: {error}", seat.of));
                seat.turn_away();
                node.lane().sleep(AGAIN).await;
            }
        }
    }
}

async fn read_back(node: &Node, seat: &Seat) -> Result<Host, LoadError> {
    let mut host = Host::new(seat.config.clone());
    let mut unfold = Decompressor::new();
    let (mut next, end) = {
        let shared = node.store().partition(&seat.of);
        let shared = shared.ok_or(LoadError::Read(ReadError::NotHere))?;
        let partition = shared.borrow();
        (partition.log_start(), partition.end())
    };
    while next < end && !seat.is_ended() {
        let want = ReadWant {
            from: next,
            up_to: ReadUpTo::End,
            bytes_max: READ_BYTES,
            at_least_one: true,
            file_bytes_min: ReadWant::NO_FILES,
        };
        let read = match node.store().read(&seat.of, &want).await {
            Ok(read) => read,
            Err(ReadError::Overloaded) => {
                node.lane().sleep(BUSY).await;
                continue;
            }
            Err(error) => return Err(LoadError::Read(error)),
        };
        let mut bytes = Vec::with_capacity(read.bytes);
        for slice in &read.slices {
            bytes.extend_from_slice(slice);
        }
        let before = next;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let at = next.0;
            let (batch, more) = Batch::split(rest)
                .map_err(|it| LoadError::Malformed { at, why: it.to_string() })?;
            replay(node, &mut host, &batch, &mut unfold)?;
            next = batch.next_offset();
            rest = more;
        }
        if next == before {
            return Err(LoadError::Hole { at: next.0, end: end.0 });
        }
        node.lane().spend(bytes.len()).await;
    }
    Ok(host)
}

fn replay(
    node: &Node,
    host: &mut Host,
    batch: &Batch<'_>,
    unfold: &mut Decompressor,
) -> Result<(), LoadError> {
    if batch.is_control() {
        return Ok(());
    }
    let at = batch.base_offset().0;
    let malformed = |why: String| LoadError::Malformed { at, why };
    let number = batch.attributes().codec_number();
    let codec = Codec::from_number(number)
        .ok_or_else(|| malformed(format!("the codec {number} is unknown")))?;
    let payload = unfold
        .decompress(codec, batch.payload(), UNFOLD_BYTES_MAX)
        .map_err(|it| malformed(it.to_string()))?;
    let count = u32::try_from(batch.record_count()).unwrap_or(0);
    for record in Records::new(payload, count) {
        let record = record.map_err(|it| malformed(it.to_string()))?;
        let replayed = match record.key {
            Some(key) => host.replay(key, record.value).ok(),
            None => None,
        };
        match replayed {
            Some(Replayed::Applied) => {}
            Some(Replayed::Skipped { .. }) => {
                node.metrics().counter("groups.records_skipped").add(1);
            }
            None => node.metrics().counter("groups.records_unreadable").add(1),
        }
    }
    Ok(())
}

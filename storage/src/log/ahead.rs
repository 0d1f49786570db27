//! Reading ahead of readers of old records, so that the disk works while they do.
//!
//! Whoever reads on where an earlier cold read ended is read ahead of: what comes next is brought into
//! memory while the answer is on its way, one piece for each reader. Whoever jumps about is not.
//!
//! - AHEAD-1: pieces that wait for their reader take at most [`AHEAD_BYTES_MAX`] of a lane, and none when
//!   its memory is short;
//! - AHEAD-2: a piece nobody came for is forgotten after [`AHEAD_AGE_MAX`];
//! - AHEAD-3: a piece is verified by the reader that takes it, as everything read cold is; one that was
//!   read before its log was cut back is not taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use corelane_core::buf::Slice;
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::Importance;
use corelane_core::sync::Event;
use corelane_core::time::Nanos;

use super::cold::{Old, READ_BYTES_MAX};
use super::partition::ReadPlan;
use super::store::{ReadWant, Shared, Store};
use crate::frame::BLOCK_BYTES;

/// Read ahead and not yet asked for, of one lane.
const AHEAD_BYTES_MAX: usize = 32 << 20;

/// How long it waits for its reader.
const AHEAD_AGE_MAX: Nanos = Nanos::secs(5);

/// Ends of cold reads that are remembered, to know whoever goes on there.
const ENDS_MAX: usize = 1024;

/// What is read ahead on a lane.
#[derive(Default)]
pub(super) struct Ahead {
    pieces: RefCell<Vec<Piece>>,
    ends: RefCell<VecDeque<(TopicPartition, Offset)>>,
    bytes: Cell<usize>,
    made: Cell<u64>,
}

struct Piece {
    number: u64,
    of: TopicPartition,
    /// Whom it is for: the reader that goes on here.
    from: Offset,
    at: Spot,
    cuts: u64,
    bytes: usize,
    since: Nanos,
    state: State,
    read: Event,
}

enum State {
    Reading,
    Here(Brought),
    /// It could not be read; its reader finds out why.
    Nothing,
}

/// A place in a segment at which a batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: Offset,
    pub(super) position: u64,
    /// Of the batch there.
    pub(super) offset: Offset,
}

/// Bytes of a segment, from the block that holds what was asked for.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) start: u64,
    pub(super) bytes: Slice,
}

impl Ahead {
    fn end(&self, of: TopicPartition, offset: Offset) {
        let mut ends = self.ends.borrow_mut();
        if ends.len() == ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back((of, offset));
    }

    /// Whether somebody read up to here. Asked once for each time.
    fn was_end(&self, of: TopicPartition, offset: Offset) -> bool {
        let mut ends = self.ends.borrow_mut();
        // Readers that are fast come back soon.
        let known = ends.iter().rposition(|it| *it == (of, offset));
        known.is_some_and(|it| ends.remove(it).is_some())
    }

    fn remove(&self, which: impl Fn(&Piece) -> bool) -> Option<Piece> {
        let mut pieces = self.pieces.borrow_mut();
        let found = pieces.iter().position(which)?;
        let piece = pieces.swap_remove(found);
        self.bytes.set(self.bytes.get() - piece.bytes);
        Some(piece)
    }

    /// Forgets what nobody came for (AHEAD-2).
    pub(super) fn forget_old(&self, now: Nanos) {
        let is_old =
            |it: &Piece| it.since + AHEAD_AGE_MAX < now && !matches!(it.state, State::Reading);
        while self.remove(is_old).is_some() {}
    }

    fn finish(&self, number: u64, state: State) {
        let mut pieces = self.pieces.borrow_mut();
        if let Some(piece) = pieces.iter_mut().find(|it| it.number == number) {
            if let State::Here(brought) = &state {
                let bytes = brought.bytes.block_bytes();
                self.bytes.set(self.bytes.get() + bytes - piece.bytes);
                piece.bytes = bytes;
            }
            piece.state = state;
            piece.read.notify();
        }
    }
}

impl Store {
    /// What was read ahead for a reader that goes on at `from`, and whether it is one that goes on.
    pub(super) async fn take_ahead(
        &self,
        shared: &Shared,
        from: Offset,
    ) -> (bool, Option<(Spot, Brought)>) {
        let (of, log_start) = {
            let partition = shared.borrow();
            (partition.of, partition.log_start())
        };
        let ahead = &self.0.ahead;
        let goes_on = ahead.was_end(of, from) || from == log_start;
        let is_ours = |it: &Piece| it.of == of && it.from == from;
        loop {
            let read = {
                let pieces = ahead.pieces.borrow();
                let Some(piece) = pieces.iter().find(|it| is_ours(it)) else {
                    return (goes_on, None);
                };
                match piece.state {
                    State::Reading => Some((piece.read.clone(), piece.read.seen())),
                    State::Here(_) | State::Nothing => None,
                }
            };
            if let Some((read, seen)) = read {
                read.past(seen).await;
                continue;
            }
            let piece = ahead.remove(is_ours).expect("just seen");
            return match piece.state {
                State::Here(brought) if piece.cuts == shared.borrow().cuts => {
                    self.0.counts.ahead_taken.add(1);
                    (goes_on, Some((piece.at, brought)))
                }
                _ => (goes_on, None),
            };
        }
    }

    /// Reads on behind a cold read if its reader does.
    pub(super) fn read_ahead(&self, shared: &Shared, want: &ReadWant, goes_on: bool, read: Old) {
        let Old { next, end, brought, .. } = read;
        let ahead = &self.0.ahead;
        let (of, cuts, plan) = {
            let partition = shared.borrow();
            let limit = super::store::limit_of(&partition, want.up_to);
            let plan = partition.plan_read(next, limit, want.bytes_max, true);
            (partition.of, partition.cuts, plan)
        };
        ahead.end(of, next);
        let Ok(ReadPlan::Segment { base }) = plan else { return };
        let first = Spot { segment: base, position: 0, offset: base };
        let at = if base == end.segment { end } else { first };
        let now = self.0.lane.now();
        ahead.forget_old(now);
        let bytes = want.bytes_max.min(READ_BYTES_MAX) + BLOCK_BYTES;
        let known = ahead.pieces.borrow().iter().any(|it| it.of == of && it.from == next);
        let too_much = AHEAD_BYTES_MAX < ahead.bytes.get() + bytes || self.is_short();
        if !goes_on || known || too_much {
            return;
        }
        // Half of what was brought may be there for it already.
        let left = (brought.start + brought.bytes.len() as u64).saturating_sub(end.position);
        let is_here = at == end && want.bytes_max.min(READ_BYTES_MAX) as u64 * 3 / 4 <= left;
        let bytes = if is_here { brought.bytes.block_bytes() } else { bytes };
        let number = ahead.made.get() + 1;
        ahead.made.set(number);
        ahead.bytes.set(ahead.bytes.get() + bytes);
        ahead.pieces.borrow_mut().push(Piece {
            number,
            of,
            from: next,
            at,
            cuts,
            bytes,
            since: now,
            state: if is_here { State::Here(brought) } else { State::Reading },
            read: Event::new(&self.0.lane),
        });
        self.0.counts.ahead_reads.add(1);
        if is_here {
            return;
        }
        let (store, shared) = (self.clone(), shared.clone());
        self.0.lane.spawn("read ahead", Importance::Serving, async move {
            let brought = store.bring(&shared, at.segment, at.position, bytes).await;
            store.0.ahead.finish(number, brought.map_or(State::Nothing, State::Here));
        });
    }
}

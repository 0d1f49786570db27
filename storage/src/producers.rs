//! What a partition remembers of its producers: sequences, epochs, open and ended transactions.
//!
//! A step is two calls: `check…` decides and changes nothing, then, once the batch has its
//! offsets, `appended` or `marked` records it. Replaying the log with [`Producers::replay`] gives
//! the same state, so a follower and a restarted leader answer as this one does. Unlike Kafka's
//! snapshot all five batches of a producer are written down and come back.
//!
//! | what comes                                             | answer                      |
//! |--------------------------------------------------------|-----------------------------|
//! | one of the last five batches, same epoch and sequences | duplicate, at its offsets   |
//! | an older epoch                                         | refused: epoch              |
//! | a newer epoch not starting at 0                        | refused: sequence           |
//! | the epoch at hand: the next sequence, or 0 after MAX   | append                      |
//! | nothing known of the producer                          | append (a strict start at 0)|
//! | no transaction, but one is open                        | refused: inside transaction |
//! | a transaction, none open and not verified              | refused: not verified       |
//! | a marker of an older coordinator                       | refused: coordinator        |
//!
//! PROD-1: a producer in an open transaction is never forgotten. PROD-2: the last stable offset is
//! at or below every open transaction's first offset, and every ended one's whose marker is not
//! replicated. Truncation is not undone here: restore a snapshot at or below the new end and
//! replay.

use crate::{
    batch::Batch,
    build::{Marker, MarkerKind},
    bytes::{Put, Reader, Short},
    record::Records,
    validate::{ProducerStamp, last_sequence},
};
use corelane_core::ids::{Offset, ProducerEpoch, ProducerId};
use std::collections::BTreeMap;

/// Batches of a producer that are recognised when they come again.
pub const BATCHES_KEPT: usize = 5;
/// Producers a partition remembers; beyond, the one that wrote longest ago is forgotten.
pub const PRODUCERS_MAX: usize = 10_000;
/// Aborted transactions kept before they must be in the index; a bound on what is decoded.
pub const ABORTED_MAX: usize = 1 << 20;

const NO_COORDINATOR: i32 = -1;

/// A batch a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base: Offset,
    pub last: Offset,
    /// What the answer to it said.
    pub timestamp: i64,
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Oldest first, all of this epoch.
    batches: Kept,
    coordinator_epoch: i32,
    /// The first offset of its open transaction.
    open_from: Option<Offset>,
    /// The last offset it wrote, a marker's included. Distinct over all producers.
    last: Offset,
    /// When it was last heard of, by our clock.
    seen_ms: i64,
}

/// The last few batches, without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kept {
    list: [Option<Written>; BATCHES_KEPT],
}

impl Kept {
    fn iter(&self) -> impl Iterator<Item = &Written> {
        self.list.iter().flatten()
    }

    fn last(&self) -> Option<&Written> {
        self.iter().last()
    }

    fn push(&mut self, it: Written) {
        match self.list.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(it),
            None => {
                self.list.rotate_left(1);
                self.list[BATCHES_KEPT - 1] = Some(it);
            }
        }
    }
}

/// A transaction that was taken back, as the index and a fetch's answer name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    pub producer: ProducerId,
    pub first: Offset,
    /// The marker's offset.
    pub last: Offset,
    /// The last stable offset once the marker was written.
    pub last_stable: Offset,
}

/// A client's batch as the append path knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAppend {
    pub stamp: ProducerStamp,
    /// The coordinator confirmed that this transaction includes this partition.
    pub verified: bool,
    /// The client speaks the second transaction protocol: an unknown producer starts at 0.
    pub strict_start: bool,
}

/// What becomes of a batch that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    Append,
    /// Written before, at these offsets. The answer waits until they are as durable as asked for.
    Duplicate(Written),
}

/// Why a producer's batch or marker is refused. Nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerRefusal {
    Epoch {
        theirs: ProducerEpoch,
        ours: ProducerEpoch,
    },
    /// `expected` follows what is known, -1 if any but this would have started anew.
    Sequence {
        expected: i32,
        found: i32,
    },
    InsideTransaction {
        first: Offset,
    },
    NotVerified,
    Coordinator {
        theirs: i32,
        ours: i32,
    },
    /// All remembered producers are in transactions.
    Overloaded {
        producers_max: usize,
    },
}

/// A transaction marker to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerAppend {
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
    pub marker: Marker,
    /// The second transaction protocol raises the epoch with every end.
    pub raises_epoch: bool,
}

/// What a partition remembers of its producers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producers {
    /// In boxes: a node of the tree has room for many, and most partitions know few.
    known: BTreeMap<ProducerId, Box<Producer>>,
    /// Producers without an open transaction by the last offset they wrote: who is forgotten first.
    idle: BTreeMap<Offset, ProducerId>,
    /// Open transactions by first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker may not be replicated yet: first offset to marker.
    ended: BTreeMap<Offset, Offset>,
    /// In the order of their markers.
    aborted: Vec<Aborted>,
    producers_max: usize,
}

impl Default for Producers {
    fn default() -> Self {
        Self::new(PRODUCERS_MAX)
    }
}

impl Producers {
    /// # Panics
    /// When no producer at all may be remembered.
    #[must_use]
    pub fn new(producers_max: usize) -> Self {
        assert!(0 < producers_max);
        Self {
            known: BTreeMap::new(),
            idle: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            aborted: Vec::new(),
            producers_max,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether the producer has a transaction open here, of this epoch.
    #[must_use]
    pub fn in_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.known.get(&id).is_some_and(|it| it.epoch == epoch && it.open_from.is_some())
    }

    /// Decides on a client's batch.
    ///
    /// # Errors
    /// When the batch must not be appended.
    pub fn check(&self, append: &ClientAppend) -> Result<Verdict, ProducerRefusal> {
        let stamp = &append.stamp;
        let known = self.known.get(&stamp.id);
        if let Some(it) = known
            && let Some(written) = it.duplicate_of(stamp)
        {
            return Ok(Verdict::Duplicate(*written));
        }
        if stamp.transactional && !self.in_transaction(stamp.id, stamp.epoch) && !append.verified {
            return Err(ProducerRefusal::NotVerified);
        }
        let found = stamp.base_sequence;
        let Some(it) = known else {
            if append.strict_start && found != 0 {
                return Err(ProducerRefusal::Sequence { expected: 0, found });
            }
            if self.producers_max <= self.known.len() && self.idle.is_empty() {
                return Err(ProducerRefusal::Overloaded { producers_max: self.producers_max });
            }
            return Ok(Verdict::Append);
        };
        if stamp.epoch < it.epoch {
            return Err(ProducerRefusal::Epoch { theirs: stamp.epoch, ours: it.epoch });
        }
        let expected = if stamp.epoch == it.epoch { it.next_sequence() } else { 0 };
        if found != expected {
            return Err(ProducerRefusal::Sequence { expected, found });
        }
        match it.open_from {
            Some(first) if !stamp.transactional => {
                Err(ProducerRefusal::InsideTransaction { first })
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// Records a batch that now has its offsets.
    pub fn appended(
        &mut self,
        stamp: &ProducerStamp,
        base: Offset,
        last: Offset,
        timestamp: i64,
        seen_ms: i64,
    ) {
        assert!(base <= last, "a batch has records");
        self.change(stamp.id, stamp.epoch, last, seen_ms, |it, open| {
            it.batches.push(Written {
                base_sequence: stamp.base_sequence,
                last_sequence: stamp.last_sequence,
                base,
                last,
                timestamp,
            });
            if stamp.transactional && it.open_from.is_none() {
                it.open_from = Some(base);
                open.insert(base, stamp.id);
            }
        });
    }

    /// Decides on a marker from a coordinator.
    ///
    /// # Errors
    /// When a newer producer or coordinator is known.
    pub fn check_marker(&self, append: &MarkerAppend) -> Result<(), ProducerRefusal> {
        let Some(it) = self.known.get(&append.producer) else {
            return Ok(());
        };
        // With raised epochs an equal one can only be a retry of the marker that ended the
        // transaction; while one is open it is a marker of the transaction before, come late.
        let late = append.raises_epoch && append.epoch == it.epoch && it.open_from.is_some();
        if append.epoch < it.epoch || late {
            return Err(ProducerRefusal::Epoch { theirs: append.epoch, ours: it.epoch });
        }
        let theirs = append.marker.coordinator_epoch;
        if theirs < it.coordinator_epoch {
            return Err(ProducerRefusal::Coordinator { theirs, ours: it.coordinator_epoch });
        }
        Ok(())
    }

    /// Records a marker written at `at`; tells the transaction it took back, for the index.
    pub fn marked(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        marker: Marker,
        at: Offset,
        seen_ms: i64,
    ) -> Option<Aborted> {
        let mut first = None;
        self.change(id, epoch, at, seen_ms, |it, open| {
            it.coordinator_epoch = marker.coordinator_epoch;
            first = it.open_from.take();
            if let Some(first) = first {
                open.remove(&first);
            }
        });
        // A marker without data before it changes nothing a reader sees.
        let first = first?;
        self.ended.insert(first, at);
        if marker.kind == MarkerKind::Commit {
            return None;
        }
        let next_open = self.open.keys().next().copied();
        let last_stable = next_open.unwrap_or(at.advance(1)).min(at.advance(1));
        let aborted = Aborted { producer: id, first, last: at, last_stable };
        self.aborted.push(aborted);
        Some(aborted)
    }

    /// Takes a batch of the log into account without judging it. Bytes the log holds were judged
    /// when they came; a control batch of another kind says nothing about producers.
    pub fn replay(&mut self, batch: &Batch<'_>, seen_ms: i64) -> Option<Aborted> {
        let id = batch.producer_id();
        if !id.is_some() {
            return None;
        }
        if batch.is_control() {
            let count = batch.record_count().try_into().unwrap_or(0);
            let record = Records::new(batch.payload(), count).next()?.ok()?;
            let marker = Marker::parse(record.key, record.value)?;
            return self.marked(id, batch.producer_epoch(), marker, batch.base_offset(), seen_ms);
        }
        let records = batch.last_offset_delta().checked_add(1)?.try_into().ok()?;
        let stamp = ProducerStamp {
            id,
            epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            last_sequence: last_sequence(batch.base_sequence(), records),
            transactional: batch.is_transactional(),
        };
        let (base, last) = (batch.base_offset(), batch.last_offset());
        self.appended(&stamp, base, last, batch.max_timestamp(), seen_ms);
        None
    }

    /// One change of one producer, with the indexes kept in step.
    fn change(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        last: Offset,
        seen_ms: i64,
        with: impl FnOnce(&mut Producer, &mut BTreeMap<Offset, ProducerId>),
    ) {
        if !self.known.contains_key(&id)
            && self.producers_max <= self.known.len()
            && let Some((_, oldest)) = self.idle.pop_first()
        {
            self.known.remove(&oldest);
        }
        let it = self.known.entry(id).or_insert_with(|| {
            Box::new(Producer {
                epoch,
                batches: Kept::default(),
                coordinator_epoch: NO_COORDINATOR,
                open_from: None,
                last,
                seen_ms,
            })
        });
        if it.open_from.is_none() {
            self.idle.remove(&it.last);
        }
        if it.epoch != epoch {
            it.epoch = epoch;
            it.batches = Kept::default();
        }
        it.last = last;
        it.seen_ms = it.seen_ms.max(seen_ms);
        with(it, &mut self.open);
        if it.open_from.is_none() {
            self.idle.insert(last, id);
        }
    }

    /// Markers below the high watermark cannot be lost any more.
    pub fn on_high_watermark(&mut self, high_watermark: Offset) {
        self.ended.retain(|_, marker| high_watermark <= *marker);
    }

    /// Where a reader that wants only ended transactions must stop.
    #[must_use]
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let open = self.open.keys().next();
        let ended = self
            .ended
            .iter()
            .find(|(_, marker)| high_watermark <= **marker)
            .map(|(first, _)| first);
        let unstable = open.into_iter().chain(ended).min();
        unstable.copied().unwrap_or(high_watermark).min(high_watermark)
    }

    /// Transactions taken back that overlap the offsets from `from` up to `below`. Those of sealed
    /// segments are in their indexes once [`Producers::forget_aborted`] was called.
    pub fn aborted(&self, from: Offset, below: Offset) -> impl Iterator<Item = &Aborted> {
        self.aborted.iter().filter(move |it| from <= it.last && it.first < below)
    }

    /// Whether [`Self::forget_aborted`] would drop any.
    #[must_use]
    pub fn has_aborted_below(&self, below: Offset) -> bool {
        self.aborted.iter().any(|it| it.last < below)
    }

    /// Drops the transactions whose marker lies below `below`: they are in a durable index, or
    /// below the log's start.
    pub fn forget_aborted(&mut self, below: Offset) {
        self.aborted.retain(|it| below <= it.last);
    }

    /// Forgets producers not heard of for `expiry_ms`; returns how many.
    pub fn expire(&mut self, now_ms: i64, expiry_ms: i64) -> usize {
        let before = self.known.len();
        let idle = &mut self.idle;
        self.known.retain(|_, it| {
            let keep = it.open_from.is_some() || now_ms.saturating_sub(it.seen_ms) < expiry_ms;
            if !keep {
                idle.remove(&it.last);
            }
            keep
        });
        before - self.known.len()
    }

    /// What is known of each producer, for the describe-producers answer.
    pub fn describe(&self) -> impl Iterator<Item = ProducerState> {
        self.known.iter().map(|(&id, it)| ProducerState {
            id,
            epoch: it.epoch,
            last_sequence: it.batches.last().map(|it| it.last_sequence),
            last_timestamp: it.batches.last().map(|it| it.timestamp),
            coordinator_epoch: it.coordinator_epoch,
            open_from: it.open_from,
        })
    }

    /// The last batch of a producer that is remembered.
    #[must_use]
    pub fn last_batch(&self, id: ProducerId) -> Option<Written> {
        self.known.get(&id).and_then(|it| it.batches.last().copied())
    }

    /// The invariants, whole.
    ///
    /// # Panics
    /// When one is broken.
    pub fn verify(&self) {
        let idle = self.known.values().filter(|it| it.open_from.is_none()).count();
        assert_eq!(idle, self.idle.len(), "PROD-1: idle producers are indexed once");
        assert_eq!(self.known.len() - idle, self.open.len(), "PROD-1: open ones too");
        for (id, it) in &self.known {
            match it.open_from {
                Some(first) => assert_eq!(self.open.get(&first), Some(id)),
                None => assert_eq!(self.idle.get(&it.last), Some(id)),
            }
            let mut end = None;
            for written in it.batches.iter() {
                assert!(written.base <= written.last && end < Some(written.base));
                end = Some(written.last);
            }
        }
    }
}

/// One producer as others may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub last_sequence: Option<i32>,
    pub last_timestamp: Option<i64>,
    pub coordinator_epoch: i32,
    pub open_from: Option<Offset>,
}

impl Producer {
    fn duplicate_of(&self, stamp: &ProducerStamp) -> Option<&Written> {
        if self.epoch != stamp.epoch {
            return None;
        }
        self.batches.iter().find(|it| {
            it.base_sequence == stamp.base_sequence && it.last_sequence == stamp.last_sequence
        })
    }

    /// A marker may have raised the epoch without a batch: then the next starts at 0.
    fn next_sequence(&self) -> i32 {
        match self.batches.last().map(|it| it.last_sequence) {
            None | Some(i32::MAX) => 0,
            Some(last) => last + 1,
        }
    }
}

const WRITTEN_BYTES: usize = 32;
const PRODUCER_BYTES_MIN: usize = 8 + 2 + 4 + 8 + 8 + 8 + 1;
const ABORTED_BYTES: usize = 32;

/// The form inside a checkpoint: producers by id with their batches, ended transactions, aborted.
impl Producers {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_count(self.known.len());
        for (id, it) in &self.known {
            out.put_i64(id.0);
            out.put_i16(it.epoch.0);
            out.put_i32(it.coordinator_epoch);
            out.put_i64(it.open_from.unwrap_or(Offset::NONE).0);
            out.put_i64(it.last.0);
            out.put_i64(it.seen_ms);
            out.put_u8(it.batches.iter().count() as u8);
            for written in it.batches.iter() {
                out.put_i32(written.base_sequence);
                out.put_i32(written.last_sequence);
                out.put_i64(written.base.0);
                out.put_i64(written.last.0);
                out.put_i64(written.timestamp);
            }
        }
        out.put_count(self.ended.len());
        for (first, marker) in &self.ended {
            out.put_i64(first.0);
            out.put_i64(marker.0);
        }
        put_aborted(out, &self.aborted);
    }

    /// Refuses what [`Producers::encode`] cannot have written.
    pub(crate) fn decode(reader: &mut Reader<'_>, producers_max: usize) -> Result<Self, Short> {
        let mut it = Self::new(producers_max);
        for _ in 0..reader.count(PRODUCER_BYTES_MIN)? {
            let id = ProducerId(reader.i64()?);
            let epoch = ProducerEpoch(reader.i16()?);
            let coordinator_epoch = reader.i32()?;
            let open_from = Some(reader.offset()?).filter(|it| *it != Offset::NONE);
            let last = reader.offset()?;
            let seen_ms = reader.i64()?;
            let count = reader.u8()?;
            if BATCHES_KEPT < usize::from(count) {
                return Err(Short);
            }
            let mut batches = Kept::default();
            let mut end = None;
            for _ in 0..count {
                let written = Written {
                    base_sequence: reader.i32()?,
                    last_sequence: reader.i32()?,
                    base: reader.offset()?,
                    last: reader.offset()?,
                    timestamp: reader.i64()?,
                };
                if written.last < written.base || Some(written.base) <= end {
                    return Err(Short);
                }
                end = Some(written.last);
                batches.push(written);
            }
            let twice = match open_from {
                Some(first) => it.open.insert(first, id).is_some(),
                None => it.idle.insert(last, id).is_some(),
            };
            let producer = Producer { epoch, batches, coordinator_epoch, open_from, last, seen_ms };
            if twice || it.known.insert(id, Box::new(producer)).is_some() {
                return Err(Short);
            }
        }
        for _ in 0..reader.count(16)? {
            let first = reader.offset()?;
            it.ended.insert(first, reader.offset()?);
        }
        it.aborted = take_aborted(reader)?;
        Ok(it)
    }
}

pub(crate) fn put_aborted(out: &mut Vec<u8>, list: &[Aborted]) {
    out.put_count(list.len());
    for it in list {
        out.put_i64(it.producer.0);
        out.put_i64(it.first.0);
        out.put_i64(it.last.0);
        out.put_i64(it.last_stable.0);
    }
}

pub(crate) fn take_aborted(reader: &mut Reader<'_>) -> Result<Vec<Aborted>, Short> {
    let count = reader.count(ABORTED_BYTES)?;
    if ABORTED_MAX < count {
        return Err(Short);
    }
    let one = |reader: &mut Reader<'_>| {
        Ok(Aborted {
            producer: ProducerId(reader.i64()?),
            first: reader.offset()?,
            last: reader.offset()?,
            last_stable: reader.offset()?,
        })
    };
    (0..count).map(|_| one(reader)).collect()
}

const _: () = assert!(WRITTEN_BYTES == 4 + 4 + 8 + 8 + 8);

#[cfg(test)]
mod tests;

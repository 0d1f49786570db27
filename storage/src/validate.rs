//! What a client's batch must be before it is appended: Kafka's rules, in Kafka's order.
//!
//! The order decides which error a client with several faults is told: one whole batch of version
//! 2, base offset 0, size, checksum, counts, no control batch, a sequence with a producer; then
//! record by record: well formed, a key where the topic is compacted, a timestamp within the
//! window. All records with a fault are told together; a timestamp's fault takes precedence.
//!
//! A batch is normally accepted as it lies: nothing is copied, an uncompressed one costs no
//! allocation, a compressed one is unfolded into the lane's [`Scratch`] and forgotten, and one that
//! unfolds to much is walked as it unfolds. Only where the topic asks for another codec, or the records'
//! offsets are not 0, 1, 2…, is it replaced; then it must fit in memory.
//!
//! This module knows no offsets of the log and no producers (see `producers`). Batches from a
//! leader are not validated here; a follower checks their checksum and their place.

use crate::{
    batch::{Attributes, Batch, BatchError, BatchMut, HEADER_BYTES, HeaderFields, write_header},
    build::NO_TIMESTAMP,
    compress::{
        Codec, Compressor, DecompressError, Decompressor, Folding, Level, decompressed_bytes_max,
        held_bytes_max,
    },
    record::{Place, Record, RecordError, RecordFields, put_record},
    stream::{Walk, WalkError},
};
use corelane_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Faults of single records that are told one by one; more are only counted.
pub const RECORD_FAULTS_MAX: usize = 1_000;

/// Units of work that a record, or a header of one, is worth.
const UNITS_PER_THING: usize = 8;

/// Bytes that a step of a walk unfolds.
const STREAMED_BYTES: usize = 64 << 10;

/// Units of work that a byte to be folded is worth.
const UNITS_PER_BYTE_FOLDED: usize = 8;

/// So few bytes are folded in one go, with memory that is used again.
const FOLDED_AT_ONCE_BYTES_MAX: usize = 32 << 10;

/// What a topic's configuration says about appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRules {
    /// `max.message.bytes`: the largest batch.
    pub message_bytes_max: usize,
    /// `segment.bytes`: a batch must fit in one segment.
    pub segment_bytes_max: usize,
    /// `compression.type` and its level.
    pub compression: Compression,
    /// `message.timestamp.type`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`: how far in the past a record may be.
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`: how far in the future.
    pub timestamp_after_ms_max: i64,
    /// `cleanup.policy` names compaction: every record needs a key.
    pub compacted: bool,
}

impl Default for AppendRules {
    fn default() -> Self {
        Self {
            message_bytes_max: 1_048_588,
            segment_bytes_max: 1 << 30,
            compression: Compression::Producer,
            log_append_time: false,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
            compacted: false,
        }
    }
}

/// Who decides how records are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    /// Always so.
    Fixed(Codec, Level),
}

/// Why a client's batch is refused. Nothing of it is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendRefusal {
    /// No batch at all.
    Empty,
    /// Not a whole batch.
    Malformed(BatchError),
    /// Bytes after the first batch.
    ManyBatches {
        first: usize,
        all: usize,
    },
    /// Clients count from zero.
    BaseOffset {
        found: Offset,
    },
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    Checksum {
        stored: u32,
        computed: u32,
    },
    /// No records, or a number that disagrees with the last offset delta.
    Count {
        records: i32,
        last_offset_delta: i32,
    },
    /// Only coordinators write control batches.
    Control,
    /// A producer id without a sequence or an epoch, or a transaction without a producer.
    Producer {
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: i32,
        transactional: bool,
    },
    /// The attributes name no codec.
    Codec {
        number: u8,
    },
    /// The records do not unfold, or to more than is allowed.
    Unfold(DecompressError),
    /// A record is not well formed.
    Record {
        index: u32,
        error: RecordError,
    },
    /// Records the topic does not take; `faults` names the first of them.
    Records {
        faults: Vec<RecordFault>,
        total: u32,
        timestamp: bool,
    },
    /// It does not fit in a segment.
    SegmentTooSmall {
        bytes: usize,
        bytes_max: usize,
    },
}

/// One record the topic does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFault {
    /// Its number in the batch.
    pub index: u32,
    pub why: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    MissingKey,
    /// Outside the window around the broker's clock.
    Timestamp {
        found: i64,
        now_ms: i64,
    },
    /// Only the broker sets this type.
    LogAppendTime,
}

/// The producer's part of an accepted batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub transactional: bool,
}

/// A batch that may be appended, once it is given its offset ([`BatchMut::assign`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an accepted batch is to be appended"]
pub struct Accepted {
    /// The bytes to append are in [`Scratch::replaced`], not where the client's were.
    pub replaced: bool,
    pub bytes: usize,
    pub records: u32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    /// The first record with that timestamp, counted from the batch's first.
    pub max_timestamp_delta: u32,
    /// `None` without idempotence.
    pub producer: Option<ProducerStamp>,
    pub codec: Codec,
    /// The header's checksum, verified or computed just now: [`Batch::whole_crc`] is right.
    pub crc: u32,
}

/// Memory a lane uses again for every batch.
#[derive(Debug)]
pub struct Scratch {
    unfold: Decompressor,
    fold: Compressor,
    /// What any one batch may unfold to on this lane.
    budget_bytes: usize,
    replaced: Vec<u8>,
    /// A replacement that is being folded has that memory.
    folding: Option<Folding>,
    rewritten: Vec<u8>,
    body: Vec<u8>,
}

impl Scratch {
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            unfold: Decompressor::new(),
            fold: Compressor::new(),
            budget_bytes,
            replaced: Vec::new(),
            folding: None,
            rewritten: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The batch that takes the place of the last one validated, if it was replaced.
    pub fn replaced(&mut self) -> &mut [u8] {
        &mut self.replaced
    }
}

/// Looks at what a client sent for one partition, and patches its timestamps if need be.
///
/// # Errors
/// With the first fault in Kafka's order. The bytes are unchanged then.
pub fn validate(
    rules: &AppendRules,
    now_ms: i64,
    bytes: &mut [u8],
    scratch: &mut Scratch,
) -> Result<Accepted, AppendRefusal> {
    let mut examination = Examination::begin(rules, now_ms, bytes, scratch)?;
    while !examination.step(rules, bytes, scratch, usize::MAX)? {}
    examination.finish(rules, bytes, scratch)
}

/// A look at a batch that can be gone on with: what may be long is done in steps. The batch, its rules
/// and the scratch are the same in each, and nobody else uses the scratch in between.
#[derive(Debug)]
pub struct Examination {
    now_ms: i64,
    codec: Codec,
    records: u32,
    phase: Phase,
    seen: Seen,
    faults: Faults,
}

/// What is done next.
#[derive(Debug)]
enum Phase {
    Unfold,
    Walk(Place),
    /// Walk it as it unfolds, because that is too much to be held.
    Stream(Box<Walk>),
    /// Write the records anew, because their offsets do not count from zero.
    Rewrite(Place),
    /// Fold as the topic wants it; so much was.
    Fold(usize),
    Done,
}

impl Examination {
    /// Looks at everything but the records.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn begin(
        rules: &AppendRules,
        now_ms: i64,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Self, AppendRefusal> {
        let batch = check_batch(rules, bytes)?;
        let number = batch.attributes().codec_number();
        let codec = Codec::from_number(number).ok_or(AppendRefusal::Codec { number })?;
        if codec != Codec::None {
            scratch.unfold.begin(codec, bounds(rules, bytes, scratch).0);
        }
        Ok(Self {
            now_ms,
            codec,
            records: batch.record_count().cast_unsigned(),
            phase: if codec == Codec::None { Phase::Walk(Place::START) } else { Phase::Unfold },
            seen: Seen { max_timestamp: NO_TIMESTAMP, max_timestamp_index: 0, offsets_dense: true },
            faults: Faults::default(),
        })
    }

    /// Goes on for about so many units of work, and says whether that was all. A byte that is unfolded takes
    /// one.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn step(
        &mut self,
        rules: &AppendRules,
        bytes: &[u8],
        scratch: &mut Scratch,
        mut units: usize,
    ) -> Result<bool, AppendRefusal> {
        let batch = whole(bytes);
        while 0 < units {
            self.phase = match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Unfold => self.unfold(rules, &batch, scratch, &mut units)?,
                Phase::Stream(walk) => self.stream(walk, rules, &batch, scratch, &mut units)?,
                Phase::Walk(place) => self.walk(place, rules, &batch, scratch, &mut units)?,
                Phase::Rewrite(place) => self.rewrite(place, &batch, scratch, &mut units),
                Phase::Fold(at) => self.fold(at, rules, &batch, scratch, &mut units),
                Phase::Done => return Ok(true),
            };
        }
        Ok(matches!(self.phase, Phase::Done))
    }

    fn unfold(
        &self,
        rules: &AppendRules,
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        units: &mut usize,
    ) -> Result<Phase, AppendRefusal> {
        match scratch.unfold.step(batch.payload(), units) {
            Ok(true) => Ok(Phase::Walk(Place::START)),
            Ok(false) => Ok(Phase::Unfold),
            Err(error) => {
                let (held, limit) = bounds(rules, batch.bytes(), scratch);
                let is_too_large = matches!(error, DecompressError::TooLarge { .. });
                if !is_too_large || self.target(rules).0 != self.codec || limit <= held {
                    return Err(AppendRefusal::Unfold(error));
                }
                let walk = Walk::new(self.codec, batch.payload(), self.records, held, limit);
                Ok(Phase::Stream(Box::new(walk.map_err(wrong)?)))
            }
        }
    }

    fn stream(
        &mut self,
        mut walk: Box<Walk>,
        rules: &AppendRules,
        batch: &Batch<'_>,
        scratch: &Scratch,
        units: &mut usize,
    ) -> Result<Phase, AppendRefusal> {
        let done = walk.step(|index, record| self.look_at(rules, batch, index, record));
        *units = units.saturating_sub(STREAMED_BYTES);
        if !done.map_err(wrong)? {
            return Ok(Phase::Stream(walk));
        }
        self.refuse_faults()?;
        if self.seen.offsets_dense {
            return Ok(Phase::Done);
        }
        let (limit, _) = bounds(rules, batch.bytes(), scratch);
        Err(AppendRefusal::Unfold(DecompressError::TooLarge { limit }))
    }

    fn look_at(&mut self, rules: &AppendRules, batch: &Batch<'_>, index: u32, record: &Record<'_>) {
        let timestamp = batch.base_timestamp().wrapping_add(record.timestamp_delta);
        let claims_log_append_time = batch.attributes().has(Attributes::LOG_APPEND_TIME);
        match fault(rules, self.now_ms, record, timestamp, claims_log_append_time) {
            Some(why) => self.faults.add(RecordFault { index, why }),
            None => self.seen.record(index, timestamp, record.offset_delta),
        }
    }

    fn refuse_faults(&mut self) -> Result<(), AppendRefusal> {
        if self.faults.total == 0 {
            return Ok(());
        }
        let Faults { list, total, timestamp } = std::mem::take(&mut self.faults);
        Err(AppendRefusal::Records { faults: list, total, timestamp })
    }

    fn walk(
        &mut self,
        mut place: Place,
        rules: &AppendRules,
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        units: &mut usize,
    ) -> Result<Phase, AppendRefusal> {
        let payload =
            if self.codec == Codec::None { batch.payload() } else { scratch.unfold.unfolded() };
        let mut things = things_in(*units);
        let refused = |(index, error)| AppendRefusal::Record { index, error };
        while let Some((index, record)) =
            place.next(payload, self.records, &mut things).map_err(refused)?
        {
            self.look_at(rules, batch, index, &record);
        }
        *units = (*units).min(things.saturating_mul(UNITS_PER_THING));
        if !place.is_end(payload, self.records) {
            return Ok(Phase::Walk(place));
        }
        self.refuse_faults()?;
        Ok(if !self.seen.offsets_dense {
            scratch.rewritten.clear();
            Phase::Rewrite(Place::START)
        } else if self.is_replaced(rules) {
            Phase::Fold(0)
        } else {
            Phase::Done
        })
    }

    fn is_replaced(&self, rules: &AppendRules) -> bool {
        !self.seen.offsets_dense || self.target(rules).0 != self.codec
    }

    /// How the records are to be folded.
    fn target(&self, rules: &AppendRules) -> (Codec, Level) {
        match rules.compression {
            Compression::Fixed(target, level) if target != self.codec => (target, level),
            Compression::Fixed(..) | Compression::Producer => (self.codec, Level::Default),
        }
    }

    /// Writes more of the records anew with the offsets 0, 1, 2…
    fn rewrite(
        &self,
        mut place: Place,
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        units: &mut usize,
    ) -> Phase {
        let Scratch { unfold, rewritten, body, .. } = scratch;
        let payload = if self.codec == Codec::None { batch.payload() } else { unfold.unfolded() };
        loop {
            // One at a time, for each is copied.
            let mut things = things_in(*units);
            let before = (things, rewritten.len());
            let next = place.next(payload, self.records, &mut things);
            let record = next.expect("the records were walked before");
            if let Some((index, record)) = &record {
                let (header_count, headers) = record.raw_headers();
                let fields = RecordFields {
                    timestamp_delta: record.timestamp_delta,
                    offset_delta: index.cast_signed(),
                    key: record.key,
                    value: record.value,
                    header_count,
                    headers,
                };
                put_record(rewritten, body, &fields);
            }
            let spent = (before.0 - things) * UNITS_PER_THING + rewritten.len() - before.1;
            *units = units.saturating_sub(spent);
            if record.is_none() || *units == 0 {
                break;
            }
        }
        if place.is_end(payload, self.records) { Phase::Fold(0) } else { Phase::Rewrite(place) }
    }

    /// Folds more of the records.
    fn fold(
        &self,
        at: usize,
        rules: &AppendRules,
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        units: &mut usize,
    ) -> Phase {
        let Scratch { unfold, fold, folding, replaced, rewritten, .. } = scratch;
        let payload = if !self.seen.offsets_dense {
            &rewritten[..]
        } else if self.codec == Codec::None {
            batch.payload()
        } else {
            unfold.unfolded()
        };
        let (target, level) = self.target(rules);
        if at == 0 {
            replaced.clear();
            replaced.resize(HEADER_BYTES, 0);
            if payload.len() <= FOLDED_AT_ONCE_BYTES_MAX {
                fold.compress(target, level, payload, replaced);
                *units = units.saturating_sub(payload.len() * UNITS_PER_BYTE_FOLDED);
                return Phase::Done;
            }
            *folding = Some(Folding::begin(target, level, std::mem::take(replaced)));
        }
        let into = folding.as_mut().expect("it was begun");
        let bytes = (*units / UNITS_PER_BYTE_FOLDED).max(1).min(payload.len() - at);
        into.put(&payload[at..at + bytes]);
        *units = units.saturating_sub(bytes * UNITS_PER_BYTE_FOLDED);
        if at + bytes < payload.len() {
            return Phase::Fold(at + bytes);
        }
        *replaced = folding.take().expect("just used").end();
        Phase::Done
    }

    /// What all steps found, once the last has said that it was.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn finish(
        self,
        rules: &AppendRules,
        bytes: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<Accepted, AppendRefusal> {
        let Self { now_ms, records, ref seen, .. } = self;
        let batch = whole(bytes);
        let (replaced, (target, _)) = (self.is_replaced(rules), self.target(rules));
        let (max_timestamp, max_timestamp_delta) = if rules.log_append_time {
            (now_ms, 0)
        } else {
            (seen.max_timestamp, seen.max_timestamp_index)
        };
        let producer = stamp(&batch, records);
        let base_timestamp = batch.base_timestamp();

        if replaced {
            let mut fields = header_fields(&batch, target);
            fields.max_timestamp = max_timestamp;
            if rules.log_append_time {
                fields.attributes |= Attributes::LOG_APPEND_TIME;
            }
            if rules.message_bytes_max < scratch.replaced.len() {
                let bytes = scratch.replaced.len();
                return Err(AppendRefusal::TooLarge { bytes, bytes_max: rules.message_bytes_max });
            }
            write_header(&mut scratch.replaced, &fields);
        }

        let chosen = if replaced { &mut scratch.replaced[..] } else { bytes };
        if rules.segment_bytes_max < chosen.len() {
            let bytes_max = rules.segment_bytes_max;
            return Err(AppendRefusal::SegmentTooSmall { bytes: chosen.len(), bytes_max });
        }
        let mut chosen = BatchMut::first(chosen).expect("it was whole before");
        chosen.set_timestamps(max_timestamp, rules.log_append_time);
        let chosen = chosen.view();
        Ok(Accepted {
            replaced,
            bytes: chosen.bytes().len(),
            records,
            base_timestamp,
            max_timestamp,
            max_timestamp_delta,
            producer,
            codec: target,
            crc: chosen.crc(),
        })
    }
}

/// What may be held of a batch, and what it may unfold to.
fn bounds(rules: &AppendRules, bytes: &[u8], scratch: &Scratch) -> (usize, usize) {
    let limit = decompressed_bytes_max(bytes.len(), scratch.budget_bytes);
    (held_bytes_max(rules.message_bytes_max, limit), limit)
}

fn wrong(error: WalkError) -> AppendRefusal {
    match error {
        WalkError::Unfold(error) => AppendRefusal::Unfold(error),
        WalkError::Record { index, error } => AppendRefusal::Record { index, error },
    }
}

/// Records and headers that so many units are enough for. One more, so that a record is not begun again and
/// again without coming to its headers.
fn things_in(units: usize) -> usize {
    1 + units.div_ceil(UNITS_PER_THING)
}

/// A batch that was looked at before.
fn whole(bytes: &[u8]) -> Batch<'_> {
    Batch::split(bytes).expect("it was whole before").0
}

/// Everything that can be said without looking at the records.
fn check_batch<'a>(rules: &AppendRules, bytes: &'a [u8]) -> Result<Batch<'a>, AppendRefusal> {
    if bytes.is_empty() {
        return Err(AppendRefusal::Empty);
    }
    let (batch, rest) = Batch::split(bytes).map_err(AppendRefusal::Malformed)?;
    if !rest.is_empty() {
        let first = batch.bytes().len();
        return Err(AppendRefusal::ManyBatches { first, all: bytes.len() });
    }
    if batch.base_offset() != Offset::ZERO {
        return Err(AppendRefusal::BaseOffset { found: batch.base_offset() });
    }
    if rules.message_bytes_max < bytes.len() {
        let bytes_max = rules.message_bytes_max;
        return Err(AppendRefusal::TooLarge { bytes: bytes.len(), bytes_max });
    }
    let (stored, computed) = (batch.crc(), batch.computed_crc());
    if stored != computed {
        return Err(AppendRefusal::Checksum { stored, computed });
    }
    let (records, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
    if records <= 0 || last_offset_delta.checked_add(1) != Some(records) {
        return Err(AppendRefusal::Count { records, last_offset_delta });
    }
    if batch.is_control() {
        return Err(AppendRefusal::Control);
    }
    let (id, epoch, base_sequence) =
        (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
    let transactional = batch.is_transactional();
    let whole = if id.is_some() { 0 <= base_sequence && 0 <= epoch.0 } else { !transactional };
    if !whole {
        return Err(AppendRefusal::Producer { id, epoch, base_sequence, transactional });
    }
    Ok(batch)
}

/// What the walk over the records found.
#[derive(Debug)]
struct Seen {
    max_timestamp: i64,
    max_timestamp_index: u32,
    offsets_dense: bool,
}

impl Seen {
    fn record(&mut self, index: u32, timestamp: i64, offset_delta: i32) {
        if self.max_timestamp < timestamp {
            self.max_timestamp = timestamp;
            self.max_timestamp_index = index;
        }
        self.offsets_dense &= offset_delta.cast_unsigned() == index;
    }
}

fn fault(
    rules: &AppendRules,
    now_ms: i64,
    record: &Record<'_>,
    timestamp: i64,
    claims_log_append_time: bool,
) -> Option<Fault> {
    if rules.compacted && record.key.is_none() {
        return Some(Fault::MissingKey);
    }
    if claims_log_append_time {
        return Some(Fault::LogAppendTime);
    }
    if !rules.log_append_time && timestamp != NO_TIMESTAMP {
        let age_ms = now_ms.saturating_sub(timestamp);
        let ahead_ms = timestamp.saturating_sub(now_ms);
        if rules.timestamp_before_ms_max < age_ms || rules.timestamp_after_ms_max < ahead_ms {
            return Some(Fault::Timestamp { found: timestamp, now_ms });
        }
    }
    None
}

#[derive(Debug, Default)]
struct Faults {
    list: Vec<RecordFault>,
    total: u32,
    timestamp: bool,
}

impl Faults {
    fn add(&mut self, fault: RecordFault) {
        self.total += 1;
        self.timestamp |= fault.why != Fault::MissingKey;
        if self.list.len() < RECORD_FAULTS_MAX {
            self.list.push(fault);
        }
    }
}

/// The sequence `records - 1` after `base`: after the largest comes zero.
#[must_use]
pub fn last_sequence(base: i32, records: u32) -> i32 {
    let sum = i64::from(base) + i64::from(records) - 1;
    (sum & i64::from(i32::MAX)) as i32
}

fn stamp(batch: &Batch<'_>, records: u32) -> Option<ProducerStamp> {
    let id = batch.producer_id();
    id.is_some().then(|| ProducerStamp {
        id,
        epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        last_sequence: last_sequence(batch.base_sequence(), records),
        transactional: batch.is_transactional(),
    })
}

/// The header of a replaced batch.
fn header_fields(batch: &Batch<'_>, codec: Codec) -> HeaderFields {
    let kept = batch.attributes().0 & !0b111;
    HeaderFields {
        base_offset: Offset::ZERO,
        leader_epoch: LeaderEpoch::NONE,
        attributes: kept | codec.attribute_bits(),
        last_offset_delta: batch.last_offset_delta(),
        base_timestamp: batch.base_timestamp(),
        max_timestamp: batch.max_timestamp(),
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        record_count: batch.record_count(),
    }
}

#[cfg(test)]
mod tests;

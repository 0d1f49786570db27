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
        Codec, Compressor, DecompressError, Decompressor, Level, decompressed_bytes_max,
        held_bytes_max,
    },
    record::{Record, RecordError, RecordFields, Records, put_record},
    stream::{Walk, WalkError},
};
use corelane_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Faults of single records that are told one by one; more are only counted.
pub const RECORD_FAULTS_MAX: usize = 1_000;

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
    let batch = check_batch(rules, bytes)?;
    let codec = Codec::from_number(batch.attributes().codec_number())
        .ok_or(AppendRefusal::Codec { number: batch.attributes().codec_number() })?;
    let records = batch.record_count().cast_unsigned();

    let target = match rules.compression {
        Compression::Producer => None,
        Compression::Fixed(target, level) => (target != codec).then_some((target, level)),
    };
    let limit = decompressed_bytes_max(batch.bytes().len(), scratch.budget_bytes);
    let held = held_bytes_max(rules.message_bytes_max, limit);
    let payload = match codec {
        Codec::None => Ok(batch.payload()),
        _ => scratch.unfold.decompress(codec, batch.payload(), held),
    };
    let mut look = Look::new(rules, now_ms, &batch);
    let payload = match payload {
        Err(DecompressError::TooLarge { .. }) if target.is_none() && held < limit => {
            walk(codec, &batch, held, limit, &mut look)?;
            None
        }
        payload => {
            let payload = payload.map_err(AppendRefusal::Unfold)?;
            for (index, record) in (0..).zip(Records::new(payload, records)) {
                look.at(index, &record.map_err(|error| AppendRefusal::Record { index, error })?);
            }
            Some(payload)
        }
    };
    let seen = look.done()?;
    let (max_timestamp, max_timestamp_delta) = if rules.log_append_time {
        (now_ms, 0)
    } else {
        (seen.max_timestamp, seen.max_timestamp_index)
    };
    let producer = stamp(&batch, records);
    let base_timestamp = batch.base_timestamp();

    let replaced = target.is_some() || !seen.offsets_dense;
    let (target, level) = target.unwrap_or((codec, Level::Default));
    if replaced {
        let mut fields = header_fields(&batch, target);
        fields.max_timestamp = max_timestamp;
        if rules.log_append_time {
            fields.attributes |= Attributes::LOG_APPEND_TIME;
        }
        let payload =
            payload.ok_or(AppendRefusal::Unfold(DecompressError::TooLarge { limit: held }))?;
        let payload = if seen.offsets_dense {
            payload
        } else {
            rewrite(payload, records, &mut scratch.rewritten, &mut scratch.body);
            &scratch.rewritten
        };
        scratch.replaced.clear();
        scratch.replaced.resize(HEADER_BYTES, 0);
        scratch.fold.compress(target, level, payload, &mut scratch.replaced);
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
struct Seen {
    max_timestamp: i64,
    max_timestamp_index: u32,
    offsets_dense: bool,
}

/// A look at one record after the other.
struct Look<'a> {
    rules: &'a AppendRules,
    now_ms: i64,
    base_timestamp: i64,
    claims_log_append_time: bool,
    seen: Seen,
    faults: Faults,
}

impl<'a> Look<'a> {
    fn new(rules: &'a AppendRules, now_ms: i64, batch: &Batch<'_>) -> Self {
        Self {
            rules,
            now_ms,
            base_timestamp: batch.base_timestamp(),
            claims_log_append_time: batch.attributes().has(Attributes::LOG_APPEND_TIME),
            seen: Seen { max_timestamp: NO_TIMESTAMP, max_timestamp_index: 0, offsets_dense: true },
            faults: Faults::default(),
        }
    }

    fn at(&mut self, index: u32, record: &Record<'_>) {
        let timestamp = self.base_timestamp.wrapping_add(record.timestamp_delta);
        match fault(self.rules, self.now_ms, record, timestamp, self.claims_log_append_time) {
            Some(why) => self.faults.add(RecordFault { index, why }),
            None => {
                if self.seen.max_timestamp < timestamp {
                    self.seen.max_timestamp = timestamp;
                    self.seen.max_timestamp_index = index;
                }
                self.seen.offsets_dense &= record.offset_delta.cast_unsigned() == index;
            }
        }
    }

    fn done(self) -> Result<Seen, AppendRefusal> {
        if self.faults.total != 0 {
            let Faults { list, total, timestamp } = self.faults;
            return Err(AppendRefusal::Records { faults: list, total, timestamp });
        }
        Ok(self.seen)
    }
}

/// Looks at a batch that unfolds to much.
fn walk(
    codec: Codec,
    batch: &Batch<'_>,
    held: usize,
    limit: usize,
    look: &mut Look<'_>,
) -> Result<(), AppendRefusal> {
    let wrong = |error| match error {
        WalkError::Unfold(error) => AppendRefusal::Unfold(error),
        WalkError::Record { index, error } => AppendRefusal::Record { index, error },
    };
    let records = batch.record_count().cast_unsigned();
    let mut walk = Walk::new(codec, batch.payload(), records, held, limit).map_err(wrong)?;
    while !walk.step(|index, record| look.at(index, record)).map_err(wrong)? {}
    Ok(())
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

#[derive(Default)]
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

/// Writes the records anew with the offsets 0, 1, 2…
fn rewrite(payload: &[u8], count: u32, out: &mut Vec<u8>, body: &mut Vec<u8>) {
    out.clear();
    for (offset_delta, record) in (0..).zip(Records::new(payload, count)) {
        let record = record.expect("the records were walked before");
        let (header_count, headers) = record.raw_headers();
        let fields = RecordFields {
            timestamp_delta: record.timestamp_delta,
            offset_delta,
            key: record.key,
            value: record.value,
            header_count,
            headers,
        };
        put_record(out, body, &fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::UNSUMMED_BYTES, build::BatchBuilder, checksum, record::put_nullable};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn scratch() -> Scratch {
        Scratch::new(64 << 20)
    }

    fn three() -> BatchBuilder {
        let mut builder = BatchBuilder::new();
        builder.record(NOW_MS - 5, Some(b"a"), Some(&[b'x'; 300]));
        builder.record(NOW_MS + 7, Some(b"b"), None);
        builder.record(NOW_MS + 1, Some(b"c"), Some(b"z"));
        builder
    }

    fn reseal(bytes: &mut [u8]) {
        let crc = checksum::of(&bytes[UNSUMMED_BYTES..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    #[test]
    fn a_good_batch_is_taken_as_it_lies() {
        for codec in Codec::ALL {
            let sent = three().build_compressed(codec, Level::Default, &mut Compressor::new());
            let mut bytes = sent.clone();
            let it = validate(&AppendRules::default(), NOW_MS, &mut bytes, &mut scratch()).unwrap();
            assert_eq!(bytes, sent);
            assert_eq!((it.replaced, it.records, it.codec), (false, 3, codec));
            assert_eq!((it.base_timestamp, it.max_timestamp), (NOW_MS - 5, NOW_MS + 7));
            assert_eq!((it.max_timestamp_delta, it.producer), (1, None));
            assert_eq!(it.crc, Batch::split(&bytes).unwrap().0.computed_crc());
        }
    }

    /// One batch with every fault at once; each step mends the one that was told.
    #[test]
    fn faults_are_told_in_kafkas_order() {
        let mut rules = AppendRules { message_bytes_max: 100, ..AppendRules::default() };
        let mut builder = three();
        builder.producer(ProducerId(5), ProducerEpoch(0), -1).attributes(Attributes::CONTROL | 7);
        let mut bytes = builder.build();
        let one_len = bytes.len();
        bytes[7] = 9;
        bytes[26] = 7;
        bytes[one_len - 1] ^= 1;
        let mut sent = bytes.repeat(2);
        sent[16] = 1;
        let mut told = Vec::new();
        for _ in 0..20 {
            let Err(refusal) = validate(&rules, NOW_MS, &mut sent, &mut scratch()) else { break };
            let name = match refusal {
                AppendRefusal::Malformed(BatchError::Magic { .. }) => {
                    sent[16] = 2;
                    "magic"
                }
                AppendRefusal::ManyBatches { first, .. } => {
                    sent.truncate(first);
                    "batches"
                }
                AppendRefusal::BaseOffset { .. } => {
                    sent[7] = 0;
                    "base"
                }
                AppendRefusal::TooLarge { .. } => {
                    rules.message_bytes_max = 10_000;
                    rules.segment_bytes_max = 100;
                    "size"
                }
                AppendRefusal::Checksum { .. } => {
                    reseal(&mut sent);
                    "checksum"
                }
                AppendRefusal::Count { records: 3, last_offset_delta: 7 } => {
                    sent[26] = 2;
                    reseal(&mut sent);
                    "count"
                }
                AppendRefusal::Control => {
                    sent[22] &= !(Attributes::CONTROL as u8);
                    reseal(&mut sent);
                    "control"
                }
                AppendRefusal::Producer { .. } => {
                    sent[53] = 0;
                    sent[54..57].fill(0);
                    reseal(&mut sent);
                    "sequence"
                }
                AppendRefusal::Codec { number: 7 } => {
                    sent[22] &= !7;
                    sent[one_len - 1] = 2;
                    reseal(&mut sent);
                    "codec"
                }
                AppendRefusal::Record { index: 2, .. } => {
                    sent[one_len - 1] = 0;
                    rules.compacted = true;
                    reseal(&mut sent);
                    "record"
                }
                AppendRefusal::SegmentTooSmall { .. } => {
                    rules.segment_bytes_max = 10_000;
                    "segment"
                }
                other => panic!("{other:?}"),
            };
            told.push(name);
        }
        assert_eq!(
            told.join(" "),
            "magic batches base size checksum count control sequence codec record segment"
        );
    }

    #[test]
    fn all_records_with_a_fault_are_told_and_a_timestamp_comes_first() {
        let rules = AppendRules {
            compacted: true,
            timestamp_before_ms_max: 100,
            timestamp_after_ms_max: 10,
            ..AppendRules::default()
        };
        let mut builder = BatchBuilder::new();
        builder.record(NOW_MS, None, Some(b"v"));
        builder.record(NOW_MS - 100, Some(b"k"), None);
        builder.record(NOW_MS - 101, Some(b"k"), None);
        builder.record(NOW_MS + 11, None, None);
        builder.record(NOW_MS + 11, Some(b"k"), None);
        builder.record(NO_TIMESTAMP, Some(b"k"), None);
        let refusal = validate(&rules, NOW_MS, &mut builder.build(), &mut scratch()).unwrap_err();
        let late = |found| Fault::Timestamp { found, now_ms: NOW_MS };
        let faults = vec![
            RecordFault { index: 0, why: Fault::MissingKey },
            RecordFault { index: 2, why: late(NOW_MS - 101) },
            RecordFault { index: 3, why: Fault::MissingKey },
            RecordFault { index: 4, why: late(NOW_MS + 11) },
        ];
        assert_eq!(refusal, AppendRefusal::Records { faults, total: 4, timestamp: true });
    }

    #[test]
    fn log_append_time_is_the_brokers_to_set() {
        let rules = AppendRules {
            log_append_time: true,
            timestamp_before_ms_max: 0,
            timestamp_after_ms_max: 0,
            ..AppendRules::default()
        };
        let mut bytes = three().build();
        let it = validate(&rules, NOW_MS, &mut bytes, &mut scratch()).unwrap();
        assert_eq!((it.max_timestamp, it.max_timestamp_delta), (NOW_MS, 0));
        let batch = Batch::split(&bytes).unwrap().0;
        assert_eq!((batch.max_timestamp(), batch.crc()), (NOW_MS, batch.computed_crc()));
        assert!(batch.attributes().has(Attributes::LOG_APPEND_TIME));
        // The same bytes from a client claim what only the broker may say.
        for rules in [rules, AppendRules::default()] {
            let refusal = validate(&rules, NOW_MS, &mut bytes, &mut scratch()).unwrap_err();
            let AppendRefusal::Records { faults, timestamp, .. } = refusal else {
                panic!("{refusal:?}");
            };
            assert_eq!((faults[0].why, timestamp), (Fault::LogAppendTime, true));
        }
    }

    #[test]
    fn a_wrong_latest_timestamp_is_corrected_with_its_checksum() {
        let mut bytes = three().build();
        bytes[35..43].copy_from_slice(&1_i64.to_be_bytes());
        reseal(&mut bytes);
        let it = validate(&AppendRules::default(), NOW_MS, &mut bytes, &mut scratch()).unwrap();
        assert_eq!(bytes, three().build());
        assert!(!it.replaced);
    }

    #[test]
    fn the_topics_codec_replaces_the_producers() {
        let mut scratch = scratch();
        for from in Codec::ALL {
            for to in Codec::ALL {
                let mut bytes =
                    three().build_compressed(from, Level::Default, &mut Compressor::new());
                let compression = Compression::Fixed(to, Level::Default);
                let rules = AppendRules { compression, ..AppendRules::default() };
                let it = validate(&rules, NOW_MS, &mut bytes, &mut scratch).unwrap();
                assert_eq!((it.replaced, it.codec), (from != to, to));
                if !it.replaced {
                    continue;
                }
                let rules = AppendRules::default();
                let mut stored = scratch.replaced().to_vec();
                let again = validate(&rules, NOW_MS, &mut stored, &mut scratch).unwrap();
                assert_eq!(again, Accepted { replaced: false, ..it });
            }
        }
    }

    #[test]
    fn records_that_do_not_count_from_zero_are_rewritten() {
        let mut builder = BatchBuilder::new();
        builder.record(NOW_MS, Some(b"k"), None);
        builder.record_with_headers(NOW_MS, Some(b"k"), Some(b"v"), &[("h", None)]);
        let want = builder.build();
        // An old client numbered both records zero.
        let mut bytes = want.clone();
        let second = HEADER_BYTES + 8;
        let delta_at = second + 3;
        assert_eq!(bytes[delta_at], 2);
        bytes[delta_at] = 0;
        reseal(&mut bytes);
        let mut scratch = scratch();
        let it = validate(&AppendRules::default(), NOW_MS, &mut bytes, &mut scratch).unwrap();
        assert!(it.replaced);
        assert_eq!(scratch.replaced()[12..16], [0xff; 4]);
        assert_eq!(scratch.replaced(), want);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(last_sequence(0, 1), 0);
        assert_eq!(last_sequence(i32::MAX, 1), i32::MAX);
        assert_eq!(last_sequence(i32::MAX, 2), 0);
        assert_eq!(last_sequence(i32::MAX - 1, 5), 2);
    }

    /// What a topic takes is about compressed bytes.
    #[test]
    fn a_batch_that_unfolds_to_much_is_taken() {
        let mut builder = BatchBuilder::new();
        let text = b"a line of a log that is much like the one before it ".repeat(200);
        for it in 0..1_000 {
            builder.record(NOW_MS + it % 7, Some(b"key"), Some(&text));
        }
        for codec in [Codec::Gzip, Codec::Zstd, Codec::Lz4, Codec::Snappy] {
            let sent = builder.build_compressed(codec, Level::Default, &mut Compressor::new());
            let mut bytes = sent.clone();
            let rules = AppendRules { compacted: true, ..AppendRules::default() };
            let it = validate(&rules, NOW_MS, &mut bytes, &mut scratch()).unwrap();
            assert_eq!((it.replaced, it.records, it.max_timestamp_delta), (false, 1_000, 6));
            assert_eq!(bytes, sent, "{codec:?}");

            let budget = 9 << 20;
            let refusal = validate(&rules, NOW_MS, &mut bytes, &mut Scratch::new(budget));
            let too_large = |limit| AppendRefusal::Unfold(DecompressError::TooLarge { limit });
            assert_eq!(refusal, Err(too_large(budget)), "{codec:?}");
            // What must be folded anew must be held.
            let compression = Compression::Fixed(Codec::None, Level::Default);
            let rules = AppendRules { compression, ..rules };
            let refusal = validate(&rules, NOW_MS, &mut bytes, &mut scratch());
            assert_eq!(refusal, Err(too_large(8 * rules.message_bytes_max)), "{codec:?}");
        }
    }

    /// Damage under a right checksum: refused or taken, never a panic, and what is taken is whole.
    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 7_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let mut scratch = scratch();
        let mut raw = Vec::new();
        put_nullable(&mut raw, Some(b"header"));
        let (mut taken, mut refused) = (0, 0);
        for round in 0..4_000 {
            let codec = Codec::ALL[round % Codec::ALL.len()];
            let mut builder = three();
            builder.record_with_headers(NOW_MS, Some(b"k"), None, &[("h", Some(&raw))]);
            let mut bytes = builder.build_compressed(codec, Level::Default, &mut Compressor::new());
            for _ in 0..random(3) {
                let at = UNSUMMED_BYTES + random(bytes.len() - UNSUMMED_BYTES);
                bytes[at] = random(256) as u8;
            }
            reseal(&mut bytes);
            let compression = match random(2) {
                0 => Compression::Producer,
                _ => Compression::Fixed(Codec::ALL[random(5)], Level::Default),
            };
            let rules = AppendRules { compression, ..AppendRules::default() };
            match validate(&rules, NOW_MS, &mut bytes, &mut scratch) {
                Ok(it) => {
                    let stored = if it.replaced { scratch.replaced() } else { &bytes[..] };
                    let batch = Batch::split(stored).unwrap().0;
                    assert_eq!(batch.crc(), batch.computed_crc());
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
        assert!(500 < taken && 500 < refused, "the walk went empty: {taken} {refused}");
    }
}

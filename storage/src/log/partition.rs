//! One partition as its lane holds it: segments, ends, producers. Decides; does no I/O.
//!
//! Invariants:
//! - LOG-1: `log_start <= coming_start <= visible <= end`, and offsets are dense over all segments;
//! - LOG-2: only the last segment is open;
//! - LOG-3: `visible` never goes back while the partition lives here, unless the log is cut back;
//! - LOG-4: what is refused changes nothing;
//! - LOG-5: readers are told of a start only once it is durable: it never goes back for them.

use corelane_core::buf::{Pool, Slice};
use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};
use corelane_core::sync::Event;

use super::damage::Damage;
use super::journal::Commit;
use super::segment::{BatchFacts, Segment};
use super::tail::NoMemory;
use crate::epochs::LeaderEpochs;
use crate::producers::{Aborted, ClientAppend, ProducerRefusal, Producers, Verdict};
use crate::validate::{Accepted, AppendRules};

/// What a topic's configuration means to its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRules {
    pub append: AppendRules,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// Up to so much less, another time for each segment.
    pub segment_jitter_ms_max: i64,
    pub index_interval_bytes: u64,
    /// Answered and shown once accepted, not once durable.
    pub from_memory: bool,
}

impl Default for LogRules {
    fn default() -> Self {
        Self {
            append: AppendRules::default(),
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms_max: 0,
            index_interval_bytes: 4096,
            from_memory: false,
        }
    }
}

/// Where a batch will lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a planned append that never happens leaves its answer open"]
pub enum Plan {
    /// Append here, after a roll if `roll`.
    Append { base: Offset, roll: bool },
    /// Written before: answer with these offsets once `last` is as durable as asked for.
    Duplicate { base: Offset, last: Offset, timestamp: i64 },
}

/// Where a batch was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub base: Offset,
    pub end: Offset,
    pub segment: Offset,
    pub position: u32,
}

/// How a read is answered.
#[derive(Debug)]
pub enum ReadPlan {
    Memory(Vec<Slice>),
    /// Whole batches must be cut from this range of a segment.
    Segment {
        base: Offset,
    },
    Empty,
}

/// The offset lies outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange {
    pub log_start: Offset,
    pub end: Offset,
}

pub struct Partition {
    pub of: TopicPartition,
    pub name: String,
    pub ownership: u64,
    pub leader_epoch: LeaderEpoch,
    pub epochs: LeaderEpochs,
    pub rules: LogRules,
    pub producers: Producers,
    /// Oldest first; the last one takes appends.
    pub segments: Vec<Segment>,
    /// Somebody reads at the end: told whenever `visible` or the log's start moves.
    pub changed: Event,
    /// The folder exists and is durable in its parent.
    pub has_dir: bool,
    /// Deleted: every use of it from now on is refused.
    pub deleted: bool,
    /// It is offline: nothing of it is read or changed.
    pub damage: Option<Damage>,
    /// It stands in line to be written out, for the size of its tail.
    pub stands_as_large: bool,
    /// Grows with every change that a checkpoint must tell.
    pub version: u64,
    /// The log is about to be cut back: it takes nothing meanwhile.
    pub cutting: bool,
    /// How often it was cut back: what a reader planned before may be gone.
    pub cuts: u64,
    /// The commit of the last cut: what earlier ones reached says nothing any more.
    cut_by: Commit,
    /// The start that readers know.
    log_start: Offset,
    /// Where the log starts once the last move of it is durable.
    coming_start: Offset,
    visible: Offset,
    end: Offset,
}

impl Partition {
    #[must_use]
    pub fn new(of: TopicPartition, name: String, rules: LogRules, changed: Event) -> Self {
        let mut epochs = LeaderEpochs::default();
        let first = epochs.assign(LeaderEpoch(0), Offset(0));
        assert!(first.is_ok(), "nothing is known of an empty log");
        Self {
            of,
            name,
            ownership: 0,
            leader_epoch: LeaderEpoch(0),
            epochs,
            rules,
            producers: Producers::default(),
            segments: vec![indexed_segment(of, Offset(0))],
            changed,
            has_dir: false,
            deleted: false,
            damage: None,
            stands_as_large: false,
            version: 0,
            cutting: false,
            cuts: 0,
            cut_by: Commit(0),
            log_start: Offset(0),
            coming_start: Offset(0),
            visible: Offset(0),
            end: Offset(0),
        }
    }

    /// Takes over what recovery found. Everything recovered is durable.
    pub fn restored(&mut self, log_start: Offset, end: Offset, segments: Vec<Segment>) {
        assert!(!segments.is_empty() && segments[0].base <= log_start && log_start <= end);
        self.log_start = log_start;
        self.coming_start = log_start;
        self.segments = segments;
        self.end = end;
        self.visible = end;
    }

    /// The offset the next record gets.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Where the log starts, for readers.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Where the log will start once everything in the journal is durable: nothing may be left to
    /// depend on what lies before.
    #[must_use]
    pub fn coming_start(&self) -> Offset {
        self.coming_start
    }

    /// The high watermark: readers see what lies below.
    #[must_use]
    pub fn visible(&self) -> Offset {
        self.visible
    }

    /// Where readers of ended transactions stop.
    #[must_use]
    pub fn stable(&self) -> Offset {
        self.producers.last_stable_offset(self.visible)
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    #[must_use]
    pub fn open_segment(&self) -> &Segment {
        self.segments.last().expect("there is always an open segment")
    }

    pub fn open_segment_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("there is always an open segment")
    }

    /// Decides what becomes of a validated batch.
    ///
    /// # Errors
    /// When its producer must not write it.
    pub fn plan(
        &self,
        accepted: &Accepted,
        verified: bool,
        now_ms: i64,
    ) -> Result<Plan, ProducerRefusal> {
        if let Some(stamp) = accepted.producer {
            let append = ClientAppend { stamp, verified, strict_start: false };
            if let Verdict::Duplicate(written) = self.producers.check(&append)? {
                let (base, last) = (written.base, written.last);
                return Ok(Plan::Duplicate { base, last, timestamp: written.timestamp });
            }
        }
        Ok(Plan::Append { base: self.end, roll: self.must_roll(accepted, now_ms) })
    }

    fn must_roll(&self, accepted: &Accepted, now_ms: i64) -> bool {
        let open = self.open_segment();
        if open.is_empty() {
            return false;
        }
        let bytes = open.len() + accepted.bytes as u64;
        let last = self.end.advance(accepted.records).distance_from(open.base);
        let timestamp = if accepted.max_timestamp < 0 { now_ms } else { accepted.max_timestamp };
        let age = open.first_timestamp.map_or(0, |first| timestamp.saturating_sub(first));
        let too_old = 0 < age && self.time_of(open.base) < age;
        self.rules.segment_bytes < bytes || i64::from(i32::MAX) < last || too_old
    }

    /// The age at which a segment is closed. What was written at once is not closed at once: each
    /// segment has a time of its own, the same after a restart.
    fn time_of(&self, segment: Offset) -> i64 {
        let most = self.rules.segment_jitter_ms_max.min(self.rules.segment_ms);
        let Ok(most @ 1..) = u64::try_from(most) else { return self.rules.segment_ms };
        let id = u128::from_be_bytes(self.of.topic.0);
        let place = [(id >> 64) as u64, self.of.partition.0 as u64, segment.0 as u64];
        let drawn = place.iter().fold(id as u64, |drawn, it| {
            // The last steps of splitmix64: whatever differs a little comes out far apart.
            let mixed = (drawn ^ it).wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ mixed >> 31
        });
        self.rules.segment_ms - i64::try_from(drawn % most).expect("less than it came from")
    }

    /// Closes the open segment and begins one at the end of the log.
    pub fn roll(&mut self) {
        self.version += 1;
        self.open_segment_mut().sealed = true;
        self.segments.push(indexed_segment(self.of, self.end));
    }

    /// Puts a batch, whose header has its offset and epoch already, at the end. `crc` is the checksum
    /// of all of its bytes.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing is changed then.
    pub fn append(
        &mut self,
        pool: &Pool,
        bytes: &[u8],
        crc: u32,
        accepted: &Accepted,
        now_ms: i64,
    ) -> Result<Placed, NoMemory> {
        let base = self.end;
        let end = base.advance(accepted.records);
        let facts = BatchFacts {
            base,
            end,
            max_timestamp: accepted.max_timestamp,
            max_timestamp_offset: base.advance(accepted.max_timestamp_delta),
        };
        let interval = self.rules.index_interval_bytes;
        let open = self.open_segment_mut();
        let position = u32::try_from(open.len()).expect("segments stay below 4 GiB");
        open.append(pool, bytes, crc, &facts, interval)?;
        self.version += 1;
        let open = self.open_segment_mut();
        let segment = open.base;
        if let Some(stamp) = accepted.producer {
            let last = Offset(end.0 - 1);
            self.producers.appended(&stamp, base, last, accepted.max_timestamp, now_ms);
        }
        self.end = end;
        Ok(Placed { base, end, segment, position })
    }

    /// Shows readers everything below `to`.
    pub fn show(&mut self, to: Offset) {
        assert!(to <= self.end, "what was not appended cannot be seen: {to:?} > {:?}", self.end);
        if self.visible < to {
            self.visible = to;
            self.producers.on_high_watermark(to);
            // The answers to writers leave before the work for readers begins.
            self.changed.notify_later();
        }
    }

    /// A commit is durable that reached `to`, and moved the start to `start` or not at all.
    pub fn reached(&mut self, commit: Commit, to: Offset, start: Option<Offset>) {
        if self.cut_by <= commit {
            self.show(to);
        }
        if let Some(start) = start {
            self.show_start(start);
        }
    }

    /// What says durably that the log was cut back, the last time.
    #[must_use]
    pub fn cut_by(&self) -> Commit {
        self.cut_by
    }

    /// Cuts the log back to `end`, within the segment that takes the place of the one with its
    /// base; `producers` is what a replay up to there tells. Gives the segments that are gone.
    pub fn cut_back(
        &mut self,
        end: Offset,
        last: Segment,
        producers: Producers,
        commit: Commit,
    ) -> Vec<Offset> {
        assert!(self.coming_start <= end && end <= self.end, "a cut goes back, within the log");
        let kept = self.segments.partition_point(|it| it.base < last.base);
        let gone = self.segments.drain(kept..).map(|it| it.base).filter(|it| *it != last.base);
        let gone = gone.collect();
        self.segments.push(last);
        self.end = end;
        self.visible = self.visible.min(end);
        self.epochs.truncate_end(end);
        self.producers = producers;
        self.producers.forget_aborted(self.log_start);
        self.producers.on_high_watermark(self.visible);
        self.cut_by = commit;
        self.cuts += 1;
        self.version += 1;
        self.changed.notify();
        self.check();
        gone
    }

    /// Moves the start of the log forward; readers see it once it is durable (LOG-5). Says whether
    /// it moves.
    pub fn start_at(&mut self, start: Offset) -> bool {
        assert!(start <= self.visible, "the start stays below the high watermark");
        if start <= self.coming_start {
            return false;
        }
        self.coming_start = start;
        self.version += 1;
        true
    }

    /// A move of the start is durable.
    pub fn show_start(&mut self, start: Offset) {
        assert!(start <= self.coming_start, "LOG-5: it was asked for");
        if start <= self.log_start {
            return;
        }
        self.log_start = start;
        self.epochs.truncate_start(start);
        self.producers.forget_aborted(start);
        self.changed.notify();
    }

    /// Where the whole batches from `from` on are, below `limit`.
    ///
    /// # Errors
    /// [`OutOfRange`] when the log does not have the offset and will not get it next.
    pub fn plan_read(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<ReadPlan, OutOfRange> {
        if from < self.log_start || self.end < from {
            return Err(OutOfRange { log_start: self.log_start, end: self.end });
        }
        if limit <= from {
            return Ok(ReadPlan::Empty);
        }
        let segment = self.segment_of(from);
        match segment.in_memory(from, limit, bytes_max, at_least_one) {
            Some(slices) if slices.is_empty() => Ok(ReadPlan::Empty),
            Some(slices) => Ok(ReadPlan::Memory(slices)),
            None => Ok(ReadPlan::Segment { base: segment.base }),
        }
    }

    /// The segment that holds `offset`.
    #[must_use]
    pub fn segment_of(&self, offset: Offset) -> &Segment {
        let after = self.segments.partition_point(|it| it.base <= offset);
        &self.segments[after.saturating_sub(1)]
    }

    pub fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|it| it.base == base)
    }

    #[must_use]
    pub fn segment(&self, base: Offset) -> Option<&Segment> {
        self.segments.iter().find(|it| it.base == base)
    }

    /// The offset after the last one of a segment.
    #[must_use]
    pub fn end_of(&self, base: Offset) -> Option<Offset> {
        let at = self.segments.iter().position(|it| it.base == base)?;
        Some(self.segments.get(at + 1).map_or(self.end, |it| it.base))
    }

    /// Transactions taken back that a reader of this range must skip.
    pub fn aborted(&self, from: Offset, below: Offset) -> impl Iterator<Item = &Aborted> {
        self.producers.aborted(from, below)
    }

    /// Where records of epoch `asked` end: Kafka's answer to followers and careful consumers.
    #[must_use]
    pub fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(asked, self.end)
    }

    /// The invariants, after every change in tests and at recovery.
    pub fn check(&self) {
        assert!(self.log_start <= self.coming_start && self.coming_start <= self.visible, "LOG-1");
        assert!(self.visible <= self.end, "LOG-1");
        assert!(self.segments.iter().rev().skip(1).all(|it| it.sealed), "LOG-2");
        assert!(!self.open_segment().sealed, "LOG-2");
        let ordered = self.segments.windows(2).all(|it| it[0].base < it[1].base);
        assert!(ordered, "LOG-1: segments are in order");
    }
}

/// An empty segment that collects its index.
pub(super) fn indexed_segment(of: TopicPartition, base: Offset) -> Segment {
    let mut segment = Segment::new(base);
    segment.index_from_start(of);
    segment
}

//! The log of one lane, for those who append to it and read from it.
//!
//! An append is one synchronous step: validate, decide, copy into the tail, copy into the journal's
//! open frame. It takes effect at once, in the order of calls; only its durability is waited for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use corelane_core::buf::Slice;
use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::metrics::{Counter, Metrics};
use corelane_core::ring::{Errno, FileRange};
use corelane_core::sync::{Event, Queue};

use super::ahead::{Ahead, Spot};
use super::journal::{Commit, Journal, JournalRefusal};
use super::line::Line;
use super::long::Long;
use super::mutant::Mutant;
use super::pace::Gate;
use super::partition::{LogRules, OutOfRange, Partition, Plan, ReadPlan};
use super::upkeep::{Keep, UpkeepRules, claim_of};
use super::warm::Given;
use crate::batch::{Batch, BatchMut, HEADER_BYTES};
use crate::extent::Parts;
use crate::frame::{Body, ENTRY_HEADER_BYTES, Entry, EntryHead};
use crate::producers::{Aborted, ProducerRefusal};
use crate::validate::{Accepted, AppendRefusal, Examination, Scratch};

/// Segments waiting to be written out whole.
const SEALED_WAITING_MAX: usize = 1 << 16;

#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data directory, shared by all lanes.
    pub data: PathBuf,
    /// What one batch may unfold to.
    pub unfold_bytes_max: usize,
}

/// A handle to the lane's log.
#[derive(Clone)]
pub struct Store(pub(super) Rc<Inner>);

/// A partition, shared by those who work on it. Never borrowed across an await.
pub type Shared = Rc<RefCell<Partition>>;

pub(super) struct Inner {
    pub(super) upkeep_rules: UpkeepRules,
    pub(super) keep: Keep,
    pub(super) lane: Lane,
    pub(super) config: StoreConfig,
    pub(super) journal: Journal,
    pub(super) partitions: RefCell<BTreeMap<TopicPartition, Shared>>,
    pub(super) sealed: Queue<(TopicPartition, Offset)>,
    pub(super) upkeep: Event,
    pub(super) line: Line,
    pub(super) long: Long,
    pub(super) ahead: Ahead,
    pub(super) gate: Rc<Gate>,
    scratch: RefCell<Scratch>,
    pub(super) counts: Counts,
}

pub(super) struct Counts {
    batches: Counter,
    bytes: Counter,
    /// Read whole for their checksum when they were appended.
    summed: Counter,
    duplicates: Counter,
    cold_reads: Counter,
    /// Begun before anybody asked, and of those asked for.
    pub(super) ahead_reads: Counter,
    pub(super) ahead_taken: Counter,
    /// Given as a part of a file, brought into the page cache and verified, and gone from it.
    pub(super) warm_reads: Counter,
    pub(super) warm_verified: Counter,
    pub(super) warm_lost: Counter,
    /// Bytes read for their checksum there.
    pub(super) warm_summed: Counter,
}

/// Why an append is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendError {
    /// The partition is not on this lane.
    NotHere,
    /// The partition is damaged.
    Offline,
    Refused(AppendRefusal),
    Producer(ProducerRefusal),
    /// Memory or journal are used up for now.
    Overloaded,
    /// They were used up for as long as it was to wait.
    TimedOut,
    /// The disk has no room for it. Reads and deletes go on.
    NoSpace,
    /// The directory is fenced after an error of the disk.
    Failed(Errno),
}

impl From<AppendRefusal> for AppendError {
    fn from(refusal: AppendRefusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An append that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base: Offset,
    pub end: Offset,
    /// Set when the broker stamped the records.
    pub log_append_ms: Option<i64>,
    pub log_start: Offset,
    /// Wait for this before promising anything.
    pub commit: Commit,
    pub duplicate: bool,
}

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUpTo {
    /// Everything durable.
    Visible,
    /// Everything whose transaction has ended.
    Stable,
    /// Everything appended: followers.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadWant {
    pub from: Offset,
    pub up_to: ReadUpTo,
    pub bytes_max: usize,
    /// Give the first batch even if it is larger.
    pub at_least_one: bool,
    /// From this size on, a part of a file is as welcome as memory.
    pub file_bytes_min: usize,
}

impl ReadWant {
    /// For [`Self::file_bytes_min`]: memory only.
    pub const NO_FILES: usize = usize::MAX;
}

/// What a reader gets, and where the log stands.
#[derive(Debug)]
pub struct ReadDone {
    pub slices: Vec<Slice>,
    /// Instead of slices, for who wants parts of files.
    pub file: Option<FileRange>,
    pub bytes: usize,
    pub visible: Offset,
    pub stable: Offset,
    pub log_start: Offset,
    /// Transactions the reader must skip; filled only when it reads up to the stable offset.
    pub aborted: Vec<Aborted>,
    /// What the reader has is another log from here on: the last epoch that both may know, and its end.
    /// Nothing is read then.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    NotHere,
    /// The partition is damaged.
    Offline,
    OutOfRange(OutOfRange),
    /// No memory for the read now.
    Overloaded,
    /// Bytes on disk are not what was written.
    Corrupt {
        path: PathBuf,
        position: u64,
    },
    Failed(Errno),
}

impl Store {
    #[must_use]
    pub fn new(lane: &Lane, config: StoreConfig, journal: Journal, metrics: &Metrics) -> Self {
        Self::with_rules(lane, config, journal, UpkeepRules::default(), metrics)
    }

    pub(super) fn with_rules(
        lane: &Lane,
        config: StoreConfig,
        journal: Journal,
        upkeep_rules: UpkeepRules,
        metrics: &Metrics,
    ) -> Self {
        let gate = Gate::new(lane, &journal, metrics);
        let unfold_bytes_max = config.unfold_bytes_max;
        let store = Self(Rc::new(Inner {
            lane: lane.clone(),
            gate,
            upkeep_rules,
            keep: Keep::new(lane, metrics),
            scratch: RefCell::new(Scratch::new(unfold_bytes_max)),
            config,
            journal,
            partitions: RefCell::default(),
            sealed: Queue::new(lane, SEALED_WAITING_MAX),
            upkeep: Event::new(lane),
            line: Line::new(lane, metrics),
            long: Long::new(lane, unfold_bytes_max, metrics),
            ahead: Ahead::default(),
            counts: Counts {
                batches: metrics.counter("log.batches"),
                bytes: metrics.counter("log.bytes"),
                summed: metrics.counter("log.summed_bytes"),
                duplicates: metrics.counter("log.duplicates"),
                cold_reads: metrics.counter("log.cold_reads"),
                ahead_reads: metrics.counter("log.ahead_reads"),
                ahead_taken: metrics.counter("log.ahead_taken"),
                warm_reads: metrics.counter("log.warm_reads"),
                warm_verified: metrics.counter("log.warm_verified"),
                warm_lost: metrics.counter("log.warm_lost"),
                warm_summed: metrics.counter("log.warm_summed_bytes"),
            },
        }));
        let weak = Rc::downgrade(&store.0);
        store.0.journal.on_durable(Rc::new(move |commit, reached| {
            let Some(inner) = weak.upgrade() else { return };
            let partitions = inner.partitions.borrow();
            for it in reached {
                if let Some(partition) = partitions.get(&it.of) {
                    partition.borrow_mut().reached(commit, it.end, it.start);
                    if it.start.is_some() {
                        inner.keep.started.borrow_mut().insert(it.of);
                    }
                }
            }
        }));
        store
    }

    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.0.lane
    }

    #[must_use]
    pub fn partition(&self, of: &TopicPartition) -> Option<Shared> {
        self.0.partitions.borrow().get(of).cloned()
    }

    /// All partitions of this lane, in the order of their ids.
    #[must_use]
    pub fn partitions(&self) -> Vec<Shared> {
        self.0.partitions.borrow().values().cloned().collect()
    }

    /// Takes a partition in that exists on disk already.
    pub fn adopt(&self, partition: Partition) -> Shared {
        let of = partition.of;
        if 1 < partition.segments.len() {
            self.0.keep.started.borrow_mut().insert(of);
        }
        let shared = Rc::new(RefCell::new(partition));
        let old = self.0.partitions.borrow_mut().insert(of, Rc::clone(&shared));
        assert!(old.is_none(), "a partition lives on one lane, once: {of}");
        shared
    }

    /// Creates a partition. It exists for good once the commit is durable. Creating one that is
    /// here already changes nothing.
    ///
    /// # Errors
    /// When the journal cannot take it now.
    pub fn create(
        &self,
        of: TopicPartition,
        name: &str,
        rules: LogRules,
    ) -> Result<Commit, AppendError> {
        if self.partition(&of).is_some() {
            return Ok(self.0.journal.latest());
        }
        self.admit(ENTRY_HEADER_BYTES + name.len())?;
        let changed = Event::new(&self.0.lane);
        let partition = Partition::new(of, name.to_owned(), rules, changed);
        let head = head_of(&partition, Offset(0), Offset(0), Offset(0), 0);
        self.adopt(partition);
        Ok(self.0.journal.push(&Entry { head, body: Body::Create { name } }, None))
    }

    /// Puts a client's batch at the end of a partition. `bytes` may be patched in place.
    ///
    /// # Errors
    /// When it is refused; nothing was changed then.
    pub fn append(
        &self,
        of: &TopicPartition,
        bytes: &mut [u8],
        verified: bool,
    ) -> Result<Appended, AppendError> {
        let done = self.append_within(of, bytes, verified, usize::MAX);
        done.expect("no batch takes that long")
    }

    /// As [`Self::append`], unless a look at the batch takes more than so many units of work. Nothing was
    /// changed then.
    pub(super) fn append_within(
        &self,
        of: &TopicPartition,
        bytes: &mut [u8],
        verified: bool,
        units: usize,
    ) -> Option<Result<Appended, AppendError>> {
        let shared = match self.writable(of) {
            Ok(shared) => shared,
            Err(error) => return Some(Err(error)),
        };
        let mut partition = shared.borrow_mut();
        let mut scratch = self.0.scratch.borrow_mut();
        let (rules, now_ms) = (&partition.rules.append, self.0.lane.wall().0);
        let came_with = bytes.first_chunk::<HEADER_BYTES>().copied();
        let mut look = || {
            let mut examination = Examination::begin(rules, now_ms, bytes, &mut scratch)?;
            if examination.step(rules, bytes, &mut scratch, units)? {
                examination.finish(rules, bytes, &mut scratch).map(Some)
            } else {
                Ok(None)
            }
        };
        let accepted = match look() {
            Ok(accepted) => accepted?,
            Err(refusal) => return Some(Err(AppendError::Refused(refusal))),
        };
        let batch =
            if accepted.replaced { scratch.replaced() } else { &mut bytes[..accepted.bytes] };
        let done = self.place(&shared, &mut partition, batch, &accepted, verified);
        if let (Err(AppendError::Overloaded), Some(header)) = (&done, came_with) {
            // It comes again, and must look as it did: what the log stamps is refused from clients.
            bytes[..HEADER_BYTES].copy_from_slice(&header);
        }
        Some(done)
    }

    /// A partition that takes appends.
    pub(super) fn writable(&self, of: &TopicPartition) -> Result<Shared, AppendError> {
        let shared = self.partition(of).ok_or(AppendError::NotHere)?;
        let offline = shared.borrow().damage.is_some();
        if offline { Err(AppendError::Offline) } else { Ok(shared) }
    }

    /// Puts a batch that was found to be good, or what took its place, at the end of its partition.
    pub(super) fn place(
        &self,
        shared: &Shared,
        partition: &mut Partition,
        batch: &mut [u8],
        accepted: &Accepted,
        verified: bool,
    ) -> Result<Appended, AppendError> {
        let now_ms = self.0.lane.wall().0;
        self.0.counts.summed.add(accepted.bytes as u64);
        let plan = partition.plan(accepted, verified, now_ms).map_err(AppendError::Producer)?;
        let log_start = partition.log_start();
        let stamped = partition.rules.append.log_append_time.then_some(accepted.max_timestamp);
        let (base, roll) = match plan {
            Plan::Duplicate { last, .. } if self.forgets(partition, accepted, last) => {
                let refusal = ProducerRefusal::Sequence { expected: -1, found: -1 };
                return Err(AppendError::Producer(refusal));
            }
            Plan::Duplicate { base, last, timestamp } => {
                self.0.counts.duplicates.add(1);
                let end = last.advance(1);
                let log_append_ms = stamped.map(|_| timestamp);
                let commit = self.0.journal.latest();
                return Ok(Appended {
                    base,
                    end,
                    log_append_ms,
                    log_start,
                    commit,
                    duplicate: true,
                });
            }
            Plan::Append { base, roll } => (base, roll),
        };
        let claim = claim_of(partition.open_segment(), batch.len());
        if !self.has_space(claim) {
            self.0.keep.refused.set(self.0.keep.refused.get() + 1);
            self.doubt_space();
            return Err(AppendError::NoSpace);
        }
        if partition.cutting {
            return Err(AppendError::Overloaded);
        }
        let parts = if roll { None } else { self.goes_straight(partition, batch.len()) };
        let in_journal = parts.map_or(batch.len(), |_| Parts::journal_bytes_max());
        self.admit(2 * ENTRY_HEADER_BYTES + in_journal)?;
        if roll {
            self.roll(partition);
        }
        let mut patched = BatchMut::first(batch).expect("it was just validated");
        patched.assign(base, partition.leader_epoch);
        let known_crc = patched.view().whole_crc();
        let placed = partition
            .append(self.0.lane.pool(), batch, known_crc, accepted, now_ms)
            .map_err(|_| AppendError::Overloaded)?;
        self.claim(claim);
        self.note_appended(partition, batch.len());
        if partition.open_segment().first_timestamp.is_none() {
            self.ask_age(partition.of);
        }
        let end = placed.end;
        let head = head_of(partition, base, end, placed.segment, placed.position);
        let commit = match parts {
            Some(parts) => self.push_extent(shared, partition, head, parts, batch, known_crc),
            None => {
                let body = Body::Data { bytes: batch };
                self.0.journal.push(&Entry { head, body }, Some(known_crc))
            }
        };
        if partition.rules.from_memory {
            partition.show(end);
        }
        self.0.counts.batches.add(1);
        self.0.counts.bytes.add(batch.len() as u64);
        Ok(Appended { base, end, log_append_ms: stamped, log_start, commit, duplicate: false })
    }

    /// The mistake of remembering only a producer's last batch.
    fn forgets(&self, partition: &Partition, accepted: &Accepted, last: Offset) -> bool {
        self.0.journal.config().broken == Some(Mutant::DedupWindowOfOne)
            && partition.producers.describe().any(|it| {
                let ours = accepted.producer.filter(|stamp| stamp.id == it.id);
                ours.is_some_and(|ours| it.last_sequence != Some(ours.last_sequence))
                    && last < partition.end()
            })
    }

    /// Closes the open segment; its place in the journal's order is this moment.
    fn roll(&self, partition: &mut Partition) {
        let end = partition.end();
        let old = partition.open_segment();
        let (base, len) = (old.base, old.len());
        let position = u32::try_from(len).expect("segments stay below 4 GiB");
        let head = head_of(partition, end, end, base, position);
        self.0.journal.push(&Entry { head, body: Body::Roll }, None);
        partition.roll();
        self.0.keep.started.borrow_mut().insert(partition.of);
        if self.0.sealed.try_push((partition.of, base)).is_err() {
            // The queue is only a hint: upkeep looks at every segment when it retires a file.
            self.0.upkeep.notify();
        }
        self.0.upkeep.notify();
    }

    pub(super) fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        self.0.journal.admit(bytes).map_err(|it| match it {
            JournalRefusal::Full => AppendError::Overloaded,
            JournalRefusal::Failed(errno) => AppendError::Failed(errno),
        })
    }

    /// Waits until an append is durable.
    ///
    /// # Errors
    /// When it never will be.
    pub async fn durable(&self, commit: Commit) -> Result<(), Errno> {
        self.0.journal.durable(commit).await
    }

    /// The commit that covers everything appended so far.
    #[must_use]
    pub fn latest(&self) -> Commit {
        self.0.journal.latest()
    }

    /// Reads whole batches. Memory answers at once; older bytes come from the segment's file.
    ///
    /// # Errors
    /// When there is nothing to read there, or the disk does not give it back whole.
    pub async fn read(&self, of: &TopicPartition, want: &ReadWant) -> Result<ReadDone, ReadError> {
        let shared = self.readable(of)?;
        self.reading(&shared, async || self.read_once(&shared, want).await).await
    }

    /// A partition that is here and online.
    ///
    /// # Errors
    /// When it is not.
    pub fn readable(&self, of: &TopicPartition) -> Result<Shared, ReadError> {
        let shared = self.partition(of).ok_or(ReadError::NotHere)?;
        let offline = shared.borrow().damage.is_some();
        if offline { Err(ReadError::Offline) } else { Ok(shared) }
    }

    async fn read_once(&self, shared: &Shared, want: &ReadWant) -> Result<ReadDone, ReadError> {
        let (plan, limit) = {
            let partition = shared.borrow();
            let limit = limit_of(&partition, want.up_to);
            let plan = partition.plan_read(want.from, limit, want.bytes_max, want.at_least_one);
            (plan.map_err(ReadError::OutOfRange)?, limit)
        };
        let mut file = None;
        let slices = match plan {
            ReadPlan::Empty => Vec::new(),
            ReadPlan::Memory(slices) => slices,
            ReadPlan::Segment { base } => {
                self.0.counts.cold_reads.add(1);
                match self.read_old(shared, base, limit, want).await? {
                    Some(Given::Memory(slice)) => vec![slice],
                    Some(Given::File(range)) => {
                        file = Some(range);
                        Vec::new()
                    }
                    None => Vec::new(),
                }
            }
        };
        let bytes = slices.iter().map(|it| it.len()).sum::<usize>()
            + file.as_ref().map_or(0, |it| it.bytes as usize);
        let partition = shared.borrow();
        let aborted = match want.up_to {
            ReadUpTo::Stable if 0 < bytes => partition.aborted(want.from, limit).copied().collect(),
            ReadUpTo::Stable | ReadUpTo::Visible | ReadUpTo::End => Vec::new(),
        };
        Ok(ReadDone {
            slices,
            file,
            bytes,
            visible: partition.visible(),
            stable: partition.stable(),
            log_start: partition.log_start(),
            aborted,
            diverging: None,
        })
    }

    /// Where to begin looking, once the segment knows where its batches are.
    pub(super) async fn cold_start(
        &self,
        shared: &Shared,
        base: Offset,
        from: Offset,
    ) -> Result<Spot, ReadError> {
        let known = shared.borrow().segment(base).is_none_or(|it| it.indexed);
        if !known {
            self.index_for_read(shared, base).await?;
        }
        let partition = shared.borrow();
        let signpost = partition.segment(base).ok_or(ReadError::NotHere)?.signpost(from);
        Ok(Spot { segment: base, position: signpost.position, offset: signpost.offset })
    }

    /// Moves the start of a partition's log forward, to `start` or to its high watermark. The new
    /// start is durable once the commit is, and readers see it then.
    ///
    /// # Errors
    /// When the log does not reach that far, or cannot take the entry now.
    pub fn delete_records(
        &self,
        of: &TopicPartition,
        start: Option<Offset>,
    ) -> Result<(Offset, Commit), DeleteRecordsError> {
        let shared = self.partition(of).ok_or(DeleteRecordsError::NotHere)?;
        let mut partition = shared.borrow_mut();
        if partition.damage.is_some() {
            return Err(DeleteRecordsError::Offline);
        }
        let visible = partition.visible();
        let start = start.unwrap_or(visible);
        if visible < start || start < Offset(0) {
            let range = OutOfRange { log_start: partition.log_start(), end: visible };
            return Err(DeleteRecordsError::OutOfRange(range));
        }
        self.admit(ENTRY_HEADER_BYTES).map_err(|it| match it {
            AppendError::Failed(errno) => DeleteRecordsError::Failed(errno),
            _ => DeleteRecordsError::Overloaded,
        })?;
        if partition.start_at(start) {
            let (end, open) = (partition.end(), partition.open_segment().base);
            let head = head_of(&partition, start, end, open, 0);
            self.0.journal.push(&Entry { head, body: Body::LogStart }, None);
            if self.0.journal.config().broken == Some(Mutant::StartBeforeDurable) {
                partition.show_start(start);
            }
        }
        Ok((partition.coming_start(), self.0.journal.latest()))
    }
}

/// Why records cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteRecordsError {
    NotHere,
    /// The partition is damaged.
    Offline,
    OutOfRange(OutOfRange),
    Overloaded,
    Failed(Errno),
}

pub(super) fn limit_of(partition: &Partition, up_to: ReadUpTo) -> Offset {
    match up_to {
        ReadUpTo::Visible => partition.visible(),
        ReadUpTo::Stable => partition.stable(),
        ReadUpTo::End => partition.end(),
    }
}

pub(super) fn head_of(
    partition: &Partition,
    base: Offset,
    end: Offset,
    segment: Offset,
    position: u32,
) -> EntryHead {
    EntryHead {
        of: partition.of,
        ownership: partition.ownership,
        leader_epoch: partition.leader_epoch,
        base,
        end,
        segment,
        position,
    }
}

/// The first whole batch of some bytes, if its checksum is right.
pub(super) fn verified(bytes: &[u8]) -> Option<Batch<'_>> {
    let (batch, _) = Batch::split(bytes).ok()?;
    (batch.crc() == batch.computed_crc()).then_some(batch)
}

//! What a lane does for its log besides appending: slots, retiring, sealing, memory, space.
//!
//! Two tasks look after the same things, one in the least important queue and one as important as
//! serving, which steps in when the journal is more than half full; a permit lets only one of them
//! work at a time. A third makes journal slots, so that those never wait for segment writes.
//!
//! SPACE-1: an append claims its place on the disk before it is taken, and is refused when there is none:
//! a full disk strands nothing that was acknowledged, and the next start fits beside it.
//! UPKEEP-1: one upkeep step at a time touches the files of a lane's segments.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::{Importance, Lane, race};
use corelane_core::metrics::{Counter, Gauge, Metrics};
use corelane_core::ring::{Errno, Fd, Space};
use corelane_core::sync::{Event, Permits};
use corelane_core::time::Nanos;

use super::boot::Notice;
use super::crowd;
use super::journal::Commit;
use super::leave::{Left, may_stay};
use super::relief::Relief;
use super::remove::Removal;
use super::segment::Segment;
use super::store::Store;
use crate::extent::ExtentRules;
use crate::frame::BLOCK_BYTES;

/// How often the upkeep looks around when nobody calls it.
const ROUND: Nanos = Nanos::millis(500);

/// Pause after something that could not be done for want of room or of a name.
pub(super) const PAUSE: Nanos = Nanos::millis(50);

/// When files of the journal are given back. Over few partitions early: there is little to read after a
/// crash then. Over many as late as clients allow: the later, the more of each goes to its segment at
/// once.
struct Due {
    /// How full the journal is, in eighths, when each partition has had enough of it.
    early: u64,
    /// The share of the files, as a divisor, that clients may still fill, however little that was.
    late: usize,
}

/// In the background, and as important as serving.
const RETIRE: Due = Due { early: 3, late: 8 };
const HURRY: Due = Due { early: 4, late: 16 };

/// What each partition had of the journal, on average, for it to be enough.
const ENOUGH_BYTES: u64 = 64 << 10;

/// A segment's ragged blocks, its index, a folder for it, and what says whose it is.
const NAMES_BYTES: u64 = 32 << 10;

/// Notices that wait to be taken at most; older ones are dropped first.
const NOTICES_MAX: usize = 1024;

/// Between two looks for producers that are silent.
const EXPIRY_ROUND: Nanos = Nanos::secs(60);

/// A producer's silence, until somebody says otherwise.
const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

/// The share of a disk, as a divisor, that appends leave free where that is less than they should.
const RESERVE_SHARE: u64 = 20;

/// When the upkeep does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepRules {
    /// A partition with at least so many bytes of whole blocks pending writes them to its segment
    /// when a journal file is retired; others are carried.
    pub segment_write_bytes_min: u64,
    /// Descriptors of segments kept open.
    pub open_files_max: usize,
    /// Free bytes of the disk below which appends are refused, beside what is dirty. At most a
    /// twentieth of the disk, and at least what the next start writes before it gives anything back.
    pub space_reserve_bytes: u64,
    /// Lanes that write to the same disk: each admits its share of what is free.
    pub lanes: u16,
    /// Memory in use above which what is on disk is forgotten, oldest first. At most half of the
    /// lane's memory.
    pub memory_bytes_max: usize,
    pub extents: ExtentRules,
    /// A clean stop takes so long, at most, for what Kafka's tools want.
    pub leave_within: Nanos,
}

impl Default for UpkeepRules {
    fn default() -> Self {
        Self {
            segment_write_bytes_min: 16 * 1024,
            open_files_max: 512,
            space_reserve_bytes: 64 << 20,
            lanes: 1,
            memory_bytes_max: usize::MAX,
            extents: ExtentRules::default(),
            leave_within: Nanos::secs(5),
        }
    }
}

impl UpkeepRules {
    /// What appends leave free on a disk of this size.
    pub(super) fn reserve_bytes(&self, disk_bytes: u64, slot_bytes: u64) -> u64 {
        let start = 2 * slot_bytes * u64::from(self.lanes.max(1));
        self.space_reserve_bytes.min(disk_bytes / RESERVE_SHARE).max(start)
    }
}

/// What the upkeep remembers.
pub(super) struct Keep {
    /// UPKEEP-1.
    pub(super) work: Permits,
    /// The disk is full, or nearly so.
    pub(super) no_space: Cell<bool>,
    /// Appends refused for want of room, ever.
    pub(super) refused: Cell<u64>,
    /// SPACE-1: bytes of the disk that appends may still claim before somebody looks again.
    pub(super) space_left: Cell<u64>,
    /// Of those, as they were at the last look.
    space_seen: Cell<u64>,
    /// A partition went offline that no list on disk names.
    pub(super) unlisted: Cell<bool>,
    pub(super) removals: RefCell<VecDeque<Removal>>,
    /// Segments with an open file, the one opened longest ago first.
    pub(super) open_files: RefCell<VecDeque<(TopicPartition, Offset)>>,
    pub(super) notices: RefCell<VecDeque<Notice>>,
    pub(super) stopped: Cell<bool>,
    /// Partitions whose open segment wants room for large appends.
    pub(super) rooms: RefCell<BTreeSet<TopicPartition>>,
    pub(super) room: Event,
    /// Partitions whose open segment took a batch and does not know its age.
    pub(super) ageless: RefCell<BTreeSet<TopicPartition>>,
    /// Somebody's turn to write to a segment is over.
    pub(super) wrote: Event,
    /// Bytes in segments that only journal entries tell of.
    pub(super) untold_bytes: Cell<u64>,
    /// The journal file up to which the last checkpoint needs none.
    pub(super) given_up: Cell<u64>,
    sections: Cell<u64>,
    pub(super) relief: Relief,
    /// Where bytes are put together that are carried.
    pub(super) carrying: RefCell<Vec<u8>>,
    /// Partitions of which segments may lie below the log's start.
    pub(super) started: RefCell<BTreeSet<TopicPartition>>,
    /// When it was last looked how much room there is on the disk, and for silent producers.
    space_looked: Cell<Option<Nanos>>,
    expiry_looked: Cell<Nanos>,
    /// After so long a silence a partition forgets a producer.
    producer_expiry_ms: Cell<i64>,
    pub(super) counts: KeepCounts,
}

pub(super) struct KeepCounts {
    pub(super) checkpoints: Counter,
    pub(super) checkpoint_bytes: Counter,
    pub(super) carried: Counter,
    pub(super) segment_writes: Counter,
    pub(super) segment_bytes: Counter,
    pub(super) flushes: Counter,
    pub(super) retired: Counter,
    /// Journal files allowed beyond what was set.
    pub(super) grown: Counter,
    pub(super) sealed: Counter,
    pub(super) extents: Counter,
    pub(super) extent_bytes: Counter,
    /// Partitions that a clean stop wrote out.
    pub(super) left: Counter,
    no_space: Gauge,
}

impl Keep {
    pub(super) fn new(lane: &Lane, metrics: &Metrics) -> Self {
        Self {
            work: Permits::new(lane, 1),
            no_space: Cell::new(false),
            refused: Cell::new(0),
            // Until the disk is asked, which opening a log does first of all.
            space_left: Cell::new(u64::MAX),
            space_seen: Cell::new(u64::MAX),
            unlisted: Cell::new(false),
            removals: RefCell::default(),
            open_files: RefCell::default(),
            notices: RefCell::default(),
            stopped: Cell::new(false),
            rooms: RefCell::default(),
            room: Event::new(lane),
            ageless: RefCell::default(),
            wrote: Event::new(lane),
            untold_bytes: Cell::new(0),
            given_up: Cell::new(0),
            sections: Cell::new(0),
            relief: Relief::default(),
            carrying: RefCell::default(),
            started: RefCell::default(),
            space_looked: Cell::new(None),
            expiry_looked: Cell::new(lane.now()),
            producer_expiry_ms: Cell::new(PRODUCER_EXPIRY_MS),
            counts: KeepCounts {
                checkpoints: metrics.counter("log.checkpoints"),
                checkpoint_bytes: metrics.counter("log.checkpoint_bytes"),
                carried: metrics.counter("log.carried_bytes"),
                segment_writes: metrics.counter("log.segment_writes"),
                segment_bytes: metrics.counter("log.segment_bytes"),
                flushes: metrics.counter("log.flushes"),
                retired: metrics.counter("journal.files_retired"),
                grown: metrics.counter("journal.files_grown"),
                sealed: metrics.counter("log.segments_sealed"),
                extents: metrics.counter("log.extents"),
                extent_bytes: metrics.counter("log.extent_bytes"),
                left: metrics.counter("log.left"),
                no_space: metrics.gauge("log.no_space"),
            },
        }
    }

    pub(super) fn next_section(&self) -> u64 {
        self.sections.set(self.sections.get() + 1);
        self.sections.get()
    }

    /// Segments to be taken away; `readers` may still be reading from their files.
    pub(super) fn drop_later(
        &self,
        of: TopicPartition,
        bases: Vec<Offset>,
        commit: Commit,
        readers: Vec<Fd>,
    ) {
        if !bases.is_empty() {
            self.removals.borrow_mut().push_back(Removal::Segments { of, bases, commit, readers });
        }
    }

    pub(super) fn tell(&self, notice: Notice) {
        let mut notices = self.notices.borrow_mut();
        if notices.len() == NOTICES_MAX {
            notices.pop_front();
        }
        notices.push_back(notice);
    }
}

impl Store {
    /// What the log would like to have said since this was asked before.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        self.0.keep.notices.borrow_mut().drain(..).collect()
    }

    /// Waits until the directory is fenced, and says why. The process should end then.
    pub async fn fenced(&self) -> Errno {
        self.0.journal.fenced().await
    }

    /// Whether appends are refused for want of room.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.0.keep.no_space.get()
    }

    /// How many appends were refused for want of room.
    #[must_use]
    pub fn refused_for_space(&self) -> u64 {
        self.0.keep.refused.get()
    }

    /// Ends in order: what was appended is durable, the segments have it for whoever reads them, and
    /// the checkpoint says everything. Nothing is taken any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn close(&self) -> Result<Vec<Left>, Errno> {
        self.0.keep.stopped.set(true);
        self.0.upkeep.notify();
        self.0.keep.room.notify();
        let all = self.partitions();
        all.iter().for_each(|it| it.borrow_mut().cutting = true);
        self.0.journal.durable(self.0.journal.latest()).await?;
        let _alone = self.0.keep.work.take(1).await;
        self.list_damages().await?;
        match self.remove_some().await {
            // What is on its way out of the directory may stay until the next start.
            Err(errno) if !may_stay(errno) => return Err(errno),
            Ok(()) | Err(_) => {}
        }
        let left = self.leave(&all).await?;
        self.checkpoint(0).await?;
        Ok(left)
    }

    pub(super) fn start_upkeep(&self) {
        for importance in [Importance::Background, Importance::Serving] {
            let store = self.clone();
            self.0.lane.spawn("log upkeep", importance, async move {
                store.look_after(importance).await;
            });
        }
        self.start_line();
        let rooms = self.clone();
        self.0.lane.spawn("log room", Importance::Serving, async move { rooms.make_rooms().await });
    }

    /// Makes journal slots whenever they run short.
    pub(super) async fn feed(self) {
        loop {
            let seen = self.0.journal.hungry().seen();
            if self.0.journal.failed().is_some() {
                return;
            }
            match self.0.journal.feed().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(Errno::NOSPC) => {
                    self.set_no_space(true);
                    self.0.lane.sleep(PAUSE).await;
                    continue;
                }
                Err(errno) => {
                    self.0.journal.fence(errno);
                    return;
                }
            }
            // Nobody waits for slots while the upkeep has work to do first.
            self.0.journal.hungry().past(seen).await;
        }
    }

    async fn look_after(self, importance: Importance) {
        loop {
            let seen = self.0.upkeep.seen();
            let hungry = self.0.journal.hungry().seen();
            if self.0.keep.stopped.get() || self.0.journal.failed().is_some() {
                return;
            }
            let done = match importance {
                Importance::Serving => self.hurry().await,
                _ => self.one_round().await,
            };
            match done {
                Ok(true) => continue,
                Ok(false) => {}
                Err(Errno::NOSPC) => {
                    self.set_no_space(true);
                    self.0.lane.sleep(PAUSE).await;
                }
                // A name is taken by a partition that is on its way out, or memory is short.
                Err(Errno::EXIST | Errno::NOMEM | Errno::MFILE) => {
                    self.0.lane.sleep(PAUSE).await;
                }
                Err(errno) => {
                    self.0.journal.fence(errno);
                    return;
                }
            }
            let called = race(self.0.upkeep.past(seen), self.0.journal.hungry().past(hungry));
            let until = self.0.lane.now() + ROUND;
            // The time being over is as good a reason as any.
            let _either = self.0.lane.until(until, called).await;
        }
    }

    fn is_due(&self, due: &Due) -> bool {
        let (used, limit) = self.0.journal.fill();
        let is_enough = ENOUGH_BYTES * self.0.partitions.borrow().len() as u64 <= used;
        let is_early = limit * due.early < used * 8;
        is_early && is_enough || self.0.journal.is_nearly_full(due.late)
    }

    /// Steps in when the upkeep in the background does not keep up.
    async fn hurry(&self) -> Result<bool, Errno> {
        if !self.is_due(&HURRY) {
            return Ok(false);
        }
        let _alone = self.0.keep.work.take(1).await;
        if self.is_due(&HURRY) { self.retire().await } else { Ok(false) }
    }

    /// Says whether there may be more to do at once.
    async fn one_round(&self) -> Result<bool, Errno> {
        let _alone = self.0.keep.work.take(1).await;
        // First what makes room: it must go on when there is none.
        self.remove_some().await?;
        self.list_damages().await?;
        if self.is_space_doubtful() {
            self.look_at_space().await?;
        }
        self.finish_sealed().await?;
        self.0.ahead.forget_old(self.0.lane.now());
        self.learn_ages().await?;
        self.relieve_memory().await?;
        let now = self.0.lane.now();
        if EXPIRY_ROUND <= now.since(self.0.keep.expiry_looked.get()) {
            self.0.keep.expiry_looked.set(now);
            self.expire_producers().await;
        }
        if self.0.upkeep_rules.extents.untold_bytes_max < self.0.keep.untold_bytes.get() {
            self.checkpoint(self.0.keep.given_up.get()).await?;
        }
        if self.is_due(&RETIRE) { self.retire().await } else { Ok(false) }
    }

    /// From now on a partition forgets a producer that was silent for so long.
    pub fn expire_producers_after(&self, expiry_ms: i64) {
        self.0.keep.producer_expiry_ms.set(expiry_ms);
    }

    /// Writes out what was closed, a few partitions at a time.
    async fn finish_sealed(&self) -> Result<(), Errno> {
        let mut sealed = BTreeSet::new();
        while let Some(it) = self.0.sealed.try_pop() {
            sealed.insert(it);
        }
        let partitions: BTreeSet<_> = sealed.iter().map(|it| it.0).collect();
        let partitions = partitions.iter().filter_map(|of| self.partition(of));
        let done = crowd::each(partitions, |shared| async move { self.finish_all(&shared).await });
        let done = done.await;
        if done.is_err() {
            for it in sealed {
                // Later: nothing but the hint is lost.
                let _full = self.0.sealed.try_push(it);
            }
        }
        done
    }

    async fn expire_producers(&self) {
        let now_ms = self.0.lane.wall().0;
        for shared in self.partitions() {
            {
                let mut partition = shared.borrow_mut();
                let expiry_ms = self.0.keep.producer_expiry_ms.get();
                if 0 < partition.producers.expire(now_ms, expiry_ms) {
                    partition.version += 1;
                }
            }
            self.0.lane.spend(4096).await;
        }
    }

    pub(super) fn set_no_space(&self, full: bool) {
        self.0.keep.no_space.set(full);
        self.0.keep.counts.no_space.set(i64::from(full));
    }

    /// Whether it is time to look at the disk again: it costs a question to the kernel and a walk over all
    /// partitions.
    fn is_space_doubtful(&self) -> bool {
        let keep = &self.0.keep;
        let looked = keep.space_looked.get();
        keep.no_space.get()
            || keep.space_left.get() < keep.space_seen.get() / 2
            || looked.is_none_or(|it| ROUND <= self.0.lane.now().since(it))
    }

    /// There was less room than somebody wanted: the disk is asked again.
    pub(super) fn doubt_space(&self) {
        self.0.keep.space_looked.set(None);
        self.0.upkeep.notify();
    }

    /// Finds out how much appends may claim: this lane's share of what is free, less what was taken
    /// already and has no place yet.
    pub(super) async fn look_at_space(&self) -> Result<(), Errno> {
        let before = self.dirty_bytes();
        self.0.keep.space_looked.set(Some(self.0.lane.now()));
        let space = self.0.lane.space(&self.0.config.data).await?;
        // Something may be appended, and something written, while the disk is asked.
        let dirty = self.dirty_bytes().max(before);
        let free = space.free_bytes.saturating_sub(self.space_reserve(&space));
        let share = free / u64::from(self.0.upkeep_rules.lanes.max(1));
        let left = share.saturating_sub(dirty);
        self.0.keep.space_left.set(left);
        self.0.keep.space_seen.set(left);
        self.set_no_space(left == 0);
        Ok(())
    }

    pub(super) fn space_reserve(&self, space: &Space) -> u64 {
        let slot_bytes = self.0.journal.config().slot_bytes;
        self.0.upkeep_rules.reserve_bytes(space.total_bytes, slot_bytes)
    }

    /// What the disk must still take: of what is in memory, and of the journal as it grows.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let (mut dirty, mut plain) = (0, 0);
        for shared in self.0.partitions.borrow().values() {
            for it in shared.borrow().segments.iter().map(Segment::dirty_bytes).filter(|it| 0 < *it)
            {
                dirty += 2 * it.next_multiple_of(BLOCK_BYTES as u64) + NAMES_BYTES;
                plain += it;
            }
        }
        self.0.keep.relief.dirty_bytes.set(plain);
        dirty + self.0.journal.growth_bytes()
    }

    /// Whether an append fits into what may be claimed; [`Self::claim`] takes it.
    pub(super) fn has_space(&self, claim: u64) -> bool {
        !self.0.keep.no_space.get() && claim <= self.0.keep.space_left.get()
    }

    /// Takes a part of what may be claimed (SPACE-1). Half of it gone is a reason to look again.
    pub(super) fn claim(&self, bytes: u64) {
        let keep = &self.0.keep;
        let before = keep.space_left.get();
        let left = before.saturating_sub(bytes);
        keep.space_left.set(left);
        let half = keep.space_seen.get() / 2;
        if left < half && half <= before {
            self.0.upkeep.notify();
        }
    }
}

/// What so many bytes at the end of a segment claim: a place in its file, and one in the journal of the
/// next start, which is written before the old one goes. The first ones also name things.
pub(super) fn claim_of(segment: &Segment, bytes: usize) -> u64 {
    let names = if segment.dirty_bytes() == 0 { NAMES_BYTES } else { 0 };
    2 * bytes as u64 + names
}

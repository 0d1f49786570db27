//! The lane's journal: the only file the hot path makes durable.
//!
//! Entries are collected into an open frame; whenever a writer is free it seals the frame and
//! writes it with one durable write into blocks that were written before. What arrives meanwhile
//! joins the next frame, so the batch size follows the disk and no timer is involved. A few writes
//! may be in flight; durability is reported as a prefix of the sequence.
//!
//! Invariants:
//! - JNL-1: frames are sealed in sequence, each naming the checksum of the one before;
//! - JNL-2: `durable` never passes a frame that has not completed, nor goes back;
//! - JNL-3: after a failed write nothing is reported durable any more, for good;
//! - JNL-4: a slot is written again only after it was given back by [`Journal::retire`];
//! - JNL-5: a frame is sealed only once nothing holds it: bytes that its entries speak of and that
//!   lie elsewhere are durable then.
//!
//! Places: a journal is a folder of slots. A frame names the *file number* it was written under,
//! which only grows; which slot carries it does not matter.

mod slots;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use corelane_core::buf::{Buf, Slice};
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::{Importance, Lane, race};
use corelane_core::metrics::{Counter, Latency, Metrics};
use corelane_core::ring::{Errno, Fd, Sync};
use corelane_core::sync::Event;
use corelane_core::time::Nanos;

use super::mutant::{Mutant, Mutation};
use super::reaches::{Reach, Reaches};
use super::small;
use crate::frame::{
    BLOCK_BYTES, Body, ENTRY_HEADER_BYTES, Entry, FRAME_HEADER_BYTES, FrameEncoder, FrameHeader,
    FramePlace, JournalId,
};

/// Bytes of an ordinary frame at most. A larger entry gets a frame of its own.
const FRAME_BYTES: usize = 256 * 1024;

/// Bytes of a frame behind others that wait: the disk is behind, and fewer commits cost less.
const BUSY_FRAME_BYTES: usize = 1024 * 1024;

/// The share of a file, as a divisor, that such a frame may be: what does not fit at the end of one
/// stays empty.
const FRAME_SHARE: usize = 8;

/// Writes in flight at once.
const WRITERS: usize = 2;

/// Frames sealed or open at once; beyond it appends are told to wait.
const FRAMES_WAITING_MAX: usize = 64;

/// The share of the journal, as a divisor, that clients' records leave to what the node itself
/// writes: metadata, groups. A small journal has none to spare.
const SPARED_SHARE: usize = 16;

/// Bytes of frames that wait to be written beyond which clients wait, too: enough for the disk to be
/// busy while the lane does something else.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// The share of the journal, as a divisor, that only carried bytes may use: more than what is carried
/// when files are given back, which is at most half of a quarter of what is full.
const CARRIED_SHARE: usize = 8;

/// The share of the file being written, as a divisor, that may be full before the next slot is urgent.
const URGENT_SHARE: u64 = 2;

/// Without a commit for so long, nobody writes.
const CALM: Nanos = Nanos::secs(1);

/// The name of a journal's file.
pub(super) fn slot_name(number: usize) -> String {
    format!("slot-{number:05}.jnl")
}

/// Names one commit: everything appended up to it is durable once it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit(pub u64);

/// The journal cannot take this now; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalRefusal {
    /// Frames or memory are used up until a write completes.
    Full,
    /// A write or flush failed: the directory is fenced.
    Failed(Errno),
}

/// Called with what each commit reached.
pub type OnDurable = Rc<dyn Fn(Commit, &[Reached])>;

/// What a commit made durable for one partition.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    pub of: TopicPartition,
    pub end: Offset,
    /// Where the log starts from now on, if it was moved.
    pub start: Option<Offset>,
}

#[derive(Debug, Clone)]
pub struct JournalConfig {
    pub dir: PathBuf,
    pub id: JournalId,
    pub incarnation: u64,
    pub slot_bytes: u64,
    /// Slots that may exist at once, in all, unless [`Journal::grow`] allows more.
    pub slots_max: usize,
    /// What is written at once, before anything else: the slots it fills need no zeroes.
    pub carried_bytes: u64,
    /// For tests.
    pub broken: Mutation,
}

struct Frame {
    buf: Buf,
    encoder: FrameEncoder,
    notes: Notes,
}

/// What a frame is about. Used again for another frame once this one is durable.
#[derive(Default)]
struct Notes {
    reached: Vec<Reached>,
    /// What its file depends on.
    carries: Vec<Carries>,
    /// JNL-5: bytes elsewhere that are on their way.
    holds: Rc<Cell<u32>>,
}

/// Keeps a frame from being sealed until bytes that lie elsewhere are durable. One that is never
/// released keeps it for good: only a fence ends the wait then.
#[must_use = "a frame that is held is not written"]
pub struct Hold {
    holds: Rc<Cell<u32>>,
    journal: Journal,
}

impl Hold {
    /// The bytes are durable.
    pub fn release(self) {
        self.holds.set(self.holds.get() - 1);
        self.journal.0.work.notify();
    }
}

/// A frame has bytes of this segment, none at or beyond `to`.
struct Carries {
    of: TopicPartition,
    segment: Offset,
    to: u64,
}

struct Slot {
    file: Fd,
    bytes: u64,
}

/// A file number that frames were written under, and what has bytes in it.
struct Used {
    number: u64,
    carries: Reaches,
    begins: ChainStart,
    slot: Slot,
}

/// Where the walk along the frames begins after a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainStart {
    pub file: u64,
    /// The sequence and checksum of the last frame before this file.
    pub sequence: u64,
    pub checksum: u32,
}

struct State {
    open: Option<Frame>,
    waiting: VecDeque<Frame>,
    /// Slots whose content nobody needs.
    free: VecDeque<Slot>,
    used: VecDeque<Used>,
    last_number: u64,
    slots: usize,
    position: u64,
    sequence: u64,
    previous: u32,
    /// Bytes of a sealed frame that no free slot can take.
    wanted_bytes: u64,
    /// Slots made so far; the next one's name.
    made: usize,
    /// Frames that completed above `durable`.
    completed: Vec<(u64, Notes)>,
    /// Of frames that are over.
    spare: Vec<Notes>,
}

/// A handle to the lane's journal.
#[derive(Clone)]
pub struct Journal(Rc<Inner>);

struct Inner {
    lane: Lane,
    config: JournalConfig,
    /// Slots that may exist at once now.
    slots_max: Cell<usize>,
    state: RefCell<State>,
    durable: Cell<u64>,
    failed: Cell<Option<Errno>>,
    writing: Cell<u32>,
    /// When the last write ended.
    wrote: Cell<Option<Nanos>>,
    /// The first write to a block costs much more than later ones.
    dear: Cell<bool>,
    /// Something can be written, or a slot came back.
    work: Event,
    /// `durable` moved, or the journal failed.
    moved: Event,
    /// The journal wants slots made or given back.
    hungry: Event,
    on_durable: RefCell<Option<OnDurable>>,
    counts: Counts,
}

struct Counts {
    commits: Counter,
    entries: Counter,
    bytes: Counter,
    summed: Counter,
    latency: Latency,
}

impl Journal {
    /// Makes the folder and the first slot, and starts the writers.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn create(
        lane: &Lane,
        config: JournalConfig,
        metrics: &Metrics,
    ) -> Result<Self, Errno> {
        assert!(config.slot_bytes.is_multiple_of(BLOCK_BYTES as u64) && 1 < config.slots_max);
        lane.make_dir(&config.dir).await?;
        let state = State {
            open: None,
            waiting: VecDeque::new(),
            free: VecDeque::new(),
            used: VecDeque::new(),
            last_number: 0,
            slots: 0,
            position: 0,
            sequence: 0,
            previous: 0,
            wanted_bytes: 0,
            made: 0,
            completed: Vec::new(),
            spare: Vec::new(),
        };
        let journal = Self(Rc::new(Inner {
            lane: lane.clone(),
            slots_max: Cell::new(config.slots_max),
            state: RefCell::new(state),
            durable: Cell::new(0),
            failed: Cell::new(None),
            writing: Cell::new(0),
            wrote: Cell::new(None),
            dear: Cell::new(false),
            work: Event::new(lane),
            moved: Event::new(lane),
            hungry: Event::new(lane),
            on_durable: RefCell::default(),
            counts: Counts {
                commits: metrics.counter("journal.commits"),
                entries: metrics.counter("journal.entries"),
                bytes: metrics.counter("journal.bytes"),
                summed: metrics.counter("journal.summed_bytes"),
                latency: metrics.latency("journal.commit"),
            },
            config,
        }));
        journal.make_first_slots().await?;
        if let Some(parent) = journal.0.config.dir.parent() {
            small::flush_dir(lane, parent, journal.0.config.broken).await?;
        }
        for _ in 0..WRITERS {
            let writer = journal.clone();
            lane.spawn("journal writer", Importance::Serving, async move { writer.write().await });
        }
        Ok(journal)
    }

    /// Calls `told` with what each commit reached, in order.
    pub fn on_durable(&self, told: OnDurable) {
        *self.0.on_durable.borrow_mut() = Some(told);
    }

    /// Makes sure that entries of `bytes` in all can be pushed now.
    ///
    /// # Errors
    /// When they must wait, or never will be durable.
    pub fn admit(&self, bytes: usize) -> Result<(), JournalRefusal> {
        if let Some(errno) = self.0.failed.get() {
            return Err(JournalRefusal::Failed(errno));
        }
        if !self.has_room(bytes, 0) {
            self.0.hungry.notify();
            return Err(JournalRefusal::Full);
        }
        self.admit_kept(bytes)
    }

    /// Whether an append of `bytes` by a client would be let in now, without making it wait long
    /// for its commit: what cannot be written soon is better left where it came from.
    #[must_use]
    pub fn has_room_for_clients(&self, bytes: usize) -> bool {
        if FRAMES_WAITING_MAX <= self.0.state.borrow().waiting.len() {
            return false;
        }
        let queued = self.queued_bytes();
        // Nobody is told: whoever waits asks again and again, and files are given back without it.
        let spared = self.0.slots_max.get() / SPARED_SHARE;
        queued < QUEUED_BYTES_MAX && self.has_room(2 * ENTRY_HEADER_BYTES + bytes, spared)
    }

    /// Waits until the disk is no further behind than this: whoever pushes all that there is needs
    /// only so much memory.
    ///
    /// # Errors
    /// When nothing will be written any more.
    pub(super) async fn keeps_up(&self) -> Result<(), Errno> {
        while QUEUED_BYTES_MAX <= self.queued_bytes() {
            let seen = self.0.moved.seen();
            if let Some(errno) = self.0.failed.get() {
                return Err(errno);
            }
            self.0.moved.past(seen).await;
        }
        Ok(())
    }

    fn queued_bytes(&self) -> usize {
        self.0.state.borrow().waiting.iter().map(|it| it.encoder.sealed_bytes()).sum()
    }

    /// Whether so much may be added, `spared` slots aside: a share of the journal is left for what
    /// is carried.
    fn has_room(&self, bytes: usize, spared: usize) -> bool {
        let state = self.0.state.borrow();
        let (mut slots, mut position) = (state.used.len(), state.position);
        let frames = state.waiting.iter().chain(&state.open);
        for sealed in frames.map(|it| it.encoder.sealed_bytes() as u64).chain([bytes as u64]) {
            position += sealed;
            if self.0.config.slot_bytes < position {
                slots += 1;
                position = sealed;
            }
        }
        slots <= self.files_max(spared)
    }

    /// The files that appends may fill, `spared` aside.
    fn files_max(&self, spared: usize) -> usize {
        let limit = self.0.slots_max.get();
        // A frame does not cross slots, so some of each slot stays empty.
        limit.saturating_sub(limit / CARRIED_SHARE + 2 + spared).max(2)
    }

    /// As [`Self::admit`], for what must be written again so that files can be retired.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn admit_kept(&self, bytes: usize) -> Result<(), JournalRefusal> {
        if let Some(errno) = self.0.failed.get() {
            return Err(JournalRefusal::Failed(errno));
        }
        let mut state = self.0.state.borrow_mut();
        if state.open.as_ref().is_some_and(|it| it.encoder.free() < bytes) {
            if FRAMES_WAITING_MAX <= state.waiting.len() {
                return Err(JournalRefusal::Full);
            }
            let full = state.open.take().expect("just seen");
            state.waiting.push_back(full);
        }
        if state.open.is_none() {
            let ordinary = if state.waiting.is_empty() {
                FRAME_BYTES
            } else {
                let share = self.0.config.slot_bytes / FRAME_SHARE as u64;
                BUSY_FRAME_BYTES.min(share as usize).max(FRAME_BYTES)
            };
            let budget = ordinary.max(FRAME_HEADER_BYTES + bytes).next_multiple_of(BLOCK_BYTES);
            let Some(buf) = self.0.lane.pool().get(budget) else {
                return Err(JournalRefusal::Full);
            };
            let encoder = FrameEncoder::new(budget);
            let notes = state.spare.pop().unwrap_or_default();
            state.open = Some(Frame { buf, encoder, notes });
        }
        Ok(())
    }

    /// Appends an entry that was admitted. `known_crc` is the checksum of its bytes, if known.
    pub fn push(&self, entry: &Entry<'_>, known_crc: Option<u32>) -> Commit {
        let mut state = self.0.state.borrow_mut();
        let commit = Commit(state.sequence + state.waiting.len() as u64 + 1);
        let frame = state.open.as_mut().expect("entries are admitted before they are pushed");
        let buffer = frame.buf.spare_mut();
        frame.encoder.push(buffer, entry, known_crc).expect("its room was admitted");
        let notes = &mut frame.notes;
        if let Body::Truncate = entry.body {
            // What is cut away in the same frame was never reached.
            let cut = notes.reached.iter_mut().filter(|it| it.of == entry.head.of);
            cut.for_each(|it| it.end = it.end.min(entry.head.end));
        }
        let start = matches!(entry.body, Body::LogStart).then_some(entry.head.base);
        match notes.reached.last_mut() {
            Some(last) if last.of == entry.head.of => {
                last.end = entry.head.end;
                last.start = start.or(last.start);
            }
            _ => notes.reached.push(Reached { of: entry.head.of, end: entry.head.end, start }),
        }
        let head = &entry.head;
        let to = u64::from(head.position) + entry.body.log_bytes();
        match notes.carries.last_mut() {
            Some(last) if (last.of, last.segment) == (head.of, head.segment) => {
                last.to = last.to.max(to);
            }
            _ => notes.carries.push(Carries { of: head.of, segment: head.segment, to }),
        }
        self.0.counts.entries.add(1);
        drop(state);
        self.0.work.notify();
        commit
    }

    /// As [`Self::push`], for an entry whose bytes lie elsewhere and are on their way: its frame is
    /// written once they are durable.
    pub fn push_held(&self, entry: &Entry<'_>) -> (Commit, Hold) {
        let commit = self.push(entry, None);
        let state = self.0.state.borrow();
        let holds = &state.open.as_ref().expect("something was just pushed").notes.holds;
        holds.set(holds.get() + 1);
        (commit, Hold { holds: Rc::clone(holds), journal: self.clone() })
    }

    /// Lets nothing more join what was appended so far, and says which commit covers it: a
    /// statement about everything up to that commit stays true.
    pub fn close_frame(&self) -> Commit {
        let mut state = self.0.state.borrow_mut();
        if let Some(open) = state.open.take_if(|it| !it.notes.reached.is_empty()) {
            state.waiting.push_back(open);
        }
        drop(state);
        self.latest()
    }

    /// The commit that covers everything appended so far.
    #[must_use]
    pub fn latest(&self) -> Commit {
        let state = self.0.state.borrow();
        // A frame that was only made room in is no commit: nothing says that it will be written.
        let open = u64::from(state.open.as_ref().is_some_and(|it| !it.notes.reached.is_empty()));
        Commit(state.sequence + state.waiting.len() as u64 + open)
    }

    #[must_use]
    pub fn is_durable(&self, commit: Commit) -> bool {
        commit.0 <= self.0.durable.get()
    }

    #[must_use]
    pub fn failed(&self) -> Option<Errno> {
        self.0.failed.get()
    }

    /// Waits until `commit`, and all before it, is durable.
    ///
    /// # Errors
    /// When it never will be.
    pub async fn durable(&self, commit: Commit) -> Result<(), Errno> {
        loop {
            let seen = self.0.moved.seen();
            if self.is_durable(commit) {
                return Ok(());
            }
            if let Some(errno) = self.0.failed.get() {
                return Err(errno);
            }
            self.0.moved.past(seen).await;
        }
    }

    /// Stops reporting anything durable, for good: a write or flush of this directory failed.
    pub fn fence(&self, errno: Errno) {
        if self.0.failed.get().is_none() {
            self.0.failed.set(Some(errno));
        }
        self.0.moved.notify();
        self.0.work.notify();
        self.0.hungry.notify();
    }

    /// Slots run short: time to make or retire some.
    #[must_use]
    pub fn hungry(&self) -> &Event {
        &self.0.hungry
    }

    /// Waits until a slot was made or given back, a commit became durable, or the journal failed.
    pub async fn moved(&self) {
        let (moved, work) = (self.0.moved.seen(), self.0.work.seen());
        race(self.0.moved.past(moved), self.0.work.past(work)).await;
    }

    /// Waits until the journal failed, and says why: the directory is fenced from then on.
    pub async fn fenced(&self) -> Errno {
        loop {
            let seen = self.0.moved.seen();
            if let Some(errno) = self.0.failed.get() {
                return errno;
            }
            self.0.moved.past(seen).await;
        }
    }

    /// Whether clients may fill less than this share of its files, a divisor, before they wait.
    #[must_use]
    pub fn is_nearly_full(&self, share: usize) -> bool {
        let limit = self.0.slots_max.get();
        let left = self.files_max(limit / SPARED_SHARE).saturating_sub(limit / share);
        left <= self.0.state.borrow().used.len()
    }

    /// Bytes of slots that hold frames, and the limit.
    #[must_use]
    pub fn fill(&self) -> (u64, u64) {
        let state = self.0.state.borrow();
        let used = state.used.iter().map(|it| it.slot.bytes).sum();
        (used, self.0.config.slot_bytes * self.0.slots_max.get() as u64)
    }

    /// Bytes of the slots that may still be made.
    #[must_use]
    pub fn growth_bytes(&self) -> u64 {
        let slots = self.0.slots_max.get().saturating_sub(self.0.state.borrow().slots);
        self.0.config.slot_bytes * slots as u64
    }

    /// So many slots are missing for entries of `bytes` beside all that is here and waits.
    #[must_use]
    pub fn missing_for(&self, bytes: u64) -> usize {
        let state = self.0.state.borrow();
        let frames = state.waiting.iter().chain(&state.open);
        let waiting: u64 = frames.map(|it| it.encoder.sealed_bytes() as u64).sum();
        // Frames leave a part of each slot empty.
        let slots = (waiting + bytes)
            .div_ceil(self.0.config.slot_bytes / FRAME_SHARE as u64 * (FRAME_SHARE as u64 - 1));
        (state.slots - state.free.len() + slots as usize).saturating_sub(self.0.slots_max.get())
    }

    /// From now on so many slots more may exist.
    pub fn grow(&self, slots: usize) {
        self.0.slots_max.set(self.0.slots_max.get() + slots);
        self.0.hungry.notify();
    }

    /// The numbers of the files that are full, oldest first; the one being written is not among
    /// them.
    #[must_use]
    pub fn full_files(&self) -> Vec<u64> {
        let state = self.0.state.borrow();
        let full = state.used.len().saturating_sub(1);
        state.used.iter().take(full).map(|it| it.number).collect()
    }

    /// Where a walk must begin once everything up to file `number` is given up.
    #[must_use]
    pub fn start_after(&self, number: u64) -> ChainStart {
        let state = self.0.state.borrow();
        let first = state.used.iter().find(|it| number < it.number);
        let next = ChainStart {
            file: state.last_number + 1,
            sequence: state.sequence,
            checksum: state.previous,
        };
        first.map_or(next, |it| it.begins)
    }

    #[must_use]
    pub fn config(&self) -> &JournalConfig {
        &self.0.config
    }

    /// The segments with bytes in files up to `number`, and up to where: from there on, their bytes
    /// are in later files.
    #[must_use]
    pub fn carried_in(&self, number: u64) -> Vec<Reach> {
        let state = self.0.state.borrow();
        let mut all = Reaches::default();
        for file in state.used.iter().filter(|it| it.number <= number) {
            all.add_all(&file.carries);
        }
        all.into_ordered()
    }

    /// Gives files up to `number` back for writing. Everything in them must be durable elsewhere.
    pub fn retire(&self, number: u64) {
        let mut state = self.0.state.borrow_mut();
        while 1 < state.used.len() && state.used[0].number <= number {
            let used = state.used.pop_front().expect("not empty");
            if used.slot.bytes == self.0.config.slot_bytes {
                state.free.push_back(used.slot);
            } else {
                state.slots -= 1;
            }
        }
        drop(state);
        self.0.work.notify();
    }

    /// Adds a written slot when none is free and the limit allows it.
    ///
    /// # Errors
    /// What the disk says; [`Errno::NOSPC`] leaves everything as it was.
    pub async fn feed(&self) -> Result<bool, Errno> {
        let wanted = {
            let state = self.0.state.borrow();
            let short = state.free.front().is_none_or(|it| it.bytes < state.wanted_bytes);
            let allowed = state.slots < self.0.slots_max.get();
            let bytes = state.wanted_bytes.max(self.0.config.slot_bytes);
            (short && (allowed || self.0.config.slot_bytes < bytes)).then_some(bytes)
        };
        let Some(bytes) = wanted else { return Ok(false) };
        self.make_slot(bytes).await?;
        self.0.work.notify();
        Ok(true)
    }

    /// Whether commits come: whatever else is asked of the disk then makes them wait.
    #[must_use]
    pub fn commits_come(&self) -> bool {
        let ended = self.0.wrote.get();
        let is_late = |it| CALM < self.0.lane.now().since(it);
        0 < self.0.writing.get() || !ended.is_none_or(is_late)
    }

    /// Whether frames wait for others, or the journal is more than half full: then what makes room
    /// matters more than the time that a commit takes.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        let (used, limit) = self.fill();
        let state = self.0.state.borrow();
        !state.waiting.is_empty() || 0 < state.wanted_bytes || limit < used * 2
    }

    fn is_slot_urgent(&self) -> bool {
        if self.is_pressed() || !self.commits_come() {
            return true;
        }
        let state = self.0.state.borrow();
        state.used.back().is_none_or(|it| it.slot.bytes / URGENT_SHARE < state.position)
    }

    /// Whether the first write to a block costs much more here than later ones: then the file
    /// system keeps a journal of its own for them.
    #[must_use]
    pub fn first_writes_are_dear(&self) -> bool {
        self.0.dear.get()
    }

    async fn write(self) {
        loop {
            let seen = self.0.work.seen();
            if self.0.failed.get().is_some() {
                return;
            }
            let Some(next) = self.seal_next() else {
                self.0.work.past(seen).await;
                continue;
            };
            let begun = self.0.lane.now();
            let bytes = next.bytes.len();
            let sync = match self.0.config.broken {
                Some(Mutant::NoFlush) => Sync::None,
                _ => Sync::Data,
            };
            self.0.writing.set(self.0.writing.get() + 1);
            let wrote = self.0.lane.write_all(&next.file, next.at, next.bytes, sync).await;
            self.0.writing.set(self.0.writing.get() - 1);
            self.0.wrote.set(Some(self.0.lane.now()));
            match wrote {
                Err(_) if self.0.config.broken == Some(Mutant::IgnoredFlushError) => {
                    self.complete(next.sequence, next.notes);
                }
                Ok(()) => {
                    self.0.counts.commits.add(1);
                    self.0.counts.bytes.add(bytes as u64);
                    self.0.counts.latency.record(self.0.lane.now().since(begun));
                    self.complete(next.sequence, next.notes);
                }
                Err(errno) => self.fence(errno),
            }
        }
    }

    /// Seals the oldest frame into its place. `None` when there is none, or no slot for it.
    fn seal_next(&self) -> Option<Sealed> {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        let frame = state.waiting.front().or(state.open.as_ref())?;
        if 0 < frame.notes.holds.get() {
            // What comes meanwhile joins the next one, so that this one does not wait for more.
            if state.waiting.is_empty() {
                state.waiting.extend(state.open.take());
            }
            return None;
        }
        let bytes = frame.encoder.sealed_bytes() as u64;
        let fits = state.used.back().is_some_and(|it| state.position + bytes <= it.slot.bytes);
        if !fits {
            if state.free.front().is_none_or(|it| it.bytes < bytes) {
                state.wanted_bytes = bytes;
                self.0.hungry.notify();
                return None;
            }
            let slot = state.free.pop_front().expect("just seen");
            let number = state.used.back().map_or(state.last_number, |it| it.number) + 1;
            state.last_number = number;
            state.wanted_bytes = 0;
            let begins =
                ChainStart { file: number, sequence: state.sequence, checksum: state.previous };
            state.used.push_back(Used { number, carries: Reaches::default(), begins, slot });
            state.position = 0;
            self.0.hungry.notify();
        }
        let mut frame = match state.waiting.pop_front() {
            Some(frame) => frame,
            None => state.open.take().expect("just seen"),
        };
        let used = state.used.back_mut().expect("it fits there");
        state.sequence += 1;
        let header = FrameHeader {
            journal: self.0.config.id,
            incarnation: self.0.config.incarnation,
            sequence: state.sequence,
            previous: state.previous,
            durable: self.0.durable.get(),
            place: FramePlace { file: used.number, position: state.position },
        };
        self.0.counts.summed.add(frame.encoder.summed_bytes());
        let sealed = frame.encoder.seal(frame.buf.spare_mut(), &header);
        frame.buf.advance(sealed.bytes);
        for it in &frame.notes.carries {
            used.carries.add(((it.of, it.segment), it.to));
        }
        let next = Sealed {
            file: used.slot.file.clone(),
            at: state.position,
            bytes: frame.buf.freeze(),
            sequence: state.sequence,
            notes: frame.notes,
        };
        state.previous = sealed.checksum;
        state.position += sealed.bytes as u64;
        Some(next)
    }

    fn complete(&self, sequence: u64, notes: Notes) {
        if self.0.failed.get().is_some() {
            return;
        }
        let told = self.0.on_durable.borrow().clone();
        let unordered = self.0.config.broken == Some(Mutant::DurabilityOutOfOrder);
        self.0.state.borrow_mut().completed.push((sequence, notes));
        let mut moved = false;
        while let Some((sequence, mut notes)) = self.next_completed(unordered) {
            self.0.durable.set(self.0.durable.get().max(sequence));
            if !std::mem::replace(&mut moved, true) {
                // Writers run before readers of what they wrote: they wait for nothing else.
                self.0.moved.notify();
            }
            if let Some(told) = &told {
                told(Commit(sequence), &notes.reached);
            }
            notes.reached.clear();
            notes.carries.clear();
            // What was held and never let go leaves its count behind.
            if Rc::strong_count(&notes.holds) == 1 && notes.holds.get() == 0 {
                self.0.state.borrow_mut().spare.push(notes);
            }
        }
        if moved {
            self.0.work.notify();
        }
    }

    /// The oldest completed frame, if nothing before it is missing.
    fn next_completed(&self, unordered: bool) -> Option<(u64, Notes)> {
        let completed = &mut self.0.state.borrow_mut().completed;
        let first = (0..completed.len()).min_by_key(|it| completed[*it].0)?;
        let is_next = completed[first].0 == self.0.durable.get() + 1;
        (is_next || unordered).then(|| completed.swap_remove(first))
    }
}

struct Sealed {
    file: Fd,
    at: u64,
    bytes: Slice,
    sequence: u64,
    notes: Notes,
}

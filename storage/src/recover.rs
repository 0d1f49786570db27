//! What a restart makes of checkpoints and journals: one map, partition by partition.
//!
//! All checkpoints come first, then every lane's journal entries in the order of their chain,
//! whatever the number of lanes is now. Nothing is written while this runs, and nothing is parsed:
//! the end of a log is what checkpoint and journal say. The result tells, for every segment, up to
//! where its file holds the log and which entries hold the rest.
//!
//! - Of several records of a partition the one with the highest ownership number counts; entries
//!   of a lower number are void.
//! - Entries up to the checkpoint's `as_of` are in the record already; only their bytes are still
//!   needed, where the file does not have them.
//! - Later bytes replace earlier ones at the same place, and a truncation takes away all beyond.
//! - Segments below the start of a log are gone, whether or not their files are.
//! - An append that does not continue the log ends the partition there, and is reported.
//!
//! REC-1: for every segment, file and pieces together cover exactly its length, or a fault says
//! what is missing. The caller verifies the extents that are left in [`Segment::pieces`] against
//! the file and calls [`Recovered::end_at`] for the first that fails.

use crate::{
    checkpoint::{Checkpoint, ExtentSum, PartitionRecord},
    epochs::{EpochGoesBack, LeaderEpochs},
    frame::{Body, Entry, EntryHead, FramePlace},
    producers::Producers,
};
use corelane_core::ids::{LaneId, Offset, TopicPartition};
use std::collections::BTreeMap;

/// Where an entry was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub lane: LaneId,
    pub frame: FramePlace,
    pub sequence: u64,
    /// Its number in the frame.
    pub entry: u32,
}

/// Which bytes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The bytes of a data or carried entry.
    Whole,
    /// What lies before an extent.
    Head,
    /// What lies after it.
    Tail,
}

/// Where the bytes of a piece are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In an entry; `skip` bytes of the part come before the piece.
    Journal { origin: Origin, part: Part, skip: u32 },
    /// In the segment's file, if the checksum over the whole extent holds. `base` and `position`
    /// are those of the append: the log ends there if it does not.
    Extent { origin: Origin, extent: ExtentSum, base: Offset, position: u32 },
}

/// A range of a segment that its checkpoint did not know to be in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub position: u32,
    pub bytes: u32,
    pub source: Source,
}

impl Piece {
    fn end(&self) -> u32 {
        self.position + self.bytes
    }

    /// The part from `from` up to `to`, both within.
    fn cut(&self, from: u32, to: u32) -> Self {
        let mut it = *self;
        if let Source::Journal { skip, .. } = &mut it.source {
            *skip += from - self.position;
        }
        it.position = from;
        it.bytes = to - from;
        it
    }
}

/// A segment as it is to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub base: Offset,
    /// Bytes the file holds.
    pub stored: u32,
    /// Bytes of the log in this segment.
    pub length: u32,
    pub sealed: bool,
    /// Checksums of ranges below `stored`.
    pub extents: Vec<ExtentSum>,
    /// The rest, in order, without overlap.
    pub pieces: Vec<Piece>,
}

impl Segment {
    fn empty(base: Offset) -> Self {
        Self { base, stored: 0, length: 0, sealed: false, extents: Vec::new(), pieces: Vec::new() }
    }

    /// Puts a piece over whatever was there, beyond what the file holds.
    fn place(&mut self, piece: Piece) {
        let (from, to) = (piece.position.max(self.stored), piece.end());
        if to <= from {
            return;
        }
        let first = self.pieces.partition_point(|it| it.end() <= from);
        let after = self.pieces.partition_point(|it| it.position < to);
        let mut fresh = Vec::with_capacity(3);
        if let Some(it) = self.pieces.get(first).filter(|it| it.position < from) {
            fresh.push(it.cut(it.position, from));
        }
        fresh.push(piece.cut(from, to));
        if let Some(it) = after.checked_sub(1).map(|it| self.pieces[it]).filter(|it| to < it.end())
        {
            fresh.push(it.cut(to, it.end()));
        }
        self.pieces.splice(first..after.max(first), fresh);
    }

    /// After a truncation the block that the log ends in is written again: its bytes are carried
    /// then, and the file's do not count any more.
    fn reopen(&mut self, piece: &Piece) {
        if piece.position < self.stored && self.stored <= piece.end() {
            self.stored = piece.position;
            self.extents.retain(|it| it.position + it.bytes <= piece.position);
        }
    }

    /// Takes away the pieces from `position` on.
    fn cut_pieces(&mut self, position: u32) {
        self.pieces.retain(|it| it.position < position);
        if let Some(it) = self.pieces.last_mut().filter(|it| position < it.end()) {
            *it = it.cut(it.position, position);
        }
    }

    /// The first range that neither file nor pieces hold.
    fn hole(&self) -> Option<(u32, u32)> {
        let mut covered = self.stored;
        for it in &self.pieces {
            if covered < it.position {
                return Some((covered, it.position));
            }
            covered = it.end();
        }
        (covered < self.length).then_some((covered, self.length))
    }
}

/// What does not fit together. The partition ends before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An append that does not continue the log.
    Gap {
        origin: Origin,
        expected: Offset,
        found: Offset,
    },
    /// An append at another place than the log's end.
    Place {
        origin: Origin,
        expected: (Offset, u32),
        found: (Offset, u32),
    },
    Epoch {
        origin: Origin,
        error: EpochGoesBack,
    },
    /// Two lanes own the partition, or an entry has a number no checkpoint knows.
    Ownership {
        lane: LaneId,
        ours: u64,
        found: u64,
    },
    /// Bytes that neither file nor journal hold.
    Hole {
        segment: Offset,
        from: u32,
        to: u32,
    },
}

/// A partition as it is to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub of: TopicPartition,
    pub topic: String,
    /// Whose journal holds it, and its number there.
    pub lane: LaneId,
    pub ownership: u64,
    pub log_start: Offset,
    pub end: Offset,
    pub high_watermark: Offset,
    /// Oldest first, never empty.
    pub segments: Vec<Segment>,
    /// Segments whose files are to be taken away.
    pub dropped: Vec<Offset>,
    pub epochs: LeaderEpochs,
    /// As of `producers_end`: replay the log from there to the end.
    pub producers: Producers,
    /// `None` when the log was cut below what the producers were known for: they are empty then,
    /// and the log is to be replayed from its start.
    pub producers_end: Option<Offset>,
    /// The files may not exist yet: the checkpoint does not know the partition.
    pub created: bool,
    /// It is to be deleted, whatever is left of it.
    pub deleted: bool,
    pub faults: Vec<Fault>,
    as_of: u64,
    /// A fault ended it; later appends are dropped.
    ended: bool,
}

impl Recovered {
    fn from_record(it: PartitionRecord, lane: LaneId, as_of: u64) -> Self {
        let segments = it.segments.into_iter().map(|it| Segment {
            base: it.base,
            stored: it.stored,
            length: it.length,
            sealed: it.sealed,
            extents: it.extents,
            pieces: Vec::new(),
        });
        Self {
            of: it.of,
            topic: it.topic,
            lane,
            ownership: it.ownership,
            log_start: it.log_start,
            end: it.end,
            high_watermark: it.high_watermark,
            segments: segments.collect(),
            dropped: Vec::new(),
            epochs: it.epochs,
            producers: it.producers,
            producers_end: Some(it.end),
            created: false,
            deleted: false,
            faults: Vec::new(),
            as_of,
            ended: false,
        }
    }

    fn created(head: &EntryHead, topic: &str, origin: Origin) -> Self {
        Self {
            of: head.of,
            topic: topic.to_owned(),
            lane: origin.lane,
            ownership: head.ownership,
            log_start: head.base,
            end: head.base,
            high_watermark: head.base,
            segments: vec![Segment::empty(head.base)],
            dropped: Vec::new(),
            epochs: LeaderEpochs::default(),
            producers: Producers::default(),
            producers_end: Some(head.base),
            created: true,
            deleted: false,
            faults: Vec::new(),
            as_of: origin.sequence.saturating_sub(1),
            ended: false,
        }
    }

    /// The extent's bytes are not what was written: the log ends where that append began, and
    /// nothing after it counts. Nobody was told that it was durable.
    pub fn end_at(&mut self, segment: Offset, base: Offset, position: u32) {
        self.cut(segment, position, base);
        self.ended = true;
    }

    fn last(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a partition has a segment")
    }

    fn fail(&mut self, fault: Fault) {
        self.faults.push(fault);
        self.ended = true;
    }

    fn entry(&mut self, origin: Origin, entry: &Entry<'_>) {
        let known = origin.sequence <= self.as_of;
        let head = &entry.head;
        match entry.body {
            Body::Data { bytes } => {
                let pieces = [whole(origin, head.position, bytes)];
                self.append(known, origin, head, &pieces);
            }
            Body::Extent { head: before, extent_bytes, extent_checksum, tail } => {
                let at = head.position + before.len() as u32;
                let extent =
                    ExtentSum { position: at, bytes: extent_bytes, checksum: extent_checksum };
                let journal = |part, position, bytes: &[u8]| Piece {
                    position,
                    bytes: bytes.len() as u32,
                    source: Source::Journal { origin, part, skip: 0 },
                };
                let (base, position) = (head.base, head.position);
                let pieces = [
                    journal(Part::Head, head.position, before),
                    Piece {
                        position: at,
                        bytes: extent_bytes,
                        source: Source::Extent { origin, extent, base, position },
                    },
                    journal(Part::Tail, at + extent_bytes, tail),
                ];
                self.append(known, origin, head, &pieces);
            }
            Body::Carried { bytes } => {
                let piece = whole(origin, head.position, bytes);
                if let Some(it) = self.segments.iter_mut().find(|it| it.base == head.segment)
                    && (known || piece.end() <= it.length)
                {
                    if !known {
                        it.reopen(&piece);
                    }
                    it.place(piece);
                }
            }
            Body::Truncate if known => {
                for it in self.segments.iter_mut().filter(|it| head.segment <= it.base) {
                    it.cut_pieces(if it.base == head.segment { head.position } else { 0 });
                }
            }
            Body::Truncate => {
                let within = self.segments.iter().any(|it| it.base == head.segment);
                if within && self.end < head.end {
                    let (expected, found) = (self.end, head.end);
                    self.fail(Fault::Gap { origin, expected, found });
                } else {
                    self.cut(head.segment, head.position, head.end);
                }
            }
            // The rest changes only what the record tells already.
            _ if known => {}
            Body::Roll if self.ended => {}
            Body::Roll => {
                let (end, last) = (self.end, self.last());
                let (expected, found) = ((last.base, last.length), (head.segment, head.position));
                if expected != found {
                    self.fail(Fault::Place { origin, expected, found });
                } else if head.end != end {
                    self.fail(Fault::Gap { origin, expected: end, found: head.end });
                } else if last.base < head.end {
                    self.segments.push(Segment::empty(head.end));
                    // After a truncation another may have had its name.
                    self.dropped.retain(|it| *it != head.end);
                }
            }
            Body::LogStart => {
                self.log_start = self.log_start.max(head.base.min(self.end));
                self.drop_below_start();
                self.epochs.truncate_start(self.log_start);
                self.producers.forget_aborted(self.log_start);
            }
            Body::EpochStart => {
                if let Err(error) = self.epochs.assign(head.leader_epoch, head.base) {
                    self.fail(Fault::Epoch { origin, error });
                }
            }
            Body::Create { .. } => {}
            Body::Delete => self.deleted = true,
        }
    }

    /// Segments that lie wholly below the start do not count: their files may be gone already.
    fn drop_below_start(&mut self) {
        let below = |it: &&[Segment]| it[1].base <= self.log_start;
        let count = self.segments.windows(2).take_while(below).count();
        self.dropped.extend(self.segments.drain(..count).map(|it| it.base));
    }

    fn append(&mut self, known: bool, origin: Origin, head: &EntryHead, pieces: &[Piece]) {
        if known {
            if let Some(it) = self.segments.iter_mut().find(|it| it.base == head.segment) {
                pieces.iter().for_each(|piece| it.place(*piece));
            }
            return;
        }
        if self.ended {
            return;
        }
        let end = self.end;
        let last = self.last();
        let (expected, found) = ((last.base, last.length), (head.segment, head.position));
        if expected != found {
            return self.fail(Fault::Place { origin, expected, found });
        }
        if head.base != end || head.end <= head.base {
            return self.fail(Fault::Gap { origin, expected: end, found: head.base });
        }
        if let Err(error) = self.epochs.assign(head.leader_epoch, head.base) {
            return self.fail(Fault::Epoch { origin, error });
        }
        let last = self.last();
        for piece in pieces {
            last.place(*piece);
            last.length = piece.end();
        }
        self.end = head.end;
    }

    /// The log ends at `end`, at this place. A segment nobody knows is where it starts anew.
    fn cut(&mut self, segment: Offset, position: u32, end: Offset) {
        let known = self.segments.iter().any(|it| it.base == segment);
        let kept = |it: &Segment| known && it.base <= segment;
        self.dropped.extend(self.segments.iter().filter(|it| !kept(it)).map(|it| it.base));
        self.segments.retain(kept);
        if known {
            let last = self.last();
            last.cut_pieces(position);
            last.length = last.length.min(position);
            last.stored = last.stored.min(position);
            last.sealed = false;
            last.extents.retain(|it| it.position + it.bytes <= position);
            self.epochs.truncate_end(end);
            if self.producers_end.is_some_and(|it| end < it) {
                self.producers = Producers::default();
                self.producers_end = None;
            }
        } else {
            self.segments.push(Segment::empty(segment));
            self.dropped.retain(|it| *it != segment);
            self.log_start = end;
            self.epochs = LeaderEpochs::default();
            self.producers = Producers::default();
            self.producers_end = Some(end);
        }
        self.end = end;
        self.high_watermark = self.high_watermark.min(end);
    }
}

fn whole(origin: Origin, position: u32, bytes: &[u8]) -> Piece {
    let source = Source::Journal { origin, part: Part::Whole, skip: 0 };
    Piece { position, bytes: bytes.len() as u32, source }
}

/// What recovery found besides partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub entries: u64,
    /// Entries of a lane that had given the partition away.
    pub void: u64,
    /// Entries of partitions that are gone already.
    pub orphans: u64,
}

/// The merge of all lanes' checkpoints and journals.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    partitions: BTreeMap<TopicPartition, Recovered>,
    tally: Tally,
}

impl Recovery {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a lane's checkpoint.
    ///
    /// # Panics
    /// When entries were given before: a record of a higher ownership would come too late.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) {
        assert_eq!(self.tally.entries, 0, "checkpoints come before entries");
        let (lane, as_of) = (checkpoint.head.lane, checkpoint.head.as_of);
        for (of, record) in checkpoint.partitions {
            match self.partitions.get_mut(&of) {
                Some(ours) if record.ownership < ours.ownership => {}
                Some(ours) if record.ownership == ours.ownership => {
                    let (ours_lane, found) = (ours.ownership, record.ownership);
                    ours.fail(Fault::Ownership { lane, ours: ours_lane, found });
                }
                _ => {
                    self.partitions.insert(of, Recovered::from_record(record, lane, as_of));
                }
            }
        }
    }

    /// Takes the next entry of a lane's chain.
    pub fn entry(&mut self, origin: Origin, entry: &Entry<'_>) {
        self.tally.entries += 1;
        let head = &entry.head;
        let Some(it) = self.partitions.get_mut(&head.of) else {
            match entry.body {
                Body::Create { name } => {
                    self.partitions.insert(head.of, Recovered::created(head, name, origin));
                }
                _ => self.tally.orphans += 1,
            }
            return;
        };
        if head.ownership < it.ownership {
            self.tally.void += 1;
        } else if it.ownership < head.ownership || it.lane != origin.lane {
            let (lane, found) = (origin.lane, head.ownership);
            it.fail(Fault::Ownership { lane, ours: it.ownership, found });
        } else {
            it.entry(origin, entry);
        }
    }

    /// All journals were read to their ends.
    #[must_use]
    pub fn finish(self) -> (BTreeMap<TopicPartition, Recovered>, Tally) {
        let mut partitions = self.partitions;
        for it in partitions.values_mut() {
            it.drop_below_start();
            let holes = it.segments.iter().filter_map(|segment| {
                let (from, to) = segment.hole()?;
                Some(Fault::Hole { segment: segment.base, from, to })
            });
            let holes: Vec<_> = holes.collect();
            it.faults.extend(holes);
        }
        (partitions, self.tally)
    }
}

#[cfg(test)]
mod tests;

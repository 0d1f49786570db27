//! Histories of a partition, cut anywhere, and what a restart makes of them.

use super::*;
use crate::{
    checkpoint::{SegmentRecord, tests::head as checkpoint_head},
    frame::{BLOCK_BYTES, tests::head},
};
use corelane_core::ids::LeaderEpoch;

const BLOCK: u32 = BLOCK_BYTES as u32;

fn origin(sequence: u64) -> Origin {
    let frame = FramePlace { file: 0, position: sequence * 4096 };
    Origin { lane: LaneId(2), frame, sequence, entry: 0 }
}

fn checkpoint(as_of: u64, records: Vec<PartitionRecord>) -> Checkpoint {
    Checkpoint {
        head: checkpoint_head(1, as_of),
        partitions: records.into_iter().map(|it| (it.of, it)).collect(),
        bytes: 0,
        last_checksum: 0,
        stopped: None,
    }
}

/// One thing that happens to a partition, with the bytes it leaves.
#[derive(Debug, Clone)]
enum Step {
    Create,
    Data(EntryHead, Vec<u8>),
    Extent(EntryHead, Vec<u8>),
    Carried(EntryHead, Vec<u8>),
    Truncate(EntryHead),
    Roll(EntryHead),
    LogStart(EntryHead),
}

/// The model: a log as it should be after each step.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    segments: Vec<(i64, Vec<u8>)>,
    log_start: i64,
    end: i64,
    /// The end before each append, with its place.
    ends: Vec<(i64, i64, u32)>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }
}

impl Model {
    fn new() -> Self {
        Self { segments: vec![(0, Vec::new())], log_start: 0, end: 0, ends: Vec::new() }
    }

    fn head(&self) -> EntryHead {
        let (base, bytes) = self.segments.last().unwrap();
        EntryHead { segment: Offset(*base), ..head(0, self.end, self.end, bytes.len() as u32) }
    }

    fn step(&mut self, random: &mut Random) -> Step {
        let mut head = self.head();
        match random.below(10) {
            0 if !self.ends.is_empty() => {
                let at = self.ends.len() - 1 - random.below(self.ends.len().min(3) as u64) as usize;
                let (end, segment, position) = self.ends[at];
                if end < self.log_start {
                    return self.step(random);
                }
                self.ends.truncate(at);
                self.segments.retain(|it| it.0 <= segment);
                self.segments.last_mut().unwrap().1.truncate(position as usize);
                self.end = end;
                (head.end, head.segment, head.position) = (Offset(end), Offset(segment), position);
                Step::Truncate(head)
            }
            1 if self.segments.last().unwrap().0 < self.end => {
                self.segments.push((self.end, Vec::new()));
                Step::Roll(head)
            }
            2 if self.log_start < self.end => {
                self.log_start += 1 + random.below((self.end - self.log_start) as u64) as i64;
                while 1 < self.segments.len() && self.segments[1].0 <= self.log_start {
                    self.segments.remove(0);
                }
                let first = self.segments[0].0;
                self.ends.retain(|it| first <= it.1);
                head.base = Offset(self.log_start);
                Step::LogStart(head)
            }
            3 => {
                let bytes = &self.segments.last().unwrap().1;
                let from = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
                head.position = from as u32;
                Step::Carried(head, bytes[from..].to_vec())
            }
            kind => {
                let large = kind == 4;
                let bytes =
                    if large { 9_000 + random.below(9_000) } else { 1 + random.below(3_000) };
                let fill = random.below(256) as u8;
                let bytes: Vec<u8> = (0..bytes).map(|it| fill.wrapping_add(it as u8)).collect();
                self.ends.push((self.end, head.segment.0, head.position));
                self.segments.last_mut().unwrap().1.extend(&bytes);
                self.end += 1 + random.below(5) as i64;
                head.end = Offset(self.end);
                if large { Step::Extent(head, bytes) } else { Step::Data(head, bytes) }
            }
        }
    }

    fn record(&self, stored: &[u32]) -> PartitionRecord {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(LeaderEpoch(4), Offset(0)).unwrap();
        let segments = self.segments.iter().zip(stored).map(|((base, bytes), stored)| {
            let length = bytes.len() as u32;
            let base = Offset(*base);
            SegmentRecord { base, stored: *stored, length, sealed: false, extents: Vec::new() }
        });
        PartitionRecord {
            of: head(0, 0, 0, 0).of,
            topic: "orders".into(),
            ownership: 1,
            log_start: Offset(self.log_start),
            end: Offset(self.end),
            high_watermark: Offset(self.log_start),
            segments: segments.collect(),
            epochs,
            producers: Producers::default(),
        }
    }
}

/// Where the extent's whole blocks begin and end within an append.
fn extent_range(head: &EntryHead, bytes: &[u8]) -> (usize, usize) {
    let start = head.position.next_multiple_of(BLOCK) - head.position;
    let end = (head.position + bytes.len() as u32) / BLOCK * BLOCK - head.position;
    (start as usize, end as usize)
}

fn offer(recovery: &mut Recovery, sequence: u64, step: &Step) {
    let (head, body) = match step {
        Step::Create => (head(0, 0, 0, 0), Body::Create { name: "orders" }),
        Step::Data(head, bytes) => (*head, Body::Data { bytes }),
        Step::Carried(head, bytes) => (*head, Body::Carried { bytes }),
        Step::Extent(head, bytes) => {
            let (from, to) = extent_range(head, bytes);
            let (before, tail) = (&bytes[..from], &bytes[to..]);
            let extent_bytes = (to - from) as u32;
            (*head, Body::Extent { head: before, extent_bytes, extent_checksum: 0, tail })
        }
        Step::Truncate(head) => (*head, Body::Truncate),
        Step::Roll(head) => (*head, Body::Roll),
        Step::LogStart(head) => (*head, Body::LogStart),
    };
    recovery.entry(origin(sequence), &Entry { head, body });
}

/// Puts file and pieces together.
fn restore(segment: &Segment, file: &[u8], steps: &[Step]) -> Vec<u8> {
    let mut out = file[..segment.stored as usize].to_vec();
    for piece in &segment.pieces {
        assert_eq!(out.len(), piece.position as usize, "REC-1");
        let (origin, from) = match piece.source {
            Source::Journal { origin, part, skip } => (origin, (part, skip as usize)),
            Source::Extent { origin, extent, .. } => {
                (origin, (Part::Whole, (piece.position - extent.position) as usize))
            }
        };
        let is_extent = matches!(piece.source, Source::Extent { .. });
        let bytes = match &steps[origin.sequence as usize - 1] {
            Step::Data(_, bytes) | Step::Carried(_, bytes) => &bytes[..],
            Step::Extent(head, bytes) => {
                let (start, end) = extent_range(head, bytes);
                match from.0 {
                    _ if is_extent => &bytes[start..end],
                    Part::Head => &bytes[..start],
                    Part::Tail => &bytes[end..],
                    Part::Whole => panic!("an extent has no whole"),
                }
            }
            other => panic!("no bytes in {other:?}"),
        };
        out.extend(&bytes[from.1..from.1 + piece.bytes as usize]);
    }
    out
}

/// Random histories; a checkpoint at any point, with any prefix of whole blocks stored by then and
/// the journal read from any earlier point that still has the rest. Recovered is what the model
/// says, byte for byte.
#[test]
fn any_checkpoint_and_the_journal_after_it_give_back_the_log() {
    let mut pieces = 0;
    for seed in 0..600 {
        let mut random = Random(seed);
        let mut model = Model::new();
        let mut steps = vec![Step::Create];
        let mut states = vec![model.clone()];
        for _ in 0..4 + random.below(20) {
            steps.push(model.step(&mut random));
            states.push(model.clone());
        }
        // The checkpoint tells the state after step `as_of`, one-based like sequences.
        let as_of = random.below(steps.len() as u64 + 1) as usize;
        let mut recovery = Recovery::new();
        let mut files: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        let from = if as_of == 0 {
            0
        } else {
            let known = &states[as_of - 1];
            let all = random.below(3) == 0;
            let stored: Vec<u32> = known
                .segments
                .iter()
                .map(|(_, bytes)| match bytes.len() as u32 {
                    len if all => len,
                    len => len / BLOCK * random.below(2) as u32 * BLOCK,
                })
                .collect();
            recovery.checkpoint(checkpoint(as_of as u64, vec![known.record(&stored)]));
            files.extend(known.segments.iter().cloned());
            // With everything stored the journal is needed from the checkpoint on only.
            if all { random.below(as_of as u64 + 1) as usize } else { 0 }
        };
        for (at, step) in steps.iter().enumerate().skip(from) {
            offer(&mut recovery, at as u64 + 1, step);
        }
        let (partitions, tally) = recovery.finish();
        assert_eq!((tally.void, tally.orphans), (0, 0), "seed {seed}");
        let it = &partitions[&head(0, 0, 0, 0).of];
        assert_eq!(it.faults, [], "seed {seed}");
        assert_eq!((it.end.0, it.log_start.0), (model.end, model.log_start), "seed {seed}");
        let restored: Vec<_> = it
            .segments
            .iter()
            .map(|it| {
                let file = files.get(&it.base.0).map_or(&[][..], Vec::as_slice);
                pieces += it.pieces.len();
                (it.base.0, restore(it, file, &steps))
            })
            .collect();
        let below = model.segments.windows(2).take_while(|it| it[1].0 <= model.log_start).count();
        assert!(restored == model.segments[below..], "seed {seed}: the bytes differ");
    }
    assert!(1_000 < pieces, "the walk went empty: {pieces}");
}

fn data(base: i64, end: i64, position: u32) -> Step {
    Step::Data(head(0, base, end, position), vec![1; 100])
}

fn recover(records: Vec<PartitionRecord>, steps: &[Step]) -> Recovered {
    let mut recovery = Recovery::new();
    recovery.checkpoint(checkpoint(0, records));
    for (sequence, step) in (1..).zip(steps) {
        offer(&mut recovery, sequence, step);
    }
    recovery.finish().0.into_values().next().unwrap()
}

#[test]
fn an_append_that_leaves_a_gap_ends_the_partition_before_it() {
    let it = recover(vec![], &[Step::Create, data(0, 5, 0), data(6, 7, 100), data(5, 8, 100)]);
    assert_eq!((it.end, it.segments[0].length), (Offset(5), 100));
    let fault = Fault::Gap { origin: origin(3), expected: Offset(5), found: Offset(6) };
    assert_eq!(it.faults, [fault]);
    let it = recover(vec![], &[Step::Create, data(0, 5, 0), data(5, 7, 101)]);
    assert!(matches!(it.faults[..], [Fault::Place { .. }]));
}

#[test]
fn bytes_nobody_has_are_a_fault() {
    let mut model = Model::new();
    model.segments[0].1 = vec![1; 5_000];
    model.end = 9;
    let it = recover(vec![model.record(&[4096])], &[]);
    assert_eq!(it.faults, [Fault::Hole { segment: Offset(0), from: 4096, to: 5000 }]);
}

#[test]
fn a_broken_extent_ends_its_partition_and_no_other() {
    let extent = Step::Extent(head(0, 5, 9, 100), vec![2; 10_000]);
    let mut it = recover(vec![], &[Step::Create, data(0, 5, 0), extent, data(9, 10, 10_100)]);
    assert_eq!((it.end, it.faults.len()), (Offset(10), 0));
    let found = it.segments[0].pieces.iter().find_map(|it| match it.source {
        Source::Extent { base, position, .. } => Some((base, position)),
        Source::Journal { .. } => None,
    });
    assert_eq!(found, Some((Offset(5), 100)));
    it.end_at(Offset(0), Offset(5), 100);
    assert_eq!((it.end, it.segments[0].length), (Offset(5), 100));
    assert_eq!(it.segments[0].hole(), None);
}

#[test]
fn the_highest_ownership_counts_and_lower_entries_are_void() {
    let mut recovery = Recovery::new();
    let old = Model::new().record(&[0]);
    let mut new = old.clone();
    new.ownership = 2;
    let mut there = checkpoint(0, vec![new]);
    there.head.lane = LaneId(5);
    recovery.checkpoint(checkpoint(0, vec![old]));
    recovery.checkpoint(there);
    offer(&mut recovery, 1, &data(0, 5, 0));
    let (partitions, tally) = recovery.finish();
    let it = partitions.values().next().unwrap();
    assert_eq!((it.lane, it.ownership, it.end), (LaneId(5), 2, Offset(0)));
    assert_eq!((tally.void, it.faults.len()), (1, 0));
}

#[test]
fn two_owners_are_a_fault() {
    let mut recovery = Recovery::new();
    let mut there = checkpoint(0, vec![Model::new().record(&[0])]);
    there.head.lane = LaneId(5);
    recovery.checkpoint(checkpoint(0, vec![Model::new().record(&[0])]));
    recovery.checkpoint(there);
    let (partitions, _) = recovery.finish();
    assert!(matches!(partitions.values().next().unwrap().faults[..], [Fault::Ownership { .. }]));
}

#[test]
fn a_log_can_start_anew_beyond_its_end() {
    let mut anew = head(0, 50, 50, 0);
    anew.segment = Offset(50);
    let mut after = head(0, 50, 51, 0);
    after.segment = Offset(50);
    let steps = [Step::Create, data(0, 5, 0), Step::Truncate(anew), Step::Data(after, vec![1])];
    let it = recover(vec![], &steps);
    assert_eq!((it.log_start, it.end, it.faults.len()), (Offset(50), Offset(51), 0));
    assert_eq!((it.segments.len(), &it.dropped[..]), (1, &[Offset(0)][..]));
}

#[test]
fn segments_below_the_start_are_gone_whatever_a_checkpoint_tells() {
    let mut model = Model::new();
    model.segments = vec![(0, vec![1; 100]), (5, vec![2; 50])];
    (model.log_start, model.end) = (5, 9);
    // The file of the first may be gone already: nothing of it may be missed.
    let it = recover(vec![model.record(&[0, 50])], &[]);
    assert_eq!((it.log_start, it.end, it.faults.len()), (Offset(5), Offset(9), 0));
    assert_eq!((it.segments.len(), &it.dropped[..]), (1, &[Offset(0)][..]));
}

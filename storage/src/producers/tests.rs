//! The stories of producers, and a walk over all short ones.

use super::*;
use crate::{
    batch::{Attributes, BatchMut},
    build::{BatchBuilder, transaction_marker},
};
use corelane_core::ids::LeaderEpoch;

/// A partition: the log's bytes and what is remembered of it.
#[derive(Clone)]
struct World {
    producers: Producers,
    log: Vec<Vec<u8>>,
    end: Offset,
}

impl World {
    fn new(producers_max: usize) -> Self {
        Self { producers: Producers::new(producers_max), log: Vec::new(), end: Offset::ZERO }
    }

    fn append(&mut self, append: &ClientAppend) -> Result<Verdict, ProducerRefusal> {
        let verdict = self.producers.check(append)?;
        if verdict == Verdict::Append {
            let stamp = &append.stamp;
            let records = stamp.last_sequence.wrapping_sub(stamp.base_sequence) as u32 % 8 + 1;
            let mut builder = BatchBuilder::new();
            builder.producer(stamp.id, stamp.epoch, stamp.base_sequence);
            if stamp.transactional {
                builder.attributes(Attributes::TRANSACTIONAL);
            }
            for _ in 0..records {
                builder.record(1, None, None);
            }
            let (base, end) = (self.end, self.end.advance(records));
            self.write(builder.build());
            self.producers.appended(stamp, base, Offset(end.0 - 1), 1, 0);
        }
        Ok(verdict)
    }

    fn mark(&mut self, append: &MarkerAppend) -> Result<Option<Aborted>, ProducerRefusal> {
        self.producers.check_marker(append)?;
        let Marker { kind, coordinator_epoch } = append.marker;
        let at = self.end;
        self.write(transaction_marker(append.producer, append.epoch, kind, coordinator_epoch, 1));
        Ok(self.producers.marked(append.producer, append.epoch, append.marker, at, 0))
    }

    fn write(&mut self, mut bytes: Vec<u8>) {
        let mut batch = BatchMut::first(&mut bytes).unwrap();
        batch.assign(self.end, LeaderEpoch(0));
        self.end = batch.view().next_offset();
        self.log.push(bytes);
    }

    /// The state is what the log says, and survives being written down.
    fn verify(&self) {
        self.producers.verify();
        let mut replayed = Producers::new(self.producers.producers_max);
        for bytes in &self.log {
            replayed.replay(&Batch::split(bytes).unwrap().0, 0);
        }
        assert_eq!(replayed, self.producers);
        let mut bytes = Vec::new();
        self.producers.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let read = Producers::decode(&mut reader, self.producers.producers_max);
        assert_eq!(read.as_ref(), Ok(&self.producers));
        assert!(reader.rest().is_empty());
    }
}

fn batch(id: i64, epoch: i16, base_sequence: i32, records: u32) -> ClientAppend {
    ClientAppend {
        stamp: ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence,
            last_sequence: last_sequence(base_sequence, records),
            transactional: false,
        },
        verified: false,
        strict_start: false,
    }
}

fn within(mut append: ClientAppend) -> ClientAppend {
    append.stamp.transactional = true;
    append.verified = true;
    append
}

fn ending(id: i64, epoch: i16, kind: MarkerKind, coordinator_epoch: i32) -> MarkerAppend {
    MarkerAppend {
        producer: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        marker: Marker { kind, coordinator_epoch },
        raises_epoch: false,
    }
}

/// Words: `id/epoch:sequence+records` appends, with `t` inside a verified transaction and with
/// `u` inside an unverified one; `commit id/epoch` and `abort id/epoch` end it. Told are the
/// offset, `=offset` for a duplicate, or the refusal.
fn run(world: &mut World, script: &str) -> String {
    let mut told = Vec::new();
    let mut words = script.split(' ');
    while let Some(word) = words.next() {
        let who = |text: &str| -> (i64, i16) {
            let (id, epoch) = text.split_once('/').unwrap();
            (id.parse().unwrap(), epoch.parse().unwrap())
        };
        let at = world.end;
        if word == "commit" || word == "abort" {
            let kind = if word == "commit" { MarkerKind::Commit } else { MarkerKind::Abort };
            let (id, epoch) = who(words.next().unwrap());
            told.push(match world.mark(&ending(id, epoch, kind, 0)) {
                Ok(Some(it)) => format!("{at}:back[{},{}]<{}", it.first, it.last, it.last_stable),
                Ok(None) => at.to_string(),
                Err(it) => format!("{it:?}"),
            });
        } else {
            let plain = word.trim_start_matches(['t', 'u']);
            let (left, right) = plain.split_once(':').unwrap();
            let (sequence, records) = right.split_once('+').unwrap();
            let (id, epoch) = who(left);
            let mut append = batch(id, epoch, sequence.parse().unwrap(), records.parse().unwrap());
            if word.starts_with(['t', 'u']) {
                append = within(append);
                append.verified = word.starts_with('t');
            }
            told.push(match world.append(&append) {
                Ok(Verdict::Append) => at.to_string(),
                Ok(Verdict::Duplicate(it)) => format!("={}", it.base),
                Err(it) => format!("{it:?}"),
            });
        }
        world.verify();
    }
    told.join(" ")
}

#[track_caller]
fn check(script: &str, expect: &str) {
    assert_eq!(run(&mut World::new(10), script), expect, "{script}");
}

#[test]
fn the_last_five_batches_are_recognised() {
    check(
        "1/0:0+2 1/0:2+1 1/0:3+1 1/0:4+1 1/0:5+1 1/0:0+2 1/0:5+1 1/0:6+1 1/0:2+1 1/0:0+2",
        "0 2 3 4 5 =0 =5 6 =2 Sequence { expected: 7, found: 0 }",
    );
}

#[test]
fn a_duplicate_is_the_same_range_and_nothing_less() {
    check(
        "1/0:0+3 1/0:0+2 1/0:1+2",
        "0 Sequence { expected: 3, found: 0 } Sequence { expected: 3, found: 1 }",
    );
}

#[test]
fn gaps_are_refused_and_sequences_wrap() {
    check("1/0:0+1 1/0:2+1 1/0:1+1", "0 Sequence { expected: 1, found: 2 } 1");
    check("1/0:2147483646+2 1/0:0+1 1/0:1+1", "0 2 3");
    check("1/0:2147483647+2 1/0:1+1", "0 2");
}

#[test]
fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
    check(
        "1/0:0+1 1/1:1+1 1/1:0+1 1/0:1+1 1/0:0+1",
        "0 Sequence { expected: 0, found: 1 } 1 \
         Epoch { theirs: ProducerEpoch(0), ours: ProducerEpoch(1) } \
         Epoch { theirs: ProducerEpoch(0), ours: ProducerEpoch(1) }",
    );
}

#[test]
fn an_unknown_producer_may_start_anywhere_unless_the_protocol_is_strict() {
    check("1/3:17+1", "0");
    let strict = ClientAppend { strict_start: true, ..batch(1, 0, 17, 1) };
    let refusal = Producers::default().check(&strict);
    assert_eq!(refusal, Err(ProducerRefusal::Sequence { expected: 0, found: 17 }));
}

#[test]
fn transactions_hold_the_last_stable_offset_until_their_marker_is_replicated() {
    let mut world = World::new(10);
    let stable = |world: &World, high| world.producers.last_stable_offset(Offset(high)).0;
    assert_eq!(run(&mut world, "9/0:0+2 t1/0:0+2 t2/0:0+1 t1/0:2+1"), "0 2 4 5");
    assert_eq!((stable(&world, 6), stable(&world, 1)), (2, 1));
    assert_eq!(run(&mut world, "abort 1/0"), "6:back[2,6]<4");
    assert_eq!((stable(&world, 6), stable(&world, 7)), (2, 4));
    assert_eq!(run(&mut world, "commit 2/0"), "7");
    assert_eq!((stable(&world, 6), stable(&world, 7), stable(&world, 8)), (2, 4, 8));
    let overlapping = |from, below| world.producers.aborted(Offset(from), Offset(below)).count();
    assert_eq!(
        [overlapping(0, 2), overlapping(0, 3), overlapping(6, 9), overlapping(7, 9)],
        [0, 1, 1, 0]
    );
    world.producers.on_high_watermark(Offset(8));
    assert_eq!(stable(&world, 7), 7);
}

#[test]
fn a_transaction_is_verified_first_and_left_by_a_marker_only() {
    check("u1/0:0+1", "NotVerified");
    check(
        "t1/0:0+1 u1/0:1+1 1/0:2+1 commit 1/0 1/0:2+1 u1/0:3+1",
        "0 1 InsideTransaction { first: Offset(0) } 2 3 NotVerified",
    );
}

#[test]
fn a_marker_with_nothing_before_it_still_fences() {
    check(
        "commit 1/4 1/3:0+1 1/4:0+1",
        "0 Epoch { theirs: ProducerEpoch(3), ours: ProducerEpoch(4) } 1",
    );
}

#[test]
fn raised_epochs_tell_a_late_marker_from_a_retried_one() {
    let mut world = World::new(10);
    run(&mut world, "t1/0:0+1");
    let raised =
        |epoch| MarkerAppend { raises_epoch: true, ..ending(1, epoch, MarkerKind::Commit, 0) };
    let late = ProducerRefusal::Epoch { theirs: ProducerEpoch(0), ours: ProducerEpoch(0) };
    assert_eq!(world.mark(&raised(0)), Err(late));
    assert_eq!(world.mark(&raised(1)), Ok(None));
    assert_eq!(world.mark(&raised(1)), Ok(None));
    run(&mut world, "t1/1:0+1");
    assert!(world.mark(&raised(1)).is_err());
    world.verify();
}

#[test]
fn an_older_coordinator_is_fenced() {
    let mut world = World::new(10);
    world.mark(&ending(1, 0, MarkerKind::Commit, 7)).unwrap();
    let refusal = world.mark(&ending(1, 0, MarkerKind::Abort, 6));
    assert_eq!(refusal, Err(ProducerRefusal::Coordinator { theirs: 6, ours: 7 }));
}

#[test]
fn who_wrote_longest_ago_is_forgotten_but_never_inside_a_transaction() {
    let mut world = World::new(2);
    assert_eq!(run(&mut world, "t1/0:0+1 2/0:0+1 3/0:0+1 2/0:1+1 4/0:0+1"), "0 1 2 3 4");
    let known: Vec<_> = world.producers.describe().map(|it| it.id.0).collect();
    assert_eq!(known, [1, 4]);
    assert_eq!(run(&mut world, "t4/0:1+1"), "5");
    assert_eq!(run(&mut world, "5/0:0+1"), "Overloaded { producers_max: 2 }");
}

#[test]
fn silent_producers_expire_but_never_inside_a_transaction() {
    let mut world = World::new(10);
    run(&mut world, "1/0:0+1 t2/0:0+1");
    world.producers.appended(&batch(3, 0, 0, 1).stamp, Offset(2), Offset(2), 1, 50);
    assert_eq!(world.producers.expire(99, 100), 0);
    assert_eq!(world.producers.expire(100, 100), 1);
    assert_eq!(world.producers.expire(150, 100), 1);
    world.producers.verify();
    assert_eq!(world.producers.len(), 1);
}

/// Every history of four steps of two producers. The oracle is the log itself: replayed, it gives
/// the same state; a duplicate is answered with the bytes that are there; and below the last
/// stable offset there is no undecided record.
#[test]
fn no_short_history_breaks_an_invariant() {
    fn go(world: &World, depth: u32) -> u64 {
        if depth == 0 {
            world.verify();
            return 1;
        }
        let mut histories = 0;
        for id in [1, 2] {
            for epoch in [0, 1] {
                for sequence in [0, 1, 2] {
                    for transactional in [false, true] {
                        let mut append = batch(id, epoch, sequence, 1);
                        if transactional {
                            append = within(append);
                        }
                        let mut next = world.clone();
                        match next.append(&append) {
                            Ok(Verdict::Append) => histories += go(&next, depth - 1),
                            Ok(Verdict::Duplicate(it)) => {
                                let bytes = &world.log[it.base.0 as usize];
                                let batch = Batch::split(bytes).unwrap().0;
                                assert_eq!(batch.producer_id(), append.stamp.id);
                                assert_eq!(batch.producer_epoch(), append.stamp.epoch);
                                assert_eq!(batch.base_sequence(), sequence);
                            }
                            Err(_) => assert_eq!(next.producers, world.producers),
                        }
                    }
                }
                for kind in [MarkerKind::Abort, MarkerKind::Commit] {
                    let mut next = world.clone();
                    if next.mark(&ending(id, epoch, kind, 0)).is_ok() {
                        check_stable(&next);
                        histories += go(&next, depth - 1);
                    }
                }
            }
        }
        histories
    }
    /// All batches have one record here, so the log's position is the offset.
    fn check_stable(world: &World) {
        let stable = world.producers.last_stable_offset(world.end);
        let mut open = BTreeMap::new();
        for (at, bytes) in (0..).zip(&world.log) {
            let batch = Batch::split(bytes).unwrap().0;
            if batch.is_control() {
                open.remove(&batch.producer_id());
            } else if batch.is_transactional() {
                open.entry(batch.producer_id()).or_insert(Offset(at));
            }
        }
        // All markers are below the end, but an ended transaction holds until that is known.
        let first = open.values().min().copied().unwrap_or(world.end);
        assert_eq!(stable, first);
    }
    let histories = go(&World::new(2), 4);
    assert!(10_000 < histories, "the walk went empty: {histories}");
}

/// Whatever bytes are decoded, the result keeps the invariants or is refused.
#[test]
fn no_bytes_make_it_panic() {
    let mut world = World::new(10);
    run(&mut world, "1/0:0+1 t2/0:0+1 1/0:1+1 3/2:0+1 abort 2/0 t3/2:1+1");
    let mut whole = Vec::new();
    world.producers.encode(&mut whole);
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = whole.clone();
            broken[at] = value;
            if let Ok(it) = Producers::decode(&mut Reader::new(&broken), 10) {
                it.verify();
            }
        }
        assert!(Producers::decode(&mut Reader::new(&whole[..at]), 10).is_err());
    }
}

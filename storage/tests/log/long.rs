//! Batches that take long to look at let the others of their lane go on, and keep their place.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use corelane_core::buf::{Buf, Piece};
use corelane_core::ids::{ProducerEpoch, ProducerId};
use corelane_core::lane::{Importance, Lane, join_all};
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::build::BatchBuilder;
use corelane_storage::compress::{Codec, Compressor, Level};
use corelane_storage::log::line::InTurn;
use corelane_storage::log::store::{AppendError, Store};

use super::harness::{batch, config, partition, read_all, rules, run, start};

const PATIENCE: Nanos = Nanos::secs(100);
const UNFOLDED_BYTES: usize = 4 << 20;

/// Turns that others have at least while so much is unfolded, or so many records are walked.
const TURNS_MIN: usize = 30;

fn piece(bytes: &[u8]) -> Piece {
    let whole = 0..bytes.len();
    Buf::copy_of(bytes).split(&[whole]).expect("nobody else has it").remove(0)
}

fn client() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1))
}

fn folded(builder: &BatchBuilder, codec: Codec) -> Vec<u8> {
    builder.build_compressed(codec, Level::Default, &mut Compressor::new())
}

/// One record that unfolds to so much.
fn large(bytes: usize, codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let value: Vec<u8> = (0..bytes).map(|it| (((it * it) >> 13) as u8) & 7).collect();
    builder.record(1_700_000_000_000, None, Some(&value));
    folded(&builder, codec)
}

/// Counts the turns of a task that has one whenever there is one for it.
fn look_on(lane: &Lane) -> Rc<Cell<usize>> {
    let turns = Rc::new(Cell::new(0));
    let (lane_too, counted) = (lane.clone(), Rc::clone(&turns));
    lane.spawn("look on", Importance::Serving, async move {
        loop {
            counted.set(counted.get() + 1);
            lane_too.yield_now().await;
        }
    });
    turns
}

fn send(store: &Store, index: i32, bytes: &[u8]) -> InTurn {
    let until = store.lane().now() + PATIENCE;
    store.append_in_turn(&partition(1, index), piece(bytes), client(), until)
}

#[test]
fn what_takes_long_is_done_a_step_at_a_time_and_others_have_their_turns() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(partition(1, 0), "orders", rules(1 << 20)).expect("created");
        // What is short is done when it came.
        let turn = send(&store, 0, &large(60_000, Codec::Lz4));
        assert!(matches!(turn, InTurn::Done(Ok(_))), "a short one waits");
        let mut long: Vec<_> = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]
            .map(|codec| (format!("{codec:?}"), large(UNFOLDED_BYTES, codec)))
            .into();
        let (mut records, mut headers) = (BatchBuilder::new(), BatchBuilder::new());
        for _ in 0..260_000 {
            records.record(0, None, None);
        }
        headers.record_with_headers(0, None, None, &vec![("", None); 260_000]);
        // As it lies it is only walked.
        long.push(("headers".into(), headers.build()));
        long.push(("records".into(), folded(&records, Codec::Lz4)));
        let turns = look_on(&lane);
        for (name, bytes) in long {
            let before = turns.get();
            let turn = send(&store, 0, &bytes);
            assert!(matches!(turn, InTurn::Waits(_)), "{name} took one step");
            turn.done().await.expect("it is good");
            let turns = turns.get() - before;
            assert!(TURNS_MIN <= turns, "{name}: {turns} turns of others");
        }
    });
}

#[test]
fn only_its_own_partition_waits_for_one_that_takes_long() {
    let mut world = World::new(2, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        for index in 0..2 {
            store.create(partition(1, index), "orders", rules(1 << 20)).expect("created");
        }
        let long = large(UNFOLDED_BYTES, Codec::Gzip);
        let mut too_long = BatchBuilder::new();
        too_long.record(0, None, Some(&vec![0; 33 << 20]));
        let too_long = folded(&too_long, Codec::Zstd);
        let first = send(&store, 0, &too_long);
        let second = send(&store, 0, &long);
        let behind = send(&store, 0, &batch(7, 1, 10));
        assert!(matches!(behind, InTurn::Waits(_)), "LONG-1");
        let other = send(&store, 1, &batch(8, 1, 10));
        assert!(matches!(other, InTurn::Done(Ok(_))), "another partition waits");
        assert!(matches!(first.done().await, Err(AppendError::Refused(_))));
        assert_eq!(second.done().await.expect("taken").base.0, 0);
        assert_eq!(behind.done().await.expect("taken").base.0, 1);
        assert_eq!(store.appends_waiting(), 0);
        // Nobody waits for room, so whose time is over at once is taken all the same.
        let at_once = lane.now();
        let turn = store.append_in_turn(&partition(1, 0), piece(&long), client(), at_once);
        assert_eq!(turn.done().await.expect("taken").base.0, 2);
        // One whose partition goes away while it is looked at.
        let turn = send(&store, 0, &long);
        store.delete(&partition(1, 0)).expect("deleted");
        assert_eq!(turn.done().await, Err(AppendError::NotHere));
    });
}

/// Long ones and short ones, while journal and memory are used up again and again.
#[test]
fn whoever_steps_aside_keeps_its_place_when_room_is_short_too() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        for index in 0..2 {
            store.create(partition(1, index), "orders", rules(1 << 20)).expect("created");
        }
        let bytes_of = |sequence: i32, is_long: bool| {
            let mut builder = BatchBuilder::new();
            let value = vec![b'.'; if is_long { 600_000 } else { 20_000 }];
            builder.record(1_700_000_000_000, None, Some(&value));
            builder.producer(ProducerId(7), ProducerEpoch(0), sequence);
            folded(&builder, if is_long { Codec::Lz4 } else { Codec::None })
        };
        let (mut sequences, mut most_waiting, mut waited_long) = ([0, 0], 0, 0);
        for _ in 0..6 {
            let mut turns = Vec::new();
            for at in 0..60 {
                let index = lane.random() as usize % 2;
                let is_long = lane.random().is_multiple_of(8);
                let turn = send(&store, index as i32, &bytes_of(sequences[index], is_long));
                waited_long += usize::from(is_long && matches!(turn, InTurn::Waits(_)));
                turns.push((index, sequences[index], turn));
                sequences[index] += 1;
                most_waiting = most_waiting.max(store.appends_waiting());
                if at % 20 == 0 {
                    lane.sleep(Nanos::micros(50)).await;
                }
            }
            let done = turns.into_iter().map(|(index, sequence, turn)| async move {
                let done = turn.done().await.expect("a sequence out of order is refused");
                assert_eq!(done.base.0, i64::from(sequence), "partition {index}: LONG-1");
                assert!(!done.duplicate);
            });
            join_all(done).await;
        }
        assert!(20 < most_waiting && 10 < waited_long, "{most_waiting} {waited_long}");
        for (index, sequence) in sequences.into_iter().enumerate() {
            let all = read_all(&store, &partition(1, index as i32)).await;
            assert_eq!(all.len(), sequence as usize);
        }
    });
}

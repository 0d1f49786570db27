//! More than journal and memory take is held back in its order, and refused only for a reason.

use std::net::SocketAddr;

use corelane_core::buf::{Buf, Piece};
use corelane_core::lane::join_all;
use corelane_core::ring::Errno;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::log::line::InTurn;
use corelane_storage::log::store::{AppendError, Store};

use super::harness::{batch, batch_of, config, partition, read_all, rules, run, start};

const PATIENCE: Nanos = Nanos::secs(100);

fn client(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

fn piece(bytes: &[u8]) -> Piece {
    let whole = 0..bytes.len();
    Buf::copy_of(bytes).split(&[whole]).expect("nobody else has it").remove(0)
}

/// Sends a producer's batches from `sequence` on, without waiting, until some stand in line.
fn fill(store: &Store, producer: i64, sequence: i32) -> Vec<InTurn> {
    let (of, mut sent) = (partition(1, 0), Vec::new());
    let until = store.lane().now() + PATIENCE;
    while store.appends_waiting() < 40 {
        let sequence = sequence + i32::try_from(sent.len()).expect("few");
        let bytes = batch_of(producer, sequence, 1, 20_000);
        sent.push(store.append_in_turn(&of, piece(&bytes), client(1), until));
        assert!(sent.len() < 1000, "there is always room");
    }
    sent
}

#[test]
fn what_is_too_much_for_now_waits_and_is_taken_in_the_order_it_came() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let (of, other) = (partition(1, 0), partition(1, 1));
        for it in [of, other] {
            store.create(it, "orders", rules(1 << 20)).expect("created");
        }
        let mut sent = 0;
        for round in 0..4 {
            let mut turns = fill(&store, 7, sent);
            // Small enough to find room, and to another partition: behind the others all the same.
            let until = lane.now() + PATIENCE;
            let small = piece(&batch(round, 1, 10));
            let last = store.append_in_turn(&other, small, client(2), until);
            assert!(matches!(last, InTurn::Waits(_)), "LINE-1");
            // One that comes while the line is getting shorter.
            lane.sleep(Nanos::millis(1)).await;
            let sequence = sent + i32::try_from(turns.len()).expect("few");
            let late = piece(&batch_of(7, sequence, 1, 20_000));
            turns.push(store.append_in_turn(&of, late, client(1), until));
            for turn in join_all(turns.into_iter().map(InTurn::done)).await {
                let done = turn.expect("a sequence that is out of order is refused");
                assert_eq!((done.base.0, done.duplicate), (i64::from(sent), false));
                store.durable(done.commit).await.expect("durable");
                sent += 1;
            }
            assert_eq!(last.done().await.expect("taken").base.0, round as i64);
            assert_eq!(store.appends_waiting(), 0);
        }
        assert!(200 < sent, "only {sent}: what is tested did not happen");
        assert_eq!(read_all(&store, &of).await.len(), usize::try_from(sent).expect("counted"));
    });
}

#[test]
fn a_slow_disk_is_waited_for_in_peace() {
    const SLICE: Nanos = Nanos::millis(5);
    const POLLS_MAX: u64 = 300;
    let mut world = World::new(5, Faults::none());
    let node = world.node(1);
    world.slow_disk(node, 200);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(partition(1, 0), "orders", rules(1 << 20)).expect("created");
        let turns = fill(&store, 7, 0);
        let mut slices = 0;
        while 0 < store.appends_waiting() {
            let before = lane.counts().polls;
            lane.sleep(SLICE).await;
            let polls = lane.counts().polls - before;
            assert!(polls < POLLS_MAX, "{polls} polls of the lane's tasks in {SLICE:?}");
            slices += 1;
        }
        assert!(5 < slices, "nobody waited: {slices}");
        for turn in join_all(turns.into_iter().map(InTurn::done)).await {
            turn.expect("there was room in the end");
        }
    });
}

#[test]
fn whose_time_is_over_is_refused_with_what_the_same_client_sent_behind_it() {
    let mut world = World::new(2, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        store.create(of, "orders", rules(1 << 20)).expect("created");
        let turns = fill(&store, 7, 0);
        let until = lane.now() + PATIENCE;
        let send = |producer, sequence, from, until| {
            let bytes = batch_of(producer, sequence, 1, 5_000);
            store.append_in_turn(&of, piece(&bytes), client(from), until)
        };
        let at_once = send(9, 0, 2, lane.now());
        assert!(matches!(at_once, InTurn::Done(Err(AppendError::TimedOut))));
        let (first, second) = (send(9, 0, 2, lane.now() + Nanos::micros(1)), send(9, 1, 2, until));
        let neighbour = send(11, 0, 3, until);
        assert_eq!(first.done().await, Err(AppendError::TimedOut));
        assert_eq!(second.done().await, Err(AppendError::TimedOut), "LINE-2");
        for turn in join_all(turns.into_iter().map(InTurn::done)).await {
            turn.expect("their time was not over");
        }
        neighbour.done().await.expect("nor was that of another client");
        for sequence in 0..2 {
            send(9, sequence, 2, until).done().await.expect("sent again, in order");
        }
    });
}

#[test]
fn a_full_disk_and_a_failed_one_are_said_to_those_who_wait() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    world.with_disk(node, |it| it.set_capacity(12 << 20));
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        store.create(of, "orders", rules(500_000)).expect("created");
        let (mut taken, mut full) = (0, false);
        while !full {
            let until = lane.now() + PATIENCE;
            let send =
                |tag| store.append_in_turn(&of, piece(&batch(tag, 1, 50_000)), client(1), until);
            let turns: Vec<_> = (0..50).map(send).collect();
            for turn in join_all(turns.into_iter().map(InTurn::done)).await {
                match turn {
                    Ok(_) => taken += 1,
                    Err(error) => {
                        assert_eq!(error, AppendError::NoSpace);
                        full = true;
                    }
                }
            }
        }
        assert!(50 < taken, "only {taken}");
        assert_eq!(read_all(&store, &of).await.len(), taken);
    });
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(partition(1, 0), "orders", rules(1 << 20)).expect("created");
        let turns = fill(&store, 7, 0);
        store.journal().fence(Errno::IO);
        let refused = join_all(turns.into_iter().map(InTurn::done)).await;
        let refused = refused.iter().filter(|it| **it == Err(AppendError::Failed(Errno::IO)));
        assert_eq!(refused.count(), 40);
    });
}

#[test]
fn a_batch_without_room_waits_as_it_came_where_the_log_stamps_the_time() {
    let mut world = World::new(9, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        let mut stamped = rules(1 << 20);
        stamped.append.log_append_time = true;
        store.create(of, "orders", stamped).expect("created");
        let shared = store.partition(&of).expect("here");
        shared.borrow_mut().cutting = true;
        let turn = store.append_in_turn(&of, piece(&batch(1, 1, 100)), client(1), PATIENCE);
        assert!(matches!(turn, InTurn::Waits(_)), "a log that is being cut takes nothing");
        lane.sleep(Nanos::millis(50)).await;
        shared.borrow_mut().cutting = false;
        let done = turn.done().await.expect("taken at last");
        assert!(done.log_append_ms.is_some());
    });
}

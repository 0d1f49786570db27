//! The start of a log moves for its readers once the move is durable, and never goes back.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::sim::{Cut, Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::build::BatchBuilder;
use corelane_storage::log::partition::OutOfRange;
use corelane_storage::log::store::{ReadError, ReadUpTo, ReadWant, Store};
use corelane_storage::log::truncate::TruncateError;

use crate::harness::{append, batch, begin, config, partition, rules, run, start};

async fn read_at(store: &Store, of: &TopicPartition, from: i64) -> Result<Offset, ReadError> {
    let want = ReadWant {
        from: Offset(from),
        up_to: ReadUpTo::Visible,
        bytes_max: 1000,
        at_least_one: true,
        file_bytes_min: ReadWant::NO_FILES,
    };
    store.read(of, &want).await.map(|it| it.log_start)
}

async fn ten_batches(store: &Store, of: &TopicPartition) {
    store.create(*of, "orders", rules(2000)).expect("created");
    for tag in 0..10 {
        append(store, of, batch(tag, 1, 500)).await;
    }
}

#[test]
fn readers_see_a_new_start_once_it_is_durable() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        ten_batches(&store, &of).await;
        let (moved, commit) = store.delete_records(&of, Some(Offset(5))).expect("taken");
        let (again, _) = store.delete_records(&of, Some(Offset(3))).expect("taken");
        assert_eq!((moved, again), (Offset(5), Offset(5)), "it is never asked to go back");
        assert_eq!(read_at(&store, &of, 0).await, Ok(Offset(0)), "the old start is still true");
        store.durable(commit).await.expect("durable");
        let gone = ReadError::OutOfRange(OutOfRange { log_start: Offset(5), end: Offset(10) });
        assert_eq!(read_at(&store, &of, 4).await, Err(gone));
        assert_eq!(read_at(&store, &of, 5).await, Ok(Offset(5)));
    });
}

/// The record with the largest timestamp may be below the start while others of its batch are not: the
/// batch still counts whole.
#[test]
fn the_largest_timestamp_is_that_of_the_batches_that_can_be_read() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        store.create(of, "orders", rules(2000)).expect("created");
        for timestamps in [[50, 40, 30], [20, 20, 20], [5, 10, 10]] {
            let mut batch = BatchBuilder::new();
            for timestamp in timestamps {
                batch.record(timestamp, None, Some(b"value"));
            }
            append(&store, &of, batch.build()).await;
        }
        for (start, found) in [
            (0, Some((50, 0))),
            (1, Some((50, 0))),
            (3, Some((20, 3))),
            (7, Some((10, 7))),
            (9, None),
        ] {
            let (_, commit) = store.delete_records(&of, Some(Offset(start))).expect("taken");
            store.durable(commit).await.expect("durable");
            let told = store.max_timestamp(&of).await.expect("it can be read");
            assert_eq!(told.map(|it| (it.timestamp, it.offset.0)), found, "from {start}");
        }
    });
}

#[test]
fn a_log_is_not_cut_back_below_a_start_that_is_on_its_way() {
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        ten_batches(&store, &of).await;
        store.delete_records(&of, Some(Offset(8))).expect("taken");
        let cut = store.truncate_to(&of, Offset(6)).await;
        assert!(matches!(cut, Err(TruncateError::OutOfRange(_))), "{cut:?}");
        let (end, commit) = store.truncate_to(&of, Offset(9)).await.expect("cut");
        store.durable(commit).await.expect("durable");
        assert_eq!((end, read_at(&store, &of, 8).await), (Offset(9), Ok(Offset(8))));
    });
}

/// Power fails at every moment after a start was asked for: what some reader was told stays true.
#[test]
fn no_power_cut_takes_back_a_start_that_was_seen() {
    let (mut kept, mut moved) = (0, 0);
    for step in 0..60 {
        let mut world = World::new(5, Faults::none());
        let node = world.node(1);
        let seen = Rc::new(Cell::new(Offset(0)));
        let asked = Rc::new(Cell::new(false));
        let (told, over) = (Rc::clone(&seen), Rc::clone(&asked));
        let of = partition(1, 0);
        begin(
            &mut world,
            node,
            move |lane| async move {
                let (store, _) = start(&lane, &config()).await.expect("starts");
                ten_batches(&store, &of).await;
                store.delete_records(&of, Some(Offset(7))).expect("taken");
                over.set(true);
                loop {
                    told.set(read_at(&store, &of, 9).await.expect("it is there"));
                    lane.sleep(Nanos::micros(1)).await;
                }
            },
            false,
        );
        assert!(world.run_to(Nanos::secs(100), || asked.get()));
        world.run_for(Nanos::micros(5 * step));
        let shown = seen.get();
        world.cut_power(node, Cut::KeepNone);
        run(&mut world, node, move |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            let now = store.partition(&of).expect("it is here").borrow().log_start();
            assert!(shown <= now, "{step}: a reader was told of {shown}, now it is {now}");
        });
        *(if shown == Offset(0) { &mut kept } else { &mut moved }) += 1;
    }
    assert!(0 < kept && 0 < moved, "the cuts lie on both sides of the commit: {kept}, {moved}");
}

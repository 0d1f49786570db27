//! What a lane does for its log while nobody asks: memory, producers, descriptors, an end in order.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::log::open::mark_clean;
use corelane_storage::log::store::Store;

use crate::harness::{
    append, batch, batch_of, config, partition, read_all, rules, run, start, start_counting,
};

#[test]
fn short_memory_is_relieved_by_writing_the_largest_tail_and_forgetting_what_is_on_disk() {
    const MEMORY_BYTES: usize = 2 << 20;
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    let (large, small) = (partition(1, 0), partition(1, 1));
    run(&mut world, node, move |lane| async move {
        let metrics = Metrics::default();
        let mut config = config();
        // So large a journal that none of its files is given back.
        config.slots_max = 128;
        config.upkeep.memory_bytes_max = MEMORY_BYTES;
        let (store, _) = start_counting(&lane, &config, &metrics).await.expect("starts");
        for of in [large, small] {
            store.create(of, "orders", rules(1 << 30)).expect("created");
        }
        append(&store, &small, batch(0, 1, 1000)).await;
        for tag in 0..600 {
            append(&store, &large, batch(tag, 1, 5000)).await;
        }
        lane.sleep(Nanos::secs(2)).await;
        assert_eq!(metrics.counter("journal.files_retired").get(), 0);
        let here = |of| {
            let shared = store.partition(of).expect("here");
            let partition = shared.borrow();
            let open = partition.open_segment();
            (open.flushed, open.tail.start())
        };
        let (flushed, memory_from) = here(&large);
        assert!(0 < memory_from && memory_from <= flushed, "{memory_from} of {flushed}");
        assert_eq!(here(&small), (0, 0), "what is small stays in memory");
        let lent = lane.pool().stats().lent_bytes;
        // Memory is given back in whole chunks, and the journal's frames come on top.
        assert!(lent < MEMORY_BYTES + (10 << 18), "{lent}");
        assert_eq!(read_all(&store, &large).await.len(), 600);
        assert_eq!(read_all(&store, &small).await.len(), 1);
        assert!(0 < metrics.counter("log.cold_reads").get());
    });
}

fn producers(store: &Store) -> String {
    let shared = store.partition(&partition(1, 0)).expect("here");
    let ids: Vec<_> = shared.borrow().producers.describe().map(|it| it.id.0.to_string()).collect();
    ids.join(" ")
}

#[test]
fn a_silent_producer_is_forgotten_and_stays_so_after_an_end_in_order() {
    let mut world = World::new(2, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.expire_producers_after(300_000);
        store.create(of, "orders", rules(1 << 30)).expect("created");
        append(&store, &of, batch_of(9, 0, 0, 100)).await;
        for sequence in 0..10 {
            append(&store, &of, batch_of(8, sequence, 1, 100)).await;
            lane.sleep(Nanos::secs(60)).await;
            if sequence == 3 {
                assert_eq!(producers(&store), "8 9");
            }
        }
        assert_eq!(producers(&store), "8");
        store.close().await.expect("closes");
    });
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        assert_eq!(producers(&store), "8");
        // Of a producer nobody knows, any sequence is the first.
        let taken = store.append(&of, &mut batch_of(9, 5, 2, 100), false).expect("taken");
        assert!(!taken.duplicate);
    });
}

#[test]
fn open_segments_keep_to_their_bound_and_a_closed_one_is_opened_again() {
    const OPEN_MAX: usize = 4;
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let mut config = config();
        config.upkeep.open_files_max = OPEN_MAX;
        let (store, _) = start(&lane, &config).await.expect("starts");
        let open = || {
            let all = store.partitions();
            let count = |it: &corelane_storage::log::store::Shared| {
                it.borrow().segments.iter().filter(|it| it.file.is_some()).count()
            };
            all.iter().map(count).sum::<usize>()
        };
        let mut most = 0;
        for index in 0..4 {
            let of = partition(1, index);
            store.create(of, "orders", rules(30_000)).expect("created");
            for tag in 0..30 {
                append(&store, &of, batch(tag, 1, 5000)).await;
                most = most.max(open());
            }
        }
        lane.sleep(Nanos::secs(2)).await;
        for it in store.partitions() {
            let mut partition = it.borrow_mut();
            let finished = partition.segments.iter_mut().filter(|it| it.finished);
            assert_eq!(finished.map(|it| it.forget()).count(), 5);
        }
        // Twice around: each read finds its file closed by those between.
        for _ in 0..2 {
            for index in 0..4 {
                assert_eq!(read_all(&store, &partition(1, index)).await.len(), 30);
                most = most.max(open());
            }
        }
        assert_eq!(most, OPEN_MAX);
    });
}

/// What a start finds: whether the run before ended in order, and whether it had to read batches.
type Seen = (bool, bool);

#[test]
fn after_an_end_in_order_nothing_is_replayed() {
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
    // Killed, killed, ended in order, ended in order.
    for (round, in_order) in [false, false, true, true, false].into_iter().enumerate() {
        let seen = Rc::clone(&seen);
        run(&mut world, node, move |lane| async move {
            let (store, found) = start(&lane, &config()).await.expect("starts");
            // Batches that were read left signposts.
            let shared = store.partition(&of);
            let replayed =
                shared.is_some_and(|it| !it.borrow().open_segment().signposts().is_empty());
            let clean = found.before.is_some_and(|it| it.clean);
            seen.borrow_mut().push((clean, replayed));
            store.create(of, "orders", rules(1 << 30)).expect("created");
            if 0 < round {
                assert_eq!(read_all(&store, &of).await.len(), round * 3);
            }
            for tag in 0..3 {
                append(&store, &of, batch(tag, 1, 1000)).await;
            }
            if in_order {
                let left = store.close().await.expect("closes");
                let marked = mark_clean(&lane, &config(), found.generation, 1, left).await;
                assert_eq!(marked, Ok(true));
            }
        });
    }
    let expected = [(false, false), (false, true), (false, true), (true, false), (true, false)];
    assert_eq!(*seen.borrow(), expected);
}

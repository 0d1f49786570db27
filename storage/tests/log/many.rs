//! What very many partitions cost: counted, not timed.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_core::ring::FileKind;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::log::open::LogConfig;
use corelane_storage::log::store::{AppendError, Store};

use crate::harness::{
    append, batch, config, partition, read_all, rules, run, start, start_counting,
};

const MANY: i32 = 10_000;
/// A folder, a manifest, checkpoints, slots: what one start opens at most, whatever is stored.
const OPENS_OF_A_START_MAX: u64 = 40;

fn roomy() -> LogConfig {
    LogConfig { slot_bytes: 2 << 20, ..config() }
}

async fn create(store: &Store, count: i32) {
    for index in 0..count {
        while let Err(error) = store.create(partition(1, index), "orders", rules(1 << 30)) {
            assert_eq!(error, AppendError::Overloaded);
            store.lane().sleep(Nanos::millis(1)).await;
        }
    }
    store.durable(store.journal().latest()).await.expect("durable");
}

async fn folders(lane: &Lane) -> usize {
    let all = lane.list("/data").await.expect("listed");
    all.iter().filter(|it| it.kind == FileKind::Dir && it.name.starts_with("orders-")).count()
}

#[test]
fn ten_thousand_empty_partitions_cost_no_file_no_descriptor_and_no_flush_each() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &roomy()).await.expect("starts");
        let before = lane.counts();
        let free = lane.space("/data").await.expect("known").free_bytes;
        create(&store, MANY).await;
        let after = lane.counts();
        // Frames, and the slots they need.
        assert!(after.durable_writes - before.durable_writes < 20, "{after:?}");
        assert!(after.flushes - before.flushes < 10, "{after:?}");
        assert!(after.opens - before.opens < 10, "{after:?}");
        let used = free - lane.space("/data").await.expect("known").free_bytes;
        assert!(used < MANY as u64 * 1024, "{used} bytes");
        assert_eq!(folders(&lane).await, 0);
    });
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &roomy()).await.expect("starts");
        let opens = lane.counts().opens;
        assert!(opens <= OPENS_OF_A_START_MAX, "{opens}");
        assert_eq!(store.partitions().len(), MANY as usize);
        append(&store, &partition(1, MANY - 1), batch(1, 1, 100)).await;
    });
}

#[test]
fn the_first_files_of_many_partitions_are_made_durable_together() {
    const COUNT: i32 = 150;
    let mut world = World::new(2, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        // Large enough that each of them has whole blocks to write when the first files go.
        let config = LogConfig { slot_bytes: 1 << 20, ..config() };
        let (store, _) = start(&lane, &config).await.expect("starts");
        create(&store, COUNT).await;
        let before = lane.counts();
        for tag in 0..8 * COUNT as u64 {
            append(&store, &partition(1, (tag % COUNT as u64) as i32), batch(tag, 1, 6000)).await;
        }
        lane.sleep(Nanos::secs(2)).await;
        let made = folders(&lane).await as u64;
        assert!(100 < made, "{made} folders");
        let flushes = lane.counts().flushes - before.flushes;
        // One for each folder, and a few for the directory they are in, slots and checkpoints.
        assert!(flushes < made + made / 2, "{flushes} flushes for {made} folders");
    });
}

#[test]
fn tails_of_many_partitions_go_to_their_segments_late_and_in_one_write_each() {
    const COUNT: u64 = 150;
    const ROUNDS: u64 = 60;
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        // While the journal goes round once, some twenty batches come for each partition.
        let config = LogConfig { slot_bytes: 128 << 10, slots_max: 32, ..config() };
        let metrics = Metrics::default();
        let (store, _) = start_counting(&lane, &config, &metrics).await.expect("starts");
        create(&store, COUNT as i32).await;
        let before = lane.counts();
        let mut bytes = 0;
        for tag in 0..ROUNDS * COUNT {
            let (of, mut batch) = (partition(1, (tag % COUNT) as i32), batch(tag, 1, 1000));
            bytes += batch.len() as u64;
            // Many in one commit.
            while let Err(error) = store.append(&of, &mut batch, false) {
                assert_eq!(error, AppendError::Overloaded);
                lane.sleep(Nanos::millis(1)).await;
            }
        }
        let counted = |name| metrics.counter(name).get();
        let (writes, written) = (counted("log.segment_writes"), counted("log.segment_bytes"));
        assert!(bytes / 2 < written, "{written} of {bytes} bytes");
        assert!(14_000 * writes < written, "{writes} writes of {written} bytes");
        assert!(counted("log.carried_bytes") < bytes / 4, "{}", counted("log.carried_bytes"));
        let opens = lane.counts().opens - before.opens;
        // What says whose the folder is, and the segment, which stays open.
        assert!(opens < 2 * COUNT + 100, "{opens} opened");
    });
}

#[test]
fn a_start_opens_as_little_after_a_long_history_as_after_a_short_one() {
    const COUNT: i32 = 40;
    let opened = |rounds: u64| {
        let mut world = World::new(3, Faults::none());
        let node = world.node(1);
        run(&mut world, node, move |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            create(&store, COUNT).await;
            for tag in 0..rounds * COUNT as u64 {
                let of = partition(1, (tag % COUNT as u64) as i32);
                append(&store, &of, batch(tag, 1, 9000)).await;
            }
        });
        let opens = Rc::new(Cell::new(0));
        let told = Rc::clone(&opens);
        run(&mut world, node, move |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            told.set(lane.counts().opens);
            let shared = store.partition(&partition(1, 0)).expect("here");
            assert_eq!(shared.borrow().end().0, rounds as i64);
        });
        opens.get()
    };
    for rounds in [10, 40] {
        let opens = opened(rounds);
        assert!(opens <= OPENS_OF_A_START_MAX, "{opens} after {rounds} rounds");
    }
}

#[test]
fn a_journal_too_small_for_the_last_blocks_of_all_partitions_grows_and_does_not_stand_still() {
    const COUNT: u64 = 600;
    const ROUNDS: u64 = 6;
    const PATIENCE: u32 = 3_000;
    let mut world = World::new(5, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        // The last block of each is 2 KiB full on average, which together is more than the journal.
        let config = LogConfig { slot_bytes: 64 << 10, slots_max: 16, ..config() };
        let (store, _) = start(&lane, &config).await.expect("starts");
        create(&store, COUNT as i32).await;
        for tag in 0..ROUNDS * COUNT {
            let (of, mut batch) = (partition(1, (tag % COUNT) as i32), batch(tag, 1, 900));
            let mut tries = 0;
            while let Err(error) = store.append(&of, &mut batch, false) {
                assert_eq!(error, AppendError::Overloaded);
                tries += 1;
                assert!(tries < PATIENCE, "nothing was taken for seconds, from batch {tag} on");
                lane.sleep(Nanos::millis(1)).await;
            }
        }
        store.durable(store.journal().latest()).await.expect("durable");
        let (_, limit) = store.journal().fill();
        assert!(1 << 20 < limit && limit < 16 * COUNT * 4096, "{limit} bytes of journal");
    });
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        for index in 0..COUNT as i32 {
            assert_eq!(read_all(&store, &partition(1, index)).await.len() as u64, ROUNDS);
        }
    });
}

//! Readers of old records: the next piece is on its way before they ask, within bounds.

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::log::store::{ReadUpTo, ReadWant, Store};

use crate::harness::{append, batch, config, partition, read_all, rules, run, start_counting};

const BATCHES: i64 = 400;

/// Reads once, and tells where the next read begins.
async fn read(store: &Store, of: &TopicPartition, from: i64) -> i64 {
    let want = ReadWant {
        from: Offset(from),
        up_to: ReadUpTo::Visible,
        bytes_max: 100_000,
        at_least_one: true,
        file_bytes_min: ReadWant::NO_FILES,
    };
    let done = store.read(of, &want).await.expect("readable");
    assert!(0 < done.bytes, "nothing at {from}");
    let mut batches = 0;
    for slice in &done.slices {
        for batch in corelane_storage::batch::Batches::new(slice) {
            let batch = batch.expect("whole");
            assert_eq!(batch.base_offset(), Offset(from + batches));
            batches += 1;
        }
    }
    from + batches
}

/// Runs a reader over two megabytes in finished segments that are not in memory. Tells how often it
/// was read ahead, and how often that was of use.
#[track_caller]
fn check(
    segment_bytes: u64,
    reader: impl AsyncFn(&Store, &TopicPartition) + 'static,
) -> (u64, u64) {
    let mut world = World::new(11, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    let told = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
    let tell = std::rc::Rc::clone(&told);
    run(&mut world, node, move |lane| async move {
        let metrics = Metrics::default();
        let (store, _) = start_counting(&lane, &config(), &metrics).await.expect("starts");
        store.create(of, "orders", rules(segment_bytes)).expect("created");
        for tag in 0..BATCHES {
            append(&store, &of, batch(tag as u64, 1, 5000)).await;
        }
        lane.sleep(Nanos::secs(2)).await;
        for segment in &mut store.partition(&of).expect("here").borrow_mut().segments {
            if segment.finished {
                segment.forget();
            }
        }
        reader(&store, &of).await;
        lane.sleep(Nanos::secs(1)).await;
        let count = |name| metrics.counter(name).get();
        tell.set((count("log.ahead_reads"), count("log.ahead_taken")));
    });
    told.get()
}

#[test]
fn whoever_reads_on_finds_the_next_piece_across_segments() {
    for segment_bytes in [300_000, 1 << 20] {
        let (ahead, taken) = check(segment_bytes, async |store, of| {
            let mut at = 0;
            while at < 150 {
                at = read(store, of, at).await;
            }
        });
        assert!(6 <= taken && taken <= ahead && ahead <= taken + 2, "{taken} of {ahead}");
    }
}

#[test]
fn whoever_jumps_about_is_not_read_ahead_of() {
    let told = check(300_000, async |store, of| {
        for at in [70, 10, 150, 41, 99] {
            read(store, of, at).await;
        }
    });
    assert_eq!(told, (0, 0));
}

#[test]
fn two_readers_of_one_piece_both_get_their_records_and_one_that_nobody_takes_is_forgotten() {
    let (ahead, taken) = check(300_000, async |store, of| {
        let next = read(store, of, 0).await;
        // The piece is still being read when both ask for it.
        let both = [read(store, of, next), read(store, of, next)];
        let both = corelane_core::lane::join_all(both).await;
        assert_eq!(both[0], both[1]);
        store.lane().sleep(Nanos::secs(8)).await;
        read(store, of, both[0]).await;
    });
    assert_eq!((ahead, taken), (3, 1));
}

#[test]
fn what_was_read_ahead_of_a_cut_is_not_given_after_it() {
    let (_, taken) = check(300_000, async |store, of| {
        let next = read(store, of, 0).await;
        store.lane().sleep(Nanos::millis(100)).await;
        store.truncate_to(of, Offset(next + 1)).await.expect("cut");
        let end = append(store, of, batch(9999, 1, 5000)).await;
        assert_eq!(end, Offset(next + 2));
        assert_eq!(read_all(store, of).await.len() as i64, next + 2);
    });
    assert_eq!(taken, 0);
}

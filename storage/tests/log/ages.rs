//! A segment's age counts from its own first batch, also where an earlier run wrote that.

use corelane_core::ids::TopicPartition;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::build::{BatchBuilder, NO_TIMESTAMP};
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::store::Store;

use crate::harness::{append, config, partition, run, start};

const BEGIN_MS: i64 = 1_600_000_000_000;
const HOUR_MS: i64 = 3_600_000;

fn hourly() -> LogRules {
    LogRules { segment_ms: HOUR_MS, ..LogRules::default() }
}

/// A batch of one record that is so many minutes younger than the first one; none has no time.
fn batch_at(minute: Option<i64>, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let timestamp = minute.map_or(NO_TIMESTAMP, |it| BEGIN_MS + it * 60_000);
    builder.record(timestamp, None, Some(&vec![b'.'; bytes]));
    builder.build()
}

/// The first offsets of a partition's segments.
fn bases(store: &Store, of: &TopicPartition) -> String {
    let shared = store.partition(of).expect("it is here");
    let bases: Vec<_> = shared.borrow().segments.iter().map(|it| it.base.0.to_string()).collect();
    bases.join(" ")
}

/// Appends to a log that was started `starts` times, once per minute told, and tells its segments.
#[track_caller]
fn check(runs: &[&[Option<i64>]], bytes: usize, end_in_order: bool, expect: &str) {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    let told = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
    for minutes in runs {
        let (minutes, heard) = (minutes.to_vec(), std::rc::Rc::clone(&told));
        run(&mut world, node, move |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            store.create(of, "orders", hourly()).expect("created");
            store.partition(&of).expect("here").borrow_mut().rules = hourly();
            for minute in minutes {
                append(&store, &of, batch_at(minute, bytes)).await;
                // A round of the upkeep.
                lane.sleep(Nanos::secs(1)).await;
            }
            if end_in_order {
                store.close().await.expect("closes");
            }
            heard.replace(bases(&store, &of));
        });
    }
    assert_eq!(*told.borrow(), expect);
}

#[test]
fn the_roll_by_time_counts_from_the_segments_own_first_batch_after_a_restart() {
    let (first, second) = ([Some(0), Some(10)], [Some(50), Some(70), Some(80)]);
    let runs: [&[_]; 2] = [&first, &second];
    for end_in_order in [false, true] {
        // In one run the same: what is older than an hour is closed.
        check(&[&[Some(0), Some(10), Some(50), Some(70), Some(80)]], 100, end_in_order, "0 3");
        // The first batch is in the journal only, or the file holds some of what came.
        check(&runs, 100, end_in_order, "0 3");
        check(&runs, 300_000, end_in_order, "0 3");
        // Also when it is one of two restarts ago.
        check(&[&[Some(0)], &[Some(10)], &[Some(20), Some(70)]], 100, end_in_order, "0 3");
    }
}

#[test]
fn a_batch_without_a_time_does_not_close_the_segment_it_began() {
    check(&[&[None, None, None]], 100, false, "0");
    check(&[&[None, None], &[None, None]], 100, true, "0");
}

/// The minutes each closed segment of a log lasted that gets a batch each minute, for ten hours.
fn lasted(of: TopicPartition, jitter_ms: i64) -> Vec<i64> {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    let told = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    // Over a restart, too: what was drawn for a segment stays.
    for hours in [0..300, 300..600] {
        let heard = std::rc::Rc::clone(&told);
        run(&mut world, node, move |lane| async move {
            let rules = LogRules { segment_jitter_ms_max: jitter_ms, ..hourly() };
            let (store, _) = start(&lane, &config()).await.expect("starts");
            store.create(of, "orders", rules.clone()).expect("created");
            let shared = store.partition(&of).expect("here");
            shared.borrow_mut().rules = rules;
            lane.sleep(Nanos::secs(1)).await;
            for minute in hours {
                append(&store, &of, batch_at(Some(minute), 10)).await;
            }
            let partition = shared.borrow();
            let bases = partition.segments.windows(2).map(|it| it[1].base.0 - it[0].base.0);
            heard.replace(bases.collect());
        });
    }
    told.take()
}

#[test]
fn each_segment_has_a_time_of_its_own() {
    assert!(lasted(partition(1, 0), 0).iter().all(|it| *it == 61));
    let one = lasted(partition(1, 0), HOUR_MS / 2);
    let other = lasted(partition(1, 1), HOUR_MS / 2);
    assert!(one.iter().chain(&other).all(|it| (31..=61).contains(it)), "{one:?} {other:?}");
    let distinct = |all: &[i64]| all.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(5 < distinct(&one) && one != other, "{one:?} {other:?}");
    // Nothing is left of the time where all of it may be taken.
    assert!(lasted(partition(1, 0), 10 * HOUR_MS).iter().all(|it| *it <= 61));
}

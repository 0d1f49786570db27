//! A log that is cut back ends there, for readers, writers, and after every kind of stop.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_core::ids::Offset;
use corelane_core::ring::sim::{Cut, Faults, World};
use corelane_storage::extent::ExtentRules;
use corelane_storage::log::open::LogConfig;
use corelane_storage::log::truncate::TruncateError;

use crate::harness::{append, batch, batch_of, config, partition, read_all, rules, run, start};

/// Appends go straight to segments from 10,000 bytes on.
fn with_extents() -> LogConfig {
    let mut config = config();
    config.upkeep.extents =
        ExtentRules { bytes_min: 10_000, room_bytes_min: 64 << 10, ..ExtentRules::default() };
    config
}

/// Batches of `bytes`, cut back to `to` in segments of `segment_bytes`, then other batches.
#[track_caller]
fn check(bytes: usize, segment_bytes: u64, to: i64, expect_end: i64) {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    let before = Rc::new(RefCell::new(Default::default()));
    let kept = Rc::clone(&before);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &with_extents()).await.expect("starts");
        store.create(of, "orders", rules(segment_bytes)).expect("created");
        for tag in 0..20 {
            append(&store, &of, batch(tag, 3, bytes / 3)).await;
        }
        let all = read_all(&store, &of).await;
        let (end, commit) = store.truncate_to(&of, Offset(to)).await.expect("cut");
        assert_eq!(end, Offset(expect_end));
        store.durable(commit).await.expect("durable");
        let left = read_all(&store, &of).await;
        let expect: Vec<_> = all.iter().filter(|it| *it.0 < expect_end).collect();
        assert_eq!(left.iter().collect::<Vec<_>>(), expect);
        assert_eq!(store.partition(&of).expect("here").borrow().visible(), Offset(expect_end));
        for tag in 100..110 {
            append(&store, &of, batch(tag, 3, bytes / 3)).await;
        }
        let all = read_all(&store, &of).await;
        assert_eq!(all.len() as i64, expect_end / 3 + 10);
        *kept.borrow_mut() = all;
    });
    for cut in [Cut::KeepAll, Cut::KeepNone, Cut::Random] {
        let mut again = World::new(6, Faults::none());
        let disk = world.disk(node).cut(cut, 7);
        let node = again.node_with_disk(1, disk);
        for _ in 0..2 {
            let before = Rc::clone(&before);
            run(&mut again, node, move |lane| async move {
                let (store, _) = start(&lane, &with_extents()).await.expect("starts");
                let all = read_all(&store, &of).await;
                assert_eq!(all, *before.borrow());
                append(&store, &of, batch(7, 1, 20_000)).await;
                let (_, commit) =
                    store.truncate_to(&of, Offset(expect_end + 30)).await.expect("cut");
                store.durable(commit).await.expect("durable");
            });
        }
    }
}

#[test]
fn a_cut_ends_where_the_batch_with_its_offset_begins() {
    check(300, 1 << 30, 31, 30);
    check(300, 1 << 30, 30, 30);
    check(300, 1 << 30, 0, 0);
    check(300, 1 << 30, 60, 60);
}

#[test]
fn a_cut_goes_into_what_was_written_out_and_into_large_appends() {
    check(40_000, 1 << 30, 31, 30);
    check(40_000, 1 << 30, 3, 3);
    check(5000, 1 << 30, 40, 39);
}

#[test]
fn a_cut_goes_back_over_segments() {
    check(5000, 20_000, 31, 30);
    check(5000, 20_000, 6, 6);
    check(40_000, 100_000, 20, 18);
    check(40_000, 100_000, 0, 0);
}

#[test]
fn a_producer_goes_on_from_what_is_left() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &with_extents()).await.expect("starts");
        store.create(of, "orders", rules(1 << 30)).expect("created");
        for sequence in 0..8 {
            append(&store, &of, batch_of(9, sequence, sequence as u64, 300)).await;
        }
        store.truncate_to(&of, Offset(5)).await.expect("cut");
        let known = store.append(&of, &mut batch_of(9, 4, 4, 300), false).expect("known");
        assert!(known.duplicate && known.base == Offset(4));
        let next = store.append(&of, &mut batch_of(9, 5, 50, 300), false).expect("next");
        assert!(!next.duplicate && next.base == Offset(5));
    });
}

#[test]
fn a_cut_stays_within_the_log() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &with_extents()).await.expect("starts");
        let nowhere = store.truncate_to(&of, Offset(5)).await;
        assert_eq!(nowhere.map(|_| ()), Err(TruncateError::NotHere));
        store.create(of, "orders", rules(1 << 30)).expect("created");
        for tag in 0..8 {
            append(&store, &of, batch(tag, 1, 300)).await;
        }
        store.delete_records(&of, Some(Offset(4))).expect("moved");
        let below = store.truncate_to(&of, Offset(3)).await;
        assert!(matches!(below, Err(TruncateError::OutOfRange(_))), "{below:?}");
        let (end, _) = store.truncate_to(&of, Offset(80)).await.expect("nothing to do");
        assert_eq!(end, Offset(8));
        let (end, _) = store.truncate_to(&of, Offset(4)).await.expect("all of it");
        assert_eq!(end, Offset(4));
        assert_eq!(append(&store, &of, batch(9, 1, 300)).await, Offset(5));
    });
}

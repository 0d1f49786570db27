//! A damaged partition is offline and kept; the others serve as if nothing had happened.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::sim::{Cut, Disk, Faults, NodeId, World};
use corelane_storage::extent::ExtentRules;
use corelane_storage::log::boot::Notice;
use corelane_storage::log::open::LogConfig;
use corelane_storage::log::store::{AppendError, ReadError, ReadUpTo, ReadWant, Store};

use crate::harness::{append, batch, config, partition, read_all, rules, run, start};

const SEGMENT: &str = "00000000000000000000.log";

/// A journal so large that no checkpoint tells of the segments meanwhile.
fn with_extents() -> LogConfig {
    let mut config = LogConfig { slots_max: 64, ..config() };
    config.upkeep.extents =
        ExtentRules { bytes_min: 10_000, room_bytes_min: 1 << 20, ..ExtentRules::default() };
    config
}

/// A disk with three partitions whose large appends are in their segments, told only by the
/// journal; and which bytes of the second partition's file hold some.
fn written() -> (Disk, u64) {
    let mut world = World::new(9, Faults::none());
    let node = world.node(1);
    let at = Rc::new(Cell::new(0));
    let told = Rc::clone(&at);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &with_extents()).await.expect("starts");
        for index in 0..3 {
            let of = partition(1, index);
            store.create(of, "orders", rules(1 << 30)).expect("created");
            for tag in 0..20 {
                append(&store, &of, batch(tag, 1, 40_000)).await;
            }
        }
        let shared = store.partition(&partition(1, 1)).expect("here");
        let flushed = shared.borrow().open_segment().flushed;
        assert!(500_000 < flushed, "large appends went straight: {flushed}");
        told.set(flushed - 10_000);
    });
    (world.disk(node).cut(Cut::KeepAll, 1), at.get())
}

fn rotten(mut disk: Disk, at: u64) -> (World, NodeId) {
    assert!(disk.rot(format!("/data/orders-1/{SEGMENT}"), at, 3));
    let mut world = World::new(2, Faults::none());
    let node = world.node_with_disk(1, disk);
    (world, node)
}

async fn refused(store: &Store, of: &TopicPartition) {
    let appended = store.append(of, &mut batch(7, 1, 100), false);
    assert_eq!(appended, Err(AppendError::Offline));
    let want = ReadWant {
        from: Offset(0),
        up_to: ReadUpTo::End,
        bytes_max: 1,
        at_least_one: true,
        file_bytes_min: ReadWant::NO_FILES,
    };
    assert_eq!(store.read(of, &want).await.map(|_| ()), Err(ReadError::Offline));
    assert_eq!(store.max_timestamp(of).await, Err(ReadError::Offline));
    assert!(store.delete_records(of, None).is_err());
    assert!(store.truncate_to(of, Offset(1)).await.is_err());
}

#[test]
fn one_is_offline_at_every_start_and_the_others_serve() {
    let (disk, at) = written();
    let (mut world, node) = rotten(disk, at);
    let before = world.disk(node).content(format!("/data/orders-1/{SEGMENT}"));
    let kept = Rc::new(RefCell::new(Vec::new()));
    for round in 0..3 {
        let kept = Rc::clone(&kept);
        run(&mut world, node, move |lane| async move {
            let (store, found) = start(&lane, &with_extents()).await.expect("starts");
            let notice = found.notices.iter().find_map(|it| match it {
                Notice::Damaged(damage) => Some(damage.clone()),
                _ => None,
            });
            let notice = notice.expect("it is said");
            assert_eq!(notice.of, partition(1, 1));
            assert!(notice.file.ends_with(format!("orders-1/{SEGMENT}")), "{notice:?}");
            assert!(0 < notice.position && notice.position <= at, "{notice:?}");
            kept.borrow_mut().push(notice);
            refused(&store, &partition(1, 1)).await;
            for index in [0, 2] {
                let of = partition(1, index);
                assert_eq!(read_all(&store, &of).await.len(), 20 + round);
                append(&store, &of, batch(99, 1, 40_000)).await;
            }
            store.close().await.expect("closes");
        });
    }
    assert!(kept.borrow().windows(2).all(|it| it[0] == it[1]), "{kept:?}");
    let disk = world.disk(node);
    assert!(disk.content(format!("/data/orders-1/{SEGMENT}")) == before, "nothing was changed");
    let journals = disk.paths().into_iter().filter(|it| it.starts_with("/data/kept/1-0/")).count();
    assert!(0 < journals && disk.content("/data/kept/1-0.checkpoint").is_some());
}

#[test]
fn its_topic_can_be_deleted_and_made_again() {
    let (disk, at) = written();
    let (mut world, node) = rotten(disk, at);
    let of = partition(2, 1);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &with_extents()).await.expect("starts");
        let commit = store.delete(&partition(1, 1)).expect("deleted");
        store.create(of, "orders", rules(1 << 30)).expect("created");
        store.durable(commit).await.expect("durable");
        append(&store, &of, batch(5, 1, 40_000)).await;
        store.close().await.expect("closes");
    });
    for _ in 0..2 {
        run(&mut world, node, move |lane| async move {
            let (store, found) = start(&lane, &with_extents()).await.expect("starts");
            let damaged = |it: &Notice| matches!(it, Notice::Damaged(_));
            assert!(!found.notices.iter().any(damaged), "{:?}", found.notices);
            assert!(store.partition(&partition(1, 1)).is_none());
            assert_eq!(read_all(&store, &of).await.len(), 1);
        });
    }
    assert!(world.disk(node).content("/data/corelane.damaged").is_none());
    let kept = |it: &String| it.starts_with("/data/kept/");
    assert!(!world.disk(node).paths().iter().any(kept), "nobody needs it any more");
}

#[test]
fn a_segment_that_is_gone_is_the_matter_of_its_partition() {
    let (disk, _) = written();
    let mut world = World::new(2, Faults::none());
    let node = world.node_with_disk(1, disk);
    run(&mut world, node, move |lane| async move {
        let path = format!("/data/orders-1/{SEGMENT}");
        let file = corelane_core::ring::FileKind::File;
        lane.remove(path, file).await.expect("removed");
        let (store, _) = start(&lane, &with_extents()).await.expect("starts");
        refused(&store, &partition(1, 1)).await;
        assert_eq!(read_all(&store, &partition(1, 2)).await.len(), 20);
    });
}

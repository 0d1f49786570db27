//! What was durable before a stop is there after it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane_core::ids::Offset;
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Cut, Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::log::boot::recover;
use corelane_storage::log::store::AppendError;

use crate::harness::{
    append, batch, batch_of, begin, config, partition, read_all, rules, run, start, start_counting,
};

#[test]
fn what_was_appended_is_there_after_a_kill() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    let before = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&before);
    run(&mut world, node, |lane| async move {
        let (store, found) = start(&lane, &config()).await.expect("starts");
        assert_eq!((found.generation, found.partitions.len()), (1, 0));
        for index in 0..5 {
            let of = partition(1, index);
            store.create(of, "orders", rules(1 << 30)).expect("created");
            for tag in 0..20 {
                append(&store, &of, batch(tag, 3, 200)).await;
            }
            let all = read_all(&store, &of).await;
            kept.borrow_mut().push(all);
        }
    });
    for _ in 0..3 {
        let before = Rc::clone(&before);
        run(&mut world, node, |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            for index in 0..5 {
                let of = partition(1, index);
                let all = read_all(&store, &of).await;
                assert_eq!(all, before.borrow()[index as usize]);
                let end = append(&store, &of, batch(99, 1, 100)).await;
                assert_eq!(
                    end.0,
                    *all.last_key_value().expect("not empty").0
                        + if all.len() == 20 { 4 } else { 2 }
                );
                let all = read_all(&store, &of).await;
                before.borrow_mut()[index as usize] = all;
            }
        });
    }
}

/// Batches come while files are retired, so that what is dirty is mostly in later files.
#[test]
fn a_retired_file_carries_only_its_own_bytes_and_memory_keeps_to_its_limit() {
    const MEMORY_BYTES: usize = 600_000;
    let mut world = World::new(5, Faults::none());
    let node = world.node(1);
    let before = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&before);
    run(&mut world, node, |lane| async move {
        let metrics = Metrics::default();
        let mut config = config();
        config.upkeep.memory_bytes_max = MEMORY_BYTES;
        let (store, _) = start_counting(&lane, &config, &metrics).await.expect("starts");
        let mut most = 0;
        for index in 0..3 {
            store.create(partition(1, index), "orders", rules(1 << 30)).expect("created");
        }
        for tag in 0..1200 {
            let of = partition(1, (tag % 3) as i32);
            let mut batch = batch(tag, 3, 3000);
            while let Err(error) = store.append(&of, &mut batch, false) {
                assert_eq!(error, AppendError::Overloaded);
                lane.sleep(Nanos::micros(100)).await;
            }
            lane.sleep(Nanos::micros(50)).await;
            most = most.max(lane.pool().stats().lent_bytes);
        }
        store.durable(store.journal().latest()).await.expect("durable");
        let count = |name: &'static str| metrics.counter(name).get();
        let (appended, carried) = (count("log.bytes"), count("log.carried_bytes"));
        assert!(4 < count("journal.files_retired"), "{}", count("journal.files_retired"));
        assert!(carried * 20 < appended, "{carried} of {appended} bytes");
        // Memory is given back in whole chunks, and the journal's frames come on top.
        assert!(most < MEMORY_BYTES + (10 << 18), "{most}");
        for index in 0..3 {
            let all = read_all(&store, &partition(1, index)).await;
            kept.borrow_mut().push(all);
        }
    });
    for cut in [Cut::KeepAll, Cut::KeepNone, Cut::Random] {
        let before = Rc::clone(&before);
        let mut again = World::new(6, Faults::none());
        let mut disk = world.disk(node);
        disk = disk.cut(cut, 7);
        let node = again.node_with_disk(1, disk);
        run(&mut again, node, |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            for index in 0..3 {
                let all = read_all(&store, &partition(1, index)).await;
                assert_eq!(all, before.borrow()[index as usize]);
            }
        });
    }
}

#[test]
fn a_journal_goes_round_many_times_and_segments_hold_the_rest() {
    let mut world = World::new(2, Faults::none());
    let node = world.node(1);
    let before = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&before);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        for index in 0..4 {
            store.create(partition(1, index), "orders", rules(200_000)).expect("created");
        }
        store.create(partition(2, 0), "quiet", rules(200_000)).expect("created");
        append(&store, &partition(2, 0), batch(7, 1, 50)).await;
        for tag in 0..400 {
            let of = partition(1, (tag % 4) as i32);
            append(&store, &of, batch(tag, 3, 5000)).await;
        }
        let used = store.journal().fill();
        assert!(used.0 <= used.1, "{used:?}");
        for index in 0..4 {
            let of = partition(1, index);
            assert!(3 < store.partition(&of).expect("here").borrow().segments.len());
            let all = read_all(&store, &of).await;
            kept.borrow_mut().push(all);
        }
        let all = read_all(&store, &partition(2, 0)).await;
        kept.borrow_mut().push(all);
    });
    for cut in [Cut::KeepAll, Cut::KeepNone, Cut::Random] {
        let before = Rc::clone(&before);
        let mut again = World::new(3, Faults::none());
        let mut disk = world.disk(node);
        disk = disk.cut(cut, 5);
        let node = again.node_with_disk(1, disk);
        run(&mut again, node, |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            for index in 0..4 {
                let all = read_all(&store, &partition(1, index)).await;
                assert_eq!(all.len(), 100);
                assert!(all == before.borrow()[index as usize], "partition {index} differs");
            }
            let quiet = read_all(&store, &partition(2, 0)).await;
            assert!(quiet == before.borrow()[4]);
        });
    }
}

#[test]
fn a_producer_is_recognised_after_a_kill() {
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(of, "orders", rules(1 << 30)).expect("created");
        for sequence in 0..7 {
            append(&store, &of, batch_of(9, sequence, sequence as u64, 300)).await;
        }
    });
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        for sequence in 2..7 {
            let again = store
                .append(&of, &mut batch_of(9, sequence, sequence as u64, 300), false)
                .expect("a duplicate");
            assert!(again.duplicate);
            assert_eq!(again.base, Offset(i64::from(sequence)));
        }
        let refused = store.append(&of, &mut batch_of(9, 1, 1, 300), false);
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(append(&store, &of, batch_of(9, 7, 7, 300)).await, Offset(8));
    });
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let mut world = World::new(5, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (_store, _found) = start(&lane, &config()).await.expect("starts");
        let second = start(&lane, &config()).await.err().expect("refused");
        assert_eq!(second.to_string(), "the data directory is in use by the process with number 1");
    });
}

#[test]
fn a_topic_created_again_never_meets_the_old_bytes() {
    let mut world = World::new(6, Faults::none());
    let node = world.node(1);
    let (old, new) = (partition(1, 0), partition(2, 0));
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(old, "orders", rules(100_000)).expect("created");
        for tag in 0..200 {
            append(&store, &old, batch(tag, 1, 5000)).await;
        }
        store.delete(&old).expect("deleted");
        store.create(new, "orders", rules(100_000)).expect("created");
        for tag in 1000..1200 {
            append(&store, &new, batch(tag, 1, 5000)).await;
        }
        assert!(store.partition(&old).is_none());
        assert_eq!(read_all(&store, &new).await.len(), 200);
    });
    let paths = world.disk(node).paths();
    assert!(paths.iter().any(|it| it.starts_with("/data/orders-0/")), "{paths:?}");
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        assert!(store.partition(&old).is_none());
        let all = read_all(&store, &new).await;
        assert_eq!(all.len(), 200);
        assert!(all.values().all(|it| String::from_utf8_lossy(it).contains("1")));
        let listed = lane.list("/data").await.expect("listed");
        assert!(!listed.iter().any(|it| it.name.ends_with("-delete")), "{listed:?}");
    });
}

#[test]
fn a_fenced_directory_says_so_and_promises_nothing_more() {
    let mut world = World::new(7, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    let told = Rc::new(RefCell::new(None));
    let heard = Rc::clone(&told);
    let done = begin(
        &mut world,
        node,
        move |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("starts");
            store.create(of, "orders", rules(100_000)).expect("created");
            append(&store, &of, batch(1, 1, 100)).await;
            heard.borrow_mut().replace(store.clone());
            let errno = store.fenced().await;
            assert_eq!(errno, corelane_core::ring::Errno::IO);
            assert!(store.append(&of, &mut batch(1, 1, 100), false).is_err());
        },
        false,
    );
    assert!(world.run_to(Nanos::secs(10), || told.borrow().is_some()));
    world.strike(node, corelane_core::ring::sim::Fault::WriteError, 1);
    let store = told.borrow_mut().take().expect("started");
    let _commit = store.append(&of, &mut batch(2, 1, 100), false).expect("taken");
    assert!(world.run_to(Nanos::secs(10), || done.get()), "it was told");
    drop(store);
    world.kill(node);
}

#[test]
fn a_directory_made_by_a_start_that_was_killed_is_durable_after_the_next_one() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    world.start(node, |lane| async move {
        lane.make_dir("/data").await.expect("nothing is there");
    });
    world.run_for(Nanos::secs(1));
    world.kill(node);
    world.start(node, |lane| async move {
        recover(&lane, "/data".as_ref(), 1, None).await.expect("empty, and ours");
    });
    world.run_for(Nanos::secs(1));
    world.cut_power(node, Cut::KeepNone);
    let there = Rc::new(Cell::new(false));
    let seen = Rc::clone(&there);
    world.start(node, move |lane| {
        let seen = Rc::clone(&seen);
        async move {
            let listed = lane.list("/").await.expect("the root is there");
            seen.set(listed.iter().any(|it| it.name == "data"));
        }
    });
    world.run_for(Nanos::secs(1));
    assert!(there.get(), "the power took the directory away");
}

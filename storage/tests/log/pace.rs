//! Commits come first: beside them little else is asked of the disk, and who wrote is told before who
//! reads.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_core::lane::{Importance, join_all};
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;

use crate::harness::{
    append, batch, config, partition, read_all, rules, run, start, start_counting,
};

const BATCHES: u64 = 200;

/// Five readers go through a megabyte that is not in memory, one of them is gone in the midst of it.
/// Tells how often somebody waited for the disk.
fn waits(beside_a_writer: bool) -> u64 {
    let mut world = World::new(12, Faults::none());
    let node = world.node(1);
    let told = Rc::new(RefCell::new(0));
    let tell = Rc::clone(&told);
    run(&mut world, node, move |lane| async move {
        let metrics = Metrics::default();
        let (store, _) = start_counting(&lane, &config(), &metrics).await.expect("starts");
        let (old, new) = (partition(1, 0), partition(2, 0));
        store.create(old, "old", rules(300_000)).expect("created");
        store.create(new, "new", rules(1 << 20)).expect("created");
        for tag in 0..BATCHES {
            append(&store, &old, batch(tag, 1, 5000)).await;
        }
        lane.sleep(Nanos::secs(5)).await;
        for segment in &mut store.partition(&old).expect("here").borrow_mut().segments {
            if segment.finished {
                segment.forget();
            }
        }
        let writer = beside_a_writer.then(|| {
            let store = store.clone();
            lane.spawn("writes", Importance::Serving, async move {
                loop {
                    append(&store, &new, batch(0, 1, 100)).await;
                }
            })
        });
        let gone = {
            let store = store.clone();
            lane.spawn("is gone", Importance::Serving, async move {
                read_all(&store, &old).await;
            })
        };
        let canceller = lane.clone();
        lane.spawn("sees it go", Importance::Serving, async move {
            canceller.sleep(Nanos::micros(300)).await;
            canceller.cancel(gone);
        });
        let reads = (0..5).map(|_| async { read_all(&store, &old).await.len() as u64 });
        let read = join_all(reads).await;
        assert_eq!(read, [BATCHES; 5]);
        if let Some(writer) = writer {
            lane.cancel(writer);
        }
        *tell.borrow_mut() = metrics.counter("log.disk_waits").get();
    });
    *told.borrow()
}

#[test]
fn readers_of_old_records_wait_for_the_disk_while_somebody_writes() {
    let (beside, alone) = (waits(true), waits(false));
    assert!(alone < beside, "{alone} waits alone, {beside} beside a writer");
}

#[test]
fn who_wrote_is_told_of_a_commit_before_who_reads() {
    let mut world = World::new(13, Faults::none());
    let node = world.node(1);
    let told = Rc::new(RefCell::new(Vec::new()));
    let tell = Rc::clone(&told);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        store.create(of, "orders", rules(1 << 20)).expect("created");
        let (news, reader) =
            (store.partition(&of).expect("here").borrow().changed.clone(), Rc::clone(&tell));
        lane.spawn("reads", Importance::Serving, async move {
            news.wait().await;
            reader.borrow_mut().push("read");
        });
        lane.yield_now().await;
        append(&store, &of, batch(0, 1, 100)).await;
        tell.borrow_mut().push("wrote");
        lane.sleep(Nanos::millis(1)).await;
    });
    assert_eq!(*told.borrow(), ["wrote", "read"]);
}

//! What a clean stop leaves for Kafka's tools, read as they read it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::buf::Buf;
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Cut, Disk, Faults, World};
use corelane_core::ring::{Access, Sync};
use corelane_core::time::Nanos;
use corelane_storage::batch::{Batch, Batches};
use corelane_storage::log::open::{LogConfig, mark_clean};

use crate::harness::{
    append, batch, batch_of, config, partition, read_all, rules, run, start, start_counting,
};

/// Says that all of it is to be believed.
pub(crate) const CLEAN: &str = "/data/.kafka_cleanshutdown";

/// Reads a directory as Kafka's dumper does: segments from their first byte to their last, and
/// every entry of their indexes. The first complaint, if any; else bytes of segments by folder.
pub(crate) fn kafka_reads(disk: &Disk) -> Result<BTreeMap<String, usize>, String> {
    let content = |path: &str| disk.content(path).ok_or_else(|| format!("{path} is missing"));
    let mut folders = BTreeMap::new();
    for path in disk.paths() {
        let Some(stem) = path.strip_suffix(".log") else { continue };
        let (folder, base) = stem.rsplit_once('/').expect("a file is in a folder");
        if folder.ends_with("-delete") || folder.ends_with("-stray") {
            continue;
        }
        let base: i64 = base.parse().map_err(|_| format!("{path} is no segment"))?;
        let bytes = content(&path)?;
        let whole: Result<Vec<_>, _> = Batches::new(&bytes).collect();
        let whole = whole.map_err(|error| format!("{path}: {error:?}"))?;
        let read: usize = whole.iter().map(|it| it.bytes().len()).sum();
        if read != bytes.len() || whole.iter().any(|it| it.crc() != it.computed_crc()) {
            return Err(format!("{path} has {} bytes, {read} of them batches", bytes.len()));
        }
        for entry in content(&format!("{stem}.index"))?.as_chunks::<8>().0 {
            let last = base + i64::from(u32::from_be_bytes(*entry.first_chunk().expect("eight")));
            let at = u32::from_be_bytes(*entry.last_chunk().expect("eight")) as usize;
            let found = bytes.get(at..).and_then(|it| Batch::split(it).ok());
            if found.map(|it| it.0.last_offset().0) != Some(last) {
                return Err(format!("{stem}.index: no batch ends with {last} at {at}"));
            }
        }
        let mut latest = -1;
        for entry in content(&format!("{stem}.timeindex"))?.as_chunks::<12>().0 {
            let time = i64::from_be_bytes(*entry.first_chunk().expect("twelve"));
            let at = base + i64::from(u32::from_be_bytes(*entry.last_chunk().expect("twelve")));
            let found = whole.iter().find(|it| at <= it.last_offset().0);
            if time <= latest || found.map(Batch::max_timestamp) != Some(time) {
                return Err(format!("{stem}.timeindex: {time} at {at}, after {latest}"));
            }
            latest = time;
        }
        for name in ["leader-epoch-checkpoint", "partition.metadata"] {
            content(&format!("{folder}/{name}"))?;
        }
        *folders.entry(folder.to_owned()).or_insert(0) += bytes.len();
    }
    for name in ["recovery-point", "replication", "log-start", "cleaner"] {
        content(&format!("/data/{name}-offset-checkpoint"))?;
    }
    Ok(folders)
}

/// One run on a disk: starts, works, stops. Says what it wrote out, and whether that was all.
fn session<F: Future<Output = ()> + 'static>(
    disk: &mut Disk,
    config: &LogConfig,
    work: impl FnOnce(Lane, corelane_storage::log::store::Store) -> F + 'static,
) -> (u64, bool) {
    let mut world = World::new(1, Faults::none());
    let node = world.node_with_disk(1, disk.clone());
    let told = Rc::new(RefCell::new(None));
    let (tell, config) = (Rc::clone(&told), config.clone());
    run(&mut world, node, move |lane| async move {
        let metrics = Metrics::default();
        let (store, found) = start_counting(&lane, &config, &metrics).await.expect("starts");
        work(lane.clone(), store.clone()).await;
        let left = store.close().await.expect("closes");
        let marked = mark_clean(&lane, &config, found.generation, 1, left).await;
        let told = (metrics.counter("log.left").get(), marked.expect("marked"));
        tell.borrow_mut().replace(told);
    });
    *disk = world.disk(node).cut(Cut::KeepNone, 1);
    told.take().expect("it ended")
}

fn of(index: i32) -> TopicPartition {
    partition(1, index)
}

async fn fill(store: &corelane_storage::log::store::Store, of: TopicPartition, batches: u64) {
    for tag in 0..batches {
        append(store, &of, batch(tag, 1 + tag as usize % 4, 700)).await;
    }
}

/// A disk with three partitions after a clean stop: one of several segments, a small one, an empty one.
fn stopped() -> Disk {
    let mut disk = Disk::new();
    let told = session(&mut disk, &config(), |_, store| async move {
        for index in 0..3 {
            store.create(of(index), "orders", rules(20_000)).expect("created");
        }
        fill(&store, of(0), 60).await;
        append(&store, &of(1), batch_of(7, 0, 1, 300)).await;
    });
    assert_eq!(told, (3, true));
    disk
}

#[test]
fn kafka_reads_what_a_clean_stop_leaves() {
    let disk = stopped();
    let folders = kafka_reads(&disk).expect("no complaint");
    assert!(60 * 700 < folders["/data/orders-0"] && 300 < folders["/data/orders-1"]);
    let text =
        |path: &str| String::from_utf8(disk.content(path).expect("it is there")).expect("text");
    assert_eq!(text(CLEAN), "{\"version\":0,\"brokerEpoch\":1}");
    assert_eq!(text("/data/orders-0/leader-epoch-checkpoint"), "0\n1\n0 0\n");
    let ends = text("/data/recovery-point-offset-checkpoint");
    assert_eq!(ends, "0\n3\norders 0 150\norders 1 1\norders 2 0\n");
    let snapshots = |disk: &Disk| disk.paths().iter().filter(|it| it.ends_with("snapshot")).count();
    assert_eq!(snapshots(&disk), 1, "{:?}", disk.paths());
    assert!(disk.content("/data/orders-1/00000000000000000001.snapshot").is_some());
}

#[test]
fn a_stop_writes_what_changed_since_the_last_one_and_a_start_takes_the_mark_away() {
    let mut disk = stopped();
    assert_eq!(session(&mut disk, &config(), |_, _| async {}), (0, true));
    kafka_reads(&disk).expect("no complaint");
    let told = session(&mut disk, &config(), |_, store| async move {
        store.partition(&of(1)).expect("is here").borrow_mut().rules = rules(20_000);
        append(&store, &of(1), batch_of(7, 1, 2, 9000)).await;
        append(&store, &of(1), batch_of(7, 2, 2, 9000)).await;
    });
    assert_eq!(told, (1, true));
    kafka_reads(&disk).expect("no complaint");
    let path = "/data/orders-1/00000000000000000001.snapshot";
    assert_eq!(disk.content(path), None, "that of an earlier end is gone");
    let mut world = World::new(1, Faults::none());
    let node = world.node_with_disk(1, disk);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        assert_eq!(read_all(&store, &of(0)).await.len(), 60);
        assert_eq!(read_all(&store, &of(1)).await.len(), 3);
    });
    assert_eq!(world.disk(node).content(CLEAN), None);
}

#[test]
fn a_stop_without_time_ends_in_order_and_the_next_one_goes_on() {
    let mut disk = Disk::new();
    let mut hasty = config();
    hasty.upkeep.leave_within = Nanos::ZERO;
    let told = session(&mut disk, &hasty, |_, store| async move {
        store.create(of(0), "orders", rules(20_000)).expect("created");
        fill(&store, of(0), 60).await;
    });
    assert_eq!(told, (1, false));
    assert_eq!(disk.content(CLEAN), None);
    assert_eq!(session(&mut disk, &config(), |_, _| async {}), (1, true));
    kafka_reads(&disk).expect("no complaint");
}

#[test]
fn the_index_of_an_open_segment_spares_the_next_run_its_bytes() {
    let mut disk = stopped();
    let path = "/data/orders-1/00000000000000000000.log";
    // A byte that only a reader of the whole segment would meet.
    let told = session(&mut disk, &config(), |_, store| async move {
        for sequence in 1..9 {
            append(&store, &of(1), batch_of(7, sequence, 2, 9000)).await;
        }
    });
    assert_eq!(told, (1, true));
    assert!(disk.rot(path, 20_000, 3));
    let told = session(&mut disk, &config(), |_, store| async move {
        append(&store, &of(1), batch_of(7, 9, 2, 100)).await;
    });
    assert_eq!(told, (1, true), "nobody looked there");
}

/// A run that was cut short may have closed the segment, and put there an index of bytes that were lost.
#[test]
fn an_index_of_lost_bytes_is_not_believed() {
    let path = "/data/orders-1/00000000000000000000.idx";
    let grown = |mut disk: Disk, batches: i32, bytes: usize| {
        let told = session(&mut disk, &config(), move |_, store| async move {
            for sequence in 1..=batches {
                append(&store, &of(1), batch_of(7, sequence, 2, bytes)).await;
            }
        });
        assert_eq!(told, (1, true), "somebody found damage");
        disk
    };
    let of_lost = grown(stopped(), 3, 9000).content(path).expect("it was left");
    let mut world = World::new(1, Faults::none());
    let node = world.node_with_disk(1, stopped());
    run(&mut world, node, move |lane| async move {
        let access = Access { write: true, ..Access::default() };
        let (file, _) = lane.open(path, access).await.expect("it is there");
        lane.truncate(&file, 0).await.expect("emptied");
        let bytes = Buf::copy_of(&of_lost).freeze();
        lane.write_all(&file, 0, bytes, Sync::None).await.expect("written");
        lane.flush(&file).await.expect("flushed");
    });
    // Longer than what was lost, with batches of another size.
    let disk = grown(world.disk(node).cut(Cut::KeepNone, 1), 5, 7000);
    kafka_reads(&disk).expect("no complaint");
}

#[test]
fn a_cut_takes_what_was_left_of_the_bytes_it_cuts() {
    let mut disk = stopped();
    for round in 0..2 {
        let told = session(&mut disk, &config(), move |_, store| async move {
            let of = of(0);
            let end = store.partition(&of).expect("is here").borrow().end();
            let to = Offset(end.0 - 3 - 40 * round);
            let (end, commit) = store.truncate_to(&of, to).await.expect("cut");
            store.durable(commit).await.expect("durable");
            assert!(end <= to);
            for tag in 0..5 {
                append(&store, &of, batch(100 + tag, 2, 300 + 100 * round as usize)).await;
            }
        });
        assert_eq!(told, (1, true));
        kafka_reads(&disk).expect("no complaint");
    }
}

//! Finished segments with several readers: cold, then verified, then given as a part of a file.

use corelane_core::buf::Buf;
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::ring::{Access, FileRange, Sync};
use corelane_core::time::Nanos;
use corelane_storage::batch::Batches;
use corelane_storage::log::store::{ReadDone, ReadError, ReadUpTo, ReadWant, Store};

use crate::harness::{append, batch, config, partition, rules, run, start_counting};

const SEGMENT_BYTES: u64 = 300_000;

fn want(from: i64) -> ReadWant {
    ReadWant {
        from: Offset(from),
        up_to: ReadUpTo::Visible,
        bytes_max: 100_000,
        at_least_one: true,
        file_bytes_min: 1,
    }
}

/// A log with finished segments that are not in memory, of batches that are larger and smaller than
/// the distance of entries in an index.
async fn history(lane: &Lane, metrics: &Metrics) -> (Store, TopicPartition) {
    let (store, _) = start_counting(lane, &config(), metrics).await.expect("starts");
    let of = partition(1, 0);
    store.create(of, "orders", rules(SEGMENT_BYTES)).expect("created");
    for tag in 0..400_u64 {
        append(&store, &of, batch(tag, 1, if tag.is_multiple_of(3) { 6000 } else { 700 })).await;
    }
    lane.sleep(Nanos::secs(2)).await;
    forget(&store, &of);
    (store, of)
}

fn forget(store: &Store, of: &TopicPartition) {
    for segment in &mut store.partition(of).expect("here").borrow_mut().segments {
        if segment.finished {
            segment.forget();
        }
    }
}

async fn bytes_of(lane: &Lane, done: &ReadDone) -> Vec<u8> {
    let mut bytes: Vec<u8> = done.slices.iter().flat_map(|it| it.to_vec()).collect();
    if let Some(range) = &done.file {
        assert!(bytes.is_empty());
        bytes.extend(bytes_in(lane, range).await);
    }
    assert_eq!(bytes.len(), done.bytes);
    bytes
}

async fn bytes_in(lane: &Lane, range: &FileRange) -> Vec<u8> {
    let wanted = range.bytes as usize;
    let (read, buf) = lane.read_full(&range.file, range.at, Buf::unpooled(wanted), wanted).await;
    assert!(wanted <= read.expect("readable"));
    buf.filled()[..wanted].to_vec()
}

/// Reads a log to the end of its finished segments. Tells its batches, and how each part came.
async fn read_finished(store: &Store, of: &TopicPartition) -> (Vec<(i64, Vec<u8>)>, String) {
    let end = store.partition(of).expect("here").borrow().open_segment().base;
    let (mut at, mut all, mut told) = (0, Vec::new(), String::new());
    while at < end.0 {
        let done = store.read(of, &want(at)).await.expect("readable");
        told.push(if done.file.is_some() { 'f' } else { 'm' });
        for it in Batches::new(&bytes_of(store.lane(), &done).await) {
            let it = it.expect("whole batches");
            assert_eq!(it.base_offset(), Offset(at), "offsets are dense");
            assert_eq!(it.crc(), it.computed_crc());
            all.push((at, it.payload().to_vec()));
            at = it.next_offset().0;
        }
    }
    (all, told)
}

#[test]
fn the_third_reader_is_given_parts_of_files_and_all_read_the_same() {
    let mut world = World::new(21, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let metrics = Metrics::default();
        let (store, of) = history(&lane, &metrics).await;
        let count = |name| metrics.counter(name).get();
        let (first, how) = read_finished(&store, &of).await;
        assert!(!how.contains('f') && 200 < first.len());
        assert_eq!(count("log.warm_verified"), 0, "one reader leaves no trace");
        let (second, _) = read_finished(&store, &of).await;
        assert!(0 < count("log.warm_verified"));
        let before = (count("log.warm_verified"), count("log.warm_lost"));
        let (third, how) = read_finished(&store, &of).await;
        // Only what the page cache gave up was looked at again.
        let again = count("log.warm_verified") - before.0;
        assert_eq!(again, count("log.warm_lost") - before.1);
        let files = how.chars().filter(|it| *it == 'f').count();
        assert!(how.len() < 2 * files, "{how}");
        assert!(first == second && second == third);
    });
}

#[test]
fn a_reader_that_verifies_looks_at_each_byte_once() {
    let mut world = World::new(26, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let metrics = Metrics::default();
        let (store, _) = start_counting(&lane, &config(), &metrics).await.expect("starts");
        let of = partition(1, 0);
        // Of several extents, none of which ends where a read does.
        store.create(of, "orders", rules(5_000_000)).expect("created");
        for tag in 0..130 {
            append(&store, &of, batch(tag, 1, 40_000)).await;
        }
        lane.sleep(Nanos::secs(2)).await;
        forget(&store, &of);
        for _ in 0..2 {
            let end = store.partition(&of).expect("here").borrow().open_segment().base;
            let mut at = 0;
            while at < end.0 {
                let want = ReadWant { bytes_max: 900_000, ..want(at) };
                let done = store.read(&of, &want).await.expect("readable");
                let bytes = bytes_of(&lane, &done).await;
                at = Batches::new(&bytes).last().expect("some").expect("whole").next_offset().0;
            }
        }
        let summed = metrics.counter("log.warm_summed_bytes").get();
        let lost = metrics.counter("log.warm_lost").get();
        // But for what the page cache gave up meanwhile.
        let bytes = 5_000_000 + (lost + 1) * 1_900_000;
        assert!(4_000_000 < summed && summed < bytes, "{summed}, {lost} lost");
    });
}

#[test]
fn a_start_finds_what_it_needs_to_verify() {
    let mut world = World::new(22, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = history(&lane, &Metrics::default()).await;
        store.close().await.expect("closes");
    });
    run(&mut world, node, |lane| async move {
        let (store, _) =
            start_counting(&lane, &config(), &Metrics::default()).await.expect("starts");
        let of = partition(1, 0);
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(read_finished(&store, &of).await);
        }
        assert!(told.windows(2).all(|it| it[0].0 == it[1].0));
        assert!(told[2].1.contains('f') && !told[0].1.contains('f'));
    });
}

#[test]
fn who_wants_memory_or_what_is_not_agreed_on_gets_no_file() {
    let mut world = World::new(23, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, of) = history(&lane, &Metrics::default()).await;
        let memory = ReadWant { file_bytes_min: ReadWant::NO_FILES, ..want(0) };
        let large = ReadWant { file_bytes_min: 200_000, ..want(0) };
        let end = ReadWant { up_to: ReadUpTo::End, ..want(0) };
        for it in [memory, large, end] {
            for _ in 0..4 {
                let done = store.read(&of, &it).await.expect("readable");
                assert!(done.file.is_none() && 0 < done.bytes);
            }
        }
    });
}

#[test]
fn a_copy_that_is_not_what_was_written_is_told_with_its_place() {
    let mut world = World::new(24, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, of) = history(&lane, &Metrics::default()).await;
        read_finished(&store, &of).await;
        // The epoch of the first batch: its own checksum does not cover it.
        let file = "/data/orders-0/00000000000000000000.log";
        let access = Access { write: true, ..Access::default() };
        let (file, _) = lane.open(file, access).await.expect("there");
        lane.write_all(&file, 15, Buf::copy_of(&[9]).freeze(), Sync::None).await.expect("written");
        let error = store.read(&of, &want(0)).await.expect_err("damaged");
        let ReadError::Corrupt { path, position } = error else { panic!("{error:?}") };
        assert_eq!((path.to_str(), position), (Some("/data/orders-0/00000000000000000000.log"), 0));
    });
}

#[test]
fn a_part_of_a_file_outlives_its_segment_and_its_partition() {
    let mut world = World::new(25, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, of) = history(&lane, &Metrics::default()).await;
        for _ in 0..2 {
            read_finished(&store, &of).await;
        }
        let (mut ranges, mut at) = (Vec::new(), 0);
        while at < 250 {
            let done = store.read(&of, &want(at)).await.expect("readable");
            let bytes = bytes_of(&lane, &done).await;
            at = Batches::new(&bytes).last().expect("some").expect("whole").next_offset().0;
            ranges.extend(done.file.map(|it| (bytes, it)));
        }
        assert!(2 < ranges.len(), "{}", ranges.len());
        let (_, commit) = store.delete_records(&of, Some(Offset(150))).expect("moved");
        store.durable(commit).await.expect("durable");
        lane.sleep(Nanos::secs(2)).await;
        let first = "/data/orders-0/00000000000000000000.log";
        assert!(lane.stat(first).await.is_err(), "its name is gone");
        let commit = store.delete(&of).expect("deleted");
        store.durable(commit).await.expect("durable");
        lane.sleep(Nanos::secs(2)).await;
        assert!(lane.stat("/data/orders-0").await.is_err(), "its folder is gone");
        for (bytes, range) in ranges {
            assert!(bytes_in(&lane, &range).await == bytes);
        }
    });
}

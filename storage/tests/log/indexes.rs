//! An index that is missing or wrong is made again from its segment, and that is told.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::FileKind;
use corelane_core::ring::sim::{Faults, NodeId, World};
use corelane_core::time::Nanos;
use corelane_storage::index::Index;
use corelane_storage::log::boot::Notice;
use corelane_storage::log::store::{ReadError, ReadUpTo, ReadWant, Store};

use crate::harness::{append, batch, config, partition, read_all, rules, run, start};

/// The second segment of the log that is written here.
const BASE: Offset = Offset(10);
const LOG: &str = "/data/orders-0/00000000000000000010.log";
const INDEX: &str = "/data/orders-0/00000000000000000010.idx";

fn of() -> TopicPartition {
    partition(1, 0)
}

/// A log of three finished segments of ten batches each, one record each, and an open one.
fn written() -> (World, NodeId) {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(of(), "orders", rules(52_000)).expect("created");
        for tag in 0..31 {
            append(&store, &of(), batch(tag, 1, 5000)).await;
        }
        lane.sleep(Nanos::secs(2)).await;
        let shared = store.partition(&of()).expect("here");
        let finished = shared.borrow().segments.iter().filter(|it| it.finished).count();
        assert_eq!(finished, 3);
        assert!(shared.borrow().segment(BASE).is_some());
        store.close().await.expect("closes");
    });
    (world, node)
}

/// What a reader of that segment finds, and what the log has to say.
fn read(world: &mut World, node: NodeId) -> String {
    let told = Rc::new(RefCell::new(String::new()));
    let heard = Rc::clone(&told);
    run(world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let mut said = match read_one(&store).await {
            Ok(()) => format!("read {}", read_all(&store, &of()).await.len()),
            Err(ReadError::Corrupt { path, position }) => {
                format!("corrupt {} at {position}", path.display())
            }
            Err(error) => format!("{error:?}"),
        };
        for notice in store.take_notices() {
            if let Notice::IndexRebuilt { file, why } = notice {
                said += &format!(", {} rebuilt: {why}", file.display());
            }
        }
        heard.replace(said);
    });
    told.take()
}

async fn read_one(store: &Store) -> Result<(), ReadError> {
    let (from, up_to) = (Offset(15), ReadUpTo::Visible);
    let want = ReadWant {
        from,
        up_to,
        bytes_max: 1,
        at_least_one: true,
        file_bytes_min: ReadWant::NO_FILES,
    };
    store.read(&of(), &want).await.map(|_| ())
}

fn remove(world: &mut World, node: NodeId, path: &'static str) {
    run(world, node, move |lane| async move {
        lane.remove(path, FileKind::File).await.expect("it was there");
    });
}

/// How many ranges the index vouches for.
fn vouched(world: &World, node: NodeId) -> usize {
    let bytes = world.disk(node).content(INDEX).expect("there is an index");
    Index::decode(&bytes, of(), BASE).expect("it is whole").extents().len()
}

#[test]
fn a_missing_or_damaged_index_is_made_again_once_and_vouches_for_nothing() {
    for missing in [true, false] {
        let (mut world, node) = written();
        assert!(0 < vouched(&world, node), "sums of what was written");
        let why = if missing {
            remove(&mut world, node, INDEX);
            "missing"
        } else {
            assert!(world.with_disk(node, |it| it.rot(INDEX, 100, 3)));
            "damaged"
        };
        let first = read(&mut world, node);
        assert_eq!(first, format!("read 31, {INDEX} rebuilt: it is {why}"));
        // Nobody knows any more what was written: what was read is no witness of it.
        assert_eq!(vouched(&world, node), 0);
        assert_eq!(read(&mut world, node), "read 31");
    }
}

#[test]
fn an_index_of_another_format_is_made_again_with_the_format_named() {
    // The lowest bits of the format, which no checksum covers: 2 becomes 6, or 0.
    for (bit, said) in [(2, "6, which is newer"), (1, "0, which is older")] {
        let (mut world, node) = written();
        assert!(world.with_disk(node, |it| it.rot(INDEX, 8, bit)));
        let expect = format!("read 31, {INDEX} rebuilt: it has format {said} than ours");
        assert_eq!(read(&mut world, node), expect);
        assert_eq!(read(&mut world, node), "read 31");
    }
}

/// The checksum of a batch covers neither of these bytes.
#[test]
fn a_rebuild_refuses_batches_that_are_not_in_order_or_of_another_epoch() {
    let (offset_byte, epoch_byte) = (7, 15);
    for byte in [offset_byte, epoch_byte] {
        let (mut world, node) = written();
        let log = world.disk(node).content(LOG).expect("there is a segment");
        let third = 2 * log.len() as u64 / 10;
        remove(&mut world, node, INDEX);
        // Offset 12 becomes 4.
        assert!(world.with_disk(node, |it| it.rot(LOG, third + byte, 3)));
        assert_eq!(read(&mut world, node), format!("corrupt {LOG} at {third}"));
        assert!(world.disk(node).content(INDEX).is_none(), "no index of a damaged segment");
    }
}

#[test]
fn a_rebuild_refuses_a_segment_that_ends_elsewhere_than_the_checkpoint_says() {
    let (mut world, node) = written();
    let log = world.disk(node).content(LOG).expect("there is a segment");
    let last = 9 * log.len() as u64 / 10;
    remove(&mut world, node, INDEX);
    // Offset 19 becomes 27: it follows the batch before, but the next segment begins with 20.
    assert!(world.with_disk(node, |it| it.rot(LOG, last + 7, 3)));
    assert_eq!(read(&mut world, node), format!("corrupt {LOG} at {}", log.len()));
}

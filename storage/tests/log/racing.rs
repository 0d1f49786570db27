//! A reader of what is in a file while more of the tail goes there.
//!
//! A cold read takes the beginning of what it wants from the file and the rest from the tail. Between the
//! two the tail may be written out and forgotten: the bytes in between were missing then, which took a
//! sound partition offline or stopped the lane. Such a read is planned anew now.

use std::pin::pin;
use std::task::Poll;

use corelane_core::ids::Offset;
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Faults, World};
use corelane_storage::batch::Batches;
use corelane_storage::log::store::{ReadUpTo, ReadWant};

use crate::harness::{append, batch, config, partition, rules, run, start_counting};

/// Bytes in the file before anybody reads, and of those what is taken to come during the read: more
/// than a piece of a tail's memory.
const IN_FILE_BYTES: u64 = 800_000;
const LATE_BYTES: u64 = 300 * 1024;

#[test]
fn what_leaves_the_tail_while_the_file_is_read_is_read_from_there() {
    let mut world = World::new(31, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let metrics = Metrics::default();
        let (store, _) = start_counting(&lane, &config(), &metrics).await.expect("starts");
        let of = partition(1, 0);
        store.create(of, "orders", rules(1 << 30)).expect("created");
        let shared = store.partition(&of).expect("here");
        let mut count = 0;
        let batch_bytes = batch(0, 1, 3000).len() as u64;
        while shared.borrow().open_segment().flushed < IN_FILE_BYTES {
            append(&store, &of, batch(count, 1, 3000)).await;
            count += 1;
        }
        // As it was before the last write to the file had ended.
        let (late, from) = {
            let mut partition = shared.borrow_mut();
            let segment = partition.open_segment_mut();
            let late = segment.flushed;
            segment.flushed = late - LATE_BYTES;
            segment.forget_below(segment.flushed);
            (late, Offset((segment.tail.start() / batch_bytes) as i64 - 2))
        };
        let want = ReadWant {
            from,
            up_to: ReadUpTo::Visible,
            bytes_max: 700_000,
            at_least_one: true,
            file_bytes_min: ReadWant::NO_FILES,
        };
        let mut read = pin!(store.read(&of, &want));
        let mut began = false;
        let done = std::future::poll_fn(|context| {
            let polled = read.as_mut().poll(context);
            if !began {
                began = true;
                assert!(polled.is_pending(), "the file is being read");
                let mut partition = shared.borrow_mut();
                let segment = partition.open_segment_mut();
                let before = segment.tail.start();
                segment.flushed = late;
                segment.forget_below(late);
                assert!(late - LATE_BYTES < segment.tail.start(), "{before} {late}");
                return Poll::Pending;
            }
            polled
        });
        let done = done.await.expect("sound");
        let bytes: Vec<u8> = done.slices.iter().flat_map(|it| it.to_vec()).collect();
        let mut at = from;
        for it in Batches::new(&bytes) {
            let it = it.expect("whole batches");
            assert_eq!(it.base_offset(), at, "offsets are dense");
            at = it.next_offset();
        }
        assert!((late / batch_bytes) as i64 - 2 < at.0, "{at} is still in the file");
        assert!(shared.borrow().damage.is_none());
    });
}

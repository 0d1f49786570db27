//! Stories of questions between lanes whose answers take their time.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::buf::{Buf, Piece};
use corelane_core::ids::{LaneId, PartitionIndex, TopicId, TopicPartition};
use corelane_core::lane::Importance;
use corelane_core::time::Nanos;
use corelane_storage::build::BatchBuilder;

use super::{Ask, Node, ProducePart, Sent, Tell};
use crate::groups::tests::{Client, story};

const AWAY: LaneId = LaneId(1);

/// A partition that the client's lane has to ask another one about.
async fn partition_away(client: &Client) -> TopicPartition {
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let topic = TopicId(client.make_topic(name).await.0);
        let of = TopicPartition { topic, partition: PartitionIndex(0) };
        if client.node.home(of) == AWAY {
            return of;
        }
    }
    panic!("eight topics live on one lane of two")
}

fn batch() -> Piece {
    let mut batch = BatchBuilder::new();
    batch.record(0, None, Some(b"value"));
    let batch = Buf::copy_of(&batch.build());
    let all = 0..batch.len();
    batch.split(&[all]).expect("nobody else has it").pop().expect("one piece")
}

/// Sends so many batches at once; counts those that were stored.
fn send(node: &Node, of: TopicPartition, count: usize) -> Rc<Cell<usize>> {
    let stored = Rc::new(Cell::new(0));
    for _ in 0..count {
        let from = "10.0.0.9:555".parse().expect("an address");
        let sent = Sent { from, until: node.lane().now() + Nanos::secs(100) };
        let parts = vec![ProducePart { of, batch: batch() }];
        let (asking, stored) = (node.clone(), Rc::clone(&stored));
        node.lane().spawn("send", Importance::Serving, async move {
            let ask = Ask::Produce { parts, wait: true, sent };
            let Tell::Produced(produced) = asking.ask(AWAY, ask).await else {
                panic!("batches are answered")
            };
            assert!(produced.iter().all(|it| it.result.is_ok()), "{produced:?}");
            stored.set(stored.get() + produced.len());
        });
    }
    stored
}

async fn all_stored(node: &Node, stored: &Cell<usize>, count: usize) {
    while stored.get() < count {
        node.lane().sleep(Nanos::millis(10)).await;
    }
}

async fn put_off(node: &Node) -> u64 {
    node.on_lane(AWAY, |node| node.metrics().counter("lanes.answers_put_off").get()).await
}

#[test]
fn records_that_wait_for_room_keep_no_place_between_lanes() {
    story(|client| async move {
        let of = partition_away(&client).await;
        let node = client.node;
        let places = node.0.link.places();
        let use_memory_up = |node: &Node| {
            let lane = node.lane().clone();
            let held: Vec<_> = std::iter::from_fn(|| lane.pool().get(1 << 20)).collect();
            node.lane().spawn("hold memory", Importance::Serving, async move {
                // To the end of the story: nobody here makes room.
                lane.sleep(Nanos::secs(1_000)).await;
                drop(held);
            });
        };
        node.on_lane(AWAY, use_memory_up).await;
        let stored = send(&node, of, 3 * places);
        let waiting = |node: &Node| node.store().appends_waiting();
        while node.on_lane(AWAY, waiting).await < 3 * places {
            node.lane().sleep(Nanos::millis(1)).await;
        }
        assert_eq!(node.0.link.free(AWAY), places, "others find all places free");
        assert_eq!((stored.get(), put_off(&node).await), (0, 3 * places as u64));
    });
}

#[test]
fn records_on_their_way_to_the_disk_keep_half_of_the_places_at_most() {
    story(|client| async move {
        let of = partition_away(&client).await;
        let node = client.node;
        let places = node.0.link.places();
        let before = put_off(&node).await;
        let stored = send(&node, of, places / 2);
        all_stored(&node, &stored, places / 2).await;
        assert_eq!(put_off(&node).await, before, "few are answered in the places they came in");
        let stored = send(&node, of, places);
        all_stored(&node, &stored, places).await;
        assert!(before < put_off(&node).await, "of many, some give their places away");
        assert_eq!(node.0.link.free(AWAY), places);
    });
}

//! From the names that requests carry to partitions, and from partitions to the lanes they live on.

use std::collections::BTreeMap;

use corelane_core::ids::{BrokerId, LaneId, PartitionIndex, TopicId, TopicPartition};
use corelane_net::ErrorCode;

use crate::node::Node;
use crate::topics::image::Image;

/// The partition of this name and number, if there is one.
pub(super) fn partition(image: &Image, topic: &str, index: i32) -> Option<TopicPartition> {
    let topic = image.topic_named(topic)?;
    let there = u32::try_from(index).is_ok_and(|it| it < topic.partitions);
    there.then_some(TopicPartition { topic: topic.id, partition: PartitionIndex(index) })
}

/// Who leads a partition, as clients are told.
pub(super) struct Standing {
    pub error: ErrorCode,
    pub leader: i32,
}

impl Standing {
    pub(super) fn is_offline(&self) -> bool {
        self.error != ErrorCode::None
    }
}

/// A partition whose only copy is offline has no leader.
pub(super) fn standing(node: &Node, topic: TopicId, index: i32) -> Standing {
    let of = TopicPartition { topic, partition: PartitionIndex(index) };
    if node.is_offline(of) {
        Standing { error: ErrorCode::LeaderNotAvailable, leader: BrokerId::NONE.0 }
    } else {
        Standing { error: ErrorCode::None, leader: node.id().0 }
    }
}

/// What concerns the partitions of each lane, so that a lane is asked once. Each item keeps its
/// place in the request.
pub(super) fn by_lane<T>(
    node: &Node,
    items: impl IntoIterator<Item = (TopicPartition, T)>,
) -> BTreeMap<LaneId, Vec<(TopicPartition, T)>> {
    let mut lanes: BTreeMap<LaneId, Vec<(TopicPartition, T)>> = BTreeMap::new();
    for (of, item) in items {
        lanes.entry(node.home(of)).or_default().push((of, item));
    }
    lanes
}

/// What a request says of each partition, under the names of the topics, all in its own order.
pub(super) struct ByTopic<T>(pub Vec<(String, Vec<T>)>);

impl<T> ByTopic<T> {
    /// Every partition, with the name of its topic.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().flat_map(|(name, parts)| parts.iter().map(move |it| (name.as_str(), it)))
    }
}

//! From the names that requests carry to partitions, and from partitions to the lanes they live on.

use std::collections::BTreeMap;

use corelane_core::ids::{LaneId, PartitionIndex, TopicPartition};

use crate::node::Node;
use crate::topics::image::Image;

/// The partition of this name and number, if there is one.
pub(super) fn partition(image: &Image, topic: &str, index: i32) -> Option<TopicPartition> {
    let topic = image.topic_named(topic)?;
    let there = u32::try_from(index).is_ok_and(|it| it < topic.partitions);
    there.then_some(TopicPartition { topic: topic.id, partition: PartitionIndex(index) })
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

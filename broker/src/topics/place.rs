//! Which lane a partition lives on.
//!
//! A function of what the partition *is* and of the number of lanes, so that every lane, and the
//! same node after a restart, finds the same answer without asking. Within a topic the partitions
//! go round the lanes, so their counts differ by one at most; where a topic starts is drawn from
//! its id, so that many topics of one partition spread too.

use corelane_core::ids::{LaneId, PartitionIndex, TopicId, TopicPartition};
use std::num::NonZeroU16;

/// The lane of a partition on a node with so many lanes.
///
/// # Panics
/// When the partition's number is negative: such a number never gets past the edge.
#[must_use]
pub fn lane_of(partition: TopicPartition, lanes: NonZeroU16) -> LaneId {
    let PartitionIndex(index) = partition.partition;
    let index = u64::try_from(index).expect("partitions count from zero");
    let lanes = u64::from(lanes.get());
    let lane = (start(partition.topic) % lanes + index % lanes) % lanes;
    LaneId(u16::try_from(lane).expect("less than the number of lanes"))
}

/// Where a topic starts. Ids are random, but nothing here relies on it: each bit of the id moves
/// about half of the bits of the answer (the finalizer of SplitMix64).
fn start(topic: TopicId) -> u64 {
    let id = u128::from_be_bytes(topic.0);
    let mut mixed = (id >> 64) as u64 ^ (id as u64).rotate_left(32);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(topic: u128, partition: i32, lanes: u16) -> usize {
        let topic = TopicId(topic.to_be_bytes());
        let partition = PartitionIndex(partition);
        let lanes = NonZeroU16::new(lanes).unwrap();
        usize::from(lane_of(TopicPartition { topic, partition }, lanes).0)
    }

    #[test]
    fn the_partitions_of_a_topic_differ_by_one_per_lane_at_most() {
        for (topic, lanes) in (0..200_u128).zip((1..=9).cycle()) {
            for partitions in [1, 2, 7, 50] {
                let mut counts = vec![0_u32; usize::from(lanes)];
                (0..partitions).for_each(|it| counts[lane(topic, it, lanes)] += 1);
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(most - least <= 1, "{topic} {lanes} {partitions}: {counts:?}");
            }
        }
    }

    #[test]
    fn topics_of_one_partition_spread_over_the_lanes() {
        for shift in [0, 1, 40, 64, 100] {
            let mut counts = [0_u32; 8];
            (1..=8000_u128).for_each(|it| counts[lane(it << shift, 0, 8)] += 1);
            for count in counts {
                assert!((800..1200).contains(&count), "ids shifted by {shift}: {counts:?}");
            }
        }
    }

    /// Another answer would move partitions of every node at its next start.
    #[test]
    fn a_partition_stays_where_it_was() {
        let lanes = (0..6).map(|it| lane(0x0123_4567_89ab_cdef_0011_2233_4455_6677, it, 4));
        assert_eq!(lanes.collect::<Vec<_>>(), STAYS);
    }

    const STAYS: [usize; 6] = [2, 3, 0, 1, 2, 3];
}

//! Up to where the bytes of each segment lie in some journal files.
//!
//! A frame over thousands of partitions adds one for each of its entries, and nobody asks before files
//! are given back: so they are only put behind each other, and brought in order when they became many.

use corelane_core::ids::{Offset, TopicPartition};

/// So few are kept as they came.
const ORDERED_MIN: usize = 256;

/// A segment, and up to where.
pub type Reach = ((TopicPartition, Offset), u64);

#[derive(Default)]
pub(super) struct Reaches {
    all: Vec<Reach>,
    /// As many as there were when they were in order, each segment once.
    ordered: usize,
}

impl Reaches {
    pub(super) fn add(&mut self, reach: Reach) {
        self.all.push(reach);
        if 2 * self.ordered.max(ORDERED_MIN) <= self.all.len() {
            self.order();
        }
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        self.all.extend_from_slice(&others.all);
    }

    /// Each segment once, in their order.
    pub(super) fn into_ordered(mut self) -> Vec<Reach> {
        self.order();
        self.all
    }

    fn order(&mut self) {
        self.all.sort_unstable();
        // Of those of one segment the last reaches farthest.
        self.all.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = next.1;
            }
            same
        });
        self.ordered = self.all.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::ids::{PartitionIndex, TopicId};
    use std::collections::BTreeMap;

    #[test]
    fn each_segment_is_told_once_with_the_farthest_and_memory_follows_their_number() {
        let mut reaches = Reaches::default();
        let mut expected = BTreeMap::new();
        for at in 0..20_000_u64 {
            let drawn = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let partition = PartitionIndex((drawn % 300) as i32);
            let of = TopicPartition { topic: TopicId([3; 16]), partition };
            let segment = (of, Offset((drawn >> 9 & 1) as i64));
            reaches.add((segment, drawn));
            let farthest: &mut u64 = expected.entry(segment).or_default();
            *farthest = drawn.max(*farthest);
            assert!(reaches.all.len() <= 2 * 600, "{} of 600", reaches.all.len());
        }
        let mut two = Reaches::default();
        two.add_all(&reaches);
        two.add_all(&reaches);
        assert_eq!(two.into_ordered(), expected.into_iter().collect::<Vec<_>>());
    }
}

//! Which part of a large append goes straight to its segment, and how much room is made for it.
//!
//! EXT-1: an extent is whole blocks inside one append; what lies before and after it in the append
//! travels in the journal, with the extent's place and checksum.
//! EXT-2: an extent lies in room that was made before, in a file whose name is durable.

use crate::checksum;
use crate::frame::{BLOCK_BYTES, ENTRY_HEADER_BYTES};

/// When appends go straight to their segment, and how far ahead room is made for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentRules {
    /// Appends with at least so many bytes skip the journal.
    pub bytes_min: usize,
    /// The same where the first write to a block costs a commit of the file system's own journal.
    pub bytes_min_dear: usize,
    /// The first room made in a segment. Later ones double what is there.
    pub room_bytes_min: u64,
    /// The most room made at once.
    pub room_bytes_max: u64,
    /// Room of all segments of the lane together that nothing was written into yet.
    pub room_bytes_total: u64,
    /// Bytes that may be in segments without a checkpoint that says so: a restart reads them all.
    pub untold_bytes_max: u64,
}

impl Default for ExtentRules {
    fn default() -> Self {
        Self {
            bytes_min: 128 * 1024,
            bytes_min_dear: 1024 * 1024,
            room_bytes_min: 4 << 20,
            room_bytes_max: 64 << 20,
            room_bytes_total: 512 << 20,
            untold_bytes_max: 64 << 20,
        }
    }
}

impl ExtentRules {
    /// Nothing goes straight to its segment.
    #[must_use]
    pub fn never() -> Self {
        Self { bytes_min: usize::MAX, bytes_min_dear: usize::MAX, ..Self::default() }
    }

    /// The room to make behind `allocated`, in a segment that takes up to `segment_bytes`, when
    /// `unused` bytes of room are there already in all segments together.
    #[must_use]
    pub fn room(&self, allocated: u64, segment_bytes: u64, unused: u64) -> u64 {
        let most = self.room_bytes_max.max(self.room_bytes_min);
        let wanted = allocated.clamp(self.room_bytes_min, most);
        let left = segment_bytes.next_multiple_of(BLOCK_BYTES as u64).saturating_sub(allocated);
        let allowed = self.room_bytes_total.saturating_sub(unused);
        let room = wanted.min(left).min(allowed);
        room - room % BLOCK_BYTES as u64
    }
}

/// The three parts of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    pub head_bytes: usize,
    pub extent_bytes: usize,
    pub tail_bytes: usize,
}

impl Parts {
    /// Splits an append of `bytes` at `position`. `None` when it holds no whole block.
    #[must_use]
    pub fn split(position: u64, bytes: usize) -> Option<Self> {
        let head_bytes = (position.next_multiple_of(BLOCK_BYTES as u64) - position) as usize;
        let rest = bytes.checked_sub(head_bytes)?;
        let extent_bytes = rest - rest % BLOCK_BYTES;
        let it = Self { head_bytes, extent_bytes, tail_bytes: rest - extent_bytes };
        (0 < extent_bytes).then_some(it)
    }

    /// Where the extent ends in the segment.
    #[must_use]
    pub fn end(&self, position: u64) -> u64 {
        position + (self.head_bytes + self.extent_bytes) as u64
    }

    /// The most that an append of `bytes` takes in a frame.
    #[must_use]
    pub fn journal_bytes_max() -> usize {
        ENTRY_HEADER_BYTES + 2 * BLOCK_BYTES
    }

    /// The checksum of the extent alone, from that of the whole append: only the ragged ends are
    /// summed.
    #[must_use]
    pub fn extent_crc(&self, append: &[u8], whole_crc: u32) -> u32 {
        let (head, rest) = append.split_at(self.head_bytes);
        let (extent, tail) = rest.split_at(self.extent_bytes);
        assert_eq!(tail.len(), self.tail_bytes, "the parts are those of this append");
        let without_tail = checksum::without_tail(checksum::of(tail), whole_crc, tail.len());
        let crc = checksum::without_head(checksum::of(head), without_tail, extent.len());
        debug_assert_eq!(crc, checksum::of(extent), "a wrong known sum");
        crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(position: u64, bytes: usize, expect: Option<(usize, usize, usize)>) {
        let found = Parts::split(position, bytes);
        assert_eq!(found.map(|it| (it.head_bytes, it.extent_bytes, it.tail_bytes)), expect);
    }

    #[test]
    fn only_whole_blocks_inside_the_append_go_to_the_segment() {
        check(0, 4096, Some((0, 4096, 0)));
        check(0, 10_000, Some((0, 8192, 1808)));
        check(1, 4095, None);
        check(1, 4096, None);
        check(1, 8191, Some((4095, 4096, 0)));
        check(4095, 8193, Some((1, 8192, 0)));
        check(5000, 100, None);
        check(8192, 4095, None);
    }

    #[test]
    fn the_parts_make_the_whole_and_the_checksum_is_that_of_the_extent() {
        let bytes: Vec<u8> = (0..30_000_u32).map(|it| ((it * it) >> 7) as u8).collect();
        let mut split = 0;
        for position in [0, 1, 100, 4095, 4096, 5000] {
            for len in [0, 1, 4095, 4096, 8191, 8192, 12_289, 30_000] {
                let Some(it) = Parts::split(position, len) else { continue };
                let append = &bytes[..len];
                assert_eq!(it.head_bytes + it.extent_bytes + it.tail_bytes, len);
                assert!(it.end(position).is_multiple_of(BLOCK_BYTES as u64));
                assert!(it.head_bytes < BLOCK_BYTES && it.tail_bytes < BLOCK_BYTES);
                let extent = &append[it.head_bytes..it.head_bytes + it.extent_bytes];
                assert_eq!(it.extent_crc(append, checksum::of(append)), checksum::of(extent));
                split += 1;
            }
        }
        assert!(20 < split, "the walk went empty: {split}");
    }

    #[test]
    fn room_doubles_and_keeps_to_its_limits() {
        let rules = ExtentRules {
            room_bytes_min: 8192,
            room_bytes_max: 65_536,
            room_bytes_total: 100_000,
            ..ExtentRules::default()
        };
        let mut made = Vec::new();
        let mut allocated = 0;
        for _ in 0..5 {
            let room = rules.room(allocated, 1 << 30, 0);
            allocated += room;
            made.push(room);
        }
        assert_eq!(made, [8192, 8192, 16_384, 32_768, 65_536]);
        assert_eq!(rules.room(0, 5000, 0), 8192);
        assert_eq!(rules.room(4096, 5000, 0), 4096);
        assert_eq!(rules.room(8192, 5000, 0), 0);
        assert_eq!(rules.room(0, 1 << 30, 97_000), 0);
        assert_eq!(rules.room(65_536, 1 << 30, 70_000), 28_672);
    }
}

//! What fetches that wait for records keep meanwhile, all of one lane together. Its client says how
//! long a fetch waits, so each takes a place first; one that finds none is answered with what there
//! is. A place may be half of what is still free, so that large ones leave room for small ones.
//!
//! - PARKED-1: what is held never exceeds what may be held, and is given back with its place.

use std::cell::Cell;
use std::rc::Rc;

/// Partitions that the waiting fetches of one lane may have together.
const PARTITIONS_MAX: usize = 100_000;

/// Bytes of a frame that are kept for any fetch.
const FRAME_BYTES: usize = 64 * 1024;

/// Bytes of a frame that are kept for each partition: it, and a topic of the longest name around it.
const PARTITION_BYTES: usize = 512;

/// What is held by the fetches that wait.
#[derive(Clone)]
pub(crate) struct Parked(Rc<Inner>);

struct Inner {
    partitions: Cell<usize>,
    frame_bytes: Cell<usize>,
    frame_bytes_max: usize,
}

/// Given back when it is dropped.
#[must_use = "a place is held while the fetch waits"]
pub(crate) struct Place {
    parked: Parked,
    partitions: usize,
    frame_bytes: usize,
}

impl Parked {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self(Rc::new(Inner {
            partitions: Cell::default(),
            frame_bytes: Cell::default(),
            frame_bytes_max,
        }))
    }

    /// A place for a fetch of so many partitions, whose frame stays as long as it waits.
    pub(crate) fn place(&self, partitions: usize, frame_bytes: usize) -> Option<Place> {
        let inner = &self.0;
        let (held, held_bytes) = (inner.partitions.get(), inner.frame_bytes.get());
        if FRAME_BYTES + partitions * PARTITION_BYTES < frame_bytes
            || (PARTITIONS_MAX - held) / 2 < partitions
            || (inner.frame_bytes_max - held_bytes) / 2 < frame_bytes
        {
            return None;
        }
        inner.partitions.set(held + partitions);
        inner.frame_bytes.set(held_bytes + frame_bytes);
        Some(Place { parked: self.clone(), partitions, frame_bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.parked.0;
        inner.partitions.set(inner.partitions.get() - self.partitions);
        inner.frame_bytes.set(inner.frame_bytes.get() - self.frame_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_half_of_what_is_free() {
        let parked = Parked::new(1 << 20);
        assert!(parked.place(PARTITIONS_MAX / 2 + 1, 1).is_none());
        let half = parked.place(PARTITIONS_MAX / 2, 1).expect("half is free");
        assert!(parked.place(PARTITIONS_MAX / 4 + 1, 1).is_none());
        let quarter = parked.place(PARTITIONS_MAX / 4, 1).expect("half of the rest");
        drop(half);
        drop(quarter);
        assert!(parked.place(PARTITIONS_MAX / 2, 1).is_some(), "it was given back");
    }

    #[test]
    fn frames_that_stay_are_bounded_by_their_need_and_all_together() {
        let parked = Parked::new(FRAME_BYTES * 4);
        assert!(parked.place(1, FRAME_BYTES + PARTITION_BYTES + 1).is_none());
        let first = parked.place(1, FRAME_BYTES + PARTITION_BYTES).expect("what one may have");
        let second = parked.place(1, FRAME_BYTES).expect("half of the rest");
        assert!(parked.place(1, FRAME_BYTES).is_none());
        drop((first, second));
        assert!(parked.place(1, FRAME_BYTES).is_some(), "it was given back");
    }
}

//! An allocator that counts, so that a scale can say what a request asks of it.
//!
//! Counting is a load and a store, and exact only while one thread allocates, as where it is used;
//! an exact count for many threads would cost every scale more than it is worth.
#![expect(unsafe_code, reason = "an allocator has no other way to be one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static TIMES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// What this process has asked for so far, freed or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requested {
    pub(crate) times: u64,
    pub(crate) bytes: u64,
    /// Of these bytes, those that were given back.
    pub(crate) freed_bytes: u64,
}

pub(crate) fn requested() -> Requested {
    Requested {
        times: TIMES.load(Relaxed),
        bytes: BYTES.load(Relaxed),
        freed_bytes: FREED.load(Relaxed),
    }
}

fn count(bytes: usize) {
    TIMES.store(TIMES.load(Relaxed).wrapping_add(1), Relaxed);
    BYTES.store(BYTES.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
}

fn freed(bytes: usize) {
    FREED.store(FREED.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
}

// SAFETY: every call is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        freed(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

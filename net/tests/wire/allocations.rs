//! An allocator that counts, so that tests can say how much memory something asked for.
//!
//! Counts belong to a thread: tests run beside one another.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static REQUESTED: Cell<Requested> = const { Cell::new(Requested { times: 0, bytes: 0 }) };
}

/// What one thread asked for, freed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requested {
    pub(crate) times: u64,
    pub(crate) bytes: u64,
}

fn count(bytes: usize) {
    REQUESTED.with(|it| {
        let Requested { times, bytes: sum } = it.get();
        it.set(Requested { times: times + 1, bytes: sum + bytes as u64 });
    });
}

#[expect(unsafe_code, reason = "an allocator has no other way to be one")]
// SAFETY: every call is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Runs `work` and says what it asked for on this thread.
pub(crate) fn requested_by<T>(work: impl FnOnce() -> T) -> (T, Requested) {
    let before = REQUESTED.with(Cell::get);
    let result = work();
    let after = REQUESTED.with(Cell::get);
    let bytes = after.bytes - before.bytes;
    (result, Requested { times: after.times - before.times, bytes })
}

#[test]
fn the_count_counts() {
    let (kept, requested) = requested_by(|| vec![0u8; 1000]);
    assert_eq!((kept.len(), requested), (1000, Requested { times: 1, bytes: 1000 }));
    assert_eq!(requested_by(|| 1).1, Requested { times: 0, bytes: 0 });
}

//! Memory behind blocks: a few pages of its own, or a piece of a huge page for what is large.
//!
//! The kernel finds, pins and hands to a device each page of what is written directly. A huge page is
//! one step where 512 small ones are as many, so large blocks are cut from those where the host has
//! them; where it has none, they are ordinary memory of the same kind.
#![expect(unsafe_code, reason = "raw aligned memory")]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::limits::BLOCK_BYTES;

/// One huge page: larger blocks begin at one, smaller ones share it.
pub(super) const SLAB_BYTES: usize = 2 << 20;

/// Memory that is freed when this value goes.
struct Owned {
    at: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned by this value alone, and nothing here reads or writes it after it was
// made.
unsafe impl Send for Owned {}
// SAFETY: as for sending: a shared value only tells where the memory is.
unsafe impl Sync for Owned {}

impl Owned {
    fn new(bytes: usize) -> Self {
        assert!(0 < bytes && bytes.is_multiple_of(BLOCK_BYTES), "a block is whole pages: {bytes}");
        let is_huge = SLAB_BYTES <= bytes;
        let align = if is_huge { SLAB_BYTES } else { BLOCK_BYTES };
        let layout = Layout::from_size_align(bytes, align).expect("block sizes are bounded");
        // SAFETY: the layout has a size above zero, asserted above.
        let at = unsafe { if is_huge { alloc(layout) } else { alloc_zeroed(layout) } };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(layout) };
        if is_huge {
            advise_huge(at, bytes);
            // SAFETY: just allocated with this size. Zeroed only now, because the first touch
            // decides which pages it gets.
            unsafe { at.as_ptr().write_bytes(0, bytes) };
        }
        Self { at, layout }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with exactly this layout, freed once.
        unsafe { dealloc(self.at.as_ptr(), self.layout) }
    }
}

/// Asks for huge pages. A host without them says no, and nothing is lost.
fn advise_huge(at: NonNull<u8>, bytes: usize) {
    if cfg!(miri) {
        return;
    }
    // SAFETY: the range is whole pages of memory that is ours; the advice does not change what is
    // in it.
    let _refused = unsafe { libc::madvise(at.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
}

/// Zeroed memory of one block, which nobody else reads or writes.
pub(super) struct Memory {
    at: NonNull<u8>,
    bytes: usize,
    /// Keeps the memory allocated.
    _owner: Owner,
}

enum Owner {
    Alone(#[expect(dead_code, reason = "held to be dropped")] Owned),
    Shared(#[expect(dead_code, reason = "held to be dropped")] Arc<Owned>),
}

// SAFETY: the range belongs to this value alone; access is arbitrated by whoever holds it.
unsafe impl Send for Memory {}
// SAFETY: shared access goes through `Slice`, which reads only bytes that no longer change (BUF-1).
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory of a whole number of pages.
    pub(super) fn new(bytes: usize) -> Self {
        let owned = Owned::new(bytes);
        Self { at: owned.at, bytes, _owner: Owner::Alone(owned) }
    }

    /// A huge page in pieces of `bytes`.
    pub(super) fn pieces(bytes: usize) -> impl Iterator<Item = Self> {
        assert!(SLAB_BYTES.is_multiple_of(bytes) && bytes.is_multiple_of(BLOCK_BYTES));
        let owned = Arc::new(Owned::new(SLAB_BYTES));
        (0..SLAB_BYTES / bytes).map(move |it| {
            // SAFETY: within the page, because there are only so many pieces of this size.
            let at = unsafe { owned.at.add(it * bytes) };
            Self { at, bytes, _owner: Owner::Shared(Arc::clone(&owned)) }
        })
    }

    /// Gives the pages back to the host, whatever the allocator does with their addresses; what they held
    /// reads as zeroes. The neighbours of a piece lie on small pages from then on.
    pub(super) fn give_up(&mut self) {
        if cfg!(miri) {
            return;
        }
        // SAFETY: whole pages of private memory that is ours alone: nobody sees a change but that they
        // are zero. If it is refused the pages stay, which is no worse than before.
        let _refused =
            unsafe { libc::madvise(self.at.as_ptr().cast(), self.bytes, libc::MADV_DONTNEED) };
    }

    pub(super) fn at(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

//! Blocks of the lane's pool that the kernel may fill by itself, for connections that are mostly idle.
//!
//! The kernel takes a block only when bytes arrive, so ten thousand idle connections share these
//! few. Each block is either here, owned by this value, or was handed out with the bytes in it.
#![expect(unsafe_code, reason = "a ring of blocks that the kernel reads")]

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::buf::{Buf, Pool};

/// The only group of blocks a ring has.
pub(super) const GROUP: u16 = 0;

/// Bytes of one block: several small requests, or the beginning of a large one.
const PROVIDED_BLOCK_BYTES: usize = 16 * 1024;

/// Blocks the kernel holds at most. A power of two. The kernel fills them in turn, so each one more is
/// memory that is cold when its turn comes; and each turn of the lane replaces what was handed out,
/// while the kernel answers some twenty receives between two turns.
const PROVIDED_BLOCKS_MAX: usize = 32;

/// The share of the pool, as a divisor, that they may take.
const PROVIDED_SHARE: usize = 8;

pub(super) struct Blocks {
    /// The memory shared with the kernel: entries, with the tail inside the first.
    shared: Buf,
    /// By block number; `None` was handed out.
    held: Vec<Option<Buf>>,
    /// Numbers of handed-out blocks.
    missing: Vec<u16>,
    block_bytes: usize,
    tail: u16,
}

impl Blocks {
    /// Registers an empty ring of blocks. `None` when the kernel has no such thing.
    pub(super) fn register(submitter: &Submitter<'_>, budget_bytes: usize) -> Option<Self> {
        let fit = budget_bytes / PROVIDED_SHARE / PROVIDED_BLOCK_BYTES;
        let count = fit.clamp(1, PROVIDED_BLOCKS_MAX);
        // Rounded down to a power of two, as the kernel wants it.
        let count = 1 << count.ilog2();
        let mut shared = Buf::unpooled(count * size_of::<BufRingEntry>());
        let at = shared.spare_ptr().addr() as u64;
        // SAFETY: the memory is aligned to a page, large enough, and lives in `self` until
        // `unregister` or the end of the ring, which drops this value after the ring's own.
        unsafe { submitter.register_buf_ring_with_flags(at, count as u16, GROUP, 0) }.ok()?;
        Some(Self {
            shared,
            held: (0..count).map(|_| None).collect(),
            missing: (0..count as u16).rev().collect(),
            block_bytes: PROVIDED_BLOCK_BYTES.min(budget_bytes),
            tail: 0,
        })
    }

    /// Replaces what was handed out, as far as the pool has blocks.
    pub(super) fn refill(&mut self, pool: &Pool) {
        if self.missing.is_empty() {
            return;
        }
        let mask = self.held.len() as u16 - 1;
        let base = self.shared.spare_ptr().cast::<BufRingEntry>();
        let mut added = 0;
        while let Some(&number) = self.missing.last() {
            let Some(mut buf) = pool.get(self.block_bytes) else { break };
            let place = usize::from((self.tail.wrapping_add(added)) & mask);
            // SAFETY: `place` is below the number of entries; the kernel does not read entries at
            // or beyond the tail, and there are as many entries as blocks, so none is overrun.
            let entry = unsafe { &mut *base.add(place) };
            entry.set_addr(buf.spare_ptr().addr() as u64);
            entry.set_len(buf.room() as u32);
            entry.set_bid(number);
            self.held[usize::from(number)] = Some(buf);
            self.missing.pop();
            added += 1;
        }
        if added != 0 {
            self.tail = self.tail.wrapping_add(added);
            // SAFETY: the tail lies inside the first entry, aligned, and only we write it. The
            // release makes the entries above visible before it.
            let tail = unsafe { &*BufRingEntry::tail(base).cast::<AtomicU16>() };
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// Whether the kernel has a block left to fill.
    pub(super) fn any_held(&self) -> bool {
        self.missing.len() < self.held.len()
    }

    /// Hands out a block that the kernel has filled with `bytes`.
    pub(super) fn take(&mut self, number: u16, bytes: usize) -> Buf {
        let mut buf = self.held[usize::from(number)].take().expect("the kernel fills a block once");
        self.missing.push(number);
        buf.advance(bytes);
        buf
    }

    /// Ends the kernel's knowledge of these blocks, once no receive is in flight.
    pub(super) fn unregister(self, submitter: &Submitter<'_>) {
        // Failing, the kernel would keep memory we are about to free.
        submitter.unregister_buf_ring(GROUP).expect("registered blocks can be taken back");
    }
}

//! Memory that may be handed to the kernel: aligned, pooled, owned by one writer, shared by many readers.
//!
//! A [`Buf`] is the right to write the unfilled rest of a block. A [`Slice`] is the right to read a
//! range that was filled before the slice was made. The two never overlap, so a block may be
//! growing at its end while its beginning is on its way to a disk and to any number of sockets.
//!
//! Invariants:
//! - BUF-1: bytes below `filled` never change while a slice of them lives;
//! - BUF-2: a block returns to its pool only when its writer and every slice are gone;
//! - BUF-3: whoever hands a `Buf` or a `Slice` to the ring cannot reach it until the completion,
//!   because the operation owns it;
//! - BUF-4: every block starts on a [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES) boundary and was
//!   zeroed once, so no uninitialised byte can leave;
//! - BUF-5: a block in pieces has no writer, no slices, and no byte in two pieces.
//!
//! Blocks may be dropped on any lane: they find their pool themselves.

mod block;
mod past_cache;
mod pool;
mod slab;

pub use block::{Buf, Piece, Slice};
pub use past_cache::copy_past_cache;
pub use pool::{Pool, PoolStats};

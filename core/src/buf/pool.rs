//! The lane's memory: blocks of a few sizes, reused, within one budget.
//!
//! A pool belongs to one lane, but its blocks may be dropped anywhere: they come home through a
//! bounded lock-free queue per size. What a full queue cannot take is freed. What the budget
//! cannot give is refused, and the caller waits or answers "later"; nothing here grows unseen.
//! What lies idle for long goes back to the host, a part at a time ([`Pool::trim`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use super::block::{Block, Buf};
use super::slab::SLAB_BYTES;
use crate::limits::{BLOCK_BYTES, BUF_BYTES_MAX};

/// Sizes that are kept for reuse. Larger blocks are rounded to whole pages and freed after use.
const CLASSES: [usize; 12] = [
    BLOCK_BYTES,
    4 * BLOCK_BYTES,
    8 * BLOCK_BYTES,
    16 * BLOCK_BYTES,
    32 * BLOCK_BYTES,
    64 * BLOCK_BYTES,
    128 * BLOCK_BYTES,
    256 * BLOCK_BYTES,
    512 * BLOCK_BYTES,
    1024 * BLOCK_BYTES,
    1536 * BLOCK_BYTES,
    2048 * BLOCK_BYTES,
];

/// Blocks from this size on are pieces of huge pages.
const PIECE_BYTES_MIN: usize = 32 * BLOCK_BYTES;

/// The share of a budget, as a divisor, that one huge page may be. A small pool cannot spare one for
/// each size.
const SLAB_SHARE: usize = 16;

/// The share of its budget, as a divisor, that one size may keep idle.
const IDLE_SHARE: usize = 4;

/// Blocks of one size kept idle at most, however small they are.
const IDLE_BLOCKS_MAX: usize = 16_384;

/// The share of what was not needed, as a divisor, that one [`Pool::trim`] gives back.
const TRIM_SHARE: usize = 8;

/// Bytes of pieces of one size that are never given back: their neighbours lose the huge page.
const PIECES_KEPT_BYTES: usize = 8 << 20;

/// Bytes one [`Pool::trim`] gives back at most, so that it takes a moment only.
const TRIM_BYTES_MAX: usize = 8 << 20;

/// A handle to one lane's memory.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    idle: [ArrayQueue<Arc<Block>>; CLASSES.len()],
    /// The fewest blocks that were idle since the last trim.
    idle_least: [AtomicUsize; CLASSES.len()],
    budget_bytes: usize,
    /// Bytes in buffers that somebody holds.
    lent_bytes: AtomicUsize,
    refused: AtomicU64,
    poison: AtomicBool,
}

/// What a pool holds, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    pub budget_bytes: usize,
    pub lent_bytes: usize,
    pub idle_bytes: usize,
    pub refused: u64,
}

impl Pool {
    /// A pool that lends at most `budget_bytes` at once.
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        let queue = |class: usize| {
            ArrayQueue::new((budget_bytes / IDLE_SHARE / class).clamp(1, IDLE_BLOCKS_MAX))
        };
        Self(Arc::new(Inner {
            idle: CLASSES.map(queue),
            idle_least: Default::default(),
            budget_bytes,
            lent_bytes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            poison: AtomicBool::new(false),
        }))
    }

    /// Fills every block that comes home with a pattern, so that its reuse while somebody still
    /// reads it shows. For tests and the simulator.
    pub fn poison_returned(&self) {
        self.0.poison.store(true, Ordering::Relaxed);
    }

    /// A buffer of at least `bytes`, or `None` when the budget has no room for it now.
    #[must_use]
    pub fn get(&self, bytes: usize) -> Option<Buf> {
        if BUF_BYTES_MAX < bytes {
            return None;
        }
        let class = CLASSES.iter().position(|&it| bytes <= it);
        let size = class.map_or(bytes.next_multiple_of(BLOCK_BYTES), |it| CLASSES[it]);
        let inner = &*self.0;
        let reserved =
            inner.lent_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lent| {
                lent.checked_add(size).filter(|&it| it <= inner.budget_bytes)
            });
        if reserved.is_err() {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let idle = class.and_then(|it| {
            let block = inner.idle[it].pop().or_else(|| self.cut(it));
            inner.idle_least[it].fetch_min(inner.idle[it].len(), Ordering::Relaxed);
            block
        });
        Some(Buf::from_pool(idle.unwrap_or_else(|| Block::idle(size)), self.clone()))
    }

    /// A piece of a fresh huge page, for sizes that are cut from one; the other pieces wait.
    fn cut(&self, class: usize) -> Option<Arc<Block>> {
        let fits = SLAB_BYTES <= self.0.budget_bytes / SLAB_SHARE;
        if !fits || !(PIECE_BYTES_MIN..SLAB_BYTES).contains(&CLASSES[class]) {
            return None;
        }
        let mut pieces = Block::idle_pieces(CLASSES[class]);
        let first = pieces.next();
        for it in pieces {
            // What a full queue gives back is freed with the last of its neighbours.
            drop(self.0.idle[class].push(it));
        }
        first
    }

    /// Whether so many bytes could be lent now.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let inner = &*self.0;
        inner.lent_bytes.load(Ordering::Relaxed).saturating_add(bytes) <= inner.budget_bytes
    }

    /// Gives back to the host a part of what was not needed since the last time, so that memory which a
    /// rush had taken comes down within some tens of these. To be called every second or so.
    pub fn trim(&self) {
        let inner = &*self.0;
        let mut left = TRIM_BYTES_MAX;
        for ((idle, least), bytes) in inner.idle.iter().zip(&inner.idle_least).zip(CLASSES) {
            let is_piece = (PIECE_BYTES_MIN..SLAB_BYTES).contains(&bytes);
            let kept = if is_piece { PIECES_KEPT_BYTES / bytes } else { 0 };
            let unneeded = least.load(Ordering::Relaxed).min(idle.len()).saturating_sub(kept);
            for _ in 0..unneeded.div_ceil(TRIM_SHARE).min(left / bytes) {
                let Some(mut block) = idle.pop() else { break };
                Arc::get_mut(&mut block).expect("nobody holds an idle block").give_up();
                left -= bytes;
            }
            least.store(idle.len(), Ordering::Relaxed);
        }
    }

    /// What may be lent at once.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.0.budget_bytes
    }

    /// What somebody holds.
    #[must_use]
    pub fn lent_bytes(&self) -> usize {
        self.0.lent_bytes.load(Ordering::Relaxed)
    }

    /// Everything, counted anew: for metrics, not for each batch.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            budget_bytes: self.budget_bytes(),
            lent_bytes: self.lent_bytes(),
            idle_bytes: CLASSES.iter().zip(&self.0.idle).map(|(it, idle)| it * idle.len()).sum(),
            refused: self.0.refused.load(Ordering::Relaxed),
        }
    }

    /// Keeps a block that nobody holds any more, or frees it when enough of its size are kept.
    pub(super) fn take_back(&self, mut block: Arc<Block>) {
        let inner = &*self.0;
        let bytes = block.bytes();
        inner.lent_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if inner.poison.load(Ordering::Relaxed) {
            Arc::get_mut(&mut block).expect("nobody holds it").poison();
        }
        if let Some(class) = CLASSES.iter().position(|&it| it == bytes) {
            // A full queue gives it back, and it is freed.
            drop(inner.idle[class].push(block));
        }
    }

    /// A block was freed instead of coming home.
    pub(super) fn lost(&self, bytes: usize) {
        self.0.lent_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_home_and_are_used_again() {
        let pool = Pool::new(1 << 20);
        let buf = pool.get(100).expect("in budget");
        assert_eq!(pool.stats().lent_bytes, BLOCK_BYTES);
        let slice = { buf }.freeze();
        assert_eq!(pool.stats().lent_bytes, BLOCK_BYTES);
        drop(slice);
        let stats = pool.stats();
        assert_eq!((stats.lent_bytes, stats.idle_bytes), (0, BLOCK_BYTES));
        let _again = pool.get(BLOCK_BYTES).expect("in budget");
        assert_eq!(pool.stats().idle_bytes, 0);
    }

    #[test]
    fn a_budget_refuses_instead_of_growing() {
        let pool = Pool::new(3 * BLOCK_BYTES);
        let held: Vec<_> = (0..3).map(|_| pool.get(1).expect("in budget")).collect();
        assert!(pool.get(1).is_none());
        assert_eq!(pool.stats().refused, 1);
        drop(held);
        assert!(pool.get(1).is_some());
        assert!(pool.get(BUF_BYTES_MAX + 1).is_none());
    }

    #[test]
    fn large_blocks_share_a_page_and_nothing_else() {
        let pool = Pool::new(64 << 20);
        let mut held: Vec<_> = (0..9).map(|_| pool.get(256 * 1024).expect("in budget")).collect();
        for (at, buf) in (0_u8..).zip(&mut held) {
            assert!(buf.spare_mut().iter().all(|it| *it == 0));
            buf.spare_mut().fill(at);
            buf.advance(256 * 1024);
        }
        for (at, buf) in (0_u8..).zip(&held) {
            assert!(buf.filled().iter().all(|it| *it == at));
        }
        assert_eq!(pool.stats().lent_bytes, 9 * 256 * 1024);
        held.truncate(1);
        assert_eq!(pool.stats().idle_bytes, 15 * 256 * 1024);
        drop(pool);
        assert!(held[0].filled().iter().all(|it| *it == 0));
    }

    #[test]
    fn a_small_pool_takes_no_more_than_it_lends() {
        let pool = Pool::new(1 << 20);
        drop(pool.get(256 * 1024).expect("in budget"));
        assert_eq!(pool.stats().idle_bytes, 256 * 1024);
    }

    #[test]
    fn what_nobody_needs_goes_back_and_what_is_needed_stays() {
        let pool = Pool::new(1 << 20);
        let rush: Vec<_> = (0..40).map(|_| pool.get(1).expect("in budget")).collect();
        drop(rush);
        pool.trim();
        assert_eq!(
            pool.stats().idle_bytes,
            40 * BLOCK_BYTES,
            "all were needed since the last time"
        );
        let mut idle = Vec::new();
        for _ in 0..20 {
            // Three at a time, again and again.
            let few: Vec<_> = (0..3).map(|_| pool.get(1).expect("in budget")).collect();
            drop(few);
            pool.trim();
            idle.push(pool.stats().idle_bytes / BLOCK_BYTES);
        }
        assert!(idle.is_sorted_by(|a, b| a >= b), "{idle:?}");
        assert_eq!((idle[0], idle[19]), (35, 3), "{idle:?}");
        assert!(pool.get(1).expect("in budget").spare_mut().iter().all(|&it| it == 0));
    }

    #[test]
    fn pieces_of_huge_pages_go_back_but_for_a_few() {
        let pool = Pool::new(256 << 20);
        let rush: Vec<_> = (0..60).map(|_| pool.get(1 << 20).expect("in budget")).collect();
        drop(rush);
        for _ in 0..40 {
            pool.trim();
        }
        assert_eq!(pool.stats().idle_bytes, PIECES_KEPT_BYTES);
    }

    #[test]
    fn a_returned_block_is_poisoned_when_asked() {
        let pool = Pool::new(1 << 20);
        pool.poison_returned();
        let mut buf = pool.get(1).expect("in budget");
        buf.put(b"secret");
        drop(buf);
        let mut buf = pool.get(1).expect("in budget");
        assert!(buf.spare_mut().iter().all(|&it| it == super::super::block::POISON));
    }

    #[test]
    fn blocks_may_be_dropped_by_another_thread() {
        let pool = Pool::new(1 << 20);
        let slice = pool.get(1).expect("in budget").freeze();
        std::thread::scope(|it| {
            it.spawn(move || drop(slice));
        });
        assert_eq!(pool.stats().lent_bytes, 0);
    }

    #[test]
    fn pieces_of_a_block_may_be_written_by_other_threads() {
        let pool = Pool::new(1 << 20);
        let mut buf = pool.get(1).expect("in budget");
        buf.put(b"onetwo");
        let pieces = buf.split(&[0..3, 3..6]).expect("alone");
        std::thread::scope(|it| {
            for mut piece in pieces {
                it.spawn(move || {
                    piece.make_ascii_uppercase();
                    assert!(piece.iter().all(u8::is_ascii_uppercase));
                });
            }
        });
        assert_eq!(pool.stats().lent_bytes, 0);
    }
}

//! How much memory the answers of one lane may take that have not left, all connections together.
//!
//! An answer is here because its request was served, so nothing is refused by this count: it says when
//! to serve no more. While it is spent, a connection starts a request only when nothing of an earlier
//! one waits. So a peer that reads goes on, one answer at a time, and one that does not stops; and
//! whoever still has not read everything when `send_stall` is over is let go.
//!
//! - OUTBOUND-1: beyond the total there is at most one answer for each connection, and what one round
//!   of its open requests gave when the total was reached;
//! - OUTBOUND-2: nobody waits for another's answers to leave, so there is nobody to wake.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::buf::{Buf, Pool, Slice};
use corelane_core::limits::BLOCK_BYTES;

/// An answer up to this size is moved behind the last one when it has to wait: a block of its own is
/// many times larger than most answers.
const PACKED_BYTES_MAX: usize = 1024;

/// One lane's answers.
#[derive(Clone)]
pub struct Outbound(Rc<Inner>);

struct Inner {
    bytes_max: usize,
    held: Cell<usize>,
    held_most: Cell<usize>,
}

impl Outbound {
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(Rc::new(Inner { bytes_max, held: Cell::new(0), held_most: Cell::new(0) }))
    }

    /// Memory of answers that have not left.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.get()
    }

    /// The most that was ever held at once.
    #[must_use]
    pub fn held_most(&self) -> usize {
        self.0.held_most.get()
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.bytes_max <= self.held()
    }

    pub(super) fn unsent(&self) -> Unsent {
        Unsent { outbound: self.clone(), bytes: 0, pack: None }
    }
}

/// The answers of one connection that have not left.
pub(super) struct Unsent {
    outbound: Outbound,
    bytes: usize,
    /// Where small answers are moved to, while any waits.
    pack: Option<Buf>,
}

impl Unsent {
    /// Their memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let inner = &*self.outbound.0;
        let held = inner.held.get() + bytes;
        inner.held.set(held);
        inner.held_most.set(inner.held_most.get().max(held));
    }

    pub(super) fn subtract(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.outbound.0.held.set(self.outbound.held() - bytes);
    }

    /// Gives up what small answers were moved to, once all of them have left.
    pub(super) fn settle(&mut self) {
        if let Some(pack) = self.pack.take_if(|it| it.is_alone()) {
            self.subtract(pack.capacity());
        }
    }

    /// Moves a small answer that has to wait behind those that wait already.
    pub(super) fn pack(&mut self, pool: &Pool, parts: &mut Vec<Slice>) {
        let bytes: usize = parts.iter().map(|it| it.len()).sum();
        if bytes == 0 || PACKED_BYTES_MAX < bytes {
            return;
        }
        if self.pack.as_ref().is_none_or(|it| it.room() < bytes) {
            // Answers must be able to leave when the pool has lent everything elsewhere.
            let next = pool.get(BLOCK_BYTES).unwrap_or_else(|| Buf::unpooled(BLOCK_BYTES));
            match &mut self.pack {
                Some(pack) => *pack = next,
                None => {
                    self.add(next.capacity());
                    self.pack = Some(next);
                }
            }
        }
        let pack = self.pack.as_mut().expect("there is one now");
        let at = pack.len();
        for part in parts.iter() {
            pack.put(part);
        }
        *parts = vec![pack.slice(at..)];
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.pack = None;
        self.subtract(self.bytes);
    }
}

/// What the parts of an answer take: a block that is theirs alone counts whole, of one that is shared
/// with others what they use of it.
pub(super) fn memory_of(parts: &[Slice]) -> usize {
    let around = if parts.len() < 2 { 0 } else { BLOCK_BYTES };
    around
        + parts
            .iter()
            .map(|it| if it.is_alone() { it.block_bytes() } else { it.len() })
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(bytes: &[u8]) -> Slice {
        Buf::copy_of(bytes).freeze()
    }

    #[test]
    fn what_waits_counts_for_the_lane_until_it_has_left_or_its_connection_has_gone() {
        let outbound = Outbound::new(100);
        let (mut one, mut other) = (outbound.unsent(), outbound.unsent());
        one.add(60);
        assert!(!outbound.is_spent());
        other.add(40);
        assert!(outbound.is_spent(), "both together");
        one.subtract(60);
        assert_eq!((outbound.held(), one.bytes(), outbound.is_spent()), (40, 0, false));
        drop(other);
        assert_eq!((outbound.held(), outbound.held_most()), (0, 100));
    }

    #[test]
    fn small_answers_that_wait_share_a_block_and_keep_their_bytes() {
        let (outbound, pool) = (Outbound::new(1 << 20), Pool::new(1 << 20));
        let mut unsent = outbound.unsent();
        let packed: Vec<Slice> = (0..10_u8)
            .map(|it| {
                let mut parts = vec![slice(&[it; 5]), slice(&[it; 7])];
                unsent.pack(&pool, &mut parts);
                assert_eq!(parts.len(), 1);
                parts.remove(0)
            })
            .collect();
        for (it, at) in packed.iter().zip(0_u8..) {
            assert_eq!(it[..], [at; 12]);
        }
        assert_eq!(outbound.held(), BLOCK_BYTES, "one block for all of them");
        let mut large = vec![slice(&[1; PACKED_BYTES_MAX + 1])];
        unsent.pack(&pool, &mut large);
        assert_eq!((large[0].len(), outbound.held()), (PACKED_BYTES_MAX + 1, BLOCK_BYTES));
        unsent.settle();
        assert_eq!(outbound.held(), BLOCK_BYTES, "somebody still has to send from it");
        drop(packed);
        unsent.settle();
        assert_eq!(outbound.held(), 0);
    }
}

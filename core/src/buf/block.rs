//! One aligned block of memory, its single writer and its readers.
#![expect(unsafe_code, reason = "raw aligned memory that the kernel reads and writes")]

use std::fmt;
use std::ops::{Bound, Deref, DerefMut, Range, RangeBounds};
use std::sync::Arc;

use super::past_cache::copy_past_cache;
use super::pool::Pool;
use super::slab::Memory;
use crate::limits::BLOCK_BYTES;

/// What a poisoned block is filled with when it returns to its pool.
pub(super) const POISON: u8 = 0xDB;

/// Memory with the pool it goes home to. Only [`Buf`] writes it, and only beyond what slices can see.
pub(super) struct Block {
    memory: Memory,
    /// Where it goes when nobody holds it; absent while it waits there.
    home: Option<Pool>,
}

impl Block {
    /// A block that nobody holds yet.
    pub(super) fn idle(bytes: usize) -> Arc<Self> {
        Arc::new(Self { memory: Memory::new(bytes), home: None })
    }

    /// Blocks of one size that share a huge page.
    pub(super) fn idle_pieces(bytes: usize) -> impl Iterator<Item = Arc<Self>> {
        Memory::pieces(bytes).map(|memory| Arc::new(Self { memory, home: None }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Gives the pages back to the host, whatever the allocator does with their addresses.
    pub(super) fn give_up(&mut self) {
        self.memory.give_up();
    }

    /// Overwrites everything, so that a reader of stale memory is caught by its content.
    pub(super) fn poison(&mut self) {
        // SAFETY: `&mut self` proves that no writer and no slice exists; the range is ours.
        unsafe { self.memory.at().write_bytes(POISON, self.memory.bytes()) }
    }
}

impl Drop for Block {
    /// Only when several holders left at the same moment, so that none of them saw itself alone.
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.lost(self.memory.bytes());
        }
    }
}

/// One of those that hold a block. The last to leave sends it home.
#[derive(Clone)]
struct Hold(Option<Arc<Block>>);

impl Hold {
    fn block(&self) -> &Arc<Block> {
        self.0.as_ref().expect("held until dropped")
    }

    fn at(&self) -> *mut u8 {
        self.block().memory.at()
    }

    /// The block, if nobody else holds it.
    fn alone(&mut self) -> Option<&mut Block> {
        let block = self.0.as_mut()?;
        // Asked first because it only reads: most holders of a shared block are not the last.
        if Arc::strong_count(block) == 1 { Arc::get_mut(block) } else { None }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(home) = self.alone().and_then(|it| it.home.take()) {
            home.take_back(self.0.take().expect("held until now"));
        }
    }
}

/// The right to write one block: everything from `filled` on.
pub struct Buf {
    block: Hold,
    filled: usize,
}

impl Buf {
    /// Lends an idle block of `home`.
    pub(super) fn from_pool(mut block: Arc<Block>, home: Pool) -> Self {
        Arc::get_mut(&mut block).expect("nobody holds an idle block").home = Some(home);
        Self { block: Hold(Some(block)), filled: 0 }
    }

    /// A block outside any pool, rounded up to whole pages. For start-up, tests and rare large things.
    #[must_use]
    pub fn unpooled(bytes: usize) -> Self {
        let bytes = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        Self { block: Hold(Some(Block::idle(bytes))), filled: 0 }
    }

    /// An unpooled buffer that holds a copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buf = Self::unpooled(bytes.len());
        buf.put(bytes);
        buf
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block.block().bytes()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Bytes that can still be written.
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity() - self.filled
    }

    /// The filled part, to read.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        // SAFETY: below `filled` nobody writes while `&self` lives: the only writer is this `Buf`.
        unsafe { std::slice::from_raw_parts(self.block.at(), self.filled) }
    }

    /// The filled part, to change in place. `None` while a slice of this block lives (BUF-1).
    #[must_use]
    pub fn filled_mut(&mut self) -> Option<&mut [u8]> {
        let filled = self.filled;
        let at = self.block.alone()?.memory.at();
        // SAFETY: `alone` proves that no slice exists, and `&mut self` that nobody else writes.
        Some(unsafe { std::slice::from_raw_parts_mut(at, filled) })
    }

    /// The rest that nobody has filled yet.
    #[must_use]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let room = self.room();
        // SAFETY: slices end at `filled` at the latest, so no reader sees this range; we are the
        // only writer. The memory was zeroed when it was allocated.
        unsafe { std::slice::from_raw_parts_mut(self.block.at().add(self.filled), room) }
    }

    /// Declares `bytes` of the spare part filled.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.room(), "advanced past the block: {bytes} > {}", self.room());
        self.filled += bytes;
    }

    /// Copies `bytes` behind what is filled.
    pub fn put(&mut self, bytes: &[u8]) {
        self.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    /// As [`Self::put`], for much that a device or another processor reads next, not we.
    pub fn put_past_cache(&mut self, bytes: &[u8]) {
        copy_past_cache(&mut self.spare_mut()[..bytes.len()], bytes);
        self.advance(bytes.len());
    }

    /// Fills with zeroes up to `len`.
    pub fn pad_to(&mut self, len: usize) {
        assert!(self.filled <= len && len <= self.capacity(), "cannot pad to {len}");
        let zeroes = len - self.filled;
        self.spare_mut()[..zeroes].fill(0);
        self.advance(zeroes);
    }

    /// Forgets the content. Returns `false`, and changes nothing, while a slice lives (BUF-1).
    pub fn clear(&mut self) -> bool {
        self.cut(0)
    }

    /// Forgets what lies beyond `len`. Returns `false`, and changes nothing, while a slice lives.
    pub fn cut(&mut self, len: usize) -> bool {
        assert!(len <= self.filled, "cannot cut {} to {len}", self.filled);
        if self.block.alone().is_none() {
            return false;
        }
        self.filled = len;
        true
    }

    /// Whether no slice of this block lives.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(self.block.block()) == 1
    }

    /// Shares a range of the filled part.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Slice {
        let (start, end) = resolve(&range, self.filled);
        Slice { block: self.block.clone(), start, end }
    }

    /// Gives up writing and shares everything filled.
    #[must_use]
    pub fn freeze(self) -> Slice {
        Slice { start: 0, end: self.filled, block: self.block }
    }

    /// Gives up the buffer for parts of it that may be written apart from each other, each on a lane
    /// of its own (BUF-5). `None`, and the buffer is gone, while a slice of this block lives.
    ///
    /// # Panics
    /// When ranges overlap, are out of order or lie outside of what is filled.
    #[must_use]
    pub fn split(mut self, ranges: &[Range<usize>]) -> Option<Vec<Piece>> {
        self.block.alone()?;
        let mut before = 0;
        let piece = |it: &Range<usize>| {
            assert!(before <= it.start && it.start <= it.end && it.end <= self.filled);
            before = it.end;
            Piece { block: self.block.clone(), start: it.start, end: it.end }
        };
        Some(ranges.iter().map(piece).collect())
    }

    /// What a bug elsewhere would do: changes bytes that slices see.
    #[cfg(test)]
    pub(crate) fn break_rule(&mut self) {
        assert!(0 < self.filled);
        // SAFETY: within the block, and no reference into it lives: those that slices give end
        // before the call that asked for them. That it changes under them is what is tested.
        unsafe { *self.block.at() ^= 0xFF }
    }

    /// Where the kernel may write next. Only the ring uses it, while it owns the buffer.
    pub(crate) fn spare_ptr(&mut self) -> *mut u8 {
        self.spare_mut().as_mut_ptr()
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({}/{})", self.filled, self.capacity())
    }
}

/// The right to read a range of a block that no longer changes. Cheap to clone, free to send.
#[derive(Clone)]
pub struct Slice {
    block: Hold,
    start: usize,
    end: usize,
}

impl Slice {
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// A part of this part.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let (start, end) = resolve(&range, self.len());
        Self { block: self.block.clone(), start: self.start + start, end: self.start + end }
    }

    /// Memory of the whole block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.block.block().bytes()
    }

    /// Whether nobody else holds the block.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(self.block.block()) == 1
    }

    /// Where this range starts within its block; direct writes need it aligned.
    #[must_use]
    pub fn offset_in_block(&self) -> usize {
        self.start
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was filled before this slice was made and does not change while it
        // lives (BUF-1): `Buf` refuses to go back below it.
        unsafe { std::slice::from_raw_parts(self.block.at().add(self.start), self.len()) }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({}..{})", self.start, self.end)
    }
}

/// The right to read and write a range of a block in which nobody else has a part. Free to send.
pub struct Piece {
    block: Hold,
    start: usize,
    end: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was filled when the block was split, lies in no other piece, and nothing
        // but pieces holds the block (BUF-5); `&self` keeps our own writes away.
        unsafe {
            std::slice::from_raw_parts(self.block.at().add(self.start), self.end - self.start)
        }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for reading, and `&mut self` keeps our own other references away.
        unsafe {
            std::slice::from_raw_parts_mut(self.block.at().add(self.start), self.end - self.start)
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({}..{})", self.start, self.end)
    }
}

fn resolve(range: &impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(&it) => it,
        Bound::Excluded(&it) => it + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&it) => it + 1,
        Bound::Excluded(&it) => it,
        Bound::Unbounded => len,
    };
    assert!(start <= end && end <= len, "range {start}..{end} outside of {len}");
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_grows_at_its_end_while_its_beginning_is_shared() {
        let mut buf = Buf::unpooled(10);
        buf.put(b"one");
        let early = buf.slice(..);
        buf.put(b"two");
        assert_eq!(&*early, b"one");
        assert_eq!(&*buf.slice(3..), b"two");
        assert_eq!(&*buf.slice(1..5).slice(2..), b"tw");
    }

    #[test]
    fn what_a_slice_sees_cannot_be_taken_back() {
        let mut buf = Buf::copy_of(b"kept");
        let slice = buf.slice(..2);
        assert!(!buf.clear());
        assert!(buf.filled_mut().is_none());
        drop(slice);
        assert!(buf.is_alone());
        buf.filled_mut().expect("alone")[0] = b'K';
        assert_eq!(buf.filled(), b"Kept");
        assert!(buf.cut(1));
        assert_eq!(buf.filled(), b"K");
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_whole() {
        let mut buf = Buf::unpooled(5000);
        assert_eq!(buf.capacity(), 8192);
        assert_eq!(buf.spare_ptr().addr() % BLOCK_BYTES, 0);
        assert!(buf.spare_mut().iter().all(|&it| it == 0));
        buf.put(b"x");
        buf.pad_to(4096);
        assert_eq!(buf.len(), 4096);
    }

    #[test]
    fn pieces_of_a_block_are_written_apart() {
        let mut buf = Buf::copy_of(b"onetwothree");
        let slice = buf.slice(..1);
        assert!(buf.split(&[0..3, 4..6]).is_none());
        drop(slice);
        buf = Buf::copy_of(b"onetwothree");
        let mut pieces = buf.split(&[0..3, 3..3, 4..6]).expect("alone");
        pieces.iter_mut().for_each(|it| it.make_ascii_uppercase());
        let all: Vec<_> = pieces.iter().map(|it| it.to_vec()).collect();
        assert_eq!(all, [b"ONE".to_vec(), vec![], b"WO".to_vec()]);
    }

    #[test]
    #[should_panic(expected = "before <= it.start")]
    fn pieces_of_a_block_are_apart() {
        drop(Buf::copy_of(b"onetwothree").split(&[0..3, 2..5]));
    }

    #[test]
    #[should_panic(expected = "advanced past the block")]
    fn a_block_has_an_end() {
        Buf::unpooled(1).advance(BLOCK_BYTES + 1);
    }
}

//! The end of a segment in memory: an aligned image of its bytes, from some block on.
//!
//! Chunks begin at whole blocks of the segment and follow each other without a gap, so whole blocks
//! can be written to the file straight from here while readers and sockets hold slices of the same
//! memory. Bytes come here once, from the network buffer, and are never moved. A chunk is as large as
//! what is held already, from one block up to a limit: many partitions with little each stay small,
//! however much went through them.

use std::collections::VecDeque;

use corelane_core::buf::{Buf, Pool, Slice};

use crate::frame::BLOCK_BYTES;

/// What one partition takes from the pool at a time when it is busy.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Of what is held, the part, as a divisor, that is taken in addition: what is not filled yet is idle.
const HELD_SHARE: usize = 2;

/// Below this the pool has blocks only.
const SMALL_BYTES: usize = 4 * BLOCK_BYTES;

/// The largest chunk, for a batch that fills it: what is written at once, and in one piece.
const BATCH_CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// The pool has no memory for more. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

struct Chunk {
    /// Where it begins in the segment; a whole number of blocks.
    position: u64,
    buf: Buf,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.position + self.buf.len() as u64
    }
}

/// The bytes of one segment that are in memory: `start..end`.
pub struct Tail {
    chunks: VecDeque<Chunk>,
    start: u64,
    end: u64,
}

impl Tail {
    /// Nothing in memory; the next byte belongs at `end`, which is a whole number of blocks.
    #[must_use]
    pub fn at(end: u64) -> Self {
        assert!(end.is_multiple_of(BLOCK_BYTES as u64), "a tail begins at a block: {end}");
        Self { chunks: VecDeque::new(), start: end, end }
    }

    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Memory taken from the pool.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|it| it.buf.capacity()).sum()
    }

    /// Copies `bytes` behind the end.
    ///
    /// # Errors
    /// [`NoMemory`] when the pool cannot give what is needed. Nothing is changed then.
    pub fn append(&mut self, pool: &Pool, bytes: &[u8]) -> Result<(), NoMemory> {
        let chunks_before = self.chunks.len();
        let mut room = self.chunks.back().map_or(0, |it| it.buf.room());
        let mut position = self.chunks.back().map_or(self.end, |it| it.end() + room as u64);
        while room < bytes.len() {
            let missing = (bytes.len() - room).next_multiple_of(BLOCK_BYTES);
            let held = (position - self.start) as usize;
            let size = (held / HELD_SHARE).clamp(BLOCK_BYTES, CHUNK_BYTES_MAX);
            // Rounded down, to a size that the pool has.
            let size =
                if size < SMALL_BYTES { BLOCK_BYTES } else { 1 << size.ilog2() }.max(missing);
            let size = size.min(BATCH_CHUNK_BYTES_MAX);
            let Some(buf) = pool.get(size) else {
                self.chunks.truncate(chunks_before);
                return Err(NoMemory);
            };
            room += buf.capacity();
            let capacity = buf.capacity() as u64;
            self.chunks.push_back(Chunk { position, buf });
            position += capacity;
        }
        let mut rest = bytes;
        let first = chunks_before.saturating_sub(1);
        for chunk in self.chunks.iter_mut().skip(first) {
            let take = rest.len().min(chunk.buf.room());
            chunk.buf.put_past_cache(&rest[..take]);
            rest = &rest[take..];
        }
        assert!(rest.is_empty(), "room was counted before");
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Shares the bytes of a range that is in memory, in as few slices as there are chunks.
    pub fn slices(&self, from: u64, to: u64, into: &mut Vec<Slice>) {
        assert!(self.start <= from && from <= to && to <= self.end, "{from}..{to} is not here");
        for chunk in &self.chunks {
            let start = from.max(chunk.position);
            let end = to.min(chunk.end());
            if start < end {
                let range = (start - chunk.position) as usize..(end - chunk.position) as usize;
                into.push(chunk.buf.slice(range));
            }
        }
    }

    /// Shows the bytes of a range that is in memory, in their order.
    pub fn each(&self, from: u64, to: u64, mut show: impl FnMut(&[u8])) {
        assert!(self.start <= from && from <= to && to <= self.end, "{from}..{to} is not here");
        let first = self.chunks.partition_point(|it| it.end() <= from);
        for chunk in self.chunks.iter().skip(first).take_while(|it| it.position < to) {
            let start = from.max(chunk.position) - chunk.position;
            let end = to.min(chunk.end()) - chunk.position;
            show(&chunk.buf.filled()[start as usize..end as usize]);
        }
    }

    /// Copies a range that is in memory to the end of `into`.
    pub fn copy(&self, from: u64, to: u64, into: &mut Vec<u8>) {
        self.each(from, to, |bytes| into.extend_from_slice(bytes));
    }

    /// Forgets chunks that lie wholly below `position`. Slices of them stay valid.
    pub fn forget_below(&mut self, position: u64) {
        while let Some(first) = self.chunks.front() {
            let next = first.position + first.buf.capacity() as u64;
            if position < next || self.end < next {
                break;
            }
            self.chunks.pop_front();
            self.start = next;
        }
        if self.chunks.is_empty() {
            self.start = self.start.max(self.end.min(position));
        }
    }

    /// Forgets everything. Only for a segment that is whole on disk.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.start = self.end;
    }

    /// Cuts the end back to `position`, copying the part of a chunk that is shared with readers.
    ///
    /// # Errors
    /// [`NoMemory`] when that copy has no place; nothing is changed then.
    pub fn truncate(&mut self, pool: &Pool, position: u64) -> Result<(), NoMemory> {
        assert!(self.start <= position && position <= self.end, "cannot cut back to {position}");
        let keep = self.chunks.iter().take_while(|it| it.position < position).count();
        if let Some(last) = keep.checked_sub(1) {
            let chunk = &mut self.chunks[last];
            let len = (position - chunk.position) as usize;
            if len < chunk.buf.len() && !chunk.buf.cut(len) {
                let mut copy = pool.get(chunk.buf.capacity()).ok_or(NoMemory)?;
                copy.put(&chunk.buf.filled()[..len]);
                chunk.buf = copy;
            }
        }
        self.chunks.truncate(keep);
        self.end = position;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(|it| (it % 251) as u8).collect()
    }

    fn read(tail: &Tail, from: u64, to: u64) -> Vec<u8> {
        let mut all = Vec::new();
        tail.copy(from, to, &mut all);
        all
    }

    #[test]
    fn bytes_keep_their_places_across_chunks() {
        let pool = Pool::new(1 << 22);
        let mut tail = Tail::at(8192);
        let mut at = 8192;
        for len in [1, 4095, 4096, 10_000, 3, 100_000, 300_000] {
            tail.append(&pool, &bytes(at, at + len)).expect("in budget");
            at += len;
        }
        assert_eq!(tail.end(), at);
        assert_eq!(read(&tail, 8192, at), bytes(8192, at));
        assert_eq!(read(&tail, 9000, 30_000), bytes(9000, 30_000));
        for chunk in &tail.chunks {
            assert!(
                chunk.position.is_multiple_of(4096)
                    && chunk.buf.capacity() <= BATCH_CHUNK_BYTES_MAX
            );
        }
    }

    #[test]
    fn an_idle_partition_costs_one_block() {
        let pool = Pool::new(1 << 20);
        let mut tail = Tail::at(0);
        tail.append(&pool, b"small").expect("in budget");
        assert_eq!(tail.memory_bytes(), 4096);
    }

    #[test]
    fn a_partition_that_holds_little_stays_small_however_much_went_through_it() {
        let pool = Pool::new(1 << 22);
        let mut tail = Tail::at(0);
        for at in 0..1000 {
            tail.append(&pool, &bytes(at * 1000, at * 1000 + 1000)).expect("in budget");
            let end = tail.end();
            tail.forget_below(end.saturating_sub(6000));
            assert!(tail.memory_bytes() <= 4 * 8192, "{} at {end}", tail.memory_bytes());
        }
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_stays() {
        let pool = Pool::new(1 << 22);
        let mut tail = Tail::at(0);
        tail.append(&pool, &bytes(0, 50_000)).expect("in budget");
        tail.forget_below(40_000);
        assert!(tail.start() <= 40_000);
        let start = tail.start();
        assert_eq!(read(&tail, start, 50_000), bytes(start, 50_000));
        tail.append(&pool, &bytes(50_000, 60_000)).expect("in budget");
        assert_eq!(read(&tail, start, 60_000), bytes(start, 60_000));
    }

    #[test]
    fn memory_that_is_not_there_changes_nothing() {
        let pool = Pool::new(3 * 4096);
        let mut tail = Tail::at(0);
        tail.append(&pool, &bytes(0, 100)).expect("in budget");
        assert_eq!(tail.append(&pool, &bytes(100, 100_000)), Err(NoMemory));
        assert_eq!((tail.end(), tail.memory_bytes()), (100, 4096));
        tail.append(&pool, &bytes(100, 200)).expect("the block has room");
        assert_eq!(read(&tail, 0, 200), bytes(0, 200));
    }

    #[test]
    fn cutting_back_leaves_readers_what_they_hold() {
        let pool = Pool::new(1 << 20);
        let mut tail = Tail::at(0);
        tail.append(&pool, &bytes(0, 5000)).expect("in budget");
        let mut held = Vec::new();
        tail.slices(0, 3000, &mut held);
        tail.truncate(&pool, 1000).expect("in budget");
        tail.append(&pool, &[7; 10]).expect("in budget");
        assert_eq!(&*held[0], &bytes(0, 3000)[..]);
        assert_eq!(read(&tail, 0, 1000), bytes(0, 1000));
        assert_eq!(read(&tail, 1000, 1010), [7; 10]);
    }
}

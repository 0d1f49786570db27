//! From bytes as they come to frames that are whole. Pure: it is handed buffers and hands out
//! frames; where the bytes come from, and what memory they may take, is not its business.
//!
//! - INBOX-1: every byte that came is in exactly one frame, in order;
//! - INBOX-2: what is held follows the bytes that came, at most doubled, never what was announced;
//!   but whoever has sent a frame of some size whole is believed the next one up to that size;
//! - INBOX-3: a few bytes are kept in a few bytes, so that whoever sends little costs little.

use corelane_core::buf::{Buf, Pool};

use crate::frame::{self, FrameError};

/// A beginning up to this size is kept apart from the block it came in.
const FEW_BYTES: usize = 512;

/// The first buffer for a large frame; it grows as the bytes come.
const FIRST_BYTES: usize = 12 * 1024;

/// A frame that fills less than this share of its block, as a divisor, is given a smaller one: it may
/// have to wait there for long.
const FILL_SHARE: usize = 2;

/// The largest size that is believed before its bytes came: the largest block that memory is kept for.
/// A larger frame grows as its bytes come, and is moved each time.
const BELIEVED_BYTES_MAX: usize = 8 << 20;

/// The part of the stream that has come and was not given out.
pub(super) struct Inbox {
    held: Held,
    /// The size of the largest frame that came whole, within its bound.
    believed: usize,
}

enum Held {
    Nothing,
    Few(Vec<u8>),
    /// The bytes of the block from `at` on.
    Block {
        buf: Buf,
        at: usize,
    },
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Between two frames.
    Between,
    /// Inside a frame whose size is not known yet.
    Announcing,
    /// Inside a frame of which so many bytes are missing.
    Inside { missing: usize },
    /// A frame is whole, or will never be: [`Inbox::next`] says which.
    Whole,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { held: Held::Nothing, believed: 0 }
    }

    fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Nothing => &[],
            Held::Few(few) => few,
            Held::Block { buf, at } => &buf.filled()[*at..],
        }
    }

    /// Memory held for what has come.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Few(few) => few.capacity(),
            Held::Block { buf, .. } => buf.capacity(),
        }
    }

    /// Whether so much has come that the rest is worth memory of its own.
    pub(super) fn is_under_way(&self) -> bool {
        FEW_BYTES < self.bytes().len()
    }

    pub(super) fn standing(&self, bytes_max: u32) -> Standing {
        let bytes = self.bytes();
        let Some(prefix) = bytes.first_chunk::<4>() else {
            return if bytes.is_empty() { Standing::Between } else { Standing::Announcing };
        };
        match frame::size(*prefix, bytes_max) {
            Ok(size) if bytes.len() < 4 + size => {
                Standing::Inside { missing: 4 + size - bytes.len() }
            }
            _ => Standing::Whole,
        }
    }

    /// Takes bytes that came in a buffer of their own.
    pub(super) fn take(&mut self, pool: &Pool, mut more: Buf) {
        match &mut self.held {
            Held::Nothing => self.held = Held::Block { buf: more, at: 0 },
            Held::Block { buf, at } if *at == 0 && more.len() <= buf.room() => {
                buf.put(more.filled());
            }
            Held::Few(few) if few.len() + more.len() <= FEW_BYTES => {
                few.extend_from_slice(more.filled());
            }
            Held::Few(few) if few.len() <= more.room() && more.is_alone() => {
                // Fits in front of what came: the block is the one to keep.
                let (front, rest) = (few.len(), more.len());
                more.advance(front);
                let bytes = more.filled_mut().expect("it is alone");
                bytes.copy_within(..rest, front);
                bytes[..front].copy_from_slice(few);
                self.held = Held::Block { buf: more, at: 0 };
            }
            Held::Few(_) | Held::Block { .. } => {
                let mut buf = self.grown(pool, more.len());
                buf.put(more.filled());
                self.held = Held::Block { buf, at: 0 };
            }
        }
    }

    /// The size of the buffer [`Self::lend`] will need for `missing` bytes more.
    pub(super) fn wants(&self, missing: usize) -> usize {
        let have = self.bytes().len();
        match &self.held {
            Held::Block { buf, at: 0 } if self.stays(buf, missing) => buf.capacity(),
            // Twice what is here, so that growth follows the bytes that really came.
            _ if self.believed <= have => have + missing.min(have.max(FIRST_BYTES)),
            _ => have + missing.min((self.believed - have).max(FIRST_BYTES)),
        }
    }

    /// Whether `missing` bytes more are received behind those that are here. What is believed is
    /// moved at once, while it is little.
    fn stays(&self, buf: &Buf, missing: usize) -> bool {
        missing <= buf.room() || (0 < buf.room() && self.believed <= buf.capacity())
    }

    /// Gives out the buffer to receive into. It comes back by [`Self::give_back`].
    pub(super) fn lend(&mut self, pool: &Pool, missing: usize) -> Buf {
        let wants = self.wants(missing);
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Block { buf, at: 0 } if self.stays(&buf, missing) => buf,
            held => {
                self.held = held;
                let buf = self.grown(pool, wants - self.bytes().len());
                self.held = Held::Nothing;
                buf
            }
        }
    }

    /// Takes back the buffer that was lent.
    pub(super) fn give_back(&mut self, buf: Buf) {
        self.held = if buf.is_empty() { Held::Nothing } else { Held::Block { buf, at: 0 } };
    }

    /// The next whole frame, in a buffer of its own that begins with the frame's size.
    ///
    /// # Errors
    /// When the frame announces a size it may not have.
    pub(super) fn next(&mut self, pool: &Pool, bytes_max: u32) -> Result<Option<Buf>, FrameError> {
        let bytes = self.bytes();
        let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
        let whole = 4 + frame::size(*prefix, bytes_max)?;
        let have = bytes.len();
        if have < whole {
            return Ok(None);
        }
        let believed = self.believed.max(whole.min(BELIEVED_BYTES_MAX));
        if let Held::Block { buf, at: 0 } = &self.held
            && buf.capacity() <= whole * FILL_SHARE
            && buf.is_alone()
        {
            // The frame keeps the block; what follows it moves.
            let rest = self.kept(pool, &buf.filled()[whole..]);
            let Held::Block { mut buf, .. } = std::mem::replace(&mut self.held, rest) else {
                unreachable!("it is a block")
            };
            assert!(buf.cut(whole), "it is alone");
            self.believed = believed;
            return Ok(Some(buf));
        }
        let mut own = memory(pool, whole);
        own.put(&bytes[..whole]);
        self.believed = believed;
        match &mut self.held {
            _ if have == whole => self.held = Held::Nothing,
            Held::Block { at, .. } => *at += whole,
            Held::Few(few) => drop(few.drain(..whole)),
            Held::Nothing => unreachable!("it held the frame"),
        }
        Ok(Some(own))
    }

    /// Moves what is left into memory of its size. For when nothing more is expected at once.
    pub(super) fn settle(&mut self, pool: &Pool) {
        if let Held::Block { buf, at } = &self.held {
            let len = buf.len() - at;
            if len <= FEW_BYTES || (0 < *at && len * FILL_SHARE <= buf.capacity()) {
                self.held = self.kept(pool, self.bytes());
            }
        }
    }

    fn kept(&self, pool: &Pool, bytes: &[u8]) -> Held {
        match bytes.len() {
            0 => Held::Nothing,
            len if len <= FEW_BYTES => Held::Few(bytes.to_vec()),
            len => {
                let mut buf = memory(pool, len);
                buf.put(bytes);
                Held::Block { buf, at: 0 }
            }
        }
    }

    /// A copy of what is held, with room for `more`.
    fn grown(&self, pool: &Pool, more: usize) -> Buf {
        let bytes = self.bytes();
        let mut next = memory(pool, bytes.len() + more);
        next.put(bytes);
        next
    }
}

/// Memory within the budget of requests. When the pool has lent everything elsewhere it is taken from
/// outside: a request must be able to come in and free what others wait for.
fn memory(pool: &Pool, bytes: usize) -> Buf {
    pool.get(bytes).unwrap_or_else(|| Buf::unpooled(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u32 = 1 << 20;

    fn frame(len: usize, fill: u8) -> Vec<u8> {
        let mut bytes = u32::try_from(len).expect("small").to_be_bytes().to_vec();
        bytes.resize(4 + len, fill);
        bytes
    }

    /// The way a piece of the stream comes in.
    #[derive(Debug, Clone, Copy)]
    enum Way {
        Taken,
        Lent,
        Both,
    }

    /// Feeds the stream in pieces of `step` bytes, and tells the frames.
    fn feed(stream: &[u8], step: usize, way: Way) -> Vec<Vec<u8>> {
        let pool = Pool::new(1 << 24);
        let mut inbox = Inbox::new();
        let mut frames = Vec::new();
        for (round, mut piece) in stream.chunks(step).enumerate() {
            while !piece.is_empty() {
                let missing = match inbox.standing(BYTES_MAX) {
                    Standing::Inside { missing } => missing,
                    _ => 1,
                };
                let lend = match way {
                    Way::Taken => false,
                    Way::Lent => true,
                    Way::Both => round % 2 == 0,
                };
                if lend {
                    let wants = inbox.wants(missing);
                    let mut buf = inbox.lend(&pool, missing);
                    assert!(buf.capacity() <= wants.max(1).next_power_of_two().max(4096));
                    let take = piece.len().min(buf.room());
                    buf.put(&piece[..take]);
                    inbox.give_back(buf);
                    piece = &piece[take..];
                } else {
                    inbox.take(&pool, Buf::copy_of(piece));
                    piece = &[];
                }
                while let Some(it) = inbox.next(&pool, BYTES_MAX).expect("good frames") {
                    frames.push(it.filled().to_vec());
                }
                inbox.settle(&pool);
            }
        }
        assert_eq!((inbox.standing(BYTES_MAX), inbox.held_bytes()), (Standing::Between, 0));
        frames
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_come_in() {
        let frames: Vec<_> = [1, 0, 5, 300, 700, 9000, 70_000, 16_380, 16_381, 2]
            .map(|len| frame(len, len as u8))
            .into();
        let stream = frames.concat();
        for step in (1..64).chain([100, 511, 513, 4095, 4096, 4097, 16_384, stream.len()]) {
            for way in [Way::Taken, Way::Lent, Way::Both] {
                assert_eq!(feed(&stream, step, way), frames, "step {step}, {way:?}");
            }
        }
    }

    #[test]
    fn an_announcement_alone_takes_no_memory() {
        let pool = Pool::new(1 << 24);
        let mut inbox = Inbox::new();
        let announced = (90u32 << 20).to_be_bytes();
        inbox.take(&pool, Buf::copy_of(&announced));
        assert!(inbox.next(&pool, u32::MAX).expect("not whole yet").is_none());
        inbox.settle(&pool);
        assert!(inbox.held_bytes() <= FEW_BYTES, "{}", inbox.held_bytes());
        let Standing::Inside { missing } = inbox.standing(u32::MAX) else { panic!("inside") };
        assert_eq!(missing, 90 << 20);
        assert!(inbox.wants(missing) <= 2 * FIRST_BYTES);
    }

    #[test]
    fn who_has_sent_a_large_frame_is_believed_the_next() {
        let pool = Pool::new(1 << 24);
        let mut inbox = Inbox::new();
        let whole = frame(100_000, 7);
        inbox.take(&pool, Buf::copy_of(&whole));
        assert!(inbox.next(&pool, BYTES_MAX).expect("good").is_some());
        // Its like is received without being moved; of a larger one as much is believed.
        for (announced, wants) in [(100_000u32, 100_004), (900_000, 100_004)] {
            let mut begun = announced.to_be_bytes().to_vec();
            begun.resize(1000, 7);
            inbox.take(&pool, Buf::copy_of(&begun));
            let missing = 4 + announced as usize - 1000;
            assert_eq!(inbox.standing(BYTES_MAX), Standing::Inside { missing });
            assert_eq!(inbox.wants(missing), wants);
            inbox.held = Held::Nothing;
        }
        assert!(frame(9 << 20, 1).len() > BELIEVED_BYTES_MAX);
        inbox.take(&pool, Buf::copy_of(&frame(9 << 20, 1)));
        assert!(inbox.next(&pool, u32::MAX).expect("good").is_some());
        assert_eq!(inbox.believed, BELIEVED_BYTES_MAX);
    }

    #[test]
    fn a_small_request_does_not_keep_a_large_block() {
        let pool = Pool::new(1 << 24);
        let mut inbox = Inbox::new();
        let mut block = pool.get(16 * 1024).expect("in budget");
        block.put(&frame(50, 7));
        inbox.take(&pool, block);
        let own = inbox.next(&pool, BYTES_MAX).expect("good").expect("whole");
        assert_eq!((own.len(), own.capacity(), inbox.held_bytes()), (54, 4096, 0));
    }

    #[test]
    fn a_size_that_is_refused_says_so() {
        let pool = Pool::new(1 << 20);
        for size in [-1i32, i32::MAX, 1025] {
            let mut inbox = Inbox::new();
            inbox.take(&pool, Buf::copy_of(&size.to_be_bytes()));
            assert_eq!(inbox.standing(1024), Standing::Whole);
            assert!(inbox.next(&pool, 1024).is_err(), "{size}");
        }
    }
}

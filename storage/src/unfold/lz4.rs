//! LZ4: one frame of blocks, each on its own or going on from the one before.

use super::{BLOCK_BYTES_MAX, Room};
use crate::compress::{Codec, DecompressError};

const WRONG: DecompressError = DecompressError::Malformed { codec: Codec::Lz4 };

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();

/// How far back a block may reach.
const WINDOW_BYTES: usize = 64 << 10;

/// The shortest thing that is repeated.
const MATCH_BYTES_MIN: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Lz4 {
    at: usize,
    frame: Option<Frame>,
    block: Option<Block>,
}

/// What the head of the frame says, and what was hashed of its content.
#[derive(Debug)]
struct Frame {
    independent: bool,
    block_sums: bool,
    block_bytes_max: usize,
    content_bytes: Option<u64>,
    content_sum: Option<Xxh32>,
}

/// A large block under way.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Where it ends in the source.
    end: usize,
    /// The first byte it may repeat, and the most that may be unfolded at its end.
    floor: usize,
    to: usize,
    /// Bytes to be repeated, from so far back.
    copy: (usize, usize),
}

impl Lz4 {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    pub(super) fn step(
        &mut self,
        source: &[u8],
        room: &mut Room<'_>,
    ) -> Result<bool, DecompressError> {
        while !room.is_spent() {
            let Some(frame) = &mut self.frame else {
                let (frame, bytes) = Frame::read(source).ok_or(WRONG)?;
                (self.frame, self.at) = (Some(frame), bytes);
                room.spend(bytes);
                continue;
            };
            if let Some(block) = &mut self.block {
                if unfold(block, &mut self.at, source, room)? {
                    self.block = None;
                    self.at += if frame.block_sums { 4 } else { 0 };
                }
                continue;
            }
            if let Some(sum) = &mut frame.content_sum {
                sum.see(room.out);
            }
            let size = word(source, self.at).ok_or(WRONG)?;
            self.at += 4;
            room.spend(4);
            if size == 0 {
                return self.end(source, room);
            }
            self.open(size, source, room)?;
        }
        Ok(false)
    }

    /// Begins a block, and unfolds it at once if it is small.
    fn open(
        &mut self,
        size: u32,
        source: &[u8],
        room: &mut Room<'_>,
    ) -> Result<(), DecompressError> {
        const UNCOMPRESSED: u32 = 1 << 31;
        let frame = self.frame.as_ref().expect("a block is in a frame");
        let bytes = (size & !UNCOMPRESSED) as usize;
        if frame.block_bytes_max < bytes {
            return Err(WRONG);
        }
        let end = self.at + bytes;
        let block = source.get(self.at..end).ok_or(WRONG)?;
        if frame.block_sums {
            let told = word(source, end).ok_or(WRONG)?;
            if told != Xxh32::of(block) {
                return Err(WRONG);
            }
        }
        let behind = end + if frame.block_sums { 4 } else { 0 };
        if size & UNCOMPRESSED != 0 {
            room.put(block)?;
            self.at = behind;
            return Ok(());
        }
        let from = room.out.len();
        let floor = if frame.independent { from } else { 0 };
        if BLOCK_BYTES_MAX < frame.block_bytes_max {
            let to = from.saturating_add(frame.block_bytes_max);
            self.block = Some(Block { end, floor, to, copy: (0, 0) });
            return Ok(());
        }
        let most = frame.block_bytes_max.min(room.left());
        let is_cut = most < frame.block_bytes_max;
        room.out.resize(from + most, 0);
        let (before, out) = room.out.split_at_mut(from);
        let window = &before[floor.max(from.saturating_sub(WINDOW_BYTES))..];
        let written = match lz4_flex::block::decompress_into_with_dict(block, out, window) {
            Ok(written) => written,
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if is_cut => {
                return Err(DecompressError::TooLarge { limit: room.limit });
            }
            Err(_) => return Err(WRONG),
        };
        room.out.truncate(from + written);
        room.spend(written.saturating_add(bytes));
        self.at = behind;
        room.check()
    }

    fn end(&mut self, source: &[u8], room: &Room<'_>) -> Result<bool, DecompressError> {
        let frame = self.frame.as_mut().expect("it ends");
        if frame.content_bytes.is_some_and(|told| told != room.out.len() as u64) {
            return Err(WRONG);
        }
        if let Some(sum) = &mut frame.content_sum {
            if word(source, self.at).ok_or(WRONG)? != sum.end(room.out) {
                return Err(WRONG);
            }
            self.at += 4;
        }
        if self.at == source.len() { Ok(true) } else { Err(WRONG) }
    }
}

/// Goes on with a large block, and says whether it is whole.
fn unfold(
    block: &mut Block,
    at: &mut usize,
    source: &[u8],
    room: &mut Room<'_>,
) -> Result<bool, DecompressError> {
    let source = &source[..block.end];
    while !room.is_spent() {
        let (distance, left) = block.copy;
        if 0 < left {
            block.copy.1 = room.repeat(distance, left)?;
            continue;
        }
        let began = *at;
        let mut next = || {
            let byte = source.get(*at).copied();
            *at += 1;
            byte.map(usize::from)
        };
        let token = next().ok_or(WRONG)?;
        let most = block.to - room.out.len();
        let literals = length(token >> 4, most, &mut next).ok_or(WRONG)?;
        let literal = source.get(*at..).and_then(|it| it.get(..literals)).ok_or(WRONG)?;
        room.put(literal)?;
        *at += literals;
        if *at == source.len() {
            return Ok(true);
        }
        let mut next = || {
            let byte = source.get(*at).copied();
            *at += 1;
            byte.map(usize::from)
        };
        let distance = next().ok_or(WRONG)? | next().ok_or(WRONG)? << 8;
        let most = block.to - room.out.len();
        let repeated = length(token & 15, most, &mut next).ok_or(WRONG)? + MATCH_BYTES_MIN;
        let have = room.out.len() - block.floor;
        if distance == 0 || have < distance || most < repeated {
            return Err(WRONG);
        }
        block.copy = (distance, repeated);
        room.spend(*at - began - literals);
    }
    Ok(false)
}

/// A length that began with four bits, at most so long.
fn length(first: usize, most: usize, mut next: impl FnMut() -> Option<usize>) -> Option<usize> {
    let mut length = first;
    if first == 15 {
        loop {
            let more = next()?;
            length += more;
            if more != 255 {
                break;
            }
            if most < length {
                return None;
            }
        }
    }
    (length <= most).then_some(length)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it))
}

impl Frame {
    /// The head of a frame, and how long it is.
    fn read(source: &[u8]) -> Option<(Self, usize)> {
        const DICTIONARY: u8 = 1;
        const CONTENT_SUM: u8 = 1 << 2;
        const CONTENT_BYTES: u8 = 1 << 3;
        const BLOCK_SUMS: u8 = 1 << 4;
        const INDEPENDENT: u8 = 1 << 5;
        let rest = source.strip_prefix(&MAGIC)?;
        let [flags, sizes, ..] = *rest else { return None };
        let is_known = flags >> 6 == 1 && flags & 0b10 == 0 && flags & DICTIONARY == 0;
        let block_bytes_max = match sizes {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return None,
        };
        let (mut head_bytes, mut content_bytes) = (2, None);
        if flags & CONTENT_BYTES != 0 {
            content_bytes = Some(u64::from_le_bytes(*rest.get(2..)?.first_chunk()?));
            head_bytes += 8;
        }
        let sum = *rest.get(head_bytes)?;
        if !is_known || sum != (Xxh32::of(&rest[..head_bytes]) >> 8) as u8 {
            return None;
        }
        let frame = Self {
            independent: flags & INDEPENDENT != 0,
            block_sums: flags & BLOCK_SUMS != 0,
            block_bytes_max,
            content_bytes,
            content_sum: (flags & CONTENT_SUM != 0).then(Xxh32::default),
        };
        Some((frame, MAGIC.len() + head_bytes + 1))
    }
}

/// The checksum of LZ4's frames, of bytes that stay where they are while more come.
#[derive(Debug)]
struct Xxh32 {
    lanes: [u32; 4],
    seen: usize,
}

const PRIMES: [u32; 5] = [0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D, 0x27D4_EB2F, 0x1656_67B1];
const STRIPE_BYTES: usize = 16;

impl Default for Xxh32 {
    fn default() -> Self {
        let first = PRIMES[0].wrapping_add(PRIMES[1]);
        Self { lanes: [first, PRIMES[1], 0, 0_u32.wrapping_sub(PRIMES[0])], seen: 0 }
    }
}

impl Xxh32 {
    fn of(bytes: &[u8]) -> u32 {
        let mut it = Self::default();
        it.see(bytes);
        it.end(bytes)
    }

    /// All bytes so far, those that were seen before among them.
    fn see(&mut self, bytes: &[u8]) {
        let (stripes, _) = bytes[self.seen..].as_chunks::<STRIPE_BYTES>();
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<4>();
            for (lane, word) in self.lanes.iter_mut().zip(words) {
                let word = u32::from_le_bytes(*word).wrapping_mul(PRIMES[1]);
                *lane = lane.wrapping_add(word).rotate_left(13).wrapping_mul(PRIMES[0]);
            }
        }
        self.seen += stripes.len() * STRIPE_BYTES;
    }

    fn end(&mut self, bytes: &[u8]) -> u32 {
        self.see(bytes);
        let mut sum = if STRIPE_BYTES <= bytes.len() {
            let turned = self.lanes.iter().zip([1, 7, 12, 18]).map(|(it, by)| it.rotate_left(by));
            turned.fold(0, u32::wrapping_add)
        } else {
            PRIMES[4]
        };
        sum = sum.wrapping_add(bytes.len() as u32);
        let (words, rest) = bytes[self.seen..].as_chunks::<4>();
        for word in words {
            let word = u32::from_le_bytes(*word).wrapping_mul(PRIMES[2]);
            sum = sum.wrapping_add(word).rotate_left(17).wrapping_mul(PRIMES[3]);
        }
        for byte in rest {
            let byte = u32::from(*byte).wrapping_mul(PRIMES[4]);
            sum = sum.wrapping_add(byte).rotate_left(11).wrapping_mul(PRIMES[0]);
        }
        sum = (sum ^ sum >> 15).wrapping_mul(PRIMES[1]);
        sum = (sum ^ sum >> 13).wrapping_mul(PRIMES[2]);
        sum ^ sum >> 16
    }
}

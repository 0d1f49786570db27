//! Snappy comes in two forms: one raw block (librdkafka and most), or Java's chunks, each a raw block
//! behind its length, after a header of sixteen bytes.

use super::{BLOCK_BYTES_MAX, Room};
use crate::compress::{Codec, DecompressError, XERIAL_HEADER_BYTES, XERIAL_MAGIC};

const WRONG: DecompressError = DecompressError::Malformed { codec: Codec::Snappy };

/// A block cannot honestly claim more: three bytes copy at most sixty-four.
const RATIO_MAX: usize = 64;

pub(super) struct Snappy {
    library: snap::raw::Decoder,
    at: usize,
    begun: bool,
    chunked: bool,
    block: Option<Block>,
}

/// A large block under way.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Where it ends in the source.
    end: usize,
    /// Where it began and will end in what is unfolded.
    from: usize,
    to: usize,
    /// Bytes to be repeated, from so far back.
    copy: (usize, usize),
}

impl Snappy {
    pub(super) fn new() -> Self {
        let library = snap::raw::Decoder::new();
        Self { library, at: 0, begun: false, chunked: false, block: None }
    }

    pub(super) fn begin(&mut self) {
        (self.at, self.begun, self.chunked, self.block) = (0, false, false, None);
    }

    pub(super) fn step(
        &mut self,
        source: &[u8],
        room: &mut Room<'_>,
    ) -> Result<bool, DecompressError> {
        if !self.begun {
            (self.begun, self.chunked) = (true, source.starts_with(&XERIAL_MAGIC));
            if !self.chunked {
                self.open(source, source.len(), room)?;
            }
        }
        while !room.is_spent() {
            if let Some(mut block) = self.block.take() {
                if !self.unfold(&mut block, source, room)? {
                    self.block = Some(block);
                }
                continue;
            }
            if self.at == source.len() {
                return Ok(true);
            }
            let rest = &source[self.at..];
            // Streams written one after the other repeat the header.
            if rest.starts_with(&XERIAL_MAGIC) {
                if rest.len() < XERIAL_HEADER_BYTES {
                    return Err(WRONG);
                }
                self.at += XERIAL_HEADER_BYTES;
                room.spend(XERIAL_HEADER_BYTES);
                continue;
            }
            let (length, after) = rest.split_first_chunk().ok_or(WRONG)?;
            let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| WRONG)?;
            if after.len() < length {
                return Err(WRONG);
            }
            self.at += 4;
            room.spend(4);
            self.open(source, self.at + length, room)?;
        }
        Ok(false)
    }

    /// Begins a block, and unfolds it at once if it is small.
    fn open(
        &mut self,
        source: &[u8],
        end: usize,
        room: &mut Room<'_>,
    ) -> Result<(), DecompressError> {
        let block = &source[self.at..end];
        let claimed = snap::raw::decompress_len(block).map_err(|_| WRONG)?;
        if room.limit - room.out.len() < claimed {
            return Err(DecompressError::TooLarge { limit: room.limit });
        }
        if block.len().saturating_mul(RATIO_MAX) < claimed {
            return Err(WRONG);
        }
        if claimed <= BLOCK_BYTES_MAX {
            let library = &mut self.library;
            room.write(claimed, |out| library.decompress(block, out).map_err(|_| WRONG))?;
            self.at = end;
            room.spend(claimed.saturating_add(block.len()));
            return Ok(());
        }
        // Behind the claim, which was read.
        let claim = block.iter().position(|it| *it < 0x80).ok_or(WRONG)?;
        self.at += claim + 1;
        let from = room.out.len();
        self.block = Some(Block { end, from, to: from + claimed, copy: (0, 0) });
        Ok(())
    }

    /// Goes on with a large block, and says whether it is whole.
    fn unfold(
        &mut self,
        block: &mut Block,
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
            let rest = &source[self.at..];
            let Some((tag, rest)) = rest.split_first() else {
                return if room.out.len() == block.to { Ok(true) } else { Err(WRONG) };
            };
            let number = |rest: &[u8], bytes: usize| -> Option<usize> {
                let bytes = rest.get(..bytes)?.iter().rev();
                Some(bytes.fold(0, |all, it| all << 8 | usize::from(*it)))
            };
            let high = usize::from(tag >> 2);
            let (read, distance, length) = match tag & 3 {
                0 => {
                    let (behind, length) = match high {
                        60.. => (high - 59, number(rest, high - 59).ok_or(WRONG)? + 1),
                        _ => (0, high + 1),
                    };
                    let literal = rest.get(behind..).and_then(|it| it.get(..length));
                    let literal = literal.ok_or(WRONG)?;
                    if block.to - room.out.len() < length {
                        return Err(WRONG);
                    }
                    room.put(literal)?;
                    (behind + length, 0, 0)
                }
                1 => {
                    let low = number(rest, 1).ok_or(WRONG)?;
                    (1, usize::from(tag >> 5) << 8 | low, 4 + (high & 7))
                }
                2 => (2, number(rest, 2).ok_or(WRONG)?, high + 1),
                _ => (4, number(rest, 4).ok_or(WRONG)?, high + 1),
            };
            self.at += 1 + read;
            room.spend(1 + read);
            if 0 < length {
                let have = room.out.len() - block.from;
                if distance == 0 || have < distance || block.to - room.out.len() < length {
                    return Err(WRONG);
                }
                block.copy = (distance, length);
            }
        }
        Ok(false)
    }
}

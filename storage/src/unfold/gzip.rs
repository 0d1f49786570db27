//! Gzip: members one behind the other, each a head, a deflated body, and what it was like.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{CALL_BYTES_MAX, Room};
use crate::compress::{Codec, DecompressError};

const WRONG: DecompressError = DecompressError::Malformed { codec: Codec::Gzip };

/// What reading a byte is worth: some dozens can make the codec build its tables anew.
const UNITS_PER_BYTE_READ: usize = 16;

/// What it takes to begin a member.
const UNITS_PER_MEMBER: usize = 8 << 10;

/// Magic, method, flags, time, and two bytes that say nothing.
const HEAD_BYTES: usize = 10;

/// Checksum and length of what was folded.
const TAIL_BYTES: usize = 8;

pub(super) struct Gzip {
    inflate: Decompress,
    crc: Crc,
    /// How much was read.
    at: usize,
    inside: bool,
    members: usize,
}

impl Gzip {
    pub(super) fn new() -> Self {
        let inflate = Decompress::new(false);
        Self { inflate, crc: Crc::new(), at: 0, inside: false, members: 0 }
    }

    pub(super) fn begin(&mut self) {
        (self.at, self.inside, self.members) = (0, false, 0);
    }

    pub(super) fn step(
        &mut self,
        source: &[u8],
        room: &mut Room<'_>,
    ) -> Result<bool, DecompressError> {
        while !room.is_spent() {
            if self.inside {
                self.inflate(source, room)?;
            } else if self.at == source.len() && 0 < self.members {
                return Ok(true);
            } else {
                self.at += head_bytes(&source[self.at..]).ok_or(WRONG)?;
                self.inflate.reset(false);
                self.crc.reset();
                (self.inside, self.members) = (true, self.members + 1);
                room.spend(UNITS_PER_MEMBER);
            }
        }
        Ok(false)
    }

    fn inflate(&mut self, source: &[u8], room: &mut Room<'_>) -> Result<(), DecompressError> {
        let most = (room.units / UNITS_PER_BYTE_READ).max(1);
        let rest = &source[self.at..];
        let input = &rest[..rest.len().min(most)];
        let bytes = room.units.clamp(1, CALL_BYTES_MAX).min(room.left());
        let (read_before, before) = (self.inflate.total_in(), room.out.len());
        let inflate = &mut self.inflate;
        let mut status = Status::Ok;
        let written = room.write(bytes, |out| {
            let written_before = inflate.total_out();
            status = inflate.decompress(input, out, FlushDecompress::None).map_err(|_| WRONG)?;
            Ok((inflate.total_out() - written_before) as usize)
        })?;
        let read = (self.inflate.total_in() - read_before) as usize;
        self.at += read;
        self.crc.update(&room.out[before..]);
        room.spend((read * UNITS_PER_BYTE_READ).saturating_add(written).max(1));
        room.check()?;
        match status {
            Status::StreamEnd => self.end_member(source),
            Status::Ok | Status::BufError if 0 < read + written => Ok(()),
            Status::Ok | Status::BufError => Err(WRONG),
        }
    }

    fn end_member(&mut self, source: &[u8]) -> Result<(), DecompressError> {
        let told = source[self.at..].first_chunk::<TAIL_BYTES>().ok_or(WRONG)?;
        let [a, b, c, d, e, f, g, h] = *told;
        let (crc, bytes) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if (crc, bytes) != (self.crc.sum(), self.crc.amount()) {
            return Err(WRONG);
        }
        self.at += TAIL_BYTES;
        self.inside = false;
        Ok(())
    }
}

/// How long a member's head is, if it is one.
fn head_bytes(bytes: &[u8]) -> Option<usize> {
    const HEAD_SUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    const UNKNOWN: u8 = 0b111 << 5;
    let (head, mut rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *head else { return None };
    if flags & UNKNOWN != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|it| *it == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEAD_SUM != 0 {
        let before = bytes.len() - rest.len();
        let (told, after) = rest.split_first_chunk::<2>()?;
        let mut sum = Crc::new();
        sum.update(&bytes[..before]);
        if u32::from(u16::from_le_bytes(*told)) != sum.sum() & 0xffff {
            return None;
        }
        rest = after;
    }
    Some(bytes.len() - rest.len())
}

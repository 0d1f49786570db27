//! Unfolding what is compressed, a step at a time and within a limit.
//!
//! A compressed batch comes from outside and may unfold to anything. Memory never exceeds the limit,
//! whatever the stream claims about itself, and no step takes long, whatever the stream is made of:
//! each does a number of units of work and can be gone on with later. A unit is about what it takes to
//! write a byte; bytes that are read count more where a codec can be made to do much for few of them.
//!
//! What the codecs' libraries can only do in one go is left to them while it is small, and done here
//! when it is large: blocks of LZ4 and of snappy.

mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

use crate::compress::{Codec, DecompressError};

/// Output memory a lane keeps between batches; what a rare large batch took beyond is given back.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// The largest block that is unfolded in one go.
const BLOCK_BYTES_MAX: usize = 256 << 10;

/// The most output memory that is cleared for one call of a codec.
const CALL_BYTES_MAX: usize = 64 << 10;

/// What is unfolded, with its limit and the work that this step may still do.
struct Room<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    units: usize,
}

impl Room<'_> {
    /// Accounts for work.
    fn spend(&mut self, units: usize) {
        self.units = self.units.saturating_sub(units);
    }

    fn is_spent(&self) -> bool {
        self.units == 0
    }

    /// Bytes that may be added before it is known that there are too many: one beyond the limit.
    fn left(&self) -> usize {
        self.limit.saturating_add(1) - self.out.len()
    }

    /// # Errors
    /// When it is more than the limit.
    fn check(&self) -> Result<(), DecompressError> {
        if self.limit < self.out.len() {
            return Err(DecompressError::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Gives a codec so many bytes to write in, and keeps those that it wrote.
    fn write<E>(
        &mut self,
        bytes: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let before = self.out.len();
        self.out.resize(before + bytes, 0);
        let written = write(&mut self.out[before..]);
        self.out.truncate(before + *written.as_ref().unwrap_or(&0));
        written
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DecompressError> {
        let bytes = &bytes[..bytes.len().min(self.left())];
        self.out.extend_from_slice(bytes);
        self.spend(bytes.len());
        self.check()
    }

    /// Repeats what was written `distance` bytes ago, as much of `left` as the step allows, and says how
    /// much is left then. There are so many bytes.
    fn repeat(&mut self, distance: usize, left: usize) -> Result<usize, DecompressError> {
        let bytes = left.min(self.units).min(self.left());
        let (mut more, mut pattern) = (bytes, distance);
        while 0 < more {
            // What was just written is repeated, too: about twice as much each time.
            let start = self.out.len() - pattern;
            let have = more.min(pattern);
            self.out.extend_from_within(start..start + have);
            more -= have;
            pattern += have;
        }
        self.spend(bytes);
        self.check()?;
        Ok(left - bytes)
    }
}

/// Decompression with memory that is used again.
pub struct Decompressor {
    out: Vec<u8>,
    codec: Codec,
    limit: usize,
    gzip: Option<gzip::Gzip>,
    snappy: snappy::Snappy,
    lz4: lz4::Lz4,
    zstd: Option<zstd::Zstd>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").field("kept_bytes", &self.out.capacity()).finish()
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// Allocates nothing until the first compressed batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            out: Vec::new(),
            codec: Codec::None,
            limit: 0,
            gzip: None,
            snappy: snappy::Snappy::new(),
            lz4: lz4::Lz4::new(),
            zstd: None,
        }
    }

    /// Unfolds `source` to at most `limit` bytes, which stay until the next call.
    ///
    /// # Errors
    /// When the bytes are malformed, or unfold to more.
    pub fn decompress<'a>(
        &'a mut self,
        codec: Codec,
        source: &'a [u8],
        limit: usize,
    ) -> Result<&'a [u8], DecompressError> {
        if codec == Codec::None {
            let fits = source.len() <= limit;
            return fits.then_some(source).ok_or(DecompressError::TooLarge { limit });
        }
        self.begin(codec, limit);
        let mut units = usize::MAX;
        while !self.step(source, &mut units)? {}
        Ok(&self.out)
    }

    /// Forgets what was unfolded before, and is ready for something of at most `limit` bytes.
    pub(crate) fn begin(&mut self, codec: Codec, limit: usize) {
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        self.out.clear();
        (self.codec, self.limit) = (codec, limit);
        match codec {
            Codec::None => {}
            Codec::Gzip => self.gzip.get_or_insert_with(gzip::Gzip::new).begin(),
            Codec::Snappy => self.snappy.begin(),
            Codec::Lz4 => self.lz4.begin(),
            Codec::Zstd => {
                if let Some(zstd) = &mut self.zstd {
                    zstd.begin();
                }
            }
        }
    }

    /// Unfolds more of `source`, the same each time, for about so many units of work, and takes off what
    /// it did. Says whether that was all of it.
    ///
    /// # Errors
    /// When the bytes are malformed, or unfold to more than the limit.
    pub(crate) fn step(
        &mut self,
        source: &[u8],
        units: &mut usize,
    ) -> Result<bool, DecompressError> {
        let room = &mut Room { out: &mut self.out, limit: self.limit, units: *units };
        let done = match self.codec {
            Codec::None => unreachable!("nothing was folded"),
            Codec::Gzip => self.gzip.as_mut().expect("made when it began").step(source, room),
            Codec::Snappy => self.snappy.step(source, room),
            Codec::Lz4 => self.lz4.step(source, room),
            Codec::Zstd => match &mut self.zstd {
                Some(zstd) => zstd.step(source, room),
                none => none.insert(zstd::Zstd::new()?).step(source, room),
            },
        };
        *units = room.units;
        done
    }

    /// What was unfolded so far.
    pub(crate) fn unfolded(&self) -> &[u8] {
        &self.out
    }

    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.out.capacity()
    }
}

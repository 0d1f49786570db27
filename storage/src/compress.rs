//! The codecs of a batch's records, bounded.
//!
//! A compressed batch comes from outside and may unfold to anything. Decompression therefore takes
//! a limit ([`decompressed_bytes_max`] for a client's batch) and works in small steps
//! (`crate::unfold`); what is beyond [`held_bytes_max`] is walked as it comes (`crate::stream`).
//!
//! A lane keeps one [`Decompressor`] and one [`Compressor`] and uses them again for every batch.

use std::io::Write;

pub use crate::unfold::Decompressor;

/// How many times its compressed size a client's batch may unfold to.
pub const RATIO_MAX: usize = 1_000;
/// Up to here the ratio is not looked at: one byte over and over compresses far better than a
/// thousandfold.
pub const RATIO_EXEMPT_BYTES: usize = 32 << 20;
/// How many times the largest batch a topic takes is held unfolded.
const HELD_MULTIPLE_MAX: usize = 8;
/// And at least and at most so much.
const HELD_BYTES_MIN: usize = 8 << 20;
const HELD_BYTES_MAX: usize = 64 << 20;
/// The largest zstd window, as a power of two: 8 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The bound for a client's batch of `compressed` bytes. What a topic takes does not come into it: that is
/// about compressed bytes.
#[must_use]
pub fn decompressed_bytes_max(compressed: usize, budget_bytes: usize) -> usize {
    compressed.saturating_mul(RATIO_MAX).max(RATIO_EXEMPT_BYTES).min(budget_bytes)
}

/// The most of a client's batch that is in memory at once. What unfolds to more is walked as it comes.
#[must_use]
pub fn held_bytes_max(message_bytes_max: usize, decompressed_bytes_max: usize) -> usize {
    let multiple = message_bytes_max.saturating_mul(HELD_MULTIPLE_MAX);
    multiple.clamp(HELD_BYTES_MIN, HELD_BYTES_MAX).min(decompressed_bytes_max)
}

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec a batch's attributes name; `None` for the numbers that name none.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The bits of the attributes field that name this codec.
    #[must_use]
    pub fn attribute_bits(self) -> i16 {
        self as i16
    }

    /// The name the configuration uses; no compression is called differently in different places
    /// and is left to the caller.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// How hard to compress. Snappy has no levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    #[default]
    Default,
    Of(i32),
}

/// Why a batch was not decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecompressError {
    /// The bytes are not what the codec writes.
    Malformed { codec: Codec },
    /// They would unfold to more than the limit.
    TooLarge { limit: usize },
}

/// The level that Kafka's configuration calls its default: what is written then is the fast form.
const LZ4_LEVEL_FAST: i32 = 9;
const WHY: &str = "compressing into memory";
pub(crate) const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// Magic, version and the oldest version that can read it.
pub(crate) const XERIAL_HEADER_BYTES: usize = 16;
/// Bytes of each chunk before compression, as Java writes them.
const XERIAL_CHUNK_BYTES: usize = 32 << 10;

/// Compression with memory that is used again.
pub struct Compressor {
    snappy: snap::raw::Encoder,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    #[must_use]
    pub fn new() -> Self {
        Self { snappy: snap::raw::Encoder::new(), zstd: None }
    }

    /// Appends the compressed form of `payload` to `out`, in the framing every client reads.
    ///
    /// # Panics
    /// When the level is none of the codec's: the configuration refuses those.
    pub fn compress(&mut self, codec: Codec, level: Level, payload: &[u8], out: &mut Vec<u8>) {
        match codec {
            Codec::None => out.extend_from_slice(payload),
            Codec::Snappy => {
                put_snappy_header(out);
                for chunk in payload.chunks(XERIAL_CHUNK_BYTES) {
                    put_snappy(&mut self.snappy, chunk, out);
                }
            }
            Codec::Gzip | Codec::Lz4 => {
                let mut folding = Folding::begin(codec, level, std::mem::take(out));
                folding.put(payload);
                *out = folding.end();
            }
            Codec::Zstd => {
                let level = zstd_level(level);
                let compressor =
                    self.zstd.get_or_insert_with(|| zstd::bulk::Compressor::new(level).expect(WHY));
                compressor.set_compression_level(level).expect("a level of zstd");
                let before = out.len();
                out.resize(before + zstd::zstd_safe::compress_bound(payload.len()), 0);
                let written =
                    compressor.compress_to_buffer(payload, &mut out[before..]).expect(WHY);
                out.truncate(before + written);
            }
        }
    }
}

/// The way LZ4 is written unless somebody asks for better: blocks that do not depend on each other,
/// because Java refuses the others.
fn lz4_fast(out: Vec<u8>) -> lz4_flex::frame::FrameEncoder<Vec<u8>> {
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Independent)
        .block_size(lz4_flex::frame::BlockSize::Max64KB);
    lz4_flex::frame::FrameEncoder::with_frame_info(info, out)
}

/// The same frame, searched for longer. Levels beyond the library's last are its last.
fn lz4_at(level: i32, out: Vec<u8>) -> lz4::Encoder<Vec<u8>> {
    lz4::EncoderBuilder::new()
        .level(u32::try_from(level).expect("a level of lz4"))
        .block_mode(lz4::BlockMode::Independent)
        .block_size(lz4::BlockSize::Max64KB)
        .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .build(out)
        .expect(WHY)
}

/// A compression under way, of something that comes piece by piece.
pub(crate) struct Folding(Folder);

enum Folder {
    None(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Snappy { encoder: Box<snap::raw::Encoder>, out: Vec<u8>, rest: Vec<u8> },
    Lz4(lz4_flex::frame::FrameEncoder<Vec<u8>>),
    Lz4At(lz4::Encoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for Folding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folding").finish_non_exhaustive()
    }
}

impl Folding {
    /// What is folded goes behind what is in `out`.
    pub(crate) fn begin(codec: Codec, level: Level, mut out: Vec<u8>) -> Self {
        Self(match (codec, level) {
            (Codec::None, _) => Folder::None(out),
            (Codec::Gzip, level) => {
                Folder::Gzip(flate2::write::GzEncoder::new(out, gzip_level(level)))
            }
            (Codec::Snappy, _) => {
                put_snappy_header(&mut out);
                Folder::Snappy {
                    encoder: Box::new(snap::raw::Encoder::new()),
                    out,
                    rest: Vec::new(),
                }
            }
            (Codec::Lz4, Level::Of(level)) if level != LZ4_LEVEL_FAST => {
                Folder::Lz4At(lz4_at(level, out))
            }
            (Codec::Lz4, _) => Folder::Lz4(lz4_fast(out)),
            (Codec::Zstd, level) => {
                let encoder = zstd::stream::write::Encoder::new(out, zstd_level(level));
                Folder::Zstd(encoder.expect(WHY))
            }
        })
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Folder::None(out) => out.extend_from_slice(bytes),
            Folder::Gzip(encoder) => encoder.write_all(bytes).expect(WHY),
            Folder::Snappy { encoder, out, rest } => {
                rest.extend_from_slice(bytes);
                let (chunks, more) = rest.as_chunks::<XERIAL_CHUNK_BYTES>();
                for chunk in chunks {
                    put_snappy(encoder, chunk, out);
                }
                let done = rest.len() - more.len();
                rest.drain(..done);
            }
            Folder::Lz4(encoder) => encoder.write_all(bytes).expect(WHY),
            Folder::Lz4At(encoder) => encoder.write_all(bytes).expect(WHY),
            Folder::Zstd(encoder) => encoder.write_all(bytes).expect(WHY),
        }
    }

    pub(crate) fn end(self) -> Vec<u8> {
        match self.0 {
            Folder::None(out) => out,
            Folder::Gzip(encoder) => encoder.finish().expect(WHY),
            Folder::Snappy { mut encoder, mut out, rest } => {
                if !rest.is_empty() {
                    put_snappy(&mut encoder, &rest, &mut out);
                }
                out
            }
            Folder::Lz4(encoder) => encoder.finish().expect(WHY),
            Folder::Lz4At(encoder) => {
                let (out, done) = encoder.finish();
                done.expect(WHY);
                out
            }
            Folder::Zstd(encoder) => encoder.finish().expect(WHY),
        }
    }
}

fn gzip_level(level: Level) -> flate2::Compression {
    match level {
        Level::Default => flate2::Compression::default(),
        Level::Of(level) => {
            flate2::Compression::new(u32::try_from(level).expect("a level of gzip"))
        }
    }
}

fn zstd_level(level: Level) -> i32 {
    match level {
        Level::Default => zstd::DEFAULT_COMPRESSION_LEVEL,
        Level::Of(level) => level,
    }
}

fn put_snappy_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
}

/// One of Java's chunks.
fn put_snappy(encoder: &mut snap::raw::Encoder, chunk: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + 4 + snap::raw::max_compress_len(chunk.len()), 0);
    let written = encoder
        .compress(chunk, &mut out[at + 4..])
        .expect("the buffer has the room snappy asks for");
    let length = i32::try_from(written).expect("a chunk is small");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    out.truncate(at + 4 + written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<Vec<u8>> {
        let noise = |len: u32| (0..len).map(|it| (it.wrapping_mul(2_654_435_761) >> 11) as u8);
        vec![
            Vec::new(),
            b"a".to_vec(),
            noise(100).collect(),
            noise(70_000).map(|it| it & 3).collect(),
            noise(300_000).collect(),
        ]
    }

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        let (mut fold, mut unfold) = (Compressor::new(), Decompressor::new());
        for codec in Codec::ALL {
            for level in [Level::Default, Level::Of(1), Level::Of(9)] {
                for text in texts() {
                    let mut folded = Vec::new();
                    fold.compress(codec, level, &text, &mut folded);
                    let back = unfold.decompress(codec, &folded, text.len());
                    assert_eq!(back, Ok(&text[..]), "{codec:?} of {} bytes", text.len());
                    if !text.is_empty() {
                        let limit = text.len() - 1;
                        assert_eq!(
                            unfold.decompress(codec, &folded, limit),
                            Err(DecompressError::TooLarge { limit }),
                            "{codec:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_level_is_obeyed_wherever_the_codec_has_levels() {
        let text: Vec<u8> = (0..40_000_u64)
            .flat_map(|it| (it.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52).to_string().into_bytes())
            .collect();
        let (mut fold, mut unfold) = (Compressor::new(), Decompressor::new());
        let mut bytes = |codec, level| {
            let mut folded = Vec::new();
            fold.compress(codec, level, &text, &mut folded);
            let back = unfold.decompress(codec, &folded, text.len());
            assert_eq!(back, Ok(&text[..]), "{codec:?} at {level:?}");
            folded.len()
        };
        for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Lz4, 1, 12), (Codec::Zstd, -5, 19)]
        {
            let (low, high) = (bytes(codec, Level::Of(low)), bytes(codec, Level::Of(high)));
            assert!(high < low, "{codec:?}: {high} bytes at best, {low} at the least");
        }
        let lz4: Vec<_> = (1..=17).map(|it| bytes(Codec::Lz4, Level::Of(it))).collect();
        assert_eq!(lz4[8], bytes(Codec::Lz4, Level::Default), "the default is the fast form");
        assert!(lz4[11] < lz4[8], "and asking for more gives more: {lz4:?}");
        assert_eq!(lz4[16], lz4[11], "beyond the last level is the last");
    }

    #[test]
    fn snappy_is_read_in_both_forms() {
        let text = b"to be or not to be or to be".repeat(50);
        let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        let mut unfold = Decompressor::new();
        assert_eq!(unfold.decompress(Codec::Snappy, &raw, 10_000), Ok(&text[..]));
        let mut twice = Vec::new();
        let mut fold = Compressor::new();
        fold.compress(Codec::Snappy, Level::Default, &text, &mut twice);
        fold.compress(Codec::Snappy, Level::Default, &text, &mut twice);
        assert_eq!(unfold.decompress(Codec::Snappy, &twice, 10_000), Ok(&text.repeat(2)[..]));
    }

    /// A gigabyte of zeros is folded without being in memory, cut to what an attacker would
    /// send, and must be refused within the limit's memory.
    #[test]
    fn a_bomb_is_refused_within_the_limit() {
        const BOMB_BYTES: usize = 10 << 10;
        let whole = decompressed_bytes_max(BOMB_BYTES, usize::MAX);
        assert_eq!(whole, RATIO_EXEMPT_BYTES);
        let limit = held_bytes_max(1 << 20, whole);
        assert_eq!(limit, 8 << 20);
        let zeros = vec![0; 4 << 20];
        let mut bombs = Vec::new();

        // Gzip of gzip members and LZ4 blocks repeat; ten kilobytes of each is a bomb.
        let mut gzip = Vec::new();
        let mut fold = Compressor::new();
        fold.compress(Codec::Gzip, Level::Of(9), &zeros, &mut gzip);
        bombs.push((Codec::Gzip, gzip.repeat(3)));
        // One LZ4 block of four mebibytes folds to sixteen kilobytes: cut it where it is.
        let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max4MB);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        for _ in 0..3 {
            encoder.write_all(&zeros).unwrap();
        }
        bombs.push((Codec::Lz4, encoder.finish().unwrap()));
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        for _ in 0..256 {
            encoder.write_all(&zeros).unwrap();
        }
        let zstd = encoder.finish().unwrap();
        bombs.push((Codec::Zstd, zstd));
        // Snappy that claims a gigabyte.
        bombs.push((Codec::Snappy, vec![0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]));
        let mut chunked = XERIAL_MAGIC.to_vec();
        chunked.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7]);
        chunked.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]);
        bombs.push((Codec::Snappy, chunked));

        for (codec, bomb) in bombs {
            let mut unfold = Decompressor::new();
            let refused = unfold.decompress(codec, &bomb, limit).map(<[u8]>::len);
            assert_eq!(refused, Err(DecompressError::TooLarge { limit }), "{codec:?}");
            let memory = unfold.memory_bytes();
            assert!(memory <= 2 * limit, "{codec:?}: {memory}");
        }
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        // Magic, no single segment, window of 16 MiB, one empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, (24 - 10) << 3, 1, 0, 0];
        let mut unfold = Decompressor::new();
        let wrong = Err(DecompressError::Malformed { codec: Codec::Zstd });
        assert_eq!(unfold.decompress(Codec::Zstd, &frame, 100), wrong);
        let mut small = frame;
        small[5] = (23 - 10) << 3;
        assert_eq!(unfold.decompress(Codec::Zstd, &small, 100), Ok(&[][..]));
    }

    /// Whatever is done to a folded text, it unfolds to something within the limit or is refused.
    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 42_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let (mut fold, mut unfold) = (Compressor::new(), Decompressor::new());
        for codec in Codec::ALL {
            for text in &texts()[..4] {
                let mut folded = Vec::new();
                fold.compress(codec, Level::Default, text, &mut folded);
                for _ in 0..200 {
                    let mut broken = folded.clone();
                    for _ in 0..=random(4) {
                        let at = random(broken.len().max(1));
                        if let Some(byte) = broken.get_mut(at) {
                            *byte = random(256) as u8;
                        }
                    }
                    broken.truncate(random(broken.len() + 1).max(broken.len() / 2));
                    if let Ok(out) = unfold.decompress(codec, &broken, 100_000) {
                        assert!(out.len() <= 100_000);
                    }
                }
            }
        }
    }
}

//! The records of a compressed batch, walked as it unfolds: nothing of it is kept.
//!
//! What is in memory is the folded bytes, the codec's own window, and the bytes of the record that is
//! coming. Every record is checked as `record` checks it.

use std::io::{Cursor, Read};

use crate::compress::{
    Codec, DecompressError, XERIAL_HEADER_BYTES, XERIAL_MAGIC, ZSTD_WINDOW_LOG_MAX,
};
use crate::record::{Record, RecordError, record_bytes, take_record};

/// Bytes that one step unfolds.
const STEP_BYTES: usize = 64 << 10;
/// The longest block of snappy, which unfolds in one go.
const SNAPPY_BLOCK_BYTES_MAX: usize = 16 << 20;

/// Why a walk ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkError {
    Unfold(DecompressError),
    Record { index: u32, error: RecordError },
}

type Folded = Cursor<Vec<u8>>;

enum Source {
    Gzip(flate2::bufread::MultiGzDecoder<Folded>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<Folded>>),
    Zstd(zstd::stream::read::Decoder<'static, Folded>),
    Snappy { folded: Vec<u8>, at: usize },
}

/// A walk under way.
pub(crate) struct Walk {
    codec: Codec,
    source: Source,
    /// Unfolded, and not looked at.
    ahead: Vec<u8>,
    unfolded: usize,
    index: u32,
    records: u32,
    record_bytes_max: usize,
    limit: usize,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("unfolded", &self.unfolded).finish_non_exhaustive()
    }
}

impl Walk {
    /// A walk over so many records, none of which is longer than `record_bytes_max`, and all of which
    /// unfold to at most `limit` bytes.
    pub(crate) fn new(
        codec: Codec,
        folded: &[u8],
        records: u32,
        record_bytes_max: usize,
        limit: usize,
    ) -> Result<Self, WalkError> {
        let folded = folded.to_vec();
        let malformed = WalkError::Unfold(DecompressError::Malformed { codec });
        let source = match codec {
            Codec::Gzip => Source::Gzip(flate2::bufread::MultiGzDecoder::new(Cursor::new(folded))),
            Codec::Lz4 => {
                let decoder = lz4_flex::frame::FrameDecoder::new(Cursor::new(folded));
                Source::Lz4(Box::new(decoder))
            }
            Codec::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(Cursor::new(folded));
                let mut decoder = decoder.map_err(|_| malformed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| malformed)?;
                Source::Zstd(decoder)
            }
            Codec::Snappy => Source::Snappy { folded, at: 0 },
            Codec::None => return Err(malformed),
        };
        let ahead = Vec::with_capacity(2 * STEP_BYTES);
        Ok(Self { codec, source, ahead, unfolded: 0, index: 0, records, record_bytes_max, limit })
    }

    /// Unfolds some more, shows the records that are whole then, and says whether that was all.
    pub(crate) fn step(
        &mut self,
        mut look: impl FnMut(u32, &Record<'_>),
    ) -> Result<bool, WalkError> {
        let more = self.unfold().map_err(WalkError::Unfold)?;
        let too_large = WalkError::Unfold(DecompressError::TooLarge { limit: self.limit });
        self.unfolded += more;
        if self.limit < self.unfolded {
            return Err(too_large);
        }
        let is_end = more == 0;
        let mut rest = &self.ahead[..];
        while self.index < self.records {
            let (index, bytes) = (self.index, record_bytes(rest));
            let is_whole = bytes.is_some_and(|it| it <= rest.len());
            if !is_whole && !is_end {
                // A length that is wrong in itself is five bytes at most, and no more is waited for.
                if bytes.is_none() && LENGTH_BYTES_MAX <= rest.len() {
                    take_record(&mut rest).map_err(|error| WalkError::Record { index, error })?;
                }
                if bytes.is_some_and(|it| self.record_bytes_max < it) {
                    return Err(WalkError::Unfold(DecompressError::TooLarge {
                        limit: self.record_bytes_max,
                    }));
                }
                break;
            }
            let record = take_record(&mut rest);
            look(index, &record.map_err(|error| WalkError::Record { index, error })?);
            self.index += 1;
        }
        if self.index == self.records && !rest.is_empty() {
            let error = RecordError::LeftOver { bytes: rest.len() };
            return Err(WalkError::Record { index: self.index, error });
        }
        let looked_at = self.ahead.len() - rest.len();
        self.ahead.drain(..looked_at);
        Ok(is_end)
    }

    /// Puts more bytes behind those that are ahead; none at the end.
    fn unfold(&mut self) -> Result<usize, DecompressError> {
        let wrong = DecompressError::Malformed { codec: self.codec };
        let before = self.ahead.len();
        let reader: &mut dyn Read = match &mut self.source {
            Source::Gzip(decoder) => decoder,
            Source::Lz4(decoder) => decoder,
            Source::Zstd(decoder) => decoder,
            Source::Snappy { folded, at } => {
                return snappy_block(folded, at, &mut self.ahead);
            }
        };
        self.ahead.resize(before + STEP_BYTES, 0);
        let read = reader.read(&mut self.ahead[before..]).map_err(|_| wrong)?;
        self.ahead.truncate(before + read);
        if let (0, Source::Lz4(decoder)) = (read, &self.source) {
            let folded = decoder.get_ref();
            if folded.position() != folded.get_ref().len() as u64 {
                return Err(wrong);
            }
        }
        Ok(read)
    }
}

/// The bytes of the longest length of a record.
const LENGTH_BYTES_MAX: usize = 5;

/// The next block with something in it: all of the bytes, or one of Java's chunks.
fn snappy_block(
    folded: &[u8],
    at: &mut usize,
    out: &mut Vec<u8>,
) -> Result<usize, DecompressError> {
    let wrong = DecompressError::Malformed { codec: Codec::Snappy };
    let is_chunked = folded.starts_with(&XERIAL_MAGIC);
    while *at < folded.len() {
        let rest = &folded[*at..];
        if is_chunked && rest.starts_with(&XERIAL_MAGIC) {
            *at += XERIAL_HEADER_BYTES;
            if folded.len() < *at {
                return Err(wrong);
            }
            continue;
        }
        let block = if is_chunked {
            let (length, after) = rest.split_first_chunk().ok_or(wrong)?;
            let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| wrong)?;
            *at += 4 + length;
            after.get(..length).ok_or(wrong)?
        } else {
            *at = folded.len();
            rest
        };
        let bytes = snap::raw::decompress_len(block).map_err(|_| wrong)?;
        if SNAPPY_BLOCK_BYTES_MAX < bytes {
            return Err(DecompressError::TooLarge { limit: SNAPPY_BLOCK_BYTES_MAX });
        }
        let before = out.len();
        out.resize(before + bytes, 0);
        let mut decoder = snap::raw::Decoder::new();
        let written = decoder.decompress(block, &mut out[before..]).map_err(|_| wrong)?;
        out.truncate(before + written);
        if 0 < written {
            return Ok(written);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::build::BatchBuilder;
    use crate::compress::{Compressor, Decompressor, Level};
    use crate::record::Records;

    const LIMIT: usize = 1 << 20;

    fn walked(codec: Codec, folded: &[u8], records: u32) -> Result<Vec<i32>, WalkError> {
        let mut seen = Vec::new();
        let mut walk = Walk::new(codec, folded, records, LIMIT, LIMIT)?;
        while !walk.step(|_, it| seen.push(it.offset_delta))? {}
        Ok(seen)
    }

    fn held(codec: Codec, folded: &[u8], records: u32) -> Option<Vec<i32>> {
        let mut unfold = Decompressor::new();
        let payload = unfold.decompress(codec, folded, LIMIT).ok()?;
        Records::new(payload, records).map(|it| it.ok().map(|it| it.offset_delta)).collect()
    }

    /// Damaged or whole, both ways come to the same.
    #[test]
    fn a_walk_finds_what_is_found_in_memory() {
        let mut seed = 11_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let mut builder = BatchBuilder::new();
        for it in 0..300 {
            let value: Vec<u8> = (0..it * 3).map(|at| (at * at % 251) as u8).collect();
            builder.record_with_headers(5, None, Some(&value), &[("name", Some(b"value"))]);
        }
        let whole = builder.build();
        let payload = Batch::split(&whole).unwrap().0.payload().to_vec();
        let (mut taken, mut refused) = (0, 0);
        for round in 0..600 {
            let codec = Codec::ALL[1 + round % 4];
            let mut plain = payload.clone();
            if random(3) == 0 {
                let at = random(plain.len());
                plain[at] ^= 1 << random(8);
            }
            let mut folded = Vec::new();
            Compressor::new().compress(codec, Level::Default, &plain, &mut folded);
            if random(3) == 0 {
                let at = random(folded.len());
                folded[at] ^= 1 << random(8);
            }
            let records = if random(8) == 0 { 299 + random(3) as u32 } else { 300 };
            let (here, there) = (walked(codec, &folded, records), held(codec, &folded, records));
            assert_eq!(here.as_ref().ok(), there.as_ref(), "{codec:?} {here:?}");
            if here.is_ok() { taken += 1 } else { refused += 1 }
        }
        assert!(100 < taken && 100 < refused, "the walk went empty: {taken} {refused}");
    }

    #[test]
    fn one_record_without_end_is_not_waited_for() {
        let mut builder = BatchBuilder::new();
        builder.record(5, None, Some(&vec![0; LIMIT / 2]));
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd, Codec::Snappy] {
            let bytes = builder.build_compressed(codec, Level::Default, &mut Compressor::new());
            let folded = Batch::split(&bytes).unwrap().0.payload();
            let mut walk = Walk::new(codec, folded, 1, LIMIT / 4, LIMIT).unwrap();
            let error = walk.step(|_, _| {}).unwrap_err();
            let limit = LIMIT / 4;
            assert_eq!(error, WalkError::Unfold(DecompressError::TooLarge { limit }), "{codec:?}");
            assert!(walk.ahead.len() <= STEP_BYTES);
        }
    }
}

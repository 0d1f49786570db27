//! How the records of a batch are folded together, and unfolded again. What comes from a broker is
//! believed to be as large as it says, up to 256 MiB.

use std::io::{Read, Write};

/// The most that the records of one batch may unfold to.
const UNFOLDED_BYTES_MAX: usize = 256 << 20;

/// Java puts snappy blocks into a frame of its own: this, two versions, then blocks behind lengths.
const JAVA_SNAPPY: &[u8; 8] = b"\x82SNAPPY\0";
const JAVA_SNAPPY_HEADER_BYTES: usize = 16;

/// The codecs the protocol knows, by the number in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(i16)]
pub enum Codec {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// As configurations call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    pub(crate) fn of_attributes(attributes: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|it| *it as i16 == attributes & 7)
    }

    pub(crate) fn fold(self, plain: &[u8]) -> Vec<u8> {
        const WHY: &str = "compressing into memory";
        match self {
            Self::None => plain.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(plain).expect(WHY);
                encoder.finish().expect(WHY)
            }
            Self::Snappy => snap::raw::Encoder::new().compress_vec(plain).expect(WHY),
            Self::Lz4 => {
                // Java takes only blocks that do not depend on each other.
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(plain).expect(WHY);
                encoder.finish().expect(WHY)
            }
            Self::Zstd => zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL).expect(WHY),
        }
    }

    /// None when the bytes are not what the codec writes, or unfold to too much.
    pub(crate) fn unfold(self, folded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::None => out.extend_from_slice(folded),
            Self::Gzip => all(flate2::read::MultiGzDecoder::new(folded), &mut out)?,
            Self::Lz4 => all(lz4_flex::frame::FrameDecoder::new(folded), &mut out)?,
            Self::Zstd => all(zstd::stream::read::Decoder::new(folded).ok()?, &mut out)?,
            Self::Snappy if folded.starts_with(JAVA_SNAPPY) => {
                let mut rest = folded.get(JAVA_SNAPPY_HEADER_BYTES..)?;
                while let Some((length, after)) = rest.split_first_chunk() {
                    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
                    let (block, after) = after.split_at_checked(length)?;
                    snappy(block, &mut out)?;
                    rest = after;
                }
                rest.is_empty().then_some(())?;
            }
            Self::Snappy => snappy(folded, &mut out)?,
        }
        Some(out)
    }
}

fn all(reader: impl Read, out: &mut Vec<u8>) -> Option<()> {
    reader.take(UNFOLDED_BYTES_MAX as u64 + 1).read_to_end(out).ok()?;
    (out.len() <= UNFOLDED_BYTES_MAX).then_some(())
}

fn snappy(block: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let bytes = snap::raw::decompress_len(block).ok()?;
    (out.len() + bytes <= UNFOLDED_BYTES_MAX).then_some(())?;
    out.extend(snap::raw::Decoder::new().decompress_vec(block).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_folded_unfolds_to_itself_and_half_of_it_to_nothing() {
        let plain: Vec<u8> = (0..100_000u32).map(|it| (it / 7) as u8).collect();
        for codec in Codec::ALL {
            let folded = codec.fold(&plain);
            assert_eq!(codec.unfold(&folded), Some(plain.clone()), "{codec:?}");
            assert!(codec == Codec::None || folded.len() < plain.len(), "{codec:?}");
            let half = codec.unfold(&folded[..folded.len() / 2]);
            assert_ne!(half, Some(plain.clone()), "{codec:?}");
        }
    }

    #[test]
    fn snappy_in_the_frame_of_java_is_read() {
        let block = Codec::Snappy.fold(b"block ");
        let mut framed = JAVA_SNAPPY.to_vec();
        framed.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for _ in 0..2 {
            framed.extend(u32::try_from(block.len()).expect("short").to_be_bytes());
            framed.extend(&block);
        }
        assert_eq!(Codec::Snappy.unfold(&framed), Some(b"block block ".to_vec()));
    }
}

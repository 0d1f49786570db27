//! However small the steps: the same comes out, and no step does much more than it was allowed.

use std::io::{Read, Write};

use super::*;
use crate::compress::{Compressor, Level};

const UNITS: usize = 4 << 10;

/// What one call of a codec, or one small block, may do beyond what was left.
const BEYOND_MAX: usize = BLOCK_BYTES_MAX;

fn random() -> impl FnMut(usize) -> usize {
    let mut seed = 11_u64;
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    }
}

/// Repeats near and far, long and short, and things that do not repeat.
fn text(bytes: usize) -> Vec<u8> {
    let (mut random, mut out) = (random(), vec![b'.']);
    while out.len() < bytes {
        match random(5) {
            0 => out.extend((0..random(50)).map(|it| (it * 37 + bytes) as u8)),
            1 => out.extend((0..1 + random(300)).map(|_| random(256) as u8)),
            2 => out.resize(out.len() + random(70_000), 7),
            _ => {
                let (back, mut length) = (1 + random(out.len()), 1 + random(400));
                while 0 < length {
                    let start = out.len() - back;
                    let have = length.min(back);
                    out.extend_from_within(start..start + have);
                    length -= have;
                }
            }
        }
    }
    out.truncate(bytes);
    out
}

fn in_steps(
    unfold: &mut Decompressor,
    codec: Codec,
    source: &[u8],
    limit: usize,
) -> (Result<Vec<u8>, DecompressError>, usize) {
    unfold.begin(codec, limit);
    let mut steps = 0;
    loop {
        let (mut units, before) = (UNITS, unfold.unfolded().len());
        let done = unfold.step(source, &mut units);
        steps += 1;
        let more = unfold.unfolded().len() - before;
        assert!(more <= UNITS + BEYOND_MAX, "{codec:?}: {more} bytes in one step");
        match done {
            Ok(false) => assert_eq!(units, 0, "a step ends early"),
            Ok(true) => return (Ok(unfold.unfolded().to_vec()), steps),
            Err(error) => return (Err(error), steps),
        }
    }
}

fn lz4(size: lz4_flex::frame::BlockSize, linked: bool, sums: bool, text: &[u8]) -> Vec<u8> {
    let mode = if linked {
        lz4_flex::frame::BlockMode::Linked
    } else {
        lz4_flex::frame::BlockMode::Independent
    };
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(mode)
        .block_size(size)
        .block_checksums(sums)
        .content_checksum(sums)
        .content_size(sums.then_some(text.len() as u64));
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Every form in which a text may come.
fn forms(text: &[u8]) -> Vec<(Codec, Vec<u8>)> {
    use lz4_flex::frame::BlockSize::{Max1MB, Max4MB, Max64KB, Max256KB};
    let mut forms = Vec::new();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut folded = Vec::new();
        Compressor::new().compress(codec, Level::Default, text, &mut folded);
        forms.push((codec, folded));
    }
    forms.push((Codec::Snappy, snap::raw::Encoder::new().compress_vec(text).unwrap()));
    for size in [Max64KB, Max256KB, Max1MB, Max4MB] {
        for (linked, sums) in [(false, false), (false, true), (true, false), (true, true)] {
            forms.push((Codec::Lz4, lz4(size, linked, sums, text)));
        }
    }
    let gzip = flate2::GzBuilder::new().filename("a name").comment("of a text").extra(vec![1; 9]);
    let mut gzip = gzip.write(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    forms.push((Codec::Gzip, gzip.finish().unwrap()));
    forms
}

#[test]
fn the_same_comes_out_however_small_the_steps() {
    let mut unfold = Decompressor::new();
    for bytes in [1, 15, 1000, 66_000, 700_000, 2_500_000] {
        let text = text(bytes);
        for (codec, folded) in forms(&text) {
            let (back, steps) = in_steps(&mut unfold, codec, &folded, bytes);
            assert!(back.as_ref() == Ok(&text), "{codec:?} of {bytes} bytes");
            let fewest = bytes / (UNITS + BEYOND_MAX);
            assert!(fewest <= steps, "{codec:?}: {steps} steps for {bytes} bytes");
            assert!(unfold.decompress(codec, &folded, bytes) == Ok(&text), "{codec:?}");
            if 1 < bytes {
                let limit = bytes / 2;
                let (refused, _) = in_steps(&mut unfold, codec, &folded, limit);
                assert_eq!(refused, Err(DecompressError::TooLarge { limit }), "{codec:?}");
            }
        }
    }
}

/// What the libraries do with whole streams.
fn by_library(codec: Codec, source: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match codec {
        Codec::Gzip => {
            flate2::read::MultiGzDecoder::new(source).read_to_end(&mut out).ok()?;
        }
        Codec::Lz4 => {
            let mut decoder = lz4_flex::frame::FrameDecoder::new(source);
            decoder.read_to_end(&mut out).ok()?;
            if !decoder.get_ref().is_empty() {
                return None;
            }
        }
        _ => out = snap::raw::Decoder::new().decompress_vec(source).ok()?,
    }
    Some(out)
}

#[test]
fn damage_is_found_where_the_libraries_find_it() {
    let (mut random, mut unfold) = (random(), Decompressor::new());
    let text = text(270_000);
    let (mut taken, mut refused) = (0, 0);
    for (codec, folded) in forms(&text) {
        if codec == Codec::Zstd || folded.starts_with(&crate::compress::XERIAL_MAGIC) {
            continue;
        }
        for round in 0..30 {
            let mut broken = folded.clone();
            // Anywhere, in the head, or at the end.
            let at = match round % 3 {
                0 => random(broken.len()),
                1 => random(20.min(broken.len())),
                _ => broken.len() - 1 - random(20.min(broken.len())),
            };
            let is_cut = random(4) == 0;
            if is_cut {
                broken.truncate(at);
            } else {
                broken[at] ^= 1 << random(8);
            }
            // A frame whose end is missing is one to the library, if it ends behind a block.
            let is_none = is_cut && codec == Codec::Lz4;
            let expected = if is_none { None } else { by_library(codec, &broken) };
            let found = unfold.decompress(codec, &broken, 64 << 20).ok();
            assert!(found == expected.as_deref(), "{codec:?}, {at} of {}", broken.len());
            match found {
                Some(_) => taken += 1,
                None => refused += 1,
            }
        }
    }
    assert!(10 < taken && 150 < refused, "the walk went empty: {taken} {refused}");
}

/// Many beginnings for few bytes, and much that unfolds to nothing.
#[test]
fn a_step_that_unfolds_nothing_is_bounded_too() {
    let mut unfold = Decompressor::new();
    let empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let members = empty.finish().unwrap().repeat(1000);
    let (back, steps) = in_steps(&mut unfold, Codec::Gzip, &members, 10);
    assert_eq!(back, Ok(Vec::new()));
    assert!(1000 <= steps, "{steps} steps for a thousand members");
    let header = [&crate::compress::XERIAL_MAGIC[..], &[0; 8]].concat();
    let (back, steps) = in_steps(&mut unfold, Codec::Snappy, &header.repeat(10_000), 10);
    assert_eq!(back, Ok(Vec::new()));
    assert!(30 <= steps, "{steps} steps for ten thousand heads");
}

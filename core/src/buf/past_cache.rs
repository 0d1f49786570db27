//! Copying to where a disk reads next: the bytes go to memory without passing through the caches.
//!
//! An ordinary copy first brings every line of its target into the cache, only to overwrite it, and pushes
//! out what would have been used again. Past the cache a large copy costs half of that. Whoever reads the
//! target soon pays for it, and a small copy waits longer for memory than it saves, so it is done the
//! ordinary way.
#![expect(unsafe_code, reason = "stores that the compiler has no other way to make")]

/// From so many bytes on it is cheaper.
#[cfg(any(test, target_arch = "x86_64"))]
const BYTES_MIN: usize = 16 * 1024;

/// One line of the cache: a store past it is whole lines.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Copies `from` to `to`, past the caches where that pays.
///
/// # Panics
/// When the two are not of one length.
pub fn copy_past_cache(to: &mut [u8], from: &[u8]) {
    assert!(to.len() == from.len(), "a copy of {} bytes to {}", from.len(), to.len());
    #[cfg(target_arch = "x86_64")]
    if BYTES_MIN <= from.len() && !cfg!(miri) {
        return stream(to, from);
    }
    to.copy_from_slice(from);
}

#[cfg(target_arch = "x86_64")]
fn stream(to: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    let ahead = to.as_ptr().align_offset(LINE_BYTES).min(to.len());
    let (to_head, to) = to.split_at_mut(ahead);
    let (from_head, from) = from.split_at(ahead);
    to_head.copy_from_slice(from_head);
    let (to_lines, to_rest) = to.as_chunks_mut::<LINE_BYTES>();
    let (from_lines, from_rest) = from.as_chunks::<LINE_BYTES>();
    for (to, from) in to_lines.iter_mut().zip(from_lines) {
        let (to, from): (*mut __m128i, *const __m128i) =
            (to.as_mut_ptr().cast(), from.as_ptr().cast());
        // SAFETY: both lines have 64 bytes and are borrowed here, the target alone; it begins at a whole
        // line, which the stores ask for, while the loads ask for nothing. Every processor of this kind
        // has these instructions.
        unsafe {
            let line = [0, 1, 2, 3].map(|it| _mm_loadu_si128(from.add(it)));
            for (at, part) in line.into_iter().enumerate() {
                _mm_stream_si128(to.add(at), part);
            }
        }
    }
    // SAFETY: it touches no memory. Without it these stores could be seen after later ones, by whoever
    // is told that the copy is there: another lane, or a device.
    unsafe { _mm_sfence() }
    to_rest.copy_from_slice(from_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_wherever_they_begin_and_end_and_nothing_around_them_changes() {
        let from: Vec<u8> = (0..BYTES_MIN + 300).map(|it| ((it * it) >> 3) as u8).collect();
        let mut walked = 0;
        for at in [0, 1, 15, 16, 63, 64, 65] {
            for begin in [0, 7, 64] {
                for len in [0, 1, BYTES_MIN - 1, BYTES_MIN, BYTES_MIN + 63, BYTES_MIN + 130] {
                    let mut to = vec![0xEE; BYTES_MIN + 300];
                    copy_past_cache(&mut to[at..at + len], &from[begin..begin + len]);
                    assert_eq!(to[at..at + len], from[begin..begin + len], "{at} {begin} {len}");
                    assert!(to[..at].iter().chain(&to[at + len..]).all(|it| *it == 0xEE));
                    walked += 1;
                }
            }
        }
        assert_eq!(walked, 126);
    }
}

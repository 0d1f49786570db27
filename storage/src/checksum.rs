//! CRC-32C: computed once per byte, then combined.
//!
//! The producer's checksum of a batch is verified when the batch arrives. Everything that later
//! needs a checksum over the same bytes (the journal frame, the segment's extent) derives it from
//! the known one with [`combine`], which costs the same for any number of bytes.
//! [`place`] binds a checksum to where the bytes belong, so that a write that went astray is
//! found although its bytes are whole.

use corelane_core::ids::{Offset, TopicPartition};
use crc_fast::{CrcAlgorithm, Digest};

/// The reflected Castagnoli polynomial.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial "1", in the reflected order of bits.
const ONE: u32 = 1 << 31;

/// The checksum of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of what was summed so far followed by `bytes`.
#[must_use]
pub fn append(so_far: u32, bytes: &[u8]) -> u32 {
    // Its state is the sum before the last step, which turns every bit.
    let mut sum = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!so_far));
    sum.update(bytes);
    sum.finalize() as u32
}

/// The checksum of two pieces in sequence, from the checksum of each and the second's length.
///
/// It also takes a piece away: `combine(of(head), of(whole), tail_len)` is `of(tail)`, because
/// combining is a shift of the first and an exclusive or with the second.
#[must_use]
pub fn combine(first: u32, second: u32, second_len: usize) -> u32 {
    shift(first, second_len) ^ second
}

/// The checksum of the tail, when the checksum of the head and of the whole are known.
#[must_use]
pub fn without_head(head: u32, whole: u32, tail_len: usize) -> u32 {
    combine(head, whole, tail_len)
}

/// The checksum of the head, when the checksum of the tail and of the whole are known.
#[must_use]
pub fn without_tail(tail: u32, whole: u32, tail_len: usize) -> u32 {
    shift_by(whole ^ tail, tail_len, &UNZEROS)
}

/// The checksum of bytes whose own checksum is `bytes_crc`, bound to a place in a segment.
#[must_use]
pub fn place(
    of: TopicPartition,
    segment_base: Offset,
    position: u32,
    bytes_crc: u32,
    bytes_len: usize,
) -> u32 {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&of.topic.0);
    key[16..20].copy_from_slice(&of.partition.0.to_le_bytes());
    key[20..28].copy_from_slice(&segment_base.0.to_le_bytes());
    key[28..].copy_from_slice(&position.to_le_bytes());
    combine(self::of(&key), bytes_crc, bytes_len)
}

/// Moves a checksum over `len` zero bytes: multiplication by x^(8 len) modulo the polynomial.
fn shift(crc: u32, len: usize) -> u32 {
    shift_by(crc, len, &ZEROS)
}

fn shift_by(crc: u32, len: usize, powers: &[u32; 64]) -> u32 {
    let mut crc = crc;
    let mut rest = len;
    let mut power = 0;
    while rest != 0 {
        if rest & 1 == 1 {
            crc = multiply(crc, powers[power]);
        }
        rest >>= 1;
        power += 1;
    }
    crc
}

/// `ZEROS[k]` is x^(8 * 2^k): what 2^k zero bytes do to a checksum.
static ZEROS: [u32; 64] = powers(ONE >> 8);

/// `UNZEROS[k]` is x^(-8 * 2^k): it takes 2^k zero bytes back.
static UNZEROS: [u32; 64] = powers(unzero());

/// x^(-8). The polynomial ends with "1", so taking that away and dividing by x gives x^(-1); the
/// highest power, which is not written, becomes x^31.
const fn unzero() -> u32 {
    let inverse = POLYNOMIAL << 1 | 1;
    let squared = multiply(inverse, inverse);
    let fourth = multiply(squared, squared);
    multiply(fourth, fourth)
}

/// What `one` byte does, doubled each time. In the reflected order x^8 stands eight places down
/// from "1".
const fn powers(one: u32) -> [u32; 64] {
    let mut table = [0; 64];
    let mut power = one;
    let mut at = 0;
    while at < table.len() {
        table[at] = power;
        power = multiply(power, power);
        at += 1;
    }
    table
}

/// Multiplies two polynomials modulo the Castagnoli polynomial, without branches on the data.
const fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut b = b;
    let mut bit = 0;
    while bit < 32 {
        let take = ((a << bit) as i32 >> 31) as u32;
        product ^= b & take;
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
        bit += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::ids::{PartitionIndex, TopicId};

    #[test]
    fn the_sum_is_castagnolis() {
        assert_eq!(of(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn pieces_combine_to_the_whole_and_come_apart_again() {
        let bytes: Vec<u8> = (0..9_000_u32).map(|it| ((it * it) >> 5) as u8).collect();
        for len in [0, 1, 2, 3, 21, 61, 255, 256, 4096, 4097, 9_000] {
            for cut in [0, 1, 12, 21, 61, 1_000, len] {
                let cut = cut.min(len);
                let (head, tail) = bytes[..len].split_at(cut);
                let whole = of(&bytes[..len]);
                assert_eq!(combine(of(head), of(tail), tail.len()), whole);
                assert_eq!(without_head(of(head), whole, tail.len()), of(tail));
                assert_eq!(without_tail(of(tail), whole, tail.len()), of(head));
                assert_eq!(append(of(head), tail), whole);
            }
        }
    }

    #[test]
    fn the_same_bytes_elsewhere_have_another_sum() {
        let here = TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(3) };
        let there = TopicPartition { partition: PartitionIndex(4), ..here };
        let sum = |at, base, position| place(at, Offset(base), position, of(b"bytes"), 5);
        let one = sum(here, 0, 4096);
        assert_ne!(one, sum(there, 0, 4096));
        assert_ne!(one, sum(here, 1, 4096));
        assert_ne!(one, sum(here, 0, 8192));
        assert_eq!(one, sum(here, 0, 4096));
    }
}

//! Small harm done to good bytes: bits, bytes, numbers of every width, pieces cut, doubled or taken
//! from elsewhere.

use crate::Dice;

/// Changes made at once.
const CHANGES_MAX: usize = 4;
/// A piece that is cut, doubled or taken.
const PIECE_BYTES_MAX: usize = 32;
/// Doubling ends here, so that inputs do not grow without bound.
const BYTES_MAX: usize = 64 * 1024;

/// Numbers at which code goes wrong, as bytes.
const EDGES: &[&[u8]] = &[
    &[0],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x7f, 0xff],
    &[0x80, 0x00],
    &[0xff, 0xff],
    &[0xff, 0xfe],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xff; 8],
    // Varints: the largest of 32 bits, one bit more, one that does not end.
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x1f],
    &[0xff; 11],
];

/// Changes `bytes` in a few places; `other` gives pieces.
pub fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=dice.below(CHANGES_MAX) {
        change(dice, bytes, other);
    }
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let Some(last) = bytes.len().checked_sub(1) else {
        bytes.push(dice.byte());
        return;
    };
    let at = dice.below(last + 1);
    let piece = |dice: &mut Dice, of: &[u8]| {
        let from = dice.below(of.len());
        from..of.len().min(from + 1 + dice.below(PIECE_BYTES_MAX))
    };
    match dice.below(9) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.byte(),
        2 => bytes[at] = bytes[at].wrapping_add([1, 0xff][dice.below(2)]),
        3 => bytes.insert(at, dice.byte()),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(piece(dice, bytes))),
        6 if bytes.len() < BYTES_MAX => {
            let piece = bytes[piece(dice, bytes)].to_vec();
            bytes.splice(at..at, piece);
        }
        7 if !other.is_empty() && bytes.len() < BYTES_MAX => {
            let piece = other[piece(dice, other)].to_vec();
            let end = if dice.once_in(2) { at } else { bytes.len().min(at + piece.len()) };
            bytes.splice(at..end, piece);
        }
        _ => {
            let edge = *dice.one_of(EDGES);
            let end = bytes.len().min(at + edge.len());
            bytes.splice(at..end, edge.iter().copied());
        }
    }
}

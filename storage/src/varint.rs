//! Zig-zag variable-length integers, as records inside a batch use them.
//!
//! Reading takes bytes from the front of a slice and never looks past it; a number that does not
//! fit its type is refused rather than cut. Writing always uses the shortest form.

/// Bytes the longest 32-bit number takes.
const BYTES_32_MAX: u32 = 5;
/// Bytes the longest 64-bit number takes.
const BYTES_64_MAX: u32 = 10;

/// Takes a 32-bit number; `None` when the bytes end early or do not fit.
pub(crate) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    // Lengths and deltas are nearly always one or two bytes: the loop is for the rest.
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Some(i32::from(first >> 1) ^ -i32::from(first & 1));
    }
    if let [first, second, rest @ ..] = *bytes
        && *second < 0x80
    {
        *bytes = rest;
        let raw = u32::from(*first & 0x7f) | u32::from(*second) << 7;
        return Some((raw >> 1) as i32 ^ -((raw & 1) as i32));
    }
    let raw = u32::try_from(take_raw(bytes, BYTES_32_MAX)?).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes a 64-bit number; `None` when the bytes end early or do not fit.
pub(crate) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Some(i64::from(first >> 1) ^ -i64::from(first & 1));
    }
    let raw = take_raw(bytes, BYTES_64_MAX)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn take_raw(bytes: &mut &[u8], bytes_max: u32) -> Option<u64> {
    let mut value: u64 = 0;
    for at in 0..bytes_max {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let seven = u64::from(byte & 0x7f);
        let shift = 7 * at;
        if shift == 63 && 1 < seven {
            return None;
        }
        value |= seven << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_raw(out, u64::from((value << 1 ^ value >> 31) as u32));
}

pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_raw(out, (value << 1 ^ value >> 63) as u64);
}

fn put_raw(out: &mut Vec<u8>, mut value: u64) {
    while 0x7f < value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_they_were_written() {
        for bit in 0..64 {
            for near in [-1, 0, 1] {
                for sign in [1, -1] {
                    let value = (1_i64 << bit).wrapping_add(near).wrapping_mul(sign);
                    let mut out = Vec::new();
                    put_i64(&mut out, value);
                    assert!(out.len() <= 10);
                    assert_eq!(take_i64(&mut out.as_slice()), Some(value));
                    out.clear();
                    put_i32(&mut out, value as i32);
                    assert!(out.len() <= 5);
                    assert_eq!(take_i32(&mut out.as_slice()), Some(value as i32));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(take_i32(&mut &[][..]), None);
        assert_eq!(take_i32(&mut &[0x80][..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(take_i32(&mut &[0x80; 6][..]), None);
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        let mut too_wide = [0xff; 10];
        too_wide[9] = 2;
        assert_eq!(take_i64(&mut &too_wide[..]), None);
    }
}

//! What one send carries: nearly always a single slice, which then needs no memory of its own.

use std::ops::Deref;

use crate::buf::Slice;

/// Slices that leave one after another.
#[derive(Debug)]
pub struct Parts(Held);

#[derive(Debug)]
enum Held {
    One(Slice),
    Many(Vec<Slice>),
}

impl Parts {
    /// Drops the first `bytes`, and every part that is empty then.
    pub fn skip(&mut self, mut bytes: usize) {
        match &mut self.0 {
            Held::One(part) if bytes < part.len() => {
                if 0 < bytes {
                    *part = part.slice(bytes..);
                }
            }
            Held::One(part) => {
                assert_eq!(part.len(), bytes, "no more is skipped than there is");
                self.0 = Held::Many(Vec::new());
            }
            Held::Many(parts) => {
                parts.retain_mut(|part| {
                    let gone = bytes.min(part.len());
                    bytes -= gone;
                    if 0 < gone && gone < part.len() {
                        *part = part.slice(gone..);
                        return true;
                    }
                    gone < part.len()
                });
                assert_eq!(bytes, 0, "no more is skipped than there is");
            }
        }
    }
}

impl From<Slice> for Parts {
    fn from(part: Slice) -> Self {
        Self(Held::One(part))
    }
}

impl From<Vec<Slice>> for Parts {
    fn from(parts: Vec<Slice>) -> Self {
        Self(Held::Many(parts))
    }
}

impl Deref for Parts {
    type Target = [Slice];

    fn deref(&self) -> &[Slice] {
        match &self.0 {
            Held::One(part) => std::slice::from_ref(part),
            Held::Many(parts) => parts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Buf;

    fn slice(text: &str) -> Slice {
        let mut buf = Buf::unpooled(1);
        buf.put(text.as_bytes());
        buf.freeze()
    }

    #[track_caller]
    fn check(mut parts: Parts, bytes: usize, expect: &str) {
        parts.skip(bytes);
        let left: Vec<_> = parts.iter().map(|it| String::from_utf8_lossy(it)).collect();
        assert_eq!(left.join("|"), expect, "after {bytes}");
    }

    #[test]
    fn what_was_sent_is_skipped_across_parts() {
        let parts = || Parts::from(["ab", "", "cde", "f"].map(slice).to_vec());
        check(parts(), 0, "ab|cde|f");
        check(parts(), 1, "b|cde|f");
        check(parts(), 2, "cde|f");
        check(parts(), 4, "e|f");
        check(parts(), 6, "");
    }

    #[test]
    fn a_single_part_is_skipped_as_one_of_many_is() {
        check(slice("abc").into(), 0, "abc");
        check(slice("abc").into(), 2, "c");
        check(slice("abc").into(), 3, "");
        check(slice("").into(), 0, "");
    }
}

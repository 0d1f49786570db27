//! What happened, as one number: two runs are the same run if their traces are equal.
//!
//! Every submitted operation, completion and event goes in, with its time. Kept lines are for
//! people who look at one seed; the number does not depend on whether they are kept.

use std::fmt;

use super::chance::mix;
use crate::time::Nanos;

/// The running hash of a world, and its last lines when asked for.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// The number for everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Keeps a line per event from now on.
    pub fn keep_lines(&mut self) {
        self.lines.get_or_insert_default();
    }

    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// Notes one event. The text is built only when lines are kept; the words always count.
    pub(super) fn note(&mut self, now: Nanos, words: &[u64], text: fmt::Arguments<'_>) {
        self.events += 1;
        self.word(now.0);
        for &word in words {
            self.word(word);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:?} {text}"));
        }
    }

    fn word(&mut self, word: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ word.wrapping_add(0x9E37_79B9_7F4A_7C15));
    }
}

/// A number for some bytes. Four words at a time go their own ways, since one multiplication need not
/// wait for another: a simulation spends much of its time here.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let word = |it: &[u8]| u64::from_le_bytes(it.try_into().expect("eight bytes"));
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(ODD).rotate_left(29);
    let mut ways = [1u64, 2, 3, 4];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (way, at) in ways.iter_mut().zip((0..32).step_by(8)) {
            *way = step(*way, word(&block[at..at + 8]));
        }
    }
    let mut hash = ways.into_iter().fold(bytes.len() as u64, |hash, way| mix(hash ^ way));
    let mut words = blocks.remainder().chunks_exact(8);
    for it in &mut words {
        hash = mix(hash ^ word(it));
    }
    for &byte in words.remainder() {
        hash = mix(hash ^ u64::from(byte));
    }
    hash
}

/// A number for a name, so that it does not depend on where the name lies in memory.
pub(super) fn name(text: &str) -> u64 {
    digest(text.as_bytes())
}

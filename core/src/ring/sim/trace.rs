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

/// A number for some bytes.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(hash ^ u64::from_le_bytes(word.try_into().expect("eight bytes")));
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

//! Two kinds of time that must not be mixed: one that only moves forward, one that people read.

use std::fmt;
use std::ops::{Add, Sub};

/// Nanoseconds since some point before the lane started. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn micros(micros: u64) -> Self {
        Self(micros * 1_000)
    }

    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// The time from `earlier` to here, zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Add for Nanos {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl Sub for Nanos {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self(self.0.checked_sub(less.0).expect("a span of time is not negative"))
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Milliseconds since 1970, as Kafka's records count them. May jump either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMillis(pub i64);

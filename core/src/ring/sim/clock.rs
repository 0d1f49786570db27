//! A node's time of day: it drifts, it jumps, and it says nothing about the time that passed.

use crate::time::{Nanos, WallMillis};

/// When simulated worlds begin: some day in 2026.
const EPOCH_MS: i64 = 1_780_000_000_000;

/// Time of day of one node.
#[derive(Debug, Clone, Default)]
pub(super) struct WallClock {
    drift_ppm: i64,
    /// What the drift had added up to when it last changed, and when that was.
    shift_ms: i64,
    since: Nanos,
}

impl WallClock {
    pub(super) fn read(&self, now: Nanos) -> WallMillis {
        let real = i64::try_from(now.as_millis()).expect("worlds are short");
        WallMillis(EPOCH_MS + real + self.shift_ms + self.drifted(now))
    }

    pub(super) fn jump(&mut self, ms: i64) {
        self.shift_ms += ms;
    }

    pub(super) fn set_drift(&mut self, now: Nanos, ppm: i64) {
        self.shift_ms += self.drifted(now);
        self.since = now;
        self.drift_ppm = ppm;
    }

    fn drifted(&self, now: Nanos) -> i64 {
        let span = i64::try_from(now.since(self.since).as_millis()).expect("worlds are short");
        span * self.drift_ppm / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_changes_its_pace_but_not_its_past() {
        let mut clock = WallClock::default();
        let read = |clock: &WallClock, s| clock.read(Nanos::secs(s)).0 - EPOCH_MS;
        clock.set_drift(Nanos::secs(10), 100_000);
        assert_eq!((read(&clock, 10), read(&clock, 20)), (10_000, 21_000));
        clock.set_drift(Nanos::secs(20), -100_000);
        assert_eq!((read(&clock, 20), read(&clock, 30)), (21_000, 30_000));
        clock.jump(-3_600_000);
        assert_eq!(read(&clock, 30), 30_000 - 3_600_000);
    }
}

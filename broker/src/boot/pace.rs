//! How fast connections are taken. Pure.
//!
//! Each connection takes a moment of its own, so long that a second has as many as are allowed. Moments
//! may be taken a little ahead, so that a few who come together need not wait; not saved up for longer.

use corelane_core::time::Nanos;

/// How far ahead moments may be taken.
const AHEAD: Nanos = Nanos::millis(100);

/// From here on, whoever comes is taken.
pub(super) const NO_LIMIT: u64 = i32::MAX as u64;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The end of the last moment that was taken.
    taken_to: Nanos,
}

impl Pace {
    /// Takes a moment for one connection, or says when there is one.
    pub(super) fn take(&mut self, now: Nanos, per_second: u64) -> Result<(), Nanos> {
        if NO_LIMIT <= per_second {
            self.taken_to = Nanos::default();
            return Ok(());
        }
        let taken_to = self.taken_to.max(now);
        let moment = Nanos(Nanos::secs(1).0 / per_second.max(1));
        if now + AHEAD.max(moment) < taken_to + moment {
            return Err(Nanos(taken_to.0 + moment.0 - AHEAD.max(moment).0));
        }
        self.taken_to = taken_to + moment;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is told when comes then. Tells how many were taken in so many seconds.
    fn taken(pace: &mut Pace, from: Nanos, seconds: u64, per_second: u64) -> u64 {
        let (mut now, mut taken) = (from, 0);
        let end = from + Nanos::secs(seconds);
        while now < end {
            match pace.take(now, per_second) {
                Ok(()) => taken += 1,
                Err(at) => {
                    assert!(now < at, "told to come at a time that is past");
                    now = at;
                }
            }
        }
        taken
    }

    #[test]
    fn as_many_are_taken_as_are_allowed_and_a_tenth_of_a_second_at_once() {
        for per_second in [1, 2, 7, 10, 100, 999, 50_000] {
            let mut pace = Pace::default();
            let most = 10 * per_second + (per_second / 10).max(1);
            let all = taken(&mut pace, Nanos::secs(5), 10, per_second);
            assert!((10 * per_second..=most + 1).contains(&all), "{all} at {per_second}");
        }
        let mut pace = Pace::default();
        let now = Nanos::secs(5);
        let at_once = (0..1000).take_while(|_| pace.take(now, 200).is_ok()).count();
        assert_eq!(at_once, 20);
        // Silence is not saved up.
        let later = Nanos::secs(500);
        let at_once = (0..1000).take_while(|_| pace.take(later, 200).is_ok()).count();
        assert_eq!(at_once, 20);
    }

    #[test]
    fn without_a_limit_nobody_waits_and_a_change_holds_at_once() {
        let mut pace = Pace::default();
        let now = Nanos::secs(5);
        assert!((0..100_000).all(|_| pace.take(now, NO_LIMIT).is_ok()));
        assert_eq!(pace.take(now, 1), Ok(()));
        let at = pace.take(now, 1).expect_err("one a second");
        assert_eq!(at, Nanos::secs(6));
        assert!(pace.take(now, 1_000).expect_err("its moment is taken") < Nanos::secs(6));
        assert_eq!(pace.take(now, NO_LIMIT), Ok(()));
    }
}

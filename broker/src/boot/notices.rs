//! Lines that strangers can cause, said no faster than people can read them. Pure.

use corelane_core::time::Nanos;

/// Lines at once before the rest is held back.
const BURST: u32 = 10;

/// How often the burst is granted anew.
const EVERY: Nanos = Nanos::secs(1);

/// How many lines were said lately.
#[derive(Debug, Default)]
pub(super) struct Notices {
    since: Nanos,
    said: u32,
    held_back: u64,
}

impl Notices {
    /// The line as it may be said now, or nothing. The first line after some that were held back
    /// says how many those were.
    pub(super) fn say(&mut self, now: Nanos, line: impl FnOnce() -> String) -> Option<String> {
        if self.since + EVERY <= now {
            (self.since, self.said) = (now, 0);
        }
        if BURST <= self.said {
            self.held_back += 1;
            return None;
        }
        self.said += 1;
        match std::mem::take(&mut self.held_back) {
            0 => Some(line()),
            more => Some(format!("{} ({more} such lines before it were left out)", line())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_few_lines_that_say_how_many_are_missing() {
        let mut notices = Notices::default();
        let told: Vec<_> = (0..1000)
            .filter_map(|it| notices.say(Nanos::millis(it), || format!("line {it}")))
            .collect();
        assert_eq!(told.len(), 10);
        let next = notices.say(Nanos::millis(1000), || "late".to_owned());
        assert_eq!(next.as_deref(), Some("late (990 such lines before it were left out)"));
        let after = notices.say(Nanos::millis(1001), || "later".to_owned());
        assert_eq!(after.as_deref(), Some("later"));
    }
}

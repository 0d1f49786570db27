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

/// What people know of the room on the disk.
#[derive(Debug, Default)]
pub(super) struct Room {
    refused: u64,
    told_full: bool,
}

impl Room {
    /// What is to be said, now that so many appends were refused and the disk is full or not.
    pub(super) fn look(&mut self, full: bool, refused: u64) -> Option<&'static str> {
        let is_short = full || self.refused < refused;
        self.refused = refused;
        if is_short == self.told_full {
            return None;
        }
        self.told_full = is_short;
        Some(if is_short {
            "warning: the data disk is full but for a reserve: records are refused, reads and deletes go \
             on. Make room on it, and records are taken again"
        } else {
            "there is room on the data disk again, and records are taken"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_once_and_its_end_too() {
        let mut room = Room::default();
        let told =
            [(false, 0), (false, 1), (false, 2), (true, 2), (true, 9), (false, 9), (false, 9)].map(
                |(full, refused)| match room.look(full, refused) {
                    None => "",
                    Some(line) if line.starts_with("warning") => "full",
                    Some(_) => "room",
                },
            );
        assert_eq!(told, ["", "full", "", "", "", "room", ""]);
    }

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

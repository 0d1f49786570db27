//! What a thread saw, in seconds for the series, and as a whole for the verdict.
//!
//! A latency counts when its record was *due* inside the measured stretch, however late the answer
//! came: a broker that stalls until the end does not hide it. A rate counts what was *answered*
//! inside it.

use super::control::{Control, get};
use hdrhistogram::Histogram;
use std::fmt::Display;
use std::mem;

const DIGITS: u8 = 3;
/// What takes longer counts as this: an hour.
const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;

/// Latencies, in nanoseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, DIGITS).expect("good bounds")
}

/// One direction of traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) records: u64,
    /// Of keys and values; what surrounds them is the protocol's.
    pub(crate) bytes: u64,
}

impl Flow {
    pub(crate) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// One stretch of time.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) out: Flow,
    pub(crate) back: Flow,
    pub(crate) errors: u64,
    pub(crate) produce: Histogram<u64>,
    pub(crate) e2e: Histogram<u64>,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            out: Flow::default(),
            back: Flow::default(),
            errors: 0,
            produce: latencies(),
            e2e: latencies(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.out.add(other.out);
        self.back.add(other.back);
        self.errors += other.errors;
        self.produce.add(&other.produce).expect("all have the same bounds");
        self.e2e.add(&other.e2e).expect("all have the same bounds");
    }
}

/// A second of the series, as it is kept: a long run has many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Second {
    pub(crate) out: Flow,
    pub(crate) back: Flow,
    pub(crate) errors: u64,
    pub(crate) produce: Option<Points>,
    pub(crate) e2e: Option<Points>,
}

/// Median, ninety-ninth percentile and maximum, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Points {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |it| histogram.value_at_quantile(it);
        (!histogram.is_empty()).then(|| Self { p50: at(0.5), p99: at(0.99), max: histogram.max() })
    }
}

impl From<&Slot> for Second {
    fn from(slot: &Slot) -> Self {
        Self {
            out: slot.out,
            back: slot.back,
            errors: slot.errors,
            produce: Points::of(&slot.produce),
            e2e: Points::of(&slot.e2e),
        }
    }
}

/// What one thread saw.
pub(crate) struct Stats {
    pub(crate) second: Slot,
    pub(crate) whole: Slot,
    /// What went wrong, in words; the first few.
    pub(crate) complaints: Vec<String>,
    /// Batches that are not what was sent.
    pub(crate) corrupt: u64,
    /// Records that were due in the measured stretch and never sent.
    pub(crate) unsent: u64,
    /// Records of batches that were refused and sent again.
    pub(crate) retried: u64,
}

const COMPLAINTS_MAX: usize = 8;

/// The measured stretch as it is known now.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    from: u64,
    to: u64,
}

impl Window {
    pub(crate) fn of(control: &Control) -> Self {
        Self { from: get(&control.measure_from), to: get(&control.measure_to) }
    }

    fn has(self, nanos: u64) -> bool {
        self.from <= nanos && nanos < self.to
    }
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            second: Slot::new(),
            whole: Slot::new(),
            complaints: Vec::new(),
            corrupt: 0,
            unsent: 0,
            retried: 0,
        }
    }

    pub(crate) fn take_second(&mut self) -> Slot {
        mem::replace(&mut self.second, Slot::new())
    }

    pub(crate) fn produced(&mut self, window: Window, now: u64, due: &[u64], bytes: u64) {
        let flow = Flow { records: due.len() as u64, bytes };
        self.second.out.add(flow);
        if window.has(now) {
            self.whole.out.add(flow);
        }
        for due in due {
            let took = now.saturating_sub(*due);
            self.second.produce.saturating_record(took);
            if window.has(*due) {
                self.whole.produce.saturating_record(took);
            }
        }
    }

    /// These were due and never sent: they waited at least until `now`.
    pub(crate) fn unsent(&mut self, window: Window, now: u64, due: impl Iterator<Item = u64>) {
        for due in due.filter(|it| window.has(*it)) {
            self.unsent += 1;
            self.whole.produce.saturating_record(now.saturating_sub(due));
        }
    }

    pub(crate) fn complain(&mut self, what: &impl Display) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what.to_string());
        }
    }

    pub(crate) fn failed(&mut self, records: u64) {
        self.second.errors += records;
        self.whole.errors += records;
    }

    /// A record was read that was due at `due`.
    pub(crate) fn consumed_one(&mut self, window: Window, now: u64, due: u64) {
        let took = now.saturating_sub(due);
        self.second.e2e.saturating_record(took);
        if window.has(due) {
            self.whole.e2e.saturating_record(took);
        }
    }

    pub(crate) fn consumed(&mut self, window: Window, now: u64, flow: Flow) {
        self.second.back.add(flow);
        if window.has(now) {
            self.whole.back.add(flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_due_in_time_counts_however_late_its_answer_is() {
        let mut stats = Stats::new();
        let window = Window { from: 1_000, to: 2_000 };
        stats.produced(window, 9_000, &[999, 1_000, 1_999, 2_000], 40);
        assert_eq!(stats.whole.produce.len(), 2);
        assert_eq!(stats.second.produce.len(), 4);
        assert_eq!(stats.whole.out, Flow::default(), "answered after the stretch");
        stats.produced(window, 1_500, &[500], 10);
        assert_eq!(stats.whole.out, Flow { records: 1, bytes: 10 });
        assert_eq!(stats.whole.produce.len(), 2, "due before it");
    }
}

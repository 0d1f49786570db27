//! What all threads of a run share: the clock, the phase, and how far it has come.
//!
//! Times are nanoseconds since the run began, the same for all threads. The coordinator writes the
//! phase, everybody reads it; the counts are written once for each answer, not for each record.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A time that has not been decided yet.
pub(crate) const UNDECIDED: u64 = u64::MAX;

pub(crate) struct Control {
    origin: Instant,
    wall_origin_ms: i64,
    /// When records begin to be due.
    pub(crate) start: AtomicU64,
    /// No record is due from here on.
    pub(crate) produce_until: AtomicU64,
    /// Records due from here and before `measure_to` are those that count.
    pub(crate) measure_from: AtomicU64,
    pub(crate) measure_to: AtomicU64,
    /// Producers leave the schedule and send what they can.
    pub(crate) full_speed: AtomicBool,
    /// Producers have little under way while they do so, so that the schedule finds nothing in its way.
    pub(crate) warming: AtomicBool,
    /// Consumers rest.
    pub(crate) paused: AtomicBool,
    /// Everybody ends.
    pub(crate) stop: AtomicBool,
    /// Records acknowledged, and records read, by all.
    pub(crate) acked: AtomicU64,
    pub(crate) seen: AtomicU64,
}

impl Control {
    pub(crate) fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            origin: Instant::now(),
            wall_origin_ms: i64::try_from(wall.as_millis()).unwrap_or(0),
            start: AtomicU64::new(UNDECIDED),
            produce_until: AtomicU64::new(UNDECIDED),
            measure_from: AtomicU64::new(UNDECIDED),
            measure_to: AtomicU64::new(UNDECIDED),
            full_speed: AtomicBool::new(false),
            warming: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(UNDECIDED)
    }

    /// What a clock on the wall shows at `nanos`.
    pub(crate) fn wall_ms(&self, nanos: u64) -> i64 {
        self.wall_origin_ms + i64::try_from(nanos / 1_000_000).unwrap_or(0)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

pub(crate) fn get(time: &AtomicU64) -> u64 {
    time.load(Ordering::Acquire)
}

pub(crate) fn set(time: &AtomicU64, nanos: u64) {
    time.store(nanos, Ordering::Release);
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(UNDECIDED)
}

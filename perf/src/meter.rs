//! Counts operations and their latencies for a stretch of time, after a shorter one that does not count.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// No operation we measure takes longer; one that does is recorded as this.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;

/// Part of the measured time that is run before it, unmeasured.
const WARM_UP_PART: u32 = 5;

/// A stretch of time that is measured.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) measured: Duration,
}

impl Stretch {
    pub(crate) fn warm_up(self) -> Duration {
        self.measured / WARM_UP_PART
    }
}

pub(crate) struct Meter {
    from: Instant,
    latencies: Histogram<u64>,
}

/// What a meter saw.
pub(crate) struct Seen {
    pub(crate) elapsed: Duration,
    pub(crate) operations: u64,
    latencies: Histogram<u64>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)
            .expect("the bounds are in order and the digits few");
        Self { from: Instant::now(), latencies }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NANOS_MAX);
        self.latencies.saturating_record(nanos);
    }

    pub(crate) fn finish(self) -> Seen {
        Seen {
            elapsed: self.from.elapsed(),
            operations: self.latencies.len(),
            latencies: self.latencies,
        }
    }
}

impl Seen {
    pub(crate) fn micros_at(&self, quantile: f64) -> f64 {
        Duration::from_nanos(self.latencies.value_at_quantile(quantile)).as_secs_f64() * 1e6
    }

    pub(crate) fn per_second(&self, amount: f64) -> f64 {
        amount / self.elapsed.as_secs_f64()
    }
}

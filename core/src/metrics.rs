//! Numbers a lane keeps about itself. Plain values: written by their lane without locks or atomics,
//! read by asking the lane for a copy.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use hdrhistogram::Histogram;

use crate::time::Nanos;

/// The longest latency told apart from longer ones.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Significant digits of a latency.
const DIGITS: u8 = 2;

/// Something that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Rc<Cell<u64>>);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Something that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Rc<Cell<i64>>);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    pub fn add(&self, more: i64) {
        self.0.set(self.0.get() + more);
    }

    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// How long something takes, in microseconds, to two digits: a lane keeps many of these.
#[derive(Clone, Debug)]
pub struct Latency(Rc<RefCell<Histogram<u64>>>);

impl Default for Latency {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("valid bounds");
        Self(Rc::new(RefCell::new(histogram)))
    }
}

impl Latency {
    pub fn record(&self, span: Nanos) {
        self.0.borrow_mut().saturating_record(span.as_micros());
    }

    /// A copy of everything recorded.
    #[must_use]
    pub fn snapshot(&self) -> Histogram<u64> {
        self.0.borrow().clone()
    }
}

/// One number, copied.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Counter(u64),
    Gauge(i64),
    Latency(Histogram<u64>),
}

/// The numbers of one lane by name.
#[derive(Clone, Default)]
pub struct Metrics(Rc<RefCell<BTreeMap<String, Metric>>>);

enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Latency(Latency),
}

impl Metrics {
    /// The counter of this name, made at first use.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        let mut all = self.0.borrow_mut();
        match all.entry(name.to_owned()).or_insert_with(|| Metric::Counter(Counter::default())) {
            Metric::Counter(it) => it.clone(),
            Metric::Gauge(_) | Metric::Latency(_) => panic!("{name} is not a counter"),
        }
    }

    /// The gauge of this name, made at first use.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Gauge {
        let mut all = self.0.borrow_mut();
        match all.entry(name.to_owned()).or_insert_with(|| Metric::Gauge(Gauge::default())) {
            Metric::Gauge(it) => it.clone(),
            Metric::Counter(_) | Metric::Latency(_) => panic!("{name} is not a gauge"),
        }
    }

    /// The latency of this name, made at first use.
    #[must_use]
    pub fn latency(&self, name: &str) -> Latency {
        let mut all = self.0.borrow_mut();
        match all.entry(name.to_owned()).or_insert_with(|| Metric::Latency(Latency::default())) {
            Metric::Latency(it) => it.clone(),
            Metric::Counter(_) | Metric::Gauge(_) => panic!("{name} is not a latency"),
        }
    }

    /// All of them, copied, in the order of their names.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, Value)> {
        let value = |it: &Metric| match it {
            Metric::Counter(it) => Value::Counter(it.get()),
            Metric::Gauge(it) => Value::Gauge(it.get()),
            Metric::Latency(it) => Value::Latency(it.snapshot()),
        };
        self.0.borrow().iter().map(|(name, it)| (name.clone(), value(it))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_a_copy_in_the_order_of_names() {
        let metrics = Metrics::default();
        metrics.latency("commit").record(Nanos::micros(120));
        metrics.counter("appends").add(2);
        metrics.gauge("open").add(3);
        metrics.gauge("open").add(-1);
        let before = metrics.snapshot();
        metrics.counter("appends").add(1);
        let names: Vec<_> = before.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(names, ["appends", "commit", "open"]);
        assert_eq!(before[0].1, Value::Counter(2));
        assert_eq!(before[2].1, Value::Gauge(2));
        let Value::Latency(commit) = &before[1].1 else { panic!("a latency") };
        assert_eq!((commit.len(), commit.max()), (1, 120));
    }
}

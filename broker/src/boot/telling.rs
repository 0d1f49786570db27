//! How a lane is doing, in lines for people: on SIGUSR1, and when the lane ends.
//!
//! Latencies are told as count, median, 99th, 99.9th percentile and maximum, in microseconds. What
//! never happened is left out.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corelane_core::lane::Lane;
use corelane_core::metrics::{Metrics, Value};
use corelane_core::sync::Event;

use super::report::Reporter;

/// Tells whenever `asked` has grown, for as long as the lane runs.
pub(super) async fn tell_when_asked(
    lane: Lane,
    metrics: Metrics,
    asked: Arc<AtomicU64>,
    reporter: Reporter,
) {
    let woken = Event::new(&lane);
    let ring = woken.clone();
    lane.on_wake(Rc::new(move || ring.notify()));
    let mut told = asked.load(Ordering::SeqCst);
    loop {
        let seen = woken.seen();
        let now = asked.load(Ordering::SeqCst);
        if told < now {
            told = now;
            tell(&lane, &metrics, &reporter);
        }
        woken.past(seen).await;
    }
}

/// Tells everything once.
pub(super) fn tell(lane: &Lane, metrics: &Metrics, reporter: &Reporter) {
    let counts = lane.counts();
    let id = lane.id().0;
    reporter.line(format!(
        "lane {id}: {} turns, {} polls, {} completions, ring full {} times, {} tasks",
        counts.turns,
        counts.polls,
        counts.completions,
        counts.ring_full,
        lane.tasks_alive()
    ));
    let [serving, replication, background] = counts.busy_ns.map(|it| it / 1_000_000);
    reporter.line(format!(
        "lane {id}: busy for {serving} ms serving, {replication} ms replicating, \
         {background} ms in the background"
    ));
    if let Some(worst) = &counts.worst_stall {
        reporter.line(format!(
            "lane {id}: {} stalls, the worst of {} us in {}",
            counts.stalls,
            worst.ns / 1_000,
            worst.task
        ));
    }
    let pool = lane.pool().stats();
    reporter.line(format!(
        "lane {id}: {} of {} KiB of memory lent, {} KiB idle, {} times refused",
        pool.lent_bytes >> 10,
        pool.budget_bytes >> 10,
        pool.idle_bytes >> 10,
        pool.refused
    ));
    let (_, ring) = lane.ring_facts();
    let ring = ring.iter().map(|(name, count)| format!("{name} {count}"));
    reporter.line(format!("lane {id}: ring: {}", ring.collect::<Vec<_>>().join(", ")));
    for (name, value) in metrics.snapshot() {
        if let Some(line) = line(&name, &value) {
            reporter.line(format!("lane {id}: {line}"));
        }
    }
}

fn line(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Counter(0) | Value::Gauge(0) => None,
        Value::Counter(it) => Some(format!("{name} {it}")),
        Value::Gauge(it) => Some(format!("{name} {it}")),
        Value::Latency(it) if it.is_empty() => None,
        Value::Latency(it) => Some(format!(
            "{name} {} times, p50 {} p99 {} p99.9 {} max {} us",
            it.len(),
            it.value_at_quantile(0.5),
            it.value_at_quantile(0.99),
            it.value_at_quantile(0.999),
            it.max()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::time::Nanos;

    #[test]
    fn what_never_happened_is_not_told() {
        let metrics = Metrics::default();
        let never = metrics.counter("never");
        metrics.counter("twice").add(2);
        metrics.latency("commit").record(Nanos::micros(120));
        let _unused = metrics.latency("idle");
        assert_eq!(never.get(), 0);
        let snapshot = metrics.snapshot();
        let told: Vec<_> = snapshot.iter().filter_map(|(name, it)| line(name, it)).collect();
        assert_eq!(told, ["commit 1 times, p50 120 p99 120 p99.9 120 max 120 us", "twice 2"]);
    }
}

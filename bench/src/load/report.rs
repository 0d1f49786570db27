//! What a run was, as a line of JSON and as a few lines for people.
//!
//! The fields of the line are an agreement with whoever reads it: they are always there, and `null`
//! when nobody could know. What is more stands under `extra`.

use super::host::{self, Used};
use super::options::Labels;
use super::stats::{Points, Second, Slot};
use super::verify::Verdict;
use super::workload::{Rate, Workload};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

const SCHEMA: &str = "corelane-bench/1";
const MEGABYTE: f64 = 1e6;
const GIB: f64 = (1u64 << 30) as f64;
/// The curve of a latency has so many points for each halving of what is left.
const CURVE_TICKS: u32 = 2;

/// What the broker's process used, when it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BrokerUse {
    pub(crate) used: Used,
    pub(crate) rss_max_bytes: u64,
}

/// How a backlog was built and drained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backlog {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) build: Duration,
    /// None: it was still there when the run ended.
    pub(crate) drain: Option<Duration>,
}

/// Everything that was measured.
pub(crate) struct Results {
    pub(crate) workload: Workload,
    pub(crate) labels: Labels,
    pub(crate) seconds: f64,
    pub(crate) whole: Slot,
    pub(crate) series: Vec<Second>,
    /// The second the measured stretch begins with.
    pub(crate) measured_from: usize,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) corrupt: u64,
    pub(crate) unsent: u64,
    pub(crate) retried: u64,
    pub(crate) complaints: Vec<String>,
    pub(crate) generator_cpu_s: f64,
    pub(crate) threads: usize,
    pub(crate) broker: Option<BrokerUse>,
    pub(crate) backlog: Option<Backlog>,
    pub(crate) joined: Vec<Duration>,
    pub(crate) prepared: Duration,
    pub(crate) drained: bool,
    pub(crate) machine: String,
    pub(crate) commit: String,
}

impl Results {
    /// Whether what came out is what went in.
    pub(crate) fn is_sound(&self) -> bool {
        let verdict = self.verdict.unwrap_or_default();
        verdict == Verdict::default() && self.corrupt == 0 && self.whole.errors == 0
    }

    pub(crate) fn json(&self) -> Value {
        let (out, back) = (self.whole.out, self.whole.back);
        let used = self.broker.map(|it| it.used);
        let moved = (out.bytes + back.bytes) as f64 / GIB;
        let per_gib = used.filter(|_| 0.0 < moved).map(|it| it.cpu_s / moved);
        json!({
            "schema": SCHEMA,
            "subject": self.labels.subject,
            "subject_version": self.labels.subject_version,
            "workload": self.workload.name,
            "round": self.labels.round,
            "ack_means": self.labels.ack_means,
            "seconds": self.seconds,
            "offered_rate": match self.workload.rate { Rate::Of(rate) => Some(rate), Rate::Max => None },
            "records_out": out.records,
            "records_in": back.records,
            "mb_out": out.bytes as f64 / MEGABYTE,
            "mb_in": back.bytes as f64 / MEGABYTE,
            "produce_us": latency(&self.whole.produce),
            "e2e_us": latency(&self.whole.e2e),
            "broker_cpu_s": used.map(|it| it.cpu_s),
            "broker_cpu_s_per_gib": per_gib,
            "rss_max_bytes": self.broker.map(|it| it.rss_max_bytes),
            "ctx_switches": used.map(|it| it.ctx_switches),
            "disk_write_bytes": used.map(|it| it.disk_write_bytes),
            "disk_flushes": used.map(|it| it.disk_flushes),
            "errors": self.whole.errors,
            "lost": self.verdict.map(|it| it.lost),
            "duplicate": self.verdict.map(|it| it.duplicate),
            "disordered": self.verdict.map(|it| it.disordered),
            "machine": self.machine,
            "commit": self.commit,
            "extra": self.extra(),
        })
    }

    fn extra(&self) -> Value {
        let series: Vec<_> = self.series.iter().map(second).collect();
        json!({
            "corrupt": self.corrupt,
            "unsent": self.unsent,
            "retried": self.retried,
            "complaints": self.complaints,
            "drained": self.drained,
            "warm_up_s": self.workload.warm_up.as_secs_f64(),
            "broker_compiler_cpu_s": self.broker.map(|it| it.used.compiler_cpu_s),
            "generator_cpu_s": self.generator_cpu_s,
            "generator_cpu_us_per_record": self.generator_us_per_record(),
            "generator_threads": self.threads,
            "prepare_s": self.prepared.as_secs_f64(),
            "backlog": self.backlog.map(|it| json!({
                "bytes": it.bytes,
                "records": it.records,
                "build_s": it.build.as_secs_f64(),
                "drain_s": it.drain.map(|it| it.as_secs_f64()),
            })),
            "group_join_ms": self.joined.iter().max().map(|_| json!({
                "first": self.joined.iter().min().map(|it| it.as_secs_f64() * 1e3),
                "last": self.joined.iter().max().map(|it| it.as_secs_f64() * 1e3),
                "members": self.joined.len(),
            })),
            "measured_from_second": self.measured_from,
            "series": series,
            "produce_curve_us": curve(&self.whole.produce),
            "e2e_curve_us": curve(&self.whole.e2e),
        })
    }

    fn generator_us_per_record(&self) -> Option<f64> {
        let records = self.whole.out.records + self.whole.back.records;
        (0 < records).then(|| self.generator_cpu_s * 1e6 / records as f64)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into memory does not fail.
        let mut line = |it: String| writeln!(text, "{it}").expect("memory takes text");
        let offered = match self.workload.rate {
            Rate::Of(rate) => format!("{rate} records/s offered"),
            Rate::Max => "as fast as it goes".to_owned(),
        };
        line(format!("{}: {offered}, {:.1} s measured", self.workload.name, self.seconds));
        let flow = |records: u64, bytes: u64| {
            let seconds = self.seconds.max(f64::MIN_POSITIVE);
            let (rate, mb) = (records as f64 / seconds, bytes as f64 / MEGABYTE / seconds);
            format!("{records} records, {rate:.0}/s, {mb:.1} MB/s")
        };
        line(format!("  produced   {}", flow(self.whole.out.records, self.whole.out.bytes)));
        line(format!("  consumed   {}", flow(self.whole.back.records, self.whole.back.bytes)));
        for (name, histogram) in [("produce", &self.whole.produce), ("end to end", &self.whole.e2e)]
        {
            if !histogram.is_empty() {
                line(format!("  {name:<10} {}", percentiles(histogram)));
            }
        }
        if let Some(it) = self.backlog {
            let drain = it.drain.map_or("not drained".to_owned(), |drain| {
                let rate = it.bytes as f64 / MEGABYTE / drain.as_secs_f64();
                format!("drained in {:.1} s ({rate:.1} MB/s)", drain.as_secs_f64())
            });
            let (mb, build) = (it.bytes as f64 / MEGABYTE, it.build.as_secs_f64());
            line(format!("  backlog    {mb:.1} MB built in {build:.1} s, {drain}"));
        }
        if let Some(last) = self.joined.iter().max() {
            let last = last.as_secs_f64() * 1e3;
            line(format!(
                "  groups     {} members joined, the last after {last:.0} ms",
                self.joined.len()
            ));
        }
        if let Some(it) = self.broker {
            let rss = it.rss_max_bytes as f64 / MEGABYTE;
            line(format!(
                "  broker     {:.2} s of CPU, {rss:.1} MB resident at most",
                it.used.cpu_s
            ));
            if 0.0 < it.used.compiler_cpu_s {
                let compilers = it.used.compiler_cpu_s;
                line(format!(
                    "             of which its compilers {compilers:.2} s: it is not warm"
                ));
            }
        }
        let each = self.generator_us_per_record().unwrap_or(0.0);
        line(format!(
            "  generator  {:.2} s of CPU, {each:.3} us for each record, {} threads",
            self.generator_cpu_s, self.threads
        ));
        match self.verdict {
            Some(it) => line(format!(
                "  verified   {} lost, {} duplicate, {} disordered, {} corrupt, {} errors",
                it.lost, it.duplicate, it.disordered, self.corrupt, self.whole.errors
            )),
            None => line(format!("  errors     {}", self.whole.errors)),
        }
        if 0 < self.unsent {
            line(format!("  overloaded {} records were due and never sent", self.unsent));
        }
        if 0 < self.retried {
            line(format!("  refused    {} records were sent again", self.retried));
        }
        if !self.drained {
            line("  the consumers did not reach the end".to_owned());
        }
        for it in &self.complaints {
            line(format!("  ! {it}"));
        }
        text
    }
}

/// The line of a run that came to nothing: what was asked, that it failed, and why.
pub(crate) fn nothing(workload: &str, labels: &Labels, why: &str) -> Value {
    let mut line = json!({
        "schema": SCHEMA,
        "subject": labels.subject,
        "subject_version": labels.subject_version,
        "workload": workload,
        "round": labels.round,
        "ack_means": labels.ack_means,
        "errors": 1,
        "machine": host::machine(),
        "commit": host::commit(),
        "extra": {"failed": why},
    });
    for field in NOT_KNOWN {
        line[*field] = Value::Null;
    }
    line
}

/// What a run that came to nothing does not know.
const NOT_KNOWN: &[&str] = &[
    "seconds",
    "offered_rate",
    "records_out",
    "records_in",
    "mb_out",
    "mb_in",
    "produce_us",
    "e2e_us",
    "broker_cpu_s",
    "broker_cpu_s_per_gib",
    "rss_max_bytes",
    "ctx_switches",
    "disk_write_bytes",
    "disk_flushes",
    "lost",
    "duplicate",
    "disordered",
];

const POINTS: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn latency(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let mut points: serde_json::Map<String, Value> = POINTS
        .iter()
        .map(|(name, at)| ((*name).to_owned(), json!(micros(histogram.value_at_quantile(*at)))))
        .collect();
    points.insert("max".to_owned(), json!(micros(histogram.max())));
    points.into()
}

/// Pairs of quantile and latency, finer towards the end.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let points = histogram.iter_quantiles(CURVE_TICKS);
    points.map(|it| (it.quantile(), micros(it.value_iterated_to()))).collect()
}

fn second(it: &Second) -> Value {
    let at = |points: Option<Points>, of: fn(Points) -> u64| points.map(|it| micros(of(it)));
    json!({
        "records_out": it.out.records,
        "records_in": it.back.records,
        "mb_out": it.out.bytes as f64 / MEGABYTE,
        "mb_in": it.back.bytes as f64 / MEGABYTE,
        "errors": it.errors,
        "produce_p50_us": at(it.produce, |it| it.p50),
        "produce_p99_us": at(it.produce, |it| it.p99),
        "produce_max_us": at(it.produce, |it| it.max),
        "e2e_p50_us": at(it.e2e, |it| it.p50),
        "e2e_p99_us": at(it.e2e, |it| it.p99),
        "e2e_max_us": at(it.e2e, |it| it.max),
    })
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = String::new();
    for (name, at) in POINTS {
        let ms = micros(histogram.value_at_quantile(at)) / 1e3;
        write!(text, "{name} {ms:.3}  ").expect("memory takes text");
    }
    format!("{text}max {:.3} ms", micros(histogram.max()) / 1e3)
}

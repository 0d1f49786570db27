//! What was promised, and whether it was kept: each goal is a ratio of two medians of the same rounds.

use super::set::{
    CATCH_UP, END_TO_END, MAX_1KB_16, MAX_1KB_1000, MAX_100B_16, MAX_100B_1000, NO_CATCH_UP,
    ONE_IN_FLIGHT, PRODUCE_16, PRODUCE_1000, PRODUCE_10000, SMALL_1KB, SMALL_100B, TAIL,
};
use super::summary::{BARE, HELD, Summary, aligned, short};

/// One number of a summary: a workload, on which cores, who, and which metric.
#[derive(Debug, Clone, Copy)]
struct Figure {
    workload: &'static str,
    cores: &'static str,
    subject: &'static str,
    metric: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

struct Goal {
    name: &'static str,
    ours: Figure,
    theirs: Figure,
    wanted: Wanted,
}

use Wanted::{AtLeast, AtMost};

const OURS: &str = "corelane";
const KAFKA: &str = "kafka";
const FLUSHED: &str = "kafka-flush";
const SPLIT: &str = "split";
const SHARED: &str = "shared";

const fn figure(
    workload: &'static str,
    cores: &'static str,
    subject: &'static str,
    metric: &'static str,
) -> Figure {
    Figure { workload, cores, subject, metric }
}

/// The same workload and metric, ours and a peer's.
const fn beside(
    name: &'static str,
    (workload, cores): (&'static str, &'static str),
    peer: &'static str,
    metric: &'static str,
    wanted: Wanted,
) -> Goal {
    let ours = figure(workload, cores, OURS, metric);
    Goal { name, ours, theirs: figure(workload, cores, peer, metric), wanted }
}

/// Ours under one workload and under another.
const fn within(
    name: &'static str,
    workload: &'static str,
    other: &'static str,
    metric: &'static str,
    wanted: Wanted,
) -> Goal {
    let ours = figure(workload, SPLIT, OURS, metric);
    Goal { name, ours, theirs: figure(other, SPLIT, OURS, metric), wanted }
}

const SIXTH: f64 = 1.0 / 6.0;
const THIRD: f64 = 1.0 / 3.0;
const WIDE: (&str, &str) = (PRODUCE_16, SPLIT);
const TOGETHER: (&str, &str) = (PRODUCE_16, SHARED);

const GOALS: &[Goal] = &[
    beside("1 KiB, 16 partitions: throughput", WIDE, KAFKA, "produced", AtLeast(2.0)),
    beside("1 KiB, 16 partitions: CPU", WIDE, KAFKA, "broker CPU", AtMost(SIXTH)),
    beside("the same on shared cores: throughput", TOGETHER, KAFKA, "produced", AtLeast(2.0)),
    beside("the same on shared cores: CPU", TOGETHER, KAFKA, "broker CPU", AtMost(SIXTH)),
    beside("to flushed: throughput", WIDE, FLUSHED, "produced", AtLeast(3.0)),
    beside("to flushed: CPU", WIDE, FLUSHED, "broker CPU", AtMost(0.1)),
    beside("to flushed, shared cores: throughput", TOGETHER, FLUSHED, "produced", AtLeast(3.0)),
    beside("to flushed, shared cores: CPU", TOGETHER, FLUSHED, "broker CPU", AtMost(0.1)),
    beside(
        "to flushed: 1 KiB batches, 1,000 partitions",
        (MAX_1KB_1000, SPLIT),
        FLUSHED,
        "produced",
        AtLeast(15.0),
    ),
    beside(
        "1 KiB, 1,000 partitions, same rate: p99",
        (SMALL_1KB, SPLIT),
        KAFKA,
        "produce p99",
        AtMost(0.1),
    ),
    beside(
        "100 B, 1,000 partitions, same rate: p99",
        (SMALL_100B, SPLIT),
        KAFKA,
        "produce p99",
        AtMost(0.1),
    ),
    within("1 KiB batches: 1,000 to 16", MAX_1KB_1000, MAX_1KB_16, "produced", AtLeast(0.8)),
    within("100 B records: 1,000 to 16", MAX_100B_1000, MAX_100B_16, "produced", AtLeast(0.8)),
    within("1 KiB: 10,000 to 1,000", PRODUCE_10000, PRODUCE_1000, "produced", AtLeast(0.7)),
    Goal {
        name: "one in flight: p50 to echo + 1.3 write",
        ours: figure(ONE_IN_FLIGHT, SPLIT, OURS, "produce p50"),
        theirs: figure(ONE_IN_FLIGHT, SPLIT, OURS, BARE),
        wanted: AtMost(1.0),
    },
    beside("one in flight: p99.9", (ONE_IN_FLIGHT, SPLIT), KAFKA, "produce p99.9", AtMost(0.1)),
    beside("end to end, 20 MB/s: p99", (END_TO_END, SPLIT), KAFKA, "end to end p99", AtMost(THIRD)),
    beside(
        "end to end, 20 MB/s: p99.9",
        (END_TO_END, SPLIT),
        KAFKA,
        "end to end p99.9",
        AtMost(0.2),
    ),
    beside(
        "tail consume for each CPU second",
        (TAIL, SPLIT),
        KAFKA,
        "consumed for CPU",
        AtLeast(2.0),
    ),
    within("cold catch-up: p99 to without", CATCH_UP, NO_CATCH_UP, "produce p99", AtMost(1.5)),
    beside("memory, idle", WIDE, KAFKA, "memory idle", AtMost(0.125)),
    beside("memory, 1 KiB over 16 partitions", WIDE, KAFKA, "memory", AtMost(THIRD)),
    beside("start", WIDE, KAFKA, "start", AtMost(0.05)),
];

/// A line of the table: the goal, ours, theirs, the ratio, what was wanted, and what came of it.
pub(super) type Row = [String; 6];

pub(super) const HEAD: [&str; 6] = ["goal", "ours", "theirs", "ratio", "wanted", ""];

/// Every goal of which at least one figure is there; none, when no workload of the set was run.
pub(super) fn rows(summary: &Summary) -> Vec<Row> {
    GOALS.iter().filter_map(|it| row(it, summary)).collect()
}

fn row(goal: &Goal, summary: &Summary) -> Option<Row> {
    let of = |it: Figure| summary.figure(it.workload, it.cores, it.subject, it.metric);
    let (ours, theirs) = (of(goal.ours), of(goal.theirs));
    if ours.is_none() && theirs.is_none() {
        return None;
    }
    let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs).filter(|it| it.is_finite());
    let (wanted, reached) = match goal.wanted {
        AtLeast(least) => (format!(">= {}", short(least)), ratio.map(|it| least <= it)),
        AtMost(most) => (format!("<= {}", short(most)), ratio.map(|it| it <= most)),
    };
    let mut verdict = match reached {
        Some(true) => "reached",
        Some(false) => "missed",
        None => "not measured",
    }
    .to_owned();
    // Who does not keep up with a rate has the latency of a queue that only grows.
    let once =
        goal.ours.workload == goal.theirs.workload && goal.ours.subject == goal.theirs.subject;
    for it in [goal.ours, goal.theirs].into_iter().skip(usize::from(once)) {
        let held = summary.figure(it.workload, it.cores, it.subject, HELD);
        if let Some(held) = held.filter(|it| *it < 98.0) {
            verdict += &format!("; {} held {held:.0} % of the rate", it.subject);
        }
    }
    let unit = super::summary::unit(goal.ours.metric);
    let shown = |it: Option<f64>| match it {
        Some(it) => format!("{} {unit}", short(it)),
        None => "-".to_owned(),
    };
    let ratio = ratio.map_or("-".to_owned(), short);
    Some([goal.name.to_owned(), shown(ours), shown(theirs), ratio, wanted, verdict])
}

/// The table for a terminal.
pub(super) fn text(rows: &[Row]) -> String {
    let head = HEAD.map(str::to_owned).to_vec();
    let table: Vec<_> = std::iter::once(head).chain(rows.iter().map(|it| it.to_vec())).collect();
    let kept = rows.iter().filter(|it| it[5].starts_with("reached")).count();
    format!("\n{}{kept} of {} goals reached\n", aligned(&table, &[0, 5]), rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line(workload: &str, subject: &str, mb_out: f64, records: u64) -> Value {
        json!({
            "workload": workload, "subject": subject, "round": 1, "seconds": 10.0,
            "offered_rate": if workload == END_TO_END { json!(100.0) } else { Value::Null },
            "mb_out": mb_out, "records_out": records, "broker_cpu_s_per_gib": 2.0,
            "e2e_us": {"p50": 100.0, "p99": mb_out * 1e3, "p999": 9e3},
            "extra": {"cores": "split"},
        })
    }

    #[test]
    fn goals_are_judged_by_medians_and_silent_about_what_was_not_run() {
        let lines = [
            line(PRODUCE_16, OURS, 500.0, 1_000),
            line(PRODUCE_16, KAFKA, 200.0, 1_000),
            line(END_TO_END, OURS, 1.0, 1_000),
            line(END_TO_END, KAFKA, 9.0, 500),
            line(PRODUCE_10000, OURS, 9.0, 500),
        ];
        let rows = rows(&Summary::of(&lines));
        let said = |goal: &str| {
            let row = rows.iter().find(|it| it[0] == goal).expect("it was run");
            row[1..].join(" | ")
        };
        assert_eq!(
            said("1 KiB, 16 partitions: throughput"),
            "50.0 MB/s | 20.0 MB/s | 2.50 | >= 2.00 | reached"
        );
        assert_eq!(
            said("1 KiB, 16 partitions: CPU"),
            "2.00 s/GiB | 2.00 s/GiB | 1.00 | <= 0.167 | missed"
        );
        assert_eq!(
            said("end to end, 20 MB/s: p99"),
            "1.00 ms | 9.00 ms | 0.111 | <= 0.333 | reached; kafka held 50 % of the rate"
        );
        assert_eq!(said("1 KiB: 10,000 to 1,000"), "0.900 MB/s | - | - | >= 0.700 | not measured");
        assert!(!rows.iter().any(|it| it[0].starts_with("cold")), "nobody ran it");
        assert!(text(&rows).ends_with("2 of 7 goals reached\n"), "{}", text(&rows));
    }
}

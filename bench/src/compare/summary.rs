//! What many runs say together: for each workload, metric and subject the median with its spread, and the
//! ratio of ours to each of theirs within the same rounds.

use serde_json::Value;
use std::fmt::Write;

/// One number of a line, and how people read it.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    of: fn(&Value) -> Option<f64>,
}

pub(super) const METRICS: &[Metric] = &[
    Metric { name: "produced", unit: "MB/s", of: |it| per_second(it, "mb_out") },
    Metric { name: "consumed", unit: "MB/s", of: |it| per_second(it, "mb_in") },
    Metric { name: "records", unit: "1/s", of: |it| per_second(it, "records_out") },
    Metric { name: "produce p50", unit: "ms", of: |it| millis(&it["produce_us"]["p50"]) },
    Metric { name: "produce p99", unit: "ms", of: |it| millis(&it["produce_us"]["p99"]) },
    Metric { name: "produce p99.9", unit: "ms", of: |it| millis(&it["produce_us"]["p999"]) },
    Metric { name: "end to end p50", unit: "ms", of: |it| millis(&it["e2e_us"]["p50"]) },
    Metric { name: "end to end p99", unit: "ms", of: |it| millis(&it["e2e_us"]["p99"]) },
    Metric { name: "end to end p99.9", unit: "ms", of: |it| millis(&it["e2e_us"]["p999"]) },
    Metric { name: HELD, unit: "%", of: held },
    Metric { name: "consumed for CPU", unit: "MB/s", of: consumed_for_cpu },
    Metric { name: "broker CPU", unit: "s/GiB", of: |it| it["broker_cpu_s_per_gib"].as_f64() },
    Metric { name: "of it compilers", unit: "%", of: compilers },
    Metric { name: "memory", unit: "MB", of: |it| mega(&it["rss_max_bytes"]) },
    Metric { name: "memory idle", unit: "MB", of: |it| mega(&it["extra"]["idle_rss_bytes"]) },
    Metric { name: "start", unit: "ms", of: |it| it["extra"]["start_ms"].as_f64() },
    Metric { name: "context switches", unit: "1/s", of: |it| per_second(it, "ctx_switches") },
    Metric { name: "written to disk", unit: "byte/byte", of: written },
    Metric { name: "flushes", unit: "1/s", of: |it| per_second(it, "disk_flushes") },
    Metric {
        name: "load's CPU",
        unit: "us/record",
        of: |it| it["extra"]["generator_cpu_us_per_record"].as_f64(),
    },
    Metric { name: "bare echo", unit: "ms", of: |it| millis(&it["extra"]["bare"]["echo_p50_us"]) },
    Metric {
        name: "bare durable write",
        unit: "ms",
        of: |it| millis(&it["extra"]["bare"]["dsync_p50_us"]),
    },
    Metric { name: BARE, unit: "ms", of: bare },
];

/// The part of the offered rate that was produced.
pub(super) const HELD: &str = "rate held";
/// What the median of one record in flight is held against.
pub(super) const BARE: &str = "bare echo + 1.3 write";
const WRITES: f64 = 1.3;

pub(super) fn unit(metric: &str) -> &'static str {
    METRICS.iter().find(|it| it.name == metric).map_or("", |it| it.unit)
}

fn held(line: &Value) -> Option<f64> {
    let offered = line["offered_rate"].as_f64().filter(|it| 0.0 < *it)?;
    Some(per_second(line, "records_out")? / offered * 100.0)
}

fn consumed_for_cpu(line: &Value) -> Option<f64> {
    let read = line["mb_in"].as_f64().filter(|it| 0.0 < *it)?;
    Some(read / line["broker_cpu_s"].as_f64().filter(|it| 0.0 < *it)?)
}

fn compilers(line: &Value) -> Option<f64> {
    let cpu = line["broker_cpu_s"].as_f64().filter(|it| 0.0 < *it)?;
    Some(line["extra"]["broker_compiler_cpu_s"].as_f64()? / cpu * 100.0)
}

fn bare(line: &Value) -> Option<f64> {
    let bare = &line["extra"]["bare"];
    Some(millis(&bare["echo_p50_us"])? + WRITES * millis(&bare["dsync_p50_us"])?)
}

fn per_second(line: &Value, field: &str) -> Option<f64> {
    let seconds = line["seconds"].as_f64().filter(|it| 0.0 < *it)?;
    Some(line[field].as_f64()? / seconds)
}

fn millis(micros: &Value) -> Option<f64> {
    Some(micros.as_f64()? / 1e3)
}

fn mega(bytes: &Value) -> Option<f64> {
    Some(bytes.as_f64()? / 1e6)
}

fn written(line: &Value) -> Option<f64> {
    let out = line["mb_out"].as_f64().filter(|it| 0.0 < *it)?;
    Some(line["disk_write_bytes"].as_f64()? / 1e6 / out)
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Median {
    pub(super) value: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Median {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let value = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { value, least, most })
    }
}

/// One workload's table: a row for each metric that anybody has, a cell for each subject.
pub(super) struct Table {
    pub(super) workload: String,
    /// On which cores: `split` or `shared`, if it is known.
    pub(super) cores: String,
    pub(super) rounds: usize,
    pub(super) subjects: Vec<String>,
    pub(super) ack_means: Vec<String>,
    pub(super) rows: Vec<(&'static Metric, Vec<Option<Median>>)>,
    /// Errors, lost, duplicate and disordered records of each subject, all rounds together.
    pub(super) wrong: Vec<u64>,
    /// Who had runs without a result, and why.
    pub(super) failed: Vec<String>,
}

pub(super) struct Summary {
    pub(super) machine: String,
    pub(super) commit: String,
    pub(super) tables: Vec<Table>,
}

const OURS: &str = "corelane";

impl Summary {
    pub(super) fn of(lines: &[Value]) -> Self {
        let text = |field: &str| {
            let first = lines.first().and_then(|it| it[field].as_str());
            first.unwrap_or_default().to_owned()
        };
        let mut keys: Vec<(String, String)> = Vec::new();
        for key in lines.iter().map(key) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let tables = keys.iter().map(|it| table(lines, it)).collect();
        Self { machine: text("machine"), commit: text("commit"), tables }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{} at {}\n", self.machine, self.commit);
        for table in &self.tables {
            table.write(&mut text);
        }
        text
    }

    /// The median of one metric, if there was any.
    pub(super) fn figure(
        &self,
        workload: &str,
        cores: &str,
        subject: &str,
        metric: &str,
    ) -> Option<f64> {
        let table = self.tables.iter().find(|it| it.workload == workload && it.cores == cores)?;
        let at = table.subjects.iter().position(|it| it == subject)?;
        let row = table.rows.iter().find(|it| it.0.name == metric)?;
        row.1[at].map(|it| it.value)
    }
}

/// What makes a table of its own.
fn key(line: &Value) -> (String, String) {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    (text(&line["workload"]), text(&line["extra"]["cores"]))
}

fn of<'l>(lines: &'l [Value], subject: &'l str) -> impl Iterator<Item = &'l Value> {
    lines.iter().filter(move |it| it["subject"] == subject)
}

fn table(lines: &[Value], of_key: &(String, String)) -> Table {
    let lines: Vec<_> = lines.iter().filter(|it| key(it) == *of_key).cloned().collect();
    let subjects = distinct(&lines, "subject");
    let rows = METRICS.iter().map(|metric| {
        let cells =
            subjects.iter().map(|it| Median::of(of(&lines, it).filter_map(metric.of).collect()));
        (metric, cells.collect::<Vec<_>>())
    });
    let wrong = |line: &Value| -> u64 {
        let fields = ["errors", "lost", "duplicate", "disordered"];
        fields.iter().filter_map(|it| line[*it].as_u64()).sum()
    };
    Table {
        workload: of_key.0.clone(),
        cores: of_key.1.clone(),
        failed: lines.iter().filter_map(failure).collect(),
        rounds: subjects.iter().map(|it| of(&lines, it).count()).max().unwrap_or(0),
        ack_means: subjects
            .iter()
            .map(|it| {
                of(&lines, it)
                    .find_map(|it| it["ack_means"].as_str())
                    .unwrap_or("unknown")
                    .to_owned()
            })
            .collect(),
        rows: rows.filter(|it| it.1.iter().any(Option::is_some)).collect(),
        wrong: subjects.iter().map(|it| of(&lines, it).map(wrong).sum()).collect(),
        subjects,
    }
}

/// Of a run that has no result.
fn failure(line: &Value) -> Option<String> {
    let why = line["extra"]["failed"].as_str()?;
    let subject = line["subject"].as_str().unwrap_or_default();
    Some(format!("{subject}, round {}: {}", line["round"], why.lines().next().unwrap_or_default()))
}

fn distinct(lines: &[Value], field: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in lines.iter().filter_map(|it| it[field].as_str()) {
        if !found.iter().any(|it| it == name) {
            found.push(name.to_owned());
        }
    }
    found
}

impl Table {
    pub(super) fn title(&self) -> String {
        match self.cores.as_str() {
            "" => self.workload.clone(),
            cores => format!("{}, cores {cores}", self.workload),
        }
    }

    pub(super) fn has(&self, line: &Value) -> bool {
        key(line) == (self.workload.clone(), self.cores.clone())
    }

    /// Ours divided by theirs, for every subject that is not ours.
    pub(super) fn ratios(&self, cells: &[Option<Median>]) -> Vec<(String, Option<f64>)> {
        let ours = self.subjects.iter().position(|it| it == OURS);
        let ours = ours.and_then(|it| cells[it]);
        let pairs = self.subjects.iter().zip(cells).filter(|it| it.0 != OURS);
        let ratio =
            |cell: &Option<Median>| Some(ours?.value / (*cell)?.value).filter(|it| it.is_finite());
        pairs.map(|(subject, cell)| (subject.clone(), ratio(cell))).collect()
    }

    fn write(&self, text: &mut String) {
        let mut head = vec![self.title(), String::new()];
        for (subject, ack) in self.subjects.iter().zip(&self.ack_means) {
            head.push(format!("{subject} ({ack})"));
        }
        let others: Vec<_> = self.subjects.iter().filter(|it| *it != OURS).collect();
        let ours_is_here = others.len() < self.subjects.len();
        if ours_is_here {
            head.extend(others.iter().map(|it| format!("to {it}")));
        }
        let mut table = vec![head];
        for (metric, cells) in &self.rows {
            let mut row = vec![metric.name.to_owned(), metric.unit.to_owned()];
            row.extend(cells.iter().map(|it| it.map_or("-".to_owned(), for_people)));
            if ours_is_here {
                let ratios = self.ratios(cells);
                row.extend(ratios.iter().map(|it| it.1.map_or("-".to_owned(), short)));
            }
            table.push(row);
        }
        let mut row = vec!["errors and wrong records".to_owned(), String::new()];
        row.extend(self.wrong.iter().map(u64::to_string));
        row.resize(table[0].len(), String::new());
        table.push(row);
        writeln!(text, "\n{} rounds", self.rounds).expect("memory takes text");
        *text += &aligned(&table, &[0, 1]);
        for it in &self.failed {
            writeln!(text, "  no result: {it}").expect("memory takes text");
        }
    }
}

/// Lines of columns: these to the left, the others to the right.
pub(super) fn aligned(table: &[Vec<String>], left: &[usize]) -> String {
    let mut text = String::new();
    for line in table {
        for (column, cell) in line.iter().enumerate() {
            let width = table.iter().map(|it| it[column].chars().count()).max().unwrap_or(0);
            let written = if left.contains(&column) {
                write!(text, "{cell:<width$}  ")
            } else {
                write!(text, "{cell:>width$}  ")
            };
            written.expect("memory takes text");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub(super) fn for_people(it: Median) -> String {
    if it.least == it.most {
        return short(it.value);
    }
    format!("{} [{}-{}]", short(it.value), short(it.least), short(it.most))
}

/// Three digits, whatever the size.
pub(super) fn short(value: f64) -> String {
    let places = match value.abs() {
        it if it < 0.1 => 4,
        it if it < 1.0 => 3,
        it if it < 10.0 => 2,
        it if it < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A line as `run` writes it, as far as it is read here.
    pub(in crate::compare) fn line(subject: &str, round: u32, mb_out: f64, p99: f64) -> Value {
        json!({
            "workload": "simple <1>", "subject": subject, "round": round, "seconds": 10.0,
            "ack_means": "flushed", "machine": "a machine", "commit": "abc",
            "mb_out": mb_out, "records_out": 1000, "produce_us": {"p50": 100.0, "p99": p99, "p999": 9e3},
            "e2e_us": null, "broker_cpu_s_per_gib": 2.0, "errors": 1, "lost": null,
            "extra": {
                "start_ms": 30.0,
                "series": [{"mb_out": 1.0, "produce_p99_us": 900.0}, {"mb_out": 2.0, "produce_p99_us": null}],
                "produce_curve_us": [[0.0, 50.0], [0.5, 100.0], [0.999, 9e3], [1.0, 9e3]],
            },
        })
    }

    #[test]
    fn rounds_become_medians_and_ratios() {
        let lines = [
            line("corelane", 1, 400.0, 1_000.0),
            line("kafka", 1, 100.0, 10_000.0),
            line("corelane", 2, 200.0, 3_000.0),
            line("kafka", 2, 300.0, 10_000.0),
        ];
        let expect = "\
a machine at abc

2 rounds
simple <1>                       corelane (flushed)   kafka (flushed)  to kafka
produced                  MB/s     30.0 [20.0-40.0]  20.0 [10.0-30.0]      1.50
records                   1/s                   100               100      1.00
produce p50               ms                  0.100             0.100      1.00
produce p99               ms       2.00 [1.00-3.00]              10.0     0.200
produce p99.9             ms                   9.00              9.00      1.00
broker CPU                s/GiB                2.00              2.00      1.00
start                     ms                   30.0              30.0      1.00
errors and wrong records                          2                 2
";
        assert_eq!(Summary::of(&lines).text(), expect);
    }

    #[test]
    fn without_us_there_are_no_ratios() {
        let text = Summary::of(&[line("kafka", 1, 100.0, 1.0)]).text();
        assert!(!text.contains("to kafka"), "{text}");
    }
}

//! From readings to what people and machines look at: medians with their spread.
//!
//! A reading is one number of one run. Runs of all subjects are interleaved by the caller, so that a
//! machine that slows down does so for all of them; here they are only gathered and ordered.

use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// One number of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
}

impl Reading {
    pub(crate) fn new(metric: &'static str, value: f64) -> Self {
        Self { metric, value }
    }
}

/// All readings of one metric of one subject in one case.
struct Row {
    subject: &'static str,
    case: &'static str,
    metric: &'static str,
    values: Vec<f64>,
}

pub(crate) struct Report {
    what: &'static str,
    rows: Vec<Row>,
}

/// Where and of what the readings were taken.
pub(crate) struct Origin {
    pub(crate) commit: String,
    pub(crate) machine: String,
}

impl Report {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, subject: &'static str, case: &'static str, reading: Reading) {
        let metric = reading.metric;
        let same = |it: &&mut Row| (it.subject, it.case, it.metric) == (subject, case, metric);
        match self.rows.iter_mut().find(same) {
            Some(row) => row.values.push(reading.value),
            None => self.rows.push(Row { subject, case, metric, values: vec![reading.value] }),
        }
    }

    /// A table per case: a line per subject, a column per metric, `median [least-most]`.
    pub(crate) fn print(&self, origin: &Origin, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{} on {} at {}", self.what, origin.machine, origin.commit)?;
        for case in distinct(self.rows.iter().map(|it| it.case)) {
            let rows = || self.rows.iter().filter(move |it| it.case == case);
            let metrics = distinct(rows().map(|it| it.metric));
            let subjects = distinct(rows().map(|it| it.subject));
            let mut table = vec![vec![case.to_owned()]];
            table[0].extend(metrics.iter().map(|it| (*it).to_owned()));
            for subject in subjects {
                let mut line = vec![subject.to_owned()];
                for metric in &metrics {
                    let row = rows().find(|it| (it.subject, it.metric) == (subject, *metric));
                    line.push(row.map_or(String::new(), Row::for_people));
                }
                table.push(line);
            }
            writeln!(out)?;
            print_aligned(&table, out)?;
        }
        Ok(())
    }

    /// Appends a JSON object per row to `path`.
    pub(crate) fn append_json(&self, origin: &Origin, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        for row in &self.rows {
            let (least, most) = row.bounds();
            let line = json!({
                "what": self.what,
                "subject": row.subject,
                "case": row.case,
                "metric": row.metric,
                "value": row.median(),
                "runs": row.values.len(),
                "spread": most - least,
                "commit": origin.commit,
                "machine": origin.machine,
            });
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

impl Row {
    fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        }
    }

    fn bounds(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    }

    fn for_people(&self) -> String {
        let (least, most) = self.bounds();
        let median = self.median();
        // Three digits, whatever the size.
        let places = if median.abs() < 10.0 { 2 } else { usize::from(median.abs() < 100.0) };
        format!("{median:.places$} [{least:.places$}-{most:.places$}]")
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn print_aligned(table: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    for line in table {
        for (column, cell) in line.iter().enumerate() {
            let width = table.iter().map(|it| it[column].len()).max().unwrap_or(0);
            if column == 0 {
                write!(out, "  {cell:<width$}")?;
            } else {
                write!(out, "  {cell:>width$}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(readings: &[(&'static str, f64)]) -> Report {
        let mut report = Report::new("echo");
        for (subject, value) in readings {
            report.add(subject, "64 B", Reading::new("p50_us", *value));
        }
        report
    }

    #[test]
    fn the_value_is_the_median_and_the_spread_is_beside_it() {
        let origin = Origin { commit: "abc".to_owned(), machine: "a machine".to_owned() };
        let mut out = Vec::new();
        let report = report(&[("a", 30.0), ("b", 5.0), ("a", 10.0), ("b", 7.0), ("a", 200.0)]);
        report.print(&origin, &mut out).expect("memory can be written");
        let expect = "\
echo on a machine at abc

  64 B             p50_us
  a     30.0 [10.0-200.0]
  b      6.00 [5.00-7.00]
";
        assert_eq!(String::from_utf8(out).expect("text"), expect);
    }
}

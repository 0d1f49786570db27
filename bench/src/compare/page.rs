//! The page: tables and plots in one file that needs nothing else.

use super::goals;
use super::plots::{Across, Line, bars, curves, escaped, nines};
use super::summary::{Summary, Table, for_people, short};
use serde_json::Value;
use std::fmt::Write;

const HEAD: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content='width=device-width, initial-scale=1'>
<title>Brokers side by side</title>
<style>
:root { color-scheme: light dark; --ink: #1b1d21; --paper: #ffffff; --line: #d9dce1; --soft: #6a7079; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15171a; --line: #33383f; --soft: #9aa1ab; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: .95rem; margin: 0; }
.soft, caption { color: var(--soft); }
caption { text-align: left; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.goals th:last-child, .goals td:last-child { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 1.5rem;
  margin-top: 1.2rem; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--soft); }
.g { stroke: var(--line); } polyline { fill: none; stroke-width: 1.8; }
.key { margin: .8rem 0; } .key span { margin-right: 1.2rem; } .key i { display: inline-block; width: .8rem;
  height: .8rem; margin-right: .4rem; border-radius: 2px; vertical-align: -1px; }
.c0 { stroke: #0a7d5a; } .c1 { stroke: #c2541c; } .c2 { stroke: #7451c9; } .c3 { stroke: #1f6fc4; }
.b0 { fill: #0a7d5a; background: #0a7d5a; } .b1 { fill: #c2541c; background: #c2541c; }
.b2 { fill: #7451c9; background: #7451c9; } .b3 { fill: #1f6fc4; background: #1f6fc4; }
</style>
";
const COLOURS: usize = 4;

pub(super) fn page(summary: &Summary, lines: &[Value], asked: &str) -> String {
    let mut page = HEAD.to_owned();
    // Writing into memory does not fail.
    let mut put = |it: String| page.push_str(&it);
    put(format!(
        "<h1>Brokers side by side</h1>\n<p class=soft>{} at {}<br><code>corelane-bench {}</code></p>\n\
         <p>Medians of all rounds, with the least and the most in brackets. Plots show the last round; \
         those by seconds have its warm-up and its end in them. What an acknowledgement meant stands under each name.</p>\n",
        escaped(&summary.machine),
        escaped(&summary.commit),
        escaped(asked)
    ));
    put(judged(&goals::rows(summary)));
    for it in &summary.tables {
        put(format!("<h2>{}</h2>\n", escaped(&it.title())));
        put(key(it));
        put(table(it));
        put(plots(it, lines));
    }
    page + "</html>\n"
}

/// The goals, when any of them was measured.
fn judged(rows: &[goals::Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String], tag: &str| {
        let cells = cells.iter().map(|it| format!("<{tag}>{}</{tag}>", escaped(it)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let head = line(&goals::HEAD.map(str::to_owned), "th");
    let rows = rows.iter().map(|it| line(it, "td")).collect::<String>();
    format!("<h2>Goals</h2>\n<div class=wide><table class=goals>\n{head}{rows}</table></div>\n")
}

fn key(table: &Table) -> String {
    let names = table.subjects.iter().enumerate();
    let names = names
        .map(|(at, it)| format!("<span><i class=b{}></i>{}</span>", at % COLOURS, escaped(it)));
    format!("<p class=key>{}</p>\n", names.collect::<String>())
}

fn table(table: &Table) -> String {
    let mut html = format!(
        "<div class=wide><table>\n<caption>{} rounds</caption>\n<tr><th></th>",
        table.rounds
    );
    let mut put = |it: std::fmt::Arguments<'_>| html.write_fmt(it).expect("memory takes text");
    for (subject, ack) in table.subjects.iter().zip(&table.ack_means) {
        put(format_args!(
            "<th>{}<br><span class=soft>{}</span></th>",
            escaped(subject),
            escaped(ack)
        ));
    }
    let Some((_, cells)) = table.rows.first() else {
        return html + "</table></div>\n" + &failed(table);
    };
    let compared = table.ratios(cells).len() < table.subjects.len();
    if compared {
        for (subject, _) in table.ratios(cells) {
            put(format_args!("<th>to {}</th>", escaped(&subject)));
        }
    }
    put(format_args!("</tr>\n"));
    for (metric, cells) in &table.rows {
        put(format_args!("<tr><td>{}, {}</td>", escaped(metric.name), escaped(metric.unit)));
        for cell in cells {
            put(format_args!("<td>{}</td>", cell.map_or("-".to_owned(), for_people)));
        }
        if compared {
            for (_, ratio) in table.ratios(cells) {
                put(format_args!("<td>{}</td>", ratio.map_or("-".to_owned(), short)));
            }
        }
        put(format_args!("</tr>\n"));
    }
    put(format_args!("<tr><td>errors and wrong records</td>"));
    for it in &table.wrong {
        put(format_args!("<td>{it}</td>"));
    }
    put(format_args!("</tr>\n"));
    html + "</table></div>\n" + &failed(table)
}

fn failed(table: &Table) -> String {
    table.failed.iter().map(|it| format!("<p>No result: {}</p>\n", escaped(it))).collect()
}

fn plots(table: &Table, lines: &[Value]) -> String {
    // The last line of each subject is its last round.
    let last = |subject: &String| {
        lines.iter().rev().find(|it| {
            table.has(it) && it["subject"] == **subject && it["extra"]["failed"].is_null()
        })
    };
    let each = |points: &dyn Fn(&Value) -> Vec<(f64, f64)>| -> Vec<Line> {
        let subjects = table.subjects.iter().enumerate();
        let line = |(at, subject): (usize, &String)| Line {
            name: subject.clone(),
            colour: at % COLOURS,
            points: last(subject).map(points).unwrap_or_default(),
        };
        subjects.map(line).collect()
    };
    let curve = |field: &'static str| {
        move |line: &Value| -> Vec<(f64, f64)> {
            let points = line["extra"][field].as_array().into_iter().flatten();
            points.filter_map(|it| Some((nines(it[0].as_f64()?), it[1].as_f64()? / 1e3))).collect()
        }
    };
    let series = |field: &'static str, scale: f64| {
        move |line: &Value| -> Vec<(f64, f64)> {
            let seconds = line["extra"]["series"].as_array().into_iter().flatten().enumerate();
            let point = |(at, it): (usize, &Value)| Some((at as f64, it[field].as_f64()? * scale));
            seconds.filter_map(point).collect()
        }
    };
    let medians = |name: &str| -> Vec<Line> {
        let row = table.rows.iter().find(|it| it.0.name == name);
        let cells = row.map(|it| it.1.as_slice()).unwrap_or_default();
        let bars = table.subjects.iter().zip(cells).enumerate();
        bars.filter_map(|(at, (subject, cell))| {
            let points = vec![(0.0, (*cell)?.value)];
            Some(Line { name: subject.clone(), colour: at % COLOURS, points })
        })
        .collect()
    };
    let parts = [
        (
            "Produce latency by quantile",
            curves(&each(&curve("produce_curve_us")), Across::Quantiles, "ms"),
        ),
        (
            "End to end latency by quantile",
            curves(&each(&curve("e2e_curve_us")), Across::Quantiles, "ms"),
        ),
        ("Produced in each second", curves(&each(&series("mb_out", 1.0)), Across::Seconds, "MB/s")),
        (
            "Produce p99 in each second",
            curves(&each(&series("produce_p99_us", 1e-3)), Across::Seconds, "ms"),
        ),
        ("Broker CPU for each GiB moved", bars(&medians("broker CPU"), "s")),
        ("Memory at most", bars(&medians("memory"), "MB")),
    ];
    let seen = parts.iter().filter(|it| it.1.contains("<svg"));
    let parts = seen.map(|(title, plot)| format!("<div><h3>{title}</h3>\n{plot}</div>\n"));
    format!("<div class=plots>\n{}</div>\n", parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::line;
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_says_everything() {
        let lines = [line("corelane", 1, 400.0, 1_000.0), line("kafka", 1, 100.0, 10_000.0)];
        let page = page(&Summary::of(&lines), &lines, "compare 'a' & b");
        for part in [
            "<h2>simple &lt;1&gt;</h2>",
            "to kafka",
            "compare &#39;a&#39; &amp; b",
            "99.99 %",
            "MB/s",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["http", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(
            page.matches("<svg").count(),
            4,
            "two latencies were never seen, memory neither"
        );
    }
}

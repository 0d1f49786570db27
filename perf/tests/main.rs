//! The scales work: every subject can be weighed in every case, and what comes out can be read by a
//! machine. What the numbers are is nobody's business here.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const FIELDS: [&str; 9] =
    ["case", "commit", "machine", "metric", "runs", "spread", "subject", "value", "what"];

fn corelane_perf(arguments: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_corelane-perf")).args(arguments).output();
    program.expect("the instrument can be started")
}

/// Weighs `what` for an instant; the pairs of subject and metric it reported, or `None` when this host
/// cannot, said on the output.
fn weigh(what: &str, more: &[&str]) -> Option<BTreeSet<(String, String)>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{what}.jsonl"));
    if path.exists() {
        fs::remove_file(&path).expect("the file of an earlier test is ours");
    }
    let json = path.to_str().expect("paths are text");
    let mut arguments = vec![what, "--runs", "2", "--seconds", "0.02", "--json", json];
    arguments.extend(more);
    let output = corelane_perf(&arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if ["io_uring", "hard limit", "memlock"].iter().any(|it| complaint.contains(it)) {
        println!("SKIPPED perf-{what}: {}", complaint.lines().last().unwrap_or_default());
        return None;
    }
    assert!(output.status.success(), "{what} was refused: {complaint}");
    let lines = fs::read_to_string(&path).expect("the results were written");
    let pairs = lines.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("a line is JSON");
        let fields: BTreeSet<_> = row.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(fields, FIELDS.map(str::to_owned).into(), "{line}");
        assert_eq!((&row["what"], &row["runs"]), (&what.into(), &2.into()), "{line}");
        assert!(row["value"].as_f64().is_some_and(|it| 0.0 <= it), "{line}");
        assert!(row["spread"].as_f64().is_some_and(|it| 0.0 <= it), "{line}");
        let text = |field: &str| row[field].as_str().expect("text").to_owned();
        (text("subject"), text("metric"))
    });
    Some(pairs.collect())
}

#[track_caller]
fn check(what: &str, subjects: &[&str], metrics: &[&str]) {
    check_with(what, &[], subjects, metrics);
}

#[track_caller]
fn check_with(what: &str, more: &[&str], subjects: &[&str], metrics: &[&str]) {
    let Some(pairs) = weigh(what, more) else { return };
    for subject in subjects {
        for metric in metrics {
            let pair = ((*subject).to_owned(), (*metric).to_owned());
            assert!(pairs.contains(&pair), "{what} says nothing about {pair:?}");
        }
    }
}

const PER_OPERATION: &[&str] =
    &["cpu_us_per_op", "p50_us", "p99_us", "p999_us", "ops_per_s", "mb_per_s"];

#[test]
fn an_echo_can_be_weighed() {
    check("echo", &["lane", "epoll", "glommio"], PER_OPERATION);
}

#[test]
fn a_commit_can_be_weighed() {
    check("commit", &["lane", "bare", "call", "glommio"], PER_OPERATION);
}

#[test]
fn the_wire_can_be_weighed() {
    check(
        "wire",
        &["ours", "kafka-protocol"],
        &["cpu_ns_per_op", "allocations_per_op", "allocated_bytes_per_op"],
    );
}

#[test]
fn the_ways_of_the_ring_can_be_weighed() {
    check("fixed", &["plain", "fixed"], &["cpu_us_per_op", "ops_per_s"]);
    check("file", &["sendfile", "splice", "memory"], &["cpu_us_per_op", "ops_per_s"]);
}

#[test]
fn appends_can_be_weighed() {
    check_with(
        "append",
        &["--journal", "4", "--cycles", "1", "--case", "16 partitions"],
        &["log", "bare", "plain"],
        &["p50_us", "p99_us", "batches_per_s", "mb_per_s", "cpu_us_per_batch", "allocs_per_batch"],
    );
}

#[test]
fn a_start_after_a_crash_and_cold_reads_can_be_weighed() {
    let sizes = ["--journal", "4", "--cycles", "1", "--history", "2", "--dirty", "1"];
    let few = [&sizes[..], &["--case", "16 partitions"]].concat();
    check_with("recovery", &few, &["log"], &["open_ms", "open_cpu_ms", "dirty_mib"]);
    check_with("cold-read", &few, &["log"], &["alone_p99_us", "beside_p99_us", "p99_ratio"]);
}

#[test]
fn silence_can_be_weighed() {
    check("idle", &["lane", "epoll", "glommio"], &["cpu_pct", "bytes_per_conn"]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_could_be() {
    let refusal = |arguments: &[&str]| {
        let output = corelane_perf(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("messages are text")
    };
    assert!(refusal(&[]).contains("usage:"));
    assert!(refusal(&["eco"]).contains("--help"));
    assert!(refusal(&["echo", "--subject", "nobody"]).contains("only lane"));
    assert!(refusal(&["echo", "--case", "2 B"]).contains("1 connection, 64 B"));
    assert!(refusal(&["echo", "--runs", "0"]).contains("--runs cannot be \"0\""));
    assert!(refusal(&["append", "--cycles", "0"]).contains("--cycles cannot be \"0\""));
    assert!(refusal(&["append", "--journal", "no"]).contains("--journal cannot be \"no\""));
    assert!(refusal(&["echo", "--json"]).contains("--json needs a value"));
}

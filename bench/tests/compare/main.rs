//! `compare` from outside: it starts a broker itself, keeps its line, draws its page, and leaves nothing.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-bench"));
    command.args(arguments).output().expect("the program can be started")
}

/// Our binary, which cargo puts beside ours when it builds the workspace, and builds here when it did not.
fn corelane() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_corelane-bench")).with_file_name("corelane");
    if !beside.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "-p", "corelane-broker"]);
        if beside.parent().is_some_and(|it| it.ends_with("release")) {
            build.arg("--release");
        }
        let built = build.status().expect("cargo can be started");
        assert!(built.success(), "our binary cannot be built");
    }
    beside
}

#[test]
fn a_comparison_keeps_its_lines_and_draws_its_page() {
    let folder = std::env::temp_dir().join(format!("corelane-compare-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let file = |name: &str| folder.join(name).to_str().expect("a path in text").to_owned();
    let workload =
        "name: one\ntopics: 1\npartitionsPerTopic: 2\nmessageSize: 100\nproducerRate: 200\n";
    std::fs::write(file("one.yaml"), workload).expect("a temporary file");
    let corelane = corelane();
    let output = bench(&[
        "compare",
        "corelane",
        "--corelane",
        corelane.to_str().expect("a path in text"),
        "--workload",
        &file("one.yaml"),
        "--rounds",
        "2",
        "--cores",
        "shared",
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--verify",
        "--data",
        folder.to_str().expect("a path in text"),
        "--json",
        &file("lines.jsonl"),
        "--html",
        &file("page.html"),
    ]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("corelane (flushed)") && table.contains("2 rounds"), "{table}");

    let lines = std::fs::read_to_string(file("lines.jsonl")).expect("it was written");
    let lines: Vec<Value> =
        lines.lines().map(|it| serde_json::from_str(it).expect("a line of JSON")).collect();
    assert_eq!(lines.len(), 2);
    for (line, round) in lines.iter().zip(1..) {
        assert_eq!((&line["subject"], &line["round"]), (&"corelane".into(), &round.into()));
        assert_eq!(line["subject_version"], env!("CARGO_PKG_VERSION"));
        for seen in ["broker_cpu_s", "rss_max_bytes", "records_out", "disk_write_bytes"] {
            assert!(line[seen].as_f64().is_some_and(|it| 0.0 < it), "{seen}: {line}");
        }
        assert!(line["extra"]["start_ms"].as_f64().is_some_and(|it| 0.0 < it), "{line}");
    }
    let page = std::fs::read_to_string(file("page.html")).expect("it was written");
    assert!(page.contains("<h2>one, cores shared</h2>") && page.ends_with("</html>\n"));
    let left: Vec<_> = std::fs::read_dir(&folder).expect("it is ours").collect();
    assert_eq!(left.len(), 3, "no broker's data stays behind: {left:?}");
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn what_cannot_start_ends_with_three_and_what_cannot_be_meant_with_two() {
    let workload = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/omb-simple.yaml");
    let nobody = bench(&["compare", "corelane", "--corelane", "/no/such", "--workload", workload]);
    assert_eq!(nobody.status.code(), Some(3));
    let folder = std::env::temp_dir().join(format!("corelane-compare-gone-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let file = |name: &str| folder.join(name).to_str().expect("a path in text").to_owned();
    let (lines, page) = (file("lines.jsonl"), file("page.html"));
    // It exists and is no broker; what was seen of it is kept all the same.
    let other = bench(&[
        "compare",
        "corelane",
        "--corelane",
        "/bin/true",
        "--workload",
        workload,
        "--rounds",
        "2",
        "--cores",
        "shared",
        "--data",
        folder.to_str().expect("a path in text"),
        "--json",
        &lines,
        "--html",
        &page,
    ]);
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
    let told = String::from_utf8_lossy(&other.stdout);
    assert!(told.contains("no result: corelane, round 2: corelane did not start"), "{told}");
    let lines = std::fs::read_to_string(lines).expect("it was written");
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!((&line["errors"], &line["workload"]), (&1.into(), &"omb-simple".into()));
        assert!(line["produce_us"].is_null() && line["extra"]["failed"].is_string(), "{line}");
    }
    assert!(std::fs::read_to_string(page).expect("it was written").contains("No result:"));
    std::fs::remove_dir_all(&folder).expect("it is ours");
    assert_eq!(bench(&["compare", "corelane"]).status.code(), Some(2));
    assert_eq!(bench(&["compare", "--help"]).status.code(), Some(0));
}

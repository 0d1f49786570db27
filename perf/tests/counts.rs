//! What a request costs in things that can be counted stays under the ceilings of `perf/ceilings.toml`.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_request_costs_no_more_than_its_ceilings() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ceilings = fs::read_to_string(here.join("ceilings.toml")).expect("the file is there");
    let ceilings: toml::Table = ceilings.parse().expect("it is TOML");
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counts.jsonl");
    if history.exists() {
        fs::remove_file(&history).expect("the file of an earlier test is ours");
    }
    let json = history.to_str().expect("paths are text");
    let output = Command::new(env!("CARGO_BIN_EXE_corelane-perf"))
        .args(["counts", "--runs", "1", "--json", json])
        .output()
        .expect("the instrument can be started");
    let complaint = String::from_utf8_lossy(&output.stderr);
    if ["io_uring", "memlock"].iter().any(|it| complaint.contains(it)) {
        println!("SKIPPED perf-counts: {}", complaint.lines().last().unwrap_or_default());
        return;
    }
    assert!(output.status.success(), "{complaint}");

    let lines = fs::read_to_string(&history).expect("the results were written");
    let rows: Vec<Value> =
        lines.lines().map(|it| serde_json::from_str(it).expect("a line is JSON")).collect();
    let mut above = Vec::new();
    // Those sections are perf/instructions' own, and of the test below.
    for (case, ceilings) in
        ceilings.iter().filter(|it| !["instructions", "append"].contains(&it.0.as_str()))
    {
        for (metric, ceiling) in ceilings.as_table().expect("a case is a table") {
            let ceiling = ceiling.as_float().or(ceiling.as_integer().map(|it| it as f64));
            let ceiling = ceiling.expect("a ceiling is a number");
            let row = rows.iter().find(|it| it["case"] == *case && it["metric"] == *metric);
            let value = row.and_then(|it| it["value"].as_f64());
            let value = value.unwrap_or_else(|| panic!("nobody counts {metric} of {case}"));
            println!("{case}: {metric} {value:.2}, at most {ceiling}");
            if ceiling < value {
                above.push(format!("{case}: {metric} is {value:.2}, and may be {ceiling}"));
            }
        }
    }
    let measured = rows.iter().filter_map(|it| it["case"].as_str());
    for case in measured {
        assert!(ceilings.contains_key(case), "{case} has no ceiling");
    }
    assert!(above.is_empty(), "above its ceiling:\n{}", above.join("\n"));
}

/// An append to a partition that exists takes no new memory, nor does its commit.
#[test]
fn an_append_allocates_no_more_than_its_ceiling() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ceilings = fs::read_to_string(here.join("ceilings.toml")).expect("the file is there");
    let ceilings: toml::Table = ceilings.parse().expect("it is TOML");
    let ceilings = ceilings["append"].as_table().expect("a section is a table");
    assert!(!ceilings.is_empty());
    for (case, ceiling) in ceilings {
        let ceiling = ceiling.as_float().or(ceiling.as_integer().map(|it| it as f64));
        let ceiling = ceiling.expect("a ceiling is a number");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("append.jsonl");
        if file.exists() {
            fs::remove_file(&file).expect("the file of an earlier test is ours");
        }
        let json = file.to_str().expect("paths are text");
        let arguments = ["append", "--subject", "log", "--runs", "1", "--journal", "32"];
        let output = Command::new(env!("CARGO_BIN_EXE_corelane-perf"))
            .args(arguments)
            .args(["--cycles", "1", "--case", case, "--json", json])
            .output()
            .expect("the instrument can be started");
        let complaint = String::from_utf8_lossy(&output.stderr);
        if ["io_uring", "memlock"].iter().any(|it| complaint.contains(it)) {
            println!("SKIPPED perf-counts: {}", complaint.lines().last().unwrap_or_default());
            return;
        }
        assert!(output.status.success(), "{complaint}");
        let lines = fs::read_to_string(&file).expect("the results were written");
        let rows = lines.lines().map(|it| serde_json::from_str(it).expect("a line is JSON"));
        let least = rows.filter(|it: &Value| it["metric"] == "least_allocs_per_batch");
        let found: Vec<f64> = least.filter_map(|it| it["value"].as_f64()).collect();
        println!("{case}: least_allocs_per_batch {found:?}, at most {ceiling}");
        assert_eq!(found.len(), 1, "one run of one case");
        assert!(found[0] <= ceiling, "{case}: {} allocations, and may be {ceiling}", found[0]);
    }
}

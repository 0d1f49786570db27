//! The load generator against a broker: what is verified is whole, what is wrong is refused.

mod broker;

use broker::Broker;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A workload in a file of its own.
fn file(name: &str, text: &str) -> PathBuf {
    let name = format!("corelane-load-{name}-{}.yaml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("a temporary file");
    path
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-bench"));
    command.args(arguments).output().expect("the load generator can be started")
}

/// Runs a workload for a second, verified, and gives its line.
#[track_caller]
fn verified(name: &str, text: &str) -> Value {
    let broker = Broker::start(name);
    let path = file(name, text);
    let path = path.to_str().expect("a path in text");
    let output = bench(&["run", path, "-b", &broker.address, "--verify", "--json", "-"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    std::fs::remove_file(path).expect("it was made above");
    let line: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    for counted in ["errors", "lost", "duplicate", "disordered"] {
        assert_eq!(line[counted], 0, "{counted}: {told}");
    }
    assert!(line["produce_us"]["p50"].is_number(), "some record was due: {told}");
    line
}

const ONE_SECOND: &str = "testSeconds: 1\n  warmupSeconds: 0";

#[test]
fn one_producer_and_one_consumer_see_every_record_once_in_order() {
    let line = verified(
        "one",
        "name: one\ntopics: 1\npartitionsPerTopic: 3\nmessageSize: 100\nproducerRate: 1000\n\
         corelane:\n  testSeconds: 1\n  warmupSeconds: 0.5\n  warmupAtFullSpeed: true\n  \
         idempotence: true\n",
    );
    assert_eq!(line["schema"], "corelane-bench/1");
    assert_eq!(line["workload"], "one");
    assert_eq!(line["offered_rate"], 1000.0);
    assert_eq!(line["broker_cpu_s"], Value::Null, "nobody said which process it is");
    for latency in ["produce_us", "e2e_us"] {
        let at = |it: &str| line[latency][it].as_f64().expect("a latency");
        assert!(0.0 < at("p50") && at("p50") <= at("p9999") && at("p9999") <= at("max"));
    }
}

#[test]
fn groups_share_partitions_out_among_their_members() {
    let line = verified(
        "groups",
        &format!(
            "topics: 2\npartitionsPerTopic: 4\nmessageSize: 64\nproducerRate: 1000\n\
             producersPerTopic: 2\nsubscriptionsPerTopic: 2\nconsumerPerSubscription: 3\n\
             corelane:\n  {ONE_SECOND}\n  assignment: group\n  commitMs: 100\n"
        ),
    );
    let members = line["extra"]["group_join_ms"]["members"].as_u64().expect("a number");
    // The last of a group may come when all was read.
    assert!((4..=12).contains(&members), "{members} members in four groups");
}

#[test]
fn keys_codecs_and_small_batches_change_nothing_of_what_is_read() {
    for (codec, acks) in [("gzip", "1"), ("snappy", "all"), ("lz4", "1"), ("zstd", "all")] {
        verified(
            codec,
            &format!(
                "topics: 1\npartitionsPerTopic: 8\nmessageSize: 200\nproducerRate: 2000\n\
                 useRandomizedPayloads: true\nproducersPerTopic: 3\ncorelane:\n  {ONE_SECOND}\n  \
                 acks: {acks}\n  compression: {codec}\n  batchBytes: 500\n  lingerMs: 0\n  \
                 inFlight: 2\n  keys: {{distribution: zipf, count: 100}}\n"
            ),
        );
    }
}

#[test]
fn a_backlog_is_built_while_consumers_rest_and_drained_while_producers_go_on() {
    let line = verified(
        "backlog",
        &format!(
            "topics: 1\npartitionsPerTopic: 2\nmessageSize: 1000\nproducerRate: 500\n\
             corelane:\n  {ONE_SECOND}\n  backlogBytes: 500000\n  backlogAtFullSpeed: true\n"
        ),
    );
    let backlog = &line["extra"]["backlog"];
    assert!(500_000 <= backlog["bytes"].as_u64().expect("a number"), "{backlog}");
}

#[test]
fn what_is_asked_wrongly_ends_with_two_and_without_a_broker_with_three() {
    let path = file("wrong", "topic: 1\n");
    let output = bench(&["run", path.to_str().expect("a path in text")]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("there is no key topic; did you mean topics?"), "{told}");
    assert_eq!(bench(&["run"]).status.code(), Some(2));
    assert_eq!(bench(&[]).status.code(), Some(2));
    let text = "topics: 1\npartitionsPerTopic: 1\nmessageSize: 100\nproducerRate: 10\n";
    std::fs::write(&path, text).expect("a temporary file");
    // Port 1 is nobody's.
    let output = bench(&["run", path.to_str().expect("a path in text"), "-b", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(path).expect("it was made above");
}

//! Workload files that are read, and those that are refused.

use super::*;

fn parse(text: &str) -> Result<Workload, WorkloadError> {
    Workload::parse(text, Path::new("."))
}

const SMALL: &str = "topics: 1\npartitionsPerTopic: 1\nmessageSize: 100\nproducerRate: 10\n";

#[track_caller]
fn refused(text: &str, why: &str) {
    let told = parse(&format!("{SMALL}{text}")).expect_err("it is wrong").to_string();
    assert_eq!(told, why);
}

#[test]
fn a_file_of_open_messaging_benchmark_means_what_it_means_there() {
    let workload = parse(
        "name: 1 producer / 1 consumers on 1 topic\n\n\
         topics: 1\npartitionsPerTopic: 16\nkeyDistributor: \"KEY_ROUND_ROBIN\"\n\
         messageSize: 1024\nuseRandomizedPayloads: true\nrandomBytesRatio: 0.5\n\
         randomizedPayloadPoolSize: 1000\n\n\
         subscriptionsPerTopic: 3\nconsumerPerSubscription: 2\nproducersPerTopic: 4\n\
         # Discover max-sustainable rate\nproducerRate: 0\nconsumerBacklogSizeGB: 2\n\
         testDurationMinutes: 15\n",
    )
    .expect("a good file");
    assert_eq!(workload.name, "1 producer / 1 consumers on 1 topic");
    assert_eq!((workload.topics, workload.partitions, workload.message_bytes), (1, 16, 1024));
    assert_eq!(workload.keys, Keys::RoundRobin { count: 10_000 });
    assert_eq!(workload.payload, Payload::Random { ratio: 0.5, pool: 1_000 });
    assert_eq!((workload.subscriptions, workload.consumers, workload.producers), (3, 2, 4));
    assert_eq!(workload.rate, Rate::Max);
    assert_eq!(workload.backlog_bytes, 2 << 30);
    assert_eq!(workload.measured, Duration::from_secs(15 * 60));
    assert_eq!(workload.warm_up, Duration::from_secs(60), "their default");
}

#[test]
fn our_section_stands_beside_theirs() {
    let text = format!(
        "{SMALL}corelane:\n  acks: 1\n  lingerMs: 0.5\n  compression: zstd\n  testSeconds: 3\n  \
         keys: {{distribution: zipf, count: 7, exponent: 1.1}}\n  \
         topicConfigs: {{retention.bytes: 1048576, cleanup.policy: delete}}\n  assignment: group\n"
    );
    let workload = parse(&text).expect("a good file");
    assert_eq!(workload.own.acks, 1);
    assert_eq!(workload.own.linger, Duration::from_micros(500));
    assert_eq!(workload.own.codec, Codec::Zstd);
    assert_eq!(workload.measured, Duration::from_secs(3));
    assert_eq!(workload.keys, Keys::Zipf { count: 7, exponent: 1.1 });
    assert_eq!(workload.own.assignment, Assignment::Group);
    let configs = [("retention.bytes", "1048576"), ("cleanup.policy", "delete")];
    let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(workload.own.topic_configs, configs);
}

#[test]
fn what_is_not_known_or_cannot_be_is_refused_by_name() {
    refused(
        "partitionPerTopic: 3\n",
        "there is no key partitionPerTopic; did you mean partitionsPerTopic?",
    );
    refused("corelane: {ack: 1}\n", "there is no key corelane.ack; did you mean corelane.acks?");
    refused("corelane: {keys: {dist: zipf}}\n", "there is no key corelane.keys.dist");
    refused("zzzzzzzzzzzz: 3\n", "there is no key zzzzzzzzzzzz");
    refused(
        "corelane: {transactions: true}\n",
        "corelane.transactions: this load generator makes no transactions yet",
    );
    refused("corelane: {acks: 2}\n", "corelane.acks: 2 is none of 0, 1, all, -1");
    refused("corelane: {inFlight: 0}\n", "corelane.inFlight: 0 is not from 1 to 1000");
    refused("corelane: {inFlight: 1.5}\n", "corelane.inFlight: 1.5 is not a whole number");
    refused("payloadFile: no/such.data\n", "payloadFile: there is no no/such.data");
    refused(
        "consumerBacklogSizeGB: 1\nsubscriptionsPerTopic: 0\n",
        "a backlog needs consumers to drain it",
    );
    refused(
        "keyDistributor: NO_KEY\ncorelane: {keys: {distribution: zipf}}\n",
        "corelane.keys: keyDistributor stands there too; say it once",
    );
    let told = parse("topics: 1\npartitionsPerTopic: 1\nmessageSize: 100\n").expect_err("no rate");
    assert_eq!(told.to_string(), "the key producerRate is missing");
    let told = parse("topics: [1").expect_err("not YAML").to_string();
    assert!(told.starts_with("not YAML: "), "{told}");
}

/// Every workload that is shipped, and one for each family at least.
#[test]
fn every_shipped_workload_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    let mut read = 0;
    for entry in fs::read_dir(folder).expect("the folder of workloads") {
        let path = entry.expect("an entry").path();
        assert_eq!(path.extension().and_then(|it| it.to_str()), Some("yaml"), "{}", path.display());
        let workload = Workload::read(&path).unwrap_or_else(|it| panic!("{it}"));
        assert!(!workload.name.is_empty(), "{}", path.display());
        read += 1;
    }
    assert!(30 <= read, "only {read} workloads are there");
}

//! Drives the rdkafka crate: librdkafka as Rust programs use it.
//!
//! One JSON object per line in, one out. A failure of the client is an answer; the cases judge it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::{DeliveryResult, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

type Answer = Result<Value, Box<dyn Error>>;

const VERSION: &str = "0.39.0";
const CALL_SECONDS_MAX: Duration = Duration::from_secs(120);
const POLL_STEP: Duration = Duration::from_millis(50);
const RECORDS_PER_POLL_MAX: usize = 500;

/// What became of each record that is on its way, by its place in the request.
#[derive(Default)]
struct Deliveries(Mutex<BTreeMap<usize, Value>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<usize>) {
        let outcome = match result {
            Ok(message) => json!(message.offset()),
            Err((failure, _)) => json!(failure.to_string()),
        };
        self.0.lock().expect("nobody panics while holding it").insert(*place, outcome);
    }
}

/// What a group gave and took since the last poll.
#[derive(Default)]
struct Watch(Mutex<Vec<Value>>);

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, change: &Rebalance<'_>) {
        let (kind, list) = match change {
            Rebalance::Assign(list) => ("assigned", list),
            Rebalance::Revoke(list) => ("revoked", list),
            Rebalance::Error(_) => return,
        };
        let event = json!([kind, partitions(list)]);
        self.0.lock().expect("nobody panics while holding it").push(event);
    }
}

struct Agent {
    broker: String,
    admin: AdminClient<DefaultClientContext>,
    producers: BTreeMap<String, BaseProducer<Deliveries>>,
    consumer: Option<BaseConsumer<Watch>>,
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements()
        .iter()
        .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
        .collect()
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|it| STANDARD.decode(it).expect("the driver sends base64"))
}

fn text(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |it| json!(STANDARD.encode(it)))
}

fn received(it: &rdkafka::message::BorrowedMessage<'_>) -> Value {
    let headers: Vec<Value> = it.headers().map_or_else(Vec::new, |all| {
        all.iter().map(|header| json!([header.key, text(header.value)])).collect()
    });
    json!({
        "partition": it.partition(),
        "offset": it.offset(),
        "timestamp": it.timestamp().to_millis(),
        "key": text(it.key()),
        "value": text(it.payload()),
        "headers": headers,
    })
}

impl Agent {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.broker);
        config
    }

    fn answer(&mut self, ask: &Value) -> Answer {
        let topic = ask["topic"].as_str().unwrap_or_default();
        let options = AdminOptions::new();
        match ask["do"].as_str().ok_or("no request")? {
            "create" => {
                let count = i32::try_from(ask["partitions"].as_i64().ok_or("no partitions")?)?;
                let mut wanted = NewTopic::new(topic, count, TopicReplication::Fixed(1));
                for (name, value) in ask["configs"].as_object().ok_or("no configs")? {
                    wanted = wanted.set(name, value.as_str().ok_or("no value")?);
                }
                for it in block_on(self.admin.create_topics(&[wanted], &options))? {
                    it.map_err(|(_, code)| code)?;
                }
            }
            "delete" => {
                for it in block_on(self.admin.delete_topics(&[topic], &options))? {
                    it.map_err(|(_, code)| code)?;
                }
            }
            "describe" => return self.describe(topic),
            "configs" => return self.configs(topic),
            "alter" => {
                let mut wanted = AlterConfig::new(ResourceSpecifier::Topic(topic));
                for (name, value) in ask["set"].as_object().ok_or("no configs")? {
                    wanted = wanted.set(name, value.as_str().ok_or("no value")?);
                }
                for it in block_on(self.admin.alter_configs(&[wanted], &options))? {
                    it.map_err(|(_, code)| code)?;
                }
            }
            "produce" => return self.produce(topic, ask),
            "open" => self.open(topic, ask)?,
            "read" => return self.read(ask),
            "join" => self.join(topic, ask)?,
            "poll" => return self.poll(ask),
            "commit" => self.opened()?.commit_consumer_state(CommitMode::Sync)?,
            "close" | "leave" => self.consumer = None,
            other => return Err(format!("no such request: {other}").into()),
        }
        Ok(json!({}))
    }

    fn describe(&self, topic: &str) -> Answer {
        // Who names a topic that is not there makes it; a list of all makes none.
        let found = self.admin.inner().fetch_metadata(None, CALL_SECONDS_MAX)?;
        let found = found.topics().iter().find(|it| it.name() == topic).ok_or("unknown topic")?;
        if let Some(code) = found.error() {
            return Err(rdkafka::types::RDKafkaErrorCode::from(code).into());
        }
        let each = found.partitions().iter();
        let partitions: Vec<Value> = each
            .map(|it| json!({ "partition": it.id(), "leader": it.leader(), "replicas": it.replicas() }))
            .collect();
        Ok(json!({ "partitions": partitions }))
    }

    fn configs(&self, topic: &str) -> Answer {
        let asked = [ResourceSpecifier::Topic(topic)];
        let mut configs = BTreeMap::new();
        for resource in block_on(self.admin.describe_configs(&asked, &AdminOptions::new()))? {
            for it in resource?.entries {
                configs.insert(it.name, it.value);
            }
        }
        Ok(json!({ "configs": configs }))
    }

    fn producer(&mut self, ask: &Value) -> Result<&BaseProducer<Deliveries>, Box<dyn Error>> {
        let key = format!("{} {} {}", ask["codec"], ask["acks"], ask["idempotent"]);
        if !self.producers.contains_key(&key) {
            let mut config = self.config();
            config.set("compression.type", ask["codec"].as_str().ok_or("no codec")?);
            config.set("acks", ask["acks"].to_string());
            config.set("enable.idempotence", ask["idempotent"].to_string());
            config.set("linger.ms", "5").set("message.max.bytes", "8388608");
            self.producers.insert(key.clone(), config.create_with_context(Deliveries::default())?);
        }
        Ok(&self.producers[&key])
    }

    fn produce(&mut self, topic: &str, ask: &Value) -> Answer {
        let records = ask["records"].as_array().ok_or("no records")?;
        let acks = ask["acks"].as_i64().ok_or("no acks")?;
        let producer = self.producer(ask)?;
        let deliveries = &producer.context().0;
        for (place, it) in records.iter().enumerate() {
            let (key, value) = (bytes(&it["key"]), bytes(&it["value"]));
            let mut headers = OwnedHeaders::new();
            for pair in it["headers"].as_array().ok_or("no headers")? {
                let value = bytes(&pair[1]);
                headers = headers.insert(Header {
                    key: pair[0].as_str().ok_or("no name")?,
                    value: value.as_ref(),
                });
            }
            let mut record: BaseRecord<'_, [u8], [u8], Box<usize>> =
                BaseRecord::with_opaque_to(topic, Box::new(place)).headers(headers);
            record =
                record.partition(i32::try_from(it["partition"].as_i64().ok_or("no partition")?)?);
            record.key = key.as_deref();
            record.payload = value.as_deref();
            record.timestamp = it["timestamp"].as_i64();
            if let Err((failure, _)) = producer.send(record) {
                let outcome = json!(failure.to_string());
                deliveries.lock().expect("nobody panics while holding it").insert(place, outcome);
            }
        }
        producer.flush(CALL_SECONDS_MAX)?;
        let done = std::mem::take(&mut *deliveries.lock().expect("nobody panics while holding it"));
        let known = |it: Value| if acks == 0 && it.is_i64() { Value::Null } else { it };
        let results: Vec<Value> = done.into_values().map(known).collect();
        Ok(json!({ "results": results }))
    }

    fn opened(&self) -> Result<&BaseConsumer<Watch>, Box<dyn Error>> {
        self.consumer.as_ref().ok_or_else(|| "nothing is open".into())
    }

    fn open(&mut self, topic: &str, ask: &Value) -> Result<(), Box<dyn Error>> {
        let partition = i32::try_from(ask["partition"].as_i64().ok_or("no partition")?)?;
        let mut config = self.config();
        config.set("group.id", "unused").set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Watch> = config.create_with_context(Watch::default())?;
        let mut place = TopicPartitionList::new();
        match (ask["offset"].as_i64(), ask["timestamp"].as_i64()) {
            (Some(offset), _) => {
                place.add_partition_offset(topic, partition, Offset::Offset(offset))?
            }
            (None, Some(it)) => {
                place.add_partition_offset(topic, partition, Offset::Offset(it))?;
                place = consumer.offsets_for_times(place, CALL_SECONDS_MAX)?;
            }
            (None, None) => {
                let (_, end) = consumer.fetch_watermarks(topic, partition, CALL_SECONDS_MAX)?;
                place.add_partition_offset(topic, partition, Offset::Offset(end))?;
            }
        }
        consumer.assign(&place)?;
        self.consumer = Some(consumer);
        Ok(())
    }

    fn take(&self, ask: &Value, count: usize) -> Result<Vec<Value>, Box<dyn Error>> {
        let consumer = self.opened()?;
        let until =
            Instant::now() + Duration::from_secs_f64(ask["seconds"].as_f64().ok_or("no seconds")?);
        let mut found = Vec::new();
        while found.len() < count && Instant::now() < until {
            match consumer.poll(POLL_STEP) {
                Some(it) => found.push(received(&it?)),
                None => {}
            }
        }
        Ok(found)
    }

    fn read(&self, ask: &Value) -> Answer {
        let count = usize::try_from(ask["count"].as_u64().ok_or("no count")?)?;
        Ok(json!({ "records": self.take(ask, count)? }))
    }

    fn join(&mut self, topic: &str, ask: &Value) -> Result<(), Box<dyn Error>> {
        let mut config = self.config();
        config.set("group.id", ask["group"].as_str().ok_or("no group")?);
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        let session = ask["session_ms"].as_i64().ok_or("no session")?;
        config.set("session.timeout.ms", session.to_string()).set("heartbeat.interval.ms", "500");
        let cooperative = ask["cooperative"].as_bool().unwrap_or(false);
        config.set(
            "partition.assignment.strategy",
            if cooperative { "cooperative-sticky" } else { "range" },
        );
        if let Some(instance) = ask["instance"].as_str() {
            config.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer<Watch> = config.create_with_context(Watch::default())?;
        consumer.subscribe(&[topic])?;
        self.consumer = Some(consumer);
        Ok(())
    }

    fn poll(&self, ask: &Value) -> Answer {
        let records = self.take(ask, RECORDS_PER_POLL_MAX)?;
        let consumer = self.opened()?;
        let assigned = partitions(&consumer.assignment()?);
        let events = std::mem::take(
            &mut *consumer.context().0.lock().expect("nobody panics while holding it"),
        );
        Ok(json!({ "assigned": assigned, "events": events, "records": records }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: rdkafka-agent HOST:PORT")?;
    let admin = ClientConfig::new().set("bootstrap.servers", &broker).create()?;
    let mut agent = Agent { broker, admin, producers: BTreeMap::new(), consumer: None };
    let mut out = std::io::stdout();
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let version = format!("{VERSION} (librdkafka {librdkafka})");
    writeln!(out, "{}", json!({ "client": "rdkafka", "version": version }))?;
    for line in std::io::stdin().lock().lines() {
        let ask = serde_json::from_str(&line?)?;
        let answer = match agent.answer(&ask) {
            Ok(it) => json!({ "ok": it }),
            Err(failure) => json!({ "error": failure.to_string() }),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

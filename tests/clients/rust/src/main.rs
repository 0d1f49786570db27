//! Drives rskafka: pure Rust, Fetch 4 only, no groups.
//!
//! One JSON object per line in, one out. A failure of the client is an answer; the cases judge it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use serde_json::{Value, json};

type Answer = Result<Value, Box<dyn Error>>;

const VERSION: &str = "0.6.0";
const FETCH_BYTES_MAX: i32 = 8 << 20;
const FETCH_WAIT_MS: i32 = 200;

/// Where the next `read` goes on.
struct Place {
    client: PartitionClient,
    partition: i32,
    offset: i64,
}

struct Agent {
    client: Client,
    place: Option<Place>,
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|it| STANDARD.decode(it).expect("the driver sends base64"))
}

fn text(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |it| json!(STANDARD.encode(it)))
}

fn record_in(value: &Value) -> Result<Record, Box<dyn Error>> {
    let mut headers = BTreeMap::new();
    for pair in value["headers"].as_array().ok_or("no headers")? {
        headers.insert(
            pair[0].as_str().ok_or("no name")?.to_owned(),
            bytes(&pair[1]).unwrap_or_default(),
        );
    }
    let timestamp = match value["timestamp"].as_i64() {
        Some(it) => DateTime::from_timestamp_millis(it).ok_or("timestamp out of range")?,
        None => Utc::now(),
    };
    Ok(Record { key: bytes(&value["key"]), value: bytes(&value["value"]), headers, timestamp })
}

fn record_out(partition: i32, it: &RecordAndOffset) -> Value {
    let headers: Vec<Value> =
        it.record.headers.iter().map(|(name, value)| json!([name, text(Some(value))])).collect();
    json!({
        "partition": partition,
        "offset": it.offset,
        "timestamp": it.record.timestamp.timestamp_millis(),
        "key": text(it.record.key.as_deref()),
        "value": text(it.record.value.as_deref()),
        "headers": headers,
    })
}

impl Agent {
    async fn answer(&mut self, ask: &Value) -> Answer {
        let topic = ask["topic"].as_str().unwrap_or_default();
        match ask["do"].as_str().ok_or("no request")? {
            "create" => {
                let partitions = i32::try_from(ask["partitions"].as_i64().ok_or("no partitions")?)?;
                self.client.controller_client()?.create_topic(topic, partitions, 1, 30_000).await?;
            }
            "delete" => self.client.controller_client()?.delete_topic(topic, 30_000).await?,
            "describe" => return self.describe(topic).await,
            "produce" => return self.produce(topic, ask).await,
            "open" => self.open(topic, ask).await?,
            "read" => return self.read(ask).await,
            "close" => self.place = None,
            other => return Err(format!("no such request: {other}").into()),
        }
        Ok(json!({}))
    }

    async fn partition(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<PartitionClient, Box<dyn Error>> {
        Ok(self.client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?)
    }

    async fn describe(&self, topic: &str) -> Answer {
        let topics = self.client.list_topics().await?;
        let found = topics.iter().find(|it| it.name == topic).ok_or("unknown topic")?;
        Ok(json!({ "partitions": found.partitions.iter().collect::<Vec<_>>() }))
    }

    async fn produce(&self, topic: &str, ask: &Value) -> Answer {
        let codec = match ask["codec"].as_str().ok_or("no codec")? {
            "none" => Compression::NoCompression,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            other => return Err(format!("no such codec: {other}").into()),
        };
        let records = ask["records"].as_array().ok_or("no records")?;
        let mut places: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (place, it) in records.iter().enumerate() {
            places.entry(it["partition"].as_i64().ok_or("no partition")?).or_default().push(place);
        }
        let mut results = vec![Value::Null; records.len()];
        for (partition, places) in places {
            let client = self.partition(topic, i32::try_from(partition)?).await?;
            let batch =
                places.iter().map(|&it| record_in(&records[it])).collect::<Result<_, _>>()?;
            match client.produce(batch, codec).await {
                Ok(done) => {
                    for (&place, offset) in places.iter().zip(done) {
                        results[place] = json!(offset);
                    }
                }
                Err(failure) => {
                    for place in places {
                        results[place] = json!(failure.to_string());
                    }
                }
            }
        }
        Ok(json!({ "results": results }))
    }

    async fn open(&mut self, topic: &str, ask: &Value) -> Result<(), Box<dyn Error>> {
        let partition = i32::try_from(ask["partition"].as_i64().ok_or("no partition")?)?;
        let client = self.partition(topic, partition).await?;
        let offset = match (ask["offset"].as_i64(), ask["timestamp"].as_i64()) {
            (Some(offset), _) => offset,
            (None, Some(it)) => {
                let at = DateTime::from_timestamp_millis(it).ok_or("timestamp out of range")?;
                client.get_offset(OffsetAt::Timestamp(at)).await?
            }
            (None, None) => client.get_offset(OffsetAt::Latest).await?,
        };
        self.place = Some(Place { client, partition, offset });
        Ok(())
    }

    async fn read(&mut self, ask: &Value) -> Answer {
        let place = self.place.as_mut().ok_or("nothing is open")?;
        let count = usize::try_from(ask["count"].as_u64().ok_or("no count")?)?;
        let until =
            Instant::now() + Duration::from_secs_f64(ask["seconds"].as_f64().ok_or("no seconds")?);
        let mut found = Vec::new();
        while found.len() < count && Instant::now() < until {
            let bytes = 1..FETCH_BYTES_MAX;
            let (records, _) =
                place.client.fetch_records(place.offset, bytes, FETCH_WAIT_MS).await?;
            for it in records.into_iter().take(count - found.len()) {
                place.offset = it.offset + 1;
                found.push(record_out(place.partition, &it));
            }
        }
        Ok(json!({ "records": found }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: rskafka-agent HOST:PORT")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(ClientBuilder::new(vec![broker]).build())?;
    let mut agent = Agent { client, place: None };
    let mut out = std::io::stdout();
    writeln!(out, "{}", json!({ "client": "rskafka", "version": VERSION }))?;
    for line in std::io::stdin().lock().lines() {
        let ask = serde_json::from_str(&line?)?;
        let answer = match runtime.block_on(agent.answer(&ask)) {
            Ok(it) => json!({ "ok": it }),
            Err(failure) => json!({ "error": failure.to_string() }),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

//! A small disk that fills up: appends are refused with the error Kafka has for it, reads and starts go on,
//! and when there is room again the same process takes appends again.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use corelane_client::records::Record;
use corelane_client::{Client, Options, Producer, ProducerOptions};
use corelane_core::time::Nanos;

use crate::broker::{Broker, Kind};
use crate::check::check;
use crate::load::{PARTITIONS, TOPIC, create, on_lane, value};
use crate::machine::{Mounted, Trouble};

const DISK_BYTES: u64 = 384 << 20;

/// What is in the way until it is removed.
const FILLER_BYTES: usize = 96 << 20;

/// Records of one batch: it has some hundred kilobytes.
const BATCH_RECORDS: i64 = 300;

/// No disk of this size takes more.
const BATCHES_MAX: i64 = 20_000;

pub(crate) fn run(directory: &Path) -> Result<String, Trouble> {
    let image = directory.join("disk");
    let made = File::create(&image).and_then(|it| it.set_len(DISK_BYTES));
    made.map_err(|error| Trouble::of("making a disk", &error))?;
    let at = directory.join("mounted");
    let mounted = Mounted::make(&image, &at)?;
    let filler = at.join("filler");
    let filled = File::create(&filler).and_then(|mut it| it.write_all(&vec![1; FILLER_BYTES]));
    filled.map_err(|error| Trouble::of("filling a disk", &error))?;
    let log = directory.join("full.log");
    let mut broker = Broker::new(Kind::Sound, &at.join("data"), &log);
    broker.start(2)?;
    create(broker.address())?;
    let taken = fill(broker.address(), vec![0; PARTITIONS as usize])?;
    check(broker.address(), taken.clone())?;
    // A full disk is no reason not to start, nor to read.
    broker.kill()?;
    broker.start(2)?;
    check(broker.address(), taken.clone())?;
    let again = fill(broker.address(), taken.clone())?;
    fs::remove_file(&filler).map_err(|error| Trouble::of("making room", &error))?;
    let more = more_than(broker.address(), again.clone())?;
    let held = check(broker.address(), more)?;
    broker.stop()?;
    drop(broker);
    mounted.end()?;
    let first: i64 = taken.iter().sum();
    Ok(format!(
        "{first} records until the disk was full, and {} in all once there was room; {} bytes",
        held.records, held.bytes
    ))
}

/// Appends to every partition in turn until one is refused, and says where each ended.
fn fill(broker: SocketAddr, from: Vec<i64>) -> Result<Vec<i64>, Trouble> {
    on_lane(move |lane| async move {
        let client = Client::new(&lane, Options::new(vec![broker]));
        let options = ProducerOptions { idempotent: false, ..ProducerOptions::default() };
        let producer = |partition| Producer::new(&client, TOPIC, partition, options.clone());
        let producers: Vec<_> = (0..PARTITIONS).map(producer).collect();
        let mut ends = from;
        for batch in 0..BATCHES_MAX {
            let partition = (batch % i64::from(PARTITIONS)) as usize;
            let first = ends[partition];
            let record = |it| Record::of_value(it, value(partition as i32, it));
            let records = (first..first + BATCH_RECORDS).map(record).collect();
            match producers[partition].send(records).await.done().await {
                Ok(_) => ends[partition] += BATCH_RECORDS,
                Err(it) if it.error.code().is_some_and(|it| it.name() == STORAGE_ERROR) => {
                    return Ok(ends);
                }
                // The journal is busy with what came before.
                Err(it) if it.error.is_retriable() && it.error.code().is_some() => {
                    lane.sleep(Nanos::millis(10)).await;
                }
                Err(it) => return Err(Trouble(format!("a full disk said: {it}"))),
            }
        }
        Err(Trouble("the disk never was full".to_owned()))
    })?
}

/// Appends one batch to every partition, however often it is refused at first.
fn more_than(broker: SocketAddr, from: Vec<i64>) -> Result<Vec<i64>, Trouble> {
    on_lane(move |lane| async move {
        let client = Client::new(&lane, Options::new(vec![broker]));
        let options = ProducerOptions { idempotent: false, ..ProducerOptions::default() };
        let mut ends = from;
        for partition in 0..PARTITIONS {
            let producer = Producer::new(&client, TOPIC, partition, options.clone());
            let end = &mut ends[partition as usize];
            let mut attempts = 0;
            loop {
                let record = |it| Record::of_value(it, value(partition, it));
                let records = (*end..*end + BATCH_RECORDS).map(record).collect();
                match producer.send(records).await.done().await {
                    Ok(_) => break,
                    Err(it) if it.error.code().is_some() && attempts < ATTEMPTS_MAX => {
                        attempts += 1;
                        lane.sleep(Nanos::millis(20)).await;
                    }
                    Err(it) => return Err(Trouble(format!("with room again: {it}"))),
                }
            }
            *end += BATCH_RECORDS;
        }
        Ok(ends)
    })?
}

const STORAGE_ERROR: &str = "KAFKA_STORAGE_ERROR";
const ATTEMPTS_MAX: u32 = 1000;

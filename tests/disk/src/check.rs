//! What a broker still has, held against what it promised.

use std::net::SocketAddr;

use corelane_client::{Client, ClientError, FetchWant, Fetched, Options, records};
use corelane_core::time::Nanos;

use crate::load::{PARTITIONS, TOPIC, on_lane, value};
use crate::machine::Trouble;

/// Attempts of one fetch. The first ones may meet connections of a broker that is no more.
const ATTEMPTS_MAX: u32 = 200;

/// What was read, when all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// Where each partition ended.
    pub(crate) ends: Vec<i64>,
    pub(crate) records: i64,
    pub(crate) bytes: u64,
}

impl Held {
    /// Before anything was read.
    pub(crate) fn nothing() -> Self {
        Self { ends: vec![0; PARTITIONS as usize], records: 0, bytes: 0 }
    }
}

/// Reads every partition from its start to its end. Everything promised must be there, each record once, in
/// order, byte for byte.
pub(crate) fn check(broker: SocketAddr, promised: Vec<i64>) -> Result<Held, Trouble> {
    check_from(broker, promised, &Held::nothing())
}

/// As [`check`], from where an earlier look ended.
pub(crate) fn check_from(
    broker: SocketAddr,
    promised: Vec<i64>,
    before: &Held,
) -> Result<Held, Trouble> {
    let before = before.clone();
    on_lane(move |lane| async move {
        let client = Client::new(&lane, Options::new(vec![broker]));
        let mut held = Held { ends: before.ends.clone(), records: 0, bytes: 0 };
        for partition in 0..PARTITIONS {
            let promised = promised[partition as usize];
            let (end, bytes) =
                check_one(&client, partition, before.ends[partition as usize]).await?;
            if end < promised {
                let lost = promised - end;
                let what = format!("{lost} of {promised} records that were acknowledged are lost");
                return Err(Trouble(format!("partition {partition}: {what}")));
            }
            held.ends[partition as usize] = end;
            held.records += end;
            held.bytes += bytes;
        }
        Ok(held)
    })?
}

/// How many promised records are gone: what a broker that does not flush loses.
pub(crate) fn count_lost(broker: SocketAddr, promised: Vec<i64>) -> Result<i64, Trouble> {
    on_lane(move |lane| async move {
        let client = Client::new(&lane, Options::new(vec![broker]));
        let mut lost = 0;
        for partition in 0..PARTITIONS {
            let end = match fetch(&client, partition, 0).await {
                Ok(fetched) => fetched.high_watermark,
                // Not even the topic is there.
                Err(error) if error.code().is_some() => 0,
                Err(error) => return Err(Trouble(error.to_string())),
            };
            lost += (promised[partition as usize] - end).max(0);
        }
        Ok(lost)
    })?
}

/// The end of a partition, and how many bytes its records have.
async fn check_one(client: &Client, partition: i32, from: i64) -> Result<(i64, u64), Trouble> {
    let wrong = |what: String| Trouble(format!("partition {partition}: {what}"));
    let (mut at, mut bytes) = (from, 0);
    loop {
        let fetched = fetch(client, partition, at).await;
        let fetched = fetched.map_err(|error| wrong(format!("reading at {at}: {error}")))?;
        if fetched.log_start != 0 {
            return Err(wrong(format!("the log begins at {}", fetched.log_start)));
        }
        if fetched.high_watermark <= at {
            return Ok((at, bytes));
        }
        let read = records::read(&fetched.records).map_err(|error| wrong(error.to_string()))?;
        if read.records.is_empty() {
            return Err(wrong(format!("nothing at {at} of {}", fetched.high_watermark)));
        }
        for (offset, record) in &read.records {
            if *offset < at {
                continue; // a batch is given whole
            }
            let found = record.value.as_deref().unwrap_or_default();
            if *offset != at || found != value(partition, at) {
                let begins = String::from_utf8_lossy(&found[..found.len().min(20)]).into_owned();
                let what = format!("offset {offset} has {begins:?} where {at} should come");
                return Err(wrong(what));
            }
            at += 1;
            bytes += found.len() as u64;
        }
    }
}

async fn fetch(client: &Client, partition: i32, from: i64) -> Result<Fetched, ClientError> {
    let want = FetchWant { wait: Nanos::ZERO, ..FetchWant::new(partition, from) };
    let mut attempts = 0;
    loop {
        match client.fetch(TOPIC, &want).await {
            // A broker that answers means what it says.
            Err(error) if error.code().is_none() && attempts < ATTEMPTS_MAX => {
                attempts += 1;
                client.lane().sleep(Nanos::millis(10)).await;
            }
            other => return other,
        }
    }
}

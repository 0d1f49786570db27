//! Producers that never stop, and what they were promised.
//!
//! Each partition has one idempotent producer, and the records say themselves where they belong: record `n`
//! of a partition has the offset `n`, or something was lost, repeated, or came out of order.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane_client::records::Record;
use corelane_client::{Client, Options, Producer, ProducerOptions, Receipt};
use corelane_core::host::{Lanes, LanesSetup, start_lanes};
use corelane_core::ids::LaneId;
use corelane_core::lane::{Executor, Lane, join_all, race};
use corelane_core::sync::Event;
use corelane_core::time::Nanos;

use crate::dice::Dice;
use crate::machine::Trouble;

pub(crate) const TOPIC: &str = "promises";
pub(crate) const PARTITION_COUNT: usize = 7;
pub(crate) const PARTITIONS: i32 = PARTITION_COUNT as i32;

/// Without an acknowledgement for so long, something hangs.
pub(crate) const PROGRESS_WITHIN: Duration = Duration::from_secs(120);

/// Batches that may be sent beyond what is waited for: the load goes on while a broker is killed, while it
/// starts, and for a while after that.
const BATCHES_AHEAD: u64 = 300;

const POOL_BYTES: usize = 64 << 20;
const RECORDS_PER_BATCH_MAX: u64 = 4;
const TIME_MS: i64 = 1_700_000_000_000;

/// What record `number` of a partition says: always the same, and of many lengths.
pub(crate) fn value(partition: i32, number: i64) -> Vec<u8> {
    let mut dice = Dice::new((number as u64) << 16 | partition as u64);
    let bytes = match dice.below(16) {
        0 => 4000 + dice.below(16_000),
        1..4 => 400 + dice.below(2000),
        _ => dice.below(300),
    };
    let mut value = format!("{partition}/{number} ").into_bytes();
    let end = value.len() + bytes as usize;
    while value.len() < end {
        value.extend(dice.next().to_le_bytes());
    }
    value.truncate(end);
    value
}

/// Runs something on a lane of its own, to its end.
pub(crate) fn on_lane<T: Send + 'static, F: Future<Output = T> + 'static>(
    work: impl FnOnce(Lane) -> F + Send + 'static,
) -> Result<T, Trouble> {
    let (sender, receiver) = mpsc::channel();
    let lanes = start(move |lane| {
        let work = work(lane);
        async move { drop(sender.send(work.await)) }
    })?;
    let outcome = receiver.recv();
    lanes.join().map_err(|error| Trouble(error.to_string()))?;
    outcome.map_err(|_| Trouble("a lane ended without its result".to_owned()))
}

fn start<F: Future<Output = ()> + 'static>(
    work: impl FnOnce(Lane) -> F + Send + 'static,
) -> Result<Lanes, Trouble> {
    let setup = LanesSetup { lanes: 1, cores: Vec::new(), pool_bytes: POOL_BYTES };
    let mut work = Some(work);
    let started = start_lanes(&setup, |_| {
        let work = work.take().expect("one lane");
        move |ring| {
            let mut executor = Executor::new(ring);
            let lane = executor.lane().clone();
            executor.block_on(work(lane));
        }
    });
    started.map_err(|refusal| Trouble(format!("no lane for the client: {refusal}")))
}

/// What is shared with the lane that sends.
#[derive(Default)]
struct Shared {
    /// By partition, the offset after the last record that was acknowledged.
    acknowledged: [AtomicI64; PARTITION_COUNT],
    /// Batches that were sent, and that may be: so that the log does not outgrow whoever reads it.
    sent: AtomicU64,
    allowed: AtomicU64,
    /// Send nothing new.
    enough: AtomicBool,
    /// Wait for nothing, either.
    abandoned: AtomicBool,
    wrong: Mutex<Option<String>>,
}

/// Running producers.
pub(crate) struct Load {
    shared: Arc<Shared>,
    batches: Receiver<()>,
    lanes: Lanes,
}

impl Load {
    pub(crate) fn start(broker: SocketAddr, seed: u64) -> Result<Self, Trouble> {
        let shared = Arc::new(Shared::default());
        let (told, batches) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let lanes = start(move |lane| async move {
            let client = Client::new(&lane, Options::new(vec![broker]));
            let (abandon, told_off) = (Event::new(&lane), Event::new(&lane));
            let (leave, change, flag) = (abandon.clone(), told_off.clone(), Arc::clone(&theirs));
            let since = abandon.seen();
            lane.on_wake(Rc::new(move || {
                change.notify();
                if flag.abandoned.load(Ordering::SeqCst) {
                    leave.notify();
                }
            }));
            let producers = (0..PARTITIONS).map(|partition| Producing {
                client: client.clone(),
                partition,
                shared: Arc::clone(&theirs),
                changed: told_off.clone(),
                told: told.clone(),
            });
            let producers = producers.map(|it| it.run(seed)).collect::<Vec<_>>();
            race(join_all(producers), abandon.past(since)).await;
        })?;
        Ok(Self { shared, batches, lanes })
    }

    /// Waits until so many more batches were acknowledged.
    pub(crate) fn progress(&self, batches: u64) -> Result<(), Trouble> {
        // What came while nobody looked is not progress.
        while self.batches.try_recv().is_ok() {}
        let sent = self.shared.sent.load(Ordering::SeqCst);
        self.shared.allowed.store(sent + batches + BATCHES_AHEAD, Ordering::SeqCst);
        self.lanes.remote(LaneId(0)).wake();
        for _ in 0..batches {
            match self.batches.recv_timeout(PROGRESS_WITHIN) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Trouble("no acknowledgement for a long time".to_owned()));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.sound()
    }

    /// What was promised until now, by partition.
    pub(crate) fn acknowledged(&self) -> Vec<i64> {
        self.shared.acknowledged.iter().map(|it| it.load(Ordering::SeqCst)).collect()
    }

    fn sound(&self) -> Result<(), Trouble> {
        let wrong = self.shared.wrong.lock().expect("nobody panics with it");
        wrong.clone().map_or(Ok(()), |it| Err(Trouble(it)))
    }

    /// Sends nothing more and waits for what is under way.
    pub(crate) fn finish(self) -> Result<Vec<i64>, Trouble> {
        self.shared.enough.store(true, Ordering::SeqCst);
        self.lanes.remote(LaneId(0)).wake();
        self.lanes.join().map_err(|error| Trouble(error.to_string()))?;
        let wrong = self.shared.wrong.lock().expect("nobody panics with it").clone();
        let acknowledged = self.shared.acknowledged.iter();
        let acknowledged = acknowledged.map(|it| it.load(Ordering::SeqCst)).collect();
        wrong.map_or(Ok(acknowledged), |it| Err(Trouble(it)))
    }

    /// Goes away at once; what was promised until then.
    pub(crate) fn abandon(self) -> Result<Vec<i64>, Trouble> {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        self.lanes.remote(LaneId(0)).wake();
        self.lanes.join().map_err(|error| Trouble(error.to_string()))?;
        Ok(self.shared.acknowledged.iter().map(|it| it.load(Ordering::SeqCst)).collect())
    }
}

/// One partition's producer, with as many batches under way as a broker remembers.
struct Producing {
    client: Client,
    partition: i32,
    shared: Arc<Shared>,
    /// Told when more is allowed, or enough.
    changed: Event,
    told: mpsc::Sender<()>,
}

impl Producing {
    async fn run(self, seed: u64) {
        let options = ProducerOptions { backoff: Nanos::millis(20), ..ProducerOptions::default() };
        let (partition, in_flight_max) = (self.partition, options.in_flight_max);
        let producer = Producer::new(&self.client, TOPIC, partition, options);
        let mut dice = Dice::new(seed ^ partition as u64);
        let mut under_way: VecDeque<(i64, i64, Receipt)> = VecDeque::new();
        let mut next = 0;
        loop {
            let seen = self.changed.seen();
            let enough = self.shared.enough.load(Ordering::SeqCst);
            let allowed = self.shared.allowed.load(Ordering::SeqCst);
            let more = !enough && self.shared.sent.load(Ordering::SeqCst) < allowed;
            if more && under_way.len() < in_flight_max {
                let end = next + 1 + dice.below(RECORDS_PER_BATCH_MAX) as i64;
                let record = |it| Record::of_value(TIME_MS + it, value(partition, it));
                let receipt = producer.send((next..end).map(record).collect()).await;
                under_way.push_back((next, end, receipt));
                self.shared.sent.fetch_add(1, Ordering::SeqCst);
                next = end;
                continue;
            }
            let Some((first, end, receipt)) = under_way.pop_front() else {
                if enough {
                    return;
                }
                self.changed.past(seen).await;
                continue;
            };
            let wrong = match receipt.done().await {
                Ok(it) if it.offset.is_none_or(|it| it == first) => None,
                Ok(it) => {
                    Some(format!("{partition}/{first} was acknowledged at offset {:?}", it.offset))
                }
                Err(error) => Some(format!("{partition}/{first}: {error}")),
            };
            if let Some(wrong) = wrong {
                self.shared.wrong.lock().expect("nobody panics with it").get_or_insert(wrong);
                return;
            }
            self.shared.acknowledged[partition as usize].store(end, Ordering::SeqCst);
            // Whoever counts may have gone.
            self.told.send(()).ok();
        }
    }
}

/// Makes the topic, with segments so small that they roll while they are watched.
pub(crate) fn create(broker: SocketAddr) -> Result<(), Trouble> {
    let made = on_lane(move |lane| async move {
        let client = Client::new(&lane, Options::new(vec![broker]));
        client.create_topic(TOPIC, PARTITIONS, &[("segment.bytes", "1048576")]).await
    })?;
    made.map(drop).map_err(|error| Trouble(format!("making the topic: {error}")))
}

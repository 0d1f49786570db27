//! Batches into one partition: in order, several under way.
//!
//! A producer that is not idempotent sends each batch once: what becomes of it after a lost
//! connection is unknown, and said to be. One that is numbers its batches and goes back to the oldest
//! unanswered one whenever something goes wrong, so that each is in the log once, in order.
//!
//! - PROD-1: batches are sent in the order of [`Producer::send`], and answered in it;
//! - PROD-2: the numbers under one name have no hole: when a batch is given up, so is the name, and
//!   every batch that was ever sent under it;
//! - PROD-3: no more than `in_flight_max` batches are under way, and `queue_max` wait.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use corelane_core::lane::{Importance, Lane, Race, race};
use corelane_core::sync::{Giver, Queue, Taker, once};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelane_net::wire::{Records, Uuid};

use crate::admin::ProducerName;
use crate::client::{Client, Use};
use crate::codec::Codec;
use crate::conn::{Answer, Connection};
use crate::error::{ClientError, Lost, check};
use crate::records::{Record, Sequence, batch};

/// More batches than a broker remembers cannot be told from repeated ones.
const REMEMBERED_BATCHES: usize = 5;

/// When a batch counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// When it was sent; nobody says what became of it.
    None,
    /// When its leader has it.
    Leader,
    /// When every replica in sync has it.
    All,
}

#[derive(Debug, Clone)]
pub struct ProducerOptions {
    pub acks: Acks,
    pub idempotent: bool,
    pub codec: Codec,
    pub in_flight_max: usize,
    pub queue_max: usize,
    /// Between a failed attempt and the next.
    pub backoff: Nanos,
    /// After this time no new attempt is made.
    pub deliver_within: Nanos,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            codec: Codec::None,
            in_flight_max: REMEMBERED_BATCHES,
            queue_max: 64,
            backoff: Nanos::millis(100),
            deliver_within: Nanos::secs(120),
        }
    }
}

/// A batch that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Of its first record; unknown when no answer was asked for, or when the broker only remembers
    /// that it has it.
    pub offset: Option<i64>,
}

/// A batch that is not known to be in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Undelivered {
    /// It may be there all the same, or come there yet.
    pub indefinite: bool,
    pub error: ClientError,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.indefinite { "may or may not be there" } else { "is not there" };
        write!(f, "the batch {fate}: {}", self.error)
    }
}

impl std::error::Error for Undelivered {}

type Outcome = Result<Delivered, Undelivered>;

/// Tells what became of a batch.
pub struct Receipt(Result<Taker<Outcome>, Undelivered>);

impl Receipt {
    /// Waits for it.
    ///
    /// # Errors
    /// When the batch is not known to be delivered.
    pub async fn done(self) -> Outcome {
        let dropped = Undelivered { indefinite: true, error: gone() };
        self.0?.take().await.unwrap_or(Err(dropped))
    }
}

/// The error of a batch whose producer is gone.
fn gone() -> ClientError {
    ClientError::Lost { peer: ([0, 0, 0, 0], 0).into(), why: Lost::Dropped }
}

/// A way into one partition. When it is dropped, what waits is still delivered.
pub struct Producer {
    lane: Lane,
    queue: Queue<Batch>,
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A batch on its way.
struct Batch {
    records: Vec<Record>,
    since: Nanos,
    giver: Giver<Outcome>,
    /// As it is sent, numbered, once it has its place in the order.
    bytes: Option<Rc<Vec<u8>>>,
    /// Attempts that may have brought it into the log: those that were not refused in clear words.
    unclear: u32,
}

impl Producer {
    /// # Panics
    /// When the options contradict each other.
    #[must_use]
    pub fn new(client: &Client, topic: &str, partition: i32, options: ProducerOptions) -> Self {
        assert!(0 < options.in_flight_max, "a producer sends something");
        assert!(
            !options.idempotent
                || options.acks == Acks::All && options.in_flight_max <= REMEMBERED_BATCHES,
            "an idempotent producer waits for every answer: {options:?}"
        );
        let lane = client.lane().clone();
        let queue = Queue::new(&lane, options.queue_max);
        let sender = Sender {
            client: client.clone(),
            topic: topic.to_owned(),
            partition,
            options,
            queue: queue.clone(),
            window: VecDeque::new(),
            name: None,
            next_sequence: 0,
        };
        lane.spawn("producer", Importance::Serving, sender.run());
        Self { lane, queue }
    }

    /// Hands records over, as one batch; waits only for a place in the queue.
    pub async fn send(&self, records: Vec<Record>) -> Receipt {
        let (giver, taker) = once(&self.lane);
        let since = self.lane.now();
        let batch = Batch { records, since, giver, bytes: None, unclear: 0 };
        match self.queue.push(batch).await {
            Ok(()) => Receipt(Ok(taker)),
            Err(_) => Receipt(Err(Undelivered { indefinite: false, error: gone() })),
        }
    }
}

struct Sender {
    client: Client,
    topic: String,
    partition: i32,
    options: ProducerOptions,
    queue: Queue<Batch>,
    /// Batches taken from the queue, oldest first.
    window: VecDeque<Batch>,
    name: Option<ProducerName>,
    next_sequence: i32,
}

type Flight = Pin<Box<dyn Future<Output = Result<Answer, ClientError>>>>;

impl Sender {
    async fn run(mut self) {
        loop {
            if self.window.is_empty() {
                let Some(batch) = self.queue.pop().await else { return };
                self.window.push_back(batch);
            }
            let Err(error) = self.attempt().await else { continue };
            self.client.learn_from(&self.topic, &error);
            if !self.options.idempotent {
                self.fail_sent(&error);
            }
            let now = self.client.lane().now();
            let over = |it: &Batch| it.since + self.options.deliver_within <= now;
            if !error.is_retriable() || self.window.front().is_some_and(over) {
                self.give_up(&error);
            }
            self.client.lane().sleep(self.options.backoff).await;
        }
    }

    /// Sends until nothing is left, or something goes wrong that concerns more than one batch.
    async fn attempt(&mut self) -> Result<(), ClientError> {
        if self.options.idempotent && self.name.is_none() {
            self.name = Some(self.client.init_producer().await?);
            self.next_sequence = 0;
        }
        let (_, _, connection) =
            self.client.to_leader(&self.topic, self.partition, Use::Produce).await?;
        let mut flights: VecDeque<Flight> = VecDeque::new();
        let mut more = true;
        loop {
            while flights.len() < self.options.in_flight_max {
                if flights.len() == self.window.len() {
                    let Some(batch) = self.queue.try_pop() else { break };
                    self.window.push_back(batch);
                }
                if let Some(flight) = self.launch(&connection, flights.len()).await? {
                    flights.push_back(flight);
                }
            }
            let room = flights.len() < self.options.in_flight_max;
            let Some(front) = flights.front_mut() else { return Ok(()) };
            let landed = if more && room {
                match race(front.as_mut(), self.queue.pop()).await {
                    Race::First(landed) => landed,
                    Race::Second(Some(batch)) => {
                        self.window.push_back(batch);
                        continue;
                    }
                    Race::Second(None) => {
                        more = false;
                        continue;
                    }
                }
            } else {
                front.as_mut().await
            };
            flights.pop_front();
            self.land(landed)?;
        }
    }

    /// Puts a batch of the window on its way. Without acknowledgement that is all.
    async fn launch(
        &mut self,
        connection: &Connection,
        at: usize,
    ) -> Result<Option<Flight>, ClientError> {
        let bytes = self.place(at);
        let records = Some(Records::Bytes(&bytes));
        let partition = PartitionProduceData { index: self.partition, records };
        let topic = TopicProduceData {
            name: &self.topic,
            topic_id: Uuid::ZERO,
            partition_data: [partition].into(),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: match self.options.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: 30_000,
            topic_data: [topic].into(),
        };
        if self.options.acks == Acks::None {
            connection.tell(&request).await?;
            self.delivered(None);
            return Ok(None);
        }
        let waiting = connection.start(&request, Nanos::ZERO).await?;
        self.window[at].unclear += 1;
        Ok(Some(Box::pin(waiting.answer())))
    }

    /// Gives a batch its number, once.
    fn place(&mut self, at: usize) -> Rc<Vec<u8>> {
        let it = &mut self.window[at];
        if let Some(bytes) = &it.bytes {
            return Rc::clone(bytes);
        }
        let sequence = self.name.map(|name| Sequence {
            producer_id: name.id,
            producer_epoch: name.epoch,
            first: self.next_sequence,
        });
        let next = i64::from(self.next_sequence) + it.records.len() as i64;
        self.next_sequence = (next & i64::from(i32::MAX)) as i32;
        let bytes = Rc::new(batch(&it.records, sequence, self.options.codec));
        it.bytes = Some(Rc::clone(&bytes));
        bytes
    }

    /// Takes the answer to the oldest batch.
    fn land(&mut self, landed: Result<Answer, ClientError>) -> Result<(), ClientError> {
        match landed.and_then(|it| self.read(&it)) {
            Ok(offset) => {
                self.delivered(Some(offset));
                Ok(())
            }
            // It is in the log; where, the broker has forgotten.
            Err(error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => {
                self.delivered(None);
                Ok(())
            }
            Err(error) if error.code().is_none() || self.options.idempotent => {
                if !error.is_indefinite() {
                    self.window[0].unclear -= 1;
                }
                Err(error)
            }
            Err(error) => {
                // A refusal is about this batch alone; those behind it go their own way.
                self.client.learn_from(&self.topic, &error);
                let it = self.window.pop_front().expect("its answer came");
                it.giver.give(Err(Undelivered { indefinite: error.is_indefinite(), error }));
                Ok(())
            }
        }
    }

    fn read(&self, answer: &Answer) -> Result<i64, ClientError> {
        let said = answer.decode::<ProduceResponse<'_>>()?;
        let named = said.responses.iter().find(|it| it.name == self.topic);
        let part = named
            .and_then(|it| it.partition_responses.iter().find(|it| it.index == self.partition))
            .ok_or(ClientError::Missing { key: answer.key, what: "the partition produced to" })?;
        check(ApiKey::Produce, part.error_code, part.error_message)?;
        Ok(part.base_offset)
    }

    fn delivered(&mut self, offset: Option<i64>) {
        let it = self.window.pop_front().expect("it was sent");
        it.giver.give(Ok(Delivered { offset }));
    }

    /// Ends all that were sent and have no number by which the broker would know them again.
    fn fail_sent(&mut self, error: &ClientError) {
        while self.window.front().is_some_and(|it| 0 < it.unclear) {
            let it = self.window.pop_front().expect("just seen");
            it.giver.give(Err(Undelivered { indefinite: true, error: error.clone() }));
        }
    }

    /// Ends the oldest batch, and its name with it, and all that were sent under that name.
    fn give_up(&mut self, error: &ClientError) {
        if self.window.front().is_some_and(|it| it.unclear == 0) {
            let it = self.window.pop_front().expect("just seen");
            it.giver.give(Err(Undelivered { indefinite: false, error: error.clone() }));
        }
        self.fail_sent(error);
        self.name = None;
        for it in &mut self.window {
            it.bytes = None;
        }
    }
}

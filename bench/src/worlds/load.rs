//! What clients do in a world: produce, read along, and at last read everything.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use corelane_client::conn::{ConnOptions, Counts};
use corelane_client::records::{self, Record};
use corelane_client::{
    Acks, At, Client, ClientError, Codec, FetchWant, Options, Producer, ProducerOptions,
};
use corelane_core::lane::{Importance, Lane};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;

use super::history::{History, Place};

/// Answers in a world come sooner, or a fault keeps them.
const ANSWER_TIMEOUT: Nanos = Nanos::secs(2);

/// The topic that is made by naming it.
pub const BORN: &str = "born";
/// The topic that is made by request.
pub const MADE: &str = "made";

pub const BORN_PARTITIONS: i32 = 2;
pub const MADE_PARTITIONS: i32 = 2;

/// What all clients of a run share.
#[derive(Clone)]
pub struct Shared {
    pub broker: SocketAddr,
    pub history: Rc<RefCell<History>>,
    pub counts: Counts,
    /// Raised when the storm is over: no new work is begun.
    pub over: Rc<Cell<bool>>,
    /// Work that was begun and is not done.
    pub open: Rc<Cell<u64>>,
    /// Numbers for what must not have a name that was used before.
    pub fresh: Rc<Cell<u64>>,
}

impl Shared {
    #[must_use]
    pub fn new(broker: SocketAddr) -> Self {
        Self {
            broker,
            history: Rc::default(),
            counts: Counts::default(),
            over: Rc::default(),
            open: Rc::default(),
            fresh: Rc::default(),
        }
    }

    #[must_use]
    pub fn client(&self, lane: &Lane) -> Client {
        let mut options = Options::new(vec![self.broker]);
        options.create_topics = true;
        options.conn = self.options();
        Client::new(lane, options)
    }

    #[must_use]
    pub fn options(&self) -> ConnOptions {
        ConnOptions {
            connect_timeout: ANSWER_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
            counts: self.counts.clone(),
            ..ConnOptions::default()
        }
    }

    /// Counts as open until dropped.
    pub(super) fn work(&self) -> Work {
        self.open.set(self.open.get() + 1);
        Work(Rc::clone(&self.open))
    }
}

pub(super) struct Work(Rc<Cell<u64>>);

impl Drop for Work {
    fn drop(&mut self) {
        // What was not done in time is complained about, and counts no more.
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// All places of a world.
#[must_use]
pub fn places() -> Vec<Place> {
    let of = |topic: &str, count| {
        let topic = topic.to_owned();
        (0..count).map(move |partition| Place { topic: topic.clone(), partition })
    };
    of(BORN, BORN_PARTITIONS).chain(of(MADE, MADE_PARTITIONS)).collect()
}

/// Sends batches to one place until the storm is over.
pub async fn produce(lane: Lane, shared: Shared, place: Place, number: u32) {
    let options = match lane.random() % 6 {
        0 => ProducerOptions { acks: Acks::Leader, idempotent: false, ..options() },
        1 => ProducerOptions { acks: Acks::All, idempotent: false, ..options() },
        2 => ProducerOptions { acks: Acks::None, idempotent: false, ..options() },
        _ => options(),
    };
    let codec = Codec::ALL[(lane.random() % 5) as usize];
    let (acks, options) = (options.acks, ProducerOptions { codec, ..options });
    let client = shared.client(&lane);
    let producer = Producer::new(&client, &place.topic, place.partition, options);
    while !shared.over.get() {
        send_one(&lane, &shared, &producer, &place, number, acks).await;
        let pause = match lane.random() % 4 {
            0 => 0,
            1 => lane.random() % 2_000,
            _ => lane.random() % 150_000,
        };
        lane.sleep(Nanos::micros(pause)).await;
    }
}

pub(super) fn options() -> ProducerOptions {
    ProducerOptions {
        queue_max: 8,
        backoff: Nanos::millis(50),
        deliver_within: Nanos::secs(30),
        ..ProducerOptions::default()
    }
}

/// Sends one batch; a task of its own waits for what becomes of it.
pub(super) async fn send_one(
    lane: &Lane,
    shared: &Shared,
    producer: &Producer,
    place: &Place,
    number: u32,
    acks: Acks,
) {
    let records = u32::try_from(1 + lane.random() % 5).expect("a few");
    let history = &shared.history;
    let (id, batch) = history.borrow_mut().begin(place, number, records, lane.wall().0);
    let work = shared.work();
    let receipt = producer.send(batch).await;
    let history = Rc::clone(history);
    lane.spawn("receipt", Importance::Serving, async move {
        let outcome = receipt.done().await;
        let mut history = history.borrow_mut();
        match outcome {
            Ok(_) if acks == Acks::None => history.told(id),
            Ok(delivered) => history.acked(id, delivered.offset),
            Err(undelivered) => history.failed(id, undelivered.indefinite),
        }
        drop(work);
    });
}

/// Reads a place from its start for as long as the storm lasts.
pub async fn read_along(lane: Lane, shared: Shared, place: Place, number: u32) {
    let client = shared.client(&lane);
    let mut from = 0;
    while !shared.over.get() {
        if lane.random().is_multiple_of(8) {
            look_at_ends(&client, &shared, &place, number).await;
        }
        let mut want = FetchWant::new(place.partition, from);
        want.wait = Nanos::millis(lane.random() % 700);
        want.bytes_min = i32::try_from(1 + lane.random() % 3000).expect("small");
        want.bytes_max = 1 << (10 + lane.random() % 10);
        want.committed_only = lane.random().is_multiple_of(2);
        match read_once(&client, &shared, &place, number, &want).await {
            Ok((next, _)) => from = next,
            Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                let start = client.list_offset(&place.topic, place.partition, At::Earliest).await;
                from = start.ok().flatten().unwrap_or(from);
            }
            Err(_) => lane.sleep(Nanos::millis(50)).await,
        }
        if lane.random().is_multiple_of(64) {
            client.disconnect();
        }
    }
}

/// Reads a place from its start to its end for as long as the storm lasts. Whoever comes this way again
/// is given what others read before.
pub async fn read_again(lane: Lane, shared: Shared, place: Place, number: u32) {
    let client = shared.client(&lane);
    while !shared.over.get() {
        // A broker that is away or refuses is asked again.
        let _read = try_read_all(&client, &shared, &place, number).await;
        lane.sleep(Nanos::millis(20 + lane.random() % 400)).await;
    }
}

/// Reads a place once more, from its start to its end.
pub async fn read_once_more(lane: Lane, shared: Shared, place: Place, number: u32) {
    let client = shared.client(&lane);
    let _work = shared.work();
    while try_read_all(&client, &shared, &place, number).await.is_err() {
        lane.sleep(Nanos::millis(50)).await;
    }
}

/// One fetch. Gives the offset to go on at, and what was read.
pub(super) async fn read_once(
    client: &Client,
    shared: &Shared,
    place: &Place,
    number: u32,
    want: &FetchWant,
) -> Result<(i64, Vec<(i64, Record)>), ClientError> {
    let known = shared.history.borrow().known(place);
    let fetched = match client.fetch(&place.topic, want).await {
        Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
            if want.from < shared.history.borrow().may_begin(place) {
                return Err(error);
            }
            let told = format!("back: {place} was read up to {} and then: {error}", want.from);
            shared.history.borrow_mut().fault(told);
            return Err(error);
        }
        other => other?,
    };
    let mut history = shared.history.borrow_mut();
    history.ends(number, place, known, fetched.high_watermark, fetched.log_start);
    let read = match records::read(&fetched.records) {
        Ok(read) => read,
        Err(error) => {
            history.fault(format!("corrupt: {place} from {}: {error}", want.from));
            return Ok((want.from, Vec::new()));
        }
    };
    let mut found = read.records;
    found.retain(|it| want.from <= it.0);
    history.read(place, want.from, &found);
    Ok((read.next.unwrap_or(want.from).max(want.from), found))
}

async fn look_at_ends(client: &Client, shared: &Shared, place: &Place, number: u32) {
    let known = shared.history.borrow().known(place);
    let start = client.list_offset(&place.topic, place.partition, At::Earliest).await;
    let end = client.list_offset(&place.topic, place.partition, At::Latest).await;
    if let (Ok(Some(start)), Ok(Some(end))) = (start, end) {
        shared.history.borrow_mut().ends(number, place, known, end, start);
    }
}

/// Makes the topic that is made by request, until it is there.
pub async fn make_topic(lane: Lane, shared: Shared) {
    let client = shared.client(&lane);
    let _work = shared.work();
    // The broker folds what comes in another way anew.
    let codec = Codec::ALL[(lane.random() % 5) as usize].name();
    let configs: &[_] =
        if lane.random().is_multiple_of(2) { &[] } else { &[("compression.type", codec)] };
    loop {
        match client.create_topic(MADE, MADE_PARTITIONS, configs).await {
            Ok(_) => return,
            Err(it) if it.code() == Some(ErrorCode::TopicAlreadyExists) => return,
            Err(_) => lane.sleep(Nanos::millis(100)).await,
        }
    }
}

/// After the storm: a place takes a batch again.
pub async fn settle(lane: Lane, shared: Shared, place: Place, number: u32) {
    let client = shared.client(&lane);
    let producer = Producer::new(&client, &place.topic, place.partition, options());
    let acked = shared.history.borrow().acked_end(&place);
    let _work = shared.work();
    while shared.history.borrow().acked_end(&place) <= acked {
        send_one(&lane, &shared, &producer, &place, number, Acks::All).await;
        lane.sleep(Nanos::millis(100)).await;
    }
}

/// At last: a place is read from its start to its end.
pub async fn read_all(lane: Lane, shared: Shared, place: Place, number: u32) {
    let client = shared.client(&lane);
    let _work = shared.work();
    loop {
        match try_read_all(&client, &shared, &place, number).await {
            Ok((start, found)) => {
                return shared.history.borrow_mut().last_read(&place, start, &found);
            }
            Err(_) => lane.sleep(Nanos::millis(50)).await,
        }
    }
}

pub(super) async fn try_read_all(
    client: &Client,
    shared: &Shared,
    place: &Place,
    number: u32,
) -> Result<(i64, Vec<(i64, Record)>), ClientError> {
    let offset = async |at| client.list_offset(&place.topic, place.partition, at).await;
    let start = offset(At::Earliest).await?.unwrap_or(0);
    let end = offset(At::Latest).await?.unwrap_or(0);
    let mut from = start;
    let mut all = Vec::new();
    while from < end {
        let want = FetchWant::new(place.partition, from);
        let (next, found) = read_once(client, shared, place, number, &want).await?;
        all.extend(found);
        from = next;
    }
    Ok((start, all))
}

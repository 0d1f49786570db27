//! One producer: records when they are due, batches as they fill or linger, requests as places in
//! flight come free.
//!
//! The schedule is fixed before the run: the n-th record is due at its time, whatever happened to
//! those before it. A producer that could not keep up makes up for it as soon as it can, and the
//! latency of what it makes late counts from when it was due. So records are not made one by one:
//! the producer sleeps until something has to be *sent*, and then makes all that were due.

mod answers;
mod sending;

use super::batch::{Filling, Stamp};
use super::bell::Bell;
use super::cluster::Cluster;
use super::control::{Control, UNDECIDED, get, nanos};
use super::keys::{Chooser, KEY_BYTES};
use super::link::{Asked, Link, LinkError, Sender, refuse};
use super::stats::Stats;
use super::verify::Sent;
use super::workload::{Rate, Workload};
use answers::{failed, is_retriable, listen};
use corelane_net::api::ApiKey;
use corelane_net::messages::init_producer_id::InitProducerIdRequest;
use corelane_storage::compress::Compressor;
use futures_lite::future;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the broker may take to answer what is under way when the load ends.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How long after its end a load that the broker could not keep up with goes on catching up. What is
/// unsent then counts with the age it has.
const OVERRUN: Duration = Duration::from_secs(10);
/// How often is looked whether refused batches may be sent again.
const AGAIN_LOOK: Duration = Duration::from_millis(2);
/// How often a producer asks for its name, and how long it waits before it asks again.
const NAME_TRIES: u32 = 300;
const NAME_PAUSE: Duration = Duration::from_millis(100);
/// How long a producer sleeps at most: it looks at the phase then.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Records made before something else may run.
const RECORDS_AT_ONCE: usize = 4_096;
/// What a producer without a schedule makes in advance, at least.
const AHEAD_BYTES_MIN: usize = 1 << 20;
/// What one makes in advance while it warms up for a schedule.
const WARMING_BYTES: usize = 32 << 10;
/// What all producers together may hold that is not acknowledged yet.
const BUFFERS_BYTES_MAX: usize = 1 << 30;

/// What all producers of a thread have in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) workload: Arc<Workload>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) control: Arc<Control>,
    pub(crate) stats: Rc<RefCell<Stats>>,
    pub(crate) values: Rc<Vec<Vec<u8>>>,
}

pub(crate) struct Producer {
    common: Common,
    id: u32,
    topic: u32,
    chooser: Chooser,
    parts: Vec<Part>,
    links: Vec<Out>,
    shared: Rc<Shared>,
    name: Option<(i64, i16)>,
    compressor: Compressor,
    scratch: Vec<u8>,
    /// Records made since the schedule began.
    made: u64,
    schedule: Schedule,
    buffered: usize,
}

/// What the producer and those who take its answers both touch.
#[derive(Default)]
struct Shared {
    bell: Bell,
    spare: RefCell<Vec<Filling>>,
    failed: RefCell<Vec<(u32, u64, u64)>>,
    /// To be sent again.
    refused: RefCell<Vec<(u32, Filling)>>,
    /// Batches of each partition under way.
    flying: RefCell<Vec<u32>>,
    broken: RefCell<Option<LinkError>>,
    in_flight: Cell<usize>,
}

/// A partition of the topic.
struct Part {
    link: usize,
    open: Option<Filling>,
    full: VecDeque<Filling>,
    /// The number of the next record.
    next: u64,
    sequence: i32,
    /// Batches to be sent again, in order, one at a time; nothing else is sent before them.
    again: VecDeque<Filling>,
    again_from: u64,
    /// Whether it waits in its link's queue.
    queued: bool,
}

/// The connection to one broker.
struct Out {
    sender: Sender,
    flight: Rc<RefCell<VecDeque<Request>>>,
    waiting: VecDeque<u32>,
    full: usize,
    /// Partitions with batches to be sent again.
    again: VecDeque<u32>,
    /// When the first record of each open batch was due, and where it is; in order. Those that were
    /// sent since are passed over.
    lingering: VecDeque<(u64, u32, u64)>,
}

/// A request under way.
struct Request {
    asked: Asked,
    batches: Vec<(u32, Filling)>,
}

/// When records are due.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Schedule {
    /// As fast as it goes.
    None,
    /// The n-th at `start + n * step`.
    Every { start: u64, step: f64 },
}

impl Schedule {
    fn due(self, n: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Every { start, step } => Some(start + (n as f64 * step) as u64),
        }
    }
}

impl Producer {
    /// Connects.
    pub(crate) async fn open(common: Common, id: u32) -> Result<Self, LinkError> {
        let workload = Arc::clone(&common.workload);
        let topic = id % workload.topics;
        let mut links: Vec<Out> = Vec::new();
        let mut places = vec![None; common.cluster.nodes.len()];
        let mut parts = Vec::new();
        let mut name = None;
        let shared = Rc::new(Shared::default());
        let cluster = Arc::clone(&common.cluster);
        for leader in &cluster.topics[topic as usize].leaders {
            let link = match places[*leader] {
                Some(link) => link,
                None => {
                    let mut link = Link::open(cluster.nodes[*leader]).await?;
                    if workload.own.idempotent && name.is_none() {
                        name = Some(ask_name(&mut link).await?);
                    }
                    let flight = Rc::new(RefCell::new(VecDeque::new()));
                    listen(&common, &shared, &flight, topic, link.receiver);
                    links.push(Out {
                        sender: link.sender,
                        flight,
                        waiting: VecDeque::new(),
                        full: 0,
                        again: VecDeque::new(),
                        lingering: VecDeque::new(),
                    });
                    places[*leader] = Some(links.len() - 1);
                    links.len() - 1
                }
            };
            parts.push(Part {
                link,
                open: None,
                full: VecDeque::new(),
                next: 0,
                sequence: 0,
                again: VecDeque::new(),
                again_from: 0,
                queued: false,
            });
        }
        shared.flying.replace(vec![0; parts.len()]);
        Ok(Self {
            chooser: Chooser::new(&workload.keys, workload.partitions, id),
            common,
            id,
            topic,
            parts,
            links,
            shared,
            name,
            compressor: Compressor::new(),
            scratch: Vec::new(),
            made: 0,
            schedule: Schedule::None,
            buffered: 0,
        })
    }

    /// Sends until the load ends, and waits for the last answers.
    pub(crate) async fn run(mut self) -> Result<Vec<Sent>, LinkError> {
        let control = Arc::clone(&self.common.control);
        while control.now() < get(&control.start) {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let mut full_speed = None;
        loop {
            if let Some(broken) = self.shared.broken.take() {
                return Err(broken);
            }
            let now = control.now();
            let until = get(&control.produce_until);
            let wanted = control.full_speed.load(Ordering::Relaxed);
            if full_speed != Some(wanted) {
                let begun = if full_speed.is_none() { get(&control.start) } else { now };
                full_speed = Some(wanted);
                self.reschedule(wanted, begun);
            }
            if until.saturating_add(nanos(OVERRUN)) <= now {
                break;
            }
            self.take_back(now);
            let more = self.make(now, until);
            let ending = until <= now && !more;
            let sent = self.send(now, ending).await?;
            if ending && self.buffered == 0 && self.shared.in_flight.get() == 0 {
                if !self.shared.refused.borrow().is_empty() {
                    continue;
                }
                break;
            }
            if more || sent {
                // Those who take answers get their turn.
                future::yield_now().await;
                continue;
            }
            let pause = self.pause(now, until, ending);
            if pause.is_zero() {
                future::yield_now().await;
            } else {
                self.shared.bell.heard_within(pause).await;
            }
        }
        self.finish().await
    }

    fn reschedule(&mut self, full_speed: bool, begun: u64) {
        let workload = &self.common.workload;
        self.made = 0;
        self.schedule = match workload.rate {
            _ if full_speed => Schedule::None,
            Rate::Max => Schedule::None,
            Rate::Of(rate) => {
                // Producers take turns.
                let every = 1e9 / rate;
                let all = f64::from(workload.all_producers());
                let start = begun + (every * f64::from(self.id)) as u64;
                Schedule::Every { start, step: every * all }
            }
        };
    }

    /// Makes what is due. True when there is more that could have been made.
    fn make(&mut self, now: u64, until: u64) -> bool {
        let own = &self.common.workload.own;
        let share = BUFFERS_BYTES_MAX / self.common.workload.all_producers() as usize;
        let most = own.buffer_bytes.min(share.max(own.batch_bytes));
        let ahead = AHEAD_BYTES_MIN.max(2 * own.request_bytes_max).min(most);
        let room = match self.schedule {
            _ if self.warming() => WARMING_BYTES,
            Schedule::None => ahead,
            Schedule::Every { .. } => most,
        };
        for _ in 0..RECORDS_AT_ONCE {
            let due = self.schedule.due(self.made).unwrap_or(now);
            if now < due || until <= due || room <= self.buffered {
                return false;
            }
            self.push(due);
        }
        true
    }

    fn push(&mut self, due: u64) {
        let workload = &self.common.workload;
        let choice = self.chooser.choose();
        let value = &self.common.values[self.made as usize % self.common.values.len()];
        let key = choice.key.as_ref().map(|it| &it[..]);
        let size = Filling::record_bytes_max(key.map_or(0, <[u8]>::len), value.len());
        let part = &mut self.parts[choice.partition as usize];
        let out = &mut self.links[part.link];
        let filled = part.open.take_if(|it| workload.own.batch_bytes < it.bytes.len() + size);
        if let Some(filled) = filled {
            part.full.push_back(filled);
            out.full += 1;
        }
        let moved = part.open.is_none();
        let batch = part.open.get_or_insert_with(|| {
            let mut batch = self.shared.spare.borrow_mut().pop().unwrap_or_else(Filling::new);
            batch.restart(part.next);
            batch
        });
        if moved {
            out.lingering.push_back((due, choice.partition, part.next));
        }
        let stamp =
            Stamp { due, producer: self.id, partition: choice.partition, number: part.next };
        let before = batch.bytes.len();
        batch.push(stamp, key, value);
        self.buffered += batch.bytes.len() - before;
        if !part.queued {
            part.queued = true;
            out.waiting.push_back(choice.partition);
        }
        // The next record would not fit.
        let is_full = workload.own.batch_bytes < batch.bytes.len() + size;
        part.next += 1;
        self.made += 1;
        if is_full {
            let filled = part.open.take().expect("it was there just now");
            part.full.push_back(filled);
            out.full += 1;
            if key.is_none() {
                self.chooser.move_on();
            }
        }
    }

    fn warming(&self) -> bool {
        self.common.control.warming.load(Ordering::Relaxed)
    }

    /// How many requests a connection may have under way.
    fn in_flight(&self) -> usize {
        if self.warming() { 1 } else { self.common.workload.own.in_flight }
    }

    /// How long nothing has to be sent.
    fn pause(&mut self, now: u64, until: u64, ending: bool) -> Duration {
        let in_flight = self.in_flight();
        let own = &self.common.workload.own;
        let linger = nanos(own.linger);
        let batch_records = own.batch_bytes / (self.common.workload.message_bytes + KEY_BYTES);
        let mut wake = now + nanos(LOOK_UP);
        let mut free = false;
        for at in 0..self.links.len() {
            // A connection with all places taken is woken by an answer.
            if self.links[at].flight.borrow().len() < in_flight {
                free = true;
                if let Some(due) = self.lingering_since(at) {
                    wake = wake.min(due + linger);
                }
            }
        }
        if !ending
            && free
            && let Some(next) = self.schedule.due(self.made)
        {
            // The next record opens a batch that may linger, unless it or one soon after fills one.
            let soon = self.made + batch_records as u64 / 4;
            let fills = self.schedule.due(soon).expect("there is a schedule");
            wake = wake.min((next + linger).min(fills.max(next)));
        }
        if until != UNDECIDED && now < until {
            wake = wake.min(until);
        }
        let pause = Duration::from_nanos(wake.saturating_sub(now));
        if self.links.iter().any(|it| !it.again.is_empty()) {
            // What is overdue may have to wait behind these.
            return pause.clamp(AGAIN_LOOK / 10, AGAIN_LOOK);
        }
        pause
    }

    async fn finish(mut self) -> Result<Vec<Sent>, LinkError> {
        let control = Arc::clone(&self.common.control);
        let give_up = control.now() + nanos(LAST_ANSWERS_WITHIN);
        while 0 < self.shared.in_flight.get() && control.now() < give_up {
            self.shared.bell.heard_within(LOOK_UP).await;
            if let Some(broken) = self.shared.broken.take() {
                return Err(broken);
            }
        }
        let now = control.now();
        self.take_back(now);
        self.abandon(now, get(&control.produce_until));
        for out in &self.links {
            for request in out.flight.borrow_mut().drain(..) {
                failed(&self.common, &self.shared, request.batches);
            }
        }
        let mut failures = self.shared.failed.take();
        failures.sort_unstable();
        let sent = self.parts.iter().zip(0..).filter(|(part, _)| 0 < part.next);
        Ok(sent
            .map(|(part, partition)| Sent {
                topic: self.topic,
                partition,
                producer: self.id,
                end: part.next,
                failed: failures
                    .iter()
                    .filter(|it| it.0 == partition)
                    .map(|it| (it.1, it.2))
                    .collect(),
            })
            .collect())
    }
}

async fn ask_name(link: &mut Link) -> Result<(i64, i16), LinkError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let mut tries = NAME_TRIES;
    loop {
        let answer = link.ask(&request).await?;
        let said = answer.decode::<InitProducerIdRequest<'_>>()?;
        tries -= 1;
        // A broker that has only just started may not know yet what names it gave.
        if is_retriable(said.error_code) && 0 < tries {
            glommio::timer::sleep(NAME_PAUSE).await;
            continue;
        }
        refuse(ApiKey::InitProducerId, said.error_code, "a producer")?;
        return Ok((said.producer_id, said.producer_epoch));
    }
}

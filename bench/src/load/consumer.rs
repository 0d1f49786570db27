//! One consumer: what is its own is fetched from each leader over a connection of its own, one fetch
//! at a time, and read record by record.
//!
//! What is its own may change: the group takes it away or gives more. Each change is a new edition;
//! an answer to a fetch of an older edition is thrown away unread, so nothing is read by two.

use super::batch::{Check, walk};
use super::cluster::Cluster;
use super::control::Control;
use super::link::{Link, LinkError, refuse};
use super::producer::Common;
use super::stats::{Flow, Window};
use super::verify::Verify;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use corelane_net::wire::Records;
use corelane_storage::compress::Decompressor;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

const REST: Duration = Duration::from_millis(2);
/// After an error that will pass.
const BACKOFF: Duration = Duration::from_millis(50);
/// Fetches that fail in a row before the consumer gives up.
const FAILURES_MAX: u32 = 600;
/// "Since the beginning" where an offset is asked for by time.
const EARLIEST: i64 = -2;

/// A partition of the run: topic, index.
pub(crate) type Place = (u32, u32);

/// What a consumer owns for now.
#[derive(Default)]
pub(crate) struct Owned {
    edition: Cell<u64>,
    /// The next offset of each.
    pub(crate) next: RefCell<BTreeMap<Place, i64>>,
}

impl Owned {
    /// Gives what was owned until now.
    pub(crate) fn replace(&self, next: BTreeMap<Place, i64>) -> BTreeMap<Place, i64> {
        self.edition.set(self.edition.get() + 1);
        self.next.replace(next)
    }
}

/// Who consumes.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub(crate) common: Common,
    pub(crate) verify: Option<Arc<Verify>>,
    pub(crate) topic: u32,
    pub(crate) subscription: u32,
    pub(crate) owned: Rc<Owned>,
}

/// One partition of a fetch.
struct Part {
    place: Place,
    next: i64,
    /// What the session remembers.
    told: Option<i64>,
}

/// Fetches from one broker.
struct Fetcher {
    consumer: Consumer,
    link: Link,
    node: usize,
    edition: u64,
    parts: Vec<Part>,
    /// Where the next full fetch begins, so that no partition starves behind another.
    turn: usize,
    session: (i32, i32),
    unfold: Decompressor,
    failures: u32,
}

impl Consumer {
    /// Connects to every leader there is, and fetches from each until the run ends.
    pub(crate) async fn open(self) -> Result<Vec<Fetching>, LinkError> {
        let cluster = Arc::clone(&self.common.cluster);
        let mut nodes = cluster.topics[self.topic as usize].leaders.clone();
        nodes.sort_unstable();
        nodes.dedup();
        let mut fetching = Vec::new();
        for node in nodes {
            let link = Link::open(cluster.nodes[node]).await?;
            fetching.push(Fetching(Fetcher {
                consumer: self.clone(),
                link,
                node,
                edition: 0,
                parts: Vec::new(),
                turn: 0,
                session: (0, 0),
                unfold: Decompressor::new(),
                failures: 0,
            }));
        }
        Ok(fetching)
    }
}

/// A connected consumer of one broker.
pub(crate) struct Fetching(Fetcher);

impl Fetching {
    pub(crate) async fn run(mut self) -> Result<(), LinkError> {
        self.0.run().await
    }
}

impl Fetcher {
    async fn run(&mut self) -> Result<(), LinkError> {
        let control = Arc::clone(&self.consumer.common.control);
        while !control.stopping() {
            if self.edition != self.consumer.owned.edition.get() {
                self.turn_page();
            }
            if control.paused.load(Ordering::Relaxed) || self.parts.is_empty() {
                glommio::timer::sleep(REST).await;
                continue;
            }
            self.fetch(&control).await?;
        }
        Ok(())
    }

    /// Takes over what is owned now.
    fn turn_page(&mut self) {
        self.edition = self.consumer.owned.edition.get();
        let cluster = &self.consumer.common.cluster;
        let owned = self.consumer.owned.next.borrow();
        let here = owned.iter().filter(|it| leader_of(cluster, *it.0) == self.node && 0 <= *it.1);
        self.parts =
            here.map(|(place, next)| Part { place: *place, next: *next, told: None }).collect();
        self.session = (0, 0);
        self.turn = 0;
    }

    async fn fetch(&mut self, control: &Control) -> Result<(), LinkError> {
        let common = self.consumer.common.clone();
        let own = &common.workload.own;
        let (session, epoch) = if own.fetch_sessions { self.session } else { (0, -1) };
        let whole = epoch <= 0;
        let topic = &common.cluster.topics[self.consumer.topic as usize].name;
        let count = self.parts.len();
        self.turn %= count;
        let mut partitions = Vec::new();
        for at in 0..count {
            let part = &mut self.parts[(self.turn + at) % count];
            if whole || part.told != Some(part.next) {
                part.told = Some(part.next);
                partitions.push(FetchPartition {
                    partition: part.place.1 as i32,
                    fetch_offset: part.next,
                    partition_max_bytes: own.partition_fetch_bytes_max as i32,
                    ..Default::default()
                });
            }
        }
        let topics = if partitions.is_empty() {
            Vec::new()
        } else {
            vec![FetchTopic { topic, partitions: (&partitions).into(), ..Default::default() }]
        };
        let request = FetchRequest {
            max_wait_ms: own.fetch_wait.as_millis() as i32,
            min_bytes: own.fetch_bytes_min as i32,
            max_bytes: own.fetch_bytes_max as i32,
            session_id: session,
            session_epoch: epoch,
            topics: (&topics).into(),
            ..Default::default()
        };
        let answer = self.link.ask(&request).await?;
        let said = answer.decode::<FetchRequest<'_>>()?;
        if self.edition != self.consumer.owned.edition.get() || control.stopping() {
            return Ok(());
        }
        let lost_sessions =
            [ErrorCode::FetchSessionIdNotFound, ErrorCode::InvalidFetchSessionEpoch];
        if lost_sessions.iter().any(|it| it.code() == said.error_code) {
            self.session = (0, 0);
            return Ok(());
        }
        refuse(ApiKey::Fetch, said.error_code, topic)?;
        self.session = match said.session_id {
            0 => (0, 0),
            id => (id, if epoch == i32::MAX { 1 } else { epoch.max(0) + 1 }),
        };
        let mut reading = Reading {
            consumer: &self.consumer,
            parts: &mut self.parts,
            unfold: &mut self.unfold,
            control,
        };
        let (mut stale, mut wrong) = (Vec::new(), None);
        let filled = reading.answer(&said, &mut stale, &mut wrong);
        self.turn += filled.max(1);
        if let Some(why) = wrong {
            self.failures += 1;
            if self.failures == 1 || self.failures == FAILURES_MAX {
                common.stats.borrow_mut().complain(&why);
            }
            if self.failures == FAILURES_MAX {
                return Err(why);
            }
            glommio::timer::sleep(BACKOFF).await;
        } else {
            self.failures = 0;
        }
        for at in stale {
            self.start_over(at).await?;
        }
        Ok(())
    }

    /// What was to be read is gone: reading goes on with the first that is still there.
    async fn start_over(&mut self, at: usize) -> Result<(), LinkError> {
        let place = self.parts[at].place;
        let topic = self.consumer.common.cluster.topics[place.0 as usize].name.clone();
        let offset = earliest(&mut self.link, &topic, place.1).await?;
        self.parts[at].next = offset;
        if self.edition == self.consumer.owned.edition.get() {
            self.consumer.owned.next.borrow_mut().insert(place, offset);
        }
        Ok(())
    }
}

fn leader_of(cluster: &Cluster, place: Place) -> usize {
    cluster.topics[place.0 as usize].leaders[place.1 as usize]
}

async fn earliest(link: &mut Link, topic: &str, partition: u32) -> Result<i64, LinkError> {
    let wanted = ListOffsetsPartition {
        partition_index: partition as i32,
        current_leader_epoch: -1,
        timestamp: EARLIEST,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: [ListOffsetsTopic { name: topic, partitions: [wanted].into() }].into(),
        ..Default::default()
    };
    let answer = link.ask(&request).await?;
    let said = answer.decode::<ListOffsetsRequest<'_>>()?;
    let found = said.topics.first().and_then(|it| it.partitions.first());
    let Some(found) = found else {
        let code = ErrorCode::UnknownTopicOrPartition.code();
        return Err(LinkError::Refused { key: ApiKey::ListOffsets, code, about: topic.to_owned() });
    };
    refuse(ApiKey::ListOffsets, found.error_code, topic)?;
    Ok(found.offset)
}

/// Goes through one answer.
struct Reading<'a> {
    consumer: &'a Consumer,
    parts: &'a mut [Part],
    unfold: &'a mut Decompressor,
    control: &'a Control,
}

impl Reading<'_> {
    /// Gives how many partitions had records; `stale` are those whose offset is out of range.
    fn answer(
        &mut self,
        said: &FetchResponse<'_>,
        stale: &mut Vec<usize>,
        wrong: &mut Option<LinkError>,
    ) -> usize {
        let now = self.control.now();
        let window = Window::of(self.control);
        let (mut flow, mut filled) = (Flow::default(), 0);
        let topic = self.consumer.topic;
        for answered in &said.responses {
            for data in &answered.partitions {
                let place = (topic, data.partition_index as u32);
                // Parts are in the order of a map.
                let Ok(at) = self.parts.binary_search_by_key(&place, |it| it.place) else {
                    continue;
                };
                if data.error_code == ErrorCode::OffsetOutOfRange.code() {
                    stale.push(at);
                    continue;
                }
                let about = || format!("{}, partition {}", answered.topic, data.partition_index);
                if data.error_code != 0 {
                    // The session has forgotten how far we are, or will not be believed.
                    self.parts[at].told = None;
                    let refused = refuse(ApiKey::Fetch, data.error_code, &about());
                    *wrong = wrong.take().or(refused.err());
                    continue;
                }
                let read = self.partition(at, &data, now, window);
                filled += usize::from(0 < read.records);
                flow.add(read);
            }
        }
        self.consumer.common.stats.borrow_mut().consumed(window, now, flow);
        self.control.seen.fetch_add(flow.records, Ordering::Relaxed);
        filled
    }

    fn partition(&mut self, at: usize, data: &PartitionData<'_>, now: u64, window: Window) -> Flow {
        let Some(Records::Bytes(bytes)) = data.records else { return Flow::default() };
        let Part { place, next, .. } = self.parts[at];
        let consumer = self.consumer;
        let mut stats = consumer.common.stats.borrow_mut();
        let mut flow = Flow::default();
        let tracker = consumer.verify.as_ref().map(|it| {
            let tracker = it.tracker(place.0, consumer.subscription, place.1);
            tracker.lock().unwrap_or_else(PoisonError::into_inner)
        });
        let mut tracker = tracker;
        let check = if tracker.is_some() { Check::All } else { Check::Shape };
        let mut strangers = 0;
        let walked = walk(bytes, check, self.unfold, |offset, stamp, bytes| {
            // The batch that holds an offset begins before it.
            if offset < next {
                return;
            }
            flow.add(Flow { records: 1, bytes: bytes as u64 });
            stats.consumed_one(window, now, stamp.due);
            if let Some(tracker) = &mut tracker {
                strangers += u64::from(stamp.partition != place.1);
                tracker.note(stamp.producer, stamp.number);
            }
        });
        stats.corrupt += strangers;
        match walked {
            Ok(None) => {}
            Ok(Some(after)) => {
                self.parts[at].next = after;
                consumer.owned.next.borrow_mut().insert(place, after);
            }
            Err(why) => {
                stats.corrupt += 1;
                stats.complain(&format!("partition {}: {why}", place.1));
                // Nothing behind it can be trusted: it is passed over, and missed.
                self.parts[at].next = data.high_watermark;
            }
        }
        flow
    }
}

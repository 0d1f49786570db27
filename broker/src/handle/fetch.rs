//! Records out. Each lane is asked once for what it has; when that is too little, each is asked
//! once to tell when there is more, and the first that does starts one more round.
//!
//! A client may ask for a session (`node/fetch_sessions.rs`): then its next fetches say only what
//! changed, and are told only what is new.

use std::collections::BTreeMap;
use std::ops::Range;

use corelane_core::ids::{LaneId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use corelane_core::lane::{Race, join_all, race};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::conn::{Piece, Reply};
use corelane_net::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse,
    FetchableTopicResponse, PartitionData,
};
use corelane_net::wire::{Array, Records, Uuid};
use corelane_storage::log::store::{ReadDone, ReadError, ReadUpTo, ReadWant};

use super::Call;
use crate::config::keys;
use crate::edge::Code;
use crate::node::fetch_sessions::{Named, Place, Session, SessionError, Told, Wish};
use crate::node::{Ask, LEADER_EPOCH, Node, ReadPart, Tell, WatchPart};

/// Partitions of a session that are looked at together.
const PIECE: usize = 256;

/// Asks as a consumer that may look past the high watermark: the tool that compares replicas.
const DEBUGGING_CONSUMER: i32 = -2;

struct Part {
    topic: usize,
    index: i32,
    wish: Wish,
    read: Result<ReadPart, ErrorCode>,
}

/// What is remembered of a fetch.
enum Kept {
    Nothing,
    /// A session is wanted.
    Fresh,
    /// Its session, and the place of each part in it.
    Known(i32, Vec<Place>),
}

struct Wanted {
    topics: Vec<Named>,
    parts: Vec<Part>,
    kept: Kept,
    by_id: bool,
    bytes_min: usize,
    bytes_max: usize,
    until: Nanos,
    isolated: bool,
}

type Reads = Vec<Result<ReadDone, ReadError>>;

pub(super) async fn handle(call: Call) -> Reply {
    let wanted = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    loop {
        let reads = read_all(&call, &wanted).await;
        let bytes: usize = reads.iter().filter_map(|it| it.as_ref().ok()).map(|it| it.bytes).sum();
        let refused = wanted.parts.iter().any(|it| it.read.is_err());
        let enough = wanted.bytes_min <= bytes
            || wanted.parts.is_empty()
            || refused
            || reads.iter().any(|it| it.as_ref().map_or(true, |it| it.diverging.is_some()))
            || wanted.until <= call.node.lane().now()
            || call.node.is_stopping();
        if enough {
            return answer(&call, &wanted, reads).await;
        }
        let parked = &call.node.0.parked;
        let from = call.peer.addr;
        let Some(place) = parked.place(from, wanted.parts.len(), call.frame().len()) else {
            return answer(&call, &wanted, reads).await;
        };
        if let Race::Second(()) = race(wait(&call, &wanted, reads), place.wanted()).await {
            // Another is to have its place: its time is over.
            drop(place);
            let reads = read_all(&call, &wanted).await;
            return answer(&call, &wanted, reads).await;
        }
    }
}

async fn read(call: &Call) -> Result<Wanted, Reply> {
    let request = call.decode::<FetchRequest<'_>>().await?;
    let replica =
        if call.version < 15 { request.replica_id } else { request.replica_state.replica_id };
    if 0 <= replica {
        return Err(Reply::Close(format!("a fetch as replica {replica} on a client's listener")));
    }
    let isolated = request.isolation_level == 1;
    let up_to = match (replica, isolated) {
        (DEBUGGING_CONSUMER, _) => ReadUpTo::End,
        (_, true) => ReadUpTo::Stable,
        (_, false) => ReadUpTo::Visible,
    };
    let ours = call.node.facts().config.settings.number(&keys::FETCH_BYTES_MAX);
    let bytes_max = i64::from(request.max_bytes).clamp(0, ours);
    let file_bytes_min = call.node.facts().config.settings.number(&keys::FETCH_FILE_BYTES_MIN);
    let file_bytes_min = usize::try_from(file_bytes_min).unwrap_or(ReadWant::NO_FILES);
    let by_id = 13 <= call.version;
    let (topics, wishes, kept) = wishes(call, &request, by_id).await?;
    let known = topics.iter().map(|it| call.node.topic(it.name(), it.id));
    let known = call.node.gather(known).await;
    let part = |(topic, index, wish): (usize, i32, Wish)| {
        let known = known[topic].as_ref();
        let there =
            known.filter(|known| u32::try_from(index).is_ok_and(|index| index < known.partitions));
        let read = match there {
            None if !by_id || known.is_some() => Err(ErrorCode::UnknownTopicOrPartition),
            None => Err(ErrorCode::UnknownTopicId),
            Some(_) if 0 <= wish.leader_epoch && wish.leader_epoch != LEADER_EPOCH.0 => {
                Err(if wish.leader_epoch < LEADER_EPOCH.0 {
                    ErrorCode::FencedLeaderEpoch
                } else {
                    ErrorCode::UnknownLeaderEpoch
                })
            }
            Some(known) => Ok(ReadPart {
                of: TopicPartition { topic: known.id, partition: PartitionIndex(index) },
                last: LeaderEpoch(wish.last_epoch),
                want: ReadWant {
                    from: wish.from,
                    up_to,
                    bytes_max: usize::try_from(wish.bytes_max).unwrap_or(0),
                    at_least_one: true,
                    file_bytes_min,
                },
            }),
        };
        Part { topic, index, wish, read }
    };
    let parts = call.node.gather(wishes.into_iter().map(part)).await;
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    Ok(Wanted {
        topics,
        parts,
        kept,
        by_id,
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(bytes_max).unwrap_or(0),
        until: call.node.lane().now() + Nanos::millis(wait_ms),
        isolated,
    })
}

fn named(name: &str, id: Uuid) -> Named {
    Named::new(name, TopicId(id.0))
}

fn wish(it: &FetchPartition) -> Wish {
    Wish {
        from: Offset(it.fetch_offset),
        bytes_max: it.partition_max_bytes,
        leader_epoch: it.current_leader_epoch,
        last_epoch: it.last_fetched_epoch,
    }
}

type Wishes = (Vec<Named>, Vec<(usize, i32, Wish)>, Kept);

/// What is wanted: all that the request says, or what its session knows by now.
async fn wishes(call: &Call, request: &FetchRequest<'_>, by_id: bool) -> Result<Wishes, Reply> {
    let node = &call.node;
    let (id, epoch) = (request.session_id, request.session_epoch);
    if 0 < epoch {
        return match resume(call, request, by_id).await {
            Ok(wishes) => Ok(wishes),
            Err(error) => {
                let error_code = match error {
                    SessionError::Unknown => ErrorCode::FetchSessionIdNotFound,
                    SessionError::Epoch => ErrorCode::InvalidFetchSessionEpoch,
                    SessionError::Naming => ErrorCode::FetchSessionTopicIdError,
                }
                .code();
                Err(call.answer(&FetchResponse { error_code, ..Default::default() }).await)
            }
        };
    }
    node.0.fetch_sessions.borrow_mut().end(id);
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut wishes = Vec::new();
    for (number, topic) in request.topics.iter().enumerate() {
        topics.push(named(topic.topic, topic.topic_id));
        node.one_more().await;
        wishes.reserve(topic.partitions.len());
        for it in &topic.partitions {
            wishes.push((number, it.partition, wish(&it)));
            node.one_more().await;
        }
    }
    Ok((topics, wishes, if epoch == 0 { Kept::Fresh } else { Kept::Nothing }))
}

/// Goes on with a session. Whenever the lane was given way to, the session may be gone.
async fn resume(
    call: &Call,
    request: &FetchRequest<'_>,
    by_id: bool,
) -> Result<Wishes, SessionError> {
    let node = &call.node;
    let id = request.session_id;
    let now = node.lane().now();
    let epoch = request.session_epoch;
    node.0.fetch_sessions.borrow_mut().resume(now, id, epoch, by_id)?;
    for topic in &request.topics {
        let topic_named = named(topic.topic, topic.topic_id);
        for it in &topic.partitions {
            with(node, id, |session| session.want(&topic_named, it.partition, wish(&it)))?;
            node.one_more().await;
        }
        node.one_more().await;
    }
    for topic in &request.forgotten_topics_data {
        let topic_named = named(topic.topic, topic.topic_id);
        let gone = node.gather(topic.partitions.iter().map(|it| (topic_named.clone(), it))).await;
        for gone in gone.chunks(PIECE) {
            with(node, id, |session| session.forget(gone.iter().cloned()))?;
            node.one_more().await;
        }
        node.one_more().await;
    }
    let (mut topics, mut places, mut wishes) = (Vec::<Named>::new(), Vec::new(), Vec::new());
    // By a topic's number in the session: where it is among those of this request.
    let mut found: Vec<usize> = Vec::new();
    loop {
        let before = places.len();
        let is_empty = with(node, id, |session| {
            for (place, topic, number, index, wish) in session.wishes(before).take(PIECE) {
                if found.len() <= number {
                    found.resize(number + 1, usize::MAX);
                }
                // The number may belong to another topic since the lane was given way to.
                if topics.get(found[number]) != Some(topic) {
                    found[number] = topics.len();
                    topics.push(topic.clone());
                }
                places.push(place);
                wishes.push((found[number], index, wish));
            }
            session.is_empty()
        })?;
        if is_empty {
            node.0.fetch_sessions.borrow_mut().end(id);
            return Ok((topics, wishes, Kept::Nothing));
        }
        if places.len() == before {
            return Ok((topics, wishes, Kept::Known(id, places)));
        }
        node.more(places.len() - before).await;
    }
}

/// Looks at a session, which may be gone since the lane was given way to.
fn with<T>(node: &Node, id: i32, look: impl FnOnce(&mut Session) -> T) -> Result<T, SessionError> {
    node.0.fetch_sessions.borrow_mut().with(id, look)
}

/// Reads of all lanes, in the order of the request's partitions that are not refused already.
async fn read_all(call: &Call, wanted: &Wanted) -> Reads {
    let node = &call.node;
    let wanted_of = wanted.parts.iter().filter_map(|it| it.read.as_ref().ok().copied());
    let mut parts = Vec::with_capacity(wanted.parts.len());
    // Usually one lane has them all.
    let (mut home, mut is_one) = (None, true);
    for part in wanted_of {
        let here = node.home(part.of);
        is_one &= *home.get_or_insert(here) == here;
        parts.push(part);
        node.one_more().await;
    }
    if let (Some(home), true) = (home, is_one) {
        return read_on(call, home, parts, wanted.bytes_max).await;
    }
    let mut by_lane: BTreeMap<LaneId, (Vec<usize>, Vec<ReadPart>)> = BTreeMap::new();
    let mut count = 0;
    for part in parts {
        let (places, reads) = by_lane.entry(node.home(part.of)).or_default();
        places.push(count);
        reads.push(part);
        count += 1;
        node.one_more().await;
    }
    let mut done: Vec<Option<Result<ReadDone, ReadError>>> = (0..count).map(|_| None).collect();
    let mut asks = Vec::new();
    let mut places_of = Vec::new();
    for (home, (places, parts)) in by_lane {
        places_of.push(places);
        asks.push(read_on(call, home, parts, wanted.bytes_max));
    }
    for (places, reads) in places_of.into_iter().zip(join_all(asks).await) {
        for (at, read) in places.into_iter().zip(reads) {
            done[at] = Some(read);
            node.one_more().await;
        }
    }
    let mut given = 0_usize;
    let mut reads = Vec::with_capacity(done.len());
    for read in done {
        let mut read = read.expect("every part was asked for");
        if let Ok(it) = &mut read {
            // Several lanes each had the whole budget: what is too much is left for the next fetch.
            if 0 < given && wanted.bytes_max < given.saturating_add(it.bytes) {
                it.slices.clear();
                it.file = None;
                it.bytes = 0;
                it.aborted.clear();
            }
            given = given.saturating_add(it.bytes);
        }
        reads.push(read);
        node.one_more().await;
    }
    reads
}

async fn read_on(call: &Call, home: LaneId, parts: Vec<ReadPart>, bytes_max: usize) -> Reads {
    if home == call.node.lane().id() {
        return call.node.read_all(&parts, bytes_max).await;
    }
    match call.node.ask(home, Ask::Read { parts, bytes_max }).await {
        Tell::Read(reads) => reads,
        _ => panic!("a read is answered with what was read"),
    }
}

/// Waits until some lane has more, or the time is over. What was read is let go of before.
async fn wait(call: &Call, wanted: &Wanted, reads: Reads) {
    let node = &call.node;
    let mut by_lane: BTreeMap<LaneId, BTreeMap<TopicPartition, WatchPart>> = BTreeMap::new();
    let parts = wanted.parts.iter().filter_map(|it| it.read.as_ref().ok());
    for (part, read) in parts.zip(&reads) {
        // What was read already does not count as news.
        let seen = read.as_ref().map_or(Offset(0), |it| match part.want.up_to {
            ReadUpTo::Visible => it.visible,
            ReadUpTo::Stable => it.stable,
            ReadUpTo::End => part.want.from.max(it.visible),
        });
        let from = part.want.from.max(seen);
        let watch = WatchPart { of: part.of, from, up_to: part.want.up_to };
        // A partition that was named twice is watched once.
        let here = by_lane.entry(node.home(part.of)).or_default();
        let watched = here.entry(part.of).or_insert(watch);
        watched.from = watched.from.min(from);
        node.one_more().await;
    }
    drop(reads);
    let mut watches = BTreeMap::new();
    for (home, parts) in by_lane {
        watches.insert(home, node.gather(parts.into_values()).await);
    }
    node.watch(watches, wanted.until).await;
}

async fn answer(call: &Call, wanted: &Wanted, reads: Reads) -> Reply {
    let news = news(call, wanted, &reads).await;
    let mut records: Vec<Piece> = Vec::with_capacity(reads.len());
    let mut reads = reads.into_iter();
    let mut partitions: Vec<PartitionData<'_>> = Vec::with_capacity(wanted.parts.len());
    // Neighbours of one topic are told together: its number, and which of all.
    let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
    for (at, part) in wanted.parts.iter().enumerate() {
        let read = part.read.map(|_| reads.next().expect("every part was read"));
        call.node.one_more().await;
        if !news.is_told(at) {
            continue;
        }
        let data = match read {
            Err(error) => refused(part.index, error),
            Ok(Err(error)) => refused(part.index, error.code()),
            Ok(Ok(done)) => {
                let bytes = u32::try_from(done.bytes).expect("bounded by fetch.max.bytes");
                let aborted = wanted.isolated.then(|| {
                    let tell = |it: &corelane_storage::producers::Aborted| AbortedTransaction {
                        producer_id: it.producer.0,
                        first_offset: it.first.0,
                    };
                    done.aborted.iter().map(tell).collect::<Array<'_, _>>()
                });
                let data = PartitionData {
                    partition_index: part.index,
                    high_watermark: done.visible.0,
                    last_stable_offset: done.stable.0,
                    log_start_offset: done.log_start.0,
                    aborted_transactions: aborted,
                    diverging_epoch: done.diverging.map_or_else(
                        Default::default,
                        |(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 },
                    ),
                    records: Some(Records::Outside { bytes }),
                    ..Default::default()
                };
                if 0 < bytes {
                    records.extend(done.slices.into_iter().map(Piece::Memory));
                    records.extend(done.file.map(Piece::File));
                }
                data
            }
        };
        partitions.push(data);
        match runs.last_mut() {
            Some((topic, run)) if *topic == part.topic => run.end += 1,
            _ => runs.push((part.topic, partitions.len() - 1..partitions.len())),
        }
    }
    let topic = |at: usize| {
        let (topic, run) = &runs[at];
        let topic = &wanted.topics[*topic];
        FetchableTopicResponse {
            topic: topic.name(),
            topic_id: Uuid(topic.id.0),
            partitions: partitions[run.clone()].into(),
        }
    };
    let responses = Array::made(0..runs.len(), &topic);
    let response = FetchResponse { session_id: news.session_id, responses, ..Default::default() };
    call.answer_with(&response, records).await
}

/// Which parts the client is told of.
struct News {
    session_id: i32,
    /// Absent when it is told of all.
    told: Option<Vec<bool>>,
}

impl News {
    fn is_told(&self, part: usize) -> bool {
        self.told.as_ref().is_none_or(|it| it[part])
    }
}

/// Looks what is new for the client, and remembers what it is told.
async fn news(call: &Call, wanted: &Wanted, reads: &Reads) -> News {
    let node = &call.node;
    let mut reads = reads.iter();
    let mut found = wanted.parts.iter().map(|part| {
        let done = part.read.ok().and_then(|_| reads.next().expect("read").as_ref().ok());
        let told = done.map(|it| Told { high_watermark: it.visible.0, log_start: it.log_start.0 });
        (told, done.is_some_and(|it| 0 < it.bytes || it.diverging.is_some()))
    });
    match &wanted.kept {
        Kept::Nothing => News { session_id: 0, told: None },
        Kept::Fresh => {
            let lane = node.lane();
            let mut session = Session::new(wanted.by_id, lane.now());
            for (part, (told, records)) in wanted.parts.iter().zip(found) {
                let topic = &wanted.topics[part.topic];
                session.want(topic, part.index, part.wish);
                if let Some(place) = session.place(topic, part.index) {
                    session.must_tell(place, told, records);
                }
                node.one_more().await;
            }
            let mut sessions = node.0.fetch_sessions.borrow_mut();
            let kept = sessions.keep(lane.now(), || lane.random(), session);
            News { session_id: kept.unwrap_or(0), told: None }
        }
        Kept::Known(id, places) => {
            let (mut served, mut all_told) = (Vec::new(), Vec::with_capacity(places.len()));
            for places in places.chunks(PIECE) {
                let tell = |session: &mut Session| {
                    for (place, (told, records)) in places.iter().zip(found.by_ref()) {
                        if records {
                            served.push(*place);
                        }
                        all_told.push(session.must_tell(*place, told, records));
                    }
                };
                if with(node, *id, tell).is_err() {
                    // Its place went to another meanwhile: told all, the client learns that next time.
                    return News { session_id: *id, told: None };
                }
                node.more(places.len()).await;
            }
            if with(node, *id, |session| session.served(&served)).is_err() {
                return News { session_id: *id, told: None };
            }
            News { session_id: *id, told: Some(all_told) }
        }
    }
}

fn refused(index: i32, error: ErrorCode) -> PartitionData<'static> {
    PartitionData {
        partition_index: index,
        error_code: error.code(),
        high_watermark: -1,
        records: Some(Records::Bytes(&[])),
        ..Default::default()
    }
}

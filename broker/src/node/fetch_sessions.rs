//! What incremental fetches leave out: a client names its partitions once, then only what changes,
//! and is told only of partitions that have something new. Pure: time and chance come as arguments.
//!
//! - SESS-1: a session's epoch grows by one with every request that is taken; any other is refused;
//! - SESS-2: sessions, their partitions and the names of their topics are bounded. Who finds no place
//!   repeats its requests in full, which is always right; a topic is known while a partition of it is;
//! - SESS-3: a partition is told when it has records, an error, or another watermark or start than was
//!   told last; after an error always.
//!
//! Sessions belong to one lane. A client whose next connection comes in on another lane is told that
//! its session is unknown, and makes a new one. Sessions that are not used are not looked for: they go
//! when their place is wanted.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicId};
use corelane_core::time::Nanos;

/// A session that is silent for so long, or smaller than a new one and so old, may be taken away.
const EVICTABLE_AFTER: Nanos = Nanos::secs(120);

/// Partitions of all sessions of a lane, in all.
const PARTITIONS_MAX: usize = 1 << 18;

/// What is counted for a topic of a session beside the bytes of its name.
const TOPIC_BYTES: usize = 128;

/// A topic, as a client names it: by one of the two. Who asks again shares the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    name: Option<Rc<str>>,
    pub(crate) id: TopicId,
}

impl Named {
    pub(crate) fn new(name: &str, id: TopicId) -> Self {
        Self { name: (!name.is_empty()).then(|| name.into()), id }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        TOPIC_BYTES + self.name().len()
    }
}

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) from: Offset,
    pub(crate) bytes_max: i32,
    /// The leader's epoch it knows, negative if none.
    pub(crate) leader_epoch: i32,
    /// The epoch of the record before the one it wants, negative if it does not say.
    pub(crate) last_epoch: i32,
}

/// What a client was told of a partition: its high watermark and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

/// Why a request cannot go on with its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionError {
    Unknown,
    Epoch,
    /// It names topics by ids where the session has names, or the other way.
    Naming,
}

/// A partition's place in its session. It keeps its meaning while the partition is not forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

struct Cached {
    topic: u32,
    index: i32,
    wish: Wish,
    /// `None` after an error.
    told: Option<Told>,
}

/// A topic of a session, and how many of its partitions are wanted.
struct Topic {
    named: Named,
    partitions: u32,
}

pub(crate) struct Session {
    by_id: bool,
    epoch: i32,
    topics: Vec<Option<Topic>>,
    topics_free: Vec<u32>,
    topic_of: BTreeMap<Named, u32>,
    /// What its topics count for.
    topic_bytes: usize,
    slots: Vec<Option<Cached>>,
    free: Vec<u32>,
    places: BTreeMap<(u32, i32), u32>,
    /// The order in which partitions are served; what gave records goes to the end.
    order: Vec<u32>,
    made_at: Nanos,
    used_at: Nanos,
}

impl Session {
    pub(crate) fn new(by_id: bool, now: Nanos) -> Self {
        Self {
            by_id,
            epoch: 1,
            topics: Vec::new(),
            topics_free: Vec::new(),
            topic_of: BTreeMap::new(),
            topic_bytes: 0,
            slots: Vec::new(),
            free: Vec::new(),
            places: BTreeMap::new(),
            order: Vec::new(),
            made_at: now,
            used_at: now,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is wanted, in order, behind the first `passed`: topic, its number, partition, wish. A number
    /// means the same topic while a partition of it is wanted.
    pub(crate) fn wishes(
        &self,
        passed: usize,
    ) -> impl Iterator<Item = (Place, &Named, usize, i32, Wish)> {
        self.order.iter().skip(passed).map(|slot| {
            let it = self.slots[*slot as usize].as_ref().expect("places in the order are taken");
            let topic = self.topics[it.topic as usize].as_ref().expect("it has this partition");
            (Place(*slot), &topic.named, it.topic as usize, it.index, it.wish)
        })
    }

    /// Wants this of a partition from now on.
    pub(crate) fn want(&mut self, topic: &Named, index: i32, wish: Wish) {
        let number = self.number_of(topic);
        if let Some(slot) = self.places.get(&(number, index)) {
            let cached = self.slots[*slot as usize].as_mut().expect("a place is taken");
            cached.wish = wish;
            return;
        }
        let cached = Cached { topic: number, index, wish, told: None };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("bounded by the partitions")
        });
        self.slots[slot as usize] = Some(cached);
        self.places.insert((number, index), slot);
        self.order.push(slot);
        let topic = self.topics[number as usize].as_mut().expect("it was looked up");
        topic.partitions += 1;
    }

    /// The number of a topic that is about to have a partition.
    fn number_of(&mut self, topic: &Named) -> u32 {
        if let Some(number) = self.topic_of.get(topic) {
            return *number;
        }
        let number = self.topics_free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            u32::try_from(self.topics.len() - 1).expect("bounded by the partitions")
        });
        self.topics[number as usize] = Some(Topic { named: topic.clone(), partitions: 0 });
        self.topic_of.insert(topic.clone(), number);
        self.topic_bytes += topic.bytes();
        number
    }

    /// Wants nothing of these partitions any more.
    pub(crate) fn forget(&mut self, gone: impl IntoIterator<Item = (Named, i32)>) {
        let mut any = false;
        for (topic, index) in gone {
            let Some(&number) = self.topic_of.get(&topic) else { continue };
            let Some(slot) = self.places.remove(&(number, index)) else { continue };
            self.slots[slot as usize] = None;
            self.free.push(slot);
            any = true;
            let kept = self.topics[number as usize].as_mut().expect("it had this partition");
            kept.partitions -= 1;
            if kept.partitions == 0 {
                self.topics[number as usize] = None;
                self.topics_free.push(number);
                self.topic_of.remove(&topic);
                self.topic_bytes -= topic.bytes();
            }
        }
        if any {
            let slots = &self.slots;
            self.order.retain(|it| slots[*it as usize].is_some());
        }
    }

    /// Whether the client must hear of this partition (SESS-3); what it hears is remembered. `told` is
    /// absent for an error.
    pub(crate) fn must_tell(&mut self, place: Place, told: Option<Told>, records: bool) -> bool {
        let Some(Some(cached)) = self.slots.get_mut(place.0 as usize) else { return true };
        let news = records || told.is_none() || cached.told != told;
        cached.told = told;
        news
    }

    /// What gave records goes to the end, so that those before it have their turn.
    pub(crate) fn served(&mut self, places: &[Place]) {
        if places.is_empty() || places.len() == self.order.len() {
            return;
        }
        let mut served = vec![false; self.slots.len()];
        for it in places {
            if let Some(it) = served.get_mut(it.0 as usize) {
                *it = true;
            }
        }
        let (end, rest): (Vec<_>, Vec<_>) =
            self.order.iter().copied().partition(|it| served[*it as usize]);
        self.order = rest;
        self.order.extend(end);
    }

    /// The place of a partition.
    pub(crate) fn place(&self, topic: &Named, index: i32) -> Option<Place> {
        let number = self.topic_of.get(topic)?;
        self.places.get(&(*number, index)).map(|it| Place(*it))
    }
}

/// What sessions hold together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    partitions: usize,
    topic_bytes: usize,
}

impl Held {
    fn of(session: &Session) -> Self {
        Self { partitions: session.len(), topic_bytes: session.topic_bytes }
    }

    fn and(self, other: Self) -> Self {
        Self {
            partitions: self.partitions + other.partitions,
            topic_bytes: self.topic_bytes + other.topic_bytes,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            partitions: self.partitions - other.partitions,
            topic_bytes: self.topic_bytes - other.topic_bytes,
        }
    }
}

/// The sessions of a lane.
pub(crate) struct Sessions {
    sessions_max: usize,
    topic_bytes_max: usize,
    by_id: BTreeMap<i32, Session>,
    held: Held,
}

impl Sessions {
    pub(crate) fn new(sessions_max: usize, topic_bytes_max: usize) -> Self {
        Self { sessions_max, topic_bytes_max, by_id: BTreeMap::new(), held: Held::default() }
    }

    fn is_too_much(&self, held: Held) -> bool {
        PARTITIONS_MAX < held.partitions || self.topic_bytes_max < held.topic_bytes
    }

    /// Keeps the session of a client. `None` when there is no place for it.
    pub(crate) fn keep(
        &mut self,
        now: Nanos,
        mut draw: impl FnMut() -> u64,
        session: Session,
    ) -> Option<i32> {
        if session.is_empty() || !self.make_room(now, Held::of(&session)) {
            return None;
        }
        let id = loop {
            let id = (draw() & 0x7fff_ffff) as i32;
            if id != 0 && !self.by_id.contains_key(&id) {
                break id;
            }
        };
        self.held = self.held.and(Held::of(&session));
        self.by_id.insert(id, session);
        Some(id)
    }

    /// Whether there is room for a session that holds so much, now that one that is old enough went.
    fn make_room(&mut self, now: Nanos, wanted: Held) -> bool {
        if self.is_too_much(self.held.and(wanted)) {
            return false;
        }
        if self.by_id.len() < self.sessions_max {
            return true;
        }
        let silent = self.by_id.iter().min_by_key(|(_, it)| it.used_at);
        let silent = silent.filter(|(_, it)| it.used_at + EVICTABLE_AFTER < now);
        let old = self.by_id.iter().filter(|(_, it)| it.made_at + EVICTABLE_AFTER < now);
        let smaller = old.min_by_key(|(_, it)| it.len());
        let smaller = smaller.filter(|(_, it)| it.len() < wanted.partitions);
        let Some((&id, _)) = silent.or(smaller) else { return false };
        self.end(id);
        true
    }

    /// Ends a session, if it is here.
    pub(crate) fn end(&mut self, id: i32) {
        if let Some(gone) = self.by_id.remove(&id) {
            self.held = self.held.without(Held::of(&gone));
        }
    }

    /// Takes the next request of a session.
    ///
    /// # Errors
    /// When it is not the next, or there is no such session.
    pub(crate) fn resume(
        &mut self,
        now: Nanos,
        id: i32,
        epoch: i32,
        by_id: bool,
    ) -> Result<(), SessionError> {
        let session = self.by_id.get_mut(&id).ok_or(SessionError::Unknown)?;
        if session.epoch != epoch {
            return Err(SessionError::Epoch);
        }
        if session.by_id != by_id {
            return Err(SessionError::Naming);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used_at = now;
        Ok(())
    }

    /// Looks at a session, which may be gone, or changes it; one that has grown too large then ends.
    ///
    /// # Errors
    /// When there is no such session, or no more.
    pub(crate) fn with<T>(
        &mut self,
        id: i32,
        look: impl FnOnce(&mut Session) -> T,
    ) -> Result<T, SessionError> {
        let session = self.by_id.get_mut(&id).ok_or(SessionError::Unknown)?;
        let others = self.held.without(Held::of(session));
        let seen = look(session);
        self.held = others.and(Held::of(session));
        if self.is_too_much(self.held) {
            self.end(id);
            return Err(SessionError::Unknown);
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Named {
        Named::new(name, TopicId([0; 16]))
    }

    fn wish(from: i64) -> Wish {
        Wish { from: Offset(from), bytes_max: 1000, leader_epoch: -1, last_epoch: -1 }
    }

    fn make(sessions: &mut Sessions, now: u64, partitions: i32) -> Option<i32> {
        let mut session = Session::new(false, Nanos::secs(now));
        (0..partitions).for_each(|it| session.want(&named("t"), it, wish(0)));
        let mut next = now;
        let draw = || {
            next += 1;
            next
        };
        sessions.keep(Nanos::secs(now), draw, session)
    }

    fn told(session: &Session) -> String {
        let all = session
            .wishes(0)
            .map(|(_, topic, _, index, wish)| format!("{}-{index}@{}", topic.name(), wish.from.0));
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_session_knows_what_is_wanted() {
        let mut session = Session::new(false, Nanos::ZERO);
        for index in [2, 0, 1] {
            session.want(&named("a"), index, wish(0));
        }
        session.want(&named("b"), 0, wish(7));
        session.want(&named("a"), 0, wish(5));
        assert_eq!(told(&session), "a-2@0 a-0@5 a-1@0 b-0@7");
        session.forget([(named("a"), 2), (named("c"), 0), (named("b"), 9)]);
        session.want(&named("c"), 3, wish(1));
        assert_eq!(told(&session), "a-0@5 a-1@0 b-0@7 c-3@1");
        let first = session.place(&named("a"), 0).expect("here");
        session.served(&[first]);
        assert_eq!(told(&session), "a-1@0 b-0@7 c-3@1 a-0@5");
    }

    #[test]
    fn a_partition_is_told_when_it_has_news() {
        let mut session = Session::new(false, Nanos::ZERO);
        session.want(&named("a"), 0, wish(0));
        let place = session.place(&named("a"), 0).expect("here");
        let at = |high_watermark, log_start| Some(Told { high_watermark, log_start });
        let story = [
            (at(0, 0), false, true),
            (at(0, 0), false, false),
            (at(0, 0), true, true),
            (at(1, 0), false, true),
            (at(1, 1), false, true),
            (at(1, 1), false, false),
            (None, false, true),
            (None, false, true),
            (at(1, 1), false, true),
            (at(1, 1), false, false),
        ];
        for (number, (told, records, news)) in story.into_iter().enumerate() {
            assert_eq!(session.must_tell(place, told, records), news, "step {number}");
        }
    }

    #[test]
    fn requests_of_a_session_come_in_order() {
        let mut sessions = Sessions::new(2, 1 << 20);
        let id = make(&mut sessions, 0, 3).expect("a place");
        let mut resume = |id, epoch, by_id| sessions.resume(Nanos::ZERO, id, epoch, by_id);
        assert_eq!(resume(id + 1, 1, false), Err(SessionError::Unknown));
        assert_eq!(resume(id, 2, false), Err(SessionError::Epoch));
        assert_eq!(resume(id, 1, true), Err(SessionError::Naming));
        assert_eq!(resume(id, 1, false), Ok(()));
        assert_eq!(resume(id, 1, false), Err(SessionError::Epoch));
        assert_eq!(resume(id, 2, false), Ok(()));
        sessions.with(id, |it| it.epoch = i32::MAX).expect("here");
        let mut resume = |epoch| sessions.resume(Nanos::ZERO, id, epoch, false);
        assert_eq!((resume(i32::MAX), resume(1)), (Ok(()), Ok(())));
        sessions.end(id);
        assert!(sessions.by_id.is_empty());
    }

    #[test]
    fn a_place_is_kept_until_it_is_old() {
        let mut sessions = Sessions::new(2, 1 << 20);
        let first = make(&mut sessions, 0, 3).expect("a place");
        let second = make(&mut sessions, 10, 5).expect("a place");
        assert_eq!(make(&mut sessions, 100, 9), None);
        // Both are used, but the smaller one has been here for long.
        for id in [first, second] {
            assert!(sessions.resume(Nanos::secs(119), id, 1, false).is_ok());
        }
        assert_eq!(make(&mut sessions, 125, 3), None);
        assert!(make(&mut sessions, 125, 4).is_some());
        let is_here = |sessions: &Sessions, id| sessions.by_id.contains_key(&id);
        assert!(!is_here(&sessions, first) && is_here(&sessions, second));
        // A silent one goes, whatever its size.
        assert!(make(&mut sessions, 240, 1).is_some());
        assert!(!is_here(&sessions, second));
        assert_eq!(sessions.by_id.len(), 2);
    }

    #[test]
    fn partitions_are_bounded_whoever_adds_them() {
        let mut sessions = Sessions::new(10, 1 << 20);
        let most = i32::try_from(PARTITIONS_MAX).expect("few");
        let id = make(&mut sessions, 0, most - 1).expect("a place");
        assert_eq!(make(&mut sessions, 0, 2), None);
        assert!(make(&mut sessions, 0, 1).is_some());
        let more = sessions.with(id, |it| it.want(&named("t"), most, wish(0)));
        assert_eq!(more, Err(SessionError::Unknown));
        assert_eq!((sessions.by_id.len(), sessions.held.partitions), (1, 1));
    }

    #[test]
    fn a_topic_is_known_while_a_partition_of_it_is() {
        let mut sessions = Sessions::new(2, 1 << 20);
        let id = make(&mut sessions, 0, 1).expect("a place");
        let before = sessions.held;
        // All of them together would be a hundred times what there may be.
        for round in 0..1_000 {
            let topic = |number: usize| named(&format!("{number}-{round}-{}", "x".repeat(1_000)));
            for number in 0..100 {
                let wanted = sessions.with(id, |it| {
                    it.want(&topic(number), 1, wish(0));
                    it.want(&topic(number), 2, wish(0));
                });
                assert_eq!(wanted, Ok(()));
            }
            sessions.with(id, |it| it.forget((0..100).map(|it| (topic(it), 1)))).expect("here");
            assert_eq!(sessions.held.partitions, before.partitions + 100);
            sessions.with(id, |it| it.forget((0..100).map(|it| (topic(it), 2)))).expect("here");
            assert_eq!(sessions.held, before);
        }
        let session = &sessions.by_id[&id];
        assert_eq!((session.topics.len(), session.topic_of.len()), (101, 1));
        assert_eq!(told(session), "t-0@0");
    }

    #[test]
    fn names_are_bounded_whoever_adds_them() {
        let mut sessions = Sessions::new(10, 10_000);
        let id = make(&mut sessions, 0, 1).expect("a place");
        let grow = |session: &mut Session| {
            session.want(&named(&"x".repeat(6_000)), 0, wish(0));
        };
        assert_eq!(sessions.with(id, grow), Ok(()));
        let mut large = Session::new(false, Nanos::ZERO);
        grow(&mut large);
        assert_eq!(sessions.keep(Nanos::ZERO, || 77, large), None);
        let other = make(&mut sessions, 5, 1).expect("a place");
        assert_eq!(sessions.with(other, grow), Err(SessionError::Unknown));
        sessions.end(id);
        assert_eq!(sessions.held, Held::default());
    }
}

//! The group coordinators of this node, as its handlers reach them.
//!
//! Every partition of `__consumer_offsets` has one [`Host`](corelane_coordinator::Host), on the lane
//! where the partition lives; a [`Seat`] drives it. A handler names no lane: it hands its requests
//! to [`Node::ask_groups`], which makes the topic when it is missing, asks each lane once, and
//! gathers the answers.
//!
//! A member may wait minutes for the others. So that this holds none of the few places for
//! questions between two lanes, an answer that is not there at once is put off.

mod load;
mod seat;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use corelane_coordinator::{
    Answer, GroupConfig, GroupError, ListGroups, Now, Request, partition_for,
};
use corelane_core::ids::{LaneId, PartitionIndex, TopicPartition};
use corelane_core::lane::join_all;
use corelane_core::sync::{Permits, Taker};

use crate::config::keys;
use crate::config::settings::Settings;
use crate::node::{Ask, Decided, Node, Tell};
use crate::topics::create;
use crate::topics::image::{Image, Topic};
use crate::topics::internal::{CONSUMER_OFFSETS, own_topic};
use seat::Seat;

/// Partitions of one lane that are read back at the same time.
const LOADS_AT_ONCE: usize = 4;

/// The coordinators of one lane.
#[derive(Default)]
pub struct Groups {
    seats: RefCell<BTreeMap<TopicPartition, Rc<Seat>>>,
    loads: RefCell<Option<Permits>>,
}

impl Node {
    /// Asks the coordinator of one group.
    pub async fn ask_group(&self, request: Request) -> Answer {
        let mut answers = self.ask_groups(vec![request]).await;
        answers.pop().expect("one answer for one request")
    }

    /// Asks the coordinators of several groups; the answers are in the order of the requests.
    ///
    /// # Panics
    /// A request names no group.
    pub async fn ask_groups(&self, requests: Vec<Request>) -> Vec<Answer> {
        let topic = match self.offsets_topic().await {
            Ok(it) => it,
            Err(error) => return requests.iter().map(|it| it.refuse(error)).collect(),
        };
        let place = |request: Request| {
            let group = request.group().expect("a group's coordinator is asked about a group");
            (seat_of(&topic, group), request)
        };
        self.ask_seats(requests.into_iter().map(place).collect()).await
    }

    /// Asks all coordinators what groups they have. Without a topic there are none.
    pub async fn list_groups(&self, filter: &ListGroups) -> Vec<Answer> {
        let image = self.image();
        let Some(topic) = image.topic_named(CONSUMER_OFFSETS) else { return Vec::new() };
        let ask = |index| {
            let of = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            (of, Request::List(filter.clone()))
        };
        self.ask_seats((0..partitions_of(topic)).map(ask).collect()).await
    }

    /// Tells the group's coordinator that somebody looks for it.
    pub async fn group_looked_up(&self, group: &str) -> Result<(), GroupError> {
        let topic = self.offsets_topic().await?;
        let of = seat_of(&topic, group);
        let group = group.to_owned();
        let look = move |node: &Node| {
            if let Some(seat) = node.seat(of) {
                seat.looked_up(node, &group);
            }
        };
        self.on_lane(self.home(of), look).await;
        Ok(())
    }

    /// Ends all coordinators of this lane. Everybody who waits is told to look for another.
    pub fn stop_groups(&self) {
        let seats: Vec<Rc<Seat>> = self.0.groups.seats.borrow().values().cloned().collect();
        for seat in seats {
            seat.end(self, GroupError::CoordinatorNotAvailable);
        }
    }

    /// The topic that keeps the groups, made now if it is not there.
    async fn offsets_topic(&self) -> Result<Arc<Topic>, GroupError> {
        if let Some(topic) = self.image().topic_named(CONSUMER_OFFSETS) {
            return Ok(Arc::clone(topic));
        }
        let decided = self.decide(|image, rules, draw| {
            // Somebody else may have made it meanwhile: then it is there, and that is all.
            let missing = image.topic_named(CONSUMER_OFFSETS).is_none();
            let wish = own_topic(CONSUMER_OFFSETS, rules).filter(|_| missing);
            let planned = create::plan(image, rules, wish.as_slice(), draw);
            let events = planned.into_iter().filter_map(Result::ok).collect();
            Decided { events, say: () }
        });
        decided.await.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        let image = self.image();
        image.topic_named(CONSUMER_OFFSETS).cloned().ok_or(GroupError::CoordinatorNotAvailable)
    }

    async fn ask_seats(&self, asks: Vec<(TopicPartition, Request)>) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = asks.iter().map(|_| None).collect();
        let mut by_lane: BTreeMap<LaneId, Vec<(usize, TopicPartition, Request)>> = BTreeMap::new();
        for (at, (of, request)) in asks.into_iter().enumerate() {
            by_lane.entry(self.home(of)).or_default().push((at, of, request));
        }
        let mut places = Vec::with_capacity(by_lane.len());
        let mut lanes = Vec::with_capacity(by_lane.len());
        for (home, asks) in by_lane {
            places.push(asks.iter().map(|it| it.0).collect::<Vec<_>>());
            let asks = asks.into_iter().map(|(_, of, request)| (of, request)).collect();
            lanes.push(self.ask_seats_on(home, asks));
        }
        for (places, told) in places.into_iter().zip(join_all(lanes).await) {
            assert_eq!(places.len(), told.len(), "every request has its answer");
            for (at, answer) in places.into_iter().zip(told) {
                answers[at] = Some(answer);
            }
        }
        answers.into_iter().map(|it| it.expect("every request was asked on some lane")).collect()
    }

    async fn ask_seats_on(
        &self,
        home: LaneId,
        asks: Vec<(TopicPartition, Request)>,
    ) -> Vec<Answer> {
        if home == self.lane().id() {
            return all(self.seats_answer(asks)).await;
        }
        let Tell::Groups(answers) = self.ask(home, Ask::Groups(asks)).await else {
            panic!("groups answer what they are asked")
        };
        answers
    }

    /// Another lane's requests to coordinators here. They take effect now.
    pub(crate) fn groups_asked(&self, asks: Vec<(TopicPartition, Request)>) -> Asked {
        let mut takers = self.seats_answer(asks);
        let mut ready = Vec::with_capacity(takers.len());
        while let Some(taker) = takers.first_mut() {
            let Some(answer) = taker.ready() else { break };
            ready.push(answer);
            takers.remove(0);
        }
        if takers.is_empty() {
            return Asked::Answered(ready);
        }
        Asked::Waits(Box::pin(async move {
            ready.extend(all(takers).await);
            ready
        }))
    }

    fn seats_answer(&self, asks: Vec<(TopicPartition, Request)>) -> Vec<Awaited> {
        let ask = |(of, request): (TopicPartition, Request)| match self.seat(of) {
            Some(seat) => seat.ask(self, request),
            // Its topic is so new that this lane has not heard of it.
            None => Awaited::Ready(Some(request.refuse(GroupError::CoordinatorLoadInProgress))),
        };
        asks.into_iter().map(ask).collect()
    }

    fn seat(&self, of: TopicPartition) -> Option<Rc<Seat>> {
        self.0.groups.seats.borrow().get(&of).cloned()
    }

    /// The metadata changed: coordinators begin and end with their partitions, and forget what was
    /// committed for topics that are gone.
    pub(crate) fn groups_learn(&self, old: &Image, new: &Image) {
        let gone: Vec<String> = old
            .topics_from("")
            .filter(|it| new.topic(it.id).is_none())
            .map(|it| it.name.clone())
            .collect();
        let seats: Vec<Rc<Seat>> = self.0.groups.seats.borrow().values().cloned().collect();
        for seat in seats {
            if new.topic(seat.of.topic).is_none() {
                self.0.groups.seats.borrow_mut().remove(&seat.of);
                seat.end(self, GroupError::NotCoordinator);
            } else if !gone.is_empty() {
                seat.topics_deleted(self, &gone);
            }
        }
        let Some(topic) = new.topic_named(CONSUMER_OFFSETS) else { return };
        for index in 0..partitions_of(topic) {
            let of = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            if self.home(of) == self.lane().id() && self.seat(of).is_none() {
                let seat = Seat::new(self, of, config(&self.facts().config.settings));
                self.0.groups.seats.borrow_mut().insert(of, Rc::clone(&seat));
                seat.begin(self);
            }
        }
    }

    fn group_loads(&self) -> Permits {
        let mut loads = self.0.groups.loads.borrow_mut();
        loads.get_or_insert_with(|| Permits::new(self.lane(), LOADS_AT_ONCE)).clone()
    }

    fn group_time(&self) -> Now {
        Now { monotonic_ms: self.lane().now().as_millis(), unix_ms: self.lane().wall().0 }
    }
}

/// An answer that is there, or will be.
enum Awaited {
    Ready(Option<Answer>),
    Later(Taker<Answer>),
}

impl Awaited {
    /// The answer, if it is there.
    fn ready(&mut self) -> Option<Answer> {
        match self {
            Self::Ready(answer) => answer.take(),
            Self::Later(_) => None,
        }
    }

    async fn answer(self) -> Answer {
        match self {
            Self::Ready(answer) => answer.expect("an answer is taken once"),
            Self::Later(taker) => taker.take().await.expect("a coordinator answers every request"),
        }
    }
}

async fn all(awaited: Vec<Awaited>) -> Vec<Answer> {
    join_all(awaited.into_iter().map(Awaited::answer)).await
}

/// What comes of another lane's requests.
pub(crate) enum Asked {
    Answered(Vec<Answer>),
    /// Some answer is not there yet.
    Waits(Pin<Box<dyn Future<Output = Vec<Answer>>>>),
}

fn partitions_of(topic: &Topic) -> i32 {
    i32::try_from(topic.partitions).expect("bounded by the rules")
}

/// Where a group's coordinator sits.
fn seat_of(topic: &Topic, group: &str) -> TopicPartition {
    let index = PartitionIndex(partition_for(group, partitions_of(topic)));
    TopicPartition { topic: topic.id, partition: index }
}

/// What this broker's settings mean to its coordinators.
fn config(settings: &Settings) -> GroupConfig {
    let int = |key| i32::try_from(settings.number(key)).expect("an int key holds an int");
    let span = |key| u64::try_from(settings.number(key)).expect("its row bounds it");
    let size = |key| usize::try_from(settings.number(key)).expect("its row bounds it");
    GroupConfig {
        session_timeout_ms_min: int(&keys::GROUP_SESSION_MIN_MS),
        session_timeout_ms_max: int(&keys::GROUP_SESSION_MAX_MS),
        initial_rebalance_delay_ms_max: span(&keys::GROUP_INITIAL_DELAY_MS),
        initial_rebalance_quiet_ms: span(&keys::GROUP_INITIAL_QUIET_MS),
        groups_max: size(&keys::GROUP_PARTITION_GROUPS_MAX),
        members_bytes_max: size(&keys::GROUP_MEMBERS_BYTES),
        partition_bytes_max: size(&keys::GROUP_PARTITION_BYTES),
        group_size_max: size(&keys::GROUP_SIZE_MAX),
        offset_metadata_units_max: size(&keys::OFFSET_METADATA_BYTES_MAX),
        offsets_retention_ms: settings.number(&keys::OFFSETS_RETENTION_MINUTES) * 60 * 1000,
        offsets_retention_check_interval_ms: span(&keys::OFFSETS_RETENTION_CHECK_MS),
    }
}

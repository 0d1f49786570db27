//! One lane's share of the broker: its log, its view of the metadata, its way to the other lanes.
//!
//! A [`Node`] is the same value on every lane; lane 0 also decides about metadata. Requests arrive
//! on any lane. What concerns partitions of another lane is asked there, once per lane, and what
//! changes metadata is decided on lane 0, made durable, and shown to every lane before the answer.

mod controller;
pub(crate) mod fetch_sessions;
mod mail;
pub(crate) mod pace;
mod parked;
mod partitions;
mod stop;
#[cfg(test)]
mod waits;
mod watch;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;

use corelane_core::ids::{BrokerId, LaneId, TopicId, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::mailbox::Link;
use corelane_core::metrics::Metrics;
use corelane_net::wire::Uuid;
use corelane_storage::log::store::Store;

#[cfg(test)]
pub(crate) use controller::GONE_FOR;
pub use controller::{Controller, Decided, METADATA, Refused};
pub use mail::{
    Ask, LEADER_EPOCH, ProducePart, Produced, ReadPart, Sent, Tell, WatchPart, Working,
};

use self::fetch_sessions::Sessions;
use crate::boot::receive_bytes_of;
use crate::config::keys;
use crate::config::load::Config;
use crate::groups::Groups;
use crate::mutant::Mutation;
use crate::topics::create::Rules;
use crate::topics::image::{Image, Topic};
use crate::topics::place::lane_of;

/// Where clients reach this node by one of its listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// What all lanes know from the start.
#[derive(Debug)]
pub struct Facts {
    pub config: Config,
    pub cluster_id: String,
    /// The name of this node's data directory.
    pub directory: Uuid,
    /// Where it is, from the root.
    pub data: String,
    pub endpoints: Vec<Endpoint>,
    pub lanes: NonZeroU16,
    /// Which start of this data directory this is.
    pub incarnation: u64,
    /// Partitions that were offline when it began.
    pub offline: Vec<TopicPartition>,
    pub broken: Mutation,
}

/// A handle to the lane's share of the broker.
#[derive(Clone)]
pub struct Node(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub lane: Lane,
    pub facts: Arc<Facts>,
    pub store: Store,
    pub link: Link<Ask, Tell>,
    pub metrics: Metrics,
    pub image: RefCell<Arc<Image>>,
    pub watches: watch::Watches,
    pub parked: parked::Parked,
    stop: stop::Stop,
    pub groups: Groups,
    pub fetch_sessions: RefCell<Sessions>,
    pub controller: RefCell<Option<Rc<Controller>>>,
    /// Partitions of any lane that are offline.
    offline: RefCell<BTreeSet<TopicPartition>>,
    producers: Cell<u32>,
    /// Lines for people that were not told yet.
    lines: RefCell<Vec<String>>,
    /// Places that questions of each lane keep here while their answers take their time.
    held: Vec<Cell<usize>>,
}

/// The share of a lane's memory for requests, as a divisor, that fetches may keep while they wait.
const PARKED_SHARE: usize = 4;

/// Lines that wait to be told; what happens again and again does so in the same words.
const LINES_MAX: usize = 64;

/// The share of it, as a divisor, that the names of topics in fetch sessions may take.
const SESSIONS_SHARE: usize = 8;

/// Producer ids that one lane can give between two starts, as a number of bits.
const PRODUCER_BITS: u32 = 30;

/// Lanes told apart in producer ids, as a number of bits.
const LANE_BITS: u32 = 10;

impl Node {
    /// Leaves a line for people.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let mut lines = self.0.lines.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push(line());
        }
    }

    /// The lines that were left since they were last taken.
    #[must_use]
    pub fn take_lines(&self) -> Vec<String> {
        self.0.lines.take()
    }

    #[must_use]
    pub fn new(
        lane: &Lane,
        facts: Arc<Facts>,
        store: Store,
        link: Link<Ask, Tell>,
        metrics: Metrics,
    ) -> Self {
        // Shared out evenly: a client's sessions are on the lane its connection came in on.
        let sessions = facts.config.settings.number(&keys::FETCH_SESSIONS_MAX);
        let sessions = usize::try_from(sessions).unwrap_or(0);
        let receive_bytes = receive_bytes_of(&facts.config, lane);
        let sessions = sessions.div_ceil(usize::from(facts.lanes.get()));
        let sessions = Sessions::new(sessions, receive_bytes / SESSIONS_SHARE);
        let held = (0..facts.lanes.get()).map(|_| Cell::default()).collect();
        let offline = facts.offline.iter().copied().collect();
        Self(Rc::new(Inner {
            offline: RefCell::new(offline),
            lane: lane.clone(),
            facts,
            store,
            link,
            metrics,
            image: RefCell::default(),
            watches: watch::Watches::default(),
            parked: parked::Parked::new(lane, receive_bytes / PARKED_SHARE),
            stop: stop::Stop::new(lane),
            groups: Groups::default(),
            fetch_sessions: RefCell::new(sessions),
            controller: RefCell::default(),
            producers: Cell::new(0),
            lines: RefCell::default(),
            held,
        }))
    }

    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.0.lane
    }

    #[must_use]
    pub fn id(&self) -> BrokerId {
        self.0.facts.config.node
    }

    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Whether nobody is served this partition because its bytes are damaged.
    #[must_use]
    pub fn is_offline(&self, of: TopicPartition) -> bool {
        self.0.offline.borrow().contains(&of)
    }

    /// Says to every lane that a partition went offline.
    pub async fn tell_offline(&self, of: TopicPartition) {
        let note = move |node: &Self| {
            node.0.offline.borrow_mut().insert(of);
        };
        self.on_every_lane(note).await;
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The metadata as this lane knows it now.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0.image.borrow())
    }

    /// Which lane a partition lives on.
    #[must_use]
    pub fn home(&self, of: TopicPartition) -> LaneId {
        lane_of(of, self.0.facts.lanes)
    }

    /// How clients that came by `listener` reach this node.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> &Endpoint {
        let all = &self.0.facts.endpoints;
        all.iter().find(|it| it.listener == listener).unwrap_or(&all[0])
    }

    /// Makes this lane, lane 0, decide about metadata, and shows every lane what it knows.
    pub async fn lead(&self, controller: Rc<Controller>) {
        let image = controller.image();
        *self.0.controller.borrow_mut() = Some(controller);
        controller::tell_everybody(self, &image).await;
    }

    /// Asks another lane, or this one.
    pub async fn ask(&self, to: LaneId, ask: Ask) -> Tell {
        match self.0.link.ask(to, ask).await {
            Some(tell) => tell,
            None => panic!("a lane that runs answers every question"),
        }
    }

    /// Runs `look` on the lane it names, between two of that lane's tasks.
    pub async fn on_lane<T: Send + 'static>(
        &self,
        lane: LaneId,
        look: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> T {
        if lane == self.0.lane.id() {
            return look(self);
        }
        let look = move |node: &Node| -> Box<dyn Any + Send> { Box::new(look(node)) };
        let Tell::Looked(seen) = self.ask(lane, Ask::Look(Box::new(look))).await else {
            panic!("a look is answered with what was seen")
        };
        *seen.downcast().expect("what was looked for")
    }

    /// Starts `work` on the lane it names, between two of that lane's tasks, and waits for its end.
    /// Its effects are in the call itself; what it returns only waits.
    pub async fn work_on_lane<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        lane: LaneId,
        work: impl FnOnce(&Node) -> F + Send + 'static,
    ) -> T {
        if lane == self.0.lane.id() {
            return work(self).await;
        }
        let work = move |node: &Node| -> Working {
            let working = work(node);
            Box::pin(async move { Box::new(working.await) as Box<dyn Any + Send> })
        };
        let Tell::Worked(done) = self.ask(lane, Ask::Work(Box::new(work))).await else {
            panic!("work is answered with what came of it")
        };
        *done.downcast().expect("what the work gives")
    }

    /// Runs `look` on every lane; the results are in the lanes' order.
    pub async fn on_every_lane<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node) -> T + Send + Clone + 'static,
    ) -> Vec<T> {
        let lanes = (0..self.0.facts.lanes.get()).map(LaneId);
        let asked = lanes.map(|it| self.on_lane(it, look.clone()));
        corelane_core::lane::join_all(asked).await
    }

    /// Changes metadata: `plan` runs on lane 0 against the newest image, and gives the events it
    /// wants and whatever it wants to say. The result comes once the events are durable and every
    /// lane knows them.
    ///
    /// # Errors
    /// When the events could not be made durable. What became of them is unknown then.
    pub async fn decide<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&Image, &Rules<'_>, &mut dyn FnMut() -> TopicId) -> Decided<T>
        + Send
        + 'static,
    ) -> Result<T, Refused> {
        let plan = move |image: &Image, rules: &Rules<'_>, draw: &mut dyn FnMut() -> TopicId| {
            let Decided { events, say } = plan(image, rules, draw);
            let say: Box<dyn Any + Send> = Box::new(say);
            Decided { events, say }
        };
        let Tell::Decided(decided) = self.ask(LaneId(0), Ask::Decide(Box::new(plan))).await else {
            panic!("a plan is answered with what was decided")
        };
        decided.map(|it| *it.downcast().expect("what the plan says"))
    }

    /// Which of these names belonged to a topic that was deleted a moment ago.
    pub async fn tell_gone(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        let look = move |node: &Node| {
            let controller = node.0.controller.borrow();
            controller.as_ref().expect("lane 0 decides").tell_gone(&names, node.lane().now())
        };
        self.on_lane(LaneId(0), look).await
    }

    /// An id that no other producer of this data directory has or had: the start, the lane, and a
    /// count. Starts are counted durably, so nothing has to be written for each id.
    #[must_use]
    pub fn new_producer_id(&self) -> i64 {
        let count = self.0.producers.get();
        assert!(count < 1 << PRODUCER_BITS, "a lane ran out of producer ids");
        self.0.producers.set(count + 1);
        let lane = u64::from(self.lane().id().0);
        let id = (self.facts().incarnation << LANE_BITS | lane) << PRODUCER_BITS | u64::from(count);
        i64::try_from(id).expect("starts are few")
    }

    /// The topic of this name or, if the name is empty, of this id.
    #[must_use]
    pub fn topic(&self, name: &str, id: TopicId) -> Option<Arc<Topic>> {
        let image = self.0.image.borrow();
        let topic = if name.is_empty() { image.topic(id) } else { image.topic_named(name) };
        topic.cloned()
    }
}

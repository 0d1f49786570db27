//! Who decides about metadata: lane 0, one plan after the other.
//!
//! Metadata is the sum of its events (see [`crate::topics`]). They are records of a log of their
//! own, so they become durable with the same commit as everything else on the lane, and a restart
//! replays them. A plan's events are one batch: all of them happen, or none.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use corelane_core::ids::{LaneId, Offset, PartitionIndex, TopicId, TopicPartition};
use corelane_core::lane::join_all;
use corelane_core::sync::Permits;
use corelane_core::time::Nanos;
use corelane_storage::batch::Batch;
use corelane_storage::build::BatchBuilder;
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::store::{AppendError, ReadError, ReadUpTo, ReadWant};
use corelane_storage::record::Records;
use corelane_storage::validate::AppendRules;

use super::Node;
use super::mail::{Ask, Plan, Tell};
use crate::topics::create::{CLUSTER_METADATA, Rules};
use crate::topics::event::Event;
use crate::topics::image::Image;

/// Where the events are kept.
pub const METADATA: TopicPartition = TopicPartition {
    topic: TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    partition: PartitionIndex(0),
};

/// A batch of events at most: as large as any batch may be.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Read at once while replaying.
const REPLAY_BYTES: usize = 1 << 20;

/// Deleted names remembered for [`Controller::tell_gone`]; the oldest are forgotten first.
const GONE_NAMES_MAX: usize = 1024;

/// How long after its deletion a topic is not made again by a mere look.
pub(crate) const GONE_FOR: Nanos = Nanos::secs(2);

/// What a plan wants.
pub struct Decided<T> {
    pub events: Vec<Event>,
    pub say: T,
}

/// A plan whose events are not known to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub AppendError);

/// Why the metadata cannot be read back.
#[derive(Debug)]
pub enum ReplayError {
    Read(ReadError),
    Malformed { offset: Offset, why: String },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the metadata cannot be read: {error}"),
            Self::Malformed { offset, why } => {
                write!(f, "the metadata is damaged at offset {}: {why}", offset.0)
            }
        }
    }
}

/// The metadata's writer.
pub struct Controller {
    image: RefCell<Arc<Image>>,
    one_at_a_time: Permits,
    /// Names of deleted topics whose end nobody was told yet. A restart forgets them.
    /// Names of deleted topics, and until when they count as gone.
    gone: RefCell<VecDeque<(String, Nanos)>>,
}

impl Controller {
    /// Reads all events back, on lane 0.
    ///
    /// # Errors
    /// When they cannot be read or understood: the broker must not start then.
    pub async fn load(node: &Node) -> Result<Rc<Self>, ReplayError> {
        let rules = LogRules {
            append: AppendRules { message_bytes_max: BATCH_BYTES_MAX, ..AppendRules::default() },
            ..LogRules::default()
        };
        let store = node.store();
        store
            .create(METADATA, CLUSTER_METADATA, rules.clone())
            .map_err(|it| ReplayError::Malformed { offset: Offset(0), why: it.to_string() })?;
        let shared = store.partition(&METADATA).expect("just created");
        shared.borrow_mut().rules = rules;
        let mut image = Image::default();
        let (mut next, end) = (shared.borrow().log_start(), shared.borrow().end());
        while next < end {
            let want = ReadWant {
                from: next,
                up_to: ReadUpTo::End,
                bytes_max: REPLAY_BYTES,
                at_least_one: true,
                file_bytes_min: ReadWant::NO_FILES,
            };
            let read = store.read(&METADATA, &want).await.map_err(ReplayError::Read)?;
            let bytes: Vec<u8> = read.slices.concat_bytes();
            let before = next;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (batch, more) = Batch::split(rest)
                    .map_err(|it| ReplayError::Malformed { offset: next, why: it.to_string() })?;
                replay(&mut image, &batch)?;
                next = batch.next_offset();
                rest = more;
            }
            if next == before {
                let why = "it ends before its last offset".to_owned();
                return Err(ReplayError::Malformed { offset: next, why });
            }
        }
        image.check();
        Ok(Rc::new(Self {
            image: RefCell::new(Arc::new(image)),
            one_at_a_time: Permits::new(node.lane(), 1),
            gone: RefCell::default(),
        }))
    }

    /// The newest image, ahead of what lanes know while a change is on its way.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// Which of these names belonged to a topic that was deleted a moment ago.
    ///
    /// Whoever deletes a topic looks whether it is gone, and with many clients that look also says
    /// that the topic may be made; other handles of the same client look as well. Were it made at
    /// once, it would never be seen gone. So for a short time looks make nothing and say so; who
    /// wants the topic looks again, as clients do anyway with brokers that answer every such
    /// look with "unknown" first. A topic that is created on purpose is there at once.
    pub fn tell_gone(&self, names: &BTreeSet<String>, now: Nanos) -> BTreeSet<String> {
        let mut gone = self.gone.borrow_mut();
        gone.retain(|(_, until)| now < *until);
        gone.iter().filter(|it| names.contains(&it.0)).map(|it| it.0.clone()).collect()
    }

    fn remember_gone(&self, before: &Image, events: &[Event], now: Nanos) {
        let mut gone = self.gone.borrow_mut();
        for event in events {
            match event {
                Event::TopicDeleted { id } => {
                    let topic = before.topic(*id).expect("a plan deletes what it was given");
                    gone.push_back((topic.name.clone(), now + GONE_FOR));
                }
                Event::TopicCreated { name, .. } => gone.retain(|it| it.0 != *name),
                _ => {}
            }
        }
        let over = gone.len().saturating_sub(GONE_NAMES_MAX);
        gone.drain(..over);
    }

    /// Carries a plan out.
    pub(super) async fn decide(
        &self,
        node: &Node,
        plan: Plan,
    ) -> Result<Box<dyn std::any::Any + Send>, Refused> {
        let _turn = self.one_at_a_time.take(1).await;
        let image = self.image();
        let Decided { events, say } = {
            let layers = image.layers(&node.0.facts.config.settings, node.id());
            let rules = Rules { layers, node: node.id() };
            let lane = node.lane().clone();
            let mut draw = move || {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&lane.random().to_be_bytes());
                id[8..].copy_from_slice(&lane.random().to_be_bytes());
                TopicId(id)
            };
            plan(&image, &rules, &mut draw)
        };
        if events.is_empty() {
            return Ok(say);
        }
        self.write(node, &events).await?;
        let mut next = (*image).clone();
        for event in &events {
            next.apply(event).expect("a plan's events follow from the image it was given");
        }
        let next = Arc::new(next);
        self.remember_gone(&image, &events, node.lane().now());
        self.image.replace(Arc::clone(&next));
        tell_everybody(node, &next).await;
        Ok(say)
    }

    async fn write(&self, node: &Node, events: &[Event]) -> Result<(), Refused> {
        let mut builder = BatchBuilder::new();
        let now_ms = node.lane().wall().0;
        for event in events {
            let mut value = Vec::new();
            event.encode(&mut value);
            builder.record(now_ms, None, Some(&value));
        }
        let mut batch = builder.build();
        let appended = loop {
            match node.store().append(&METADATA, &mut batch, false) {
                Ok(appended) => break appended,
                Err(AppendError::Overloaded) => node.store().room().await,
                Err(error) => return Err(Refused(error)),
            }
        };
        let durable = node.store().durable(appended.commit).await;
        durable.map_err(|errno| Refused(AppendError::Failed(errno)))
    }
}

/// Shows the image to every lane, this one too.
pub(crate) async fn tell_everybody(node: &Node, image: &Arc<Image>) {
    let here = node.lane().id();
    let lanes = (0..node.facts().lanes.get()).map(LaneId).filter(|it| *it != here);
    let told = lanes.map(|it| node.ask(it, Ask::Learn(Arc::clone(image))));
    for tell in join_all(told).await {
        assert!(matches!(tell, Tell::Learnt), "a lane learns or ends");
    }
    // Not a question: those to this lane may all be plans, which wait for this one to end.
    node.learn(Arc::clone(image)).await;
}

fn replay(image: &mut Image, batch: &Batch<'_>) -> Result<(), ReplayError> {
    let offset = batch.base_offset();
    let malformed = |why: String| ReplayError::Malformed { offset, why };
    let count = u32::try_from(batch.record_count()).unwrap_or(0);
    for record in Records::new(batch.payload(), count) {
        let record = record.map_err(|it| malformed(it.to_string()))?;
        let value = record.value.ok_or_else(|| malformed("an event without a body".to_owned()))?;
        let (event, _) = Event::decode(value).map_err(|it| malformed(it.to_string()))?;
        image.apply(&event).map_err(|it| malformed(it.to_string()))?;
    }
    Ok(())
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<corelane_core::buf::Slice> {
    fn concat_bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.iter().map(|it| it.len()).sum());
        for it in self {
            all.extend_from_slice(it);
        }
        all
    }
}

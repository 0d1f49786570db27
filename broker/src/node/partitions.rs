//! Serving the other lanes: what this lane does with the questions it gets.

use std::sync::Arc;

use corelane_core::buf::Piece;
use corelane_core::ids::{LaneId, LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use corelane_core::lane::{Importance, Lane};
use corelane_core::mailbox::{Caller, PutOff};
use corelane_storage::compress::{Codec, Level};
use corelane_storage::log::line::InTurn;
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::store::{AppendError, Appended, ReadDone, ReadError};
use corelane_storage::validate::{AppendRules, Compression as Stored};

use super::Node;
use super::controller::METADATA;
use super::mail::{Ask, Produced, ReadPart, Sent, Stored as Placed, Tell};
use crate::config::keys;
use crate::config::topic::{Compression, Durability, TimestampType, TopicSettings};
use crate::groups::Asked;
use crate::mutant::Mutant;
use crate::topics::image::Image;

/// The share of the places between two lanes, as a divisor, that answers on their way may keep.
const HELD_SHARE: usize = 2;

impl Node {
    /// Answers the questions of all lanes, for as long as the lane runs.
    pub async fn serve_lanes(self) {
        loop {
            let (caller, ask) = self.0.link.next().await;
            self.serve_one(caller, ask).await;
        }
    }

    /// Effects happen here, in the order of the questions; only waiting is left to tasks. A question
    /// with many effects gives way between them, and the next one waits.
    async fn serve_one(&self, caller: Caller<Tell>, ask: Ask) {
        let node = self.clone();
        match ask {
            Ask::Produce { parts, wait, sent } => {
                let mut pending = Vec::with_capacity(parts.len());
                for part in parts {
                    pending.push(self.append(&part.of, part.batch, sent));
                    self.one_more().await;
                }
                let long = pending.iter().any(Pending::waits);
                let way = self.way_back(caller, if long { Wait::Long } else { Wait::Short });
                self.spawn("produce for a lane", async move {
                    let produced = node.settle(pending, wait).await;
                    node.give_back(way, Tell::Produced(produced)).await;
                });
            }
            Ask::Read { parts, bytes_max } => {
                let way = self.way_back(caller, Wait::Short);
                self.spawn("read for a lane", async move {
                    let read = node.read_all(&parts, bytes_max).await;
                    node.give_back(way, Tell::Read(read)).await;
                });
            }
            Ask::Watch { from, number, parts, until } => {
                self.watch_for(from, number, parts, until);
                self.0.link.answer(caller, Tell::Watching);
            }
            Ask::Unwatch { from, number } => {
                self.unwatch(from, number);
                self.0.link.answer(caller, Tell::Heard);
            }
            Ask::Grown { by, number } => {
                self.grown(by, number);
                self.0.link.answer(caller, Tell::Heard);
            }
            Ask::Look(look) => {
                let seen = look(self);
                self.0.link.answer(caller, Tell::Looked(seen));
            }
            Ask::Groups(asks) => match self.groups_asked(asks) {
                Asked::Answered(answers) => self.0.link.answer(caller, Tell::Groups(answers)),
                Asked::Waits(answers) => {
                    let way = self.way_back(caller, Wait::Long);
                    self.spawn("answer for a group", async move {
                        node.give_back(way, Tell::Groups(answers.await)).await;
                    });
                }
            },
            Ask::Work(work) => {
                let working = work(self);
                let way = self.way_back(caller, Wait::Short);
                self.spawn("work for a lane", async move {
                    node.give_back(way, Tell::Worked(working.await)).await;
                });
            }
            Ask::Decide(plan) => {
                let controller = self.0.controller.borrow().clone();
                let controller = controller.expect("plans are for lane 0");
                let way = self.way_back(caller, Wait::Short);
                self.spawn("decide", async move {
                    let decided = controller.decide(&node, plan).await;
                    node.give_back(way, Tell::Decided(decided)).await;
                });
            }
            Ask::Learn(image) => self.spawn("learn", async move {
                node.learn(image).await;
                node.0.link.answer(caller, Tell::Learnt);
            }),
        }
    }

    /// How the answer to a question goes that is not there yet. Questions whose answers take their
    /// time keep at most half of the places between two lanes, so that others find one.
    fn way_back(&self, caller: Caller<Tell>, wait: Wait) -> WayBack {
        let held = &self.0.held[usize::from(caller.lane().unwrap_or(self.lane().id()).0)];
        if wait == Wait::Long || self.0.link.places() / HELD_SHARE <= held.get() {
            self.metrics().counter("lanes.answers_put_off").add(1);
            return WayBack::PutOff(self.0.link.put_off(caller));
        }
        held.set(held.get() + 1);
        WayBack::Held(caller)
    }

    async fn give_back(&self, way: WayBack, tell: Tell) {
        match way {
            WayBack::Held(caller) => {
                let lane = caller.lane().unwrap_or(self.lane().id());
                let held = &self.0.held[usize::from(lane.0)];
                held.set(held.get() - 1);
                self.0.link.answer(caller, tell);
            }
            WayBack::PutOff(put_off) => self.0.link.answer_late(put_off, tell).await,
        }
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        let lane: &Lane = self.lane();
        lane.spawn(name, Importance::Serving, work);
    }

    /// Appends one batch, or lets it wait in its turn; `settle` waits for it.
    pub(crate) fn append(&self, of: &TopicPartition, batch: Piece, sent: Sent) -> Pending {
        let turn = self.store().append_in_turn(of, batch, sent.from, sent.until);
        if self.facts().broken == Some(Mutant::WatermarkBeforeDurable)
            && let Some(shared) = self.store().partition(of)
        {
            let end = shared.borrow().end();
            shared.borrow_mut().show(end);
        }
        let (log_start, from_memory) = self.store().partition(of).map_or((-1, false), |it| {
            let it = it.borrow();
            (it.log_start().0, it.rules.from_memory)
        });
        Pending { turn, log_start, from_memory }
    }

    /// Waits until everything appended is as durable as its topic promises.
    pub(crate) async fn settle(&self, mut pending: Vec<Pending>, wait: bool) -> Vec<Produced> {
        let wait = wait && self.facts().broken != Some(Mutant::AnswerBeforeCommit);
        for it in &mut pending {
            // What came of it is looked at below, all together.
            let _known = it.turn.wait().await;
            self.one_more().await;
        }
        let owed = pending.iter().filter(|it| wait && !it.from_memory);
        let done = owed.filter_map(|it| it.turn.result()?.as_ref().ok());
        let commit = done.map(|it| it.commit).max();
        let durable = match commit {
            Some(commit) => self.store().durable(commit).await,
            None => Ok(()),
        };
        let settle = |it: Pending| {
            let stored =
                |done: Appended| Placed { base: done.base, log_append_ms: done.log_append_ms };
            let InTurn::Done(result) = it.turn else { panic!("every turn was waited for") };
            let result = match (result, durable) {
                (Ok(_), Err(errno)) if !it.from_memory => Err(AppendError::Failed(errno)),
                (result, _) => result.map(stored),
            };
            Produced { result, log_start: Offset(it.log_start) }
        };
        self.gather(pending.into_iter().map(settle)).await
    }

    /// Waits until all that was appended on any lane before this call can be seen.
    pub(crate) async fn shown_everywhere(&self) {
        let lanes = (0..self.facts().lanes.get()).map(LaneId);
        let shown = |node: &Self| {
            let (store, commit) = (node.store().clone(), node.store().latest());
            // A lane that cannot make it durable has told so, and ends the process.
            async move { store.durable(commit).await.is_ok() }
        };
        corelane_core::lane::join_all(lanes.map(|it| self.work_on_lane(it, shown))).await;
    }

    /// Reads partitions of this lane in order, until `bytes_max` are used up. Only the first that has
    /// anything may give more.
    pub(crate) async fn read_all(
        &self,
        parts: &[ReadPart],
        bytes_max: usize,
    ) -> Vec<Result<ReadDone, ReadError>> {
        let mut given = 0_usize;
        let mut done = Vec::with_capacity(parts.len());
        for part in parts {
            let mut want = part.want;
            want.bytes_max = want.bytes_max.min(bytes_max.saturating_sub(given));
            want.at_least_one &= given == 0;
            let diverging = if part.last < LeaderEpoch(0) {
                Ok(None)
            } else {
                self.store().diverging(&part.of, want.from, part.last)
            };
            let read = match diverging {
                Ok(None) => self.store().read(&part.of, &want).await,
                Ok(Some(told)) => Ok(told),
                Err(error) => Err(error),
            };
            if let Ok(read) = &read {
                given = given.saturating_add(read.bytes);
            }
            done.push(read);
            self.one_more().await;
        }
        done
    }

    /// Makes this lane's logs be what the metadata says, then shows it to its handlers.
    pub(crate) async fn learn(&self, image: Arc<Image>) {
        let here = self.lane().id();
        let layers = image.layers(&self.0.facts.config.settings, self.id());
        // First what goes: a topic that is made again needs the names of its folders.
        for shared in self.store().partitions() {
            let of = shared.borrow().of;
            if of != METADATA && image.topic(of.topic).is_none() {
                self.delete_patiently(&of).await;
            }
        }
        for topic in image.topics_from("") {
            let settings = image.settings_of(topic, &layers);
            let rules = rules_of(&settings);
            for index in 0..topic.partitions {
                let index = PartitionIndex(i32::try_from(index).expect("bounded by the rules"));
                let of = TopicPartition { topic: topic.id, partition: index };
                if self.home(of) != here {
                    continue;
                }
                match self.store().partition(&of) {
                    Some(shared) => {
                        let mut partition = shared.borrow_mut();
                        if partition.rules != rules {
                            partition.rules = rules.clone();
                        }
                    }
                    None => self.create_patiently(of, &topic.name, &rules).await,
                }
            }
        }
        let expiry = layers.current(&keys::PRODUCER_ID_EXPIRATION_MS);
        let expiry_ms = expiry.and_then(|it| it.parse().ok());
        self.store().expire_producers_after(expiry_ms.expect("a checked number with a default"));
        let old = self.0.image.replace(Arc::clone(&image));
        self.groups_learn(&old, &image);
    }

    /// Readers that wait for the log wake, and find it gone.
    async fn delete_patiently(&self, of: &TopicPartition) {
        while let Err(error) = self.store().delete(of) {
            if let AppendError::Failed(_) = error {
                // The directory is fenced: the process is about to end.
                return;
            }
            self.store().room().await;
        }
    }

    async fn create_patiently(&self, of: TopicPartition, name: &str, rules: &LogRules) {
        while let Err(error) = self.store().create(of, name, rules.clone()) {
            if let AppendError::Failed(_) = error {
                // The directory is fenced: the process is about to end.
                return;
            }
            self.store().room().await;
        }
    }
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// A disk is asked for it.
    Short,
    /// Somebody else must do something first.
    Long,
}

/// How an answer goes that is not there yet.
enum WayBack {
    /// Its question keeps the place it came in.
    Held(Caller<Tell>),
    PutOff(PutOff<Tell>),
}

/// A batch that was appended, or not.
pub(crate) struct Pending {
    turn: InTurn,
    log_start: i64,
    from_memory: bool,
}

/// The level of gzip that leaves it to the codec.
const CODECS_OWN: i32 = -1;

impl Pending {
    /// Whether the log had no room for it.
    fn waits(&self) -> bool {
        self.turn.result().is_none()
    }
}

/// What a topic's settings mean to its log.
fn rules_of(settings: &TopicSettings) -> LogRules {
    let compression = match settings.compression {
        Compression::Producer => Stored::Producer,
        Compression::Uncompressed => Stored::Fixed(Codec::None, Level::Default),
        Compression::Gzip { level: CODECS_OWN } => Stored::Fixed(Codec::Gzip, Level::Default),
        Compression::Gzip { level } => Stored::Fixed(Codec::Gzip, Level::Of(level)),
        Compression::Snappy => Stored::Fixed(Codec::Snappy, Level::Default),
        Compression::Lz4 { level } => Stored::Fixed(Codec::Lz4, Level::Of(level)),
        Compression::Zstd { level } => Stored::Fixed(Codec::Zstd, Level::Of(level)),
    };
    LogRules {
        append: AppendRules {
            message_bytes_max: usize::try_from(settings.message_bytes_max).unwrap_or(0),
            segment_bytes_max: usize::try_from(settings.segment_bytes_max).unwrap_or(0),
            compression,
            log_append_time: settings.timestamp_type == TimestampType::LogAppendTime,
            timestamp_before_ms_max: settings.timestamp_before_ms_max,
            timestamp_after_ms_max: settings.timestamp_after_ms_max,
            compacted: settings.compact,
        },
        segment_bytes: u64::try_from(settings.segment_bytes_max).unwrap_or(0),
        segment_ms: settings.segment_ms_max,
        segment_jitter_ms_max: settings.segment_jitter_ms_max,
        index_interval_bytes: u64::try_from(settings.index_interval_bytes).unwrap_or(0),
        from_memory: settings.durability == Durability::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{Configs, Layers};
    use crate::config::settings::Settings;

    fn settings(own: &[(&str, &str)]) -> TopicSettings {
        let own: Configs =
            own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let start = Settings::default();
        TopicSettings::resolve(&own, &Layers::of_start(&start))
    }

    #[test]
    fn a_codec_compresses_as_hard_as_its_topic_says() {
        for (own, codec, level) in [
            (&[("compression.type", "gzip")][..], Codec::Gzip, Level::Default),
            (
                &[("compression.type", "gzip"), ("compression.gzip.level", "1")],
                Codec::Gzip,
                Level::Of(1),
            ),
            (&[("compression.type", "lz4")], Codec::Lz4, Level::Of(9)),
            (
                &[("compression.type", "lz4"), ("compression.lz4.level", "12")],
                Codec::Lz4,
                Level::Of(12),
            ),
            (
                &[("compression.type", "zstd"), ("compression.zstd.level", "-7")],
                Codec::Zstd,
                Level::Of(-7),
            ),
        ] {
            let found = rules_of(&settings(own)).append.compression;
            assert_eq!(found, Stored::Fixed(codec, level), "{own:?}");
        }
    }

    #[test]
    fn the_time_of_a_segment_and_what_may_be_taken_off_it_are_the_topics() {
        let rules = rules_of(&settings(&[("segment.ms", "1000"), ("segment.jitter.ms", "300")]));
        assert_eq!((rules.segment_ms, rules.segment_jitter_ms_max), (1000, 300));
    }
}

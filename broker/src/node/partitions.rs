//! Serving the other lanes: what this lane does with the questions it gets.

use std::sync::Arc;

use corelane_core::buf::Piece;
use corelane_core::ids::{Offset, PartitionIndex, TopicPartition};
use corelane_core::lane::{Importance, Lane};
use corelane_core::mailbox::Caller;
use corelane_storage::compress::{Codec, Level};
use corelane_storage::log::line::InTurn;
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::store::{AppendError, Appended, ReadDone, ReadError};
use corelane_storage::validate::{AppendRules, Compression as Stored};

use super::Node;
use super::controller::METADATA;
use super::mail::{Ask, ProducePart, Produced, ReadPart, Sent, Stored as Placed, Tell};
use crate::config::topic::{Compression, Durability, TimestampType, TopicSettings};
use crate::mutant::Mutant;
use crate::topics::image::Image;

impl Node {
    /// Answers the questions of all lanes, for as long as the lane runs.
    pub async fn serve_lanes(self) {
        loop {
            let (caller, ask) = self.0.link.next().await;
            self.serve_one(caller, ask);
        }
    }

    /// Effects happen here, in the order of the questions; only waiting is left to tasks.
    fn serve_one(&self, caller: Caller<Tell>, ask: Ask) {
        let node = self.clone();
        match ask {
            Ask::Produce { parts, wait, sent } => {
                let pending = self.append_all(parts, sent);
                self.spawn("produce for a lane", async move {
                    let produced = node.settle(pending, wait).await;
                    node.0.link.answer(caller, Tell::Produced(produced));
                });
            }
            Ask::Read { parts, bytes_max } => self.spawn("read for a lane", async move {
                let read = node.read_all(&parts, bytes_max).await;
                node.0.link.answer(caller, Tell::Read(read));
            }),
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
            Ask::Groups { from, number, asks } => {
                let answers = self.groups_asked(from, number, asks);
                self.0.link.answer(caller, Tell::Groups(answers));
            }
            Ask::GroupsAnswered { number, answers } => {
                self.groups_answered(number, answers);
                self.0.link.answer(caller, Tell::GroupsAnswered);
            }
            Ask::Work(work) => {
                let working = work(self);
                self.spawn("work for a lane", async move {
                    let done = working.await;
                    node.0.link.answer(caller, Tell::Worked(done));
                });
            }
            Ask::Decide(plan) => {
                let controller = self.0.controller.borrow().clone();
                let controller = controller.expect("plans are for lane 0");
                self.spawn("decide", async move {
                    let decided = controller.decide(&node, plan).await;
                    node.0.link.answer(caller, Tell::Decided(decided));
                });
            }
            Ask::Learn(image) => self.spawn("learn", async move {
                node.learn(image).await;
                node.0.link.answer(caller, Tell::Learnt);
            }),
        }
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        let lane: &Lane = self.lane();
        lane.spawn(name, Importance::Serving, work);
    }

    /// Appends batches that this lane owns.
    fn append_all(&self, parts: Vec<ProducePart>, sent: Sent) -> Vec<Pending> {
        parts.into_iter().map(|part| self.append(&part.of, part.batch, sent)).collect()
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
            (it.log_start.0, it.rules.from_memory)
        });
        Pending { turn, log_start, from_memory }
    }

    /// Waits until everything appended is as durable as its topic promises.
    pub(crate) async fn settle(&self, mut pending: Vec<Pending>, wait: bool) -> Vec<Produced> {
        let wait = wait && self.facts().broken != Some(Mutant::AnswerBeforeCommit);
        for it in &mut pending {
            // What came of it is looked at below, all together.
            let _known = it.turn.wait().await;
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
        pending.into_iter().map(settle).collect()
    }

    /// Reads partitions of this lane in order, until `bytes_max` are used up.
    pub(crate) async fn read_all(
        &self,
        parts: &[ReadPart],
        bytes_max: usize,
    ) -> Vec<Result<ReadDone, ReadError>> {
        let mut left = bytes_max;
        let mut done = Vec::with_capacity(parts.len());
        for part in parts {
            let mut want = part.want;
            want.bytes_max = want.bytes_max.min(left);
            let first = left == bytes_max;
            want.at_least_one &= first;
            let read = self.store().read(&part.of, &want).await;
            if let Ok(read) = &read {
                left = left.saturating_sub(read.bytes);
            }
            done.push(read);
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
            let rules = rules_of(&image.settings_of(topic, &layers));
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
            self.lane().sleep(corelane_core::time::Nanos::millis(1)).await;
        }
    }

    async fn create_patiently(&self, of: TopicPartition, name: &str, rules: &LogRules) {
        while let Err(error) = self.store().create(of, name, rules.clone()) {
            if let AppendError::Failed(_) = error {
                // The directory is fenced: the process is about to end.
                return;
            }
            self.lane().sleep(corelane_core::time::Nanos::millis(1)).await;
        }
    }
}

/// A batch that was appended, or not.
pub(crate) struct Pending {
    turn: InTurn,
    log_start: i64,
    from_memory: bool,
}

/// What a topic's settings mean to its log.
fn rules_of(settings: &TopicSettings) -> LogRules {
    let compression = match settings.compression {
        Compression::Producer => Stored::Producer,
        Compression::Uncompressed => Stored::Fixed(Codec::None, Level::Default),
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
        index_interval_bytes: u64::try_from(settings.index_interval_bytes).unwrap_or(0),
        from_memory: settings.durability == Durability::Memory,
    }
}

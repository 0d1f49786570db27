//! The committed offsets of one group, each with the writes on their way.
//!
//! A slot has a committed value and, in order of their tickets, the values that the log has not answered yet. The
//! newest of them is what later requests of the host see; the committed one is what a reader is told. A write that
//! commits moves its value down, a write that fails takes its value out: whatever else is in flight stays as it is,
//! because a record says the whole truth about its key.
//!
//! Invariants: a slot without committed and pending values does not exist; pending tickets of a slot grow; `slots`
//! counts the slots.

use std::collections::BTreeMap;

use crate::api::{FetchedPartition, FetchedTopic, Ticket};
use crate::limits::THING_BYTES;
use crate::records::OffsetValue;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupOffsets {
    topics: BTreeMap<String, BTreeMap<i32, Slot>>,
    slots: usize,
    /// Values in flight in all slots.
    pending: usize,
    /// What all slots take in memory.
    bytes: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slot {
    committed: Option<OffsetValue>,
    pending: Vec<(Ticket, Option<OffsetValue>)>,
}

impl Slot {
    fn latest(&self) -> Option<&OffsetValue> {
        match self.pending.last() {
            Some((_, value)) => value.as_ref(),
            None => self.committed.as_ref(),
        }
    }

    /// What it takes in memory, in a topic of this name.
    fn bytes(&self, topic: &str) -> usize {
        let pending = self.pending.iter().filter_map(|(_, value)| value.as_ref());
        let texts: usize = self.committed.iter().chain(pending).map(|it| it.metadata.len()).sum();
        THING_BYTES + topic.len() + texts
    }

    fn is_void(&self) -> bool {
        self.committed.is_none() && self.pending.is_empty()
    }
}

impl GroupOffsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots
    }

    /// What they take in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// What one would take more than it does, with this text.
    pub(crate) fn growth(&self, topic: &str, partition: i32, metadata: &str) -> usize {
        match self.slot(topic, partition) {
            Some(slot) => {
                metadata.len().saturating_sub(slot.latest().map_or(0, |it| it.metadata.len()))
            }
            None => THING_BYTES + topic.len() + metadata.len(),
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        0 < self.pending
    }

    /// Whether later requests of the host see an offset here.
    pub(crate) fn has(&self, topic: &str, partition: i32) -> bool {
        self.slot(topic, partition).is_some_and(|slot| slot.latest().is_some())
    }

    /// All offsets that later requests of the host see.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (&str, i32, &OffsetValue)> {
        self.topics.iter().flat_map(|(topic, slots)| {
            slots.iter().filter_map(move |(partition, slot)| {
                slot.latest().map(|value| (topic.as_str(), *partition, value))
            })
        })
    }

    /// All offsets whose record is committed.
    pub(crate) fn committed(&self) -> impl Iterator<Item = (&str, i32, &OffsetValue)> {
        self.topics.iter().flat_map(|(topic, slots)| {
            slots.iter().filter_map(move |(partition, slot)| {
                slot.committed.as_ref().map(|value| (topic.as_str(), *partition, value))
            })
        })
    }

    /// Partitions of one topic that later requests of the host see.
    pub(crate) fn partitions_of(&self, topic: &str) -> Vec<i32> {
        let slots = self.topics.get(topic).into_iter().flatten();
        slots.filter(|(_, slot)| slot.latest().is_some()).map(|(partition, _)| *partition).collect()
    }

    pub(crate) fn fetch(&self, topics: &[(String, Vec<i32>)]) -> Vec<FetchedTopic> {
        let one = |topic: &str, partition: i32| {
            let slot = self.slot(topic, partition);
            fetched(partition, slot.and_then(|slot| slot.committed.as_ref()))
        };
        topics
            .iter()
            .map(|(topic, partitions)| FetchedTopic {
                topic: topic.clone(),
                partitions: partitions.iter().map(|partition| one(topic, *partition)).collect(),
            })
            .collect()
    }

    pub(crate) fn fetch_all(&self) -> Vec<FetchedTopic> {
        let mut found: Vec<FetchedTopic> = Vec::new();
        for (topic, partition, value) in self.committed() {
            if found.last().is_none_or(|last| last.topic != topic) {
                found.push(FetchedTopic { topic: topic.to_owned(), partitions: Vec::new() });
            }
            let last = found.last_mut().expect("the topic was just put there");
            last.partitions.push(fetched(partition, Some(value)));
        }
        found
    }

    /// A value was sent to the log.
    pub(crate) fn begin(
        &mut self,
        ticket: Ticket,
        topic: &str,
        partition: i32,
        value: Option<OffsetValue>,
    ) {
        self.uncount(topic, partition);
        let slot = self.slot_mut(topic, partition);
        // One request may name a partition twice: the later one is the later record.
        assert!(slot.pending.last().is_none_or(|(last, _)| *last <= ticket), "tickets grow");
        slot.pending.push((ticket, value));
        self.pending += 1;
        self.count(topic, partition);
    }

    /// The log has the first value of this ticket.
    pub(crate) fn commit(&mut self, ticket: Ticket, topic: &str, partition: i32) {
        self.uncount(topic, partition);
        let slot = self.slot_mut(topic, partition);
        let (first, value) = slot.pending.remove(0);
        assert_eq!(first, ticket, "writes commit in the order of their tickets");
        slot.committed = value;
        self.pending -= 1;
        self.count(topic, partition);
        self.drop_if_void(topic, partition);
    }

    /// The log refused the first value of this ticket.
    pub(crate) fn revert(&mut self, ticket: Ticket, topic: &str, partition: i32) {
        self.uncount(topic, partition);
        let slot = self.slot_mut(topic, partition);
        let place = slot.pending.iter().position(|(held, _)| *held == ticket);
        slot.pending.remove(place.expect("the ticket put a value here"));
        self.pending -= 1;
        self.count(topic, partition);
        self.drop_if_void(topic, partition);
    }

    /// A record read from the log.
    pub(crate) fn replay(&mut self, topic: &str, partition: i32, value: Option<OffsetValue>) {
        self.uncount(topic, partition);
        self.slot_mut(topic, partition).committed = value;
        self.count(topic, partition);
        self.drop_if_void(topic, partition);
    }

    pub(crate) fn check(&self) {
        let slots = self.topics.values().flat_map(BTreeMap::values);
        let bytes = |(topic, slots): (&String, &BTreeMap<i32, Slot>)| -> usize {
            slots.values().map(|it| it.bytes(topic)).sum()
        };
        assert_eq!(self.topics.iter().map(bytes).sum::<usize>(), self.bytes, "bytes are counted");
        let (mut count, mut pending) = (0, 0);
        for slot in slots {
            assert!(!slot.is_void(), "a void slot was kept");
            assert!(slot.pending.is_sorted_by_key(|(ticket, _)| *ticket), "tickets of a slot grow");
            count += 1;
            pending += slot.pending.len();
        }
        assert_eq!(count, self.slots, "slots are counted");
        assert_eq!(pending, self.pending, "values in flight are counted");
        assert!(self.topics.values().all(|slots| !slots.is_empty()), "a void topic was kept");
    }

    fn slot(&self, topic: &str, partition: i32) -> Option<&Slot> {
        self.topics.get(topic)?.get(&partition)
    }

    fn bytes_at(&self, topic: &str, partition: i32) -> usize {
        self.slot(topic, partition).map_or(0, |slot| slot.bytes(topic))
    }

    fn count(&mut self, topic: &str, partition: i32) {
        self.bytes += self.bytes_at(topic, partition);
    }

    fn uncount(&mut self, topic: &str, partition: i32) {
        self.bytes -= self.bytes_at(topic, partition);
    }

    fn slot_mut(&mut self, topic: &str, partition: i32) -> &mut Slot {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        let slots = self.topics.get_mut(topic).expect("just made");
        slots.entry(partition).or_insert_with(|| {
            self.slots += 1;
            Slot::default()
        })
    }

    fn drop_if_void(&mut self, topic: &str, partition: i32) {
        let Some(slots) = self.topics.get_mut(topic) else { return };
        if slots.get(&partition).is_some_and(Slot::is_void) {
            let slot = slots.remove(&partition).expect("just seen");
            self.slots -= 1;
            self.bytes -= slot.bytes(topic);
        }
        if slots.is_empty() {
            self.topics.remove(topic);
        }
    }
}

fn fetched(partition: i32, value: Option<&OffsetValue>) -> FetchedPartition {
    match value {
        Some(value) => FetchedPartition {
            partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
        },
        None => {
            FetchedPartition { partition, offset: -1, leader_epoch: -1, metadata: String::new() }
        }
    }
}

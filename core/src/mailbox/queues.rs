//! The memory that lanes share: bounded queues, one writer and one reader each.

use crossbeam_queue::ArrayQueue;

use super::bell::Bell;
use crate::ids::LaneId;

type Slot = u32;

/// What goes the way of the questions.
pub(super) enum Asked<Q, A> {
    Question(Q),
    /// The answer to a question that was put off under this number.
    Late(u64, A),
}

/// What goes the way of the answers.
pub(super) enum Told<A> {
    Answer(A),
    /// None will come.
    Nothing,
    /// It will come late, under this number.
    Later(u64),
    /// A late answer has arrived.
    Heard,
}

pub(super) struct Queues<Q, A> {
    lanes: u16,
    slots: usize,
    /// By ordered pair: who asks, who is asked.
    questions: Vec<ArrayQueue<(Slot, Asked<Q, A>)>>,
    /// By ordered pair: who answers, who asked.
    answers: Vec<ArrayQueue<(Slot, Told<A>)>>,
    bells: Vec<Bell>,
}

impl<Q, A> Queues<Q, A> {
    pub(super) fn new(lanes: u16, slots: usize) -> Self {
        assert!(0 < lanes && 0 < slots, "a mesh has lanes and slots");
        let pairs = usize::from(lanes) * usize::from(lanes);
        Self {
            lanes,
            slots,
            questions: (0..pairs).map(|_| ArrayQueue::new(slots)).collect(),
            answers: (0..pairs).map(|_| ArrayQueue::new(slots)).collect(),
            bells: (0..lanes).map(|_| Bell::default()).collect(),
        }
    }

    pub(super) fn lanes(&self) -> u16 {
        self.lanes
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn bell(&self, lane: LaneId) -> &Bell {
        &self.bells[usize::from(lane.0)]
    }

    pub(super) fn put_question(&self, from: LaneId, to: LaneId, slot: Slot, asked: Asked<Q, A>) {
        let full = self.questions[self.pair(from, to)].push((slot, asked)).is_err();
        assert!(!full, "every question holds a slot");
    }

    pub(super) fn take_question(&self, from: LaneId, to: LaneId) -> Option<(Slot, Asked<Q, A>)> {
        self.questions[self.pair(from, to)].pop()
    }

    pub(super) fn put_answer(&self, from: LaneId, to: LaneId, slot: Slot, told: Told<A>) {
        let full = self.answers[self.pair(from, to)].push((slot, told)).is_err();
        assert!(!full, "every answer's place was reserved by its question");
    }

    pub(super) fn take_answer(&self, from: LaneId, to: LaneId) -> Option<(Slot, Told<A>)> {
        self.answers[self.pair(from, to)].pop()
    }

    fn pair(&self, from: LaneId, to: LaneId) -> usize {
        usize::from(from.0) * usize::from(self.lanes) + usize::from(to.0)
    }
}

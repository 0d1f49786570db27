//! Questions and answers between lanes.
//!
//! For each pair of lanes there are two bounded queues: questions one way, answers the other. Who asks
//! first takes one of the pair's slots and keeps it until the answer is there, so a question's
//! answer always has its place: neither queue can overflow, and two lanes that are full of each
//! other's questions can still answer. When all slots are taken the asking *task* waits, never the
//! lane.
//!
//! An answer that may take long is *put off*: the asker is told so at once, the slot is free again, and
//! the answer goes the way of the questions when it is there, in a slot of its own.
//!
//! A lane is woken through its ring, at most once for everything sent to it in a turn, and not at
//! all while an earlier wake is still on its way (see [`bell`]). It looks into its mailboxes only
//! when woken, so in the simulator delivery is an event like any other.

pub mod bell;
mod queues;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use self::queues::{Asked, Queues, Told};
use crate::ids::LaneId;
use crate::lane::Lane;
use crate::sync::{Event, Giver, Permit, Permits, once};

/// One lane's end of the mesh, before the lane runs. Free to send to its thread.
pub struct Port<Q, A> {
    queues: Arc<Queues<Q, A>>,
    lane: LaneId,
}

/// One lane's end of the mesh.
pub struct Link<Q, A>(Rc<Inner<Q, A>>);

impl<Q, A> Clone for Link<Q, A> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

struct Inner<Q, A> {
    lane: Lane,
    queues: Arc<Queues<Q, A>>,
    /// For each other lane: who waits in which slot, and which slots are free.
    peers: Vec<Peer<A>>,
    questions: RefCell<VecDeque<(Caller<A>, Q)>>,
    arrived: Event,
    /// Who waits here for an answer that was put off, by who put it off and its number.
    late: RefCell<BTreeMap<(LaneId, u64), Giver<A>>>,
    /// Answers that this lane put off so far.
    put_off: Cell<u64>,
}

struct Peer<A> {
    permits: Permits,
    slots: RefCell<Vec<Option<Asking<A>>>>,
    free: RefCell<Vec<u32>>,
}

/// Who waits for an answer, if it is one, and the permit that keeps its place.
type Asking<A> = (Option<Giver<A>>, Permit);

/// Where an answer goes.
pub struct Caller<A>(Return<A>);

enum Return<A> {
    Here(Giver<A>, Permit),
    There { lane: LaneId, slot: u32 },
}

/// Where an answer goes that was put off. It must be given: whoever asked waits for it.
#[must_use = "whoever asked waits for the answer"]
pub struct PutOff<A>(Way<A>);

enum Way<A> {
    Here(Giver<A>),
    There { lane: LaneId, number: u64 },
}

impl<A> Caller<A> {
    /// The lane that asks; `None`: this one.
    #[must_use]
    pub fn lane(&self) -> Option<LaneId> {
        match self.0 {
            Return::Here(..) => None,
            Return::There { lane, .. } => Some(lane),
        }
    }
}

/// A mesh of `lanes` ports with `slots` open questions for each ordered pair.
#[must_use]
pub fn mesh<Q: Send, A: Send>(lanes: u16, slots: usize) -> Vec<Port<Q, A>> {
    let queues = Arc::new(Queues::new(lanes, slots));
    (0..lanes).map(|it| Port { queues: Arc::clone(&queues), lane: LaneId(it) }).collect()
}

impl<Q: Send + 'static, A: Send + 'static> Port<Q, A> {
    /// Connects this end to its lane.
    #[must_use]
    pub fn attach(self, lane: &Lane) -> Link<Q, A> {
        assert_eq!(self.lane, lane.id(), "a port belongs to one lane");
        let slots = self.queues.slots();
        let peer = |_| Peer {
            permits: Permits::new(lane, slots),
            slots: RefCell::new((0..slots).map(|_| None).collect()),
            free: RefCell::new((0..u32::try_from(slots).expect("bounded")).rev().collect()),
        };
        let inner = Rc::new(Inner {
            lane: lane.clone(),
            peers: (0..self.queues.lanes()).map(peer).collect(),
            queues: self.queues,
            questions: RefCell::default(),
            arrived: Event::new(lane),
            late: RefCell::default(),
            put_off: Cell::new(0),
        });
        let weak = Rc::downgrade(&inner);
        lane.on_wake(Rc::new(move || {
            if let Some(inner) = weak.upgrade() {
                inner.collect();
            }
        }));
        Link(inner)
    }
}

impl<Q: Send + 'static, A: Send + 'static> Link<Q, A> {
    /// Asks a lane and waits for its answer. `None` if whoever took the question dropped it.
    pub async fn ask(&self, to: LaneId, question: Q) -> Option<A> {
        let inner = &*self.0;
        let permit = inner.peers[usize::from(to.0)].permits.take(1).await;
        let (giver, taker) = once(&inner.lane);
        if to == inner.lane.id() {
            let caller = Caller(Return::Here(giver, permit));
            inner.questions.borrow_mut().push_back((caller, question));
            inner.arrived.notify();
            return taker.take().await;
        }
        inner.send(to, Asked::Question(question), Some(giver), permit);
        taker.take().await
    }

    /// The next question to this lane, from any lane.
    pub async fn next(&self) -> (Caller<A>, Q) {
        loop {
            let seen = self.0.arrived.seen();
            let next = self.0.questions.borrow_mut().pop_front();
            if let Some(it) = next {
                return it;
            }
            self.0.arrived.past(seen).await;
        }
    }

    /// Answers a question. Never waits: the place was reserved when it was asked.
    pub fn answer(&self, caller: Caller<A>, answer: A) {
        match caller.0 {
            Return::Here(giver, permit) => {
                drop(permit);
                giver.give(answer);
            }
            Return::There { lane, slot } => self.0.tell(lane, slot, Told::Answer(answer)),
        }
    }

    /// Frees the place of a question whose answer may take long.
    pub fn put_off(&self, caller: Caller<A>) -> PutOff<A> {
        let inner = &*self.0;
        PutOff(match caller.0 {
            Return::Here(giver, _) => Way::Here(giver),
            Return::There { lane, slot } => {
                let number = inner.put_off.get();
                inner.put_off.set(number + 1);
                inner.tell(lane, slot, Told::Later(number));
                Way::There { lane, number }
            }
        })
    }

    /// Gives an answer that was put off; it waits for a place, as questions do.
    pub async fn answer_late(&self, put_off: PutOff<A>, answer: A) {
        match put_off.0 {
            Way::Here(giver) => giver.give(answer),
            Way::There { lane, number } => {
                let inner = &*self.0;
                let permit = inner.peers[usize::from(lane.0)].permits.take(1).await;
                inner.send(lane, Asked::Late(number, answer), None, permit);
            }
        }
    }

    /// Places there are for questions between two lanes.
    #[must_use]
    pub fn places(&self) -> usize {
        self.0.queues.slots()
    }

    /// Places for questions to this lane that are free now.
    #[must_use]
    pub fn free(&self, to: LaneId) -> usize {
        self.0.peers[usize::from(to.0)].permits.free()
    }

    /// Tells the asker that no answer will come.
    pub fn give_up(&self, caller: Caller<A>) {
        match caller.0 {
            Return::Here(giver, _) => drop(giver),
            Return::There { lane, slot } => self.0.tell(lane, slot, Told::Nothing),
        }
    }
}

impl<Q: Send, A: Send> Inner<Q, A> {
    fn send(&self, to: LaneId, asked: Asked<Q, A>, giver: Option<Giver<A>>, permit: Permit) {
        let peer = &self.peers[usize::from(to.0)];
        let slot = peer.free.borrow_mut().pop().expect("a permit is a free slot");
        peer.slots.borrow_mut()[slot as usize] = Some((giver, permit));
        self.queues.put_question(self.lane.id(), to, slot, asked);
        self.ring(to);
    }

    fn tell(&self, to: LaneId, slot: u32, told: Told<A>) {
        self.queues.put_answer(self.lane.id(), to, slot, told);
        self.ring(to);
    }

    fn ring(&self, to: LaneId) {
        if self.queues.bell(to).ring() {
            self.lane.ring_bell(to);
        }
    }

    /// Empties what other lanes sent. Called when one of them rang.
    fn collect(&self) {
        let here = self.lane.id();
        self.queues.bell(here).heard();
        let mut arrived = false;
        for from in (0..self.queues.lanes()).map(LaneId) {
            self.collect_answers(from);
            while let Some((slot, asked)) = self.queues.take_question(from, here) {
                match asked {
                    Asked::Question(question) => {
                        let caller = Caller(Return::There { lane: from, slot });
                        self.questions.borrow_mut().push_back((caller, question));
                        arrived = true;
                    }
                    Asked::Late(number, answer) => {
                        // That it would be late was said before, perhaps after the last look.
                        self.collect_answers(from);
                        let giver = self.late.borrow_mut().remove(&(from, number));
                        giver.expect("a late answer was put off").give(answer);
                        self.tell(from, slot, Told::Heard);
                    }
                }
            }
        }
        if arrived {
            self.arrived.notify();
        }
    }

    fn collect_answers(&self, from: LaneId) {
        let peer = &self.peers[usize::from(from.0)];
        while let Some((slot, told)) = self.queues.take_answer(from, self.lane.id()) {
            let waiting = peer.slots.borrow_mut()[slot as usize].take();
            let (giver, permit) = waiting.expect("an answer belongs to a question");
            peer.free.borrow_mut().push(slot);
            match (told, giver) {
                (Told::Answer(answer), Some(giver)) => giver.give(answer),
                (Told::Later(number), Some(giver)) => {
                    self.late.borrow_mut().insert((from, number), giver);
                }
                (Told::Nothing, Some(giver)) => drop(giver),
                (Told::Heard, None) => {}
                (Told::Heard, Some(_)) | (_, None) => {
                    panic!("questions are answered, and late answers are heard")
                }
            }
            drop(permit);
        }
    }
}

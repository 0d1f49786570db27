//! Questions and answers between lanes.
//!
//! For each pair of lanes there are two bounded queues: questions one way, answers the other. Who asks
//! first takes one of the pair's slots and keeps it until the answer is there, so a question's
//! answer always has its place: neither queue can overflow, and two lanes that are full of each
//! other's questions can still answer. When all slots are taken the asking *task* waits, never the
//! lane.
//!
//! A lane is woken through its ring, at most once for everything sent to it in a turn, and not at
//! all while an earlier wake is still on its way (see [`bell`]). It looks into its mailboxes only
//! when woken, so in the simulator delivery is an event like any other.

pub mod bell;
mod queues;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use self::queues::Queues;
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
}

struct Peer<A> {
    permits: Permits,
    slots: RefCell<Vec<Option<Asking<A>>>>,
    free: RefCell<Vec<u32>>,
}

/// Who waits for an answer, and the permit that keeps its place.
type Asking<A> = (Giver<A>, Permit);

/// Where an answer goes.
pub struct Caller<A>(Return<A>);

enum Return<A> {
    Here(Giver<A>),
    There { lane: LaneId, slot: u32 },
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
            inner.questions.borrow_mut().push_back((Caller(Return::Here(giver)), question));
            inner.arrived.notify();
            let answer = taker.take().await;
            drop(permit);
            return answer;
        }
        inner.send(to, question, giver, permit);
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
            Return::Here(giver) => giver.give(answer),
            Return::There { lane, slot } => {
                let inner = &*self.0;
                inner.queues.put_answer(inner.lane.id(), lane, slot, Some(answer));
                inner.ring(lane);
            }
        }
    }

    /// Tells the asker that no answer will come.
    pub fn give_up(&self, caller: Caller<A>) {
        match caller.0 {
            Return::Here(giver) => drop(giver),
            Return::There { lane, slot } => {
                let inner = &*self.0;
                inner.queues.put_answer(inner.lane.id(), lane, slot, None);
                inner.ring(lane);
            }
        }
    }
}

impl<Q: Send, A: Send> Inner<Q, A> {
    fn send(&self, to: LaneId, question: Q, giver: Giver<A>, permit: Permit) {
        let peer = &self.peers[usize::from(to.0)];
        let slot = peer.free.borrow_mut().pop().expect("a permit is a free slot");
        peer.slots.borrow_mut()[slot as usize] = Some((giver, permit));
        self.queues.put_question(self.lane.id(), to, slot, question);
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
            while let Some((slot, question)) = self.queues.take_question(from, here) {
                let caller = Caller(Return::There { lane: from, slot });
                self.questions.borrow_mut().push_back((caller, question));
                arrived = true;
            }
            let peer = &self.peers[usize::from(from.0)];
            while let Some((slot, answer)) = self.queues.take_answer(from, here) {
                let waiting = peer.slots.borrow_mut()[slot as usize].take();
                let (giver, permit) = waiting.expect("an answer belongs to a question");
                peer.free.borrow_mut().push(slot);
                match answer {
                    Some(answer) => giver.give(answer),
                    None => drop(giver),
                }
                drop(permit);
            }
        }
        if arrived {
            self.arrived.notify();
        }
    }
}

//! The driver of one coordinator: appends what it writes, delivers what it answers, keeps its time.
//!
//! It decides nothing. Writes enter the log in the order the host asked for them, and the host
//! hears of their end in that order too; a log that is busy only makes them wait. The host is
//! never borrowed across an await.
//!
//! Invariants:
//! - SEAT-1: a write is appended after all writes asked for before it, or refused after them;
//! - SEAT-2: every request gets an answer: from the host, or from the end of the seat.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use corelane_coordinator::{
    Answer, GroupConfig, GroupError, Host, Outcome, Request, Ticket, Token, Write, WriteFailure,
};
use corelane_core::ids::TopicPartition;
use corelane_core::lane::{Importance, race};
use corelane_core::sync::{Event, Giver, once};
use corelane_core::time::Nanos;
use corelane_storage::build::BatchBuilder;
use corelane_storage::log::journal::Commit;
use corelane_storage::log::store::AppendError;
use corelane_storage::validate::AppendRefusal;

use super::{Awaited, load};
use crate::mutant::Mutant;
use crate::node::Node;

/// Requests that wait for the log to be read back.
const EARLY_MAX: usize = 10_000;

const NEVER_MS: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Loading,
    Serving,
    Ended,
}

pub(super) struct Seat {
    pub(super) of: TopicPartition,
    pub(super) config: GroupConfig,
    stage: Cell<Stage>,
    host: RefCell<Host>,
    tokens: Cell<u64>,
    waiting: RefCell<BTreeMap<Token, Giver<Answer>>>,
    /// What came while the log was read, in order.
    early: RefCell<VecDeque<(Giver<Answer>, Request)>>,
    early_deleted: RefCell<Vec<String>>,
    unwritten: RefCell<VecDeque<Write>>,
    written: RefCell<VecDeque<(Ticket, Result<Commit, WriteFailure>)>>,
    to_commit: Event,
    alarm: Event,
    /// When the clock looks next.
    alarm_ms: Cell<u64>,
}

impl Seat {
    pub(super) fn new(node: &Node, of: TopicPartition, config: GroupConfig) -> Rc<Self> {
        Rc::new(Self {
            of,
            stage: Cell::new(Stage::Loading),
            host: RefCell::new(Host::new(config.clone())),
            config,
            tokens: Cell::new(0),
            waiting: RefCell::default(),
            early: RefCell::default(),
            early_deleted: RefCell::default(),
            unwritten: RefCell::default(),
            written: RefCell::default(),
            to_commit: Event::new(node.lane()),
            alarm: Event::new(node.lane()),
            alarm_ms: Cell::new(NEVER_MS),
        })
    }

    /// Reads the log back and serves. An empty log is read at once: no client of a new topic
    /// ever sees its coordinator loading.
    pub(super) fn begin(self: &Rc<Self>, node: &Node) {
        if load::is_empty(node, self.of) {
            self.serve(node, Host::new(self.config.clone()));
            return;
        }
        let (seat, node) = (Rc::clone(self), node.clone());
        let lane = node.lane().clone();
        lane.spawn("load groups", Importance::Serving, async move {
            load::load(&node, &seat).await;
        });
    }

    pub(super) fn is_ended(&self) -> bool {
        self.stage.get() == Stage::Ended
    }

    /// The host has read its log; whoever came meanwhile has its turn.
    pub(super) fn serve(self: &Rc<Self>, node: &Node, host: Host) {
        if self.is_ended() {
            return;
        }
        self.host.replace(host);
        self.stage.set(Stage::Serving);
        let outcome = self.host.borrow_mut().loaded(node.group_time());
        self.carry(node, outcome);
        let deleted = self.early_deleted.take();
        if !deleted.is_empty() {
            self.topics_deleted(node, &deleted);
        }
        for (giver, request) in self.early.take() {
            self.handle(node, giver, request);
        }
        let (seat, its_node) = (Rc::clone(self), node.clone());
        node.lane().spawn("commit groups", Importance::Serving, async move {
            seat.commit(&its_node).await;
        });
        let (seat, its_node) = (Rc::clone(self), node.clone());
        node.lane().spawn("group time", Importance::Serving, async move {
            seat.keep_time(&its_node).await;
        });
    }

    /// The log could not be read: whoever waits is told to come again.
    pub(super) fn turn_away(&self) {
        for (giver, request) in self.early.take() {
            giver.give(request.refuse(GroupError::CoordinatorLoadInProgress));
        }
    }

    /// Takes a request; it has its effect now.
    pub(super) fn ask(&self, node: &Node, request: Request) -> Awaited {
        let (giver, taker) = once(node.lane());
        // A heartbeat is answered while the log is read: its member did nothing wrong.
        let early = self.stage.get() == Stage::Loading && !matches!(request, Request::Heartbeat(_));
        if early && self.early.borrow().len() < EARLY_MAX {
            self.early.borrow_mut().push_back((giver, request));
        } else {
            self.handle(node, giver, request);
        }
        match taker.now() {
            Some(answer) => Awaited::Ready(Some(answer)),
            None => Awaited::Later(taker),
        }
    }

    fn handle(&self, node: &Node, giver: Giver<Answer>, request: Request) {
        let token = Token(self.tokens.get());
        self.tokens.set(token.0 + 1);
        self.waiting.borrow_mut().insert(token, giver);
        let outcome = self.host.borrow_mut().handle(node.group_time(), token, request);
        self.carry(node, outcome);
    }

    pub(super) fn looked_up(&self, node: &Node, group: &str) {
        self.host.borrow_mut().looked_up(node.group_time(), group);
        self.set_alarm();
    }

    pub(super) fn topics_deleted(&self, node: &Node, topics: &[String]) {
        if self.stage.get() == Stage::Loading {
            self.early_deleted.borrow_mut().extend_from_slice(topics);
            return;
        }
        let outcome = self.host.borrow_mut().topics_deleted(topics);
        self.carry(node, outcome);
    }

    /// Ends the service: everybody who waits is told so. Later requests are refused by the host.
    pub(super) fn end(&self, node: &Node, error: GroupError) {
        if self.stage.replace(Stage::Ended) == Stage::Ended {
            return;
        }
        self.unwritten.borrow_mut().clear();
        self.written.borrow_mut().clear();
        for (giver, request) in self.early.take() {
            giver.give(request.refuse(error));
        }
        let outcome = self.host.borrow_mut().stop(error);
        self.carry(node, outcome);
        assert!(self.waiting.borrow().is_empty(), "SEAT-2: an ended host owes no answer");
        self.to_commit.notify();
        self.alarm.notify();
    }

    /// Takes over what the host wants done.
    fn carry(&self, node: &Node, outcome: Outcome) {
        if !outcome.writes.is_empty() {
            self.unwritten.borrow_mut().extend(outcome.writes);
            self.write(node);
            self.to_commit.notify();
        }
        for reply in outcome.replies {
            let giver = self.waiting.borrow_mut().remove(&reply.token);
            giver.expect("SEAT-2: a token is answered once").give(reply.answer);
        }
        self.set_alarm();
    }

    /// Appends as much as the log takes now.
    fn write(&self, node: &Node) {
        let mut unwritten = self.unwritten.borrow_mut();
        while let Some(write) = unwritten.front() {
            let mut builder = BatchBuilder::new();
            let now_ms = node.lane().wall().0;
            for record in &write.records {
                builder.record(now_ms, Some(&record.key), record.value.as_deref());
            }
            let appended = node.store().append(&self.of, &mut builder.build(), false);
            let result = match appended {
                Err(AppendError::Overloaded) => return,
                Err(error) => Err(failure(&error)),
                Ok(appended) => Ok(appended.commit),
            };
            if result.is_err() {
                node.metrics().counter("groups.writes_refused").add(1);
            }
            self.written.borrow_mut().push_back((write.ticket, result));
            unwritten.pop_front();
        }
    }

    /// Tells the host how its writes ended, in their order.
    async fn commit(&self, node: &Node) {
        while !self.is_ended() {
            let seen = self.to_commit.seen();
            self.write(node);
            let first = self.written.borrow().front().copied();
            let Some((ticket, appended)) = first else {
                let busy = !self.unwritten.borrow().is_empty();
                if busy {
                    node.store().room().await;
                } else {
                    self.to_commit.past(seen).await;
                }
                continue;
            };
            let ended = match appended {
                Ok(_) if node.facts().broken == Some(Mutant::OffsetsBeforeDurable) => Ok(()),
                // A fenced directory is lost to this node.
                Ok(commit) => {
                    node.store().durable(commit).await.map_err(|_| WriteFailure::NotLeader)
                }
                Err(failure) => Err(failure),
            };
            if self.is_ended() {
                return;
            }
            self.written.borrow_mut().pop_front();
            let now = node.group_time();
            let outcome = match ended {
                Ok(()) => self.host.borrow_mut().on_committed(now, ticket),
                Err(failure) => self.host.borrow_mut().on_failed(now, ticket, failure),
            };
            self.carry(node, outcome);
        }
    }

    /// Ticks when the host wants it.
    async fn keep_time(&self, node: &Node) {
        while !self.is_ended() {
            let seen = self.alarm.seen();
            let deadline_ms = self.host.borrow().next_deadline_ms().unwrap_or(NEVER_MS);
            self.alarm_ms.set(deadline_ms);
            let now = node.group_time();
            if deadline_ms <= now.monotonic_ms {
                let outcome = self.host.borrow_mut().tick(now);
                self.carry(node, outcome);
                node.lane().yield_now().await;
            } else if deadline_ms == NEVER_MS {
                self.alarm.past(seen).await;
            } else {
                let due = node.lane().sleep_until(Nanos::millis(deadline_ms));
                race(self.alarm.past(seen), due).await;
            }
        }
    }

    /// Wakes the clock if it would look too late.
    fn set_alarm(&self) {
        let deadline_ms = self.host.borrow().next_deadline_ms().unwrap_or(NEVER_MS);
        if deadline_ms < self.alarm_ms.get() {
            self.alarm_ms.set(deadline_ms);
            self.alarm.notify();
        }
    }
}

/// What a refused append means to a coordinator.
fn failure(error: &AppendError) -> WriteFailure {
    match error {
        AppendError::NotHere | AppendError::Offline | AppendError::Failed(_) => {
            WriteFailure::NotLeader
        }
        AppendError::Refused(
            AppendRefusal::TooLarge { .. } | AppendRefusal::SegmentTooSmall { .. },
        ) => WriteFailure::TooLarge,
        _ => WriteFailure::Unavailable,
    }
}

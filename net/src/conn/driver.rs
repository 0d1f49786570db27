//! The task that serves one connection. What may be read, started and sent, and until when, is said
//! at the head of the [room](super).

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use corelane_core::buf::{Buf, Slice};
use corelane_core::lane::{Lane, Pending};
use corelane_core::limits::PARTS_MAX;
use corelane_core::ring::{Errno, Fd, Op, Outcome};
use corelane_core::sync::Taker;
use corelane_core::time::Nanos;

use super::budget::Reservation;
use super::crowd::{Crowd, Membership};
use super::inbox::{Inbox, Standing};
use super::leaving::{Leaving, memory_in};
use super::order::Effect;
use super::outbound::{Unsent, memory_of};
use super::stage::Stage;
use super::unseen::Unseen;
use super::{ConnLimits, Peer, Reply, Service, Serving};
use crate::frame::FrameError;

/// A frame of which more is missing is received straight into memory of its own.
const LARGE_BYTES: usize = 8 * 1024;

/// What one connection may do before it lets others go first.
struct Turn {
    /// Requests it may start.
    starts_max: u32,
    /// A request that was begun goes on to where it waits.
    time: Nanos,
}

/// The turn of a connection to which something came. It is short: many may be in line, and most of them want
/// no more.
const FIRST_TURN: Turn = Turn { starts_max: 4, time: Nanos::micros(50) };

/// The turn of a connection that gave way, and so has much to do. Those to which something came meanwhile
/// go first.
const LATER_TURN: Turn = Turn { starts_max: 16, time: Nanos::micros(100) };

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer closed it between frames.
    Closed,
    /// The peer closed it inside a frame.
    Inside,
    Frame(FrameError),
    /// The peer did not prove in time who it is.
    Unproven,
    /// A frame that began was not whole in time.
    Stalled,
    /// The peer took nothing of an answer in time.
    Unread,
    Idle,
    /// The service wanted it closed.
    Refused(String),
    Receive(Errno),
    Send(Errno),
    /// We are ending.
    Stopped,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "closed by the peer"),
            Self::Inside => write!(f, "closed by the peer inside a frame"),
            Self::Frame(error) => write!(f, "{error}"),
            Self::Unproven => write!(f, "did not prove in time who it is"),
            Self::Stalled => write!(f, "a frame began and was not whole in time"),
            Self::Unread => write!(f, "answers were not read in time"),
            Self::Idle => write!(f, "idle for too long"),
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Receive(errno) => write!(f, "cannot receive: {errno}"),
            Self::Send(errno) => write!(f, "cannot send: {errno}"),
            Self::Stopped => write!(f, "this node is stopping"),
        }
    }
}

/// Where bytes come from now.
enum Reading {
    /// Into a buffer of the ring's choosing: costs nothing while nothing comes. What is here is looked
    /// at before the next is asked for, so no more than one comes unbidden.
    Block(Pending),
    /// Straight into memory of our own, of so many bytes. `inside`: part of a frame is in it.
    Into { pending: Pending, bytes: usize, inside: bool },
    /// Not until there is memory.
    Full(Taker<()>),
    /// Not at all: too much is open.
    Paused,
    /// The peer will send nothing more, or nothing more is wanted.
    Ended,
}

/// A request that has been started and not been answered.
struct Open {
    progress: Progress,
    /// Whether it was polled.
    begun: bool,
    /// What it does to those behind it.
    effect: Effect,
    /// Memory of its frame, held until it is served.
    frame_bytes: usize,
    /// What its answer may have, as foretold.
    answer_bytes: usize,
}

enum Progress {
    Serving(Serving),
    /// With the memory of an answer, as it was counted.
    Ready(Reply, usize),
}

/// What a connection needs once a frame of it was whole. Who never sends one does without.
struct Busy {
    /// A whole frame that may not be started yet, and what its answer may have.
    waiting: Option<(Buf, usize)>,
    open: VecDeque<Open>,
    unseen: Unseen,
    /// Answers that have not left.
    unsent: Unsent,
    /// Since when something is always unsent.
    unsent_since: Nanos,
    leaving: Leaving,
    /// The part of the memory of answers that was gathered to be sent.
    leaving_bytes: usize,
    sending: Option<Pending>,
    sent_at: Nanos,
    /// Since when the connection is ending, if it is.
    ending_since: Nanos,
}

impl Busy {
    fn new(unsent: Unsent, now: Nanos) -> Box<Self> {
        Box::new(Self {
            waiting: None,
            open: VecDeque::new(),
            unseen: Unseen::default(),
            unsent,
            unsent_since: now,
            leaving: Leaving::new(),
            leaving_bytes: 0,
            sending: None,
            sent_at: now,
            ending_since: now,
        })
    }

    fn is_at_rest(&self) -> bool {
        self.open.is_empty() && self.sending.is_none() && self.waiting.is_none()
    }
}

struct Connection<S> {
    membership: Membership,
    socket: Fd,
    peer: Rc<Peer>,
    service: Rc<S>,
    stage: Stage,
    /// When the connection came.
    came: Nanos,
    inbox: Inbox,
    reading: Reading,
    memory: Reservation,
    busy: Option<Box<Busy>>,
    /// Memory of frames that wait or are open.
    frame_bytes: usize,
    /// The foretold answers of requests being served.
    promised_bytes: usize,
    /// When the first byte of the frame came that is not whole yet.
    frame_began: Nanos,
    paused_at: Nanos,
    quiet_since: Nanos,
    /// This turn, when it began, and requests started in it.
    turn: &'static Turn,
    turn_began: Nanos,
    started: u32,
    /// Whether the turn before ended with work left.
    gave_way: bool,
    ending: Option<Ended>,
}

/// What comes next, in a buffer of the ring's choosing.
fn block_from(lane: &Lane, socket: &Fd) -> Pending {
    lane.op(Op::ReceiveBlock { socket: socket.clone() })
}

/// Serves a connection in the task being polled until it ends, and says why it did.
pub fn serve<S: Service>(
    crowd: &Crowd,
    socket: Fd,
    peer: Rc<Peer>,
    service: Rc<S>,
) -> impl Future<Output = Ended> + use<S> {
    // Not in the future: it would keep room for what it was given beside what became of it.
    let now = crowd.lane().now();
    let mut connection = Connection {
        membership: crowd.enter(),
        reading: Reading::Block(block_from(crowd.lane(), &socket)),
        socket,
        stage: Stage::of(&peer.principal),
        came: now,
        peer,
        service,
        inbox: Inbox::new(),
        memory: crowd.budget().reservation(),
        busy: None,
        frame_bytes: 0,
        promised_bytes: 0,
        frame_began: now,
        paused_at: now,
        quiet_since: now,
        turn: &FIRST_TURN,
        turn_began: now,
        started: 0,
        gave_way: false,
        ending: None,
    };
    let mut armed = connection.deadline();
    let mut timer = crowd.lane().sleep_until(armed);
    // Nor in several futures, each with its copy.
    poll_fn(move |context| {
        loop {
            if let Poll::Ready(ended) = connection.step(context) {
                return Poll::Ready(ended);
            }
            // The timer is set anew only when a deadline comes nearer; one that moved away is looked at
            // when its old time comes.
            let deadline = connection.deadline();
            let is_over = if deadline < armed {
                false
            } else {
                if Pin::new(&mut timer).poll(context).is_pending() {
                    return Poll::Pending;
                }
                true
            };
            if is_over && let Some(ended) = connection.timed_out() {
                return Poll::Ready(ended);
            }
            armed = connection.deadline();
            timer = connection.lane().sleep_until(armed);
        }
    })
}

impl<S: Service> Connection<S> {
    fn lane(&self) -> &Lane {
        self.membership.lane()
    }

    fn limits(&self) -> &ConnLimits {
        self.membership.limits()
    }

    fn frame_bytes_max(&self) -> u32 {
        self.stage.frame_bytes_max(self.limits())
    }

    fn has_room(&self) -> bool {
        self.open_count() < self.stage.in_flight_max(self.limits())
    }

    /// Requests that were started and whose answers were not gathered.
    fn open_count(&self) -> usize {
        self.busy.as_ref().map_or(0, |it| it.open.len())
    }

    /// Memory of answers that have not left.
    fn unsent_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |it| it.unsent.bytes())
    }

    // Time.

    fn frame_deadline(&self) -> Option<Nanos> {
        let reading = match self.reading {
            Reading::Block(_) | Reading::Into { .. } | Reading::Full(_) => true,
            Reading::Paused | Reading::Ended => false,
        };
        (reading && self.is_inside()).then(|| self.frame_began + self.limits().progress)
    }

    fn send_deadline(&self) -> Option<Nanos> {
        let sending = self.busy.as_ref().filter(|it| it.sending.is_some());
        sending.map(|it| it.sent_at + self.limits().send_stall)
    }

    fn idle_deadline(&self) -> Option<Nanos> {
        let at_rest = self.busy.as_ref().is_none_or(|it| it.is_at_rest());
        (at_rest && !self.is_inside()).then(|| self.quiet_since + self.limits().idle)
    }

    /// Nobody waits for ever for a peer that will ask nothing more, and may be gone: a fetch takes as long
    /// as its client said.
    fn linger_deadline(&self) -> Option<Nanos> {
        let waits = |it: &&Busy| it.sending.is_none() && !it.open.is_empty();
        let busy = self.busy.as_deref().filter(waits).filter(|_| self.ending.is_some());
        busy.map(|it| it.ending_since.max(self.quiet_since) + self.limits().send_stall)
    }

    /// When something must have happened.
    fn deadline(&self) -> Nanos {
        let proof = self.stage.deadline(self.came, self.limits());
        let reading = [proof, self.frame_deadline(), self.idle_deadline()];
        let sending = [self.send_deadline(), self.linger_deadline()];
        reading
            .into_iter()
            .chain(sending)
            .flatten()
            .min()
            .unwrap_or_else(|| self.lane().now() + self.limits().idle)
    }

    fn timed_out(&mut self) -> Option<Ended> {
        let now = self.lane().now();
        let over = |deadline: Option<Nanos>| deadline.is_some_and(|it| it <= now);
        if over(self.stage.deadline(self.came, self.limits())) {
            return Some(Ended::Unproven);
        }
        if over(self.send_deadline()) {
            return Some(Ended::Unread);
        }
        if over(self.linger_deadline()) {
            return self.ending.take();
        }
        if over(self.idle_deadline()) {
            return Some(Ended::Idle);
        }
        if over(self.frame_deadline()) {
            self.end(Ended::Stalled);
        }
        None
    }

    /// Whether part of a frame is here, or on its way into memory of ours.
    fn is_inside(&self) -> bool {
        match self.inbox.standing(self.frame_bytes_max()) {
            Standing::Announcing | Standing::Inside { .. } => true,
            // While memory is lent out the inbox is empty.
            Standing::Between => matches!(self.reading, Reading::Into { inside: true, .. }),
            Standing::Whole => false,
        }
    }

    // Steps.

    /// Does what can be done in one turn. Ready when the connection has ended.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        if self.ending.is_none() && self.membership.is_stopping() {
            self.end(Ended::Stopped);
        }
        let gave_way = std::mem::take(&mut self.gave_way);
        self.turn = if gave_way { &LATER_TURN } else { &FIRST_TURN };
        (self.turn_began, self.started) = (self.lane().now(), 0);
        loop {
            let mut moved = self.receive(context);
            moved |= self.start();
            self.poll_requests(context);
            match self.send(context) {
                Ok(sent) => moved |= sent,
                Err(errno) => return Poll::Ready(Ended::Send(errno)),
            }
            if moved && self.reads_too_slowly() {
                return Poll::Ready(Ended::Unread);
            }
            if matches!(self.reading, Reading::Paused) && self.may_read() {
                self.frame_began = self.frame_began + (self.lane().now() - self.paused_at);
                self.resume();
                moved = true;
            }
            if let Some(ended) = self.ended() {
                return Poll::Ready(ended);
            }
            if self.is_turn_over() {
                // Others first, then we go on.
                self.gave_way = true;
                let yielded = pin!(self.lane().yield_now()).poll(context);
                assert!(yielded.is_pending(), "a yield lets others run");
                return Poll::Pending;
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn is_turn_over(&self) -> bool {
        self.turn.starts_max <= self.started || self.is_late() || self.lane().is_slice_spent()
    }

    fn is_late(&self) -> bool {
        self.turn_began + self.turn.time <= self.lane().now()
    }

    /// The end, once nothing is left to do.
    fn ended(&mut self) -> Option<Ended> {
        let answers =
            |it: &Busy| it.sending.is_some() || !it.leaving.is_empty() || !it.open.is_empty();
        let left =
            self.busy.as_deref().is_some_and(answers) || self.takes_requests() && self.has_whole();
        if left { None } else { self.ending.take() }
    }

    /// Whether frames that are here are still served.
    fn takes_requests(&self) -> bool {
        matches!(self.ending, None | Some(Ended::Closed | Ended::Inside))
    }

    fn is_one_waiting(&self) -> bool {
        self.busy.as_ref().is_some_and(|it| it.waiting.is_some())
    }

    fn has_whole(&self) -> bool {
        self.is_one_waiting() || self.inbox.standing(self.frame_bytes_max()) == Standing::Whole
    }

    /// Nothing more is read; what is open is still answered.
    fn end(&mut self, why: Ended) {
        self.reading = Reading::Ended;
        if self.ending.is_none() {
            self.ending = Some(why);
            if let Some(busy) = &mut self.busy {
                busy.ending_since = self.membership.lane().now();
            }
        }
        if !self.takes_requests() {
            self.forget_unstarted();
        }
        self.hold();
    }

    // Reading.

    fn may_read(&self) -> bool {
        self.ending.is_none()
            && !self.is_one_waiting()
            && self.has_room()
            && self.answer_bytes() < self.limits().pending_bytes_max
            && !self.must_be_read_first()
    }

    /// Whether what waits here has to leave before anything else is done, because the lane holds too much
    /// of that kind.
    fn must_be_read_first(&self) -> bool {
        0 < self.unsent_bytes() && self.membership.outbound().is_spent()
    }

    /// Answers that wait to leave or may still come.
    fn answer_bytes(&self) -> usize {
        self.unsent_bytes() + self.promised_bytes
    }

    /// Keeps the reservation at what is really here.
    fn hold(&mut self) {
        let lent = if let Reading::Into { bytes, .. } = self.reading { bytes } else { 0 };
        self.memory.hold(self.frame_bytes + self.inbox.held_bytes() + lent);
    }

    fn pause(&mut self) {
        self.reading = Reading::Paused;
        self.paused_at = self.lane().now();
    }

    /// Goes on reading in the way that fits what is here.
    fn resume(&mut self) {
        if self.ending.is_some() {
            self.reading = Reading::Ended;
        } else if !self.may_read() || self.has_whole() {
            self.pause();
        } else {
            match self.inbox.standing(self.frame_bytes_max()) {
                Standing::Inside { missing } if self.is_large(missing) => self.read_into(missing),
                _ if self.memory.fits() => {
                    self.reading = Reading::Block(block_from(self.lane(), &self.socket));
                }
                // Whoever has begun may pass the total; whoever has not waits.
                Standing::Inside { missing } => self.read_into(missing),
                Standing::Announcing => self.read_into(1),
                Standing::Between | Standing::Whole => {
                    self.reading = Reading::Full(self.memory.wait(0));
                }
            }
        }
    }

    /// Whether what is missing deserves memory of its own. An announcement alone does not.
    fn is_large(&self, missing: usize) -> bool {
        LARGE_BYTES < missing && self.inbox.is_under_way()
    }

    /// Receives into memory that is reserved first.
    fn read_into(&mut self, missing: usize) {
        let (wants, has) = (self.inbox.wants(missing), self.inbox.held_bytes());
        // While it grows, both are here.
        let more = if wants == has { 0 } else { wants };
        // Who has requests here frees memory when they are served, and can wait for that.
        let may_pass = self.frame_bytes == 0;
        if !self.memory.try_hold(self.frame_bytes + has + more, may_pass) {
            self.reading = Reading::Full(self.memory.wait(self.frame_bytes + has + more));
            return;
        }
        let buf = self.inbox.lend(self.membership.lane().pool(), missing);
        let (bytes, inside) = (buf.capacity(), !buf.is_empty());
        let op = Op::Receive { socket: self.socket.clone(), buf };
        self.reading = Reading::Into { pending: self.lane().op(op), bytes, inside };
        self.hold();
    }

    /// Takes in what has come. Says whether anything changed.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.reading {
            Reading::Paused | Reading::Ended => return false,
            Reading::Full(memory) => {
                if memory.poll_take().is_pending() {
                    return false;
                }
                self.resume();
            }
            Reading::Block(block) => match Pin::new(block).poll(context) {
                Poll::Pending => return false,
                Poll::Ready((Ok(Outcome::Received(buf)), _)) => self.came(buf),
                Poll::Ready((Ok(other), _)) => panic!("received {other:?}"),
                Poll::Ready((Err(Errno::NOBUFS), _)) => self.without_blocks(),
                Poll::Ready((Err(errno), _)) => self.end(Ended::Receive(errno)),
            },
            Reading::Into { pending, inside, .. } => match Pin::new(pending).poll(context) {
                Poll::Pending => return false,
                Poll::Ready((result, op)) => {
                    let Op::Receive { buf, .. } = op else { panic!("received {op:?}") };
                    let began_before = *inside;
                    self.inbox.give_back(buf);
                    self.pause();
                    match result {
                        Ok(Outcome::Bytes(0)) => self.peer_is_done(),
                        Ok(Outcome::Bytes(_)) if began_before => {}
                        Ok(Outcome::Bytes(_)) => self.frame_began = self.lane().now(),
                        Ok(other) => panic!("received {other:?}"),
                        Err(errno) => self.end(Ended::Receive(errno)),
                    }
                }
            },
        }
        true
    }

    /// The ring has no blocks to receive into: one receive into memory of our own, then ask again.
    fn without_blocks(&mut self) {
        match self.inbox.standing(self.frame_bytes_max()) {
            _ if !self.may_read() || self.has_whole() => self.resume(),
            Standing::Inside { missing } => self.read_into(missing),
            _ => self.read_into(1),
        }
    }

    /// Bytes came in a buffer of the ring's choosing.
    fn came(&mut self, buf: Buf) {
        if buf.is_empty() {
            self.peer_is_done();
            return;
        }
        if self.inbox.standing(self.frame_bytes_max()) == Standing::Between {
            self.frame_began = self.lane().now();
        }
        self.inbox.take(self.membership.lane().pool(), buf);
        self.start();
        self.inbox.settle(self.membership.lane().pool());
        self.hold();
        self.resume();
    }

    fn peer_is_done(&mut self) {
        let inside = self.is_inside();
        self.end(if inside { Ended::Inside } else { Ended::Closed });
    }

    // Serving.

    /// Starts requests whose frames are whole. Says whether it started any.
    fn start(&mut self) -> bool {
        let mut started = false;
        while self.takes_requests() && self.started < self.turn.starts_max {
            if !self.is_one_waiting() {
                // What the next frame may be is said by the answer to this one.
                if self.stage == Stage::Proof && !self.has_room() {
                    break;
                }
                let bytes_max = self.frame_bytes_max();
                match self.inbox.next(self.membership.lane().pool(), bytes_max) {
                    Ok(Some(frame)) => {
                        let now = self.lane().now();
                        self.service.received(&frame, now.since(self.frame_began));
                        self.frame_began = now;
                        self.frame_bytes += frame.capacity();
                        let answer_bytes = self.service.answer_bytes_max(&frame);
                        let unsent = || self.membership.outbound().unsent();
                        let busy = self.busy.get_or_insert_with(|| Busy::new(unsent(), now));
                        busy.waiting = Some((frame, answer_bytes));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.end(Ended::Frame(error));
                        break;
                    }
                }
            }
            let room = self.has_room();
            let (lane, limits) = (self.membership.lane(), self.membership.limits());
            let outbound = self.membership.outbound();
            let busy = self.busy.as_mut().expect("a frame was whole");
            let unsent = busy.unsent.bytes();
            let nothing_else = busy.open.is_empty() && unsent == 0;
            let promised = self.promised_bytes;
            let Some((frame, answer_bytes)) = busy.waiting.take_if(|(_, answer_bytes)| {
                let answers = unsent + promised + *answer_bytes;
                let all_fit = answers <= limits.pending_bytes_max
                    && !outbound.is_spent()
                    && lane.pool().has_room(*answer_bytes);
                room && (nothing_else || all_fit)
            }) else {
                break;
            };
            let frame_bytes = frame.capacity();
            let effect = self.service.effect(&frame);
            let serving = self.service.call(&self.peer, frame);
            self.promised_bytes += answer_bytes;
            self.quiet_since = lane.now();
            busy.open.push_back(Open {
                progress: Progress::Serving(serving),
                begun: false,
                effect,
                frame_bytes,
                answer_bytes,
            });
            self.started += 1;
            started = true;
        }
        self.hold();
        started
    }

    /// Polls every open request, oldest first, so that effects keep their order. One that has to wait for
    /// an earlier one does not begin; those behind it may, if they touch other things ([`super::order`]).
    /// Once enough waits to be sent, only the oldest is brought further; once the turn is over, none
    /// that begins or ends is followed by another. None at all follows one that gave way: it may not have
    /// had its effects.
    fn poll_requests(&mut self, context: &mut Context<'_>) {
        // Again only when what was added silently could be seen at once.
        while self.poll_open(context) && self.show_unseen(context) {}
    }

    /// Says whether what was added silently is seen now.
    fn show_unseen(&mut self, context: &mut Context<'_>) -> bool {
        let Some(busy) = self.busy.as_deref_mut() else { return false };
        busy.unseen.show(context, || self.service.show())
    }

    /// Says whether somebody waits for records that were added silently.
    fn poll_open(&mut self, context: &mut Context<'_>) -> bool {
        let Some(busy) = self.busy.as_deref_mut() else { return false };
        let (mut refused, mut ahead) = (None, busy.unseen.ahead(context));
        let (open, unsent) = (&mut busy.open, &mut busy.unsent);
        let lane = self.membership.lane();
        let pending_bytes_max = self.membership.limits().pending_bytes_max;
        let turn_ends = self.turn_began + self.turn.time;
        for (place, it) in open.iter_mut().enumerate() {
            let waits = unsent.bytes();
            let enough =
                pending_bytes_max <= waits || 0 < waits && self.membership.outbound().is_spent();
            if 0 < place && enough {
                break;
            }
            let Progress::Serving(serving) = &mut it.progress else { continue };
            if !it.begun && !ahead.lets_begin(it.effect) {
                ahead.waits(it.effect);
                continue;
            }
            let polled = serving.as_mut().poll(context);
            let is_first = !std::mem::replace(&mut it.begun, true);
            let is_late = (is_first || polled.is_ready()) && turn_ends <= lane.now();
            let is_over = is_late || lane.is_slice_spent();
            let Poll::Ready(mut reply) = polled else {
                ahead.goes_on(it.effect);
                if is_over {
                    break;
                }
                continue;
            };
            if let Reply::Proven(_, principal) = &reply {
                let principal = principal.clone();
                self.stage = Stage::of(&principal);
                self.peer = Rc::new(Peer { principal, ..Peer::clone(&self.peer) });
            }
            self.frame_bytes -= it.frame_bytes;
            self.promised_bytes -= it.answer_bytes;
            let mut memory = 0;
            if let Reply::Answer(_) | Reply::Proven(..) | Reply::Spliced(_) = &reply
                && unsent.bytes() == 0
            {
                busy.unsent_since = lane.now();
            }
            match &mut reply {
                Reply::Answer(parts) | Reply::Proven(parts, _) => {
                    if 0 < unsent.bytes() {
                        unsent.pack(lane.pool(), parts);
                    }
                    memory = memory_of(parts);
                }
                Reply::Spliced(pieces) => memory = pieces.iter().map(memory_in).sum(),
                Reply::Silent => busy.unseen.ended_silently(it.effect, &mut ahead),
                Reply::Close(_) => {}
            }
            unsent.add(memory);
            let is_close = matches!(reply, Reply::Close(_));
            it.progress = Progress::Ready(reply, memory);
            if is_close {
                refused = Some(place);
            }
            if is_close || is_over {
                break;
            }
        }
        if let Some(place) = refused {
            self.forget_after(place);
        }
        self.hold();
        ahead.is_to_be_shown()
    }

    /// Nothing behind this request is served.
    fn forget_after(&mut self, place: usize) {
        let Some(busy) = self.busy.as_deref_mut() else { return };
        for it in busy.open.drain(place + 1..) {
            match it.progress {
                Progress::Serving(_) => {
                    self.frame_bytes -= it.frame_bytes;
                    self.promised_bytes -= it.answer_bytes;
                }
                Progress::Ready(_, memory) => busy.unsent.subtract(memory),
            }
        }
        busy.unsent.settle();
        self.reading = Reading::Ended;
        self.forget_unstarted();
    }

    fn forget_unstarted(&mut self) {
        let waiting = self.busy.as_mut().and_then(|it| it.waiting.take());
        if let Some((frame, _)) = waiting {
            self.frame_bytes -= frame.capacity();
        }
        self.inbox = Inbox::new();
    }

    // Sending.

    /// Sends what is ready, in order. Says whether anything changed.
    fn send(&mut self, context: &mut Context<'_>) -> Result<bool, Errno> {
        let mut moved = false;
        loop {
            let Some(busy) = self.busy.as_deref_mut() else { return Ok(moved) };
            if let Some(sending) = &mut busy.sending {
                let Poll::Ready((result, op)) = Pin::new(sending).poll(context) else {
                    return Ok(moved);
                };
                busy.sending = None;
                match result? {
                    Outcome::Bytes(bytes) => self.left(op, bytes as usize)?,
                    other => panic!("sent {other:?}"),
                }
                moved = true;
            }
            let op = match self.next_to_leave() {
                Some(op) => op,
                None => {
                    moved |= self.gather();
                    let Some(op) = self.next_to_leave() else { return Ok(moved) };
                    op
                }
            };
            let lane = self.membership.lane();
            if let Some(busy) = &mut self.busy {
                (busy.sending, busy.sent_at) = (Some(lane.op(op)), lane.now());
            }
        }
    }

    fn next_to_leave(&mut self) -> Option<Op> {
        self.busy.as_mut()?.leaving.next(&self.socket)
    }

    /// So many bytes of what the ring was asked have left.
    fn left(&mut self, op: Op, bytes: usize) -> Result<(), Errno> {
        self.quiet_since = self.lane().now();
        let Some(busy) = self.busy.as_deref_mut() else { return Ok(()) };
        busy.leaving.left(op, bytes)?;
        let rest = busy.leaving.memory();
        if rest < busy.leaving_bytes {
            busy.unsent.subtract(busy.leaving_bytes - rest);
            busy.leaving_bytes = rest;
        }
        busy.unsent.settle();
        Ok(())
    }

    /// Whether the peer takes what it asked for so slowly that others need the memory more.
    fn reads_too_slowly(&self) -> bool {
        let since = self.busy.as_ref().map_or(Nanos::default(), |it| it.unsent_since);
        let since = since + self.limits().send_stall;
        self.must_be_read_first() && since <= self.lane().now()
    }

    /// Takes answers whose turn it is. Says whether there were any.
    fn gather(&mut self) -> bool {
        let (mut moved, mut refused) = (false, None);
        let (lane, is_unordered) = (self.membership.lane(), self.limits().unordered);
        let Some(busy) = self.busy.as_deref_mut() else { return false };
        let mut gathered: Vec<Slice> = Vec::new();
        let mut goes_on = busy.leaving.gather(&mut gathered);
        if is_unordered {
            busy.open
                .make_contiguous()
                .sort_by_key(|it| matches!(it.progress, Progress::Serving(_)));
        }
        while goes_on
            && gathered.len() < PARTS_MAX
            && let Some(first) = busy.open.pop_front()
        {
            match first.progress {
                Progress::Serving(_) => {
                    busy.open.push_front(first);
                    break;
                }
                Progress::Ready(Reply::Answer(parts) | Reply::Proven(parts, _), memory) => {
                    busy.leaving_bytes += memory;
                    if gathered.is_empty() {
                        gathered = parts;
                    } else {
                        gathered.extend(parts);
                    }
                }
                Progress::Ready(Reply::Spliced(pieces), memory) => {
                    busy.leaving_bytes += memory;
                    busy.leaving.add(pieces);
                    goes_on = busy.leaving.gather(&mut gathered);
                }
                Progress::Ready(Reply::Silent, _) => {}
                Progress::Ready(Reply::Close(reason), _) => {
                    refused = Some(reason);
                }
            }
            self.quiet_since = lane.now();
            moved = true;
        }
        busy.leaving.set(gathered);
        if let Some(reason) = refused {
            self.ending = Some(Ended::Refused(reason));
            self.end(Ended::Closed);
        }
        moved
    }
}

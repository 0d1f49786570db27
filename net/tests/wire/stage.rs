//! A server in a simulated world, and clients that talk to it.
//!
//! It serves whatever it is given. Most tests give it [`Echo`]: that service takes a frame apart as: how long to take (ms), how many bytes to answer, a number. Its
//! answer repeats the number, so the other end can see what was answered, and in which order.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use corelane_core::buf::Buf;
use corelane_core::lane::{Importance, Lane};
use corelane_core::limits::SLICE_BYTES;
use corelane_core::ring::sim::{Faults, NodeId, World};
use corelane_core::ring::{Fd, Outcome};
use corelane_core::time::Nanos;
use corelane_net::conn::{
    Access, ConnLimits, Crowd, Effect, Ended, Peer, Principal, Reply, Service, Serving, Showing,
    serve,
};

pub(crate) const PORT: u16 = 9092;

/// What all answers of the server may take.
pub(crate) const SEND_BYTES: usize = 1 << 20;

pub(crate) struct Echo {
    pub(crate) lane: Lane,
    pub(crate) seen: Rc<Seen>,
}

/// What the service saw, over all connections.
#[derive(Default)]
pub(crate) struct Seen {
    /// Numbers in the order in which requests took effect.
    pub(crate) effects: RefCell<Vec<u8>>,
    pub(crate) open: Cell<usize>,
    pub(crate) open_most: Cell<usize>,
    /// Bytes promised by open requests.
    pub(crate) promised: Cell<usize>,
    pub(crate) promised_most: Cell<usize>,
    /// The most requests that took effect between two turns of a bystander.
    pub(crate) served_between_most: Cell<usize>,
    /// Slices that a long request used up, and the most between two turns of a bystander.
    pub(crate) slices: Cell<usize>,
    pub(crate) slices_between_most: Cell<usize>,
}

/// A request of this number starts another task on the lane, which has a turn whenever it can.
pub(crate) const BYSTANDER: u8 = 77;
const BYSTANDER_TURNS: usize = 200;

/// A request of this number takes effect after so many slices of the lane.
pub(crate) const LONG: u8 = 88;
pub(crate) const LONG_SLICES: usize = 100;

/// Requests of these numbers, and of up to nine more, have such an effect. They say so at their end, too,
/// by [`DONE`] more.
pub(crate) const APPEND: u8 = 100;
pub(crate) const CHANGE: u8 = 110;
pub(crate) const LOOK: u8 = 120;
pub(crate) const GROUP: u8 = 130;
pub(crate) const DONE: u8 = 100;

/// An append that wants so many bytes of an answer is not answered. When all these are seen, that is
/// noted by this number.
pub(crate) const UNANSWERED: u16 = u16::MAX;
pub(crate) const SHOWN: u8 = 99;
const SHOWN_AFTER: Nanos = Nanos::millis(7);

async fn stand_by(lane: Lane, seen: Rc<Seen>) {
    for _ in 0..BYSTANDER_TURNS {
        let (before, slices) = (seen.effects.borrow().len(), seen.slices.get());
        lane.yield_now().await;
        let slices = seen.slices.get() - slices;
        seen.slices_between_most.set(seen.slices_between_most.get().max(slices));
        let served = seen.effects.borrow().len() - before;
        seen.served_between_most.set(seen.served_between_most.get().max(served));
    }
}

pub(crate) fn request(wait_ms: u8, answer: u16, number: u8, more: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(4 + more).expect("small").to_be_bytes().to_vec();
    bytes.push(wait_ms);
    bytes.extend(answer.to_be_bytes());
    bytes.push(number);
    bytes.resize(bytes.len() + more, number);
    bytes
}

pub(crate) fn answer_to(request: &[u8]) -> Vec<u8> {
    let bytes = usize::from(u16::from_be_bytes([request[5], request[6]]));
    let mut answer = u32::try_from(bytes).expect("small").to_be_bytes().to_vec();
    answer.resize(4 + bytes, request[7]);
    answer
}

fn effect_of(request: &[u8]) -> Effect {
    match request[7] {
        APPEND..CHANGE => Effect { records: Access::Add, ..Effect::FREE },
        CHANGE..LOOK => Effect { records: Access::Change, ..Effect::FREE },
        LOOK..GROUP => Effect { records: Access::Look, ..Effect::FREE },
        GROUP..=139 => Effect { groups: Access::Add, ..Effect::FREE },
        _ => Effect::FREE,
    }
}

impl Service for Echo {
    fn call(&self, _: &Rc<Peer>, frame: Buf) -> Serving {
        let (lane, seen) = (self.lane.clone(), Rc::clone(&self.seen));
        let promised = self.answer_bytes_max(&frame);
        let open = seen.open.get() + 1;
        seen.open.set(open);
        seen.open_most.set(seen.open_most.get().max(open));
        seen.promised.set(seen.promised.get() + promised);
        seen.promised_most.set(seen.promised_most.get().max(seen.promised.get()));
        let leaving = Leaving { seen: Rc::clone(&seen), promised };
        Box::pin(async move {
            let _leaving = leaving;
            let bytes = frame.filled();
            if bytes[7] == LONG {
                for _ in 0..LONG_SLICES {
                    seen.slices.set(seen.slices.get() + 1);
                    lane.spend(SLICE_BYTES).await;
                }
            }
            seen.effects.borrow_mut().push(bytes[7]);
            if bytes[7] == BYSTANDER {
                lane.spawn("b", Importance::Serving, stand_by(lane.clone(), Rc::clone(&seen)));
            }
            if bytes[4] == u8::MAX {
                return Reply::Close("as asked".to_owned());
            }
            lane.sleep(Nanos::millis(u64::from(bytes[4]))).await;
            if effect_of(bytes) != Effect::FREE {
                seen.effects.borrow_mut().push(DONE + bytes[7]);
            }
            if bytes[5..7] == UNANSWERED.to_be_bytes() {
                return Reply::Silent;
            }
            let answer = answer_to(bytes);
            let buf = lane.pool().get(answer.len());
            let mut buf = buf.unwrap_or_else(|| Buf::unpooled(answer.len()));
            buf.put(&answer);
            Reply::Answer(vec![buf.freeze()])
        })
    }

    fn answer_bytes_max(&self, frame: &Buf) -> usize {
        4 + usize::from(u16::from_be_bytes([frame.filled()[5], frame.filled()[6]]))
    }

    fn show(&self) -> Showing {
        let (lane, seen) = (self.lane.clone(), Rc::clone(&self.seen));
        Box::pin(async move {
            lane.sleep(SHOWN_AFTER).await;
            seen.effects.borrow_mut().push(SHOWN);
        })
    }

    fn effect(&self, frame: &Buf) -> Effect {
        effect_of(frame.filled())
    }
}

struct Leaving {
    seen: Rc<Seen>,
    promised: usize,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.seen.open.set(self.seen.open.get() - 1);
        self.seen.promised.set(self.seen.promised.get() - self.promised);
    }
}

/// What a server grants.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) limits: ConnLimits,
    pub(crate) receive_bytes: usize,
    pub(crate) send_bytes: usize,
    /// Who everybody is taken for who comes.
    pub(crate) principal: Principal,
}

/// A world with a server, and what can be asked about it afterwards.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) server: NodeId,
    pub(crate) client: NodeId,
    pub(crate) seen: Rc<Seen>,
    pub(crate) ended: Rc<RefCell<Vec<Ended>>>,
    pub(crate) crowd: Rc<RefCell<Option<Crowd>>>,
}

impl Stage {
    pub(crate) fn new(seed: u64, faults: Faults, limits: ConnLimits, receive_bytes: usize) -> Self {
        Self::with(seed, faults, limits, receive_bytes, SEND_BYTES)
    }

    pub(crate) fn with(
        seed: u64,
        faults: Faults,
        limits: ConnLimits,
        receive_bytes: usize,
        send_bytes: usize,
    ) -> Self {
        let terms = Terms { limits, receive_bytes, send_bytes, principal: Principal::Anonymous };
        Self::of(seed, faults, terms, async |lane, seen| Echo { lane, seen })
    }

    /// With a service of its own, made where it serves.
    pub(crate) fn of<S: Service>(
        seed: u64,
        faults: Faults,
        terms: Terms,
        make: impl AsyncFn(Lane, Rc<Seen>) -> S + Copy + 'static,
    ) -> Self {
        let mut world = World::new(seed, faults);
        let (server, client) = (world.node(1), world.node(1));
        let seen = Rc::new(Seen::default());
        let ended = Rc::new(RefCell::new(Vec::new()));
        let crowd = Rc::new(RefCell::new(None));
        let (seen2, ended2, crowd2) = (Rc::clone(&seen), Rc::clone(&ended), Rc::clone(&crowd));
        let addr = world.addr(server, PORT);
        world.start(server, move |lane| {
            let (seen, ended) = (Rc::clone(&seen2), Rc::clone(&ended2));
            let Terms { limits, receive_bytes, send_bytes, principal } = terms.clone();
            let all = Crowd::new(&lane, limits, receive_bytes, send_bytes);
            *crowd2.borrow_mut() = Some(all.clone());
            async move {
                let service = Rc::new(make(lane.clone(), seen).await);
                let (listener, _) = lane.listen(addr, 1024, false).await.expect("a free port");
                loop {
                    let mut accepted = lane.accept(&listener);
                    while let Some(it) = accepted.next().await {
                        let Ok(Outcome::Connected(connection)) = it else { continue };
                        let connection = *connection;
                        let peer = Rc::new(Peer {
                            addr: connection.peer,
                            listener: "PLAINTEXT".into(),
                            principal: principal.clone(),
                        });
                        let (all, service) = (all.clone(), Rc::clone(&service));
                        let ended = Rc::clone(&ended);
                        let serving = async move {
                            let end = serve(&all, connection.socket, peer, service).await;
                            ended.borrow_mut().push(end);
                        };
                        lane.spawn("c", Importance::Serving, serving);
                    }
                }
            }
        });
        Self { world, server, client, seen, ended, crowd }
    }

    /// Runs a client until it is done.
    pub(crate) fn run<F, T>(
        &mut self,
        span: Nanos,
        client: impl Fn(Lane, Fd) -> F + 'static,
    ) -> Option<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        self.run_watched(span, client, |_| {})
    }

    /// The same, with a look at the server's connections after everything that happens.
    pub(crate) fn run_watched<F, T>(
        &mut self,
        span: Nanos,
        client: impl Fn(Lane, Fd) -> F + 'static,
        watch: impl Fn(&Crowd),
    ) -> Option<T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let done = Rc::new(RefCell::new(None));
        let (told, client) = (Rc::clone(&done), Rc::new(client));
        let addr = self.world.addr(self.server, PORT);
        self.world.start(self.client, move |lane| {
            let (told, client) = (Rc::clone(&told), Rc::clone(&client));
            async move {
                let socket = loop {
                    match lane.connect(addr).await {
                        Ok(it) => break it.socket,
                        Err(_) => lane.sleep(Nanos::millis(1)).await,
                    }
                };
                *told.borrow_mut() = Some(client(lane, socket).await);
            }
        });
        let (finished, crowd) = (Rc::clone(&done), Rc::clone(&self.crowd));
        self.world.run_to(span, || {
            crowd.borrow().as_ref().inspect(|it| watch(it));
            finished.borrow().is_some()
        });
        done.borrow_mut().take()
    }

    pub(crate) fn held(&self) -> (usize, usize) {
        let crowd = self.crowd.borrow();
        let budget = crowd.as_ref().expect("it runs").budget();
        (budget.held(), budget.held_most())
    }

    /// Everything that was taken has been given back.
    #[track_caller]
    pub(crate) fn check_empty(&mut self) {
        let crowd = self.crowd.borrow().clone().expect("it runs");
        assert!(self.world.run_to(Nanos::secs(100), || crowd.is_empty()), "somebody stays");
        assert_eq!((self.held().0, self.seen.open.get(), self.seen.promised.get()), (0, 0, 0));
        assert_eq!(crowd.outbound().held(), 0);
    }
}

pub(crate) async fn send(lane: &Lane, socket: &Fd, bytes: &[u8]) -> bool {
    lane.send_all(socket, vec![Buf::copy_of(bytes).freeze()]).await.is_ok()
}

/// Everything that comes until `bytes` are here or the other end closes.
pub(crate) async fn receive(lane: &Lane, socket: &Fd, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let (result, buf) = lane.receive(socket, Buf::unpooled(4096)).await;
        match result {
            Ok(0) | Err(_) => break,
            Ok(_) => all.extend_from_slice(buf.filled()),
        }
    }
    all
}

/// Two things at once.
pub(crate) async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(it) = a.as_mut().poll(context)
        {
            first = Some(it);
        }
        if second.is_none()
            && let Poll::Ready(it) = b.as_mut().poll(context)
        {
            second = Some(it);
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.expect("done"), second.expect("done"))
}

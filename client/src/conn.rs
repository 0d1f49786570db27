//! One connection: requests out, answers in, several under way.
//!
//! Requests leave in the order they were started, and answers come in that order; so an answer
//! that does not come takes everything behind it along, and the connection is closed. Two tasks
//! serve it, one for each direction; they end when the last handle is dropped.
//!
//! - WIRE-1: no more than `in_flight_max` requests are open; whoever starts one more waits;
//! - WIRE-2: an answer larger than `frame_bytes_max` is not taken, and memory for one grows with
//!   the bytes that came.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use corelane_core::buf::{Buf, Slice};
use corelane_core::lane::{Importance, Lane, TaskId};
use corelane_core::ring::Fd;
use corelane_core::sync::{Giver, Permit, Permits, Queue, Taker, once};
use corelane_core::time::Nanos;
use corelane_net::api::ApiKey;
use corelane_net::frame;
use corelane_net::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_net::wire::{Message, Request, Versions, Writer};

use crate::error::{ClientError, Lost, check};

/// Received at once.
const RECEIVE_BYTES: usize = 64 << 10;

/// The oldest ApiVersions that says what we are; a broker that does not know it says so in version 0.
const API_VERSIONS: i16 = 3;

/// Answers that came, by request. Whoever has a clone sees them all.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    answers: Rc<RefCell<BTreeMap<ApiKey, u64>>>,
    disorder: Rc<Cell<u64>>,
}

impl Counts {
    #[must_use]
    pub fn all(&self) -> BTreeMap<ApiKey, u64> {
        self.answers.borrow().clone()
    }

    /// Answers to another request than the oldest open one. A broker gives none.
    #[must_use]
    pub fn disorder(&self) -> u64 {
        self.disorder.get()
    }

    fn add(&self, key: ApiKey) {
        *self.answers.borrow_mut().entry(key).or_default() += 1;
    }
}

/// The bounds of a connection, and the name it goes by.
#[derive(Debug, Clone)]
pub struct ConnOptions {
    pub client_id: String,
    pub connect_timeout: Nanos,
    /// How long an answer may take, beyond the time the request itself asks the broker to wait.
    pub answer_timeout: Nanos,
    pub in_flight_max: usize,
    pub frame_bytes_max: u32,
    pub counts: Counts,
}

impl Default for ConnOptions {
    fn default() -> Self {
        Self {
            client_id: "corelane".to_owned(),
            connect_timeout: Nanos::secs(10),
            answer_timeout: Nanos::secs(30),
            in_flight_max: 64,
            frame_bytes_max: 128 << 20,
            counts: Counts::default(),
        }
    }
}

/// A handle to a connection. The last one closes it.
#[derive(Clone)]
pub struct Connection(Rc<Handle>);

struct Handle {
    inner: Rc<Inner>,
    tasks: [TaskId; 2],
}

struct Inner {
    lane: Lane,
    peer: SocketAddr,
    socket: Fd,
    options: ConnOptions,
    versions: RefCell<BTreeMap<i16, (i16, i16)>>,
    next_id: Cell<i32>,
    open: RefCell<VecDeque<Open>>,
    out: Queue<Sent>,
    permits: Permits,
    lost: Cell<Option<Lost>>,
}

/// A request whose answer has not come.
struct Open {
    id: i32,
    giver: Giver<Result<Vec<u8>, Lost>>,
    _permit: Permit,
}

/// A frame on its way out; one that is not answered gives its permit back once it is sent.
struct Sent {
    frame: Slice,
    _permit: Option<Permit>,
}

/// An answer's bytes, and how to read them.
#[derive(Debug)]
pub struct Answer {
    pub key: ApiKey,
    pub version: i16,
    frame: Vec<u8>,
}

impl Answer {
    /// Reads the answer; `M` is the response that belongs to the request.
    ///
    /// # Errors
    /// When the bytes are no such message.
    pub fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, ClientError> {
        let (key, version) = (self.key, self.version);
        let read = frame::decode_response::<M>(key, version, &self.frame);
        read.map(|it| it.1).map_err(|error| ClientError::Malformed { key, version, error })
    }
}

/// A request that was started. Dropping it loses interest in the answer, nothing else.
#[must_use = "an answer that nobody waits for is lost"]
pub struct Waiting {
    inner: Rc<Inner>,
    key: ApiKey,
    version: i16,
    until: Nanos,
    taker: Taker<Result<Vec<u8>, Lost>>,
}

impl Waiting {
    /// The answer. When it does not come in time the connection is given up.
    ///
    /// # Errors
    /// When the connection ended first.
    pub async fn answer(self) -> Result<Answer, ClientError> {
        let Self { inner, key, version, until, taker } = self;
        let peer = inner.peer;
        let lost = |why| ClientError::Lost { peer, why };
        match inner.lane.until(until, taker.take()).await {
            Ok(Some(Ok(frame))) => {
                inner.options.counts.add(key);
                Ok(Answer { key, version, frame })
            }
            Ok(Some(Err(why))) => Err(lost(why)),
            Ok(None) => Err(lost(inner.lost.get().unwrap_or(Lost::Dropped))),
            Err(_) => {
                let why = Lost::TimedOut { after_ms: inner.options.answer_timeout.as_millis() };
                inner.lose(why);
                Err(lost(why))
            }
        }
    }
}

impl Connection {
    /// Connects and learns which versions the other end speaks.
    ///
    /// # Errors
    /// When nobody listens there, or whoever does is no broker.
    pub async fn open(
        lane: &Lane,
        addr: SocketAddr,
        options: &ConnOptions,
    ) -> Result<Self, ClientError> {
        let until = lane.now() + options.connect_timeout;
        let connected = lane.until(until, lane.connect(addr)).await;
        let connected = connected.map_err(|_| ClientError::ConnectTimedOut {
            addr,
            after_ms: options.connect_timeout.as_millis(),
        })?;
        let connected = connected.map_err(|errno| ClientError::Connect { addr, errno })?;
        let inner = Rc::new(Inner {
            lane: lane.clone(),
            peer: addr,
            socket: connected.socket,
            versions: RefCell::default(),
            next_id: Cell::new(0),
            open: RefCell::default(),
            out: Queue::new(lane, options.in_flight_max),
            permits: Permits::new(lane, options.in_flight_max),
            lost: Cell::new(None),
            options: options.clone(),
        });
        let sender = lane.spawn("client out", Importance::Serving, send(Rc::clone(&inner)));
        let receiver = lane.spawn("client in", Importance::Serving, receive(Rc::clone(&inner)));
        let this = Self(Rc::new(Handle { inner, tasks: [sender, receiver] }));
        this.learn_versions().await?;
        Ok(this)
    }

    async fn learn_versions(&self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "corelane",
            client_software_version: env!("CARGO_PKG_VERSION"),
            ..Default::default()
        };
        let until = self.0.inner.until(Nanos::ZERO);
        let asked = self.start_in(API_VERSIONS, &request, until).await?;
        let mut answer = asked.answer().await?;
        // The code comes first in every version, and a refusal is always said in version 0.
        if answer.decode::<ApiVersionsResponse<'_>>().is_err() {
            answer.version = 0;
        }
        let said = answer.decode::<ApiVersionsResponse<'_>>()?;
        check(ApiKey::ApiVersions, said.error_code, None)?;
        let each = said.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version)));
        self.0.inner.versions.replace(each.collect());
        Ok(())
    }

    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.inner.peer
    }

    /// Why it is no more, if so.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        self.0.inner.lost.get()
    }

    /// Ends it: everything open is lost.
    pub fn close(&self) {
        self.0.inner.lose(Lost::Dropped);
    }

    /// The newest version of a request that both ends speak.
    ///
    /// # Errors
    /// When there is none.
    pub fn version_of<'r, R: Request<'r>>(&self) -> Result<i16, ClientError> {
        let (key, ours): (_, Versions) = (R::KEY, R::VERSIONS);
        let theirs = self.0.inner.versions.borrow().get(&key.code()).copied();
        let Some((min, max)) = theirs else {
            return Err(ClientError::Version { key, ours, theirs });
        };
        let version = ours.max.min(max);
        if version < min || version < ours.min {
            return Err(ClientError::Version { key, ours, theirs });
        }
        Ok(version)
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// When the request cannot be made or its answer does not come.
    pub async fn call<'r, R: Request<'r>>(&self, request: &R) -> Result<Answer, ClientError> {
        self.start(request, Nanos::ZERO).await?.answer().await
    }

    /// Puts a request on its way; requests leave in the order in which they were started. The broker
    /// may let the answer wait for `patience`.
    ///
    /// # Errors
    /// When the request cannot be made, or the connection is no more.
    pub async fn start<'r, R: Request<'r>>(
        &self,
        request: &R,
        patience: Nanos,
    ) -> Result<Waiting, ClientError> {
        let version = self.version_of::<R>()?;
        self.start_in(version, request, self.0.inner.until(patience)).await
    }

    async fn start_in<'r, R: Request<'r>>(
        &self,
        version: i16,
        request: &R,
        until: Nanos,
    ) -> Result<Waiting, ClientError> {
        let inner = &self.0.inner;
        let permit = inner.permits.take(1).await;
        let (giver, taker) = once(&inner.lane);
        let id = self.put(version, request, |id| {
            inner.open.borrow_mut().push_back(Open { id, giver, _permit: permit });
            None
        });
        id?;
        Ok(Waiting { inner: Rc::clone(inner), key: R::KEY, version, until, taker })
    }

    /// Puts a request on its way that the broker will not answer.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn tell<'r, R: Request<'r>>(&self, request: &R) -> Result<(), ClientError> {
        let version = self.version_of::<R>()?;
        let permit = self.0.inner.permits.take(1).await;
        self.put(version, request, |_| Some(permit))
    }

    fn put<'r, R: Request<'r>>(
        &self,
        version: i16,
        request: &R,
        keep: impl FnOnce(i32) -> Option<Permit>,
    ) -> Result<(), ClientError> {
        let inner = &self.0.inner;
        if let Some(why) = inner.lost.get() {
            return Err(ClientError::Lost { peer: inner.peer, why });
        }
        let id = inner.next_id.get();
        let mut bytes = Vec::new();
        let name = Some(inner.options.client_id.as_str());
        frame::encode_request(version, id, name, request, &mut Writer::copying(&mut bytes))
            .map_err(|error| ClientError::Unsayable { key: R::KEY, version, error })?;
        inner.next_id.set(id.wrapping_add(1));
        let sent = Sent { frame: Buf::copy_of(&bytes).freeze(), _permit: keep(id) };
        assert!(inner.out.try_push(sent).is_ok(), "every frame on its way holds a permit");
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        for task in self.tasks {
            self.inner.lane.cancel(task);
        }
        self.inner.lose(Lost::Dropped);
    }
}

impl Inner {
    fn until(&self, patience: Nanos) -> Nanos {
        self.lane.now() + self.options.answer_timeout + patience
    }

    /// Ends the connection. The first reason is the one.
    fn lose(&self, why: Lost) {
        if self.lost.get().is_some() {
            return;
        }
        self.lost.set(Some(why));
        self.out.close();
        while self.out.try_pop().is_some() {}
        for open in std::mem::take(&mut *self.open.borrow_mut()) {
            open.giver.give(Err(why));
        }
        // The receiving task still waits for bytes; the end of the stream ends it.
        let (lane, socket) = (self.lane.clone(), self.socket.clone());
        self.lane.spawn("client shutdown", Importance::Serving, async move {
            // A socket that is dead already cannot be shut down, and need not be.
            let _ended = lane.shutdown(&socket).await;
        });
    }

    /// Hands an answer to whoever asked.
    fn came(&self, frame: Vec<u8>) -> Result<(), Lost> {
        let Some(id) = frame.first_chunk::<4>().map(|it| i32::from_be_bytes(*it)) else {
            return Err(Lost::Size { bytes: frame.len() as i32, bytes_max: 4 });
        };
        let open = self.open.borrow_mut().pop_front();
        match open {
            Some(open) if open.id == id => {
                open.giver.give(Ok(frame));
                Ok(())
            }
            other => {
                self.options.counts.disorder.set(self.options.counts.disorder() + 1);
                let expected = other.map_or(self.next_id.get(), |it| it.id);
                Err(Lost::Order { expected, found: id })
            }
        }
    }
}

async fn send(inner: Rc<Inner>) {
    while let Some(sent) = inner.out.pop().await {
        // A peer that lost its power takes nothing and says nothing; whoever waits for no answer would
        // never notice.
        let until = inner.until(Nanos::ZERO);
        let sending = inner.lane.send_all(&inner.socket, vec![sent.frame]);
        match inner.lane.until(until, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(errno)) => inner.lose(Lost::Send(errno)),
            Err(_) => {
                inner.lose(Lost::TimedOut { after_ms: inner.options.answer_timeout.as_millis() });
            }
        }
    }
}

async fn receive(inner: Rc<Inner>) {
    let mut pending = Vec::new();
    let why = loop {
        let Some(buf) = inner.lane.pool().get(RECEIVE_BYTES) else { break Lost::NoMemory };
        let (result, buf) = inner.lane.receive(&inner.socket, buf).await;
        match result {
            Ok(0) => break Lost::Closed,
            Ok(_) => pending.extend_from_slice(buf.filled()),
            Err(errno) => break Lost::Receive(errno),
        }
        drop(buf);
        if let Err(why) = take_frames(&inner, &mut pending) {
            break why;
        }
    };
    inner.lose(why);
}

/// Takes whole frames off the front.
fn take_frames(inner: &Inner, pending: &mut Vec<u8>) -> Result<(), Lost> {
    let bytes_max = inner.options.frame_bytes_max;
    let mut at = 0;
    while let Some(prefix) = pending[at..].first_chunk::<4>() {
        let bytes = i32::from_be_bytes(*prefix);
        let whole = frame::size(*prefix, bytes_max).map_err(|_| Lost::Size { bytes, bytes_max })?;
        let Some(frame) = pending[at + 4..].get(..whole) else { break };
        inner.came(frame.to_vec())?;
        at += 4 + whole;
    }
    pending.drain(..at);
    Ok(())
}

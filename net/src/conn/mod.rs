//! A connection: frames in, answers out, in order, within bounds.
//!
//! One task serves one connection. It starts each request as its frame completes, in the order
//! the frames came, and polls all of them; answers leave in that same order, however the requests
//! finish. A request's effects happen at its first poll, or, when it has so many that it gives way in
//! between, before a later one is polled. A request that would look at what an earlier one has not
//! finished is first polled when that one has ended, and those behind it that touch the same things after
//! it: so a later request of the connection sees what an earlier one changed ([`Effect`]), and waits for
//! nothing else.
//!
//! - CONN-1: no more than `in_flight_max` requests are open; beyond that nothing is read;
//! - CONN-2: memory for a frame grows with the bytes that came, or is at most what an earlier frame of
//!   the connection filled, never what was announced, and is held within the lane's [`Budget`];
//! - CONN-3: a frame that cannot be served ends this connection and no other; nothing that came
//!   behind it is served;
//! - CONN-4: answers that wait, with those that open requests may still give, stay within
//!   `pending_bytes_max`. A single answer may be larger than that, or than was foretold; then
//!   nothing else is started or brought further until it has left;
//!   The answers of all connections of a lane are bounded together by its [`Outbound`]. While the lane's
//!   pool cannot lend what an answer may need, a connection serves one request at a time;
//! - CONN-5: a connection that always has something to do gives way to the others of its lane after
//!   a few requests, a short time, or a slice of work that was accounted for ([`Lane::spend`]). A request
//!   that gives way goes on first when the connection has its next turn.
//!
//! [`Lane::spend`]: corelane_core::lane::Lane::spend
//!
//! # Stages
//!
//! Where a listener asks for a proof of who comes, a connection begins before requests ([`stage`]): frames
//! are smaller and come one at a time. The service answers them like any others, and says when one was
//! the proof ([`Reply::Proven`]).
//!
//! # Deadlines
//!
//! - **progress**: a frame is whole within this time of its first byte, however steadily it drips.
//!   Time in which *we* did not read, because too much was open, is not counted; time spent
//!   waiting for memory is, since whoever waits holds some that others wait for;
//! - **proof**: a peer that has to prove who it is has done so within this time of its coming;
//! - **send stall**: the peer takes at least one byte of what is being sent within this time, and while
//!   the lane's [`Outbound`] is spent, everything. So long is a peer that will send nothing more waited
//!   for, too: requests that still wait then, for records or for others, are dropped with the connection;
//! - **idle**: with nothing open, nothing unsent and no frame begun, the next one begins within
//!   this time. While a request is open a connection is never idle.

mod budget;
mod crowd;
mod driver;
mod inbox;
mod leaving;
mod order;
mod outbound;
mod stage;
mod unseen;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use corelane_core::buf::{Buf, Slice};
use corelane_core::ring::FileRange;
use corelane_core::time::Nanos;

pub use budget::Budget;
pub use crowd::Crowd;
pub use driver::{Ended, serve};
pub use order::{Access, Effect};
pub use outbound::Outbound;
pub use unseen::Showing;

/// The bounds of one connection.
#[derive(Debug, Clone)]
pub struct ConnLimits {
    /// The largest frame.
    pub frame_bytes_max: u32,
    /// The largest frame of a peer that has not proven yet who it is.
    pub proof_bytes_max: u32,
    /// Requests open at once.
    pub in_flight_max: usize,
    /// Memory of answers waiting to be sent, and bytes promised; beyond it nothing more is read.
    pub pending_bytes_max: usize,
    /// A peer that has to prove who it is has done so within this time of its coming.
    pub proof: Nanos,
    /// A frame is whole within this time of its beginning.
    pub progress: Nanos,
    /// The peer takes something of an answer within this time.
    pub send_stall: Nanos,
    /// A connection without any request is closed after this time.
    pub idle: Nanos,
    /// A mistake made on purpose, by tests alone: answers leave as they are ready.
    pub unordered: bool,
}

impl Default for ConnLimits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 100 * 1024 * 1024,
            proof_bytes_max: 64 * 1024,
            in_flight_max: 64,
            pending_bytes_max: 110 * 1024 * 1024,
            proof: Nanos::secs(10),
            progress: Nanos::secs(30),
            send_stall: Nanos::secs(60),
            idle: Nanos::secs(600),
            unordered: false,
        }
    }
}

/// Who a connection speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// Nobody yet: the listener asks for a proof, and none has come.
    Unproven,
    /// Nobody in particular: the listener asks for no proof.
    Anonymous,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unproven => write!(f, "nobody yet"),
            Self::Anonymous => write!(f, "User:ANONYMOUS"),
        }
    }
}

/// Who is on the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    pub addr: SocketAddr,
    /// Which of our listeners it came in by.
    pub listener: Rc<str>,
    pub principal: Principal,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// To be sent, all parts in turn. The first begins with the frame's size.
    Answer(Vec<Slice>),
    /// The same, with parts of files among them. The first part is memory.
    Spliced(Vec<Piece>),
    /// The same as an answer, and from now on the peer speaks for somebody.
    Proven(Vec<Slice>, Principal),
    /// Nothing is sent: the client asked for no answer. What the request added may still have to be
    /// shown ([`Service::show`]).
    Silent,
    /// The connection is to be closed once earlier answers are out.
    Close(String),
}

/// A part of an answer.
#[derive(Debug)]
pub enum Piece {
    Memory(Slice),
    /// Goes from the page cache to the socket. It takes no memory of ours.
    File(FileRange),
}

/// A request being served.
pub type Serving = Pin<Box<dyn Future<Output = Reply>>>;

/// Whoever answers requests.
pub trait Service: 'static {
    /// Starts serving a frame. `frame` begins after the four bytes of size, at `frame[4..]`, and
    /// belongs to the request alone.
    fn call(&self, peer: &Rc<Peer>, frame: Buf) -> Serving;

    /// How many bytes the answer to this frame may have, as far as that can be told beforehand.
    /// Requests wait for each other by it (CONN-4).
    fn answer_bytes_max(&self, frame: &Buf) -> usize;

    /// What this frame's request does with what others look at.
    fn effect(&self, frame: &Buf) -> Effect;

    /// Waits until everything can be seen that requests have added which ended silently before this call.
    /// Whoever looks behind them waits for it.
    fn show(&self) -> Showing;

    /// A frame is whole, so long after its first byte.
    fn received(&self, _frame: &Buf, _took: Nanos) {}
}

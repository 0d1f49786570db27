//! Operations as futures. Dropping one loses interest in it, never the operation itself: what it
//! owns stays with the ring, and what arrives late is closed or returned by its own destructor.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::executor::Lane;
use super::tasks::TaskId;
use crate::buf::{Buf, Slice};
use crate::limits::BLOCK_BYTES;
use crate::ring::{
    Access, Completion, Connection, Entry, Errno, Fd, FileKind, FileRange, FileStat, Op, Outcome,
    Parts, Space, Sync, Ticket,
};

/// What a disk gives at least, of a block that it gives in part.
const SECTOR_BYTES: usize = 512;

/// How often the last sectors of a file are read before they are believed to be the last.
const DOUBTS_MAX: u32 = 6;

/// What the lane knows of each operation that somebody may still ask about.
///
/// A ring uses a ticket again as soon as its last completion was collected, and that may be before the
/// task that waits for it has run. So results are kept by keys of our own.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<Key>,
    /// The slot of each operation in flight, by ticket.
    in_flight: Vec<Option<Key>>,
}

/// Names a slot until its operation was answered and forgotten.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key(u32);

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    /// One completion is expected.
    Waiting(TaskId),
    Done(Completion),
    /// Several completions are expected; those not yet taken are kept in order.
    Recurring {
        task: TaskId,
        kept: VecDeque<Completion>,
    },
    /// Nobody is interested any more.
    Forgotten,
}

impl Slots {
    /// Expects completions for a ticket that the ring has just given.
    fn expect(&mut self, ticket: Ticket, slot: Slot) -> Key {
        let key = self
            .free
            .pop()
            .unwrap_or_else(|| Key(u32::try_from(self.slots.len()).expect("tickets are as many")));
        if self.slots.len() == key.0 as usize {
            self.slots.push(Slot::Free);
        }
        self.slots[key.0 as usize] = slot;
        let index = ticket.0 as usize;
        if self.in_flight.len() <= index {
            self.in_flight.resize(index + 1, None);
        }
        let before = self.in_flight[index].replace(key);
        assert!(before.is_none(), "the ring reused {ticket:?} before its last completion");
        key
    }

    /// Expects a completion that nobody waits for.
    pub(super) fn expect_nothing(&mut self, ticket: Ticket) {
        self.expect(ticket, Slot::Forgotten);
    }

    fn at(&mut self, key: Key) -> &mut Slot {
        &mut self.slots[key.0 as usize]
    }

    fn release(&mut self, key: Key) {
        self.slots[key.0 as usize] = Slot::Free;
        self.free.push(key);
    }

    /// Takes a completion. Says whom to wake, and gives back what nobody wants.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
    ) -> (Option<TaskId>, Option<Completion>) {
        let place = self.in_flight.get_mut(completion.ticket.0 as usize);
        let Some(Some(key)) = place.as_deref().copied() else {
            panic!("a completion nobody asked for: {completion:?}")
        };
        if completion.last {
            *place.expect("it has a key") = None;
        }
        let slot = self.at(key);
        match slot {
            Slot::Waiting(task) => {
                assert!(completion.last, "this operation completes once");
                let task = *task;
                *slot = Slot::Done(completion);
                (Some(task), None)
            }
            Slot::Recurring { task, kept } => {
                kept.push_back(completion);
                (Some(*task), None)
            }
            Slot::Forgotten => {
                if completion.last {
                    self.release(key);
                }
                (None, Some(completion))
            }
            Slot::Free | Slot::Done(_) => panic!("a completion nobody asked for: {completion:?}"),
        }
    }
}

/// One operation on its way. Gives its result, and the operation with its buffers.
#[must_use = "an operation starts when it is awaited"]
pub struct Pending {
    lane: Lane,
    state: State,
}

enum State {
    Fresh(Option<Op>),
    Submitted(Ticket, Key),
    Over,
}

impl Future for Pending {
    type Output = (Result<Outcome, Errno>, Op);

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.lane.current();
        let lane = self.lane.clone();
        match &mut self.state {
            State::Fresh(op) => {
                let op = op.take().expect("fresh operations have not been submitted");
                let submitted = lane.0.ring.borrow_mut().submit(op);
                match submitted {
                    Ok(ticket) => {
                        let key = lane.0.slots.borrow_mut().expect(ticket, Slot::Waiting(task));
                        self.state = State::Submitted(ticket, key);
                    }
                    Err(op) => {
                        lane.count_full();
                        lane.0.refused.borrow_mut().push_back(task);
                        self.state = State::Fresh(Some(op));
                    }
                }
                Poll::Pending
            }
            State::Submitted(_, key) => {
                let key = *key;
                let mut slots = lane.0.slots.borrow_mut();
                let slot = slots.at(key);
                match std::mem::take(slot) {
                    Slot::Done(it) => {
                        slots.release(key);
                        drop(slots);
                        self.state = State::Over;
                        Poll::Ready((it.result, it.op.expect("last completions carry it")))
                    }
                    Slot::Waiting(_) => {
                        *slot = Slot::Waiting(task);
                        Poll::Pending
                    }
                    Slot::Free | Slot::Recurring { .. } | Slot::Forgotten => {
                        panic!("the slot of a pending operation is its own")
                    }
                }
            }
            State::Over => panic!("polled after its end"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let State::Submitted(ticket, key) = self.state {
            forget(&self.lane, ticket, key);
        }
    }
}

/// Leaves an operation to the ring.
fn forget(lane: &Lane, ticket: Ticket, key: Key) {
    let mut slots = lane.0.slots.borrow_mut();
    // An executor that is going away has emptied its slots; the ring keeps what is in flight.
    let Some(slot) = slots.slots.get_mut(key.0 as usize) else { return };
    let was = std::mem::replace(slot, Slot::Forgotten);
    let over = match &was {
        Slot::Done(_) => true,
        Slot::Recurring { kept, .. } => kept.back().is_some_and(|it| it.last),
        Slot::Waiting(_) => false,
        Slot::Free | Slot::Forgotten => panic!("the slot of a pending operation is its own"),
    };
    if over {
        slots.release(key);
    }
    drop(slots);
    drop(was);
    if !over {
        lane.0.ring.borrow_mut().cancel(ticket);
    }
}

/// An operation that completes again and again.
pub struct Recurring {
    lane: Lane,
    op: Option<Op>,
    submitted: Option<(Ticket, Key)>,
    over: bool,
}

impl Recurring {
    /// The next result. `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<Outcome, Errno>> {
        std::future::poll_fn(|_| self.poll_next()).await
    }

    /// Asks for the end. Results already on their way still come.
    pub fn stop(&mut self) {
        if let (Some((ticket, _)), false) = (self.submitted, self.over) {
            self.lane.0.ring.borrow_mut().cancel(ticket);
        }
    }

    /// [`Self::next`] for those that poll several things at once.
    pub fn poll_next(&mut self) -> Poll<Option<Result<Outcome, Errno>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let task = self.lane.current();
        let Some((_, key)) = self.submitted else {
            let op = self.op.take().expect("kept until submitted");
            let submitted = self.lane.0.ring.borrow_mut().submit(op);
            match submitted {
                Ok(ticket) => {
                    let slot = Slot::Recurring { task, kept: VecDeque::new() };
                    let key = self.lane.0.slots.borrow_mut().expect(ticket, slot);
                    self.submitted = Some((ticket, key));
                }
                Err(op) => {
                    self.op = Some(op);
                    self.lane.count_full();
                    self.lane.0.refused.borrow_mut().push_back(task);
                }
            }
            return Poll::Pending;
        };
        let mut slots = self.lane.0.slots.borrow_mut();
        let Slot::Recurring { task: waiting, kept } = slots.at(key) else {
            panic!("the slot of a recurring operation is its own")
        };
        *waiting = task;
        let Some(completion) = kept.pop_front() else { return Poll::Pending };
        if completion.last {
            slots.release(key);
            self.over = true;
        }
        drop(slots);
        Poll::Ready(Some(completion.result))
    }
}

impl Drop for Recurring {
    fn drop(&mut self) {
        if let (Some((ticket, key)), false) = (self.submitted, self.over) {
            forget(&self.lane, ticket, key);
        }
    }
}

/// What the kernel answers must fit what was asked; anything else is a broken ring.
macro_rules! expect {
    ($result:expr, $pattern:pat => $value:expr) => {
        match $result {
            Ok($pattern) => Ok($value),
            Ok(other) => panic!("the ring answered {other:?} to another question"),
            Err(errno) => Err(errno),
        }
    };
}

impl Lane {
    /// Any operation that completes once, as a future.
    pub fn op(&self, op: Op) -> Pending {
        self.count(&op);
        Pending { lane: self.clone(), state: State::Fresh(Some(op)) }
    }

    fn recurring(&self, op: Op) -> Recurring {
        Recurring { lane: self.clone(), op: Some(op), submitted: None, over: false }
    }

    /// # Errors
    /// Why the address cannot be listened on.
    pub async fn listen(
        &self,
        addr: SocketAddr,
        backlog: u32,
        shared: bool,
    ) -> Result<(Fd, SocketAddr), Errno> {
        let (result, _) = self.op(Op::Listen { addr, backlog, shared }).await;
        expect!(result, Outcome::Listening(it) => *it)
    }

    /// Connections, one [`Outcome::Connected`] each.
    #[must_use]
    pub fn accept(&self, listener: &Fd) -> Recurring {
        self.recurring(Op::Accept { listener: listener.clone() })
    }

    /// The next connection, and none behind it: they wait in the kernel's queue.
    ///
    /// # Errors
    /// Why none can be accepted.
    pub async fn accept_one(&self, listener: &Fd) -> Result<Connection, Errno> {
        let (result, _) = self.op(Op::AcceptOne { listener: listener.clone() }).await;
        expect!(result, Outcome::Connected(it) => *it)
    }

    /// # Errors
    /// Why the peer cannot be reached.
    pub async fn connect(&self, addr: SocketAddr) -> Result<Connection, Errno> {
        let (result, _) = self.op(Op::Connect { addr }).await;
        expect!(result, Outcome::Connected(it) => *it)
    }

    /// Receives at least one byte into the spare part of `buf`; zero is the peer's end.
    pub async fn receive(&self, socket: &Fd, buf: Buf) -> (Result<u32, Errno>, Buf) {
        let (result, op) = self.op(Op::Receive { socket: socket.clone(), buf }).await;
        let Op::Receive { buf, .. } = op else { panic!("the ring gave back {op:?}") };
        (expect!(result, Outcome::Bytes(it) => it), buf)
    }

    /// Receives into a buffer of the ring's choosing, which is empty at the peer's end. Nothing is
    /// held until bytes are there, and nothing more comes than what this buffer takes.
    ///
    /// # Errors
    /// [`Errno::NOBUFS`] when there is no buffer now, and whatever ended the connection.
    pub async fn receive_block(&self, socket: &Fd) -> Result<Buf, Errno> {
        let (result, _) = self.op(Op::ReceiveBlock { socket: socket.clone() }).await;
        expect!(result, Outcome::Received(it) => it)
    }

    /// Sends everything, however often the kernel takes only a part.
    ///
    /// # Errors
    /// Why the rest could not be sent. Some of it may have been.
    pub async fn send_all(&self, socket: &Fd, parts: impl Into<Parts>) -> Result<(), Errno> {
        let mut parts = parts.into();
        parts.skip(0);
        while !parts.is_empty() {
            let (result, op) = self.op(Op::Send { socket: socket.clone(), parts }).await;
            let Op::Send { parts: back, .. } = op else { panic!("the ring gave back {op:?}") };
            parts = back;
            let sent = expect!(result, Outcome::Bytes(it) => it)?;
            if sent == 0 {
                return Err(Errno::PIPE);
            }
            parts.skip(sent as usize);
        }
        Ok(())
    }

    /// Sends a range of a file, however often the kernel takes only a part.
    ///
    /// # Errors
    /// Why the rest could not be sent; [`Errno::IO`] if the file is shorter than the range.
    pub async fn send_file(
        &self,
        socket: &Fd,
        file: &Fd,
        mut at: u64,
        mut bytes: u32,
    ) -> Result<(), Errno> {
        while 0 < bytes {
            let op = Op::SendFile { socket: socket.clone(), file: file.clone(), at, bytes };
            let (result, _) = self.op(op).await;
            let sent = expect!(result, Outcome::Bytes(it) => it)?;
            if sent == 0 {
                return Err(Errno::IO);
            }
            at += u64::from(sent);
            bytes -= sent;
        }
        Ok(())
    }

    /// # Errors
    /// Why the connection could not be shut down; usually it is gone already.
    pub async fn shutdown(&self, socket: &Fd) -> Result<(), Errno> {
        self.done(Op::Shutdown { socket: socket.clone() }).await
    }

    /// # Errors
    /// Why the file cannot be opened.
    pub async fn open(&self, path: impl Into<PathBuf>, access: Access) -> Result<(Fd, u64), Errno> {
        let (result, _) = self.op(Op::Open { path: path.into(), access }).await;
        expect!(result, Outcome::Opened { file, bytes } => (file, bytes))
    }

    /// Reads once; may be short, zero is the end of the file.
    pub async fn read(&self, file: &Fd, at: u64, buf: Buf) -> (Result<u32, Errno>, Buf) {
        self.read_some(file, at, buf, usize::MAX).await
    }

    async fn read_some(
        &self,
        file: &Fd,
        at: u64,
        buf: Buf,
        bytes_max: usize,
    ) -> (Result<u32, Errno>, Buf) {
        let (result, op) = self.op(Op::Read { file: file.clone(), at, buf, bytes_max }).await;
        let Op::Read { buf, .. } = op else { panic!("the ring gave back {op:?}") };
        (expect!(result, Outcome::Bytes(it) => it), buf)
    }

    /// Whether a range of a file is in the page cache, as far as anybody can tell.
    ///
    /// # Errors
    /// Why nobody can.
    pub async fn is_resident(&self, range: &FileRange) -> Result<bool, Errno> {
        let FileRange { file, at, bytes } = range.clone();
        let (result, _) = self.op(Op::Resident { file, at, bytes }).await;
        expect!(result, Outcome::Resident(it) => it)
    }

    /// Reads until the buffer holds `bytes` more than now, or the file ends. Says how many came.
    /// A short read of a direct file goes on at the last whole block. Whole sectors of the last block
    /// may be a short read or the end of the file, so they are read again.
    pub async fn read_full(
        &self,
        file: &Fd,
        at: u64,
        buf: Buf,
        bytes: usize,
    ) -> (Result<usize, Errno>, Buf) {
        self.read_until(file, at, buf, bytes, usize::MAX).await
    }

    /// As [`Self::read_full`], but no more than `bytes` are asked for, whatever room there is.
    pub async fn read_piece(
        &self,
        file: &Fd,
        at: u64,
        buf: Buf,
        bytes: usize,
    ) -> (Result<usize, Errno>, Buf) {
        self.read_until(file, at, buf, bytes, bytes).await
    }

    async fn read_until(
        &self,
        file: &Fd,
        at: u64,
        mut buf: Buf,
        bytes: usize,
        bytes_max: usize,
    ) -> (Result<usize, Errno>, Buf) {
        let start = buf.len();
        assert!(bytes <= buf.room(), "asked for {bytes} in a buffer with {}", buf.room());
        let (mut doubts, mut most) = (0, 0);
        loop {
            let have = buf.len() - start;
            if bytes <= have {
                return (Ok(have), buf);
            }
            let asked = bytes_max.saturating_sub(have);
            let (result, back) = self.read_some(file, at + have as u64, buf, asked).await;
            buf = back;
            match result {
                Ok(0) => return (Ok(have), buf),
                Ok(_) => {
                    let got = buf.len() - start;
                    let whole = got - got % BLOCK_BYTES;
                    if got < bytes && have < whole && whole < got && !buf.cut(start + whole) {
                        panic!("a buffer being read into is not shared");
                    }
                    if got < bytes && whole <= have {
                        // Less than a block came: the end of the file, unless it was cut at a sector.
                        most = got.max(most);
                        doubts += 1;
                        let is_sure = !got.is_multiple_of(SECTOR_BYTES);
                        if is_sure || DOUBTS_MAX <= doubts && most <= got || 2 * DOUBTS_MAX < doubts
                        {
                            return (Ok(got), buf);
                        }
                        if !buf.cut(start + have) {
                            panic!("a buffer being read into is not shared");
                        }
                    }
                }
                Err(errno) => return (Err(errno), buf),
            }
        }
    }

    /// Writes all of `data`, finishing short writes at a block's boundary so that direct files
    /// keep their alignment. With [`Sync::Data`] everything is durable on return.
    ///
    /// # Errors
    /// Why it could not be written. Any part of it may have been. Not retried: what a failed
    /// write left behind is unknown.
    pub async fn write_all(
        &self,
        file: &Fd,
        mut at: u64,
        mut data: Slice,
        sync: Sync,
    ) -> Result<(), Errno> {
        while !data.is_empty() {
            let op = Op::Write { file: file.clone(), at, data: data.clone(), sync };
            let (result, _) = self.op(op).await;
            let wrote = expect!(result, Outcome::Bytes(it) => it)? as usize;
            if data.len() <= wrote {
                break;
            }
            let whole = wrote - wrote % BLOCK_BYTES;
            if whole == 0 && wrote == 0 {
                return Err(Errno::IO);
            }
            at += whole as u64;
            data = data.slice(whole..);
        }
        Ok(())
    }

    /// # Errors
    /// The disk failed. What was not durable before may be lost: never flush again and believe it.
    pub async fn flush(&self, file: &Fd) -> Result<(), Errno> {
        self.done(Op::Flush { file: file.clone() }).await
    }

    /// # Errors
    /// Why there is no room.
    pub async fn allocate(&self, file: &Fd, at: u64, bytes: u64) -> Result<(), Errno> {
        self.done(Op::Allocate { file: file.clone(), at, bytes }).await
    }

    /// # Errors
    /// Why the file keeps its length.
    pub async fn truncate(&self, file: &Fd, bytes: u64) -> Result<(), Errno> {
        self.done(Op::Truncate { file: file.clone(), bytes }).await
    }

    /// # Errors
    /// [`Errno::NOENT`] if there is nothing.
    pub async fn stat(&self, path: impl Into<PathBuf>) -> Result<FileStat, Errno> {
        let (result, _) = self.op(Op::Stat { path: path.into() }).await;
        expect!(result, Outcome::Stat(it) => it)
    }

    /// # Errors
    /// Why the name stays.
    pub async fn rename(
        &self,
        from: impl Into<PathBuf>,
        to: impl Into<PathBuf>,
    ) -> Result<(), Errno> {
        self.done(Op::Rename { from: from.into(), to: to.into() }).await
    }

    /// # Errors
    /// Why it stays.
    pub async fn remove(&self, path: impl Into<PathBuf>, kind: FileKind) -> Result<(), Errno> {
        self.done(Op::Remove { path: path.into(), kind }).await
    }

    /// # Errors
    /// [`Errno::EXIST`] if it is there already.
    pub async fn make_dir(&self, path: impl Into<PathBuf>) -> Result<(), Errno> {
        self.done(Op::MakeDir { path: path.into() }).await
    }

    /// # Errors
    /// Why the directory cannot be read.
    pub async fn list(&self, path: impl Into<PathBuf>) -> Result<Vec<Entry>, Errno> {
        let (result, _) = self.op(Op::List { path: path.into() }).await;
        expect!(result, Outcome::Entries(it) => it)
    }

    /// # Errors
    /// As [`Self::flush`].
    pub async fn flush_dir(&self, path: impl Into<PathBuf>) -> Result<(), Errno> {
        self.done(Op::FlushDir { path: path.into() }).await
    }

    /// # Errors
    /// [`Errno::AGAIN`] if somebody else holds it.
    pub async fn lock(&self, file: &Fd) -> Result<(), Errno> {
        self.done(Op::Lock { file: file.clone() }).await
    }

    /// # Errors
    /// Why the file system does not say.
    pub async fn space(&self, path: impl Into<PathBuf>) -> Result<Space, Errno> {
        let (result, _) = self.op(Op::Space { path: path.into() }).await;
        expect!(result, Outcome::Space(it) => it)
    }

    async fn done(&self, op: Op) -> Result<(), Errno> {
        let (result, _) = self.op(op).await;
        expect!(result, Outcome::Done => ())
    }
}

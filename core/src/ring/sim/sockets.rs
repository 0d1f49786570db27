//! Connections between simulated nodes: who is connected to whom, what waits for what, and how connections
//! end well or badly. How bytes travel in one direction, the [pipe](super::pipe) knows.
//!
//! A node has the address 10.0.0.(1 + its number). What cannot pass a partition is sent again until
//! it can; what arrives where nobody knows the connection is answered with a reset.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::faults::Fault;
use super::kernel::{Event, Kernel, OpId, Open};
use super::pipe::Pipe;
use super::world::NodeId;
use crate::ring::{Connection, Errno, Op, Outcome};
use crate::time::Nanos;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    conn: u64,
    side: Side,
}

impl End {
    fn other(self) -> Self {
        Self { conn: self.conn, side: self.side.other() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Something on its way to one end.
#[derive(Debug, Clone, Copy)]
pub(super) enum NetEvent {
    /// A client asks to be connected; this often it was asked before.
    Knock(OpId, u32),
    /// The server's answer is there.
    Connected(OpId, u64),
    Refused(OpId),
    /// Bytes, or the end.
    Arrive(End),
    /// The other end received this many bytes.
    Acknowledge(End, usize),
    Reset(End),
}

/// One end's state.
struct Party {
    node: NodeId,
    addr: SocketAddr,
    /// Operations that wait, oldest first.
    receives: VecDeque<OpId>,
    sends: VecDeque<OpId>,
    /// What comes here.
    pipe: Pipe,
    shut: bool,
    /// Its process closed it or is gone; nobody knows the connection here any more.
    gone: bool,
    failed: Option<Errno>,
}

struct Conn {
    client: Party,
    server: Party,
}

impl Conn {
    fn party(&mut self, side: Side) -> &mut Party {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

struct Listener {
    number: i32,
    shared: bool,
    backlog: usize,
    waiting: VecDeque<u64>,
    accepts: VecDeque<OpId>,
}

/// All connections and listeners.
#[derive(Default)]
pub(super) struct Net {
    conns: BTreeMap<u64, Conn>,
    made: u64,
    listeners: BTreeMap<(NodeId, u16), Vec<Listener>>,
    /// Ordered pairs between which nothing passes.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
}

/// What a connection holds in each direction before its writer must wait.
const WINDOW_BYTES: usize = 64 * 1024;
/// Between two tries to pass a partition.
const RETRY_NS: u64 = 200_000_000;
/// How often a connection is asked for before that is given up.
const KNOCKS_MAX: u32 = 5;
/// The largest piece in a buffer of the ring's choosing.
const PIECE_BYTES: usize = 4096;
/// The time one byte takes on a link, in picoseconds: about 10 Gbit/s.
const BYTE_PS: u64 = 800;

/// The address of a node.
pub(super) fn address(node: NodeId) -> IpAddr {
    let number = u8::try_from(node.0 + 1).expect("worlds have fewer than 255 nodes");
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

impl Kernel {
    pub(super) fn is_at_file_limit(&self, node: NodeId) -> bool {
        let node = &self.nodes[node.0];
        node.open_max <= node.open.len()
    }

    pub(super) fn start_socket(&mut self, id: OpId) {
        let flight = &self.ops[&id];
        let node = flight.key.node;
        match &flight.op {
            Op::Listen { addr, backlog, shared } => {
                let (addr, backlog, shared) = (*addr, *backlog, *shared);
                let result = self.listen(node, addr, backlog, shared);
                self.complete(id, result);
            }
            Op::Connect { .. } => {
                let span = self.latency(node, 0);
                self.after(span, Event::Net(NetEvent::Knock(id, 0)));
            }
            Op::Accept { listener } | Op::AcceptOne { listener } => match self.open(node, listener)
            {
                Some(Open::Listener { port }) => {
                    let number = listener.number();
                    self.listener(node, port, number).accepts.push_back(id);
                    self.serve_listener(node, port);
                }
                Some(_) => self.complete(id, Err(Errno::INVAL)),
                None => self.complete(id, Err(Errno::BADF)),
            },
            Op::Receive { socket, .. } | Op::ReceiveBlock { socket } => {
                match self.open(node, socket) {
                    Some(Open::Socket(end)) => {
                        self.party(end).receives.push_back(id);
                        self.serve_receives(end);
                    }
                    Some(_) => self.complete(id, Err(Errno::NOTCONN)),
                    None => self.complete(id, Err(Errno::BADF)),
                }
            }
            Op::Send { socket, .. } | Op::SendFile { socket, .. } => {
                match self.open(node, socket) {
                    Some(Open::Socket(end)) => {
                        self.party(end).sends.push_back(id);
                        self.serve_sends(end);
                    }
                    Some(_) => self.complete(id, Err(Errno::NOTCONN)),
                    None => self.complete(id, Err(Errno::BADF)),
                }
            }
            Op::Shutdown { socket } => match self.open(node, socket) {
                Some(Open::Socket(end)) => {
                    let failed = self.party(end).failed.is_some();
                    self.shut(end);
                    let result = if failed { Err(Errno::NOTCONN) } else { Ok(Outcome::Done) };
                    self.complete(id, result);
                }
                Some(_) => self.complete(id, Err(Errno::NOTCONN)),
                None => self.complete(id, Err(Errno::BADF)),
            },
            other => panic!("not an operation on sockets: {other:?}"),
        }
    }

    /// Takes an operation out of what waits. Says whether it was waiting for a peer.
    pub(super) fn stop_waiting(&mut self, id: OpId) -> bool {
        let flight = &self.ops[&id];
        let node = flight.key.node;
        match &flight.op {
            Op::Accept { listener } | Op::AcceptOne { listener } => {
                if let Some(Open::Listener { port }) = self.open(node, listener) {
                    let number = listener.number();
                    self.listener(node, port, number).accepts.retain(|&it| it != id);
                }
                true
            }
            Op::Connect { .. } => true,
            Op::Receive { socket, .. }
            | Op::ReceiveBlock { socket }
            | Op::Send { socket, .. }
            | Op::SendFile { socket, .. } => {
                if let Some(Open::Socket(end)) = self.open(node, socket) {
                    let party = self.party(end);
                    party.receives.retain(|&it| it != id);
                    party.sends.retain(|&it| it != id);
                }
                true
            }
            _ => false,
        }
    }

    pub(super) fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Knock(id, tries) => self.knock(id, tries),
            NetEvent::Connected(id, conn) => self.connected(id, conn),
            NetEvent::Refused(id) => {
                if self.ops.contains_key(&id) {
                    self.complete(id, Err(Errno::CONNREFUSED));
                }
            }
            NetEvent::Arrive(end) => self.arrive(end),
            NetEvent::Acknowledge(end, bytes) => {
                if !self.net.conns.contains_key(&end.conn) {
                    return;
                }
                if !self.passes(end) {
                    self.after(RETRY_NS, Event::Net(event));
                    return;
                }
                self.party(end.other()).pipe.acknowledge(bytes);
                self.serve_sends(end);
            }
            NetEvent::Reset(end) => {
                // A reset that meets a partition is lost: nobody sends it twice.
                if self.net.conns.contains_key(&end.conn) && self.passes(end) {
                    self.fail(end, Errno::CONNRESET);
                }
            }
        }
    }

    // Connecting.

    fn listen(
        &mut self,
        node: NodeId,
        addr: SocketAddr,
        backlog: u32,
        shared: bool,
    ) -> Result<Outcome, Errno> {
        let ip = addr.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && ip != address(node) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        if self.is_at_file_limit(node) || self.strikes(node, Fault::FileLimit) {
            return Err(Errno::MFILE);
        }
        let port = if addr.port() == 0 { self.free_port(node) } else { addr.port() };
        let there = self.net.listeners.entry((node, port)).or_default();
        if !there.is_empty() && (!shared || there.iter().any(|it| !it.shared)) {
            return Err(Errno::ADDRINUSE);
        }
        let listener = self.new_fd(node, Open::Listener { port });
        self.net.listeners.entry((node, port)).or_default().push(Listener {
            number: listener.number(),
            shared,
            backlog: backlog.max(1) as usize,
            waiting: VecDeque::new(),
            accepts: VecDeque::new(),
        });
        Ok(Outcome::Listening(Box::new((listener, SocketAddr::new(ip, port)))))
    }

    fn free_port(&mut self, node: NodeId) -> u16 {
        let it = &mut self.nodes[node.0];
        it.next_port = if it.next_port == u16::MAX { FIRST_PORT } else { it.next_port + 1 };
        it.next_port
    }

    fn knock(&mut self, id: OpId, tries: u32) {
        let Some(flight) = self.ops.get(&id) else { return };
        let from = flight.key.node;
        let Op::Connect { addr } = &flight.op else { panic!("only those who connect knock") };
        let (addr, ip) = (*addr, addr.ip());
        let to = if ip.is_loopback() || ip.is_unspecified() {
            Some(from)
        } else {
            (0..self.nodes.len()).map(NodeId).find(|&it| address(it) == ip)
        };
        let Some(to) = to.filter(|it| self.nodes[it.0].powered) else {
            self.knock_again(id, tries);
            return;
        };
        if self.net.cut.contains(&(from, to)) || self.net.cut.contains(&(to, from)) {
            self.knock_again(id, tries);
            return;
        }
        let span = self.latency(from, 0);
        let there = self.net.listeners.get(&(to, addr.port())).map_or(0, Vec::len);
        if there == 0 {
            self.after(span, Event::Net(NetEvent::Refused(id)));
            return;
        }
        let chosen = self.chance.length(0, there - 1);
        let all = self.net.listeners.get_mut(&(to, addr.port())).expect("not empty");
        let listener = &mut all[chosen];
        if listener.backlog <= listener.waiting.len() {
            self.knock_again(id, tries);
            return;
        }
        self.net.made += 1;
        let conn = self.net.made;
        listener.waiting.push_back(conn);
        let local_port = self.free_port(from);
        let window = self.window();
        let party = |node, addr| Party {
            node,
            addr,
            receives: VecDeque::new(),
            sends: VecDeque::new(),
            pipe: Pipe::new(window),
            shut: false,
            gone: false,
            failed: None,
        };
        let client =
            party(from, SocketAddr::new(if from == to { ip } else { address(from) }, local_port));
        let server =
            party(to, SocketAddr::new(if from == to { ip } else { address(to) }, addr.port()));
        self.net.conns.insert(conn, Conn { client, server });
        self.after(span, Event::Net(NetEvent::Connected(id, conn)));
        self.serve_listener(to, addr.port());
    }

    fn knock_again(&mut self, id: OpId, tries: u32) {
        if KNOCKS_MAX <= tries {
            self.complete(id, Err(Errno::TIMEDOUT));
            return;
        }
        self.after(1_000_000_000 << tries, Event::Net(NetEvent::Knock(id, tries + 1)));
    }

    /// Some seeds have narrow windows, down to a single byte.
    fn window(&mut self) -> usize {
        if 0 < self.faults.rate_ppm(Fault::ShortSend) && self.chance.strikes(200_000) {
            1 << self.chance.below(16)
        } else {
            WINDOW_BYTES
        }
    }

    fn connected(&mut self, id: OpId, conn: u64) {
        let end = End { conn, side: Side::Client };
        let Some(flight) = self.ops.get(&id) else {
            // Whoever asked is gone: the connection is closed as soon as it is there.
            self.close_socket(end);
            return;
        };
        let node = flight.key.node;
        if self.is_at_file_limit(node) || self.strikes(node, Fault::FileLimit) {
            self.close_socket(end);
            self.complete(id, Err(Errno::MFILE));
            return;
        }
        let connection = self.connection(end);
        self.complete(id, Ok(Outcome::Connected(Box::new(connection))));
    }

    fn connection(&mut self, end: End) -> Connection {
        let peer = self.party(end.other()).addr;
        let party = self.party(end);
        let (node, local) = (party.node, party.addr);
        let socket = self.new_fd(node, Open::Socket(end));
        Connection { socket, peer, local }
    }

    fn listener(&mut self, node: NodeId, port: u16, number: i32) -> &mut Listener {
        let all = self.net.listeners.get_mut(&(node, port)).expect("open listeners are there");
        all.iter_mut().find(|it| it.number == number).expect("open listeners are there")
    }

    /// Gives waiting connections to whoever accepts.
    fn serve_listener(&mut self, node: NodeId, port: u16) {
        let count = self.net.listeners.get(&(node, port)).map_or(0, Vec::len);
        for at in 0..count {
            loop {
                let full = self.is_at_file_limit(node);
                let listener =
                    &mut self.net.listeners.get_mut(&(node, port)).expect("as above")[at];
                let Some(&id) = listener.accepts.front() else { break };
                if listener.waiting.is_empty() {
                    break;
                }
                if full || self.strikes(node, Fault::FileLimit) {
                    let all = self.net.listeners.get_mut(&(node, port)).expect("as above");
                    all[at].accepts.pop_front();
                    self.complete(id, Err(Errno::MFILE));
                    continue;
                }
                let all = self.net.listeners.get_mut(&(node, port)).expect("as above");
                let conn = all[at].waiting.pop_front().expect("not empty");
                let connection = self.connection(End { conn, side: Side::Server });
                let connected = Outcome::Connected(Box::new(connection));
                if matches!(self.ops[&id].op, Op::AcceptOne { .. }) {
                    let all = self.net.listeners.get_mut(&(node, port)).expect("as above");
                    all[at].accepts.pop_front();
                    self.complete(id, Ok(connected));
                } else {
                    self.complete_one(id, connected);
                }
            }
        }
    }

    // Bytes.

    /// Whether something from the other end can come here now.
    fn passes(&mut self, end: End) -> bool {
        let (from, to) = (self.party(end.other()).node, self.party(end).node);
        !self.net.cut.contains(&(from, to)) && self.nodes[to.0].powered
    }

    /// How long a piece takes to another node. Mostly short, sometimes not.
    fn latency(&mut self, node: NodeId, bytes: usize) -> u64 {
        let mut span = self.chance.between(5_000, 50_000) + bytes as u64 * BYTE_PS / 1000;
        while self.chance.strikes(100_000) {
            span *= 2;
        }
        if self.strikes(node, Fault::SlowLink) {
            span *= self.chance.between(2, 100);
        }
        span
    }

    fn party(&mut self, end: End) -> &mut Party {
        let conn = self.net.conns.get_mut(&end.conn).expect("an open end has a connection");
        conn.party(end.side)
    }

    fn arrive(&mut self, end: End) {
        if !self.net.conns.contains_key(&end.conn) {
            return;
        }
        if !self.passes(end) {
            self.after(RETRY_NS, Event::Net(NetEvent::Arrive(end)));
            return;
        }
        let now = self.now;
        let party = self.party(end);
        let node = party.node;
        if party.gone {
            // Nobody here knows this connection.
            party.pipe.arrive(now);
            if 0 < party.pipe.available() {
                self.send_reset(end.other());
            }
            self.forget_if_over(end.conn);
            return;
        }
        if self.strikes(node, Fault::Reset) {
            let share = self.chance.draw();
            self.party(end).pipe.arrive_partly(now, |bytes| {
                if bytes == 0 { 0 } else { usize::try_from(share % bytes as u64).expect("a part") }
            });
            self.serve_receives(end);
            self.fail(end, Errno::CONNRESET);
            self.send_reset(end.other());
            return;
        }
        self.party(end).pipe.arrive(now);
        self.serve_receives(end);
    }

    fn send_reset(&mut self, to: End) {
        let node = self.party(to).node;
        let span = self.latency(node, 0);
        self.after(span, Event::Net(NetEvent::Reset(to)));
    }

    fn serve_receives(&mut self, end: End) {
        loop {
            let party = self.party(end);
            let node = party.node;
            let Some(&id) = party.receives.front() else { return };
            if !self.ops.contains_key(&id) {
                self.party(end).receives.pop_front();
                continue;
            }
            let party = self.party(end);
            let available = party.pipe.available();
            let (shut, over, failed) = (party.shut, party.pipe.is_over(), party.failed);
            if shut || (available == 0 && (over || failed.is_some())) {
                self.party(end).receives.pop_front();
                let block = matches!(self.ops[&id].op, Op::ReceiveBlock { .. });
                let result = match failed {
                    Some(errno) if !shut => Err(errno),
                    _ if block => Ok(Outcome::Received(crate::buf::Buf::unpooled(1))),
                    _ => Ok(Outcome::Bytes(0)),
                };
                self.complete(id, result);
                continue;
            }
            if available == 0 {
                return;
            }
            let split = self.strikes(node, Fault::SplitReceive);
            let split = if split { self.chance.length(1, available) } else { available };
            let flight = &self.ops[&id];
            if matches!(flight.op, Op::ReceiveBlock { .. }) {
                let pool = self.lane(flight.key).expect("its lane lives").pool.clone();
                let empty = self.strikes(node, Fault::NoBuffers);
                self.party(end).receives.pop_front();
                let Some(mut buf) = pool.get(PIECE_BYTES).filter(|_| !empty) else {
                    self.complete(id, Err(Errno::NOBUFS));
                    continue;
                };
                let count = split.min(PIECE_BYTES);
                fill(&mut buf, self.party(end).pipe.receive(count));
                self.complete(id, Ok(Outcome::Received(buf)));
                self.acknowledge(end, count);
            } else {
                self.party(end).receives.pop_front();
                let mut flight = self.ops.remove(&id).expect("looked at above");
                let Op::Receive { buf, .. } = &mut flight.op else { panic!("a receive") };
                let count = split.min(buf.room());
                fill(buf, self.party(end).pipe.receive(count));
                self.ops.insert(id, flight);
                let bytes = u32::try_from(count).expect("a buffer's length");
                self.complete(id, Ok(Outcome::Bytes(bytes)));
                self.acknowledge(end, count);
            }
        }
    }

    fn acknowledge(&mut self, end: End, bytes: usize) {
        let node = self.party(end).node;
        let span = self.latency(node, 0);
        self.after(span, Event::Net(NetEvent::Acknowledge(end.other(), bytes)));
    }

    fn serve_sends(&mut self, end: End) {
        loop {
            let party = self.party(end);
            let (node, shut, failed) = (party.node, party.shut, party.failed);
            let Some(&id) = party.sends.front() else { return };
            if !self.ops.contains_key(&id) {
                self.party(end).sends.pop_front();
                continue;
            }
            if shut || failed.is_some() {
                self.party(end).sends.pop_front();
                let errno = if shut { Errno::PIPE } else { failed.expect("it failed") };
                self.complete(id, Err(errno));
                continue;
            }
            let room = self.party(end.other()).pipe.room();
            if room == 0 {
                return;
            }
            let short = self.strikes(node, Fault::ShortSend);
            let most = if short { self.chance.length(1, room) } else { room };
            let bytes = match self.bytes_to_send(id, most) {
                Ok(bytes) => bytes,
                Err(errno) => {
                    self.party(end).sends.pop_front();
                    self.complete(id, Err(errno));
                    continue;
                }
            };
            self.party(end).sends.pop_front();
            let count = u32::try_from(bytes.len()).expect("at most a window");
            if 0 < count {
                let span = self.latency(node, bytes.len());
                let at = self.now + Nanos(span);
                let at = self.party(end.other()).pipe.send(at, bytes);
                self.at(at, Event::Net(NetEvent::Arrive(end.other())));
            }
            self.complete(id, Ok(Outcome::Bytes(count)));
        }
    }

    fn bytes_to_send(&self, id: OpId, most: usize) -> Result<Vec<u8>, Errno> {
        let flight = &self.ops[&id];
        match &flight.op {
            Op::Send { parts, .. } => {
                let mut bytes = Vec::new();
                for part in parts.iter() {
                    let some = part.len().min(most - bytes.len());
                    bytes.extend_from_slice(&part[..some]);
                }
                Ok(bytes)
            }
            Op::SendFile { file, at, bytes, .. } => {
                let Some(Open::File { ino, .. }) = self.open(flight.key.node, file) else {
                    return Err(Errno::BADF);
                };
                let mut out = vec![0; most.min(*bytes as usize)];
                let count = self.nodes[flight.key.node.0].disk.read(ino, *at, &mut out);
                out.truncate(count);
                Ok(out)
            }
            other => panic!("not something to send: {other:?}"),
        }
    }

    // Ends.

    /// Both directions of one end are over, for its own process.
    fn shut(&mut self, end: End) {
        self.party(end).shut = true;
        self.finish_pipe(end);
        self.serve_receives(end);
        self.serve_sends(end);
    }

    fn finish_pipe(&mut self, end: End) {
        let node = self.party(end).node;
        let span = self.latency(node, 0);
        let at = self.now + Nanos(span);
        if let Some(at) = self.party(end.other()).pipe.finish(at) {
            self.at(at, Event::Net(NetEvent::Arrive(end.other())));
        }
    }

    /// One end learns that the connection is broken.
    fn fail(&mut self, end: End, errno: Errno) {
        let party = self.party(end);
        party.failed.get_or_insert(errno);
        self.serve_receives(end);
        self.serve_sends(end);
        self.forget_if_over(end.conn);
    }

    /// Breaks every connection between two nodes, in the middle of what they carry.
    pub(super) fn reset_between(&mut self, a: NodeId, b: NodeId) {
        let between = |it: &Conn| {
            (it.client.node, it.server.node) == (a, b) || (it.client.node, it.server.node) == (b, a)
        };
        let all: Vec<_> =
            self.net.conns.iter().filter(|(_, it)| between(it)).map(|(&id, _)| id).collect();
        for conn in all {
            for side in [Side::Client, Side::Server] {
                if self.net.conns.contains_key(&conn) {
                    self.fail(End { conn, side }, Errno::CONNRESET);
                }
            }
        }
    }

    /// The process closed its end.
    pub(super) fn close_socket(&mut self, end: End) {
        let party = self.party(end);
        party.gone = true;
        // Data that nobody read, or that still comes, is answered with a reset.
        let unread = 0 < party.pipe.available();
        if party.failed.is_none() {
            if unread {
                self.send_reset(end.other());
            } else {
                self.finish_pipe(end);
            }
        }
        self.forget_if_over(end.conn);
    }

    /// The machine is gone, and tells nobody.
    pub(super) fn lose_socket(&mut self, end: End) {
        self.party(end).gone = true;
        self.forget_if_over(end.conn);
    }

    fn forget_if_over(&mut self, conn: u64) {
        if self.net.conns.get(&conn).is_some_and(|it| it.client.gone && it.server.gone) {
            self.net.conns.remove(&conn);
        }
    }

    pub(super) fn close_listener(&mut self, node: NodeId, port: u16, number: i32) {
        let all = self.net.listeners.get_mut(&(node, port)).expect("open listeners are there");
        let at = all.iter().position(|it| it.number == number).expect("as above");
        let listener = all.remove(at);
        if all.is_empty() {
            self.net.listeners.remove(&(node, port));
        }
        for conn in listener.waiting {
            let end = End { conn, side: Side::Server };
            if self.nodes[node.0].powered {
                self.send_reset(end.other());
            }
            self.lose_socket(end);
        }
    }
}

/// Where ports chosen by the kernel begin.
pub(super) const FIRST_PORT: u16 = 32_768;

fn fill(buf: &mut crate::buf::Buf, bytes: impl Iterator<Item = u8>) {
    let mut count = 0;
    for (place, byte) in buf.spare_mut().iter_mut().zip(bytes) {
        *place = byte;
        count += 1;
    }
    buf.advance(count);
}

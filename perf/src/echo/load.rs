//! The other end of the echo: many connections, one request in flight on each, from one thread.
//!
//! It shares no part with what it measures: plain sockets, edge-triggered epoll, and the answer of one
//! request is what sends the next.

use crate::meter::{Meter, Seen};
use crate::sys::{Answers, EDGES, Epoll, READABLE, WRITABLE, reset_on_close};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const EVENTS_PER_WAIT: usize = 256;
const SCRATCH_BYTES: usize = 256 * 1024;
/// Fewer than any server's queue of connections to accept holds.
const CONNECTIONS_AT_ONCE: usize = 64;
/// How long nothing may happen before the server counts as gone.
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    request: Vec<u8>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    sent: usize,
    received: usize,
    since: Instant,
}

/// Whether the bytes that come back are compared with those sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Every,
    None,
}

impl Load {
    pub(crate) fn connect(port: u16, connections: usize, request_bytes: usize) -> io::Result<Self> {
        assert!(0 < request_bytes, "an empty request has no answer");
        let mut load = Self {
            epoll: Epoll::new()?,
            connections: Vec::with_capacity(connections),
            request: (0..request_bytes).map(|it| (it % 251) as u8).collect(),
            scratch: vec![0; SCRATCH_BYTES],
        };
        while load.connections.len() < connections {
            let greeted = load.connections.len();
            for _ in greeted..connections.min(greeted + CONNECTIONS_AT_ONCE) {
                load.open(port)?;
            }
            load.greet(greeted)?;
        }
        Ok(load)
    }

    fn open(&mut self, port: u16) -> io::Result<()> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        reset_on_close(stream.as_fd())?;
        let token = self.connections.len() as u64;
        self.epoll.add(stream.as_fd(), token, READABLE | WRITABLE | EDGES)?;
        let since = Instant::now();
        self.connections.push(Connection { stream, sent: 0, received: 0, since });
        Ok(())
    }

    /// One request and its answer on every connection from `from` on, the bytes compared. So all of
    /// them are accepted when this returns, and have been served once.
    fn greet(&mut self, from: usize) -> io::Result<()> {
        let mut meter = Meter::start();
        let all = self.connections.len() - from;
        self.run(from, &mut meter, Check::Every, |answered| all <= answered, Again::No)
    }

    /// Keeps one request in flight on every connection for `time`, and until one was answered: of
    /// nothing there is no median.
    pub(crate) fn for_time(&mut self, time: Duration) -> io::Result<Seen> {
        let mut meter = Meter::start();
        let until = Instant::now() + time;
        let done = |answered| 0 < answered && until <= Instant::now();
        self.run(0, &mut meter, Check::None, done, Again::Yes)?;
        let seen = meter.finish();
        self.drain()?;
        Ok(seen)
    }

    /// Lets what is in flight come back, so that the next stretch starts from rest.
    fn drain(&mut self) -> io::Result<()> {
        let mut meter = Meter::start();
        let open = self.connections.iter().filter(|it| 0 < it.sent).count();
        self.pump(&mut meter, Check::None, |answered| open <= answered, Again::No)
    }

    fn run(
        &mut self,
        from: usize,
        meter: &mut Meter,
        check: Check,
        done: impl Fn(usize) -> bool,
        again: Again,
    ) -> io::Result<()> {
        for it in &mut self.connections[from..] {
            it.since = Instant::now();
            it.send(&self.request)?;
        }
        self.pump(meter, check, done, again)
    }

    fn pump(
        &mut self,
        meter: &mut Meter,
        check: Check,
        done: impl Fn(usize) -> bool,
        again: Again,
    ) -> io::Result<()> {
        let mut answers = Answers::with_room(EVENTS_PER_WAIT);
        let mut answered = 0;
        while !done(answered) {
            let mut silent = true;
            for token in self.epoll.wait(&mut answers, Some(SILENCE))? {
                silent = false;
                let at = usize::try_from(token).expect("tokens are indices");
                let it = &mut self.connections[at];
                if it.sent == 0 {
                    continue;
                }
                it.send(&self.request)?;
                if !it.receive(&self.request, &mut self.scratch, check)? {
                    continue;
                }
                answered += 1;
                let now = Instant::now();
                meter.record(now - it.since);
                (it.sent, it.received, it.since) = (0, 0, now);
                if again == Again::Yes {
                    it.send(&self.request)?;
                }
            }
            if silent && !done(answered) {
                return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped answering"));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

impl Connection {
    /// Sends what the socket takes of the rest of the request.
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(it) if it.kind() == ErrorKind::WouldBlock => break,
                Err(it) => return Err(it),
            }
        }
        Ok(())
    }

    /// Takes what has come; true when the answer is whole.
    fn receive(&mut self, request: &[u8], scratch: &mut [u8], check: Check) -> io::Result<bool> {
        while self.received < request.len() {
            let room = scratch.len().min(request.len() - self.received);
            match self.stream.read(&mut scratch[..room]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let expect = &request[self.received..self.received + count];
                    if check == Check::Every && scratch[..count] != *expect {
                        return Err(io::Error::other("other bytes came back than were sent"));
                    }
                    self.received += count;
                }
                Err(it) if it.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(it) => return Err(it),
            }
        }
        Ok(true)
    }
}

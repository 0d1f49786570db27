//! The plain twin: readiness from epoll, one read and one write per request, no runtime at all.

use crate::sys::{Answers, Epoll, READABLE, WRITABLE};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

const LISTENER: u64 = u64::MAX;
const EVENTS_PER_WAIT: usize = 256;

struct Connection {
    stream: TcpStream,
    /// What the socket did not take yet. While there is any, nothing more is read.
    unsent: Vec<u8>,
}

enum After {
    Open,
    Closed,
}

/// Serves until the process ends.
pub(crate) fn serve(listener: &TcpListener, buffer_bytes: usize) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, READABLE)?;
    let mut answers = Answers::with_room(EVENTS_PER_WAIT);
    let mut buffer = vec![0; buffer_bytes];
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    loop {
        for token in epoll.wait(&mut answers, None)? {
            if token == LISTENER {
                accept(listener, &epoll, &mut connections, &mut free)?;
                continue;
            }
            let at = usize::try_from(token).expect("tokens are indices");
            let connection = connections[at].as_mut().expect("closed ones have left the epoll");
            let step = if connection.unsent.is_empty() {
                echo(connection, &mut buffer, &epoll, token)
            } else {
                send_rest(connection, &epoll, token)
            };
            // A peer that resets is a peer that left.
            if matches!(step, Ok(After::Closed) | Err(_)) {
                connections[at] = None;
                free.push(at);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(it) if it.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(it) => return Err(it),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let at = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        epoll.add(stream.as_fd(), at as u64, READABLE)?;
        connections[at] = Some(Connection { stream, unsent: Vec::new() });
    }
}

fn echo(it: &mut Connection, buffer: &mut [u8], epoll: &Epoll, token: u64) -> io::Result<After> {
    let received = match it.stream.read(buffer) {
        Ok(0) => return Ok(After::Closed),
        Ok(received) => received,
        Err(it) if it.kind() == ErrorKind::WouldBlock => return Ok(After::Open),
        Err(it) => return Err(it),
    };
    let sent = write_some(&mut it.stream, &buffer[..received])?;
    if sent < received {
        it.unsent.extend_from_slice(&buffer[sent..received]);
        epoll.change(it.stream.as_fd(), token, WRITABLE)?;
    }
    Ok(After::Open)
}

fn send_rest(it: &mut Connection, epoll: &Epoll, token: u64) -> io::Result<After> {
    let sent = write_some(&mut it.stream, &it.unsent)?;
    it.unsent.drain(..sent);
    if it.unsent.is_empty() {
        epoll.change(it.stream.as_fd(), token, READABLE)?;
    }
    Ok(After::Open)
}

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(it) if it.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

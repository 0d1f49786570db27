//! From the kernel's answer to a completion, or to the next step of the same operation.

use io_uring::cqueue;

use super::flight::{Aid, Stage};
use super::{For, RealRing, begin, sys, user_data};
use crate::buf::Buf;
use crate::ring::{
    Completion, Connection, Errno, Fd, FileKind, FileStat, Op, Outcome, Sync, Ticket,
};

impl RealRing {
    /// The kernel answered the request of an operation.
    pub(super) fn answered(
        &mut self,
        slot: u32,
        result: i32,
        flags: u32,
        completed: &mut Vec<Completion>,
    ) {
        let flight = self.flights.known(slot);
        let result = if result < 0 { Err(Errno(-result)) } else { Ok(result as u32) };
        match (flight.stage, &flight.op) {
            (Stage::Room, _) => match result {
                Err(errno) => self.complete(slot, Err(errno), completed),
                Ok(_) if flight.cancelled => self.complete(slot, Err(Errno::CANCELED), completed),
                Ok(_) => self.send_file(slot),
            },
            (Stage::FlushAfter { written }, _) => {
                self.complete(slot, result.map(|_| Outcome::Bytes(written)), completed);
            }
            (Stage::Helper | Stage::Ready, _) => {
                unreachable!("the kernel answered what it was not asked")
            }
            (Stage::Kernel, Op::Accept { .. }) => self.accepted(slot, result, flags, completed),
            (Stage::Kernel, Op::AcceptOne { .. }) => self.accepted_one(slot, result, completed),
            (Stage::Kernel, Op::ReceiveBlock { .. }) => {
                self.received(slot, result, flags, completed);
            }
            (Stage::Kernel, Op::Write { sync: Sync::Data, .. }) => {
                self.written(slot, result, completed);
            }
            (Stage::Kernel, Op::Wake { lane }) => {
                if result.is_err() {
                    // Its ring is full of answers, or gone: the bell is always there.
                    self.peers.of(*lane).wake();
                }
                self.complete(slot, Ok(Outcome::Done), completed);
            }
            (Stage::Kernel, _) => {
                let result = self.outcome(slot, result);
                self.complete(slot, result, completed);
            }
        }
    }

    /// What a plain request achieved.
    fn outcome(&mut self, slot: u32, result: Result<u32, Errno>) -> Result<Outcome, Errno> {
        let flight = self.flights.known(slot);
        let count = result?;
        match (&mut flight.op, &mut flight.aid) {
            (Op::Receive { buf, .. } | Op::Read { buf, .. }, _) => {
                buf.advance(count as usize);
                Ok(Outcome::Bytes(count))
            }
            (Op::Send { .. } | Op::Write { .. }, _) => Ok(Outcome::Bytes(count)),
            (Op::Connect { addr }, Aid::Connect { socket, .. }) => {
                let (socket, peer) = (socket.clone(), *addr);
                let local = sys::local_addr(socket.number())?;
                Ok(Outcome::Connected(Box::new(Connection { socket, peer, local })))
            }
            (Op::Open { .. }, _) => {
                let file = Fd::new(count as i32, &self.closing);
                let bytes = sys::file_bytes(file.number())?;
                Ok(Outcome::Opened { file, bytes })
            }
            (Op::Stat { .. }, Aid::Stat { found, .. }) => {
                let is_dir = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
                Ok(Outcome::Stat(FileStat {
                    kind: if is_dir { FileKind::Dir } else { FileKind::File },
                    bytes: found.stx_size,
                    allocated_bytes: found.stx_blocks * 512,
                }))
            }
            _ => Ok(Outcome::Done),
        }
    }

    fn accepted(
        &mut self,
        slot: u32,
        result: Result<u32, Errno>,
        flags: u32,
        completed: &mut Vec<Completion>,
    ) {
        let number = match result {
            Ok(number) => number as i32,
            Err(errno) => return self.complete(slot, Err(errno), completed),
        };
        if let Some(connection) = self.connection(number) {
            completed.push(more(slot, Outcome::Connected(Box::new(connection))));
        }
        if cqueue::more(flags) {
            return;
        }
        // The request ended, the operation did not.
        if self.flights.known(slot).cancelled {
            self.complete(slot, Err(Errno::CANCELED), completed);
        } else {
            self.start(slot);
        }
    }

    fn accepted_one(
        &mut self,
        slot: u32,
        result: Result<u32, Errno>,
        completed: &mut Vec<Completion>,
    ) {
        let number = match result {
            Ok(number) => number as i32,
            Err(errno) => return self.complete(slot, Err(errno), completed),
        };
        match self.connection(number) {
            Some(it) => self.complete(slot, Ok(Outcome::Connected(Box::new(it))), completed),
            None if self.flights.known(slot).cancelled => {
                self.complete(slot, Err(Errno::CANCELED), completed);
            }
            None => self.start(slot),
        }
    }

    /// A connection that is gone already is none: its descriptor closes by itself.
    fn connection(&self, number: i32) -> Option<Connection> {
        let socket = Fd::new(number, &self.closing);
        let of = sys::no_delay(number)
            .and_then(|()| Ok((sys::peer_addr(number)?, sys::local_addr(number)?)));
        of.ok().map(|(peer, local)| Connection { socket, peer, local })
    }

    fn received(
        &mut self,
        slot: u32,
        result: Result<u32, Errno>,
        flags: u32,
        completed: &mut Vec<Completion>,
    ) {
        let flight = self.flights.known(slot);
        let count = match result {
            Ok(count) => count as usize,
            Err(Errno::NOBUFS) if !flight.cancelled => {
                // The kernel ran out between two turns; perhaps only until we look.
                let refilled = self.blocks.as_mut().is_some_and(|it| {
                    it.refill(&self.pool);
                    it.any_held()
                });
                if refilled {
                    return self.start(slot);
                }
                self.counts.out_of_blocks += 1;
                return self.complete(slot, Err(Errno::NOBUFS), completed);
            }
            Err(errno) => return self.complete(slot, Err(errno), completed),
        };
        let own = std::mem::replace(&mut flight.aid, Aid::None);
        let buf = match (own, cqueue::buffer_select(flags), &mut self.blocks) {
            (Aid::Block(mut buf), _, _) => {
                buf.advance(count);
                buf
            }
            (_, Some(number), Some(blocks)) => blocks.take(number, count),
            // The end needs no block, and the kernel took none.
            _ => self.pool.get(1).unwrap_or_else(|| Buf::unpooled(1)),
        };
        self.complete(slot, Ok(Outcome::Received(buf)), completed);
    }

    /// A write that promised to be durable.
    fn written(&mut self, slot: u32, result: Result<u32, Errno>, completed: &mut Vec<Completion>) {
        match result {
            Err(Errno::OPNOTSUPP) if self.features.durable_writes => {
                self.features.durable_writes = false;
                self.start(slot);
            }
            Ok(written) if !self.features.durable_writes => {
                let flight = self.flights.known(slot);
                let Op::Write { file, .. } = &flight.op else { unreachable!() };
                flight.stage = Stage::FlushAfter { written };
                let entry = begin::flush(file.number());
                self.push(&entry.user_data(user_data(For::Op, slot)));
            }
            result => self.complete(slot, result.map(Outcome::Bytes), completed),
        }
    }
}

fn more(slot: u32, outcome: Outcome) -> Completion {
    Completion { ticket: Ticket(slot), result: Ok(outcome), op: None, last: false }
}

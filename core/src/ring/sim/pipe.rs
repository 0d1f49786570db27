//! One direction of a connection: bytes in order, late, in pieces that need not be those they were sent in.
//!
//! Invariants:
//! - PIPE-1: what arrives is a prefix of what was sent, in order;
//! - PIPE-2: no more than the capacity is sent and not yet acknowledged, so a reader that does
//!   not read stops its writer;
//! - PIPE-3: the end arrives after everything sent before it.

use std::collections::VecDeque;

use crate::time::Nanos;

#[derive(Debug)]
pub(super) struct Pipe {
    /// What is on its way, by when it arrives. An empty piece is the end.
    flying: VecDeque<(Nanos, Vec<u8>)>,
    arrived: VecDeque<u8>,
    capacity: usize,
    unacknowledged: usize,
    ended: bool,
    finished: bool,
}

impl Pipe {
    pub(super) fn new(capacity: usize) -> Self {
        assert!(0 < capacity, "a pipe without room carries nothing");
        Self {
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            capacity,
            unacknowledged: 0,
            ended: false,
            finished: false,
        }
    }

    /// Bytes that may be sent now.
    pub(super) fn room(&self) -> usize {
        self.capacity - self.unacknowledged
    }

    /// Sends; says when it arrives, which is not before what was sent earlier.
    pub(super) fn send(&mut self, at: Nanos, bytes: Vec<u8>) -> Nanos {
        assert!(!bytes.is_empty() && bytes.len() <= self.room() && !self.finished, "see `room`");
        self.unacknowledged += bytes.len();
        self.push(at, bytes)
    }

    /// Sends the end.
    pub(super) fn finish(&mut self, at: Nanos) -> Option<Nanos> {
        if self.finished {
            return None;
        }
        self.finished = true;
        Some(self.push(at, Vec::new()))
    }

    fn push(&mut self, at: Nanos, bytes: Vec<u8>) -> Nanos {
        let at = self.flying.back().map_or(at, |last| at.max(last.0));
        self.flying.push_back((at, bytes));
        at
    }

    /// Takes in what has arrived by now.
    pub(super) fn arrive(&mut self, now: Nanos) {
        while self.flying.front().is_some_and(|it| it.0 <= now) {
            let (_, bytes) = self.flying.pop_front().expect("there is a front");
            self.ended |= bytes.is_empty();
            self.arrived.extend(bytes);
        }
    }

    /// Takes in a part of what comes next: all that arrives before the connection dies.
    pub(super) fn arrive_partly(&mut self, now: Nanos, share: impl FnOnce(usize) -> usize) {
        if let Some((_, bytes)) = self.flying.pop_front().filter(|it| it.0 <= now) {
            let kept = share(bytes.len());
            self.arrived.extend(&bytes[..kept]);
        }
        self.flying.clear();
    }

    pub(super) fn available(&self) -> usize {
        self.arrived.len()
    }

    /// Whether everything has arrived and been received.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.arrived.is_empty()
    }

    pub(super) fn receive(&mut self, bytes: usize) -> impl Iterator<Item = u8> {
        self.arrived.drain(..bytes)
    }

    /// The writer learnt that this many bytes were received.
    pub(super) fn acknowledge(&mut self, bytes: usize) {
        assert!(bytes <= self.unacknowledged, "received more than was sent");
        self.unacknowledged -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pipe: &mut Pipe, bytes: usize) -> String {
        String::from_utf8(pipe.receive(bytes).collect()).expect("text")
    }

    #[test]
    fn bytes_come_in_order_however_late_and_in_whatever_pieces() {
        let mut pipe = Pipe::new(8);
        assert_eq!(pipe.send(Nanos(50), b"abc".to_vec()), Nanos(50));
        assert_eq!(pipe.send(Nanos(20), b"de".to_vec()), Nanos(50), "nobody overtakes");
        assert_eq!(pipe.finish(Nanos(60)), Some(Nanos(60)));
        pipe.arrive(Nanos(49));
        assert_eq!(pipe.available(), 0);
        pipe.arrive(Nanos(50));
        assert_eq!((take(&mut pipe, 4), take(&mut pipe, 1)), ("abcd".into(), "e".into()));
        assert!(!pipe.is_over());
        pipe.arrive(Nanos(60));
        assert!(pipe.is_over());
        assert_eq!(pipe.finish(Nanos(70)), None);
    }

    #[test]
    fn a_reader_that_does_not_read_stops_its_writer() {
        let mut pipe = Pipe::new(4);
        pipe.send(Nanos(1), b"abc".to_vec());
        pipe.arrive(Nanos(1));
        assert_eq!(pipe.room(), 1);
        take(&mut pipe, 2);
        assert_eq!(pipe.room(), 1, "nobody told the writer yet");
        pipe.acknowledge(2);
        assert_eq!(pipe.room(), 3);
    }

    #[test]
    fn a_connection_dies_in_the_middle_of_a_piece() {
        let mut pipe = Pipe::new(8);
        pipe.send(Nanos(1), b"abcd".to_vec());
        pipe.send(Nanos(2), b"efgh".to_vec());
        pipe.arrive_partly(Nanos(1), |it| it / 2);
        pipe.arrive(Nanos(9));
        assert_eq!(take(&mut pipe, 2), "ab");
        assert_eq!(pipe.available(), 0);
    }
}

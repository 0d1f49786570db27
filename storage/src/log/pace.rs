//! How much the disk is asked for at once beside commits.
//!
//! A disk serves what it was asked for in about the order it came, so a commit waits for every byte
//! that was asked for before it. Whoever reads old records must not fill the disk's queue beside somebody
//! who waits for a commit.
//!
//! - PACE-1: while commits come, at most [`BESIDE_BYTES`] are with the disk;
//! - PACE-2: once they have ceased, at most [`ALONE_BYTES`];
//! - PACE-3: whoever came first reads on first: what is read in pieces is whole sooner than if all
//!   took turns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use corelane_core::lane::Lane;
use corelane_core::metrics::{Counter, Metrics};
use corelane_core::sync::{Giver, once};

use super::journal::Journal;

/// With the disk at once while commits come, and of these in one piece.
const BESIDE_BYTES: usize = 256 * 1024;
const BESIDE_PIECE_BYTES: usize = 128 * 1024;

/// The same while none come. Another lane's may, on the same disk.
const ALONE_BYTES: usize = 2 * 1024 * 1024;
const ALONE_PIECE_BYTES: usize = 1024 * 1024;

/// The rule: what the disk may be asked for now.
#[derive(Debug, Default)]
struct Pace {
    /// With the disk.
    bytes: usize,
}

impl Pace {
    /// Lets somebody who wants so many bytes begin with a piece of them, or not now.
    fn begin(&mut self, wanted: usize, commits_come: bool) -> Option<usize> {
        let (most, piece) = if commits_come {
            (BESIDE_BYTES, BESIDE_PIECE_BYTES)
        } else {
            (ALONE_BYTES, ALONE_PIECE_BYTES)
        };
        let piece = piece.min(wanted);
        if most < self.bytes + piece {
            return None;
        }
        self.bytes += piece;
        Some(piece)
    }

    fn end(&mut self, piece: usize) {
        self.bytes -= piece;
    }
}

/// Where reads of one lane wait to be let to the disk.
pub(super) struct Gate {
    lane: Lane,
    journal: Journal,
    pace: RefCell<Pace>,
    /// In the order of their turns.
    waiting: RefCell<VecDeque<Waiting>>,
    turns: Cell<u64>,
    waits: Counter,
}

struct Waiting {
    turn: Turn,
    wanted: usize,
    giver: Giver<Piece>,
}

/// A place among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

/// So many bytes may be asked for, until this is dropped.
#[must_use = "what is not held bounds nothing"]
pub(super) struct Piece {
    gate: Rc<Gate>,
    bytes: usize,
}

impl Piece {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.gate.pace.borrow_mut().end(self.bytes);
        self.gate.let_in();
    }
}

impl Gate {
    pub(super) fn new(lane: &Lane, journal: &Journal, metrics: &Metrics) -> Rc<Self> {
        Rc::new(Self {
            lane: lane.clone(),
            journal: journal.clone(),
            pace: RefCell::default(),
            waiting: RefCell::default(),
            turns: Cell::new(0),
            waits: metrics.counter("log.disk_waits"),
        })
    }

    /// A turn for a read that may have many pieces.
    pub(super) fn turn(&self) -> Turn {
        self.turns.set(self.turns.get() + 1);
        Turn(self.turns.get())
    }

    /// Waits until a piece of the `wanted` bytes may be asked for.
    pub(super) async fn piece(self: &Rc<Self>, turn: Turn, wanted: usize) -> Piece {
        let is_next = self.waiting.borrow().front().is_none_or(|it| turn < it.turn);
        if is_next && let Some(piece) = self.begin(wanted) {
            return piece;
        }
        self.waits.add(1);
        let (giver, taker) = once(&self.lane);
        {
            let mut waiting = self.waiting.borrow_mut();
            let place = waiting.partition_point(|it| it.turn <= turn);
            waiting.insert(place, Waiting { turn, wanted, giver });
        }
        taker.take().await.expect("the gate stays as long as those who wait")
    }

    fn begin(self: &Rc<Self>, wanted: usize) -> Option<Piece> {
        let commits_come = self.journal.commits_come();
        let bytes = self.pace.borrow_mut().begin(wanted, commits_come)?;
        Some(Piece { gate: Rc::clone(self), bytes })
    }

    fn let_in(self: &Rc<Self>) {
        loop {
            let wanted = {
                let mut waiting = self.waiting.borrow_mut();
                while waiting.front().is_some_and(|it| it.giver.is_unwanted()) {
                    waiting.pop_front();
                }
                waiting.front().map(|it| it.wanted)
            };
            let Some(piece) = wanted.and_then(|it| self.begin(it)) else { return };
            let next = self.waiting.borrow_mut().pop_front().expect("just seen");
            next.giver.give(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads begin and end, beside commits (`b`) or alone (`a`): what each is let ask for, in KiB.
    #[track_caller]
    fn check(steps: &str, expect: &str) {
        let mut pace = Pace::default();
        let mut told = Vec::new();
        for step in steps.split(' ') {
            let kib = step[1..].parse::<usize>().expect("KiB");
            match &step[..1] {
                "-" => pace.end(kib * 1024),
                how => {
                    let piece = pace.begin(kib * 1024, how == "b");
                    told.push(piece.map_or("no".to_owned(), |it| (it / 1024).to_string()));
                }
            }
        }
        assert_eq!(told.join(" "), expect, "{steps}");
    }

    #[test]
    fn beside_commits_the_disk_is_asked_for_little() {
        check("b4096 b4096 b4096 -128 b64 b64 b4", "128 128 no 64 64 no");
    }

    #[test]
    fn alone_it_is_asked_for_much() {
        check("a4096 a4096 a4 -1024 a512 a4096", "1024 1024 no 512 no");
    }

    #[test]
    fn when_commits_come_again_what_is_under_way_ends_first() {
        check("a4096 a4096 b4 -1024 b4 -1024 b4096", "1024 1024 no no 128");
    }
}

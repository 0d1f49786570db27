//! Where a journal ends: the walk along the chain of frames after a stop.
//!
//! Frames are offered in the order they were written, beginning where the checkpoint says. A frame
//! continues the chain when it is whole, of this journal, the next in sequence, names the checksum
//! of the one before, and is of the same run or a later one. The first that does not ends it.
//! What else is whole is then offered as a witness. If any witness of the run that was cut, or a
//! later one, knew the missing frame durable, a promise was broken: that is corruption, to be
//! reported and never cut away. Otherwise the end is torn: a commit nobody was told of.
//!
//! CHAIN-1: a frame at or below a durable mark is never cut.

use crate::frame::{Frame, FrameHeader, FramePlace, JournalId};

/// Where the chain was when the checkpoint was made, or after the last accepted frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    pub journal: JournalId,
    /// The run that wrote the last frame.
    pub incarnation: u64,
    /// The last frame's sequence; the next has one more.
    pub sequence: u64,
    pub checksum: u32,
}

/// Why a whole frame does not continue the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Break {
    Journal { expected: JournalId, found: JournalId },
    Sequence { expected: u64, found: u64 },
    Previous { expected: u32, found: u32 },
    Incarnation { at_least: u64, found: u64 },
}

/// How the chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainEnd {
    /// Everything after `last` was never reported durable; the next run continues from there.
    Torn { last: ChainHead },
    /// A frame that was reported durable is not there any more.
    Corrupt { last: ChainHead, missing: u64, durable: u64, witness: FramePlace },
}

/// The walk.
#[derive(Debug, Clone)]
pub struct Chain {
    head: ChainHead,
    ended: bool,
    witness: Option<(u64, FramePlace)>,
}

impl Chain {
    #[must_use]
    pub fn from(head: ChainHead) -> Self {
        Self { head, ended: false, witness: None }
    }

    #[must_use]
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// The frame found where the next one belongs.
    ///
    /// # Errors
    /// When it is not the next one. The chain has ended then; offer it, and all that is whole
    /// anywhere after it, to [`Chain::witness`].
    ///
    /// # Panics
    /// When the chain has ended already.
    pub fn offer(&mut self, frame: &Frame<'_>) -> Result<(), Break> {
        assert!(!self.ended, "the chain has ended");
        let outcome = self.follows(&frame.header);
        match outcome {
            Ok(()) => {
                self.head = ChainHead {
                    journal: frame.header.journal,
                    incarnation: frame.header.incarnation,
                    sequence: frame.header.sequence,
                    checksum: frame.checksum,
                };
            }
            Err(_) => self.ended = true,
        }
        outcome
    }

    fn follows(&self, frame: &FrameHeader) -> Result<(), Break> {
        let head = &self.head;
        let next = head.sequence + 1;
        if frame.journal != head.journal {
            return Err(Break::Journal { expected: head.journal, found: frame.journal });
        }
        if frame.sequence != next {
            return Err(Break::Sequence { expected: next, found: frame.sequence });
        }
        if frame.previous != head.checksum {
            return Err(Break::Previous { expected: head.checksum, found: frame.previous });
        }
        if frame.incarnation < head.incarnation {
            return Err(Break::Incarnation {
                at_least: head.incarnation,
                found: frame.incarnation,
            });
        }
        Ok(())
    }

    /// A whole frame found after the end of the chain, in any order. Older runs and older laps of
    /// the recycled files are known by their numbers and do not count.
    pub fn witness(&mut self, frame: &FrameHeader) {
        self.ended = true;
        if !self.counts(frame) || frame.durable <= self.head.sequence {
            return;
        }
        if self.witness.is_none_or(|(durable, _)| durable < frame.durable) {
            self.witness = Some((frame.durable, frame.place));
        }
    }

    /// Whether a frame that cannot be read belongs behind the end: of this journal, of this run or
    /// a later one, and not reached.
    #[must_use]
    pub fn misses(&self, frame: &FrameHeader) -> bool {
        self.counts(frame) && self.head.sequence < frame.sequence
    }

    fn counts(&self, frame: &FrameHeader) -> bool {
        frame.journal == self.head.journal && self.head.incarnation <= frame.incarnation
    }

    /// All files were looked through.
    #[must_use]
    pub fn end(self) -> ChainEnd {
        let last = self.head;
        match self.witness {
            None => ChainEnd::Torn { last },
            Some((durable, witness)) => {
                ChainEnd::Corrupt { last, missing: last.sequence + 1, durable, witness }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{
        BLOCK_BYTES, FrameEncoder,
        tests::{head, header},
        {Body, Entry},
    };

    fn frame_bytes(header: &FrameHeader) -> (Vec<u8>, u32) {
        let mut buffer = vec![0; BLOCK_BYTES];
        let mut encoder = FrameEncoder::new(BLOCK_BYTES);
        let entry = Entry { head: head(0, 0, 1, 0), body: Body::Data { bytes: b"x" } };
        encoder.push(&mut buffer, &entry, None).unwrap();
        let sealed = encoder.seal(&mut buffer, header);
        (buffer, sealed.checksum)
    }

    /// A script of runs: each word is a run of frames `count:durable_lag`, `!` loses the frame.
    /// Tells where the chain ends and how.
    #[track_caller]
    fn check(script: &str, expect: &str) {
        let start =
            ChainHead { journal: header(1, 0).journal, incarnation: 0, sequence: 10, checksum: 77 };
        let (mut sequence, mut previous) = (start.sequence, start.checksum);
        let mut disk = Vec::new();
        for (incarnation, run) in (1..).zip(script.split(' ')) {
            let (frames, durable_lag) = run.split_once(':').unwrap();
            let durable_lag: u64 = durable_lag.parse().unwrap();
            for frame in frames.chars() {
                sequence += 1;
                let it = FrameHeader {
                    incarnation,
                    durable: sequence - durable_lag,
                    ..header(sequence, previous)
                };
                let (bytes, checksum) = frame_bytes(&it);
                previous = checksum;
                disk.push((frame == '+').then_some(bytes));
            }
        }
        let mut chain = Chain::from(start);
        let mut ended = false;
        for bytes in disk {
            let Some(bytes) = bytes else {
                ended = true;
                continue;
            };
            let frame = Frame::decode(&bytes, header(1, 0).place).unwrap();
            ended = ended || chain.offer(&frame).is_err();
            if ended {
                chain.witness(&frame.header);
            }
        }
        let told = match chain.end() {
            ChainEnd::Torn { last } => format!("torn after {}", last.sequence),
            ChainEnd::Corrupt { missing, durable, .. } => {
                format!("lost {missing}, durable {durable}")
            }
        };
        assert_eq!(told, expect, "{script}");
    }

    #[test]
    fn the_chain_ends_where_writing_stopped() {
        check("+++:1", "torn after 13");
        check("++:1 ++:1", "torn after 14");
    }

    #[test]
    fn a_missing_commit_nobody_was_told_of_is_cut() {
        check("++!:1", "torn after 12");
        check("++!+:2", "torn after 12");
        check("++!++:3", "torn after 12");
    }

    #[test]
    fn a_missing_commit_that_was_reported_is_corruption() {
        check("++!+:1", "lost 13, durable 13");
        check("++!++:2", "lost 13, durable 13");
        check("+!+ ++:1".replace("+ ", "+:1 ").as_str(), "lost 12, durable 14");
    }

    #[test]
    fn stale_frames_of_an_older_run_end_the_chain_quietly() {
        // Run 1 wrote 11 and 12; 12 was torn, and 13 was in flight beside it.
        let start =
            ChainHead { journal: header(1, 0).journal, incarnation: 1, sequence: 11, checksum: 5 };
        let stale = FrameHeader { incarnation: 1, durable: 12, ..header(13, 99) };
        // Run 2 wrote its own 12; the chain goes on with it, and the stale 13 does not count,
        // whatever it says.
        let (bytes, _) = frame_bytes(&FrameHeader { incarnation: 2, ..header(12, 5) });
        let mut chain = Chain::from(start);
        chain.offer(&Frame::decode(&bytes, header(1, 0).place).unwrap()).unwrap();
        let (bytes, _) = frame_bytes(&stale);
        let frame = Frame::decode(&bytes, header(1, 0).place).unwrap();
        let error = chain.offer(&frame).unwrap_err();
        assert!(matches!(error, Break::Previous { .. }), "{error:?}");
        chain.witness(&frame.header);
        assert!(matches!(chain.end(), ChainEnd::Torn { last } if last.sequence == 12));
    }

    #[test]
    fn another_journal_is_no_witness() {
        let start =
            ChainHead { journal: header(1, 0).journal, incarnation: 1, sequence: 11, checksum: 5 };
        let mut chain = Chain::from(start);
        chain.witness(&FrameHeader { journal: JournalId([0; 16]), durable: 50, ..header(60, 0) });
        assert!(matches!(chain.end(), ChainEnd::Torn { .. }));
    }
}

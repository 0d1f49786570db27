//! Which leader wrote which offsets: the start of every leader epoch in the log.
//!
//! A follower and a leader find where their logs part by comparing ends of epochs
//! ([`LeaderEpochs::end_offset_for`]). Epochs and their starts both grow strictly; an epoch nobody
//! wrote in gives way to the next one.

use crate::bytes::{Put, Reader, Short};
use corelane_core::ids::{LeaderEpoch, Offset};

/// One epoch and its first offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start: Offset,
}

/// A start that does not follow the ones known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochGoesBack {
    pub latest: EpochStart,
    pub found: EpochStart,
}

/// The epochs of a log, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    #[must_use]
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|it| it.epoch)
    }

    /// Notes that `epoch` writes from `start` on; tells whether that was news.
    ///
    /// # Errors
    /// When a later epoch, or a later start, is known already. Nothing is changed then.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> Result<bool, EpochGoesBack> {
        let found = EpochStart { epoch, start };
        if let Some(&latest) = self.starts.last() {
            if epoch < latest.epoch || start < latest.start {
                return Err(EpochGoesBack { latest, found });
            }
            if epoch == latest.epoch {
                return Ok(false);
            }
            if start == latest.start {
                self.starts.pop();
            }
        }
        self.starts.push(found);
        Ok(true)
    }

    /// The largest epoch known up to `epoch`, and the offset where it ended. `None` when all known
    /// epochs are older than asked for, or none is known; and of an epoch that is none.
    #[must_use]
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if epoch < LeaderEpoch(0) {
            return None;
        }
        if self.latest()? == epoch {
            return Some((epoch, log_end));
        }
        let after = self.starts.partition_point(|it| it.epoch <= epoch);
        let end = self.starts.get(after)?.start;
        let known = after.checked_sub(1).map_or(epoch, |it| self.starts[it].epoch);
        Some((known, end))
    }

    /// The epoch of the record at `offset`.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|it| it.start <= offset);
        after.checked_sub(1).map(|it| self.starts[it].epoch)
    }

    /// The log now ends at `end`: epochs that begin there or later are gone.
    pub fn truncate_end(&mut self, end: Offset) {
        let kept = self.starts.partition_point(|it| it.start < end);
        self.starts.truncate(kept);
    }

    /// Whether a log that starts at `start` has less to tell: then [`Self::truncate_start`] changes something.
    #[must_use]
    pub fn begins_before(&self, start: Offset) -> bool {
        self.starts.first().is_some_and(|it| it.start < start)
    }

    /// The log now starts at `start`: of the epochs before it the last one begins there.
    pub fn truncate_start(&mut self, start: Offset) {
        let after = self.starts.partition_point(|it| it.start <= start);
        if let Some(covering) = after.checked_sub(1) {
            self.starts.drain(..covering);
            self.starts[0].start = start;
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_count(self.starts.len());
        for it in &self.starts {
            out.put_i32(it.epoch.0);
            out.put_i64(it.start.0);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let mut it = Self::default();
        for _ in 0..reader.count(12)? {
            let (epoch, start) = (reader.epoch()?, reader.offset()?);
            let before = it.starts.len();
            it.assign(epoch, start).map_err(|_| Short)?;
            if it.starts.len() != before + 1 {
                return Err(Short);
            }
        }
        Ok(it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
        let mut it = LeaderEpochs::default();
        for &(epoch, start) in starts {
            it.assign(LeaderEpoch(epoch), Offset(start)).unwrap();
        }
        it
    }

    fn told(it: &LeaderEpochs) -> String {
        let one = |it: &EpochStart| format!("{}@{}", it.epoch, it.start);
        it.starts().iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn epochs_end_where_the_next_begins() {
        let it = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end =
            |epoch| it.end_offset_for(LeaderEpoch(epoch), Offset(35)).map(|it| (it.0.0, it.1.0));
        assert_eq!(end(7), Some((7, 35)));
        assert_eq!(end(8), None);
        assert_eq!(end(6), Some((4, 30)));
        assert_eq!(end(4), Some((4, 30)));
        assert_eq!(end(3), Some((2, 20)));
        assert_eq!(end(1), Some((1, 10)));
        assert_eq!(end(-1), None, "what is no epoch has no end");
        assert_eq!(LeaderEpochs::default().end_offset_for(LeaderEpoch(0), Offset(5)), None);
        let at = |offset| it.epoch_at(Offset(offset)).map(|it| it.0);
        assert_eq!(
            [at(9), at(10), at(19), at(20), at(99)],
            [None, Some(2), Some(2), Some(4), Some(7)]
        );
    }

    #[test]
    fn an_epoch_nobody_wrote_in_gives_way() {
        let mut it = epochs(&[(1, 0), (2, 5), (3, 5)]);
        assert_eq!(told(&it), "1@0 3@5");
        assert_eq!(it.assign(LeaderEpoch(3), Offset(9)), Ok(false));
        assert!(it.assign(LeaderEpoch(2), Offset(9)).is_err());
        assert!(it.assign(LeaderEpoch(4), Offset(4)).is_err());
        assert_eq!(told(&it), "1@0 3@5");
    }

    #[test]
    fn both_ends_can_be_cut() {
        let whole = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end = |at| {
            let mut it = whole.clone();
            it.truncate_end(Offset(at));
            told(&it)
        };
        assert_eq!(
            [end(31), end(30), end(20), end(10)].join("; "),
            "2@10 4@20 7@30; 2@10 4@20; 2@10; "
        );
        let start = |at| {
            let mut it = whole.clone();
            it.truncate_start(Offset(at));
            told(&it)
        };
        assert_eq!(
            [start(5), start(15), start(20), start(99)].join("; "),
            "2@10 4@20 7@30; 2@15 4@20 7@30; 4@20 7@30; 7@99"
        );
    }

    #[test]
    fn what_was_written_down_comes_back_or_is_refused() {
        let it = epochs(&[(2, 10), (4, 20)]);
        let mut bytes = Vec::new();
        it.encode(&mut bytes);
        assert_eq!(LeaderEpochs::decode(&mut Reader::new(&bytes)), Ok(it));
        bytes[4] = 9;
        assert_eq!(LeaderEpochs::decode(&mut Reader::new(&bytes)), Err(Short));
        bytes[0] = 200;
        assert_eq!(LeaderEpochs::decode(&mut Reader::new(&bytes)), Err(Short));
    }
}

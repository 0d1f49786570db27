//! Checksums of what is in a tail and not in its file yet, kept from those of the batches.
//!
//! A batch is summed once, when it arrives. What is written to a segment is cut at whole blocks, not
//! between batches: only the shorter part of a cut run is read again, the other follows from the sum
//! of both.

use std::collections::VecDeque;

use super::tail::Tail;
use crate::checksum;
use crate::frame::COMBINE_BYTES_MIN;

/// Small batches share a run up to this size, so that they take little memory. Half of it is the most
/// that is read again for a cut between them.
const RUN_BYTES_MAX: u64 = 32 * 1024;

struct Run {
    /// Where it ends in the segment; it begins where the one before ends.
    to: u64,
    /// The plain checksum of its bytes; `None` where nobody has summed them.
    crc: Option<u32>,
}

/// The checksums of a segment's bytes from some place on.
pub(super) struct Sums {
    from: u64,
    runs: VecDeque<Run>,
}

impl Sums {
    /// Nothing is there; the next byte lies at `from`.
    pub(super) fn at(from: u64) -> Self {
        Self { from, runs: VecDeque::new() }
    }

    fn end(&self) -> u64 {
        self.runs.back().map_or(self.from, |it| it.to)
    }

    /// Learns of bytes at the end, and of their checksum if somebody knows it.
    pub(super) fn push(&mut self, bytes: &[u8], known: Option<u32>) {
        let to = self.end() + bytes.len() as u64;
        let before = self.runs.len().checked_sub(2).map_or(self.from, |it| self.runs[it].to);
        let joined = self.runs.back_mut().filter(|it| to - before <= RUN_BYTES_MAX && it.to < to);
        match (joined, known) {
            (Some(Run { to: last, crc: Some(so_far) }), Some(crc)) => {
                *so_far = if bytes.len() < COMBINE_BYTES_MIN {
                    checksum::append(*so_far, bytes)
                } else {
                    checksum::combine(*so_far, crc, bytes.len())
                };
                *last = to;
            }
            _ => self.runs.push_back(Run { to, crc: known }),
        }
    }

    /// The checksum of a range that is in the tail.
    pub(super) fn of(&mut self, from: u64, to: u64, tail: &Tail) -> u32 {
        assert!(self.from <= from && from <= to && to <= self.end(), "{from}..{to} is not here");
        self.cut(from, tail);
        self.cut(to, tail);
        let first = self.runs.partition_point(|it| it.to <= from);
        let mut crc = checksum::of(&[]);
        let mut at = from;
        for run in self.runs.range_mut(first..) {
            if to < run.to {
                break;
            }
            let known = *run.crc.get_or_insert_with(|| sum(tail, at, run.to));
            crc = checksum::combine(crc, known, (run.to - at) as usize);
            at = run.to;
        }
        assert_eq!(at, to, "runs follow each other");
        debug_assert_eq!(crc, sum(tail, from, to), "a wrong known sum");
        crc
    }

    /// Forgets what lies below `to`, which is in the tail.
    pub(super) fn forget_below(&mut self, to: u64, tail: &Tail) {
        self.cut(to, tail);
        while self.runs.pop_front_if(|it| it.to <= to).is_some() {}
        self.from = to;
    }

    /// Makes two runs of the one that goes over `at`.
    fn cut(&mut self, at: u64, tail: &Tail) {
        let index = self.runs.partition_point(|it| it.to <= at);
        let start = index.checked_sub(1).map_or(self.from, |it| self.runs[it].to);
        let Some(run) = self.runs.get_mut(index).filter(|_| start < at) else { return };
        let (to, after) = (run.to, (run.to - at) as usize);
        let (head, rest) = match run.crc {
            None => (None, None),
            Some(whole) if at - start < to - at => {
                let head = sum(tail, start, at);
                (Some(head), Some(checksum::without_head(head, whole, after)))
            }
            Some(whole) => {
                let rest = sum(tail, at, to);
                (Some(checksum::without_tail(rest, whole, after)), Some(rest))
            }
        };
        *run = Run { to: at, crc: head };
        self.runs.insert(index + 1, Run { to, crc: rest });
    }
}

fn sum(tail: &Tail, from: u64, to: u64) -> u32 {
    let mut crc = checksum::of(&[]);
    tail.each(from, to, |bytes| crc = checksum::append(crc, bytes));
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::buf::Pool;

    /// Appends batches of these sizes, each summed by its client or not, forgets up to each of the
    /// places in turn, and compares every range between them with what its bytes say.
    #[track_caller]
    fn check(batches: &[(usize, bool)], places: &[u64]) -> usize {
        let pool = Pool::new(1 << 22);
        let mut tail = Tail::at(4096);
        let mut sums = Sums::at(4096);
        let mut all = Vec::new();
        for (number, &(len, known)) in batches.iter().enumerate() {
            let bytes: Vec<u8> = (0..len).map(|it| ((it * (number + 3)) >> 2) as u8).collect();
            tail.append(&pool, &bytes).expect("in budget");
            sums.push(&bytes, known.then(|| checksum::of(&bytes)));
            all.extend(bytes);
        }
        let mut ranges = 0;
        for (number, &from) in places.iter().enumerate() {
            sums.forget_below(from, &tail);
            for &to in &places[number..] {
                let expect = &all[(from - 4096) as usize..(to - 4096) as usize];
                assert_eq!(sums.of(from, to, &tail), checksum::of(expect), "{from}..{to}");
                ranges += 1;
            }
        }
        ranges
    }

    #[test]
    fn ranges_have_the_sum_of_their_bytes_wherever_they_are_cut() {
        let small = [(70, true); 900];
        let large = [(100_000, true), (50, true), (200_000, true), (5000, true)];
        let mixed = [(3000, true), (40_000, false), (10, false), (1024, true), (9000, true)];
        let mut ranges = 0;
        for batches in [&small[..], &large, &mixed] {
            let end = 4096 + batches.iter().map(|it| it.0 as u64).sum::<u64>();
            let blocks: Vec<u64> = (4096..=end).step_by(4096).collect();
            ranges += check(batches, &blocks);
            ranges += check(batches, &[4096, 4097, 5000, 36_863, 36_864, 36_865, end - 1, end]);
        }
        assert!(300 < ranges, "the walk went empty: {ranges}");
    }

    #[test]
    fn only_the_shorter_part_of_a_cut_run_decides() {
        let pool = Pool::new(1 << 20);
        let mut tail = Tail::at(0);
        tail.append(&pool, &[7; 10_000]).expect("in budget");
        let mut sums = Sums::at(0);
        sums.push(&[7; 10_000], Some(checksum::of(&[7; 10_000])));
        sums.cut(9000, &tail);
        sums.cut(100, &tail);
        let known: Vec<_> = sums.runs.iter().map(|it| (it.to, it.crc)).collect();
        let expect = [(100, 100), (9000, 8900), (10_000, 1000)];
        assert_eq!(known, expect.map(|(to, len)| (to, Some(checksum::of(&[7; 10_000][..len])))));
    }
}

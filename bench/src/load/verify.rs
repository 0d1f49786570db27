//! Every record seen once, in order.
//!
//! A producer numbers what it sends to a partition from zero. Each subscription keeps, for each
//! partition and producer, the next number it waits for and the gaps behind it: a number in a gap
//! came late, one behind that is in no gap came twice, and what is in a gap at the end was lost,
//! unless the producer was told that it failed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What one subscription saw of one producer in one partition.
#[derive(Debug, Default)]
struct Seen {
    next: u64,
    /// From, to (exclusive).
    gaps: BTreeMap<u64, u64>,
    duplicate: u64,
    disordered: u64,
}

impl Seen {
    fn note(&mut self, number: u64) {
        if number == self.next {
            self.next += 1;
            return;
        }
        if self.next < number {
            self.gaps.insert(self.next, number);
            self.next = number + 1;
            return;
        }
        let gap = self.gaps.range(..=number).next_back().map(|(from, to)| (*from, *to));
        let Some((from, to)) = gap.filter(|(_, to)| number < *to) else {
            self.duplicate += 1;
            return;
        };
        self.disordered += 1;
        self.gaps.remove(&from);
        if from < number {
            self.gaps.insert(from, number);
        }
        if number + 1 < to {
            self.gaps.insert(number + 1, to);
        }
    }

    /// Numbers below `end` that were not seen and did not fail.
    fn lost(&self, end: u64, failed: &[(u64, u64)]) -> u64 {
        let open = (self.next < end).then_some((self.next, end));
        let gaps = self.gaps.iter().map(|(from, to)| (*from, *to)).chain(open);
        gaps.map(|(from, to)| {
            let excused = failed.iter().map(|it| to.min(it.1).saturating_sub(from.max(it.0)));
            (to - from) - excused.sum::<u64>()
        })
        .sum()
    }
}

/// What a producer sent to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) topic: u32,
    pub(crate) partition: u32,
    pub(crate) producer: u32,
    /// One more than the last number.
    pub(crate) end: u64,
    /// Ranges of which nobody knows what became of them; apart from each other.
    pub(crate) failed: Vec<(u64, u64)>,
}

/// One partition as one subscription sees it. Whoever reads it for the moment holds it.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    of: BTreeMap<u32, Seen>,
}

impl Tracker {
    pub(crate) fn note(&mut self, producer: u32, number: u64) {
        self.of.entry(producer).or_default().note(number);
    }
}

/// All partitions of all topics, as all subscriptions see them.
pub(crate) struct Verify {
    subscriptions: u32,
    partitions: u32,
    trackers: Vec<Mutex<Tracker>>,
}

/// What is wrong with what was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: u64,
    pub(crate) duplicate: u64,
    pub(crate) disordered: u64,
}

impl Verify {
    pub(crate) fn new(topics: u32, subscriptions: u32, partitions: u32) -> Self {
        let all = u64::from(topics) * u64::from(subscriptions) * u64::from(partitions);
        Self { subscriptions, partitions, trackers: (0..all).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn tracker(&self, topic: u32, subscription: u32, partition: u32) -> &Mutex<Tracker> {
        let group = u64::from(topic) * u64::from(self.subscriptions) + u64::from(subscription);
        let at = group * u64::from(self.partitions) + u64::from(partition);
        &self.trackers[usize::try_from(at).expect("trackers are in memory")]
    }

    pub(crate) fn verdict(&self, sent: &[Sent]) -> Verdict {
        let mut verdict = Verdict::default();
        for tracker in &self.trackers {
            let tracker = tracker.lock().unwrap_or_else(PoisonError::into_inner);
            for seen in tracker.of.values() {
                verdict.duplicate += seen.duplicate;
                verdict.disordered += seen.disordered;
            }
        }
        let nothing = Seen::default();
        for sent in sent {
            for subscription in 0..self.subscriptions {
                let tracker = self.tracker(sent.topic, subscription, sent.partition);
                let tracker = tracker.lock().unwrap_or_else(PoisonError::into_inner);
                let seen = tracker.of.get(&sent.producer).unwrap_or(&nothing);
                verdict.lost += seen.lost(sent.end, &sent.failed);
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(numbers: &[u64], end: u64, failed: &[(u64, u64)]) -> (u64, u64, u64) {
        let verify = Verify::new(1, 1, 1);
        for number in numbers {
            verify.tracker(0, 0, 0).lock().unwrap().note(4, *number);
        }
        let sent = Sent { topic: 0, partition: 0, producer: 4, end, failed: failed.to_vec() };
        let Verdict { lost, duplicate, disordered } = verify.verdict(&[sent]);
        (lost, duplicate, disordered)
    }

    #[test]
    fn what_is_lost_twice_or_late_is_counted_as_that() {
        assert_eq!(judge(&[0, 1, 2], 3, &[]), (0, 0, 0));
        assert_eq!(judge(&[0, 1], 3, &[]), (1, 0, 0));
        assert_eq!(judge(&[], 3, &[]), (3, 0, 0));
        assert_eq!(judge(&[0, 2, 2], 3, &[]), (1, 1, 0));
        assert_eq!(judge(&[0, 2, 1], 3, &[]), (0, 0, 1));
        assert_eq!(judge(&[0, 2, 1, 1], 3, &[]), (0, 1, 1));
        assert_eq!(judge(&[0, 9], 10, &[(2, 4), (7, 12)]), (8 - 2 - 2, 0, 0));
    }

    /// Every order in which each of four records comes up to twice, against a judge that remembers all.
    #[test]
    fn every_short_history_is_judged_as_a_memory_would() {
        let mut walked = 0;
        for code in 0..5u32.pow(6) {
            let mut history = Vec::new();
            let mut rest = code;
            for _ in 0..6 {
                if rest % 5 != 0 {
                    history.push(u64::from(rest % 5 - 1));
                }
                rest /= 5;
            }
            let (mut twice, mut late, mut most) = (0, 0, None);
            for (at, number) in history.iter().enumerate() {
                if history[..at].contains(number) {
                    twice += 1;
                } else if most.is_some_and(|most| *number < most) {
                    late += 1;
                }
                most = most.max(Some(*number));
            }
            let lost = (0..4).filter(|it| !history.contains(it)).count() as u64;
            assert_eq!(judge(&history, 4, &[]), (lost, twice, late), "{history:?}");
            walked += 1;
        }
        assert_eq!(walked, 15_625);
    }
}

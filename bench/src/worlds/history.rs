//! What clients did and saw, and what in it contradicts itself.
//!
//! Every record carries a number that no other has. A send ends in one of four ways: acknowledged,
//! perhaps with an offset; failed, which means that its records are never seen; unknown; or not at
//! all, which is as good as unknown. The rules:
//!
//! - *inconsistent*: an offset of a partition is one record, for everyone and for ever;
//! - *duplicate*: a record is at one offset;
//! - *aborted read*: a failed record is never seen;
//! - *corrupt*: a record is read as it was sent, key, value, headers and time;
//! - *lost*: an acknowledged record is in the final log, where the acknowledgement said;
//! - *vanished*: what anyone read is in the final log;
//! - *order*: the acknowledged records of one producer are in the log in the order they were sent;
//! - *hole*: offsets that are read follow each other;
//! - *unseen*: whoever asks after an acknowledgement is told of an end beyond it;
//! - *back*: for one reader, neither the end nor the start of a log goes back;
//! - *cut*: a log begins no later than somebody asked for, and no earlier than somebody was answered;
//! - *risen*: a topic that was removed does not come back, and one made anew is empty.
//!
//! What members of groups must never see is said [there](super::groups), and what values that were
//! altered must never be, [there](super::configs).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use corelane_client::records::Record;

use super::configs::Altered;
use super::groups::Groups;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Names a send of this history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendId(usize);

/// What is known of a log's ends: whoever asks from now on is told nothing less.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Where what was acknowledged ends.
    pub end: i64,
    /// Up to where records were removed.
    pub start: i64,
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Acked(Option<i64>),
    Failed,
    Unknown,
}

struct Send {
    place: Place,
    producer: u32,
    records: u32,
    timestamp_ms: i64,
    fate: Fate,
}

/// How often things happened, for the report of many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            self.add(what, *count);
        }
    }
}

/// The history of one run.
#[derive(Default)]
pub struct History {
    sends: Vec<Send>,
    /// Every record that was seen or acknowledged, by place and offset.
    log: BTreeMap<Place, BTreeMap<i64, u64>>,
    /// Where each record is.
    at: BTreeMap<u64, i64>,
    /// The final log: where it starts, and its records.
    last: BTreeMap<Place, (i64, BTreeMap<i64, u64>)>,
    /// The end of what was acknowledged.
    acked_end: BTreeMap<Place, i64>,
    /// Up to where somebody asked for records to be removed, and was answered that they are.
    cut: BTreeMap<Place, (i64, i64)>,
    pub groups: Groups,
    pub altered: Altered,
    /// A place that its only user has not yet read for the last time.
    unread: Option<Place>,
    /// Places that nobody will read, because their only user is gone.
    abandoned: BTreeSet<Place>,
    /// The last end and start that each reader was told.
    told: BTreeMap<(u32, Place), (i64, i64)>,
    complaints: Vec<String>,
    pub tally: Tally,
}

/// Records of one send are numbered within it by so many bits.
const RECORD_BITS: u32 = 16;

/// The value begins with its number.
const NUMBER_BYTES: usize = 8;

impl History {
    /// Something that a client saw must never be seen.
    pub fn fault(&mut self, what: String) {
        self.complain(what);
    }

    fn complain(&mut self, what: String) {
        // The first few say it; a run that went wrong goes wrong a thousand times.
        if self.complaints.len() < 20 {
            self.complaints.push(what);
        }
    }

    /// A send is about to happen. Gives its records.
    pub fn begin(
        &mut self,
        place: &Place,
        producer: u32,
        records: u32,
        timestamp_ms: i64,
    ) -> (SendId, Vec<Record>) {
        let id = SendId(self.sends.len());
        let fate = Fate::Open;
        self.sends.push(Send { place: place.clone(), producer, records, timestamp_ms, fate });
        self.tally.add("sends", 1);
        (id, (0..records).map(|it| record(number(id, it), timestamp_ms)).collect())
    }

    /// A send was acknowledged; `base` is its first offset if that was said.
    pub fn acked(&mut self, id: SendId, base: Option<i64>) {
        self.tally.add("sends acknowledged", 1);
        let send = &mut self.sends[id.0];
        send.fate = Fate::Acked(base);
        let (place, records) = (send.place.clone(), send.records);
        let Some(base) = base else { return };
        if base < 0 {
            return self.complain(format!("{place}: acknowledged at offset {base}"));
        }
        for index in 0..records {
            self.found(&place, base + i64::from(index), number(id, index), "acknowledged");
        }
        let end = self.acked_end.entry(place).or_default();
        *end = (*end).max(base + i64::from(records));
    }

    /// A send without acknowledgement left.
    pub fn told(&mut self, id: SendId) {
        self.tally.add("sends without acknowledgement", 1);
        self.sends[id.0].fate = Fate::Unknown;
    }

    pub fn failed(&mut self, id: SendId, indefinite: bool) {
        self.tally.add(if indefinite { "sends unknown" } else { "sends failed" }, 1);
        self.sends[id.0].fate = if indefinite { Fate::Unknown } else { Fate::Failed };
    }

    /// Where a place's acknowledged records end: whoever asks from now on must be told at least this.
    #[must_use]
    pub fn acked_end(&self, place: &Place) -> i64 {
        self.acked_end.get(place).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn known(&self, place: &Place) -> Known {
        Known { end: self.acked_end(place), start: self.cut.get(place).map_or(0, |it| it.1) }
    }

    /// Somebody is about to ask that everything before an offset be removed.
    pub fn cutting(&mut self, place: &Place, before: i64) {
        let cut = self.cut.entry(place.clone()).or_default();
        cut.0 = cut.0.max(before);
    }

    /// And was answered that the log begins there now.
    pub fn was_cut(&mut self, place: &Place, start: i64) {
        self.tally.add("logs cut", 1);
        let cut = self.cut.entry(place.clone()).or_default();
        cut.1 = cut.1.max(start);
    }

    /// Up to where records may be gone.
    #[must_use]
    pub fn may_begin(&self, place: &Place) -> i64 {
        self.cut.get(place).map_or(0, |it| it.0)
    }

    /// A reader that asked when this was known was told this end and start.
    pub fn ends(&mut self, reader: u32, place: &Place, known: Known, end: i64, start: i64) {
        if end < known.end {
            let acked = known.end;
            self.complain(format!(
                "unseen: {place} ends at {end}, {acked} was acknowledged before"
            ));
        }
        let may = self.may_begin(place);
        if start < known.start || may < start {
            let must = known.start;
            self.complain(format!("cut: {place} begins at {start}, not within {must}..={may}"));
        }
        let told = self.told.insert((reader, place.clone()), (end, start));
        if let Some((last_end, last_start)) = told
            && (end < last_end || start < last_start)
        {
            self.complain(format!(
                "back: {place} was {last_start}..{last_end} and is {start}..{end} for reader {reader}"
            ));
        }
    }

    /// The only user of a place begins with it; whatever was begun before and not read is abandoned.
    pub fn alone(&mut self, place: Option<Place>) {
        let before = std::mem::replace(&mut self.unread, place);
        self.abandoned.extend(before.filter(|it| !self.last.contains_key(it)));
    }

    /// Records were read from offset `from` on.
    pub fn read(&mut self, place: &Place, from: i64, records: &[(i64, Record)]) {
        self.tally.add("records read", records.len() as u64);
        for ((offset, record), expected) in records.iter().zip(from..) {
            if *offset != expected {
                self.complain(format!("hole: {place} read {offset} where {expected} is next"));
            }
            if let Some(number) = self.checked(place, *offset, record) {
                self.found(place, *offset, number, "read");
            }
        }
    }

    /// The whole log of a place, after everything has come to rest.
    pub fn last_read(&mut self, place: &Place, start: i64, records: &[(i64, Record)]) {
        self.read(place, start, records);
        let mut log = BTreeMap::new();
        for (offset, record) in records {
            if let Some(number) = self.checked(place, *offset, record) {
                log.insert(*offset, number);
            }
        }
        self.last.insert(place.clone(), (start, log));
    }

    /// The number of a record, if it is one of ours, here, and whole.
    fn checked(&mut self, place: &Place, offset: i64, found: &Record) -> Option<u64> {
        let head = found.value.as_deref().and_then(|it| it.first_chunk::<NUMBER_BYTES>());
        let number = head.map(|it| u64::from_be_bytes(*it));
        let send = number.and_then(|it| self.sends.get((it >> RECORD_BITS) as usize));
        let Some((number, send)) = number.zip(send) else {
            self.complain(format!("corrupt: {place} at {offset}: nobody sent {found:?}"));
            return None;
        };
        let good = send.place == *place && *found == record(number, send.timestamp_ms);
        if !good {
            let told = format!("corrupt: {place} at {offset}: sent to {} otherwise", send.place);
            self.complain(told);
        }
        good.then_some(number)
    }

    fn found(&mut self, place: &Place, offset: i64, number: u64, how: &str) {
        let before = self.log.entry(place.clone()).or_default().insert(offset, number);
        if let Some(before) = before.filter(|it| *it != number) {
            self.complain(format!(
                "inconsistent: {place} at {offset} was {before:x} and is {how} as {number:x}"
            ));
        }
        let before = self.at.insert(number, offset);
        if let Some(before) = before.filter(|it| *it != offset) {
            self.complain(format!("duplicate: {place}: {number:x} is at {before} and at {offset}"));
        }
        if self.sends[(number >> RECORD_BITS) as usize].fate == Fate::Failed {
            self.complain(format!("aborted read: {place} at {offset}: {number:x} had failed"));
        }
    }

    /// Compares everything with the final logs. Gives all complaints.
    pub fn finish(mut self) -> (Vec<String>, Tally) {
        self.alone(None);
        let mut complaints = Vec::new();
        for (place, log) in &self.log {
            let Some((start, last)) = self.last.get(place) else {
                if self.abandoned.contains(place) {
                    continue;
                }
                complaints.push(format!("{place} was never read to its end"));
                continue;
            };
            for (offset, number) in log.range(start..) {
                if last.get(offset) != Some(number) {
                    complaints.push(format!("vanished: {place} at {offset}: {number:x}"));
                }
            }
        }
        let mut order: BTreeMap<(u32, &Place), i64> = BTreeMap::new();
        for (send, id) in self.sends.iter().zip(0..) {
            let Fate::Acked(base) = send.fate else { continue };
            let Some((start, last)) = self.last.get(&send.place) else { continue };
            for index in 0..send.records {
                let number = number(SendId(id), index);
                let at = self.at.get(&number).copied();
                // One of which nobody knows where it was may have been among those removed.
                let gone = at.or(base).map_or(0 < *start, |it| it < *start);
                match at {
                    _ if gone => {}
                    Some(at) if last.contains_key(&at) => {
                        let before = order.insert((send.producer, &send.place), at);
                        if before.is_some_and(|it| at < it) {
                            complaints.push(format!(
                                "order: {} at {at}: {number:x} comes before what was sent earlier",
                                send.place
                            ));
                        }
                    }
                    _ => complaints.push(format!(
                        "lost: {}: {number:x}, acknowledged at {base:?}",
                        send.place
                    )),
                }
            }
        }
        let groups = std::mem::take(&mut self.groups);
        let offsets = |place: &Place| self.last.get(place).map(|it| it.1.keys().copied().collect());
        complaints.extend(groups.finish(offsets));
        for complaint in complaints {
            self.complain(complaint);
        }
        (self.complaints, self.tally)
    }
}

fn number(id: SendId, index: u32) -> u64 {
    assert!(index < 1 << RECORD_BITS, "a send has fewer records");
    (id.0 as u64) << RECORD_BITS | u64::from(index)
}

/// The record of a number: everything in it follows from that.
fn record(number: u64, timestamp_ms: i64) -> Record {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut draw = |bound: u64| {
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 32) % bound
    };
    let mut value = number.to_be_bytes().to_vec();
    let filler = match draw(8) {
        0 => draw(9_000),
        1..3 => draw(1_000),
        _ => draw(60),
    };
    let byte = draw(256);
    value.extend((0..filler).map(|it| (it.wrapping_mul(7) ^ byte) as u8));
    let key = (draw(3) != 0).then(|| draw(100).to_be_bytes().to_vec());
    let header = |it| (format!("h{it}"), (it % 2 == 0).then(|| vec![it as u8; 3]));
    let headers = (0..draw(3)).map(header).collect();
    Record { timestamp_ms, key, value: Some(value), headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { topic: "t".to_owned(), partition: 0 }
    }

    /// Three acknowledged sends of one record each, at these offsets.
    fn sent(history: &mut History, offsets: [Option<i64>; 3]) -> Vec<Record> {
        let mut all = Vec::new();
        for offset in offsets {
            let (id, records) = history.begin(&place(), 1, 1, 5);
            history.acked(id, offset);
            all.extend(records);
        }
        all
    }

    fn told(history: History, last: &[(i64, &Record)]) -> String {
        let mut history = history;
        let last: Vec<_> = last.iter().map(|(at, it)| (*at, (*it).clone())).collect();
        history.last_read(&place(), 0, &last);
        let kinds = history.finish().0;
        let kinds = kinds.iter().map(|it| it.split(':').next().expect("a word"));
        kinds.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_log_that_is_as_it_was_said_is_not_complained_about() {
        let mut history = History::default();
        let records = sent(&mut history, [Some(0), None, Some(2)]);
        history.read(&place(), 1, &[(1, records[1].clone())]);
        assert_eq!(told(history, &[(0, &records[0]), (1, &records[1]), (2, &records[2])]), "");
    }

    #[test]
    fn each_contradiction_has_its_name() {
        let mut lost = History::default();
        let records = sent(&mut lost, [Some(0), Some(1), None]);
        assert_eq!(told(lost, &[(0, &records[0]), (1, &records[1])]), "lost");

        let mut vanished = History::default();
        let records = sent(&mut vanished, [Some(0), Some(1), Some(2)]);
        let found = told(vanished, &[(0, &records[0]), (1, &records[1])]);
        assert_eq!(found, "vanished lost");

        let mut twice = History::default();
        let records = sent(&mut twice, [Some(0), Some(1), None]);
        let found =
            told(twice, &[(0, &records[0]), (1, &records[1]), (2, &records[2]), (3, &records[1])]);
        assert_eq!(found, "duplicate order");

        let mut swapped = History::default();
        let records = sent(&mut swapped, [None, None, None]);
        let found = told(swapped, &[(0, &records[1]), (1, &records[0]), (2, &records[2])]);
        assert_eq!(found, "order");

        let mut hole = History::default();
        let records = sent(&mut hole, [Some(0), None, None]);
        let found = told(hole, &[(0, &records[0]), (2, &records[1]), (3, &records[2])]);
        assert_eq!(found, "hole hole");

        let mut same = History::default();
        let records = sent(&mut same, [Some(0), Some(0), None]);
        assert_eq!(told(same, &[(0, &records[0])]), "inconsistent inconsistent lost");

        let mut failed = History::default();
        let (id, records) = failed.begin(&place(), 1, 1, 5);
        failed.failed(id, false);
        assert_eq!(told(failed, &[(0, &records[0])]), "aborted read");

        let mut changed = History::default();
        let mut records = sent(&mut changed, [None, None, None]);
        records[1].timestamp_ms += 1;
        let found = told(changed, &[(0, &records[0]), (1, &records[1]), (2, &records[2])]);
        assert_eq!(found, "corrupt corrupt lost");

        let mut back = History::default();
        let known = |end, start| Known { end, start };
        back.cutting(&place(), 1);
        back.ends(1, &place(), known(0, 0), 5, 1);
        back.ends(2, &place(), known(0, 0), 4, 0);
        back.ends(1, &place(), known(6, 0), 5, 0);
        assert_eq!(told(back, &[]), "unseen back");

        let mut cut = History::default();
        cut.cutting(&place(), 2);
        cut.was_cut(&place(), 2);
        cut.ends(1, &place(), known(0, 2), 5, 1);
        cut.ends(1, &place(), known(0, 2), 5, 3);
        assert_eq!(told(cut, &[]), "cut cut");
    }
}

//! `counts`: what one request costs the whole broker in things that can be counted, not timed.
//!
//! Allocations, entries into the kernel, commits, page faults and bytes checksummed are the same on a
//! busy machine as on a quiet one, or nearly so, which is why a test may hold them under a ceiling. One
//! lane, one connection, one request in flight: what many requests share in a turn, these do not share.

mod broker;
mod requests;

use crate::plan::Plan;
use crate::report::Reading;
use broker::{Broker, Snapshot};
use std::io;

pub(crate) use broker::be_broker;

pub(crate) const SUBJECTS: &[&str] = &["corelane"];
pub(crate) const CASES: &[&str] = &[
    "produce, 1 partition, 1 KiB",
    "produce, 16 partitions, 1 KiB",
    "fetch, 1 partition, 1 KiB",
    "fetch, 16 partitions, 1 KiB",
    "metadata, 1 topic",
];

/// Before these, pools and tables grow.
const WARM_UP: u32 = 150;
const COUNTED: u32 = 300;
/// Now and then a lane tidies up, and what that costs is not the request's: the least of several
/// stretches is.
const STRETCHES: u32 = 3;

pub(crate) fn weigh(_subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let mut broker = Broker::start(&plan.folder)?;
    let mut requests = requests::Requests::prepare(case, broker.port())?;
    for _ in 0..WARM_UP {
        requests.once()?;
    }
    let mut least: Vec<Reading> = Vec::new();
    let mut before = broker.snapshot()?;
    for _ in 0..STRETCHES {
        for _ in 0..COUNTED {
            requests.once()?;
        }
        let after = broker.snapshot()?;
        let readings = readings(&before, &after);
        if least.is_empty() {
            least = readings;
        } else {
            for (least, more) in least.iter_mut().zip(&readings) {
                least.value = least.value.min(more.value);
            }
        }
        before = after;
    }
    broker.stop()?;
    Ok(least)
}

fn readings(before: &Snapshot, after: &Snapshot) -> Vec<Reading> {
    let per_op = |name: &'static str, of: fn(&Snapshot) -> u64| {
        let grown = of(after).saturating_sub(of(before));
        Reading::new(name, grown as f64 / f64::from(COUNTED))
    };
    let mut readings = vec![
        per_op("allocations_per_op", |it| it.allocations),
        per_op("allocated_bytes_per_op", |it| it.allocated_bytes),
        per_op("enters_per_op", |it| it.enters),
        per_op("faults_per_op", |it| it.faults),
    ];
    let appended = after.appended_bytes - before.appended_bytes;
    if 0 < appended {
        let per_byte = |bytes: u64| bytes as f64 / appended as f64;
        let summed = |it: &Snapshot| it.summed_bytes.iter().sum::<u64>();
        let summed = summed(after) - summed(before);
        let journal = after.journal_bytes - before.journal_bytes;
        readings.push(per_op("commits_per_op", |it| it.commits));
        readings.push(Reading::new("summed_per_byte", per_byte(summed)));
        readings.push(Reading::new("journal_per_byte", per_byte(journal)));
    }
    readings
}

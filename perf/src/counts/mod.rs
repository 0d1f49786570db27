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
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};

pub(crate) use broker::be_broker;

pub(crate) const SUBJECTS: &[&str] = &["corelane"];
pub(crate) const CASES: &[&str] = &[
    "produce, 1 partition, 1 KiB",
    "produce, 16 partitions, 1 KiB",
    "fetch, 1 partition, 1 KiB",
    "fetch, 16 partitions, 1 KiB",
    "metadata, 1 topic",
    SILENT,
];

/// Connections that say how long a request would be, and then nothing.
const SILENT: &str = "connections that fall silent";
/// Twice these are as many as two processes may have where nobody raised their limits.
const SILENT_COUNT: u16 = 250;
/// A lane has taken what came before it answered so many requests.
const TURNS: u32 = 3;
const ANNOUNCED_BYTES: i32 = 10_000_000;

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
    if case == SILENT {
        let readings = silent(&mut broker, &mut requests)?;
        broker.stop()?;
        return Ok(readings);
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

/// What each of many connections holds that has announced a large request. As many came before them: into
/// blocks that are used again, and go back later.
fn silent(broker: &mut Broker, requests: &mut requests::Requests) -> io::Result<Vec<Reading>> {
    let mut all = fall_silent(broker, requests)?;
    let before = broker.snapshot()?;
    all.append(&mut fall_silent(broker, requests)?);
    let after = broker.snapshot()?;
    let bytes = after.held_bytes.wrapping_sub(before.held_bytes).cast_signed() as f64;
    Ok(vec![Reading::new("held_bytes_per_connection", bytes / f64::from(SILENT_COUNT))])
}

fn fall_silent(broker: &Broker, requests: &mut requests::Requests) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for _ in 0..SILENT_COUNT {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port()))?;
        socket.write_all(&ANNOUNCED_BYTES.to_be_bytes())?;
        held.push(socket);
        // One after the other: what many bring at once needs blocks for all of them.
        for _ in 0..TURNS {
            requests.once()?;
        }
    }
    Ok(held)
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

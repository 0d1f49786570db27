//! `wire`: what it costs to read a request and to write its answer, without a socket or a log.
//!
//! One operation is a whole frame in and a whole frame out: header and request are decoded, every
//! partition or topic in it is looked at, the answer is built and written. Both subjects are given
//! the same frames and must write the same bytes, which is checked before anything is measured.
//! What is in the batches is nobody's business then: an append validates them one by one, and that is
//! weighed by itself.
//!
//! Records of a fetch stay outside in `ours`, as they do in the broker; `kafka-protocol` has no way but
//! to copy them. The case without records is without that difference. Where a case only decodes, its
//! answer is neither built nor written.

mod batch;
mod case;
mod ours;
mod theirs;

use crate::allocations::requested;
use crate::meter::Stretch;
use crate::plan::{Plan, server_core};
use crate::report::Reading;
use crate::sys::process_cpu;
use case::Case;
use std::io;
use std::time::{Duration, Instant};

pub(crate) const SUBJECTS: &[&str] = &["ours", "kafka-protocol"];
pub(crate) const CASES: &[&str] = &[
    "produce, 1 partition, 1 KiB",
    "produce, 10 partitions, 16 KiB",
    "produce, 10000 partitions, 1 KiB",
    "decode a produce, 1 partition, 1 KiB",
    "decode a produce, 10 partitions, 16 KiB",
    "decode a produce, 10000 partitions, 1 KiB",
    "fetch, 1 partition, 16 KiB",
    "fetch, 10 partitions, 16 KiB",
    "fetch, 10000 partitions, 0 B",
    "metadata, 1 topic, 3 partitions",
    "metadata, 10 topics, 3 partitions",
    "metadata, 1000 topics, 10 partitions",
    "validate, 1 record, 1 KiB",
    "validate, 16 records, 16 KiB",
    "validate, 1000 records, 1024 KiB",
];

/// How every case begins that ends once the request was read.
const DECODE: &str = "decode a ";

/// The clock is asked about this often.
const LOOK: Duration = Duration::from_millis(1);

pub(crate) fn weigh(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    core_affinity::set_for_current(server_core());
    let stretch = Stretch { measured: plan.measured };
    if let Some(batch) = batch::parse(case) {
        return validated(subject, batch, stretch);
    }
    if let Some(produce) = case.strip_prefix(DECODE) {
        let frame = Case::parse(produce).frame();
        let shared = bytes::Bytes::from(frame.clone());
        return match subject {
            "ours" => measure(stretch, || ours::decode(&frame)),
            "kafka-protocol" => measure(stretch, || theirs::decode(&shared)),
            other => Err(io::Error::other(format!("no subject is called {other}"))),
        };
    }
    let case = Case::parse(case);
    let frame = case.frame();
    let same = ours::once(&case, &frame) == theirs::once(&case, &frame);
    if !same {
        return Err(io::Error::other("the two do not answer alike"));
    }
    match subject {
        "ours" => {
            let mut desk = ours::Desk::new(&case);
            measure(stretch, || desk.serve(&case, &frame))
        }
        "kafka-protocol" => {
            let mut desk = theirs::Desk::new(&case);
            let frame = bytes::Bytes::from(frame);
            measure(stretch, || desk.serve(&case, &frame))
        }
        other => Err(io::Error::other(format!("no subject is called {other}"))),
    }
}

/// A step of a case for one of the two: `ours: produce, 1 partition, 1 KiB`.
pub(crate) fn path(name: &str) -> Option<Box<dyn FnMut() -> u64>> {
    let (subject, text) = name.split_once(": ")?;
    if !SUBJECTS.contains(&subject) || !CASES.contains(&text) {
        return None;
    }
    let is_ours = subject == "ours";
    if let Some(batch) = batch::parse(text) {
        let (mut ours, theirs) = (batch::Ours::new(batch.clone()), batch::Theirs::new(batch));
        return Some(if is_ours {
            Box::new(move || ours.validate() as u64)
        } else {
            Box::new(move || theirs.decode() as u64)
        });
    }
    if let Some(produce) = text.strip_prefix(DECODE) {
        let frame = Case::parse(produce).frame();
        let shared = bytes::Bytes::from(frame.clone());
        return Some(if is_ours {
            Box::new(move || ours::decode(&frame) as u64)
        } else {
            Box::new(move || theirs::decode(&shared) as u64)
        });
    }
    let case = Case::parse(text);
    let frame = case.frame();
    Some(if is_ours {
        let mut desk = ours::Desk::new(&case);
        Box::new(move || desk.serve(&case, &frame) as u64)
    } else {
        let (mut desk, frame) = (theirs::Desk::new(&case), bytes::Bytes::from(frame));
        Box::new(move || desk.serve(&case, &frame) as u64)
    })
}

fn validated(subject: &str, batch: Vec<u8>, stretch: Stretch) -> io::Result<Vec<Reading>> {
    match subject {
        "ours" => {
            let mut ours = batch::Ours::new(batch);
            measure(stretch, || ours.validate())
        }
        "kafka-protocol" => {
            let theirs = batch::Theirs::new(batch);
            measure(stretch, || theirs.decode())
        }
        other => Err(io::Error::other(format!("no subject is called {other}"))),
    }
}

/// `serve` answers one request and returns how many bytes it wrote.
fn measure(stretch: Stretch, mut serve: impl FnMut() -> usize) -> io::Result<Vec<Reading>> {
    let mut warm = 0;
    let began = Instant::now();
    while warm == 0 || began.elapsed() < stretch.warm_up() {
        serve();
        warm += 1;
    }
    let each = began.elapsed() / warm;
    let at_once = (LOOK.as_nanos() / each.as_nanos().max(1)).max(1);

    let (cpu, asked, began) = (process_cpu()?, requested(), Instant::now());
    let (mut served, mut wrote) = (0_u64, 0);
    while served == 0 || began.elapsed() < stretch.measured {
        for _ in 0..at_once {
            wrote = std::hint::black_box(serve());
            served += 1;
        }
    }
    let (cpu, after) = (process_cpu()?.saturating_sub(cpu), requested());
    assert!(0 < wrote, "an answer has bytes");
    #[expect(clippy::cast_precision_loss, reason = "figures for people, of three digits")]
    let count = |it: u64| it as f64;
    let per = |amount: u64| count(amount) / count(served);
    Ok(vec![
        Reading::new("cpu_ns_per_op", cpu.as_secs_f64() * 1e9 / count(served)),
        Reading::new("allocations_per_op", per(after.times - asked.times)),
        Reading::new("allocated_bytes_per_op", per(after.bytes - asked.bytes)),
    ])
}

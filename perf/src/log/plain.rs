//! The twin without a journal: a file for each partition, plain writes at its end, `fdatasync` of each file
//! that was written before anything is promised.
//!
//! As many appends as the log has in flight form a group: all are written, then each file is flushed
//! once. A single partition thus shares one flush among the group. It ends when its time is over.

use super::accounts::Accounts;
use super::cases::{Case, batch};
use super::{Found, Task};
use crate::meter::Meter;
use crate::sys;
use core_affinity::CoreId;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Descriptors besides those of partitions.
const OTHER_FILES: u64 = 64;

pub(super) fn run(core: CoreId, case: Case, task: &Task) -> io::Result<Found> {
    core_affinity::set_for_current(core);
    let allowed = sys::raise_open_files()?;
    if allowed < u64::from(case.partitions) + OTHER_FILES {
        return Err(io::Error::other(format!("the hard limit on open files is {allowed}")));
    }
    let create = |it| File::create_new(task.folder.join(format!("orders-{it}.log")));
    let files: Vec<File> = (0..case.partitions).map(create).collect::<io::Result<_>>()?;
    let batch = batch(case.batch_bytes);
    let count = case.batches(task.plan.journal_bytes * task.plan.cycles);
    let accounts = Accounts::now(&task.folder)?;
    let mut meter = Meter::start();
    let begun = Instant::now();
    let (mut ends, mut next) = (vec![0; files.len()], 0);
    while next < count && begun.elapsed() < task.time {
        let group = Instant::now();
        let last = count.min(next + case.in_flight as u64);
        let places: Vec<_> = (next..last).map(|it| (it % files.len() as u64) as usize).collect();
        for place in &places {
            files[*place].write_all_at(&batch, ends[*place])?;
            ends[*place] += batch.len() as u64;
        }
        // Each file is flushed once: in turn, no partition comes again before all others did.
        for place in &places[..places.len().min(files.len())] {
            files[*place].sync_data()?;
        }
        places.iter().for_each(|_| meter.record(group.elapsed()));
        next = last;
    }
    accounts.since(&task.folder, &meter.finish(), batch.len())
}

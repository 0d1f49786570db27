//! The floor of large batches: as many durable direct writes of their size in flight, into one file whose
//! blocks are written already, and nothing else.

use super::accounts::Accounts;
use super::cases::Case;
use super::{Found, Task};
use crate::meter::{Meter, Seen};
use crate::on_lane::{self, failed};
use core_affinity::CoreId;
use corelane_core::buf::Slice;
use corelane_core::lane::{Lane, join_all};
use corelane_core::ring::{Access, Fd, Sync};
use std::cell::{Cell, RefCell};
use std::io;
use std::time::Instant;

const FILL_BYTES: usize = 1024 * 1024;

pub(super) fn run(core: CoreId, case: Case, task: Task) -> io::Result<Found> {
    on_lane::run(core, async move |lane| {
        let access = Access { write: true, create: true, direct: true, ..Access::default() };
        let path = task.folder.join("bare");
        let (file, _) = lane.open(path, access).await.map_err(failed)?;
        let fill = block(&lane, FILL_BYTES)?;
        for at in (0..task.plan.journal_bytes).step_by(FILL_BYTES) {
            lane.write_all(&file, at, fill.clone(), Sync::None).await.map_err(failed)?;
        }
        lane.flush(&file).await.map_err(failed)?;
        let block = block(&lane, case.batch_bytes)?;
        let places = case.batches(task.plan.journal_bytes);
        let count = places * task.plan.cycles;
        write_all(&lane, &file, &block, places, places, case.in_flight).await?;
        let accounts = Accounts::now(&task.folder)?;
        let seen = write_all(&lane, &file, &block, count, places, case.in_flight).await?;
        accounts.since(&task.folder, &seen, block.len())
    })
}

fn block(lane: &Lane, bytes: usize) -> io::Result<Slice> {
    let mut buffer = lane.pool().get(bytes).ok_or(io::ErrorKind::OutOfMemory)?;
    buffer.pad_to(bytes);
    Ok(buffer.freeze())
}

async fn write_all(
    lane: &Lane,
    file: &Fd,
    block: &Slice,
    count: u64,
    places: u64,
    in_flight: usize,
) -> io::Result<Seen> {
    let meter = RefCell::new(Meter::start());
    let next = Cell::new(0);
    let writers = (0..in_flight).map(|_| async {
        while next.get() < count {
            let at = next.replace(next.get() + 1) % places * block.len() as u64;
            let begun = Instant::now();
            lane.write_all(file, at, block.clone(), Sync::Data).await.map_err(failed)?;
            meter.borrow_mut().record(begun.elapsed());
        }
        Ok(())
    });
    for ended in join_all(writers).await {
        let ended: io::Result<()> = ended;
        ended?;
    }
    Ok(meter.into_inner().finish())
}

//! The durable write on our own lane: one operation, durable when it completes.

use super::measure::{Measured, Work, measure};
use crate::on_lane::{self, failed};
use core_affinity::CoreId;
use corelane_core::ring::{Access, Sync};
use std::io;
use std::path::PathBuf;

pub(crate) fn run(core: CoreId, path: PathBuf, work: Work) -> io::Result<Measured> {
    on_lane::run(core, async move |lane| {
        let access = Access { write: true, direct: true, ..Access::default() };
        let (file, _) = lane.open(path, access).await.map_err(failed)?;
        let mut buffer = lane.pool().get(work.block_bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        buffer.pad_to(work.block_bytes);
        let block = buffer.freeze();
        let commit = async |position| {
            lane.write_all(&file, position, block.clone(), Sync::Data).await.map_err(failed)?;
            Ok(block.len())
        };
        measure(work, commit).await
    })
}

//! One lane of ours on a real ring, pinned, for as long as one program takes.

use core_affinity::CoreId;
use corelane_core::buf::Pool;
use corelane_core::ids::LaneId;
use corelane_core::lane::{Executor, Lane};
use corelane_core::ring::Errno;
use corelane_core::ring::real::{Peers, RealRing, Refusal, RingSetup};
use std::io;

/// What a lane may hold in buffers here; far more than any case needs.
const POOL_BYTES: usize = 256 * 1024 * 1024;

pub(crate) fn run<T: 'static>(
    core: CoreId,
    program: impl AsyncFnOnce(Lane) -> io::Result<T> + 'static,
) -> io::Result<T> {
    core_affinity::set_for_current(core);
    let peers = Peers::new(1).map_err(refused)?;
    let setup = RingSetup::new(LaneId(0), &peers, Pool::new(POOL_BYTES));
    let ring = RealRing::open(setup).map_err(refused)?;
    let mut executor = Executor::new(Box::new(ring));
    let lane = executor.lane().clone();
    executor.block_on(async move { program(lane).await })
}

/// An operation's error, as the rest of this program speaks of errors.
pub(crate) fn failed(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn refused(refusal: Refusal) -> io::Error {
    io::Error::other(format!("{refusal}; {}", refusal.remedy()))
}

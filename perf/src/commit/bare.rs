//! Nothing but the write. A ring of its own with one entry in flight, or one blocking call.
#![expect(
    unsafe_code,
    reason = "the ring takes raw buffers; each submission is waited for at once"
)]

use super::measure::{Measured, Work, measure};
use crate::sys;
use futures_lite::future::block_on;
use io_uring::{IoUring, opcode, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const RING_ENTRIES: u32 = 8;

pub(crate) fn ring(file: &File, block: &[u8], work: Work) -> io::Result<Measured> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(RING_ENTRIES)
        .map_err(|it| io::Error::new(it.kind(), format!("io_uring_setup: {it}")))?;
    let length = u32::try_from(block.len()).expect("blocks are at most some MiB");
    block_on(measure(work, async |position| {
        let write = opcode::Write::new(types::Fd(file.as_raw_fd()), block.as_ptr(), length)
            .offset(position)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        // SAFETY: `block` and `file` outlive this closure's call, and the call does not end before
        // the one completion is there: there is no await between here and it.
        unsafe { ring.submission().push(&write) }.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        let completion = ring.completion().next().ok_or(io::ErrorKind::WouldBlock)?;
        match completion.result() {
            count if count < 0 => Err(io::Error::from_raw_os_error(-count)),
            count => Ok(usize::try_from(count).expect("a count is not negative")),
        }
    }))
}

pub(crate) fn call(file: &File, block: &[u8], work: Work) -> io::Result<Measured> {
    block_on(measure(work, async |position| sys::write_durably(file, block, position)))
}

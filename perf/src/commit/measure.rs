//! One commit after the other for a stretch of time, whoever makes them.

use crate::meter::{Meter, Seen, Stretch};
use crate::sys;
use std::io;
use std::time::{Duration, Instant};

/// What is written, where, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) block_bytes: usize,
    /// How many blocks the file has; they are written in order, again and again.
    pub(crate) places: u64,
    pub(crate) stretch: Stretch,
}

/// What was seen, and the CPU time of the whole process meanwhile.
pub(crate) struct Measured {
    pub(crate) seen: Seen,
    pub(crate) cpu: Duration,
}

/// `commit` makes one block durable at a position and says how many bytes it wrote.
pub(crate) async fn measure(
    work: Work,
    mut commit: impl AsyncFnMut(u64) -> io::Result<usize>,
) -> io::Result<Measured> {
    let mut positions = (0..work.places).cycle().map(|it| it * work.block_bytes as u64);
    let mut for_time = async |time| {
        let mut meter = Meter::start();
        let cpu = sys::process_cpu()?;
        let started = Instant::now();
        let mut before = started;
        while before - started < time {
            let written = commit(positions.next().expect("a cycle does not end")).await?;
            if written < work.block_bytes {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "the write was cut short"));
            }
            let now = Instant::now();
            meter.record(now - before);
            before = now;
        }
        Ok(Measured { cpu: sys::process_cpu()? - cpu, seen: meter.finish() })
    };
    for_time(work.stretch.warm_up()).await?;
    for_time(work.stretch.measured).await
}

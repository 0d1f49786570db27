//! Asks the data disk how long it takes to make a block durable, through a ring as a lane does.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use corelane_core::buf::Pool;
use corelane_core::ids::LaneId;
use corelane_core::lane::{Executor, Lane};
use corelane_core::ring::real::{Peers, RealRing, RingSetup, check_direct_io};
use corelane_core::ring::{Access, Errno, FileKind, Sync};
use corelane_core::time::Nanos;
use hdrhistogram::Histogram;

const BLOCK_BYTES: usize = 4096;
/// Large enough that the disk cannot keep rewriting one place.
const FILE_BYTES: u64 = 16 << 20;
const FILL_BYTES: usize = 1 << 20;
const POOL_BYTES: usize = 8 << 20;
/// A flush that takes longer is recorded as this.
const LATENCY_US_MAX: u64 = 60_000_000;
const BAR_WIDTH: u64 = 40;
const BAR_EVERY: Nanos = Nanos::millis(100);
const NAME: &str = "corelane-tune.tmp";

/// Latencies in microseconds.
pub(super) fn flushes(data: &Path, seconds: u64) -> Result<Histogram<u64>, String> {
    let there = data.ancestors().find(|it| it.is_dir()).unwrap_or_else(|| Path::new("."));
    check_direct_io(there).map_err(|it| it.to_string())?;
    let peers = Peers::new(1).map_err(|it| it.to_string())?;
    let setup = RingSetup::new(LaneId(0), &peers, Pool::new(POOL_BYTES));
    let ring = RealRing::open(setup).map_err(|it| it.to_string())?;
    let mut executor = Executor::new(Box::new(ring));
    let lane = executor.lane().clone();
    let path = there.join(NAME);
    let shown = path.display().to_string();
    let work = async move {
        let seen = ask(&lane, &path, seconds).await;
        match lane.remove(path, FileKind::File).await {
            Err(errno) if seen.is_ok() && errno != Errno::NOENT => Err(errno),
            _ => seen,
        }
    };
    executor.block_on(work).map_err(|it| format!("{shown}: {it}"))
}

async fn ask(lane: &Lane, path: &PathBuf, seconds: u64) -> Result<Histogram<u64>, Errno> {
    let access = Access { write: true, create: true, direct: true, ..Access::default() };
    let (file, _) = lane.open(path, access).await?;
    let filling = block(lane, FILL_BYTES)?;
    for at in (0..FILE_BYTES).step_by(FILL_BYTES) {
        lane.write_all(&file, at, filling.clone(), Sync::None).await?;
    }
    lane.flush(&file).await?;
    let block = block(lane, BLOCK_BYTES)?;
    let mut latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .expect("the bounds are in order and the digits few");
    let begun = lane.now();
    let span = Nanos::millis(seconds.saturating_mul(1_000));
    let mut bar = Bar::default();
    let mut places = (0..FILE_BYTES).step_by(BLOCK_BYTES).cycle();
    loop {
        let before = lane.now();
        bar.show(before - begun, span, latencies.len());
        if span <= before - begun {
            bar.end();
            return Ok(latencies);
        }
        let at = places.next().expect("a cycle does not end");
        lane.write_all(&file, at, block.clone(), Sync::Data).await?;
        latencies.saturating_record((lane.now() - before).0 / 1_000);
    }
}

fn block(lane: &Lane, bytes: usize) -> Result<corelane_core::buf::Slice, Errno> {
    let mut block = lane.pool().get(bytes).ok_or(Errno::NOMEM)?;
    block.pad_to(bytes);
    Ok(block.freeze())
}

/// How far we are, for whoever watches; into a file goes nothing.
#[derive(Default)]
struct Bar {
    shown: Option<Nanos>,
}

impl Bar {
    fn show(&mut self, now: Nanos, span: Nanos, flushes: u64) {
        let due = self.shown.is_none_or(|it| BAR_EVERY <= now - it);
        if !due || !std::io::stderr().is_terminal() {
            return;
        }
        self.shown = Some(now);
        eprint!("\r{}", bar(now, span, flushes));
        drop(std::io::stderr().flush());
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

fn bar(now: Nanos, span: Nanos, flushes: u64) -> String {
    let done = (BAR_WIDTH * now.0.min(span.0) / span.0.max(1)) as usize;
    let rest = BAR_WIDTH as usize - done;
    let seconds = span.0 / 1_000_000_000;
    format!(
        "asking the disk [{}{}] {flushes} flushes in {seconds} s",
        "#".repeat(done),
        ".".repeat(rest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_full_at_the_end() {
        let second = Nanos::millis(1_000);
        let half = bar(Nanos::millis(500), second, 7);
        assert_eq!(
            half,
            format!("asking the disk [{}{}] 7 flushes in 1 s", "#".repeat(20), ".".repeat(20))
        );
        assert!(bar(Nanos::millis(1_500), second, 9).contains(&"#".repeat(40)));
    }
}

//! `commit`: what it costs to make a block durable, one at a time, into extents that are written already.
//!
//! All subjects write the same file in the same order, with direct I/O. `bare` is the floor: a ring with
//! a single `RWF_DSYNC` write in flight and nothing around it; `call` the same as one blocking call.
//!
//! The flush behind an asynchronous direct write runs in a worker of the kernel, which is charged to
//! nobody, and which waits for its turn where other programs keep the core busy: measure on a quiet
//! machine. The blocking call flushes by itself and is charged for it.

mod bare;
mod glommio;
mod lane;
mod measure;

use crate::meter::Stretch;
use crate::plan::Plan;
use crate::report::Reading;
use crate::subject::Subject;
use crate::sys::AlignedBlock;
use core_affinity::CoreId;
use measure::Work;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

pub(crate) const SUBJECTS: &[&str] = &["lane", "bare", "call", "glommio"];
pub(crate) const CASES: &[&str] = &["4 KiB", "64 KiB", "1 MiB"];

const FILE_BYTES: usize = 16 * 1024 * 1024;
const FILL_BYTES: usize = 1024 * 1024;

fn block_bytes(case: &str) -> usize {
    match case {
        "4 KiB" => 4 * 1024,
        "64 KiB" => 64 * 1024,
        "1 MiB" => 1024 * 1024,
        other => panic!("a case without a block: {other}"),
    }
}

pub(crate) fn weigh(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let target = Target::create(&plan.folder)?;
    let arguments = [
        "commit",
        subject,
        target.0.to_str().ok_or_else(|| io::Error::other("the folder's name is not text"))?,
        &block_bytes(case).to_string(),
        &plan.measured.as_nanos().to_string(),
    ];
    Subject::start(&arguments.map(str::to_owned))?.expect_readings(METRICS)
}

const METRICS: &[&str] = &["cpu_us_per_op", "p50_us", "p99_us", "p999_us", "ops_per_s", "mb_per_s"];

/// The child: commits for the time it was given and says what it saw.
pub(crate) fn run(
    core: CoreId,
    subject: &str,
    path: &Path,
    block_bytes: usize,
    time: Duration,
) -> io::Result<()> {
    let places = (FILE_BYTES / block_bytes) as u64;
    let work = Work { block_bytes, places, stretch: Stretch { measured: time } };
    let measured = match subject {
        "glommio" => glommio::run(core.id, path.to_owned(), work)?,
        "lane" => lane::run(core, path.to_owned(), work)?,
        plain => {
            core_affinity::set_for_current(core);
            let file = open_direct(OpenOptions::new().write(true), path)?;
            let memory = AlignedBlock::new(block_bytes);
            match plain {
                "bare" => bare::ring(&file, memory.bytes(), work)?,
                "call" => bare::call(&file, memory.bytes(), work)?,
                other => return Err(io::Error::other(format!("nobody commits as {other}"))),
            }
        }
    };
    let operations = measured.seen.operations as f64;
    let values = [
        measured.cpu.as_secs_f64() * 1e6 / operations,
        measured.seen.micros_at(0.5),
        measured.seen.micros_at(0.99),
        measured.seen.micros_at(0.999),
        measured.seen.per_second(operations),
        measured.seen.per_second(operations * block_bytes as f64 / 1e6),
    ];
    let readings: Vec<_> =
        METRICS.iter().zip(values).map(|(metric, value)| format!("{metric}={value}")).collect();
    println!("readings {}", readings.join(" "));
    Ok(())
}

/// The file all subjects write, its extents written once; gone when this is dropped.
struct Target(PathBuf);

impl Target {
    fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("corelane-perf-{}.tmp", process::id()));
        let file = open_direct(OpenOptions::new().write(true).create(true).truncate(true), &path)?;
        let target = Self(path);
        let memory = AlignedBlock::new(FILL_BYTES);
        for position in (0..FILE_BYTES).step_by(FILL_BYTES) {
            file.write_all_at(memory.bytes(), position as u64)?;
        }
        file.sync_all()?;
        Ok(target)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(it) = fs::remove_file(&self.0) {
            eprintln!("{} stays behind: {it}", self.0.display());
        }
    }
}

fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(libc::O_DIRECT).open(path).map_err(|it| {
        let why = match it.raw_os_error() {
            Some(libc::EINVAL) => "; its file system has no direct I/O, choose another with --dir",
            _ => "",
        };
        io::Error::new(it.kind(), format!("{}: {it}{why}", path.display()))
    })
}

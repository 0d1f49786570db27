//! What this process was charged for, and what its disk wrote meanwhile.

use super::Found;
use crate::allocations::{Requested, requested};
use crate::meter::Seen;
use crate::sys;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The unit of the kernel's block statistics, whatever the disk's sectors are.
const SECTOR_BYTES: u64 = 512;
/// Where they tell the sectors written.
const SECTORS_WRITTEN_FIELD: usize = 6;

pub(super) struct Accounts {
    cpu: Duration,
    allocations: Requested,
    /// Bytes this process had the kernel write, if the kernel counts them.
    written: Option<u64>,
    /// Bytes the disk wrote, whoever asked; not every file system has a disk.
    device: Option<u64>,
}

impl Accounts {
    pub(super) fn now(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            cpu: sys::process_cpu()?,
            allocations: requested(),
            written: line_of("/proc/self/io", "write_bytes:"),
            device: device_bytes(folder)?,
        })
    }

    /// What came since then: `seen` batches of `bytes` each.
    pub(super) fn since(self, folder: &Path, seen: &Seen, bytes: usize) -> io::Result<Found> {
        let now = Self::now(folder)?;
        let batches = seen.operations as f64;
        let payload = batches * bytes as f64;
        let allocations = now.allocations.times.wrapping_sub(self.allocations.times);
        let mut found = vec![
            ("p50_us", seen.micros_at(0.5)),
            ("p99_us", seen.micros_at(0.99)),
            ("batches_per_s", seen.per_second(batches)),
            ("mb_per_s", seen.per_second(payload / 1e6)),
            ("cpu_us_per_batch", (now.cpu - self.cpu).as_secs_f64() * 1e6 / batches),
            ("allocs_per_batch", allocations as f64 / batches),
        ];
        let mut per_byte = |metric, now: Option<u64>, before: Option<u64>| {
            if let (Some(now), Some(before)) = (now, before) {
                found.push((metric, (now - before) as f64 / payload));
            }
        };
        per_byte("written_per_byte", now.written, self.written);
        per_byte("device_per_byte", now.device, self.device);
        if let Some(kib) = line_of("/proc/self/status", "VmHWM:") {
            found.push(("peak_mib", kib as f64 / 1024.0));
        }
        Ok(found)
    }
}

/// The number behind `name`, if there is one.
pub(super) fn line_of(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|it| it.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn device_bytes(folder: &Path) -> io::Result<Option<u64>> {
    let device = fs::metadata(folder)?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let Ok(text) = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")) else {
        return Ok(None);
    };
    let sectors = text.split_whitespace().nth(SECTORS_WRITTEN_FIELD);
    Ok(sectors.and_then(|it| it.parse::<u64>().ok()).map(|it| it * SECTOR_BYTES))
}

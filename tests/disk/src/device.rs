//! A disk that loses power: one file, served by us to the kernel, with what was flushed apart from what was
//! only written.
//!
//! The kernel mounts it as a file system of one file (FUSE); a loop device over that file turns a flush of
//! the block layer into a flush of the file, so whatever lies above it is as durable as it asked to be. When
//! power is cut, everything is answered with an error, and of the sectors written since their last flush
//! some may be kept, or none.
//!
//! - DEVICE-1: a flush covers what was written before it came, and nothing else makes a sector durable;
//! - DEVICE-2: sectors are kept or lost one by one, so writes tear and come out of order.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::dice::Dice;
use crate::machine::{Trouble, done, unmount};

const SECTOR_BYTES: usize = 512;

/// One read or write of the kernel at most.
const IO_BYTES_MAX: usize = 1 << 20;

/// Beside its bytes, what a request may take.
const REQUEST_BYTES_MAX: usize = IO_BYTES_MAX + 8192;

const LOOK: Duration = Duration::from_millis(1);
const LOOKS_MAX: u32 = 5000;

/// Which of the sectors that were not flushed are still there when power is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    None,
    /// Each by a toss.
    Some,
}

#[derive(Debug, Default)]
struct Disk {
    written: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges of sectors written since the last flush.
    open: Vec<(usize, usize)>,
    without_power: bool,
    /// Power goes with the last of so many writes.
    writes_left: Option<u64>,
    flushes: u64,
}

impl Disk {
    fn write(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.written.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        let (from, to) = (at / SECTOR_BYTES, (at + bytes.len()).div_ceil(SECTOR_BYTES));
        match self.open.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => self.open.push((from, to)),
        }
        if let Some(left) = &mut self.writes_left {
            *left = left.saturating_sub(1);
            self.without_power |= *left == 0;
        }
        Some(())
    }

    fn flush(&mut self) {
        for (from, to) in std::mem::take(&mut self.open) {
            let range = from * SECTOR_BYTES..to * SECTOR_BYTES;
            self.durable[range.clone()].copy_from_slice(&self.written[range]);
        }
        self.flushes += 1;
    }

    /// What is there when power is back. Says how many sectors were kept and lost.
    fn lose(&mut self, keep: Keep, dice: &mut Dice) -> (usize, usize) {
        let (mut kept, mut lost) = (0, 0);
        for (from, to) in std::mem::take(&mut self.open) {
            for sector in from..to {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                if self.written[range.clone()] == self.durable[range.clone()] {
                    continue;
                }
                if keep == Keep::Some && dice.below(2) == 0 {
                    kept += 1;
                    self.durable[range.clone()].copy_from_slice(&self.written[range]);
                } else {
                    lost += 1;
                    self.written[range.clone()].copy_from_slice(&self.durable[range]);
                }
            }
        }
        self.without_power = false;
        self.writes_left = None;
        (kept, lost)
    }
}

/// The disk's file, for as long as this lives.
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    disk: Arc<Mutex<Disk>>,
    server: Option<thread::JoinHandle<()>>,
}

impl Device {
    /// Shows a disk of zeroes as `path`, which is made.
    pub(crate) fn create(path: &Path, bytes: usize) -> Result<Self, Trouble> {
        let channel = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let channel = channel.map_err(|error| Trouble::of("opening /dev/fuse", &error))?;
        File::create(path).map_err(|error| Trouble::of("making a file to mount on", &error))?;
        let disk = Disk { written: vec![0; bytes], durable: vec![0; bytes], ..Disk::default() };
        let disk = Arc::new(Mutex::new(disk));
        let input = channel.try_clone().map_err(|error| Trouble::of("sharing a file", &error))?;
        // The channel is handed over as the standard input: then it needs no number of its own.
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o"]);
        mount.arg("fd=0,rootmode=100600,user_id=0,group_id=0,max_read=1048576");
        mount.arg("corelane-disk").arg(path).stdin(Stdio::from(input));
        done(&mut mount)?;
        let served = Arc::clone(&disk);
        let server = thread::spawn(move || {
            if let Err(error) = serve(channel, &served) {
                println!("# the disk is gone: {error}");
            }
        });
        Ok(Self { path: path.to_owned(), disk, server: Some(server) })
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("the disk's server does not panic")
    }

    /// After so many more writes nothing is read, written or flushed: most often a write is taken then
    /// whose flush is not. Returns once that is so.
    pub(crate) fn cut_power(&self, after_writes: u64) {
        self.disk().writes_left = Some(after_writes);
        let mut looks = 0;
        while !self.disk().without_power {
            thread::sleep(LOOK);
            looks += 1;
            // Whoever wrote has stopped: power goes all the same.
            self.disk().without_power |= looks == LOOKS_MAX;
        }
    }

    /// Brings back what power left; how many sectors were kept and lost that had not been flushed.
    pub(crate) fn restore_power(&self, keep: Keep, dice: &mut Dice) -> (usize, usize) {
        self.disk().lose(keep, dice)
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.disk().flushes
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(trouble) = unmount(&self.path) {
            println!("# {trouble}");
            return;
        }
        let server = self.server.take().expect("dropped once");
        drop(server.join());
    }
}

/// What the kernel asks, by its numbers.
mod ask {
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
}

const IO_ERROR: i32 = 5;
const INVALID: i32 = 22;
const NO_SUCH_CALL: i32 = 38;
/// What a read of the channel says once the disk was unmounted.
const UNMOUNTED: i32 = 19;
/// What it says when a request went away before it was read.
const WITHDRAWN: i32 = 2;

const HEADER_BYTES: usize = 40;
/// Before the bytes of a write, after its header.
const WRITE_HEAD_BYTES: usize = 40;

/// Answers the kernel until the disk is unmounted. One request after the other: a flush covers what was
/// answered before it (DEVICE-1).
fn serve(mut channel: File, disk: &Mutex<Disk>) -> io::Result<()> {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    let mut reply = Vec::with_capacity(REQUEST_BYTES_MAX);
    loop {
        let bytes = match channel.read(&mut request) {
            Ok(bytes) => bytes,
            Err(error) if error.raw_os_error() == Some(UNMOUNTED) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(WITHDRAWN) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let request = &request[..bytes];
        let opcode = word(request, 4);
        if matches!(opcode, ask::FORGET | ask::BATCH_FORGET | ask::INTERRUPT) {
            continue;
        }
        reply.clear();
        reply.resize(16, 0);
        let mut disk = disk.lock().expect("whoever else holds the disk does not panic");
        let outcome = answer(&mut disk, opcode, request, &mut reply);
        drop(disk);
        if outcome.is_err() {
            reply.truncate(16);
        }
        let length = u32::try_from(reply.len()).expect("bounded by the largest read");
        reply[..4].copy_from_slice(&length.to_ne_bytes());
        reply[4..8].copy_from_slice(&(-outcome.err().unwrap_or(0)).to_ne_bytes());
        reply[8..16].copy_from_slice(&request[8..16]);
        match channel.write(&reply) {
            Ok(_) => {}
            // Whoever asked is gone.
            Err(error) if error.raw_os_error() == Some(WITHDRAWN) => {}
            Err(error) => return Err(error),
        }
        if opcode == ask::DESTROY {
            return Ok(());
        }
    }
}

/// Puts an answer behind the head of `reply`, or gives an error's number.
fn answer(disk: &mut Disk, opcode: u32, request: &[u8], reply: &mut Vec<u8>) -> Result<(), i32> {
    let body = &request[HEADER_BYTES..];
    match opcode {
        ask::INIT => {
            // Version 7.31 of the protocol; large requests.
            let flags: u32 = 1 << 5 | 1 << 22;
            for it in [7, 31, word(body, 8), flags] {
                reply.extend(u32::to_ne_bytes(it));
            }
            reply.extend([16, 0, 12, 0]); // requests under way, and when it is called crowded
            reply.extend((IO_BYTES_MAX as u32).to_ne_bytes());
            reply.extend(1u32.to_ne_bytes());
            reply.extend(((IO_BYTES_MAX / 4096) as u16).to_ne_bytes());
            reply.resize(16 + 64, 0);
        }
        ask::GETATTR | ask::SETATTR => {
            reply.extend([0; 16]); // valid for no time at all
            let bytes = disk.written.len() as u64;
            for it in [1, bytes, bytes / 512, 0, 0, 0] {
                reply.extend(u64::to_ne_bytes(it));
            }
            for it in [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0] {
                reply.extend(u32::to_ne_bytes(it));
            }
        }
        ask::OPEN => reply.extend([0; 16]),
        ask::STATFS => {
            reply.extend([0; 40]);
            for it in [4096, 255, 4096] {
                reply.extend(u32::to_ne_bytes(it));
            }
            reply.resize(16 + 80, 0);
        }
        ask::READ | ask::WRITE | ask::FSYNC if disk.without_power => return Err(IO_ERROR),
        ask::READ => {
            let (at, bytes) = place(body);
            let range = at..at.saturating_add(bytes).min(disk.written.len());
            reply.extend(disk.written.get(range).unwrap_or_default());
        }
        ask::WRITE => {
            let (at, bytes) = place(body);
            let data = &body[WRITE_HEAD_BYTES..];
            disk.write(at, data.get(..bytes).ok_or(INVALID)?).ok_or(INVALID)?;
            reply.extend(word(body, 16).to_ne_bytes());
            reply.extend([0; 4]);
        }
        ask::FSYNC => disk.flush(),
        ask::FLUSH | ask::RELEASE | ask::DESTROY => {}
        _ => return Err(NO_SUCH_CALL),
    }
    Ok(())
}

/// Offset and size of a read or write.
fn place(body: &[u8]) -> (usize, usize) {
    let at = u64::from_ne_bytes(*body[8..].first_chunk().expect("the kernel's own structure"));
    (usize::try_from(at).unwrap_or(usize::MAX), word(body, 16) as usize)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(*bytes[at..].first_chunk().expect("the kernel's own structure"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_stays_and_of_the_rest_each_sector_for_itself() {
        for keep in [Keep::None, Keep::Some] {
            let bytes = 64 * SECTOR_BYTES;
            let mut disk =
                Disk { written: vec![0; bytes], durable: vec![0; bytes], ..Disk::default() };
            disk.write(0, &[1; 32 * SECTOR_BYTES]).expect("inside");
            disk.flush();
            disk.write(16 * SECTOR_BYTES, &[2; 32 * SECTOR_BYTES]).expect("inside");
            let (kept, lost) = disk.lose(keep, &mut Dice::new(1));
            assert_eq!(kept + lost, 32);
            assert_eq!(0 < kept, keep == Keep::Some);
            assert!(0 < lost);
            let count = |value| disk.written.iter().filter(|it| **it == value).count();
            assert_eq!(count(2), kept * SECTOR_BYTES);
            assert!(disk.written[..16 * SECTOR_BYTES].iter().all(|it| *it == 1));
            assert_eq!(disk.written, disk.durable);
            assert_eq!(disk.write(bytes - 1, &[0; 2]), None, "beyond the end");
        }
    }
}

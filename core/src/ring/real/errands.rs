//! Helper threads for what would block the lane and has no ring operation on this kernel: one, and a
//! few for directories that are made durable, which a disk does together in the time of one.
//!
//! Each errand belongs to an operation in flight, so their number is bounded by the ring's slots.
//! The operation stays with the ring; the errand carries copies of what it needs, and the
//! descriptors it names stay open because the operation holds them.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use crossbeam_queue::SegQueue;

use super::peers::Peers;
use super::sys;
use crate::ids::LaneId;
use crate::ring::{Entry, Errno, FileKind, Outcome};

/// Threads that make directories durable, at most.
const FLUSHERS: usize = 8;

/// Bytes read at once to warm the page cache.
const SCRATCH_BYTES: usize = 128 * 1024;

pub(super) enum Errand {
    List(PathBuf),
    FlushDir(PathBuf),
    Space(PathBuf),
    Warm { file: RawFd, at: u64, bytes: u32 },
    Truncate { file: RawFd, bytes: u64 },
    Rename(PathBuf, PathBuf),
    Remove(PathBuf, FileKind),
    MakeDir(PathBuf),
}

pub(super) struct Done {
    pub(super) slot: u32,
    pub(super) result: Result<Outcome, Errno>,
}

/// The way to the running helper. It ends when the way is closed.
type Running = (Sender<(u32, Errand)>, JoinHandle<()>);

/// The helpers, each started with its first errand.
pub(super) struct Errands {
    peers: Peers,
    lane: LaneId,
    done: Arc<SegQueue<Done>>,
    /// The first one does all but making directories durable.
    running: [Option<Running>; 1 + FLUSHERS],
    /// Errands that each of them has not ended.
    busy: [Arc<AtomicUsize>; 1 + FLUSHERS],
    sent: u64,
}

impl Errands {
    pub(super) fn new(peers: Peers, lane: LaneId) -> Self {
        Self {
            peers,
            lane,
            done: Arc::default(),
            running: Default::default(),
            busy: Default::default(),
            sent: 0,
        }
    }

    pub(super) fn send(&mut self, slot: u32, errand: Errand) {
        self.sent += 1;
        let helper = match errand {
            // The first that has nothing to do: few are started where little is to be done.
            Errand::FlushDir(_) => {
                let busy = |it: &usize| self.busy[*it].load(Ordering::Relaxed);
                (1..=FLUSHERS).min_by_key(busy).expect("there are some")
            }
            _ => 0,
        };
        if self.running[helper].is_none() {
            match self.start(helper) {
                Ok(it) => self.running[helper] = Some(it),
                Err(error) => {
                    let errno = Errno(error.raw_os_error().unwrap_or(libc::EAGAIN));
                    self.done.push(Done { slot, result: Err(errno) });
                    self.peers.of(self.lane).nudge();
                    return;
                }
            }
        }
        self.busy[helper].fetch_add(1, Ordering::Relaxed);
        let (sender, _) = self.running[helper].as_ref().expect("started above");
        sender.send((slot, errand)).expect("a helper lives as long as its sender");
    }

    pub(super) fn next_done(&self) -> Option<Done> {
        self.done.pop()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    fn start(&self, helper: usize) -> std::io::Result<Running> {
        let (sender, errands) = mpsc::channel::<(u32, Errand)>();
        let (peers, lane, done) = (self.peers.clone(), self.lane, Arc::clone(&self.done));
        let busy = Arc::clone(&self.busy[helper]);
        let work = move || {
            let mut scratch = Vec::new();
            for (slot, errand) in errands {
                let result = run(errand, &mut scratch);
                busy.fetch_sub(1, Ordering::Relaxed);
                done.push(Done { slot, result });
                peers.of(lane).nudge();
            }
        };
        let name = match helper {
            0 => format!("helper-{}", lane.0),
            flusher => format!("flusher-{}-{flusher}", lane.0),
        };
        let thread = std::thread::Builder::new().name(name).spawn(work)?;
        Ok((sender, thread))
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        for (sender, thread) in self.running.iter_mut().filter_map(Option::take) {
            drop(sender);
            thread.join().expect("a helper does not panic");
        }
    }
}

fn run(errand: Errand, scratch: &mut Vec<u8>) -> Result<Outcome, Errno> {
    match errand {
        Errand::List(path) => return list(path).map(Outcome::Entries).map_err(errno_of),
        Errand::Space(path) => return sys::space(&path).map(Outcome::Space),
        Errand::FlushDir(path) => {
            let dir = fs::File::open(path).map_err(errno_of)?;
            if !dir.metadata().map_err(errno_of)?.is_dir() {
                return Err(Errno::NOTDIR);
            }
            dir.sync_all().map_err(errno_of)?;
        }
        Errand::Warm { file, at, bytes } => {
            scratch.resize(SCRATCH_BYTES, 0);
            sys::warm(file.as_raw_fd(), at, bytes, scratch)?;
        }
        Errand::Truncate { file, bytes } => sys::truncate(file, bytes)?,
        Errand::Rename(from, to) => fs::rename(from, to).map_err(errno_of)?,
        Errand::Remove(path, FileKind::File) => fs::remove_file(path).map_err(errno_of)?,
        Errand::Remove(path, FileKind::Dir) => fs::remove_dir(path).map_err(errno_of)?,
        Errand::MakeDir(path) => {
            fs::DirBuilder::new().mode(super::DIR_MODE).create(path).map_err(errno_of)?;
        }
    }
    Ok(Outcome::Done)
}

/// Names that are not text are not ours, so nobody asks for them: they are left out.
fn list(path: PathBuf) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = if entry.file_type()?.is_dir() { FileKind::Dir } else { FileKind::File };
        if let Ok(name) = entry.file_name().into_string() {
            entries.push(Entry { name, kind });
        }
    }
    Ok(entries)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err by name")]
fn errno_of(error: std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

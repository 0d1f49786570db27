//! Operations on files: when they take effect, and what befalls them. What that means for the disk, the
//! [disk](super::disk) knows.

use super::disk::{Verdict, is_aligned};
use super::faults::Fault;
use super::image::SECTOR_BYTES;
use super::kernel::{Event, Kernel, OpId, Open};
use super::names::Ino;
use super::world::NodeId;
use crate::limits::BLOCK_BYTES;
use crate::ring::{Errno, Op, Outcome, Sync};
use crate::time::Nanos;

/// How often a part of a file is not in the page cache any more.
const EVICTED_PPM: u32 = 125_000;

/// What a file operation is about, once its descriptor is known.
#[derive(Clone, Copy)]
struct Target {
    ino: Ino,
    direct: bool,
    write: bool,
}

impl Kernel {
    pub(super) fn start_file(&mut self, id: OpId) {
        if let Err(errno) = self.begin_file(id) {
            self.complete(id, Err(errno));
            return;
        }
        self.record(self.ops[&id].key.node);
        let flight = &self.ops[&id];
        let node = flight.key.node;
        let (low_us, high_us) = match &flight.op {
            Op::Read { .. } => (50, 150),
            Op::Write { sync: Sync::None, .. } => (10, 60),
            Op::Write { sync: Sync::Data, .. } => (60, 250),
            Op::Flush { .. } | Op::FlushDir { .. } => (80, 800),
            _ => (5, 100),
        };
        let mut span = self.chance.between(low_us * 1000, high_us * 1000);
        if self.strikes(node, Fault::SlowDisk) {
            span *= self.chance.between(10, 1000);
        }
        if self.strikes(node, Fault::StalledDisk) {
            let stall = self.chance.between(100_000_000, 10_000_000_000);
            self.nodes[node.0].disk_stalled_until = self.now + Nanos(stall);
        }
        span *= self.nodes[node.0].disk_slowness;
        let begins = self.now.max(self.nodes[node.0].disk_stalled_until);
        self.at(begins + Nanos(span), Event::Finish(id));
    }

    /// Refuses what is wrong from the start.
    fn begin_file(&mut self, id: OpId) -> Result<(), Errno> {
        let flight = &self.ops[&id];
        let node = flight.key.node;
        match &flight.op {
            Op::Write { file, at, data, sync } => {
                let target = self.target(node, file)?;
                let (at, data, sync) = (*at, data.clone(), *sync);
                if !target.write {
                    return Err(Errno::BADF);
                }
                if target.direct && !is_aligned(at, data.len(), data.offset_in_block()) {
                    return Err(Errno::INVAL);
                }
                if self.strikes(node, Fault::SpaceGone) {
                    return Err(Errno::NOSPC);
                }
                let disk = &mut self.nodes[node.0].disk;
                let write = disk.begin_write(target.ino, at, &data, sync)?;
                self.ops.get_mut(&id).expect("looked at above").write = Some(write);
            }
            Op::Read { file, at, buf, bytes_max } => {
                let target = self.target(node, file)?;
                let bytes = buf.room().min(*bytes_max);
                if target.direct && !is_aligned(*at, bytes, buf.len()) {
                    return Err(Errno::INVAL);
                }
            }
            Op::Flush { file } | Op::Lock { file } => {
                self.target(node, file)?;
            }
            Op::Allocate { file, .. } | Op::Truncate { file, .. } => {
                let target = self.target(node, file)?;
                return if target.write { Ok(()) } else { Err(Errno::BADF) };
            }
            _ => {}
        }
        Ok(())
    }

    fn target(&self, node: NodeId, fd: &crate::ring::Fd) -> Result<Target, Errno> {
        match self.open(node, fd) {
            Some(Open::File { ino, direct, write }) => Ok(Target { ino, direct, write }),
            Some(Open::Listener { .. } | Open::Socket(_)) => Err(Errno::INVAL),
            None => Err(Errno::BADF),
        }
    }

    /// The operation takes effect now.
    pub(super) fn finish_file(&mut self, id: OpId) {
        let Some(flight) = self.ops.get(&id) else { return };
        let node = flight.key.node;
        let result = match &flight.op {
            Op::Read { .. } => self.finish_read(id),
            Op::Write { .. } => self.finish_write(id),
            Op::Flush { file } => {
                let (target, until) = (self.target(node, file), flight.submitted);
                target.and_then(|it| self.flush(node, it.ino, until))
            }
            Op::FlushDir { path } => {
                let path = path.clone();
                self.disk_fails(node, Fault::FlushError)
                    .and_then(|()| self.nodes[node.0].disk.flush_dir(&path))
                    .map(|()| Outcome::Done)
            }
            Op::Open { path, access } => {
                let (path, access) = (path.clone(), *access);
                self.finish_open(node, &path, access)
            }
            Op::Allocate { file, at, bytes } => {
                let (target, at, bytes) = (self.target(node, file), *at, *bytes);
                let full = self.strikes(node, Fault::SpaceGone);
                target
                    .and_then(|it| if full { Err(Errno::NOSPC) } else { Ok(it) })
                    .and_then(|it| self.nodes[node.0].disk.allocate(it.ino, at, bytes))
                    .map(|()| Outcome::Done)
            }
            Op::Truncate { file, bytes } => {
                let (target, bytes) = (self.target(node, file), *bytes);
                target
                    .map(|it| self.nodes[node.0].disk.truncate(it.ino, bytes))
                    .map(|()| Outcome::Done)
            }
            Op::Lock { file } => {
                let (target, number) = (self.target(node, file), file.number());
                target.and_then(|it| self.lock(node, it.ino, number))
            }
            Op::Rename { from, to } => {
                let (from, to) = (from.clone(), to.clone());
                if self.strikes(node, Fault::SpaceGone) {
                    Err(Errno::NOSPC)
                } else {
                    self.nodes[node.0].disk.rename(&from, &to).map(|()| Outcome::Done)
                }
            }
            Op::Remove { path, kind } => {
                self.nodes[node.0].disk.remove(path, *kind).map(|()| Outcome::Done)
            }
            Op::MakeDir { path } => self.nodes[node.0].disk.make_dir(path).map(|()| Outcome::Done),
            Op::Stat { path } => self.nodes[node.0].disk.stat(path).map(Outcome::Stat),
            Op::List { path } => self.list(node, &path.clone()),
            Op::Space { path } => self.nodes[node.0].disk.space(path).map(Outcome::Space),
            Op::Resident { file, .. } => {
                // Nobody knows what a kernel gives up.
                let resident = !self.chance.strikes(EVICTED_PPM);
                self.target(node, file).map(|_| Outcome::Resident(resident))
            }
            other => panic!("not an operation on files: {other:?}"),
        };
        self.complete(id, result);
    }

    /// Whether the disk fails now, for this fault or for ever.
    fn disk_fails(&mut self, node: NodeId, fault: Fault) -> Result<(), Errno> {
        if self.strikes(node, Fault::DiskDies) {
            self.nodes[node.0].disk_dead = true;
        }
        if self.nodes[node.0].disk_dead || self.strikes(node, fault) {
            return Err(Errno::IO);
        }
        Ok(())
    }

    fn finish_read(&mut self, id: OpId) -> Result<Outcome, Errno> {
        let node = self.ops[&id].key.node;
        let failed = self.strikes(node, Fault::ReadError);
        let short = self.strikes(node, Fault::ShortRead);
        let flight = self.ops.get_mut(&id).expect("looked at by the caller");
        let Op::Read { file, at, buf, bytes_max } = &mut flight.op else { panic!("a read") };
        let Some(Open::File { ino, direct, .. }) =
            self.nodes[node.0].open.get(&file.number()).copied()
        else {
            return Err(Errno::BADF);
        };
        if failed {
            return Err(Errno::IO);
        }
        let bytes = buf.room().min(*bytes_max);
        let mut count = self.nodes[node.0].disk.read(ino, *at, &mut buf.spare_mut()[..bytes]);
        let unit = if direct { SECTOR_BYTES } else { 1 };
        if short && unit < count {
            count = self.chance.length(1, (count - 1) / unit) * unit;
        }
        buf.advance(count);
        Ok(Outcome::Bytes(u32::try_from(count).expect("a buffer's length")))
    }

    fn finish_write(&mut self, id: OpId) -> Result<Outcome, Errno> {
        let flight = &self.ops[&id];
        let node = flight.key.node;
        let Op::Write { file, at, data, .. } = &flight.op else { panic!("a write") };
        let (target, at, bytes) = (self.target(node, file)?, *at, data.len());
        let write = flight.write.expect("it began");
        let unit = if target.direct { SECTOR_BYTES } else { 1 };
        let mut count = bytes;
        let failed = self.disk_fails(node, Fault::WriteError);
        let verdict = if failed.is_err() {
            Verdict::Failed
        } else if unit < bytes && self.strikes(node, Fault::ShortWrite) {
            count = self.chance.length(1, (bytes - 1) / unit) * unit;
            Verdict::Written(count)
        } else {
            self.media_verdict(node, target, at, bytes)
        };
        let disk = &mut self.nodes[node.0].disk;
        disk.finish_write(write, verdict, &mut self.chance);
        failed?;
        if 0 < count && self.strikes(node, Fault::Rot) {
            let disk = &mut self.nodes[node.0].disk;
            disk.rot_in(target.ino, at, count as u64, &mut self.chance);
        }
        Ok(Outcome::Bytes(u32::try_from(count).expect("a buffer's length")))
    }

    /// What an otherwise sound medium makes of a write.
    fn media_verdict(&mut self, node: NodeId, target: Target, at: u64, bytes: usize) -> Verdict {
        let blocks = self.nodes[node.0].disk.bytes(target.ino) / BLOCK_BYTES as u64;
        let taken = bytes.div_ceil(BLOCK_BYTES) as u64;
        if taken < blocks
            && at.is_multiple_of(BLOCK_BYTES as u64)
            && self.strikes(node, Fault::Misdirected)
        {
            let other = self.chance.below(blocks - taken + 1) * BLOCK_BYTES as u64;
            if other != at {
                return Verdict::Elsewhere(other);
            }
        }
        if self.strikes(node, Fault::Stale) { Verdict::Nowhere } else { Verdict::Written(bytes) }
    }

    fn flush(&mut self, node: NodeId, ino: Ino, until: u64) -> Result<Outcome, Errno> {
        let failed = self.disk_fails(node, Fault::FlushError);
        let disk = &mut self.nodes[node.0].disk;
        match failed {
            Ok(()) => disk.flush(ino, until),
            Err(_) => disk.fail_flush(ino, until),
        }
        failed.map(|()| Outcome::Done)
    }

    fn finish_open(
        &mut self,
        node: NodeId,
        path: &std::path::Path,
        access: crate::ring::Access,
    ) -> Result<Outcome, Errno> {
        if self.strikes(node, Fault::FileLimit) || self.is_at_file_limit(node) {
            return Err(Errno::MFILE);
        }
        let (ino, bytes) = self.nodes[node.0].disk.open(path, access)?;
        let open = Open::File { ino, direct: access.direct, write: access.write };
        let file = self.new_fd(node, open);
        Ok(Outcome::Opened { file, bytes })
    }

    fn lock(&mut self, node: NodeId, ino: Ino, number: i32) -> Result<Outcome, Errno> {
        let holder = *self.nodes[node.0].locks.entry(ino).or_insert(number);
        if holder == number { Ok(Outcome::Done) } else { Err(Errno::AGAIN) }
    }

    /// Names come in an order nobody should rely on.
    fn list(&mut self, node: NodeId, path: &std::path::Path) -> Result<Outcome, Errno> {
        let mut entries = self.nodes[node.0].disk.list(path)?;
        for at in (1..entries.len()).rev() {
            entries.swap(at, self.chance.length(0, at));
        }
        Ok(Outcome::Entries(entries))
    }
}

//! A disk: files by name, with what a power cut would leave of them. Rules only, no time and no ring.
//!
//! Whoever drives it decides when an operation takes effect and which fault befalls it; the disk decides what
//! that means. A disk is a value: a copy of it is a point to which a test can return, and
//! [`Disk::cut`] of a copy is what a machine would find there after losing power.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::rc::Rc;

use super::chance::Chance;
use super::image::{Cut, Decider, FileImage, Moment};
use super::names::{Ino, Names, ROOT};
use crate::limits::BLOCK_BYTES;
use crate::ring::{Access, Entry, Errno, FileKind, FileStat, Space, Sync};

/// Room on a disk unless told otherwise.
const CAPACITY_BYTES: u64 = 1 << 30;

/// What a medium did to somebody's data without saying so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hurt {
    pub path: String,
    /// The first byte concerned.
    pub at: u64,
    pub bytes: u64,
    pub kind: HurtKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HurtKind {
    /// One bit was flipped.
    Rot,
    /// The data of another write lies here.
    Overwritten,
    /// A reported write is not here; what was before still is.
    Stale,
}

/// What becomes of a write when it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This many bytes are written.
    Written(usize),
    /// It failed; each sector may or may not have been written.
    Failed,
    /// It is reported, and its data went to this place of the file instead.
    Elsewhere(u64),
    /// It is reported, and nothing was written.
    Nowhere,
}

#[derive(Debug)]
struct Flying {
    ino: Ino,
    at: u64,
    data: Box<[u8]>,
    sync: Sync,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Disk {
    files: BTreeMap<Ino, Rc<FileImage>>,
    names: Names,
    next_ino: u64,
    /// Operations completed so far.
    moment: Moment,
    capacity_bytes: u64,
    flying: BTreeMap<u64, Rc<Flying>>,
    next_flying: u64,
    /// How many descriptors each file has.
    open: BTreeMap<Ino, u32>,
    hurts: Vec<Hurt>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            names: Names::new(),
            next_ino: ROOT.0 + 1,
            moment: 1,
            capacity_bytes: CAPACITY_BYTES,
            flying: BTreeMap::new(),
            next_flying: 0,
            open: BTreeMap::new(),
            hurts: Vec::new(),
        }
    }

    /// The same disk with another size. What is on it stays.
    #[must_use]
    pub fn with_capacity(mut self, bytes: u64) -> Self {
        self.capacity_bytes = bytes;
        self
    }

    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// What the medium did behind everybody's back so far.
    #[must_use]
    pub fn hurts(&self) -> &[Hurt] {
        &self.hurts
    }

    /// The disk after power was lost: nothing is open, nothing is on its way, nothing is uncertain.
    #[must_use]
    pub fn cut(&self, cut: Cut, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        // Some cuts lose nearly nothing, some nearly everything: both find their own mistakes.
        let keep_ppm = [500_000, 125_000, 875_000][chance.length(0, 2)];
        let mut files = self.files.clone();
        for flying in self.flying.values() {
            // `KeepAll` is about what completed.
            if cut == Cut::Random
                && let Some(file) = files.get_mut(&flying.ino)
            {
                Rc::make_mut(file).may_hold(self.moment, flying.at, &flying.data);
            }
        }
        let mut decider = Decider { cut, chance: &mut chance, keep_ppm };
        let names = self.names.cut(&mut decider);
        let reached = names.reached();
        let files = files
            .into_iter()
            .filter(|(ino, _)| reached.contains(ino))
            .map(|(ino, file)| (ino, Rc::new(file.cut(&mut decider))))
            .collect();
        Self {
            files,
            names,
            flying: BTreeMap::new(),
            open: BTreeMap::new(),
            hurts: self.hurts.clone(),
            ..*self
        }
    }

    /// A file's content, as a reader would see it. For tests; programs read through their ring.
    #[must_use]
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let file = &self.files[&self.find(path.as_ref()).ok()?];
        let mut bytes = vec![0; usize::try_from(file.bytes()).ok()?];
        file.read(0, &mut bytes);
        Some(bytes)
    }

    /// Flips one bit of a file, as a medium may. Says whether there is such a byte.
    pub fn rot(&mut self, path: impl AsRef<Path>, byte: u64, bit: u8) -> bool {
        let Ok(ino) = self.find(path.as_ref()) else { return false };
        let Some(file) = self.files.get_mut(&ino).filter(|it| byte < it.bytes()) else {
            return false;
        };
        Rc::make_mut(file).rot(byte, bit);
        self.hurt(ino, byte, 1, HurtKind::Rot);
        true
    }

    /// Paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.walk(ROOT, "", &mut |path, ino| {
            if self.files.contains_key(&ino) {
                paths.push(path.to_owned());
            }
        });
        paths
    }

    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// Nothing of a process that is gone remains open or on its way: what it had submitted either
    /// happened or did not.
    pub(super) fn close_all(&mut self, chance: &mut Chance) {
        for flying in std::mem::take(&mut self.flying).into_values() {
            if chance.strikes(500_000) {
                self.land(&flying, flying.at, flying.data.len(), &mut |_| true);
            }
        }
        let open = std::mem::take(&mut self.open);
        for ino in open.into_keys() {
            self.collect(ino);
        }
    }

    pub(super) fn open(&mut self, path: &Path, access: Access) -> Result<(Ino, u64), Errno> {
        let (dir, name) = self.parent(path)?;
        let ino = match self.names.get(dir, name) {
            Some(_) if access.exclusive && access.create => return Err(Errno::EXIST),
            Some(ino) if self.names.is_dir(ino) => return Err(Errno::ISDIR),
            Some(ino) => ino,
            None if access.create => {
                let ino = self.new_ino();
                self.files.insert(ino, Rc::default());
                self.names.link(dir, name, ino, false);
                ino
            }
            None => return Err(Errno::NOENT),
        };
        *self.open.entry(ino).or_default() += 1;
        Ok((ino, self.files[&ino].bytes()))
    }

    pub(super) fn close(&mut self, ino: Ino) {
        let open = self.open.get_mut(&ino).expect("it was open");
        *open -= 1;
        if *open == 0 {
            self.open.remove(&ino);
            self.collect(ino);
        }
    }

    pub(super) fn begin_write(
        &mut self,
        ino: Ino,
        at: u64,
        data: &[u8],
        sync: Sync,
    ) -> Result<u64, Errno> {
        let missing = self.files[&ino].missing_bytes(at, data.len() as u64);
        if self.free_bytes() < missing {
            return Err(Errno::NOSPC);
        }
        self.next_flying += 1;
        let flying = Flying { ino, at, data: data.into(), sync };
        self.flying.insert(self.next_flying, Rc::new(flying));
        Ok(self.next_flying)
    }

    pub(super) fn finish_write(&mut self, id: u64, verdict: Verdict, chance: &mut Chance) {
        let flying = self.flying.remove(&id).expect("a write finishes once");
        let (ino, at, bytes) = (flying.ino, flying.at, flying.data.len());
        match verdict {
            Verdict::Written(count) => self.land(&flying, at, count, &mut |_| true),
            Verdict::Failed => self.land(&flying, at, bytes, &mut |_| chance.strikes(500_000)),
            Verdict::Elsewhere(other) => {
                self.land(&flying, other, bytes, &mut |_| true);
                self.land(&flying, at, bytes, &mut |_| false);
                self.hurt(ino, other, bytes as u64, HurtKind::Overwritten);
                self.hurt(ino, at, bytes as u64, HurtKind::Stale);
            }
            Verdict::Nowhere => {
                self.land(&flying, at, bytes, &mut |_| false);
                self.hurt(ino, at, bytes as u64, HurtKind::Stale);
            }
        }
    }

    fn land(&mut self, flying: &Flying, at: u64, count: usize, lands: &mut dyn FnMut(u64) -> bool) {
        self.moment += 1;
        let Some(file) = self.files.get_mut(&flying.ino) else { return };
        let durable = flying.sync == Sync::Data;
        Rc::make_mut(file).write(self.moment, at, &flying.data[..count], durable, lands);
    }

    /// Flips a bit somewhere in a range that was just written.
    pub(super) fn rot_in(&mut self, ino: Ino, at: u64, bytes: u64, chance: &mut Chance) {
        let byte = at + chance.below(bytes);
        let bit = u8::try_from(chance.below(8)).expect("eight bits");
        if let Some(file) = self.files.get_mut(&ino) {
            Rc::make_mut(file).rot(byte, bit);
            self.hurt(ino, byte, 1, HurtKind::Rot);
        }
    }

    pub(super) fn bytes(&self, ino: Ino) -> u64 {
        self.files[&ino].bytes()
    }

    pub(super) fn read(&self, ino: Ino, at: u64, out: &mut [u8]) -> usize {
        self.files[&ino].read(at, out)
    }

    pub(super) fn flush(&mut self, ino: Ino, until: Moment) {
        self.moment += 1;
        self.change(ino).flush(until);
    }

    pub(super) fn fail_flush(&mut self, ino: Ino, until: Moment) {
        self.moment += 1;
        self.change(ino).forget(until);
    }

    pub(super) fn allocate(&mut self, ino: Ino, at: u64, bytes: u64) -> Result<(), Errno> {
        if bytes == 0 {
            return Err(Errno::INVAL);
        }
        if self.free_bytes() < self.files[&ino].missing_bytes(at, bytes) {
            return Err(Errno::NOSPC);
        }
        self.moment += 1;
        let moment = self.moment;
        self.change(ino).allocate(moment, at, bytes);
        Ok(())
    }

    pub(super) fn truncate(&mut self, ino: Ino, bytes: u64) {
        self.moment += 1;
        let moment = self.moment;
        self.change(ino).truncate(moment, bytes);
    }

    pub(super) fn stat(&self, path: &Path) -> Result<FileStat, Errno> {
        let ino = self.find(path)?;
        Ok(match self.files.get(&ino) {
            Some(file) => FileStat {
                kind: FileKind::File,
                bytes: file.bytes(),
                allocated_bytes: file.allocated_bytes(),
            },
            None => FileStat { kind: FileKind::Dir, bytes: 0, allocated_bytes: 0 },
        })
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let ino = self.names.get(from_dir, from_name).ok_or(Errno::NOENT)?;
        let dir = self.names.is_dir(ino);
        if dir && to.starts_with(from) && to != from {
            return Err(Errno::INVAL);
        }
        let replaced = self.names.get(to_dir, to_name);
        match replaced {
            Some(it) if it == ino => return Ok(()),
            Some(it) if self.names.is_dir(it) => {
                if !dir {
                    return Err(Errno::ISDIR);
                }
                if !self.names.list(it).is_empty() {
                    return Err(Errno::NOTEMPTY);
                }
            }
            Some(_) if dir => return Err(Errno::NOTDIR),
            Some(_) | None => {}
        }
        self.moment += 1;
        self.names.rename((from_dir, from_name.to_owned()), (to_dir, to_name.to_owned()), ino);
        if let Some(replaced) = replaced {
            self.collect(replaced);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, kind: FileKind) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        let ino = self.names.get(dir, name).ok_or(Errno::NOENT)?;
        match (kind, self.names.is_dir(ino)) {
            (FileKind::File, true) => return Err(Errno::ISDIR),
            (FileKind::Dir, false) => return Err(Errno::NOTDIR),
            (FileKind::Dir, true) if !self.names.list(ino).is_empty() => {
                return Err(Errno::NOTEMPTY);
            }
            (FileKind::Dir, true) | (FileKind::File, false) => {}
        }
        self.moment += 1;
        self.names.unlink(dir, name, ino);
        self.collect(ino);
        Ok(())
    }

    pub(super) fn make_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let (dir, name) = self.parent(path)?;
        if self.names.get(dir, name).is_some() {
            return Err(Errno::EXIST);
        }
        let ino = self.new_ino();
        self.moment += 1;
        self.names.link(dir, name, ino, true);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<Entry>, Errno> {
        let dir = self.find_dir(path)?;
        let kind = |ino| if self.names.is_dir(ino) { FileKind::Dir } else { FileKind::File };
        let names = self.names.list(dir).iter();
        Ok(names.map(|(name, &ino)| Entry { name: name.clone(), kind: kind(ino) }).collect())
    }

    pub(super) fn flush_dir(&mut self, path: &Path) -> Result<(), Errno> {
        let dir = self.find_dir(path)?;
        self.moment += 1;
        self.names.flush(dir);
        let unused: Vec<_> =
            self.files.keys().copied().filter(|it| !self.open.contains_key(it)).collect();
        for ino in unused {
            self.collect(ino);
        }
        Ok(())
    }

    pub(super) fn space(&self, path: &Path) -> Result<Space, Errno> {
        self.find(path)?;
        Ok(Space {
            total_bytes: self.capacity_bytes,
            free_bytes: self.free_bytes(),
            file_system: "simulated".to_owned(),
        })
    }

    fn free_bytes(&self) -> u64 {
        let used: u64 = self.files.values().map(|it| it.allocated_bytes()).sum();
        self.capacity_bytes.saturating_sub(used)
    }

    fn change(&mut self, ino: Ino) -> &mut FileImage {
        Rc::make_mut(self.files.get_mut(&ino).expect("open files exist"))
    }

    fn new_ino(&mut self) -> Ino {
        self.next_ino += 1;
        Ino(self.next_ino)
    }

    /// Frees a file that nothing leads to and nobody has open.
    fn collect(&mut self, ino: Ino) {
        if !self.open.contains_key(&ino) && !self.names.may_reach(ino) {
            self.files.remove(&ino);
        }
    }

    fn hurt(&mut self, ino: Ino, at: u64, bytes: u64, kind: HurtKind) {
        let mut found = String::new();
        self.walk(ROOT, "", &mut |path, it| {
            if it == ino {
                path.clone_into(&mut found);
            }
        });
        self.hurts.push(Hurt { path: found, at, bytes, kind });
    }

    fn walk(&self, dir: Ino, path: &str, visit: &mut dyn FnMut(&str, Ino)) {
        for (name, &ino) in self.names.list(dir) {
            let path = format!("{path}/{name}");
            visit(&path, ino);
            if self.names.is_dir(ino) {
                self.walk(ino, &path, visit);
            }
        }
    }

    /// Where a path leads. Relative paths start at the root.
    fn find(&self, path: &Path) -> Result<Ino, Errno> {
        let mut ino = ROOT;
        for part in parts(path)? {
            if !self.names.is_dir(ino) {
                return Err(Errno::NOTDIR);
            }
            ino = self.names.get(ino, part).ok_or(Errno::NOENT)?;
        }
        Ok(ino)
    }

    fn find_dir(&self, path: &Path) -> Result<Ino, Errno> {
        let ino = self.find(path)?;
        if self.names.is_dir(ino) { Ok(ino) } else { Err(Errno::NOTDIR) }
    }

    /// The directory that holds a path's last name, and that name.
    fn parent<'a>(&self, path: &'a Path) -> Result<(Ino, &'a str), Errno> {
        let name = parts(path)?.pop().ok_or(Errno::EXIST)?;
        let dir = path.parent().map_or(Ok(ROOT), |it| self.find_dir(it))?;
        Ok((dir, name))
    }
}

fn parts(path: &Path) -> Result<Vec<&str>, Errno> {
    let part = |it| match it {
        Component::Normal(name) => Some(name.to_str().ok_or(Errno::INVAL)),
        Component::RootDir | Component::CurDir => None,
        Component::ParentDir | Component::Prefix(_) => Some(Err(Errno::INVAL)),
    };
    path.components().filter_map(part).collect()
}

/// Whether a direct operation is whole, aligned blocks.
pub(super) fn is_aligned(at: u64, bytes: usize, in_memory: usize) -> bool {
    at.is_multiple_of(BLOCK_BYTES as u64)
        && bytes.is_multiple_of(BLOCK_BYTES)
        && in_memory.is_multiple_of(BLOCK_BYTES)
}

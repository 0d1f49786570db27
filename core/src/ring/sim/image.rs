//! What a file holds, what the medium holds of it, and what lies between.
//!
//! A file is 512-byte sectors. A reader sees the newest; a power cut leaves, for each sector on its own,
//! the durable content or any of the contents written since. Sizes are uncertain in the same way.
//!
//! Invariants:
//! - IMAGE-1: a durable write makes its own sectors durable, and a size that reaches its end; nothing else;
//! - IMAGE-2: a flush makes durable what was written up to a given moment, and nothing later;
//! - IMAGE-3: a flush that failed forgets the data it covered: readers still see it, the medium never will.
//!   A size is not forgotten: a file system that loses its own records stops.
//!
//! Images are cheap to copy: contents are shared until they change.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::chance::Chance;

/// What a medium writes in one piece.
pub const SECTOR_BYTES: usize = 512;

/// What contents are shared in.
const CHUNK_BYTES: usize = 4096;
const SECTORS_PER_CHUNK: u64 = (CHUNK_BYTES / SECTOR_BYTES) as u64;

/// Contents of one sector that are kept as possible; of more, the oldest is given up.
const VERSIONS_MAX: usize = 4;

type Sector = [u8; SECTOR_BYTES];

/// A moment in the life of a disk: how many operations it had completed.
pub(super) type Moment = u64;

/// What a power cut leaves of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Everything, as after the end of a process.
    KeepAll,
    /// Nothing.
    KeepNone,
    /// Any part of it, sector by sector, in any order.
    Random,
}

/// How one cut decides.
pub(super) struct Decider<'a> {
    pub(super) cut: Cut,
    pub(super) chance: &'a mut Chance,
    /// How likely something is kept by [`Cut::Random`].
    pub(super) keep_ppm: u32,
}

impl Decider<'_> {
    pub(super) fn keeps(&mut self) -> bool {
        match self.cut {
            Cut::KeepAll => true,
            Cut::KeepNone => false,
            Cut::Random => self.chance.strikes(self.keep_ppm),
        }
    }

    /// Which of `count` later states is kept; `None` for the durable one.
    fn version(&mut self, count: usize) -> Option<usize> {
        if count == 0 || !self.keeps() {
            return None;
        }
        match self.cut {
            Cut::Random if self.chance.strikes(250_000) => Some(self.chance.length(0, count - 1)),
            Cut::Random | Cut::KeepAll | Cut::KeepNone => Some(count - 1),
        }
    }
}

/// Sparse bytes, shared until changed.
#[derive(Debug, Clone, Default)]
struct Content(BTreeMap<u64, Rc<[u8; CHUNK_BYTES]>>);

const ZEROES: Sector = [0; SECTOR_BYTES];

impl Content {
    fn sector(&self, number: u64) -> &Sector {
        let Some(chunk) = self.0.get(&(number / SECTORS_PER_CHUNK)) else { return &ZEROES };
        let at = small(number % SECTORS_PER_CHUNK) * SECTOR_BYTES;
        chunk[at..at + SECTOR_BYTES].try_into().expect("a sector")
    }

    fn set(&mut self, number: u64, sector: &Sector) {
        let chunk = self.0.entry(number / SECTORS_PER_CHUNK);
        let chunk = Rc::make_mut(chunk.or_insert_with(|| Rc::new([0; CHUNK_BYTES])));
        let at = small(number % SECTORS_PER_CHUNK) * SECTOR_BYTES;
        chunk[at..at + SECTOR_BYTES].copy_from_slice(sector);
    }

    /// Numbers of the sectors from `first` on that may hold something.
    fn sectors_from(&self, first: u64) -> Vec<u64> {
        self.0
            .range(first / SECTORS_PER_CHUNK..)
            .flat_map(|(&chunk, _)| {
                (0..SECTORS_PER_CHUNK).map(move |it| chunk * SECTORS_PER_CHUNK + it)
            })
            .filter(|&it| first <= it)
            .collect()
    }

    /// Zeroes everything from `bytes` on.
    fn cut_to(&mut self, bytes: u64) {
        let first_whole = bytes.div_ceil(CHUNK_BYTES as u64);
        drop(self.0.split_off(&first_whole));
        let within = small(bytes % CHUNK_BYTES as u64);
        if let (true, Some(chunk)) = (0 < within, self.0.get_mut(&(bytes / CHUNK_BYTES as u64))) {
            Rc::make_mut(chunk)[within..].fill(0);
        }
    }
}

/// A content that a sector may be found with after a cut.
#[derive(Debug, Clone)]
struct Version {
    written: Moment,
    sector: Rc<Sector>,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileImage {
    now: Content,
    durable: Content,
    unflushed: BTreeMap<u64, Vec<Version>>,
    bytes: u64,
    durable_bytes: u64,
    unflushed_sizes: Vec<(Moment, u64)>,
    /// Blocks that space was taken for: by where each run starts, where it ends.
    allocated: BTreeMap<u64, u64>,
}

impl FileImage {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated.iter().map(|(from, to)| to - from).sum()
    }

    /// How many more bytes of space a range would take.
    pub(super) fn missing_bytes(&self, at: u64, bytes: u64) -> u64 {
        let (from, to) = blocks(at, bytes);
        let have = self.allocated.iter().map(|(&a, &b)| b.min(to).saturating_sub(a.max(from)));
        to - from - have.sum::<u64>()
    }

    fn take_space(&mut self, at: u64, bytes: u64) {
        let (mut from, mut to) = blocks(at, bytes);
        if from == to {
            return;
        }
        // Runs that touch become one.
        let touching: Vec<_> = self
            .allocated
            .range(..=to)
            .filter(|&(_, &end)| from <= end)
            .map(|(&start, &end)| (start, end))
            .collect();
        for (start, end) in touching {
            self.allocated.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        self.allocated.insert(from, to);
    }

    /// What a reader sees, up to the end of the file. Says how many bytes there were.
    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> usize {
        let count = small((out.len() as u64).min(self.bytes.saturating_sub(at)));
        let mut done = 0;
        while done < count {
            let (number, within) = place(at + done as u64);
            let some = (SECTOR_BYTES - within).min(count - done);
            out[done..done + some].copy_from_slice(&self.now.sector(number)[within..within + some]);
            done += some;
        }
        count
    }

    /// Writes the sectors of `data` that `lands` lets through.
    pub(super) fn write(
        &mut self,
        moment: Moment,
        at: u64,
        data: &[u8],
        durable: bool,
        mut lands: impl FnMut(u64) -> bool,
    ) {
        self.take_space(at, data.len() as u64);
        for (number, sector) in self.sectors_of(at, data) {
            if lands(number) {
                self.now.set(number, &sector);
                if durable {
                    self.durable.set(number, &sector);
                    self.unflushed.remove(&number);
                } else {
                    self.may_become(number, moment, sector);
                }
            }
        }
        let end = at + data.len() as u64;
        if self.bytes < end {
            self.bytes = end;
            if !durable {
                self.unflushed_sizes.push((moment, end));
            }
        }
        if durable {
            self.durable_bytes = self.durable_bytes.max(end);
            // No size that was waiting may take it back.
            for (_, size) in &mut self.unflushed_sizes {
                *size = (*size).max(end);
            }
        }
    }

    /// A write that is still on its way: a cut may find any of it.
    pub(super) fn may_hold(&mut self, moment: Moment, at: u64, data: &[u8]) {
        for (number, sector) in self.sectors_of(at, data) {
            self.may_become(number, moment, sector);
        }
        let end = at + data.len() as u64;
        if self.bytes < end {
            self.unflushed_sizes.push((moment, end));
        }
    }

    fn may_become(&mut self, number: u64, moment: Moment, sector: Sector) {
        let versions = self.unflushed.entry(number).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push(Version { written: moment, sector: Rc::new(sector) });
    }

    /// The sectors that `data` covers, with what they hold besides.
    fn sectors_of(&self, at: u64, data: &[u8]) -> Vec<(u64, Sector)> {
        let mut sectors = Vec::with_capacity(data.len() / SECTOR_BYTES + 2);
        let mut done = 0;
        while done < data.len() {
            let (number, within) = place(at + done as u64);
            let some = (SECTOR_BYTES - within).min(data.len() - done);
            let mut sector = *self.now.sector(number);
            sector[within..within + some].copy_from_slice(&data[done..done + some]);
            sectors.push((number, sector));
            done += some;
        }
        sectors
    }

    /// Extends the file to `at + bytes` at least, and takes the space.
    pub(super) fn allocate(&mut self, moment: Moment, at: u64, bytes: u64) {
        self.take_space(at, bytes);
        if self.bytes < at + bytes {
            self.bytes = at + bytes;
            self.unflushed_sizes.push((moment, self.bytes));
        }
    }

    pub(super) fn truncate(&mut self, moment: Moment, bytes: u64) {
        if bytes < self.bytes {
            let gone = self.now.sectors_from(bytes / SECTOR_BYTES as u64);
            self.now.cut_to(bytes);
            for number in gone {
                let sector = *self.now.sector(number);
                self.may_become(number, moment, sector);
            }
            let (_, kept) = blocks(0, bytes);
            drop(self.allocated.split_off(&kept));
            if let Some(mut last) = self.allocated.last_entry() {
                let end = *last.get();
                last.insert(end.min(kept));
            }
        }
        self.bytes = bytes;
        self.unflushed_sizes.push((moment, bytes));
    }

    /// Makes durable what was written up to `until` (IMAGE-2).
    pub(super) fn flush(&mut self, until: Moment) {
        let durable = &mut self.durable;
        self.unflushed.retain(|&number, versions| {
            if let Some(last) = versions.iter().rposition(|it| it.written <= until) {
                durable.set(number, &versions[last].sector);
                versions.drain(..=last);
            }
            !versions.is_empty()
        });
        if let Some(last) = self.unflushed_sizes.iter().rposition(|it| it.0 <= until) {
            self.durable_bytes = self.unflushed_sizes[last].1;
            self.unflushed_sizes.drain(..=last);
        }
    }

    /// A flush that failed (IMAGE-3).
    pub(super) fn forget(&mut self, until: Moment) {
        self.unflushed.retain(|_, versions| {
            versions.retain(|it| until < it.written);
            !versions.is_empty()
        });
    }

    /// The file after a power cut.
    pub(super) fn cut(&self, decider: &mut Decider<'_>) -> Self {
        let mut left = self.durable.clone();
        for (&number, versions) in &self.unflushed {
            if let Some(kept) = decider.version(versions.len()) {
                left.set(number, &versions[kept].sector);
            }
        }
        let sizes = &self.unflushed_sizes;
        let bytes = decider.version(sizes.len()).map_or(self.durable_bytes, |it| sizes[it].1);
        left.cut_to(bytes);
        let mut allocated = self.allocated.clone();
        let (_, end) = blocks(0, bytes);
        drop(allocated.split_off(&end));
        let mut file = Self {
            now: left.clone(),
            durable: left,
            bytes,
            durable_bytes: bytes,
            allocated,
            ..Self::default()
        };
        if let Some(mut last) = file.allocated.last_entry() {
            let run_end = *last.get();
            last.insert(run_end.min(end));
        }
        file
    }

    /// Flips one bit, for readers and on the medium.
    pub(super) fn rot(&mut self, byte: u64, bit: u8) {
        let (number, within) = place(byte);
        for content in [&mut self.now, &mut self.durable] {
            let mut sector = *content.sector(number);
            sector[within] ^= 1 << (bit % 8);
            content.set(number, &sector);
        }
    }
}

/// The whole blocks around a range.
fn blocks(at: u64, bytes: u64) -> (u64, u64) {
    let block = CHUNK_BYTES as u64;
    (at / block * block, (at + bytes).div_ceil(block) * block)
}

/// The sector of a byte, and where in it.
fn place(byte: u64) -> (u64, usize) {
    (byte / SECTOR_BYTES as u64, small(byte % SECTOR_BYTES as u64))
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("files fit into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each sector of a file holds, as a letter; a dot for zeroes.
    fn letters(file: &FileImage) -> String {
        let mut bytes = vec![0; small(file.bytes())];
        assert_eq!(file.read(0, &mut bytes), bytes.len());
        bytes
            .chunks(SECTOR_BYTES)
            .map(|it| if it[0] == 0 { '.' } else { char::from(it[0]) })
            .collect()
    }

    fn put(file: &mut FileImage, moment: Moment, sector: u64, text: &str, durable: bool) {
        let data: Vec<u8> = text.bytes().flat_map(|it| [it; SECTOR_BYTES]).collect();
        file.write(moment, sector * SECTOR_BYTES as u64, &data, durable, |_| true);
    }

    fn after(file: &FileImage, cut: Cut) -> String {
        let mut chance = Chance::new(3);
        letters(&file.cut(&mut Decider { cut, chance: &mut chance, keep_ppm: 500_000 }))
    }

    #[test]
    fn a_durable_write_persists_itself_and_nothing_else() {
        let mut file = FileImage::default();
        put(&mut file, 1, 0, "aa", false);
        put(&mut file, 2, 4, "b", true);
        assert_eq!(letters(&file), "aa..b");
        assert_eq!(after(&file, Cut::KeepNone), "....b");
        assert_eq!(after(&file, Cut::KeepAll), "aa..b");
    }

    #[test]
    fn a_size_that_waited_cannot_take_a_durable_write_back() {
        let mut file = FileImage::default();
        put(&mut file, 1, 0, "a", false);
        put(&mut file, 2, 2, "b", true);
        assert_eq!(
            (after(&file, Cut::KeepNone), after(&file, Cut::KeepAll)),
            ("..b".into(), "a.b".into())
        );
        file.flush(1);
        assert_eq!(after(&file, Cut::KeepNone), "a.b");
    }

    #[test]
    fn a_flush_covers_what_was_complete_when_it_was_submitted() {
        let mut file = FileImage::default();
        put(&mut file, 1, 0, "ab", false);
        put(&mut file, 2, 1, "cd", false);
        file.flush(1);
        assert_eq!(after(&file, Cut::KeepNone), "ab");
        assert_eq!(after(&file, Cut::KeepAll), "acd");
        file.flush(2);
        assert_eq!(after(&file, Cut::KeepNone), "acd");
    }

    #[test]
    fn a_failed_flush_forgets_what_readers_still_see() {
        let mut file = FileImage::default();
        put(&mut file, 1, 0, "a", true);
        put(&mut file, 2, 0, "b", false);
        file.forget(2);
        file.flush(3);
        assert_eq!(letters(&file), "b");
        assert_eq!(after(&file, Cut::KeepAll), "a");
    }

    #[test]
    fn a_truncation_that_was_not_flushed_may_come_undone() {
        let mut file = FileImage::default();
        put(&mut file, 1, 0, "abcdefghij", true);
        file.truncate(2, 2 * SECTOR_BYTES as u64);
        assert_eq!(file.allocated_bytes(), 4096);
        file.allocate(3, 0, 4 * SECTOR_BYTES as u64);
        assert_eq!(letters(&file), "ab..");
        assert_eq!(after(&file, Cut::KeepNone), "abcdefghij");
        assert_eq!(after(&file, Cut::KeepAll), "ab..");
        file.flush(3);
        assert_eq!(after(&file, Cut::KeepNone), "ab..");
    }

    #[test]
    fn a_random_cut_reaches_every_mixture() {
        let mut file = FileImage::default();
        put(&mut file, 1, 0, "aaa", true);
        put(&mut file, 2, 0, "bbb", false);
        file.may_hold(3, 0, &[b'c'; SECTOR_BYTES]);
        let mut chance = Chance::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let mut decider = Decider { cut: Cut::Random, chance: &mut chance, keep_ppm: 500_000 };
            seen.insert(letters(&file.cut(&mut decider)));
        }
        let all = ["a", "b", "c"].iter().flat_map(|x| {
            ["a", "b"].iter().flat_map(move |y| ["a", "b"].map(|z| format!("{x}{y}{z}")))
        });
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), all.collect::<Vec<_>>());
    }

    #[test]
    fn space_is_counted_in_whole_blocks_once() {
        let mut file = FileImage::default();
        assert_eq!(file.missing_bytes(100, 5000), 8192);
        file.allocate(1, 100, 5000);
        file.allocate(2, 16384, 1);
        assert_eq!(file.missing_bytes(0, 20480), 8192);
        put(&mut file, 3, 20, "x", false);
        assert_eq!((file.allocated_bytes(), file.missing_bytes(0, 20480)), (16384, 4096));
    }
}

//! Reading finished segments through the page cache, so that many readers of the same records share one
//! copy, which goes to their sockets without passing through this process.
//!
//! Who reads a stretch first reads it cold, past the page cache: history that is read once leaves no
//! trace. Who reads it next reads it through the page cache and looks whether that copy is what was
//! written. From then on the stretch is given as a part of the file.
//!
//! - WARM-1: only a finished segment is read so: nothing is written to its file any more;
//! - WARM-2: a part of a file is given only if each of its extents was verified against the page cache's
//!   copy, and that copy is still there;
//! - WARM-3: it begins and ends between batches, and holds its file open, whatever becomes of the name.

use corelane_core::buf::Slice;
use corelane_core::ids::Offset;
use corelane_core::ring::{Access, Errno, Fd, FileRange};

use super::cold::READ_BYTES_MAX;
use super::scan::ScanError;
use super::segment::Segment;
use super::small;
use super::store::{ReadError, ReadUpTo, ReadWant, Shared, Store};
use crate::checkpoint::ExtentSum;
use crate::checksum;
use crate::dirs::SegmentFile;
use crate::index::Index;

/// What is verified at once at most: a read, and the extents that it begins and ends in.
const VERIFY_BYTES_MAX: u64 = 2 * READ_BYTES_MAX as u64;

/// What is known of the page cache's copy of a segment.
#[derive(Default)]
pub struct Warm {
    /// For the page cache: readers only.
    pub file: Option<Fd>,
    /// Without a gap, or none where the segment has no checksums; absent until somebody looks.
    extents: Option<Vec<Extent>>,
}

struct Extent {
    sum: ExtentSum,
    copy: Copied,
}

/// What became of an extent since this segment was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    Never,
    /// Somebody read it, past the page cache.
    Once,
    /// The copy in the page cache is what was written.
    Verified,
}

/// How a stretch of a finished segment is read.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Cold,
    /// Through the page cache, looking at it.
    Verify {
        from: u64,
        to: u64,
    },
    Send {
        from: u64,
        to: u64,
    },
}

/// What a reader of a finished segment gets.
pub(super) enum Given {
    Memory(Slice),
    File(FileRange),
}

impl ExtentSum {
    fn end(&self) -> u64 {
        u64::from(self.position) + u64::from(self.bytes)
    }
}

impl Warm {
    fn over(&mut self, from: u64, to: u64) -> &mut [Extent] {
        let Some(all) = &mut self.extents else { return &mut [] };
        let first = all.partition_point(|it| it.sum.end() <= from);
        let last = all.partition_point(|it| u64::from(it.sum.position) < to);
        &mut all[first..last]
    }

    /// Decides how to read a stretch, and notes that it is read.
    fn choose(&mut self, from: u64, to: u64) -> Way {
        let over = self.over(from, to);
        let whole = over.first().is_some_and(|it| u64::from(it.sum.position) <= from)
            && over.last().is_some_and(|it| to <= it.sum.end());
        if !whole {
            return Way::Cold;
        }
        if over.iter().all(|it| it.copy == Copied::Verified) {
            return Way::Send { from, to };
        }
        if over.iter().all(|it| it.copy != Copied::Never) {
            return Way::Verify { from, to };
        }
        // One reader touches the extent it stops in twice.
        for it in over.iter_mut().filter(|it| it.copy == Copied::Never && it.sum.end() <= to) {
            it.copy = Copied::Once;
        }
        Way::Cold
    }

    fn set(&mut self, from: u64, to: u64, copy: Copied) {
        self.over(from, to).iter_mut().for_each(|it| it.copy = copy);
    }
}

impl Segment {
    /// The stretch of whole batches from exactly `from` on, of at most `bytes_max` and below `limit`,
    /// as far as its edges are known without looking at the batches.
    fn stretch(
        &self,
        from: Offset,
        end: Offset,
        limit: Offset,
        bytes_max: usize,
    ) -> Option<(u64, u64)> {
        let signposts = self.signposts();
        let start = match signposts.binary_search_by_key(&from, |it| it.offset) {
            Ok(found) => signposts[found].position,
            Err(_) if from == self.base => 0,
            Err(_) => return None,
        };
        let most = start.saturating_add(bytes_max as u64);
        let within = signposts.partition_point(|it| it.offset <= limit && it.position <= most);
        let to = if end <= limit && self.len() <= most {
            self.len()
        } else {
            within.checked_sub(1).map_or(0, |it| signposts[it].position)
        };
        (start < to).then_some((start, to))
    }
}

impl Store {
    /// Reads from a finished segment through the page cache, where that pays. `None`: read it cold.
    pub(super) async fn read_warm(
        &self,
        shared: &Shared,
        base: Offset,
        limit: Offset,
        want: &ReadWant,
    ) -> Result<Option<Given>, ReadError> {
        // A reader of what is not yet agreed on may see it cut back.
        if want.bytes_max < want.file_bytes_min || want.up_to == ReadUpTo::End {
            return Ok(None);
        }
        // WARM-1.
        if !shared.borrow().segment(base).is_some_and(|it| it.finished) {
            return Ok(None);
        }
        self.index_for_read(shared, base).await?;
        self.learn_extents(shared, base).await.map_err(ReadError::Failed)?;
        let Some(way) = self.way(shared, base, limit, want) else { return Ok(None) };
        let (from, to) = match way {
            Way::Cold => return Ok(None),
            Way::Verify { from, to } => (from, to),
            Way::Send { from, to } => {
                let file = self.warm_file(shared, base).await?;
                let bytes = u32::try_from(to - from).expect("segments stay below 4 GiB");
                let range = FileRange { file, at: from, bytes };
                // WARM-2.
                if self.0.lane.is_resident(&range).await.map_err(ReadError::Failed)? {
                    self.0.counts.warm_reads.add(1);
                    return Ok(Some(Given::File(range)));
                }
                self.0.counts.warm_lost.add(1);
                if let Some(segment) = shared.borrow_mut().segment_mut(base) {
                    segment.warm.set(from, to, Copied::Once);
                }
                (from, to)
            }
        };
        let read = self.verify(shared, base, from, to).await?;
        Ok(read.map(Given::Memory))
    }

    fn way(&self, shared: &Shared, base: Offset, limit: Offset, want: &ReadWant) -> Option<Way> {
        let mut partition = shared.borrow_mut();
        let end = partition.end_of(base)?;
        let segment = partition.segment_mut(base)?;
        for bytes_max in [want.bytes_max, want.bytes_max.min(READ_BYTES_MAX)] {
            let (from, to) = segment.stretch(want.from, end, limit, bytes_max)?;
            if ((to - from) as usize) < want.file_bytes_min {
                return None;
            }
            let all = segment.warm.over(from, to).iter().all(|it| it.copy == Copied::Verified);
            if all || bytes_max <= READ_BYTES_MAX {
                return Some(segment.warm.choose(from, to));
            }
        }
        None
    }

    /// Brings a stretch into the page cache and into memory, and looks whether it is what was written.
    async fn verify(
        &self,
        shared: &Shared,
        base: Offset,
        from: u64,
        to: u64,
    ) -> Result<Option<Slice>, ReadError> {
        let (of, all) = {
            let mut partition = shared.borrow_mut();
            let of = partition.of;
            let Some(segment) = partition.segment_mut(base) else { return Ok(None) };
            let over = segment.warm.over(from, to).iter();
            let all: Vec<_> = over.map(|it| (it.sum, it.copy == Copied::Verified)).collect();
            (of, all)
        };
        let file = self.warm_file(shared, base).await?;
        // Whole extents, to look at them; of those that were looked at, what is asked for.
        let (mut sums, mut start, mut end) = (Vec::with_capacity(all.len()), from, to);
        for (sum, verified) in all {
            if verified && self.is_still_here(&file, &sum, from, to).await? {
                continue;
            }
            start = start.min(u64::from(sum.position));
            end = end.max(sum.end());
            sums.push(sum);
        }
        if VERIFY_BYTES_MAX < end - start {
            return Ok(None);
        }
        let bytes = (end - start) as usize;
        let Some(buf) = self.0.lane.pool().get(bytes) else { return Ok(None) };
        let (read, buf) = self.0.lane.read_full(&file, start, buf, bytes).await;
        let read = read.map_err(ReadError::Failed)?;
        let corrupt = |position: u64| {
            let path = self.segment_path(shared, base);
            Err(ReadError::Corrupt { path, position })
        };
        if read < bytes {
            return corrupt(start + read as u64);
        }
        for it in &sums {
            let at = (u64::from(it.position) - start) as usize;
            let here = &buf.filled()[at..at + it.bytes as usize];
            let found = checksum::place(of, base, it.position, checksum::of(here), here.len());
            if found != it.checksum {
                return corrupt(u64::from(it.position));
            }
            self.0.counts.warm_summed.add(here.len() as u64);
            self.0.lane.spend(here.len()).await;
        }
        if let Some(segment) = shared.borrow_mut().segment_mut(base).filter(|it| it.finished) {
            segment.warm.set(from, to, Copied::Verified);
        }
        self.0.counts.warm_verified.add(1);
        Ok(Some(buf.slice((from - start) as usize..(to - start) as usize)))
    }

    /// Whether the page cache still has what was verified of an extent, within a stretch (WARM-2).
    async fn is_still_here(
        &self,
        file: &Fd,
        sum: &ExtentSum,
        from: u64,
        to: u64,
    ) -> Result<bool, ReadError> {
        let at = from.max(u64::from(sum.position));
        let bytes = to.min(sum.end()) - at;
        let bytes = u32::try_from(bytes).expect("a part of an extent");
        let range = FileRange { file: file.clone(), at, bytes };
        self.0.lane.is_resident(&range).await.map_err(ReadError::Failed)
    }

    /// The segment's checksums, from its index. One that has none stays cold.
    async fn learn_extents(&self, shared: &Shared, base: Offset) -> Result<(), Errno> {
        let (of, len) = {
            let partition = shared.borrow();
            let Some(segment) = partition.segment(base) else { return Ok(()) };
            if segment.warm.extents.is_some() {
                return Ok(());
            }
            (partition.of, segment.len())
        };
        let path = self.partition_dir(shared).join(SegmentFile::Index(base).name());
        let bytes = small::read_whole(&self.0.lane, &path).await?;
        let index = bytes.as_deref().and_then(|it| Index::decode(it, of, base).ok());
        let mut extents = Vec::new();
        if let Some(index) = index.filter(|it| u64::from(it.length()) == len) {
            let sums = index.extents_over(0, index.length()).iter();
            extents.extend(sums.map(|it| Extent { sum: *it, copy: Copied::Never }));
        }
        if let Some(segment) = shared.borrow_mut().segment_mut(base) {
            segment.warm.extents = Some(extents);
        }
        Ok(())
    }

    async fn warm_file(&self, shared: &Shared, base: Offset) -> Result<Fd, ReadError> {
        let open = shared.borrow().segment(base).and_then(|it| it.warm.file.clone());
        if let Some(file) = open {
            return Ok(file);
        }
        let path = self.segment_path(shared, base);
        let opened = self.0.lane.open(path, Access::default()).await;
        let (file, _) = opened.map_err(|it| self.read_error(shared, base, ScanError::Disk(it)))?;
        if let Some(segment) = shared.borrow_mut().segment_mut(base) {
            segment.warm.file = Some(file.clone());
        }
        self.note_open(shared, base);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: u32 = 1000;

    fn warm(count: u32) -> Warm {
        let extent = |at| Extent {
            sum: ExtentSum { position: at * EXTENT, bytes: EXTENT, checksum: 0 },
            copy: Copied::Never,
        };
        Warm { file: None, extents: Some((0..count).map(extent).collect()) }
    }

    /// Reads stretches in turn, as readers would, and tells how: cold, verifying, or from the file.
    #[track_caller]
    fn check(stretches: &[(u64, u64)], expect: &str) {
        let mut warm = warm(5);
        let mut told = String::new();
        for &(from, to) in stretches {
            told.push(match warm.choose(from, to) {
                Way::Cold => 'c',
                Way::Verify { from, to } => {
                    warm.set(from, to, Copied::Verified);
                    'v'
                }
                Way::Send { .. } => 's',
            });
        }
        assert_eq!(told, expect);
    }

    #[test]
    fn the_first_reads_cold_the_second_verifies_and_the_third_is_given_the_file() {
        check(&[(0, 1000), (0, 1000), (0, 1000), (0, 1000)], "cvss");
        check(&[(0, 2000), (1000, 3000), (0, 2000), (0, 2000), (1000, 3000)], "ccvsv");
    }

    #[test]
    fn one_reader_alone_stays_cold_wherever_it_stops() {
        check(&[(0, 1300), (1300, 1900), (1900, 2700), (2700, 5000)], "cccc");
    }

    #[test]
    fn what_has_no_checksum_is_never_given_as_a_file() {
        check(&[(4500, 5001), (4500, 5001), (4500, 5001), (4500, 5001)], "cccc");
    }

    #[test]
    fn what_the_page_cache_gave_up_is_verified_again() {
        let mut warm = warm(2);
        warm.set(0, 2000, Copied::Verified);
        assert_eq!(warm.choose(0, 2000), Way::Send { from: 0, to: 2000 });
        warm.set(0, 500, Copied::Once);
        assert_eq!(warm.choose(0, 2000), Way::Verify { from: 0, to: 2000 });
        assert_eq!(warm.choose(1000, 2000), Way::Send { from: 1000, to: 2000 });
    }
}

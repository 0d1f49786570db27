//! Taking away: partitions that were deleted, and segments that lie below the start of a log.
//!
//! REMOVE-1: a folder is renamed only once the deletion is durable, and its name is free again
//! before anything else may use it. REMOVE-2: readers that hold a descriptor keep their bytes.

use std::path::Path;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::{Access, Errno, Fd, FileKind};

use super::journal::Commit;
use super::open::remove_folder;
use super::segment::Segment;
use super::small;
use super::store::{AppendError, Shared, Store, head_of};
use crate::dirs::{PartitionDir, SegmentFile};
use crate::frame::{Body, ENTRY_HEADER_BYTES, Entry};

/// A large file goes in pieces of this size, so that no single step keeps the disk busy for long.
const STEP_BYTES: u64 = 64 << 20;

/// Something to be taken away, once its commit is durable.
pub(super) enum Removal {
    Partition { of: TopicPartition, name: String, commit: Commit, readers: Vec<Fd> },
    Segments { of: TopicPartition, bases: Vec<Offset>, commit: Commit, readers: Vec<Fd> },
}

impl Removal {
    fn commit(&self) -> Commit {
        match self {
            Self::Partition { commit, .. } | Self::Segments { commit, .. } => *commit,
        }
    }
}

impl Store {
    /// Deletes a partition. It is gone at once for everybody here, and for good once the commit is
    /// durable; its files go later. Deleting what is not here changes nothing.
    ///
    /// # Errors
    /// When the journal cannot take it now.
    pub fn delete(&self, of: &TopicPartition) -> Result<Commit, AppendError> {
        let Some(shared) = self.partition(of) else { return Ok(self.0.journal.latest()) };
        self.admit(ENTRY_HEADER_BYTES)?;
        let mut partition = shared.borrow_mut();
        let (end, base) = (partition.end(), partition.open_segment().base);
        let head = head_of(&partition, end, end, base, 0);
        let commit = self.0.journal.push(&Entry { head, body: Body::Delete }, None);
        partition.deleted = true;
        partition.version += 1;
        partition.changed.notify();
        let name = partition.name.clone();
        let readers = partition.segments.iter_mut().filter_map(|it| it.warm.file.take()).collect();
        drop(partition);
        self.0.partitions.borrow_mut().remove(of);
        self.0.keep.removals.borrow_mut().push_back(Removal::Partition {
            of: *of,
            name,
            commit,
            readers,
        });
        self.0.upkeep.notify();
        Ok(commit)
    }

    /// Notes segments that lie wholly below the log's start, to be taken away.
    fn drop_below_start(&self, shared: &Shared) {
        let mut partition = shared.borrow_mut();
        if partition.damage.is_some() {
            return;
        }
        let start = partition.log_start();
        let below = |it: &&[Segment]| it[1].base <= start && it[0].wanted().is_none();
        let keep = partition.segments.windows(2).take_while(below).count();
        if partition.segments.get(keep + 1).is_some_and(|it| it.base <= start) {
            // A frame waits for one of them: its turn comes again.
            self.0.keep.started.borrow_mut().insert(partition.of);
        }
        if keep == 0 {
            return;
        }
        let gone: Vec<Segment> = partition.segments.drain(..keep).collect();
        let bases = gone.iter().map(|it| it.base).collect();
        let readers = gone.into_iter().flat_map(|it| [it.file, it.warm.file]).flatten().collect();
        partition.version += 1;
        self.0.keep.drop_later(partition.of, bases, self.0.journal.latest(), readers);
    }

    pub(super) async fn remove_some(&self) -> Result<(), Errno> {
        let started = std::mem::take(&mut *self.0.keep.started.borrow_mut());
        for shared in started.iter().filter_map(|of| self.partition(of)) {
            self.drop_below_start(&shared);
        }
        loop {
            // Never waits for the journal: it may be the journal that waits for us.
            let is_due = |it: &mut Removal| self.0.journal.is_durable(it.commit());
            let next = self.0.keep.removals.borrow_mut().pop_front_if(is_due);
            let Some(next) = next else { return Ok(()) };
            match next {
                Removal::Partition { of, name, readers, .. } => {
                    self.remove_partition(of, name, &readers).await?;
                }
                Removal::Segments { of, bases, readers, .. } => {
                    let Some(shared) = self.partition(&of) else { continue };
                    if !shared.borrow().has_dir {
                        continue;
                    }
                    let folder = self.partition_dir(&shared);
                    for base in bases {
                        if shared.borrow().segment(base).is_some() {
                            // After a truncation the name is used again.
                            continue;
                        }
                        for file in SegmentFile::all(base) {
                            self.remove_file(&folder.join(file.name()), &readers).await?;
                        }
                    }
                    // Only then is their room free for good.
                    let broken = self.0.journal.config().broken;
                    small::flush_dir(&self.0.lane, &folder, broken).await?;
                }
            }
        }
    }

    async fn remove_partition(
        &self,
        of: TopicPartition,
        topic: String,
        readers: &[Fd],
    ) -> Result<(), Errno> {
        let lane = &self.0.lane;
        let data = &self.0.config.data;
        let live = PartitionDir::Live { topic: topic.clone(), partition: of.partition };
        let live = data.join(live.name());
        let found = small::read_whole(lane, &small::identity_path(&live)).await?;
        if found.and_then(|it| small::decode_identity(&it).ok()) != Some(of) {
            // It never had a folder.
            return Ok(());
        }
        let gone = data.join(PartitionDir::Deleting { topic, of }.name());
        lane.rename(&live, &gone).await?;
        small::flush_dir(lane, data, self.0.journal.config().broken).await?;
        for entry in lane.list(&gone).await? {
            self.remove_file(&gone.join(entry.name), readers).await?;
        }
        remove_folder(lane, &gone).await
    }

    /// Removes a file; one that none of the readers has open is made smaller first, step by step.
    async fn remove_file(&self, path: &Path, readers: &[Fd]) -> Result<(), Errno> {
        let lane = &self.0.lane;
        let bytes = match lane.stat(path).await {
            Ok(stat) => stat.bytes,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if bytes <= STEP_BYTES {
            return lane.remove(path, FileKind::File).await;
        }
        // The name goes first: from then on only readers that hold it open see the file, and it is
        // not cut short under them.
        let access = Access { write: true, ..Access::default() };
        let (file, mut left) = lane.open(path, access).await?;
        lane.remove(path, FileKind::File).await?;
        while readers.iter().all(Fd::is_last) && STEP_BYTES < left {
            left -= STEP_BYTES;
            lane.yield_now().await;
            lane.truncate(&file, left).await?;
        }
        Ok(())
    }
}

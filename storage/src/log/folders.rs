//! A partition's folder and the files in it: made when there is something to put there.
//!
//! DIR-1: a name is durable before any byte below it counts. DIR-2: a folder says inside whose it
//! is, so a partition never meets the bytes of another that had its name before.

use std::cell::RefCell;

use corelane_core::buf::Buf;
use corelane_core::ids::Offset;
use corelane_core::ring::{Access, Errno, Fd, Sync};

use super::crowd;
use super::small;
use super::store::{Shared, Store};
use super::warm::Warm;

/// A file that was made, in a folder that was flushed. Its folder's own name may not be durable yet.
struct Made {
    base: Offset,
    file: Fd,
    fresh_folder: bool,
}

impl Store {
    /// The file of an unfinished segment, made at first use.
    pub(super) async fn file_to_write(&self, shared: &Shared, base: Offset) -> Result<Fd, Errno> {
        let named = shared.borrow().segment(base).is_some_and(|it| it.named);
        if named {
            return self.segment_file(shared, base).await;
        }
        let made = self.make_file(shared, base).await?;
        if made.fresh_folder {
            self.flush_data_dir().await?;
        }
        let file = made.file.clone();
        self.note_made(shared, made);
        Ok(file)
    }

    /// Makes the files of many open segments that have none yet: the data directory, where all their
    /// folders' names are, is flushed once.
    pub(super) async fn make_files(&self, some: &[Shared]) -> Result<(), Errno> {
        let made = &RefCell::new(Vec::new());
        let unnamed = some.iter().filter(|it| {
            let partition = it.borrow();
            !partition.deleted && !partition.open_segment().named
        });
        crowd::each(unnamed, |shared| async move {
            let base = shared.borrow().open_segment().base;
            let it = self.make_file(shared, base).await?;
            made.borrow_mut().push((shared, it));
            Ok(())
        })
        .await?;
        let made = made.take();
        if made.iter().any(|(_, it)| it.fresh_folder) {
            self.flush_data_dir().await?;
        }
        for (shared, it) in made {
            self.note_made(shared, it);
        }
        Ok(())
    }

    async fn make_file(&self, shared: &Shared, base: Offset) -> Result<Made, Errno> {
        let fresh_folder = !shared.borrow().has_dir;
        if fresh_folder {
            self.make_folder(shared).await?;
        }
        let access = Access { write: true, create: true, direct: true, ..Access::default() };
        let path = self.segment_path(shared, base);
        let (file, _) = self.0.lane.open(&path, access).await?;
        let broken = self.0.journal.config().broken;
        // For the file and for what says whose the folder is.
        small::flush_dir(&self.0.lane, &self.partition_dir(shared), broken).await?;
        Ok(Made { base, file, fresh_folder })
    }

    /// DIR-1 holds for the file from now on.
    fn note_made(&self, shared: &Shared, made: Made) {
        let Made { base, file, .. } = made;
        {
            let mut partition = shared.borrow_mut();
            partition.has_dir = true;
            if let Some(segment) = partition.segment_mut(base) {
                segment.named = true;
                segment.file = Some(file);
            }
        }
        self.note_open(shared, base);
    }

    async fn flush_data_dir(&self) -> Result<(), Errno> {
        small::flush_dir(&self.0.lane, &self.0.config.data, self.0.journal.config().broken).await
    }

    /// Keeps the number of open segments bounded; whoever uses one now keeps it open.
    pub(super) fn note_open(&self, shared: &Shared, base: Offset) {
        let of = shared.borrow().of;
        let mut open = self.0.keep.open_files.borrow_mut();
        open.push_back((of, base));
        while self.0.upkeep_rules.open_files_max < open.len() {
            let Some((of, base)) = open.pop_front() else { break };
            let Some(shared) = self.partition(&of) else { continue };
            // Somebody may be working on it; its turn comes with the next one.
            if let Ok(mut partition) = shared.try_borrow_mut()
                && let Some(segment) = partition.segment_mut(base)
            {
                segment.file = None;
                segment.warm = Warm::default();
            }
        }
    }

    /// Makes a folder that says whose it is; neither its name nor what is in it is durable yet.
    async fn make_folder(&self, shared: &Shared) -> Result<(), Errno> {
        let lane = &self.0.lane;
        let (of, folder) = (shared.borrow().of, self.partition_dir(shared));
        let path = small::identity_path(&folder);
        if !small::ensure_dir(lane, &folder).await? {
            let found = small::read_whole(lane, &path).await?;
            let found = found.and_then(|it| small::decode_identity(&it).ok());
            if found.is_some_and(|it| it != of) {
                // Of a partition that had the name before and is not gone yet.
                return Err(Errno::EXIST);
            }
        }
        let access = Access { write: true, create: true, ..Access::default() };
        let (file, _) = lane.open(path, access).await?;
        let identity = Buf::copy_of(&small::encode_identity(of)).freeze();
        lane.write_all(&file, 0, identity, Sync::Data).await
    }
}

//! A partition's folder and the files in it: made when there is something to put there.
//!
//! DIR-1: a name is durable before any byte below it counts. DIR-2: a folder says inside whose it
//! is, so a partition never meets the bytes of another that had its name before.

use std::path::Path;

use corelane_core::buf::Buf;
use corelane_core::ids::Offset;
use corelane_core::ring::{Access, Errno, Fd, Sync};

use super::small;
use super::store::{Shared, Store};
use super::warm::Warm;

impl Store {
    /// The file of an unfinished segment, made at first use.
    pub(super) async fn file_to_write(&self, shared: &Shared, base: Offset) -> Result<Fd, Errno> {
        self.ensure_folder(shared).await?;
        let named = shared.borrow().segment(base).is_some_and(|it| it.named);
        if named {
            return self.segment_file(shared, base).await;
        }
        let access = Access { write: true, create: true, direct: true, ..Access::default() };
        let path = self.segment_path(shared, base);
        let (file, _) = self.0.lane.open(&path, access).await?;
        let broken = self.0.journal.config().broken;
        small::flush_dir(&self.0.lane, &self.partition_dir(shared), broken).await?;
        if let Some(segment) = shared.borrow_mut().segment_mut(base) {
            segment.named = true;
            segment.file = Some(file.clone());
        }
        self.note_open(shared, base);
        Ok(file)
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

    async fn ensure_folder(&self, shared: &Shared) -> Result<(), Errno> {
        if shared.borrow().has_dir {
            return Ok(());
        }
        let (of, folder) = (shared.borrow().of, self.partition_dir(shared));
        if !small::ensure_dir(&self.0.lane, &folder).await? {
            let found = small::read_whole(&self.0.lane, &small::identity_path(&folder)).await?;
            let found = found.and_then(|it| small::decode_identity(&it).ok());
            if found.is_some_and(|it| it != of) {
                // Of a partition that had the name before and is not gone yet.
                return Err(Errno::EXIST);
            }
        }
        self.write_identity(&folder, &small::encode_identity(of)).await?;
        shared.borrow_mut().has_dir = true;
        Ok(())
    }

    async fn write_identity(&self, folder: &Path, bytes: &[u8]) -> Result<(), Errno> {
        let lane = &self.0.lane;
        let broken = self.0.journal.config().broken;
        let access = Access { write: true, create: true, ..Access::default() };
        let (file, _) = lane.open(small::identity_path(folder), access).await?;
        lane.write_all(&file, 0, Buf::copy_of(bytes).freeze(), Sync::None).await?;
        lane.flush(&file).await?;
        small::flush_dir(lane, folder, broken).await?;
        small::flush_dir(lane, &self.0.config.data, broken).await
    }
}

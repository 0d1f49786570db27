//! Partitions whose bytes are not what was promised: they are offline, the others serve.
//!
//! Found at a start, or by whoever reads it while others serve; noted in a small file of the data
//! directory, and so offline at every later start too. Those a start knows are in one list, those
//! that a lane found since in a list of its own. DAMAGE-1: nothing that is on disk of such a partition
//! is changed, and the journals and checkpoints of the generation that it was found in are kept
//! beside, until somebody deletes its topic.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corelane_core::ids::{LaneId, LeaderEpoch, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::ring::{Errno, FileKind};

use super::boot::{Notice, OpenError, RecoveredPartition, RecoveredSegment, generation_of};
use super::mutant::Mutation;
use super::open::remove_folder;
use super::small::{self, DAMAGE_FORMAT, DAMAGE_MAGIC, Manifest, SmallError};
use super::store::{ReadError, Shared, Store};
use crate::bytes::{Put, Reader, Short};
use crate::frame::BLOCK_BYTES;
use crate::recover::Recovered;

const DAMAGE_NAME: &str = "corelane.damaged";

/// Where journals and checkpoints go that are kept for inspection.
const KEPT_NAME: &str = "kept";

/// The least bytes one of them takes in the list.
const DAMAGE_BYTES_MIN: usize = 44;

/// What is wrong with a partition, where, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub of: TopicPartition,
    /// The run whose bytes are not there.
    pub generation: u64,
    pub file: PathBuf,
    pub position: u64,
    pub why: String,
}

impl Damage {
    /// What a start could not do with a partition, if it is the partition's own matter.
    ///
    /// # Errors
    /// With what concerns the whole directory, or this process.
    pub(super) fn of_error(
        of: TopicPartition,
        generation: u64,
        error: OpenError,
    ) -> Result<Self, OpenError> {
        match error {
            OpenError::Damaged { file, position, why } => {
                Ok(Self { of, generation, file, position, why })
            }
            OpenError::Disk { file, errno: errno @ (Errno::NOENT | Errno::IO) } => {
                Ok(Self { of, generation, file, position: 0, why: errno.to_string() })
            }
            other => Err(other),
        }
    }
}

pub(super) fn damage_path(data: &Path) -> PathBuf {
    data.join(DAMAGE_NAME)
}

/// The list of a lane that found damage itself, beside its checkpoint.
fn lane_damage_path(data: &Path, generation: u64, lane: LaneId) -> PathBuf {
    data.join("lanes").join(format!("{generation}-{lane}.damaged"))
}

/// The partitions that earlier runs found damaged.
pub(super) async fn read_damages(
    lane: &Lane,
    data: &Path,
    before: Manifest,
) -> Result<Vec<Damage>, OpenError> {
    let mut all = read_list(lane, damage_path(data)).await?;
    for of in (0..before.lanes).map(LaneId) {
        all.extend(read_list(lane, lane_damage_path(data, before.generation, of)).await?);
    }
    Ok(all)
}

async fn read_list(lane: &Lane, path: PathBuf) -> Result<Vec<Damage>, OpenError> {
    let bytes = small::read_whole(lane, &path).await;
    let bytes = bytes.map_err(|errno| OpenError::disk(&path, errno))?;
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    decode(&bytes).map_err(|error| match error {
        SmallError::Newer { version } => OpenError::Newer { file: path, version },
        other => OpenError::damaged(&path, 0, other.to_string()),
    })
}

/// Notes the damaged partitions among `notices`, before the generation counts.
pub(super) async fn write_damages(
    lane: &Lane,
    data: &Path,
    notices: &[Notice],
    broken: Mutation,
) -> Result<(), Errno> {
    let path = damage_path(data);
    let damages: Vec<&Damage> = damages(notices).collect();
    if damages.is_empty() {
        return match lane.remove(&path, FileKind::File).await {
            Ok(()) => small::flush_dir(lane, data, broken).await,
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        };
    }
    small::replace(lane, &path, &encode(&damages), broken).await
}

fn damages(notices: &[Notice]) -> impl Iterator<Item = &Damage> {
    notices.iter().filter_map(|it| match it {
        Notice::Damaged(damage) => Some(damage),
        Notice::TornEnd { .. } | Notice::Stray { .. } | Notice::IndexRebuilt { .. } => None,
    })
}

/// Puts journals and checkpoints aside in which damage was found (DAMAGE-1), and takes away those that
/// no damage needs any more.
pub(super) async fn keep_generations(
    lane: &Lane,
    data: &Path,
    notices: &[Notice],
    broken: Mutation,
) -> Result<(), Errno> {
    let wanted: BTreeSet<u64> = damages(notices).map(|it| it.generation).collect();
    let kept = data.join(KEPT_NAME);
    match lane.list(&kept).await {
        Ok(entries) => {
            let needed = |name: &str| generation_of(name).is_none_or(|it| wanted.contains(&it));
            for entry in entries.into_iter().filter(|it| !needed(&it.name)) {
                let path = kept.join(entry.name);
                match entry.kind {
                    FileKind::Dir => remove_folder(lane, &path).await?,
                    _ => lane.remove(path, FileKind::File).await?,
                }
            }
        }
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    if wanted.is_empty() {
        return Ok(());
    }
    small::ensure_dir(lane, &kept).await?;
    for folder in ["lanes", "journal"].map(|it| data.join(it)) {
        for entry in lane.list(&folder).await? {
            if generation_of(&entry.name).is_some_and(|it| wanted.contains(&it)) {
                lane.rename(folder.join(&entry.name), kept.join(&entry.name)).await?;
            }
        }
    }
    small::flush_dir(lane, &kept, broken).await
}

impl Store {
    /// Does something that reads, and takes the partition offline when its bytes are twice not what
    /// was written: the first time the disk may have given others than it has.
    pub(super) async fn reading<T>(
        &self,
        shared: &Shared,
        read: impl AsyncFn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut suspected = false;
        loop {
            let cuts = shared.borrow().cuts;
            let done = read().await;
            if shared.borrow().deleted {
                // Its names may be another's by now.
                return Err(ReadError::NotHere);
            }
            // What was planned before the log was cut back may be gone.
            if shared.borrow().cuts != cuts {
                suspected = false;
                continue;
            }
            match done {
                Err(ReadError::Corrupt { path, position }) if suspected => {
                    self.take_offline(shared, path.clone(), position);
                    return Err(ReadError::Corrupt { path, position });
                }
                Err(ReadError::Corrupt { .. }) => suspected = true,
                done => return done,
            }
        }
    }

    /// No whole batch of the partition begins where one must. What was appended before goes where it
    /// belongs; nothing is read or appended any more.
    pub(super) fn take_offline(&self, shared: &Shared, file: PathBuf, position: u64) {
        let mut partition = shared.borrow_mut();
        if partition.deleted || partition.damage.is_some() {
            return;
        }
        let damage = Damage {
            of: partition.of,
            generation: self.0.journal.config().incarnation,
            file,
            position,
            why: "the batch that belongs here is not here".to_owned(),
        };
        partition.damage = Some(damage.clone());
        partition.changed.notify();
        self.0.keep.tell(Notice::Damaged(damage));
        self.0.keep.unlisted.set(true);
        self.0.upkeep.notify();
    }

    /// Writes down what this lane took offline, for later starts.
    pub(super) async fn list_damages(&self) -> Result<(), Errno> {
        if !self.0.keep.unlisted.replace(false) {
            return Ok(());
        }
        let config = self.0.journal.config();
        let partitions = self.partitions();
        let damages = partitions.iter().filter_map(|it| it.borrow().damage.clone());
        let damages: Vec<Damage> =
            damages.filter(|it| it.generation == config.incarnation).collect();
        let path = lane_damage_path(&self.0.config.data, config.incarnation, self.0.lane.id());
        let bytes = encode(&damages.iter().collect::<Vec<_>>());
        let written = small::replace(&self.0.lane, &path, &bytes, config.broken).await;
        self.0.keep.unlisted.set(self.0.keep.unlisted.get() || written.is_err());
        written
    }
}

/// A damaged partition as a lane takes it: what its files hold, and nothing else.
pub(super) fn left_as_it_is(it: &Recovered, damage: Damage) -> RecoveredPartition {
    let segments = it.segments.iter().map(|segment| {
        let finished = segment.sealed && segment.stored == segment.length;
        let ragged = if finished { 0 } else { segment.stored % BLOCK_BYTES as u32 };
        let stored = segment.stored - ragged;
        let mut extents = segment.extents.clone();
        extents.retain(|it| it.position + it.bytes <= stored);
        RecoveredSegment {
            base: segment.base,
            finished,
            stored: u64::from(stored),
            extents,
            tail: Vec::new(),
            batches: Vec::new(),
        }
    });
    RecoveredPartition {
        of: it.of,
        name: it.topic.clone(),
        ownership: it.ownership,
        leader_epoch: it.epochs.latest().unwrap_or(LeaderEpoch(0)),
        log_start: it.log_start.max(it.segments[0].base).min(it.end.max(it.segments[0].base)),
        end: it.end.max(it.segments[0].base),
        epochs: it.epochs.clone(),
        producers: it.producers.clone(),
        segments: segments.collect(),
        dropped: Vec::new(),
        // Its folder is nobody else's, whatever is in it.
        has_dir: true,
        deleted: false,
        damage: Some(damage),
    }
}

fn encode(damages: &[&Damage]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_count(damages.len());
    for it in damages {
        body.put_partition(it.of);
        body.put_u64(it.generation);
        body.put_u64(it.position);
        for text in [&*it.file.to_string_lossy(), &it.why] {
            body.put_count(text.len());
            body.put(text.as_bytes());
        }
    }
    small::sealed(DAMAGE_MAGIC, DAMAGE_FORMAT, &body)
}

fn decode(bytes: &[u8]) -> Result<Vec<Damage>, SmallError> {
    let body = small::unsealed(DAMAGE_MAGIC, DAMAGE_FORMAT, bytes)?;
    read_all(&mut Reader::new(body)).map_err(|Short| SmallError::Length)
}

fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Damage>, Short> {
    let count = reader.count(DAMAGE_BYTES_MIN)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let (of, generation, position) = (reader.partition()?, reader.u64()?, reader.u64()?);
        let (file, why) = (text(reader)?, text(reader)?);
        all.push(Damage { of, generation, file: file.into(), position, why });
    }
    Ok(all)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Short> {
    let len = reader.u32()? as usize;
    Ok(String::from_utf8_lossy(reader.bytes(len)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::ids::{PartitionIndex, TopicId};

    #[test]
    fn damages_read_as_they_were_written() {
        let damage = |partition| Damage {
            of: TopicPartition { topic: TopicId([3; 16]), partition: PartitionIndex(partition) },
            generation: 7,
            file: "/data/orders-1/00000000000000000000.log".into(),
            position: 4096,
            why: "it is not whole".to_owned(),
        };
        let all = [damage(1), damage(2)];
        let bytes = encode(&all.iter().collect::<Vec<_>>());
        assert_eq!(decode(&bytes), Ok(all.to_vec()));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

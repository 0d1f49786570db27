//! Starting a generation: every lane takes its share of what was found, then the manifest is swapped.
//!
//! A lane writes a new journal with the bytes that no file has yet, and a checkpoint; both are
//! durable before [`adopt`] makes them count. Until then the earlier generation is whole, and a
//! crash leaves it so (BOOT-1): a [`Ready`] store takes nothing and writes no segment.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::{Importance, Lane};
use corelane_core::metrics::Metrics;
use corelane_core::ring::{Errno, FileKind};
use corelane_core::sync::Event;

use super::boot::{
    Found, Notice, OpenError, RecoveredPartition, RecoveredSegment, checkpoint_path, generation_of,
    journal_dir,
};
use super::damage::{damage_path, keep_generations, write_damages};
use super::journal::{Journal, JournalConfig, JournalRefusal};
use super::leave::{self, Left};
use super::mutant::Mutation;
use super::partition::{LogRules, Partition};
use super::segment::{Mark, Segment};
use super::small::{self, Manifest};
use super::store::{Shared, Store, StoreConfig, head_of};
use super::tail::NoMemory;
use super::upkeep::UpkeepRules;
use crate::dirs::PartitionDir;
use crate::frame::{Body, ENTRY_HEADER_BYTES, Entry, JournalId};

/// Bytes of one carried entry at most: several fit in a frame.
pub(super) const CARRIED_ENTRY_BYTES: usize = 64 * 1024;

/// On a small disk journals are small, too: together they take one part in so many of it.
const JOURNALS_SHARE: u64 = 16;
/// Files of a journal that must be allowed, for some to be written while others are retired.
const SLOTS_MIN: usize = 4;

/// How a lane's log is set up.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The data directory, shared by all lanes.
    pub data: PathBuf,
    /// What one batch may unfold to.
    pub unfold_bytes_max: usize,
    /// One file of the journal.
    pub slot_bytes: u64,
    /// Files of the journal at most.
    pub slots_max: usize,
    pub upkeep: UpkeepRules,
    /// For tests.
    pub broken: Mutation,
}

impl LogConfig {
    /// The usual sizes.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            unfold_bytes_max: 16 << 20,
            slot_bytes: 8 << 20,
            slots_max: 32,
            upkeep: UpkeepRules::default(),
            broken: None,
        }
    }

    /// Files that the journal of one lane may have on a disk of this size.
    fn slots_on(&self, disk_bytes: u64) -> usize {
        let share = disk_bytes / JOURNALS_SHARE / u64::from(self.upkeep.lanes.max(1));
        let slots_max = usize::try_from(share / self.slot_bytes).unwrap_or(usize::MAX);
        self.slots_max.min(slots_max.max(SLOTS_MIN))
    }
}

/// A lane's log that holds its partitions but does not count yet.
#[must_use = "a store that is never started takes nothing"]
pub struct Ready {
    store: Store,
    /// Segments with bytes that must still reach their files.
    sealed: Vec<(TopicPartition, Offset)>,
}

impl Ready {
    /// Begins to work. Only once [`adopt`] has succeeded.
    #[must_use]
    pub fn start(self) -> Store {
        for it in self.sealed {
            // What does not fit is found when its journal file is retired.
            let _full = self.store.0.sealed.try_push(it);
        }
        self.store.start_upkeep();
        self.store
    }
}

impl Store {
    /// Takes over partitions under a new generation, and makes everything of it durable.
    ///
    /// # Errors
    /// When the disk fails, or the lane's memory does not hold what must be kept.
    pub async fn open(
        lane: &Lane,
        config: &LogConfig,
        generation: u64,
        mine: Vec<RecoveredPartition>,
        metrics: &Metrics,
    ) -> Result<Ready, OpenError> {
        let data = &config.data;
        let dirs = async {
            for folder in ["journal", "lanes"] {
                small::ensure_dir(lane, &data.join(folder)).await?;
            }
            small::flush_dir(lane, data, config.broken).await
        };
        dirs.await.map_err(|errno| OpenError::disk(data, errno))?;
        let space = lane.space(data).await.map_err(|errno| OpenError::disk(data, errno))?;
        let slots_max = config.slots_on(space.total_bytes);
        let live = mine.iter().filter(|it| !it.deleted);
        let tails = live.flat_map(|it| &it.segments).map(|it| it.tail.len() as u64);
        let carried: u64 = tails.sum();
        let random = (u128::from(lane.random()) << 64) | u128::from(lane.random());
        let dir = journal_dir(data, generation, lane.id());
        let journal = JournalConfig {
            dir: dir.clone(),
            id: JournalId(random.to_le_bytes()),
            incarnation: generation,
            slot_bytes: config.slot_bytes,
            // What was left by more lanes than there are now must fit, twice.
            slots_max: slots_max.max((2 * carried / config.slot_bytes + 2) as usize),
            carried_bytes: carried,
            broken: config.broken,
        };
        let on_journal = |errno| OpenError::disk(&dir, errno);
        let journal = Journal::create(lane, journal, metrics).await.map_err(on_journal)?;
        let store_config =
            StoreConfig { data: data.clone(), unfold_bytes_max: config.unfold_bytes_max };
        let rules = config.upkeep.clone();
        let store = Self::with_rules(lane, store_config, journal, rules, metrics);
        let feeder = store.clone();
        lane.spawn("journal feeder", Importance::Serving, async move { feeder.feed().await });
        let mut sealed = Vec::new();
        for it in mine {
            if it.deleted {
                continue;
            }
            let of = it.of;
            let dropped = it.dropped.clone();
            let revived = revive(lane, it);
            let partition =
                revived.map_err(|NoMemory| OpenError::Memory { needed_bytes: carried })?;
            let unfinished = partition.segments.iter().filter(|it| it.sealed && !it.finished);
            let unfinished = unfinished.filter(|_| partition.damage.is_none());
            sealed.extend(unfinished.map(|it| (of, it.base)));
            let shared = store.adopt(partition);
            store.0.keep.drop_later(of, dropped, store.0.journal.latest(), Vec::new());
            let bases: Vec<Offset> = shared.borrow().segments.iter().map(|it| it.base).collect();
            for base in bases {
                store.carry(&shared, base, u64::MAX).await.map_err(on_journal)?;
            }
        }
        store.look_for_left().await;
        let path = checkpoint_path(data, generation, lane.id());
        let written = store.checkpoint(0).await;
        written.map_err(|errno| OpenError::disk(&path, errno))?;
        store.look_at_space().await.map_err(|errno| OpenError::disk(data, errno))?;
        Ok(Ready { store, sealed })
    }

    /// Writes a segment's bytes below `up_to` that are in no file to the journal's head.
    pub(super) async fn carry(
        &self,
        shared: &Shared,
        base: Offset,
        up_to: u64,
    ) -> Result<(), Errno> {
        // Thousands of them follow each other: all use the same memory.
        let mut bytes = self.0.keep.carrying.take();
        let done = self.carry_by(shared, base, up_to, &mut bytes).await;
        self.0.keep.carrying.replace(bytes);
        done
    }

    async fn carry_by(
        &self,
        shared: &Shared,
        base: Offset,
        up_to: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let mut at = 0;
        loop {
            let needed = {
                let partition = shared.borrow();
                let Some(segment) = partition.segment(base) else { return Ok(()) };
                at = segment.flushed.max(at);
                let left = segment.len().min(up_to).saturating_sub(at);
                left.min(CARRIED_ENTRY_BYTES as u64) as usize
            };
            if needed == 0 {
                return Ok(());
            }
            if up_to == u64::MAX {
                self.0.journal.keeps_up().await?;
            }
            self.admit_patiently(ENTRY_HEADER_BYTES + needed).await?;
            let partition = shared.borrow();
            if partition.deleted {
                return Ok(());
            }
            let Some(segment) = partition.segment(base) else { return Ok(()) };
            bytes.clear();
            let to = (at + needed as u64).min(segment.len());
            if to <= at || at < segment.tail.start() {
                return Ok(());
            }
            bytes.reserve((to - at) as usize);
            segment.tail.copy(at, to, bytes);
            let end = partition.end();
            let position = u32::try_from(at).expect("segments stay below 4 GiB");
            let head = head_of(&partition, end, end, base, position);
            self.0.journal.push(&Entry { head, body: Body::Carried { bytes } }, None);
            self.0.keep.counts.carried.add(bytes.len() as u64);
            at = to;
        }
    }

    /// Waits until the journal takes what must be written again.
    pub(super) async fn admit_patiently(&self, bytes: usize) -> Result<(), Errno> {
        let journal = &self.0.journal;
        loop {
            match journal.admit_kept(bytes) {
                Ok(()) => return Ok(()),
                Err(JournalRefusal::Failed(errno)) => return Err(errno),
                Err(JournalRefusal::Full) if journal.is_durable(journal.latest()) => {
                    return Err(Errno::NOMEM);
                }
                Err(JournalRefusal::Full) => journal.moved().await,
            }
        }
    }
}

fn revive(lane: &Lane, it: RecoveredPartition) -> Result<Partition, NoMemory> {
    let changed = Event::new(lane);
    let mut partition = Partition::new(it.of, it.name, LogRules::default(), changed);
    partition.ownership = it.ownership;
    partition.leader_epoch = it.leader_epoch;
    if !it.epochs.starts().is_empty() {
        partition.epochs = it.epochs;
    }
    partition.producers = it.producers;
    partition.has_dir = it.has_dir;
    partition.damage = it.damage;
    let ends: Vec<Offset> = it.segments.iter().skip(1).map(|next| next.base).collect();
    let count = it.segments.len();
    let mut segments = Vec::with_capacity(count);
    for (number, found) in it.segments.into_iter().enumerate() {
        let end = ends.get(number).copied().unwrap_or(it.end);
        let mut segment = revive_segment(lane, &found, end, &partition)?;
        segment.sealed = number + 1 < count;
        segments.push(segment);
    }
    partition.restored(it.log_start, it.end, segments);
    partition.producers.on_high_watermark(it.end);
    partition.check();
    Ok(partition)
}

fn revive_segment(
    lane: &Lane,
    found: &RecoveredSegment,
    end: Offset,
    partition: &Partition,
) -> Result<Segment, NoMemory> {
    if found.finished {
        let mut segment = Segment::on_disk(found.base, found.stored, found.stored, true);
        segment.forget();
        return Ok(segment);
    }
    let mut segment = Segment::on_disk(found.base, found.stored, found.stored, false);
    segment.extents.clone_from(&found.extents);
    segment.restore(lane.pool(), &found.tail)?;
    let from = found.batches.first().map_or(Mark { end, position: found.len() }, |it| Mark {
        end: it.facts.base,
        position: it.position,
    });
    segment.indexed = from.position == 0;
    if segment.indexed {
        segment.index_from_start(partition.of);
    }
    let mut marks = VecDeque::new();
    for it in &found.batches {
        segment.note(&it.facts, it.position, it.bytes, partition.rules.index_interval_bytes);
        marks.push_back(Mark { end: it.facts.end, position: it.position + it.bytes });
    }
    segment.set_marks(from, marks);
    Ok(segment)
}

/// Makes the new generation count, and clears away what the earlier one left. Call it on one lane,
/// once all have opened.
///
/// # Errors
/// When the disk fails; the earlier generation counts then, or the new one, and both are whole.
pub async fn adopt(
    lane: &Lane,
    config: &LogConfig,
    generation: u64,
    lanes: u16,
    notices: &[Notice],
) -> Result<(), OpenError> {
    let data = &config.data;
    let manifest = Manifest { generation, lanes, clean: false };
    leave::unmark(lane, data).await.map_err(|errno| OpenError::disk(data, errno))?;
    let noted = write_damages(lane, data, notices, config.broken).await;
    noted.map_err(|errno| OpenError::disk(&damage_path(data), errno))?;
    put_manifest(lane, data, manifest, config.broken).await?;
    let clear = async {
        for notice in notices {
            if let Notice::Stray { folder } = notice {
                set_aside(lane, folder, generation).await?;
            }
        }
        keep_generations(lane, data, notices, config.broken).await?;
        clear_generations(lane, data, generation, config.broken).await?;
        clear_deleted(lane, data).await?;
        small::flush_dir(lane, data, config.broken).await
    };
    clear.await.map_err(|errno| OpenError::disk(data, errno))
}

/// Notes that the run ended in order: all lanes have closed, and `left` is what they said. Says
/// whether the directory is as Kafka's tools expect it, too.
///
/// # Errors
/// When the disk fails; the next start then finds a run that did not end in order.
pub async fn mark_clean(
    lane: &Lane,
    config: &LogConfig,
    generation: u64,
    lanes: u16,
    mut left: Vec<Left>,
) -> Result<bool, OpenError> {
    let data = &config.data;
    let whole = match leave::leave_lists(lane, data, &mut left).await {
        // They can wait, the run's end cannot.
        Err(Errno::NOSPC) => false,
        listed => listed.map_err(|errno| OpenError::disk(data, errno))?,
    };
    let manifest = Manifest { generation, lanes, clean: true };
    put_manifest(lane, data, manifest, config.broken).await?;
    if !whole {
        return Ok(false);
    }
    match leave::mark(lane, data, generation, config.broken).await {
        Ok(()) => Ok(true),
        Err(Errno::NOSPC) => Ok(false),
        Err(errno) => Err(OpenError::disk(data, errno)),
    }
}

async fn put_manifest(
    lane: &Lane,
    data: &Path,
    manifest: Manifest,
    broken: Mutation,
) -> Result<(), OpenError> {
    let path = Manifest::path(data);
    let put = small::replace(lane, &path, &manifest.encode(), broken).await;
    put.map_err(|errno| OpenError::disk(&path, errno))
}

/// Gives a folder that nobody knows another name. What belonged to a deleted partition goes.
async fn set_aside(lane: &Lane, folder: &Path, generation: u64) -> Result<(), Errno> {
    let identity = small::read_whole(lane, &small::identity_path(folder)).await?;
    let identity = identity.and_then(|it| small::decode_identity(&it).ok());
    let name = folder.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let live = PartitionDir::parse(name);
    let aside = match (identity, live) {
        (Some(of), Some(PartitionDir::Live { topic, .. })) => {
            PartitionDir::Deleting { topic, of }.name()
        }
        _ => format!("{name}.{generation}-stray"),
    };
    lane.rename(folder, folder.with_file_name(aside)).await
}

async fn clear_generations(
    lane: &Lane,
    data: &Path,
    generation: u64,
    broken: Mutation,
) -> Result<(), Errno> {
    let lanes = data.join("lanes");
    for entry in lane.list(&lanes).await? {
        if generation_of(&entry.name).is_some_and(|it| it != generation) {
            lane.remove(lanes.join(entry.name), FileKind::File).await?;
        }
    }
    let journals = data.join("journal");
    for entry in lane.list(&journals).await? {
        if generation_of(&entry.name).is_some_and(|it| it != generation) {
            remove_folder(lane, &journals.join(entry.name)).await?;
        }
    }
    // The next start may need their room.
    small::flush_dir(lane, &lanes, broken).await?;
    small::flush_dir(lane, &journals, broken).await
}

async fn clear_deleted(lane: &Lane, data: &Path) -> Result<(), Errno> {
    for entry in lane.list(data).await? {
        if let Some(PartitionDir::Deleting { .. }) = PartitionDir::parse(&entry.name) {
            remove_folder(lane, &data.join(entry.name)).await?;
        }
    }
    Ok(())
}

/// Takes away a folder of files.
pub(super) async fn remove_folder(lane: &Lane, folder: &Path) -> Result<(), Errno> {
    for entry in lane.list(folder).await? {
        lane.remove(folder.join(entry.name), FileKind::File).await?;
    }
    // What is removed gives its room back once that is durable.
    lane.flush_dir(folder).await?;
    lane.remove(folder, FileKind::Dir).await
}

/// Which lane of `lanes` a found partition may go to is the caller's choice; this gives them out.
#[must_use]
pub fn share_out(
    found: &mut Found,
    lanes: u16,
    home: impl Fn(&TopicPartition) -> u16,
) -> Vec<Vec<RecoveredPartition>> {
    let mut shares: Vec<Vec<_>> = (0..lanes).map(|_| Vec::new()).collect();
    for it in std::mem::take(&mut found.partitions) {
        shares[usize::from(home(&it.of) % lanes)].push(it);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/tuning.md");

    /// What the document says of small disks is what the rules say, in MiB.
    #[test]
    fn small_disks_keep_free_what_the_document_says() {
        for disk in [256_u64, 1024, 4096, 16_384, 65_536] {
            let mut row = format!("| {disk} |");
            for lanes in [1, 4] {
                let mut config = LogConfig::new("/data");
                config.upkeep.lanes = lanes;
                let free = config.upkeep.reserve_bytes(disk << 20, config.slot_bytes) >> 20;
                let slots = config.slots_on(disk << 20) as u64 * u64::from(lanes);
                let journals = (slots * config.slot_bytes) >> 20;
                row.push_str(&format!(" {free} | {journals} |"));
            }
            assert!(DOCUMENT.contains(&row), "docs/tuning.md lacks: {row}");
        }
    }
}

//! What an earlier run left in a data directory, found before anything is written.
//!
//! Every start is a new *generation*. The manifest names the generation whose journals and
//! checkpoints count; those of any other are leftovers of a start that did not get far. Recovery
//! reads all lanes of that generation, whatever the number of lanes is now, and gives partitions
//! with the bytes their files do not have. It changes nothing but the lock.
//!
//! BOOT-1: until [`adopt`](super::open::adopt) has swapped the manifest, everything that the
//! earlier generation needs stays as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corelane_core::ids::{LaneId, LeaderEpoch, Offset, TopicPartition};
use corelane_core::lane::{Lane, join_all};
use corelane_core::ring::{Access, Errno, FileKind};

use super::damage::{Damage, left_as_it_is, read_damages};
use super::extents::{Verified, take_files, verify_extents};
use super::mutant::{Mutant, Mutation};
use super::scan::{Next, ScanError, Source, read_patiently, scan};
use super::segment::BatchFacts;
use super::small::{self, DataLock, LockError, Manifest, SmallError};
use super::walk::{JournalFiles, KEPT_BYTES_MAX};
use crate::chain::ChainEnd;
use crate::checkpoint::{CHECKPOINT_FORMAT, Checkpoint, CheckpointError, ExtentSum};
use crate::dirs::{PartitionDir, SegmentFile};
use crate::epochs::LeaderEpochs;
use crate::frame::{BLOCK_BYTES, Body, FramePlace};
use crate::producers::Producers;
use crate::recover::{Part, Recovered, Recovery, Source as From};

/// A section that is not the last of its file claims to know the future: a file that ends with it
/// was cut short.
pub(super) const UNFINISHED: u64 = u64::MAX;

/// Partitions whose files are looked at together. Few need it.
const PARTITIONS_AT_ONCE: usize = 16;

/// Why a data directory cannot be opened. Nothing in it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process works on it.
    Locked {
        pid: String,
    },
    /// Written by a newer version of this program.
    Newer {
        file: PathBuf,
        version: u16,
    },
    /// Bytes that were reported durable are not there any more. They are kept for inspection.
    Damaged {
        file: PathBuf,
        position: u64,
        why: String,
    },
    Disk {
        file: PathBuf,
        errno: Errno,
    },
    /// The memory given to a lane does not hold what must be kept.
    Memory {
        needed_bytes: u64,
    },
}

impl OpenError {
    pub(super) fn disk(file: &Path, errno: Errno) -> Self {
        Self::Disk { file: file.to_owned(), errno }
    }

    pub(super) fn damaged(file: &Path, position: u64, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), position, why: why.into() }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked { pid } => {
                write!(f, "the data directory is in use by the process with number {pid}")
            }
            Self::Newer { file, version } => {
                write!(f, "{} has format {version}, which is newer than ours", file.display())
            }
            Self::Damaged { file, position, why } => {
                write!(f, "{} is damaged at position {position}: {why}", file.display())
            }
            Self::Disk { file, errno } => write!(f, "{}: {errno}", file.display()),
            Self::Memory { needed_bytes } => {
                write!(f, "recovered bytes do not fit into memory: {needed_bytes} bytes are needed")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What a start finds.
#[derive(Debug)]
pub struct Found {
    /// Hold it as long as the process works on the directory.
    pub lock: DataLock,
    /// The generation this start writes.
    pub generation: u64,
    /// The manifest of the run before; `None` at the first start.
    pub before: Option<Manifest>,
    pub partitions: Vec<RecoveredPartition>,
    /// Folders and files that no checkpoint knows, and what else is worth a line in the log.
    pub notices: Vec<Notice>,
    /// Bytes that were only in journals.
    pub journal_bytes: u64,
}

/// Something found that needs no decision but should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A journal ends behind this commit; what may be behind it, nobody was told of.
    TornEnd { lane: LaneId, sequence: u64 },
    /// A partition's folder that no checkpoint knows. It is set aside when the start completes.
    Stray { folder: PathBuf },
    /// A partition's bytes are not what was promised: it is offline, and kept for inspection.
    Damaged(Damage),
    /// An index was missing or wrong, and was made again from its segment.
    IndexRebuilt { file: PathBuf, why: IndexFault },
}

/// What was wrong with an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFault {
    Missing,
    Damaged,
    /// Whole, of a format that is not ours. What it says follows from the segment, so it is replaced
    /// whether older or newer.
    Format {
        version: u16,
    },
    /// Made for more or fewer bytes than the segment has.
    Length,
}

/// A partition as it was left. Can be given to any lane.
#[derive(Debug, Clone)]
pub struct RecoveredPartition {
    pub of: TopicPartition,
    pub name: String,
    pub ownership: u64,
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub end: Offset,
    pub epochs: LeaderEpochs,
    pub producers: Producers,
    /// Oldest first, never empty; the last one takes appends.
    pub segments: Vec<RecoveredSegment>,
    /// Segments whose files are to be taken away.
    pub dropped: Vec<Offset>,
    /// Its folder exists.
    pub has_dir: bool,
    /// It was deleted; only its folder may be left.
    pub deleted: bool,
    /// It is offline. Nothing of it may be changed.
    pub damage: Option<Damage>,
}

/// A segment as it was left.
#[derive(Debug, Clone)]
pub struct RecoveredSegment {
    pub base: Offset,
    /// Whole on disk, trimmed and indexed.
    pub finished: bool,
    /// Bytes that are in the file; whole blocks unless it is finished.
    pub stored: u64,
    /// Checksums of ranges of the file.
    pub extents: Vec<ExtentSum>,
    /// The rest.
    pub tail: Vec<u8>,
    /// Batches of the tail whose places are known, without a gap up to the end.
    pub batches: Vec<FoundBatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundBatch {
    pub facts: BatchFacts,
    pub position: u64,
    pub bytes: u64,
}

impl RecoveredSegment {
    #[must_use]
    pub fn len(&self) -> u64 {
        self.stored + self.tail.len() as u64
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the journal of a lane lies.
pub(super) fn journal_dir(data: &Path, generation: u64, lane: LaneId) -> PathBuf {
    data.join("journal").join(format!("{generation}-{lane}"))
}

/// Where the checkpoint of a lane lies.
pub(super) fn checkpoint_path(data: &Path, generation: u64, lane: LaneId) -> PathBuf {
    data.join("lanes").join(format!("{generation}-{lane}.checkpoint"))
}

/// The generation in the name of a journal's folder or a checkpoint.
pub(super) fn generation_of(name: &str) -> Option<u64> {
    let (generation, rest) = name.split_once('-')?;
    let lane = rest.split('.').next()?;
    lane.parse::<u16>().ok()?;
    generation.parse().ok()
}

/// Finds what is in a data directory, which is made if it is missing. `pid` is our process.
///
/// # Errors
/// When the directory must not be used, or cannot be understood.
pub async fn recover(
    lane: &Lane,
    data: &Path,
    pid: u32,
    broken: Mutation,
) -> Result<Found, OpenError> {
    let made = small::ensure_dir(lane, data).await;
    let made = made.map_err(|errno| OpenError::disk(data, errno))?;
    if let Some(parent) = data.parent() {
        // A bare name lies in the directory we were started in.
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // Also when it was there: who made it may have been killed before its name was durable.
        match small::flush_dir(lane, parent, broken).await {
            // Where we may not even look, somebody else made it.
            Err(Errno::ACCES) if !made => {}
            flushed => flushed.map_err(|errno| OpenError::disk(parent, errno))?,
        }
    }
    let lock = DataLock::take(lane, data, pid).await.map_err(|error| match error {
        LockError::Held { pid } => OpenError::Locked { pid },
        LockError::Disk(errno) => OpenError::disk(data, errno),
    })?;
    let listed = lane.list(data).await.map_err(|errno| OpenError::disk(data, errno))?;
    let folders = listed.into_iter().filter(|it| it.kind == FileKind::Dir).map(|it| it.name);
    let mut folders: Vec<String> = folders.collect();
    folders.sort_unstable();
    let before = read_manifest(lane, data).await?;
    let mut found = Found {
        lock,
        generation: 1 + latest_generation(lane, data, before).await?,
        before,
        partitions: Vec::new(),
        notices: Vec::new(),
        journal_bytes: 0,
    };
    match before {
        Some(manifest) => read_generation(lane, data, manifest, &mut found, broken).await?,
        None => {
            // Segments are written only once there is a manifest.
            let segments = folders.iter().find(|it| PartitionDir::parse(it).is_some());
            if let Some(folder) = segments {
                let why = format!("it is missing although there is a partition {folder}");
                return Err(OpenError::damaged(&Manifest::path(data), 0, why));
            }
        }
    }
    look_at_folders(lane, data, &folders, &mut found).await?;
    Ok(found)
}

async fn read_manifest(lane: &Lane, data: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = Manifest::path(data);
    let bytes = small::read_whole(lane, &path).await;
    let bytes = bytes.map_err(|errno| OpenError::disk(&path, errno))?;
    let Some(bytes) = bytes else { return Ok(None) };
    Manifest::decode(&bytes).map(Some).map_err(|error| match error {
        SmallError::Newer { version } => OpenError::Newer { file: path, version },
        other => OpenError::damaged(&path, 0, other.to_string()),
    })
}

/// The highest generation that any file mentions: a start that did not get far left its own.
async fn latest_generation(
    lane: &Lane,
    data: &Path,
    before: Option<Manifest>,
) -> Result<u64, OpenError> {
    let mut latest = before.map_or(0, |it| it.generation);
    for folder in ["journal", "lanes"] {
        let folder = data.join(folder);
        match lane.list(&folder).await {
            Ok(entries) => {
                let named = entries.iter().filter_map(|it| generation_of(&it.name));
                latest = named.fold(latest, u64::max);
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(OpenError::disk(&folder, errno)),
        }
    }
    Ok(latest)
}

/// The bytes of a piece, and where they belong.
struct Wanted {
    frame: FramePlace,
    entry: u32,
    part: Part,
    skip: usize,
    partition: usize,
    segment: usize,
    at: usize,
    bytes: usize,
}

async fn read_generation(
    lane: &Lane,
    data: &Path,
    manifest: Manifest,
    found: &mut Found,
    broken: Mutation,
) -> Result<(), OpenError> {
    let mut recovery = Recovery::new();
    let mut heads = Vec::new();
    // Where the log ended when its checkpoint was made: batches begin there.
    let mut ends: BTreeMap<TopicPartition, (Offset, u64)> = BTreeMap::new();
    for of in (0..manifest.lanes).map(LaneId) {
        let path = checkpoint_path(data, manifest.generation, of);
        let checkpoint = read_checkpoint(lane, &path).await?;
        heads.push(checkpoint.head);
        for it in checkpoint.partitions.values() {
            let last = it.segments.last().expect("a record has a segment");
            ends.insert(it.of, (last.base, u64::from(last.length)));
        }
        recovery.checkpoint(checkpoint);
    }
    let mut journals = Vec::new();
    let mut durable = BTreeMap::new();
    let mut room = KEPT_BYTES_MAX;
    for head in &heads {
        let dir = journal_dir(data, manifest.generation, head.lane);
        let mut files = JournalFiles::find(lane, &dir, broken).await?;
        let walked =
            files.walk(lane, head, &mut room, |origin, entry| recovery.entry(origin, entry));
        let (end, known) = walked.await?;
        durable.insert(head.lane, known);
        match end {
            ChainEnd::Torn { last }
                if last.sequence < head.as_of && broken != Some(Mutant::NoFrameChain) =>
            {
                let why =
                    format!("frame {} is missing, the checkpoint needs it", last.sequence + 1);
                return Err(OpenError::damaged(&dir, 0, why));
            }
            ChainEnd::Torn { .. } if manifest.clean => {}
            ChainEnd::Torn { last } => {
                let (lane, sequence) = (head.lane, last.sequence);
                found.notices.push(Notice::TornEnd { lane, sequence });
            }
            ChainEnd::Corrupt { missing, durable, witness, .. } => {
                let file = files.path_of(witness).map_or(dir, Path::to_owned);
                let why = format!(
                    "frame {missing} is missing, but this frame knows up to {durable} durable"
                );
                return Err(OpenError::damaged(&file, witness.position, why));
            }
        }
        journals.push((head.lane, files));
    }
    let (partitions, _) = recovery.finish();
    let mut recovered: Vec<Recovered> = partitions.into_values().collect();
    let mut wanted: BTreeMap<LaneId, Vec<Wanted>> = BTreeMap::new();
    let known = read_damages(lane, data, manifest).await?;
    let since = manifest.generation;
    let mut verified = Vec::new();
    let mut first = 0;
    for some in recovered.chunks_mut(PARTITIONS_AT_ONCE) {
        let count = some.len();
        let (known, durable) = (&known, &durable);
        let taken = some.iter_mut().zip(first..).map(|(it, at)| async move {
            let mut wanted = BTreeMap::new();
            let damage = known.iter().find(|known| known.of == it.of && !it.deleted).cloned();
            let taken = match damage {
                Some(damage) => Err(damage),
                None => match take(lane, data, it, at, durable, &mut wanted).await {
                    Ok(taken) => Ok(taken),
                    Err(error) => Err(Damage::of_error(it.of, since, error)?),
                },
            };
            Ok(match taken {
                Ok((partition, extents)) => (partition, extents, wanted),
                Err(damage) => (left_as_it_is(it, damage), Vec::new(), BTreeMap::new()),
            })
        });
        for taken in join_all(taken).await {
            let (partition, extents, mine) = taken?;
            for (lane, pieces) in mine {
                wanted.entry(lane).or_default().extend(pieces);
            }
            found.partitions.push(partition);
            verified.push(extents);
        }
        first += count;
    }
    for (of, mut files) in journals {
        let Some(mut wanted) = wanted.remove(&of) else { continue };
        wanted.sort_by_key(|it| (it.frame, it.entry));
        fetch_pieces(lane, &mut files, &wanted, found).await?;
    }
    let ends = &ends;
    let mut all: Vec<_> = found.partitions.iter_mut().zip(&recovered).zip(verified).collect();
    for some in all.chunks_mut(PARTITIONS_AT_ONCE) {
        let done = some.iter_mut().map(|((partition, it), extents)| async move {
            if it.deleted || partition.damage.is_some() {
                return Ok(());
            }
            let done = async {
                take_files(lane, data, partition, extents).await?;
                replay(lane, data, partition, it, ends.get(&it.of).copied()).await
            };
            if let Err(error) = done.await {
                **partition = left_as_it_is(it, Damage::of_error(it.of, since, error)?);
            }
            Ok(())
        });
        join_all(done).await.into_iter().collect::<Result<(), OpenError>>()?;
    }
    let damages = found.partitions.iter().filter_map(|it| it.damage.clone());
    found.notices.extend(damages.map(Notice::Damaged));
    Ok(())
}

/// What can be said of a partition without its journal's bytes, which are noted in `wanted`.
async fn take(
    lane: &Lane,
    data: &Path,
    it: &mut Recovered,
    at: usize,
    durable: &BTreeMap<LaneId, u64>,
    wanted: &mut BTreeMap<LaneId, Vec<Wanted>>,
) -> Result<(RecoveredPartition, Vec<Verified>), OpenError> {
    if let (Some(fault), false) = (it.faults.first(), it.deleted) {
        let folder = live_dir(data, it);
        return Err(OpenError::damaged(&folder, 0, fault.to_string()));
    }
    let verified = verify_extents(lane, data, it, durable).await?;
    let partition = restore(lane, data, it, at, wanted).await?;
    Ok((partition, verified))
}

async fn read_checkpoint(lane: &Lane, path: &Path) -> Result<Checkpoint, OpenError> {
    let bytes = small::read_whole(lane, path).await;
    let bytes = bytes.map_err(|errno| OpenError::disk(path, errno))?;
    let bytes = bytes.ok_or_else(|| OpenError::damaged(path, 0, "the checkpoint is missing"))?;
    let refused = |at: usize, error: CheckpointError| match error {
        CheckpointError::Format { found } if CHECKPOINT_FORMAT < found => {
            OpenError::Newer { file: path.to_owned(), version: found }
        }
        other => OpenError::damaged(path, at as u64, other.to_string()),
    };
    let checkpoint = Checkpoint::load(&bytes).map_err(|error| refused(0, error))?;
    match checkpoint.stopped {
        Some(error) => Err(refused(checkpoint.bytes, error)),
        None if checkpoint.head.as_of == UNFINISHED => {
            Err(OpenError::damaged(path, checkpoint.bytes as u64, "the last section is missing"))
        }
        None => Ok(checkpoint),
    }
}

pub(super) fn live_dir(data: &Path, it: &Recovered) -> PathBuf {
    let dir = PartitionDir::Live { topic: it.topic.clone(), partition: it.of.partition };
    data.join(dir.name())
}

/// Makes room for a partition's tails, and notes which bytes belong there.
async fn restore(
    lane: &Lane,
    data: &Path,
    it: &Recovered,
    partition: usize,
    wanted: &mut BTreeMap<LaneId, Vec<Wanted>>,
) -> Result<RecoveredPartition, OpenError> {
    let mut segments = Vec::new();
    for (number, segment) in it.segments.iter().enumerate() {
        let finished = segment.sealed && segment.stored == segment.length;
        let path = live_dir(data, it).join(SegmentFile::Log(segment.base).name());
        // A segment that was cut goes on from a whole block, so that none is written in part.
        let ragged = if finished { 0 } else { segment.stored as usize % BLOCK_BYTES };
        let stored = u64::from(segment.stored) - ragged as u64;
        let mut tail = vec![0; (u64::from(segment.length) - stored) as usize];
        if 0 < ragged && !it.deleted {
            let bytes = read_range(lane, &path, stored, ragged).await?;
            tail[..ragged].copy_from_slice(&bytes);
        }
        for piece in &segment.pieces {
            let at = (u64::from(piece.position) - stored) as usize;
            match piece.source {
                From::Journal { origin, part, skip } => {
                    wanted.entry(origin.lane).or_default().push(Wanted {
                        frame: origin.frame,
                        entry: origin.entry,
                        part,
                        skip: skip as usize,
                        partition,
                        segment: number,
                        at,
                        bytes: piece.bytes as usize,
                    });
                }
                // Its bytes stay where they are, or come once the rest is known.
                From::Extent { .. } => {}
            }
        }
        segments.push(RecoveredSegment {
            base: segment.base,
            finished,
            stored,
            extents: segment.extents.clone(),
            tail,
            batches: Vec::new(),
        });
    }
    let has_dir = it.segments.iter().any(|it| 0 < it.stored);
    Ok(RecoveredPartition {
        of: it.of,
        name: it.topic.clone(),
        ownership: it.ownership,
        leader_epoch: it.epochs.latest().unwrap_or(LeaderEpoch(0)),
        log_start: it.log_start,
        end: it.end,
        epochs: it.epochs.clone(),
        producers: it.producers.clone(),
        segments,
        dropped: it.dropped.clone(),
        has_dir,
        deleted: it.deleted,
        damage: None,
    })
}

async fn fetch_pieces(
    lane: &Lane,
    files: &mut JournalFiles,
    wanted: &[Wanted],
    found: &mut Found,
) -> Result<(), OpenError> {
    let mut places: Vec<FramePlace> = wanted.iter().map(|it| it.frame).collect();
    places.dedup();
    let mut at = 0;
    let (partitions, journal_bytes) = (&mut found.partitions, &mut found.journal_bytes);
    files
        .again(lane, places.into_iter(), |place, frame| {
            let mut entries = frame.entries().zip(0..);
            let mut current = entries.next();
            while let Some(it) = wanted.get(at).filter(|it| it.frame == place) {
                while current.as_ref().is_some_and(|(_, number)| *number < it.entry) {
                    current = entries.next();
                }
                let (entry, _) = current.as_ref().expect("it was there before");
                let bytes = match (&entry.body, it.part) {
                    (Body::Data { bytes } | Body::Carried { bytes }, Part::Whole) => bytes,
                    (Body::Extent { head, .. }, Part::Head) => head,
                    (Body::Extent { tail, .. }, Part::Tail) => tail,
                    (other, part) => panic!("{part:?} of {other:?} was never a piece"),
                };
                let into = &mut partitions[it.partition].segments[it.segment].tail;
                into[it.at..it.at + it.bytes].copy_from_slice(&bytes[it.skip..it.skip + it.bytes]);
                *journal_bytes += it.bytes as u64;
                at += 1;
            }
        })
        .await
}

/// Learns from the batches that came after the checkpoint what it could not know: the state of
/// their producers, and where they lie.
async fn replay(
    lane: &Lane,
    data: &Path,
    partition: &mut RecoveredPartition,
    from: &Recovered,
    checkpointed: Option<(Offset, u64)>,
) -> Result<(), OpenError> {
    let now_ms = lane.wall().0;
    let dir = live_dir(data, from);
    let RecoveredPartition { segments, producers, .. } = partition;
    for segment in segments.iter_mut() {
        let known = from.producers_end;
        let begin = match (known, checkpointed) {
            // Everything is to be replayed.
            (None, _) => Some(0),
            (Some(_), Some((base, length))) if base == segment.base && length <= segment.len() => {
                Some(length)
            }
            (Some(end), _) if end <= segment.base => Some(0),
            _ => None,
        };
        let Some(begin) = begin.filter(|it| *it < segment.len()) else { continue };
        let path = dir.join(SegmentFile::Log(segment.base).name());
        let file = if begin < segment.stored {
            let access = Access { direct: true, ..Access::default() };
            let opened = lane.open(&path, access).await;
            Some(opened.map_err(|errno| OpenError::disk(&path, errno))?.0)
        } else {
            None
        };
        let source = Source {
            file: file.as_ref(),
            in_file: segment.stored,
            memory: &segment.tail,
            memory_from: segment.stored,
        };
        let mut batches = Vec::new();
        let walked = scan(lane, &source, begin, |batch, position| {
            if known.is_none_or(|end| end <= batch.base_offset()) {
                producers.replay(batch, now_ms);
            }
            if segment.stored <= position {
                batches.push(FoundBatch {
                    facts: BatchFacts {
                        base: batch.base_offset(),
                        end: batch.next_offset(),
                        max_timestamp: batch.max_timestamp(),
                        max_timestamp_offset: batch.last_offset(),
                    },
                    position,
                    bytes: batch.bytes().len() as u64,
                });
            }
            Next::More
        });
        walked.await.map_err(|error| match error {
            ScanError::Corrupt { position } => {
                OpenError::damaged(&path, position, "no whole batch begins here")
            }
            ScanError::Disk(errno) => OpenError::disk(&path, errno),
        })?;
        segment.batches = batches;
    }
    Ok(())
}

pub(super) async fn read_range(
    lane: &Lane,
    path: &Path,
    at: u64,
    bytes: usize,
) -> Result<Vec<u8>, OpenError> {
    let read = async {
        let (file, _) = lane.open(path, Access::default()).await?;
        let (read, buf) = read_patiently(lane, &file, at, bytes).await?;
        if read < bytes {
            return Err(Errno::IO);
        }
        Ok(buf.filled()[..bytes].to_vec())
    };
    read.await.map_err(|errno| OpenError::disk(path, errno))
}

/// Which folders are whose: a folder may be older than the partition that has its name now.
async fn look_at_folders(
    lane: &Lane,
    data: &Path,
    folders: &[String],
    found: &mut Found,
) -> Result<(), OpenError> {
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for (at, it) in found.partitions.iter().enumerate().filter(|it| !it.1.deleted) {
        let dir = PartitionDir::Live { topic: it.name.clone(), partition: it.of.partition };
        by_name.insert(dir.name(), at);
    }
    for name in folders {
        let Some(PartitionDir::Live { .. }) = PartitionDir::parse(name) else { continue };
        let folder = data.join(name);
        let owner = by_name.get(name).map(|&at| &mut found.partitions[at]);
        if owner.as_ref().is_some_and(|it| it.has_dir) {
            continue;
        }
        let path = small::identity_path(&folder);
        let bytes = small::read_whole(lane, &path).await;
        let bytes = bytes.map_err(|errno| OpenError::disk(&path, errno))?;
        let identity = match bytes.map(|it| small::decode_identity(&it)) {
            Some(Err(SmallError::Newer { version })) => {
                return Err(OpenError::Newer { file: path, version });
            }
            decoded => decoded.and_then(Result::ok),
        };
        match owner {
            Some(owner) if identity == Some(owner.of) => owner.has_dir = true,
            _ => found.notices.push(Notice::Stray { folder }),
        }
    }
    Ok(())
}

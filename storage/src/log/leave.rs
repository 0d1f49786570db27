//! What a clean stop leaves for Kafka's own tools: every log whole in its segment files, and beside
//! them the small files that Kafka keeps there.
//!
//! LEAVE-1: none of it counts for us. The next start takes what checkpoint and journal say; the block
//! that a log ends in stays in the journal, and is written again once it is whole.
//! LEAVE-2: the index of an open segment is believed only where a run begins with the log as the stop left
//! it: one that was cut short may have put another there, of bytes that were lost.
//! LEAVE-3: a stop writes what changed since the last one, and no longer than it may.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::ring::{Errno, FileKind};
use corelane_core::time::Nanos;

use super::crowd;
use super::mutant::Mutation;
use super::partition::Partition;
use super::scan::ScanError;
use super::segment::Segment;
use super::small::{self, SmallError};
use super::store::{Shared, Store};
use super::truncate::TruncateError;
use crate::bytes::{Put, Reader, Short};
use crate::checksum;
use crate::dirs::SegmentFile;
use crate::frame::BLOCK_BYTES;
use crate::index::Index;
use crate::kafka_files as kafka;

const LEFT_MAGIC: [u8; 8] = *b"CLleft_\n";
/// The only format of the list that is read or written.
const LEFT_FORMAT: u16 = 1;
const LEFT_NAME: &str = "corelane.left";

/// A partition at a clean stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub of: TopicPartition,
    pub name: String,
    pub log_start: Offset,
    pub end: Offset,
    pub high_watermark: Offset,
    /// Its folder is as Kafka's tools expect it.
    pub whole: bool,
    known: Known,
}

/// What the next stop must know to write only what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    /// Over everything that the files tell; `None` when some are missing.
    sum: Option<u32>,
    /// Segments below have theirs for good.
    sealed_below: Offset,
}

impl Left {
    fn new(partition: &Partition, known: Known) -> Self {
        Self {
            of: partition.of,
            name: partition.name.clone(),
            log_start: partition.log_start(),
            end: partition.end(),
            high_watermark: partition.visible(),
            whole: known.sum.is_some(),
            known,
        }
    }
}

/// Over everything that Kafka's files of a partition tell.
fn sum_of(partition: &Partition) -> u32 {
    let mut facts = Vec::new();
    for it in [partition.log_start(), partition.end(), partition.visible()] {
        facts.put_i64(it.0);
    }
    for it in &partition.segments {
        facts.put_i64(it.base.0);
        facts.put_u64(it.len());
    }
    facts.put(kafka::epoch_checkpoint(&partition.epochs).as_bytes());
    partition.producers.encode(&mut facts);
    checksum::of(&facts)
}

fn encode(left: &[Left]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_count(left.len());
    for it in left {
        body.put_partition(it.of);
        body.put_i64(it.known.sealed_below.0);
        body.put_u8(u8::from(it.known.sum.is_some()));
        body.put_u32(it.known.sum.unwrap_or(0));
    }
    small::sealed(LEFT_MAGIC, LEFT_FORMAT, &body)
}

const ENTRY_BYTES: usize = 16 + 4 + 8 + 1 + 4;

fn decode(bytes: &[u8]) -> Result<BTreeMap<TopicPartition, Known>, SmallError> {
    let body = small::unsealed(LEFT_MAGIC, LEFT_FORMAT, bytes)?;
    let mut reader = Reader::new(body);
    let mut read = || {
        let mut all = BTreeMap::new();
        for _ in 0..reader.count(ENTRY_BYTES)? {
            let of = reader.partition()?;
            let sealed_below = reader.offset()?;
            let sum = (reader.u8()? == 1, reader.u32()?);
            all.insert(of, Known { sum: sum.0.then_some(sum.1), sealed_below });
        }
        Ok(all)
    };
    read().map_err(|Short| SmallError::Length)
}

/// Errors after which a partition is as good as before, and only not as Kafka wants it.
pub(super) fn may_stay(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::EXIST | Errno::NOMEM | Errno::MFILE)
}

/// One partition's turn.
struct Turn<'a> {
    shared: &'a Shared,
    folder: PathBuf,
    /// Segments below have their files.
    sealed_below: Cell<Offset>,
    until: Nanos,
    /// What belongs into the folder, of the segments that were looked at.
    kept: RefCell<BTreeSet<SegmentFile>>,
}

impl Store {
    /// Writes out every partition that changed since the last clean stop. Nothing may be appended
    /// any more.
    pub(super) async fn leave(&self, all: &[Shared]) -> Result<Vec<Left>, Errno> {
        let until = self.0.lane.now() + self.0.upkeep_rules.leave_within;
        let known = self.known_left().await?;
        let left = RefCell::new(Vec::with_capacity(all.len()));
        let mut changed = Vec::new();
        for shared in all {
            {
                let partition = shared.borrow();
                if partition.deleted || partition.damage.is_some() {
                    continue;
                }
                let before = known.get(&partition.of).copied().unwrap_or_default();
                if before.sum.is_some_and(|it| it == sum_of(&partition)) {
                    left.borrow_mut().push(Left::new(&partition, before));
                } else {
                    changed.push((shared.clone(), before));
                }
            }
            self.0.lane.spend(BLOCK_BYTES).await;
        }
        for some in changed.chunks(self.files_at_once()) {
            let filled = some.iter().filter(|it| !it.0.borrow().open_segment().is_empty());
            let filled: Vec<_> = filled.map(|it| it.0.clone()).collect();
            if self.0.lane.now() < until {
                match self.make_files(&filled).await {
                    Err(errno) if !may_stay(errno) => return Err(errno),
                    // Each tries again for itself.
                    Ok(()) | Err(_) => {}
                }
            }
            crowd::each(some, |(shared, before)| async {
                if let Some(it) = self.leave_one(shared, *before, until).await? {
                    left.borrow_mut().push(it);
                }
                Ok(())
            })
            .await?;
        }
        Ok(left.into_inner())
    }

    /// What the last stop left. Without its list, or with one that cannot be read, nothing is known.
    async fn known_left(&self) -> Result<BTreeMap<TopicPartition, Known>, Errno> {
        let path = self.0.config.data.join(LEFT_NAME);
        let bytes = small::read_whole(&self.0.lane, &path).await?;
        Ok(bytes.and_then(|it| decode(&it).ok()).unwrap_or_default())
    }

    /// Finds out which logs are as the last stop left them (LEAVE-2). Nothing was appended yet.
    pub(super) async fn look_for_left(&self) {
        // Whoever is not known is read through when it must be.
        let Ok(known) = self.known_left().await else { return };
        for (of, it) in known {
            let Some(shared) = self.partition(&of) else { continue };
            let is_as_left = it.sum.is_some_and(|it| it == sum_of(&shared.borrow()));
            if is_as_left {
                let mut partition = shared.borrow_mut();
                let open = partition.open_segment_mut();
                open.left_bytes = open.len();
            }
            self.0.lane.spend(BLOCK_BYTES).await;
        }
    }

    async fn leave_one(
        &self,
        shared: &Shared,
        before: Known,
        until: Nanos,
    ) -> Result<Option<Left>, Errno> {
        let turn = Turn {
            shared,
            folder: self.partition_dir(shared),
            sealed_below: Cell::new(before.sealed_below),
            until,
            kept: RefCell::default(),
        };
        let whole = match self.leave_files(&turn, before).await {
            Ok(whole) => {
                // The one that is open will have others.
                let open = shared.borrow().open_segment().base;
                turn.sealed_below.set(turn.sealed_below.get().min(open));
                whole
            }
            Err(errno) if may_stay(errno) => false,
            Err(errno) => return Err(errno),
        };
        let partition = shared.borrow();
        if partition.deleted || partition.damage.is_some() {
            return Ok(None);
        }
        self.0.keep.counts.left.add(1);
        let sum = whole.then(|| sum_of(&partition));
        let known = Known { sum, sealed_below: turn.sealed_below.get() };
        Ok(Some(Left::new(&partition, known)))
    }

    /// Says whether everything is there now.
    async fn leave_files(&self, turn: &Turn<'_>, before: Known) -> Result<bool, Errno> {
        if turn.until <= self.0.lane.now() {
            return Ok(false);
        }
        let shared = turn.shared;
        self.finish_all(shared).await?;
        match self.written_through(shared).await {
            Ok(()) => {}
            Err(TruncateError::Failed(errno)) => return Err(errno),
            Err(_) => return Ok(false),
        }
        let (open, len, has_dir) = {
            let partition = shared.borrow();
            let open = partition.open_segment();
            (open.base, open.len(), partition.has_dir)
        };
        if !has_dir && len == 0 {
            return Ok(true);
        }
        let there: BTreeSet<SegmentFile> = if has_dir {
            let listed = self.0.lane.list(&turn.folder).await?;
            listed.iter().filter_map(|it| SegmentFile::parse(&it.name)).collect()
        } else {
            BTreeSet::new()
        };
        let closed: Vec<Offset> = {
            let partition = shared.borrow();
            // A cut takes away what lay beside the segments it touched.
            let known =
                |base| base < before.sealed_below && there.contains(&SegmentFile::KafkaIndex(base));
            let closed = partition.segments.iter().filter(|it| it.finished && !known(it.base));
            closed.map(|it| it.base).collect()
        };
        if 0 < len {
            self.write_up_to(shared, open, len - len % BLOCK_BYTES as u64).await?;
            self.write_end(shared, open, len).await?;
        }
        let mut whole = true;
        for base in closed {
            whole = whole && self.leave_closed(turn, base).await?;
            if !whole {
                break;
            }
            let next = shared.borrow().end_of(base).unwrap_or(base);
            turn.sealed_below.set(next.max(turn.sealed_below.get()));
        }
        whole = whole && (len == 0 || self.leave_open(turn, open).await?);
        if whole {
            self.leave_partition(turn).await?;
            self.clear_stale(turn, before, &there).await?;
        }
        small::flush_dir(&self.0.lane, &turn.folder, self.0.journal.config().broken).await?;
        Ok(whole)
    }

    async fn leave_closed(&self, turn: &Turn<'_>, base: Offset) -> Result<bool, Errno> {
        if turn.until <= self.0.lane.now() {
            return Ok(false);
        }
        let (of, len) = {
            let partition = turn.shared.borrow();
            (partition.of, partition.segment(base).map_or(0, Segment::len))
        };
        let path = turn.folder.join(SegmentFile::Index(base).name());
        let found = small::read_whole(&self.0.lane, &path).await?;
        let found = found
            .filter(|it| Index::decode(it, of, base).is_ok_and(|it| u64::from(it.length()) == len));
        let bytes = match found {
            Some(bytes) => bytes,
            None => match self.rebuild_index(turn.shared, base).await {
                Ok(bytes) => bytes,
                Err(ScanError::Disk(errno)) => return Err(errno),
                // Who reads there will find it, and say so.
                Err(ScanError::Corrupt { .. }) => return Ok(false),
            },
        };
        self.leave_indexes(turn, base, &bytes).await
    }

    /// The index of a segment that goes on: ours, too, so that nobody has to read the segment for it
    /// (LEAVE-2).
    async fn leave_open(&self, turn: &Turn<'_>, base: Offset) -> Result<bool, Errno> {
        let Some(bytes) = self.index_bytes(turn.shared, base).await? else { return Ok(false) };
        self.put(turn, SegmentFile::Index(base), &bytes).await?;
        self.leave_indexes(turn, base, &bytes).await
    }

    async fn leave_indexes(
        &self,
        turn: &Turn<'_>,
        base: Offset,
        bytes: &[u8],
    ) -> Result<bool, Errno> {
        let of = turn.shared.borrow().of;
        let Ok(index) = Index::decode(bytes, of, base) else { return Ok(false) };
        let mut out = Vec::new();
        kafka::time_index(&index, base, &mut out);
        self.put(turn, SegmentFile::KafkaTimes(base), &out).await?;
        if !index.aborted().is_empty() {
            out.clear();
            kafka::aborted_index(index.aborted(), &mut out);
            self.put(turn, SegmentFile::KafkaAborted(base), &out).await?;
        }
        out.clear();
        kafka::offset_index(&index, &mut out);
        // The last: where it is, the others are.
        self.put(turn, SegmentFile::KafkaIndex(base), &out).await?;
        Ok(true)
    }

    /// What there is once for a partition.
    async fn leave_partition(&self, turn: &Turn<'_>) -> Result<(), Errno> {
        let (epochs, metadata, snapshot) = {
            let partition = turn.shared.borrow();
            let mut snapshot = Vec::new();
            if !partition.producers.is_empty() {
                kafka::producer_snapshot(&partition.producers, &mut snapshot);
            }
            let epochs = kafka::epoch_checkpoint(&partition.epochs);
            let metadata = kafka::partition_metadata(partition.of.topic);
            (epochs, metadata, (SegmentFile::KafkaSnapshot(partition.end()), snapshot))
        };
        if !snapshot.1.is_empty() {
            self.put(turn, snapshot.0, &snapshot.1).await?;
        }
        let texts = [(kafka::EPOCHS_NAME, epochs), (kafka::METADATA_NAME, metadata)];
        for (name, text) in texts {
            let path = turn.folder.join(name);
            // They hardly ever change, and are cheaper to read than to make durable.
            let found = small::read_whole(&self.0.lane, &path).await?;
            if found.as_deref() != Some(text.as_bytes()) {
                small::put(&self.0.lane, &path, text.as_bytes()).await?;
            }
        }
        Ok(())
    }

    async fn put(&self, turn: &Turn<'_>, file: SegmentFile, bytes: &[u8]) -> Result<(), Errno> {
        turn.kept.borrow_mut().insert(file);
        small::put(&self.0.lane, &turn.folder.join(file.name()), bytes).await
    }

    /// Takes away what an earlier stop left of segments that are gone, and of other ends of the log.
    async fn clear_stale(
        &self,
        turn: &Turn<'_>,
        before: Known,
        there: &BTreeSet<SegmentFile>,
    ) -> Result<(), Errno> {
        for &file in there {
            let stale = match file {
                SegmentFile::Log(_) | SegmentFile::Index(_) => false,
                SegmentFile::KafkaIndex(base)
                | SegmentFile::KafkaTimes(base)
                | SegmentFile::KafkaAborted(base) => {
                    let known = base < before.sealed_below;
                    let here = turn.shared.borrow().segment(base).is_some();
                    !(here && (known || turn.kept.borrow().contains(&file)))
                }
                SegmentFile::KafkaSnapshot(_) => !turn.kept.borrow().contains(&file),
            };
            if stale {
                self.0.lane.remove(turn.folder.join(file.name()), FileKind::File).await?;
            }
        }
        Ok(())
    }
}

/// Before a run begins: what lies here is not as a clean stop left it any more.
pub(super) async fn unmark(lane: &Lane, data: &Path) -> Result<(), Errno> {
    match lane.remove(data.join(kafka::CLEAN_NAME), FileKind::File).await {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// What there is once for all partitions; says whether everything is as Kafka's tools expect it.
pub(super) async fn leave_lists(
    lane: &Lane,
    data: &Path,
    left: &mut [Left],
) -> Result<bool, Errno> {
    left.sort_unstable_by(|a, b| (&a.name, a.of).cmp(&(&b.name, b.of)));
    small::put(lane, &data.join(LEFT_NAME), &encode(left)).await?;
    let whole = left.iter().all(|it| it.whole);
    if whole {
        let of = |offset: fn(&Left) -> Offset| {
            kafka::offset_checkpoint(
                left.iter().map(|it| (it.name.as_str(), it.of.partition, offset(it))),
            )
        };
        let nothing = kafka::offset_checkpoint(std::iter::empty());
        for (name, text) in [
            (kafka::RECOVERY_POINTS_NAME, of(|it| it.end)),
            (kafka::HIGH_WATERMARKS_NAME, of(|it| it.high_watermark)),
            (kafka::LOG_STARTS_NAME, of(|it| it.log_start)),
            (kafka::CLEANER_NAME, nothing),
        ] {
            small::put(lane, &data.join(name), text.as_bytes()).await?;
        }
    }
    Ok(whole)
}

/// The last thing of a clean stop.
pub(super) async fn mark(
    lane: &Lane,
    data: &Path,
    generation: u64,
    broken: Mutation,
) -> Result<(), Errno> {
    let text = kafka::clean_shutdown(generation);
    small::replace(lane, &data.join(kafka::CLEAN_NAME), text.as_bytes(), broken).await
}

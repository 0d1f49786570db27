//! Writing the lane's checkpoint while the lane goes on working.
//!
//! Records are encoded a few at a time, each as its partition is at that moment; what changed
//! meanwhile is told again, and the last section, made in one step, makes the whole true for one
//! commit. Sections before it claim to know the future, so a file without its last section is not
//! believed. The file is swapped in only once that commit is durable (CKPT-1).

use std::borrow::Cow;
use std::collections::BTreeMap;

use corelane_core::ids::TopicPartition;
use corelane_core::ring::Errno;

use super::boot::{UNFINISHED, checkpoint_path};
use super::partition::Partition;
use super::small;
use super::store::Store;
use crate::chain::ChainHead;
use crate::checkpoint::{CheckpointHead, PartitionView, Section, SectionWriter, SegmentView};
use crate::frame::FramePlace;

/// Records encoded in one step.
const RECORDS_PER_STEP: usize = 64;

/// Rounds of telling changes again before the last step takes however many there are.
const ROUNDS_MAX: usize = 4;

/// A file that grows by sections.
struct Draft {
    bytes: Vec<u8>,
    last_checksum: Option<u32>,
    told: BTreeMap<TopicPartition, u64>,
}

impl Draft {
    /// Where the next section belongs.
    fn section(&self) -> Section {
        match self.last_checksum {
            None => Section::Full,
            Some(previous) => Section::Delta { previous },
        }
    }
}

impl Store {
    /// Writes down everything, so that journal files up to `given_up` are not needed any more.
    pub(super) async fn checkpoint(&self, given_up: u64) -> Result<(), Errno> {
        let keep = &self.0.keep;
        // Only whole once it is durable; until then a restart would read this much.
        let told = keep.untold_bytes.get();
        let mut draft = Draft { bytes: Vec::new(), last_checksum: None, told: BTreeMap::new() };
        let mut before = usize::MAX;
        for _ in 0..ROUNDS_MAX {
            let changed = self.untold(&draft);
            // Where most changed again while they were told, another round only tells them once more.
            if changed.len() <= RECORDS_PER_STEP || before / 2 < changed.len() {
                break;
            }
            before = changed.len();
            for some in changed.chunks(RECORDS_PER_STEP) {
                let before = draft.bytes.len();
                self.tell(&mut draft, some, &[], UNFINISHED, given_up);
                self.0.lane.spend(draft.bytes.len() - before).await;
            }
        }
        let changed = self.untold(&draft);
        let commit = self.0.journal.close_frame();
        let gone = self.gone(&draft);
        self.tell(&mut draft, &changed, &gone, commit.0, given_up);
        self.0.journal.durable(commit).await?;
        let config = self.0.journal.config();
        let path = checkpoint_path(&self.0.config.data, config.incarnation, self.0.lane.id());
        small::replace(&self.0.lane, &path, &draft.bytes, config.broken).await?;
        keep.untold_bytes.set(keep.untold_bytes.get() - told);
        keep.given_up.set(keep.given_up.get().max(given_up));
        keep.counts.checkpoints.add(1);
        keep.counts.checkpoint_bytes.add(draft.bytes.len() as u64);
        Ok(())
    }

    /// Partitions that are not in the draft as they are now.
    fn untold(&self, draft: &Draft) -> Vec<TopicPartition> {
        let partitions = self.0.partitions.borrow();
        let untold = partitions.iter().filter(|(of, shared)| {
            draft.told.get(of).is_none_or(|told| *told != shared.borrow().version)
        });
        untold.map(|(of, _)| *of).collect()
    }

    /// Partitions that are in the draft and were deleted since. Only the last section tells them:
    /// it makes everything before it true.
    fn gone(&self, draft: &Draft) -> Vec<TopicPartition> {
        let partitions = self.0.partitions.borrow();
        draft.told.keys().filter(|it| !partitions.contains_key(it)).copied().collect()
    }

    fn tell(
        &self,
        draft: &mut Draft,
        some: &[TopicPartition],
        gone: &[TopicPartition],
        as_of: u64,
        given_up: u64,
    ) {
        let begins = self.0.journal.start_after(given_up);
        let config = self.0.journal.config();
        let head = CheckpointHead {
            lane: self.0.lane.id(),
            generation: self.0.keep.next_section(),
            from: ChainHead {
                journal: config.id,
                incarnation: config.incarnation,
                sequence: begins.sequence,
                checksum: begins.checksum,
            },
            from_place: FramePlace { file: begins.file, position: 0 },
            as_of,
        };
        let mut writer = SectionWriter::begin(draft.section(), &head, gone, &mut draft.bytes);
        for of in some {
            // Deleted since it was listed: then it was never told, or is among those gone.
            let Some(shared) = self.partition(of) else { continue };
            let partition = shared.borrow();
            draft.told.insert(*of, partition.version);
            put(&mut writer, &partition);
        }
        draft.last_checksum = Some(writer.end());
    }
}

fn put(writer: &mut SectionWriter<'_>, it: &Partition) {
    let narrow = |bytes: u64| u32::try_from(bytes).expect("segments stay below 4 GiB");
    let segments = it.segments.iter().map(|segment| SegmentView {
        base: segment.base,
        stored: narrow(segment.flushed),
        length: narrow(segment.len()),
        sealed: segment.finished,
        extents: if segment.finished { &[] } else { &segment.extents },
    });
    // It counts once the commit that moved the start is durable. Copies are made only then.
    let start = it.coming_start();
    let mut epochs = Cow::Borrowed(&it.epochs);
    if it.epochs.begins_before(start) {
        epochs.to_mut().truncate_start(start);
    }
    let mut producers = Cow::Borrowed(&it.producers);
    if it.producers.has_aborted_below(start) {
        producers.to_mut().forget_aborted(start);
    }
    let view = PartitionView {
        of: it.of,
        topic: &it.name,
        ownership: it.ownership,
        log_start: start,
        end: it.end(),
        high_watermark: it.visible(),
        epochs: &epochs,
        producers: &producers,
    };
    writer.put(&view, segments);
}

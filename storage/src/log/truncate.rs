//! Cutting a log back: what a follower does when its leader never had the last of it.
//!
//! What stays is read first, then everything changes in one step, whose place in the journal's
//! order is that moment.
//!
//! CUT-1: the block that the log ends in afterwards will be written once more, so its bytes are
//! carried in the frame of the cut: they do not depend on that block any more.
//! CUT-2: blocks beyond the cut will hold other bytes, so no extent that reaches there may still be
//! needed: a checkpoint that knows the file comes first.
//! CUT-3: an index that a clean stop left of an open segment tells of what is cut, so it goes first.
//! CUT-4: producers are what a replay of the log that is left tells.
//! CUT-5: nothing is written to files before the cut is durable, or a crash would find the log as it was, with
//! other bytes in its blocks. So nothing that waits for a write joins the frame of the cut.

use std::collections::VecDeque;

use corelane_core::buf::Buf;
use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::{Errno, FileKind};

use super::journal::Commit;
use super::partition::{OutOfRange, indexed_segment};
use super::scan::{Next, ScanError};
use super::seal::Walked;
use super::segment::{Mark, Segment};
use super::small;
use super::store::{Shared, Store, head_of};
use crate::dirs::SegmentFile;
use crate::frame::{BLOCK_BYTES, Body, ENTRY_HEADER_BYTES, Entry};
use crate::producers::Producers;

/// What a cut takes in a frame at most (CUT-1).
const CUT_BYTES_MAX: usize = 2 * ENTRY_HEADER_BYTES + BLOCK_BYTES;

/// Why a log is not cut back. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TruncateError {
    /// The partition is not on this lane.
    NotHere,
    /// The partition is damaged.
    Offline,
    /// The log does not have the offset.
    OutOfRange(OutOfRange),
    /// What would be left is not whole.
    Corrupt {
        segment: Offset,
        position: u64,
    },
    /// No memory for it now.
    Overloaded,
    Failed(Errno),
}

impl From<Errno> for TruncateError {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

/// What is left of the segment that the log ends in.
struct Left {
    base: Offset,
    end: Offset,
    position: u64,
    walked: Walked,
    producers: Producers,
}

impl Store {
    /// Cuts a partition back, so that it ends at `to`, or where the batch that holds `to` begins.
    /// The new end is durable once the commit is. Appends are refused meanwhile, as overloaded.
    ///
    /// # Errors
    /// When there is nothing to cut there; the log is as it was then.
    pub async fn truncate_to(
        &self,
        of: &TopicPartition,
        to: Offset,
    ) -> Result<(Offset, Commit), TruncateError> {
        let shared = self.partition(of).ok_or(TruncateError::NotHere)?;
        if shared.borrow().damage.is_some() {
            return Err(TruncateError::Offline);
        }
        // Nobody else touches files of this log, or writes a checkpoint, until it is done.
        let alone = self.0.keep.work.take(1).await;
        shared.borrow_mut().cutting = true;
        let done = self.cut(&shared, to).await;
        shared.borrow_mut().cutting = false;
        drop(alone);
        match done {
            Err(TruncateError::Failed(errno)) => self.0.journal.fence(errno),
            Err(TruncateError::Corrupt { segment, position }) => {
                self.take_offline(&shared, self.segment_path(&shared, segment), position);
            }
            _ => {}
        }
        done
    }

    async fn cut(&self, shared: &Shared, to: Offset) -> Result<(Offset, Commit), TruncateError> {
        {
            let partition = shared.borrow();
            let range = OutOfRange { log_start: partition.coming_start(), end: partition.end() };
            if to < range.log_start {
                return Err(TruncateError::OutOfRange(range));
            }
            if range.end <= to {
                return Ok((range.end, self.0.journal.latest()));
            }
        }
        self.written_through(shared).await?;
        if 0 < self.0.keep.untold_bytes.get() {
            self.checkpoint(self.0.keep.given_up.get()).await?;
        }
        let left = self.look_back(shared, to).await?;
        let (from, bytes) = self.ragged_bytes(shared, &left).await?;
        self.forget_indexes(shared, left.base).await?;
        self.admit_patiently(CUT_BYTES_MAX).await?;
        let mut partition = shared.borrow_mut();
        if partition.deleted {
            return Err(TruncateError::NotHere);
        }
        if left.end < partition.coming_start() {
            let range = OutOfRange { log_start: partition.coming_start(), end: partition.end() };
            return Err(TruncateError::OutOfRange(range));
        }
        let old = partition.segment(left.base).expect("nobody takes it away meanwhile");
        let rewritten = left.position.min(old.flushed).saturating_sub(from) as usize;
        let mut last = if left.position == 0 {
            indexed_segment(partition.of, left.base)
        } else {
            Segment::on_disk(left.base, from, from, false)
        };
        last.restore(self.0.lane.pool(), &bytes).map_err(|_| TruncateError::Overloaded)?;
        last.named = old.named;
        last.file.clone_from(&old.file);
        last.extents.clone_from(&old.extents);
        last.extents.retain(|it| u64::from(it.position + it.bytes) <= from);
        if 0 < left.position {
            left.walked.teach(&mut last, true);
            last.set_marks(Mark { end: left.end, position: left.position }, VecDeque::new());
        }
        let (end, base) = (left.end, left.base);
        let position = u32::try_from(left.position).expect("segments stay below 4 GiB");
        let head = head_of(&partition, end, end, base, position);
        let commit = self.0.journal.push(&Entry { head, body: Body::Truncate }, None);
        if 0 < rewritten {
            let from = u32::try_from(from).expect("segments stay below 4 GiB");
            let head = head_of(&partition, end, end, base, from);
            let body = Body::Carried { bytes: &bytes[..rewritten] };
            let same = self.0.journal.push(&Entry { head, body }, None);
            assert_eq!(same, commit, "CUT-1: both were admitted together");
        }
        let gone = partition.cut_back(end, last, left.producers, commit);
        self.0.journal.close_frame();
        self.0.keep.drop_later(partition.of, gone, commit, Vec::new());
        self.0.upkeep.notify();
        Ok((end, commit))
    }

    /// CUT-5: waits until the blocks of a log that was cut no longer belong to it as it was.
    pub(super) async fn cut_is_durable(&self, shared: &Shared) -> Result<(), Errno> {
        let commit = shared.borrow().cut_by();
        self.0.journal.durable(commit).await
    }

    /// CUT-3: from the segment that the log will end in.
    async fn forget_indexes(&self, shared: &Shared, from: Offset) -> Result<(), Errno> {
        let bases: Vec<Offset> = {
            let partition = shared.borrow();
            if !partition.has_dir {
                return Ok(());
            }
            let cut = partition.segments.iter().filter(|it| from <= it.base);
            cut.map(|it| it.base).collect()
        };
        let folder = self.partition_dir(shared);
        for base in bases {
            for file in [SegmentFile::Index(base), SegmentFile::KafkaIndex(base)] {
                match self.0.lane.remove(folder.join(file.name()), FileKind::File).await {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        small::flush_dir(&self.0.lane, &folder, self.0.journal.config().broken).await
    }

    /// Waits until no append is on its way to a file any more.
    pub(super) async fn written_through(&self, shared: &Shared) -> Result<(), TruncateError> {
        loop {
            let seen = self.0.keep.wrote.seen();
            if let Some(errno) = self.0.journal.failed() {
                return Err(TruncateError::Failed(errno));
            }
            let busy = |it: &Segment| it.writing || it.wanted().is_some();
            if !shared.borrow().segments.iter().any(busy) {
                return Ok(());
            }
            self.0.keep.wrote.past(seen).await;
        }
    }

    /// Reads what stays: where it ends, and what its producers did (CUT-4).
    async fn look_back(&self, shared: &Shared, to: Offset) -> Result<Left, TruncateError> {
        let (of, bases, log_start) = {
            let partition = shared.borrow();
            let below = partition.segments.iter().take_while(|it| it.base <= to);
            let bases: Vec<_> = below.map(|it| it.base).collect();
            (partition.of, bases, partition.log_start())
        };
        let now_ms = self.0.lane.wall().0;
        let mut left = Left {
            base: bases[0],
            end: bases[0],
            position: 0,
            walked: Walked::new(of, bases[0]),
            producers: Producers::default(),
        };
        for base in bases {
            left = Left { base, end: base, position: 0, walked: Walked::new(of, base), ..left };
            let mut wrong = None;
            let scanned = self.scan_segment(shared, base, 0, |batch, position| {
                if !left.walked.follows(batch) {
                    wrong = Some(position);
                    return Next::Enough;
                }
                if to < batch.next_offset() {
                    return Next::Enough;
                }
                if log_start < batch.next_offset() {
                    left.producers.replay(batch, now_ms);
                }
                left.walked.take(batch, position);
                left.end = batch.next_offset();
                left.position = position + batch.bytes().len() as u64;
                Next::More
            });
            let scanned = scanned.await.map_err(|error| match error {
                ScanError::Corrupt { position } => {
                    TruncateError::Corrupt { segment: base, position }
                }
                ScanError::Disk(errno) => TruncateError::Failed(errno),
            });
            scanned?;
            if let Some(position) = wrong {
                return Err(TruncateError::Corrupt { segment: base, position });
            }
        }
        Ok(left)
    }

    /// The bytes that the new end of the log needs in memory: those that are in no file, and those
    /// of the block it ends in. Where they begin, and they.
    async fn ragged_bytes(
        &self,
        shared: &Shared,
        left: &Left,
    ) -> Result<(u64, Vec<u8>), TruncateError> {
        let block = left.position - left.position % BLOCK_BYTES as u64;
        let (from, in_file) = {
            let partition = shared.borrow();
            let segment = partition.segment(left.base).ok_or(TruncateError::NotHere)?;
            (segment.flushed.min(block), segment.flushed.min(left.position))
        };
        let mut bytes = Vec::new();
        if from < in_file {
            let file = self.segment_file(shared, left.base).await?;
            let buf = Buf::unpooled(BLOCK_BYTES);
            let (read, buf) = self.0.lane.read_full(&file, from, buf, BLOCK_BYTES).await;
            let wanted = (in_file - from) as usize;
            if read? < wanted {
                return Err(TruncateError::Corrupt { segment: left.base, position: from });
            }
            bytes.extend_from_slice(&buf.filled()[..wanted]);
        }
        let partition = shared.borrow();
        let segment = partition.segment(left.base).ok_or(TruncateError::NotHere)?;
        if in_file < left.position {
            segment.tail.copy(in_file, left.position, &mut bytes);
        }
        Ok((from, bytes))
    }
}

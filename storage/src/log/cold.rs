//! Reading what is not in memory: a bounded direct read, cut to whole batches, each verified.
//!
//! Bytes of an unfinished segment lie partly in its file and partly in its tail; both are brought
//! into one buffer, so that a batch across the border is whole again. A batch's own checksum covers
//! neither its offset nor its epoch: both must be those that belong there.

use std::path::PathBuf;

use corelane_core::buf::Slice;
use corelane_core::ids::Offset;
use corelane_core::ring::{Access, Errno, Fd};

use super::ahead::{Brought, Spot};
use super::scan::ScanError;
use super::store::{ReadError, ReadWant, Shared, Store, verified};
use super::warm::Given;
use crate::batch::{Batch, HEADER_BYTES};
use crate::epochs::LeaderEpochs;
use crate::frame::BLOCK_BYTES;

/// What is read beyond the wanted bytes to get from the signpost to the wanted batch.
const SLACK_BYTES: usize = 64 * 1024;

/// One read from a file at most, however much was asked for.
pub(super) const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Store {
    /// Reads what is not in memory, and on behind it for a reader that goes on.
    pub(super) async fn read_old(
        &self,
        shared: &Shared,
        base: Offset,
        limit: Offset,
        want: &ReadWant,
    ) -> Result<Option<Given>, ReadError> {
        if let Some(given) = self.read_warm(shared, base, limit, want).await? {
            return Ok(Some(given));
        }
        let (goes_on, brought) = self.take_ahead(shared, want.from).await;
        let (spot, brought) = match brought {
            Some((spot, brought)) => (spot, Some(brought)),
            None => (self.cold_start(shared, base, want.from).await?, None),
        };
        let read = self.read_cold(shared, spot, brought, limit, want).await?;
        let Some(mut read) = read else { return Ok(None) };
        if want.file_bytes_min != ReadWant::NO_FILES {
            align(shared, &mut read);
        }
        let slice = read.slice.clone();
        self.read_ahead(shared, want, goes_on, read);
        Ok(Some(Given::Memory(slice)))
    }

    /// Reads from a segment's file, beginning at a signpost before the wanted batch, or in what was
    /// brought from there already.
    async fn read_cold(
        &self,
        shared: &Shared,
        from: Spot,
        mut brought: Option<Brought>,
        limit: Offset,
        want: &ReadWant,
    ) -> Result<Option<Old>, ReadError> {
        let Spot { segment: base, mut position, mut offset } = from;
        let mut bytes = want.bytes_max.min(READ_BYTES_MAX) + SLACK_BYTES;
        loop {
            let is_ahead = brought.is_some();
            let Brought { start, bytes: here } = match brought.take() {
                Some(it) => it,
                None => self.bring(shared, base, position, bytes).await?,
            };
            let at = (position - start) as usize;
            let found = cut(&here[at..], offset, &shared.borrow().epochs, want, limit);
            match found.end {
                End::Found { next } => {
                    let first = at + found.start;
                    let last = first + found.len;
                    let position = start + last as u64;
                    let end = Spot { segment: base, position, offset: next };
                    let slice = here.slice(first..last);
                    let brought = Brought { start, bytes: here };
                    return Ok(Some(Old { slice, next, end, brought }));
                }
                End::Nothing => return Ok(None),
                // The wanted batch lies further on, or is larger than what was brought, or came since.
                End::NeedsMore { bytes: needed } => {
                    let moved = 0 < found.start;
                    position += found.start as u64;
                    offset = found.offset;
                    if !moved && needed <= bytes && !is_ahead {
                        let path = self.segment_path(shared, base);
                        return Err(ReadError::Corrupt { path, position });
                    }
                    bytes = bytes.max(needed);
                }
                End::Corrupt => {
                    let path = self.segment_path(shared, base);
                    let position = position + found.start as u64;
                    return Err(ReadError::Corrupt { path, position });
                }
            }
        }
    }

    /// Brings about `bytes` of a segment into one buffer, from the block that holds `position`.
    pub(super) async fn bring(
        &self,
        shared: &Shared,
        base: Offset,
        position: u64,
        bytes: usize,
    ) -> Result<Brought, ReadError> {
        loop {
            if let Some(brought) = self.try_bring(shared, base, position, bytes).await? {
                return Ok(brought);
            }
        }
    }

    /// `None`: while the file was read, what was to come from the tail went to the file.
    async fn try_bring(
        &self,
        shared: &Shared,
        base: Offset,
        position: u64,
        bytes: usize,
    ) -> Result<Option<Brought>, ReadError> {
        let start = position - position % BLOCK_BYTES as u64;
        let wanted = (position - start) as usize + bytes;
        let (in_file, len, finished) = {
            let partition = shared.borrow();
            let segment = partition.segment(base).ok_or(ReadError::NotHere)?;
            (segment.flushed, segment.len(), segment.finished)
        };
        if len <= position {
            // The log was cut back since this was planned.
            return Err(ReadError::NotHere);
        }
        let wanted = wanted.min((len - start) as usize);
        let room = (wanted + BLOCK_BYTES).next_multiple_of(BLOCK_BYTES);
        let mut buf = self.0.lane.pool().get(room).ok_or(ReadError::Overloaded)?;
        // A read fills the whole buffer: what is larger than asked for is not read in vain.
        let wanted = (buf.capacity() - BLOCK_BYTES).min((len - start) as usize);
        let from_file = wanted.min((in_file.saturating_sub(start)) as usize);
        if 0 < from_file {
            let file = self.segment_file(shared, base).await;
            let file = file.map_err(|it| self.read_error(shared, base, ScanError::Disk(it)))?;
            let turn = self.0.gate.turn();
            while buf.len() < from_file {
                let at = start + buf.len() as u64;
                let left = (from_file - buf.len()).next_multiple_of(BLOCK_BYTES);
                let piece = self.0.gate.piece(turn, left).await;
                let wanted = piece.bytes();
                let (read, back) = self.0.lane.read_piece(&file, at, buf, wanted).await;
                drop(piece);
                buf = back;
                let read = read.map_err(ReadError::Failed)?;
                if read < wanted && buf.len() < from_file {
                    let path = self.segment_path(shared, base);
                    return Err(ReadError::Corrupt { path, position: at + read as u64 });
                }
            }
            let cut = buf.cut(from_file);
            assert!(cut, "nobody else has seen this buffer");
        }
        if !finished && from_file < wanted {
            let partition = shared.borrow();
            let segment = partition.segment(base).ok_or(ReadError::NotHere)?;
            let (from, to) = (start + from_file as u64, start + wanted as u64);
            if from < segment.tail.start() || segment.tail.end() < to {
                return Ok(None);
            }
            let mut parts = Vec::new();
            segment.tail.slices(from, to, &mut parts);
            for part in parts {
                buf.put(&part);
            }
        }
        Ok(Some(Brought { start, bytes: buf.freeze() }))
    }

    /// The segment's file, opened at first use.
    pub(super) async fn segment_file(&self, shared: &Shared, base: Offset) -> Result<Fd, Errno> {
        let open = shared.borrow().segment(base).and_then(|it| it.file.clone());
        if let Some(file) = open {
            return Ok(file);
        }
        let access = Access { write: true, direct: true, ..Access::default() };
        let (file, _) = self.0.lane.open(self.segment_path(shared, base), access).await?;
        if let Some(segment) = shared.borrow_mut().segment_mut(base) {
            segment.file = Some(file.clone());
        }
        self.note_open(shared, base);
        Ok(file)
    }

    pub(super) fn partition_dir(&self, shared: &Shared) -> PathBuf {
        let partition = shared.borrow();
        self.0.config.data.join(format!("{}-{}", partition.name, partition.of.partition.0))
    }

    pub(super) fn segment_path(&self, shared: &Shared, base: Offset) -> PathBuf {
        self.partition_dir(shared).join(format!("{:020}.log", base.0))
    }
}

/// What was read cold.
pub(super) struct Old {
    pub(super) slice: Slice,
    /// The offset after it.
    pub(super) next: Offset,
    /// Where it ends.
    pub(super) end: Spot,
    /// It, and what was brought behind it.
    pub(super) brought: Brought,
}

/// Lets what was read of a finished segment end where a signpost stands, so that who reads on begins
/// at a place that is known without looking at batches.
fn align(shared: &Shared, read: &mut Old) {
    let partition = shared.borrow();
    let segment = partition.segment(read.end.segment).filter(|it| it.finished && it.indexed);
    let Some(segment) = segment.filter(|it| read.end.position < it.len()) else { return };
    let signpost = segment.signpost(read.next);
    let less = read.end.position.saturating_sub(signpost.position) as usize;
    if less < read.slice.len() / 2 {
        let bytes = read.slice.len() - less;
        read.slice = read.slice.slice(..bytes);
        read.next = signpost.offset;
        read.end = Spot { position: signpost.position, offset: signpost.offset, ..read.end };
    }
}

/// What was found in some bytes of a segment.
struct Found {
    /// Where the wanted batches begin, or how far was looked.
    start: usize,
    /// Of the batch where the walk ended.
    offset: Offset,
    len: usize,
    end: End,
}

enum End {
    /// `next` follows the last of them.
    Found {
        next: Offset,
    },
    Nothing,
    NeedsMore {
        bytes: usize,
    },
    Corrupt,
}

/// Walks the batches at the start of `bytes`, the first of which has `offset`, and picks those wanted.
fn cut(
    bytes: &[u8],
    mut offset: Offset,
    epochs: &LeaderEpochs,
    want: &ReadWant,
    limit: Offset,
) -> Found {
    let belongs = |it: &Batch<'_>, offset| {
        // Epochs below the log's start may be forgotten.
        let epoch = epochs.epoch_at(offset);
        it.base_offset() == offset && epoch.is_none_or(|epoch| epoch == it.leader_epoch())
    };
    let mut at = 0;
    let mut start = None;
    loop {
        let rest = &bytes[at..];
        let needed = if rest.len() < HEADER_BYTES { HEADER_BYTES } else { whole_len(rest) };
        if rest.len() < needed {
            let from = start.unwrap_or(at);
            return found(from, at, offset, End::NeedsMore { bytes: needed });
        }
        let Some(batch) = verified(rest).filter(|it| belongs(it, offset)) else {
            let from = start.unwrap_or(at);
            return found(from, at, offset, End::Corrupt);
        };
        if batch.next_offset() <= want.from {
            at += batch.bytes().len();
            offset = batch.next_offset();
            continue;
        }
        let from = *start.get_or_insert(at);
        if limit < batch.next_offset() {
            return found(from, at, offset, End::Nothing);
        }
        let total = at + batch.bytes().len() - from;
        let first = from == at;
        if want.bytes_max < total && !(first && want.at_least_one) {
            return found(from, at, offset, End::Nothing);
        }
        at += batch.bytes().len();
        offset = batch.next_offset();
        if want.bytes_max <= total {
            return found(from, at, offset, End::Nothing);
        }
    }
}

fn found(start: usize, at: usize, offset: Offset, otherwise: End) -> Found {
    let end = if start < at { End::Found { next: offset } } else { otherwise };
    Found { start, offset, len: at - start, end }
}

/// The length a header claims; zero when it claims nonsense, so that it is looked at and refused.
fn whole_len(header: &[u8]) -> usize {
    let claimed = i32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    usize::try_from(claimed).map_or(0, |it| it + 12)
}

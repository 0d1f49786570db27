//! Reading what is not in memory: a bounded direct read, cut to whole batches, each verified.
//!
//! Bytes of an unfinished segment lie partly in its file and partly in its tail; both are brought
//! into one buffer, so that a batch across the border is whole again.

use std::path::PathBuf;

use corelane_core::buf::{Buf, Slice};
use corelane_core::ids::Offset;
use corelane_core::ring::{Access, Errno, Fd};

use super::store::{ReadError, ReadWant, Shared, Store, verified};
use crate::batch::HEADER_BYTES;
use crate::frame::BLOCK_BYTES;

/// What is read beyond the wanted bytes to get from the signpost to the wanted batch.
const SLACK_BYTES: usize = 64 * 1024;

/// One read from a file at most, however much was asked for.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Store {
    /// Reads from a segment's file, beginning at a signpost before the wanted batch.
    pub(super) async fn read_cold(
        &self,
        shared: &Shared,
        base: Offset,
        from_position: u64,
        limit: Offset,
        want: &ReadWant,
    ) -> Result<Vec<Slice>, ReadError> {
        let mut bytes = want.bytes_max.min(READ_BYTES_MAX) + SLACK_BYTES;
        let mut position = from_position;
        loop {
            let buf = self.bring(shared, base, position, bytes).await?;
            let at = position % BLOCK_BYTES as u64;
            let found = cut(&buf.filled()[at as usize..], want, limit);
            let start = at as usize + found.start;
            match found.end {
                End::Found => {
                    let end = start + found.len;
                    return Ok(vec![buf.slice(start..end)]);
                }
                End::Nothing => return Ok(Vec::new()),
                // The wanted batch lies further on, or is larger than what was brought.
                End::NeedsMore { bytes: needed } => {
                    let moved = 0 < found.start;
                    position += found.start as u64;
                    if !moved && needed <= bytes {
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
    async fn bring(
        &self,
        shared: &Shared,
        base: Offset,
        position: u64,
        bytes: usize,
    ) -> Result<Buf, ReadError> {
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
        let from_file = wanted.min((in_file.saturating_sub(start)) as usize);
        if 0 < from_file {
            let file = self.segment_file(shared, base).await.map_err(ReadError::Failed)?;
            let blocks = from_file.next_multiple_of(BLOCK_BYTES);
            let (read, back) = self.0.lane.read_full(&file, start, buf, blocks).await;
            buf = back;
            let read = read.map_err(ReadError::Failed)?;
            if read < from_file {
                let path = self.segment_path(shared, base);
                return Err(ReadError::Corrupt { path, position: start + read as u64 });
            }
            let cut = buf.cut(from_file);
            assert!(cut, "nobody else has seen this buffer");
        }
        if !finished && from_file < wanted {
            let partition = shared.borrow();
            let segment = partition.segment(base).ok_or(ReadError::NotHere)?;
            let (from, to) = (start + from_file as u64, start + wanted as u64);
            let mut parts = Vec::new();
            segment.tail.slices(from.max(segment.tail.start()), to, &mut parts);
            for part in parts {
                buf.put(&part);
            }
        }
        Ok(buf)
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

/// What was found in some bytes of a segment.
struct Found {
    /// Where the wanted batches begin, or how far was looked.
    start: usize,
    len: usize,
    end: End,
}

enum End {
    Found,
    Nothing,
    NeedsMore { bytes: usize },
    Corrupt,
}

/// Walks the batches at the start of `bytes` and picks those wanted.
fn cut(bytes: &[u8], want: &ReadWant, limit: Offset) -> Found {
    let mut at = 0;
    let mut start = None;
    let found = |start: usize, at: usize, otherwise: End| Found {
        start,
        len: at - start,
        end: if start < at { End::Found } else { otherwise },
    };
    loop {
        let rest = &bytes[at..];
        let needed = if rest.len() < HEADER_BYTES { HEADER_BYTES } else { whole_len(rest) };
        if rest.len() < needed {
            let from = start.unwrap_or(at);
            return found(from, at, End::NeedsMore { bytes: needed });
        }
        let Some(batch) = verified(rest) else {
            let from = start.unwrap_or(at);
            return found(from, at, End::Corrupt);
        };
        if batch.next_offset() <= want.from {
            at += batch.bytes().len();
            continue;
        }
        let from = *start.get_or_insert(at);
        if limit < batch.next_offset() {
            return found(from, at, End::Nothing);
        }
        let total = at + batch.bytes().len() - from;
        let first = from == at;
        if want.bytes_max < total && !(first && want.at_least_one) {
            return found(from, at, End::Nothing);
        }
        at += batch.bytes().len();
        if want.bytes_max <= total {
            return found(from, at, End::Nothing);
        }
    }
}

/// The length a header claims; zero when it claims nonsense, so that it is looked at and refused.
fn whole_len(header: &[u8]) -> usize {
    let claimed = i32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    usize::try_from(claimed).map_or(0, |it| it + 12)
}

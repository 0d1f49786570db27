//! Walking the batches of a segment, wherever its bytes are: first the file's, then memory's.
//!
//! Used where nothing else tells where batches begin: after a restart, for a missing index, and to
//! find a time. A batch that is not whole or whose checksum is wrong ends the walk with its place.

use std::borrow::Cow;

use corelane_core::buf::Buf;
use corelane_core::lane::Lane;
use corelane_core::ring::{Errno, Fd};

use crate::batch::{Batch, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use crate::frame::BLOCK_BYTES;

/// Bytes read from the file at once, unless a batch is larger.
const STEP_BYTES: usize = 1 << 20;

/// The first time: many look at one batch only.
const FIRST_STEP_BYTES: usize = 64 << 10;

/// How often bytes are asked for that the disk says it cannot read.
const READS_MAX: usize = 3;

/// The bytes of one segment.
pub(super) struct Source<'a> {
    /// Holds the bytes below `in_file`; opened for direct reads.
    pub file: Option<&'a Fd>,
    pub in_file: u64,
    /// The bytes from `memory_from` on, which is at or below `in_file`.
    pub memory: &'a [u8],
    pub memory_from: u64,
}

impl Source<'_> {
    fn end(&self) -> u64 {
        (self.memory_from + self.memory.len() as u64).max(self.in_file)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanError {
    /// No whole batch begins here.
    Corrupt {
        position: u64,
    },
    Disk(Errno),
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Enough,
}

/// Gives every batch from `from` on, which is where one begins, with its position.
pub(super) async fn scan(
    lane: &Lane,
    source: &Source<'_>,
    from: u64,
    mut each: impl FnMut(&Batch<'_>, u64) -> Next,
) -> Result<(), ScanError> {
    let end = source.end();
    let mut position = from;
    let mut step = FIRST_STEP_BYTES;
    while position < end {
        let start = position - position % BLOCK_BYTES as u64;
        let wanted = ((position - start) as usize + step).min((end - start) as usize);
        let bytes = bring(lane, source, start, wanted).await.map_err(ScanError::Disk)?;
        let mut rest = &bytes[(position - start) as usize..];
        let before = position;
        while let Some(len) = whole_len(rest).filter(|it| *it <= rest.len()) {
            let corrupt = ScanError::Corrupt { position };
            let (batch, after) = Batch::split(rest).map_err(|_| corrupt)?;
            if batch.crc() != batch.computed_crc() {
                return Err(corrupt);
            }
            if each(&batch, position) == Next::Enough {
                return Ok(());
            }
            position += len as u64;
            rest = after;
        }
        if position == before {
            let needed = whole_len(rest).unwrap_or(HEADER_BYTES);
            if wanted == (end - start) as usize || needed <= step {
                return Err(ScanError::Corrupt { position });
            }
            step = needed;
        } else {
            step = STEP_BYTES;
        }
        lane.spend(wanted).await;
    }
    Ok(())
}

/// What the batch at the start of `bytes` claims to be long.
fn whole_len(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.get(..LENGTH_PREFIX_BYTES)?;
    let claimed = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    Some(usize::try_from(claimed).unwrap_or(0) + LENGTH_PREFIX_BYTES)
}

/// Reads up to `bytes`. A disk that could not once is asked again: only one that never can has lost
/// what is there.
pub(super) async fn read_patiently(
    lane: &Lane,
    file: &Fd,
    at: u64,
    bytes: usize,
) -> Result<(usize, Buf), Errno> {
    for _ in 1..READS_MAX {
        match lane.read_full(file, at, Buf::unpooled(bytes), bytes).await {
            (Err(Errno::IO), _) => {}
            (read, buf) => return Ok((read?, buf)),
        }
    }
    let (read, buf) = lane.read_full(file, at, Buf::unpooled(bytes), bytes).await;
    Ok((read?, buf))
}

async fn bring<'a>(
    lane: &Lane,
    source: &Source<'a>,
    start: u64,
    wanted: usize,
) -> Result<Cow<'a, [u8]>, Errno> {
    let from_file = wanted.min(source.in_file.saturating_sub(start) as usize);
    let mut all = Vec::new();
    if let (Some(file), true) = (source.file, 0 < from_file) {
        let blocks = from_file.next_multiple_of(BLOCK_BYTES);
        let (read, buf) = read_patiently(lane, file, start, blocks).await?;
        if read < from_file {
            return Err(Errno::IO);
        }
        all.extend_from_slice(&buf.filled()[..from_file]);
    }
    let from = (start + all.len() as u64).saturating_sub(source.memory_from) as usize;
    let missing = wanted - all.len();
    let memory = source.memory.get(from..from + missing).ok_or(Errno::IO)?;
    if all.is_empty() {
        return Ok(Cow::Borrowed(memory));
    }
    all.extend_from_slice(memory);
    Ok(Cow::Owned(all))
}

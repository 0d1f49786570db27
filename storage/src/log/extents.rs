//! What a start makes of appends that went straight to their segments.
//!
//! The journal speaks of an extent only once the file is durable up to its end (DIRECT-1). So when
//! the extent's checksum holds and what lies before it in the file is what the journal has, the
//! file is taken as it is and nothing is written again. An extent whose checksum does not hold ends
//! its partition; if it was known durable, that is damage and is said.

use std::collections::BTreeMap;
use std::path::Path;

use corelane_core::ids::{LaneId, Offset, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::ring::Errno;

use super::boot::{OpenError, RecoveredPartition, RecoveredSegment, live_dir, read_range};
use crate::checkpoint::ExtentSum;
use crate::checksum;
use crate::dirs::{PartitionDir, SegmentFile};
use crate::recover::{Piece, Recovered, Source};

/// Read at once while bytes are compared.
const STEP_BYTES: u64 = 1 << 20;

/// An extent that is in its file whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verified {
    segment: Offset,
    extent: ExtentSum,
    /// The part of it that is not known to be stored and still belongs to the log.
    piece: Piece,
    /// The plain checksum of that part.
    crc: u32,
}

/// Looks whether the bytes of all extents are in their files, and ends the partition at the first
/// whose are not.
pub(super) async fn verify_extents(
    lane: &Lane,
    data: &Path,
    it: &mut Recovered,
    durable: &BTreeMap<LaneId, u64>,
) -> Result<Vec<Verified>, OpenError> {
    let mut verified = Vec::new();
    if it.deleted {
        return Ok(verified);
    }
    let folder = live_dir(data, it);
    let mut bad = None;
    'all: for segment in &it.segments {
        let path = folder.join(SegmentFile::Log(segment.base).name());
        for piece in &segment.pieces {
            let Source::Extent { origin, extent, base, position } = piece.source else { continue };
            if let Some(found) = read_whole(lane, &path, it.of, segment.base, extent).await? {
                let skip = (piece.position - extent.position) as usize;
                let crc = checksum::of(&found[skip..skip + piece.bytes as usize]);
                verified.push(Verified { segment: segment.base, extent, piece: *piece, crc });
                continue;
            }
            if durable.get(&origin.lane).is_some_and(|known| origin.sequence <= *known) {
                let why = "an extent does not have the bytes that were written";
                return Err(OpenError::damaged(&path, u64::from(extent.position), why));
            }
            bad = Some((segment.base, base, position));
            break 'all;
        }
    }
    if let Some((segment, base, position)) = bad {
        it.end_at(segment, base, position);
    }
    Ok(verified)
}

/// The bytes of an extent, if they are those that were written.
async fn read_whole(
    lane: &Lane,
    path: &Path,
    of: TopicPartition,
    base: Offset,
    extent: ExtentSum,
) -> Result<Option<Vec<u8>>, OpenError> {
    let (at, bytes) = (u64::from(extent.position), extent.bytes as usize);
    match lane.stat(path).await {
        Ok(file) if at + bytes as u64 <= file.bytes => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(OpenError::disk(path, errno)),
    }
    let found = read_range(lane, path, at, bytes).await?;
    lane.spend(bytes).await;
    let crc = checksum::of(&found);
    let checksum = checksum::place(of, base, extent.position, crc, bytes);
    Ok((checksum == extent.checksum).then_some(found))
}

/// Leaves verified extents in their files, and what lies before them if it is there too; takes into
/// memory those that cannot stay.
pub(super) async fn take_files(
    lane: &Lane,
    data: &Path,
    partition: &mut RecoveredPartition,
    verified: &[Verified],
) -> Result<(), OpenError> {
    let live =
        PartitionDir::Live { topic: partition.name.clone(), partition: partition.of.partition };
    let folder = data.join(live.name());
    let of = partition.of;
    for segment in &mut partition.segments {
        let mine: Vec<_> = verified.iter().filter(|it| it.segment == segment.base).collect();
        if mine.is_empty() {
            continue;
        }
        partition.has_dir = true;
        let path = folder.join(SegmentFile::Log(segment.base).name());
        if stays(lane, &path, segment, &mine).await? {
            keep(of, segment, &mine);
        } else {
            bring(lane, &path, segment, &mine).await?;
        }
    }
    Ok(())
}

/// Whether the file has, up to the end of the last extent, what the journal has.
async fn stays(
    lane: &Lane,
    path: &Path,
    segment: &RecoveredSegment,
    extents: &[&Verified],
) -> Result<bool, OpenError> {
    let mut at = segment.stored;
    for it in extents {
        let end = it.piece.position + it.piece.bytes;
        if end != it.extent.position + it.extent.bytes {
            return Ok(false);
        }
        let to = u64::from(it.piece.position);
        while at < to {
            let bytes = (to - at).min(STEP_BYTES) as usize;
            let found = read_range(lane, path, at, bytes).await?;
            let from = (at - segment.stored) as usize;
            if found != segment.tail[from..from + bytes] {
                return Ok(false);
            }
            at += bytes as u64;
            lane.spend(bytes).await;
        }
        at = u64::from(end);
    }
    Ok(true)
}

fn keep(of: TopicPartition, segment: &mut RecoveredSegment, extents: &[&Verified]) {
    let narrow = |it: u64| u32::try_from(it).expect("segments stay below 4 GiB");
    let stored = segment.stored;
    let mut at = stored;
    for it in extents {
        let Piece { position, bytes, .. } = it.piece;
        let to = u64::from(position);
        if at < to {
            let bytes = &segment.tail[(at - stored) as usize..(to - stored) as usize];
            let (position, crc) = (narrow(at), checksum::of(bytes));
            let checksum = checksum::place(of, segment.base, position, crc, bytes.len());
            segment.extents.push(ExtentSum { position, bytes: narrow(to - at), checksum });
        }
        let checksum = checksum::place(of, segment.base, position, it.crc, bytes as usize);
        segment.extents.push(ExtentSum { position, bytes, checksum });
        at = to + u64::from(bytes);
    }
    drop(segment.tail.drain(..(at - stored) as usize));
    segment.stored = at;
}

/// Takes into memory what extents hold of the log, as if the journal had it.
async fn bring(
    lane: &Lane,
    path: &Path,
    segment: &mut RecoveredSegment,
    extents: &[&Verified],
) -> Result<(), OpenError> {
    for it in extents {
        let (position, bytes) = (u64::from(it.piece.position), it.piece.bytes as usize);
        let found = read_range(lane, path, position, bytes).await?;
        let at = (position - segment.stored) as usize;
        segment.tail[at..at + bytes].copy_from_slice(&found);
        lane.spend(bytes).await;
    }
    Ok(())
}

//! Reading a journal back: frame after frame along the chain, whichever slots they lie in.
//!
//! Slots are recycled, so a slot's name says nothing: the first frame tells which file it carries
//! now, and frames of an earlier lap behind the last new one name another file. Once the chain has
//! ended, everything else that is whole is asked whether it knew the missing frame durable. One
//! slot is in memory at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corelane_core::buf::Buf;
use corelane_core::lane::Lane;
use corelane_core::ring::{Access, Errno};

use super::boot::OpenError;
use super::mutant::{Mutant, Mutation};
use crate::chain::{Chain, ChainEnd};
use crate::checkpoint::CheckpointHead;
use crate::frame::{BLOCK_BYTES, Entry, Frame, FrameError, FramePlace};
use crate::recover::Origin;

/// The slots of one lane's journal by the file each carries.
pub(super) struct JournalFiles {
    by_number: BTreeMap<u64, PathBuf>,
    /// Slots whose first block is no frame: new, or torn.
    unnamed: Vec<PathBuf>,
    broken: Mutation,
}

impl JournalFiles {
    pub(super) async fn find(lane: &Lane, dir: &Path, broken: Mutation) -> Result<Self, OpenError> {
        let mut it = Self { by_number: BTreeMap::new(), unnamed: Vec::new(), broken };
        let entries = lane.list(dir).await.map_err(|errno| OpenError::disk(dir, errno))?;
        for entry in entries {
            if !entry.name.ends_with(".jnl") {
                continue;
            }
            let path = dir.join(entry.name);
            let first = read_slot(lane, &path, BLOCK_BYTES).await?;
            match Frame::claimed_place(first.filled()) {
                Some(FramePlace { file, position: 0 }) => {
                    if let Some(other) = it.by_number.insert(file, path) {
                        it.unnamed.push(other);
                    }
                }
                _ => it.unnamed.push(path),
            }
        }
        Ok(it)
    }

    /// Gives every entry from where the checkpoint says, in order, and says how the chain ends and
    /// up to which sequence its frames knew others durable.
    pub(super) async fn walk(
        &self,
        lane: &Lane,
        head: &CheckpointHead,
        mut each: impl FnMut(Origin, &Entry<'_>),
    ) -> Result<(ChainEnd, u64), OpenError> {
        let mut durable = head.as_of;
        let mut chain = Chain::from(head.from);
        let mut place = head.from_place;
        let mut ended = false;
        while let (Some(path), false) = (self.by_number.get(&place.file), ended) {
            let slot = read_slot(lane, path, usize::MAX).await?;
            let bytes = slot.filled();
            let begin = place.position;
            while let Some(rest) = bytes.get(place.position as usize..).filter(|it| !it.is_empty())
            {
                let Ok(whole) = self.decode(rest, place) else {
                    if self.broken == Some(Mutant::NoFrameChain) {
                        place.position += BLOCK_BYTES as u64;
                        continue;
                    }
                    break;
                };
                let frame = whole.frame();
                if self.broken != Some(Mutant::NoFrameChain) && chain.offer(&frame).is_err() {
                    chain.witness(&frame.header);
                    ended = true;
                    break;
                }
                let sequence = frame.header.sequence;
                durable = durable.max(frame.header.durable);
                for (entry, number) in frame.entries().zip(0..) {
                    let origin = Origin { lane: head.lane, frame: place, sequence, entry: number };
                    each(origin, &entry);
                }
                place.position += frame.bytes as u64;
                lane.spend(frame.bytes).await;
            }
            if ended || (begin == place.position && begin == 0) {
                break;
            }
            place = FramePlace { file: place.file + 1, position: 0 };
        }
        if self.broken != Some(Mutant::NoFrameChain) {
            self.ask_witnesses(lane, &mut chain, place.file.saturating_sub(1)).await?;
        }
        Ok((chain.end(), durable))
    }

    /// Everything whole that the chain did not reach may know better. Frames go to files in the
    /// order of their numbers, so files before `first` hold none of them.
    async fn ask_witnesses(
        &self,
        lane: &Lane,
        chain: &mut Chain,
        first: u64,
    ) -> Result<(), OpenError> {
        let reached = chain.head().sequence;
        let later = self.by_number.range(first..).map(|it| it.1);
        for path in later.chain(&self.unnamed) {
            let slot = read_slot(lane, path, usize::MAX).await?;
            let bytes = slot.filled();
            let mut at = 0;
            while at < bytes.len() {
                let rest = &bytes[at..];
                let whole = Frame::claimed_place(rest)
                    .filter(|it| it.position == at as u64)
                    .and_then(|it| Frame::decode(rest, it).ok());
                match whole {
                    Some(frame) => {
                        if reached < frame.header.sequence {
                            chain.witness(&frame.header);
                        }
                        at += frame.bytes;
                    }
                    None => at += BLOCK_BYTES,
                }
                lane.spend(BLOCK_BYTES).await;
            }
        }
        Ok(())
    }

    /// Gives the frames that were asked for again, file by file.
    pub(super) async fn again(
        &self,
        lane: &Lane,
        places: impl Iterator<Item = FramePlace>,
        mut each: impl FnMut(FramePlace, &Frame<'_>),
    ) -> Result<(), OpenError> {
        let mut open: Option<(u64, Buf)> = None;
        for place in places {
            let path = self.by_number.get(&place.file).expect("it was read from there before");
            let changed = |why: &str| OpenError::damaged(path, place.position, why);
            if open.as_ref().is_none_or(|it| it.0 != place.file) {
                open = Some((place.file, read_slot(lane, path, usize::MAX).await?));
            }
            let bytes = open.as_ref().map_or(&[][..], |it| it.1.filled());
            let rest = bytes.get(place.position as usize..);
            let rest = rest.ok_or_else(|| changed("the file became shorter while it was read"))?;
            let whole = self.decode(rest, place);
            let whole = whole.map_err(|_| changed("a frame changed while it was read"))?;
            each(place, &whole.frame());
            lane.spend(whole.frame().bytes).await;
        }
        Ok(())
    }

    pub(super) fn path_of(&self, place: FramePlace) -> Option<&Path> {
        self.by_number.get(&place.file).map(PathBuf::as_path)
    }

    fn decode<'a>(&self, bytes: &'a [u8], place: FramePlace) -> Result<Whole<'a>, FrameError> {
        match Frame::decode(bytes, place) {
            Ok(frame) => Ok(Whole::Verified(frame)),
            Err(FrameError::Checksum { computed, .. })
                if self.broken == Some(Mutant::NoFrameChecksum) =>
            {
                let mut patched = bytes.to_vec();
                patched[12..16].copy_from_slice(&computed.to_le_bytes());
                Frame::decode(&patched, place)?;
                Ok(Whole::Believed(patched, place))
            }
            Err(error) => Err(error),
        }
    }
}

/// A frame, verified or believed by a mutant.
enum Whole<'a> {
    Verified(Frame<'a>),
    Believed(Vec<u8>, FramePlace),
}

impl Whole<'_> {
    fn frame(&self) -> Frame<'_> {
        match self {
            Self::Verified(frame) => *frame,
            Self::Believed(bytes, place) => Frame::decode(bytes, *place).expect("just decoded"),
        }
    }
}

/// Reads a slot from its start, whole or up to `bytes_max`.
async fn read_slot(lane: &Lane, path: &Path, bytes_max: usize) -> Result<Buf, OpenError> {
    let read = async {
        let access = Access { direct: true, ..Access::default() };
        let (file, bytes) = lane.open(path, access).await?;
        let bytes = usize::try_from(bytes).map_err(|_| Errno::FBIG)?.min(bytes_max);
        let buf = Buf::unpooled(bytes);
        if bytes == 0 {
            return Ok(buf);
        }
        let whole = buf.room();
        let (read, buf) = lane.read_full(&file, 0, buf, whole).await;
        read.map(|_| buf)
    };
    read.await.map_err(|errno| OpenError::disk(path, errno))
}

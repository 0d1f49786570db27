//! Reading a journal back: frame after frame along the chain, whichever slots they lie in.
//!
//! Slots are recycled, so a slot's name says nothing: the first frame tells which file it carries
//! now, and frames of an earlier lap behind the last new one name another file. Once the chain has
//! ended, everything else that is whole is asked whether it knew the missing frame durable.
//!
//! Slots are read from the disk once, many at a time, and stay in memory until a start has taken what
//! it needs of them, up to a budget of all journals together; what does not fit is read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corelane_core::buf::{Buf, Slice};
use corelane_core::lane::{Lane, join_all};
use corelane_core::ring::{Access, Errno};

use super::boot::OpenError;
use super::mutant::{Mutant, Mutation};
use crate::chain::{Chain, ChainEnd};
use crate::checkpoint::CheckpointHead;
use crate::frame::{BLOCK_BYTES, Entry, FRAME_FORMAT, Frame, FrameError, FramePlace, Unreadable};
use crate::recover::Origin;

/// Slots, and bytes of slots, that are read at once.
const SLOTS_AT_ONCE: usize = 16;
const BYTES_AT_ONCE: u64 = 64 << 20;

/// Bytes of journals that stay in memory during a start.
pub(super) const KEPT_BYTES_MAX: u64 = 128 << 20;

/// The slots of one lane's journal.
pub(super) struct JournalFiles {
    /// By the file each carries; then those whose first block is no frame: new, or torn.
    slots: Vec<Slot>,
    broken: Mutation,
}

struct Slot {
    /// The file it carries.
    number: Option<u64>,
    path: PathBuf,
    bytes: u64,
    content: Option<Content>,
}

struct Content {
    bytes: Slice,
    /// It stays until the start is over.
    kept: bool,
}

impl JournalFiles {
    pub(super) async fn find(lane: &Lane, dir: &Path, broken: Mutation) -> Result<Self, OpenError> {
        let entries = lane.list(dir).await.map_err(|errno| OpenError::disk(dir, errno))?;
        let names = entries.into_iter().map(|it| it.name).filter(|it| it.ends_with(".jnl"));
        let paths: Vec<PathBuf> = names.map(|it| dir.join(it)).collect();
        let mut by_number: BTreeMap<u64, Slot> = BTreeMap::new();
        let mut unnamed = Vec::new();
        for some in paths.chunks(SLOTS_AT_ONCE) {
            let read = join_all(some.iter().map(|it| read_slot(lane, it, BLOCK_BYTES))).await;
            for (path, read) in some.iter().zip(read) {
                let (first, bytes) = read?;
                let mut slot = Slot { number: None, path: path.clone(), bytes, content: None };
                match Frame::claimed_place(first.filled()) {
                    Some(FramePlace { file, position: 0 }) => {
                        slot.number = Some(file);
                        if let Some(other) = by_number.insert(file, slot) {
                            unnamed.push(Slot { number: None, ..other });
                        }
                    }
                    _ => unnamed.push(slot),
                }
            }
        }
        let slots = by_number.into_values().chain(unnamed).collect();
        Ok(Self { slots, broken })
    }

    /// Gives every entry from where the checkpoint says, in order, and says how the chain ends and
    /// up to which sequence its frames knew others durable. `room` is what may stay in memory.
    pub(super) async fn walk(
        &mut self,
        lane: &Lane,
        head: &CheckpointHead,
        room: &mut u64,
        mut each: impl FnMut(Origin, &Entry<'_>),
    ) -> Result<(ChainEnd, u64), OpenError> {
        let mut durable = head.as_of;
        let mut chain = Chain::from(head.from);
        let mut place = head.from_place;
        let mut ended = false;
        while let (Some(slot), false) = (self.slot_of(place.file), ended) {
            let content = self.bring(lane, slot, room).await?;
            let bytes = &content[..];
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
            self.leave(slot);
            place = FramePlace { file: place.file + 1, position: 0 };
        }
        if self.broken != Some(Mutant::NoFrameChain) {
            self.ask_witnesses(lane, &mut chain, place.file.saturating_sub(1), room).await?;
        }
        Ok((chain.end(), durable))
    }

    /// Everything whole that the chain did not reach may know better. Frames go to files in the
    /// order of their numbers, so files before `first` hold none of them. What is whole and follows,
    /// but cannot be read, is no torn end: nothing is opened then.
    async fn ask_witnesses(
        &mut self,
        lane: &Lane,
        chain: &mut Chain,
        first: u64,
        room: &mut u64,
    ) -> Result<(), OpenError> {
        let reached = chain.head().sequence;
        let from = self.slots.partition_point(|it| it.number.is_some_and(|it| it < first));
        for slot in from..self.slots.len() {
            let content = self.bring(lane, slot, room).await?;
            let bytes = &content[..];
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
                    None => {
                        if let Some(other) = Frame::unreadable(rest)
                            && chain.misses(&other.header)
                            && other.header.place.position == at as u64
                        {
                            return Err(not_understood(&self.slots[slot].path, &other));
                        }
                        at += BLOCK_BYTES;
                    }
                }
                lane.spend(BLOCK_BYTES).await;
            }
            self.leave(slot);
        }
        Ok(())
    }

    /// Gives the frames that were asked for again, file by file.
    pub(super) async fn again(
        &mut self,
        lane: &Lane,
        places: impl Iterator<Item = FramePlace>,
        mut each: impl FnMut(FramePlace, &Frame<'_>),
    ) -> Result<(), OpenError> {
        let mut open: Option<(usize, Slice)> = None;
        for place in places {
            let slot = self.slot_of(place.file).expect("it was read from there before");
            let changed =
                |why: &str| OpenError::damaged(&self.slots[slot].path, place.position, why);
            let content = match open.take() {
                Some((at, content)) if at == slot => content,
                _ => match &self.slots[slot].content {
                    Some(content) => content.bytes.clone(),
                    None => read_slot(lane, &self.slots[slot].path, usize::MAX).await?.0.freeze(),
                },
            };
            let rest = content.get(place.position as usize..);
            let rest = rest.ok_or_else(|| changed("the file became shorter while it was read"))?;
            let whole = self.decode(rest, place);
            let whole = whole.map_err(|_| changed("a frame changed while it was read"))?;
            let bytes = whole.frame().bytes;
            each(place, &whole.frame());
            drop(whole);
            open = Some((slot, content));
            lane.spend(bytes).await;
        }
        Ok(())
    }

    pub(super) fn path_of(&self, place: FramePlace) -> Option<&Path> {
        Some(&self.slots[self.slot_of(place.file)?].path)
    }

    fn slot_of(&self, file: u64) -> Option<usize> {
        let before = |it: &Slot| it.number.is_some_and(|it| it < file);
        let at = self.slots.partition_point(before);
        self.slots.get(at).filter(|it| it.number == Some(file)).map(|_| at)
    }

    /// The bytes of a slot. Those that follow are read with it: all of them will be asked for.
    async fn bring(
        &mut self,
        lane: &Lane,
        slot: usize,
        room: &mut u64,
    ) -> Result<Slice, OpenError> {
        if let Some(content) = &self.slots[slot].content {
            return Ok(content.bytes.clone());
        }
        let mut bytes = 0;
        let missing = (slot..self.slots.len()).filter(|it| self.slots[*it].content.is_none());
        let together: Vec<usize> = missing
            .take(SLOTS_AT_ONCE)
            .take_while(|it| {
                let first = bytes == 0;
                bytes += self.slots[*it].bytes;
                first || bytes <= BYTES_AT_ONCE
            })
            .collect();
        let reads = together.iter().map(|it| read_slot(lane, &self.slots[*it].path, usize::MAX));
        for (at, read) in together.iter().zip(join_all(reads).await) {
            let (buf, bytes) = read?;
            let kept = bytes <= *room;
            if kept {
                *room -= bytes;
            }
            self.slots[*at].content = Some(Content { bytes: buf.freeze(), kept });
        }
        let content = self.slots[slot].content.as_ref();
        Ok(content.expect("just read").bytes.clone())
    }

    /// A slot was looked through.
    fn leave(&mut self, slot: usize) {
        self.slots[slot].content.take_if(|it| !it.kept);
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

/// Why a journal with a whole frame that nobody here can read is not to be cut before it.
fn not_understood(path: &Path, frame: &Unreadable) -> OpenError {
    let version = frame.format;
    if FRAME_FORMAT < version {
        return OpenError::Newer { file: path.to_owned(), version };
    }
    let sequence = frame.header.sequence;
    let why = format!("commit {sequence} is whole, with format {version}, and makes no sense");
    OpenError::damaged(path, frame.header.place.position, why)
}

/// Reads a slot from its start, whole or up to `bytes_max`, and says how long it is.
async fn read_slot(lane: &Lane, path: &Path, bytes_max: usize) -> Result<(Buf, u64), OpenError> {
    let read = async {
        let access = Access { direct: true, ..Access::default() };
        let (file, bytes) = lane.open(path, access).await?;
        let wanted = usize::try_from(bytes).map_err(|_| Errno::FBIG)?.min(bytes_max);
        let buf = Buf::unpooled(wanted);
        if wanted == 0 {
            return Ok((buf, bytes));
        }
        let whole = buf.room();
        let (read, buf) = lane.read_full(&file, 0, buf, whole).await;
        read.map(|_| (buf, bytes))
    };
    read.await.map_err(|errno| OpenError::disk(path, errno))
}

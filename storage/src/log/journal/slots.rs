//! How the files of a journal are made: written with zeroes from end to end before their first use, so
//! that a commit changes nothing but its blocks. The first of them tells what a write into fresh room
//! costs here.

use corelane_core::buf::{Buf, Slice};
use corelane_core::lane::join_all;
use corelane_core::ring::{Access, Errno, Fd, Sync};

use super::{Journal, JournalConfig, Slot, slot_name};
use crate::frame::BLOCK_BYTES;
use crate::log::{crowd, small};

/// Zeroes are written in pieces of this size when a slot is made.
const ZEROES_BYTES: usize = 256 * 1024;

/// Of these, so many at once when appends may soon wait for the slot; else one, so that commits do not
/// wait for zeroes.
const ZEROES_AT_ONCE: usize = 4;

/// Durable writes of a block into fresh room, and as many over them, before a first slot is used.
const PROBES: u64 = 3;

/// So often that is done before fresh room is believed to be dear: a disk that others keep busy shows
/// it now and then.
const PROBE_ROUNDS: u64 = 4;

/// So many times slower, the first write to a block is taken to cost a commit of the file system.
const DEAR_FACTOR: u64 = 3;

impl Journal {
    /// Makes the slots that are filled at once, and one for what comes after.
    pub(super) async fn make_first_slots(&self) -> Result<(), Errno> {
        let JournalConfig { slot_bytes, carried_bytes, .. } = self.0.config;
        let filled = (carried_bytes / slot_bytes) as usize;
        {
            let mut state = self.0.state.borrow_mut();
            (state.slots, state.made) = (filled + 1, filled + 1);
        }
        let made = (0..=filled).map(|number| self.write_slot(number, slot_bytes, number < filled));
        for made in join_all(made).await {
            self.0.state.borrow_mut().free.push_back(made?);
        }
        small::flush_dir(&self.0.lane, &self.0.config.dir, self.0.config.broken).await
    }

    pub(super) async fn make_slot(&self, bytes: u64) -> Result<(), Errno> {
        let number = {
            let mut state = self.0.state.borrow_mut();
            state.slots += 1;
            state.made += 1;
            state.made - 1
        };
        let make = async {
            let slot = self.write_slot(number, bytes, false).await?;
            small::flush_dir(&self.0.lane, &self.0.config.dir, self.0.config.broken).await?;
            Ok(slot)
        };
        let made = make.await;
        let mut state = self.0.state.borrow_mut();
        match made {
            Ok(slot) => {
                // A large frame waits for a large slot: it goes first.
                state.free.push_front(slot);
                Ok(())
            }
            Err(errno) => {
                state.slots -= 1;
                Err(errno)
            }
        }
    }

    /// Zeroes are really written, unless it is `filled` from end to end anyway: only then does a
    /// durable write change nothing but its blocks. Its name is not durable yet.
    async fn write_slot(&self, number: usize, bytes: u64, filled: bool) -> Result<Slot, Errno> {
        let lane = &self.0.lane;
        let path = self.0.config.dir.join(slot_name(number));
        let access = Access { write: true, create: true, direct: true, ..Access::default() };
        let (file, _) = lane.open(path, access).await?;
        lane.allocate(&file, 0, bytes).await?;
        let mut zeroes = Buf::unpooled(ZEROES_BYTES);
        zeroes.pad_to(ZEROES_BYTES);
        let zeroes = zeroes.freeze();
        if number == 0 {
            self.probe(&file, zeroes.slice(..BLOCK_BYTES)).await?;
        }
        let (into, zeroes) = (&file, &zeroes);
        let zeroed = if filled { 0 } else { bytes };
        let mut at = 0;
        while at < zeroed {
            let at_once = if self.is_slot_urgent() { ZEROES_AT_ONCE } else { 1 };
            let to = zeroed.min(at + (at_once * ZEROES_BYTES) as u64);
            crowd::some((at..to).step_by(ZEROES_BYTES), at_once, |at| async move {
                let len = (to - at).min(ZEROES_BYTES as u64) as usize;
                lane.write_all(into, at, zeroes.slice(..len), Sync::None).await
            })
            .await?;
            at = to;
        }
        lane.flush(&file).await?;
        Ok(Slot { file, bytes })
    }

    /// Compares durable writes into room that was never written with those over written blocks.
    async fn probe(&self, file: &Fd, block: Slice) -> Result<(), Errno> {
        let lane = &self.0.lane;
        let mut fastest = [u64::MAX; 2];
        for round in 0..PROBE_ROUNDS {
            for least in &mut fastest {
                for number in round * PROBES..(round + 1) * PROBES {
                    let (at, begun) = (number * BLOCK_BYTES as u64, lane.now());
                    lane.write_all(file, at, block.clone(), Sync::Data).await?;
                    *least = (*least).min(lane.now().since(begun).0);
                }
            }
            if fastest[0] <= fastest[1].saturating_mul(DEAR_FACTOR) {
                return Ok(());
            }
        }
        self.0.dear.set(true);
        Ok(())
    }
}

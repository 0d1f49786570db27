//! The smallest program that promises something: it appends checksummed blocks to a preallocated file and
//! reports how many are durable. It knows several ways to get this wrong, so that tests can see themselves fail.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::buf::Buf;
use corelane_core::lane::{Lane, join_all};
use corelane_core::ring::sim::Disk;
use corelane_core::ring::{Access, Errno, Fd, Sync};
use corelane_core::time::Nanos;

pub(crate) const BLOCK: usize = 4096;
/// Blocks in the file.
pub(crate) const BLOCKS: u64 = 48;
pub(crate) const PATH: &str = "/data/log";

/// How the program makes its blocks durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Right: durable writes.
    DurableWrites,
    /// Right: writes, then a flush before the report.
    WritesThenFlush,
    /// Wrong: reports what was only written.
    NoFlush,
    /// Wrong: never flushes the directories that hold its file.
    NoDirectoryFlush,
    /// Wrong: takes a failed flush for a passing mood and asks again.
    FlushAgain,
    /// Wrong: flushes while the writes are still on their way.
    FlushTooEarly,
}

/// By words, and from both ends of each, so that no single bit or missing sector goes unseen.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

/// What block `number` holds: checksum, number, and words that follow from the number.
pub(crate) fn block(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.reserve(BLOCK);
    for at in 0..BLOCK as u64 / 8 - 1 {
        bytes.extend(number.wrapping_add(at << 32 | at).to_le_bytes());
    }
    let sum = checksum(&bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Whether these bytes are a whole block that belongs at this place.
pub(crate) fn is_block(number: u64, bytes: &[u8]) -> bool {
    bytes.len() == BLOCK
        && bytes[..8] == checksum(&bytes[8..]).to_le_bytes()
        && bytes[8..16] == number.to_le_bytes()
}

/// The file's promise, held against a disk as it is: the first reported block that is not there.
pub(crate) fn missing(disk: &Disk, reported: u64) -> Option<u64> {
    let content = disk.content(PATH).unwrap_or_default();
    (0..reported).find(|&it| {
        let at = it as usize * BLOCK;
        content.get(at..at + BLOCK) != Some(&block(it)[..])
    })
}

/// Reads the file's blocks; says for each whether it is sound.
pub(crate) async fn verify(lane: &Lane, file: &Fd, blocks: u64) -> Result<Vec<bool>, Errno> {
    let mut sound = Vec::new();
    for number in 0..blocks {
        let (read, buf) =
            lane.read_full(file, number * BLOCK as u64, Buf::unpooled(BLOCK), BLOCK).await;
        read?;
        sound.push(is_block(number, buf.filled()));
    }
    Ok(sound)
}

/// Recovers what is there, then appends to the end of the file.
pub(crate) async fn append(lane: Lane, way: Way, reported: Rc<Cell<u64>>) -> Result<(), Errno> {
    let flush_dirs = way != Way::NoDirectoryFlush;
    match lane.make_dir("/data").await {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let access = Access { write: true, create: true, direct: true, exclusive: false };
    let (file, _) = lane.open(PATH, access).await?;
    lane.allocate(&file, 0, BLOCKS * BLOCK as u64).await?;
    lane.flush(&file).await?;
    if flush_dirs {
        lane.flush_dir("/data").await?;
        lane.flush_dir("/").await?;
    }
    let sound = verify(&lane, &file, BLOCKS).await?;
    // What can be read need not be on the medium: after a flush that failed it never will be. So what
    // an earlier run left is written again before anything is built on it.
    let found = sound.iter().take_while(|it| **it).count() as u64;
    let mut next = 0;
    while next < BLOCKS {
        // Several at once: they complete in any order, and count as a prefix.
        let most = if next < found { found - next } else { 1 + lane.random() % 4 };
        let end = (next + most).min(BLOCKS);
        let sync =
            if way == Way::WritesThenFlush || sync_later(way) { Sync::None } else { Sync::Data };
        let writes = join_all((next..end).map(|it| {
            let data = Buf::copy_of(&block(it)).freeze();
            lane.write_all(&file, it * BLOCK as u64, data, sync)
        }));
        if way == Way::FlushTooEarly {
            let both = join_all::<Result<(), Errno>>([
                Box::pin(async { writes.await.into_iter().collect() })
                    as std::pin::Pin<Box<dyn Future<Output = _>>>,
                Box::pin(lane.flush(&file)),
            ]);
            both.await.into_iter().collect::<Result<(), _>>()?;
        } else {
            writes.await.into_iter().collect::<Result<(), _>>()?;
        }
        match way {
            Way::WritesThenFlush => lane.flush(&file).await?,
            Way::FlushAgain => while lane.flush(&file).await.is_err() {},
            Way::DurableWrites | Way::NoFlush | Way::NoDirectoryFlush | Way::FlushTooEarly => {}
        }
        next = end;
        reported.set(reported.get().max(next));
        lane.sleep(Nanos::micros(lane.random() % 200)).await;
    }
    Ok(())
}

fn sync_later(way: Way) -> bool {
    matches!(way, Way::NoFlush | Way::FlushAgain | Way::FlushTooEarly)
}

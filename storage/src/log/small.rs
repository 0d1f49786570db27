//! The small files of a data directory: the manifest, the lock, a folder's identity.
//!
//! SMALL-1: a small file is replaced whole or not at all: written under another name, flushed,
//! renamed, and its folder flushed. This is the only place that does so.

use std::path::{Path, PathBuf};

use corelane_core::buf::Buf;
use corelane_core::ids::TopicPartition;
use corelane_core::lane::Lane;
use corelane_core::ring::{Access, Errno, Fd, Sync};

use super::mutant::{Mutant, Mutation};
use crate::bytes::{Put, Reader, Short};
use crate::checksum;

pub const MANIFEST_MAGIC: [u8; 8] = *b"CLmanif\n";
/// The only format of manifests that is read or written.
pub const MANIFEST_FORMAT: u16 = 1;
pub const IDENTITY_MAGIC: [u8; 8] = *b"CLpartn\n";
/// The only format of identities that is read or written.
pub const IDENTITY_FORMAT: u16 = 1;

pub const DAMAGE_MAGIC: [u8; 8] = *b"CLdamag\n";
/// The only format of the list of damaged partitions that is read or written.
pub const DAMAGE_FORMAT: u16 = 1;

const MANIFEST_NAME: &str = "corelane.manifest";
const LOCK_NAME: &str = "lock";
/// The file in a partition's folder that says whose it is.
const IDENTITY_NAME: &str = "partition";
/// Files are read and written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Small files are smaller; a lock holder's name, a manifest.
const TEMPORARY: &str = "new";

/// Which files of a data directory count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// The start that wrote the journals and checkpoints; also that run's incarnation.
    pub generation: u64,
    pub lanes: u16,
    /// That run ended in order: its checkpoints say everything.
    pub clean: bool,
}

/// Why a small file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallError {
    /// Something else is written there.
    Magic,
    /// Written by a newer version.
    Newer {
        version: u16,
    },
    Checksum,
    Length,
}

impl Manifest {
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join(MANIFEST_NAME)
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u64(self.generation);
        body.put_u16(self.lanes);
        body.put_u8(u8::from(self.clean));
        sealed(MANIFEST_MAGIC, MANIFEST_FORMAT, &body)
    }

    /// # Errors
    /// When these bytes are no manifest that can be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, SmallError> {
        let body = unsealed(MANIFEST_MAGIC, MANIFEST_FORMAT, bytes)?;
        let mut reader = Reader::new(body);
        let mut read = || {
            let (generation, lanes) = (reader.u64()?, reader.u16()?);
            Ok(Self { generation, lanes, clean: reader.u8()? == 1 })
        };
        read().map_err(|Short| SmallError::Length)
    }
}

/// What the identity file in a partition's folder says.
#[must_use]
pub fn encode_identity(of: TopicPartition) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_partition(of);
    sealed(IDENTITY_MAGIC, IDENTITY_FORMAT, &body)
}

/// # Errors
/// When these bytes are no identity that can be read.
pub fn decode_identity(bytes: &[u8]) -> Result<TopicPartition, SmallError> {
    let body = unsealed(IDENTITY_MAGIC, IDENTITY_FORMAT, bytes)?;
    Reader::new(body).partition().map_err(|Short| SmallError::Length)
}

#[must_use]
pub fn identity_path(folder: &Path) -> PathBuf {
    folder.join(IDENTITY_NAME)
}

pub(super) fn sealed(magic: [u8; 8], format: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put(&magic);
    out.put_u16(format);
    out.put_u16(0);
    out.put_u32(checksum::of(body));
    out.put(body);
    out
}

pub(super) fn unsealed(magic: [u8; 8], format: u16, bytes: &[u8]) -> Result<&[u8], SmallError> {
    let mut reader = Reader::new(bytes);
    let mut head = || Ok((reader.array::<8>()?, reader.u16()?, reader.u16()?, reader.u32()?));
    let (found, version, _, stored) = head().map_err(|Short| SmallError::Length)?;
    if found != magic {
        return Err(SmallError::Magic);
    }
    if format < version {
        return Err(SmallError::Newer { version });
    }
    if stored != checksum::of(reader.rest()) {
        return Err(SmallError::Checksum);
    }
    Ok(reader.rest())
}

/// Replaces a file (SMALL-1).
///
/// # Errors
/// What the disk says; the old file is whole then, or the new one is.
pub async fn replace(
    lane: &Lane,
    path: &Path,
    bytes: &[u8],
    broken: Mutation,
) -> Result<(), Errno> {
    put(lane, path, bytes).await?;
    flush_dir(lane, path.parent().expect("a file is in a folder"), broken).await
}

/// Replaces a file; which of both is there after a crash is open until its folder is flushed.
pub(super) async fn put(lane: &Lane, path: &Path, bytes: &[u8]) -> Result<(), Errno> {
    let temporary = path.with_added_extension(TEMPORARY);
    let access = Access { write: true, create: true, ..Access::default() };
    let (file, _) = lane.open(&temporary, access).await?;
    lane.truncate(&file, 0).await?;
    let mut at = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        let data = Buf::copy_of(piece).freeze();
        lane.write_all(&file, at, data, Sync::None).await?;
        at += piece.len() as u64;
    }
    lane.flush(&file).await?;
    lane.rename(&temporary, path).await
}

/// Makes the names in a folder durable.
pub(super) async fn flush_dir(lane: &Lane, path: &Path, broken: Mutation) -> Result<(), Errno> {
    if broken == Some(Mutant::NoDirFlush) {
        return Ok(());
    }
    lane.flush_dir(path).await
}

/// Makes a folder unless it is there; its name is not durable yet.
pub(super) async fn ensure_dir(lane: &Lane, path: &Path) -> Result<bool, Errno> {
    match lane.make_dir(path).await {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Reads a whole file; `None` if there is none.
///
/// # Errors
/// What the disk says.
pub async fn read_whole(lane: &Lane, path: &Path) -> Result<Option<Vec<u8>>, Errno> {
    let (file, bytes) = match lane.open(path, Access::default()).await {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let mut all = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    loop {
        let buf = Buf::unpooled(PIECE_BYTES);
        let (read, buf) = lane.read_full(&file, all.len() as u64, buf, PIECE_BYTES).await;
        let read = read?;
        all.extend_from_slice(buf.filled());
        if read < PIECE_BYTES {
            return Ok(Some(all));
        }
    }
}

/// Holds a data directory for this process as long as it lives.
#[derive(Debug)]
pub struct DataLock {
    _file: Fd,
}

/// The lock is another process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockError {
    Held { pid: String },
    Disk(Errno),
}

impl DataLock {
    /// Takes the lock, and leaves our process number for whoever comes next.
    ///
    /// # Errors
    /// When another process has it, or the disk fails.
    pub async fn take(lane: &Lane, data: &Path, pid: u32) -> Result<Self, LockError> {
        let path = data.join(LOCK_NAME);
        let access = Access { write: true, create: true, ..Access::default() };
        let (file, _) = lane.open(&path, access).await.map_err(LockError::Disk)?;
        match lane.lock(&file).await {
            Ok(()) => {}
            Err(Errno::AGAIN) => {
                let text = read_whole(lane, &path).await.map_err(LockError::Disk)?;
                let text = text.unwrap_or_default();
                let pid = String::from_utf8_lossy(&text).trim().to_owned();
                return Err(LockError::Held { pid });
            }
            Err(errno) => return Err(LockError::Disk(errno)),
        }
        let write = async {
            lane.truncate(&file, 0).await?;
            let text = Buf::copy_of(format!("{pid}\n").as_bytes()).freeze();
            lane.write_all(&file, 0, text, Sync::None).await
        };
        write.await.map_err(LockError::Disk)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_core::ids::{PartitionIndex, TopicId};

    #[test]
    fn small_files_read_as_they_were_written_and_damage_is_named() {
        let manifest = Manifest { generation: 7, lanes: 3, clean: true };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        assert_eq!(Manifest::decode(&bytes[..10]), Err(SmallError::Length));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(Manifest::decode(&newer), Err(SmallError::Newer { version: 2 }));
        for at in 16..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Manifest::decode(&damaged), Err(SmallError::Checksum));
        }
        let of = TopicPartition { topic: TopicId([3; 16]), partition: PartitionIndex(9) };
        assert_eq!(decode_identity(&encode_identity(of)), Ok(of));
        assert_eq!(decode_identity(&bytes), Err(SmallError::Magic));
    }
}

//! What can be asked of a ring, and what comes back.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Errno, Fd, Parts, Ticket};
use crate::buf::{Buf, Slice};
use crate::ids::LaneId;

/// One operation. It owns everything it needs until its last completion.
#[derive(Debug)]
pub enum Op {
    // Sockets.
    /// Binds and listens. `shared` lets other lanes listen on the same port.
    Listen {
        addr: SocketAddr,
        backlog: u32,
        shared: bool,
    },
    /// Recurring: one completion for each connection, until cancelled or failed.
    Accept {
        listener: Fd,
    },
    /// One connection. Those behind it stay in the kernel's queue.
    AcceptOne {
        listener: Fd,
    },
    Connect {
        addr: SocketAddr,
    },
    /// Fills the spare part of `buf` with at least one byte. A count of zero is the peer's end.
    Receive {
        socket: Fd,
        buf: Buf,
    },
    /// Bytes in one buffer of the ring's own choosing, for connections that are mostly idle: it is
    /// taken when the bytes are there. [`Errno::NOBUFS`] when the pool has none left; ask again
    /// later. An empty buffer is the peer's end.
    ReceiveBlock {
        socket: Fd,
    },
    /// Sends the parts one after another; may be short.
    Send {
        socket: Fd,
        parts: Parts,
    },
    /// Sends a range of a file without bringing it into the process; may be short.
    SendFile {
        socket: Fd,
        file: Fd,
        at: u64,
        bytes: u32,
    },
    /// Ends both directions. Operations in flight on the socket complete.
    Shutdown {
        socket: Fd,
    },

    // Files. Reads and writes of files opened with `direct` are whole, aligned blocks.
    Open {
        path: PathBuf,
        access: Access,
    },
    /// Fills the spare part of `buf` with at most `bytes_max`; may be short, zero is the end of the
    /// file.
    Read {
        file: Fd,
        at: u64,
        buf: Buf,
        bytes_max: usize,
    },
    /// Asks whether a range of a file is in the page cache, so that [`Op::SendFile`] sends it without
    /// waiting for the disk.
    Resident {
        file: Fd,
        at: u64,
        bytes: u32,
    },
    /// Writes all of `data`; may be short.
    Write {
        file: Fd,
        at: u64,
        data: Slice,
        sync: Sync,
    },
    /// Makes durable what had completed on this file before this was submitted (RING-5).
    Flush {
        file: Fd,
    },
    /// Reserves space and extends the file to at least `at + bytes`; the new range reads as zero.
    Allocate {
        file: Fd,
        at: u64,
        bytes: u64,
    },
    Truncate {
        file: Fd,
        bytes: u64,
    },
    Stat {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// Removes a file, or an empty directory.
    Remove {
        path: PathBuf,
        kind: FileKind,
    },
    /// Creates one directory. The parent must exist.
    MakeDir {
        path: PathBuf,
    },
    /// Names and kinds in a directory, in any order.
    List {
        path: PathBuf,
    },
    /// Makes creations, renames and removals in a directory durable.
    FlushDir {
        path: PathBuf,
    },
    /// Takes an exclusive lock on the whole file, at once or not at all ([`Errno::AGAIN`]).
    Lock {
        file: Fd,
    },
    /// Room on the file system that holds `path`.
    Space {
        path: PathBuf,
    },

    // Lanes.
    /// Makes the other lane's ring complete [`Ticket::WOKEN`].
    Wake {
        lane: LaneId,
    },
}

/// A part of an open file. Whoever has it keeps the file's bytes, whatever becomes of its name.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRange {
    pub file: Fd,
    pub at: u64,
    pub bytes: u32,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    pub write: bool,
    /// Create it if it is missing.
    pub create: bool,
    /// Fail with [`Errno::EXIST`] if it is not missing.
    pub exclusive: bool,
    /// Go around the page cache.
    pub direct: bool,
}

/// What a write promises when it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Nothing: a later flush of this file, or power, decides.
    None,
    /// These bytes, and what is needed to find them, are durable (RING-5).
    Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    File,
    Dir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    pub kind: FileKind,
    pub bytes: u64,
    /// Bytes of disk really taken.
    pub allocated_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub kind: FileKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What an ordinary user could still write.
    pub free_bytes: u64,
    /// The file system's own name, such as `ext4`.
    pub file_system: String,
}

/// A connection that was accepted or made.
#[derive(Debug)]
pub struct Connection {
    pub socket: Fd,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// What an operation achieved.
#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Bytes sent, received, read or written. Received and read bytes are already counted into
    /// the buffer that comes back with the operation.
    Bytes(u32),
    /// Boxed, as the next: they are rare and large, and every other answer would be as large as the largest.
    Listening(Box<(Fd, SocketAddr)>),
    Connected(Box<Connection>),
    Received(Buf),
    Opened {
        file: Fd,
        bytes: u64,
    },
    Stat(FileStat),
    Entries(Vec<Entry>),
    Space(Space),
    /// Also `false` where the kernel cannot tell.
    Resident(bool),
}

/// One answer of a ring.
#[derive(Debug)]
pub struct Completion {
    pub ticket: Ticket,
    pub result: Result<Outcome, Errno>,
    /// The operation with its buffers, with the last completion only. `None` only for
    /// [`Ticket::WOKEN`], which belongs to no operation of this lane.
    pub op: Option<Op>,
    /// Whether nothing more follows for this ticket.
    pub last: bool,
}

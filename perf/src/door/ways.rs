//! The ways themselves: one operation each, waited for before the next.
#![expect(
    unsafe_code,
    reason = "the ring takes raw buffers; each submission is waited for at once"
)]

use crate::sys::{AlignedBlock, checked};
use io_uring::{IoUring, opcode, squeue, types};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const RING_ENTRIES: u32 = 8;
const SOCKET: types::Fixed = types::Fixed(0);
const FILE: types::Fixed = types::Fixed(1);
/// As large as a pipe may be made without privileges.
const PIPE_BYTES: i32 = 1024 * 1024;

pub(super) struct Way {
    // Before what its requests point at.
    ring: IoUring,
    what: What,
    socket: TcpStream,
    file: File,
    memory: AlignedBlock,
    pipe: (OwnedFd, OwnedFd),
}

enum What {
    Send { fixed: bool },
    Write { fixed: bool },
    SendFile,
    Splice,
}

impl Way {
    pub(super) fn choose(
        subject: &str,
        case: &str,
        path: &Path,
        socket: TcpStream,
    ) -> io::Result<Self> {
        let (action, size) = case.split_once(' ').expect("a case is words");
        let (action, size) = match action {
            "send" | "write" => (action, size),
            _size_alone => ("file", case),
        };
        let bytes = match size {
            "64 B" => 64,
            "4 KiB" => 4 * 1024,
            "16 KiB" => 16 * 1024,
            "64 KiB" => 64 * 1024,
            "1 MiB" => 1024 * 1024,
            other => return Err(io::Error::other(format!("no size is called {other}"))),
        };
        let what = match (action, subject) {
            ("send", "plain") | ("file", "memory") => What::Send { fixed: false },
            ("send", "fixed") => What::Send { fixed: true },
            ("write", "plain") => What::Write { fixed: false },
            ("write", "fixed") => What::Write { fixed: true },
            ("file", "sendfile") => What::SendFile,
            ("file", "splice") => What::Splice,
            _ => return Err(io::Error::other(format!("nobody does {case} as {subject}"))),
        };
        let mut options = OpenOptions::new();
        options.read(true);
        if action == "write" {
            options.write(true).custom_flags(libc::O_DIRECT);
        }
        let file = options.open(path)?;
        let memory = AlignedBlock::new(bytes);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(RING_ENTRIES)
            .map_err(|it| io::Error::new(it.kind(), format!("io_uring_setup: {it}")))?;
        ring.submitter().register_files(&[socket.as_raw_fd(), file.as_raw_fd()])?;
        let vector = libc::iovec {
            iov_base: memory.bytes().as_ptr().cast_mut().cast(),
            iov_len: memory.bytes().len(),
        };
        // SAFETY: `memory` lives as long as the ring: they are fields of one value, and the ring is
        // dropped first.
        unsafe { ring.submitter().register_buffers(&[vector]) }?;
        Ok(Self { ring, what, socket, file, memory, pipe: pipe()? })
    }

    /// Moves all the bytes of the case once.
    pub(super) fn go(&mut self) -> io::Result<()> {
        let bytes = self.memory.bytes().len();
        match self.what {
            What::Send { fixed } => {
                let mut sent = 0;
                while sent < bytes {
                    let rest = &self.memory.bytes()[sent..];
                    let count = u32::try_from(rest.len()).expect("blocks are at most some MiB");
                    let entry = if fixed {
                        opcode::Send::new(SOCKET, rest.as_ptr(), count).build()
                    } else {
                        let socket = types::Fd(self.socket.as_raw_fd());
                        opcode::Send::new(socket, rest.as_ptr(), count).build()
                    };
                    sent += self.one(&entry)?;
                }
            }
            What::Write { fixed } => {
                let memory = self.memory.bytes();
                let count = u32::try_from(bytes).expect("blocks are at most some MiB");
                let entry = if fixed {
                    opcode::WriteFixed::new(FILE, memory.as_ptr(), count, 0).offset(0).build()
                } else {
                    let file = types::Fd(self.file.as_raw_fd());
                    opcode::Write::new(file, memory.as_ptr(), count).offset(0).build()
                };
                whole(self.one(&entry)?, bytes)?;
            }
            What::SendFile => {
                let mut at: libc::off_t = 0;
                while usize::try_from(at).expect("positions are positive") < bytes {
                    let rest = bytes - usize::try_from(at).expect("positions are positive");
                    let (socket, file) = (self.socket.as_raw_fd(), self.file.as_raw_fd());
                    // SAFETY: the kernel reads and writes one `off_t`.
                    let sent = unsafe { libc::sendfile(socket, file, &raw mut at, rest) };
                    if sent < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
            }
            What::Splice => {
                let mut at = 0;
                while at < bytes {
                    at += self.splice(at, bytes - at)?;
                }
            }
        }
        Ok(())
    }

    /// From the file into the pipe and on into the socket, as one chain of two.
    fn splice(&mut self, at: usize, most: usize) -> io::Result<usize> {
        let most = u32::try_from(most).expect("blocks are at most some MiB");
        let (from, into) = (self.pipe.0.as_raw_fd(), self.pipe.1.as_raw_fd());
        let at = i64::try_from(at).expect("positions fit");
        let fill = splice_of(self.file.as_raw_fd(), at, into, most);
        let filled = self.one(&fill)?;
        let mut drained = 0;
        while drained < filled {
            let rest = u32::try_from(filled - drained).expect("no more than was asked for");
            drained += self.one(&splice_of(from, -1, self.socket.as_raw_fd(), rest))?;
        }
        Ok(drained)
    }

    fn one(&mut self, entry: &squeue::Entry) -> io::Result<usize> {
        // SAFETY: memory and descriptors are fields beside the ring, and the one completion is
        // waited for before anything else happens.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)?;
        self.ring.submit_and_wait(1)?;
        let completion = self.ring.completion().next().ok_or(io::ErrorKind::WouldBlock)?;
        match completion.result() {
            count if count < 0 => Err(io::Error::from_raw_os_error(-count)),
            count => Ok(usize::try_from(count).expect("a count is not negative")),
        }
    }
}

fn splice_of(from: RawFd, at: i64, into: RawFd, most: u32) -> squeue::Entry {
    opcode::Splice::new(types::Fd(from), at, types::Fd(into), -1, most)
        .flags(libc::SPLICE_F_MOVE)
        .build()
}

fn whole(written: usize, bytes: usize) -> io::Result<()> {
    if written == bytes { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    checked(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just given us these descriptors, and nobody else knows them.
    let ends = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: takes no pointer.
    checked(unsafe { libc::fcntl(ends.1.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) })?;
    Ok(ends)
}

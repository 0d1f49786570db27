//! From an operation to the kernel's request for it, or to whoever does it instead.
#![expect(unsafe_code, reason = "requests point into what their flight owns")]

use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::ptr;

use io_uring::opcode;
use io_uring::squeue::{self, Entry};
use io_uring::types::{self, FsyncFlags, OpenHow};

use super::blocks::GROUP;
use super::errands::Errand;
use super::flight::{Aid, Flight, Message};
use super::probe::Features;
use super::sys::{self, SockAddr};
use super::{DIR_MODE, FILE_MODE, SEND_BYTES_MAX};
use crate::buf::{Pool, Slice};
use crate::limits::PARTS_MAX;
use crate::ring::{Access, Closing, Errno, Fd, FileKind, Op, Outcome, Sync};

/// What starts an operation.
pub(super) enum Begin {
    Ask(Entry),
    Send(Errand),
    Ready(Result<Outcome, Errno>),
}

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

fn fd(it: &Fd) -> types::Fd {
    types::Fd(it.number())
}

/// Prepares everything but sending a file and waking a lane, which need the whole ring.
pub(super) fn begin(
    flight: &mut Flight,
    features: &Features,
    provided: bool,
    pool: &Pool,
    closing: &Closing,
) -> Begin {
    prepare(flight, features, provided, pool, closing)
        .unwrap_or_else(|errno| Begin::Ready(Err(errno)))
}

fn prepare(
    flight: &mut Flight,
    features: &Features,
    provided: bool,
    pool: &Pool,
    closing: &Closing,
) -> Result<Begin, Errno> {
    let aid = &mut flight.aid;
    let entry = match &mut flight.op {
        Op::Listen { addr, backlog, shared } => {
            let (socket, addr) = sys::listen(addr, *backlog, *shared)?;
            let listener = Fd::new(socket.into_raw_fd(), closing);
            return Ok(Begin::Ready(Ok(Outcome::Listening(Box::new((listener, addr))))));
        }
        Op::Accept { listener } if features.accept_many => {
            opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build()
        }
        Op::Accept { listener } | Op::AcceptOne { listener } => {
            opcode::Accept::new(fd(listener), ptr::null_mut(), ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        }
        Op::Connect { addr } => {
            let socket = sys::socket(addr)?;
            sys::no_delay(socket.as_raw_fd())?;
            let socket = Fd::new(socket.into_raw_fd(), closing);
            let addr = Box::new(SockAddr::new(addr));
            let entry = opcode::Connect::new(fd(&socket), addr.as_ptr(), addr.bytes).build();
            *aid = Aid::Connect { socket, addr };
            entry
        }
        Op::Receive { socket, buf } => {
            assert!(0 < buf.room(), "a receive needs room, else it looks like the peer's end");
            let room = len32(buf.room());
            opcode::Recv::new(fd(socket), buf.spare_ptr(), room).build()
        }
        Op::ReceiveBlock { socket } if provided => {
            // As much as the block has room for.
            opcode::Recv::new(fd(socket), ptr::null_mut(), 0)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        }
        Op::ReceiveBlock { socket } => {
            let mut buf = pool.get(super::FALLBACK_BLOCK_BYTES).ok_or(Errno::NOBUFS)?;
            let entry = opcode::Recv::new(fd(socket), buf.spare_ptr(), len32(buf.room())).build();
            *aid = Aid::Block(buf);
            entry
        }
        Op::Send { socket, parts } => match &parts[..] {
            [] => return Ok(Begin::Ready(Ok(Outcome::Bytes(0)))),
            [part] => {
                let bytes = len32(part.len().min(SEND_BYTES_MAX));
                opcode::Send::new(fd(socket), part.as_ptr(), bytes)
                    .flags(libc::MSG_NOSIGNAL)
                    .build()
            }
            parts => {
                let message = gather(parts);
                let entry = opcode::SendMsg::new(fd(socket), &raw const message.header)
                    .flags(libc::MSG_NOSIGNAL as u32)
                    .build();
                *aid = Aid::Message(message);
                entry
            }
        },
        Op::SendFile { .. } | Op::Resident { .. } | Op::Wake { .. } => {
            unreachable!("the ring starts these itself")
        }
        Op::Shutdown { socket } => {
            return Ok(done(sys::shutdown(socket.number())));
        }
        Op::Open { path, access } => {
            let path = sys::c_path(path)?;
            let how = Box::new(how(*access));
            let entry = opcode::OpenAt2::new(HERE, path.as_ptr(), &raw const *how).build();
            *aid = Aid::Open { path, how };
            entry
        }
        Op::Read { file, at, buf, bytes_max } => {
            let room = buf.room().min(*bytes_max);
            assert!(0 < room, "a read needs room, else it looks like the end of the file");
            let room = len32(room);
            opcode::Read::new(fd(file), buf.spare_ptr(), room).offset(*at).build()
        }
        Op::Write { file, at, data, sync } => {
            let durable = *sync == Sync::Data && features.durable_writes;
            opcode::Write::new(fd(file), data.as_ptr(), len32(data.len()))
                .offset(*at)
                .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
                .build()
        }
        Op::Flush { file } => flush(file.number()),
        Op::Allocate { file, at, bytes } => {
            opcode::Fallocate::new(fd(file), *bytes).offset(*at).build()
        }
        Op::Truncate { file, bytes } if features.truncate => {
            opcode::Ftruncate::new(fd(file), *bytes).build()
        }
        Op::Truncate { file, bytes } => {
            return Ok(Begin::Send(Errand::Truncate { file: file.number(), bytes: *bytes }));
        }
        Op::Stat { path } => {
            let path = sys::c_path(path)?;
            // SAFETY: a zeroed structure is a valid value of this plain type.
            let mut found: Box<libc::statx> = Box::new(unsafe { std::mem::zeroed() });
            let to: *mut types::statx = (&raw mut *found).cast();
            let entry = opcode::Statx::new(HERE, path.as_ptr(), to)
                .flags(libc::AT_SYMLINK_NOFOLLOW)
                .mask(libc::STATX_BASIC_STATS)
                .build();
            *aid = Aid::Stat { path, found };
            entry
        }
        Op::Rename { from, to } if features.rename => {
            let (from, to) = (sys::c_path(from)?, sys::c_path(to)?);
            let entry = opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build();
            *aid = Aid::Paths(from, to);
            entry
        }
        Op::Rename { from, to } => {
            return Ok(Begin::Send(Errand::Rename(from.clone(), to.clone())));
        }
        Op::Remove { path, kind } if features.remove => {
            let path = sys::c_path(path)?;
            let flags = if *kind == FileKind::Dir { libc::AT_REMOVEDIR } else { 0 };
            let entry = opcode::UnlinkAt::new(HERE, path.as_ptr()).flags(flags).build();
            *aid = Aid::Path(path);
            entry
        }
        Op::Remove { path, kind } => {
            return Ok(Begin::Send(Errand::Remove(path.clone(), *kind)));
        }
        Op::MakeDir { path } if features.make_dir => {
            let path = sys::c_path(path)?;
            let entry = opcode::MkDirAt::new(HERE, path.as_ptr()).mode(DIR_MODE).build();
            *aid = Aid::Path(path);
            entry
        }
        Op::MakeDir { path } => return Ok(Begin::Send(Errand::MakeDir(path.clone()))),
        Op::List { path } => return Ok(Begin::Send(Errand::List(path.clone()))),
        Op::FlushDir { path } => return Ok(Begin::Send(Errand::FlushDir(path.clone()))),
        Op::Space { path } => return Ok(Begin::Send(Errand::Space(path.clone()))),
        Op::Lock { file } => {
            return Ok(done(sys::lock(file.number())));
        }
    };
    Ok(Begin::Ask(entry))
}

/// Makes durable what has completed on a file.
pub(super) fn flush(file: RawFd) -> Entry {
    opcode::Fsync::new(types::Fd(file)).flags(FsyncFlags::DATASYNC).build()
}

fn done(result: Result<(), Errno>) -> Begin {
    Begin::Ready(result.map(|()| Outcome::Done))
}

/// One request moves at most this much; what is left over is a short read, send or write.
fn len32(bytes: usize) -> u32 {
    const REQUEST_BYTES_MAX: usize = 1 << 30;
    bytes.min(REQUEST_BYTES_MAX) as u32
}

fn gather(parts: &[Slice]) -> Box<Message> {
    let mut left = SEND_BYTES_MAX;
    let parts = parts
        .iter()
        .take(PARTS_MAX)
        .map_while(|it| {
            let iov_len = it.len().min(left);
            left -= iov_len;
            let iov_base = it.as_ptr().cast_mut().cast();
            (0 < iov_len).then_some(libc::iovec { iov_base, iov_len })
        })
        .collect();
    // SAFETY: a zeroed header is a valid value of this plain structure: no name, no control data.
    let header = unsafe { std::mem::zeroed() };
    let mut message = Box::new(Message { parts, header });
    message.header.msg_iov = message.parts.as_mut_ptr();
    message.header.msg_iovlen = message.parts.len();
    message
}

fn how(access: Access) -> OpenHow {
    let mut flags = libc::O_CLOEXEC;
    flags |= if access.write { libc::O_RDWR } else { libc::O_RDONLY };
    let mut how = OpenHow::new();
    if access.create || access.exclusive {
        flags |= libc::O_CREAT;
        how = how.mode(u64::from(FILE_MODE));
    }
    if access.exclusive {
        flags |= libc::O_EXCL;
    }
    if access.direct {
        flags |= libc::O_DIRECT;
    }
    how.flags(flags as u64)
}

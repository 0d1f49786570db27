//! The calls of the kernel the instruments need and the standard library lacks, behind safe faces.
//!
//! Each face checks what it was given before it enters the kernel and turns the answer into an
//! `io::Error`. Nothing here retries or decides.
#![expect(unsafe_code, reason = "system calls without a wrapper; each has its own argument")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What a direct write must be aligned to, in memory and in the file, on every device we know.
const DIRECT_ALIGN_BYTES: usize = 4096;

pub(crate) const READABLE: u32 = libc::EPOLLIN as u32;
pub(crate) const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// Report changes only, not states.
pub(crate) const EDGES: u32 = libc::EPOLLET as u32;

pub(crate) struct Epoll(OwnedFd);

/// Room for the answers of one wait.
pub(crate) struct Answers(Vec<libc::epoll_event>);

impl Answers {
    pub(crate) fn with_room(count: usize) -> Self {
        assert!(0 < count, "epoll refuses to wait without room for an answer");
        Self(vec![libc::epoll_event { events: 0, u64: 0 }; count])
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events)
    }

    pub(crate) fn change(&self, fd: BorrowedFd<'_>, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events)
    }

    fn control(&self, what: i32, fd: BorrowedFd<'_>, token: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: both descriptors are open as long as they are borrowed; the kernel copies `event`
        // before it returns.
        let answer =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) };
        checked(answer).map(drop)
    }

    /// Waits until something is ready, or `timeout` is over, or a signal came; the tokens of what is
    /// ready.
    pub(crate) fn wait<'a>(
        &self,
        answers: &'a mut Answers,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = u64> + use<'a>> {
        let timeout_ms = timeout.map_or(-1, |it| i32::try_from(it.as_millis()).unwrap_or(i32::MAX));
        let room = i32::try_from(answers.0.len()).unwrap_or(i32::MAX);
        // SAFETY: the kernel writes at most `room` events, and that many are there.
        let answer = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), answers.0.as_mut_ptr(), room, timeout_ms)
        };
        let count = match checked(answer) {
            Ok(count) => usize::try_from(count).expect("a count is not negative"),
            Err(it) if it.kind() == io::ErrorKind::Interrupted => 0,
            Err(it) => return Err(it),
        };
        Ok(answers.0[..count].iter().map(|it| it.u64))
    }
}

/// CPU time of this process so far, in user and kernel mode, its kernel workers included.
pub(crate) fn process_cpu() -> io::Result<Duration> {
    // SAFETY: all-zero bytes are a valid `rusage`, a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage`.
    checked(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) })?;
    let span = |it: libc::timeval| {
        let micros = it.tv_sec * 1_000_000 + it.tv_usec;
        Duration::from_micros(u64::try_from(micros).expect("used time is not negative"))
    };
    Ok(span(usage.ru_utime) + span(usage.ru_stime))
}

/// Raises this process's limit on open files as far as it may go and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one `rlimit`.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Makes closing `socket` a reset, so that thousands of closed connections leave no trace behind
/// that the next run would meet.
pub(crate) fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let bytes = libc::socklen_t::try_from(size_of_val(&linger)).expect("a small struct");
    // SAFETY: the kernel reads `bytes` bytes of `linger`.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            bytes,
        )
    };
    checked(answer).map(drop)
}

/// Gives up the pages the kernel keeps of a file; those that are not on disk yet stay.
pub(crate) fn forget_pages(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let answer = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(answer)) }
}

/// Writes `bytes` at `position` and returns when they are durable: one call, and nothing else is
/// made durable by it.
pub(crate) fn write_durably(file: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
    let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let position = libc::off_t::try_from(position).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one `iovec`, and through it only `bytes`, which outlives the call.
    let answer = unsafe {
        libc::pwritev2(file.as_raw_fd(), &raw const vector, 1, position, libc::RWF_DSYNC)
    };
    usize::try_from(answer).map_err(|_negative| io::Error::last_os_error())
}

/// Sends a signal to a process.
pub(crate) fn send(process: u32, signal: i32) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).map_err(io::Error::other)?;
    // SAFETY: takes no pointer.
    checked(unsafe { libc::kill(process, signal) }).map(drop)
}

/// Keeps signals from this thread and from those it will start, until somebody takes them.
pub(crate) fn block_signals(signals: &[i32]) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigset_t`, a struct of integers.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: the set lives through the call.
        checked(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    // SAFETY: the set lives through the call; the old one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(crate) fn checked(answer: i32) -> io::Result<i32> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Memory that a direct write takes.
pub(crate) struct AlignedBlock {
    memory: Vec<u8>,
    from: usize,
    bytes: usize,
}

impl AlignedBlock {
    pub(crate) fn new(bytes: usize) -> Self {
        let memory: Vec<u8> = (0..bytes + DIRECT_ALIGN_BYTES).map(|it| (it % 251) as u8).collect();
        let from = memory.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
        Self { memory, from, bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.bytes]
    }
}

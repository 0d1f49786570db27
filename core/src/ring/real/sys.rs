//! Thin wrappers over the system calls that no ring operation covers, or that are cheaper without one.
//!
//! Each is one call and one errno. None blocks, except those said to: these run on the helper.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::{CStr, CString};
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::ring::{Errno, Space};

/// The error of the last failed call on this thread.
pub(super) fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn checked(result: libc::c_int) -> Result<i32, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// A path the kernel can read. A zero byte inside is no path.
pub(super) fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

/// An address as the kernel writes it.
#[derive(Clone, Copy)]
pub(super) struct SockAddr {
    pub(super) storage: libc::sockaddr_storage,
    pub(super) bytes: libc::socklen_t,
}

impl SockAddr {
    pub(super) fn new(addr: &SocketAddr) -> Self {
        // SAFETY: a zeroed address is a valid value of this plain structure.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let at = &raw mut storage;
        let bytes = match addr {
            SocketAddr::V4(it) => {
                let plain = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: it.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(it.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: the storage is larger than, and aligned for, every address.
                unsafe { at.cast::<libc::sockaddr_in>().write(plain) };
                mem::size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(it) => {
                let plain = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: it.port().to_be(),
                    sin6_flowinfo: it.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: it.ip().octets() },
                    sin6_scope_id: it.scope_id(),
                };
                // SAFETY: the storage is larger than, and aligned for, every address.
                unsafe { at.cast::<libc::sockaddr_in6>().write(plain) };
                mem::size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, bytes: bytes as libc::socklen_t }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    fn to_addr(self) -> Option<SocketAddr> {
        let at = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says which structure lies here.
                let it = unsafe { at.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(it.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(it.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says which structure lies here.
                let it = unsafe { at.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(it.sin6_addr.s6_addr);
                Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(it.sin6_port)))
            }
            _ => None,
        }
    }
}

/// A TCP socket. Blocking: the ring decides what to wait for.
pub(super) fn socket(addr: &SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a call without pointers.
    let fd = checked(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(fd: RawFd, level: i32, option: i32) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let bytes = mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option's value lives through the call and has the size given.
    checked(unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), bytes) })?;
    Ok(())
}

/// Small answers leave at once.
pub(super) fn no_delay(fd: RawFd) -> Result<(), Errno> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)
}

pub(super) fn listen(
    addr: &SocketAddr,
    backlog: u32,
    shared: bool,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let socket = socket(addr)?;
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    if shared {
        set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    }
    let to = SockAddr::new(addr);
    // SAFETY: the address lives through the call and has the size given.
    checked(unsafe { libc::bind(fd, to.as_ptr(), to.bytes) })?;
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    // SAFETY: a call without pointers.
    checked(unsafe { libc::listen(fd, backlog) })?;
    let addr = local_addr(fd)?;
    Ok((socket, addr))
}

pub(super) fn local_addr(fd: RawFd) -> Result<SocketAddr, Errno> {
    addr_by(fd, libc::getsockname)
}

pub(super) fn peer_addr(fd: RawFd) -> Result<SocketAddr, Errno> {
    addr_by(fd, libc::getpeername)
}

type AddrCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn addr_by(fd: RawFd, call: AddrCall) -> Result<SocketAddr, Errno> {
    // SAFETY: a zeroed address is a valid value of this plain structure.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut bytes = mem::size_of_val(&storage) as libc::socklen_t;
    // SAFETY: both pointers live through the call, and the size is the storage's.
    checked(unsafe { call(fd, (&raw mut storage).cast(), &raw mut bytes) })?;
    SockAddr { storage, bytes }.to_addr().ok_or(Errno(libc::EAFNOSUPPORT))
}

pub(super) fn shutdown(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: a call without pointers.
    checked(unsafe { libc::shutdown(fd, libc::SHUT_RDWR) })?;
    Ok(())
}

pub(super) fn lock(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: a call without pointers.
    checked(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) })?;
    Ok(())
}

pub(super) fn file_bytes(fd: RawFd) -> Result<u64, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the structure when it answers zero.
    checked(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: filled by the call above.
    Ok(unsafe { stat.assume_init() }.st_size.max(0) as u64)
}

pub(super) fn close(fd: RawFd) {
    // SAFETY: whoever calls this owned the descriptor and forgets it. Errors of a close say
    // nothing that a flush has not said before, and the descriptor is gone either way.
    unsafe { libc::close(fd) };
}

/// Sends without waiting for room in the socket. The lane alone calls this between its turns, so
/// nobody else meets the socket while it is set not to wait.
pub(super) fn send_file(socket: RawFd, file: RawFd, at: u64, bytes: u32) -> Result<u32, Errno> {
    let mut offset = i64::try_from(at).map_err(|_| Errno::INVAL)?;
    set_waiting(socket, false)?;
    // SAFETY: the offset lives through the call.
    let sent = unsafe { libc::sendfile(socket, file, &raw mut offset, bytes as usize) };
    let result = if sent < 0 { Err(last_errno()) } else { Ok(sent as u32) };
    set_waiting(socket, true)?;
    result
}

fn set_waiting(socket: RawFd, waiting: bool) -> Result<(), Errno> {
    let on: libc::c_int = i32::from(!waiting);
    // SAFETY: the flag lives through the call.
    checked(unsafe { libc::ioctl(socket, libc::FIONBIO, &raw const on) })?;
    Ok(())
}

#[repr(C)]
struct CacheRange {
    at: u64,
    bytes: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheStat {
    resident: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The same number on every architecture; Linux 6.5.
const SYS_CACHESTAT: libc::c_long = 451;

/// Whether a range of a file is in the page cache. `None` when the kernel cannot tell.
pub(super) fn is_resident(file: RawFd, at: u64, bytes: u32) -> Option<bool> {
    let page = crate::limits::BLOCK_BYTES as u64;
    let range = CacheRange { at, bytes: u64::from(bytes) };
    let mut stat = CacheStat::default();
    // SAFETY: both structures live through the call and have the kernel's layout.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file, &raw const range, &raw mut stat, 0_u32) };
    if result != 0 {
        return None;
    }
    let last = (at + u64::from(bytes).max(1) - 1) / page;
    Some(last - at / page < stat.resident)
}

/// Brings a range of a file into the page cache. Blocks.
pub(super) fn warm(file: RawFd, at: u64, bytes: u32, scratch: &mut [u8]) -> Result<(), Errno> {
    let start = i64::try_from(at).map_err(|_| Errno::INVAL)?;
    // SAFETY: a call without pointers. Its answer is advice taken or not; the reads below decide.
    unsafe { libc::posix_fadvise(file, start, i64::from(bytes), libc::POSIX_FADV_WILLNEED) };
    let mut done = 0;
    while done < bytes as usize {
        let want = scratch.len().min(bytes as usize - done);
        // SAFETY: the scratch memory holds at least `want` bytes.
        let read =
            unsafe { libc::pread(file, scratch.as_mut_ptr().cast(), want, start + done as i64) };
        match read {
            0 => break,
            1.. => done += read as usize,
            _ => return Err(last_errno()),
        }
    }
    Ok(())
}

pub(super) fn truncate(fd: RawFd, bytes: u64) -> Result<(), Errno> {
    let bytes = i64::try_from(bytes).map_err(|_| Errno::FBIG)?;
    // SAFETY: a call without pointers.
    checked(unsafe { libc::ftruncate(fd, bytes) })?;
    Ok(())
}

/// Total and free room, and the file system's name, of what holds `path`. May block.
pub(super) fn space(path: &Path) -> Result<Space, Errno> {
    let path = c_path(path)?;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with zero, and the kernel fills the structure when it answers zero.
    checked(unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: filled by the call above.
    let stat = unsafe { stat.assume_init() };
    let block = stat.f_frsize.max(0) as u64;
    Ok(Space {
        total_bytes: stat.f_blocks * block,
        free_bytes: stat.f_bavail * block,
        file_system: file_system_name(stat.f_type as u64 & 0xFFFF_FFFF),
    })
}

/// The usual names behind the kernel's magic numbers.
fn file_system_name(magic: u64) -> String {
    let name = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0xCA45_1A4E => "bcachefs",
        0x0102_1994 => "tmpfs",
        0x8584_58F6 => "ramfs",
        0x794C_7630 => "overlayfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0xFF53_4D42 | 0xFE53_4D42 | 0x517B => "cifs",
        0x0102_1997 => "9p",
        0x00C3_6400 => "ceph",
        0x5346_414F | 0x6B41_4653 => "afs",
        0x7375_7245 => "coda",
        0x0BD0_0BD0 => "lustre",
        0x0116_1970 => "gfs2",
        0x7461_636F => "ocfs2",
        0x1983_0326 => "beegfs",
        0x4D44 => "vfat",
        _ => return format!("{magic:#x}"),
    };
    name.to_owned()
}

/// Fills `bytes` from the kernel's source of chance.
pub(super) fn random(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: the rest of the slice is writable for its length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got < 0 {
            let errno = last_errno();
            assert!(errno == Errno::INTR, "no randomness from the kernel: {errno}");
        } else {
            done += got as usize;
        }
    }
}

/// The reading of one of the kernel's clocks, in nanoseconds.
pub(super) fn clock(which: libc::clockid_t) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call; these clocks always exist.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Another descriptor of the same open thing.
pub(super) fn duplicate(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: a call without pointers.
    let fd = checked(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A counter that a ring can wait for and anybody can raise.
pub(super) fn event_fd() -> Result<OwnedFd, Errno> {
    // SAFETY: a call without pointers.
    let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Raises it. It would take 2^64 raises to make this wait.
pub(super) fn raise(event: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: eight bytes are read from a value that lives through the call.
    let written = unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), 8) };
    assert!(written == 8, "a counter can be raised: {}", last_errno());
}

/// A soft limit of this process.
pub(super) fn limit(which: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call.
    unsafe { libc::getrlimit(which, &raw mut limit) };
    limit.rlim_cur
}

/// The kernel's release, such as `6.18.4`.
pub(super) fn kernel_release() -> String {
    // SAFETY: a zeroed structure is a valid value; the kernel fills it with texts that end.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: the structure lives through the call.
    unsafe { libc::uname(&raw mut names) };
    // SAFETY: the text ends with zero within the field.
    unsafe { CStr::from_ptr(names.release.as_ptr()) }.to_string_lossy().into_owned()
}

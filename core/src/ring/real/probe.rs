//! What this kernel's rings can do, found out once at start.

use io_uring::{IoUring, Probe, opcode};

use super::refusal::{self, KERNEL_NEEDED};
use super::{Refusal, sys};
use crate::ring::Errno;

/// The kernel's answers. A missing feature has a substitute somewhere in this folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) release: String,
    /// Completion work runs only when the lane asks for it (6.1).
    pub(super) defer_taskrun: bool,
    pub(super) single_issuer: bool,
    /// The ring says when completion work waits, so a turn without any needs no call.
    pub(super) taskrun_flag: bool,
    /// Sleeping in the ring is not shown as waiting for a disk (6.15).
    pub(super) no_iowait: bool,
    /// One accept for many connections (5.19).
    pub(super) accept_many: bool,
    /// Rings can send each other messages (5.18).
    pub(super) message_ring: bool,
    pub(super) truncate: bool,
    pub(super) rename: bool,
    pub(super) remove: bool,
    pub(super) make_dir: bool,
    /// Writes can be durable by themselves. Withdrawn when a file system refuses it.
    pub(super) durable_writes: bool,
}

impl Features {
    /// One line each, for people.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!("kernel {}", self.release)];
        let mut line = |has: bool, what: &str, instead: &str| {
            lines.push(if has { what.to_owned() } else { format!("no {what}: {instead}") });
        };
        line(self.single_issuer, "single issuer", "the kernel locks each call");
        line(self.defer_taskrun, "deferred task running", "completions interrupt the lane");
        line(self.no_iowait, "enter without iowait", "an idle lane may look like a busy disk");
        line(self.accept_many, "multishot accept", "one accept for each connection");
        line(self.message_ring, "messages between rings", "lanes wake each other by counters");
        line(self.truncate, "truncate in the ring", "by the helper");
        line(self.rename && self.remove && self.make_dir, "names in the ring", "by the helper");
        line(self.durable_writes, "durable writes", "a flush after each write");
        lines
    }
}

/// The set-ups to try, best first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Deferred,
    Single,
    Cooperative,
    Plain,
}

/// Makes a ring in the best mode the kernel has.
pub(super) fn set_up(entries: u32) -> Result<(IoUring, Features), Refusal> {
    let mut refused = Errno::INVAL;
    for mode in [Mode::Deferred, Mode::Single, Mode::Cooperative, Mode::Plain] {
        match build(mode, entries) {
            Ok(uring) => {
                let features = features(&uring, mode)?;
                return Ok((uring, features));
            }
            Err(error) => {
                refused = Errno(error.raw_os_error().unwrap_or(libc::EIO));
                // Only "I do not know this flag" is a reason to ask for less.
                if refused != Errno::INVAL {
                    break;
                }
            }
        }
    }
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.ok().and_then(|it| it.trim().parse().ok());
    let memlock_bytes = sys::limit(libc::RLIMIT_MEMLOCK);
    let descriptors = sys::limit(libc::RLIMIT_NOFILE);
    let release = sys::kernel_release();
    Err(refusal::of_setup(refused, disabled, memlock_bytes, descriptors, release))
}

fn build(mode: Mode, entries: u32) -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(entries.saturating_mul(super::CQ_PER_SQ));
    match mode {
        Mode::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun();
            builder.setup_taskrun_flag().setup_submit_all();
        }
        Mode::Single => {
            builder.setup_single_issuer().setup_coop_taskrun();
            builder.setup_taskrun_flag().setup_submit_all();
        }
        Mode::Cooperative => {
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        }
        Mode::Plain => {}
    }
    builder.build(entries)
}

fn features(uring: &IoUring, mode: Mode) -> Result<Features, Refusal> {
    let release = sys::kernel_release();
    let params = uring.params();
    let lacks =
        |missing| Refusal::OldKernel { found: release.clone(), missing, needed: KERNEL_NEEDED };
    if !params.is_feature_ext_arg() {
        return Err(lacks("io_uring_enter with a time limit"));
    }
    if !params.is_feature_nodrop() || !params.is_feature_submit_stable() {
        return Err(lacks("io_uring that keeps every completion"));
    }
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(|_| lacks("probe of io_uring"))?;
    let has = |code: u8| probe.is_supported(code);
    for (code, missing) in [
        (opcode::OpenAt2::CODE, "io_uring openat2"),
        (opcode::Fallocate::CODE, "io_uring fallocate"),
        (opcode::Recv::CODE, "io_uring recv"),
        (opcode::Statx::CODE, "io_uring statx"),
    ] {
        if !has(code) {
            return Err(lacks(missing));
        }
    }
    Ok(Features {
        defer_taskrun: mode == Mode::Deferred,
        single_issuer: matches!(mode, Mode::Deferred | Mode::Single),
        taskrun_flag: mode != Mode::Plain,
        no_iowait: params.is_feature_no_iowait(),
        // This came as a flag, which cannot be probed, together with an operation, which can.
        accept_many: has(opcode::Socket::CODE),
        message_ring: has(opcode::MsgRingData::CODE),
        truncate: has(opcode::Ftruncate::CODE),
        rename: has(opcode::RenameAt::CODE),
        remove: has(opcode::UnlinkAt::CODE),
        make_dir: has(opcode::MkDirAt::CODE),
        durable_writes: true,
        release,
    })
}

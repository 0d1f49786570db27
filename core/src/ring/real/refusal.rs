//! Why this host cannot carry a lane, and what its owner can do about it: one line each.

use std::fmt;
use std::path::PathBuf;

use crate::ring::Errno;

/// The oldest kernel whose rings can sleep with a time limit.
pub const KERNEL_NEEDED: &str = "5.11";

/// A reason not to start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The kernel was built without io_uring.
    NoIoUring,
    /// The administrator switched it off; the value of `kernel.io_uring_disabled`.
    SwitchedOff { setting: u32 },
    /// A filter of system calls, as in a container's default profile, forbids it.
    Forbidden { errno: Errno },
    /// The ring's memory is charged to a limit that is too low.
    Memlock { limit_bytes: u64 },
    /// The kernel lacks something that has no substitute.
    OldKernel { found: String, missing: &'static str, needed: &'static str },
    /// No descriptor was left for the ring.
    Descriptors { limit: u64 },
    /// A lane was to run on a core that this process may not use.
    NoSuchCore { core: usize, usable: Vec<usize> },
    /// Files of this directory cannot be read and written around the page cache.
    NoDirectIo { path: PathBuf, file_system: String },
    /// The operating system refused something else.
    Other { what: &'static str, errno: Errno },
}

impl Refusal {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoIoUring => {
                format!("run on Linux {KERNEL_NEEDED} or newer, built with CONFIG_IO_URING")
            }
            Self::SwitchedOff { setting: 1 } => {
                "set sysctl kernel.io_uring_disabled=0, or run in kernel.io_uring_group".to_owned()
            }
            Self::SwitchedOff { .. } => "set sysctl kernel.io_uring_disabled=0".to_owned(),
            Self::Forbidden { .. } => "allow io_uring_setup, io_uring_enter and io_uring_register \
                 in the container's seccomp profile, or start it with --security-opt \
                 seccomp=unconfined"
                .to_owned(),
            Self::Memlock { .. } => "raise it with ulimit -l, LimitMEMLOCK= in systemd, or \
                 --ulimit memlock=67108864 for a container"
                .to_owned(),
            Self::OldKernel { needed, .. } => format!("run on Linux {needed} or newer"),
            Self::Descriptors { .. } => {
                "raise it with ulimit -n, LimitNOFILE= in systemd, or --ulimit nofile=".to_owned()
            }
            Self::NoSuchCore { .. } => {
                "use fewer lanes, or give the process more cores (taskset, cpuset)".to_owned()
            }
            Self::NoDirectIo { .. } => {
                "put the data on a local disk's ext4, xfs or btrfs".to_owned()
            }
            Self::Other { .. } => "see the kernel's log".to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoUring => write!(f, "this kernel has no io_uring")?,
            Self::SwitchedOff { setting } => {
                write!(f, "io_uring is switched off (kernel.io_uring_disabled is {setting})")?;
            }
            Self::Forbidden { errno } => {
                write!(f, "io_uring is forbidden to this process, as in a container: {errno}")?;
            }
            Self::Memlock { limit_bytes } => {
                write!(f, "the limit on locked memory is too low for a ring: {limit_bytes} bytes")?;
            }
            Self::OldKernel { found, missing, .. } => {
                write!(f, "the kernel is too old: {found} has no {missing}")?;
            }
            Self::Descriptors { limit } => {
                write!(f, "too many open files for another ring: the limit is {limit}")?;
            }
            Self::NoSuchCore { core, usable } => {
                write!(f, "there is no core {core} for a lane: usable are {usable:?}")?;
            }
            Self::NoDirectIo { path, file_system } => {
                let path = path.display();
                write!(f, "no direct I/O in {path}: its file system is {file_system}")?;
            }
            Self::Other { what, errno } => write!(f, "{what} failed: {errno}")?,
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for Refusal {}

/// What a failed `io_uring_setup` means on a host with these settings.
pub(super) fn of_setup(
    errno: Errno,
    disabled_setting: Option<u32>,
    memlock_bytes: u64,
    descriptors: u64,
    release: String,
) -> Refusal {
    match errno {
        // It refused even what the first rings could do, with the size of its queues named.
        Errno::INVAL => Refusal::OldKernel {
            found: release,
            missing: "io_uring with a queue of a given size",
            needed: KERNEL_NEEDED,
        },
        Errno(libc::ENOSYS) => Refusal::NoIoUring,
        Errno::PERM | Errno::ACCES => match disabled_setting {
            Some(setting @ 1..) => Refusal::SwitchedOff { setting },
            _ => Refusal::Forbidden { errno },
        },
        Errno::NOMEM => Refusal::Memlock { limit_bytes: memlock_bytes },
        Errno::MFILE | Errno(libc::ENFILE) => Refusal::Descriptors { limit: descriptors },
        _ => Refusal::Other { what: "io_uring_setup", errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: Errno, setting: Option<u32>, expect: &str) {
        let text = of_setup(errno, setting, 65_536, 1024, "5.4.0".to_owned()).to_string();
        assert!(text.starts_with(expect), "{text}");
        assert!(!text.contains('\n') && text.contains("; "), "one line, cause and remedy: {text}");
    }

    #[test]
    fn each_failed_setup_names_its_cause_and_a_remedy() {
        check(Errno(libc::ENOSYS), None, "this kernel has no io_uring; run on Linux 5.11");
        check(Errno::INVAL, Some(0), "the kernel is too old: 5.4.0 has no io_uring with a queue");
        check(Errno::PERM, Some(2), "io_uring is switched off (kernel.io_uring_disabled is 2)");
        check(Errno::PERM, Some(1), "io_uring is switched off (kernel.io_uring_disabled is 1)");
        check(Errno::PERM, Some(0), "io_uring is forbidden to this process");
        check(Errno::PERM, None, "io_uring is forbidden to this process");
        check(Errno::NOMEM, Some(0), "the limit on locked memory is too low for a ring: 65536");
        check(Errno::MFILE, Some(0), "too many open files for another ring: the limit is 1024");
        check(Errno::IO, Some(0), "io_uring_setup failed: input/output error (errno 5)");
    }

    #[test]
    fn what_the_host_lacks_is_said_with_both_sides() {
        let core = Refusal::NoSuchCore { core: 9, usable: vec![0, 1] };
        assert!(core.to_string().starts_with("there is no core 9 for a lane: usable are [0, 1]"));
        let disk = Refusal::NoDirectIo { path: "/d".into(), file_system: "tmpfs".to_owned() };
        assert!(disk.to_string().starts_with("no direct I/O in /d: its file system is tmpfs"));
    }
}

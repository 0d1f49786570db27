//! What the kind of a file system means for a log that promises durability. Names in, words out; the
//! start and `corelane tune` say the same.
//!
//! A kind has several names: `nfs4` and `fuse.sshfs` stand in the table of mounts, `nfs` and `fuse` come
//! from the kernel's numbers.

/// What a file system does that the log does not expect of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hazard {
    /// Its bytes are somewhere else.
    Network,
    /// A program without our knowledge stands between the log and the disk.
    Foreign,
    CopyOnWrite,
    /// Nothing of it is meant to last.
    Fleeting,
}

const NETWORK: [&str; 14] = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "afs", "coda", "lustre", "gfs2", "ocfs2",
    "beegfs", "virtiofs",
];
const COPY_ON_WRITE: [&str; 3] = ["btrfs", "zfs", "bcachefs"];
const FLEETING: [&str; 5] = ["tmpfs", "ramfs", "rootfs", "overlay", "overlayfs"];

impl Hazard {
    /// What is known of a kind; nothing is said of those that nothing is known of.
    pub(crate) fn of(kind: &str) -> Option<Self> {
        if NETWORK.contains(&kind) {
            return Some(Self::Network);
        }
        // With its own driver or with a program's: fuse, fuseblk, fuse.sshfs.
        if kind.starts_with("fuse") {
            return Some(Self::Foreign);
        }
        if COPY_ON_WRITE.contains(&kind) {
            return Some(Self::CopyOnWrite);
        }
        FLEETING.contains(&kind).then_some(Self::Fleeting)
    }

    pub(crate) fn means(self) -> &'static str {
        match self {
            Self::Network => {
                "A network file system: another machine decides what is durable, and when."
            }
            Self::Foreign => {
                "A file system in a program of its own: that program decides what is durable, and when."
            }
            Self::CopyOnWrite => {
                "A copy-on-write file system: each flush writes more, and recycled files are not rewritten \
                 in place."
            }
            Self::Fleeting => "What is written here is gone with the machine or the container.",
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Network | Self::Foreign | Self::Fleeting => {
                "Put the data on a local disk with ext4 or xfs."
            }
            Self::CopyOnWrite => "Put the data on ext4 or xfs.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_kind_is_known() {
        for kind in ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs"] {
            assert_eq!(Hazard::of(kind), Some(Hazard::Network), "{kind}");
        }
        for kind in ["fuse", "fuseblk", "fuse.sshfs", "fuse.glusterfs"] {
            assert_eq!(Hazard::of(kind), Some(Hazard::Foreign), "{kind}");
        }
        for kind in ["btrfs", "zfs", "bcachefs"] {
            assert_eq!(Hazard::of(kind), Some(Hazard::CopyOnWrite), "{kind}");
        }
        for kind in ["tmpfs", "ramfs", "overlay", "overlayfs"] {
            assert_eq!(Hazard::of(kind), Some(Hazard::Fleeting), "{kind}");
        }
        for kind in ["ext4", "xfs", "f2fs", "vfat", "0x12345", "simulated", ""] {
            assert_eq!(Hazard::of(kind), None, "{kind}");
        }
    }
}

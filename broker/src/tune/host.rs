//! The kernel's files, as texts. Reads everything, concludes nothing, changes what it is told.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corelane_core::host;

use super::rules::{Change, Disk, Facts, Mount, Network, mount_of};

/// A machine, or a folder that looks like one.
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    pub(super) fn real() -> Self {
        Self { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The file's text without the space around it; a file that is not there says nothing.
    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()?;
        Some(text.trim().to_owned())
    }

    fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path.trim_start_matches('/'))) else {
            return Vec::new();
        };
        let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// What says that this is a container.
    pub(super) fn container(&self) -> Option<String> {
        for mark in ["/.dockerenv", "/run/.containerenv"] {
            if self.root.join(mark.trim_start_matches('/')).exists() {
                return Some(mark.to_owned());
            }
        }
        let kind = self.text("/run/systemd/container");
        if let Some(kind) = kind.filter(|it| !it.is_empty()) {
            return Some(kind);
        }
        let groups = self.text("/proc/1/cgroup").unwrap_or_default();
        let words = ["docker", "kubepods", "containerd", "lxc", "libpod"];
        words.iter().find(|it| groups.contains(**it)).map(|it| (*it).to_owned())
    }

    pub(super) fn facts(&self, data: &Path) -> Facts {
        let limits = host::Facts::read();
        let mounts = self.text("/proc/self/mountinfo").unwrap_or_default();
        let mount = real_path(data).and_then(|it| mount_of(&mounts, &it));
        Facts {
            cores: limits.cores.len(),
            memlock_bytes: limits.memlock_bytes,
            descriptors: limits.descriptors_max,
            governors: self.governors(),
            huge_pages: self.text("/sys/kernel/mm/transparent_hugepage/enabled"),
            swappiness: self.text("/proc/sys/vm/swappiness"),
            backlog: self.text("/proc/sys/net/core/somaxconn"),
            clock: self.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            disk: mount.as_ref().and_then(|it| self.disk(it)),
            mount,
            networks: self.networks(),
        }
    }

    /// The files of all cores, with what stands in them.
    fn governors(&self) -> Vec<(String, String)> {
        let folder = "/sys/devices/system/cpu";
        let names = self.names(folder);
        let cores = names
            .iter()
            .filter(|it| it.strip_prefix("cpu").is_some_and(|it| it.parse::<u32>().is_ok()));
        let paths = cores.map(|it| format!("{folder}/{it}/cpufreq/scaling_governor"));
        paths.filter_map(|it| Some((it.clone(), self.text(&it)?))).collect()
    }

    /// The queue of the disk under a mount: a partition has none, the disk it is on has it.
    fn disk(&self, mount: &Mount) -> Option<Disk> {
        let link = format!("/sys/dev/block/{}", mount.device);
        let folder = fs::canonicalize(self.root.join(link.trim_start_matches('/'))).ok()?;
        let whole = folder.ancestors().take(2).find(|it| it.join("queue").is_dir())?;
        let name = whole.file_name()?.to_str()?.to_owned();
        let queue = format!("/sys/block/{name}/queue");
        let read = |what: &str| {
            fs::read_to_string(whole.join("queue").join(what)).ok().map(|it| it.trim().to_owned())
        };
        Some(Disk {
            scheduler: read("scheduler"),
            merges: read("nomerges"),
            affinity: read("rq_affinity"),
            cache: read("write_cache"),
            forced_unit_access: read("fua"),
            rotates: read("rotational"),
            queue,
            name,
        })
    }

    /// Network devices that have a device under them.
    fn networks(&self) -> Vec<Network> {
        let folder = "/sys/class/net";
        let names = self
            .names(folder)
            .into_iter()
            .filter(|it| self.root.join(format!("sys/class/net/{it}/device")).exists());
        let networks = names.map(|name| {
            let queues = self.names(&format!("{folder}/{name}/queues"));
            let interrupts = self.names(&format!("{folder}/{name}/device/msi_irqs"));
            let places = interrupts.iter();
            let places: BTreeSet<_> = places
                .filter_map(|it| self.text(&format!("/proc/irq/{it}/effective_affinity_list")))
                .collect();
            Network {
                receive_queues: queues.iter().filter(|it| it.starts_with("rx-")).count(),
                interrupts: interrupts.len(),
                interrupt_cores: places.into_iter().collect(),
                name,
            }
        });
        networks.collect()
    }

    pub(super) fn change(&self, change: &Change) -> io::Result<()> {
        fs::write(self.root.join(change.path.trim_start_matches('/')), &change.to)
    }
}

/// The directory, or the nearest one above it that exists, without links.
fn real_path(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    absolute.ancestors().find_map(|it| fs::canonicalize(it).ok())
}

//! Reads what the kernel says about this process and its machine, and raises one limit.
#![expect(unsafe_code, reason = "limits are read and set by system calls")]

use std::fs;
use std::path::Path;

use super::rules::{self, Quota};
use crate::ring::Errno;

/// What this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub kernel: String,
    /// Cores this process may run on, by number.
    pub cores: Vec<usize>,
    pub quotas: Vec<Quota>,
    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    pub memlock_bytes: u64,
    pub descriptors_max: u64,
}

impl Facts {
    /// Asks the kernel. What it does not say is left at nothing.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let meminfo = text("/proc/meminfo");
        let groups = text("/proc/self/cgroup");
        let limits = memory_limits(&groups);
        let within = |bytes: u64| limits.iter().copied().fold(bytes, u64::min);
        let memory = |name| within(rules::meminfo_bytes(&meminfo, name).unwrap_or(0));
        Self {
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cores: core_affinity::get_core_ids()
                .unwrap_or_default()
                .into_iter()
                .map(|it| it.id)
                .collect(),
            quotas: quotas(&groups),
            memory_total_bytes: memory("MemTotal"),
            memory_available_bytes: memory("MemAvailable"),
            memlock_bytes: limit(libc::RLIMIT_MEMLOCK).rlim_cur,
            descriptors_max: limit(libc::RLIMIT_NOFILE).rlim_cur,
        }
    }

    /// How many lanes to run when nobody says.
    #[must_use]
    pub fn default_lanes(&self) -> u16 {
        rules::default_lanes(self.cores.len(), &self.quotas)
    }
}

/// Raises the soft limit on open files to the hard one, and gives it.
///
/// # Errors
/// When the kernel refuses; the limit is as before then.
pub fn raise_descriptors() -> Result<u64, Errno> {
    let mut limit = limit(libc::RLIMIT_NOFILE);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the structure lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno(error.raw_os_error().unwrap_or(libc::EIO)));
    }
    Ok(limit.rlim_cur)
}

fn limit(which: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call; it fails only for limits that do not exist.
    unsafe { libc::getrlimit(which, &raw mut limit) };
    limit
}

const GROUPS: &str = "/sys/fs/cgroup";

/// Every quota that applies: our group's and those of the groups around it.
fn quotas(groups: &str) -> Vec<Quota> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let mut quotas = Vec::new();
    for group in rules::group_and_parents(rules::group_path(groups, None).unwrap_or("/")) {
        let file = Path::new(GROUPS).join(group).join("cpu.max");
        quotas.extend(read(&file).and_then(|it| rules::quota_v2(&it)));
    }
    if let Some(path) = rules::group_path(groups, Some("cpu")) {
        for group in rules::group_and_parents(path) {
            let dir = Path::new(GROUPS).join("cpu").join(group);
            let quota = read(&dir.join("cpu.cfs_quota_us"));
            let period = read(&dir.join("cpu.cfs_period_us"));
            quotas.extend(quota.zip(period).and_then(|(it, per)| rules::quota_v1(&it, &per)));
        }
    }
    quotas
}

/// Limits on memory that apply, in bytes.
fn memory_limits(groups: &str) -> Vec<u64> {
    let limit = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut limits = Vec::new();
    for group in rules::group_and_parents(rules::group_path(groups, None).unwrap_or("/")) {
        limits.extend(limit(&Path::new(GROUPS).join(group).join("memory.max")));
    }
    if let Some(path) = rules::group_path(groups, Some("memory")) {
        for group in rules::group_and_parents(path) {
            let dir = Path::new(GROUPS).join("memory").join(group);
            limits.extend(limit(&dir.join("memory.limit_in_bytes")));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_core_some_memory_and_a_kernel() {
        let facts = Facts::read();
        assert!(1 <= facts.default_lanes(), "{facts:?}");
        assert!(usize::from(facts.default_lanes()) <= facts.cores.len().max(1), "{facts:?}");
        assert!(0 < facts.memory_available_bytes, "{facts:?}");
        assert!(facts.memory_available_bytes <= facts.memory_total_bytes, "{facts:?}");
        assert!(facts.kernel.contains('.'), "{facts:?}");
    }

    #[test]
    fn the_limit_on_open_files_can_be_raised_to_what_is_allowed() {
        let raised = raise_descriptors().expect("the hard limit is allowed");
        assert_eq!(raised, Facts::read().descriptors_max);
    }
}

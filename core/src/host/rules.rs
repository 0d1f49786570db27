//! What the kernel's texts mean for us. Texts in, numbers out; nothing here reads a file.

/// A share of processor time: so much in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub allowed_us: u64,
    pub period_us: u64,
}

impl Quota {
    /// Whole cores of this share, at least one: a lane that is throttled part of the time
    /// stalls everybody on it.
    #[must_use]
    pub fn cores(self) -> usize {
        usize::try_from(self.allowed_us / self.period_us.max(1)).unwrap_or(usize::MAX).max(1)
    }
}

/// `cpu.max` of control groups version 2: `max 100000` or `150000 100000`.
#[must_use]
pub fn quota_v2(text: &str) -> Option<Quota> {
    let mut words = text.split_ascii_whitespace();
    let allowed_us = words.next()?.parse().ok()?;
    let period_us = words.next().map_or(Some(100_000), |it| it.parse().ok())?;
    (0 < allowed_us && 0 < period_us).then_some(Quota { allowed_us, period_us })
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1; a quota of -1 is none.
#[must_use]
pub fn quota_v1(quota: &str, period: &str) -> Option<Quota> {
    let allowed_us = u64::try_from(quota.trim().parse::<i64>().ok()?).ok()?;
    let period_us = period.trim().parse().ok()?;
    (0 < allowed_us && 0 < period_us).then_some(Quota { allowed_us, period_us })
}

/// Where `/proc/self/cgroup` says we are, for version 2 (`None`) or a controller of version 1.
#[must_use]
pub fn group_path<'a>(text: &'a str, controller: Option<&str>) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = match controller {
            None => number == "0" && names.is_empty(),
            Some(controller) => names.split(',').any(|it| it == controller),
        };
        ours.then_some(path)
    })
}

/// A group and all groups above it, the root last; each may limit us.
#[must_use]
pub fn group_and_parents(path: &str) -> Vec<String> {
    let mut parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
    let mut paths = Vec::new();
    loop {
        paths.push(parts.join("/"));
        if parts.pop().is_none() {
            return paths;
        }
    }
}

/// How many lanes to run when nobody says: one for each usable core, within the tightest quota.
#[must_use]
pub fn default_lanes(usable_cores: usize, quotas: &[Quota]) -> u16 {
    let cores = quotas.iter().map(|it| it.cores()).fold(usable_cores.max(1), usize::min);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// A line of `/proc/meminfo`, in bytes.
#[must_use]
pub fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn lanes(cores: usize, texts: &[&str], expect: u16) {
        let quotas: Vec<_> = texts.iter().filter_map(|it| quota_v2(it)).collect();
        assert_eq!(default_lanes(cores, &quotas), expect, "{cores} cores, {texts:?}");
    }

    #[test]
    fn lanes_fit_the_cores_and_the_tightest_quota() {
        lanes(8, &[], 8);
        lanes(8, &["max 100000\n"], 8);
        lanes(8, &["400000 100000"], 4);
        lanes(8, &["400000 100000", "max 100000", "250000 100000"], 2);
        lanes(2, &["400000 100000"], 2);
        lanes(8, &["50000 100000"], 1);
        lanes(0, &[], 1);
        lanes(100_000, &[], u16::MAX);
    }

    #[test]
    fn texts_that_are_no_quota_are_none() {
        for text in ["", "max", "x 1", "0 100000", "1 0", "-1 100000"] {
            assert_eq!(quota_v2(text), None, "{text:?}");
        }
        assert_eq!(quota_v1("-1\n", "100000\n"), None);
        assert_eq!(quota_v1("", ""), None);
        let quota = quota_v1("300000\n", "100000\n").expect("a quota");
        assert_eq!(quota.cores(), 3);
    }

    #[test]
    fn our_group_is_found_in_either_version() {
        let text = "12:cpu,cpuacct:/docker/abc\n3:memory:/m\n0::/user.slice/a:b\n";
        assert_eq!(group_path(text, None), Some("/user.slice/a:b"));
        assert_eq!(group_path(text, Some("cpu")), Some("/docker/abc"));
        assert_eq!(group_path(text, Some("pids")), None);
        assert_eq!(group_and_parents("/a/b"), ["a/b", "a", ""]);
        assert_eq!(group_and_parents("/"), [""]);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16 kB\nMemAvailable:    3 kB\nHugePages_Total:  0\n";
        assert_eq!(meminfo_bytes(text, "MemTotal"), Some(16_384));
        assert_eq!(meminfo_bytes(text, "MemAvailable"), Some(3_072));
        assert_eq!(meminfo_bytes(text, "Mem"), None);
        assert_eq!(meminfo_bytes(text, "HugePages_Total"), None);
    }
}

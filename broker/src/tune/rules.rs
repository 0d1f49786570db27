//! What the kernel's texts mean for a broker, and what would be better. Texts in, findings out.

use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use crate::file_systems::Hazard;

/// What was read. `None` where this kernel or this machine has no such thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) cores: usize,
    pub(super) memlock_bytes: u64,
    pub(super) descriptors: u64,
    /// Each core's file and what stands in it.
    pub(super) governors: Vec<(String, String)>,
    pub(super) huge_pages: Option<String>,
    pub(super) swappiness: Option<String>,
    pub(super) backlog: Option<String>,
    pub(super) clock: Option<String>,
    pub(super) mount: Option<Mount>,
    pub(super) disk: Option<Disk>,
    pub(super) networks: Vec<Network>,
}

/// The mount that holds the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// Major and minor number of the device, `8:1`.
    pub(super) device: String,
    pub(super) kind: String,
    /// Those of the mount and those of the file system.
    pub(super) options: Vec<String>,
}

/// The texts of a disk's queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) queue: String,
    pub(super) scheduler: Option<String>,
    pub(super) merges: Option<String>,
    pub(super) affinity: Option<String>,
    pub(super) cache: Option<String>,
    pub(super) forced_unit_access: Option<String>,
    pub(super) rotates: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) receive_queues: usize,
    pub(super) interrupts: usize,
    /// The cores that take them, each place once.
    pub(super) interrupt_cores: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Good,
    /// Worth knowing.
    Note,
    /// Costs latency, throughput or safety.
    Warning,
}

/// One file of the kernel that would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) what: &'static str,
    pub(super) found: String,
    pub(super) means: String,
    pub(super) level: Level,
    pub(super) changes: Vec<Change>,
    /// What a person would do where we cannot.
    pub(super) remedy: Option<String>,
}

impl Finding {
    fn new(what: &'static str, level: Level, found: impl Into<String>, means: &str) -> Self {
        let (found, means) = (found.into(), means.to_owned());
        Self { what, found, means, level, changes: Vec::new(), remedy: None }
    }

    fn change(mut self, path: &str, from: &str, to: &str) -> Self {
        self.changes.push(Change { path: path.into(), from: from.into(), to: to.into() });
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Enough for the rings of many lanes, registered rings and their buffers.
const MEMLOCK_BYTES_MIN: u64 = 8 << 20;
const DESCRIPTORS_MIN: u64 = 65_536;
const BACKLOG_MIN: u64 = 1_024;
const SWAPPINESS_MAX: u64 = 10;
/// A flush that takes longer now and then is felt by everybody who waits for it.
const FLUSH_P99_US_MAX: u64 = 5_000;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![memlock(facts.memlock_bytes), descriptors(facts.descriptors)];
    findings.push(governors(&facts.governors));
    findings.extend(facts.huge_pages.as_deref().map(huge_pages));
    findings.extend(facts.swappiness.as_deref().map(swappiness));
    findings.extend(facts.backlog.as_deref().map(backlog));
    findings.extend(facts.clock.as_deref().map(clock));
    findings.push(match &facts.mount {
        Some(mount) => file_system(mount),
        None => Finding::new(
            "file system",
            Level::Warning,
            "not found",
            "The mount that would hold the data is not in /proc/self/mountinfo.",
        ),
    });
    match &facts.disk {
        Some(disk) => {
            findings.extend(scheduler(disk));
            findings.extend(affinity(disk));
            findings.extend(merges(disk));
            findings.extend(write_cache(disk));
        }
        None => findings.push(Finding::new(
            "disk queue",
            Level::Note,
            "none",
            "The data is on no block device of this kernel, so its queue cannot be looked at.",
        )),
    }
    findings.extend(facts.networks.iter().flat_map(|it| network(it, facts.cores)));
    findings
}

fn memlock(bytes: u64) -> Finding {
    let what = "locked memory";
    if bytes == u64::MAX {
        return Finding::new(what, Level::Good, "no limit", "");
    }
    let found = format!("{} KiB", bytes >> 10);
    if MEMLOCK_BYTES_MIN <= bytes {
        return Finding::new(what, Level::Good, found, "");
    }
    let means = "Rings and registered buffers count against this limit; a lane may not start.";
    Finding::new(what, Level::Warning, found, means).remedy(
        "Raise it: LimitMEMLOCK=infinity in the unit, or memlock in /etc/security/limits.conf.",
    )
}

fn descriptors(limit: u64) -> Finding {
    let (what, found) = ("open files", limit.to_string());
    if DESCRIPTORS_MIN <= limit {
        return Finding::new(what, Level::Good, found, "");
    }
    let means =
        "Connections and open segments share this limit; at most 8 of 10 become connections.";
    Finding::new(what, Level::Warning, found, means).remedy(format!(
        "Raise it: LimitNOFILE={DESCRIPTORS_MIN} or more in the unit, or nofile in /etc/security/limits.conf."
    ))
}

fn governors(governors: &[(String, String)]) -> Finding {
    let what = "CPU governor";
    if governors.is_empty() {
        return Finding::new(
            what,
            Level::Good,
            "none: the frequency is not this kernel's to choose",
            "",
        );
    }
    let slow = governors.iter().filter(|(_, it)| it != "performance");
    let mut slow = slow.peekable();
    let Some((_, first)) = slow.peek() else {
        return Finding::new(what, Level::Good, "performance on every core", "");
    };
    let found = format!("{first} on some of {} cores", governors.len());
    let means = "A core that slows down between requests answers the next one late.";
    let finding = Finding::new(what, Level::Warning, found, means);
    slow.fold(finding, |it, (path, now)| it.change(path, now, "performance"))
}

/// The chosen one of `always [madvise] never`.
fn chosen(text: &str) -> &str {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(word, _)| word)
}

fn huge_pages(text: &str) -> Finding {
    let (what, now) = ("transparent huge pages", chosen(text));
    if now != "always" {
        return Finding::new(what, Level::Good, now, "");
    }
    let means = "The kernel joins pages behind our back: pauses while it does, and memory that is never given back.";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    Finding::new(what, Level::Warning, now, means).change(path, now, "madvise")
}

fn swappiness(text: &str) -> Finding {
    let what = "swappiness";
    match text.parse::<u64>() {
        Ok(now) if SWAPPINESS_MAX < now => {
            let means = "A lane whose memory was put on disk stops until it is back.";
            Finding::new(what, Level::Warning, text, means).change(
                "/proc/sys/vm/swappiness",
                text,
                "1",
            )
        }
        _ => Finding::new(what, Level::Good, text, ""),
    }
}

fn backlog(text: &str) -> Finding {
    let what = "connection backlog";
    match text.parse::<u64>() {
        Ok(now) if now < BACKLOG_MIN => {
            let means =
                "Clients that all come back at once find the door shut and wait a second or more.";
            let to = (4 * BACKLOG_MIN).to_string();
            Finding::new(what, Level::Warning, text, means).change(
                "/proc/sys/net/core/somaxconn",
                text,
                &to,
            )
        }
        _ => Finding::new(what, Level::Good, text, ""),
    }
}

fn clock(text: &str) -> Finding {
    let what = "clock source";
    if ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&text) {
        return Finding::new(what, Level::Good, text, "");
    }
    let means = "Each look at this clock is a call into the kernel or slower; a lane looks at it every turn.";
    Finding::new(what, Level::Warning, text, means)
        .remedy("Boot with tsc=reliable where the machine's counter is, or ask whoever runs the virtual machine.")
}

fn file_system(mount: &Mount) -> Finding {
    let what = "file system";
    let found =
        format!("{} at {} ({})", mount.kind, mount.point.display(), mount.options.join(","));
    let has = |option: &str| mount.options.iter().any(|it| it == option);
    if let Some(hazard) = Hazard::of(&mount.kind) {
        return Finding::new(what, Level::Warning, found, hazard.means()).remedy(hazard.remedy());
    }
    if has("nobarrier") || has("barrier=0") {
        let means = "Without barriers the file system does not wait for the disk: a power cut loses what was acknowledged.";
        return Finding::new(what, Level::Warning, found, means)
            .remedy("Mount it without nobarrier.");
    }
    if !["ext4", "xfs"].contains(&mount.kind.as_str()) {
        let means = "Not one we measure; ext4 and xfs are.";
        return Finding::new(what, Level::Note, found, means);
    }
    if has("noatime") || has("relatime") || has("lazytime") {
        return Finding::new(what, Level::Good, found, "");
    }
    let means = "Reading a file writes its time of access.";
    let point = mount.point.display();
    Finding::new(what, Level::Note, found, means)
        .remedy(format!("mount -o remount,noatime {point}, and the same word in /etc/fstab."))
}

fn scheduler(disk: &Disk) -> Option<Finding> {
    let what = "disk scheduler";
    let text = disk.scheduler.as_deref()?;
    let now = chosen(text);
    let found = format!("{now} on {}", disk.name);
    let rotates = disk.rotates.as_deref() == Some("1");
    if now == "none" || (rotates && now == "mq-deadline") {
        return Some(Finding::new(what, Level::Good, found, ""));
    }
    let better = if rotates { "mq-deadline" } else { "none" };
    let means =
        "A fast disk orders its own queue; a scheduler before it only adds time to each flush.";
    let finding = Finding::new(what, Level::Warning, found, means);
    let known = text.split_whitespace().any(|it| it.trim_matches(['[', ']']) == better);
    Some(match known {
        true => finding.change(&format!("{}/scheduler", disk.queue), now, better),
        false => finding.remedy(format!("This kernel offers no {better} for it: {text}.")),
    })
}

fn affinity(disk: &Disk) -> Option<Finding> {
    let (what, now) = ("disk completions", disk.affinity.as_deref()?);
    let found = format!("rq_affinity {now} on {}", disk.name);
    if now == "2" {
        return Some(Finding::new(what, Level::Good, found, ""));
    }
    let means =
        "A completion may be worked off on another core than the one whose lane waits for it.";
    let path = format!("{}/rq_affinity", disk.queue);
    Some(Finding::new(what, Level::Note, found, means).change(&path, now, "2"))
}

fn merges(disk: &Disk) -> Option<Finding> {
    let (what, now) = ("disk merges", disk.merges.as_deref()?);
    let found = format!("nomerges {now} on {}", disk.name);
    if now != "0" || disk.rotates.as_deref() == Some("1") {
        return Some(Finding::new(what, Level::Good, found, ""));
    }
    let means =
        "The kernel searches for neighbours of each write; our writes are large and have none.";
    let path = format!("{}/nomerges", disk.queue);
    Some(Finding::new(what, Level::Note, found, means).change(&path, now, "2"))
}

/// Never changed by us: telling the kernel that a cache is safe when it is not loses data.
fn write_cache(disk: &Disk) -> Option<Finding> {
    let (what, now) = ("disk write cache", disk.cache.as_deref()?);
    let found = format!("{now} on {}", disk.name);
    if now == "write through" {
        return Some(Finding::new(what, Level::Good, found, ""));
    }
    if disk.forced_unit_access.as_deref() == Some("1") {
        let found = format!("{found}, with forced unit access");
        return Some(Finding::new(what, Level::Good, found, ""));
    }
    let means = "Each commit is a write and then a flush of the whole cache, which the kernel hands to a worker of \
                 its own.";
    Some(Finding::new(what, Level::Note, found, means).remedy(
        "A disk with power-loss protection says write through, or has forced unit access; its commits are faster.",
    ))
}

fn network(network: &Network, cores: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (name, queues) = (&network.name, network.receive_queues);
    let what = "network queues";
    let found = format!("{name} has {queues} for {cores} cores");
    findings.push(if cores <= queues {
        Finding::new(what, Level::Good, found, "")
    } else {
        let means = "Cores without a queue of their own get their bytes through another core.";
        Finding::new(what, Level::Note, found, means)
            .remedy(format!("ethtool -l {name} says how many it can have, ethtool -L {name} combined {cores} asks for them."))
    });
    let what = "network interrupts";
    if let [only] = network.interrupt_cores.as_slice()
        && 1 < network.interrupts
        && 1 < cores
    {
        let found = format!("all {} of {name} go to core {only}", network.interrupts);
        let means = "One core takes every packet, and the lane on it is late.";
        findings.push(Finding::new(what, Level::Warning, found, means).remedy(
            "Run irqbalance, or spread them: /proc/irq/NUMBER/smp_affinity_list, one core each.",
        ));
    }
    findings
}

/// What the disk answered when it was asked to make small blocks durable, in microseconds.
pub(super) fn flushes(latencies: &Histogram<u64>, facts: &Facts) -> Finding {
    let at = |quantile| latencies.value_at_quantile(quantile);
    let found = format!(
        "{} blocks of 4 KiB made durable one by one: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max()
    );
    let what = "flush latency";
    let kind = facts.mount.as_ref().map_or("", |it| it.kind.as_str());
    if ["tmpfs", "ramfs"].contains(&kind) {
        let means = "This is memory: nothing of it survives.";
        return Finding::new(what, Level::Warning, found, means);
    }
    if at(0.99) <= FLUSH_P99_US_MAX {
        return Finding::new(what, Level::Good, found, "");
    }
    let means =
        "Every acknowledged record waits for one of these; one in a hundred waits this long.";
    Finding::new(what, Level::Warning, found, means)
        .remedy("Use a disk with power-loss protection, and give the data a disk of its own.")
}

/// The mount under a path: the longest one, and of two at the same place the later.
pub(super) fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(mount_line);
    mounts.filter(|it| path.starts_with(&it.point)).max_by_key(|it| it.point.components().count())
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn mount_line(line: &str) -> Option<Mount> {
    let (ours, theirs) = line.split_once(" - ")?;
    let ours: Vec<&str> = ours.split(' ').collect();
    let [_, _, device, _, point, options, ..] = ours.as_slice() else { return None };
    let mut theirs = theirs.split(' ');
    let kind = theirs.next()?.to_owned();
    let super_options = theirs.nth(1).unwrap_or_default();
    let options = options.split(',').chain(super_options.split(','));
    let mut seen: Vec<String> = Vec::new();
    for option in options.filter(|it| !it.is_empty()) {
        if !seen.iter().any(|it| it == option) {
            seen.push(option.to_owned());
        }
    }
    let point = PathBuf::from(point.replace("\\040", " "));
    Some(Mount { point, device: (*device).to_owned(), kind, options: seen })
}

//! Stories of machines that exist only as folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::rules::{self, Change, Facts, Finding, Level, Mount};
use super::tell;

/// A folder that looks like a machine's kernel files; gone when dropped.
struct Machine(PathBuf);

impl Machine {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let root =
            std::env::temp_dir().join(format!("corelane-tune-{name}-{}", std::process::id()));
        let machine = Self(root);
        for (path, text) in files {
            let path = machine.0.join(path);
            fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        machine
    }

    fn host(&self) -> Host {
        Host::at(&self.0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn mount(kind: &str, options: &str) -> Mount {
    Mount {
        point: "/data".into(),
        device: "8:1".into(),
        kind: kind.into(),
        options: options.split(',').map(str::to_owned).collect(),
    }
}

fn about<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    findings
        .iter()
        .find(|it| it.what == what)
        .unwrap_or_else(|| panic!("nothing on {what}: {findings:?}"))
}

#[test]
fn a_machine_left_as_it_came_is_told_what_to_change() {
    let machine = Machine::with(
        "plain",
        &[
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpufreq/ignored", "x"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ("proc/sys/vm/swappiness", "60\n"),
            ("proc/sys/net/core/somaxconn", "128\n"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
            ("sys/class/net/lo/queues/rx-0/x", ""),
            ("sys/class/net/eth0/queues/rx-0/x", ""),
            ("sys/class/net/eth0/device/msi_irqs/40", ""),
            ("sys/class/net/eth0/device/msi_irqs/41", ""),
            ("proc/irq/40/effective_affinity_list", "0\n"),
            ("proc/irq/41/effective_affinity_list", "0\n"),
        ],
    );
    let facts = Facts { cores: 4, ..machine.host().facts(Path::new("/")) };
    let findings = rules::findings(&facts);
    let change = |path: &str, from: &str, to: &str| Change {
        path: path.into(),
        from: from.into(),
        to: to.into(),
    };
    let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    assert_eq!(
        about(&findings, "CPU governor").changes,
        [change(governor, "powersave", "performance")]
    );
    let pages = "/sys/kernel/mm/transparent_hugepage/enabled";
    assert_eq!(
        about(&findings, "transparent huge pages").changes,
        [change(pages, "always", "madvise")]
    );
    assert_eq!(
        about(&findings, "swappiness").changes,
        [change("/proc/sys/vm/swappiness", "60", "1")]
    );
    let backlog = change("/proc/sys/net/core/somaxconn", "128", "4096");
    assert_eq!(about(&findings, "connection backlog").changes, [backlog]);
    assert_eq!(about(&findings, "clock source").level, Level::Warning);
    assert_eq!(about(&findings, "network queues").found, "eth0 has 1 for 4 cores");
    assert_eq!(about(&findings, "network interrupts").found, "all 2 of eth0 go to core 0");
}

#[test]
fn what_is_changed_is_in_the_file_afterwards_and_no_warning_any_more() {
    let machine = Machine::with("change", &[("proc/sys/vm/swappiness", "60\n")]);
    let host = machine.host();
    let findings = rules::findings(&host.facts(Path::new("/")));
    host.change(&about(&findings, "swappiness").changes[0]).expect("the file is there");
    let findings = rules::findings(&host.facts(Path::new("/")));
    assert_eq!(about(&findings, "swappiness").level, Level::Good);
    let gone = Change { path: "/proc/none/x".into(), from: String::new(), to: "1".into() };
    host.change(&gone).expect_err("there is no such folder");
}

#[test]
fn a_container_is_known_by_its_marks() {
    let sign = |name, files: &[(&str, &str)]| Machine::with(name, files).host().container();
    assert_eq!(sign("none", &[("proc/1/cgroup", "0::/init.scope\n")]), None);
    assert_eq!(sign("docker", &[(".dockerenv", "")]).as_deref(), Some("/.dockerenv"));
    assert_eq!(sign("podman", &[("run/.containerenv", "")]).as_deref(), Some("/run/.containerenv"));
    assert_eq!(
        sign("nspawn", &[("run/systemd/container", "systemd-nspawn\n")]).as_deref(),
        Some("systemd-nspawn")
    );
    let groups = "12:cpu:/kubepods/besteffort/pod1\n";
    assert_eq!(sign("kube", &[("proc/1/cgroup", groups)]).as_deref(), Some("kubepods"));
}

#[test]
fn the_disk_of_a_partition_is_the_whole_one() {
    let machine = Machine::with(
        "disk",
        &[
            ("sys/devices/pci/block/sda/queue/scheduler", "none [mq-deadline] kyber\n"),
            ("sys/devices/pci/block/sda/queue/rq_affinity", "1\n"),
            ("sys/devices/pci/block/sda/queue/nomerges", "0\n"),
            ("sys/devices/pci/block/sda/queue/write_cache", "write back\n"),
            ("sys/devices/pci/block/sda/queue/fua", "0\n"),
            ("sys/devices/pci/block/sda/queue/rotational", "0\n"),
            ("sys/devices/pci/block/sda/sda1/partition", "1\n"),
            ("proc/self/mountinfo", "20 1 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n"),
            ("sys/dev/block/README", ""),
        ],
    );
    let link = machine.0.join("sys/dev/block/8:1");
    std::os::unix::fs::symlink("../../devices/pci/block/sda/sda1", link).expect("linked");
    let findings = rules::findings(&machine.host().facts(Path::new("/")));
    assert_eq!(about(&findings, "file system").level, Level::Good);
    let expect = Change {
        path: "/sys/block/sda/queue/scheduler".into(),
        from: "mq-deadline".into(),
        to: "none".into(),
    };
    assert_eq!(about(&findings, "disk scheduler").changes, [expect]);
    assert_eq!(about(&findings, "disk completions").changes[0].to, "2");
    assert_eq!(about(&findings, "disk merges").changes[0].to, "2");
    let cache = about(&findings, "disk write cache");
    assert_eq!(
        (cache.level, cache.changes.len()),
        (Level::Note, 0),
        "a cache is never called safe by us"
    );
}

#[test]
fn the_mount_of_a_path_is_the_nearest_above_it() {
    let text = "\
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
21 20 8:2 / /srv rw,noatime - xfs /dev/sdb1 rw
22 20 0:30 / /srv/with\\040space rw - tmpfs tmpfs rw
";
    let kind = |path: &str| rules::mount_of(text, Path::new(path)).map(|it| it.kind);
    assert_eq!(kind("/srv/log").as_deref(), Some("xfs"));
    assert_eq!(kind("/srvlog").as_deref(), Some("ext4"));
    assert_eq!(kind("/srv/with space/x").as_deref(), Some("tmpfs"));
    let root = rules::mount_of(text, Path::new("/x")).expect("there is a root");
    assert_eq!(root.options, ["rw", "relatime", "errors=remount-ro"]);
    assert_eq!(rules::mount_of("nonsense\n", Path::new("/x")), None);
}

#[test]
fn file_systems_are_judged_by_what_they_keep() {
    let level = |kind: &str, options: &str| {
        let facts = Facts { mount: Some(mount(kind, options)), ..Facts::default() };
        about(&rules::findings(&facts), "file system").level
    };
    assert_eq!(level("ext4", "rw,noatime"), Level::Good);
    assert_eq!(level("xfs", "rw"), Level::Note);
    assert_eq!(level("ext4", "rw,noatime,nobarrier"), Level::Warning);
    for kind in ["nfs4", "ceph", "btrfs", "tmpfs", "overlay", "fuse.sshfs"] {
        assert_eq!(level(kind, "rw,noatime"), Level::Warning, "{kind}");
    }
}

#[test]
fn a_slow_flush_is_a_warning() {
    let level = |us: u64| {
        let mut seen = hdrhistogram::Histogram::new_with_max(60_000_000, 3).expect("three digits");
        (0..100).for_each(|_| seen.saturating_record(us));
        rules::flushes(&seen, &Facts::default()).level
    };
    assert_eq!(level(80), Level::Good);
    assert_eq!(level(20_000), Level::Warning);
}

#[test]
fn a_finding_says_what_it_means_and_what_would_be_written() {
    let facts = Facts { swappiness: Some("60".into()), ..Facts::default() };
    let text = tell(about(&rules::findings(&facts), "swappiness"));
    let expect = "\
warning  swappiness: 60
         A lane whose memory was put on disk stops until it is back.
         would write 1 to /proc/sys/vm/swappiness (now 60)
";
    assert_eq!(text, expect);
}

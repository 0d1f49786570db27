//! Who may look at whom, and who may touch the machine. Think about the design before you change a list.

use crate::metadata::{cargo_metadata, packages, text};
use crate::walk::{lines_with, sources};
use std::collections::BTreeSet;

/// A room and the rooms it may use, from the ground up.
struct Room {
    name: &'static str,
    uses: &'static [&'static str],
    /// What its tests may use besides.
    tests_use: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "core", uses: &[], tests_use: &[] },
    Room { name: "storage", uses: &["core"], tests_use: &[] },
    Room { name: "netgen", uses: &[], tests_use: &[] },
    Room { name: "net", uses: &["core"], tests_use: &[] },
    Room { name: "replication", uses: &["core", "storage", "net"], tests_use: &[] },
    Room { name: "coordinator", uses: &["core", "storage", "net", "replication"], tests_use: &[] },
    Room { name: "client", uses: &["core", "net"], tests_use: &[] },
    Room {
        name: "broker",
        uses: &["core", "storage", "net", "replication", "coordinator"],
        tests_use: &["client"],
    },
    Room {
        name: "bench",
        uses: &["core", "storage", "net", "replication", "coordinator", "broker", "client"],
        tests_use: &[],
    },
    Room {
        name: "perf",
        uses: &[
            "core",
            "storage",
            "net",
            "replication",
            "coordinator",
            "broker",
            "client",
            "bench",
        ],
        tests_use: &[],
    },
    Room {
        name: "fuzz",
        uses: &["core", "storage", "netgen", "net", "replication", "coordinator", "broker"],
        tests_use: &[],
    },
    Room { name: "disk", uses: &["core", "client", "broker"], tests_use: &[] },
    Room { name: "rooms", uses: &[], tests_use: &[] },
];

/// A way to the machine, the words that open it, and the only places that may say them. A place is
/// the beginning of a path: a folder, a file, or all files of one name's family.
struct Door {
    name: &'static str,
    words: &'static [&'static str],
    places: &'static [&'static str],
}

/// Rooms that are instruments: they measure from outside, or run beside the broker as other programs.
const DOORS: &[Door] = &[
    Door {
        name: "code the compiler does not check",
        words: &["unsafe"],
        places: &[
            "core/tests/sim/guard.rs",
            "core/src/host/",
            "core/src/ring/",
            "core/src/buf",
            "net/tests/wire/allocations.rs",
            "perf/src/",
            "tests/rooms/",
        ],
    },
    Door {
        name: "a clock",
        words: &["Instant::now", "SystemTime", "UNIX_EPOCH"],
        places: &["core/tests/", "core/src/ring/", "broker/tests/", "perf/", "bench/", "tests/"],
    },
    Door {
        name: "a file",
        words: &["std::fs", "File::open", "File::create", "OpenOptions"],
        places: &[
            "core/src/host/",
            "core/src/ring/",
            "net/gen/",
            "broker/src/config/host.rs",
            "broker/src/tune/",
            "net/tests/",
            "broker/tests/",
            "perf/",
            "bench/",
            "fuzz/",
            "tests/",
        ],
    },
    Door {
        name: "a socket",
        // Addresses are values; naming one opens nothing.
        words: &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "net::*"],
        places: &["core/tests/", "core/src/ring/", "broker/tests/", "perf/", "bench/", "tests/"],
    },
    Door {
        name: "a system call",
        words: &["libc::", "io_uring::"],
        places: &[
            "core/tests/",
            "core/src/host/",
            "core/src/ring/",
            "core/src/buf",
            "perf/src/",
            "tests/rooms/",
        ],
    },
    Door {
        name: "a thread",
        words: &[
            "std::thread",
            "thread::spawn",
            "thread::Builder",
            "thread::scope",
            "thread::sleep",
        ],
        places: &[
            "core/tests/",
            "core/src/host/",
            "core/src/ring/",
            "core/src/buf/pool.rs",
            "core/src/mailbox/bell.rs",
            "broker/tests/",
            "perf/",
            "bench/",
            "tests/",
        ],
    },
    Door {
        name: "another process",
        words: &["std::process::Command", "process::Command", "Command::new"],
        places: &["core/tests/", "net/gen/", "broker/tests/", "perf/", "bench/", "tests/"],
    },
    Door {
        name: "randomness of the machine",
        words: &["getrandom", "RandomState", "OsRng", "thread_rng"],
        places: &["core/tests/", "core/src/ring/", "tests/rooms/"],
    },
    Door {
        name: "state that belongs to a thread",
        words: &["thread_local!"],
        places: &["net/tests/wire/allocations.rs", "tests/rooms/"],
    },
    Door {
        name: "a map whose order is drawn at start",
        words: &[
            "HashMap::new",
            "HashSet::new",
            "HashMap::with_capacity",
            "HashSet::with_capacity",
        ],
        places: &["core/tests/", "perf/", "tests/rooms/"],
    },
    Door {
        name: "the measuring runtimes",
        words: &["glommio::", "tokio::"],
        places: &["perf/", "bench/", "tests/"],
    },
];

#[test]
fn rooms_only_look_down() {
    let metadata = cargo_metadata(&["--no-deps", "--offline"]);
    let mut seen = BTreeSet::new();
    for package in packages(&metadata) {
        let name =
            text(package, "name").strip_prefix("corelane-").expect("packages are corelane-*");
        let room = ROOMS
            .iter()
            .find(|it| it.name == name)
            .unwrap_or_else(|| panic!("the room {name} has no row in the list of rooms"));
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            let Some(used) = text(dependency, "name").strip_prefix("corelane-") else { continue };
            let in_tests = dependency["kind"] == "dev" && room.tests_use.contains(&used);
            // A package may name itself for its own tests.
            assert!(
                room.uses.contains(&used) || in_tests || used == name,
                "{name} must not depend on {used}: {name} may look at {:?}",
                room.uses
            );
        }
    }
    assert!(seen.contains("core") && 5 < seen.len(), "rooms are missing from the walk: {seen:?}");
}

#[test]
fn a_room_uses_only_rooms_listed_before_it() {
    for (at, room) in ROOMS.iter().enumerate() {
        for used in room.uses.iter().chain(room.tests_use) {
            let place = ROOMS.iter().position(|it| it.name == *used);
            assert!(place.is_some_and(|it| it < at), "{} looks up at {used}", room.name);
        }
    }
}

#[test]
fn only_the_listed_files_touch_the_machine() {
    let sources = sources(&[".rs"]);
    for room in ["core/src/", "storage/src/", "net/src/", "broker/src/"] {
        assert!(sources.iter().any(|it| it.path.starts_with(room)), "{room} is not in the walk");
    }
    let mut complaints = Vec::new();
    for door in DOORS {
        for source in &sources {
            if door.places.iter().any(|it| source.path.starts_with(it)) {
                continue;
            }
            for word in door.words {
                for line in lines_with(&source.text, word) {
                    complaints.push(format!("{}:{line}: {word} opens {}", source.path, door.name));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "doors that are not theirs:\n{}", complaints.join("\n"));
}

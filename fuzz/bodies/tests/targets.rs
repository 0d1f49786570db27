//! Every target survives its seeds and a number of mutants; every message, made-up values.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use corelane_fuzz::values::{self, Schema};
use corelane_fuzz::{Dice, TARGETS, feed, fuzz_dir, stored, wire};
use corelane_net::messages::catalogue::MESSAGES;

#[test]
fn any_bytes_can_be_read_as_any_message() {
    feed(&wire::MESSAGE);
}

#[test]
fn any_bytes_can_be_opened_as_a_request() {
    feed(&wire::FRAME);
}

#[test]
fn good_bytes_come_back_whatever_values_are_in_them() {
    feed(&wire::VALUES);
}

#[test]
fn any_bytes_can_be_read_as_batches() {
    feed(&stored::BATCH);
}

#[test]
fn any_bytes_can_be_read_as_a_frame_of_a_journal() {
    feed(&stored::FRAME);
}

#[test]
fn any_bytes_can_be_read_as_an_index() {
    feed(&stored::INDEX);
}

#[test]
fn any_bytes_can_be_read_as_a_checkpoint() {
    feed(&stored::CHECKPOINT);
}

/// Messages with the same values in every run, every version of each as often as every other.
#[test]
fn every_message_in_every_version_keeps_made_up_values() {
    const TIMES: u64 = 20;
    let mut told = 0;
    for (entry, seed) in MESSAGES.iter().zip(0..) {
        for version in entry.versions.iter() {
            for time in 0..TIMES {
                let mut dice =
                    Dice::new(seed << 32 | u64::from(version.cast_unsigned()) << 16 | time);
                let body = Schema::get().message(entry.name, version, &mut dice);
                values::check(entry, version, &body);
                told += 1;
            }
        }
    }
    assert!(10_000 < told, "the walk went empty: {told}");
}

#[test]
fn every_target_has_its_program_and_every_folder_of_seeds_its_target() {
    let known: BTreeSet<String> = TARGETS.iter().map(|it| it.name.to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz_dir().join(folder)).expect("the folder is there");
        let paths = entries.map(|it| it.expect("an entry can be read").path());
        let stem =
            |it: std::path::PathBuf| it.file_stem().map(|it| it.to_string_lossy().into_owned());
        paths.filter_map(stem).filter(|it| !it.starts_with('.')).collect()
    };
    assert_eq!(names("fuzz_targets"), known);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).expect("it is text");
    let bins = manifest.lines().filter_map(|it| it.strip_prefix("path = \"fuzz_targets/"));
    let bins: BTreeSet<String> =
        bins.filter_map(|it| it.strip_suffix(".rs\"").map(str::to_owned)).collect();
    assert_eq!(bins, known);
    if fuzz_dir().join("seeds").exists() {
        let strangers: Vec<_> = names("seeds").difference(&known).cloned().collect();
        assert!(strangers.is_empty(), "seeds of no target: {strangers:?}");
    }
}

/// The packages of a lock file, each with the names of those it uses.
fn packages(lock: &str) -> BTreeMap<String, Vec<String>> {
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let package = |text: &str| {
        let name = text.lines().find_map(|it| it.strip_prefix("name = ")).and_then(quoted)?;
        let uses = text.lines().filter(|it| it.starts_with(" \"")).filter_map(quoted);
        let uses = uses.filter_map(|it| it.split(' ').next().map(str::to_owned));
        Some((name, uses.collect()))
    };
    lock.split("[[package]]").filter_map(package).collect()
}

/// The folder above is a workspace of its own, whose lock file nothing else here would look at.
#[test]
fn the_lock_of_the_programs_knows_the_rooms_that_their_bodies_use() {
    let read = |file: &str| fs::read_to_string(fuzz_dir().join(file)).expect("it is text");
    let (ours, theirs) = (packages(&read("../Cargo.lock")), packages(&read("Cargo.lock")));
    let (mut wanted, mut next) = (BTreeSet::new(), vec!["corelane-fuzz".to_owned()]);
    while let Some(name) = next.pop() {
        // Of others it also names what only their tests use.
        if name.starts_with("corelane-") && wanted.insert(name.clone()) {
            next.extend(ours[&name].iter().cloned());
        }
    }
    assert!(wanted.contains("corelane-storage"), "the walk went empty: {wanted:?}");
    let missing: Vec<_> = wanted.iter().filter(|it| !theirs.contains_key(*it)).collect();
    assert!(
        missing.is_empty(),
        "fuzz/Cargo.lock lacks {missing:?}; run `cargo metadata --format-version 1 >/dev/null` in fuzz/"
    );
}

//! The set of loads by which the goals are judged: `compare --goals`.
//!
//! Who has nothing to be compared with in a load is not put under it. What a peer takes part in warms up
//! longer, ours as well: a program that Java compiles while it runs needs it, and both get the same.

use super::options::{Cores, Entry};
use super::subject::Subject;
use super::subject::Subject::{Corelane, Kafka, KafkaFlush};
use std::path::PathBuf;
use std::time::Duration;

/// How long is measured, and how long the load runs before that, unless told.
const SECONDS: f64 = 8.0;
const WARM_UP_BESIDE_PEERS: f64 = 12.0;
/// The first record of a partition makes Kafka touch its sparse, mapped indexes, and the kernel fill pages for
/// as much as it reads ahead: a thousand partitions are some gigabytes where that is megabytes.
const WARM_UP_MANY_BESIDE_PEERS: f64 = 40.0;
const WARM_UP_ALONE: f64 = 4.0;
/// What a run may take besides: to connect, to build a backlog, to come to its end.
const BESIDES: Duration = Duration::from_secs(120);

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads");

pub(super) const PRODUCE_16: &str = "produce-16-partitions-1kb";
pub(super) const PRODUCE_1000: &str = "produce-1000-partitions-1kb";
pub(super) const PRODUCE_10000: &str = "produce-10000-partitions-1kb";
pub(super) const SMALL_1KB: &str = "small-batches-1000-partitions-1kb";
pub(super) const SMALL_100B: &str = "small-batches-1000-partitions-100b";
pub(super) const MAX_1KB_16: &str = "small-batches-max-16-partitions-1kb";
pub(super) const MAX_1KB_1000: &str = "small-batches-max-1000-partitions-1kb";
pub(super) const MAX_100B_16: &str = "small-batches-max-16-partitions-100b";
pub(super) const MAX_100B_1000: &str = "small-batches-max-1000-partitions-100b";
pub(super) const ONE_IN_FLIGHT: &str = "one-in-flight";
pub(super) const END_TO_END: &str = "end-to-end-20mb";
pub(super) const TAIL: &str = "tail-consume-3-groups";
pub(super) const CATCH_UP: &str = "cold-catch-up";
pub(super) const NO_CATCH_UP: &str = "cold-catch-up-without";

/// What weighs most comes first, in case the time is over before the last.
const SET: &[(&str, Cores, &[Subject])] = &[
    (PRODUCE_16, Cores::Split, &[Corelane, Kafka, KafkaFlush]),
    (ONE_IN_FLIGHT, Cores::Split, &[Corelane, Kafka]),
    (SMALL_1KB, Cores::Split, &[Corelane, Kafka]),
    (END_TO_END, Cores::Split, &[Corelane, Kafka]),
    (TAIL, Cores::Split, &[Corelane, Kafka]),
    (MAX_1KB_1000, Cores::Split, &[Corelane, KafkaFlush]),
    (MAX_1KB_16, Cores::Split, &[Corelane]),
    (PRODUCE_1000, Cores::Split, &[Corelane]),
    (PRODUCE_10000, Cores::Split, &[Corelane]),
    (NO_CATCH_UP, Cores::Split, &[Corelane]),
    (CATCH_UP, Cores::Split, &[Corelane]),
    (SMALL_100B, Cores::Split, &[Corelane, Kafka]),
    (MAX_100B_1000, Cores::Split, &[Corelane]),
    (MAX_100B_16, Cores::Split, &[Corelane]),
    (PRODUCE_16, Cores::Shared, &[Corelane, Kafka, KafkaFlush]),
];

/// The entries of the set: those whose name has one of `only` in it, if that is said, with those of
/// `subjects` who take part, if that is said.
pub(super) fn entries(
    only: &[String],
    subjects: &[Subject],
    seconds: Option<f64>,
    warm_up: Option<f64>,
) -> Vec<Entry> {
    let wanted = |it: &Subject| subjects.is_empty() || subjects.contains(it);
    let chosen = SET.iter().filter(|(name, cores, _)| {
        let name = format!("{name}-{}", cores.name());
        only.is_empty() || only.iter().any(|it| name.contains(it.as_str()))
    });
    let entries = chosen.map(|(name, cores, all)| {
        let alone = *all == [Corelane];
        let many = [SMALL_1KB, SMALL_100B, MAX_1KB_1000].contains(name);
        let usual = match (alone, many) {
            (true, _) => WARM_UP_ALONE,
            (false, false) => WARM_UP_BESIDE_PEERS,
            (false, true) => WARM_UP_MANY_BESIDE_PEERS,
        };
        let (seconds, warm_up) = (seconds.unwrap_or(SECONDS), warm_up.unwrap_or(usual));
        Entry {
            workload: PathBuf::from(format!("{FOLDER}/{name}.yaml")),
            subjects: all.iter().copied().filter(wanted).collect(),
            cores: *cores,
            passed_on: ["--seconds".to_owned(), seconds.to_string()]
                .into_iter()
                .chain(["--warm-up".to_owned(), warm_up.to_string()])
                .collect(),
            within: Some(Duration::from_secs_f64(seconds + warm_up) + BESIDES),
            bare: *name == ONE_IN_FLIGHT,
        }
    });
    entries.filter(|it| !it.subjects.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_of_the_set_is_there_under_its_name() {
        for entry in entries(&[], &[], None, None) {
            let words: Vec<String> = vec![entry.workload.to_string_lossy().into_owned()];
            let told = crate::load::options::parse(&words).expect("a file is all it needs");
            crate::load::check(&told).expect("it can be read");
            let text = std::fs::read_to_string(&entry.workload).expect("it was read just now");
            let stem = entry.workload.file_stem().expect("a name").to_string_lossy().into_owned();
            assert!(text.contains(&format!("\nname: {stem}\n")), "{stem}");
        }
    }

    #[test]
    fn a_part_of_the_set_can_be_asked_for() {
        let chosen = |only: &[&str], subjects: &[Subject]| {
            let only: Vec<_> = only.iter().map(|it| (*it).to_owned()).collect();
            entries(&only, subjects, Some(1.0), None).len()
        };
        assert_eq!(chosen(&[], &[]), SET.len());
        assert_eq!(chosen(&["-shared"], &[]), 1);
        assert_eq!(chosen(&["one-in", "end-to"], &[]), 2);
        assert_eq!(chosen(&["10000"], &[Kafka]), 0);
    }
}

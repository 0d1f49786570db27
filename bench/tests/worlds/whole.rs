//! Nothing that was acknowledged is lost, doubled, changed or out of order, whatever befalls the broker.

use corelane_bench::worlds::history::Tally;
use corelane_bench::worlds::run::run;
use corelane_bench::worlds::storm::{Deed, FAULTS};
use corelane_core::ring::sim::{Reached, seeds};
use corelane_net::api::ApiKey;
use std::collections::BTreeMap;

use crate::guard::guarded;

/// Seeds of an ordinary run of the tests; `./test sim` takes more.
const SEEDS: u64 = 5;

/// After so many seeds everything must have happened at least once.
const ENOUGH: usize = 200;

/// What the clients of a world ask.
const ASKED: [ApiKey; 7] = [
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::CreateTopics,
    ApiKey::InitProducerId,
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
];

#[test]
fn one_seed_is_one_run() {
    for seed in 0..3 {
        let (one, two) = guarded(|| (run(seed), run(seed)));
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed}");
    }
}

#[test]
fn what_was_acknowledged_stays_whatever_happens() {
    let (mut reached, mut tally, mut answers) =
        (Reached::default(), Tally::default(), BTreeMap::new());
    for seed in seeds(SEEDS) {
        let outcome = guarded(|| run(seed));
        reached.add(&outcome.reached);
        tally.merge(&outcome.tally);
        for (key, count) in outcome.answers {
            *answers.entry(key).or_insert(0) += count;
        }
        if !outcome.complaints.is_empty() {
            println!("the broker said: {:#?}", outcome.said);
            panic!("seed {seed}: {:#?}\nreplay: ./test sim --seed {seed}", outcome.complaints);
        }
    }
    println!("{:#?}", tally.counts);
    println!("answers: {answers:?}");
    for fault in FAULTS {
        println!("{fault:?}: {}", reached.count(fault));
    }
    for deed in Deed::ALL {
        println!("{}: {}", deed.name(), reached.count_of(deed.name()));
    }
    if ENOUGH < seeds(SEEDS).count() {
        for fault in FAULTS {
            assert!(0 < reached.count(fault), "{fault:?} was never reached");
        }
        for deed in Deed::ALL {
            assert!(0 < reached.count_of(deed.name()), "{} was never reached", deed.name());
        }
        for key in ASKED {
            assert!(answers.contains_key(&key), "no answer to {key:?} ever came");
        }
        for (what, count) in &tally.counts {
            assert!(0 < *count, "there were no {what}");
        }
    }
}

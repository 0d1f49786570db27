//! Nothing that was acknowledged is lost, doubled, changed or out of order, whatever befalls the broker,
//! and no group goes back or shares a partition with two members.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use corelane_bench::worlds::history::Tally;
use corelane_bench::worlds::run::{Outcome, run};
use corelane_bench::worlds::storm::{Deed, FAULTS};
use corelane_core::ring::sim::{Reached, seeds};
use corelane_net::api::{APIS, ApiKey};

use crate::guard::guarded;

/// Seeds of an ordinary run of the tests; `./test sim` takes more.
const SEEDS: u64 = 5;

/// After so many seeds everything must have happened at least once.
const ENOUGH: usize = 200;

/// What all worlds together came to.
#[derive(Default)]
struct Sum {
    reached: Reached,
    tally: Tally,
    answers: BTreeMap<ApiKey, u64>,
    deeds: BTreeMap<Deed, u64>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.reached.add(&outcome.reached);
        self.tally.merge(&outcome.tally);
        for (key, count) in outcome.answers {
            *self.answers.entry(key).or_default() += count;
        }
        for (deed, count) in outcome.deeds {
            *self.deeds.entry(deed).or_default() += count;
        }
    }

    /// Everything that can happen, and how often it did.
    fn counts(&self) -> Vec<(String, u64)> {
        let offered = APIS.iter().filter(|it| it.accepted().is_some() && it.key.facts().broker);
        let answers = offered.map(|it| {
            let count = self.answers.get(&it.key).copied().unwrap_or(0);
            (format!("answers to {}", it.key.facts().name), count)
        });
        let faults = FAULTS.iter().map(|it| (format!("fault {it:?}"), self.reached.count(*it)));
        let deeds = Deed::ALL
            .iter()
            .map(|it| (format!("deed {}", it.name()), self.deeds.get(it).copied().unwrap_or(0)));
        let files = ("parts of files sent".to_owned(), self.reached.count_of("send-file"));
        let tally = self.tally.counts.iter().map(|it| ((*it.0).to_owned(), *it.1));
        answers.chain(faults).chain(deeds).chain([files]).chain(tally).collect()
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..3 {
        let (one, two) = guarded(|| (run(seed), run(seed)));
        assert_eq!(one.trace_hash, two.trace_hash, "seed {seed}");
    }
}

/// A world is a value of the thread that runs it, so there is one thread for each core.
fn run_all(each: impl Fn(u64, Outcome) + Sync) {
    let left = Mutex::new(seeds(SEEDS));
    let next = || left.lock().expect("a thread that fails holds no lock").next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    each(seed, guarded(|| run(seed)));
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_stays_whatever_happens() {
    let sum = Mutex::new(Sum::default());
    let failed = Mutex::new(BTreeMap::new());
    run_all(|seed, mut outcome| {
        if !outcome.complaints.is_empty() {
            let complaints = std::mem::take(&mut outcome.complaints);
            let mut failed = failed.lock().expect("nobody panics with it");
            failed.insert(seed, (complaints, outcome.said.clone()));
        }
        sum.lock().expect("nobody panics with it").add(outcome);
    });
    let counts = sum.into_inner().expect("all threads are done").counts();
    for (what, count) in &counts {
        println!("{what}: {count}");
    }
    let failed = failed.into_inner().expect("all threads are done");
    for (seed, (complaints, said)) in &failed {
        println!("seed {seed}: {complaints:#?}\nthe broker said: {said:#?}");
        println!("replay: ./test sim --seed {seed}");
    }
    if let Some((seed, (complaints, _))) = failed.first_key_value() {
        panic!("{} seeds failed; seed {seed}: {}", failed.len(), complaints[0]);
    }
    if ENOUGH < seeds(SEEDS).count() {
        for (what, count) in &counts {
            assert!(0 < *count, "never reached: {what}");
        }
    }
}

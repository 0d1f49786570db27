//! Each promise to clients, broken on purpose, is missed within a few seeds.

use corelane_bench::worlds::run::run_plan;
use corelane_bench::worlds::storm::Plan;
use corelane_broker::mutant::Mutant;

use crate::guard::guarded;

/// Seeds within which every mistake must be found.
const MUTANT_SEEDS: u64 = 100;

fn found(mutant: Mutant) -> Option<(u64, String)> {
    (0..MUTANT_SEEDS).find_map(|seed| {
        let outcome = guarded(|| run_plan(seed, Plan::of(seed), Some(mutant)));
        outcome.complaints.first().map(|it| (seed, it.clone()))
    })
}

fn must_be_found(mutant: Mutant) {
    let found = found(mutant);
    println!("{mutant:?}: {found:?}");
    assert!(found.is_some(), "{mutant:?} was not found within {MUTANT_SEEDS} seeds");
}

#[test]
fn an_answer_before_the_commit_is_found() {
    must_be_found(Mutant::AnswerBeforeCommit);
}

#[test]
fn producers_that_a_restart_forgets_are_found() {
    must_be_found(Mutant::ProducersForgotten);
}

#[test]
fn a_watermark_before_the_commit_is_found() {
    must_be_found(Mutant::WatermarkBeforeDurable);
}

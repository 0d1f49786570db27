//! Each promise to clients, broken on purpose, is missed within the seeds of an ordinary run, and what is
//! said about it is what was broken.

use corelane_bench::worlds::run::run_plan;
use corelane_bench::worlds::storm::Plan;
use corelane_broker::mutant::Mutant;

use crate::guard::guarded;

/// Seeds within which every mistake must be found; `./test sim` runs as many without one.
const MUTANT_SEEDS: u64 = 300;

/// The first complaint of one of these kinds, and its seed.
fn found(mutant: Mutant, kinds: &[&str]) -> Option<(u64, String)> {
    (0..MUTANT_SEEDS).find_map(|seed| {
        let outcome = guarded(|| run_plan(seed, Plan::of(seed), Some(mutant)));
        let of_kind = |it: &String| kinds.iter().any(|kind| it.starts_with(&format!("{kind}:")));
        outcome.complaints.into_iter().find(of_kind).map(|it| (seed, it))
    })
}

fn must_be_found(mutant: Mutant, kinds: &[&str]) {
    let found = found(mutant, kinds);
    println!("{mutant:?}: {found:?}");
    assert!(found.is_some(), "{mutant:?}: nobody complained of {kinds:?} in {MUTANT_SEEDS} seeds");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "hundreds of worlds; `./test sim` runs them optimized")]
fn an_answer_before_the_commit_is_found() {
    must_be_found(Mutant::AnswerBeforeCommit, &["lost"]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "hundreds of worlds; `./test sim` runs them optimized")]
fn answers_out_of_their_order_are_found() {
    must_be_found(Mutant::AnswersOutOfOrder, &["answers"]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "hundreds of worlds; `./test sim` runs them optimized")]
fn producers_that_a_restart_forgets_are_found() {
    must_be_found(Mutant::ProducersForgotten, &["duplicate"]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "hundreds of worlds; `./test sim` runs them optimized")]
fn a_watermark_before_the_commit_is_found() {
    // Nothing acknowledged is lost by it: what was read is gone, or another record is in its place.
    must_be_found(Mutant::WatermarkBeforeDurable, &["vanished", "inconsistent"]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "hundreds of worlds; `./test sim` runs them optimized")]
fn an_offset_answered_before_the_commit_is_found() {
    must_be_found(Mutant::OffsetsBeforeDurable, &["offset back"]);
}

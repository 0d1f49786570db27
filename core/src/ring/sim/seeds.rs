//! Which seeds a test runs, and how a failing one is named.

use std::ops::Range;

/// Runs one seed instead of many.
const SEED: &str = "CORELANE_SIM_SEED";
/// How many seeds tests run that do not insist on their own number.
const SEEDS: &str = "CORELANE_SIM_SEEDS";

/// The seeds to run: `count` of them, unless the environment says otherwise.
///
/// # Panics
/// When the environment holds something that is not a number.
#[must_use]
pub fn seeds(count: u64) -> Range<u64> {
    if let Some(seed) = number(SEED) {
        return seed..seed + 1;
    }
    0..number(SEEDS).unwrap_or(count)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Prints the one command that runs a failing seed again.
pub(super) fn print_replay(seed: u64) {
    eprintln!("replay: ./test sim --seed {seed}");
}

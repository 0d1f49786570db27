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

/// Packages whose worlds are run by `./test sim`; those of others are among the tests of their rooms.
const OF_SIM: [&str; 2] = ["corelane-core", "corelane-bench"];

/// Prints the one command that runs a failing seed again.
pub(super) fn print_replay(seed: u64) {
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    let thread = std::thread::current();
    eprintln!("{}", replay(seed, &package, thread.name().unwrap_or_default()));
}

/// The harness calls the thread of a test by the test's name.
fn replay(seed: u64, package: &str, test: &str) -> String {
    if OF_SIM.contains(&package) {
        return format!("replay: ./test sim --seed {seed}");
    }
    format!("replay: {SEED}={seed} ./test unit {test}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_runs_the_part_that_the_test_belongs_to() {
        assert_eq!(replay(7, "corelane-bench", "whole"), "replay: ./test sim --seed 7");
        let elsewhere = "replay: CORELANE_SIM_SEED=7 ./test unit crash::cut";
        assert_eq!(replay(7, "corelane-storage", "crash::cut"), elsewhere);
    }
}

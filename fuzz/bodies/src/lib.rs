//! What is done to bytes from strangers: targets, which are plain functions, and seeded mutants of
//! good bytes to feed them.
//!
//! A target takes any bytes at all and panics only when the code under it is wrong. The same bodies
//! serve two masters: tests that any compiler runs, over seeds and a fixed number of mutants, and
//! cargo-fuzz, whose programs lie in `fuzz/fuzz_targets` and need a nightly compiler.

mod dice;
mod mutate;
pub mod stored;
pub mod values;
pub mod wire;

pub use dice::Dice;
pub use mutate::mutate;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Something that reads bytes it did not write.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its cargo-fuzz program and of its folder of seeds.
    pub name: &'static str,
    pub body: fn(&[u8]),
    /// Good inputs, which mutants begin from. Never none.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    wire::MESSAGE,
    wire::FRAME,
    wire::VALUES,
    stored::BATCH,
    stored::FRAME,
    stored::INDEX,
    stored::CHECKPOINT,
];

/// Mutants of one target in a run of the tests.
const ROUNDS: u64 = 20_000;

/// The folder with the targets of cargo-fuzz, and the inputs that once did harm.
#[must_use]
pub fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in fuzz").to_owned()
}

/// All seeds of a target: those it makes, and those that were kept, in the order of their names.
///
/// # Panics
/// When a file cannot be read, or there is no seed at all.
#[must_use]
pub fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = (target.seeds)();
    let folder = fuzz_dir().join("seeds").join(target.name);
    if folder.exists() {
        let entries = fs::read_dir(&folder).expect("a folder of the workspace can be listed");
        let mut paths: Vec<PathBuf> =
            entries.map(|it| it.expect("an entry can be read").path()).collect();
        paths.sort();
        seeds.extend(paths.iter().map(|it| fs::read(it).expect("a seed can be read")));
    }
    assert!(!seeds.is_empty(), "{} has no seed", target.name);
    seeds
}

/// Feeds a target its seeds and a number of their mutants. One seed is one run.
///
/// # Panics
/// When the target does, after saying which bytes it was fed.
pub fn feed(target: &Target) {
    let number = |name: &str, otherwise: u64| match env::var(name) {
        Ok(it) => it.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {it:?}")),
        Err(_) => otherwise,
    };
    let rounds = number("CORELANE_FUZZ_ROUNDS", ROUNDS);
    let mut dice = Dice::new(number("CORELANE_FUZZ_SEED", 1));
    let seeds = seeds(target);
    for seed in &seeds {
        feed_one(target, seed);
    }
    for _ in 0..rounds {
        let mut bytes = dice.one_of(&seeds).clone();
        let other = dice.one_of(&seeds);
        mutate(&mut dice, &mut bytes, other);
        feed_one(target, &bytes);
    }
}

fn feed_one(target: &Target, bytes: &[u8]) {
    /// Says what was fed when the target does not come back.
    struct Fed<'a> {
        target: &'a Target,
        bytes: &'a [u8],
        survived: bool,
    }
    impl Drop for Fed<'_> {
        fn drop(&mut self) {
            if !self.survived {
                let hex: String = self.bytes.iter().map(|it| format!("{it:02x}")).collect();
                eprintln!("{} was fed {} bytes: {hex}", self.target.name, self.bytes.len());
            }
        }
    }
    let mut fed = Fed { target, bytes, survived: false };
    (target.body)(bytes);
    fed.survived = true;
}

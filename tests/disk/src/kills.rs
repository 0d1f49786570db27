//! kill -9 under load, over and over, and a start with another number of lanes each time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::{Broker, Kind};
use crate::check::{Held, check, check_from};
use crate::dice::Dice;
use crate::load::{Load, create};
use crate::machine::Trouble;

/// Lanes of the starts, in turn.
pub(crate) const LANES: [u16; 3] = [1, 2, 4];

/// Acknowledged batches between two kills at most.
const BATCHES_MAX: u64 = 600;

/// The log is read whole after one kill in so many; else from where the last look ended.
pub(crate) const WHOLE_EVERY: u64 = 10;

/// One start in so many is killed on its way.
const KILLED_STARTS: u64 = 4;
const START_MS_MAX: u64 = 120;

pub(crate) fn run(directory: &Path, kills: u64, seed: u64) -> Result<String, Trouble> {
    let mut dice = Dice::new(seed);
    let log = directory.join("kills.log");
    let mut broker = Broker::new(Kind::Sound, &directory.join("kills"), &log);
    broker.start(LANES[0])?;
    create(broker.address())?;
    let load = Load::start(broker.address(), seed)?;
    let (mut starts, mut slowest, mut seen) = (0, Duration::ZERO, Held::nothing());
    for kill in 1..=kills {
        load.progress(1 + dice.below(BATCHES_MAX))?;
        broker.kill()?;
        let promised = load.acknowledged();
        let lanes = LANES[kill as usize % LANES.len()];
        while dice.below(KILLED_STARTS) == 0 {
            let starting = broker.spawn(lanes)?;
            // It may be ready by then: a kill is a kill.
            let _ready =
                broker.ready_within(&starting, Duration::from_millis(dice.below(START_MS_MAX)))?;
            broker.kill()?;
            starts += 1;
        }
        let began = Instant::now();
        broker.start(lanes)?;
        slowest = slowest.max(began.elapsed());
        if kill % WHOLE_EVERY == 0 {
            seen = Held::nothing();
        }
        seen = check_from(broker.address(), promised, &seen).map_err(|it| {
            Trouble(format!("after kill {kill} of {kills}, with {lanes} lanes: {it}"))
        })?;
        println!("# kill {kill}, {lanes} lanes: {} records, {} bytes", seen.records, seen.bytes);
    }
    load.progress(1)?;
    let promised = load.finish()?;
    let total: i64 = promised.iter().sum();
    let held = check(broker.address(), promised.clone())?;
    if held.records != total {
        let more = held.records - total;
        return Err(Trouble(format!("{more} records are there that nobody was told of")));
    }
    broker.stop()?;
    broker.start(2)?;
    let again = check(broker.address(), promised)?;
    broker.stop()?;
    if again != held {
        return Err(Trouble(format!("{held:?} before a stop in good order, {again:?} after it")));
    }
    let slowest = slowest.as_millis();
    Ok(format!(
        "{kills} kills under load and {starts} of starts, {} records of {} bytes in all, slowest \
         start {slowest} ms",
        held.records, held.bytes
    ))
}

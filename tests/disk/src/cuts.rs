//! Power cuts under load, on ext4 with a journal over a disk that forgets what was not flushed; and one
//! broker that does not flush, which must be caught.

use std::path::Path;

use crate::broker::{Broker, Kind};
use crate::check::{Held, check, check_from, count_lost};
use crate::device::{Device, Keep};
use crate::dice::Dice;
use crate::kills::{LANES, WHOLE_EVERY};
use crate::load::{Load, create};
use crate::machine::{Mounted, Trouble};

const DISK_BYTES: usize = 768 << 20;

/// Acknowledged batches between two cuts at most.
const BATCHES_MAX: u64 = 400;

/// Writes of the disk between that and the cut.
const WRITES_MAX: u64 = 30;

/// Acknowledged batches before the cut that must do harm.
const CONTROL_BATCHES: u64 = 200;

const CONTROL_CUTS_MAX: u64 = 5;

pub(crate) fn run(directory: &Path, cuts: u64, seed: u64) -> Result<String, Trouble> {
    let mut dice = Dice::new(seed);
    let device = Device::create(&directory.join("disk"), DISK_BYTES)?;
    let at = directory.join("mounted");
    let mut mounted = Mounted::make(&device.path, &at)?;
    let log = directory.join("cuts.log");
    let mut broker = Broker::new(Kind::Sound, &at.join("data"), &log);
    broker.start(LANES[0])?;
    create(broker.address())?;
    let load = Load::start(broker.address(), seed)?;
    let (mut kept, mut lost, mut seen) = (0, 0, Held::nothing());
    for cut in 1..=cuts {
        load.progress(1 + dice.below(BATCHES_MAX))?;
        device.cut_power(1 + dice.below(WRITES_MAX));
        broker.kill()?;
        let promised = load.acknowledged();
        mounted.end()?;
        let keep = if cut % 2 == 1 { Keep::None } else { Keep::Some };
        let sectors = device.restore_power(keep, &mut dice);
        (kept, lost) = (kept + sectors.0, lost + sectors.1);
        mounted = Mounted::again(&device.path, &at)?;
        let lanes = LANES[cut as usize % LANES.len()];
        let starts = broker.start(lanes);
        starts.map_err(|it| Trouble(format!("after cut {cut} of {cuts}: {it}")))?;
        if cut % WHOLE_EVERY == 0 {
            seen = Held::nothing();
        }
        seen = check_from(broker.address(), promised, &seen).map_err(|it| {
            Trouble(format!("after cut {cut} of {cuts}, with {lanes} lanes: {it}"))
        })?;
        println!(
            "# cut {cut} ({keep:?} kept: {} sectors kept, {} lost), {lanes} lanes: {} records, {} \
             bytes",
            sectors.0, sectors.1, seen.records, seen.bytes
        );
    }
    load.progress(1)?;
    let promised = load.finish()?;
    let held = check(broker.address(), promised)?;
    broker.stop()?;
    let flushes = device.flushes();
    mounted.end()?;
    Ok(format!(
        "{cuts} cuts, {} records of {} bytes in all, {flushes} flushes, {kept} sectors kept that \
         were not flushed and {lost} lost",
        held.records, held.bytes
    ))
}

/// A broker that acknowledges without a flush loses what it promised: so the cuts above would notice.
/// One cut may come right after a flush that the file system made for itself, so there are a few.
pub(crate) fn control(directory: &Path, seed: u64) -> Result<String, Trouble> {
    for attempt in 0..CONTROL_CUTS_MAX {
        let at = directory.join(attempt.to_string());
        std::fs::create_dir_all(&at).map_err(|error| Trouble::of("making a folder", &error))?;
        if let Some(told) = lose(&at, seed + attempt)? {
            return Ok(told);
        }
    }
    Err(Trouble("a broker that never flushes lost nothing: these cuts prove nothing".to_owned()))
}

/// What one cut did to a broker that does not flush, if it did anything.
fn lose(directory: &Path, seed: u64) -> Result<Option<String>, Trouble> {
    let device = Device::create(&directory.join("disk-control"), DISK_BYTES)?;
    let at = directory.join("mounted-control");
    let mounted = Mounted::make(&device.path, &at)?;
    let log = directory.join("control.log");
    let mut broker = Broker::new(Kind::NoFlush, &at.join("data"), &log);
    broker.start(1)?;
    create(broker.address())?;
    let load = Load::start(broker.address(), seed)?;
    load.progress(CONTROL_BATCHES)?;
    device.cut_power(1);
    broker.kill()?;
    let promised = load.abandon()?;
    mounted.end()?;
    device.restore_power(Keep::None, &mut Dice::new(seed));
    let mounted = Mounted::again(&device.path, &at)?;
    let mut broker = Broker::new(Kind::Sound, &at.join("data"), &log);
    let total: i64 = promised.iter().sum();
    let told = match broker.start(1) {
        Ok(()) => {
            let lost = count_lost(broker.address(), promised)?;
            broker.stop()?;
            let told = format!("without flushes {lost} of {total} acknowledged records were lost");
            (0 < lost).then_some(told)
        }
        // It may also see that something is missing which must be there.
        Err(trouble) => Some(format!("without flushes the start refused what it found: {trouble}")),
    };
    drop(broker);
    mounted.end()?;
    Ok(told)
}

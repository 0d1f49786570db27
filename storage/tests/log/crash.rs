//! Power fails at every boundary of a recorded workload; what is left is recovered and compared
//! with what was promised and what was attempted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use corelane_core::lane::{Importance, Lane, join_all};
use corelane_core::ring::sim::{CrashPoint, Cut, Disk, Fault, Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::batch::Batches;
use corelane_storage::build::BatchBuilder;
use corelane_storage::extent::ExtentRules;
use corelane_storage::log::boot::{OpenError, RecoveredPartition, recover};
use corelane_storage::log::mutant::{Mutant, Mutation};
use corelane_storage::log::open::LogConfig;
use corelane_storage::log::store::{AppendError, Store};
use corelane_storage::producers::Producers;

use crate::harness::{append, batch, partition, read_all, rules, run, start};

/// What was promised to somebody, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Promise {
    Created,
    End(Offset),
    Start(Offset),
    Deleted,
}

/// What the workload did, whether or not it was promised.
#[derive(Default)]
pub(crate) struct Attempts {
    /// Batches by base offset, as the log took them.
    batches: BTreeMap<i64, Vec<u8>>,
    start: i64,
    deleted: bool,
}

#[derive(Default)]
pub(crate) struct Model {
    promises: Vec<(TopicPartition, Promise)>,
    attempts: BTreeMap<TopicPartition, Attempts>,
}

pub(crate) type Shared = Rc<RefCell<Model>>;

pub(crate) struct Recorded {
    pub(crate) model: Shared,
    pub(crate) points: Vec<CrashPoint>,
}

/// How large appends go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    ThroughTheJournal,
    StraightToSegments,
}

pub(crate) fn config(broken: Mutation, large: Large) -> LogConfig {
    let mut config =
        LogConfig { slot_bytes: 128 * 1024, slots_max: 12, broken, ..LogConfig::new("/data") };
    config.upkeep.extents = match large {
        Large::ThroughTheJournal => ExtentRules::never(),
        Large::StraightToSegments => ExtentRules {
            bytes_min: 10_000,
            room_bytes_min: 64 * 1024,
            room_bytes_max: 256 * 1024,
            untold_bytes_max: 400_000,
            ..ExtentRules::default()
        },
    };
    config
}

/// Writers that append at once, so that commits overlap.
const WRITERS: u64 = 5;

/// A small generator: the workload is the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn promise(model: &Shared, of: TopicPartition, it: Promise) {
    model.borrow_mut().promises.push((of, it));
}

fn attempt(model: &Shared, of: TopicPartition, with: impl FnOnce(&mut Attempts)) {
    with(model.borrow_mut().attempts.get_mut(&of).expect("created before"));
}

async fn create(store: &Store, model: &Shared, of: TopicPartition, name: &str) -> Option<()> {
    model.borrow_mut().attempts.entry(of).or_default();
    let commit = store.create(of, name, rules(90_000)).ok()?;
    store.durable(commit).await.ok()?;
    promise(model, of, Promise::Created);
    Some(())
}

/// One writer: its own partitions, one of them deleted and created again now and then. Ends early
/// when the directory is fenced.
async fn writer(store: Store, model: Shared, number: u64, steps: u64, seed: u64) -> Option<()> {
    let mut dice = Dice(seed.wrapping_mul(31).wrapping_add(number));
    let mut sequences: BTreeMap<TopicPartition, i32> = BTreeMap::new();
    let name = |index: u64| format!("topic{number}x{index}");
    let mut mine: Vec<TopicPartition> = Vec::new();
    for index in 0..3 {
        let of = partition((number * 8 + index) as u8, 0);
        create(&store, &model, of, &name(index)).await?;
        mine.push(of);
    }
    for step in 0..steps {
        let place = dice.roll(3) as usize;
        let of = mine[place];
        match dice.roll(60) {
            0 => {
                attempt(&model, of, |it| it.deleted = true);
                let commit = store.delete(&of).ok()?;
                let fresh = partition((100 + number * 30 + step % 30) as u8, step as i32 / 30);
                // Under the old name, while the old folder may still be there.
                let fresh = TopicPartition { partition: of.partition, ..fresh };
                if model.borrow().attempts.contains_key(&fresh) {
                    store.durable(commit).await.ok()?;
                    promise(&model, of, Promise::Deleted);
                    return Some(());
                }
                create(&store, &model, fresh, &name(place as u64)).await?;
                store.durable(commit).await.ok()?;
                promise(&model, of, Promise::Deleted);
                mine[place] = fresh;
            }
            1 => {
                let wanted = store.partition(&of)?.borrow().visible();
                let start = Offset(wanted.0 * 2 / 3);
                attempt(&model, of, |it| it.start = it.start.max(start.0));
                let (start, commit) = store.delete_records(&of, Some(start)).ok()?;
                let (waits, model) = (store.clone(), Rc::clone(&model));
                store.lane().spawn("promise", Importance::Serving, async move {
                    if waits.durable(commit).await.is_ok() {
                        promise(&model, of, Promise::Start(start));
                    }
                });
            }
            _ => {
                let sequence = sequences.entry(of).or_default();
                let bytes = [40, 300, 3000, 12_000, 40_000][dice.roll(5) as usize];
                let mut builder = BatchBuilder::new();
                let records = 1 + dice.roll(3) as i32;
                for at in 0..records {
                    let mut value = format!("{number} {step} {at} ").into_bytes();
                    value.resize(bytes / records as usize + 20, b'a' + dice.roll(26) as u8);
                    builder.record(1_700_000_000_000, None, Some(&value));
                }
                builder.producer(ProducerId(number as i64), ProducerEpoch(0), *sequence);
                let mut bytes = builder.build();
                match store.append(&of, &mut bytes, false) {
                    Ok(it) => {
                        *sequence += records;
                        attempt(&model, of, |of| drop(of.batches.insert(it.base.0, bytes)));
                        let (waits, model) = (store.clone(), Rc::clone(&model));
                        store.lane().spawn("promise", Importance::Serving, async move {
                            if waits.durable(it.commit).await.is_ok() {
                                promise(&model, of, Promise::End(it.end));
                            }
                        });
                        if dice.roll(3) == 0 {
                            store.durable(it.commit).await.ok()?;
                        }
                    }
                    Err(AppendError::Overloaded) => {
                        store.lane().sleep(Nanos::micros(300)).await;
                    }
                    Err(_) => return None,
                }
            }
        }
    }
    Some(())
}

/// Runs the workload, recording every boundary.
pub(crate) fn record(
    seed: u64,
    steps: u64,
    broken: Mutation,
    large: Large,
    fault: Option<(Fault, u64)>,
) -> Recorded {
    let mut world = World::new(seed, Faults::none());
    let node = world.node(1);
    let model = Shared::default();
    let promised = Rc::clone(&model);
    world.record_crash_points(node, move || promised.borrow().promises.len() as u64);
    let done = Rc::new(Cell::new(false));
    let (over, work) = (Rc::clone(&done), Rc::clone(&model));
    world.start(node, move |lane| {
        let (over, model) = (Rc::clone(&over), Rc::clone(&work));
        async move {
            workload(&lane, &model, steps, seed, &config(broken, large)).await;
            over.set(true);
        }
    });
    if let Some((fault, after)) = fault {
        let model = Rc::clone(&model);
        let reached = move || after as usize <= model.borrow().promises.len();
        assert!(world.run_to(Nanos::secs(100), reached), "the fault has its time");
        world.strike(node, fault, 1);
    }
    assert!(world.run_to(Nanos::secs(1000), || done.get()), "the workload ends");
    let points = world.take_crash_points(node);
    drop(world);
    Recorded { model, points }
}

async fn workload(lane: &Lane, model: &Shared, steps: u64, seed: u64, config: &LogConfig) {
    // Twice: the second run begins with what the first left.
    for part in 0..2 {
        let Ok((store, found)) = start(lane, config).await else { return };
        let writers = (0..WRITERS).map(|it| {
            let number = part * WRITERS + it;
            writer(store.clone(), Rc::clone(model), number, steps, seed)
        });
        join_all(writers).await;
        if store.journal().failed().is_some() {
            return;
        }
        store.close().await.ok();
        drop((store, found));
        lane.sleep(Nanos::secs(2)).await;
    }
}

/// What recovery makes of a disk.
pub(crate) fn recovered(
    disk: Disk,
    broken: Mutation,
) -> Result<Vec<RecoveredPartition>, OpenError> {
    let mut world = World::new(1, Faults::none());
    let node = world.node_with_disk(1, disk);
    let result = Rc::new(RefCell::new(None));
    let put = Rc::clone(&result);
    run(&mut world, node, move |lane| async move {
        let found = recover(&lane, "/data".as_ref(), 1, broken).await;
        put.borrow_mut().replace(found.map(|it| it.partitions));
    });
    result.take().expect("it ended")
}

/// Compares what was found with what was promised and attempted. The first difference, if any.
pub(crate) fn compare(
    model: &Model,
    promised: u64,
    disk: &Disk,
    found: &[RecoveredPartition],
) -> Result<(), String> {
    let mut required: BTreeMap<TopicPartition, (Offset, Offset, bool, bool)> = BTreeMap::new();
    for (of, it) in &model.promises[..promised as usize] {
        let entry = required.entry(*of).or_default();
        match it {
            Promise::Created => entry.2 = true,
            Promise::End(end) => entry.0 = entry.0.max(*end),
            Promise::Start(start) => entry.1 = entry.1.max(*start),
            Promise::Deleted => entry.3 = true,
        }
    }
    let mut seen = BTreeMap::new();
    for it in found.iter().filter(|it| !it.deleted) {
        seen.insert(it.of, it);
    }
    for (of, attempts) in &model.attempts {
        let (end, start, created, deleted) = required.get(of).copied().unwrap_or_default();
        let Some(it) = seen.remove(of) else {
            if created && !attempts.deleted {
                return Err(format!("{of} is lost"));
            }
            continue;
        };
        if deleted {
            return Err(format!("{of} is back"));
        }
        if it.end < end {
            return Err(format!("{of} ends at {} instead of {end}", it.end));
        }
        if it.log_start < start || attempts.start.max(0) < it.log_start.0 {
            return Err(format!("{of} starts at {} instead of {start}", it.log_start));
        }
        compare_bytes(it, attempts, disk)?;
    }
    match seen.first_key_value() {
        Some((of, _)) => Err(format!("{of} was invented")),
        None => Ok(()),
    }
}

fn compare_bytes(it: &RecoveredPartition, attempts: &Attempts, disk: &Disk) -> Result<(), String> {
    let of = it.of;
    let mut at = it.segments[0].base;
    if it.log_start < at {
        return Err(format!("{of} starts at {} but its first segment at {at}", it.log_start));
    }
    for segment in &it.segments {
        if segment.base != at {
            return Err(format!("{of} has a segment at {} instead of {at}", segment.base));
        }
        let path = format!("/data/{}-{}/{:020}.log", it.name, of.partition, segment.base.0);
        let mut bytes = Vec::new();
        if 0 < segment.stored && it.log_start <= at {
            bytes = disk.content(&path).ok_or_else(|| format!("{path} is lost"))?;
            if (bytes.len() as u64) < segment.stored {
                return Err(format!("{path} has {} bytes", bytes.len()));
            }
            bytes.truncate(segment.stored as usize);
        } else if 0 < segment.stored {
            // It may be on its way out.
            at = next_segment(it, segment.base);
            continue;
        }
        bytes.extend_from_slice(&segment.tail);
        for batch in Batches::new(&bytes) {
            let batch = batch.map_err(|error| format!("{of} at {at}: {error:?}"))?;
            if attempts.batches.get(&at.0).map(Vec::as_slice) != Some(batch.bytes()) {
                return Err(format!("{of} has other bytes at {at}"));
            }
            at = batch.next_offset();
        }
    }
    if at != it.end {
        return Err(format!("{of} ends at {} but its bytes at {at}", it.end));
    }
    let mut producers = Producers::default();
    for bytes in attempts.batches.range(..it.end.0).map(|it| it.1) {
        let (batch, _) = corelane_storage::batch::Batch::split(bytes).expect("as it was taken");
        producers.replay(&batch, 0);
    }
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (producers.describe().collect(), it.producers.describe().collect());
    if ours != theirs {
        return Err(format!("{of} knows producers {theirs:?} instead of {ours:?}"));
    }
    Ok(())
}

fn next_segment(it: &RecoveredPartition, base: Offset) -> Offset {
    let next = it.segments.iter().find(|segment| base < segment.base);
    next.map_or(it.end, |segment| segment.base)
}

const ALL_CUTS: [Cut; 3] = [Cut::KeepAll, Cut::KeepNone, Cut::Random];

/// Cuts at every `stride`th boundary, in some ways. How many recoveries, and the first wrong.
pub(crate) fn cut_everywhere(
    recorded: &Recorded,
    stride: usize,
    cuts: &[Cut],
    broken: Mutation,
) -> (usize, Option<String>) {
    let mut recoveries = 0;
    let model = recorded.model.borrow();
    for (number, point) in recorded.points.iter().enumerate().step_by(stride) {
        for &cut in cuts {
            let disk = point.disk.cut(cut, number as u64);
            recoveries += 1;
            let wrong = match recovered(disk.clone(), broken) {
                Ok(found) => compare(&model, point.promised, &disk, &found).err(),
                Err(error) => Some(error.to_string()),
            };
            if let Some(wrong) = wrong {
                return (recoveries, Some(format!("boundary {number}, {cut:?}: {wrong}")));
            }
        }
    }
    (recoveries, None)
}

#[test]
fn whatever_power_leaves_nothing_durable_is_lost_and_nothing_invented() {
    let mut recoveries = 0;
    for seed in 1..=2 {
        let recorded = record(seed, 40, None, Large::StraightToSegments, None);
        let stride = (recorded.points.len() / 200).max(1);
        let (count, wrong) = cut_everywhere(&recorded, stride, &ALL_CUTS, None);
        assert_eq!(wrong, None, "seed {seed}");
        recoveries += count;
    }
    assert!(1_000 <= recoveries, "only {recoveries}");
}

#[test]
fn a_start_on_what_was_left_goes_on_and_starts_again() {
    let recorded = record(11, 30, None, Large::StraightToSegments, None);
    let model = recorded.model.borrow();
    let stride = recorded.points.len() / 40;
    for (number, point) in recorded.points.iter().enumerate().step_by(stride.max(1)) {
        let mut world = World::new(number as u64, Faults::none());
        let node = world.node_with_disk(1, point.disk.cut(Cut::Random, number as u64));
        let all = Rc::new(RefCell::new(BTreeMap::new()));
        for _ in 0..2 {
            let all = Rc::clone(&all);
            run(&mut world, node, move |lane| async move {
                let (store, _) =
                    start(&lane, &config(None, Large::StraightToSegments)).await.expect("starts");
                for shared in store.partitions() {
                    let of = shared.borrow().of;
                    let held = read_all(&store, &of).await;
                    let before = all.borrow_mut().remove(&of);
                    assert!(before.is_none_or(|it| it == held), "{of} changed");
                    append(&store, &of, batch(7, 1, 9000)).await;
                    let held = read_all(&store, &of).await;
                    all.borrow_mut().insert(of, held);
                }
            });
            world.cut_power(node, Cut::KeepNone);
        }
        assert!(all.borrow().keys().all(|it| model.attempts.contains_key(it)));
    }
}

/// A fault of the disk in the middle: the log may end there, but keeps what it promised.
pub(crate) fn with_a_failed_write(broken: Mutation) -> Option<String> {
    for seed in 20..26 {
        let recorded =
            record(seed, 25, broken, Large::StraightToSegments, Some((Fault::WriteError, 60)));
        if let (_, Some(wrong)) = cut_everywhere(&recorded, 12, &ALL_CUTS, None) {
            return Some(wrong);
        }
    }
    None
}

#[test]
fn a_write_that_fails_ends_the_run_and_breaks_no_promise() {
    assert_eq!(with_a_failed_write(None), None);
}

/// Cuts only where something was just promised, and leaves only what is durable. How many
/// recoveries, and the first wrong.
pub(crate) fn cut_at_promises(recorded: &Recorded, broken: Mutation) -> (usize, Option<String>) {
    let (mut recoveries, mut promised) = (0, 0);
    let model = recorded.model.borrow();
    for (number, point) in recorded.points.iter().enumerate() {
        if point.promised == promised {
            continue;
        }
        promised = point.promised;
        let disk = point.disk.cut(Cut::KeepNone, number as u64);
        recoveries += 1;
        let wrong = match recovered(disk.clone(), broken) {
            Ok(found) => compare(&model, promised, &disk, &found).err(),
            Err(error) => Some(error.to_string()),
        };
        if let Some(wrong) = wrong {
            return (recoveries, Some(format!("boundary {number}: {wrong}")));
        }
    }
    (recoveries, None)
}

/// Whether some promise of some workload is not kept when power fails right after it.
pub(crate) fn breaks_a_promise(mutant: Mutant) -> bool {
    (40..46).any(|seed| {
        let recorded = record(seed, 20, Some(mutant), Large::StraightToSegments, None);
        cut_at_promises(&recorded, Some(mutant)).1.is_some()
    })
}

/// Whether a torn commit of some workload is taken for a whole one.
pub(crate) fn believes_what_is_torn(mutant: Mutant) -> bool {
    (40..46).any(|seed| {
        let recorded = record(seed, 20, None, Large::ThroughTheJournal, None);
        let stride = (recorded.points.len() / 400).max(1);
        cut_everywhere(&recorded, stride, &[Cut::Random], Some(mutant)).1.is_some()
    })
}

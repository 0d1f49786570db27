//! Power fails at every boundary of a recorded workload; what is left is recovered and compared
//! with what was promised and what was attempted.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane_core::ids::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use corelane_core::lane::{Importance, Lane, join_all};
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{CrashPoint, Cut, Disk, Fault, Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::build::BatchBuilder;
use corelane_storage::extent::ExtentRules;
use corelane_storage::log::boot::{OpenError, RecoveredPartition, recover};
use corelane_storage::log::mutant::{Mutant, Mutation};
use corelane_storage::log::open::{LogConfig, mark_clean};
use corelane_storage::log::store::{AppendError, Store};
use corelane_storage::log::truncate::TruncateError;

use crate::harness::{append, batch, partition, read_all, rules, run, start, start_counting};
use crate::leave::{CLEAN, kafka_reads};
use crate::model::{Deed, Promise, Shared, attempt, compare, promise};

pub(crate) struct Recorded {
    pub(crate) model: Shared,
    pub(crate) points: Vec<CrashPoint>,
    /// What had happened by each of them.
    pub(crate) seen: Vec<Seen>,
}

/// How large appends go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    ThroughTheJournal,
    StraightToSegments,
}

pub(crate) fn config(broken: Mutation, large: Large) -> LogConfig {
    let mut config =
        LogConfig { slot_bytes: 128 * 1024, slots_max: 16, broken, ..LogConfig::new("/data") };
    config.upkeep.extents = match large {
        Large::ThroughTheJournal => ExtentRules::never(),
        Large::StraightToSegments => ExtentRules {
            bytes_min: 10_000,
            room_bytes_min: 512 * 1024,
            room_bytes_max: 1024 * 1024,
            untold_bytes_max: 400_000,
            ..ExtentRules::default()
        },
    };
    config
}

/// Writers that append at once, so that commits overlap.
pub(crate) const WRITERS: u64 = 5;

/// A small generator: the workload is the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn create(store: &Store, model: &Shared, of: TopicPartition, name: &str) -> Option<()> {
    model.borrow_mut().attempts.entry(of).or_default();
    let segment_bytes = if of.topic.0[0].is_multiple_of(2) { 90_000 } else { 1_000_000 };
    let commit = store.create(of, name, rules(segment_bytes)).ok()?;
    store.durable(commit).await.ok()?;
    promise(model, of, Promise::Created);
    Some(())
}

/// One writer: its own partitions, one of them deleted and created again now and then. Ends early
/// when the directory is fenced.
pub(crate) async fn writer(
    store: Store,
    model: Shared,
    number: u64,
    scenario: Scenario,
    seen: Rc<Cell<Seen>>,
) -> Option<()> {
    let Scenario { seed, steps, .. } = scenario;
    let saw = |change: fn(&mut Seen)| {
        let mut it = seen.get();
        change(&mut it);
        seen.set(it);
    };
    let mut dice = Dice(seed.wrapping_mul(31).wrapping_add(number));
    // The first offset and sequence of each batch, and the next sequence.
    let mut sequences: BTreeMap<TopicPartition, (Vec<(Offset, i32)>, i32)> = BTreeMap::new();
    let name = |index: u64| format!("topic{number}x{index}");
    let mut mine: Vec<TopicPartition> = Vec::new();
    for index in 0..3 {
        let of = partition((number * 8 + index) as u8, 0);
        create(&store, &model, of, &name(index)).await?;
        mine.push(of);
    }
    for step in 0..steps {
        if scenario.pauses && dice.roll(4) == 0 {
            // What is done in the background has its time, or it would never be cut.
            store.lane().sleep(Nanos::millis(15)).await;
        }
        let place = dice.roll(3) as usize;
        let of = mine[place];
        match dice.roll(60) {
            0 => {
                attempt(&model, of, |it| it.deleted = true);
                saw(|it| it.deletions += 1);
                let commit = store.delete(&of).ok()?;
                let fresh = partition((100 + number * 30 + step % 30) as u8, step as i32 / 30);
                // Under the old name, while the old folder may still be there.
                let fresh = TopicPartition { partition: of.partition, ..fresh };
                if model.borrow().attempts.contains_key(&fresh) {
                    store.durable(commit).await.ok()?;
                    promise(&model, of, Promise::Deleted);
                    return Some(());
                }
                saw(|it| it.recreations += 1);
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
                // What a reader is told is as good as an answer.
                let shown = store.partition(&of)?.borrow().log_start();
                promise(&model, of, Promise::Start(shown));
                let (waits, model) = (store.clone(), Rc::clone(&model));
                store.lane().spawn("promise", Importance::Serving, async move {
                    if waits.durable(commit).await.is_ok() {
                        promise(&model, of, Promise::Start(start));
                    }
                });
            }
            2 => {
                let (end, visible) = {
                    let shared = store.partition(&of)?;
                    let partition = shared.borrow();
                    (partition.end(), partition.visible())
                };
                let to = Offset(end.0 - dice.roll(4) as i64).max(Offset(visible.0 / 2));
                let cut = store.truncate_to(&of, to).await;
                let (end, commit) = match cut {
                    Ok(it) => it,
                    Err(TruncateError::OutOfRange(_)) => continue,
                    Err(_) => return None,
                };
                let deeds = attempt(&model, of, |it| {
                    it.deeds.push(Deed::Cut { end: end.0 });
                    it.deeds.len()
                });
                saw(|it| it.cuts += 1);
                let (written, next) = sequences.entry(of).or_default();
                while let Some((_, sequence)) = written.pop_if(|it| end <= it.0) {
                    *next = sequence;
                }
                let (waits, model) = (store.clone(), Rc::clone(&model));
                store.lane().spawn("promise", Importance::Serving, async move {
                    if waits.durable(commit).await.is_ok() {
                        promise(&model, of, Promise::Deeds(deeds));
                    }
                });
            }
            _ => {
                let (written, sequence) = sequences.entry(of).or_default();
                let bytes = [40, 300, 3000, 12_000, 40_000, 60_000][dice.roll(6) as usize];
                let mut builder = BatchBuilder::new();
                let records = 1 + dice.roll(3) as i32;
                for at in 0..records {
                    let mut value = format!("{number} {step} {at} ").into_bytes();
                    value.resize(bytes / records as usize + 20, b'a' + dice.roll(26) as u8);
                    builder.record(1_700_000_000_000, None, Some(&value));
                }
                builder.producer(ProducerId(number as i64), ProducerEpoch(0), *sequence);
                let mut bytes = builder.build();
                let segment = store.partition(&of)?.borrow().open_segment().base;
                match store.append(&of, &mut bytes, false) {
                    Ok(it) => {
                        if segment != store.partition(&of)?.borrow().open_segment().base {
                            saw(|it| it.rolls += 1);
                        }
                        written.push((it.base, *sequence));
                        *sequence += records;
                        let deeds = attempt(&model, of, |of| {
                            of.deeds.push(Deed::Append { base: it.base.0, bytes });
                            of.deeds.len()
                        });
                        let (waits, model) = (store.clone(), Rc::clone(&model));
                        store.lane().spawn("promise", Importance::Serving, async move {
                            if waits.durable(it.commit).await.is_ok() {
                                promise(&model, of, Promise::Deeds(deeds));
                            }
                        });
                        if dice.roll(3) == 0 {
                            store.durable(it.commit).await.ok()?;
                        }
                    }
                    Err(AppendError::NoSpace) => {
                        saw(|it| it.refused_for_space += 1);
                        store.lane().sleep(Nanos::millis(100)).await;
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

/// What is done under which conditions.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Steps of each writer in each of two runs.
    pub(crate) steps: u64,
    pub(crate) broken: Mutation,
    pub(crate) large: Large,
    /// A fault after so many promises.
    pub(crate) fault: Option<(Fault, u64)>,
    pub(crate) disk_bytes: Option<u64>,
    /// Files of the journal: with few the upkeep is always busy, with many it has time for others.
    pub(crate) slots_max: usize,
    /// Writers rest now and then; without, commits overlap all the time.
    pub(crate) pauses: bool,
}

impl Scenario {
    pub(crate) fn new(seed: u64, steps: u64) -> Self {
        Self {
            seed,
            steps,
            broken: None,
            large: Large::StraightToSegments,
            fault: None,
            disk_bytes: None,
            slots_max: 16,
            pauses: false,
        }
    }
}

/// Runs the workload, recording every boundary.
pub(crate) fn record(scenario: Scenario) -> Recorded {
    let mut world = World::new(scenario.seed, Faults::none());
    let node = match scenario.disk_bytes {
        Some(bytes) => world.node_with_disk(1, Disk::new().with_capacity(bytes)),
        None => world.node(1),
    };
    let model = Shared::default();
    let promised = Rc::clone(&model);
    let done = Rc::new(Cell::new(false));
    let happened = Happened::default();
    let by_boundary = Rc::new(RefCell::new(Vec::new()));
    let (note, now) = (Rc::clone(&by_boundary), happened.clone());
    world.record_crash_points(node, move || {
        note.borrow_mut().push(now.seen());
        promised.borrow().promises.len() as u64
    });
    let (over, work) = (Rc::clone(&done), Rc::clone(&model));
    world.start(node, move |lane| {
        let (over, model, happened) = (Rc::clone(&over), Rc::clone(&work), happened.clone());
        async move {
            workload(&lane, &model, scenario, &happened).await;
            over.set(true);
        }
    });
    if let Some((fault, after)) = scenario.fault {
        let model = Rc::clone(&model);
        let reached = move || after as usize <= model.borrow().promises.len();
        assert!(world.run_to(Nanos::secs(100), reached), "the fault has its time");
        world.strike(node, fault, 1);
    }
    assert!(world.run_to(Nanos::secs(1000), || done.get()), "the workload ends");
    let points = world.take_crash_points(node);
    drop(world);
    let seen = by_boundary.take();
    assert_eq!(seen.len(), points.len(), "each boundary is noted once");
    Recorded { model, points, seen }
}

/// What happened in a workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    extents: u64,
    segments_sealed: u64,
    carried_bytes: u64,
    files_retired: u64,
    refused_for_space: u64,
    rolls: u64,
    cuts: u64,
    deletions: u64,
    recreations: u64,
    left: u64,
}

/// Everything a power cut is to meet.
type Kind = (&'static str, fn(&Seen) -> u64);
const KINDS: [Kind; 10] = [
    ("a large extent", |it| it.extents),
    ("a sealed segment", |it| it.segments_sealed),
    ("a carried tail", |it| it.carried_bytes),
    ("a retired journal file", |it| it.files_retired),
    ("a full disk", |it| it.refused_for_space),
    ("a roll", |it| it.rolls),
    ("a truncation", |it| it.cuts),
    ("a deletion", |it| it.deletions),
    ("a topic made again", |it| it.recreations),
    ("a clean stop", |it| it.left),
];

/// What happened so far: what writers saw, and what the logs of all runs counted.
#[derive(Clone, Default)]
struct Happened {
    writers: Rc<Cell<Seen>>,
    logs: Rc<RefCell<Vec<Metrics>>>,
}

impl Happened {
    fn seen(&self) -> Seen {
        let logs = self.logs.borrow();
        let count = |name: &'static str| logs.iter().map(|it| it.counter(name).get()).sum();
        Seen {
            extents: count("log.extents"),
            segments_sealed: count("log.segments_sealed"),
            carried_bytes: count("log.carried_bytes"),
            files_retired: count("journal.files_retired"),
            left: count("log.left"),
            ..self.writers.get()
        }
    }
}

async fn workload(lane: &Lane, model: &Shared, scenario: Scenario, happened: &Happened) {
    let mut config = config(scenario.broken, scenario.large);
    config.slots_max = scenario.slots_max;
    // Twice: the second run begins with what the first left.
    for part in 0..2 {
        let metrics = Metrics::default();
        happened.logs.borrow_mut().push(metrics.clone());
        let Ok((store, found)) = start_counting(lane, &config, &metrics).await else { return };
        let writers = (0..WRITERS).map(|it| {
            let number = part * WRITERS + it;
            let seen = Rc::clone(&happened.writers);
            writer(store.clone(), Rc::clone(model), number, scenario, seen)
        });
        join_all(writers).await;
        let failed = store.journal().failed().is_some();
        if failed {
            return;
        }
        if let Ok(left) = store.close().await {
            mark_clean(lane, &config, found.generation, 1, left).await.ok();
        }
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

const ALL_CUTS: [Cut; 3] = [Cut::KeepAll, Cut::KeepNone, Cut::Random];

/// Cuts at these boundaries, in some ways. How many recoveries, and the first wrong.
fn cut_at(
    recorded: &Recorded,
    boundaries: impl IntoIterator<Item = usize>,
    cuts: &[Cut],
    broken: Mutation,
) -> (usize, Option<String>) {
    let mut recoveries = 0;
    let model = recorded.model.borrow();
    for number in boundaries {
        let point = &recorded.points[number];
        for &cut in cuts {
            let disk = point.disk.cut(cut, number as u64);
            recoveries += 1;
            let wrong = match recovered(disk.clone(), broken) {
                Ok(found) => compare(&model, point.promised, &disk, &found).err(),
                Err(error) => Some(error.to_string()),
            };
            // What says that Kafka's tools may believe everything must be true.
            let marked = disk.content(CLEAN).is_some();
            let wrong = wrong.or_else(|| kafka_reads(&disk).err().filter(|_| marked));
            if let Some(wrong) = wrong {
                return (recoveries, Some(format!("boundary {number}, {cut:?}: {wrong}")));
            }
        }
    }
    (recoveries, None)
}

/// Cuts at every `stride`th boundary.
pub(crate) fn cut_everywhere(
    recorded: &Recorded,
    stride: usize,
    cuts: &[Cut],
    broken: Mutation,
) -> (usize, Option<String>) {
    cut_at(recorded, (0..recorded.points.len()).step_by(stride), cuts, broken)
}

/// So many boundaries after something happened it is still on its way to the disk.
const NEAR: usize = 24;

/// The boundaries around everything of one kind: the last before it, and some after.
fn near(recorded: &Recorded, kind: fn(&Seen) -> u64) -> Vec<usize> {
    let mut until = 0;
    let mut all = Vec::new();
    let mut before = 0;
    for (number, seen) in recorded.seen.iter().enumerate() {
        if before < kind(seen) {
            before = kind(seen);
            if until <= number && 0 < number {
                all.push(number - 1);
            }
            until = number + NEAR;
        }
        if number < until {
            all.push(number);
        }
    }
    all.dedup();
    all
}

/// `wanted` of some boundaries, evenly spread.
fn some_of(all: &[usize], wanted: usize) -> impl Iterator<Item = usize> {
    let wanted = wanted.min(all.len());
    (0..wanted).map(move |it| all[it * all.len() / wanted])
}

/// About `wanted` boundaries: half of them evenly spread, half around all that happened.
fn sample(recorded: &Recorded, wanted: usize) -> BTreeSet<usize> {
    let all: Vec<usize> = (0..recorded.points.len()).collect();
    let mut sample: BTreeSet<usize> = some_of(&all, wanted.div_ceil(2)).collect();
    for (_, kind) in KINDS {
        sample.extend(some_of(&near(recorded, kind), wanted.div_ceil(2 * KINDS.len())));
    }
    sample
}

/// How much one run of the tests looks at: `CORELANE_RECOVERIES` is a number or `all`; few without.
#[derive(Clone, Copy)]
enum Wanted {
    Recoveries(usize),
    EveryBoundary,
}

impl Wanted {
    fn asked() -> Self {
        match std::env::var("CORELANE_RECOVERIES").as_deref() {
            Err(_) => Self::Recoveries(200),
            Ok("all") => Self::EveryBoundary,
            Ok(it) => Self::Recoveries(it.parse().expect("CORELANE_RECOVERIES is a number or all")),
        }
    }
}

/// The workloads: with a small journal, with a large one, on a disk too small for all of it.
const WORLDS: [(usize, Option<u64>); 3] = [(16, None), (40, None), (16, Some(6_000_000))];

/// Of each workload so many differ in their seed, when all boundaries of them are looked at.
const ROUNDS: usize = 2;

#[test]
fn whatever_power_leaves_nothing_durable_is_lost_and_nothing_invented() {
    let asked = Wanted::asked();
    let (mut recoveries, mut boundaries, mut cut, mut seed) = (0, 0, 0, 0);
    let mut met = [0; KINDS.len()];
    let enough = |rounds: usize, recoveries: usize| match asked {
        Wanted::EveryBoundary => ROUNDS <= rounds,
        Wanted::Recoveries(wanted) => wanted <= recoveries,
    };
    let mut rounds = 0;
    while !enough(rounds, recoveries) {
        for (slots_max, disk_bytes) in WORLDS {
            seed += 1;
            let scenario =
                Scenario { slots_max, disk_bytes, pauses: true, ..Scenario::new(seed, 50) };
            let recorded = record(scenario);
            let chosen: BTreeSet<usize> = match asked {
                Wanted::EveryBoundary => (0..recorded.points.len()).collect(),
                Wanted::Recoveries(wanted) => {
                    sample(&recorded, wanted.div_ceil(WORLDS.len() * ALL_CUTS.len() * ROUNDS))
                }
            };
            for ((_, kind), met) in KINDS.iter().zip(&mut met) {
                let near = near(&recorded, *kind).into_iter();
                *met += near.filter(|it| chosen.contains(it)).count() * ALL_CUTS.len();
            }
            cut += chosen.len();
            boundaries += recorded.points.len();
            let (count, wrong) = cut_at(&recorded, chosen, &ALL_CUTS, None);
            assert_eq!(wrong, None, "seed {seed}");
            recoveries += count;
        }
        rounds += 1;
    }
    println!("{recoveries} recoveries at {cut} of {boundaries} boundaries of {seed} workloads");
    for ((what, _), met) in KINDS.iter().zip(met) {
        println!("{met} of them at or right after {what}");
        assert!(0 < met, "no power cut met {what}");
    }
}

#[test]
fn a_start_on_what_was_left_goes_on_and_starts_again() {
    let recorded = record(Scenario::new(11, 30));
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
pub(crate) fn with_a_failure(fault: Fault, broken: Mutation) -> Option<String> {
    for seed in 20..26 {
        let recorded =
            record(Scenario { broken, fault: Some((fault, 60)), ..Scenario::new(seed, 25) });
        if let (_, Some(wrong)) = cut_everywhere(&recorded, 12, &ALL_CUTS, None) {
            return Some(wrong);
        }
    }
    None
}

#[test]
fn a_write_that_fails_ends_the_run_and_breaks_no_promise() {
    assert_eq!(with_a_failure(Fault::WriteError, None), None);
}

/// What it covered is forgotten by the disk, and the next flush would succeed without it.
#[test]
fn a_flush_that_fails_ends_the_run_and_breaks_no_promise() {
    assert_eq!(with_a_failure(Fault::FlushError, None), None);
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
    (40..80).any(|seed| {
        let recorded = record(Scenario { broken: Some(mutant), ..Scenario::new(seed, 20) });
        cut_at_promises(&recorded, Some(mutant)).1.is_some()
    })
}

/// Whether a torn commit of some workload is taken for a whole one.
pub(crate) fn believes_what_is_torn(mutant: Mutant) -> bool {
    (40..60).any(|seed| {
        let recorded =
            record(Scenario { large: Large::ThroughTheJournal, ..Scenario::new(seed, 20) });
        let stride = (recorded.points.len() / 400).max(1);
        cut_everywhere(&recorded, stride, &[Cut::Random], Some(mutant)).1.is_some()
    })
}

//! A medium that lies: what was reported is there as it was, or its loss is said. Never is anything
//! else taken for it.
//!
//! While a workload runs, a few writes are hurt: a bit is wrong, they land elsewhere, or nowhere. Or
//! bits rot afterwards, in a file of each kind. Then a start reads everything. One thing is known to
//! be beyond it: a commit that no later one knew durable is not told from a torn one, so each workload
//! ends with a few that are allowed to be missing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::lane::{Lane, join_all};
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Cut, Disk, Fault, Faults, HurtKind, NodeId, World};
use corelane_core::time::Nanos;
use corelane_storage::batch::Batches;
use corelane_storage::log::boot::{OpenError, RecoveredPartition, recover};
use corelane_storage::log::open::{LogConfig, adopt, mark_clean, share_out};
use corelane_storage::log::store::{AppendError, ReadError, ReadUpTo, ReadWant, Store};

use crate::crash::{Large, Scenario, WRITERS, config, writer};
use crate::harness::{batch, partition, rules, run, start};
use crate::model::{Deed, Held, Promise, Shared, attempt, compare_with, promise};

/// Gets the commits that confirm those before them.
const WITNESS: u8 = 250;
const CONFIRMING: u64 = 4;

/// What is hurt, and when.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// So many writes, from a certain promise on.
    Writes(Fault, u32),
    /// A bit of a file of this kind, once nothing runs any more.
    AtRest(&'static str),
}

const HARMS: [Harm; 13] = [
    Harm::Writes(Fault::Rot, 1),
    Harm::Writes(Fault::Misdirected, 1),
    Harm::Writes(Fault::Stale, 1),
    Harm::Writes(Fault::Rot, 6),
    Harm::Writes(Fault::Misdirected, 6),
    Harm::Writes(Fault::Stale, 6),
    Harm::AtRest(".jnl"),
    Harm::AtRest(".jnl"),
    Harm::AtRest(".checkpoint"),
    Harm::AtRest("corelane.manifest"),
    Harm::AtRest(".log"),
    Harm::AtRest(".idx"),
    Harm::AtRest("/partition"),
];

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Outcome {
    /// The start, or the run that was hurt, ended with this.
    refused: Option<OpenError>,
    /// Partitions that are offline, or were read only in part: both were said.
    offline: u64,
    unread: u64,
    whole: u64,
}

struct Written {
    disk: Disk,
    model: Shared,
    /// Everything that was promised when the confirming commits began.
    promised: u64,
    hurts: Vec<HurtKind>,
}

/// Runs the workload under its harm, to a kill or to a clean stop. `None` when the log said that
/// something is wrong while it ran.
fn written(seed: u64, harm: Harm) -> Option<Written> {
    let steps = if seed.is_multiple_of(2) { 12 } else { 30 };
    // With many files of the journal, no checkpoint tells of what went straight to segments.
    let slots_max = if seed.is_multiple_of(3) { 16 } else { 64 };
    let scenario = Scenario { pauses: true, slots_max, ..Scenario::new(seed, steps) };
    let mut world = World::new(seed, Faults::none());
    let node = world.node(1);
    let at = Rc::new(Cell::new(Stage::Working));
    let model = Shared::default();
    let (into, stage) = (Rc::clone(&model), Rc::clone(&at));
    world.start(node, move |lane| {
        let (model, stage) = (Rc::clone(&into), Rc::clone(&stage));
        async move {
            let done = workload(&lane, &model, scenario, &stage).await;
            stage.set(if done.is_some() { Stage::Over } else { Stage::Said });
        }
    });
    let worked = || at.get() != Stage::Working;
    if let Harm::Writes(fault, times) = harm {
        let after = 20 + (seed * 7 % 60) as usize;
        // Some workloads are over before.
        let reached = || worked() || after <= model.borrow().promises.len();
        assert!(world.run_to(Nanos::secs(100), reached), "the harm has its time");
        world.strike(node, fault, times);
        assert!(world.run_to(Nanos::secs(1000), worked), "the workload ends");
        world.strike(node, fault, 0);
    }
    assert!(world.run_to(Nanos::secs(1000), worked), "the workload ends");
    let promised = model.borrow().promises.len() as u64;
    if at.get() == Stage::Worked {
        at.set(Stage::Confirming);
    }
    let over = || matches!(at.get(), Stage::Over | Stage::Said);
    assert!(world.run_to(Nanos::secs(1000), over), "the confirming ends");
    world.kill(node);
    let hurts = world.hurts(node).iter().map(|it| it.kind).collect();
    let disk = world.disk(node).cut(Cut::KeepAll, seed);
    drop(world);
    (at.get() == Stage::Over).then_some(Written { disk, model, promised, hurts })
}

/// How far a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Working,
    Worked,
    /// Nothing is hurt any more.
    Confirming,
    Over,
    Said,
}

async fn workload(
    lane: &Lane,
    model: &Shared,
    scenario: Scenario,
    stage: &Cell<Stage>,
) -> Option<()> {
    let config = with_slots(scenario.slots_max);
    let (store, found) = start(lane, &config).await.expect("a new directory");
    let of = partition(WITNESS, 0);
    model.borrow_mut().attempts.entry(of).or_default();
    let commit = store.create(of, "witness", rules(1_000_000)).expect("created");
    store.durable(commit).await.ok()?;
    promise(model, of, Promise::Created);
    let seen = Rc::default();
    let writers = (0..WRITERS)
        .map(|it| writer(store.clone(), Rc::clone(model), it, scenario, Rc::clone(&seen)));
    join_all(writers).await;
    // What was not waited for is told by now.
    store.durable(store.journal().latest()).await.ok()?;
    stage.set(Stage::Worked);
    while stage.get() == Stage::Worked {
        lane.sleep(Nanos::millis(1)).await;
    }
    for tag in 0..CONFIRMING {
        let mut bytes = batch(tag, 1, 300);
        let taken = loop {
            match store.append(&of, &mut bytes, false) {
                Ok(it) => break it,
                Err(AppendError::Overloaded) => lane.sleep(Nanos::millis(1)).await,
                Err(error) => panic!("nobody hurt the witness: {error:?}"),
            }
        };
        let deed = Deed::Append { base: taken.base.0, bytes };
        attempt(model, of, |it| it.deeds.push(deed));
        store.durable(taken.commit).await.ok()?;
    }
    if scenario.seed.is_multiple_of(5) {
        let left = store.close().await.ok()?;
        mark_clean(lane, &config, found.generation, 1, left).await.ok()?;
    }
    Some(())
}

fn with_slots(slots_max: usize) -> LogConfig {
    LogConfig { slots_max, ..config(None, Large::StraightToSegments) }
}

/// Flips a bit of what is written in some file of this kind. Says whether there was any.
fn rot(disk: &mut Disk, kind: &str, dice: &mut u64) -> bool {
    let mut roll = |sides: usize| {
        *dice =
            dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*dice >> 33) as usize % sides
    };
    let of_kind =
        |it: &String| it.ends_with(kind) && disk.content(it).is_some_and(|it| !it.is_empty());
    let paths: Vec<_> = disk.paths().into_iter().filter(of_kind).collect();
    if paths.is_empty() {
        return false;
    }
    let path = &paths[roll(paths.len())];
    let content = disk.content(path).expect("it has bytes");
    // Most of a slot was never used.
    let used = content.chunks(512).enumerate().filter(|(_, it)| it.iter().any(|it| *it != 0));
    let used: Vec<usize> = used.map(|it| it.0).collect();
    let Some(sector) = used.get(roll(used.len().max(1))) else { return false };
    let byte = (sector * 512 + roll(512)).min(content.len() - 1);
    disk.rot(path, byte as u64, roll(8) as u8)
}

/// Starts on what is left and reads all of it; the first thing that is wrong and was not said.
fn looked_at(written: &Written, disk: Disk) -> Result<Outcome, String> {
    let mut world = World::new(1, Faults::none());
    let node = world.node_with_disk(1, disk);
    let mut outcome = Outcome::default();
    let (found, held) = match read_everything(&mut world, node) {
        Ok(it) => it,
        Err(error) => {
            outcome.refused = Some(error);
            return Ok(outcome);
        }
    };
    let model = written.model.borrow();
    compare_with(&model, written.promised, &found, |it| {
        if it.damage.is_some() {
            outcome.offline += 1;
            return Ok(None);
        }
        match &held[&it.of] {
            Ok(held) => {
                outcome.whole += 1;
                Ok(Some(held.clone()))
            }
            Err(Unread::Said) => {
                outcome.unread += 1;
                Ok(None)
            }
            Err(Unread::Wrong(what)) => Err(what.clone()),
        }
    })?;
    Ok(outcome)
}

/// Why a log was not read to its end.
enum Unread {
    Said,
    Wrong(String),
}

type Everything = (Vec<RecoveredPartition>, BTreeMap<TopicPartition, Result<Held, Unread>>);

fn read_everything(world: &mut World, node: NodeId) -> Result<Everything, OpenError> {
    let result = Rc::new(RefCell::new(None));
    let put = Rc::clone(&result);
    run(world, node, move |lane| async move {
        let read = async {
            let config = with_slots(16);
            let mut found = recover(&lane, &config.data, 1, None).await?;
            let partitions = found.partitions.clone();
            let mine = share_out(&mut found, 1, |_| 0).remove(0);
            let metrics = Metrics::default();
            let ready = Store::open(&lane, &config, found.generation, mine, &metrics).await?;
            adopt(&lane, &config, found.generation, 1, &found.notices).await?;
            let store = ready.start();
            let mut held = BTreeMap::new();
            for it in partitions.iter().filter(|it| !it.deleted && it.damage.is_none()) {
                held.insert(it.of, read_log(&store, it).await);
            }
            Ok((partitions, held))
        };
        let read = read.await;
        put.borrow_mut().replace(read);
    });
    result.take().expect("it ended")
}

/// The batches of a log from its start to its end, as a reader is given them; and again from its
/// middle, where the way leads over the index.
async fn read_log(store: &Store, it: &RecoveredPartition) -> Result<Held, Unread> {
    let all = read_from(store, it, it.log_start).await?;
    if let Some((base, _)) = all.get(all.len() / 2) {
        // Its first batch may begin before the log's start.
        let middle = it.log_start.max(Offset(*base));
        let rest = read_from(store, it, middle).await?;
        if rest != all[all.len() / 2..] {
            return Err(Unread::Wrong(format!("{} is another one from its middle on", it.of)));
        }
    }
    Ok(all)
}

async fn read_from(store: &Store, it: &RecoveredPartition, from: Offset) -> Result<Held, Unread> {
    let wrong = |what: String| Err(Unread::Wrong(format!("{}: {what}", it.of)));
    let (mut held, mut at) = (Held::new(), from);
    while at < it.end {
        let want = ReadWant {
            from: at,
            up_to: ReadUpTo::End,
            bytes_max: 100_000,
            at_least_one: true,
            file_bytes_min: ReadWant::NO_FILES,
        };
        let done = match store.read(&it.of, &want).await {
            Ok(done) => done,
            Err(ReadError::Corrupt { .. } | ReadError::Offline) => return Err(Unread::Said),
            Err(error) => return wrong(format!("{error:?} at {at}")),
        };
        let bytes: Vec<u8> = done.slices.iter().flat_map(|it| it.to_vec()).collect();
        if bytes.is_empty() {
            return wrong(format!("nothing at {at}, and the end is {}", it.end));
        }
        for batch in Batches::new(&bytes) {
            let Ok(batch) = batch else { return wrong(format!("no batch at {at}")) };
            let first = held.is_empty() && batch.base_offset() <= at;
            if (!first && batch.base_offset() != at) || batch.next_offset() <= at {
                return wrong(format!("{} at {at}", batch.base_offset()));
            }
            held.push((batch.base_offset().0, batch.bytes().to_vec()));
            at = batch.next_offset();
        }
    }
    Ok(held)
}

/// So many workloads for each harm: more where the crash tests are asked for more.
fn rounds() -> u64 {
    if std::env::var_os("CORELANE_RECOVERIES").is_some() { 15 } else { 2 }
}

#[test]
fn what_a_lying_medium_took_is_said_and_all_else_is_as_it_was() {
    let (mut starts, mut corrupt, mut whole, mut unread, mut offline) = (0, 0, 0, 0, 0);
    let mut hurts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    for (number, harm) in HARMS.into_iter().enumerate() {
        for round in 0..rounds() {
            let seed = 1000 + round * HARMS.len() as u64 + number as u64;
            let Some(written) = written(seed, harm) else {
                *refused.entry("while it ran".to_owned()).or_default() += 1;
                continue;
            };
            for it in &written.hurts {
                let name = match it {
                    HurtKind::Rot => "rot",
                    HurtKind::Overwritten => "misdirected",
                    HurtKind::Stale => "stale",
                };
                *hurts.entry(name).or_default() += 1;
            }
            let mut disks = vec![written.disk.clone()];
            if let Harm::AtRest(kind) = harm {
                let mut dice = seed;
                disks = vec![written.disk.clone(); 3];
                for disk in &mut disks {
                    *hurts.entry(kind).or_default() += u64::from(rot(disk, kind, &mut dice));
                }
            }
            for disk in disks {
                starts += 1;
                let outcome = looked_at(&written, disk);
                let outcome = outcome.unwrap_or_else(|it| panic!("seed {seed}, {harm:?}: {it}"));
                if let Some(error) = outcome.refused {
                    let OpenError::Damaged { file, why, .. } = &error else {
                        let newer = matches!(error, OpenError::Newer { .. });
                        assert!(newer, "seed {seed}, {harm:?}: {error}");
                        continue;
                    };
                    let kind = file.extension().map_or("folder", |it| it.to_str().unwrap_or("?"));
                    *refused.entry(kind.to_owned()).or_default() += 1;
                    corrupt += u64::from(why.contains("knows up to"));
                }
                whole += outcome.whole;
                unread += outcome.unread;
                offline += outcome.offline;
            }
        }
    }
    println!("{starts} starts; hurt: {hurts:?}; refused: {refused:?}");
    println!("{whole} logs whole, {unread} said to be damaged by a read, {offline} by the start");
    println!("{corrupt} starts found a commit missing that was known durable");
    assert!(0 < corrupt && 0 < unread && 0 < whole, "the walk went empty");
    for kind in ["rot", "misdirected", "stale", ".jnl", ".checkpoint", ".log", ".idx"] {
        assert!(hurts.get(kind).is_some_and(|it| 0 < *it), "nothing met {kind}: {hurts:?}");
    }
}

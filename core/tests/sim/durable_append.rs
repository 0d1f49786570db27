//! What was reported durable is there after the cut, byte for byte; and each way of getting it wrong is found.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::append::{BLOCK, BLOCKS, PATH, Way, append, missing, verify};
use crate::guard::guarded;
use corelane_core::ring::Access;
use corelane_core::ring::sim::{Cut, Fault, Faults, HurtKind, Reached, World, seeds};
use corelane_core::time::Nanos;

/// Seeds within which every wrong way must be found.
const MUTANT_SEEDS: u64 = 50;

/// Seeds of an ordinary run of the tests; `./test sim` takes a thousand.
const SEEDS: u64 = 200;

/// Runs, crashes and restarts the program under one seed. Says what was promised and is not there.
fn crash_run(seed: u64, way: Way, faults: Faults, reached: &mut Reached) -> Result<(), String> {
    let mut world = World::new(seed, faults);
    let node = world.node(1);
    let reported = Rc::new(Cell::new(0));
    for round in 0..4 {
        let told = Rc::clone(&reported);
        world.start(node, move |lane| {
            let told = Rc::clone(&told);
            async move {
                // An error ends the program: it is never retried, the next start recovers.
                let _ended = append(lane, way, told).await;
            }
        });
        let completions = world.random() % 120;
        let now = world.now();
        world.run_to_completion(node, round * 60 + completions, Nanos::secs(30));
        assert!(now <= world.now());
        match world.random() % 4 {
            0 => world.kill(node),
            1 => world.cut_power(node, Cut::KeepNone),
            _ => world.cut_power(node, Cut::Random),
        }
        if let Some(block) = missing(&world.disk(node), reported.get()) {
            let reported = reported.get();
            return Err(format!("seed {seed}: {reported} blocks reported, {block} is not there"));
        }
    }
    reached.add(&world.reached());
    Ok(())
}

#[test]
fn what_was_reported_durable_is_there_after_the_cut() {
    let mut reached = Reached::default();
    let all = seeds(SEEDS);
    for seed in all.clone() {
        let way = if seed % 2 == 0 { Way::DurableWrites } else { Way::WritesThenFlush };
        guarded(|| {
            let result = crash_run(seed, way, Faults::crash().swarm(seed), &mut reached);
            result.unwrap_or_else(|it| panic!("{it}\nreplay: ./test sim --seed {seed}"));
        });
    }
    if 500 < all.count() {
        for fault in [
            Fault::ShortRead,
            Fault::ShortWrite,
            Fault::ReadError,
            Fault::WriteError,
            Fault::FlushError,
            Fault::DiskDies,
            Fault::SpaceGone,
            Fault::SlowDisk,
            Fault::StalledDisk,
            Fault::FileLimit,
            Fault::SlowPoll,
        ] {
            assert!(0 < reached.count(fault), "{fault:?} was never reached");
        }
        assert!(0 < reached.count_of("kill") && 0 < reached.count_of("cut-power"));
    }
}

/// The first seed that finds this way wrong.
fn found(way: Way, faults: &Faults) -> Option<u64> {
    let mut reached = Reached::default();
    let wrong = |it: &u64| crash_run(*it, way, faults.clone(), &mut reached).is_err();
    (0..MUTANT_SEEDS).find(wrong)
}

#[test]
fn each_way_of_getting_it_wrong_is_found_within_fifty_seeds() {
    let often = Faults::none().with(Fault::FlushError, 100_000);
    for (way, faults) in [
        (Way::NoFlush, Faults::crash()),
        (Way::NoDirectoryFlush, Faults::none()),
        (Way::FlushAgain, often.clone()),
        (Way::FlushTooEarly, Faults::none()),
    ] {
        let seed = found(way, &faults);
        println!("{way:?}: found with seed {seed:?}");
        assert!(seed.is_some(), "{way:?} was not found within {MUTANT_SEEDS} seeds");
    }
    assert_eq!(found(Way::WritesThenFlush, &often), None, "the right way survives the same");
}

#[test]
fn every_moment_at_which_power_can_fail_is_survived() {
    let (mut recoveries, mut cuts) = (0, 0);
    for way in [Way::DurableWrites, Way::WritesThenFlush] {
        let mut world = World::new(11, Faults::none());
        let node = world.node(1);
        let reported = Rc::new(Cell::new(0));
        let (told, seen) = (Rc::clone(&reported), Rc::clone(&reported));
        world.record_crash_points(node, move || seen.get());
        world.start(node, move |lane| {
            let told = Rc::clone(&told);
            async move { append(lane, way, told).await.expect("nothing goes wrong") }
        });
        assert!(world.run_to(Nanos::secs(60), || reported.get() == BLOCKS));
        let points = world.take_crash_points(node);
        for (number, point) in points.iter().enumerate() {
            for cut in [Cut::KeepNone, Cut::KeepAll, Cut::Random, Cut::Random, Cut::Random] {
                cuts += 1;
                let disk = point.disk.cut(cut, cuts);
                assert_eq!(
                    missing(&disk, point.promised),
                    None,
                    "{way:?}, point {number}, {cut:?}"
                );
                if number % 25 != 0 {
                    continue;
                }
                // The program itself recovers from it, and goes on to the end.
                recoveries += 1;
                let mut again = World::new(cuts, Faults::none());
                let node = again.node_with_disk(1, disk);
                let reported = Rc::new(Cell::new(point.promised));
                let told = Rc::clone(&reported);
                again.start(node, move |lane| {
                    let told = Rc::clone(&told);
                    async move { append(lane, way, told).await.expect("nothing goes wrong") }
                });
                assert!(again.run_to(Nanos::secs(60), || reported.get() == BLOCKS));
                assert_eq!(missing(&again.disk(node), BLOCKS), None, "{way:?}, point {number}");
            }
        }
    }
    println!("{cuts} cuts, {recoveries} recoveries");
    assert!(1000 < cuts && 100 < recoveries);
}

#[test]
fn a_medium_that_lies_is_never_believed() {
    let mut reached = Reached::default();
    let (mut hurt_blocks, mut runs) = (0, 0);
    for seed in seeds(100) {
        runs += 1;
        let mut world = World::new(seed, Faults::media().swarm(seed));
        let node = world.node(1);
        let reported = Rc::new(Cell::new(0));
        let told = Rc::clone(&reported);
        world.start(node, move |lane| {
            let told = Rc::clone(&told);
            async move { append(lane, Way::DurableWrites, told).await.expect("it is not told") }
        });
        assert!(world.run_to(Nanos::secs(60), || reported.get() == BLOCKS));
        world.cut_power(node, Cut::Random);
        let verdict = Rc::new(RefCell::new(None));
        let put = Rc::clone(&verdict);
        world.start(node, move |lane| {
            let put = Rc::clone(&put);
            async move {
                let (file, _) = lane.open(PATH, Access::default()).await.expect("opened");
                *put.borrow_mut() = Some(verify(&lane, &file, BLOCKS).await.expect("read"));
            }
        });
        assert!(world.run_to(Nanos::secs(60), || verdict.borrow().is_some()));
        let sound = verdict.take().expect("as above");
        let content = world.disk(node).content(PATH).expect("the file is there");
        let hurts = world.hurts(node);
        for (number, sound) in sound.into_iter().enumerate() {
            let at = number * BLOCK;
            let intact = content[at..at + BLOCK] == crate::append::block(number as u64);
            assert_eq!(sound, intact, "seed {seed}: block {number} of {PATH}");
            if !intact {
                hurt_blocks += 1;
                let here = |it: &corelane_core::ring::sim::Hurt| {
                    let (from, to) = (it.at, it.at + it.bytes);
                    it.path == PATH && from < (at + BLOCK) as u64 && (at as u64) < to
                };
                assert!(hurts.iter().any(here), "seed {seed}: nobody hurt block {number}");
            }
        }
        reached.add(&world.reached());
        let kinds = [HurtKind::Rot, HurtKind::Overwritten, HurtKind::Stale];
        assert!(hurts.iter().all(|it| kinds.contains(&it.kind)));
    }
    println!("{runs} runs, {hurt_blocks} blocks hurt and reported");
    if 100 < runs {
        for fault in Fault::MEDIA {
            assert!(0 < reached.count(fault), "{fault:?} was never reached");
        }
        assert!(0 < hurt_blocks);
    }
}

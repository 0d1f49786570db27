//! Every mistake that can be made on purpose is noticed by the tests beside.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use corelane_core::ring::sim::{Fault, Faults, World};
use corelane_storage::log::mutant::{Mutant, Mutation};
use corelane_storage::log::open::LogConfig;
use corelane_storage::log::store::Store;

use crate::crash::{believes_what_is_torn, breaks_a_promise, with_a_failure};
use crate::harness::{append, batch_of, config, partition, rules, run, start};

/// Whether something is amiss with this mistake. Each has its own way to show.
fn noticed(mutant: Mutant) -> bool {
    match mutant {
        Mutant::NoFlush
        | Mutant::DurabilityOutOfOrder
        | Mutant::NoDirFlush
        | Mutant::ExtentBeforeItsBytes
        | Mutant::StartBeforeDurable => breaks_a_promise(mutant),
        Mutant::IgnoredFlushError => with_a_failure(Fault::WriteError, Some(mutant)).is_some(),
        Mutant::NoFrameChecksum | Mutant::NoFrameChain => believes_what_is_torn(mutant),
        Mutant::PartialBlockRewritten => !block_goes_well(Some(mutant)),
        Mutant::DedupWindowOfOne => {
            !all_recognised(Some(mutant), false) && !all_recognised(Some(mutant), true)
        }
    }
}

#[test]
fn writes_that_are_not_durable_are_noticed() {
    assert!(noticed(Mutant::NoFlush));
}

#[test]
fn a_failed_write_that_is_ignored_is_noticed() {
    assert!(noticed(Mutant::IgnoredFlushError));
}

#[test]
fn frames_believed_without_their_checksum_are_noticed() {
    assert!(noticed(Mutant::NoFrameChecksum));
}

#[test]
fn frames_taken_as_they_come_are_noticed() {
    assert!(noticed(Mutant::NoFrameChain));
}

#[test]
fn commits_reported_out_of_order_are_noticed() {
    assert!(noticed(Mutant::DurabilityOutOfOrder));
}

#[test]
fn names_that_are_not_durable_are_noticed() {
    assert!(noticed(Mutant::NoDirFlush));
}

#[test]
fn extents_told_of_before_their_bytes_are_noticed() {
    assert!(noticed(Mutant::ExtentBeforeItsBytes));
}

#[test]
fn starts_shown_before_they_are_durable_are_noticed() {
    assert!(noticed(Mutant::StartBeforeDurable));
}

#[test]
fn a_block_written_twice_is_noticed() {
    assert!(block_goes_well(None));
    assert!(noticed(Mutant::PartialBlockRewritten));
}

fn block_goes_well(broken: Mutation) -> bool {
    catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(4, Faults::none());
        let node = world.node(1);
        let of = partition(1, 0);
        run(&mut world, node, move |lane| async move {
            let config = LogConfig { broken, ..config() };
            let (store, _) = start(&lane, &config).await.expect("starts");
            store.create(of, "orders", rules(1 << 30)).expect("created");
            for sequence in 0..300 {
                append(&store, &of, batch_of(9, sequence, sequence as u64, 10_000)).await;
            }
        });
    }))
    .is_ok()
}

#[test]
fn a_producer_of_which_only_one_batch_is_known_is_noticed() {
    assert!(all_recognised(None, false) && all_recognised(None, true));
    assert!(noticed(Mutant::DedupWindowOfOne));
}

fn all_recognised(broken: Mutation, after_restart: bool) -> bool {
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    let of = partition(1, 0);
    let all = Rc::new(Cell::new(true));
    let told = Rc::clone(&all);
    run(&mut world, node, move |lane| async move {
        let config = LogConfig { broken, ..config() };
        let (store, _) = start(&lane, &config).await.expect("starts");
        store.create(of, "orders", rules(1 << 30)).expect("created");
        for sequence in 0..5 {
            append(&store, &of, batch_of(9, sequence, sequence as u64, 300)).await;
        }
        if !after_restart {
            told.set(knows_all(&store));
        }
    });
    if after_restart {
        let told = Rc::clone(&all);
        run(&mut world, node, move |lane| async move {
            let config = LogConfig { broken, ..config() };
            let (store, _) = start(&lane, &config).await.expect("starts");
            told.set(knows_all(&store));
        });
    }
    all.get()
}

fn knows_all(store: &Store) -> bool {
    (0..5).all(|sequence| {
        let mut again = batch_of(9, sequence, sequence as u64, 300);
        store.append(&partition(1, 0), &mut again, false).is_ok_and(|it| it.duplicate)
    })
}

//! What a newer version wrote is refused with its number, never taken for something that was torn.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use corelane_core::ring::sim::{Cut, Disk, Faults, World};
use corelane_storage::frame::{BLOCK_BYTES, Frame};
use corelane_storage::log::boot::{Notice, OpenError, recover};

use crate::harness::{append, batch, config, partition, rules, run, start};

/// The byte of a frame that holds its format, and one of its entries'.
const AT_FORMAT: u64 = 8;
const AT_ENTRIES: u64 = 200;

/// A disk with a journal that a kill left, and where its frames lie by their sequence.
fn written() -> (Disk, BTreeMap<u64, (String, u64)>) {
    let mut world = World::new(5, Faults::none());
    let node = world.node(1);
    run(&mut world, node, |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        let of = partition(1, 0);
        store.create(of, "orders", rules(1 << 30)).expect("created");
        for tag in 0..8 {
            append(&store, &of, batch(tag, 1, 6000)).await;
        }
    });
    let disk = world.disk(node).cut(Cut::KeepAll, 1);
    let mut frames = BTreeMap::new();
    for path in disk.paths().into_iter().filter(|it| it.ends_with(".jnl")) {
        let bytes = disk.content(&path).expect("it is there");
        for at in (0..bytes.len()).step_by(BLOCK_BYTES) {
            let place = Frame::claimed_place(&bytes[at..]).filter(|it| it.position == at as u64);
            let Some(Ok(frame)) = place.map(|it| Frame::decode(&bytes[at..], it)) else { continue };
            frames.insert(frame.header.sequence, (path.clone(), at as u64));
        }
    }
    assert_eq!(frames.len(), 8, "{frames:?}");
    (disk, frames)
}

/// What a start says of this disk.
fn told(disk: Disk) -> Result<Vec<Notice>, OpenError> {
    let mut world = World::new(1, Faults::none());
    let node = world.node_with_disk(1, disk);
    let result = Rc::new(RefCell::new(None));
    let put = Rc::clone(&result);
    run(&mut world, node, move |lane| async move {
        let found = recover(&lane, "/data".as_ref(), 1, None).await;
        put.borrow_mut().replace(found.map(|it| it.notices));
    });
    result.take().expect("it ended")
}

#[test]
fn commits_of_a_newer_format_refuse_the_start_wherever_they_begin() {
    let (disk, frames) = written();
    for (sequence, (path, at)) in &frames {
        let mut newer = disk.clone();
        // Format 1 becomes 3.
        assert!(newer.rot(path, at + AT_FORMAT, 1));
        let error = told(newer.clone()).unwrap_err();
        assert_eq!(error, OpenError::Newer { file: PathBuf::from(path), version: 3 }, "{sequence}");
        assert_eq!(error.to_string(), format!("{path} has format 3, which is newer than ours"));
        // A second start meets the same: nothing was cut.
        assert!(told(newer).is_err());
    }
}

#[test]
fn a_whole_commit_that_says_an_older_format_is_damage() {
    let (mut disk, frames) = written();
    let (path, at) = frames.values().next_back().expect("there are some");
    assert!(disk.rot(path, at + AT_FORMAT, 0));
    assert!(matches!(told(disk), Err(OpenError::Damaged { position, .. }) if position == *at));
}

#[test]
fn a_torn_commit_stays_a_torn_end_whatever_format_it_says() {
    let (mut disk, frames) = written();
    let (last, (path, at)) = frames.last_key_value().expect("there are some");
    assert!(disk.rot(path, at + AT_FORMAT, 1) && disk.rot(path, at + AT_ENTRIES, 3));
    let notices = told(disk).expect("it starts");
    let torn =
        |it: &Notice| matches!(it, Notice::TornEnd { sequence, .. } if *sequence == last - 1);
    assert!(notices.iter().any(torn), "{notices:?}");
}

#[test]
fn every_other_file_of_a_newer_format_refuses_the_start() {
    let (disk, _) = written();
    let of = |name: &str| disk.paths().into_iter().find(|it| it.ends_with(name));
    for name in ["corelane.manifest", ".checkpoint"] {
        let path = of(name).expect("it is there");
        let mut newer = disk.clone();
        assert!(newer.rot(&path, AT_FORMAT, 2));
        let error = told(newer).unwrap_err();
        assert_eq!(error, OpenError::Newer { file: PathBuf::from(path), version: 5 });
    }
}

//! A directory may be opened by another number of lanes than wrote it, and a disk may be full.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::ids::TopicPartition;
use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{Cut, Disk, Faults, World};
use corelane_core::time::Nanos;
use corelane_storage::log::boot::{Found, recover};
use corelane_storage::log::open::{adopt, share_out};
use corelane_storage::log::store::{AppendError, Store};

use crate::harness::{append, batch, config, partition, read_all, rules, run, start};

const PARTITIONS: i32 = 12;

type Contents = Rc<RefCell<BTreeMap<TopicPartition, BTreeMap<i64, Vec<u8>>>>>;

/// What the lanes of one process tell each other while they start.
#[derive(Default)]
struct Start {
    found: RefCell<Option<Found>>,
    shares: RefCell<Vec<Vec<corelane_storage::log::boot::RecoveredPartition>>>,
    opened: Cell<u16>,
    adopted: Cell<bool>,
    ended: Cell<u16>,
}

async fn until(lane: &Lane, done: impl Fn() -> bool) {
    while !done() {
        lane.sleep(Nanos::micros(100)).await;
    }
}

async fn one_lane(lane: Lane, lanes: u16, it: Rc<Start>, contents: Contents) {
    let (config, home) = (config(), move |of: &TopicPartition| of.partition.0 as u16 % lanes);
    if lane.id().0 == 0 {
        let mut found = recover(&lane, &config.data, 1, None).await.expect("understood");
        it.shares.replace(share_out(&mut found, lanes, home));
        it.found.replace(Some(found));
    }
    until(&lane, || it.found.borrow().is_some()).await;
    let generation = it.found.borrow().as_ref().expect("found").generation;
    let mine = std::mem::take(&mut it.shares.borrow_mut()[usize::from(lane.id().0)]);
    let ready = Store::open(&lane, &config, generation, mine, &Metrics::default()).await;
    let ready = ready.expect("opens");
    it.opened.set(it.opened.get() + 1);
    until(&lane, || it.opened.get() == lanes).await;
    if lane.id().0 == 0 {
        adopt(&lane, &config, generation, lanes, &[]).await.expect("adopted");
        it.adopted.set(true);
    }
    until(&lane, || it.adopted.get()).await;
    let store = ready.start();
    for index in (0..PARTITIONS).filter(|it| *it as u16 % lanes == lane.id().0) {
        let of = partition(1, index);
        if store.partition(&of).is_none() {
            assert_eq!(generation, 1, "{of} is lost");
            store.create(of, "orders", rules(60_000)).expect("created");
        }
        let held = read_all(&store, &of).await;
        let before = contents.borrow_mut().remove(&of).unwrap_or_default();
        assert!(held == before, "{of} is another");
        for tag in 0..10 {
            append(&store, &of, batch(tag, 1, 500 * (index as usize + 1))).await;
        }
        let held = read_all(&store, &of).await;
        contents.borrow_mut().insert(of, held);
    }
    it.ended.set(it.ended.get() + 1);
    until(&lane, || false).await;
}

#[test]
fn any_number_of_lanes_opens_what_any_other_left() {
    let contents = Contents::default();
    let mut disk = Disk::new();
    for (round, lanes) in [1, 2, 4, 3, 1, 4].into_iter().enumerate() {
        let mut world = World::new(round as u64, Faults::none());
        let node = world.node_with_disk(lanes, disk);
        let it = Rc::new(Start::default());
        world.start(node, |lane| one_lane(lane, lanes, Rc::clone(&it), Rc::clone(&contents)));
        assert!(world.run_to(Nanos::secs(100), || it.ended.get() == lanes), "{lanes} lanes");
        it.found.replace(None);
        disk = world.disk(node).cut(Cut::KeepNone, 1);
    }
    assert_eq!(contents.borrow().len(), PARTITIONS as usize);
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    let mut world = World::new(3, Faults::none());
    let node = world.node(1);
    world.with_disk(node, |it| it.set_capacity(12 << 20));
    let of = partition(1, 0);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        store.create(of, "orders", rules(500_000)).expect("created");
        let mut taken = 0;
        loop {
            match store.append(&of, &mut batch(1, 1, 50_000), false) {
                Ok(it) => {
                    store.durable(it.commit).await.expect("durable");
                    taken += 1;
                }
                Err(AppendError::Overloaded) => lane.sleep(Nanos::millis(1)).await,
                Err(AppendError::NoSpace) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(50 < taken, "only {taken}");
        assert_eq!(read_all(&store, &of).await.len(), taken);
        store.delete_records(&of, None).expect("deleted");
        append_when_possible(&store, &of).await;
    });
}

/// Every append the disk could be asked for, none of them waited for: still nothing is stranded.
#[test]
fn what_a_full_disk_took_is_there_after_a_kill_and_a_start_beside_it() {
    let mut world = World::new(4, Faults::none());
    let node = world.node(1);
    world.with_disk(node, |it| it.set_capacity(6 << 20));
    let taken = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&taken);
    run(&mut world, node, move |lane| async move {
        let (store, _) = start(&lane, &config()).await.expect("starts");
        for index in 0..4 {
            store.create(partition(1, index), "orders", rules(300_000)).expect("created");
        }
        let (mut refused, mut step) = (0, 0_u64);
        // Long after the first refusal: whatever the upkeep still writes has its place.
        while refused < 500 {
            step += 1;
            let of = partition(1, (step % 4) as i32);
            match store.append(&of, &mut batch(step, 1, 20_000), false) {
                Ok(_) => *counted.borrow_mut() += 1,
                Err(AppendError::Overloaded) => lane.sleep(Nanos::micros(50)).await,
                Err(AppendError::NoSpace) => {
                    refused += 1;
                    lane.sleep(Nanos::millis(5)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        store.durable(store.journal().latest()).await.expect("durable");
        assert_eq!(store.journal().failed(), None);
    });
    let taken = *taken.borrow();
    assert!(20 < taken, "only {taken}");
    for _ in 0..3 {
        run(&mut world, node, move |lane| async move {
            let (store, _) = start(&lane, &config()).await.expect("a start has room");
            let mut held = 0;
            for index in 0..4 {
                held += read_all(&store, &partition(1, index)).await.len();
            }
            assert_eq!(held, taken);
        });
    }
}

async fn append_when_possible(store: &Store, of: &TopicPartition) {
    let until = store.lane().now() + Nanos::secs(60);
    loop {
        match store.append(of, &mut batch(1, 1, 50_000), false) {
            Ok(it) => return store.durable(it.commit).await.expect("durable"),
            Err(AppendError::NoSpace | AppendError::Overloaded) => {
                assert!(store.lane().now() < until, "there is room again");
                store.lane().sleep(Nanos::millis(10)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

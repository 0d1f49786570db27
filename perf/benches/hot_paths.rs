//! Micro-benchmarks of the hot paths: `cargo bench -p corelane-perf`. What they say of one machine in one
//! hour is for comparing two versions there; what must not grow is counted elsewhere.

#[path = "../src/hot.rs"]
mod hot;

use corelane_core::host::{LanesSetup, start_lanes};
use corelane_core::ids::LaneId;
use corelane_core::lane::Executor;
use corelane_core::mailbox::{Port, mesh};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const SLOTS: usize = 64;
const POOL_BYTES: usize = 4 << 20;

fn paths(criterion: &mut Criterion) {
    for name in hot::NAMES {
        let mut step = hot::path(name).expect("all names are known");
        criterion.bench_function(name, |it| it.iter(|| black_box(step())));
    }
}

/// A question to another lane on another thread, and its answer: two wakes and two queues.
fn mailbox(criterion: &mut Criterion) {
    let (orders, told) = channel::<u64>();
    let (tell, times) = channel::<Duration>();
    let mut ports = mesh::<u64, u64>(2, SLOTS).into_iter();
    let mut asking = Some((told, tell));
    let setup = LanesSetup { lanes: 2, cores: Vec::new(), pool_bytes: POOL_BYTES };
    let lanes = start_lanes(&setup, |lane| {
        let port = ports.next().expect("a port for each lane");
        let asking = if lane == LaneId(0) { asking.take() } else { None };
        move |ring| {
            let mut executor = Executor::new(ring);
            let lane = executor.lane().clone();
            executor.block_on(async move {
                let link = port_of(port, &lane);
                match asking {
                    Some((told, tell)) => ask(&link, &told, &tell).await,
                    None => loop {
                        let (caller, question) = link.next().await;
                        link.answer(caller, question);
                        if question == 0 {
                            return;
                        }
                    },
                }
            });
        }
    });
    let lanes = match lanes {
        Ok(lanes) => lanes,
        Err(refusal) => return eprintln!("the mailbox was left out: {refusal}"),
    };
    criterion.bench_function("ask another lane", |it| {
        it.iter_custom(|count| {
            orders.send(count.max(1)).expect("the lane listens");
            times.recv().expect("the lane answers")
        });
    });
    drop(orders);
    lanes.join().expect("the lanes end well");
}

fn port_of(
    port: Port<u64, u64>,
    lane: &corelane_core::lane::Lane,
) -> corelane_core::mailbox::Link<u64, u64> {
    port.attach(lane)
}

async fn ask(
    link: &corelane_core::mailbox::Link<u64, u64>,
    told: &Receiver<u64>,
    tell: &Sender<Duration>,
) {
    // Blocks the lane between two measurements, where nobody waits for it.
    while let Ok(count) = told.recv() {
        let begun = Instant::now();
        for question in 1..=count {
            black_box(link.ask(LaneId(1), question).await);
        }
        tell.send(begun.elapsed()).expect("somebody waits for it");
    }
    link.ask(LaneId(1), 0).await;
}

criterion_group!(benches, paths, mailbox);
criterion_main!(benches);

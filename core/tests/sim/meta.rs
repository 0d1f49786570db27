//! The simulator itself on trial: one seed is one run, in every process; and whoever asks the machine for time or
//! chance under it is caught.

use std::cell::Cell;
use std::collections::HashMap;
use std::process::{Command, Output};
use std::rc::Rc;

use crate::append::{Way, append};
use crate::guard::guarded;
use corelane_core::ids::LaneId;
use corelane_core::lane::{Importance, Lane};
use corelane_core::mailbox::{self, Link};
use corelane_core::ring::Outcome;
use corelane_core::ring::sim::{Cut, Faults, World};
use corelane_core::time::Nanos;

/// Asks a child of this test to run worlds, or to misbehave.
const ROLE: &str = "CORELANE_SIM_META_ROLE";
const SEEDS: u64 = 12;

/// Two lanes that append, talk to each other and to the next node.
async fn member(lane: Lane, link: Link<u64, u64>, world: Vec<std::net::SocketAddr>, me: usize) {
    let (listener, _) = lane.listen(world[me], 16, true).await.expect("listening");
    let lane2 = lane.clone();
    lane.spawn("serve", Importance::Serving, async move {
        let mut accepted = lane2.accept(&listener);
        while let Some(Ok(Outcome::Connected(it))) = accepted.next().await {
            let lane3 = lane2.clone();
            lane2.spawn("peer", Importance::Replication, async move {
                while let Ok(piece) = lane3.receive_block(&it.socket).await {
                    if piece.is_empty()
                        || lane3.send_all(&it.socket, vec![piece.freeze()]).await.is_err()
                    {
                        break;
                    }
                }
            });
        }
    });
    let answering = link.clone();
    lane.spawn("answer", Importance::Serving, async move {
        loop {
            let (caller, question) = answering.next().await;
            answering.answer(caller, question + 1);
        }
    });
    if lane.id() == LaneId(0) {
        let lane2 = lane.clone();
        lane.spawn("append", Importance::Background, async move {
            let _ended = append(lane2, Way::DurableWrites, Rc::new(Cell::new(0))).await;
        });
    }
    loop {
        let answer = link.ask(LaneId(1 - lane.id().0), lane.random()).await;
        assert!(answer.is_some());
        lane.sleep(Nanos::micros(lane.random() % 2_000)).await;
        let limit = lane.now() + Nanos::millis(300);
        let peer = world[(me + 1) % world.len()];
        let _answered = lane
            .until(limit, async {
                let it = lane.connect(peer).await?;
                let text = lane.wall().0.to_le_bytes().repeat(500);
                let text = corelane_core::buf::Buf::copy_of(&text).freeze();
                lane.send_all(&it.socket, vec![text]).await?;
                let buf = lane.pool().get(4096).expect("memory");
                lane.receive(&it.socket, buf).await.0
            })
            .await;
    }
}

/// A world in which everything happens, and its trace.
fn whole_world(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed, Faults::crash().swarm(seed));
    let nodes: Vec<_> = (0..3).map(|_| world.node(2)).collect();
    let addrs: Vec<_> = nodes.iter().map(|&it| world.addr(it, 9000)).collect();
    let start = |world: &mut World, at: usize| {
        let ports: Vec<_> = mailbox::mesh(2, 4).into_iter().map(|it| Cell::new(Some(it))).collect();
        world.start(nodes[at], |lane| {
            let port = ports[usize::from(lane.id().0)].take().expect("once per lane");
            let addrs = addrs.clone();
            async move {
                let link = port.attach(&lane);
                member(lane.clone(), link, addrs, at).await;
            }
        });
    };
    for at in 0..3 {
        start(&mut world, at);
    }
    for _ in 0..6 {
        world.run_for(Nanos::millis(20));
        let victim = usize::try_from(world.random() % 3).expect("small");
        match world.random() % 6 {
            0 => world.kill(nodes[victim]),
            1 => world.cut_power(nodes[victim], Cut::Random),
            2 => world.pause(nodes[victim]),
            3 => world.partition_one_way(nodes[victim], nodes[(victim + 1) % 3]),
            4 => world.jump_clock(nodes[victim], -5000),
            _ => world.reset_connections(nodes[victim], nodes[(victim + 1) % 3]),
        }
        world.run_for(Nanos::millis(10));
        world.heal();
        world.resume(nodes[victim]);
        if !world.is_running(nodes[victim]) {
            start(&mut world, victim);
        }
    }
    let events = world.trace().events();
    (world.trace_hash(), events)
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // A thread that has never asked for chance, so that nothing is left over from the harness.
    let work = move || match role.as_str() {
        "run" => {
            for seed in 0..SEEDS {
                let (hash, events) = guarded(|| whole_world(seed));
                println!("trace {seed} {hash:016x} {events}");
            }
        }
        "clock" => in_a_world(|| {
            let _now = std::time::Instant::now();
        }),
        "wall" => in_a_world(|| {
            let _now = std::time::SystemTime::now();
        }),
        "map" => in_a_world(|| {
            let _map: HashMap<u8, u8> = HashMap::new();
        }),
        other => panic!("not a role: {other}"),
    };
    std::thread::spawn(work).join().expect("the child ends well");
}

fn in_a_world(crime: fn()) {
    guarded(|| {
        let mut world = World::new(1, Faults::none());
        let node = world.node(1);
        world.start(node, move |_| async move { crime() });
        world.run_for(Nanos::secs(1));
    });
}

fn run_child(role: &str, decorate: impl FnOnce(&mut Command)) -> Output {
    let exe = std::env::current_exe().expect("we run from a file");
    let mut command = Command::new(exe);
    command.args(["--exact", "meta::child", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    decorate(&mut command);
    command.output().expect("the child runs")
}

#[test]
fn the_same_seed_in_two_processes_is_the_same_run() {
    let traces = |output: &Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter_map(|it| it.split_once("trace "))
            .map(|it| it.1.to_owned())
            .collect::<Vec<_>>()
    };
    let here = run_child("run", |_| {});
    let there = run_child("run", |command| {
        // Another place, another environment, and with it another stack and heap.
        command.current_dir("/").env("CORELANE_NOISE", "x".repeat(50_000)).env("HOME", "/nowhere");
    });
    let (here, there) = (traces(&here), traces(&there));
    assert_eq!(here.len() as u64, SEEDS);
    for (one, two) in here.iter().zip(&there) {
        assert_eq!(one, two, "a seed gave two runs");
    }
    let hashes: std::collections::BTreeSet<_> =
        here.iter().map(|it| it.split(' ').nth(1).expect("a hash")).collect();
    assert_eq!(hashes.len(), here.len(), "two seeds gave one run");
}

#[test]
fn whoever_asks_the_machine_for_time_or_chance_is_caught() {
    for (role, what) in [
        ("clock", "the time (clock_gettime)"),
        ("wall", "the time (clock_gettime)"),
        ("map", "chance (getrandom)"),
    ] {
        let output = run_child(role, |_| {});
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{role} went unnoticed");
        assert!(told.contains(&format!("a simulation asked the machine for {what}")), "{told}");
    }
}

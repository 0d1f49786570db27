//! Stories of the simulated world, told by small programs that run in it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use corelane_core::buf::Buf;
use corelane_core::ids::LaneId;
use corelane_core::lane::Lane;
use corelane_core::mailbox;
use corelane_core::ring::sim::{Cut, Fault, Faults, NodeId, World, seeds};
use corelane_core::ring::{Access, Errno, FileKind, Outcome, Sync};
use corelane_core::time::Nanos;

const RW: Access = Access { write: true, create: true, exclusive: false, direct: false };
const DIRECT: Access = Access { direct: true, ..RW };

/// What programs tell, in order.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<String>>>);

impl Told {
    fn tell(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn story(&self) -> String {
        self.0.borrow().join(" ")
    }
}

/// Runs one program on one lane to its end.
fn run_on<F: Future<Output = ()> + 'static>(
    world: &mut World,
    node: NodeId,
    program: impl Fn(Lane) -> F,
) {
    let done = Rc::new(Cell::new(false));
    world.start(node, |lane| {
        let (work, done) = (program(lane), Rc::clone(&done));
        async move {
            work.await;
            done.set(true);
        }
    });
    assert!(world.run_to(Nanos::secs(100), || done.get()), "the program ends");
}

fn text(bytes: &str) -> corelane_core::buf::Slice {
    Buf::copy_of(bytes.as_bytes()).freeze()
}

#[test]
fn a_file_system_answers_as_one_does() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    run_on(&mut world, node, |lane| async move {
        lane.make_dir("/d").await.expect("made");
        assert_eq!(lane.make_dir("/d").await, Err(Errno::EXIST));
        assert_eq!(lane.make_dir("/x/y").await, Err(Errno::NOENT));
        let (file, bytes) = lane.open("/d/a", RW).await.expect("opened");
        assert_eq!(bytes, 0);
        let exclusive = Access { exclusive: true, ..RW };
        assert_eq!(lane.open("/d/a", exclusive).await, Err(Errno::EXIST));
        assert_eq!(lane.open("/d", RW).await, Err(Errno::ISDIR));
        lane.write_all(&file, 3, text("abc"), Sync::None).await.expect("written");
        let (count, buf) = lane.read(&file, 0, Buf::unpooled(1)).await;
        assert_eq!((count, buf.filled()), (Ok(6), &b"\0\0\0abc"[..]));
        lane.truncate(&file, 4).await.expect("cut");
        let stat = lane.stat("/d/a").await.expect("there");
        assert_eq!((stat.kind, stat.bytes, stat.allocated_bytes), (FileKind::File, 4, 4096));
        let (other, _) = lane.open("/d/a", RW).await.expect("opened");
        lane.lock(&file).await.expect("locked");
        assert_eq!(lane.lock(&other).await, Err(Errno::AGAIN));
        drop(file);
        lane.sleep(Nanos::millis(1)).await;
        lane.lock(&other).await.expect("the first holder is gone");
        assert_eq!(lane.remove("/d", FileKind::Dir).await, Err(Errno::NOTEMPTY));
        lane.rename("/d/a", "/b").await.expect("moved");
        assert_eq!(lane.list("/d").await, Ok(vec![]));
        lane.remove("/b", FileKind::File).await.expect("removed");
        lane.remove("/d", FileKind::Dir).await.expect("removed");
        assert_eq!(lane.stat("/b").await, Err(Errno::NOENT));
        let (count, _) = lane.read(&other, 0, Buf::unpooled(1)).await;
        assert_eq!(count, Ok(4), "an open file outlives its name");
    });
}

#[test]
fn direct_files_refuse_what_is_not_whole_blocks() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    run_on(&mut world, node, |lane| async move {
        let (file, _) = lane.open("/a", DIRECT).await.expect("opened");
        let mut buf = Buf::unpooled(8192);
        buf.pad_to(8192);
        let block = buf.freeze();
        let write = async |at, data| lane.write_all(&file, at, data, Sync::Data).await;
        assert_eq!(write(0, block.slice(..100)).await, Err(Errno::INVAL));
        assert_eq!(write(512, block.slice(..4096)).await, Err(Errno::INVAL));
        assert_eq!(write(0, block.slice(512..4608)).await, Err(Errno::INVAL));
        assert_eq!(write(4096, block.slice(4096..)).await, Ok(()));
        let (count, _) = lane.read(&file, 100, Buf::unpooled(1)).await;
        assert_eq!(count, Err(Errno::INVAL));
    });
}

#[test]
fn a_full_disk_refuses_and_has_room_again_after_a_removal() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    world.with_disk(node, |it| it.set_capacity(3 * 4096));
    run_on(&mut world, node, |lane| async move {
        let (file, _) = lane.open("/a", RW).await.expect("opened");
        lane.allocate(&file, 0, 8192).await.expect("room");
        assert_eq!(lane.allocate(&file, 8192, 8192).await, Err(Errno::NOSPC));
        lane.write_all(&file, 8192, text("x"), Sync::None).await.expect("room for one block");
        let full = lane.write_all(&file, 3 * 4096, text("x"), Sync::None).await;
        assert_eq!(full, Err(Errno::NOSPC));
        assert_eq!(lane.space("/").await.map(|it| it.free_bytes), Ok(0));
        drop(file);
        lane.remove("/a", FileKind::File).await.expect("removed");
        lane.flush_dir("/").await.expect("flushed");
        assert_eq!(lane.space("/").await.map(|it| it.free_bytes), Ok(3 * 4096));
    });
}

#[test]
fn a_failed_flush_is_told_once_and_what_it_covered_is_lost() {
    let mut world = World::new(1, Faults::none());
    let node = world.node(1);
    world.strike(node, Fault::FlushError, 1);
    run_on(&mut world, node, |lane| async move {
        let (file, _) = lane.open("/a", RW).await.expect("opened");
        lane.write_all(&file, 0, text("lost"), Sync::None).await.expect("written");
        assert_eq!(lane.flush(&file).await, Err(Errno::IO));
        assert_eq!(lane.flush(&file).await, Ok(()));
        lane.flush_dir("/").await.expect("flushed");
    });
    assert_eq!(world.disk(node).content("/a").as_deref(), Some(&b"lost"[..]));
    world.cut_power(node, Cut::KeepAll);
    assert_eq!(world.disk(node).content("/a").as_deref(), Some(&[0; 4][..]));
    assert_eq!(world.reached().count(Fault::FlushError), 1);
}

const PORT: u16 = 9092;

/// What one conversation carries.
const BYTES: usize = 10_000;

/// Sends back whatever comes.
async fn echo(lane: Lane, addr: SocketAddr) {
    let (listener, _) = lane.listen(addr, 64, true).await.expect("listening");
    let mut accepted = lane.accept(&listener);
    while let Some(connection) = accepted.next().await {
        let Ok(Outcome::Connected(connection)) = connection else { break };
        let lane2 = lane.clone();
        lane.spawn("echo", corelane_core::lane::Importance::Serving, async move {
            loop {
                match lane2.receive_block(&connection.socket).await {
                    Ok(buf) if buf.is_empty() => break,
                    Ok(buf) => {
                        if lane2.send_all(&connection.socket, vec![buf.freeze()]).await.is_err() {
                            break;
                        }
                    }
                    Err(Errno::NOBUFS) => {}
                    Err(_) => break,
                }
            }
        });
    }
}

/// Sends `count` numbered bytes, and says what came back before the end.
async fn ask(lane: Lane, addr: SocketAddr, count: usize) -> Result<Vec<u8>, Errno> {
    let connection = lane.connect(addr).await?;
    let socket = connection.socket.clone();
    let lane2 = lane.clone();
    let sent: Vec<u8> = (0..count).map(|it| (it % 251) as u8).collect();
    let sending = async move { lane2.send_all(&socket, vec![Buf::copy_of(&sent).freeze()]).await };
    let receiving = async {
        let mut all = Vec::new();
        while all.len() < count {
            let (received, buf) = lane.receive(&connection.socket, Buf::unpooled(100)).await;
            if received? == 0 {
                break;
            }
            all.extend_from_slice(buf.filled());
        }
        Ok::<_, Errno>(all)
    };
    let both = corelane_core::lane::join_all::<Result<Vec<u8>, Errno>>([
        Box::pin(async { sending.await.map(|()| Vec::new()) })
            as std::pin::Pin<Box<dyn Future<Output = _>>>,
        Box::pin(receiving),
    ])
    .await;
    both.into_iter().next_back().expect("two")
}

#[test]
fn bytes_come_back_in_order_whatever_befalls_the_connection() {
    let faults = Faults::usual(&[
        Fault::SplitReceive,
        Fault::ShortSend,
        Fault::SlowLink,
        Fault::NoBuffers,
        Fault::Reset,
        Fault::SlowPoll,
    ]);
    let mut whole = 0;
    let mut reached = corelane_core::ring::sim::Reached::default();
    for seed in seeds(60) {
        let mut world = World::new(seed, faults.clone().swarm(seed));
        let (server, client) = (world.node(1), world.node(1));
        let addr = world.addr(server, PORT);
        world.start(server, |lane| echo(lane, addr));
        let answer = Rc::new(RefCell::new(None));
        let put = Rc::clone(&answer);
        world.run_for(Nanos::millis(5));
        world.start(client, move |lane| {
            let put = Rc::clone(&put);
            async move {
                *put.borrow_mut() = Some(ask(lane, addr, BYTES).await);
            }
        });
        assert!(world.run_to(Nanos::secs(600), || answer.borrow().is_some()), "it ends");
        let expect: Vec<u8> = (0..BYTES).map(|it| (it % 251) as u8).collect();
        match answer.take().expect("as above") {
            Ok(bytes) if bytes.len() == expect.len() => {
                assert!(bytes == expect);
                whole += 1;
            }
            Ok(bytes) => assert!(expect.starts_with(&bytes)),
            Err(errno) => assert!([Errno::CONNRESET, Errno::PIPE].contains(&errno), "{errno:?}"),
        }
        reached.add(&world.reached());
    }
    if 1 < seeds(60).count() {
        assert!(20 < whole, "{whole} whole conversations");
        for fault in [Fault::SplitReceive, Fault::ShortSend, Fault::Reset, Fault::NoBuffers] {
            assert!(0 < reached.count(fault), "{fault:?} was never reached");
        }
    }
}

#[test]
fn partitions_refusals_and_half_open_peers() {
    let mut world = World::new(3, Faults::none());
    let (server, client) = (world.node(1), world.node(1));
    let addr = world.addr(server, PORT);
    let told = Told::default();
    let told2 = told.clone();
    world.start(client, move |lane| {
        let told = told2.clone();
        async move {
            let refused = lane.connect(addr).await.expect_err("nobody listens");
            told.tell(format!("{refused:?}"));
            lane.sleep(Nanos::secs(1)).await;
            let connection = lane.connect(addr).await.expect("somebody listens");
            told.tell("connected");
            lane.send_all(&connection.socket, vec![text("one")]).await.expect("sent");
            let (count, _) = lane.receive(&connection.socket, Buf::unpooled(1)).await;
            told.tell(format!("{count:?}@{}", lane.now().as_millis() / 1000));
            // The partition: it takes the bytes, and they wait.
            lane.sleep(Nanos::secs(2)).await;
            lane.send_all(&connection.socket, vec![text("two")]).await.expect("taken");
            let (count, _) = lane.receive(&connection.socket, Buf::unpooled(1)).await;
            told.tell(format!("{count:?}@{}", lane.now().as_millis() / 1000));
            // The power cut: nobody tells us. Only the machine that comes back does.
            lane.sleep(Nanos::secs(10)).await;
            lane.send_all(&connection.socket, vec![text("three")]).await.expect("taken");
            let (count, _) = lane.receive(&connection.socket, Buf::unpooled(1)).await;
            told.tell(format!("{count:?}"));
        }
    });
    world.run_for(Nanos::millis(500));
    world.start(server, |lane| echo(lane, addr));
    world.run_until(Nanos::secs(4));
    world.partition_one_way(server, client);
    world.run_until(Nanos::secs(9));
    assert_eq!(told.story(), "ECONNREFUSED connected Ok(3)@2");
    world.heal();
    world.run_until(Nanos::secs(12));
    world.cut_power(server, Cut::KeepNone);
    world.run_until(Nanos::secs(60));
    assert_eq!(told.story(), "ECONNREFUSED connected Ok(3)@2 Ok(3)@9");
    world.start(server, |lane| echo(lane, addr));
    world.run_until(Nanos::secs(70));
    assert_eq!(
        told.story(),
        "ECONNREFUSED connected Ok(3)@2 Ok(3)@9 ECONNRESET"
            .replace("ECONNRESET", "Err(ECONNRESET)")
    );
}

#[test]
fn a_killed_process_says_good_bye_and_a_stale_file_range_is_sent_from_the_image() {
    let mut world = World::new(4, Faults::none());
    let (server, client) = (world.node(1), world.node(1));
    let addr = world.addr(server, PORT);
    world.start(server, move |lane| async move {
        let (file, _) = lane.open("/page", RW).await.expect("opened");
        lane.write_all(&file, 0, text("0123456789"), Sync::None).await.expect("written");
        let (listener, _) = lane.listen(addr, 8, false).await.expect("listening");
        let mut accepted = lane.accept(&listener);
        let Some(Ok(Outcome::Connected(it))) = accepted.next().await else { panic!("accepted") };
        lane.send_file(&it.socket, &file, 2, 5).await.expect("sent");
        lane.sleep(Nanos::secs(1000)).await;
    });
    world.run_for(Nanos::millis(10));
    let told = Told::default();
    let told2 = told.clone();
    world.start(client, move |lane| {
        let told = told2.clone();
        async move {
            let it = lane.connect(addr).await.expect("connected");
            for _ in 0..2 {
                let (count, buf) = lane.receive(&it.socket, Buf::unpooled(1)).await;
                told.tell(format!("{count:?}:{}", String::from_utf8_lossy(buf.filled())));
            }
        }
    });
    world.run_for(Nanos::secs(1));
    world.kill(server);
    world.run_for(Nanos::secs(1));
    assert_eq!(told.story(), "Ok(5):23456 Ok(0):");
}

#[test]
fn lanes_of_a_process_wake_each_other_and_a_pause_is_seen_as_lateness() {
    let mut world = World::new(5, Faults::none());
    let node = world.node(3);
    let told = Told::default();
    let ports = mailbox::mesh::<u32, u32>(3, 2);
    let ports: Vec<_> = ports.into_iter().map(|it| Cell::new(Some(it))).collect();
    world.start(node, |lane| {
        let port = ports[usize::from(lane.id().0)].take().expect("once per lane");
        let told = told.clone();
        async move {
            let link = port.attach(&lane);
            if lane.id() == LaneId(0) {
                let all = (0..20).map(|it| link.ask(LaneId(1 + it % 2), u32::from(it)));
                let answers = corelane_core::lane::join_all(all).await;
                assert!(answers.iter().enumerate().all(|(at, it)| *it == Some(at as u32 * 2)));
                told.tell("answered");
                let before = lane.now();
                lane.sleep(Nanos::millis(100)).await;
                told.tell(format!("slept {}s", lane.now().since(before).as_millis() / 1000));
            } else {
                loop {
                    let (caller, question) = link.next().await;
                    link.answer(caller, question * 2);
                }
            }
        }
    });
    let told2 = told.clone();
    assert!(world.run_to(Nanos::secs(10), || told2.story() == "answered"));
    world.pause(node);
    world.run_for(Nanos::secs(7));
    assert_eq!(told.story(), "answered");
    world.resume(node);
    world.run_for(Nanos::millis(10));
    assert_eq!(told.story(), "answered slept 7s");
}

#[test]
fn descriptors_run_out_and_come_back() {
    let mut world = World::new(6, Faults::none());
    let node = world.node(1);
    world.limit_open_files(node, 2);
    run_on(&mut world, node, |lane| async move {
        let (one, _) = lane.open("/a", RW).await.expect("opened");
        let (_two, _) = lane.open("/b", RW).await.expect("opened");
        assert_eq!(lane.open("/c", RW).await, Err(Errno::MFILE));
        drop(one);
        lane.open("/c", RW).await.expect("there is room again");
    });
}

#[test]
fn a_short_read_is_not_taken_for_the_end_of_a_file() {
    const BYTES: usize = 5439;
    for seed in seeds(100) {
        let mut world = World::new(seed, Faults::usual(&[Fault::ShortRead]));
        let node = world.node(1);
        run_on(&mut world, node, |lane| async move {
            let (file, _) = lane.open("/f", DIRECT).await.expect("made");
            let blocks = Buf::copy_of(&[7; 8192]).freeze();
            lane.write_all(&file, 0, blocks, Sync::None).await.expect("written");
            lane.truncate(&file, BYTES as u64).await.expect("shortened");
            for _ in 0..50 {
                let (read, _) = lane.read_full(&file, 0, Buf::unpooled(8192), 8192).await;
                assert_eq!(read, Ok(BYTES));
            }
        });
    }
}

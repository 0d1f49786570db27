//! Every operation, on the kernel: loopback sockets and files beside the build.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Peers, RealRing, Refusal, RingSetup, check_direct_io};
use crate::buf::{Buf, Pool, Slice};
use crate::ids::LaneId;
use crate::limits::{BLOCK_BYTES, OPS_IN_FLIGHT_MAX};
use crate::ring::{
    Access, Completion, Connection, Errno, Fd, FileKind, Op, Outcome, Ring, Sync, Ticket, Wait,
};
use crate::time::Nanos;

/// A ring with what it completed and nobody asked for yet.
struct Bench {
    ring: RealRing,
    seen: BTreeMap<Ticket, Vec<Completion>>,
}

impl Bench {
    /// `None` where this host has no io_uring; says so.
    fn new(budget_bytes: usize) -> Option<Self> {
        Self::with(budget_bytes, |it| it)
    }

    fn with(budget_bytes: usize, change: impl FnOnce(RingSetup) -> RingSetup) -> Option<Self> {
        let peers = Peers::new(1).expect("descriptors are left");
        let pool = Pool::new(budget_bytes);
        pool.poison_returned();
        match RealRing::open(change(RingSetup::new(LaneId(0), &peers, pool))) {
            Ok(ring) => Some(Self { ring, seen: BTreeMap::new() }),
            Err(refusal) => {
                println!("SKIPPED real-ring: {refusal}");
                None
            }
        }
    }

    fn submit(&mut self, op: Op) -> Ticket {
        self.ring.submit(op).expect("the ring has room")
    }

    /// The next completion of one operation, turning as long as it takes.
    fn next(&mut self, ticket: Ticket) -> Completion {
        loop {
            if let Some(list) = self.seen.get_mut(&ticket)
                && !list.is_empty()
            {
                return list.remove(0);
            }
            self.turn(Wait::Until(None));
        }
    }

    fn turn(&mut self, wait: Wait) {
        let mut completed = Vec::new();
        self.ring.turn(wait, &mut completed);
        for it in completed {
            self.seen.entry(it.ticket).or_default().push(it);
        }
    }

    fn run(&mut self, op: Op) -> (Result<Outcome, Errno>, Op) {
        let ticket = self.submit(op);
        let it = self.next(ticket);
        assert!(it.last);
        (it.result, it.op.expect("the last completion gives the operation back"))
    }

    fn ok(&mut self, op: Op) -> Outcome {
        self.run(op).0.expect("it works")
    }

    fn fails(&mut self, op: Op) -> Errno {
        self.run(op).0.expect_err("it is refused")
    }

    fn bytes(&mut self, op: Op) -> u32 {
        let Outcome::Bytes(bytes) = self.ok(op) else { panic!("not a count") };
        bytes
    }

    /// What came in a block of the ring's choosing.
    fn block(&mut self, ticket: Ticket) -> Buf {
        let it = self.next(ticket);
        assert!(it.last && it.op.is_some());
        let Ok(Outcome::Received(buf)) = it.result else { panic!("{:?}", it.result) };
        buf
    }

    fn listen(&mut self) -> (Fd, SocketAddr) {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        match self.ok(Op::Listen { addr, backlog: 64, shared: false }) {
            Outcome::Listening(it) => *it,
            other => panic!("{other:?}"),
        }
    }

    /// Two ends of one connection: ours, and the accepted one.
    fn pair(&mut self) -> (Connection, Connection) {
        let (listener, addr) = self.listen();
        let accept = self.submit(Op::Accept { listener });
        let Outcome::Connected(ours) = self.ok(Op::Connect { addr }) else { panic!("no peer") };
        let it = self.next(accept);
        assert!(!it.last && it.op.is_none());
        let Ok(Outcome::Connected(theirs)) = it.result else { panic!("{it:?}") };
        self.ring.cancel(accept);
        let end = self.next(accept);
        assert_eq!((end.result.err(), end.last), (Some(Errno::CANCELED), true));
        (*ours, *theirs)
    }

    fn open(&mut self, path: &std::path::Path, access: Access) -> (Fd, u64) {
        match self.ok(Op::Open { path: path.to_owned(), access }) {
            Outcome::Opened { file, bytes } => (file, bytes),
            other => panic!("{other:?}"),
        }
    }
}

/// A folder of its own beside the build, where direct I/O works; gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("../target/tmp/real-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::create_dir_all(&path).expect("the build's folder is writable");
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn read(file: &Fd, at: u64, buf: Buf) -> Op {
    Op::Read { file: file.clone(), at, buf, bytes_max: usize::MAX }
}

fn slice(bytes: &[u8]) -> Slice {
    Buf::copy_of(bytes).freeze()
}

const NEW: Access = Access { write: true, create: true, exclusive: true, direct: false };

#[test]
fn a_connection_carries_bytes_both_ways_and_ends() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let (ours, theirs) = bench.pair();
    assert_eq!((ours.peer, ours.local), (theirs.local, theirs.peer));

    let parts = vec![slice(b"one "), slice(b"two "), slice(b"three")];
    assert_eq!(bench.bytes(Op::Send { socket: ours.socket.clone(), parts: parts.into() }), 13);
    let mut buf = Buf::unpooled(100);
    buf.put(b"> ");
    let (result, op) = bench.run(Op::Receive { socket: theirs.socket.clone(), buf });
    assert!(matches!(result, Ok(Outcome::Bytes(13))), "{result:?}");
    let Op::Receive { buf, .. } = op else { panic!("another operation") };
    assert_eq!(buf.filled(), b"> one two three");

    let parts = vec![slice(b"back")];
    assert_eq!(bench.bytes(Op::Send { socket: theirs.socket.clone(), parts: parts.into() }), 4);
    assert_eq!(
        bench.bytes(Op::Send { socket: theirs.socket.clone(), parts: Vec::new().into() }),
        0
    );
    let socket = ours.socket.clone();
    assert_eq!(bench.bytes(Op::Receive { socket, buf: Buf::unpooled(1) }), 4);

    bench.ok(Op::Shutdown { socket: theirs.socket.clone() });
    let socket = ours.socket.clone();
    assert_eq!(bench.bytes(Op::Receive { socket, buf: Buf::unpooled(1) }), 0);
    let parts = vec![slice(b"late")];
    assert_eq!(bench.fails(Op::Send { socket: theirs.socket, parts: parts.into() }), Errno::PIPE);
}

#[test]
fn a_dropped_connection_is_closed_in_the_next_turn() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let (ours, theirs) = bench.pair();
    let receive = bench.submit(Op::Receive { socket: ours.socket, buf: Buf::unpooled(1) });
    drop(theirs);
    let it = bench.next(receive);
    assert!(matches!(it.result, Ok(Outcome::Bytes(0))), "{it:?}");
}

#[test]
fn idle_connections_receive_into_shared_blocks() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let (ours, theirs) = bench.pair();
    for round in 0..100_u8 {
        let receive = bench.submit(Op::ReceiveBlock { socket: theirs.socket.clone() });
        bench.turn(Wait::No);
        let parts = vec![slice(&[round; 10])];
        bench.bytes(Op::Send { socket: ours.socket.clone(), parts: parts.into() });
        assert_eq!(bench.block(receive).filled(), [round; 10]);
    }
    drop(ours);
    let receive = bench.submit(Op::ReceiveBlock { socket: theirs.socket });
    assert!(bench.block(receive).is_empty());
}

/// What a peer sends stays with the kernel but for one block, until somebody asks for more.
#[test]
fn nothing_comes_that_was_not_asked_for() {
    let Some(mut bench) = Bench::new(4 << 20) else { return };
    let (ours, theirs) = bench.pair();
    let sent: Vec<u8> = (0..200_000_u32).map(|it| (it / 7) as u8).collect();
    let mut left = slice(&sent);
    let mut received = Vec::new();
    bench.turn(Wait::No);
    let resting = bench.ring.pool().stats().lent_bytes;
    let mut send =
        bench.submit(Op::Send { socket: ours.socket.clone(), parts: vec![left.clone()].into() });
    while received.len() < sent.len() {
        let receive = bench.submit(Op::ReceiveBlock { socket: theirs.socket.clone() });
        let block = bench.block(receive);
        for _ in 0..10 {
            bench.turn(Wait::No);
        }
        let lent = bench.ring.pool().stats().lent_bytes;
        assert_eq!(lent, resting + block.capacity(), "the one, beside those the kernel may fill");
        received.extend_from_slice(block.filled());
        if let Some(it) = bench.seen.remove(&send).and_then(|mut it| it.pop()) {
            let Ok(Outcome::Bytes(count)) = it.result else { panic!("{it:?}") };
            left = left.slice(count as usize..);
            if !left.is_empty() {
                let parts = vec![left.clone()].into();
                send = bench.submit(Op::Send { socket: ours.socket.clone(), parts });
            }
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn a_pool_without_blocks_ends_a_receive_and_loses_no_byte() {
    // Two blocks for the kernel, and nothing else.
    let Some(mut bench) = Bench::new(256 * 1024) else { return };
    let (ours, theirs) = bench.pair();
    let hog = bench.ring.pool().clone();
    let mut hogged = Vec::new();
    while let Some(buf) = hog.get(BLOCK_BYTES) {
        hogged.push(buf);
    }
    let sent: Vec<u8> = (0..100_000_u32).map(|it| it as u8).collect();
    let mut left = slice(&sent);
    let mut held = Vec::new();
    let mut received = Vec::new();
    let mut refused = 0;
    while received.len() < sent.len() {
        if !left.is_empty() {
            let parts = vec![left.clone()];
            let count = bench.bytes(Op::Send { socket: ours.socket.clone(), parts: parts.into() });
            left = left.slice(count as usize..);
        }
        let receive = bench.submit(Op::ReceiveBlock { socket: theirs.socket.clone() });
        match bench.next(receive).result {
            Ok(Outcome::Received(buf)) => {
                received.extend_from_slice(buf.filled());
                held.push(buf);
            }
            Err(Errno::NOBUFS) => {
                refused += 1;
                held.clear();
                hogged.clear();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, sent);
    assert!(0 < refused, "the pool was never exhausted");
}

#[test]
fn a_kernel_that_chooses_no_blocks_receives_all_the_same() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    bench.ring.features.accept_many = false;
    if let Some(blocks) = bench.ring.blocks.take() {
        blocks.unregister(&bench.ring.uring.submitter());
    }
    let (ours, theirs) = bench.pair();
    for round in 0..10_u8 {
        let receive = bench.submit(Op::ReceiveBlock { socket: theirs.socket.clone() });
        let parts = vec![slice(&[round; 10])];
        bench.bytes(Op::Send { socket: ours.socket.clone(), parts: parts.into() });
        assert_eq!(bench.block(receive).filled(), [round; 10]);
    }
    let receive = bench.submit(Op::ReceiveBlock { socket: theirs.socket });
    bench.ring.cancel(receive);
    assert_eq!(bench.next(receive).result.err(), Some(Errno::CANCELED));
}

#[test]
fn lost_interest_gives_the_buffer_back() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let (_ours, theirs) = bench.pair();
    let buf = bench.ring.pool().get(1).expect("in budget");
    let lent = bench.ring.pool().stats().lent_bytes;
    let receive = bench.submit(Op::Receive { socket: theirs.socket.clone(), buf });
    let block = bench.submit(Op::ReceiveBlock { socket: theirs.socket });
    bench.turn(Wait::No);
    assert!(lent <= bench.ring.pool().stats().lent_bytes, "the ring owns it");
    bench.ring.cancel(receive);
    bench.ring.cancel(receive);
    bench.ring.cancel(block);
    let it = bench.next(receive);
    assert_eq!(it.result.err(), Some(Errno::CANCELED));
    assert!(matches!(it.op, Some(Op::Receive { buf, .. }) if buf.is_alone() && buf.is_empty()));
    assert_eq!(bench.next(block).result.err(), Some(Errno::CANCELED));
    // Too late is no harm.
    bench.ring.cancel(block);
}

#[test]
fn a_ring_that_goes_takes_everything_back_from_the_kernel() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let pool = bench.ring.pool().clone();
    let (ours, theirs) = bench.pair();
    let (listener, _) = bench.listen();
    bench.submit(Op::Accept { listener });
    for _ in 0..20 {
        let buf = pool.get(1).expect("in budget");
        bench.submit(Op::Receive { socket: ours.socket.clone(), buf });
    }
    bench.submit(Op::ReceiveBlock { socket: theirs.socket });
    bench.submit(Op::List { path: "/".into() });
    bench.turn(Wait::No);
    assert_ne!(pool.stats().lent_bytes, 0);
    drop(bench);
    assert_eq!(pool.stats().lent_bytes, 0);
}

#[test]
fn a_file_is_written_flushed_read_and_seen() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let folder = Folder::new();
    let path = folder.at("file");
    let (file, bytes) = bench.open(&path, NEW);
    assert_eq!(bytes, 0);
    for (at, sync) in [(0, Sync::None), (4, Sync::Data)] {
        let data = slice(b"data");
        assert_eq!(bench.bytes(Op::Write { file: file.clone(), at, data, sync }), 4);
    }
    bench.ok(Op::Flush { file: file.clone() });
    bench.ok(Op::FlushDir { path: folder.0.clone() });
    let (_, op) = bench.run(read(&file, 2, Buf::unpooled(1)));
    assert!(matches!(op, Op::Read { buf, .. } if buf.filled() == b"tadata"));
    assert_eq!(bench.bytes(read(&file, 8, Buf::unpooled(1))), 0);
    let part = Op::Read { file: file.clone(), at: 2, buf: Buf::unpooled(8), bytes_max: 3 };
    let (_, op) = bench.run(part);
    assert!(matches!(op, Op::Read { buf, .. } if buf.filled() == b"tad"));

    bench.ok(Op::Allocate { file: file.clone(), at: 0, bytes: 100_000 });
    let Outcome::Stat(stat) = bench.ok(Op::Stat { path: path.clone() }) else { panic!() };
    assert_eq!((stat.kind, stat.bytes), (FileKind::File, 100_000));
    assert!(100_000 <= stat.allocated_bytes);
    bench.ok(Op::Truncate { file, bytes: 3 });
    let (_, bytes) = bench.open(&path, Access::default());
    assert_eq!(bytes, 3);
}

#[test]
fn direct_writes_go_around_the_cache_in_whole_blocks() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let folder = Folder::new();
    if let Err(refusal) = check_direct_io(&folder.0) {
        println!("SKIPPED real-ring: {refusal}");
        return;
    }
    let (file, _) = bench.open(&folder.at("direct"), Access { direct: true, ..NEW });
    let mut buf = bench.ring.pool().get(BLOCK_BYTES).expect("in budget");
    buf.put(b"whole");
    buf.pad_to(BLOCK_BYTES);
    let whole = buf.freeze();
    let write = |data| Op::Write { file: file.clone(), at: 0, data, sync: Sync::Data };
    let data = whole.clone();
    assert_eq!(bench.bytes(write(data)) as usize, BLOCK_BYTES);
    assert_eq!(bench.fails(write(whole.slice(1..100))), Errno::INVAL);
    let buf = bench.ring.pool().get(BLOCK_BYTES).expect("in budget");
    let (_, op) = bench.run(read(&file, 0, buf));
    assert!(matches!(op, Op::Read { buf, .. } if buf.filled() == &*whole));
}

#[test]
fn names_are_made_listed_renamed_and_removed() {
    for in_ring in [true, false] {
        let Some(mut bench) = Bench::new(1 << 20) else { return };
        if !in_ring {
            // As on a kernel whose rings do not know names.
            let features = &mut bench.ring.features;
            (features.rename, features.remove, features.make_dir) = (false, false, false);
            features.truncate = false;
        }
        let folder = Folder::new();
        let (dir, old, new) = (folder.at("dir"), folder.at("dir/old"), folder.at("dir/new"));
        bench.ok(Op::MakeDir { path: dir.clone() });
        assert_eq!(bench.fails(Op::MakeDir { path: dir.clone() }), Errno::EXIST);
        let (file, _) = bench.open(&old, NEW);
        bench.ok(Op::Truncate { file, bytes: 5 });
        assert_eq!(bench.fails(Op::Open { path: old.clone(), access: NEW }), Errno::EXIST);
        bench.ok(Op::Rename { from: old.clone(), to: new.clone() });
        assert_eq!(bench.fails(Op::Stat { path: old.clone() }), Errno::NOENT);
        let Outcome::Entries(list) = bench.ok(Op::List { path: dir.clone() }) else { panic!() };
        assert_eq!(list.len(), 1);
        assert_eq!((&*list[0].name, list[0].kind), ("new", FileKind::File));
        let remove = |path: &PathBuf, kind| Op::Remove { path: path.clone(), kind };
        assert_eq!(bench.fails(remove(&dir, FileKind::Dir)), Errno::NOTEMPTY);
        bench.ok(remove(&new, FileKind::File));
        bench.ok(remove(&dir, FileKind::Dir));
        assert_eq!(bench.fails(Op::List { path: dir.clone() }), Errno::NOENT);
        assert_eq!(bench.fails(Op::FlushDir { path: dir }), Errno::NOENT);
        assert_eq!(bench.fails(Op::Stat { path: "zero\0byte".into() }), Errno::INVAL);
        let Outcome::Space(space) = bench.ok(Op::Space { path: folder.0.clone() }) else {
            panic!()
        };
        assert!(0 < space.total_bytes && space.free_bytes <= space.total_bytes);
        assert!(!space.file_system.is_empty());
    }
}

#[test]
fn a_lock_has_one_holder_until_it_is_closed() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let folder = Folder::new();
    let (first, _) = bench.open(&folder.at("lock"), NEW);
    let (second, _) = bench.open(&folder.at("lock"), Access { exclusive: false, ..NEW });
    bench.ok(Op::Lock { file: first.clone() });
    assert_eq!(bench.fails(Op::Lock { file: second.clone() }), Errno::AGAIN);
    drop(first);
    // The close is in the queue before this operation, and done in the same turn.
    bench.turn(Wait::No);
    bench.ok(Op::Lock { file: second });
}

#[test]
fn a_file_is_sent_as_fast_as_its_reader_takes_it() {
    let Some(mut bench) = Bench::new(16 << 20) else { return };
    let folder = Folder::new();
    let (file, _) = bench.open(&folder.at("sent"), NEW);
    let content: Vec<u8> = (0..5_000_000_u32).map(|it| (it >> 4) as u8).collect();
    let data = slice(&content);
    assert_eq!(
        bench.bytes(Op::Write { file: file.clone(), at: 0, data, sync: Sync::None }),
        5_000_000
    );
    let (ours, theirs) = bench.pair();
    let send = |at| {
        let (socket, file) = (ours.socket.clone(), file.clone());
        Op::SendFile { socket, file, at, bytes: 5_000_000 - at as u32 }
    };
    let mut sent = 0;
    let mut sending = bench.submit(send(0));
    let mut received = Vec::new();
    // Nobody reads at first: what fits is sent, then it waits.
    while sent < 5_000_000 && received.is_empty() {
        bench.turn(Wait::Until(Some(bench.ring.now() + Nanos::millis(100))));
        match bench.seen.get_mut(&sending).and_then(Vec::pop) {
            Some(it) => {
                let Ok(Outcome::Bytes(bytes)) = it.result else { panic!("{it:?}") };
                sent += u64::from(bytes);
                sending = bench.submit(send(sent));
            }
            None => received.push(0),
        }
    }
    assert!(sent < 5_000_000, "a socket holds less than that");
    received.clear();
    while received.len() < content.len() {
        let (socket, buf) = (theirs.socket.clone(), Buf::unpooled(1 << 20));
        let (_, op) = bench.run(Op::Receive { socket, buf });
        let Op::Receive { buf, .. } = op else { panic!() };
        received.extend_from_slice(buf.filled());
        if let Some(it) = bench.seen.get_mut(&sending).and_then(Vec::pop) {
            let Ok(Outcome::Bytes(bytes)) = it.result else { panic!("{it:?}") };
            sent += u64::from(bytes);
            if sent < 5_000_000 {
                sending = bench.submit(send(sent));
            }
        }
    }
    assert!(received == content);
}

#[test]
fn a_file_system_that_refuses_durable_writes_is_flushed_instead() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    bench.ring.features.durable_writes = false;
    let folder = Folder::new();
    let (file, _) = bench.open(&folder.at("file"), NEW);
    let before = bench.ring.counts.submissions;
    let data = slice(b"data");
    assert_eq!(bench.bytes(Op::Write { file, at: 0, data, sync: Sync::Data }), 4);
    assert!(before + 2 <= bench.ring.counts.submissions, "a write and a flush");
}

#[test]
fn a_small_queue_carries_thousands_of_operations() {
    let Some(mut bench) = Bench::with(1 << 20, |it| RingSetup { queue_entries: 4, ..it }) else {
        return;
    };
    let folder = Folder::new();
    let (file, _) = bench.open(&folder.at("file"), NEW);
    let mut tickets = Vec::new();
    for number in 0..5_000_u64 {
        let (file, data) = (file.clone(), slice(&number.to_le_bytes()));
        tickets.push(bench.submit(Op::Write { file, at: number * 8, data, sync: Sync::None }));
    }
    for ticket in tickets {
        assert!(matches!(bench.next(ticket).result, Ok(Outcome::Bytes(8))));
    }
    let (_, op) = bench.run(read(&file, 0, Buf::unpooled(40_000)));
    let Op::Read { buf, .. } = op else { panic!() };
    let numbers = buf.filled().chunks(8).map(|it| u64::from_le_bytes(it.try_into().unwrap()));
    assert!(numbers.eq(0..5_000));
}

#[test]
fn a_full_ring_gives_the_operation_back() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let (listener, _) = bench.listen();
    for _ in 0..OPS_IN_FLIGHT_MAX {
        bench.submit(Op::Wake { lane: LaneId(0) });
    }
    let refused = bench.ring.submit(Op::Accept { listener });
    assert!(matches!(refused, Err(Op::Accept { .. })));
    bench.turn(Wait::No);
    assert_eq!(bench.seen.values().map(Vec::len).sum::<usize>(), OPS_IN_FLIGHT_MAX + 1);
    assert!(bench.seen.contains_key(&Ticket::WOKEN));
}

#[test]
fn lanes_and_threads_wake_each_other() {
    for by_message in [true, false] {
        let peers = Peers::new(2).expect("descriptors are left");
        let play = |lane: u16| {
            let setup = RingSetup::new(LaneId(lane), &peers, Pool::new(1 << 20));
            let mut ring = match RealRing::open(setup) {
                Ok(ring) => ring,
                Err(refusal) => return println!("SKIPPED real-ring: {refusal}"),
            };
            ring.features.message_ring &= by_message;
            let mut completed = Vec::new();
            for _ in 0..1_000 {
                if lane == 0 {
                    ring.submit(Op::Wake { lane: LaneId(1) }).expect("room");
                }
                let mut woken = false;
                while !woken {
                    ring.turn(Wait::Until(None), &mut completed);
                    woken = completed.drain(..).any(|it| it.ticket == Ticket::WOKEN);
                }
                if lane == 1 {
                    ring.submit(Op::Wake { lane: LaneId(0) }).expect("room");
                }
            }
            // The last wake may still be in the queue.
            ring.turn(Wait::No, &mut completed);
        };
        std::thread::scope(|it| {
            it.spawn(|| play(0));
            it.spawn(|| play(1));
        });
    }
}

#[test]
fn a_wake_that_comes_before_the_ring_is_kept() {
    let peers = Peers::new(1).expect("descriptors are left");
    peers.remote(LaneId(0)).wake();
    let setup = RingSetup::new(LaneId(0), &peers, Pool::new(1 << 20));
    let Ok(mut ring) = RealRing::open(setup) else {
        return println!("SKIPPED real-ring: no io_uring");
    };
    let mut completed = Vec::new();
    ring.turn(Wait::Until(None), &mut completed);
    assert_eq!(completed[0].ticket, Ticket::WOKEN);
}

#[test]
fn an_idle_ring_sleeps_until_told_and_then_once() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    bench.turn(Wait::No);
    let before = bench.ring.counts.enters;
    let until = bench.ring.now() + Nanos::millis(20);
    bench.turn(Wait::Until(Some(until)));
    assert!(until <= bench.ring.now());
    assert_eq!(bench.ring.counts.enters, before + 1);
    bench.turn(Wait::Until(Some(until)));
    bench.turn(Wait::No);
    assert_eq!(bench.ring.counts.enters, before + 1, "a turn with nothing to do needs no call");
}

#[test]
fn what_the_ring_found_is_told_in_lines() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let lines = bench.ring.describe();
    assert!(lines[0].starts_with("kernel "));
    assert!(lines.iter().all(|it| !it.contains('\n')));
    assert_ne!(bench.ring.random(), bench.ring.random());
    assert!(0 < bench.ring.wall().0);
}

#[test]
fn errors_come_as_numbers() {
    let Some(mut bench) = Bench::new(1 << 20) else { return };
    let (listener, addr) = bench.listen();
    let listen = Op::Listen { addr, backlog: 1, shared: false };
    assert_eq!(bench.fails(listen), Errno::ADDRINUSE);
    drop(listener);
    bench.turn(Wait::No);
    assert_eq!(bench.fails(Op::Connect { addr }), Errno::CONNREFUSED);
    let missing = Op::Open { path: "/nowhere/file".into(), access: Access::default() };
    assert_eq!(bench.fails(missing), Errno::NOENT);
    assert!(matches!(
        check_direct_io(std::path::Path::new("/nowhere")),
        Err(Refusal::Other { errno: Errno::NOENT, .. })
    ));
    if std::path::Path::new("/proc/self").exists() {
        assert!(check_direct_io(std::path::Path::new("/proc")).is_err());
    }
}

//! Answers with parts of files in them: whole and in order, whatever the network does.

use std::rc::Rc;

use corelane_core::buf::Buf;
use corelane_core::lane::Lane;
use corelane_core::ring::sim::{Fault, Faults, seeds};
use corelane_core::ring::{Access, Fd, FileRange, Sync};
use corelane_core::time::Nanos;
use corelane_net::conn::{
    ConnLimits, Effect, Ended, Peer, Piece, Principal, Reply, Service, Serving, Showing,
};

use crate::stage::{Stage, Terms, send};

const FILE_BYTES: usize = 60_000;

/// Answers each request of one byte with that many parts of a file, each behind some memory, and memory
/// at the end. An even number of parts takes a while.
struct Spliced {
    lane: Lane,
    file: Fd,
}

fn byte_at(at: usize) -> u8 {
    ((at * at) >> 7) as u8
}

/// Where the parts of an answer lie in the file.
fn ranges(parts: u8) -> impl Iterator<Item = (usize, usize)> {
    (0..usize::from(parts)).map(|at| (at * 997, 1 + at * 3000))
}

fn expected(parts: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for (at, bytes) in ranges(parts) {
        all.extend([parts; 5]);
        all.extend((at..at + bytes).map(byte_at));
    }
    all.extend([parts; 3]);
    all
}

impl Service for Spliced {
    fn call(&self, _: &Rc<Peer>, frame: Buf) -> Serving {
        let (lane, file) = (self.lane.clone(), self.file.clone());
        Box::pin(async move {
            let parts = frame.filled()[4];
            if parts.is_multiple_of(2) {
                lane.sleep(Nanos::millis(3)).await;
            }
            let memory = |bytes: &[u8]| Piece::Memory(Buf::copy_of(bytes).freeze());
            if parts == 0 {
                return Reply::Answer(vec![Buf::copy_of(&[0; 3]).freeze()]);
            }
            let mut pieces = Vec::new();
            for (at, bytes) in ranges(parts) {
                pieces.push(memory(&[parts; 5]));
                let (at, bytes) = (at as u64, u32::try_from(bytes).expect("small"));
                pieces.push(Piece::File(FileRange { file: file.clone(), at, bytes }));
            }
            pieces.push(memory(&[parts; 3]));
            Reply::Spliced(pieces)
        })
    }

    fn answer_bytes_max(&self, _: &Buf) -> usize {
        100
    }

    fn show(&self) -> Showing {
        Box::pin(std::future::ready(()))
    }

    fn effect(&self, _: &Buf) -> Effect {
        Effect::FREE
    }
}

async fn make_file(lane: &Lane) -> Fd {
    let access = Access { write: true, create: true, ..Access::default() };
    loop {
        let Ok((file, _)) = lane.open("/file", access).await else { continue };
        let bytes: Vec<u8> = (0..FILE_BYTES).map(byte_at).collect();
        if lane.write_all(&file, 0, Buf::copy_of(&bytes).freeze(), Sync::None).await.is_ok() {
            return file;
        }
    }
}

fn stage(seed: u64, faults: Faults) -> Stage {
    let limits = ConnLimits::default();
    let principal = Principal::Anonymous;
    let terms = Terms { limits, receive_bytes: 1 << 20, send_bytes: 1 << 20, principal };
    Stage::of(seed, faults, terms, async |lane, _| {
        let file = make_file(&lane).await;
        Spliced { lane, file }
    })
}

/// Sends the requests, and reads at most so many bytes, so many at a time.
fn ask(stage: &mut Stage, requests: &[u8], bytes_max: usize, step: usize) -> Vec<u8> {
    let stream: Vec<u8> = requests.iter().flat_map(|it| [0, 0, 0, 1, *it]).collect();
    let got = stage.run(Nanos::secs(60), move |lane, socket| {
        let stream = stream.clone();
        async move {
            let mut got = Vec::new();
            let sent = send(&lane, &socket, &stream).await;
            while sent && got.len() < bytes_max {
                let (result, buf) = lane.receive(&socket, Buf::unpooled(step)).await;
                let Ok(1..) = result else { break };
                got.extend_from_slice(buf.filled());
            }
            got
        }
    });
    got.expect("the client ends")
}

const REQUESTS: [u8; 9] = [1, 0, 4, 3, 2, 0, 12, 1, 1];

#[test]
fn memory_and_files_leave_in_order_whatever_befalls_the_network_but_resets() {
    let kinds = [Fault::SplitReceive, Fault::ShortSend, Fault::SlowLink, Fault::NoBuffers];
    for seed in seeds(20) {
        let faults = kinds.into_iter().fold(Faults::none(), |all, it| all.with(it, 100_000));
        let mut stage = stage(seed, faults);
        let all: Vec<u8> = REQUESTS.into_iter().flat_map(expected).collect();
        let got = ask(&mut stage, &REQUESTS, all.len(), 4096);
        assert!(got == all, "seed {seed}: {} of {}", got.len(), all.len());
        stage.check_empty();
        assert!(0 < stage.world.reached().count_of("send-file"));
    }
}

#[test]
fn a_peer_that_goes_away_anywhere_in_a_file_leaves_nothing_held() {
    let all: Vec<u8> = REQUESTS.into_iter().flat_map(expected).collect();
    for at in (0..all.len()).step_by(9001) {
        let mut stage = stage(at as u64, Faults::none());
        let got = ask(&mut stage, &REQUESTS, at, 512);
        assert!(all.starts_with(&got));
        stage.world.reset_connections(stage.server, stage.client);
        stage.check_empty();
        assert_eq!(stage.ended.borrow().len(), 1, "at {at}");
    }
}

#[test]
fn a_file_that_ends_before_its_part_ends_the_connection() {
    let mut stage = stage(1, Faults::none());
    // The last of so many parts lies beyond the end.
    let got = ask(&mut stage, &[40, 1], usize::MAX, 4096);
    let whole = expected(40);
    assert!(got.len() < whole.len() && whole.starts_with(&got));
    assert!(matches!(stage.ended.borrow()[..], [Ended::Send(_)]), "{:?}", stage.ended.borrow());
    stage.check_empty();
}

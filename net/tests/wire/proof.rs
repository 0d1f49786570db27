//! Connections whose peer has to prove who it is before anything else.
//!
//! The service takes its first frame of this kind as the proof that begins with [`PROOF`], and answers the
//! others as if they were steps towards it. Each answer tells for whom the connection spoke.

use std::rc::Rc;

use corelane_core::buf::Buf;
use corelane_core::lane::Lane;
use corelane_core::ring::sim::{Fault, Faults, seeds};
use corelane_core::time::Nanos;
use corelane_net::conn::{
    ConnLimits, Effect, Ended, Peer, Principal, Reply, Service, Serving, Showing,
};

use crate::stage::{Stage, Terms, receive, send};

const PROOF: u8 = b'p';
const PROOF_BYTES_MAX: u32 = 64;

struct Doorman {
    lane: Lane,
}

fn answer(peer: &Peer) -> u8 {
    match peer.principal {
        Principal::Unproven => b'?',
        _ => b'!',
    }
}

impl Service for Doorman {
    fn call(&self, peer: &Rc<Peer>, frame: Buf) -> Serving {
        let (lane, told) = (self.lane.clone(), answer(peer));
        Box::pin(async move {
            lane.sleep(Nanos::millis(2)).await;
            let parts = vec![Buf::copy_of(&[0, 0, 0, 1, told]).freeze()];
            if told == b'?' && frame.filled().get(4) == Some(&PROOF) {
                return Reply::Proven(parts, Principal::Anonymous);
            }
            Reply::Answer(parts)
        })
    }

    fn answer_bytes_max(&self, _: &Buf) -> usize {
        5
    }

    fn show(&self) -> Showing {
        Box::pin(std::future::ready(()))
    }

    fn effect(&self, _: &Buf) -> Effect {
        Effect::FREE
    }
}

fn frame(first: u8, bytes: u32) -> Vec<u8> {
    let mut frame = bytes.to_be_bytes().to_vec();
    frame.resize(4 + bytes as usize, 0);
    if let Some(it) = frame.get_mut(4) {
        *it = first;
    }
    frame
}

fn stage(seed: u64, faults: Faults) -> Stage {
    let limits = ConnLimits {
        proof_bytes_max: PROOF_BYTES_MAX,
        frame_bytes_max: 100_000,
        ..ConnLimits::default()
    };
    let terms = Terms {
        limits,
        receive_bytes: 1 << 20,
        send_bytes: 1 << 20,
        principal: Principal::Unproven,
    };
    Stage::of(seed, faults, terms, async |lane, _| Doorman { lane })
}

/// Sends the stream in two pieces. Tells the answers, one letter each, until so many are here.
fn answers(stage: &mut Stage, stream: &[u8], at: usize, count: usize) -> String {
    let stream = stream.to_vec();
    let got = stage.run(Nanos::secs(30), move |lane, socket| {
        let stream = stream.clone();
        async move {
            let (first, second) = stream.split_at(at);
            let sent = send(&lane, &socket, first).await;
            lane.sleep(Nanos::millis(1)).await;
            if sent {
                send(&lane, &socket, second).await;
            }
            receive(&lane, &socket, 5 * count).await
        }
    });
    let got = got.expect("an end");
    got.chunks(5).map(|it| char::from(it[4])).collect()
}

/// Steps of a proof, the proof, and at once behind it frames that are larger than a proof may be.
#[test]
fn what_a_frame_may_be_changes_with_the_proof_and_between_two_frames() {
    let stream = [
        frame(b'a', PROOF_BYTES_MAX),
        frame(b'b', 0),
        frame(PROOF, 10),
        frame(b'c', PROOF_BYTES_MAX + 1),
        frame(PROOF, 3_000),
        frame(b'd', 3),
    ]
    .concat();
    let ends = (0..200).chain((200..stream.len()).step_by(97)).chain([stream.len()]);
    for at in ends {
        let mut stage = stage(at as u64, Faults::none());
        assert_eq!(answers(&mut stage, &stream, at, 6), "???!!!", "split at {at}");
        stage.check_empty();
        assert!(matches!(stage.ended.borrow()[..], [Ended::Closed]), "{:?}", stage.ended.borrow());
    }
    for seed in seeds(20) {
        let faults = Faults::none().with(Fault::SplitReceive, 300_000);
        let mut stage = stage(seed, faults);
        assert_eq!(answers(&mut stage, &stream, 5, 6), "???!!!", "seed {seed}");
        stage.check_empty();
    }
}

#[test]
fn a_frame_too_large_for_a_proof_ends_the_connection_of_who_has_not_proven() {
    for (stream, told) in [
        (frame(b'a', PROOF_BYTES_MAX + 1), ""),
        ([frame(b'a', 1), frame(PROOF, PROOF_BYTES_MAX + 1)].concat(), "?"),
        ([frame(PROOF, 1), frame(b'a', 100_001)].concat(), "?"),
    ] {
        let mut stage = stage(1, Faults::none());
        // More than there are: until the other end closes.
        assert_eq!(answers(&mut stage, &stream, 0, 9), told);
        stage.check_empty();
        let ended = stage.ended.borrow();
        assert!(matches!(ended[..], [Ended::Frame(_)]), "{ended:?}");
    }
}

/// However steadily it goes on with its steps.
#[test]
fn who_does_not_prove_in_time_is_let_go() {
    let mut stage = stage(1, Faults::none());
    let steps = stage.run(Nanos::secs(100), |lane, socket| async move {
        for step in 0.. {
            let sent = send(&lane, &socket, &frame(b'a', 1)).await;
            if !sent || receive(&lane, &socket, 5).await.len() < 5 {
                return step;
            }
            lane.sleep(Nanos::secs(1)).await;
        }
        0
    });
    assert!((9..=11).contains(&steps.expect("an end")), "{steps:?} steps, one a second");
    stage.check_empty();
    assert!(matches!(stage.ended.borrow()[..], [Ended::Unproven]), "{:?}", stage.ended.borrow());
}

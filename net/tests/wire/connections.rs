//! Connections in the simulator: thousands of short ones, cut at every byte.

use std::rc::Rc;

use corelane_core::lane::{Importance, join_all};
use corelane_core::ring::sim::{Fault, Faults, seeds};
use corelane_core::time::Nanos;
use corelane_net::conn::{ConnLimits, Ended};

use crate::stage::{
    APPEND, BYSTANDER, CHANGE, DONE, GROUP, LONG, LONG_SLICES, LOOK, PORT, SHOWN, Stage,
    UNANSWERED, answer_to, both, receive, request, send,
};

/// Small and large requests, quick and slow, their answers small and large.
fn requests() -> Vec<Vec<u8>> {
    sized(9_000, 40_000, 2_000)
}

/// The same, short enough for networks that carry a byte at a time.
fn short_requests() -> Vec<Vec<u8>> {
    sized(300, 700, 400)
}

fn sized(first: usize, second: usize, answer: u16) -> Vec<Vec<u8>> {
    vec![
        request(3, 5, 1, 0),
        request(0, 300, 2, 90),
        request(0, 0, 3, first),
        request(2, 7, 4, 0),
        request(0, 1, 5, second),
        request(1, answer, 6, 1),
    ]
}

fn short() -> ConnLimits {
    ConnLimits { in_flight_max: 3, pending_bytes_max: 2_500, ..ConnLimits::default() }
}

/// Sends the requests in two pieces and reads every answer.
#[track_caller]
fn split_at(seed: u64, faults: &Faults, requests: &[Vec<u8>], at: usize) {
    let stream = requests.concat();
    let expected: Vec<u8> = requests.iter().flat_map(|it| answer_to(it)).collect();
    let total = expected.len();
    let mut stage = Stage::new(seed, faults.clone(), short(), 1 << 20);
    let got = stage.run(Nanos::secs(25), move |lane, socket| {
        let stream = stream.clone();
        async move {
            let sending = async {
                let (first, second) = stream.split_at(at);
                assert!(send(&lane, &socket, first).await);
                lane.sleep(Nanos::millis(1)).await;
                assert!(send(&lane, &socket, second).await);
            };
            // Both at once: who only sends is stopped by answers that it does not read.
            both(sending, receive(&lane, &socket, total)).await.1
        }
    });
    let got = got.unwrap_or_else(|| panic!("no end: seed {seed}, split at {at}"));
    assert!(got == expected, "answers differ: seed {seed}, split at {at}");
    assert_eq!(*stage.seen.effects.borrow(), [1, 2, 3, 4, 5, 6], "seed {seed}, split at {at}");
    assert!(stage.seen.open_most.get() <= 3);
    assert!(stage.seen.promised_most.get() <= 2_500, "{}", stage.seen.promised_most.get());
    assert!(stage.held().1 <= 1 << 20, "{} bytes held, seed {seed}", stage.held().1);
    stage.check_empty();
}

#[test]
fn answers_come_in_order_however_requests_are_cut() {
    let bytes = requests().concat().len();
    // Every byte near an edge of a frame, and strides through the large ones.
    let mut edges = vec![0];
    for it in requests() {
        edges.push(edges.last().expect("not empty") + it.len());
    }
    let near = |at: &usize| edges.iter().any(|it| at.abs_diff(*it) <= 12);
    for at in (0..=bytes).filter(|at| near(at) || at % 997 == 0) {
        split_at(at as u64, &Faults::none(), &requests(), at);
    }
}

#[test]
fn answers_come_in_order_whatever_befalls_the_network_but_resets() {
    let kinds = [Fault::SplitReceive, Fault::ShortSend, Fault::SlowLink, Fault::NoBuffers];
    let faults = kinds.into_iter().fold(Faults::none(), |all, it| all.with(it, 200_000));
    let requests = short_requests();
    let bytes = requests.concat().len();
    for seed in seeds(bytes as u64) {
        split_at(seed, &faults, &requests, seed as usize % bytes);
    }
}

/// A client that goes away anywhere leaves nothing behind.
#[test]
fn a_connection_cut_at_any_byte_gives_back_all_it_held() {
    let stream = requests().concat();
    let every = (0..600).chain((600..stream.len()).step_by(331));
    for (at, reset) in every.flat_map(|at| [(at, false), (at, true)]) {
        let mut stage = Stage::new(at as u64, Faults::none(), short(), 1 << 20);
        let cut = stream[..at].to_vec();
        let sent = stage.run(Nanos::secs(5), move |lane, socket| {
            let cut = cut.clone();
            async move {
                let sent = cut.is_empty() || send(&lane, &socket, &cut).await;
                if reset {
                    // The connection is held until the world cuts it.
                    lane.spawn("held", Importance::Serving, {
                        let lane = lane.clone();
                        async move {
                            lane.sleep(Nanos::secs(1000)).await;
                            drop(socket);
                        }
                    });
                }
                sent
            }
        });
        assert_eq!(sent, Some(true), "at {at}");
        if reset {
            stage.world.reset_connections(stage.server, stage.client);
        }
        stage.check_empty();
        assert_eq!(stage.ended.borrow().len(), 1, "at {at}");
    }
}

/// A byte now and then is progress to the eye and none to the deadline.
#[test]
fn a_frame_that_drips_is_cut_off_at_its_deadline() {
    let limits = ConnLimits { progress: Nanos::secs(30), ..ConnLimits::default() };
    let mut stage = Stage::new(1, Faults::none(), limits, 1 << 20);
    let seconds = stage.run(Nanos::secs(100), |lane, socket| async move {
        let began = lane.now();
        // A whole request first, so that the deadline is not the connection's age.
        assert!(send(&lane, &socket, &request(0, 1, 1, 0)).await);
        receive(&lane, &socket, 5).await;
        lane.sleep(Nanos::secs(20)).await;
        let stream = request(0, 1, 2, 200);
        for byte in stream {
            lane.sleep(Nanos::secs(1)).await;
            if !send(&lane, &socket, &[byte]).await {
                break;
            }
        }
        (lane.now().0 - began.0) / 1_000_000_000
    });
    let seconds = seconds.expect("an end");
    assert!((50..=54).contains(&seconds), "{seconds} s");
    assert!(matches!(stage.ended.borrow()[..], [Ended::Stalled]), "{:?}", stage.ended.borrow());
    stage.check_empty();
}

#[test]
fn a_peer_that_reads_nothing_is_let_go_and_never_piles_up_answers() {
    let limits = ConnLimits {
        in_flight_max: 64,
        pending_bytes_max: 100_000,
        send_stall: Nanos::secs(60),
        ..ConnLimits::default()
    };
    let mut stage = Stage::new(1, Faults::none(), limits, 1 << 20);
    stage.run(Nanos::secs(300), |lane, socket| async move {
        let stream: Vec<u8> = (0..1000).flat_map(|_| request(0, 60_000, 1, 0)).collect();
        send(&lane, &socket, &stream).await;
        lane.sleep(Nanos::secs(200)).await;
        drop(socket);
    });
    assert!(stage.seen.promised_most.get() <= 100_000, "{}", stage.seen.promised_most.get());
    assert!(stage.seen.effects.borrow().len() < 100, "{}", stage.seen.effects.borrow().len());
    assert!(matches!(stage.ended.borrow()[..], [Ended::Unread]), "{:?}", stage.ended.borrow());
    stage.check_empty();
}

#[test]
fn silence_ends_a_connection_and_a_long_request_does_not() {
    let limits = ConnLimits { idle: Nanos::millis(100), ..ConnLimits::default() };
    let mut stage = Stage::new(1, Faults::none(), limits, 1 << 20);
    let got = stage.run(Nanos::secs(10), |lane, socket| async move {
        assert!(send(&lane, &socket, &request(200, 3, 9, 0)).await);
        let answered = receive(&lane, &socket, 7).await.len();
        let began = lane.now();
        receive(&lane, &socket, 1).await;
        (answered, (lane.now().0 - began.0) / 1_000_000)
    });
    let (answered, silent_ms) = got.expect("an end");
    assert_eq!(answered, 7);
    assert!((99..=110).contains(&silent_ms), "{silent_ms} ms");
    assert!(matches!(stage.ended.borrow()[..], [Ended::Idle]));
}

#[test]
fn nothing_behind_a_refused_request_is_served() {
    let mut stage = Stage::new(1, Faults::none(), ConnLimits::default(), 1 << 20);
    let got = stage.run(Nanos::secs(10), |lane, socket| async move {
        let stream = [request(5, 1, 1, 0), request(u8::MAX, 0, 2, 0), request(0, 1, 3, 0)].concat();
        assert!(send(&lane, &socket, &stream).await);
        receive(&lane, &socket, 100).await
    });
    assert_eq!(got.expect("closed"), [0, 0, 0, 1, 1], "what came before is answered");
    assert_eq!(*stage.seen.effects.borrow(), [1, 2]);
    assert!(matches!(&stage.ended.borrow()[..], [Ended::Refused(why)] if why == "as asked"));
    stage.check_empty();
}

#[test]
fn what_is_open_is_answered_when_the_node_stops() {
    let mut stage = Stage::new(1, Faults::none(), ConnLimits::default(), 1 << 20);
    let crowd = Rc::clone(&stage.crowd);
    let got = stage.run(Nanos::secs(10), move |lane, socket| {
        let crowd = Rc::clone(&crowd);
        async move {
            assert!(send(&lane, &socket, &request(50, 4, 8, 0)).await);
            lane.sleep(Nanos::millis(20)).await;
            crowd.borrow().as_ref().expect("it runs").stop();
            receive(&lane, &socket, 100).await
        }
    });
    assert_eq!(got.expect("closed"), [0, 0, 0, 4, 8, 8, 8, 8]);
    stage.check_empty();
}

/// Many half-received large requests cannot wait for each other for ever, nor keep small ones out.
#[test]
fn a_lane_full_of_large_requests_serves_small_ones_and_finishes_the_large() {
    const CONNECTIONS: usize = 8;
    const LARGE: usize = 400_000;
    for seed in seeds(3) {
        let faults = Faults::none().with(Fault::SplitReceive, 100_000);
        let mut stage = Stage::new(seed, faults, ConnLimits::default(), 1 << 20);
        let addr = stage.world.addr(stage.server, PORT);
        let got = stage.run(Nanos::secs(25), move |lane, small| async move {
            let mut all = Vec::new();
            for number in 0..CONNECTIONS {
                let lane = lane.clone();
                all.push(async move {
                    let socket = lane.connect(addr).await.expect("connected").socket;
                    let bytes = request(1, 1, number as u8, LARGE);
                    assert!(send(&lane, &socket, &bytes).await);
                    receive(&lane, &socket, 5).await.len()
                });
            }
            let smalls = async {
                for _ in 0..100 {
                    assert!(send(&lane, &small, &request(0, 1, 200, 0)).await);
                    assert_eq!(receive(&lane, &small, 5).await.len(), 5);
                }
            };
            both(join_all(all), smalls).await.0
        });
        assert_eq!(got, Some(vec![5; CONNECTIONS]), "seed {seed}");
        let most = stage.held().1;
        // The budget, one that passes it with what it needs while it grows, and blocks on their way.
        assert!(most <= (1 << 20) + 3 * LARGE + 2 * CONNECTIONS * 64 * 1024, "seed {seed}: {most}");
    }
}

/// Whoever asks without end has a turn like everybody else. Between two turns of another task of the
/// lane a few of the flood's requests are served, and not all that have come.
#[test]
fn a_flood_of_requests_gives_way_to_every_other_task() {
    const AT_ONCE: usize = 16;
    let mut most = 0;
    for seed in seeds(10) {
        let mut stage = Stage::new(seed, Faults::none(), ConnLimits::default(), 1 << 20);
        let got = stage.run(Nanos::secs(25), |lane, flood| async move {
            let first = request(0, 1, BYSTANDER, 0);
            let requests: Vec<u8> = (0..1000).flat_map(|_| request(0, 1, 1, 0)).collect();
            assert!(send(&lane, &flood, &[first, requests].concat()).await);
            receive(&lane, &flood, 1001 * 5).await.len()
        });
        assert_eq!(got, Some(1001 * 5), "seed {seed}");
        let served = stage.seen.served_between_most.get();
        assert!(served <= AT_ONCE, "seed {seed}: {served}");
        most = most.max(served);
    }
    assert_eq!(most, AT_ONCE, "no flood had all of its turn");
}

/// A request that accounts for its work gives way after each slice of it, to every other task of the
/// lane, but not to what came behind it on its own connection.
#[test]
fn a_long_request_gives_way_to_others_and_keeps_its_place() {
    let mut most = 0;
    for seed in seeds(10) {
        let mut stage = Stage::new(seed, Faults::none(), ConnLimits::default(), 1 << 20);
        let got = stage.run(Nanos::secs(25), |lane, socket| async move {
            let numbers = [BYSTANDER, 1, LONG, 2, LONG, 3];
            let requests: Vec<u8> =
                numbers.iter().flat_map(|number| request(0, 1, *number, 0)).collect();
            assert!(send(&lane, &socket, &requests).await);
            receive(&lane, &socket, 6 * 5).await.len()
        });
        assert_eq!(got, Some(6 * 5), "seed {seed}");
        assert_eq!(*stage.seen.effects.borrow(), [BYSTANDER, 1, LONG, 2, LONG, 3], "seed {seed}");
        assert_eq!(stage.seen.slices.get(), 2 * LONG_SLICES);
        let slices = stage.seen.slices_between_most.get();
        assert!(slices <= 1, "seed {seed}: {slices} slices");
        most = most.max(slices);
    }
    assert_eq!(most, 1, "no bystander looked on");
}

/// An append goes on beside others; who looks or changes begins when it has ended, and who touches the
/// same behind them after them. A look may take its time, and who touches something else waits for nobody.
#[test]
fn a_request_begins_once_it_cannot_miss_what_an_earlier_one_does() {
    let (first, more) = (LOOK, LOOK + 1);
    let stream = [
        request(200, 1, first, 0),
        request(10, 1, APPEND, 0),
        request(5, 1, APPEND + 1, 0),
        request(0, 1, 1, 0),
        request(5, 1, more, 0),
        request(0, 1, 2, 0),
        request(10, 1, CHANGE, 0),
        request(0, 1, 3, 0),
        request(0, 1, APPEND + 2, 0),
        request(1, 1, GROUP, 0),
    ];
    let expected: Vec<u8> = stream.iter().flat_map(|it| answer_to(it)).collect();
    let (stream, bytes) = (stream.concat(), expected.len());
    let mut stage = Stage::new(1, Faults::none(), ConnLimits::default(), 1 << 20);
    let got = stage.run(Nanos::secs(5), move |lane, socket| {
        let stream = stream.clone();
        async move {
            assert!(send(&lane, &socket, &stream).await);
            receive(&lane, &socket, bytes).await
        }
    });
    assert_eq!(got, Some(expected));
    let (begun, done) = (|it: u8| it, |it: u8| DONE + it);
    let order = [
        begun(first),
        begun(APPEND),
        begun(APPEND + 1),
        1,
        2,
        3,
        begun(GROUP),
        done(GROUP),
        done(APPEND + 1),
        done(APPEND),
        begun(more),
        begun(CHANGE),
        done(more),
        done(CHANGE),
        begun(APPEND + 2),
        done(APPEND + 2),
        done(first),
    ];
    assert_eq!(*stage.seen.effects.borrow(), order);
    stage.check_empty();
}

/// Appends without an answer have ended before they are seen. Who looks behind them begins once they are,
/// and who adds behind the look after it; all that was added before is asked for once.
#[test]
fn what_was_added_without_an_answer_is_seen_by_who_looks_behind_it() {
    let stream = [
        request(0, UNANSWERED, APPEND, 0),
        request(3, UNANSWERED, APPEND + 1, 0),
        request(0, 1, LOOK, 0),
        request(0, 1, LOOK + 1, 0),
        request(0, UNANSWERED, APPEND + 2, 0),
        request(0, 1, 1, 0),
        request(0, 1, GROUP, 0),
        request(0, 1, LOOK + 2, 0),
        request(0, 1, LOOK + 3, 0),
    ];
    let unanswered = |it: &&Vec<u8>| it[5..7] == UNANSWERED.to_be_bytes();
    let expected: Vec<u8> =
        stream.iter().filter(|it| !unanswered(it)).flat_map(|it| answer_to(it)).collect();
    let (stream, bytes) = (stream.concat(), expected.len());
    let mut stage = Stage::new(1, Faults::none(), ConnLimits::default(), 1 << 20);
    let got = stage.run(Nanos::secs(5), move |lane, socket| {
        let stream = stream.clone();
        async move {
            assert!(send(&lane, &socket, &stream).await);
            receive(&lane, &socket, bytes).await
        }
    });
    assert_eq!(got, Some(expected));
    let order: Vec<u8> =
        stage.seen.effects.borrow().iter().copied().filter(|it| *it < DONE + APPEND).collect();
    let expected = [
        APPEND,
        APPEND + 1,
        1,
        GROUP,
        SHOWN,
        LOOK,
        LOOK + 1,
        APPEND + 2,
        SHOWN,
        LOOK + 2,
        LOOK + 3,
    ];
    assert_eq!(order, expected);
    stage.check_empty();
}

/// A request may wait for as long as its client said, and nobody hears its answer.
#[test]
fn a_peer_that_is_gone_is_not_waited_for_longer_than_one_that_does_not_read() {
    for reset in [false, true] {
        let limits = ConnLimits { send_stall: Nanos::millis(100), ..ConnLimits::default() };
        let mut stage = Stage::new(1, Faults::none(), limits, 1 << 20);
        let stream = [request(250, 1, 1, 9_000), request(250, 1, 2, 0)].concat();
        let sent = stage.run(Nanos::secs(5), move |lane, socket| {
            let stream = stream.clone();
            async move {
                let sent = send(&lane, &socket, &stream).await;
                lane.sleep(Nanos::millis(10)).await;
                sent
            }
        });
        assert_eq!(sent, Some(true));
        if reset {
            stage.world.reset_connections(stage.server, stage.client);
        }
        let began = stage.world.now();
        stage.check_empty();
        assert!(stage.world.now() < began + Nanos::millis(200), "it waited to the end");
        assert_eq!(*stage.seen.effects.borrow(), [1, 2], "both had begun");
    }
}

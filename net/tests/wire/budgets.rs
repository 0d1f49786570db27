//! What connections may hold, looked at after everything that happens in a simulated world: peers that ask
//! without end, read nothing or little, and neighbours that must be served all the same.

use corelane_core::lane::{Lane, join_all};
use corelane_core::limits::BLOCK_BYTES;
use corelane_core::ring::Fd;
use corelane_core::ring::sim::{Fault, Faults, seeds};
use corelane_core::time::Nanos;
use corelane_net::conn::{ConnLimits, Crowd, Ended};

use crate::stage::{PORT, Stage, answer_to, both, receive, request, send};

/// What the network takes of one direction of a connection.
const WINDOW_BYTES: usize = 64 * 1024;

fn lent(crowd: &Crowd) -> usize {
    crowd.lane().pool().stats().lent_bytes
}

/// A stream of the same request.
fn again(count: usize, request: &[u8]) -> Vec<u8> {
    request.repeat(count)
}

/// However much a peer has sent ahead: one block of it is here, with the few requests that are open and
/// their answers. The rest stays with the kernel, and so with the peer.
#[test]
fn who_asks_without_end_and_reads_nothing_costs_what_is_declared() {
    const IN_FLIGHT: usize = 4;
    const PENDING: usize = 16 * 1024;
    // A block that came, one that is made for what is left of it, and a request that waits to be started.
    const RECEIVED: usize = 3 * BLOCK_BYTES;
    // Small answers lie in blocks of their own until they are moved together; one begins before it is
    // seen that those before it were enough.
    const MOST: usize = RECEIVED + IN_FLIGHT * BLOCK_BYTES + PENDING + 2 * BLOCK_BYTES;
    let limits = ConnLimits {
        in_flight_max: IN_FLIGHT,
        pending_bytes_max: PENDING,
        send_stall: Nanos::secs(5),
        ..ConnLimits::default()
    };
    for (wait_ms, answer, more) in [(0, 60, 0), (0, 900, 0), (1, 60, 100), (1, 3_000, 1_500)] {
        let what = format!("answers of {answer} to {more} after {wait_ms} ms");
        let mut stage = Stage::new(1, Faults::none(), limits.clone(), 1 << 20);
        stage.run_watched(
            Nanos::secs(60),
            move |lane, socket| async move {
                // More than the network between them takes of questions, and of answers.
                let count = 2 * WINDOW_BYTES / usize::from(answer).min(more.max(60));
                send(&lane, &socket, &again(count, &request(wait_ms, answer, 1, more))).await;
                lane.sleep(Nanos::secs(20)).await;
            },
            |crowd| assert!(lent(crowd) <= MOST, "{what}: {} of {MOST} bytes", lent(crowd)),
        );
        assert!(matches!(stage.ended.borrow()[..], [Ended::Unread]), "{:?}", stage.ended.borrow());
        stage.check_empty();
    }
}

/// Asks for answers and reads all of them at once.
async fn ask(lane: &Lane, socket: &Fd, asked: &[Vec<u8>]) -> bool {
    let expected: Vec<u8> = asked.iter().flat_map(|it| answer_to(it)).collect();
    let stream = asked.concat();
    let (sent, got) =
        both(send(lane, socket, &stream), receive(lane, socket, expected.len())).await;
    sent && got == expected
}

/// While the lane's answers are spent, who left the most unread is served no further; who reads is. When
/// the answers have drained, it goes on where it stopped.
#[test]
fn a_lane_whose_answers_are_spent_stops_who_does_not_read_and_goes_on_when_they_drain() {
    const SEND: usize = 60_000;
    const ANSWER: u16 = 10_000;
    const ASKED: usize = 40;
    // Blocks of an answer.
    const EACH: usize = 16 * 1024;
    let mut stage = Stage::with(1, Faults::none(), ConnLimits::default(), 1 << 20, SEND);
    let addr = stage.world.addr(stage.server, PORT);
    let effects = std::rc::Rc::clone(&stage.seen);
    let served = move || effects.effects.borrow().iter().filter(|it| **it == 1).count();
    let got = stage.run_watched(
        Nanos::secs(50),
        move |lane, unread| {
            let served = served.clone();
            async move {
                let asked = vec![request(0, ANSWER, 1, 0); ASKED];
                assert!(send(&lane, &unread, &asked.concat()).await);
                lane.sleep(Nanos::secs(1)).await;
                let stopped = served();
                assert!(SEND <= stopped * EACH, "{stopped} served: the lane is not spent");
                assert!(stopped < ASKED, "all were served");
                let reads = lane.connect(addr).await.expect("connected").socket;
                for _ in 0..20 {
                    assert!(ask(&lane, &reads, &[request(1, ANSWER, 2, 0)]).await);
                }
                assert_eq!(served(), stopped, "served beyond what the lane may hold");
                let expected: Vec<u8> = asked.iter().flat_map(|it| answer_to(it)).collect();
                receive(&lane, &unread, expected.len()).await == expected
            }
        },
        |crowd| {
            let held = crowd.outbound().held();
            assert!(held <= SEND + 2 * EACH, "{held} bytes of answers");
        },
    );
    assert_eq!(got, Some(true));
    stage.check_empty();
}

/// A byte now and then is enough while there is room, and not when others need it.
#[test]
fn a_slow_reader_is_let_go_only_while_the_lane_is_spent() {
    const ANSWERS: usize = 40;
    for (send_bytes, is_let_go) in [(50_000, true), (4 << 20, false)] {
        let limits = ConnLimits { send_stall: Nanos::secs(10), ..ConnLimits::default() };
        let mut stage = Stage::with(1, Faults::none(), limits, 1 << 20, send_bytes);
        let seconds = stage.run(Nanos::secs(300), |lane, socket| async move {
            let asked = again(ANSWERS, &request(0, 10_000, 1, 0));
            assert!(send(&lane, &socket, &asked).await);
            let began = lane.now();
            // Nothing is long enough unread for the deadline of a single send.
            for _ in 0..30 {
                lane.sleep(Nanos::secs(3)).await;
                if receive(&lane, &socket, 4_096).await.is_empty() {
                    break;
                }
            }
            (lane.now().0 - began.0) / 1_000_000_000
        });
        let seconds = seconds.expect("an end");
        if is_let_go {
            assert!(
                matches!(stage.ended.borrow()[..], [Ended::Unread]),
                "{:?}",
                stage.ended.borrow()
            );
            assert!(stage.seen.effects.borrow().len() < ANSWERS, "all were served");
        } else {
            assert!((90..100).contains(&seconds), "let go after {seconds} s");
        }
        stage.check_empty();
    }
}

/// Small answers that wait lie together, not in a block each.
#[test]
fn small_answers_that_wait_take_the_room_of_their_bytes() {
    const COUNT: usize = 10_000;
    let limits = ConnLimits { in_flight_max: 64, ..ConnLimits::default() };
    let mut stage = Stage::new(1, Faults::none(), limits, 1 << 20);
    let got = stage.run_watched(
        Nanos::secs(50),
        |lane, socket| async move {
            let asked = vec![request(0, 50, 1, 0); COUNT];
            let expected: Vec<u8> = asked.iter().flat_map(|it| answer_to(it)).collect();
            let reading = async {
                lane.sleep(Nanos::secs(1)).await;
                receive(&lane, &socket, expected.len()).await
            };
            both(send(&lane, &socket, &asked.concat()), reading).await.1 == expected
        },
        |crowd| {
            // What is being sent and what waits behind it, 64 answers each: two blocks, and the ends of two.
            let held = crowd.outbound().held();
            assert!(held <= 5 * BLOCK_BYTES, "{held} bytes");
        },
    );
    assert_eq!(got, Some(true));
    stage.check_empty();
}

/// When the rest of the lane has taken all memory, requests are served one by one: each answer then lies
/// outside of the pool, and there is one of a connection at a time.
#[test]
fn without_memory_a_connection_serves_one_request_at_a_time() {
    const COUNT: usize = 30;
    let mut stage = Stage::new(1, Faults::none(), ConnLimits::default(), 1 << 20);
    let crowd = std::rc::Rc::clone(&stage.crowd);
    let got = stage.run(Nanos::secs(50), move |lane, socket| {
        let crowd = crowd.borrow().clone().expect("it runs");
        async move {
            let asked = vec![request(2, 5_000, 1, 0); COUNT];
            assert!(ask(&lane, &socket, &asked[..1]).await);
            let pool = crowd.lane().pool();
            let mut hogged = Vec::new();
            for bytes in [64 << 20, 1 << 20, BLOCK_BYTES] {
                hogged.extend(std::iter::from_fn(|| pool.get(bytes)));
            }
            ask(&lane, &socket, &asked).await
        }
    });
    assert_eq!((got, stage.seen.open_most.get()), (Some(true), 1));
    stage.check_empty();
}

/// Peers of every kind at once, on a network that misbehaves: no budget is passed by more than it says.
#[test]
fn no_budget_is_exceeded_whatever_peers_do() {
    const PEERS: usize = 6;
    const RECEIVE: usize = 96 * 1024;
    const SEND: usize = 128 * 1024;
    const ANSWER_MOST: usize = 64 * 1024;
    // A frame of at most 30,000 bytes lies in this.
    const FRAME_BYTES: usize = 32 * 1024;
    let kinds = [Fault::SplitReceive, Fault::ShortSend, Fault::SlowLink, Fault::NoBuffers];
    let faults = kinds.into_iter().fold(Faults::none(), |all, it| all.with(it, 50_000));
    let mut most = (0, 0);
    for seed in seeds(5) {
        let limits = ConnLimits {
            in_flight_max: 8,
            pending_bytes_max: 100_000,
            progress: Nanos::secs(3),
            send_stall: Nanos::secs(3),
            ..ConnLimits::default()
        };
        let mut stage = Stage::with(seed, faults.clone(), limits, RECEIVE, SEND);
        let addr = stage.world.addr(stage.server, PORT);
        let done = stage.run_watched(
            Nanos::secs(200),
            move |lane, _| async move {
                let all: Vec<_> = (0..PEERS).map(|_| peer(lane.clone(), addr)).collect();
                join_all(all).await.len()
            },
            |crowd| {
                let held = crowd.outbound().held();
                assert!(held <= SEND + PEERS * ANSWER_MOST, "seed {seed}: {held} of answers");
                // One passes the budget with what it needs while it grows; of each, a block may come,
                // behind another, and then both lie in one of the next size.
                let held = crowd.budget().held();
                let bound = RECEIVE + 3 * FRAME_BYTES + PEERS * 5 * BLOCK_BYTES;
                assert!(held <= bound, "seed {seed}: {held} of requests");
            },
        );
        assert_eq!(done, Some(PEERS), "seed {seed}");
        let crowd = stage.crowd.borrow().clone().expect("it runs");
        most = (most.0.max(crowd.outbound().held_most()), most.1.max(crowd.budget().held_most()));
        stage.check_empty();
    }
    assert!(SEND <= most.0, "answers were never spent: {} bytes", most.0);
    assert!(RECEIVE / 2 <= most.1, "requests never filled half of their budget: {} bytes", most.1);
}

/// Asks much, and reads all, some or nothing of it.
async fn peer(lane: Lane, addr: std::net::SocketAddr) {
    let draw = |below: u64| lane.random() % below;
    let Ok(connection) = lane.connect(addr).await else { return };
    let socket = connection.socket;
    let largest = [20, 2_000, 60_000][draw(3) as usize];
    let frames = [10, 1_000, 30_000 - 8][draw(3) as usize];
    let asked: Vec<_> = (0..40)
        .map(|_| {
            let (wait_ms, answer) = (draw(100) as u8, draw(largest) as u16);
            request(wait_ms, answer, 1, draw(frames) as usize)
        })
        .collect();
    let all: usize = asked.iter().map(|it| answer_to(it).len()).sum();
    let share = [0, draw(all as u64) as usize, all][draw(3) as usize];
    let asked = asked.concat();
    let reading = async {
        receive(&lane, &socket, share).await;
        if share < all {
            lane.sleep(Nanos::secs(10)).await;
        }
    };
    let sending = async {
        for piece in asked.chunks(10_000) {
            if !send(&lane, &socket, piece).await {
                break;
            }
        }
    };
    both(sending, reading).await;
}

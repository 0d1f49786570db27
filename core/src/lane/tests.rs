//! Stories of one lane on a ring of paper: time moves when the lane sleeps, operations complete
//! when the script says so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use super::*;
use crate::buf::{Buf, Pool};
use crate::ids::LaneId;
use crate::ring::{Closing, Completion, Errno, Fd, Op, Outcome, Ring, Ticket, Wait};
use crate::sync::{Event, Permits, Queue, once};
use crate::time::{Nanos, WallMillis};

#[derive(Default)]
struct Paper {
    now: u64,
    in_flight: Vec<Option<Op>>,
    room: usize,
    due: VecDeque<Completion>,
    cancelled: Vec<Ticket>,
    /// Tickets to give before new ones.
    reuse: Vec<u32>,
    waits: usize,
}

struct PaperRing(Rc<RefCell<Paper>>, Pool);

impl Ring for PaperRing {
    fn submit(&mut self, op: Op) -> Result<Ticket, Op> {
        let mut paper = self.0.borrow_mut();
        if paper.room <= paper.in_flight.iter().flatten().count() {
            return Err(op);
        }
        if let Some(index) = paper.reuse.pop() {
            assert!(paper.in_flight[index as usize].replace(op).is_none(), "still in flight");
            return Ok(Ticket(index));
        }
        paper.in_flight.push(Some(op));
        Ok(Ticket(u32::try_from(paper.in_flight.len() - 1).expect("few")))
    }

    fn cancel(&mut self, ticket: Ticket) {
        self.0.borrow_mut().cancelled.push(ticket);
    }

    fn turn(&mut self, wait: Wait, completed: &mut Vec<Completion>) {
        let mut paper = self.0.borrow_mut();
        paper.waits += usize::from(wait != Wait::No);
        completed.extend(paper.due.drain(..));
        if let (Wait::Until(Some(at)), true) = (wait, completed.is_empty()) {
            paper.now = paper.now.max(at.0);
        }
    }

    fn now(&self) -> Nanos {
        Nanos(self.0.borrow().now)
    }

    fn wall(&self) -> WallMillis {
        WallMillis(0)
    }

    fn random(&mut self) -> u64 {
        4
    }

    fn lane(&self) -> LaneId {
        LaneId(0)
    }

    fn pool(&self) -> &Pool {
        &self.1
    }

    fn polled(&mut self) {
        self.0.borrow_mut().now += 1;
    }

    fn describe(&self) -> Vec<String> {
        vec!["paper".to_owned()]
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

fn lane_on_paper(room: usize) -> (Executor, Rc<RefCell<Paper>>) {
    let paper = Rc::new(RefCell::new(Paper { room, ..Paper::default() }));
    let ring = PaperRing(Rc::clone(&paper), Pool::new(1 << 20));
    (Executor::new(Box::new(ring)), paper)
}

fn complete(paper: &Rc<RefCell<Paper>>, index: usize, result: Result<Outcome, Errno>) {
    let mut paper = paper.borrow_mut();
    let op = paper.in_flight[index].take();
    let ticket = Ticket(u32::try_from(index).expect("few"));
    paper.due.push_back(Completion { ticket, result, op, last: true });
}

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

#[test]
fn sleepers_wake_in_the_order_of_their_times() {
    let (mut executor, _) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let told = Told::default();
    for ms in [30u64, 10, 20] {
        let (lane2, told) = (lane.clone(), told.clone());
        lane.spawn("sleeper", Importance::Serving, async move {
            lane2.sleep(Nanos::millis(ms)).await;
            told.tell(format!("{ms}@{}", lane2.now().as_millis()));
        });
    }
    let told2 = told.clone();
    executor.block_on(async move {
        let late = lane.now() + Nanos::millis(5);
        assert_eq!(lane.until(late, lane.sleep(Nanos::millis(40))).await, Err(TimedOut));
        told2.tell("gave-up");
        lane.sleep(Nanos::millis(40)).await;
    });
    assert_eq!(told.story(), "gave-up 10@10 20@20 30@30");
}

#[test]
fn work_that_is_done_is_not_slept_upon() {
    let (mut executor, paper) = lane_on_paper(1);
    assert_eq!(executor.block_on(async { 7 }), 7);
    assert_eq!(
        paper.borrow().waits,
        0,
        "a ring that sleeps until something comes would sleep for ever"
    );
}

#[test]
fn a_letter_written_last_is_told_of_although_its_writer_ends() {
    let (mut executor, paper) = lane_on_paper(1);
    let lane = executor.lane().clone();
    executor.block_on(async move { lane.ring_bell(LaneId(1)) });
    let told = paper.borrow().in_flight.iter().flatten().map(|it| format!("{it:?}")).collect();
    let told: Vec<String> = told;
    assert_eq!(told, ["Wake { lane: LaneId(1) }"]);
}

#[test]
fn a_full_ring_parks_the_task_and_it_tries_again() {
    let (mut executor, paper) = lane_on_paper(1);
    let lane = executor.lane().clone();
    let told = Told::default();
    for name in ["first", "second"] {
        let (lane2, told) = (lane.clone(), told.clone());
        lane.spawn(name, Importance::Serving, async move {
            let result = lane2.stat(name).await;
            told.tell(format!("{name}={:?}", result.expect_err("the script fails it")));
        });
    }
    executor.step();
    assert_eq!(paper.borrow().in_flight.len(), 1);
    complete(&paper, 0, Err(Errno::NOENT));
    for _ in 0..3 {
        executor.step();
    }
    assert_eq!(paper.borrow().in_flight.len(), 2);
    complete(&paper, 1, Err(Errno::IO));
    for _ in 0..3 {
        executor.step();
    }
    assert_eq!(told.story(), "first=ENOENT second=EIO");
    assert!(0 < lane.counts().ring_full);
}

#[test]
fn a_ticket_may_come_again_before_its_first_answer_was_read() {
    let (mut executor, paper) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let told = Told::default();
    for name in ["late", "early"] {
        let (lane2, told) = (lane.clone(), told.clone());
        lane.spawn(name, Importance::Serving, async move {
            if name == "early" {
                lane2.stat("before").await.expect_err("the script fails it");
            }
            let result = lane2.stat(name).await;
            told.tell(format!("{name}={:?}", result.expect_err("the script fails it")));
        });
    }
    executor.step();
    // Both are answered at once, the second first; then the second asks again under the ticket that
    // the first has not read yet.
    complete(&paper, 1, Err(Errno::NOENT));
    complete(&paper, 0, Err(Errno::IO));
    paper.borrow_mut().reuse = vec![0];
    executor.step();
    executor.step();
    complete(&paper, 0, Err(Errno::PERM));
    executor.step();
    executor.step();
    assert_eq!(told.story(), "late=EIO early=EPERM");
}

#[test]
fn a_dropped_future_leaves_its_operation_to_the_ring_and_what_comes_late_is_closed() {
    let (mut executor, paper) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let lane2 = lane.clone();
    let task = lane.spawn("opener", Importance::Serving, async move {
        let opened = lane2.open("late", crate::ring::Access::default()).await;
        panic!("nobody waits for {opened:?}");
    });
    executor.step();
    lane.cancel(task);
    assert_eq!(paper.borrow().cancelled, [Ticket(0)]);
    let closing = Closing::default();
    let file = Fd::new(9, &closing);
    complete(&paper, 0, Ok(Outcome::Opened { file, bytes: 0 }));
    executor.step();
    assert_eq!(closing.next(), Some(9), "what arrived late was dropped, so it is closed");
    assert_eq!(lane.tasks_alive(), 0);
}

#[test]
fn a_short_write_goes_on_at_a_whole_block() {
    let (mut executor, paper) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let closing = Closing::default();
    let file = Fd::new(3, &closing);
    lane.clone().spawn("writer", Importance::Serving, async move {
        let mut buf = Buf::unpooled(3 * 4096);
        buf.pad_to(3 * 4096);
        lane.write_all(&file, 8192, buf.freeze(), crate::ring::Sync::Data).await.expect("written");
    });
    executor.step();
    complete(&paper, 0, Ok(Outcome::Bytes(5000)));
    executor.step();
    executor.step();
    let Some(Op::Write { at, data, .. }) = &paper.borrow().in_flight[1] else { panic!("a write") };
    assert_eq!((*at, data.len()), (8192 + 4096, 2 * 4096));
}

#[test]
fn one_message_one_slot_one_row() {
    let (mut executor, _) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let told = Told::default();

    let queue = Queue::new(&lane, 1);
    let (producer, told2) = (queue.clone(), told.clone());
    lane.spawn("producer", Importance::Serving, async move {
        for it in 0..3 {
            producer.push(it).await.expect("open");
            told2.tell(format!("+{it}"));
        }
        producer.close();
    });

    let permits = Permits::new(&lane, 2);
    let (giver, taker) = once::<&str>(&lane);
    let event = Event::new(&lane);
    let (permits2, event2, lane2, told2) =
        (permits.clone(), event.clone(), lane.clone(), told.clone());
    lane.spawn("holder", Importance::Serving, async move {
        let held = permits2.take(2).await;
        lane2.sleep(Nanos::millis(1)).await;
        giver.give("given");
        event2.notify();
        told2.tell("released");
        drop(held);
    });

    let told2 = told.clone();
    executor.block_on(async move {
        while let Some(it) = queue.pop().await {
            told2.tell(format!("-{it}"));
        }
        assert!(permits.try_take(1).is_none());
        event.wait().await;
        assert_eq!(taker.take().await, Some("given"));
        let all = permits.take(5).await;
        assert_eq!(all.amount(), 2, "more than all is all");
        let (giver, taker) = once::<u8>(&lane);
        drop(giver);
        assert_eq!(taker.take().await, None);
        match race(lane.sleep(Nanos::millis(2)), lane.sleep(Nanos::millis(1))).await {
            Race::First(()) => panic!("the later one came first"),
            Race::Second(()) => told2.tell("raced"),
        }
        assert_eq!(join_all([1, 2].map(|it| async move { it * 10 })).await, [10, 20]);
    });
    assert_eq!(told.story(), "+0 -0 +1 -1 +2 -2 released raced");
}

#[test]
fn an_event_that_never_happens_forgets_who_ended() {
    let (mut executor, _) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let event = Event::new(&lane);
    let event2 = event.clone();
    executor.block_on(async move {
        for _ in 0..1000 {
            let (event, lane2) = (event2.clone(), lane.clone());
            lane.spawn("impatient", Importance::Serving, async move {
                race(event.wait(), lane2.sleep(Nanos::millis(1))).await;
            });
            lane.sleep(Nanos::millis(2)).await;
        }
    });
    assert!(event.kept() < 10, "{} are kept", event.kept());
}

#[test]
fn permits_are_given_in_the_order_they_were_asked_for() {
    let (mut executor, _) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let told = Told::default();
    let permits = Permits::new(&lane, 4);
    let held = permits.try_take(3).expect("free");
    for (name, amount) in [("large", 4), ("small", 1)] {
        let (permits, told) = (permits.clone(), told.clone());
        lane.spawn(name, Importance::Serving, async move {
            let _held = permits.take(amount).await;
            told.tell(name);
        });
    }
    executor.step();
    assert_eq!(told.story(), "", "the small one does not overtake");
    drop(held);
    for _ in 0..4 {
        executor.step();
    }
    assert_eq!(told.story(), "large small");
}

#[test]
fn a_stall_is_counted_and_named() {
    let (mut executor, paper) = lane_on_paper(8);
    let lane = executor.lane().clone();
    lane.spawn("hog", Importance::Serving, async move { paper.borrow_mut().now += 700_000 });
    lane.spawn("victim", Importance::Serving, async {});
    executor.step();
    let counts = lane.counts();
    assert_eq!(counts.stalls, 1);
    assert_eq!(counts.worst_stall.map(|it| it.task), Some("hog"));
}

#[test]
fn an_accepting_task_sees_every_connection_and_the_end() {
    let (mut executor, paper) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let closing = Closing::default();
    let listener = Fd::new(3, &closing);
    let told = Told::default();
    let told2 = told.clone();
    lane.clone().spawn("acceptor", Importance::Serving, async move {
        let mut accepted = lane.accept(&listener);
        while let Some(it) = accepted.next().await {
            told2.tell(match it {
                Ok(_) => "connection".to_owned(),
                Err(errno) => format!("{errno:?}"),
            });
        }
        told2.tell("end");
    });
    executor.step();
    let addr: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    for number in [5, 6] {
        let socket = Fd::new(number, &closing);
        let it = crate::ring::Connection { socket, peer: addr, local: addr };
        paper.borrow_mut().due.push_back(Completion {
            ticket: Ticket(0),
            result: Ok(Outcome::Connected(Box::new(it))),
            op: None,
            last: false,
        });
    }
    complete(&paper, 0, Err(Errno::CANCELED));
    executor.step();
    executor.step();
    assert_eq!(told.story(), "connection connection ECANCELED end");
}

#[test]
fn who_is_told_later_runs_once_the_ring_was_entered_and_before_it_sleeps() {
    let (mut executor, paper) = lane_on_paper(8);
    let lane = executor.lane().clone();
    let (news, own) = (Event::new(&lane), Event::new(&lane));
    let told = Told::default();
    for (name, event) in [("reads", news.clone()), ("answers", own.clone())] {
        let told = told.clone();
        lane.spawn(name, Importance::Serving, async move {
            event.wait().await;
            told.tell(name);
        });
    }
    executor.step();
    let slept = paper.borrow().waits;
    lane.spawn("commits", Importance::Serving, async move {
        news.notify_later();
        own.notify();
    });
    assert_eq!(executor.step(), Step::Ready);
    assert_eq!(told.story(), "answers");
    assert_eq!(paper.borrow().waits, slept);
    executor.step();
    assert_eq!(told.story(), "answers reads");
}

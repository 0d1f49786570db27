//! Readers at the end of logs: told when one of their logs grew, and not before.
//!
//! A reader may wait for minutes. So that this holds none of the few places for questions between
//! two lanes, a question for a watch is answered at once, and news follow as a question the other
//! way.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use corelane_core::ids::LaneId;
use corelane_core::lane::{Importance, Race, join_all, race};
use corelane_core::sync::Event;
use corelane_core::time::Nanos;
use corelane_storage::log::partition::Partition;
use corelane_storage::log::store::ReadUpTo;

use super::mail::{Ask, Tell};
use super::{Node, WatchPart};

/// A reader watches so many logs of its own lane itself. More are watched in a task of their own, as on
/// another lane: whatever else wakes the reader, such as each byte its client sends, would look at all.
const FEW: usize = 64;

/// What one lane watches for others, and what others watch for it. A number belongs to one reader
/// of one lane, for ever.
#[derive(Default)]
pub(crate) struct Watches {
    count: Cell<u64>,
    /// For other lanes: rung when the reader does not wait any more.
    for_others: RefCell<BTreeMap<(LaneId, u64), Event>>,
    /// On other lanes.
    by_others: RefCell<BTreeMap<u64, Rc<Away>>>,
}

/// A reader's logs on other lanes.
struct Away {
    news: Event,
    silent: RefCell<BTreeSet<LaneId>>,
}

impl Node {
    /// Waits until one of the logs has something for its reader, changes its start, or is gone; at
    /// most until `until`, or until this lane stops.
    pub(crate) async fn watch(&self, mut parts: BTreeMap<LaneId, Vec<WatchPart>>, until: Nanos) {
        let few = parts.get(&self.lane().id()).is_some_and(|it| it.len() <= FEW);
        let here = if few { parts.remove(&self.lane().id()) } else { None };
        let here = here.unwrap_or_default();
        let over = race(self.lane().sleep_until(until), self.stopping());
        if parts.is_empty() {
            race(self.any_grown(&here), over).await;
            return;
        }
        let watching = Watching::new(self, parts.keys().copied().collect(), until);
        let (from, number) = (self.lane().id(), watching.number);
        let ask = |(home, parts)| self.ask(home, Ask::Watch { from, number, parts, until });
        let away = async {
            let seen = watching.away.news.seen();
            for tell in join_all(parts.into_iter().map(ask)).await {
                assert!(matches!(tell, Tell::Watching), "a lane watches what it is asked to");
            }
            watching.away.news.past(seen).await;
        };
        race(race(away, self.any_grown(&here)), over).await;
    }

    /// Watches for another lane.
    pub(crate) fn watch_for(&self, from: LaneId, number: u64, parts: Vec<WatchPart>, until: Nanos) {
        let off = Event::new(self.lane());
        let seen = off.seen();
        self.0.watches.for_others.borrow_mut().insert((from, number), off.clone());
        let node = self.clone();
        self.lane().spawn("watch for a lane", Importance::Serving, async move {
            let over = race(off.past(seen), node.lane().sleep_until(until));
            let over = race(over, node.stopping());
            let first = race(node.any_grown(&parts), over).await;
            node.0.watches.for_others.borrow_mut().remove(&(from, number));
            if let Race::First(()) = first {
                let told = node.ask(from, Ask::Grown { by: node.lane().id(), number }).await;
                assert!(matches!(told, Tell::Heard), "news are heard");
            }
        });
    }

    /// The reader of another lane does not wait any more.
    pub(crate) fn unwatch(&self, from: LaneId, number: u64) {
        if let Some(off) = self.0.watches.for_others.borrow().get(&(from, number)) {
            off.notify();
        }
    }

    /// What this lane's reader waits for has happened on the lane `by`.
    pub(crate) fn grown(&self, by: LaneId, number: u64) {
        // The reader may be gone meanwhile.
        if let Some(away) = self.0.watches.by_others.borrow().get(&number) {
            away.silent.borrow_mut().remove(&by);
            away.news.notify();
        }
    }

    /// What tells that a log changed; nothing when it has news already.
    fn change_of(&self, part: &WatchPart) -> Option<Event> {
        let shared = self.store().partition(&part.of)?;
        let partition = shared.borrow();
        let has_news = part.from < reached(&partition, part.up_to) || partition.deleted;
        (!has_news).then(|| partition.changed.clone())
    }

    async fn any_grown(&self, parts: &[WatchPart]) {
        loop {
            let mut waits = Vec::with_capacity(parts.len());
            for part in parts {
                let Some(changed) = self.change_of(part) else { return };
                let seen = changed.seen();
                waits.push((changed, seen));
                self.one_more().await;
            }
            poll_fn(|_| match waits.iter().any(|(it, seen)| it.poll_past(*seen).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
    }
}

/// A reader that waits for other lanes; when it stops, or its client hangs up, they stop too.
struct Watching {
    node: Node,
    number: u64,
    until: Nanos,
    away: Rc<Away>,
}

impl Watching {
    fn new(node: &Node, silent: BTreeSet<LaneId>, until: Nanos) -> Self {
        let watches = &node.0.watches;
        let number = watches.count.get() + 1;
        watches.count.set(number);
        let news = Event::new(node.lane());
        let away = Rc::new(Away { news, silent: RefCell::new(silent) });
        watches.by_others.borrow_mut().insert(number, Rc::clone(&away));
        Self { node: node.clone(), number, until, away }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.node.0.watches.by_others.borrow_mut().remove(&self.number);
        // A lane stops by itself when it has told, at the end of the time, and with this lane.
        if self.until <= self.node.lane().now() || self.node.is_stopping() {
            return;
        }
        for home in self.away.silent.take() {
            let (node, number) = (self.node.clone(), self.number);
            let lane = node.lane().clone();
            lane.spawn("unwatch", Importance::Serving, async move {
                let from = node.lane().id();
                let heard = node.ask(home, Ask::Unwatch { from, number }).await;
                assert!(matches!(heard, Tell::Heard), "the end of a watch is heard");
            });
        }
    }
}

fn reached(partition: &Partition, up_to: ReadUpTo) -> corelane_core::ids::Offset {
    match up_to {
        ReadUpTo::Visible => partition.visible(),
        ReadUpTo::Stable => partition.stable(),
        ReadUpTo::End => partition.end(),
    }
}

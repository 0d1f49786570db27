//! Who runs next: tasks, three queues by importance, and a share of the lane for each.
//!
//! A queue that had less than its share runs first, whatever it holds, so serving is prompt while
//! background work still moves. Who serves and gave way goes on from a queue of its own with a smaller
//! share: who asks for little and was asleep comes before who asks for much. Within a queue the order is
//! that of waking. Given the same completions the order is the same on every machine.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use crate::limits::TASKS_MAX;

/// How much a task matters when several are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    /// Somebody waits for an answer.
    Serving,
    /// Copies keep up with us.
    Replication,
    /// Whatever can wait.
    Background,
}

impl Importance {
    pub const ALL: [Self; 3] = [Self::Serving, Self::Replication, Self::Background];
}

/// Which queue a task waits in: one for each importance, and one for those who serve and gave way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Of(Importance),
    GaveWay,
}

impl Line {
    const COUNT: usize = Importance::ALL.len() + 1;

    const fn number(self) -> usize {
        match self {
            Self::Of(importance) => importance as usize,
            Self::GaveWay => Importance::ALL.len(),
        }
    }

    /// The share of a busy lane, relative to the others.
    const fn share(self) -> u64 {
        match self {
            Self::Of(Importance::Serving) => 16,
            Self::Of(Importance::Replication) => 8,
            Self::GaveWay => 4,
            Self::Of(Importance::Background) => 1,
        }
    }
}

/// Names a task for as long as it lives; never reused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    index: u32,
    generation: u32,
}

pub(super) type Body = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    generation: u32,
    name: &'static str,
    importance: Importance,
    /// Waits in its queue.
    ready: bool,
    /// Which queue it came from last, or waits in.
    line: Line,
    /// Absent while it is being polled, and in a free place.
    body: Option<Body>,
    alive: bool,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<TaskId>,
    /// Time used, divided by the share. The smallest runs next.
    used: u64,
}

/// A task whose turn it is.
pub(super) struct Polled {
    pub(super) id: TaskId,
    pub(super) name: &'static str,
    pub(super) importance: Importance,
    pub(super) line: Line,
    pub(super) body: Body,
}

/// All tasks of one lane.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: Vec<Task>,
    free: Vec<u32>,
    queues: [Queue; Line::COUNT],
    /// What the queue that ran last had used before it ran. Whoever wakes starts no earlier.
    virtual_now: u64,
    alive: usize,
}

impl Tasks {
    /// Adds a task that is ready to run.
    pub(super) fn add(&mut self, name: &'static str, importance: Importance, body: Body) -> TaskId {
        assert!(self.alive < TASKS_MAX, "more than {TASKS_MAX} tasks on one lane");
        self.alive += 1;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let place = Task {
                    generation: 0,
                    name: "",
                    importance,
                    ready: false,
                    line: Line::Of(importance),
                    body: None,
                    alive: false,
                };
                self.tasks.push(place);
                u32::try_from(self.tasks.len() - 1).expect("TASKS_MAX fits")
            }
        };
        let task = &mut self.tasks[index as usize];
        task.generation = task.generation.wrapping_add(1);
        task.name = name;
        task.importance = importance;
        task.ready = false;
        task.body = Some(body);
        task.alive = true;
        let id = TaskId { index, generation: task.generation };
        self.wake(id);
        id
    }

    /// Makes a task run again. Does nothing for one that is gone or ready already.
    pub(super) fn wake(&mut self, id: TaskId) {
        let Some(task) = self.get_mut(id) else { return };
        let line = Line::Of(task.importance);
        self.enqueue(id, line);
    }

    /// Makes a task run again that let others run first.
    pub(super) fn give_way(&mut self, id: TaskId) {
        let Some(task) = self.get_mut(id) else { return };
        let line = match task.importance {
            Importance::Serving => Line::GaveWay,
            other => Line::Of(other),
        };
        self.enqueue(id, line);
    }

    fn enqueue(&mut self, id: TaskId, line: Line) {
        let Some(task) = self.get_mut(id) else { return };
        if task.ready {
            return;
        }
        (task.ready, task.line) = (true, line);
        let floor = self.virtual_now;
        let queue = &mut self.queues[line.number()];
        if queue.ready.is_empty() {
            // Sleeping earns no credit: it starts level with the others.
            queue.used = queue.used.max(floor);
        }
        queue.ready.push_back(id);
    }

    /// Takes the next task to poll out of its queue, with its body.
    pub(super) fn next(&mut self) -> Option<Polled> {
        loop {
            let mut first: Option<&mut Queue> = None;
            for queue in &mut self.queues {
                let sooner = first.as_ref().is_none_or(|it| queue.used < it.used);
                if sooner && !queue.ready.is_empty() {
                    first = Some(queue);
                }
            }
            let queue = first?;
            let id = queue.ready.pop_front().expect("not empty");
            self.virtual_now = self.virtual_now.max(queue.used);
            let Some(task) = self.get_mut(id) else { continue };
            task.ready = false;
            let body = task.body.take().expect("a task is polled by nobody else");
            return Some(Polled {
                id,
                name: task.name,
                importance: task.importance,
                line: task.line,
                body,
            });
        }
    }

    /// Puts a task back that is not finished. Gives the body back if it was ended meanwhile.
    pub(super) fn put_back(&mut self, id: TaskId, body: Body) -> Option<Body> {
        match self.get_mut(id) {
            Some(task) => {
                task.body = Some(body);
                None
            }
            None => Some(body),
        }
    }

    /// Forgets a task. Its body, if it is not being polled, is for the caller to drop.
    pub(super) fn remove(&mut self, id: TaskId) -> Option<Body> {
        let task = self.get_mut(id)?;
        task.alive = false;
        let body = task.body.take();
        self.alive -= 1;
        self.free.push(id.index);
        body
    }

    /// Bodies of all tasks, to be dropped by the caller.
    pub(super) fn clear(&mut self) -> Vec<Body> {
        let bodies = self.tasks.iter_mut().filter_map(|it| it.body.take()).collect();
        *self = Self::default();
        bodies
    }

    /// Charges a queue for time used.
    pub(super) fn charge(&mut self, line: Line, ns: u64) {
        let queue = &mut self.queues[line.number()];
        queue.used += ns.max(1).div_ceil(line.share());
    }

    pub(super) fn any_ready(&self) -> bool {
        self.queues.iter().any(|it| !it.ready.is_empty())
    }

    pub(super) fn serving_waits(&self) -> bool {
        self.newly_woken_wait() || !self.queues[Line::GaveWay.number()].ready.is_empty()
    }

    /// Whether somebody serves that did not give way.
    pub(super) fn newly_woken_wait(&self) -> bool {
        !self.queues[Line::Of(Importance::Serving).number()].ready.is_empty()
    }

    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    pub(super) fn is_alive(&self, id: TaskId) -> bool {
        self.tasks
            .get(id.index as usize)
            .is_some_and(|it| it.alive && it.generation == id.generation)
    }

    fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let task = self.tasks.get_mut(id.index as usize)?;
        (task.alive && task.generation == id.generation).then_some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Body {
        Box::pin(async {})
    }

    /// Adds tasks by letter (s, r, b), then runs `rounds` polls of `ns` each; all stay ready.
    fn order(tasks: &str, rounds: usize, ns: u64) -> String {
        let mut all = Tasks::default();
        for letter in tasks.chars() {
            let (name, importance) = match letter {
                's' => ("s", Importance::Serving),
                'r' => ("r", Importance::Replication),
                _ => ("b", Importance::Background),
            };
            all.add(name, importance, nothing());
        }
        let mut told = String::new();
        for _ in 0..rounds {
            let Polled { id, name, line, body, .. } = all.next().expect("all stay ready");
            told.push_str(name);
            all.charge(line, ns);
            assert!(all.put_back(id, body).is_none());
            all.wake(id);
        }
        told
    }

    #[test]
    fn every_importance_gets_its_share_and_none_starves() {
        let told = order("srb", 250, 1600);
        let count = |it: char| told.chars().filter(|&c| c == it).count();
        assert_eq!((count('s'), count('r'), count('b')), (160, 80, 10));
        assert!(told.starts_with("srb"), "{told}");
    }

    #[test]
    fn a_queue_that_slept_gets_no_credit_for_it() {
        let mut all = Tasks::default();
        let busy = all.add("busy", Importance::Serving, nothing());
        for _ in 0..1000 {
            let Polled { id, body, line, .. } = all.next().expect("ready");
            all.charge(line, 1_000_000);
            all.put_back(id, body);
            all.wake(busy);
        }
        all.add("late", Importance::Background, nothing());
        let mut late = 0;
        for _ in 0..17 {
            let Polled { id, name, line, body, .. } = all.next().expect("ready");
            late += u32::from(name == "late");
            all.charge(line, 1_000_000);
            all.put_back(id, body);
            all.wake(id);
        }
        assert!(late <= 2, "background ran {late} times of 17");
    }

    /// Three who always have more to do, and one who asks for a little now and then: it waits for
    /// whoever runs, and for no other. Those who give way have their share all the same.
    #[test]
    fn who_was_asleep_comes_before_those_who_gave_way() {
        let mut all = Tasks::default();
        for _ in 0..3 {
            all.add("busy", Importance::Serving, nothing());
        }
        let little = all.add("little", Importance::Serving, nothing());
        let (mut waited, mut waited_most, mut served) = (0, 0, 0);
        for round in 0..1000 {
            if round % 7 == 0 {
                all.wake(little);
            }
            let Polled { id, line, body, .. } = all.next().expect("some always are");
            all.charge(line, if id == little { 10_000 } else { 100_000 });
            assert!(all.put_back(id, body).is_none());
            if id == little {
                (waited, served) = (0, served + 1);
            } else {
                all.give_way(id);
                // At the start all of them were new.
                waited += usize::from(20 < round && all.newly_woken_wait());
                waited_most = waited_most.max(waited);
            }
        }
        assert_eq!(waited_most, 0, "turns of others, once it was awake");
        assert!((140..=150).contains(&served), "served {served} times");

        // Many who are woken again and again do not keep those who gave way from their share.
        let mut shares = [0_u32; 2];
        for _ in 0..10_000 {
            all.wake(little);
            let Polled { id, line, body, .. } = all.next().expect("some always are");
            all.charge(line, 10_000);
            assert!(all.put_back(id, body).is_none());
            shares[usize::from(id == little)] += 1;
            if id != little {
                all.give_way(id);
            }
        }
        assert!((1_900..=2_100).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn a_place_is_reused_but_its_old_name_wakes_nobody() {
        let mut all = Tasks::default();
        let old = all.add("old", Importance::Serving, nothing());
        let Polled { id, body: _body, .. } = all.next().expect("ready");
        assert_eq!(id, old);
        assert!(all.remove(old).is_none());
        let new = all.add("new", Importance::Serving, nothing());
        assert_ne!(old, new);
        let _ = all.next().expect("the new one is ready");
        all.wake(old);
        assert!(!all.any_ready());
        assert_eq!(all.alive(), 1);
    }
}

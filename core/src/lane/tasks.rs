//! Who runs next: tasks, three queues by importance, and a share of the lane for each.
//!
//! A queue that had less than its share runs first, whatever it holds, so serving is prompt while
//! background work still moves. Within a queue the order is that of waking. Given the same
//! completions the order is the same on every machine.

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

    /// The share of a busy lane, relative to the others.
    const fn share(self) -> u64 {
        match self {
            Self::Serving => 16,
            Self::Replication => 8,
            Self::Background => 1,
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
    pub(super) body: Body,
}

/// All tasks of one lane.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: Vec<Task>,
    free: Vec<u32>,
    queues: [Queue; 3],
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
        if task.ready {
            return;
        }
        task.ready = true;
        let importance = task.importance;
        let floor = self.virtual_now;
        let queue = &mut self.queues[importance as usize];
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
            return Some(Polled { id, name: task.name, importance: task.importance, body });
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
    pub(super) fn charge(&mut self, importance: Importance, ns: u64) {
        let queue = &mut self.queues[importance as usize];
        queue.used += ns.max(1).div_ceil(importance.share());
    }

    pub(super) fn any_ready(&self) -> bool {
        self.queues.iter().any(|it| !it.ready.is_empty())
    }

    pub(super) fn serving_waits(&self) -> bool {
        !self.queues[Importance::Serving as usize].ready.is_empty()
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
            let Polled { id, name, importance, body } = all.next().expect("all stay ready");
            told.push_str(name);
            all.charge(importance, ns);
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
            let Polled { id, body, .. } = all.next().expect("ready");
            all.charge(Importance::Serving, 1_000_000);
            all.put_back(id, body);
            all.wake(busy);
        }
        all.add("late", Importance::Background, nothing());
        let mut late = 0;
        for _ in 0..17 {
            let Polled { id, name, importance, body } = all.next().expect("ready");
            late += u32::from(name == "late");
            all.charge(importance, 1_000_000);
            all.put_back(id, body);
            all.wake(id);
        }
        assert!(late <= 2, "background ran {late} times of 17");
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

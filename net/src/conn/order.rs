//! When a request of a connection may begin, given the earlier ones that have not ended.
//!
//! Requests that touch the same things begin in the order in which they came; those that have nothing in
//! common do not wait for one another. Many may go on at once, as long as none can miss what an earlier
//! one does: an append is seen once it is durable, a change once it was decided, and neither is so at its
//! first poll.
//!
//! - ORDER-1: what looks at a thing, or changes it, begins when no earlier request adds to it or changes
//!   it any more;
//! - ORDER-2: nothing begins before an earlier one that has not begun and could see it, or whose place
//!   it could take;
//! - ORDER-3: who touches other things than all who wait begins at once.

use std::fmt;

/// What a request does with one kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Tells what there is, or goes by it. It may take as long as it likes: nobody waits for it.
    Look,
    /// Takes its place among its like by beginning, and is seen once it has ended.
    Add,
    /// Makes them different.
    Change,
}

/// What a request does with what others of its connection look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Topics, settings, and whatever else is decided for the whole cluster.
    pub metadata: Access,
    /// Records of partitions, and what is told of their logs.
    pub records: Access,
    /// Members and offsets of groups. A group keeps an order of its own, so what is asked of groups is
    /// only added, each question behind the one before.
    pub groups: Access,
}

impl Effect {
    /// Has nothing to do with any of it.
    pub const FREE: Self =
        Self { metadata: Access::None, records: Access::None, groups: Access::None };

    const fn all(self) -> [Access; KINDS] {
        [self.metadata, self.records, self.groups]
    }
}

/// As documents say it.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = false;
        for (access, thing) in self.all().into_iter().zip(["metadata", "records", "groups"]) {
            let does = match access {
                Access::None => continue,
                Access::Look => "looks at",
                Access::Add => "adds to",
                Access::Change => "changes",
            };
            write!(f, "{}{does} {thing}", if said { ", " } else { "" })?;
            said = true;
        }
        if said { Ok(()) } else { write!(f, "-") }
    }
}

const KINDS: usize = 3;
const RECORDS: usize = 1;

/// What the requests ahead of one do with a kind of thing, those that have not ended.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    /// Ended, and not seen yet.
    unseen: bool,
    /// Begun: what they do is not seen yet.
    adding: bool,
    changing: bool,
    /// Not begun: they come first.
    will_look: bool,
    will_add: bool,
    will_change: bool,
}

/// The requests ahead of one that have not ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead([Kind; KINDS]);

impl Ahead {
    /// Records were added, by requests that have ended, and are not seen yet.
    pub(super) fn has_unseen_records(&mut self) {
        self.0[RECORDS].unseen = true;
    }

    /// One more goes on.
    pub(super) fn goes_on(&mut self, effect: Effect) {
        for (kind, access) in self.0.iter_mut().zip(effect.all()) {
            match access {
                Access::None | Access::Look => {}
                Access::Add => kind.adding = true,
                Access::Change => kind.changing = true,
            }
        }
    }

    /// One more waits to begin.
    pub(super) fn waits(&mut self, effect: Effect) {
        for (kind, access) in self.0.iter_mut().zip(effect.all()) {
            match access {
                Access::None => {}
                Access::Look => kind.will_look = true,
                Access::Add => kind.will_add = true,
                Access::Change => kind.will_change = true,
            }
        }
    }

    /// Whether somebody waits for records to be seen, and for none that are still to be added.
    pub(super) fn is_to_be_shown(&self) -> bool {
        let records = self.0[RECORDS];
        records.unseen && !records.adding && (records.will_look || records.will_change)
    }

    /// Whether the next may begin.
    pub(super) fn lets_begin(&self, effect: Effect) -> bool {
        self.0.iter().zip(effect.all()).all(|(kind, access)| {
            let waiting = kind.will_add || kind.will_change;
            let adding = kind.adding || kind.unseen;
            match access {
                Access::None => true,
                Access::Look => !adding && !kind.changing && !waiting,
                Access::Add => !kind.changing && !kind.will_look && !waiting,
                Access::Change => !adding && !kind.changing && !kind.will_look && !waiting,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Access::{Add, Change, Look};
    use super::*;

    const ALL: [Access; 4] = [Access::None, Look, Add, Change];

    fn effects() -> Vec<Effect> {
        let mut all = Vec::new();
        for metadata in ALL {
            for records in ALL {
                for groups in ALL {
                    all.push(Effect { metadata, records, groups });
                }
            }
        }
        all
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum State {
        Waits,
        GoesOn,
    }

    fn after(ahead: &[(Effect, State)], next: Effect) -> bool {
        let mut open = Ahead::default();
        for (effect, state) in ahead {
            match state {
                State::Waits => open.waits(*effect),
                State::GoesOn => open.goes_on(*effect),
            }
        }
        open.lets_begin(next)
    }

    /// What the second would miss of the first while that one goes on.
    const MISSES: [(Access, Access); 5] =
        [(Add, Look), (Add, Change), (Change, Look), (Change, Add), (Change, Change)];

    /// Whether it matters which of two begins first.
    fn depends(first: Access, second: Access) -> bool {
        MISSES.contains(&(first, second))
            || MISSES.contains(&(second, first))
            || (first, second) == (Add, Add)
    }

    fn waits_for(first: Effect, state: State, next: Effect) -> bool {
        let pairs = first.all().into_iter().zip(next.all());
        pairs.into_iter().any(|(first, next)| match state {
            State::GoesOn => MISSES.contains(&(first, next)),
            State::Waits => depends(first, next),
        })
    }

    #[test]
    fn each_waits_for_what_it_could_miss_or_overtake_and_for_nothing_else() {
        for next in effects() {
            assert!(after(&[], next), "{next} waits for nobody");
            for first in effects() {
                for state in [State::Waits, State::GoesOn] {
                    let may = !waits_for(first, state, next);
                    assert_eq!(after(&[(first, state)], next), may, "{next}; {first} {state:?}");
                }
            }
        }
    }

    /// However many are ahead: one that has to be waited for is enough, in any place.
    #[test]
    fn what_two_are_waited_for_is_the_sum() {
        let ahead: Vec<_> = effects()
            .into_iter()
            .flat_map(|it| [(it, State::Waits), (it, State::GoesOn)])
            .collect();
        for next in effects() {
            for first in &ahead {
                for second in &ahead {
                    let each = after(&[*first], next) && after(&[*second], next);
                    assert_eq!(
                        after(&[*first, *second], next),
                        each,
                        "{first:?} {second:?} {next}"
                    );
                }
            }
        }
    }

    /// What has ended silently is waited for as if it went on, and shown once nothing else is added.
    #[test]
    fn records_that_are_not_seen_yet_are_waited_for_and_asked_for_when_somebody_waits() {
        let append = Effect { records: Add, ..Effect::FREE };
        for next in effects() {
            let mut unseen = Ahead::default();
            unseen.has_unseen_records();
            let may = unseen.lets_begin(next);
            assert_eq!(may, after(&[(append, State::GoesOn)], next), "{next}");
            assert!(!unseen.is_to_be_shown());
            unseen.waits(next);
            assert_eq!(unseen.is_to_be_shown(), !may, "{next}");
            unseen.goes_on(append);
            assert!(!unseen.is_to_be_shown());
        }
    }

    /// What one thing is like: everybody's additions and changes that have ended, by number.
    type Seen = Vec<usize>;

    /// Every way in which requests that came in this order may begin and end. Each tells what it found at
    /// its beginning: exactly the earlier ones that add or change, none of the later.
    fn walk(came: &[Effect], begun: &mut Vec<usize>, ended: &mut Vec<usize>, walked: &mut usize) {
        let mut ahead = Ahead::default();
        let mut moved = false;
        for (number, effect) in came.iter().enumerate() {
            if ended.contains(&number) {
                continue;
            }
            if begun.contains(&number) {
                ended.push(number);
                walk(came, begun, ended, walked);
                ended.pop();
                ahead.goes_on(*effect);
                moved = true;
            } else if ahead.lets_begin(*effect) {
                check(came, number, begun, ended);
                begun.push(number);
                walk(came, begun, ended, walked);
                begun.pop();
                moved = true;
                // Whether it has begun when those behind it are looked at is another way.
                ahead.waits(*effect);
            } else {
                ahead.waits(*effect);
            }
        }
        if !moved {
            assert_eq!(ended.len(), came.len(), "they wait for each other: {came:?}");
            *walked += 1;
        }
    }

    fn check(came: &[Effect], number: usize, begun: &[usize], ended: &[usize]) {
        for kind in 0..KINDS {
            let does = |it: usize| came[it].all()[kind];
            let makes = |it: &usize| matches!(does(*it), Add | Change);
            match does(number) {
                Access::None => {}
                Look | Change => {
                    let wanted: Seen = (0..number).filter(|it| makes(it)).collect();
                    let mut found: Seen = begun.iter().copied().filter(|it| makes(it)).collect();
                    found.sort_unstable();
                    assert_eq!(found, wanted, "{number} of {came:?}");
                    assert!(wanted.iter().all(|it| ended.contains(it)), "{number} of {came:?}");
                }
                Add => {
                    let earlier = |it: &usize| does(*it) != Access::None && *it < number;
                    let all = (0..number).filter(earlier).all(|it| begun.contains(&it));
                    assert!(all, "{number} of {came:?} takes the place of an earlier one");
                    let later = begun.iter().any(|it| number < *it && does(*it) != Access::None);
                    assert!(!later, "{number} of {came:?} begins behind a later one");
                }
            }
        }
    }

    #[test]
    fn in_every_history_each_sees_those_before_it_and_nobody_waits_for_ever() {
        // Two kinds of things show all that three can: what is untouched is never waited for.
        let some: Vec<_> = effects().into_iter().filter(|it| it.groups == Access::None).collect();
        let mut walked = 0;
        for first in &some {
            for second in &some {
                for third in &some {
                    let came = [*first, *second, *third];
                    walk(&came, &mut Vec::new(), &mut Vec::new(), &mut walked);
                }
            }
        }
        assert!(50_000 < walked, "the walk went empty: {walked}");
    }
}

//! When a request of a connection may begin, given the earlier ones that go on.
//!
//! Requests begin in the order in which they came. Many may go on at once, as long as none can miss
//! what an earlier one does: an append is seen once it is durable, a change once it was decided, and
//! neither is so at its first poll.

/// What a request does with what others of its connection look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Adds records. Appends keep their order by beginning in it.
    Append,
    /// Changes what there is, or how it is set.
    Change,
    /// Tells what there is. It may take as long as it likes: nobody waits for it.
    Look,
    /// Names what there is, for somebody who keeps an order of their own.
    Name,
    /// Has nothing to do with any of it.
    Free,
}

/// The requests ahead of one that have begun and not ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    appends: bool,
    changes: bool,
}

impl Ahead {
    /// One more goes on.
    pub(super) fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Append => self.appends = true,
            Effect::Change => self.changes = true,
            Effect::Look | Effect::Name | Effect::Free => {}
        }
    }

    /// Whether the next may begin. If not, none behind it may either.
    pub(super) fn lets_begin(self, effect: Effect) -> bool {
        match effect {
            Effect::Change | Effect::Look => !self.appends && !self.changes,
            Effect::Append | Effect::Name => !self.changes,
            Effect::Free => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::{Append, Change, Free, Look, Name};
    use super::*;

    const ALL: [Effect; 5] = [Append, Change, Look, Name, Free];

    fn after(ahead: &[Effect], next: Effect) -> bool {
        let mut open = Ahead::default();
        ahead.iter().for_each(|it| open.add(*it));
        open.lets_begin(next)
    }

    #[test]
    fn each_waits_for_what_it_could_miss_and_for_nothing_else() {
        let waits = [
            (Append, Change),
            (Append, Look),
            (Change, Append),
            (Change, Change),
            (Change, Look),
            (Change, Name),
        ];
        for next in ALL {
            assert!(after(&[], next), "{next:?} waits for nobody");
            for first in ALL {
                let may = !waits.contains(&(first, next));
                assert_eq!(after(&[first], next), may, "{next:?} behind {first:?}");
            }
        }
    }

    /// However many are ahead: one that has to be waited for is enough, in any place.
    #[test]
    fn what_two_are_waited_for_is_the_sum() {
        for next in ALL {
            for first in ALL {
                for second in ALL {
                    let each = after(&[first], next) && after(&[second], next);
                    assert_eq!(
                        after(&[first, second], next),
                        each,
                        "{first:?} {second:?} {next:?}"
                    );
                }
            }
        }
    }
}

//! What is meant by a wish to end: the first is obeyed in good order, and one that follows later is impatient.
//!
//! One wish may come as several signals in the same instant, as from tools that signal a process and its
//! group.

use corelane_core::time::Nanos;

/// Wishes this long after the first are wishes of their own.
const AGAIN_AFTER: Nanos = Nanos::millis(200);

/// The wishes so far.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    first: Option<Nanos>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meant {
    /// End in good order; said again, it means nothing more.
    InGoodOrder,
    AtOnce,
}

impl Ending {
    pub(crate) fn wish(&mut self, now: Nanos) -> Meant {
        let first = *self.first.get_or_insert(now);
        if now < first + AGAIN_AFTER { Meant::InGoodOrder } else { Meant::AtOnce }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wish_that_comes_later_is_impatient() {
        let mut ending = Ending::default();
        let mut meant = |ms| ending.wish(Nanos::secs(5) + Nanos::millis(ms));
        for ms in [0, 0, 1, 199] {
            assert_eq!(meant(ms), Meant::InGoodOrder, "after {ms} ms");
        }
        for ms in [200, 201, 60_000] {
            assert_eq!(meant(ms), Meant::AtOnce, "after {ms} ms");
        }
    }
}

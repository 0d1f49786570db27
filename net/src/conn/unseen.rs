//! Records of a connection whose client wants no answer.
//!
//! Their requests end once they are appended, so that nothing waits for the disk on their account, and
//! that is before they can be seen. Whoever looks behind them is to see them all the same. So the
//! connection remembers that there are some, and when somebody waits to look it asks the service once
//! for all of them.

use std::pin::Pin;
use std::task::Context;

use super::Access;
use super::order::{Ahead, Effect};

/// Ends once all records can be seen that were appended before it began.
pub type Showing = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
pub(super) struct Unseen {
    /// Requests of this kind that have ended, and how many of these are known to be seen.
    ended: u64,
    seen: u64,
    /// Under way, for so many of them.
    showing: Option<(u64, Showing)>,
}

impl Unseen {
    /// A request with this effect has ended, and nobody was told. Those behind it are told of.
    pub(super) fn ended_silently(&mut self, effect: Effect, ahead: &mut Ahead) {
        if effect.records == Access::Add {
            self.ended += 1;
            ahead.has_unseen_records();
        }
    }

    /// What comes before every request that is open.
    pub(super) fn ahead(&mut self, context: &mut Context<'_>) -> Ahead {
        self.poll(context);
        let mut ahead = Ahead::default();
        if self.seen < self.ended {
            ahead.has_unseen_records();
        }
        ahead
    }

    /// Asks for them to be seen, if there are some that were not asked for. Says whether they are
    /// now, and somebody may begin.
    pub(super) fn show(
        &mut self,
        context: &mut Context<'_>,
        show: impl FnOnce() -> Showing,
    ) -> bool {
        if self.ended <= self.seen || self.showing.is_some() {
            return false;
        }
        self.showing = Some((self.ended, show()));
        self.poll(context)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let Some((number, showing)) = &mut self.showing else { return false };
        if showing.as_mut().poll(context).is_pending() {
            return false;
        }
        self.seen = *number;
        self.showing = None;
        true
    }
}

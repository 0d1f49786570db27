//! Requests that name many things give way to the others of their lane between those things.
//!
//! What is counted is work, not time: each thing a request names is worth a copy of so many bytes, and
//! a task that used up its slice yields ([`Lane::spend`]). The connection then serves nothing behind
//! that request before it went on, so that effects keep their order (`net/src/conn`). A handler that
//! borrows what its request says may do so while it gives way: the frame belongs to the request.
//!
//! [`Lane::spend`]: corelane_core::lane::Lane::spend

use super::Node;

/// What it costs to look at one thing that a request names, in bytes that could be copied meanwhile.
pub(crate) const THING_BYTES: usize = 512;

impl Node {
    /// Accounts for one thing that a request names, and gives way once there were many.
    pub(crate) async fn one_more(&self) {
        self.lane().spend(THING_BYTES).await;
    }

    /// Accounts for things that were looked at together.
    pub(crate) async fn more(&self, things: usize) {
        self.lane().spend(things * THING_BYTES).await;
    }

    /// Gathers things, and gives way between them.
    pub(crate) async fn gather<T>(&self, things: impl IntoIterator<Item = T>) -> Vec<T> {
        let things = things.into_iter();
        let mut gathered = Vec::with_capacity(things.size_hint().0);
        for it in things {
            gathered.push(it);
            self.one_more().await;
        }
        gathered
    }
}

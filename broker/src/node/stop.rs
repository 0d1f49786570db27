//! The end of a lane's service: whoever waits for something that may never come is answered now.
//!
//! A fetch that waits for records is answered with what there is, and a member that waits for its
//! group is told to look for another coordinator. What waits for the disk goes on: its answer says what
//! became of records.

use std::cell::Cell;

use corelane_core::lane::Lane;
use corelane_core::sync::Event;

use super::Node;

pub(super) struct Stop {
    begun: Cell<bool>,
    told: Event,
}

impl Stop {
    pub(super) fn new(lane: &Lane) -> Self {
        Self { begun: Cell::new(false), told: Event::new(lane) }
    }
}

impl Node {
    /// Nobody waits here any more, from now on. Coordinators of this lane end.
    pub fn stop_waiting(&self) {
        self.0.stop.begun.set(true);
        self.0.stop.told.notify();
        self.stop_groups();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stop.begun.get()
    }

    /// Comes with the end of the service.
    pub(super) async fn stopping(&self) {
        while !self.is_stopping() {
            self.0.stop.told.wait().await;
        }
    }
}

//! How lanes find each other's rings, and how a thread without a ring wakes a lane.
//!
//! A lane is woken by a message from ring to ring, or by raising its bell, a counter that its ring
//! waits for. The bell exists before the ring, so a wake that comes early is not lost.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Refusal, sys};
use crate::ids::LaneId;

/// The lanes of this process. Clones are the same table.
#[derive(Clone, Debug)]
pub struct Peers(Arc<[Peer]>);

#[derive(Debug)]
pub(super) struct Peer {
    bell: OwnedFd,
    /// Whether the bell was raised to wake the lane, and not only to tell its ring something.
    rung: AtomicBool,
    /// Whoever has sent a message holds a clone until it is answered, so that the number
    /// cannot come to mean another file.
    ring: Mutex<Option<Arc<OwnedFd>>>,
}

impl Peers {
    /// A table for lanes `0..lanes`, before any of them runs.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn new(lanes: u16) -> Result<Self, Refusal> {
        let peer = |_| {
            let bell =
                sys::event_fd().map_err(|errno| Refusal::Other { what: "eventfd", errno })?;
            Ok(Peer { bell, rung: AtomicBool::new(false), ring: Mutex::new(None) })
        };
        Ok(Self((0..lanes).map(peer).collect::<Result<_, Refusal>>()?))
    }

    #[must_use]
    pub fn lanes(&self) -> u16 {
        u16::try_from(self.0.len()).expect("counted in u16")
    }

    /// A handle with which any thread can wake one lane.
    #[must_use]
    pub fn remote(&self, lane: LaneId) -> RemoteWake {
        assert!(lane.0 < self.lanes(), "no lane {lane:?} among {}", self.lanes());
        RemoteWake { peers: self.clone(), lane }
    }

    pub(super) fn of(&self, lane: LaneId) -> &Peer {
        &self.0[usize::from(lane.0)]
    }
}

impl Peer {
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Wakes the lane, by its bell.
    pub(super) fn wake(&self) {
        self.rung.store(true, Ordering::SeqCst);
        sys::raise(&self.bell);
    }

    /// Makes the ring look at what its helper has done, without waking the lane.
    pub(super) fn nudge(&self) {
        sys::raise(&self.bell);
    }

    /// Whether the lane was woken since the last look.
    pub(super) fn take_rung(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }

    pub(super) fn ring(&self) -> Option<Arc<OwnedFd>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_ring(&self, ring: Option<Arc<OwnedFd>>) {
        *self.ring.lock().unwrap_or_else(PoisonError::into_inner) = ring;
    }
}

/// Wakes one lane from any thread: its ring completes [`Ticket::WOKEN`](crate::ring::Ticket::WOKEN).
#[derive(Clone, Debug)]
pub struct RemoteWake {
    peers: Peers,
    lane: LaneId,
}

impl RemoteWake {
    pub fn wake(&self) {
        self.peers.of(self.lane).wake();
    }

    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.lane
    }
}

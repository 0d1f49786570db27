//! Operations in flight: who owns what the kernel may still touch.
//!
//! An operation and everything made for it stays in its slot, at addresses that do not move, until
//! its last completion. A slot is free again only when that was collected.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use io_uring::types::OpenHow;

use super::sys::SockAddr;
use crate::buf::Buf;
use crate::limits::OPS_IN_FLIGHT_MAX;
use crate::ring::{Fd, Op};

/// One operation on its way.
pub(super) struct Flight {
    pub(super) op: Op,
    pub(super) aid: Aid,
    pub(super) stage: Stage,
    /// The lane lost interest: nothing new is started for this operation.
    pub(super) cancelled: bool,
}

/// Who works on it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The kernel, with its main request.
    Kernel,
    /// The kernel, with the flush after a write of so many bytes.
    FlushAfter { written: u32 },
    /// The kernel, waiting for room in a socket before a file is sent.
    Room,
    /// The helper.
    Helper,
    /// Nobody: the result waits for the next turn.
    Ready,
}

/// What the kernel reads or writes besides the operation's own buffers. Boxed: slots move.
#[expect(dead_code, reason = "much of it is held only for the kernel to read")]
pub(super) enum Aid {
    None,
    Message(Box<Message>),
    Connect {
        socket: Fd,
        addr: Box<SockAddr>,
    },
    Path(CString),
    Paths(CString, CString),
    Open {
        path: CString,
        how: Box<OpenHow>,
    },
    Stat {
        path: CString,
        found: Box<libc::statx>,
    },
    /// The ring that is being sent a message.
    Ring(Arc<OwnedFd>),
    /// The block of a receive that cannot choose its own.
    Block(Buf),
    /// The file's range was brought into the page cache.
    Warmed,
}

/// A gathered send.
pub(super) struct Message {
    pub(super) parts: Vec<libc::iovec>,
    pub(super) header: libc::msghdr,
}

/// The slots.
#[derive(Default)]
pub(super) struct Flights {
    slots: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl Flights {
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() == OPS_IN_FLIGHT_MAX
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn add(&mut self, op: Op) -> u32 {
        let flight = Flight { op, aid: Aid::None, stage: Stage::Kernel, cancelled: false };
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(flight);
            return slot;
        }
        assert!(self.slots.len() < OPS_IN_FLIGHT_MAX, "a full ring gives operations back");
        self.slots.push(Some(flight));
        (self.slots.len() - 1) as u32
    }

    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Flight> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The flight of an operation that somebody still works on.
    pub(super) fn known(&mut self, slot: u32) -> &mut Flight {
        self.get(slot).expect("an answer belongs to an operation in flight")
    }

    pub(super) fn remove(&mut self, slot: u32) -> Flight {
        let flight = self.slots[slot as usize].take().expect("an operation ends once");
        self.free.push(slot);
        flight
    }

    /// The slots in use.
    pub(super) fn taken(&self) -> Vec<u32> {
        let taken = |(slot, it): (usize, &Option<Flight>)| it.as_ref().map(|_| slot as u32);
        self.slots.iter().enumerate().filter_map(taken).collect()
    }
}

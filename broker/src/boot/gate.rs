//! Who may connect: how many in all, how many from one address, and how many in a second. All lanes ask
//! the same gate.
//!
//! It is locked when a connection comes and once when it goes, never in between.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};

use corelane_core::time::Nanos;

use super::pace::Pace;

/// The share of the limit on open files that connections may take, as a fraction. The rest is for
/// the log's files.
const DESCRIPTORS_SHARE: (u64, u64) = (4, 5);

/// The share of them, as a divisor, of open segments of all lanes. One that is also read from the page
/// cache has two.
const SEGMENTS_SHARE: u64 = 12;

/// Segments that a lane keeps open, at least and at most.
const SEGMENTS_OPEN_MIN: usize = 16;
const SEGMENTS_OPEN_MAX: usize = 16_384;

/// The connections of this node.
pub struct Gate {
    descriptors_max: u64,
    counts: Mutex<Counts>,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Counts {
    all: u64,
    by_ip: BTreeMap<IpAddr, u64>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    Full { connections_max: u64 },
    FromOneAddress { connections_max: u64 },
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { connections_max } => {
                write!(f, "{connections_max} connections are open, which is the most there may be")
            }
            Self::FromOneAddress { connections_max } => write!(
                f,
                "{connections_max} connections are open from this address, which is the most one \
                 may have"
            ),
        }
    }
}

impl Gate {
    #[must_use]
    pub fn new(descriptors_max: u64) -> Arc<Self> {
        Arc::new(Self { descriptors_max, counts: Mutex::default(), pace: Mutex::default() })
    }

    /// Segments that each lane keeps open: a share of what connections leave.
    pub(super) fn segments_open_max(&self, lanes: NonZeroU16) -> usize {
        let each = self.descriptors_max / SEGMENTS_SHARE / u64::from(lanes.get());
        let each = usize::try_from(each).unwrap_or(SEGMENTS_OPEN_MAX);
        each.clamp(SEGMENTS_OPEN_MIN, SEGMENTS_OPEN_MAX)
    }

    /// Connections open now, on all lanes.
    pub(super) fn open(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Whether one more may be taken from the kernel's queue now. If not, when to ask again.
    pub(super) fn pace(&self, now: Nanos, per_second: u64) -> Result<(), Nanos> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).take(now, per_second)
    }

    /// Lets one in, until its pass is dropped.
    pub(super) fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
        all_max: u64,
        by_ip_max: u64,
    ) -> Result<Pass, Turned> {
        let ip = ip.to_canonical();
        let (share, of) = DESCRIPTORS_SHARE;
        let all_max = all_max.min(self.descriptors_max / of * share);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if all_max <= counts.all {
            return Err(Turned::Full { connections_max: all_max });
        }
        let from = counts.by_ip.get(&ip).copied().unwrap_or(0);
        if by_ip_max <= from {
            return Err(Turned::FromOneAddress { connections_max: by_ip_max });
        }
        counts.all += 1;
        counts.by_ip.insert(ip, from + 1);
        Ok(Pass { gate: Arc::clone(self), ip })
    }
}

/// The right to be connected.
#[must_use = "a pass that is dropped has left again"]
pub(super) struct Pass {
    gate: Arc<Gate>,
    ip: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        match counts.by_ip.get_mut(&self.ip) {
            Some(1) => drop(counts.by_ip.remove(&self.ip)),
            Some(from) => *from -= 1,
            None => unreachable!("who leaves has come"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_cannot_take_all_and_all_cannot_take_more_than_there_are() {
        let gate = Gate::new(1000);
        let mut inside: Vec<_> =
            (0..2).map(|_| gate.admit(ip("10.0.0.1"), 3, 2).expect("let in")).collect();
        let turned = gate.admit(ip("10.0.0.1"), 3, 2).err();
        assert_eq!(turned, Some(Turned::FromOneAddress { connections_max: 2 }));
        let mapped = gate.admit(ip("::ffff:10.0.0.1"), 3, 2).err();
        assert_eq!(mapped, turned, "the same address in another spelling");
        inside.push(gate.admit(ip("10.0.0.2"), 3, 2).expect("let in"));
        let turned = gate.admit(ip("10.0.0.3"), 3, 2).err();
        assert_eq!(turned, Some(Turned::Full { connections_max: 3 }));
        inside.clear();
        assert_eq!(gate.open(), 0);
        assert!(gate.counts.lock().expect("not poisoned").by_ip.is_empty());
        assert!(gate.admit(ip("10.0.0.1"), 3, 2).is_ok());
    }

    #[test]
    fn descriptors_are_left_for_files() {
        let gate = Gate::new(10);
        let inside: Vec<_> = (0..8).map_while(|_| gate.admit(ip("::1"), 99, 99).ok()).collect();
        assert_eq!(inside.len(), 8);
        let turned = gate.admit(ip("::1"), 99, 99).err();
        assert_eq!(turned, Some(Turned::Full { connections_max: 8 }));
    }
}

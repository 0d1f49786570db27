//! One named, pinned thread for each lane, with its ring open before any lane runs.
//!
//! Either all lanes start or none does: work begins only when every ring is open.

use std::fmt;
use std::sync::mpsc;
use std::thread::JoinHandle;

use core_affinity::CoreId;

use crate::buf::Pool;
use crate::ids::LaneId;
use crate::ring::real::{Peers, RealRing, Refusal, RemoteWake, RingSetup};
use crate::ring::{Errno, Ring};

/// What to start.
#[derive(Debug, Clone)]
pub struct LanesSetup {
    pub lanes: u16,
    /// The core of each lane; empty leaves them to the scheduler.
    pub cores: Vec<usize>,
    /// Memory of each lane's pool.
    pub pool_bytes: usize,
}

impl LanesSetup {
    /// Lanes on the first of the usable cores, or unpinned when there are fewer cores than lanes.
    #[must_use]
    pub fn pinned(lanes: u16, usable: &[usize], pool_bytes: usize) -> Self {
        let cores = usable.get(..usize::from(lanes)).unwrap_or_default().to_vec();
        Self { lanes, cores, pool_bytes }
    }
}

/// Running lanes.
pub struct Lanes {
    peers: Peers,
    threads: Vec<(LaneId, JoinHandle<()>)>,
    described: Vec<String>,
}

/// Lanes whose work ended in a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanesFailed {
    pub lanes: Vec<LaneId>,
}

impl fmt::Display for LanesFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes: Vec<_> = self.lanes.iter().map(|it| it.0).collect();
        write!(f, "lanes ended in a panic: {lanes:?}")
    }
}

impl std::error::Error for LanesFailed {}

/// Starts a thread for each lane, opens its ring there and runs what `work` gives for it.
///
/// # Errors
/// The first refusal of any lane; none has run then.
pub fn start_lanes<W>(
    setup: &LanesSetup,
    mut work: impl FnMut(LaneId) -> W,
) -> Result<Lanes, Refusal>
where
    W: FnOnce(Box<dyn Ring>) + Send + 'static,
{
    let pins = pins(setup)?;
    let peers = Peers::new(setup.lanes)?;
    let (opened, answers) = mpsc::channel();
    let mut threads = Vec::new();
    let mut starts = Vec::new();
    for (lane, pin) in (0..setup.lanes).map(LaneId).zip(pins) {
        let (start, started) = mpsc::channel::<()>();
        let ring_setup = RingSetup::new(lane, &peers, Pool::new(setup.pool_bytes));
        let (opened, work) = (opened.clone(), work(lane));
        let body = move || {
            let ring = pin_here(pin).and_then(|()| RealRing::open(ring_setup));
            let ring = match ring {
                Ok(ring) => ring,
                Err(refusal) => return drop(opened.send(Err(refusal))),
            };
            // Whoever started us may have given up meanwhile; the next line tells.
            drop(opened.send(Ok((lane, ring.describe()))));
            // The starter listens until every lane has spoken and hung up.
            drop(opened);
            if started.recv().is_ok() {
                work(Box::new(ring));
            }
        };
        let spawned = std::thread::Builder::new().name(format!("lane-{}", lane.0)).spawn(body);
        let thread = spawned.map_err(|error| Refusal::Other {
            what: "starting a thread",
            errno: Errno(error.raw_os_error().unwrap_or(libc::EAGAIN)),
        })?;
        threads.push((lane, thread));
        starts.push(start);
    }
    drop(opened);
    let mut described = Vec::new();
    for answer in answers {
        // On a refusal the starts are dropped, and the other lanes end without having run.
        let (lane, lines) = answer?;
        if lane == LaneId(0) {
            described = lines;
        }
    }
    for start in starts {
        start.send(()).expect("a lane that opened its ring waits for this");
    }
    Ok(Lanes { peers, threads, described })
}

impl Lanes {
    /// What the first lane's ring found, for people.
    #[must_use]
    pub fn describe(&self) -> &[String] {
        &self.described
    }

    /// Wakes one lane from any thread.
    #[must_use]
    pub fn remote(&self, lane: LaneId) -> RemoteWake {
        self.peers.remote(lane)
    }

    /// Waits until every lane has ended its work.
    ///
    /// # Errors
    /// When some ended in a panic.
    pub fn join(self) -> Result<(), LanesFailed> {
        let ended = self.threads.into_iter().map(|(lane, thread)| (lane, thread.join()));
        let lanes: Vec<_> = ended.filter(|(_, it)| it.is_err()).map(|(lane, _)| lane).collect();
        if lanes.is_empty() { Ok(()) } else { Err(LanesFailed { lanes }) }
    }
}

/// The core of each lane, all of them checked.
fn pins(setup: &LanesSetup) -> Result<Vec<Option<CoreId>>, Refusal> {
    if setup.cores.is_empty() {
        return Ok(vec![None; usize::from(setup.lanes)]);
    }
    assert_eq!(setup.cores.len(), usize::from(setup.lanes), "one core for each lane");
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    let find = |&core: &usize| {
        let found = usable.iter().find(|it| it.id == core).copied();
        let all = || usable.iter().map(|it| it.id).collect();
        found.map(Some).ok_or_else(|| Refusal::NoSuchCore { core, usable: all() })
    };
    setup.cores.iter().map(find).collect()
}

fn pin_here(pin: Option<CoreId>) -> Result<(), Refusal> {
    match pin {
        Some(core) if !core_affinity::set_for_current(core) => {
            let usable = core_affinity::get_core_ids().unwrap_or_default();
            let usable = usable.into_iter().map(|it| it.id).collect();
            Err(Refusal::NoSuchCore { core: core.id, usable })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Ticket, Wait};

    #[test]
    fn lanes_run_on_their_cores_and_are_woken_from_outside() {
        let usable = super::super::Facts::read().cores;
        let lanes = u16::try_from(usable.len().min(2)).expect("few");
        let setup = LanesSetup::pinned(lanes, &usable, 1 << 20);
        let started = start_lanes(&setup, |lane| {
            move |mut ring: Box<dyn Ring>| {
                assert_eq!(ring.lane(), lane);
                let name = format!("lane-{}", lane.0);
                assert_eq!(std::thread::current().name(), Some(&*name));
                let mut completed = Vec::new();
                ring.turn(Wait::Until(None), &mut completed);
                assert_eq!(completed[0].ticket, Ticket::WOKEN);
            }
        });
        let running = match started {
            Ok(running) => running,
            Err(refusal) => return println!("SKIPPED lanes: {refusal}"),
        };
        assert!(!running.describe().is_empty());
        for lane in (0..lanes).map(LaneId) {
            running.remote(lane).wake();
        }
        running.join().expect("no lane panics");
    }

    #[test]
    fn a_core_that_does_not_exist_is_refused_before_any_lane_runs() {
        let setup = LanesSetup { lanes: 1, cores: vec![99_999], pool_bytes: 1 << 20 };
        let work = |_| |_: Box<dyn Ring>| panic!("it must not run");
        let refusal = start_lanes(&setup, work).err().expect("there is no such core");
        assert!(refusal.to_string().starts_with("there is no core 99999 for a lane"), "{refusal}");
    }

    #[test]
    fn a_lane_that_panics_is_named() {
        let setup = LanesSetup { lanes: 2, cores: Vec::new(), pool_bytes: 1 << 20 };
        let work = |lane| {
            move |_: Box<dyn Ring>| assert_eq!(lane, LaneId(0), "this lane fails on purpose")
        };
        let running = match start_lanes(&setup, work) {
            Ok(running) => running,
            Err(refusal) => return println!("SKIPPED lanes: {refusal}"),
        };
        assert_eq!(running.join(), Err(LanesFailed { lanes: vec![LaneId(1)] }));
    }
}

//! Connections to this lane: taken, bounded, served.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use corelane_core::lane::{Importance, Lane};
use corelane_core::ring::{Connection, Errno, Fd, Outcome};
use corelane_core::time::Nanos;
use corelane_net::conn::{Crowd, Ended, Peer, Principal, serve};

use super::gate::{Gate, Pass};
use super::notices::Notices;
use super::pace::NO_LIMIT;
use super::report::Reporter;
use crate::config::keys;
use crate::config::row::Row;
use crate::handle::Handlers;
use crate::node::Node;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: u32 = 1024;

/// After a failed accept, how long the lane waits before it tries again: no descriptors are left,
/// most likely, and asking at once would only burn the core. Who knocks meanwhile waits in the backlog.
const ACCEPT_PAUSE: Nanos = Nanos::millis(100);

/// How long an address may be in use before that is an error. What a killed broker had open, the
/// kernel closes a moment after its process is gone, for the rings that hold it end by themselves.
const IN_USE_PATIENCE: Nanos = Nanos::secs(1);

/// How long to wait before an address that is in use is tried again.
const IN_USE_PAUSE: Nanos = Nanos::millis(10);

/// Listens, also where a broker listened that was killed just now.
pub(super) async fn listen(
    lane: &Lane,
    addr: SocketAddr,
    shared: bool,
) -> Result<(Fd, SocketAddr), Errno> {
    let until = lane.now() + IN_USE_PATIENCE;
    loop {
        match lane.listen(addr, BACKLOG, shared).await {
            Err(Errno::ADDRINUSE) if lane.now() < until => lane.sleep(IN_USE_PAUSE).await,
            done => return done,
        }
    }
}

/// Connections taken before those that are open get their turn.
const ACCEPTS_PER_TURN: u32 = 8;

/// A listener, and the error that was told of it with how often it came since.
struct Failing {
    name: Rc<str>,
    told: Option<(Errno, u64)>,
}

/// The door of one lane.
#[derive(Clone)]
pub(super) struct Door {
    pub crowd: Crowd,
    pub gate: Arc<Gate>,
    pub node: Node,
    pub handlers: Rc<Handlers>,
    pub reporter: Reporter,
    pub notices: Rc<RefCell<Notices>>,
}

impl Door {
    /// Accepts until the listener is closed.
    pub(super) async fn open(self, listener: Fd, name: String) {
        let door = Rc::new(self);
        let mut failing = Failing { name: name.into(), told: None };
        loop {
            let done = if door.per_second() < NO_LIMIT {
                door.take_one(&listener, &mut failing).await
            } else {
                door.take_many(&listener, &mut failing).await
            };
            match done {
                Ok(()) => {}
                Err(Errno::CANCELED) => return,
                Err(errno) => {
                    door.node.metrics().counter("connections.accepts_failed").add(1);
                    door.failed(&mut failing, errno);
                    door.crowd.lane().sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection, when it is time for one. The others wait in the kernel's queue.
    async fn take_one(self: &Rc<Self>, listener: &Fd, failing: &mut Failing) -> Result<(), Errno> {
        let lane = self.crowd.lane();
        while let Err(at) = self.gate.pace(lane.now(), self.per_second()) {
            lane.sleep_until(at).await;
        }
        let connection = lane.accept_one(listener).await?;
        self.take(connection, failing);
        Ok(())
    }

    /// Connections as they come, for as long as nothing limits them.
    async fn take_many(self: &Rc<Self>, listener: &Fd, failing: &mut Failing) -> Result<(), Errno> {
        let lane = self.crowd.lane();
        let mut accepted = lane.accept(listener);
        let (mut in_a_row, mut stopped) = (0, false);
        while let Some(it) = accepted.next().await {
            match it {
                Ok(Outcome::Connected(connection)) => self.take(*connection, failing),
                Ok(other) => panic!("accepted {other:?}"),
                Err(Errno::CANCELED) if stopped => return Ok(()),
                Err(errno) => return Err(errno),
            }
            if !stopped && self.per_second() < NO_LIMIT {
                // Those that were taken already still come.
                accepted.stop();
                stopped = true;
            }
            in_a_row += 1;
            if in_a_row == ACCEPTS_PER_TURN {
                in_a_row = 0;
                lane.yield_now().await;
            }
        }
        Ok(())
    }

    /// A dynamic limit, as it is now.
    fn limit(&self, row: &'static Row) -> u64 {
        let image = self.node.image();
        let layers = image.layers(&self.node.facts().config.settings, self.node.id());
        let value = layers.current(row).and_then(|it| it.parse().ok());
        value.expect("a number with a default, checked when it was set")
    }

    fn per_second(&self) -> u64 {
        self.limit(&keys::CONNECTION_CREATION_RATE)
    }

    /// Tells why nothing is accepted, once.
    fn failed(&self, failing: &mut Failing, errno: Errno) {
        match &mut failing.told {
            Some((told, times)) if *told == errno => *times += 1,
            told => {
                self.notice(|| format!("cannot accept on {}: {errno}", failing.name));
                *told = Some((errno, 1));
            }
        }
    }

    fn take(self: &Rc<Self>, connection: Connection, failing: &mut Failing) {
        let Connection { socket, peer, .. } = connection;
        let listener = &failing.name;
        if let Some((errno, times)) = failing.told.take() {
            self.notice(|| format!("accepting again on {listener} after {times} times: {errno}"));
        }
        let admitted = self.gate.admit(
            peer.ip(),
            self.limit(&keys::MAX_CONNECTIONS),
            self.limit(&keys::MAX_CONNECTIONS_PER_IP),
        );
        match admitted {
            Ok(pass) => {
                let principal = Principal::Anonymous;
                let peer = Peer { addr: peer, listener: Rc::clone(listener), principal };
                let serving = Rc::clone(self).serve(socket, Rc::new(peer), pass);
                self.crowd.lane().spawn("connection", Importance::Serving, serving);
            }
            Err(turned) => {
                self.node.metrics().counter("connections.turned_away").add(1);
                self.notice(|| format!("connection from {peer} turned away: {turned}"));
            }
        }
    }

    async fn serve(self: Rc<Self>, socket: Fd, peer: Rc<Peer>, pass: Pass) {
        let ended = serve(&self.crowd, socket, Rc::clone(&peer), Rc::clone(&self.handlers)).await;
        drop(pass);
        match ended {
            Ended::Closed | Ended::Idle | Ended::Receive(_) | Ended::Send(_) | Ended::Stopped => {}
            Ended::Inside
            | Ended::Frame(_)
            | Ended::Unproven
            | Ended::Stalled
            | Ended::Unread
            | Ended::Refused(_) => {
                self.node.metrics().counter("connections.closed_on_peer").add(1);
                self.notice(|| {
                    let Peer { addr, listener, principal, .. } = &*peer;
                    format!("connection from {addr} ({listener}, {principal}) closed: {ended}")
                });
            }
        }
    }

    /// Says a line that a stranger caused.
    fn notice(&self, line: impl FnOnce() -> String) {
        let now = self.crowd.lane().now();
        if let Some(line) = self.notices.borrow_mut().say(now, line) {
            self.reporter.line(line);
        }
    }
}

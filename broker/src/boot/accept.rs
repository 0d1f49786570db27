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
const ACCEPTS_PER_TURN: u32 = 64;

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
        let lane = self.crowd.lane().clone();
        // The error that was told, and how often it came since.
        let mut failing: Option<(Errno, u64)> = None;
        loop {
            let mut accepted = lane.accept(&listener);
            let mut in_a_row = 0;
            while let Some(it) = accepted.next().await {
                match it {
                    Ok(Outcome::Connected(connection)) => {
                        if let Some((errno, times)) = failing.take() {
                            self.notice(|| {
                                format!("accepting again on {name} after {times} times: {errno}")
                            });
                        }
                        self.take(*connection, &name);
                    }
                    Ok(other) => panic!("accepted {other:?}"),
                    Err(Errno::CANCELED) => return,
                    Err(errno) => {
                        self.node.metrics().counter("connections.accepts_failed").add(1);
                        match &mut failing {
                            Some((told, times)) if *told == errno => *times += 1,
                            _ => {
                                self.notice(|| format!("cannot accept on {name}: {errno}"));
                                failing = Some((errno, 1));
                            }
                        }
                        lane.sleep(ACCEPT_PAUSE).await;
                    }
                }
                in_a_row += 1;
                if in_a_row == ACCEPTS_PER_TURN {
                    in_a_row = 0;
                    lane.yield_now().await;
                }
            }
        }
    }

    fn take(&self, connection: Connection, listener: &str) {
        let Connection { socket, peer, .. } = connection;
        let image = self.node.image();
        let layers = image.layers(&self.node.facts().config.settings, self.node.id());
        let limit = |row: &'static Row| {
            let value = layers.current(row).and_then(|it| it.parse().ok());
            value.expect("a number with a default, checked when it was set")
        };
        let admitted = self.gate.admit(
            peer.ip(),
            limit(&keys::MAX_CONNECTIONS),
            limit(&keys::MAX_CONNECTIONS_PER_IP),
        );
        match admitted {
            Ok(pass) => {
                let principal = Principal::Anonymous;
                let listener = listener.to_owned();
                let peer = Peer { addr: peer, listener, principal };
                let serving = self.clone().serve(socket, Rc::new(peer), pass);
                self.crowd.lane().spawn("connection", Importance::Serving, serving);
            }
            Err(turned) => {
                self.node.metrics().counter("connections.turned_away").add(1);
                self.notice(|| format!("connection from {peer} turned away: {turned}"));
            }
        }
    }

    async fn serve(self, socket: Fd, peer: Rc<Peer>, pass: Pass) {
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

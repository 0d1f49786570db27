//! The echo on our own lane: received into buffers of the ring's choosing while requests are small, and
//! straight into a large buffer when they are not.

use crate::on_lane::{self, failed};
use core_affinity::CoreId;
use corelane_core::lane::{Importance, Lane};
use corelane_core::ring::{Errno, Fd, Outcome};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

const BACKLOG: u32 = 1024;
/// Above this a connection keeps a buffer of its own.
const SMALL_BUFFER_BYTES_MAX: usize = 16 * 1024;

/// Serves until the process ends. `ready` is told the port.
pub(crate) fn serve(
    core: CoreId,
    buffer_bytes: usize,
    ready: impl FnOnce(u16) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    on_lane::run(core, async move |lane| {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (listener, addr) = lane.listen(any, BACKLOG, false).await.map_err(failed)?;
        ready(addr.port())?;
        let mut connections = lane.accept(&listener);
        while let Some(accepted) = connections.next().await {
            let Outcome::Connected(it) = accepted.map_err(failed)? else {
                panic!("an accept gives connections")
            };
            if buffer_bytes <= SMALL_BUFFER_BYTES_MAX {
                lane.spawn("echo", Importance::Serving, small(lane.clone(), it.socket));
            } else {
                let echo = large(lane.clone(), it.socket, buffer_bytes);
                lane.spawn("echo", Importance::Serving, echo);
            }
        }
        Ok(())
    })
}

/// A peer that resets is a peer that left.
async fn small(lane: Lane, socket: Fd) {
    loop {
        match lane.receive_block(&socket).await {
            Ok(it) if it.is_empty() => return,
            Ok(it) => {
                if lane.send_all(&socket, it.freeze()).await.is_err() {
                    return;
                }
            }
            // Others hold all buffers; they give them back as they send.
            Err(Errno::NOBUFS) => lane.yield_now().await,
            Err(_) => return,
        }
    }
}

async fn large(lane: Lane, socket: Fd, buffer_bytes: usize) {
    let Some(mut buffer) = lane.pool().get(buffer_bytes) else { return };
    loop {
        let (received, filled) = lane.receive(&socket, buffer).await;
        buffer = filled;
        let Ok(1..) = received else { return };
        if lane.send_all(&socket, buffer.slice(..)).await.is_err() {
            return;
        }
        assert!(buffer.clear(), "what was sent has been given back");
    }
}

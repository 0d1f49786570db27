//! A whole broker in the simulator, and a client beside it that speaks real frames.
//!
//! The broker boots as it does on a machine. Stories are futures that run on the client's lane.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use corelane_core::buf::Buf;
use corelane_core::lane::{Importance, Lane};
use corelane_core::limits::CALLS_PER_LINK_MAX;
use corelane_core::mailbox::mesh;
use corelane_core::ring::Fd;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_net::frame;
use corelane_net::wire::{Request, Writer};

use crate::boot::{Boot, Gate, Ports, Reporter, run};
use crate::config::args::StartArgs;
use crate::config::load::{Inputs, load};

/// Where the first machine of a world is reached.
/// Files and connections a simulated process may have open.
const DESCRIPTORS_MAX: u64 = 4096;

const BROKER: &str = "10.0.0.1:9092";

/// A connection that takes one request after the other.
pub(crate) struct Client {
    lane: Lane,
    socket: Fd,
    received: Vec<u8>,
}

impl Client {
    async fn connect(lane: Lane) -> Self {
        let socket = loop {
            match lane.connect(BROKER.parse().expect("an address")).await {
                Ok(it) => break it.socket,
                // The broker is booting.
                Err(_) => lane.sleep(Nanos::millis(10)).await,
            }
        };
        Self { lane, socket, received: Vec::new() }
    }

    /// One more connection.
    pub(crate) async fn another(&self) -> Self {
        Self::connect(self.lane.clone()).await
    }

    pub(crate) fn now(&self) -> Nanos {
        self.lane.now()
    }

    pub(crate) async fn sleep(&self, span: Nanos) {
        self.lane.sleep(span).await;
    }

    /// Lets a story go on beside this one; it ends with the world at the latest.
    pub(crate) fn beside(&self, story: impl Future<Output = ()> + 'static) {
        self.lane.spawn("beside", Importance::Serving, story);
    }

    /// Sends a request; gives the frame of its answer, for [`answer`].
    pub(crate) async fn ask<'a, R: Request<'a>>(&mut self, version: i16, request: &R) -> Vec<u8> {
        let mut out = Vec::new();
        let writer = &mut Writer::copying(&mut out);
        frame::encode_request(version, 7, Some("story"), request, writer).expect("it can be said");
        let parts = vec![Buf::copy_of(&out).freeze()];
        self.lane.send_all(&self.socket, parts).await.expect("the broker is there");
        loop {
            if let Some((size, rest)) = self.received.split_first_chunk() {
                let size = u32::from_be_bytes(*size) as usize;
                if size <= rest.len() {
                    let answer = rest[..size].to_vec();
                    self.received.drain(..4 + size);
                    return answer;
                }
            }
            let buf = self.lane.pool().get(1 << 16).expect("memory for an answer");
            let (bytes, buf) = self.lane.receive(&self.socket, buf).await;
            let closed = format!("no answer to {:?} version {version}", R::KEY);
            assert_ne!(bytes, Ok(0), "{closed}");
            bytes.expect(&closed);
            self.received.extend_from_slice(buf.filled());
        }
    }
}

/// The answer in a frame.
#[track_caller]
pub(crate) fn answer<'a, 'r, R: Request<'r>>(
    version: i16,
    frame: &'a [u8],
    _: &R,
) -> R::Response<'a> {
    let (id, answer) = frame::decode_response(R::KEY, version, frame).expect("a whole answer");
    assert_eq!(id, 7);
    answer
}

/// Tells a story to a fresh broker of so many lanes.
#[track_caller]
pub(crate) fn story<F: Future<Output = ()> + 'static>(
    lanes: u16,
    tell: impl Fn(Client) -> F + Copy + 'static,
) {
    story_over(CALLS_PER_LINK_MAX, lanes, tell);
}

/// The same, with so many places for questions between two lanes.
#[track_caller]
pub(crate) fn story_over<F: Future<Output = ()> + 'static>(
    calls: usize,
    lanes: u16,
    tell: impl Fn(Client) -> F + Copy + 'static,
) {
    const PATIENCE: Nanos = Nanos::secs(600);
    let args = StartArgs {
        data: Some("/data".to_owned()),
        listen: Some(BROKER.to_owned()),
        ..StartArgs::default()
    };
    let inputs = Inputs { args, environment: Vec::new(), file: None, host_name: None };
    let config = Arc::new(load(&inputs).expect("a configuration"));
    let (sender, reports) = std::sync::mpsc::channel();
    let stopping = Arc::new(AtomicBool::new(false));
    let boots = mesh(lanes, CALLS_PER_LINK_MAX).into_iter().zip(mesh(lanes, calls));
    let gate = Gate::new(DESCRIPTORS_MAX);
    let boots = boots.map(|(boot, mail)| Boot {
        pid: 1,
        asked: Arc::default(),
        broken: None,
        config: Arc::clone(&config),
        lanes: NonZeroU16::new(lanes).expect("some lanes"),
        ports: Ports { boot, mail },
        gate: Arc::clone(&gate),
        reporter: Reporter::new(sender.clone()),
        stopping: Arc::clone(&stopping),
    });
    let boots: RefCell<Vec<Option<Boot>>> = RefCell::new(boots.map(Some).collect());
    let mut world = World::new(1, Faults::none());
    let broker = world.node(lanes);
    world.start(broker, |lane| {
        let boot = boots.borrow_mut()[usize::from(lane.id().0)].take().expect("started once");
        run(lane, boot)
    });
    let client = world.node(1);
    let told = Rc::new(Cell::new(false));
    let telling = Rc::clone(&told);
    world.start(client, |lane| {
        let told = Rc::clone(&telling);
        async move {
            tell(Client::connect(lane).await).await;
            told.set(true);
        }
    });
    let ended = world.run_to(PATIENCE, || told.get());
    assert!(
        ended,
        "the story did not end; the broker said {:?}",
        reports.try_iter().collect::<Vec<_>>()
    );
}

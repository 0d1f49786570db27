//! A whole broker in the simulator, and a client beside it that speaks real frames.
//!
//! The broker boots as it does on a machine. Stories are futures that run on the client's lane.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use corelane_core::buf::Buf;
use corelane_core::lane::{Importance, Lane};
use corelane_core::limits::CALLS_PER_LINK_MAX;
use corelane_core::mailbox::mesh;
use corelane_core::ring::Fd;
use corelane_core::ring::sim::{Faults, World};
use corelane_core::time::Nanos;
use corelane_net::frame;
use corelane_net::wire::{Request, Writer};

use crate::boot::{Boot, Gate, Ports, Report, Reporter, run};
use crate::config::args::StartArgs;
use crate::config::load::{Inputs, load};

/// Files and connections a simulated process may have open.
const DESCRIPTORS_MAX: u64 = 4096;

/// Where the first machine of a world is reached.
const BROKER: &str = "10.0.0.1:9092";

/// What the broker's process would print, and the wish that it told how it is.
struct Process {
    reports: Receiver<Report>,
    asked: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    lines: RefCell<Vec<String>>,
}

impl Process {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.borrow_mut();
        lines.extend(self.reports.try_iter().map(|it| match it {
            Report::Line(line) => line,
            other => format!("{other:?}"),
        }));
        lines.clone()
    }
}

/// A connection that takes one request after the other.
pub(crate) struct Client {
    lane: Lane,
    process: Rc<Process>,
    socket: Fd,
    received: Vec<u8>,
}

impl Client {
    async fn connect(lane: Lane, process: Rc<Process>) -> Self {
        let socket = loop {
            match lane.connect(BROKER.parse().expect("an address")).await {
                Ok(it) => break it.socket,
                // The broker is booting.
                Err(_) => lane.sleep(Nanos::millis(10)).await,
            }
        };
        Self { lane, process, socket, received: Vec::new() }
    }

    /// One more connection.
    pub(crate) async fn another(&self) -> Self {
        Self::connect(self.lane.clone(), Rc::clone(&self.process)).await
    }

    /// Everything the broker has printed so far.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Wishes that every lane printed its numbers, when it is woken next.
    pub(crate) fn ask_for_numbers(&self) {
        self.process.asked.fetch_add(1, Ordering::SeqCst);
    }

    /// Tells the broker to end in good order, when it is woken next.
    pub(crate) fn end_broker(&self) {
        self.process.stopping.store(true, Ordering::SeqCst);
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
        let answer = self.try_ask(version, request).await;
        answer.unwrap_or_else(|| panic!("no answer to {:?} version {version}", R::KEY))
    }

    /// The same, or nothing when the broker closes.
    pub(crate) async fn try_ask<'a, R: Request<'a>>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let writer = &mut Writer::copying(&mut out);
        frame::encode_request(version, 7, Some("story"), request, writer).expect("it can be said");
        self.ask_raw(&out).await
    }

    /// Sends these bytes; gives the next frame that comes, or nothing when the broker closes.
    pub(crate) async fn ask_raw(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let parts = vec![Buf::copy_of(bytes).freeze()];
        self.lane.send_all(&self.socket, parts).await.ok()?;
        self.next().await
    }

    /// The next frame that comes, or nothing when the broker closes.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((size, rest)) = self.received.split_first_chunk() {
                let size = u32::from_be_bytes(*size) as usize;
                if size <= rest.len() {
                    let answer = rest[..size].to_vec();
                    self.received.drain(..4 + size);
                    return Some(answer);
                }
            }
            let buf = self.lane.pool().get(1 << 16).expect("memory for an answer");
            let (bytes, buf) = self.lane.receive(&self.socket, buf).await;
            if !bytes.is_ok_and(|it| 0 < it) {
                return None;
            }
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
    let inputs = Inputs { args, ..Inputs::default() };
    let config = Arc::new(load(&inputs).expect("a configuration"));
    let (sender, reports) = std::sync::mpsc::channel();
    let asked = Arc::new(AtomicU64::new(0));
    let stopping = Arc::new(AtomicBool::new(false));
    let process = Rc::new(Process {
        reports,
        asked: Arc::clone(&asked),
        stopping: Arc::clone(&stopping),
        lines: RefCell::default(),
    });
    let boots = mesh(lanes, CALLS_PER_LINK_MAX).into_iter().zip(mesh(lanes, calls));
    let gate = Gate::new(DESCRIPTORS_MAX);
    let boots = boots.map(|(boot, mail)| Boot {
        pid: 1,
        asked: Arc::clone(&asked),
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
    let telling = (Rc::clone(&told), Rc::clone(&process));
    world.start(client, |lane| {
        let (told, process) = telling.clone();
        async move {
            tell(Client::connect(lane, process).await).await;
            told.set(true);
        }
    });
    let ended = world.run_to(PATIENCE, || told.get());
    assert!(ended, "the story did not end; the broker said {:?}", process.lines());
}

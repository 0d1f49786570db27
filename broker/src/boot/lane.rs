//! The boot of one lane: what it does when lane 0 asks.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use corelane_core::ids::LaneId;
use corelane_core::lane::{Importance, Lane, TaskId};
use corelane_core::mailbox::{Link, Port};
use corelane_core::metrics::Metrics;
use corelane_core::sync::Event;
use corelane_core::time::Nanos;
use corelane_net::conn::{ConnLimits, Crowd};
use corelane_storage::log::boot::{Notice, RecoveredPartition};
use corelane_storage::log::leave::Left;
use corelane_storage::log::open::Ready as OpenLog;
use corelane_storage::log::store::Store;

use super::accept::{Door, listen};
use super::all::{All, cannot_open, log_config, said};
use super::gate::Gate;
use super::notices::Room;
use super::report::{Report, Reporter, Trouble};
use super::telling::{tell, tell_when_asked};
use crate::config::keys;
use crate::config::load::Config;
use crate::exit::Exit;
use crate::handle::Handlers;
use crate::mutant::{Mutant, Mutation};
use crate::node::{Ask, Controller, Facts, Node, Tell};

/// The longest time a limit can mean; longer ones mean for ever.
const TIME_MS_MAX: u64 = 1_000 * 365 * 24 * 3_600_000;

/// How long open requests may take to be answered when the node stops.
const DRAIN: Nanos = Nanos::secs(5);

/// How often a lane that stops looks whether all others may stop, too.
const DRAIN_LOOK: Nanos = Nanos::millis(5);

/// The share of a lane's memory, as a divisor, that requests coming in may take at most.
const RECEIVE_SHARE: usize = 2;

/// How often the log is asked for something to tell.
const NOTICE_PAUSE: Nanos = Nanos::secs(1);

/// How often memory that was not needed goes back, a part of it.
const TRIM_PAUSE: Nanos = Nanos::secs(1);

/// The lanes' ways to each other, one of each kind for each lane.
pub struct Ports {
    pub boot: Port<BootAsk, BootTell>,
    pub mail: Port<Ask, Tell>,
}

/// What one lane is started with.
pub struct Boot {
    pub config: Arc<Config>,
    pub lanes: NonZeroU16,
    pub ports: Ports,
    pub reporter: Reporter,
    pub gate: Arc<Gate>,
    /// Raised from outside, together with a wake: end in good order.
    pub stopping: Arc<AtomicBool>,
    /// Grows, together with a wake, when somebody wants to know how the lanes are doing.
    pub asked: Arc<AtomicU64>,
    /// The number of this process, for whoever finds the directory locked.
    pub pid: u32,
    pub broken: Mutation,
}

/// Said at the end where the disk or the time did not allow more.
const NOT_ALL_LEFT: &str = "the log is closed in good order, but not all of the files that Kafka's own \
                            tools read could be written; the next clean stop goes on";

/// The boot's questions.
pub enum BootAsk {
    /// Open your log, under this generation and with these partitions in it.
    Open { facts: Arc<Facts>, mine: Vec<RecoveredPartition> },
    /// Every log is open and the generation counts: answer the other lanes from now on.
    Start,
    /// Lane 0 only: replay the metadata and show it to every lane.
    Show,
    /// Listen on these addresses, by listener.
    Listen(Vec<(String, SocketAddr)>),
    /// Make durable what there is, and end.
    Close,
}

pub enum BootTell {
    Done,
    Closed(Vec<Left>),
    Failed(Trouble),
}

/// Runs one lane of the broker until it is told to stop.
pub async fn run(lane: Lane, boot: Boot) {
    let Boot { config, lanes, ports, reporter, gate, stopping, asked, pid, broken } = boot;
    let link = ports.boot.attach(&lane);
    let stop = Event::new(&lane);
    let (told, flag) = (stop.clone(), Arc::clone(&stopping));
    lane.on_wake(Rc::new(move || {
        if flag.load(Ordering::SeqCst) {
            told.notify();
        }
    }));
    let closed = Event::new(&lane);
    let (never, closing) = (closed.seen(), closed.clone());
    let share = Share {
        lane: lane.clone(),
        crowd: crowd_of(&config, &lane, broken),
        gate,
        link: link.clone(),
        mail: Some(ports.mail),
        reporter: reporter.clone(),
        asked,
        ready: None,
        node: None,
        accepting: Vec::new(),
        closed,
    };
    lane.spawn("boot", Importance::Serving, share.answer());
    if lane.id() != LaneId(0) {
        closing.past(never).await;
        reporter.tell(Report::Ended);
        return;
    }
    let all = All { lane: lane.clone(), link, config, lanes, pid, broken };
    let taken = match all.bring_up().await {
        Ok((ready, taken)) => {
            reporter.tell(Report::Ready(ready));
            taken
        }
        Err(trouble) => {
            reporter.tell(Report::Trouble(trouble));
            return;
        }
    };
    while !stopping.load(Ordering::SeqCst) {
        stop.wait().await;
    }
    match all.bring_down(&taken).await {
        Ok(whole) => {
            if !whole {
                reporter.line(NOT_ALL_LEFT);
            }
            reporter.tell(Report::Ended);
        }
        Err(trouble) => reporter.tell(Report::Trouble(trouble)),
    }
}

/// One lane's part in the boot.
struct Share {
    lane: Lane,
    crowd: Crowd,
    gate: Arc<Gate>,
    link: Link<BootAsk, BootTell>,
    mail: Option<Port<Ask, Tell>>,
    reporter: Reporter,
    asked: Arc<AtomicU64>,
    /// The log, before it counts.
    ready: Option<(OpenLog, Metrics, Arc<Facts>)>,
    node: Option<Node>,
    accepting: Vec<TaskId>,
    closed: Event,
}

impl Share {
    async fn answer(mut self) {
        loop {
            let (caller, ask) = self.link.next().await;
            let done = match ask {
                BootAsk::Open { facts, mine } => self.open(facts, mine).await.map(|()| None),
                BootAsk::Start => self.start().map(|()| None),
                BootAsk::Show => self.show().await.map(|()| None),
                BootAsk::Listen(bound) => self.listen(bound).await.map(|()| None),
                BootAsk::Close => self.close().await.map(Some),
            };
            let over = self.node.is_none() && self.ready.is_none();
            let tell = match done {
                Ok(None) => BootTell::Done,
                Ok(Some(left)) => BootTell::Closed(left),
                Err(trouble) => BootTell::Failed(trouble),
            };
            self.link.answer(caller, tell);
            if over {
                self.closed.notify();
            }
        }
    }

    async fn open(
        &mut self,
        facts: Arc<Facts>,
        mine: Vec<RecoveredPartition>,
    ) -> Result<(), Trouble> {
        let metrics = Metrics::default();
        let mut config = log_config(&facts.config, facts.lanes, facts.broken);
        config.upkeep.open_files_max = self.gate.segments_open_max(facts.lanes);
        let ready = Store::open(&self.lane, &config, facts.incarnation, mine, &metrics)
            .await
            .map_err(|error| cannot_open(&facts.config, &error))?;
        self.ready = Some((ready, metrics, facts));
        Ok(())
    }

    fn start(&mut self) -> Result<(), Trouble> {
        let (ready, metrics, facts) = self.ready.take().expect("a lane starts what it opened");
        let store = ready.start();
        let mail = self.mail.take().expect("a lane starts once");
        let link = mail.attach(&self.lane);
        let telling = tell_when_asked(
            self.lane.clone(),
            metrics.clone(),
            Arc::clone(&self.asked),
            self.reporter.clone(),
        );
        self.lane.spawn("telling", Importance::Background, telling);
        let node = Node::new(&self.lane, facts, store.clone(), link, metrics);
        self.lane.spawn("lanes", Importance::Serving, node.clone().serve_lanes());
        let (reporter, watched) = (self.reporter.clone(), store.clone());
        self.lane.spawn("fence", Importance::Serving, async move {
            let errno = watched.fenced().await;
            let what = format!(
                "a write or flush of the data directory failed: {errno}; nothing is \
                 acknowledged any more; check the disk before the next start"
            );
            reporter.tell(Report::Trouble(Trouble { exit: Exit::Fenced, what }));
        });
        self.lane.spawn(
            "notices",
            Importance::Background,
            tell_notices(node.clone(), self.reporter.clone()),
        );
        self.lane.spawn("trim", Importance::Background, trim(self.lane.clone()));
        self.node = Some(node);
        Ok(())
    }

    /// Lets open requests be answered, at once where they only wait. No lane goes while another may still ask it something, and
    /// what others do cannot be waited for by name this late: so it is looked at.
    async fn drain(&self) {
        self.crowd.stop();
        if let Some(node) = &self.node {
            node.stop_waiting();
        }
        let deadline = self.lane.now() + DRAIN;
        while 0 < self.gate.open() && self.lane.now() < deadline {
            self.lane.sleep(DRAIN_LOOK).await;
        }
    }

    async fn close(&mut self) -> Result<Vec<Left>, Trouble> {
        for task in self.accepting.drain(..) {
            self.lane.cancel(task);
        }
        self.drain().await;
        let Some(node) = self.node.take() else { return Ok(Vec::new()) };
        // Those of a topic that was made meanwhile.
        node.stop_groups();
        let closed = node.store().close().await;
        tell(&self.lane, node.metrics(), &self.reporter);
        closed.map_err(|errno| Trouble {
            exit: Exit::Fenced,
            what: format!("the log could not be closed: {errno}"),
        })
    }

    async fn show(&mut self) -> Result<(), Trouble> {
        let node = self.node.clone().expect("a lane shows once it is open");
        let controller = Controller::load(&node)
            .await
            .map_err(|it| Trouble { exit: Exit::DataDirectory, what: it.to_string() })?;
        node.lead(controller).await;
        Ok(())
    }

    async fn listen(&mut self, bound: Vec<(String, SocketAddr)>) -> Result<(), Trouble> {
        let node = self.node.clone().expect("a lane listens once it is open");
        let door = Door {
            crowd: self.crowd.clone(),
            gate: Arc::clone(&self.gate),
            handlers: Rc::new(Handlers::new(&node)),
            node,
            reporter: self.reporter.clone(),
            notices: Rc::default(),
        };
        for (name, addr) in bound {
            let (listener, _) = listen(&self.lane, addr, true).await.map_err(|errno| Trouble {
                exit: Exit::AddressInUse,
                what: format!("cannot listen on {addr} ({name}): {errno}"),
            })?;
            let accepting = door.clone().open(listener, name);
            self.accepting.push(self.lane.spawn("accept", Importance::Serving, accepting));
        }
        Ok(())
    }
}

/// Gives back to the host what the lane's memory does not need.
async fn trim(lane: Lane) {
    loop {
        lane.sleep(TRIM_PAUSE).await;
        lane.pool().trim();
    }
}

/// Passes on what a log has to say to people, and to the other lanes.
async fn tell_notices(node: Node, reporter: Reporter) {
    let mut room = Room::default();
    loop {
        node.lane().sleep(NOTICE_PAUSE).await;
        let store = node.store();
        if let Some(line) = room.look(store.is_out_of_space(), store.refused_for_space()) {
            reporter.line(line);
        }
        for line in node.take_lines() {
            reporter.line(line);
        }
        for notice in node.store().take_notices() {
            reporter.line(said(&notice));
            if let Notice::Damaged(damage) = notice {
                node.tell_offline(damage.of).await;
            }
        }
    }
}

fn limits_of(config: &Config, broken: Mutation) -> ConnLimits {
    let number = |row| u64::try_from(config.settings.number(row)).unwrap_or(0);
    let millis = |row| Nanos::millis(number(row).min(TIME_MS_MAX));
    let size = |row| usize::try_from(number(row)).unwrap_or(usize::MAX);
    ConnLimits {
        frame_bytes_max: u32::try_from(number(&keys::REQUEST_BYTES_MAX)).unwrap_or(u32::MAX),
        proof_bytes_max: u32::try_from(number(&keys::PROOF_BYTES_MAX)).unwrap_or(u32::MAX),
        proof: millis(&keys::PROOF_MS),
        in_flight_max: size(&keys::REQUESTS_IN_FLIGHT_MAX).max(1),
        pending_bytes_max: size(&keys::SEND_BYTES_MAX),
        progress: millis(&keys::FRAME_PROGRESS_MS),
        send_stall: millis(&keys::SEND_STALL_MS),
        idle: millis(&keys::CONNECTIONS_MAX_IDLE_MS),
        unordered: broken == Some(Mutant::AnswersOutOfOrder),
    }
}

fn crowd_of(config: &Config, lane: &Lane, broken: Mutation) -> Crowd {
    let send_bytes = usize::try_from(config.settings.number(&keys::LANE_SEND_BYTES));
    let send_bytes = send_bytes.unwrap_or(usize::MAX);
    Crowd::new(lane, limits_of(config, broken), receive_bytes_of(config, lane), send_bytes)
}

/// What a lane may hold of requests.
pub(crate) fn receive_bytes_of(config: &Config, lane: &Lane) -> usize {
    let told = config.settings.number(&keys::RECEIVE_BYTES);
    let share = lane.pool().stats().budget_bytes / RECEIVE_SHARE;
    usize::try_from(told).unwrap_or(usize::MAX).min(share)
}

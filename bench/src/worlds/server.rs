//! The broker as a process of a world: started like the real one, and started again when it ended.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};

use corelane_broker::boot::{self, Boot, Ports, Report, Reporter, Trouble};
use corelane_broker::config::args::StartArgs;
use corelane_broker::config::load::{Config, Inputs, load};
use corelane_broker::exit::Exit;
use corelane_broker::mutant::Mutation;
use corelane_core::limits::CALLS_PER_LINK_MAX;
use corelane_core::mailbox::mesh;
use corelane_core::ring::sim::{Chance, Cut, NodeId, World};
use corelane_core::time::Nanos;

/// What the simulated machine lets a process open.
const DESCRIPTORS_MAX: u64 = 20_000;

/// The port every broker of a world listens on.
pub const PORT: u16 = 9092;

/// A machine that runs the broker.
pub struct Server {
    pub node: NodeId,
    lanes: NonZeroU16,
    config: Arc<Config>,
    broken: Mutation,
    reports: RefCell<Option<Receiver<Report>>>,
    /// What it said last, for people who look at a failed run.
    pub said: RefCell<Vec<String>>,
    pub ready: Cell<bool>,
    /// When the process is started again, once it ended.
    restart_at: Cell<Option<Nanos>>,
    pub restarts: Cell<u64>,
    /// The last start failed.
    unusable: Cell<bool>,
    pub troubles: RefCell<BTreeMap<String, u64>>,
}

impl Server {
    /// A machine of `lanes` lanes; nothing runs on it yet.
    pub fn new(world: &mut World, lanes: NonZeroU16, broken: Mutation) -> Self {
        let node = world.node(lanes.get());
        let listen = world.addr(node, PORT).to_string();
        let set = [
            ("num.partitions", "2"),
            ("corelane.journal.bytes", "33554432"),
            // Small finished segments, and however little is read of them may come as a file.
            ("log.roll.ms", "400"),
            ("corelane.fetch.file.bytes.min", "1"),
            ("offsets.topic.num.partitions", "4"),
            ("group.min.session.timeout.ms", "500"),
            ("group.initial.rebalance.delay.ms", "200"),
        ];
        let args = StartArgs {
            data: Some("/data".to_owned()),
            listen: Some(listen),
            set: set.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..StartArgs::default()
        };
        let config = load(&Inputs { args, ..Inputs::default() }).expect("a good configuration");
        Self {
            node,
            lanes,
            config: Arc::new(config),
            broken,
            reports: RefCell::default(),
            said: RefCell::default(),
            ready: Cell::new(false),
            restart_at: Cell::new(None),
            restarts: Cell::new(0),
            unusable: Cell::new(false),
            troubles: RefCell::default(),
        }
    }

    #[must_use]
    pub fn lanes(&self) -> u16 {
        self.lanes.get()
    }

    /// Starts the process again some time after it ended, whatever ended it.
    pub fn keep_up(&self, world: &mut World, chance: &mut Chance) {
        self.watch(world);
        if world.is_running(self.node) {
            return;
        }
        match self.restart_at.get() {
            None => {
                let pause = Nanos::millis(chance.between(0, 2_000));
                self.restart_at.set(Some(world.now() + pause));
            }
            Some(at) if at <= world.now() => self.restart(world),
            Some(_) => {}
        }
    }

    /// Starts the process at once if it does not run.
    pub fn restart(&self, world: &mut World) {
        self.restart_at.set(None);
        self.restarts.set(self.restarts.get() + 1);
        if self.unusable.take() {
            // A disk that answers nothing but errors wants its machine switched off and on.
            world.cut_power(self.node, Cut::KeepNone);
        }
        self.start(world);
    }

    pub fn start(&self, world: &mut World) {
        let (sender, reports) = channel();
        self.reports.replace(Some(reports));
        self.ready.set(false);
        let stopping = Arc::new(AtomicBool::new(false));
        let gate = boot::Gate::new(DESCRIPTORS_MAX);
        let boots = mesh(self.lanes.get(), CALLS_PER_LINK_MAX).into_iter();
        let mails = mesh(self.lanes.get(), CALLS_PER_LINK_MAX).into_iter();
        let ports: RefCell<Vec<_>> =
            RefCell::new(boots.zip(mails).map(|(boot, mail)| Some(Ports { boot, mail })).collect());
        world.start(self.node, |lane| {
            let ports = ports.borrow_mut()[usize::from(lane.id().0)].take();
            let boot = Boot {
                config: Arc::clone(&self.config),
                lanes: self.lanes,
                ports: ports.expect("each lane starts once"),
                reporter: Reporter::new(sender.clone()),
                gate: Arc::clone(&gate),
                stopping: Arc::clone(&stopping),
                asked: Arc::default(),
                pid: 1,
                broken: self.broken,
            };
            boot::run(lane, boot)
        });
    }

    /// Listens to what the process says; ends it when it says that it cannot go on, as a process
    /// does. Gives the reason then.
    pub fn watch(&self, world: &mut World) -> Option<Trouble> {
        let reports = self.reports.borrow();
        let mut trouble = None;
        for report in reports.iter().flat_map(Receiver::try_iter) {
            match report {
                Report::Line(line) => self.said.borrow_mut().push(line),
                Report::Ready(it) => {
                    self.said.borrow_mut().extend(it.notices);
                    self.ready.set(true);
                }
                Report::Trouble(it) => {
                    self.said.borrow_mut().push(it.what.clone());
                    trouble = Some(it);
                }
                Report::Ended => self.said.borrow_mut().push("a lane ended".to_owned()),
            }
        }
        if trouble.is_some() && world.is_running(self.node) {
            self.ready.set(false);
            world.kill(self.node);
        }
        if let Some(it) = &trouble {
            self.unusable.set(it.exit != Exit::Fenced);
            *self.troubles.borrow_mut().entry(format!("{:?}", it.exit)).or_default() += 1;
        }
        trouble
    }
}

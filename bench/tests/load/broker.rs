//! A broker of one lane on a port of its own, in this process, for as long as this value lives.

use corelane_broker::boot::{self, Boot, Gate, Ports, Report, Reporter};
use corelane_broker::config::args::StartArgs;
use corelane_broker::config::load::{Inputs, load};
use corelane_core::host::{self, LanesSetup};
use corelane_core::ids::LaneId;
use corelane_core::lane::Executor;
use corelane_core::limits::CALLS_PER_LINK_MAX;
use corelane_core::mailbox::mesh;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

const LANE_BYTES: usize = 64 << 20;

pub(crate) struct Broker {
    pub(crate) address: String,
    data: PathBuf,
    reports: Receiver<Report>,
    stop: Box<dyn Fn()>,
}

impl Broker {
    pub(crate) fn start(name: &str) -> Self {
        let data =
            std::env::temp_dir().join(format!("corelane-load-{name}-{}", std::process::id()));
        let set =
            [("corelane.journal.bytes", "33554432"), ("group.initial.rebalance.delay.ms", "0")];
        let args = StartArgs {
            data: Some(data.to_str().expect("a path in text").to_owned()),
            listen: Some("127.0.0.1:0".to_owned()),
            set: set.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..StartArgs::default()
        };
        let config = load(&Inputs { args, ..Inputs::default() }).expect("a good configuration");
        let config = Arc::new(config);
        let facts = host::Facts::read();
        let setup = LanesSetup::pinned(1, &[], LANE_BYTES);
        let (sender, reports) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let gate = Gate::new(facts.descriptors_max);
        let mut boots = mesh(1, CALLS_PER_LINK_MAX).into_iter();
        let mut mails = mesh(1, CALLS_PER_LINK_MAX).into_iter();
        let running = host::start_lanes(&setup, |_| {
            let boot = Boot {
                config: Arc::clone(&config),
                lanes: NonZeroU16::MIN,
                ports: Ports {
                    boot: boots.next().expect("a port"),
                    mail: mails.next().expect("a port"),
                },
                reporter: Reporter::new(sender.clone()),
                gate: Arc::clone(&gate),
                stopping: Arc::clone(&stopping),
                asked: Arc::new(AtomicU64::new(0)),
                pid: std::process::id(),
                broken: None,
            };
            move |ring| {
                let mut executor = Executor::new(ring);
                let lane = executor.lane().clone();
                executor.block_on(boot::run(lane, boot));
            }
        });
        let running = running.expect("a lane");
        let address = loop {
            match reports.recv().expect("the lane speaks") {
                Report::Ready(ready) => break ready.listeners[0].place.to_string(),
                Report::Trouble(trouble) => panic!("the broker did not start: {}", trouble.what),
                Report::Line(_) => {}
                Report::Ended => panic!("the broker ended"),
            }
        };
        let stop = Box::new(move || {
            stopping.store(true, Ordering::SeqCst);
            running.remote(LaneId(0)).wake();
        });
        Self { address, data, reports, stop }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        (self.stop)();
        while let Ok(report) = self.reports.recv() {
            if matches!(report, Report::Ended) {
                break;
            }
        }
        drop(std::fs::remove_dir_all(&self.data));
    }
}

//! The process: host, lanes, the ready line, signals, and the exit code that tells how it went.

use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use corelane_core::host::{self, Lanes, LanesSetup, Signal, Signals};
use corelane_core::ids::LaneId;
use corelane_core::lane::Executor;
use corelane_core::limits::CALLS_PER_LINK_MAX;
use corelane_core::mailbox::mesh;
use corelane_core::ring::Errno;
use corelane_core::ring::real::{Refusal, check_direct_io};

use crate::boot::{self, Boot, Gate, Ports, Ready, Report, Reporter, Trouble};
use crate::config::keys;
use crate::config::load::Config;
use crate::ending::{Ending, Meant};
use crate::exit::Exit;
use crate::mutant::Mutation;
use crate::speech::{print, say};

/// The share of the machine's free memory that is used when nobody says, as a divisor.
const MEMORY_SHARE: u64 = 4;

/// A lane has at least so much memory.
const LANE_MEMORY_BYTES_MIN: u64 = 32 << 20;

/// Runs the broker until it is told to stop, or cannot go on.
#[must_use]
pub fn start(config: &Config) -> Exit {
    start_broken(config, None)
}

/// Runs the broker with a mistake in it, so that a test on a real disk can show that it would notice.
#[must_use]
pub fn start_broken(config: &Config, broken: Mutation) -> Exit {
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(errno) => {
            say(&format!("cannot take signals: {errno}"));
            return Exit::Failure;
        }
    };
    if let Err(errno) = host::raise_descriptors() {
        say(&format!("warning: the limit on open files stays as it is: {errno}"));
    }
    let facts = host::Facts::read();
    let lanes = config.lanes.unwrap_or_else(|| facts.default_lanes());
    let Some(lanes) = NonZeroU16::new(lanes) else {
        say("at least one lane is needed");
        return Exit::Usage;
    };
    let memory = memory_bytes(config, &facts);
    let pool_bytes = (memory / u64::from(lanes.get())).max(LANE_MEMORY_BYTES_MIN);
    say(&format!("corelane {} on Linux {}", env!("CARGO_PKG_VERSION"), facts.kernel));
    say(&format!(
        "{lanes} lanes on {} usable cores, {} MiB of memory each, {} open files",
        facts.cores.len(),
        pool_bytes >> 20,
        facts.descriptors_max
    ));
    if facts.cores.len() < usize::from(lanes.get()) {
        say(&format!(
            "warning: {lanes} lanes share {} cores and are pinned to none; use fewer lanes, or give \
             the process more cores (taskset, cpuset)",
            facts.cores.len()
        ));
    }
    if let Err(refusal) = direct_io(&config.data) {
        return match refusal {
            // Nothing is wrong with the host, but with the place.
            Refusal::Other { errno, .. } => {
                say(&format!(
                    "cannot use the data directory {}: no file can be written there: {errno}",
                    config.data
                ));
                Exit::DataDirectory
            }
            refusal => refused(&refusal),
        };
    }
    let pool_bytes = usize::try_from(pool_bytes).unwrap_or(usize::MAX);
    let gate = Gate::new(facts.descriptors_max);
    let setup = LanesSetup::pinned(lanes.get(), &facts.cores, pool_bytes);
    if !setup.cores.is_empty() {
        let pinned = setup.cores.iter().enumerate();
        let pinned: Vec<_> = pinned.map(|(lane, core)| format!("{lane} on core {core}")).collect();
        say(&format!("lanes: {}", pinned.join(", ")));
    }
    run(config, signals, lanes, &gate, &setup, broken)
}

fn memory_bytes(config: &Config, facts: &host::Facts) -> u64 {
    match config.settings.number(&keys::MEMORY_BYTES) {
        -1 => facts.memory_available_bytes / MEMORY_SHARE,
        bytes => u64::try_from(bytes).unwrap_or(0),
    }
}

/// The directory, or the nearest one above that exists, must allow direct I/O.
fn direct_io(data: &str) -> Result<(), Refusal> {
    let data = Path::new(data);
    let above = data.ancestors().find(|it| it.is_dir());
    check_direct_io(above.unwrap_or_else(|| Path::new(".")))
}

fn refused(refusal: &Refusal) -> Exit {
    say(&format!("this host cannot run the broker: {refusal}"));
    Exit::Host
}

fn run(
    config: &Config,
    signals: Signals,
    lanes: NonZeroU16,
    gate: &Arc<Gate>,
    setup: &LanesSetup,
    broken: Mutation,
) -> Exit {
    let (sender, reports) = mpsc::channel();
    let stopping = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let shared = Arc::new(config.clone());
    let mut boots = mesh(lanes.get(), CALLS_PER_LINK_MAX).into_iter();
    let mut mails = mesh(lanes.get(), CALLS_PER_LINK_MAX).into_iter();
    let started = host::start_lanes(setup, |_| {
        let ports = Ports {
            boot: boots.next().expect("a port for each lane"),
            mail: mails.next().expect("a port for each lane"),
        };
        let boot = Boot {
            config: Arc::clone(&shared),
            lanes,
            ports,
            reporter: Reporter::new(sender.clone()),
            gate: Arc::clone(gate),
            stopping: Arc::clone(&stopping),
            asked: Arc::clone(&asked),
            pid: std::process::id(),
            broken,
        };
        move |ring| {
            let mut executor = Executor::new(ring);
            let lane = executor.lane().clone();
            executor.block_on(boot::run(lane, boot));
        }
    });
    drop(sender);
    let running = match started {
        Ok(running) => running,
        Err(refusal) => return refused(&refusal),
    };
    for line in running.describe() {
        say(line);
    }
    if let Err(errno) = obey(signals, &running, &stopping, &asked, lanes) {
        say(&format!("cannot take signals: {errno}"));
        return Exit::Failure;
    }
    watch(&reports, lanes, config)
}

/// SIGTERM, SIGINT and SIGHUP end the broker in good order; one that comes later ends it at once. SIGUSR1 asks the
/// lanes how they are doing.
fn obey(
    signals: Signals,
    running: &Lanes,
    stopping: &Arc<AtomicBool>,
    asked: &Arc<AtomicU64>,
    lanes: NonZeroU16,
) -> Result<(), Errno> {
    let wakes: Vec<_> = (0..lanes.get()).map(|it| running.remote(LaneId(it))).collect();
    let (stopping, asked) = (Arc::clone(stopping), Arc::clone(asked));
    let mut ending = Ending::default();
    let take = move |signal, now| {
        match signal {
            Signal::Report => {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            Signal::Terminate | Signal::Interrupt | Signal::HangUp => match ending.wish(now) {
                Meant::InGoodOrder => stopping.store(true, Ordering::SeqCst),
                Meant::AtOnce => {
                    say("told to end twice: it ends at once, and not in good order");
                    std::process::exit(Exit::Failure as i32);
                }
            },
        }
        for wake in &wakes {
            wake.wake();
        }
        ControlFlow::Continue(())
    };
    signals.watch(take).map(drop)
}

/// Passes on what the lanes say, until they have ended.
fn watch(reports: &mpsc::Receiver<Report>, lanes: NonZeroU16, config: &Config) -> Exit {
    let mut ended = 0;
    while let Ok(report) = reports.recv() {
        match report {
            Report::Line(line) => say(&line),
            Report::Ready(ready) => announce(&ready, config, lanes),
            Report::Trouble(Trouble { exit, what }) => {
                say(&what);
                return exit;
            }
            Report::Ended => ended += 1,
        }
        if ended == lanes.get() {
            return Exit::Clean;
        }
    }
    say("the lanes are gone");
    Exit::Failure
}

/// The one line that others wait for.
fn announce(ready: &Ready, config: &Config, lanes: NonZeroU16) {
    for notice in &ready.notices {
        say(notice);
    }
    for listener in &ready.listeners {
        say(&listener.to_string());
    }
    let places: Vec<_> = ready.listeners.iter().map(|it| it.place.to_string()).collect();
    let line = format!(
        "corelane ready kafka={} data={} lanes={lanes} version={}\n",
        places.join(","),
        config.data,
        env!("CARGO_PKG_VERSION")
    );
    if let Err(error) = print(&line) {
        say(&format!("warning: the ready line could not be written to standard output: {error}"));
    }
}

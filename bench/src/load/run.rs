//! One run, from the file to the result: it leads the threads through the phases and gathers what
//! they say.
//!
//! Phases: topics are made and everybody connects; the load warms up; a backlog is built while
//! consumers rest, if one is asked for; then what is due counts; then producers end, and consumers
//! have time to reach the end.

use super::cluster;
use super::control::{Control, get, nanos, set};
use super::host;
use super::options::Options;
use super::report::{Backlog, BrokerUse, Results};
use super::stats::{Points, Second, Slot};
use super::threads::{self, Said, Shared};
use super::verify::{Sent, Verify};
use super::workload::{Rate, Workload};
use crate::exit::Exit;
use corelane_core::host::raise_descriptors;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use std::fs::OpenOptions;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The part of a warm-up at full speed that is at full speed: the rest is for the schedule to settle.
const FULL_SPEED: f64 = 0.7;
/// How often the coordinator looks.
const LOOK: Duration = Duration::from_millis(20);
/// Between "go" and the first record, so that all threads have heard it.
const LEAD: Duration = Duration::from_millis(50);
/// How long consumers may make no progress at the end before what is missing counts as lost.
const NO_PROGRESS: Duration = Duration::from_secs(30);
/// How long they are waited for when nothing is verified.
const DRAIN_UNVERIFIED: Duration = Duration::from_secs(5);
/// How long all connections may take.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// How long threads may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(120);
/// How long a backlog may take to build.
const BACKLOG_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Resident memory of the broker is looked at so often.
const RSS_EVERY: Duration = Duration::from_millis(250);

/// Why there is no result.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    why: String,
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
    fn broke(why: impl ToString) -> Self {
        Self { exit: Exit::Failed, why: why.to_string() }
    }
}

/// Runs what the options say, prints the result, and says how it went.
pub(crate) fn main(options: &Options) -> Exit {
    let ended = run(options).and_then(|results| {
        match &options.json {
            // Then the line is all that stdout has.
            Some(path) if path == Path::new("-") => eprint!("{}", results.text()),
            _ => print!("{}", results.text()),
        }
        if let Some(path) = &options.json {
            write_line(path, &results.json().to_string())
                .map_err(|it| Failure::broke(format!("{}: {it}", path.display())))?;
        }
        Ok(results)
    });
    match ended {
        Ok(results) if options.verify && !(results.is_sound() && results.drained) => Exit::Failed,
        Ok(_) => Exit::Fine,
        Err(failure) => {
            eprintln!("corelane-bench: {}", failure.why);
            failure.exit
        }
    }
}

fn write_line(path: &Path, line: &str) -> io::Result<()> {
    if path == Path::new("-") {
        return writeln!(io::stdout().lock(), "{line}");
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // In one piece, so that runs side by side do not mix.
    file.write_all(format!("{line}\n").as_bytes())
}

fn run(options: &Options) -> Result<Results, Failure> {
    let usage = |it: &dyn ToString| Failure { exit: Exit::Usage, why: it.to_string() };
    let mut workload = Workload::read(&options.file).map_err(|it| usage(&it))?;
    if let Some(seconds) = options.seconds {
        workload.measured = Duration::from_secs_f64(seconds);
    }
    if let Some(seconds) = options.warm_up {
        workload.warm_up = Duration::from_secs_f64(seconds);
    }
    if let Some(rate) = options.rate {
        workload.rate = if rate == 0.0 { Rate::Max } else { Rate::Of(rate) };
    }
    if let Some(pid) = options.broker_pid {
        host::used(pid).map_err(|it| usage(&format!("--broker-pid {pid}: {it}")))?;
    }
    raise_descriptors().map_err(|it| Failure::broke(format!("the limit on open files: {it}")))?;
    let begun = Instant::now();
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .map_err(|it| Failure::broke(format!("glommio: {it}")))?;
    let reached = on(&executor, cluster::reach(&options.brokers)).map_err(|it| Failure {
        exit: Exit::NotStarted,
        why: format!("no broker answered: {it}"),
    })?;
    let prefix = format!("bench-{:x}-{}", Control::new().wall_ms(0), std::process::id());
    let cluster = on(&executor, cluster::prepare(reached, &workload, &prefix))
        .map_err(|it| Failure::broke(format!("the topics: {it}")))?;
    let cluster = Arc::new(cluster);
    let verify = options.verify.then(|| {
        Arc::new(Verify::new(workload.topics, workload.subscriptions, workload.partitions))
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shared = Shared {
        threads: options.threads.or(workload.own.threads).unwrap_or(cores),
        workload: Arc::new(workload),
        cluster: Arc::clone(&cluster),
        control: Arc::new(Control::new()),
        verify,
        prefix: prefix.into(),
    };
    let results = lead(options, &shared, begun);
    shared.control.stop.store(true, Ordering::Relaxed);
    let results = results?;
    if !options.keep_topics {
        on(&executor, cluster::remove(&cluster))
            .map_err(|it| Failure::broke(format!("removing the topics: {it}")))?;
    }
    Ok(results)
}

fn on<T>(executor: &LocalExecutor, future: impl Future<Output = T>) -> T {
    executor.run(future)
}

/// What the threads have said so far.
struct Gathered {
    said: Receiver<Said>,
    threads: usize,
    ready: usize,
    ended: usize,
    sent_by: usize,
    sent: Vec<Sent>,
    series: Vec<Second>,
    /// The second that not all threads have spoken of, and how many have.
    second: Slot,
    in_second: usize,
    whole: Slot,
    corrupt: u64,
    unsent: u64,
    retried: u64,
    complaints: Vec<String>,
    joined: Vec<Duration>,
    progress: Progress,
    broker_pid: Option<u32>,
    rss_max_bytes: u64,
    rss_at: Instant,
}

impl Gathered {
    /// Takes what is said, for `time` at most.
    fn listen(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            self.look_at_broker();
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(said) => self.take(said)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) if self.ended == self.threads => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::broke("a thread of the load ended early"));
                }
            }
        }
    }

    fn take(&mut self, said: Said) -> Result<(), Failure> {
        match said {
            Said::Ready => self.ready += 1,
            Said::Second(slot) => {
                self.second.add(&slot);
                self.in_second = (self.in_second + 1) % self.threads;
                if self.in_second == 0 {
                    let second = Second::from(&mem::replace(&mut self.second, Slot::new()));
                    self.series.push(second);
                    self.progress.show(self.series.len(), &second);
                }
            }
            Said::Sent(mut sent) => {
                self.sent_by += 1;
                self.sent.append(&mut sent);
            }
            Said::Joined(took) => self.joined.push(took),
            Said::Whole(mut stats) => {
                self.ended += 1;
                self.whole.add(&stats.whole);
                self.corrupt += stats.corrupt;
                self.unsent += stats.unsent;
                self.retried += stats.retried;
                self.complaints.append(&mut stats.complaints);
            }
            Said::Failed(why) => return Err(Failure::broke(why)),
        }
        Ok(())
    }

    fn look_at_broker(&mut self) {
        let Some(pid) = self.broker_pid.filter(|_| RSS_EVERY <= self.rss_at.elapsed()) else {
            return;
        };
        self.rss_at = Instant::now();
        // A broker that has gone is noticed by those who talk to it.
        let bytes = host::resident_bytes(pid).unwrap_or(0);
        self.rss_max_bytes = self.rss_max_bytes.max(bytes);
    }

    /// Listens until `done`, or the time is over; says whether it was done.
    fn listen_until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Failure> {
        let until = Instant::now() + within;
        while !done(self) {
            if until <= Instant::now() {
                return Ok(false);
            }
            self.listen(LOOK)?;
        }
        Ok(true)
    }
}

/// The line people look at while it runs.
struct Progress {
    every: Duration,
    shown: Option<Instant>,
    on_terminal: bool,
    phase: &'static str,
}

impl Progress {
    fn show(&mut self, number: usize, second: &Second) {
        let every = if self.on_terminal { Duration::ZERO } else { self.every };
        if self.shown.is_some_and(|it| it.elapsed() < every) {
            return;
        }
        self.shown = Some(Instant::now());
        let ms = |it: Option<Points>| it.map_or(0.0, |it| it.p99 as f64 / 1e6);
        let line = format!(
            "{number:>5} s  {:<8} out {:>9}/s {:>7.1} MB/s  in {:>9}/s {:>7.1} MB/s  \
             p99 {:.2} ms  e2e p99 {:.2} ms  errors {}",
            self.phase,
            second.out.records,
            second.out.bytes as f64 / 1e6,
            second.back.records,
            second.back.bytes as f64 / 1e6,
            ms(second.produce),
            ms(second.e2e),
            second.errors,
        );
        if self.on_terminal { eprint!("\r{line}\x1b[K") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if self.on_terminal && self.shown.is_some() {
            eprintln!();
        }
    }
}

fn lead(options: &Options, shared: &Shared, begun: Instant) -> Result<Results, Failure> {
    let (tell, said) = channel();
    let running = threads::start(shared, &tell).map_err(Failure::broke)?;
    drop(tell);
    let mut gathered = Gathered {
        said,
        threads: shared.threads,
        ready: 0,
        ended: 0,
        sent_by: 0,
        sent: Vec::new(),
        series: Vec::new(),
        second: Slot::new(),
        in_second: 0,
        whole: Slot::new(),
        corrupt: 0,
        unsent: 0,
        retried: 0,
        complaints: Vec::new(),
        joined: Vec::new(),
        progress: Progress {
            every: shared.workload.progress_every,
            shown: None,
            on_terminal: io::stderr().is_terminal(),
            phase: "warm-up",
        },
        broker_pid: options.broker_pid,
        rss_max_bytes: 0,
        rss_at: Instant::now(),
    };
    let threads = shared.threads;
    if !gathered.listen_until(READY_WITHIN, |it| it.ready == threads)? {
        return Err(Failure::broke("the connections were not open in time"));
    }
    let phases = Phases { options, shared };
    let measured = phases.go(&mut gathered, begun.elapsed())?;
    for thread in running {
        if thread.join().is_err() {
            return Err(Failure::broke("a thread of the load panicked"));
        }
    }
    gathered.progress.end();
    let verdict = shared.verify.as_ref().map(|it| it.verdict(&gathered.sent));
    Ok(Results {
        workload: (*shared.workload).clone(),
        labels: options.labels.clone(),
        seconds: measured.seconds,
        whole: gathered.whole,
        series: gathered.series,
        measured_from: measured.from_second,
        verdict,
        corrupt: gathered.corrupt,
        unsent: gathered.unsent,
        retried: gathered.retried,
        complaints: gathered.complaints,
        generator_cpu_s: measured.generator_cpu_s,
        threads: shared.threads,
        broker: measured
            .broker
            .map(|used| BrokerUse { used, rss_max_bytes: gathered.rss_max_bytes }),
        backlog: measured.backlog,
        joined: gathered.joined,
        prepared: measured.prepared,
        drained: measured.drained,
        machine: host::machine(),
        commit: host::commit(),
    })
}

/// What the phases found out.
struct Measured {
    seconds: f64,
    from_second: usize,
    generator_cpu_s: f64,
    broker: Option<host::Used>,
    backlog: Option<Backlog>,
    prepared: Duration,
    drained: bool,
}

struct Phases<'a> {
    options: &'a Options,
    shared: &'a Shared,
}

impl Phases<'_> {
    fn control(&self) -> &Control {
        &self.shared.control
    }

    fn go(&self, gathered: &mut Gathered, prepared: Duration) -> Result<Measured, Failure> {
        let control = self.control();
        let workload = &self.shared.workload;
        let start = control.now() + nanos(LEAD);
        // Before anybody starts, who would follow the schedule otherwise.
        control.warming.store(workload.own.warm_up_at_full_speed, Ordering::Relaxed);
        control.full_speed.store(workload.own.warm_up_at_full_speed, Ordering::Relaxed);
        set(&control.start, start);
        let mut from = start + nanos(workload.warm_up);
        if workload.own.warm_up_at_full_speed {
            self.wait_for(gathered, start + nanos(workload.warm_up.mul_f64(FULL_SPEED)))?;
            control.full_speed.store(false, Ordering::Relaxed);
            control.warming.store(false, Ordering::Relaxed);
        }
        let mut backlog = None;
        if 0 < workload.backlog_bytes {
            self.wait_for(gathered, from)?;
            gathered.progress.phase = "backlog";
            backlog = Some(self.build(gathered)?);
            from = control.now();
        }
        let to = from + nanos(workload.measured);
        set(&control.measure_to, to);
        set(&control.measure_from, from);
        set(&control.produce_until, to);
        control.paused.store(false, Ordering::Relaxed);
        self.wait_for(gathered, from)?;
        gathered.progress.phase = "measured";
        let from_second = gathered.series.len();
        let cpu = host::own_cpu_s().map_err(Failure::broke)?;
        let used = self.used()?;
        if let Some(backlog) = &mut backlog {
            self.drain(gathered, backlog, from, to)?;
        }
        self.wait_for(gathered, to)?;
        let generator_cpu_s = host::own_cpu_s().map_err(Failure::broke)? - cpu;
        let broker = match (self.used()?, used) {
            (Some(now), Some(before)) => Some(now.since(before)),
            _ => None,
        };
        gathered.progress.phase = "ending";
        let drained = self.end(gathered)?;
        Ok(Measured {
            seconds: Duration::from_nanos(to - from).as_secs_f64(),
            from_second,
            generator_cpu_s,
            broker,
            backlog,
            prepared,
            drained,
        })
    }

    fn used(&self) -> Result<Option<host::Used>, Failure> {
        let Some(pid) = self.options.broker_pid else { return Ok(None) };
        host::used(pid).map(Some).map_err(|it| Failure::broke(format!("--broker-pid {pid}: {it}")))
    }

    fn wait_for(&self, gathered: &mut Gathered, time: u64) -> Result<(), Failure> {
        loop {
            let left = time.saturating_sub(self.control().now());
            if left == 0 {
                return Ok(());
            }
            gathered.listen(Duration::from_nanos(left))?;
        }
    }

    /// Lets producers run ahead of resting consumers.
    fn build(&self, gathered: &mut Gathered) -> Result<Backlog, Failure> {
        let control = self.control();
        let workload = &self.shared.workload;
        let own = &workload.own;
        let (begun, acked) = (Instant::now(), control.acked.load(Ordering::Relaxed));
        control.paused.store(true, Ordering::Relaxed);
        control.full_speed.store(own.backlog_at_full_speed, Ordering::Relaxed);
        // As OpenMessaging Benchmark counts: what all subscriptions have before them.
        let record = workload.message_bytes as u64 * u64::from(workload.subscriptions.max(1));
        let wanted = workload.backlog_bytes.div_ceil(record);
        let behind = || control.acked.load(Ordering::Relaxed) - acked;
        if !gathered.listen_until(BACKLOG_WITHIN, |_| wanted <= behind())? {
            return Err(Failure::broke("the backlog was not built in time"));
        }
        control.full_speed.store(false, Ordering::Relaxed);
        let build = begun.elapsed();
        if own.drop_caches {
            host::drop_caches()
                .map_err(|it| Failure::broke(format!("emptying the page cache: {it}")))?;
        }
        let records = behind();
        Ok(Backlog { bytes: records * record, records, build, drain: None })
    }

    /// Watches consumers catch up, until the measured stretch ends.
    fn drain(
        &self,
        gathered: &mut Gathered,
        backlog: &mut Backlog,
        from: u64,
        to: u64,
    ) -> Result<(), Failure> {
        let control = self.control();
        let workload = &self.shared.workload;
        let left = backlog.records as f64 * (1.0 - workload.backlog_drain_ratio);
        // Caught up is who is no more behind than a live consumer is: a tenth of a second.
        let live = match workload.rate {
            Rate::Of(rate) => rate / 10.0,
            Rate::Max => backlog.records as f64 / 100.0,
        };
        let left = (left.max(live) * f64::from(workload.subscriptions)) as u64;
        while control.now() < to {
            let acked = control.acked.load(Ordering::Relaxed) * u64::from(workload.subscriptions);
            let seen = control.seen.load(Ordering::Relaxed);
            if acked.saturating_sub(seen) <= left {
                backlog.drain = Some(Duration::from_nanos(control.now() - from));
                return Ok(());
            }
            gathered.listen(LOOK)?;
        }
        Ok(())
    }

    /// Producers end; consumers reach the end, or stop coming nearer.
    fn end(&self, gathered: &mut Gathered) -> Result<bool, Failure> {
        let control = self.control();
        let threads = self.shared.threads;
        if !gathered.listen_until(ENDED_WITHIN, |it| it.sent_by == threads)? {
            return Err(Failure::broke("the producers did not end in time"));
        }
        let readers = u64::from(self.shared.workload.subscriptions)
            * u64::from(self.shared.workload.readers().min(1));
        let wanted = get(&control.acked) * readers;
        let patience = if self.options.verify { NO_PROGRESS } else { DRAIN_UNVERIFIED };
        let (mut seen, mut since) = (0, Instant::now());
        let mut all_seen = true;
        while get(&control.seen) < wanted {
            let now = get(&control.seen);
            if now != seen && self.options.verify {
                (seen, since) = (now, Instant::now());
            }
            if patience <= since.elapsed() {
                all_seen = false;
                break;
            }
            gathered.listen(LOOK)?;
        }
        control.stop.store(true, Ordering::Relaxed);
        if !gathered.listen_until(ENDED_WITHIN, |it| it.ended == threads)? {
            return Err(Failure::broke("the threads of the load did not end in time"));
        }
        Ok(all_seen)
    }
}

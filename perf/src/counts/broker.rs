//! A broker with one lane in a process of its own, and what can be counted there.
//!
//! The child is this program again, with its counting allocator under the whole broker. It reports
//! like any broker does when it is sent SIGUSR1, and says on its standard output, when asked to, what it
//! has allocated.

use crate::allocations;
use crate::subject::ROLE;
use crate::sys;
use corelane_broker::config::args::StartArgs;
use corelane_broker::config::load::{Inputs, load};
use corelane_broker::exit::Exit;
use corelane_broker::start::start;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

pub(super) struct Broker {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    reports: Lines<BufReader<ChildStderr>>,
    port: u16,
    data: PathBuf,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Snapshot {
    pub(super) allocations: u64,
    pub(super) allocated_bytes: u64,
    /// Allocated and not freed.
    pub(super) held_bytes: u64,
    pub(super) enters: u64,
    pub(super) faults: u64,
    pub(super) commits: u64,
    pub(super) appended_bytes: u64,
    /// Where appended, where journalled, where written to segments: three names, one sum.
    pub(super) summed_bytes: [u64; 3],
    pub(super) journal_bytes: u64,
}

/// How every report of a lane begins.
const REPORT: &str = "corelane: lane 0: ";

impl Broker {
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let data = folder.join(format!("corelane-perf-broker-{}", process::id()));
        let text =
            data.to_str().ok_or_else(|| io::Error::other("the folder's name is not text"))?;
        let mut child = Command::new(env::current_exe()?)
            .args([ROLE, "0", "broker", text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().expect("the input is a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut reports = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let ready = answers.next().transpose()?.unwrap_or_default();
        let address = ready.split_whitespace().find_map(|it| it.strip_prefix("kafka="));
        let Some(port) = address.and_then(|it| it.rsplit(':').next()?.parse().ok()) else {
            let said: Vec<_> = reports.by_ref().map_while(Result::ok).collect();
            return Err(io::Error::other(format!("no broker: {}", said.join("; "))));
        };
        Ok(Self { child, orders, answers, reports, port, data })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn snapshot(&mut self) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        // First: telling allocates as well.
        self.orders.write_all(b"allocations\n")?;
        let line = self.answers.next().transpose()?.unwrap_or_default();
        let mut words = line.split_whitespace().skip(1).map(str::parse);
        let (Some(Ok(times)), Some(Ok(bytes)), Some(Ok(freed))) =
            (words.next(), words.next(), words.next())
        else {
            return Err(io::Error::other(format!("nobody says {line:?} of allocations")));
        };
        (snapshot.allocations, snapshot.allocated_bytes) = (times, bytes);
        snapshot.held_bytes = bytes.wrapping_sub(freed);
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in parentheses: state, then the tenth field of the line.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let faults = after_name.split_whitespace().nth(7).and_then(|it| it.parse().ok());
        snapshot.faults = faults.ok_or_else(|| io::Error::other("no faults in stat"))?;

        // A report has no last line, but the next one has a first.
        sys::send(self.child.id(), libc::SIGUSR1)?;
        self.until_a_report_begins()?;
        sys::send(self.child.id(), libc::SIGUSR1)?;
        loop {
            let line = self.report_line()?;
            if line.contains(" turns, ") {
                return Ok(snapshot);
            }
            snapshot.take(&line);
        }
    }

    fn until_a_report_begins(&mut self) -> io::Result<()> {
        while !self.report_line()?.contains(" turns, ") {}
        Ok(())
    }

    fn report_line(&mut self) -> io::Result<String> {
        loop {
            let line = self.reports.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            if let Some(line) = line.strip_prefix(REPORT) {
                return Ok(line.to_owned());
            }
        }
    }

    pub(super) fn stop(mut self) -> io::Result<()> {
        sys::send(self.child.id(), libc::SIGTERM)?;
        // Its last words would fill the pipe.
        for line in self.reports.by_ref() {
            line?;
        }
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended: {status}"))) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Ended already, unless something went wrong.
        let ended = self.child.kill().and_then(|()| self.child.wait().map(drop));
        if let Err(it) = ended.and_then(|()| fs::remove_dir_all(&self.data)) {
            eprintln!("{} stays behind: {it}", self.data.display());
        }
    }
}

impl Snapshot {
    /// Takes what a line of the report says, if it is about something we count.
    fn take(&mut self, line: &str) {
        let after = |name: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
        if let Some(ring) = line.strip_prefix("ring: ") {
            let number = ring.strip_prefix("enters ").and_then(|it| it.split(',').next());
            self.enters = number.and_then(|it| it.parse().ok()).unwrap_or(self.enters);
        }
        let [appended, journalled, written] = &mut self.summed_bytes;
        for (name, place) in [
            ("journal.commits ", &mut self.commits),
            ("journal.bytes ", &mut self.journal_bytes),
            ("log.summed_bytes ", appended),
            ("journal.summed_bytes ", journalled),
            ("log.segment_bytes ", written),
            ("log.bytes ", &mut self.appended_bytes),
        ] {
            *place = after(name).unwrap_or(*place);
        }
    }
}

/// The child: a broker until SIGTERM, or until nobody is there to ask.
pub(crate) fn be_broker(data: &str) -> io::Result<()> {
    // Before there is a second thread: the broker takes them on a thread of its own.
    sys::block_signals(&[libc::SIGUSR1, libc::SIGTERM, libc::SIGINT])?;
    let set = [("num.partitions", "16"), ("corelane.memory.bytes", "67108864")];
    let args = StartArgs {
        data: Some(data.to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        lanes: Some("1".to_owned()),
        set: set.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..StartArgs::default()
    };
    let config = load(&Inputs { args, ..Inputs::default() })
        .map_err(|it| io::Error::other(format!("the configuration: {it:?}")))?;
    thread::spawn(|| {
        for order in io::stdin().lines() {
            if order.is_ok_and(|it| it == "allocations") {
                let requested = allocations::requested();
                println!(
                    "allocations {} {} {}",
                    requested.times, requested.bytes, requested.freed_bytes
                );
            }
        }
        if let Err(it) = sys::send(process::id(), libc::SIGTERM) {
            eprintln!("nobody asks any more, and the broker cannot be told: {it}");
        }
    });
    match start(&config) {
        Exit::Clean => Ok(()),
        other => Err(io::Error::other(format!("the broker ended: {other:?}"))),
    }
}

//! A broker of our own: started, killed, started again on the same port and data.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::machine::Trouble;

/// A broker that is not ready by then hangs.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Small, so that journal files go round while they are watched.
const SETTINGS: [&str; 4] =
    ["--set", "corelane.journal.bytes=33554432", "--set", "corelane.memory.bytes=268435456"];

/// The part of a log that is shown when something goes wrong.
const LOG_LINES: usize = 12;

/// Which program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sound,
    /// Writes its journal and never flushes it.
    NoFlush,
}

pub(crate) struct Broker {
    kind: Kind,
    data: PathBuf,
    log: PathBuf,
    settings: Vec<String>,
    address: Option<SocketAddr>,
    child: Option<Child>,
}

/// A broker that was started and has said nothing yet.
pub(crate) struct Starting {
    lines: Receiver<String>,
}

impl Broker {
    /// Starts nothing yet. What it says goes to `log`.
    pub(crate) fn new(kind: Kind, data: &Path, log: &Path) -> Self {
        Self {
            kind,
            data: data.to_owned(),
            log: log.to_owned(),
            settings: SETTINGS.iter().map(|it| (*it).to_owned()).collect(),
            address: None,
            child: None,
        }
    }

    /// Where it listens since its first start.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("it was ready once")
    }

    /// Starts the program and does not wait for it.
    pub(crate) fn spawn(&mut self, lanes: u16) -> Result<Starting, Trouble> {
        let here = std::env::current_exe().map_err(|error| Trouble::of("who am I", &error))?;
        let mut command = match self.kind {
            Kind::Sound => {
                let mut command = Command::new(here.with_file_name("corelane"));
                command.arg("start");
                command
            }
            Kind::NoFlush => {
                let mut command = Command::new(here);
                command.arg(crate::NO_FLUSH);
                command
            }
        };
        let listen = self.address.map_or("127.0.0.1:0".to_owned(), |it| it.to_string());
        let log = OpenOptions::new().append(true).create(true).open(&self.log);
        let log: File = log.map_err(|error| Trouble::of("opening a log", &error))?;
        command.arg("--data").arg(&self.data).args(["--listen", &listen]);
        command.args(["--lanes", &lanes.to_string()]).args(&self.settings);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = child.map_err(|error| Trouble::of(&format!("{command:?}"), &error))?;
        let out = child.stdout.take().expect("it was asked for");
        self.child = Some(child);
        Ok(Starting { lines: lines_of(out) })
    }

    /// Waits for the ready line.
    pub(crate) fn ready(&mut self, starting: &Starting) -> Result<(), Trouble> {
        match starting.lines.recv_timeout(READY_WITHIN) {
            Ok(line) => self.take_ready(&line),
            Err(RecvTimeoutError::Timeout) => Err(self.explain("did not get ready")),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait()?;
                Err(self.explain(&format!("ended before it was ready, with {status}")))
            }
        }
    }

    /// Gives a start so much time; says whether it got ready within it.
    pub(crate) fn ready_within(
        &mut self,
        starting: &Starting,
        time: Duration,
    ) -> Result<bool, Trouble> {
        match starting.lines.recv_timeout(time) {
            Ok(line) => self.take_ready(&line).map(|()| true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => self.ready(starting).map(|()| true),
        }
    }

    pub(crate) fn start(&mut self, lanes: u16) -> Result<(), Trouble> {
        let starting = self.spawn(lanes)?;
        self.ready(&starting)
    }

    fn take_ready(&mut self, line: &str) -> Result<(), Trouble> {
        let told = line.strip_prefix("corelane ready kafka=").and_then(|it| it.split(' ').next());
        match told.and_then(|it| it.parse().ok()) {
            Some(address) => {
                self.address = Some(address);
                Ok(())
            }
            None => Err(self.explain(&format!("said {line:?} instead of its ready line"))),
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> Result<(), Trouble> {
        if let Some(child) = &mut self.child {
            child.kill().map_err(|error| Trouble::of("killing the broker", &error))?;
        }
        self.wait().map(drop)
    }

    /// Asks it to end in good order.
    pub(crate) fn stop(&mut self) -> Result<(), Trouble> {
        let Some(child) = &self.child else { return Ok(()) };
        crate::machine::done(Command::new("kill").arg(child.id().to_string()))?;
        let status = self.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(self.explain(&format!("was asked to end, and ended with {status}")))
    }

    fn wait(&mut self) -> Result<ExitStatus, Trouble> {
        let mut child = self.child.take().ok_or_else(|| Trouble("no broker runs".to_owned()))?;
        child.wait().map_err(|error| Trouble::of("waiting for the broker", &error))
    }

    fn explain(&self, what: &str) -> Trouble {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        for line in &lines[from..] {
            println!("#   {line}");
        }
        Trouble(format!("the broker {what}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(trouble) = self.kill()
        {
            println!("# {trouble}");
        }
    }
}

fn lines_of(out: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            // The next start has a channel of its own: nobody may listen any more.
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

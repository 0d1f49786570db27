//! A subject runs in a process of its own: what it costs is what the kernel charged that process.
//!
//! The instrument starts itself again as `corelane-perf subject CORE ...`. The child says `ready PORT` when
//! it serves; from then on a line `usage` on its standard input is answered by the CPU time of the whole
//! process in nanoseconds, kernel workers included. When its input ends, the child ends.

use crate::plan::server_core;
use crate::report::Reading;
use crate::sys;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

pub(crate) const ROLE: &str = "subject";

/// The parent's end.
pub(crate) struct Subject {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Subject {
    pub(crate) fn start(arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg(ROLE)
            // Said, not found out: the child inherits the load's core and sees no other.
            .arg(server_core().id.to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("the output is a pipe"));
        Ok(Self { child, orders, answers })
    }

    /// The child's next line, which must begin with `word`; what follows it.
    pub(crate) fn expect(&mut self, word: &str) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.strip_prefix(word) {
            Some(rest) => Ok(rest.trim().to_owned()),
            // Its reason is on the error output already.
            None => Err(io::Error::other(format!("the subject did not say {word}: {line:?}"))),
        }
    }

    /// Ends the child as a crash would.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// The child's readings, each of them one of `metrics`.
    pub(crate) fn expect_readings(
        &mut self,
        metrics: &'static [&'static str],
    ) -> io::Result<Vec<Reading>> {
        let line = self.expect("readings")?;
        let readings = line.split_whitespace().map(|it| {
            let (name, value) = it.split_once('=')?;
            let metric = metrics.iter().find(|it| **it == name)?;
            Some(Reading::new(metric, value.parse().ok()?))
        });
        let readings: Option<Vec<_>> = readings.collect();
        readings.ok_or_else(|| io::Error::other(format!("readings nobody understands: {line}")))
    }

    pub(crate) fn cpu(&mut self) -> io::Result<Duration> {
        self.orders.as_mut().expect("open until the end").write_all(b"usage\n")?;
        let nanos = self.expect("usage")?.parse().map_err(io::Error::other)?;
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory, of every kind.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path)?;
        let line = text.lines().find_map(|it| it.strip_prefix("Rss:"));
        let kib = line.and_then(|it| it.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.map(|it| it * 1024).ok_or_else(|| io::Error::other("no Rss in smaps_rollup"))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Err(it) = self.child.wait() {
            eprintln!("a subject could not be awaited: {it}");
        }
    }
}

/// The child's end, for servers: says `ready`, then answers until the input ends.
pub(crate) fn answer_until_closed(port: u16) -> io::Result<()> {
    println!("ready {port}");
    for order in io::stdin().lines() {
        if order? == "usage" {
            println!("usage {}", sys::process_cpu()?.as_nanos());
        }
    }
    Ok(())
}

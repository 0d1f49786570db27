//! `fixed`: what registered descriptors and buffers save; `file`: the ways from a file to a socket.
//!
//! Both ask what the ring should offer, so both drive the `io-uring` crate with nothing around it. The
//! other end of each socket is this process's parent, which throws away what comes.

mod ways;

use crate::plan::{Plan, use_load_core};
use crate::report::Reading;
use crate::subject::Subject;
use crate::sys;
use core_affinity::CoreId;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const FIXED_SUBJECTS: &[&str] = &["plain", "fixed"];
pub(crate) const FIXED_CASES: &[&str] = &["send 64 B", "send 16 KiB", "write 4 KiB"];
pub(crate) const FILE_SUBJECTS: &[&str] = &["sendfile", "splice", "memory"];
pub(crate) const FILE_CASES: &[&str] = &["64 KiB", "1 MiB"];

const FILE_BYTES: usize = 1024 * 1024;
const SINK_BYTES: usize = 1024 * 1024;
/// How many operations pass between two looks at the clock.
const BURST: u64 = 16;

pub(crate) fn weigh(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    use_load_core();
    let file = Warm::create(&plan.folder)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let arguments = [
        "door",
        subject,
        case,
        file.0.to_str().ok_or_else(|| io::Error::other("the folder's name is not text"))?,
        &listener.local_addr()?.port().to_string(),
        &plan.measured.as_nanos().to_string(),
    ];
    let mut child = Subject::start(&arguments.map(str::to_owned))?;
    let (socket, _peer) = listener.accept()?;
    let sink = thread::spawn(move || swallow(socket));
    let line = child.expect("readings")?;
    sink.join().map_err(|_panic| io::Error::other("the other end panicked"))??;
    let mut numbers = line.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().and_then(Result::ok);
    match (next(), next()) {
        (Some(cpu), Some(rate)) => {
            Ok(vec![Reading::new("cpu_us_per_op", cpu), Reading::new("ops_per_s", rate)])
        }
        _ => Err(io::Error::other(format!("readings nobody understands: {line}"))),
    }
}

fn swallow(mut socket: TcpStream) -> io::Result<()> {
    let mut scratch = vec![0; SINK_BYTES];
    while socket.read(&mut scratch)? != 0 {}
    Ok(())
}

/// The child: one way, again and again, for the time it was given.
pub(crate) fn run(
    core: CoreId,
    subject: &str,
    case: &str,
    path: &Path,
    port: u16,
    time: Duration,
) -> io::Result<()> {
    core_affinity::set_for_current(core);
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    let mut way = ways::Way::choose(subject, case, path, socket)?;
    for_time(&mut way, time / 5)?;
    let cpu = sys::process_cpu()?;
    let (operations, elapsed) = for_time(&mut way, time)?;
    let cpu = sys::process_cpu()? - cpu;
    drop(way);
    let per_op = cpu.as_secs_f64() * 1e6 / operations as f64;
    println!("readings {per_op} {}", operations as f64 / elapsed.as_secs_f64());
    Ok(())
}

fn for_time(way: &mut ways::Way, time: Duration) -> io::Result<(u64, Duration)> {
    let started = Instant::now();
    let mut operations = 0;
    loop {
        for _ in 0..BURST {
            way.go()?;
        }
        operations += BURST;
        if time <= started.elapsed() {
            return Ok((operations, started.elapsed()));
        }
    }
}

/// A file whose pages are in memory and on disk; gone when this is dropped.
struct Warm(PathBuf);

impl Warm {
    fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("corelane-perf-{}.tmp", process::id()));
        let warm = Self(path);
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|it| (it % 251) as u8).collect();
        fs::write(&warm.0, &bytes)?;
        OpenOptions::new().read(true).open(&warm.0)?.sync_all()?;
        Ok(warm)
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        if let Err(it) = fs::remove_file(&self.0) {
            eprintln!("{} stays behind: {it}", self.0.display());
        }
    }
}

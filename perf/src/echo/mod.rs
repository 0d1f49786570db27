//! `echo`: what a request costs a server that does nothing with it; `idle`: what a silent connection does.
//!
//! The server is alone on its core in a process of its own, the load on the next core. The CPU time is
//! the server's, all of its process: the load generator's share of the kernel's work is the same for all
//! subjects.

mod epoll;
mod glommio;
mod lane;
mod load;

use crate::meter::Stretch;
use crate::plan::{Plan, use_load_core};
use crate::report::Reading;
use crate::subject::{Subject, answer_until_closed};
use crate::sys;
use core_affinity::CoreId;
use load::Load;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub(crate) const SUBJECTS: &[&str] = &["lane", "epoll", "glommio"];
pub(crate) const CASES: &[&str] = &[
    "64 connections, 64 B",
    "1 connection, 64 B",
    "1 connection, 1 KiB",
    "1 connection, 1 MiB",
    "4 connections, 1 MiB",
];
pub(crate) const IDLE_CASES: &[&str] = &["no connections", "10000 connections"];

const SMALL_BUFFER_BYTES: usize = 4 * 1024;
const LARGE_BUFFER_BYTES: usize = 256 * 1024;
/// Both ends of a connection, and what a process opens besides.
const FILES_BESIDE_CONNECTIONS: usize = 64;
/// Until a server that was just busy has gone back to sleep.
const SETTLE: Duration = Duration::from_millis(300);

struct Shape {
    connections: usize,
    request_bytes: usize,
    buffer_bytes: usize,
}

fn shape(case: &str) -> Shape {
    let (connections, request_bytes) = match case {
        "64 connections, 64 B" => (64, 64),
        "1 connection, 64 B" => (1, 64),
        "1 connection, 1 KiB" => (1, 1024),
        "1 connection, 1 MiB" => (1, 1024 * 1024),
        "4 connections, 1 MiB" => (4, 1024 * 1024),
        "no connections" => (0, 64),
        "10000 connections" => (10_000, 64),
        other => panic!("a case without a shape: {other}"),
    };
    let large = SMALL_BUFFER_BYTES < request_bytes;
    let buffer_bytes = if large { LARGE_BUFFER_BYTES } else { SMALL_BUFFER_BYTES };
    Shape { connections, request_bytes, buffer_bytes }
}

fn start(subject: &str, shape: &Shape) -> io::Result<(Subject, Load)> {
    let arguments = ["echo", subject, &shape.buffer_bytes.to_string()].map(str::to_owned);
    let mut server = Subject::start(&arguments)?;
    let port = server.expect("ready")?.parse().map_err(io::Error::other)?;
    Ok((server, Load::connect(port, shape.connections, shape.request_bytes)?))
}

pub(crate) fn weigh(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let shape = shape(case);
    let stretch = Stretch { measured: plan.measured };
    use_load_core();
    let (mut server, mut load) = start(subject, &shape)?;
    load.for_time(stretch.warm_up())?;

    let before = server.cpu()?;
    let seen = load.for_time(stretch.measured)?;
    let cpu = server.cpu()? - before;

    let operations = seen.operations as f64;
    let mut readings = vec![
        Reading::new("cpu_us_per_op", cpu.as_secs_f64() * 1e6 / operations),
        Reading::new("p50_us", seen.micros_at(0.5)),
        Reading::new("p99_us", seen.micros_at(0.99)),
        Reading::new("p999_us", seen.micros_at(0.999)),
        Reading::new("ops_per_s", seen.per_second(operations)),
    ];
    if LARGE_BUFFER_BYTES <= shape.request_bytes {
        let bytes = operations * shape.request_bytes as f64;
        readings.push(Reading::new("mb_per_s", seen.per_second(bytes / 1e6)));
    }
    Ok(readings)
}

/// Connections that have been served once and then are silent.
pub(crate) fn weigh_idle(subject: &str, case: &str, plan: &Plan) -> io::Result<Vec<Reading>> {
    let shape = shape(case);
    let files = usize::try_from(sys::raise_open_files()?).unwrap_or(usize::MAX);
    if files < shape.connections + FILES_BESIDE_CONNECTIONS {
        return Err(io::Error::other(format!(
            "{} connections need as many open files, the hard limit is {files}; raise it with \
             `ulimit -Hn` or LimitNOFILE",
            shape.connections
        )));
    }
    use_load_core();
    let arguments = ["echo", subject, &shape.buffer_bytes.to_string()].map(str::to_owned);
    let mut server = Subject::start(&arguments)?;
    let port = server.expect("ready")?.parse().map_err(io::Error::other)?;
    // One connection first: what the first costs, the next ones share.
    drop(Load::connect(port, 1, shape.request_bytes)?);
    thread::sleep(SETTLE);
    let empty = server.resident_bytes()?;
    let _load = Load::connect(port, shape.connections, shape.request_bytes)?;
    thread::sleep(SETTLE);

    let before = server.cpu()?;
    thread::sleep(plan.measured);
    let cpu = server.cpu()? - before;
    let share = cpu.as_secs_f64() / plan.measured.as_secs_f64();
    let mut readings = vec![Reading::new("cpu_pct", share * 100.0)];
    if 0 < shape.connections {
        let grown = server.resident_bytes()?.saturating_sub(empty);
        readings.push(Reading::new("bytes_per_conn", grown as f64 / shape.connections as f64));
    }
    Ok(readings)
}

/// The child: serves on its core and answers the parent until that has enough.
pub(crate) fn serve(core: CoreId, subject: &str, buffer_bytes: usize) -> io::Result<()> {
    sys::raise_open_files()?;
    let (port_known, port) = mpsc::channel();
    let subject = subject.to_owned();
    let server = thread::spawn(move || {
        let ended = match subject.as_str() {
            "epoll" => {
                core_affinity::set_for_current(core);
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
                    let port = listener.local_addr()?.port();
                    port_known.send(port).map_err(io::Error::other)?;
                    epoll::serve(&listener, buffer_bytes)
                })
            }
            "glommio" => glommio::serve(core.id, buffer_bytes, move |port| {
                port_known.send(port).map_err(io::Error::other)
            }),
            "lane" => lane::serve(core, buffer_bytes, move |port| {
                port_known.send(port).map_err(io::Error::other)
            }),
            other => Err(io::Error::other(format!("no echo server is called {other}"))),
        };
        if let Err(it) = &ended {
            eprintln!("the echo server {subject} ended: {it}");
        }
        ended
    });
    match port.recv() {
        Ok(port) => answer_until_closed(port),
        Err(mpsc::RecvError) => {
            server.join().map_err(|_panic| io::Error::other("the echo server panicked"))?
        }
    }
}

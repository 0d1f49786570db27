//! A broker that is compared: how it is started, when it is ready, what an acknowledgement of it means.

use super::on_cores;
use super::peers::Peers;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Corelane,
    Kafka,
    KafkaFlush,
    Tansu,
}

const ALL: [Subject; 4] = [Subject::Corelane, Subject::Kafka, Subject::KafkaFlush, Subject::Tansu];

impl Subject {
    pub(super) fn named(name: &str) -> Result<Self, String> {
        if let Some(subject) = ALL.into_iter().find(|it| it.name() == name) {
            return Ok(subject);
        }
        if ["nats", "redis"].contains(&name) {
            return Err(format!(
                "{name} cannot be compared: it speaks a protocol of its own, and the load has a client of Kafka's alone"
            ));
        }
        Err(format!("nobody is called {name}; there are {}", Self::names()))
    }

    pub(super) fn names() -> String {
        ALL.map(Self::name).join(", ")
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Corelane => "corelane",
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka-flush",
            Self::Tansu => "tansu",
        }
    }

    pub(super) fn ack_means(self) -> &'static str {
        match self {
            Self::Corelane | Self::KafkaFlush => "flushed",
            Self::Kafka => "page_cache",
            Self::Tansu => "memory",
        }
    }
}

/// How long a broker may take until it answers.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Of Kafka's heap; what its own start script gives it.
const HEAP: &str = "1g";
const CLUSTER: &str = "Y29yZWxhbmUtY29tcGFyZQ";

/// A broker that answers. Its folder goes when it does.
pub(super) struct Running {
    child: Child,
    folder: PathBuf,
    address: String,
    version: String,
    started_in: Duration,
}

impl Running {
    pub(super) fn start(
        subject: Subject,
        peers: &Peers,
        folder: &Path,
        cores: &[usize],
    ) -> Result<Self, String> {
        if folder.exists() {
            return Err(format!("{} is there already, and is not ours to empty", folder.display()));
        }
        let told = |it: io::Error| format!("{}: {it}", folder.display());
        fs::create_dir_all(folder).map_err(told)?;
        let log = File::create(folder.join("log")).map_err(told)?;
        let port = free_port().map_err(|it| format!("no free port: {it}"))?;
        let mut command = on_cores(cores);
        let version = match subject {
            Subject::Corelane => {
                corelane(&mut command, peers, folder, port);
                String::new()
            }
            Subject::Kafka | Subject::KafkaFlush => {
                kafka(&mut command, subject, peers, folder, port)?;
                peers.kafka_version.clone()
            }
            Subject::Tansu => tansu(&mut command, peers, port)?,
        };
        command.stdin(Stdio::null()).stderr(log.try_clone().map_err(told)?);
        command.stdout(if subject == Subject::Corelane { Stdio::piped() } else { log.into() });
        let begun = Instant::now();
        let child = command.spawn().map_err(|it| format!("taskset: {it}"))?;
        let address = format!("127.0.0.1:{port}");
        let started_in = Duration::ZERO;
        let mut running = Self { child, folder: folder.to_owned(), address, version, started_in };
        if subject == Subject::Corelane {
            running.version = running.ready_line().map_err(|it| running.explain(&it))?;
        }
        while !answers(port) {
            let ended = running.child.try_wait().map_err(|it| it.to_string())?;
            if let Some(status) = ended {
                return Err(running.explain(&format!("it ended with {status}")));
            }
            if START < begun.elapsed() {
                return Err(running.explain("it never answered"));
            }
            thread::sleep(LOOK_EVERY);
        }
        running.started_in = begun.elapsed();
        Ok(running)
    }

    /// Waits for our one line and gives the version it names.
    fn ready_line(&mut self) -> Result<String, String> {
        let stdout = self.child.stdout.take().expect("the output is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|it| it.to_string())?;
        let version = line.split_whitespace().find_map(|it| it.strip_prefix("version="));
        version
            .map(str::to_owned)
            .ok_or_else(|| format!("it said {line:?} and not that it is ready"))
    }

    /// With the end of its log.
    pub(super) fn explain(&self, what: &str) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(10).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        format!("{what}; the end of its log:\n{}", tail.join("\n"))
    }

    pub(super) fn pid(&self) -> u32 {
        // taskset becomes what it starts.
        self.child.id()
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// In good order if it can, at once if it does not.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if STOP < begun.elapsed() {
                return Err(io::Error::other("it is still there"));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Whoever asked for a stop in good order was told already.
            let ended = self.child.kill().and_then(|()| self.child.wait().map(drop));
            if let Err(it) = ended {
                eprintln!("a broker stays behind: {it}");
            }
        }
        if let Err(it) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} stays behind: {it}", self.folder.display());
        }
    }
}

fn corelane(command: &mut Command, peers: &Peers, folder: &Path, port: u16) {
    command.arg(&peers.corelane).arg("start").arg("--data").arg(folder.join("data"));
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
}

fn kafka(
    command: &mut Command,
    subject: Subject,
    peers: &Peers,
    folder: &Path,
    port: u16,
) -> Result<(), String> {
    let controller = free_port().map_err(|it| format!("no free port: {it}"))?;
    let data = folder.join("data");
    let mut properties = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        data.display()
    );
    if subject == Subject::KafkaFlush {
        properties += "log.flush.interval.messages=1\n";
    }
    let file = folder.join("server.properties");
    fs::write(&file, properties).map_err(|it| format!("{}: {it}", file.display()))?;
    let java = |command: &mut Command| {
        command.args([&format!("-Xms{HEAP}"), &format!("-Xmx{HEAP}"), "-XX:+UseG1GC"]);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.arg("-cp").arg(peers.jars.join("*"));
    };
    let mut format = Command::new("java");
    java(&mut format);
    format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&file);
    let output = format.output().map_err(|it| format!("java: {it}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    command.arg("java");
    java(command);
    command.arg("kafka.Kafka").arg(file);
    Ok(())
}

fn tansu(command: &mut Command, peers: &Peers, port: u16) -> Result<String, String> {
    let asked = Command::new(&peers.tansu).arg("--version").output();
    let asked = asked.map_err(|it| format!("{}: {it}", peers.tansu.display()))?;
    let version =
        String::from_utf8_lossy(&asked.stdout).trim().trim_start_matches("tansu ").to_owned();
    let url = format!("tcp://127.0.0.1:{port}");
    command.arg(&peers.tansu).arg("broker").args(["--storage-engine", "memory://tansu/"]);
    command.args(["--listener-url", &url, "--advertised-listener-url", &url]);
    Ok(version)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether somebody there answers which versions it speaks.
fn answers(port: u16) -> bool {
    let ask = || -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Size; then key 18, version 0, correlation 0, no client id.
        socket.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff])?;
        socket.read_exact(&mut [0; 8])
    };
    ask().is_ok()
}

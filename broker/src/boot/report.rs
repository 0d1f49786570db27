//! What the lanes tell the process: that they serve, that they cannot, and lines for people.

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use crate::exit::Exit;

/// Everything a lane has to say to the thread that started it.
#[derive(Debug)]
pub enum Report {
    /// A line for people.
    Line(String),
    /// Every listener accepts.
    Ready(Ready),
    /// The broker cannot start, or cannot go on.
    Trouble(Trouble),
    /// This lane has ended in good order.
    Ended,
}

/// Where the broker serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// With their real ports, in the order of the configuration.
    pub listeners: Vec<Listening>,
    /// What was found in the data directory.
    pub notices: Vec<String>,
}

/// A listener that accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    pub name: String,
    pub place: SocketAddr,
    /// Where clients are told to connect to.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, place, host, port } = self;
        write!(f, "{name} listens on {place}; its clients are told to connect to ")?;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why the process ends, and with which code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub exit: Exit,
    pub what: String,
}

/// A lane's way to its process. Never waits: the process reads until all lanes have ended.
#[derive(Clone)]
pub struct Reporter(pub(super) Sender<Report>);

impl Reporter {
    #[must_use]
    pub fn new(sender: Sender<Report>) -> Self {
        Self(sender)
    }

    pub fn line(&self, text: impl Into<String>) {
        self.tell(Report::Line(text.into()));
    }

    pub fn tell(&self, report: Report) {
        // Nobody listens any more when the process is ending anyway.
        drop(self.0.send(report));
    }
}

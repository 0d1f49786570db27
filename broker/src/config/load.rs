//! From the command line, the environment and a file to one checked configuration.
//!
//! Pure: what the machine has to say comes in as [`Inputs`]. All problems are found before any is
//! reported, so that a file is mended in one go. Whatever passes here can be obeyed; whatever
//! could not be is refused.

use super::args::StartArgs;
use super::keys::{self, BROKER_KEYS};
use super::layers::{Configs, Layers};
use super::listeners::{self, Listener, ListenerError, Machine};
use super::nearest::nearest;
use super::row::Row;
use super::settings::{Settings, Source};
use super::text::{self, TextError};
use super::topic::{self, TopicConfigError};
use super::value::BadValue;
use corelane_core::ids::BrokerId;
use std::fmt;
use std::net::IpAddr;

/// What the machine says.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    pub args: StartArgs,
    /// The environment, names and values.
    pub environment: Vec<(String, String)>,
    /// Name and text of the file that `--config` names.
    pub file: Option<(String, String)>,
    pub host_name: Option<String>,
    /// Whom to ask for the address of a name; without it none is known.
    pub address_of: Option<fn(&str) -> Option<IpAddr>>,
}

/// A configuration the broker can start with.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: Settings,
    pub node: BrokerId,
    pub data: String,
    /// `None`: one for each core this process may use.
    pub lanes: Option<u16>,
    pub listeners: Vec<Listener>,
    /// Things that work and may surprise, each with its remedy.
    pub warnings: Vec<String>,
}

/// One thing that keeps the broker from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    File { name: String, error: TextError },
    UnknownKey { key: String, source: Source, nearest: Option<&'static str> },
    KeyElsewhere { key: String, source: Source, why: &'static str },
    Bad { bad: BadValue, source: Source },
    Topic(TopicConfigError),
    Listener(ListenerError),
    SeveralDirectories { directories: Vec<String> },
    Disagree { first: &'static str, one: i64, second: &'static str, other: i64 },
    Exceeds { smaller: &'static str, value: i64, larger: &'static str, bound: i64 },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, error } => write!(f, "{name}, {error}"),
            Self::UnknownKey { key, source, nearest } => {
                write!(f, "{source}: there is no key {key}")?;
                nearest.map_or(Ok(()), |it| write!(f, "; did you mean {it}?"))
            }
            Self::KeyElsewhere { key, source, why } => {
                write!(f, "{source}: {key} cannot be set: {why}")
            }
            Self::Bad { bad, source } => write!(f, "{source}: {bad}"),
            Self::Topic(error) => error.fmt(f),
            Self::Listener(error) => error.fmt(f),
            Self::SeveralDirectories { directories } => write!(
                f,
                "log.dirs names {} directories ({}), and a lane keeps one journal: name one",
                directories.len(),
                directories.join(", ")
            ),
            Self::Disagree { first, one, second, other } => {
                write!(f, "{first} is {one} and {second} is {other}: set one of them")
            }
            Self::Exceeds { smaller, value, larger, bound } => {
                write!(f, "{smaller} is {value}, more than {larger} with {bound}")
            }
        }
    }
}

/// A configuration the broker cannot start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// At least one.
    pub problems: Vec<Problem>,
    /// What else was noticed on the way, and may be the cause.
    pub warnings: Vec<String>,
}

/// Puts everything together.
///
/// # Errors
/// Everything that is wrong, at least one.
pub fn load(inputs: &Inputs) -> Result<Config, Refused> {
    let mut taking = Taking::default();
    if let Some((name, text)) = &inputs.file {
        taking.file(name, text);
    }
    taking.environment(&inputs.environment);
    for (key, value) in &inputs.args.set {
        taking.named(key, value, Source::Set);
    }
    let args = &inputs.args;
    for (flag, row, given) in [
        ("--data", &keys::LOG_DIRS, &args.data),
        ("--listen", &keys::LISTENERS, &args.listen),
        ("--lanes", &keys::LANES, &args.lanes),
    ] {
        if let Some(value) = given {
            taking.take(row, value, Source::Flag { flag });
        }
    }
    let machine = Machine {
        name: inputs.host_name.as_deref(),
        address_of: inputs.address_of.unwrap_or(|_| None),
    };
    taking.finish(machine)
}

/// Keys that ask for more nodes than there are, and what comes of it.
const ALONE: &[(&Row, &str)] = &[
    (&keys::OFFSETS_REPLICATION_FACTOR, "no consumer group can be formed; set it to 1"),
    (
        &keys::DEFAULT_REPLICATION_FACTOR,
        "topics that do not say another factor cannot be made; set it to 1",
    ),
];

/// Pairs of keys where the first may not be larger than the second.
const ORDERED: &[(&Row, &Row)] = &[
    (&keys::GROUP_SESSION_MIN_MS, &keys::GROUP_SESSION_MAX_MS),
    (&keys::REQUEST_BYTES_MAX, &keys::RECEIVE_BYTES),
    (&keys::CREATE_PARTITIONS_MAX, &keys::PARTITIONS_MAX),
];

#[derive(Default)]
struct Taking {
    settings: Settings,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Taking {
    fn file(&mut self, name: &str, text: &str) {
        match text::read(name, text) {
            Err(error) => self.problems.push(Problem::File { name: name.to_owned(), error }),
            Ok(entries) => {
                for it in entries {
                    let source = Source::File { path: name.to_owned(), line: it.line };
                    self.named(&it.key, &it.value, source);
                }
            }
        }
    }

    /// An unknown variable only warns: it may be meant for another program, or a newer one.
    fn environment(&mut self, environment: &[(String, String)]) {
        for (variable, value) in environment {
            if !variable.starts_with(VARIABLE_PREFIX) {
                continue;
            }
            match BROKER_KEYS.iter().copied().find(|it| variable_of(it.name) == *variable) {
                Some(row) => {
                    let variable = variable.clone();
                    self.take(row, value, Source::Environment { variable });
                }
                None if let Some(flag) = flag_of(variable) => self.warnings.push(format!(
                    "environment variable {variable} names no key and is ignored; did you mean {flag}?"
                )),
                None => {
                    // What all have in front says nothing about how near two are.
                    let plain = |it: &str| it[VARIABLE_PREFIX.len()..].to_owned();
                    let variables = BROKER_KEYS.iter().map(|it| variable_of(it.name));
                    let names: Vec<_> = variables.map(|it| plain(&it)).collect();
                    let nearest = nearest(&plain(variable), names.iter().map(String::as_str));
                    let hint = nearest.map_or(String::new(), |it| {
                        format!("; did you mean {VARIABLE_PREFIX}{it}?")
                    });
                    let warning = format!(
                        "environment variable {variable} names no key and is ignored{hint}"
                    );
                    self.warnings.push(warning);
                }
            }
        }
    }

    fn named(&mut self, key: &str, value: &str, source: Source) {
        let key = key.to_owned();
        if let Some(row) = keys::find(&key) {
            self.take(row, value, source);
        } else if let Some(why) = keys::reason_elsewhere(&key) {
            self.problems.push(Problem::KeyElsewhere { key, source, why });
        } else {
            let nearest = nearest(&key, BROKER_KEYS.iter().map(|it| it.name));
            self.problems.push(Problem::UnknownKey { key, source, nearest });
        }
    }

    fn take(&mut self, row: &'static Row, value: &str, source: Source) {
        if let Err(bad) = self.settings.give(row, value, source.clone()) {
            self.problems.push(Problem::Bad { bad, source });
        }
    }

    fn finish(mut self, machine: Machine<'_>) -> Result<Config, Refused> {
        let settings = self.settings;
        let mut problems = self.problems;
        let (node, broker) = (settings.given(&keys::NODE_ID), settings.given(&keys::BROKER_ID));
        if let (Some(one), Some(other)) = (node, broker)
            && one.parse::<i64>() != other.parse::<i64>()
        {
            let (one, other) = (settings.number(&keys::NODE_ID), settings.number(&keys::BROKER_ID));
            problems.push(Problem::Disagree { first: "node.id", one, second: "broker.id", other });
        }
        let directories = settings.list(&keys::LOG_DIRS);
        if directories.len() != 1 {
            problems.push(Problem::SeveralDirectories { directories: directories.clone() });
        }
        for (smaller, larger) in ORDERED {
            let (value, bound) = (settings.number(smaller), settings.number(larger));
            if bound < value {
                let (smaller, larger) = (smaller.name, larger.name);
                problems.push(Problem::Exceeds { smaller, value, larger, bound });
            }
        }
        if let Err(error) = topic::check(&Configs::new(), &Layers::of_start(&settings)) {
            problems.push(Problem::Topic(error));
        }
        let advertised = settings
            .given(&keys::ADVERTISED_LISTENERS)
            .map_or(Vec::new(), super::value::split_list);
        let protocols = settings.list(&keys::LISTENER_PROTOCOLS);
        let places = settings.list(&keys::LISTENERS);
        let mut listeners = Vec::new();
        match listeners::resolve(&places, &advertised, &protocols, machine) {
            Err(error) => problems.push(Problem::Listener(error)),
            Ok((resolved, warnings)) => {
                listeners = resolved;
                self.warnings.extend(warnings);
            }
        }
        let (largest, request) = (&keys::MESSAGE_BYTES_MAX, &keys::REQUEST_BYTES_MAX);
        if settings.number(request) < settings.number(largest) {
            self.warnings.push(format!(
                "{} is {}, and no request may be larger than {} = {}: batches near it close their \
                 connection; raise the second",
                largest.name,
                settings.number(largest),
                request.name,
                settings.number(request)
            ));
        }
        for (row, what) in ALONE {
            if 1 < settings.number(row) {
                let (key, value) = (row.name, settings.number(row));
                self.warnings.push(format!("{key} is {value}, and this node is alone: {what}"));
            }
        }
        if !problems.is_empty() {
            return Err(Refused { problems, warnings: self.warnings });
        }
        let node = i32::try_from(settings.number(&keys::NODE_ID)).expect("an int key holds an int");
        let lanes = u16::try_from(settings.number(&keys::LANES)).expect("its row bounds it");
        Ok(Config {
            node: BrokerId(node),
            data: directories.into_iter().next().expect("counted above"),
            lanes: (lanes != 0).then_some(lanes),
            listeners,
            warnings: self.warnings,
            settings,
        })
    }
}

/// What is meant by a variable that is named after a flag.
fn flag_of(variable: &str) -> Option<&'static str> {
    match variable.strip_prefix(VARIABLE_PREFIX)? {
        "CONFIG" => Some("the flag --config"),
        "DATA" => Some("CORELANE_LOG_DIRS"),
        "LISTEN" => Some("CORELANE_LISTENERS"),
        _ => None,
    }
}

pub(super) const VARIABLE_PREFIX: &str = "CORELANE_";

/// The environment variable of a key: our own keys do not say our name twice.
#[must_use]
pub fn variable_of(key: &str) -> String {
    let plain = key.strip_prefix("corelane.").unwrap_or(key);
    format!("{VARIABLE_PREFIX}{}", plain.to_uppercase().replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--` words are the command line, `NAME=value` words the environment, the rest the file.
    fn inputs(words: &str, file: &str) -> Inputs {
        let (args, environment): (Vec<&str>, Vec<&str>) =
            words.split_whitespace().partition(|it| it.starts_with("--"));
        let super::super::args::Command::Start(args) = super::super::args::parse(args).unwrap()
        else {
            panic!("not a start")
        };
        let pair = |it: &str| {
            let (name, value) = it.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Inputs {
            args,
            environment: environment.into_iter().map(pair).collect(),
            file: Some(("corelane.toml".to_owned(), file.to_owned())),
            host_name: Some("box".to_owned()),
            address_of: None,
        }
    }

    #[track_caller]
    fn refused(words: &str, file: &str, said: &[&str]) {
        let refused = load(&inputs(words, file)).unwrap_err();
        let problems: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, said);
    }

    #[test]
    fn without_anything_said_the_defaults_stand() {
        let config = load(&Inputs::default()).unwrap();
        assert_eq!(config.node, BrokerId(1));
        assert_eq!(config.data, "corelane-data");
        assert_eq!(config.lanes, None);
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].advertised(9092), ("127.0.0.1", 9092));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn flag_beats_set_beats_environment_beats_file() {
        let file = "corelane.lanes = 1";
        let lanes = |words: &str| load(&inputs(words, file)).unwrap().lanes;
        assert_eq!(lanes(""), Some(1));
        assert_eq!(lanes("CORELANE_LANES=2"), Some(2));
        assert_eq!(lanes("CORELANE_LANES=2 --set=corelane.lanes=3"), Some(3));
        assert_eq!(lanes("--lanes=4 CORELANE_LANES=2 --set=corelane.lanes=3"), Some(4));
        assert_eq!(lanes("--lanes=0"), None);
    }

    #[test]
    fn older_spellings_are_heard() {
        let config = load(&inputs("", "broker.id = 9\nlog.dir = '/data'")).unwrap();
        assert_eq!((config.node, config.data.as_str()), (BrokerId(9), "/data"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        refused(
            "--set=log.retension.ms=5 --lanes=many",
            "num.partitions = 0\nprocess.roles = 'broker'\nssl.keystore = 'x'\nwhat.is.this = 1",
            &[
                "corelane.toml, line 1: Invalid value 0 for configuration num.partitions: Value \
                 must be at least 1",
                "corelane.toml, line 2: process.roles cannot be set: every node is broker and \
                 controller; remove it",
                "corelane.toml, line 3: ssl.keystore cannot be set: TLS is not offered yet",
                "corelane.toml, line 4: there is no key what.is.this",
                "--set: there is no key log.retension.ms; did you mean log.retention.ms?",
                "--lanes: Invalid value many for configuration corelane.lanes: Not a number of \
                 type INT",
            ],
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        refused(
            "--data=/a,/b",
            "node.id = 1\nbroker.id = 2\ngroup.min.session.timeout.ms = 9\n\
             group.max.session.timeout.ms = 8\nlog.cleaner.min.compaction.lag.ms = 7\n\
             log.cleaner.max.compaction.lag.ms = 6\nlisteners = ['A://:1']",
            &[
                "node.id is 1 and broker.id is 2: set one of them",
                "log.dirs names 2 directories (/a, /b), and a lane keeps one journal: name one",
                "group.min.session.timeout.ms is 9, more than group.max.session.timeout.ms with 8",
                "conflict topic config setting min.compaction.lag.ms (7) > max.compaction.lag.ms \
                 (6)",
                "listener A has no protocol: add A:PLAINTEXT to listener.security.protocol.map",
            ],
        );
    }

    #[test]
    fn keys_that_need_more_nodes_warn_with_what_comes_of_it() {
        let config = load(&inputs("--set=offsets.topic.replication.factor=3", "")).unwrap();
        assert_eq!(
            config.warnings,
            [
                "offsets.topic.replication.factor is 3, and this node is alone: no consumer group can \
              be formed; set it to 1"
            ]
        );
        let config = load(&inputs("", "min.insync.replicas = 2")).unwrap();
        assert!(config.warnings.is_empty(), "no more copies are asked for than there are");
        let config = load(&inputs("", "default.replication.factor = 1")).unwrap();
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn a_batch_that_fits_in_no_request_warns() {
        let config = load(&inputs("", "message.max.bytes = 200000000")).unwrap();
        assert_eq!(
            config.warnings,
            ["message.max.bytes is 200000000, and no request may be larger than \
              socket.request.max.bytes = 104857600: batches near it close their connection; raise the \
              second"]
        );
    }

    #[test]
    fn what_was_noticed_is_told_with_what_is_wrong() {
        let refused = load(&inputs("CORELANE_DATA=/d CORELANE_LANES=x", "")).unwrap_err();
        assert_eq!(refused.problems.len(), 1);
        assert_eq!(
            refused.warnings,
            ["environment variable CORELANE_DATA names no key and is ignored; did you mean \
              CORELANE_LOG_DIRS?"]
        );
    }

    #[test]
    fn a_file_that_does_not_parse_names_its_line() {
        refused("", "a.b = 1\n'a.b' = 2", &["corelane.toml, line 2: a.b is already set on line 1"]);
    }

    #[test]
    fn an_unknown_variable_warns_and_a_strange_one_is_not_ours() {
        let words = "CORELANE_LOG_RETENTON_MS=5 PATH=/bin CORELANE_LOG_RETENTION_MS=6";
        let config = load(&inputs(words, "")).unwrap();
        assert_eq!(config.settings.number(&keys::LOG_RETENTION_MS), 6);
        let warning = "environment variable CORELANE_LOG_RETENTON_MS names no key and is ignored; \
                       did you mean CORELANE_LOG_RETENTION_MS?";
        assert_eq!(config.warnings, [warning]);
    }

    #[test]
    fn a_wildcard_warns_with_its_remedy() {
        let config = load(&inputs("--listen=0.0.0.0:0", "")).unwrap();
        assert_eq!(config.listeners[0].advertised(5), ("box", 5));
        assert!(config.warnings[0].contains("set advertised.listeners"), "{:?}", config.warnings);
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let names: std::collections::BTreeSet<_> =
            BROKER_KEYS.iter().map(|it| variable_of(it.name)).collect();
        assert_eq!(names.len(), BROKER_KEYS.len());
        assert_eq!(variable_of("log.retention.ms"), "CORELANE_LOG_RETENTION_MS");
    }
}

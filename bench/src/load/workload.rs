//! What is run: a workload, and how it is read.
//!
//! A file is one of OpenMessaging Benchmark, with its keys and their meaning, and may have a section
//! `corelane` with ours: what there is a driver's configuration, and what there is not. A key nobody
//! knows is refused with the nearest one that is known; so is a value that cannot be.

use super::batch::Stamp;
use super::section::{Section, WorkloadError};
use corelane_storage::compress::Codec;
use saphyr::{LoadableYamlNode, Yaml};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One load, whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) topics: u32,
    pub(crate) partitions: u32,
    pub(crate) message_bytes: usize,
    pub(crate) payload: Payload,
    pub(crate) keys: Keys,
    /// Per topic, each a consumer group of its own.
    pub(crate) subscriptions: u32,
    /// Per topic.
    pub(crate) producers: u32,
    /// Per subscription.
    pub(crate) consumers: u32,
    pub(crate) rate: Rate,
    pub(crate) backlog_bytes: u64,
    /// The part of a backlog that has to be gone.
    pub(crate) backlog_drain_ratio: f64,
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) progress_every: Duration,
    pub(crate) own: Own,
}

/// The section `corelane`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Own {
    /// As the protocol has it: 0, 1, or -1 for all.
    pub(crate) acks: i16,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) codec: Codec,
    pub(crate) in_flight: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) idempotent: bool,
    pub(crate) assignment: Assignment,
    pub(crate) fetch_wait: Duration,
    pub(crate) fetch_bytes_min: u32,
    pub(crate) fetch_bytes_max: u32,
    pub(crate) partition_fetch_bytes_max: u32,
    pub(crate) fetch_sessions: bool,
    pub(crate) commit_every: Duration,
    pub(crate) topic_configs: Vec<(String, String)>,
    pub(crate) replication: i16,
    pub(crate) idle_connections: u32,
    /// Whether a backlog is built as fast as it goes, or at the workload's rate.
    pub(crate) backlog_at_full_speed: bool,
    /// Whether the page cache is emptied before a backlog is read.
    pub(crate) drop_caches: bool,
    /// Whether most of the warm-up goes as fast as it can, instead of at the workload's rate.
    pub(crate) warm_up_at_full_speed: bool,
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Payload {
    /// The same bytes for every record.
    File(PathBuf),
    Zeros,
    /// This part of the bytes random, the rest equal, in so many variants.
    Random {
        ratio: f64,
        pool: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Keys {
    None,
    RoundRobin { count: u32 },
    Random { count: u32 },
    Zipf { count: u32, exponent: f64 },
}

impl Keys {
    pub(crate) fn are_there(&self) -> bool {
        *self != Self::None
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// Records in a second, all producers together.
    Of(f64),
    /// As many as are acknowledged.
    Max,
}

/// Who tells consumers which partitions are theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// Nobody: they are dealt out.
    Plain,
    /// The group's coordinator and its leader.
    Group,
}

/// Keys of OpenMessaging Benchmark.
const THEIRS: &[&str] = &[
    "name",
    "topics",
    "partitionsPerTopic",
    "keyDistributor",
    "messageSize",
    "useRandomizedPayloads",
    "randomBytesRatio",
    "randomizedPayloadPoolSize",
    "payloadFile",
    "subscriptionsPerTopic",
    "producersPerTopic",
    "consumerPerSubscription",
    "producerRate",
    "consumerBacklogSizeGB",
    "backlogDrainRatio",
    "testDurationMinutes",
    "warmupDurationMinutes",
    "logIntervalMillis",
    SECTION,
];

/// The section with our keys.
const SECTION: &str = "corelane";

const OURS: &[&str] = &[
    "testSeconds",
    "warmupSeconds",
    "backlogBytes",
    "acks",
    "batchBytes",
    "lingerMs",
    "compression",
    "inFlight",
    "requestBytesMax",
    "bufferBytes",
    "idempotence",
    "transactions",
    "keys",
    "assignment",
    "fetchWaitMs",
    "fetchBytesMin",
    "fetchBytesMax",
    "partitionFetchBytesMax",
    "fetchSessions",
    "commitMs",
    "topicConfigs",
    "replicationFactor",
    "idleConnections",
    "backlogAtFullSpeed",
    "dropCaches",
    "warmupAtFullSpeed",
    "threads",
];

const KEY_WORDS: &[&str] = &["distribution", "count", "exponent"];

/// How many keys there are when nobody says.
const KEYS: u32 = 10_000;
const KEYS_MAX: u32 = 10_000_000;
const TOPICS_MAX: u32 = 1_000_000;
const PARTITIONS_MAX: u32 = 1_000_000;
const PEOPLE_MAX: u32 = 100_000;
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;
const SECONDS_MAX: f64 = MINUTES_MAX * 60.0;
const RATE_MAX: f64 = 1e9;
const GIB: f64 = (1u64 << 30) as f64;

impl Workload {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, WorkloadError> {
        let text = fs::read_to_string(path)
            .map_err(|it| WorkloadError(format!("{}: {it}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut workload = Self::parse(&text, folder)
            .map_err(|it| WorkloadError(format!("{}: {it}", path.display())))?;
        if workload.name.is_empty() {
            workload.name =
                path.file_stem().map_or_else(String::new, |it| it.to_string_lossy().into_owned());
        }
        Ok(workload)
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, WorkloadError> {
        let documents =
            Yaml::load_from_str(text).map_err(|it| WorkloadError(format!("not YAML: {it}")))?;
        let [document] = &documents[..] else {
            return Err(WorkloadError(format!("{} documents, not one", documents.len())));
        };
        let file = Section::new("", document, THEIRS)?;
        let empty = Yaml::Mapping(Default::default());
        let section = Section::new(SECTION, file.get(SECTION).unwrap_or(&empty), OURS)?;
        let own = Own::of(&section)?;
        let (payload, message_bytes) = payload(&file, folder)?;
        let measured = match section.number("testSeconds", 1.0, SECONDS_MAX)? {
            Some(seconds) => seconds,
            None => 60.0 * file.number("testDurationMinutes", 0.0, MINUTES_MAX)?.unwrap_or(5.0),
        };
        let warm_up = match section.number("warmupSeconds", 0.0, SECONDS_MAX)? {
            Some(seconds) => seconds,
            None => 60.0 * file.number("warmupDurationMinutes", 0.0, MINUTES_MAX)?.unwrap_or(1.0),
        };
        let backlog = match section.number("backlogBytes", 0.0, 1e18)? {
            Some(bytes) => bytes,
            None => GIB * file.number("consumerBacklogSizeGB", 0.0, 1e9)?.unwrap_or(0.0),
        };
        let rate = match file.number("producerRate", 0.0, RATE_MAX)? {
            Some(0.0) => Rate::Max,
            Some(rate) => Rate::Of(rate),
            None => return Err(file.missing("producerRate")),
        };
        let partitions = file
            .whole("partitionsPerTopic", 1, PARTITIONS_MAX)?
            .ok_or_else(|| file.missing("partitionsPerTopic"))?;
        let workload = Self {
            name: file.text("name")?.unwrap_or_default(),
            topics: file.whole("topics", 1, TOPICS_MAX)?.ok_or_else(|| file.missing("topics"))?,
            partitions,
            message_bytes,
            payload,
            keys: keys(&file, &section)?,
            subscriptions: file.whole("subscriptionsPerTopic", 0, PEOPLE_MAX)?.unwrap_or(1),
            producers: file.whole("producersPerTopic", 0, PEOPLE_MAX)?.unwrap_or(1),
            consumers: file.whole("consumerPerSubscription", 0, PEOPLE_MAX)?.unwrap_or(1),
            rate,
            backlog_bytes: backlog as u64,
            backlog_drain_ratio: file.number("backlogDrainRatio", 0.0, 1.0)?.unwrap_or(1.0),
            measured: Duration::from_secs_f64(measured.max(1.0)),
            warm_up: Duration::from_secs_f64(warm_up),
            progress_every: Duration::from_millis(
                file.whole("logIntervalMillis", 1, u32::MAX)?.unwrap_or(10_000).into(),
            ),
            own,
        };
        workload.check()
    }

    /// What no single key can tell.
    fn check(self) -> Result<Self, WorkloadError> {
        let wrong = |text: &str| Err(WorkloadError(text.to_owned()));
        if 0 < self.backlog_bytes && self.readers() == 0 {
            return wrong("a backlog needs consumers to drain it");
        }
        if 0 < self.backlog_bytes && self.producers == 0 {
            return wrong("a backlog needs producers to build it");
        }
        if self.own.drop_caches && self.backlog_bytes == 0 {
            return wrong(
                "corelane.dropCaches is done before a backlog is read, and there is none",
            );
        }
        if self.own.idempotent && self.own.acks != -1 {
            return wrong("corelane.idempotence needs corelane.acks: all");
        }
        if self.own.idempotent && 5 < self.own.in_flight {
            return wrong("corelane.idempotence allows no more than corelane.inFlight: 5");
        }
        Ok(self)
    }

    /// All consumers of a topic.
    pub(crate) fn readers(&self) -> u32 {
        self.subscriptions * self.consumers
    }

    pub(crate) fn all_producers(&self) -> u32 {
        self.producers * self.topics
    }
}

impl Own {
    fn of(section: &Section<'_, '_>) -> Result<Self, WorkloadError> {
        if section.get("transactions").is_some() {
            return Err(
                section.wrong("transactions", "this load generator makes no transactions yet")
            );
        }
        let millis = |key, default: u32| -> Result<Duration, WorkloadError> {
            let ms = section.number(key, 0.0, 3_600_000.0)?.unwrap_or(default.into());
            Ok(Duration::from_secs_f64(ms / 1e3))
        };
        let bytes = |key, default: usize| -> Result<usize, WorkloadError> {
            Ok(section.whole(key, 1, i32::MAX as u32)?.map_or(default, |it| it as usize))
        };
        let acks = match section.word("acks", &["0", "1", "all", "-1"])? {
            None | Some("all" | "-1") => -1,
            Some("0") => 0,
            Some(_) => 1,
        };
        let in_flight = section.whole("inFlight", 1, 1_000)?.unwrap_or(5) as usize;
        let names = Codec::ALL.map(Codec::name);
        let codec = match section.word("compression", &names)? {
            None => Codec::None,
            Some(name) => {
                *Codec::ALL.iter().find(|it| it.name() == name).expect("one of the names")
            }
        };
        let assignment = match section.word("assignment", &["plain", "group"])? {
            None | Some("plain") => Assignment::Plain,
            Some(_) => Assignment::Group,
        };
        let fetch_bytes = |key, default: u32| -> Result<u32, WorkloadError> {
            Ok(section.whole(key, 1, i32::MAX as u32)?.unwrap_or(default))
        };
        Ok(Self {
            acks,
            batch_bytes: bytes("batchBytes", 128 << 10)?,
            linger: millis("lingerMs", 1)?,
            codec,
            in_flight,
            request_bytes_max: bytes("requestBytesMax", 1 << 20)?,
            buffer_bytes: bytes("bufferBytes", 32 << 20)?,
            idempotent: section.truth("idempotence")?.unwrap_or(acks == -1 && in_flight <= 5),
            assignment,
            fetch_wait: millis("fetchWaitMs", 500)?,
            fetch_bytes_min: fetch_bytes("fetchBytesMin", 1)?,
            fetch_bytes_max: fetch_bytes("fetchBytesMax", 50 << 20)?,
            partition_fetch_bytes_max: fetch_bytes("partitionFetchBytesMax", 1 << 20)?,
            fetch_sessions: section.truth("fetchSessions")?.unwrap_or(true),
            commit_every: millis("commitMs", 5_000)?,
            topic_configs: section.pairs("topicConfigs")?,
            replication: section
                .whole("replicationFactor", 1, 1_000)?
                .map_or(-1, |it| i16::try_from(it).expect("a thousand fits")),
            idle_connections: section.whole("idleConnections", 0, 1_000_000)?.unwrap_or(0),
            backlog_at_full_speed: section.truth("backlogAtFullSpeed")?.unwrap_or(false),
            drop_caches: section.truth("dropCaches")?.unwrap_or(false),
            warm_up_at_full_speed: section.truth("warmupAtFullSpeed")?.unwrap_or(false),
            threads: section.whole("threads", 1, 1_024)?.map(|it| it as usize),
        })
    }
}

fn keys(file: &Section<'_, '_>, own: &Section<'_, '_>) -> Result<Keys, WorkloadError> {
    let theirs = ["NO_KEY", "KEY_ROUND_ROBIN", "RANDOM_NANO"];
    let named = file.word("keyDistributor", &theirs)?;
    let Some(section) = own.get("keys") else {
        return Ok(match named {
            None | Some("NO_KEY") => Keys::None,
            Some("KEY_ROUND_ROBIN") => Keys::RoundRobin { count: KEYS },
            Some(_) => Keys::Random { count: KEYS },
        });
    };
    if named.is_some() {
        return Err(own.wrong("keys", "keyDistributor stands there too; say it once"));
    }
    let section = Section::new("corelane.keys", section, KEY_WORDS)?;
    let count = section.whole("count", 1, KEYS_MAX)?.unwrap_or(KEYS);
    let exponent = section.number("exponent", 0.0, 10.0)?;
    let words = ["none", "roundRobin", "random", "zipf"];
    let keys = match section.word("distribution", &words)? {
        None => return Err(section.missing("distribution")),
        Some("none") => Keys::None,
        Some("roundRobin") => Keys::RoundRobin { count },
        Some("random") => Keys::Random { count },
        Some(_) => Keys::Zipf { count, exponent: exponent.unwrap_or(0.99) },
    };
    if exponent.is_some() && !matches!(keys, Keys::Zipf { .. }) {
        return Err(section.wrong("exponent", "only zipf has one"));
    }
    Ok(keys)
}

fn payload(file: &Section<'_, '_>, folder: &Path) -> Result<(Payload, usize), WorkloadError> {
    let said = file.whole("messageSize", Stamp::BYTES as u32, MESSAGE_BYTES_MAX as u32);
    let said = said.map_err(|it| {
        WorkloadError(format!("{it} (a value begins with {} bytes of our own)", Stamp::BYTES))
    })?;
    let random = file.truth("useRandomizedPayloads")?.unwrap_or(false);
    let ratio = file.number("randomBytesRatio", 0.0, 1.0)?.unwrap_or(0.5);
    let pool = file.whole("randomizedPayloadPoolSize", 1, 100_000)?.unwrap_or(100) as usize;
    if random {
        let bytes = said.ok_or_else(|| file.missing("messageSize"))?;
        return Ok((Payload::Random { ratio, pool }, bytes as usize));
    }
    let Some(name) = file.text("payloadFile")? else {
        let bytes = said.ok_or_else(|| file.missing("messageSize"))?;
        return Ok((Payload::Zeros, bytes as usize));
    };
    // OpenMessaging Benchmark is started where `payload` and `workloads` are neighbours.
    let places = [folder.join("..").join(&name), folder.join(&name), PathBuf::from(&name)];
    let there = places.iter().find_map(|it| Some((it, fs::metadata(it).ok()?)));
    let Some((path, metadata)) = there else {
        return Err(file.wrong("payloadFile", &format!("there is no {name}")));
    };
    let found = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let bytes = said.map_or(found, |it| it as usize);
    if found < bytes || !(Stamp::BYTES..=MESSAGE_BYTES_MAX).contains(&bytes) {
        return Err(file.wrong(
            "payloadFile",
            &format!("{name} has {found} bytes, which does not do for values of {bytes}"),
        ));
    }
    Ok((Payload::File(path.clone()), bytes))
}

#[cfg(test)]
#[path = "workload_stories.rs"]
mod stories;

//! A topic's keys, and the settings a topic runs with.
//!
//! A topic's own value comes first, then the broker-wide twin of the key (altered for this broker,
//! altered for the cluster, set at start), then the default. What a topic runs with is resolved
//! once, into [`TopicSettings`], and again whenever one of those changes; no handler reads text.
//! Invariant: a stored topic value has passed its row; [`check`] guards the rules between keys.

use super::keys::{self, CODECS, DURABILITIES, POLICIES, SEGMENT_BYTES_MIN, TIMESTAMPS};
use super::layers::{Configs, Layers};
use super::row::{Row, rows};
use super::value::{BadValue, Check, Kind, Value};
use Kind::{Boolean, Double, Int, List, Long, String as Text};

const FOREVER_MS: &str = "9223372036854775807";
const TIERING_WHY: &str = "there is no tiered storage, so only the default is accepted";
const DLQ_WHY: &str = "there are no share groups, so only the default is accepted";

rows! {
    /// Every key of a topic, in the order in which it is printed.
    TOPIC_KEYS:

    CLEANUP_POLICY = Row::new("cleanup.policy", List, "delete").dynamic()
        .check(Check::ListOf(POLICIES)).falls_back_on(&[&keys::LOG_CLEANUP_POLICY])
        .doc("What happens to old records: delete, compact, both, or empty to keep them for ever.");
    COMPRESSION_GZIP_LEVEL = Row::new("compression.gzip.level", Int, "-1").dynamic()
        .check(Check::BetweenOr(1, 9, -1)).falls_back_on(&[&keys::GZIP_LEVEL])
        .doc("The level when the broker compresses with gzip. -1: the codec's own choice.");
    COMPRESSION_LZ4_LEVEL = Row::new("compression.lz4.level", Int, "9").dynamic()
        .check(Check::Between(1, 17)).falls_back_on(&[&keys::LZ4_LEVEL])
        .doc("The level when the broker compresses with lz4. 9: its fast form. Levels beyond 12 are 12.");
    COMPRESSION_TYPE = Row::new("compression.type", Text, "producer").dynamic()
        .check(Check::OneOf(CODECS)).falls_back_on(&[&keys::COMPRESSION_TYPE])
        .doc("How batches are stored. producer keeps them as they came.");
    COMPRESSION_ZSTD_LEVEL = Row::new("compression.zstd.level", Int, "3").dynamic()
        .check(Check::Between(-131_072, 22)).falls_back_on(&[&keys::ZSTD_LEVEL])
        .doc("The level when the broker compresses with zstd.");
    TOPIC_DURABILITY = Row::new("corelane.durability", Text, "flushed").dynamic()
        .check(Check::OneOf(DURABILITIES)).falls_back_on(&[&keys::DURABILITY])
        .doc("When an append is answered. flushed: once its bytes are on stable storage. memory: \
              at once; its bytes enter the next commit, and a power cut may lose them.");
    DELETE_RETENTION_MS = Row::new("delete.retention.ms", Long, "86400000").dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::CLEANER_DELETE_RETENTION_MS])
        .doc("How long compaction keeps the mark of a deleted key.");
    DLQ_ENABLE = Row::new("errors.deadletterqueue.group.enable", Boolean, "false").dynamic()
        .default_only(DLQ_WHY)
        .doc("Whether share groups may put records here that nobody could process.");
    FILE_DELETE_DELAY_MS = Row::new("file.delete.delay.ms", Long, "60000").dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::LOG_SEGMENT_DELETE_DELAY_MS])
        .shown(keys::DELETE_DELAY_WHY)
        .doc("How long a deleted segment stays on disk.");
    FLUSH_MESSAGES = Row::new("flush.messages", Long, FOREVER_MS).dynamic()
        .check(Check::AtLeast(1)).falls_back_on(&[&keys::LOG_FLUSH_MESSAGES])
        .shown(keys::FLUSH_WHY)
        .doc("Records between two flushes.");
    FLUSH_MS = Row::new("flush.ms", Long, FOREVER_MS).dynamic().check(Check::AtLeast(0))
        .falls_back_on(&[&keys::LOG_FLUSH_MS, &keys::LOG_FLUSH_SCHEDULER_MS])
        .shown(keys::FLUSH_WHY)
        .doc("Time between two flushes.");
    FOLLOWER_THROTTLED = Row::new("follower.replication.throttled.replicas", List, "").dynamic()
        .check(Check::ThrottledReplicas).shown(keys::THROTTLE_WHY)
        .doc("Copies whose catching up is throttled, as partition:broker pairs or *.");
    INDEX_INTERVAL_BYTES = Row::new("index.interval.bytes", Int, "4096").dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::LOG_INDEX_INTERVAL_BYTES])
        .shown(keys::INDEX_WHY)
        .doc("Bytes of log between two entries of its index.");
    LEADER_THROTTLED = Row::new("leader.replication.throttled.replicas", List, "").dynamic()
        .check(Check::ThrottledReplicas).shown(keys::THROTTLE_WHY)
        .doc("Copies whose sending is throttled, as partition:broker pairs or *.");
    LOCAL_RETENTION_BYTES = Row::new("local.retention.bytes", Long, "-2").dynamic()
        .check(Check::AtLeast(-2)).default_only(TIERING_WHY)
        .doc("Bytes kept here of what is also kept remotely. -2: as retention.bytes.");
    LOCAL_RETENTION_MS = Row::new("local.retention.ms", Long, "-2").dynamic()
        .check(Check::AtLeast(-2)).default_only(TIERING_WHY)
        .doc("How long to keep here what is also kept remotely. -2: as retention.ms.");
    MAX_COMPACTION_LAG_MS = Row::new("max.compaction.lag.ms", Long, FOREVER_MS).dynamic()
        .check(Check::AtLeast(1)).falls_back_on(&[&keys::CLEANER_MAX_LAG_MS])
        .doc("A record older than this makes its log worth compacting.");
    MAX_MESSAGE_BYTES = Row::new("max.message.bytes", Int, "1048588").dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::MESSAGE_BYTES_MAX])
        .doc("The largest batch of records, as it is sent: after compression.");
    TIMESTAMP_AFTER_MS = Row::new("message.timestamp.after.max.ms", Long, "3600000").dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::LOG_TIMESTAMP_AFTER_MS])
        .doc("How far a producer's timestamp may lie ahead of the broker's clock.");
    TIMESTAMP_BEFORE_MS = Row::new("message.timestamp.before.max.ms", Long, FOREVER_MS).dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::LOG_TIMESTAMP_BEFORE_MS])
        .doc("How far a producer's timestamp may lie behind the broker's clock.");
    TIMESTAMP_TYPE = Row::new("message.timestamp.type", Text, "CreateTime").dynamic()
        .check(Check::OneOf(TIMESTAMPS)).falls_back_on(&[&keys::LOG_TIMESTAMP_TYPE])
        .doc("Whose clock stamps a record: the producer's, or the broker's at append.");
    MIN_CLEANABLE_RATIO = Row::new("min.cleanable.dirty.ratio", Double, "0.5").dynamic()
        .check(Check::Ratio).falls_back_on(&[&keys::CLEANER_MIN_RATIO])
        .doc("The share of a compacted log that must be new before compaction is worth it.");
    MIN_COMPACTION_LAG_MS = Row::new("min.compaction.lag.ms", Long, "0").dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&keys::CLEANER_MIN_LAG_MS])
        .doc("A record younger than this is never compacted away.");
    MIN_INSYNC_REPLICAS = Row::new("min.insync.replicas", Int, "1").dynamic()
        .check(Check::AtLeast(1)).falls_back_on(&[&keys::MIN_INSYNC_REPLICAS])
        .doc("Copies that must have a record before acks=all is answered; never more than the \
              topic has.");
    PREALLOCATE = Row::new("preallocate", Boolean, "false").dynamic()
        .falls_back_on(&[&keys::LOG_PREALLOCATE]).shown(keys::PREALLOCATE_WHY)
        .doc("Whether a segment takes its whole size on disk when it is created.");
    REMOTE_COPY_LAG_BYTES = Row::new("remote.copy.lag.bytes", Long, "-1").dynamic()
        .check(Check::AtLeast(-1)).default_only(TIERING_WHY)
        .doc("Bytes that may wait before they are copied to remote storage.");
    REMOTE_COPY_LAG_MS = Row::new("remote.copy.lag.ms", Long, "0").dynamic()
        .check(Check::AtLeast(-1)).default_only(TIERING_WHY)
        .doc("How long a segment may wait before it is copied to remote storage.");
    REMOTE_COPY_DISABLE = Row::new("remote.log.copy.disable", Boolean, "false").dynamic()
        .default_only(TIERING_WHY)
        .doc("Whether nothing more is copied to remote storage.");
    REMOTE_DELETE_ON_DISABLE = Row::new("remote.log.delete.on.disable", Boolean, "false").dynamic()
        .default_only(TIERING_WHY)
        .doc("Whether remote data is deleted when tiering is switched off.");
    REMOTE_STORAGE_ENABLE = Row::new("remote.storage.enable", Boolean, "false").dynamic()
        .default_only(TIERING_WHY)
        .doc("Whether segments are also kept in remote storage.");
    RETENTION_BYTES = Row::new("retention.bytes", Long, "-1").dynamic()
        .falls_back_on(&[&keys::LOG_RETENTION_BYTES])
        .doc("Bytes a partition keeps before its oldest segments are deleted. -1: no limit.");
    RETENTION_MS = Row::new("retention.ms", Long, "604800000").dynamic().check(Check::AtLeast(-1))
        .falls_back_on(&[
            &keys::LOG_RETENTION_MS,
            &keys::LOG_RETENTION_MINUTES,
            &keys::LOG_RETENTION_HOURS,
        ])
        .doc("Segments whose newest record is older than this are deleted. -1: no limit.");
    SEGMENT_BYTES = Row::new("segment.bytes", Int, "1073741824").dynamic()
        .check(Check::AtLeast(SEGMENT_BYTES_MIN)).falls_back_on(&[&keys::LOG_SEGMENT_BYTES])
        .doc("The largest segment.");
    SEGMENT_INDEX_BYTES = Row::new("segment.index.bytes", Int, "10485760").dynamic()
        .check(Check::AtLeast(4)).falls_back_on(&[&keys::LOG_INDEX_SIZE_BYTES])
        .shown(keys::INDEX_WHY)
        .doc("The size an index is created with.");
    SEGMENT_JITTER_MS = Row::new("segment.jitter.ms", Long, "0").dynamic()
        .check(Check::AtLeast(0))
        .falls_back_on(&[&keys::LOG_ROLL_JITTER_MS, &keys::LOG_ROLL_JITTER_HOURS])
        .doc("Up to so much is taken off segment.ms at random, so that segments do not all roll \
              at once.");
    SEGMENT_MS = Row::new("segment.ms", Long, "604800000").dynamic().check(Check::AtLeast(1))
        .falls_back_on(&[&keys::LOG_ROLL_MS, &keys::LOG_ROLL_HOURS])
        .doc("A segment that spans so much time is closed even if it is small.");
    UNCLEAN_ELECTION = Row::new("unclean.leader.election.enable", Boolean, "false").dynamic()
        .falls_back_on(&[&keys::UNCLEAN_ELECTION]).shown(keys::ELECTION_WHY)
        .doc("Whether a copy that lags may become the leader.");
}

/// The row of a topic key.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    TOPIC_KEYS.iter().copied().find(|it| it.name == name)
}

/// How records are stored, when not as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Producer,
    Uncompressed,
    Gzip { level: i32 },
    Snappy,
    Lz4 { level: i32 },
    Zstd { level: i32 },
}

/// Whose clock stamps a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// When an append is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Flushed,
    Memory,
}

impl Durability {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "flushed" => Self::Flushed,
            "memory" => Self::Memory,
            other => panic!("a stored durability has passed its row, and {other} has not"),
        }
    }
}

/// What a topic runs with. Limits that are off are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    pub delete: bool,
    pub compact: bool,
    pub compression: Compression,
    pub durability: Durability,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    pub index_interval_bytes: i32,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub message_bytes_max: i32,
    pub timestamp_type: TimestampType,
    pub timestamp_before_ms_max: i64,
    pub timestamp_after_ms_max: i64,
    pub cleanable_ratio_min: f64,
    pub insync_replicas_min: i32,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
    pub segment_bytes_max: i32,
    pub segment_ms_max: i64,
    pub segment_jitter_ms_max: i64,
}

impl TopicSettings {
    /// Resolves what a topic with these values of its own runs with.
    #[must_use]
    pub fn resolve(own: &Configs, layers: &Layers<'_>) -> Self {
        let read = Reader { own, layers };
        let policies = read.list(&CLEANUP_POLICY);
        Self {
            delete: policies.iter().any(|it| it == "delete"),
            compact: policies.iter().any(|it| it == "compact"),
            compression: match read.text(&COMPRESSION_TYPE).as_str() {
                "producer" => Compression::Producer,
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip { level: read.int(&COMPRESSION_GZIP_LEVEL) },
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4 { level: read.int(&COMPRESSION_LZ4_LEVEL) },
                "zstd" => Compression::Zstd { level: read.int(&COMPRESSION_ZSTD_LEVEL) },
                other => panic!("a stored codec has passed its row, and {other} has not"),
            },
            durability: Durability::of(&read.text(&TOPIC_DURABILITY)),
            delete_retention_ms: read.long(&DELETE_RETENTION_MS),
            file_delete_delay_ms: read.long(&FILE_DELETE_DELAY_MS),
            index_interval_bytes: read.int(&INDEX_INTERVAL_BYTES),
            min_compaction_lag_ms: read.long(&MIN_COMPACTION_LAG_MS),
            max_compaction_lag_ms: read.long(&MAX_COMPACTION_LAG_MS),
            message_bytes_max: read.int(&MAX_MESSAGE_BYTES),
            timestamp_type: match read.text(&TIMESTAMP_TYPE).as_str() {
                "CreateTime" => TimestampType::CreateTime,
                "LogAppendTime" => TimestampType::LogAppendTime,
                other => panic!("a stored timestamp type has passed its row, and {other} has not"),
            },
            timestamp_before_ms_max: read.long(&TIMESTAMP_BEFORE_MS),
            timestamp_after_ms_max: read.long(&TIMESTAMP_AFTER_MS),
            cleanable_ratio_min: read.double(&MIN_CLEANABLE_RATIO),
            insync_replicas_min: read.int(&MIN_INSYNC_REPLICAS),
            retention_bytes: u64::try_from(read.long(&RETENTION_BYTES)).ok(),
            retention_ms: u64::try_from(read.long(&RETENTION_MS)).ok(),
            segment_bytes_max: read.int(&SEGMENT_BYTES),
            segment_ms_max: read.long(&SEGMENT_MS),
            segment_jitter_ms_max: read.long(&SEGMENT_JITTER_MS),
        }
    }
}

struct Reader<'a> {
    own: &'a Configs,
    layers: &'a Layers<'a>,
}

impl Reader<'_> {
    fn value(&self, row: &Row) -> Value {
        let text = match self.own.get(row.name) {
            Some(text) => text.clone(),
            None => self.layers.inherited(row).expect("every topic key has a default"),
        };
        row.parse(&text).expect("a stored value has passed its row")
    }

    fn long(&self, row: &Row) -> i64 {
        let Value::Number(number) = self.value(row) else { panic!("{} is no number", row.name) };
        number
    }

    fn int(&self, row: &Row) -> i32 {
        i32::try_from(self.long(row)).expect("an int key holds an int")
    }

    fn double(&self, row: &Row) -> f64 {
        let Value::Double(number) = self.value(row) else { panic!("{} is no ratio", row.name) };
        number
    }

    fn text(&self, row: &Row) -> String {
        let Value::Text(text) = self.value(row) else { panic!("{} is no word", row.name) };
        text
    }

    fn list(&self, row: &Row) -> Vec<String> {
        let Value::List(list) = self.value(row) else { panic!("{} is no list", row.name) };
        list
    }
}

/// Why a set of topic values cannot stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicConfigError {
    Unknown { key: String },
    Null { key: String },
    Bad(BadValue),
    LagsCross { min_ms: i64, max_ms: i64 },
}

impl std::fmt::Display for TopicConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown { key } => write!(f, "Unknown topic config name: {key}"),
            Self::Null { key } => write!(f, "Null value not supported for topic configs: {key}"),
            Self::Bad(bad) => bad.fmt(f),
            Self::LagsCross { min_ms, max_ms } => write!(
                f,
                "conflict topic config setting min.compaction.lag.ms ({min_ms}) > \
                 max.compaction.lag.ms ({max_ms})"
            ),
        }
    }
}

/// Whether a topic may hold exactly these values of its own.
///
/// # Errors
/// The first key, in order of name, that is unknown or has a value it does not take; then what
/// contradicts another key.
pub fn check(own: &Configs, layers: &Layers<'_>) -> Result<(), TopicConfigError> {
    for (key, value) in own {
        let row = find(key).ok_or_else(|| TopicConfigError::Unknown { key: key.clone() })?;
        row.parse(value).map_err(TopicConfigError::Bad)?;
    }
    let settings = TopicSettings::resolve(own, layers);
    let (min_ms, max_ms) = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
    if max_ms < min_ms {
        return Err(TopicConfigError::LagsCross { min_ms, max_ms });
    }
    Ok(())
}

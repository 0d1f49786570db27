//! The broker's keys, all of them. A key that is not here is refused.
//!
//! Names and defaults are Kafka's wherever Kafka has the key, so that a file people already have
//! keeps its meaning; where a default differs, its text says so. Keys of our own start with
//! `corelane.`. A key stands here only if the broker obeys it, or says plainly that it does not.

use super::row::{Row, rows};
use super::value::{Check, Kind};
use Kind::{Boolean, Double, Int, List, Long, Short, String};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const FLUSH_WHY: &str = "every commit is flushed before it is answered";
pub(super) const DELETE_DELAY_WHY: &str =
    "deleted files go once that is durable, and who reads them keeps what it holds";
pub(super) const INDEX_WHY: &str = "the index beside a segment sizes itself";
pub(super) const PREALLOCATE_WHY: &str = "segments are preallocated by their rate of growth";
pub(super) const THROTTLE_WHY: &str = "a single copy replicates nothing";
pub(super) const ELECTION_WHY: &str = "a single copy has nobody to elect";

pub(super) const CODECS: &[&str] = &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
pub(super) const POLICIES: &[&str] = &["compact", "delete"];
pub(super) const TIMESTAMPS: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const DURABILITIES: &[&str] = &["flushed", "memory"];
pub(super) const SEGMENT_BYTES_MIN: i64 = 1 << 20;

rows! {
    /// Every key of the broker, in the order in which it is printed.
    BROKER_KEYS:

    NODE_ID = Row::new("node.id", Int, "1").check(Check::AtLeast(0)).falls_back_on(&[&BROKER_ID])
        .doc("The number of this node. It is part of what clients remember, so keep it.");
    BROKER_ID = Row::unset("broker.id", Int).check(Check::AtLeast(0))
        .doc("The older spelling of node.id. When both are set they must agree.");
    BROKER_RACK = Row::unset("broker.rack", String).check(Check::NotEmpty)
        .doc("Where this node stands; told to clients that ask for metadata.");
    LOG_DIRS = Row::new("log.dirs", List, "corelane-data").check(Check::NotEmpty)
        .falls_back_on(&[&LOG_DIR])
        .doc("The data directory; the flag --data sets it too. One directory: a second one is \
              refused, because every lane keeps one journal for all it stores.");
    LOG_DIR = Row::unset("log.dir", String).check(Check::NotEmpty)
        .doc("The older spelling of log.dirs.");

    LANES = Row::new("corelane.lanes", Int, "0").check(Check::Between(0, 1024))
        .doc("How many lanes to run, each a thread pinned to a core of its own; the flag --lanes \
              sets it too. 0: one for each core this process may use. More lanes than cores run \
              pinned to none, with a warning.");
    MEMORY_BYTES = Row::new("corelane.memory.bytes", Long, "-1")
        .check(Check::BetweenOr(64 << 20, i64::MAX, -1))
        .doc("Memory for recent records and buffers, shared out evenly among the lanes. -1: up to a \
              quarter of what this process may use, of which each lane fills 64 MiB before it \
              forgets records that are on disk; with a number, half of its share.");
    JOURNAL_BYTES = Row::new("corelane.journal.bytes", Long, "268435456")
        .check(Check::AtLeast(16 << 20))
        .doc("How large the journal of one lane may grow before appends wait for it to be \
              written out. Very many partitions may need more for their last blocks, and get it.");
    DURABILITY = Row::new("corelane.durability", String, "flushed").dynamic()
        .check(Check::OneOf(DURABILITIES))
        .doc("When an append is answered. flushed: once its bytes are on stable storage. memory: \
              at once; its bytes enter the next commit, and a power cut may lose them.");

    LISTENERS = Row::new("listeners", List, "PLAINTEXT://127.0.0.1:9092").check(Check::NotEmpty)
        .doc("Where to listen, as NAME://HOST:PORT, several separated by commas; the flag --listen \
              sets it too. Port 0 takes any free port. The host may be empty or 0.0.0.0 for every \
              address; then say in advertised.listeners how clients reach this node.");
    ADVERTISED_LISTENERS = Row::unset("advertised.listeners", List).check(Check::NotEmpty)
        .doc("The addresses clients are told to connect to, by listener name. Unset: those of \
              listeners, with the host name of this machine in place of a wildcard.");
    LISTENER_PROTOCOLS =
        Row::new("listener.security.protocol.map", List, "PLAINTEXT:PLAINTEXT")
        .check(Check::NotEmpty)
        .doc("The protocol each named listener speaks, as NAME:PROTOCOL. PLAINTEXT is the only \
              protocol so far.");

    MAX_CONNECTIONS = Row::new("max.connections", Int, "50000").dynamic().check(Check::AtLeast(0))
        .doc("Connections at once, over all listeners. Four fifths of the limit on open files \
              bound it too. Further ones are closed at once.");
    MAX_CONNECTIONS_PER_IP = Row::new("max.connections.per.ip", Int, "1024").dynamic()
        .check(Check::AtLeast(0))
        .doc("Connections at once from one address. Further ones are closed at once.");
    CONNECTION_CREATION_RATE = Row::new("max.connection.creation.rate", Int, "2147483647").dynamic()
        .check(Check::AtLeast(1))
        .doc("Connections taken in one second, by all listeners and lanes together, and at most a tenth \
              of that at once. Further ones wait in the kernel's queue and are taken later; none is \
              closed for it. The default is Kafka's and means no limit.");
    CONNECTIONS_MAX_IDLE_MS = Row::new("connections.max.idle.ms", Long, "600000")
        .check(Check::AtLeast(1))
        .doc("A connection that asks nothing for so long is closed.");
    FRAME_PROGRESS_MS = Row::new("corelane.frame.progress.ms", Long, "30000")
        .check(Check::AtLeast(1))
        .doc("A request that is incomplete so long after its first byte closes its connection, \
              however steadily it drips.");
    SEND_STALL_MS = Row::new("corelane.send.stall.ms", Long, "60000").check(Check::AtLeast(1))
        .doc("A peer that takes nothing of an answer for so long is disconnected. So is one that has \
              closed its end while requests of it still wait.");
    REQUEST_BYTES_MAX = Row::new("socket.request.max.bytes", Int, "104857600")
        .check(Check::AtLeast(1024))
        .doc("The largest request a client may send.");
    PROOF_BYTES_MAX = Row::new("corelane.authentication.frame.bytes", Int, "65536")
        .check(Check::AtLeast(1024))
        .doc("The largest request of a client that has not proven yet who it is; never more than \
              socket.request.max.bytes. Kafka has sasl.server.max.receive.size for it. It holds on listeners that ask for a \
              proof, and there are none so far: PLAINTEXT asks for nothing.");
    PROOF_MS = Row::new("corelane.authentication.ms", Long, "10000").check(Check::AtLeast(1))
        .doc("A client that has to prove who it is and has not done so this long after it connected is \
              disconnected. It holds on listeners that ask for a proof, and there are none so far.");
    REQUEST_ELEMENTS_MAX = Row::new("corelane.request.elements.max", Int, "100000")
        .check(Check::AtLeast(1000))
        .doc("Topics, partitions and whatever else one request may list, all together. What it \
              costs to serve a request grows with them, so one that lists more closes its \
              connection.");
    RECEIVE_BYTES = Row::new("corelane.receive.bytes", Long, "268435456")
        .check(Check::AtLeast(1 << 20))
        .doc("Bytes of requests one lane holds at once. Each request reserves its share before \
              its bytes are taken; a request that finds none waits in the kernel. Half of the \
              lane's memory bounds it too. Fetches that wait for records keep at most a quarter of \
              it and 100,000 partitions, and each at most half of what is left of both: one that is \
              larger, or longer than 64 KiB and 512 bytes for each of its partitions, is answered at \
              once with what there is.");
    UNFOLD_BYTES_MAX = Row::new("corelane.unfold.max.bytes", Long, "268435456")
        .check(Check::AtLeast(1 << 20))
        .doc("Bytes a compressed batch of a client may unfold to; what a topic takes, max.message.bytes, is \
              about compressed ones. It is looked at as it unfolds. Where the topic wants another codec \
              it has to be in memory, and then 8 times max.message.bytes is the bound, 64 MiB at \
              most. A batch beyond is refused as too large.");
    REQUESTS_IN_FLIGHT_MAX = Row::new("corelane.connection.requests.max", Int, "64")
        .check(Check::Between(1, 4096))
        .doc("Requests of one connection in work at once. At the limit its reading pauses.");
    SEND_BYTES_MAX = Row::new("corelane.connection.send.bytes", Long, "115343360")
        .check(Check::AtLeast(1 << 20))
        .doc("Bytes of answers waiting for one connection, or asked for by it. At the limit its reading \
              pauses.");
    LANE_SEND_BYTES = Row::new("corelane.send.bytes", Long, "67108864")
        .check(Check::AtLeast(1 << 20))
        .doc("Memory of answers that wait on one lane, for all its connections. Beyond it a connection \
              is served one request at a time, each once the answer before it was taken; and one that \
              has not taken everything within corelane.send.stall.ms is disconnected.");

    AUTO_CREATE_TOPICS = Row::new("auto.create.topics.enable", Boolean, "true")
        .doc("Create a topic when a client that allows it asks for one that is not there.");
    DELETE_TOPIC_ENABLE = Row::new("delete.topic.enable", Boolean, "true")
        .doc("Whether topics may be deleted.");
    NUM_PARTITIONS = Row::new("num.partitions", Int, "1").check(Check::AtLeast(1))
        .doc("Partitions of a topic that is created without saying how many.");
    DEFAULT_REPLICATION_FACTOR = Row::new("default.replication.factor", Int, "1")
        .check(Check::Between(1, 32767))
        .doc("Copies of a topic that is created without saying how many. More copies than nodes \
              make such a creation fail.");
    CREATE_PARTITIONS_MAX = Row::new("corelane.create.partitions.max", Int, "10000")
        .check(Check::AtLeast(1))
        .doc("Partitions one request may create.");
    PARTITIONS_MAX = Row::new("corelane.partitions.max", Int, "200000").check(Check::AtLeast(1))
        .doc("Partitions on this node, all topics together.");

    LOG_CLEANUP_POLICY = Row::new("log.cleanup.policy", List, "delete").dynamic()
        .check(Check::ListOf(POLICIES))
        .doc("What happens to old records: delete, compact, both, or empty to keep them for ever.");
    LOG_RETENTION_MS = Row::unset("log.retention.ms", Long).dynamic().check(Check::AtLeast(-1))
        .falls_back_on(&[&LOG_RETENTION_MINUTES, &LOG_RETENTION_HOURS])
        .doc("Segments whose newest record is older than this are deleted. -1: no limit.");
    LOG_RETENTION_MINUTES = Row::unset("log.retention.minutes", Int).scale(MINUTE_MS)
        .check(Check::AtLeast(-1))
        .doc("log.retention.ms in minutes; heard when that is not set.");
    LOG_RETENTION_HOURS = Row::new("log.retention.hours", Int, "168").scale(HOUR_MS)
        .check(Check::AtLeast(-1))
        .doc("log.retention.ms in hours; heard when neither of the finer ones is set.");
    LOG_RETENTION_BYTES = Row::new("log.retention.bytes", Long, "-1").dynamic()
        .doc("Bytes a partition keeps before its oldest segments are deleted. -1: no limit.");
    LOG_RETENTION_CHECK_MS = Row::new("log.retention.check.interval.ms", Long, "300000")
        .check(Check::AtLeast(1))
        .doc("How often retention is looked at.");
    LOG_SEGMENT_BYTES = Row::new("log.segment.bytes", Int, "1073741824").dynamic()
        .check(Check::AtLeast(SEGMENT_BYTES_MIN))
        .doc("The largest segment.");
    LOG_ROLL_MS = Row::unset("log.roll.ms", Long).dynamic().check(Check::AtLeast(1))
        .falls_back_on(&[&LOG_ROLL_HOURS])
        .doc("A segment that spans so much time is closed even if it is small.");
    LOG_ROLL_HOURS = Row::new("log.roll.hours", Int, "168").scale(HOUR_MS)
        .check(Check::AtLeast(1))
        .doc("log.roll.ms in hours; heard when that is not set.");
    LOG_ROLL_JITTER_MS = Row::unset("log.roll.jitter.ms", Long).dynamic()
        .check(Check::AtLeast(0)).falls_back_on(&[&LOG_ROLL_JITTER_HOURS])
        .doc("Up to so much is taken off log.roll.ms at random, so that segments do not all roll \
              at once.");
    LOG_ROLL_JITTER_HOURS = Row::new("log.roll.jitter.hours", Int, "0").scale(HOUR_MS)
        .check(Check::AtLeast(0))
        .doc("log.roll.jitter.ms in hours; heard when that is not set.");
    LOG_SEGMENT_DELETE_DELAY_MS = Row::new("log.segment.delete.delay.ms", Long, "60000").dynamic()
        .check(Check::AtLeast(0)).shown(DELETE_DELAY_WHY)
        .doc("How long a deleted segment stays on disk.");
    MESSAGE_BYTES_MAX = Row::new("message.max.bytes", Int, "1048588").dynamic()
        .check(Check::AtLeast(0))
        .doc("The largest batch of records, as it is sent: after compression.");
    LOG_TIMESTAMP_TYPE = Row::new("log.message.timestamp.type", String, "CreateTime").dynamic()
        .check(Check::OneOf(TIMESTAMPS))
        .doc("Whose clock stamps a record: the producer's, or the broker's at append.");
    LOG_TIMESTAMP_BEFORE_MS =
        Row::new("log.message.timestamp.before.max.ms", Long, "9223372036854775807").dynamic()
        .check(Check::AtLeast(0))
        .doc("How far a producer's timestamp may lie behind the broker's clock.");
    LOG_TIMESTAMP_AFTER_MS =
        Row::new("log.message.timestamp.after.max.ms", Long, "3600000").dynamic()
        .check(Check::AtLeast(0))
        .doc("How far a producer's timestamp may lie ahead of the broker's clock.");
    COMPRESSION_TYPE = Row::new("compression.type", String, "producer").dynamic()
        .check(Check::OneOf(CODECS))
        .doc("How batches are stored. producer keeps them as they came, which costs nothing; any \
              other choice compresses again what came differently.");
    GZIP_LEVEL = Row::new("compression.gzip.level", Int, "-1").dynamic()
        .check(Check::BetweenOr(1, 9, -1))
        .doc("The level when the broker compresses with gzip. -1: the codec's own choice.");
    LZ4_LEVEL = Row::new("compression.lz4.level", Int, "9").dynamic().check(Check::Between(1, 17))
        .doc("The level when the broker compresses with lz4. 9: its fast form. Levels beyond 12 are 12.");
    ZSTD_LEVEL = Row::new("compression.zstd.level", Int, "3").dynamic()
        .check(Check::Between(-131_072, 22))
        .doc("The level when the broker compresses with zstd.");
    CLEANER_MIN_RATIO = Row::new("log.cleaner.min.cleanable.ratio", Double, "0.5").dynamic()
        .check(Check::Ratio)
        .doc("The share of a compacted log that must be new before compaction is worth it.");
    CLEANER_MIN_LAG_MS = Row::new("log.cleaner.min.compaction.lag.ms", Long, "0").dynamic()
        .check(Check::AtLeast(0))
        .doc("A record younger than this is never compacted away.");
    CLEANER_MAX_LAG_MS =
        Row::new("log.cleaner.max.compaction.lag.ms", Long, "9223372036854775807").dynamic()
        .check(Check::AtLeast(1))
        .doc("A record older than this makes its log worth compacting.");
    CLEANER_DELETE_RETENTION_MS =
        Row::new("log.cleaner.delete.retention.ms", Long, "86400000").dynamic()
        .check(Check::AtLeast(0))
        .doc("How long compaction keeps the mark of a deleted key.");
    MIN_INSYNC_REPLICAS = Row::new("min.insync.replicas", Int, "1").dynamic()
        .check(Check::AtLeast(1))
        .doc("Copies that must have a record before acks=all is answered; never more than the \
              topic has.");
    UNCLEAN_ELECTION = Row::new("unclean.leader.election.enable", Boolean, "false").dynamic()
        .shown(ELECTION_WHY)
        .doc("Whether a copy that lags may become the leader.");
    LOG_FLUSH_MESSAGES =
        Row::new("log.flush.interval.messages", Long, "9223372036854775807").dynamic()
        .check(Check::AtLeast(1)).shown(FLUSH_WHY)
        .doc("Records between two flushes.");
    LOG_FLUSH_MS = Row::unset("log.flush.interval.ms", Long).dynamic().check(Check::AtLeast(0))
        .falls_back_on(&[&LOG_FLUSH_SCHEDULER_MS]).shown(FLUSH_WHY)
        .doc("Time between two flushes.");
    LOG_FLUSH_SCHEDULER_MS =
        Row::new("log.flush.scheduler.interval.ms", Long, "9223372036854775807")
        .check(Check::AtLeast(0)).shown(FLUSH_WHY)
        .doc("Time between two looks at what to flush; heard for log.flush.interval.ms when that \
              is not set.");
    LOG_INDEX_INTERVAL_BYTES = Row::new("log.index.interval.bytes", Int, "4096").dynamic()
        .check(Check::AtLeast(0)).shown(INDEX_WHY)
        .doc("Bytes of log between two entries of its index.");
    LOG_INDEX_SIZE_BYTES = Row::new("log.index.size.max.bytes", Int, "10485760").dynamic()
        .check(Check::AtLeast(4)).shown(INDEX_WHY)
        .doc("The size an index is created with.");
    LOG_PREALLOCATE = Row::new("log.preallocate", Boolean, "false").dynamic()
        .shown(PREALLOCATE_WHY)
        .doc("Whether a segment takes its whole size on disk when it is created.");

    LEADER_THROTTLED_RATE =
        Row::new("leader.replication.throttled.rate", Long, "9223372036854775807").dynamic()
        .check(Check::AtLeast(0)).shown(THROTTLE_WHY)
        .doc("Bytes per second that are sent to copies whose sending is throttled.");
    FOLLOWER_THROTTLED_RATE =
        Row::new("follower.replication.throttled.rate", Long, "9223372036854775807").dynamic()
        .check(Check::AtLeast(0)).shown(THROTTLE_WHY)
        .doc("Bytes per second that copies take whose catching up is throttled.");
    ALTER_LOG_DIRS_BYTES =
        Row::new("replica.alter.log.dirs.io.max.bytes.per.second", Long, "9223372036854775807")
        .dynamic().check(Check::AtLeast(0)).shown(THROTTLE_WHY)
        .doc("Bytes per second that are moved from one data directory to another.");

    PRODUCER_ID_EXPIRATION_MS = Row::new("producer.id.expiration.ms", Int, "86400000").dynamic()
        .check(Check::AtLeast(1))
        .doc("A partition forgets an idempotent producer that has been silent for so long.");
    FETCH_BYTES_MAX = Row::new("fetch.max.bytes", Int, "57671680").check(Check::AtLeast(1024))
        .doc("The most one fetch is answered with, whatever it asks for. A first batch that is \
              larger is still sent whole.");
    FETCH_FILE_BYTES_MIN = Row::new("corelane.fetch.file.bytes.min", Int, "32768")
        .check(Check::AtLeast(1))
        .doc("From this size on, records of finished segments that several readers asked for go from \
              the page cache to the socket, without passing through the broker's memory.");
    FETCH_SESSIONS_MAX = Row::new("max.incremental.fetch.session.cache.slots", Int, "1000")
        .check(Check::AtLeast(0))
        .doc("Fetch sessions kept at once. A client that gets none repeats its whole request.");

    GROUP_INITIAL_DELAY_MS = Row::new("group.initial.rebalance.delay.ms", Int, "3000")
        .check(Check::AtLeast(0))
        .doc("The longest an empty group waits for more members before its first assignment.");
    GROUP_INITIAL_QUIET_MS = Row::new("corelane.group.initial.quiet.ms", Int, "20")
        .check(Check::AtLeast(0))
        .doc("That wait ends earlier, when for so long no new member was seen.");
    GROUP_SESSION_MIN_MS = Row::new("group.min.session.timeout.ms", Int, "6000")
        .check(Check::AtLeast(1))
        .doc("The shortest session timeout a member may ask for.");
    GROUP_SESSION_MAX_MS = Row::new("group.max.session.timeout.ms", Int, "1800000")
        .check(Check::AtLeast(1))
        .doc("The longest session timeout a member may ask for.");
    GROUP_SIZE_MAX = Row::new("group.max.size", Int, "10000").check(Check::AtLeast(1))
        .doc("Members one group may have. Kafka has no limit unless one is set.");
    GROUP_MEMBERS_BYTES = Row::new("corelane.group.members.bytes", Int, "4194304")
        .check(Check::AtLeast(1 << 20))
        .doc("Bytes the members of one group may tell of themselves together; they stay in memory. Who \
              would pass it is told that the group is full. One member may tell 1 MiB at most.");
    GROUP_PARTITION_GROUPS_MAX = Row::new("corelane.group.partition.groups.max", Int, "100000")
        .check(Check::AtLeast(1))
        .doc("Groups of one partition of the topic that keeps group offsets. A new one beyond it is \
              told to try again, until others have expired.");
    GROUP_PARTITION_BYTES = Row::new("corelane.group.partition.bytes", Long, "67108864")
        .check(Check::AtLeast(1 << 20))
        .doc("Bytes that all groups of one partition of the topic that keeps group offsets may take in \
              memory: what members tell and are told, offsets with their metadata, and names. A join, an \
              assignment or an offset that would take more is told to try again, until others have left or \
              expired.");
    OFFSETS_PARTITIONS = Row::new("offsets.topic.num.partitions", Int, "50")
        .check(Check::Between(1, 10_000))
        .doc("Partitions of the topic that keeps group offsets. Settled when it is created.");
    OFFSETS_REPLICATION_FACTOR = Row::new("offsets.topic.replication.factor", Short, "1")
        .check(Check::AtLeast(1))
        .doc("Copies of the topic that keeps group offsets. Kafka's default is 3; more copies \
              than nodes make its creation fail.");
    OFFSETS_SEGMENT_BYTES = Row::new("offsets.topic.segment.bytes", Int, "104857600")
        .check(Check::AtLeast(SEGMENT_BYTES_MIN))
        .doc("The largest segment of the topic that keeps group offsets.");
    OFFSETS_RETENTION_MINUTES = Row::new("offsets.retention.minutes", Int, "10080")
        .check(Check::AtLeast(1))
        .doc("How long the offsets of an empty group are kept.");
    OFFSETS_RETENTION_CHECK_MS = Row::new("offsets.retention.check.interval.ms", Long, "600000")
        .check(Check::AtLeast(1))
        .doc("How often expired offsets are looked for.");
    OFFSET_METADATA_BYTES_MAX = Row::new("offset.metadata.max.bytes", Int, "4096")
        .check(Check::AtLeast(0))
        .doc("The longest note a client may leave with an offset.");
}

/// The row of a broker key.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    BROKER_KEYS.iter().copied().find(|it| it.name == name)
}

/// Keys of other brokers that people bring along, and why there is nothing to set.
const ELSEWHERE: &[(&str, &str)] = &[
    ("process.roles", "every node is broker and controller; remove it"),
    ("controller.quorum.voters", "a single node is its own quorum; remove it"),
    ("controller.quorum.bootstrap.servers", "a single node is its own quorum; remove it"),
    ("controller.listener.names", "the controller has no listener of its own; remove it"),
    ("inter.broker.listener.name", "there is no other broker yet; remove it"),
    ("zookeeper.connect", "there is no ZooKeeper; remove it"),
    ("num.network.threads", "threads follow the lanes: set corelane.lanes"),
    ("num.io.threads", "threads follow the lanes: set corelane.lanes"),
    ("background.threads", "threads follow the lanes: set corelane.lanes"),
    ("num.recovery.threads.per.data.dir", "every lane recovers its own journal; remove it"),
    ("socket.send.buffer.bytes", "the kernel sizes socket buffers; remove it"),
    ("socket.receive.buffer.bytes", "the kernel sizes socket buffers; remove it"),
    ("queued.max.request.bytes", "requests are bounded by corelane.receive.bytes"),
    ("queued.max.requests", "requests are bounded by corelane.connection.requests.max"),
    ("security.inter.broker.protocol", "there is no other broker yet; remove it"),
    ("num.replica.fetchers", "there is no other broker yet; remove it"),
    ("replica.lag.time.max.ms", "there is no other broker yet; remove it"),
    ("replica.fetch.max.bytes", "there is no other broker yet; remove it"),
    ("replica.fetch.wait.max.ms", "there is no other broker yet; remove it"),
    ("auto.leader.rebalance.enable", "there is no other broker yet; remove it"),
    ("inter.broker.protocol.version", "the newest is spoken; remove it"),
    ("log.message.format.version", "records are kept in the newest format; remove it"),
    ("log.message.downconversion.enable", "old formats are never made; remove it"),
    ("message.downconversion.enable", "old formats are never made; remove it"),
    ("log.cleaner.enable", "nothing is compacted yet; remove it"),
    ("log.cleaner.threads", "nothing is compacted yet; remove it"),
    ("authorizer.class.name", "there are no ACLs yet; remove it"),
    ("super.users", "there are no ACLs yet; remove it"),
    ("metric.reporters", "code is never loaded by name; remove it"),
    ("sasl.server.max.receive.size", "set corelane.authentication.frame.bytes"),
    ("transaction.state.log.replication.factor", "there are no transactions yet; remove it"),
    ("transaction.state.log.min.isr", "there are no transactions yet; remove it"),
];

/// Whole families of such keys.
const FAMILIES_ELSEWHERE: &[(&str, &str)] = &[
    ("ssl.", "TLS is not offered yet"),
    ("sasl.", "SASL is not offered yet"),
    ("remote.log.", "there is no tiered storage"),
    ("share.coordinator.", "there are no share groups yet"),
    ("group.share.", "there are no share groups yet"),
    ("transaction.", "there are no transactions yet"),
];

/// Why a key that many files carry cannot be set here.
#[must_use]
pub fn reason_elsewhere(name: &str) -> Option<&'static str> {
    let exact = ELSEWHERE.iter().find(|(it, _)| *it == name);
    let family = || FAMILIES_ELSEWHERE.iter().find(|(it, _)| name.starts_with(it));
    exact.or_else(family).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for row in BROKER_KEYS {
            assert!(!row.doc.is_empty(), "{} says nothing", row.name);
            if let Some(default) = row.default {
                row.parse(default).unwrap();
            } else {
                assert!(row.kind != Boolean, "{}", row.name);
            }
        }
    }

    #[test]
    fn no_key_stands_twice_and_none_is_also_elsewhere() {
        let names: BTreeSet<&str> = BROKER_KEYS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), BROKER_KEYS.len());
        for name in names {
            assert_eq!(reason_elsewhere(name), None, "{name}");
        }
    }

    #[test]
    fn a_key_that_changes_while_running_is_not_a_coarser_spelling() {
        for row in BROKER_KEYS {
            for spelling in row.fallback {
                assert_eq!(spelling.change, super::super::row::Change::Static, "{}", spelling.name);
            }
        }
    }
}

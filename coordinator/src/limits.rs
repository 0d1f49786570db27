//! Every bound of this room, by name, and the settings a broker may change.
//!
//! A bound refuses; nothing here grows without one. Settings carry Kafka's defaults, so that a broker
//! without a configuration behaves as its clients expect.

/// Members and promised member ids of one group together, whatever `group.max.size` says.
pub const MEMBERS_PER_GROUP_MAX: usize = 10_000;
/// Partitions with a committed offset in one group.
pub const OFFSETS_PER_GROUP_MAX: usize = 100_000;
/// Protocols one member may offer.
pub const PROTOCOLS_PER_MEMBER_MAX: usize = 64;
/// All bytes one member may send with its protocols.
pub const MEMBER_METADATA_BYTES_MAX: usize = 1 << 20;
/// The value of one group's record: members, subscriptions and assignments.
pub const GROUP_METADATA_BYTES_MAX: usize = 1 << 20;
/// Keys and values of one write together.
pub const WRITE_BYTES_MAX: usize = 8 << 20;
/// Writes of one host that the log has not answered.
pub const WRITES_IN_FLIGHT_MAX: usize = 4096;
/// Requests of one group that wait for its record to be committed.
pub const DEFERRED_PER_GROUP_MAX: usize = 20_000;
/// Reads that wait behind one write.
pub const READS_BEHIND_WRITE_MAX: usize = 4096;
/// Tombstones of one group in one round of expiry; the rest follows in the next round.
pub const EXPIRED_PER_ROUND_MAX: usize = 10_000;
/// Groups looked at in one round of expiry; the rest follows at once, in the next tick.
pub const EXPIRY_GROUPS_PER_TICK_MAX: usize = 256;
/// How long a round of expiry steps back when the log is busy.
pub const EXPIRY_BACKOFF_MS: u64 = 1000;
/// What a group, a member and an offset take beside the bytes that somebody named, about.
pub const THING_BYTES: usize = 256;
/// A name inside a record. The format counts them with 16 bits; room is left for the suffix of a member id.
pub const NAME_BYTES_MAX: usize = 32_000;
/// How long a member that never finished its first join is kept.
pub const NEW_MEMBER_JOIN_MS_MAX: u64 = 5 * 60 * 1000;
/// How long the first rebalance waits for a member that was told its id and has not come back with it.
pub const PROMISED_MEMBER_WAIT_MS: u64 = 250;
/// How long until the record of an emptied group that could not be written is tried again.
pub const REWRITE_AFTER_MS: u64 = 1000;

/// What a broker may set. The comment names Kafka's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`: the longest the first rebalance of an empty group waits.
    pub initial_rebalance_delay_ms_max: u64,
    /// The first rebalance ends earlier, when for so long nobody new was seen.
    pub initial_rebalance_quiet_ms: u64,
    /// Groups of one partition of `__consumer_offsets`. A new group beyond it is refused until others expire.
    pub groups_max: usize,
    /// `group.max.size`
    pub group_size_max: usize,
    /// All bytes the members of one group may have sent with their protocols. They are in memory as
    /// long as the members are. One member alone is not refused for it.
    pub members_bytes_max: usize,
    /// What all groups of one partition of `__consumer_offsets` may take in memory: what members tell and are
    /// told, offsets, and names. What would grow beyond it is refused until others leave or expire.
    pub partition_bytes_max: usize,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as Kafka counts it.
    pub offset_metadata_units_max: usize,
    /// `offsets.retention.minutes`, in milliseconds
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms_max: 3_000,
            initial_rebalance_quiet_ms: 20,
            groups_max: 100_000,
            group_size_max: i32::MAX as usize,
            members_bytes_max: 4 << 20,
            partition_bytes_max: 64 << 20,
            offset_metadata_units_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}

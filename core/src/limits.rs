//! Every bound of this room, by name. A full queue refuses or parks; it never grows past these.

/// Alignment of every buffer and of every direct read and write.
pub const BLOCK_BYTES: usize = 4096;

/// Operations one lane may have with its ring at once. Beyond it a submit parks its task.
pub const OPS_IN_FLIGHT_MAX: usize = 65_536;

/// Tasks alive on one lane at once.
pub const TASKS_MAX: usize = 1 << 20;

/// Polls between two visits to the ring, so that a crowd of ready tasks cannot starve completions.
pub const POLLS_PER_TURN_MAX: u32 = 256;

/// How long ready tasks may keep the lane from its ring.
pub const TURN_NS_MAX: u64 = 200_000;

/// How long tasks that gave way may keep the lane from its ring, when no other task is ready.
pub const GAVE_WAY_NS_MAX: u64 = 50_000;

/// A poll longer than this while serving work waits is counted as a stall and named.
pub const STALL_NS: u64 = 500_000;

/// Bytes a looping task may process before it should let others run.
pub const SLICE_BYTES: usize = 256 * 1024;

/// Requests one lane may have open with one other lane.
pub const CALLS_PER_LINK_MAX: usize = 1024;

/// The largest single buffer the pool hands out.
pub const BUF_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Parts one gathered send may have; the kernel's own limit is 1,024.
pub const PARTS_MAX: usize = 1024;

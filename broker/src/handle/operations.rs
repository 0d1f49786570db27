//! What a client may do, as the protocol numbers it: one bit for each operation.
//!
//! Nobody is refused anything while there is no authorizer, so whoever asks is told all that can be
//! done with a resource of its kind.

const READ: i32 = 3;
const WRITE: i32 = 4;
const CREATE: i32 = 5;
const DELETE: i32 = 6;
const ALTER: i32 = 7;
const DESCRIBE: i32 = 8;
const CLUSTER_ACTION: i32 = 9;
const DESCRIBE_CONFIGS: i32 = 10;
const ALTER_CONFIGS: i32 = 11;
const IDEMPOTENT_WRITE: i32 = 12;

/// Everything that can be done with a topic.
pub(super) const OF_TOPIC: i32 =
    bits(&[READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);

/// Everything that can be done with the cluster.
pub(super) const OF_CLUSTER: i32 = bits(&[
    CREATE,
    ALTER,
    DESCRIBE,
    CLUSTER_ACTION,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
    IDEMPOTENT_WRITE,
]);

/// The answer to a client that did not ask.
pub(super) const NOT_ASKED: i32 = i32::MIN;

const fn bits(operations: &[i32]) -> i32 {
    let (mut all, mut at) = (0, 0);
    while at < operations.len() {
        all |= 1 << operations[at];
        at += 1;
    }
    all
}

/// `all`, for those who asked.
pub(super) const fn when(asked: bool, all: i32) -> i32 {
    if asked { all } else { NOT_ASKED }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a broker without an authorizer is known to send.
    #[test]
    fn all_operations_are_the_numbers_tools_know() {
        assert_eq!((OF_TOPIC, OF_CLUSTER), (3576, 8096));
        assert_eq!(when(false, OF_TOPIC), i32::MIN);
    }
}

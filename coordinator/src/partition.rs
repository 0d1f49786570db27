//! Which partition of an internal topic owns a name: Kafka's rule, which its tools compute for themselves.

/// The hash of the name as Java has it, without its sign, modulo the number of partitions.
///
/// # Panics
/// A topic has at least one partition.
pub fn partition_for(name: &str, partitions: i32) -> i32 {
    assert!(0 < partitions, "a topic has partitions");
    let hash = name
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The one number without a positive counterpart counts as zero.
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_java_strings_do() {
        // "hello".hashCode() is 99162322, "a".hashCode() is 97.
        assert_eq!(partition_for("hello", i32::MAX), 99_162_322);
        assert_eq!(partition_for("a", 50), 47);
        assert_eq!(partition_for("", 50), 0);
    }

    #[test]
    fn the_smallest_hash_has_no_positive_twin_and_counts_as_zero() {
        // A well-known string whose Java hash is -2147483648.
        assert_eq!(partition_for("polygenelubricants", 50), 0);
    }

    #[test]
    fn characters_beyond_sixteen_bits_count_as_two_units() {
        // U+1F600 is D83D DE00: 0xD83D * 31 + 0xDE00.
        assert_eq!(partition_for("\u{1F600}", i32::MAX), 0xD83D * 31 + 0xDE00);
    }
}

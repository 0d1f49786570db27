//! The name somebody probably meant.

/// Further apart than this share of its length, two names have nothing to do with each other.
const DISTANCE_SHARE_MAX: usize = 5;

/// The candidate closest to `name`, if any is close enough to be worth naming.
#[must_use]
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / DISTANCE_SHARE_MAX).max(1);
    let measured = candidates.into_iter().map(|it| (distance(name, it), it));
    measured.filter(|(far, _)| *far <= limit).min_by_key(|(far, _)| *far).map(|(_, it)| it)
}

/// How many letters must be inserted, dropped, changed or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, &ours) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, &theirs) in to.iter().enumerate() {
            let changed = last[column] + usize::from(ours != theirs);
            let mut best = changed.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped =
                0 < row && 0 < column && ours == to[column - 1] && from[row - 1] == theirs;
            if swapped {
                best = best.min(before_last[column - 1] + 1);
            }
            next.push(best);
        }
        before_last = last;
        last = next;
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        let names = ["log.retention.ms", "log.retention.bytes", "num.partitions"];
        assert_eq!(nearest("log.retension.ms", names), Some("log.retention.ms"));
        assert_eq!(nearest("num.partition", names), Some("num.partitions"));
        assert_eq!(nearest("num.partitoins", names), Some("num.partitions"));
        assert_eq!(nearest("zookeeper.connect", names), None);
        assert_eq!(nearest("log.retries.ms", names), None, "other words of the same family");
    }

    #[test]
    fn distance_counts_edits() {
        for (from, to, edits) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 1), ("äö", "ao", 2)]
        {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }
}

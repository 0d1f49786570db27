//! What bounds a stranger, as a page for people: each thing somebody may try who has proven nothing, the
//! key that bounds it, and what happens at the bound. Defaults are read from the keys.

use std::fmt::Write as _;

use super::keys;
use super::row::{Change, Row};

/// One thing that may be tried.
struct Limit {
    what: &'static str,
    keys: &'static [&'static Row],
    then: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit {
        what: "announce a large request, or send one",
        keys: &[&keys::REQUEST_BYTES_MAX],
        then: "the connection is closed; of what is announced nothing is allocated, memory follows the \
               bytes that came",
    },
    Limit {
        what: "the same before proving who it is",
        keys: &[&keys::PROOF_BYTES_MAX],
        then: "the connection is closed. No listener asks for a proof yet",
    },
    Limit {
        what: "take long to prove who it is",
        keys: &[&keys::PROOF_MS],
        then: "the connection is closed. No listener asks for a proof yet",
    },
    Limit {
        what: "fill memory with requests on many connections",
        keys: &[&keys::RECEIVE_BYTES],
        then: "nothing more is read until there is room; the kernel and then the peer wait",
    },
    Limit {
        what: "list very many things in one request",
        keys: &[&keys::REQUEST_ELEMENTS_MAX],
        then: "the connection is closed",
    },
    Limit {
        what: "send a request a byte at a time",
        keys: &[&keys::FRAME_PROGRESS_MS],
        then: "the connection is closed",
    },
    Limit {
        what: "say nothing",
        keys: &[&keys::CONNECTIONS_MAX_IDLE_MS],
        then: "the connection is closed",
    },
    Limit {
        what: "open very many connections",
        keys: &[&keys::MAX_CONNECTIONS, &keys::MAX_CONNECTIONS_PER_IP],
        then: "further ones are closed at once; a fifth of the open files is kept for the log",
    },
    Limit {
        what: "open connections very fast",
        keys: &[&keys::CONNECTION_CREATION_RATE],
        then: "further ones wait in the kernel's queue; and whatever the limit, eight that were taken in a row \
               give way to those that are open",
    },
    Limit {
        what: "ask on and on without waiting",
        keys: &[&keys::REQUESTS_IN_FLIGHT_MAX],
        then: "nothing more is read until something is answered; 16 that begin, a tenth of a millisecond \
               or a slice of work give way to other connections",
    },
    Limit {
        what: "ask and not read the answers",
        keys: &[&keys::SEND_BYTES_MAX, &keys::LANE_SEND_BYTES, &keys::SEND_STALL_MS],
        then: "nothing more is read; who takes nothing for so long is disconnected",
    },
    Limit {
        what: "ask for much with one fetch",
        keys: &[&keys::FETCH_BYTES_MAX],
        then: "the answer has so much",
    },
    Limit {
        what: "let very many fetches wait",
        keys: &[&keys::RECEIVE_BYTES],
        then: "they share a quarter of it, and 100,000 partitions; where there is no room, whoever \
               holds most gives way and is answered",
    },
    Limit {
        what: "send records that unfold",
        keys: &[&keys::UNFOLD_BYTES_MAX],
        then: "beyond it, or beyond 32 MiB and 1,000 times what came, the batch is refused; it is unfolded a \
               piece at a time, and the lane does other things in between",
    },
    Limit {
        what: "create very many partitions",
        keys: &[&keys::CREATE_PARTITIONS_MAX, &keys::PARTITIONS_MAX],
        then: "the request is refused",
    },
    Limit {
        what: "write as very many producers",
        keys: &[&keys::PRODUCER_ID_EXPIRATION_MS],
        then: "a partition remembers 10,000 and forgets the one that wrote longest ago; a silent one it \
               forgets after this time",
    },
    Limit {
        what: "make very many groups",
        keys: &[&keys::GROUP_PARTITION_GROUPS_MAX, &keys::OFFSETS_PARTITIONS],
        then: "a new group is told to try again; groups without members and offsets leave nothing behind",
    },
    Limit {
        what: "make large groups",
        keys: &[&keys::GROUP_SIZE_MAX, &keys::GROUP_MEMBERS_BYTES],
        then: "who would pass it is told that the group is full; a member of more than 1 MiB is refused",
    },
    Limit {
        what: "commit large offsets",
        keys: &[&keys::OFFSET_METADATA_BYTES_MAX],
        then: "the offset is refused",
    },
    Limit {
        what: "fill memory with groups, members and offsets",
        keys: &[&keys::GROUP_PARTITION_BYTES, &keys::OFFSETS_PARTITIONS],
        then: "what would take more is told to try again; who takes no more than before goes on",
    },
];

/// The page.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(
        "# Limits on strangers\n\n\
         What somebody may try who has proven nothing, the key that bounds it, and what happens then.\n\
         This page is printed from the keys; [configuration.md](configuration.md) tells more of each.\n\
         `./test hostile` tries these things against a broker.\n\n\
         | somebody may | key | default | at the limit |\n\
         | --- | --- | --: | --- |\n",
    );
    for Limit { what, keys, then } in LIMITS {
        let names: Vec<_> = keys.iter().map(|it| named(it)).collect();
        let defaults: Vec<_> = keys.iter().map(|it| it.default.unwrap_or("none")).collect();
        let (names, defaults) = (names.join("<br>"), defaults.join("<br>"));
        writeln!(out, "| {what} | {names} | {defaults} | {then} |").expect("a string takes all");
    }
    out
}

fn named(row: &Row) -> String {
    let dynamic = if row.change == Change::Dynamic { " (dynamic)" } else { "" };
    format!("`{}`{dynamic}", row.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_limits_is_the_one_in_docs() {
        assert!(
            include_str!("../../../docs/limits.md") == page(),
            "docs/limits.md differs from the keys; print it again with \
             `cargo run -p corelane-broker --example reference limits > docs/limits.md`"
        );
    }
}

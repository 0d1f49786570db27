//! The table as people read it.

use std::fmt::Write;

use super::needs::said;
use super::table::BETWEEN_NODES;
use super::{APIS, Facts, Listener, Offer};

const INTRODUCTION: &str = "\
# Requests

Which of the protocol's requests Corelane answers, and in which versions. This page is
printed from the table that the broker itself uses.

## Order

A client need not wait for an answer before it asks on. On one connection requests that touch the
same things take effect in the order in which they came, and a later one sees what an earlier one did,
and waits for it where it has to. There are three kinds of things: *metadata* (topics, settings and
whatever else is decided for the whole cluster), *records*, and *groups*. Who touches other things
does not wait: the heartbeat of a group takes effect while a produce ahead of it stands in line for
room. Answers leave in the order of their questions all the same.

Records sent with `acks=0` are done once they are appended. Nothing waits for the disk on their
account, and a power cut may lose them, as in Kafka. But what looks at records behind them on the
same connection waits until they can be seen, and so until they are durable.

## What is refused

There are no transactions yet. A producer with a transactional id is told so when it looks for its
coordinator (FindCoordinator: 53 with a message), for at that code every client gives up at once.

Batches of the older versions 0 and 1 are refused (87), and so is zstd in Produce requests before
version 7 (76). Fetch gives what is stored to readers of every version.

## Who may ask

The column *listeners* says who may send a request at all: clients, or only Kafka's own nodes to each
other. The latter is refused on every listener there is so far.

The column *needs* says what a client has to be allowed, as Kafka has it: an operation and the kind of
thing it is done to. *There is no authorizer yet*: nobody is refused anything on account of this
column.
";

/// The table as a page of documentation.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str(
        "\n## The table\n\n\
         | key | request | versions answered | versions there are | listeners | needs | order | remarks |\n\
         | --: | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for api in APIS {
        let Facts { name, versions, latest_is_unstable, .. } = api.key.facts();
        let accepted = api.accepted().map_or_else(|| "-".to_owned(), |it| it.to_string());
        let mut remarks = Vec::new();
        match api.offer {
            Offer::Versions { accepted, announced, .. } if accepted != announced => {
                remarks.push(format!("announced as {announced}"));
            }
            Offer::Versions { .. } => {}
            Offer::Lacks(BETWEEN_NODES) => remarks.push(BETWEEN_NODES.to_owned()),
            Offer::Lacks(what) => remarks.push(format!("waits for {what}")),
        }
        if latest_is_unstable {
            remarks.push(format!("{} is not final", versions.max));
        }
        let listener = match api.listener {
            Listener::Clients => "clients",
            Listener::Nodes => "nodes",
        };
        let order = match api.offer {
            Offer::Versions { effect, .. } => effect.to_string(),
            Offer::Lacks(_) => String::new(),
        };
        let (key, needs, remarks) = (api.key.code(), said(api.needs), remarks.join("; "));
        writeln!(
            page,
            "| {key} | {name} | {accepted} | {versions} | {listener} | {needs} | {order} | {remarks} |"
        )
        .expect("a string takes all that is written");
    }
    page
}

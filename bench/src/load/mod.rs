//! The load generator: any broker that speaks Kafka's protocol under a load that is written down.
//!
//! It shares with the broker the codec of the wire and the codecs of batches, and nothing of what
//! carries them: threads, sockets and tasks are glommio's. A [`workload`] says what is to be run;
//! [`run`] leads through its phases; producers and consumers live on [`threads`]; the [`report`] is
//! what remains.

mod batch;
mod bell;
mod cluster;
mod consumer;
mod control;
mod group;
pub(crate) mod host;
mod keys;
mod link;
pub(crate) mod options;
mod producer;
pub(crate) mod report;
pub(crate) mod run;
mod section;
mod stats;
mod threads;
mod verify;
mod workload;

/// The workload's name, if a run could begin: its words are good, and its file is a workload.
pub(crate) fn check(options: &options::Options) -> Result<String, String> {
    let file = workload::Workload::read(&options.file);
    file.map(|it| it.name).map_err(|it| it.to_string())
}

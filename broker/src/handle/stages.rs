//! How long requests spend where, for each API: what is slow is visible.
//!
//! `received` is the time from a frame's first byte to its last. All other times are counted from when
//! the whole frame was taken up. `decoded`: the request was read. `queued`: what it changes has its place
//! in line for a commit, here or on its way to the lane that commits it. `committed`: that is as durable
//! as asked for. `answered`: the answer was ready to be sent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::metrics::{Latency, Metrics};
use corelane_net::api::ApiKey;

/// The stages of one API on one lane.
pub(crate) struct Stages {
    pub received: Latency,
    pub decoded: Latency,
    pub queued: Latency,
    pub committed: Latency,
    pub answered: Latency,
}

/// The stages of all APIs that were asked for on this lane.
pub(crate) struct AllStages {
    metrics: Metrics,
    by_key: RefCell<BTreeMap<i16, Rc<Stages>>>,
}

impl AllStages {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), by_key: RefCell::default() }
    }

    /// The stages of one API, made at its first request.
    pub(super) fn of(&self, key: ApiKey) -> Rc<Stages> {
        let mut by_key = self.by_key.borrow_mut();
        let made = by_key.entry(key.code()).or_insert_with(|| {
            let stage = |it: &str| self.metrics.latency(&format!("request.{key:?}.{it}"));
            Rc::new(Stages {
                received: stage("received"),
                decoded: stage("decoded"),
                queued: stage("queued"),
                committed: stage("committed"),
                answered: stage("answered"),
            })
        });
        Rc::clone(made)
    }
}

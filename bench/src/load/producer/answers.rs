//! What becomes of requests: the answers of one connection, taken as they come.

use super::{Common, Request, Shared};
use crate::load::batch::Filling;
use crate::load::link::{Answer, LinkError, Receiver, refuse};
use crate::load::stats::Window;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::produce::ProduceRequest;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Batches kept for their memory.
const SPARE_MAX: usize = 64;

/// Takes the answers of one connection.
pub(super) fn listen(
    common: &Common,
    shared: &Rc<Shared>,
    flight: &Rc<RefCell<VecDeque<Request>>>,
    topic: u32,
    mut receiver: Receiver,
) {
    let (common, shared, flight) = (common.clone(), Rc::clone(shared), Rc::clone(flight));
    glommio::spawn_local(async move {
        loop {
            let taken = match receiver.frame().await {
                Ok(frame) => take(&common, &shared, &flight, topic, frame),
                Err(broken) => Err(broken),
            };
            if let Err(broken) = taken {
                shared.broken.replace(Some(broken));
                shared.bell.ring();
                return;
            }
            shared.bell.ring();
        }
    })
    .detach();
}

fn take(
    common: &Common,
    shared: &Rc<Shared>,
    flight: &Rc<RefCell<VecDeque<Request>>>,
    topic: u32,
    frame: &[u8],
) -> Result<(), LinkError> {
    let Some(mut request) = flight.borrow_mut().pop_front() else { return Err(LinkError::Closed) };
    shared.in_flight.set(shared.in_flight.get() - 1);
    let said = Answer::new(request.asked, frame).decode::<ProduceRequest<'_>>()?;
    for (partition, _) in &request.batches {
        shared.flying.borrow_mut()[*partition as usize] -= 1;
    }
    let mut refused = Vec::new();
    for topic in &said.responses {
        for answer in &topic.partition_responses {
            // A number that was there before says that the batch is in the log.
            let there = [0, ErrorCode::DuplicateSequenceNumber.code()];
            if !there.contains(&answer.error_code) {
                refused.push((answer.index, answer.error_code));
            }
        }
    }
    if !refused.is_empty() {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for batch in request.batches.drain(..) {
            match refused.iter().find(|(index, _)| *index == batch.0 as i32) {
                None => good.push(batch),
                Some((_, code)) if is_passing(common, *code) => {
                    common.stats.borrow_mut().retried += batch.1.due.len() as u64;
                    shared.refused.borrow_mut().push(batch);
                }
                Some((index, code)) => {
                    let name = &common.cluster.topics[topic as usize].name;
                    let about = format!("{name}, partition {index}");
                    if let Err(why) = refuse(ApiKey::Produce, *code, &about) {
                        common.stats.borrow_mut().complain(&why);
                    }
                    bad.push(batch);
                }
            }
        }
        failed(common, shared, bad);
        request.batches = good;
    }
    done(common, shared, request.batches);
    Ok(())
}

pub(super) fn is_retriable(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}

/// Whether a refusal is worth another try. What came behind a refused batch is out of order until that
/// one is there.
fn is_passing(common: &Common, code: i16) -> bool {
    let behind = ErrorCode::OutOfOrderSequenceNumber.code();
    is_retriable(code) || (code == behind && common.workload.own.idempotent)
}

/// These are in the log.
pub(super) fn done(common: &Common, shared: &Rc<Shared>, batches: Vec<(u32, Filling)>) {
    let now = common.control.now();
    let window = Window::of(&common.control);
    let mut stats = common.stats.borrow_mut();
    let mut spare = shared.spare.borrow_mut();
    let mut records = 0;
    for (_, batch) in batches {
        records += batch.due.len() as u64;
        stats.produced(window, now, &batch.due, batch.payload_bytes);
        if spare.len() < SPARE_MAX {
            spare.push(batch);
        }
    }
    common.control.acked.fetch_add(records, Ordering::Relaxed);
}

/// Nobody knows what became of these.
pub(super) fn failed(common: &Common, shared: &Rc<Shared>, batches: Vec<(u32, Filling)>) {
    let mut failed = shared.failed.borrow_mut();
    for (partition, batch) in batches {
        let records = batch.due.len() as u64;
        failed.push((partition, batch.first, batch.first + records));
        common.stats.borrow_mut().failed(records);
    }
}

//! What a producer sends: which batches make a request, what is sent again, and what is given up.

use super::answers::{done, failed};
use super::{Producer, Request};
use crate::load::batch::{Filling, Name};
use crate::load::control::nanos;
use crate::load::link::LinkError;
use crate::load::stats::Window;
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::Records;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Before a refused batch is sent again, as Kafka's clients wait.
const BACKOFF: Duration = Duration::from_millis(100);
/// A batch whose first record was due so long ago is not sent again.
const DELIVER_WITHIN: Duration = Duration::from_secs(120);
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

impl Producer {
    /// Takes back what the broker would not have for now.
    pub(super) fn take_back(&mut self, now: u64) {
        let refused = self.shared.refused.take();
        for (partition, batch) in refused {
            if batch.due[0] + nanos(DELIVER_WITHIN) <= now {
                failed(&self.common, &self.shared, vec![(partition, batch)]);
                continue;
            }
            let part = &mut self.parts[partition as usize];
            if part.again.is_empty() {
                self.links[part.link].again.push_back(partition);
            }
            part.again_from = now + nanos(BACKOFF);
            self.buffered += batch.bytes.len() - Filling::EMPTY_BYTES;
            let place = part.again.partition_point(|it| it.first < batch.first);
            part.again.insert(place, batch);
        }
    }

    /// Whether a partition may have its first refused batch sent again.
    fn may_again(&self, partition: u32, now: u64) -> bool {
        let at = partition as usize;
        self.parts[at].again_from <= now && self.shared.flying.borrow()[at] == 0
    }

    /// Sends what may be sent. True when something was.
    pub(super) async fn send(&mut self, now: u64, flush: bool) -> Result<bool, LinkError> {
        let linger = nanos(self.common.workload.own.linger);
        let mut sent = false;
        for at in 0..self.links.len() {
            let lingered = self.lingering_since(at).is_some_and(|due| due + linger <= now);
            let out = &self.links[at];
            let again = out.again.iter().any(|it| self.may_again(*it, now));
            let ready = again || 0 < out.full || lingered || (flush && !out.waiting.is_empty());
            if ready && out.flight.borrow().len() < self.in_flight() {
                sent |= self.send_one(at, now).await?;
            }
        }
        Ok(sent)
    }

    /// When the first record of the oldest open batch of a connection was due.
    pub(super) fn lingering_since(&mut self, link: usize) -> Option<u64> {
        let out = &mut self.links[link];
        while let Some((due, partition, first)) = out.lingering.front().copied() {
            let open = &self.parts[partition as usize].open;
            if open.as_ref().is_some_and(|it| it.first == first) {
                return Some(due);
            }
            out.lingering.pop_front();
        }
        None
    }

    /// The batches of one request: one of each partition that has one, as far as they fit; those that
    /// are sent again come first.
    fn gather(&mut self, link: usize, now: u64) -> Vec<(u32, Filling)> {
        let workload = Arc::clone(&self.common.workload);
        let wall_ms = self.common.control.wall_ms(now);
        let mut batches = Vec::new();
        let mut bytes = 0;
        for _ in 0..self.links[link].again.len() {
            let Some(partition) = self.links[link].again.pop_front() else { break };
            let may = self.may_again(partition, now) && bytes < workload.own.request_bytes_max;
            let part = &mut self.parts[partition as usize];
            if may && let Some(batch) = part.again.pop_front() {
                self.buffered -= batch.bytes.len() - Filling::EMPTY_BYTES;
                bytes += batch.bytes.len();
                batches.push((partition, batch));
            }
            if !part.again.is_empty() {
                self.links[link].again.push_back(partition);
            }
        }
        let taken: BTreeSet<u32> = batches.iter().map(|it| it.0).collect();
        let out = &mut self.links[link];
        for _ in 0..out.waiting.len() {
            let partition = *out.waiting.front().expect("as many as were counted");
            let part = &mut self.parts[partition as usize];
            if !part.again.is_empty() || taken.contains(&partition) {
                out.waiting.rotate_left(1);
                continue;
            }
            let batch = part.full.front().or(part.open.as_ref()).expect("it waits with something");
            if !batches.is_empty() && workload.own.request_bytes_max < bytes + batch.bytes.len() {
                break;
            }
            out.waiting.pop_front();
            let mut batch = match part.full.pop_front() {
                Some(batch) => {
                    out.full -= 1;
                    batch
                }
                None => {
                    if !workload.keys.are_there() {
                        self.chooser.move_on();
                    }
                    part.open.take().expect("it waits with something")
                }
            };
            part.queued = !part.full.is_empty() || part.open.is_some();
            if part.queued {
                out.waiting.push_back(partition);
            }
            self.buffered -= batch.bytes.len() - Filling::EMPTY_BYTES;
            let name = self.name.map(|(id, epoch)| Name { id, epoch, sequence: part.sequence });
            part.sequence = part.sequence.wrapping_add(batch.due.len() as i32) & i32::MAX;
            batch.seal(wall_ms, name, workload.own.codec, &mut self.compressor, &mut self.scratch);
            bytes += batch.bytes.len();
            batches.push((partition, batch));
        }
        batches
    }

    /// One request, if there is anything for it.
    async fn send_one(&mut self, link: usize, now: u64) -> Result<bool, LinkError> {
        let batches = self.gather(link, now);
        if batches.is_empty() {
            return Ok(false);
        }
        let workload = Arc::clone(&self.common.workload);
        let out = &mut self.links[link];
        let data: Vec<_> = batches
            .iter()
            .map(|(partition, batch)| PartitionProduceData {
                index: *partition as i32,
                records: Some(Records::Bytes(&batch.bytes)),
            })
            .collect();
        let topic = TopicProduceData {
            name: &self.common.cluster.topics[self.topic as usize].name,
            partition_data: (&data).into(),
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: workload.own.acks,
            timeout_ms: PRODUCE_TIMEOUT_MS,
            topic_data: [topic].into(),
            ..Default::default()
        };
        let asked = out.sender.prepare(&request)?;
        drop(data);
        if workload.own.acks == 0 {
            out.sender.flush().await?;
            done(&self.common, &self.shared, batches);
            return Ok(true);
        }
        for (partition, _) in &batches {
            self.shared.flying.borrow_mut()[*partition as usize] += 1;
        }
        out.flight.borrow_mut().push_back(Request { asked, batches });
        self.shared.in_flight.set(self.shared.in_flight.get() + 1);
        out.sender.flush().await?;
        Ok(true)
    }

    /// Gives up on what was due and is not sent.
    pub(super) fn abandon(&mut self, now: u64, until: u64) {
        let window = Window::of(&self.common.control);
        let mut stats = self.common.stats.borrow_mut();
        let mut failed = self.shared.failed.borrow_mut();
        for (part, at) in self.parts.iter_mut().zip(0..) {
            for batch in part.again.drain(..) {
                // Refused for now; what is behind it may be there.
                failed.push((at, batch.first, batch.first + batch.due.len() as u64));
                stats.unsent(window, now, batch.due.iter().copied());
            }
            for batch in part.full.drain(..).chain(part.open.take()) {
                // They are the last of their partition, so the numbers end before them.
                part.next = part.next.min(batch.first);
                stats.unsent(window, now, batch.due.iter().copied());
            }
        }
        let left = (self.made..).map_while(|it| self.schedule.due(it)).take_while(|it| *it < until);
        stats.unsent(window, now, left);
    }
}

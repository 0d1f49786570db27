//! A request on its way through a handler: its frame, and the way its answer is written.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use corelane_core::buf::{Buf, Piece as FramePiece, Slice};
use corelane_core::lane::Lane;
use corelane_core::limits::SLICE_BYTES;
use corelane_core::metrics::Latency;
use corelane_core::time::Nanos;
use corelane_net::api::{Api, ApiKey, Handler};
use corelane_net::conn::{Effect, Peer, Piece, Reply, Service, Serving, Showing};
use corelane_net::frame::{self, Incoming};
use corelane_net::wire::{Checked, DecodeError, EncodeError, Message, Splice, Writer, Written};

use super::stages::{AllStages, Stages};
use super::{
    acls, alter_configs, alter_partition_reassignments, api_versions, create_partitions,
    create_topics, delete_groups, delete_records, delete_topics, describe_cluster,
    describe_configs, describe_groups, describe_log_dirs, describe_quorum,
    describe_topic_partitions, elect_leaders, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, list_config_resources,
    list_groups, list_offsets, list_partition_reassignments, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, sync_group,
};
use crate::config::keys;
use crate::node::Node;

/// Bytes of a frame before its header.
const SIZE_BYTES: usize = 4;

/// What is shorter is read at once, and needs no memory of how far that went.
const READ_AT_ONCE_BYTES_MAX: usize = 16 * 1024;

/// Memory a lane keeps to write answers in.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// One request.
pub struct Call {
    pub node: Node,
    pub peer: Rc<Peer>,
    pub key: ApiKey,
    pub version: i16,
    correlation_id: i32,
    /// Absent once its handler took it.
    frame: Option<Buf>,
    body_at: usize,
    /// How far the body was checked.
    checked: Checked,
    /// Where answers are written before they have a buffer of their size.
    scratch: Rc<Cell<Vec<u8>>>,
    /// What all lists of the request may have together.
    elements_max: u32,
    /// When the frame was whole.
    begun: Nanos,
    stages: Rc<Stages>,
}

impl Call {
    /// The request's body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.frame()[self.body_at..]
    }

    /// The request's frame, its size included.
    pub(super) fn frame(&self) -> &[u8] {
        self.frame.as_ref().expect("read before it is taken").filled()
    }

    /// What the client calls itself. Few ask for it, so it is read again and not kept.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        match frame::open(&self.frame()[SIZE_BYTES..]) {
            Ok(Incoming::Request { head, .. }) => head.client_id,
            _ => unreachable!("it was opened before"),
        }
    }

    /// Takes the frame for parts of it.
    pub(super) fn split_frame(&mut self, ranges: &[Range<usize>]) -> Vec<FramePiece> {
        let frame = self.frame.take().expect("taken once");
        frame.split(ranges).expect("the frame is this request's alone")
    }

    /// Reads the request, and gives way in between when it is long.
    ///
    /// # Errors
    /// The reply that ends a connection on which nonsense came.
    pub async fn decode<'a, M: Message<'a>>(&'a self) -> Result<M, Reply> {
        let (body, version) = (self.body(), self.version);
        let decoded = loop {
            if body.len() <= READ_AT_ONCE_BYTES_MAX {
                break M::decode_within(body, version, self.elements_max);
            }
            match M::decode_piece(body, version, self.elements_max, &self.checked) {
                Err(DecodeError::Unfinished) => self.node.lane().spend(SLICE_BYTES).await,
                done => break done,
            }
        };
        match decoded {
            Ok((request, read)) => {
                self.reached(|it| &it.decoded);
                if read < self.body().len() {
                    self.node.metrics().counter("requests.with_more_bytes").add(1);
                }
                Ok(request)
            }
            Err(error) => Err(Reply::Close(format!(
                "a malformed {:?} version {}: {error}",
                self.key, self.version
            ))),
        }
    }

    /// Notes that the request has come to one of its stages.
    pub(super) fn reached(&self, stage: impl FnOnce(&Stages) -> &Latency) {
        stage(&self.stages).record(self.node.lane().now().since(self.begun));
    }

    /// Waits for a change to be as durable as it has to be.
    pub(super) async fn committed<T>(&self, change: impl Future<Output = T>) -> T {
        self.reached(|it| &it.queued);
        let done = change.await;
        self.reached(|it| &it.committed);
        done
    }

    /// Writes an answer whose every byte is in it.
    pub async fn answer<'a, M: Message<'a>>(&self, response: &M) -> Reply {
        let mut out = self.scratch.take();
        let wrote = self.write(response, &mut out, None).await;
        let owned = wrote.map(|()| self.own(&out));
        self.put_back(out);
        match owned {
            Ok(owned) => Reply::Answer(vec![owned]),
            Err(error) => self.cannot_say(&error),
        }
    }

    /// Writes an answer whose records lie elsewhere: `records` in the order of their places.
    pub async fn answer_with<'a, M: Message<'a>>(
        &self,
        response: &M,
        records: Vec<Piece>,
    ) -> Reply {
        let (mut out, mut splices) = (self.scratch.take(), Vec::new());
        if let Err(error) = self.write(response, &mut out, Some(&mut splices)).await {
            return self.cannot_say(&error);
        }
        let head = self.own(&out);
        self.put_back(out);
        if records.iter().any(|it| matches!(it, Piece::File(_))) {
            return Reply::Spliced(laid(&head, &splices, records, |it| it));
        }
        let memory = |it| match it {
            Piece::Memory(slice) => slice,
            Piece::File(_) => unreachable!("looked for above"),
        };
        Reply::Answer(laid(&head, &splices, records, memory))
    }

    /// Writes an answer, and gives way in between when it is long.
    async fn write<'a, M: Message<'a>>(
        &self,
        response: &M,
        out: &mut Vec<u8>,
        mut splices: Option<&mut Vec<Splice>>,
    ) -> Result<(), EncodeError> {
        let mut written = Written::default();
        loop {
            let writer = match &mut splices {
                Some(splices) => Writer::splicing(out, splices),
                None => Writer::copying(out),
            };
            let writer = &mut writer.in_pieces(&mut written);
            let wrote = frame::encode_response(
                self.key,
                self.version,
                self.correlation_id,
                response,
                writer,
            );
            match wrote {
                Err(EncodeError::Unfinished) => self.node.lane().spend(SLICE_BYTES).await,
                done => return done,
            }
        }
    }

    /// The reply when an answer does not exist in this version: a broken inside, told and closed.
    fn cannot_say(&self, error: &dyn std::fmt::Display) -> Reply {
        Reply::Close(format!("no answer to {:?} version {}: {error}", self.key, self.version))
    }

    /// Keeps the memory an answer was written in for the next one, unless it was a large one.
    fn put_back(&self, mut out: Vec<u8>) {
        if out.capacity() <= SCRATCH_BYTES_MAX {
            out.clear();
            self.scratch.set(out);
        }
    }

    /// An answer that was made has to leave, for what it tells has happened. When the pool has lent
    /// everything it takes memory from outside, which counts against the lane's answers like any other;
    /// meanwhile no connection begins a request while something of an earlier one is here (CONN-4).
    fn own(&self, bytes: &[u8]) -> Slice {
        let buf = self.node.lane().pool().get(bytes.len());
        let mut buf = buf.unwrap_or_else(|| {
            self.node.metrics().counter("answers.outside_the_pool").add(1);
            Buf::unpooled(bytes.len())
        });
        buf.put(bytes);
        buf.freeze()
    }
}

/// An answer's parts in their order: what was written, with the records in their places.
fn laid<T>(
    head: &Slice,
    splices: &[Splice],
    records: Vec<Piece>,
    part: impl Fn(Piece) -> T,
) -> Vec<T> {
    let bytes_of = |it: &Piece| match it {
        Piece::Memory(slice) => slice.len(),
        Piece::File(range) => range.bytes as usize,
    };
    let mut parts = Vec::with_capacity(1 + splices.len() + records.len());
    let mut sent = 0;
    let mut records = records.into_iter();
    for splice in splices.iter().filter(|it| 0 < it.bytes) {
        parts.push(part(Piece::Memory(head.slice(sent..splice.at))));
        sent = splice.at;
        let mut missing = splice.bytes as usize;
        while 0 < missing {
            let piece = records.next().expect("every place has its records");
            let bytes = bytes_of(&piece);
            assert!(bytes <= missing, "records end where their place does");
            missing -= bytes;
            parts.push(part(piece));
        }
    }
    assert!(records.all(|it| bytes_of(&it) == 0), "all records have their place");
    parts.push(part(Piece::Memory(head.slice(sent..))));
    parts
}

/// All handlers of a lane, as the connections know them.
pub struct Handlers {
    node: Node,
    stages: AllStages,
    fetch_bytes_max: usize,
    elements_max: u32,
    scratch: Rc<Cell<Vec<u8>>>,
}

impl Handlers {
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let number = |key| node.facts().config.settings.number(key);
        let fetch_bytes_max = usize::try_from(number(&keys::FETCH_BYTES_MAX)).unwrap_or(usize::MAX);
        let elements_max = u32::try_from(number(&keys::REQUEST_ELEMENTS_MAX)).unwrap_or(u32::MAX);
        let stages = AllStages::new(node.metrics());
        Self { node: node.clone(), stages, fetch_bytes_max, elements_max, scratch: Rc::default() }
    }

    fn open(&self, peer: &Rc<Peer>, frame: Buf) -> Result<Call, Reply> {
        let bytes = &frame.filled()[SIZE_BYTES..];
        match frame::open(bytes) {
            Ok(Incoming::Request { head, body }) => {
                let body_at = frame.len() - body.len();
                let stages = self.stages.of(head.key);
                Ok(Call {
                    node: self.node.clone(),
                    peer: Rc::clone(peer),
                    key: head.key,
                    version: head.version,
                    correlation_id: head.correlation_id,
                    body_at,
                    checked: Checked::default(),
                    scratch: Rc::clone(&self.scratch),
                    elements_max: self.elements_max,
                    begun: self.node.lane().now(),
                    stages,
                    frame: Some(frame),
                })
            }
            Ok(Incoming::UnknownApiVersions { correlation_id, .. }) => {
                let mut out = Vec::new();
                frame::encode_refusal(correlation_id, &mut out);
                Err(Reply::Answer(vec![Buf::copy_of(&out).freeze()]))
            }
            Err(error) => Err(Reply::Close(error.to_string())),
        }
    }
}

/// Bytes of an answer that are always allowed for.
const ANSWER_BYTES: usize = 16 * 1024;

/// What the answer to a request may have, as far as its frame tells. Only a fetch asks for much with
/// little; the answer to anything else grows with the question.
fn answer_bytes_max(frame: &[u8], fetch_bytes_max: usize) -> usize {
    let other = ANSWER_BYTES + frame.len();
    if key_of(frame) != Some(ApiKey::Fetch) {
        return other;
    }
    match frame::open(&frame[SIZE_BYTES..]) {
        Ok(Incoming::Request { head, body }) => {
            // Replica (until version 14), wait, least bytes, most bytes.
            let at = if head.version < 15 { 12 } else { 8 };
            let wanted = body.get(at..).and_then(|it| it.first_chunk());
            let wanted = wanted.map_or(0, |it| i32::from_be_bytes(*it));
            ANSWER_BYTES + usize::try_from(wanted).unwrap_or(0).min(fetch_bytes_max)
        }
        _ => other,
    }
}

/// Which request is in a frame, if it is one at all.
fn key_of(frame: &[u8]) -> Option<ApiKey> {
    let code = frame.get(SIZE_BYTES..)?.first_chunk()?;
    ApiKey::from_code(i16::from_be_bytes(*code))
}

impl Service for Handlers {
    fn received(&self, frame: &Buf, took: Nanos) {
        if let Some(key) = key_of(frame.filled()).filter(|it| Api::of(*it).accepted().is_some()) {
            self.stages.of(key).received.record(took);
        }
    }

    fn answer_bytes_max(&self, frame: &Buf) -> usize {
        answer_bytes_max(frame.filled(), self.fetch_bytes_max)
    }

    fn effect(&self, frame: &Buf) -> Effect {
        // What is no request of the protocol ends the connection.
        key_of(frame.filled()).map_or(Effect::FREE, |it| Api::of(it).effect())
    }

    fn show(&self) -> Showing {
        let node = self.node.clone();
        Box::pin(async move { node.shown_everywhere().await })
    }

    fn call(&self, peer: &Rc<Peer>, frame: Buf) -> Serving {
        let call = match self.open(peer, frame) {
            Ok(call) => call,
            Err(reply) => return Box::pin(std::future::ready(reply)),
        };
        let handler = Api::of(call.key).handler();
        let handler = handler.expect("what was opened is offered, and has a handler");
        dispatch(handler, call)
    }
}

/// Notes when a request was answered.
struct Timed {
    lane: Lane,
    begun: Nanos,
    stages: Rc<Stages>,
}

impl Timed {
    fn serving(self, handling: impl Future<Output = Reply> + 'static) -> Serving {
        Box::pin(async move {
            let reply = handling.await;
            self.stages.answered.record(self.lane.now().since(self.begun));
            reply
        })
    }
}

/// Gives a request to its handler.
///
/// Nothing is left over: who is in the table has a handler, and every handler is in the table.
fn dispatch(handler: Handler, call: Call) -> Serving {
    let (lane, begun) = (call.node.lane().clone(), call.begun);
    let timed = Timed { lane, begun, stages: Rc::clone(&call.stages) };
    match handler {
        Handler::ApiVersions => timed.serving(api_versions::handle(call)),
        Handler::Metadata => timed.serving(metadata::handle(call)),
        Handler::Produce => timed.serving(produce::handle(call)),
        Handler::Fetch => timed.serving(fetch::handle(call)),
        Handler::ListOffsets => timed.serving(list_offsets::handle(call)),
        Handler::InitProducerId => timed.serving(init_producer_id::handle(call)),
        Handler::OffsetCommit => timed.serving(offset_commit::handle(call)),
        Handler::OffsetFetch => timed.serving(offset_fetch::handle(call)),
        Handler::FindCoordinator => timed.serving(find_coordinator::handle(call)),
        Handler::JoinGroup => timed.serving(join_group::handle(call)),
        Handler::Heartbeat => timed.serving(heartbeat::handle(call)),
        Handler::LeaveGroup => timed.serving(leave_group::handle(call)),
        Handler::SyncGroup => timed.serving(sync_group::handle(call)),
        Handler::DescribeGroups => timed.serving(describe_groups::handle(call)),
        Handler::ListGroups => timed.serving(list_groups::handle(call)),
        Handler::DeleteGroups => timed.serving(delete_groups::handle(call)),
        Handler::OffsetDelete => timed.serving(offset_delete::handle(call)),
        Handler::CreateTopics => timed.serving(create_topics::handle(call)),
        Handler::DeleteTopics => timed.serving(delete_topics::handle(call)),
        Handler::CreatePartitions => timed.serving(create_partitions::handle(call)),
        Handler::DeleteRecords => timed.serving(delete_records::handle(call)),
        Handler::OffsetForLeaderEpoch => timed.serving(offset_for_leader_epoch::handle(call)),
        Handler::DescribeConfigs => timed.serving(describe_configs::handle(call)),
        Handler::AlterConfigs => timed.serving(alter_configs::handle(call)),
        Handler::IncrementalAlterConfigs => timed.serving(incremental_alter_configs::handle(call)),
        Handler::ListConfigResources => timed.serving(list_config_resources::handle(call)),
        Handler::DescribeCluster => timed.serving(describe_cluster::handle(call)),
        Handler::DescribeTopicPartitions => timed.serving(describe_topic_partitions::handle(call)),
        Handler::DescribeLogDirs => timed.serving(describe_log_dirs::handle(call)),
        Handler::DescribeQuorum => timed.serving(describe_quorum::handle(call)),
        Handler::ElectLeaders => timed.serving(elect_leaders::handle(call)),
        Handler::AlterPartitionReassignments => {
            timed.serving(alter_partition_reassignments::handle(call))
        }
        Handler::ListPartitionReassignments => {
            timed.serving(list_partition_reassignments::handle(call))
        }
        Handler::DescribeAcls => timed.serving(acls::describe(call)),
        Handler::CreateAcls => timed.serving(acls::create(call)),
        Handler::DeleteAcls => timed.serving(acls::delete(call)),
    }
}

//! The hot paths that need no kernel, each as one step on fixed work: for the clock of the micro-benchmarks
//! and for the count of instructions.

use corelane_core::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use corelane_net::frame::{self, Incoming};
use corelane_net::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Array, Message, Records, Request, Writer};
use corelane_storage::build::BatchBuilder;
use corelane_storage::frame::{Body, Entry, EntryHead, FrameEncoder};
use corelane_storage::index::{INTERVAL_BYTES, IndexBuilder, IndexedBatch};
use corelane_storage::validate::{AppendRules, Scratch, validate};

pub(crate) const NAMES: &[&str] = &[
    "decode a produce of 10 partitions",
    "encode a fetch of 10 partitions",
    "validate a batch of 16 records, 16 KiB",
    "put a batch of 1 KiB into a frame",
    "find an offset among 10000 entries",
];

const PARTITIONS: usize = 10;
const ENTRIES: u32 = 10_000;
const FRAME_BYTES: usize = 64 * 1024;
const SCRATCH_BYTES: usize = 1 << 20;
const PRODUCE: i16 = 11;
const FETCH: i16 = 17;
const OF: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(0) };
const NOW_MS: i64 = 1_700_000_000_000;

/// A step of a path; what it returns keeps the work from being left out.
pub(crate) fn path(name: &str) -> Option<Box<dyn FnMut() -> u64>> {
    Some(match name {
        "decode a produce of 10 partitions" => decode(),
        "encode a fetch of 10 partitions" => encode(),
        "validate a batch of 16 records, 16 KiB" => validated(),
        "put a batch of 1 KiB into a frame" => framed(),
        "find an offset among 10000 entries" => found(),
        _ => return None,
    })
}

fn batch(records: usize) -> Vec<u8> {
    let value = [0x5a; 1000];
    let mut batch = BatchBuilder::new();
    for _ in 0..records {
        batch.record(NOW_MS, None, Some(&value));
    }
    batch.build()
}

fn decode() -> Box<dyn FnMut() -> u64> {
    let batch = batch(1);
    let partition = |index| PartitionProduceData {
        index: i32::try_from(index).expect("few"),
        records: Some(Records::Bytes(&batch)),
    };
    let topic = |_| TopicProduceData {
        name: "a-topic",
        partition_data: Array::made(0..PARTITIONS, &partition),
        ..Default::default()
    };
    let topic_data = Array::made(0..1, &topic);
    let request = ProduceRequest { acks: -1, topic_data, ..Default::default() };
    let mut bytes = Vec::new();
    let writer = &mut Writer::copying(&mut bytes);
    frame::encode_request(PRODUCE, 7, Some("hot"), &request, writer).expect("it can be said");
    let bytes = bytes.split_off(4);
    Box::new(move || {
        let Ok(Incoming::Request { head, body }) = frame::open(&bytes) else {
            panic!("the frame is good")
        };
        let (request, _) = ProduceRequest::decode(body, head.version).expect("it is good");
        let mut sum = 0;
        for topic in &request.topic_data {
            for it in &topic.partition_data {
                sum += it.records.map_or(0, |it| it.bytes().len() as u64);
            }
        }
        sum
    })
}

fn encode() -> Box<dyn FnMut() -> u64> {
    let (mut out, mut splices) = (Vec::new(), Vec::new());
    Box::new(move || {
        out.clear();
        splices.clear();
        let partition = |index| PartitionData {
            partition_index: i32::try_from(index).expect("few"),
            high_watermark: 1 << 40,
            aborted_transactions: Some(Array::empty()),
            records: Some(Records::Outside { bytes: 16_384 }),
            ..Default::default()
        };
        let topic = |_| FetchableTopicResponse {
            partitions: Array::made(0..PARTITIONS, &partition),
            ..Default::default()
        };
        let response = FetchResponse { responses: Array::made(0..1, &topic), ..Default::default() };
        let writer = &mut Writer::splicing(&mut out, &mut splices);
        let key = <corelane_net::messages::fetch::FetchRequest<'_> as Request<'_>>::KEY;
        frame::encode_response(key, FETCH, 7, &response, writer).expect("it can be said");
        out.len() as u64
    })
}

fn validated() -> Box<dyn FnMut() -> u64> {
    let mut batch = batch(16);
    let (rules, mut scratch) = (AppendRules::default(), Scratch::new(SCRATCH_BYTES));
    Box::new(move || {
        let accepted = validate(&rules, NOW_MS, &mut batch, &mut scratch).expect("it is good");
        accepted.bytes as u64
    })
}

fn framed() -> Box<dyn FnMut() -> u64> {
    let batch = batch(1);
    let mut buffer = vec![0; FRAME_BYTES];
    let mut encoder = FrameEncoder::new(FRAME_BYTES);
    let head = EntryHead {
        of: OF,
        ownership: 1,
        leader_epoch: LeaderEpoch(0),
        base: Offset(0),
        end: Offset(1),
        segment: Offset(0),
        position: 0,
    };
    Box::new(move || {
        let entry = Entry { head, body: Body::Data { bytes: &batch } };
        // Its checksum is known since it was validated.
        if encoder.push(&mut buffer, &entry, Some(7)).is_err() {
            encoder = FrameEncoder::new(FRAME_BYTES);
        }
        encoder.sealed_bytes() as u64
    })
}

fn found() -> Box<dyn FnMut() -> u64> {
    let mut index = IndexBuilder::new(OF, Offset(0), INTERVAL_BYTES);
    for at in 0..ENTRIES {
        index.add(&IndexedBatch {
            base: Offset(i64::from(at) * 4),
            last: Offset(i64::from(at) * 4 + 3),
            position: at * INTERVAL_BYTES,
            bytes: INTERVAL_BYTES,
            max_timestamp: NOW_MS,
            max_timestamp_offset: Offset(0),
        });
    }
    let mut sought = 0;
    Box::new(move || {
        // Somewhere else each time, the same places in every run.
        sought = (sought + 7_919) % (i64::from(ENTRIES) * 4);
        u64::from(index.position_of(Offset(sought)))
    })
}

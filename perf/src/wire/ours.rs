//! The wire as the broker has it: requests are walked where they lie, answers are made while they
//! are written, and what is kept between the two is reused.

use super::case::{Case, What};
use corelane_net::frame::{self, Head, Incoming};
use corelane_net::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use corelane_net::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use corelane_net::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use corelane_net::wire::{Array, Message, Records, Splice, Uuid, Writer, range_of};
use std::ops::Range;

/// What a lane keeps from one request to the next.
pub(super) struct Desk {
    out: Vec<u8>,
    splices: Vec<Splice>,
    topics: Vec<Topic>,
    names: String,
    partitions: Vec<Partition>,
}

struct Topic {
    /// Where its name stands among the names.
    name: Range<usize>,
    id: Uuid,
    partitions: Range<usize>,
}

struct Partition {
    index: i32,
    /// An offset that the answer repeats.
    at: i64,
}

/// The whole answer, records in their places.
pub(super) fn once(case: &Case, frame: &[u8]) -> Vec<u8> {
    let mut desk = Desk::new(case);
    desk.serve(case, frame);
    let (mut answer, mut sent) = (Vec::new(), 0);
    for splice in &desk.splices {
        assert_eq!(splice.bytes as usize, case.records.len());
        answer.extend_from_slice(&desk.out[sent..splice.at]);
        answer.extend_from_slice(&case.records);
        sent = splice.at;
    }
    answer.extend_from_slice(&desk.out[sent..]);
    answer
}

/// The bytes of all batches of a produce.
pub(super) fn decode(frame: &[u8]) -> usize {
    let Ok(Incoming::Request { head, body }) = frame::open(frame) else {
        panic!("the frame is good");
    };
    let (request, _) = ProduceRequest::decode(body, head.version).expect("it is good");
    let mut bytes = 0;
    for topic in &request.topic_data {
        assert!(!topic.name.is_empty());
        for it in &topic.partition_data {
            assert!(0 <= it.index);
            bytes += it.records.unwrap_or_default().len();
        }
    }
    bytes
}

impl Desk {
    pub(super) fn new(_: &Case) -> Self {
        Self {
            out: Vec::new(),
            splices: Vec::new(),
            topics: Vec::new(),
            names: String::new(),
            partitions: Vec::new(),
        }
    }

    pub(super) fn serve(&mut self, case: &Case, frame: &[u8]) -> usize {
        let Ok(Incoming::Request { head, body }) = frame::open(frame) else {
            panic!("the frame is good");
        };
        self.out.clear();
        self.splices.clear();
        self.topics.clear();
        self.names.clear();
        self.partitions.clear();
        match case.what {
            What::Produce => self.produce(frame, head, body),
            What::Fetch => self.fetch(case, head, body),
            What::Metadata => self.metadata(case, head, body),
        }
        self.out.len()
    }

    /// Keeps a name, and says where.
    fn keep(&mut self, name: &str) -> Range<usize> {
        let from = self.names.len();
        self.names.push_str(name);
        from..self.names.len()
    }

    fn produce(&mut self, frame: &[u8], head: Head<'_>, body: &[u8]) {
        let (request, _) = ProduceRequest::decode(body, head.version).expect("it is good");
        let mut bytes = 0;
        for topic in &request.topic_data {
            let first = self.partitions.len();
            for it in &topic.partition_data {
                assert!(0 <= it.index);
                // What an append would be handed: a place in the frame.
                let place = range_of(frame, it.records.unwrap_or_default().bytes());
                bytes += place.len();
                let at = i64::try_from(bytes).expect("bytes of a frame");
                self.partitions.push(Partition { index: it.index, at });
            }
            let partitions = first..self.partitions.len();
            let name = self.keep(topic.name);
            self.topics.push(Topic { name, id: topic.topic_id, partitions });
        }
        let partition = |at: usize| PartitionProduceResponse {
            index: self.partitions[at].index,
            base_offset: self.partitions[at].at,
            log_start_offset: 0,
            ..Default::default()
        };
        let topic = |at: usize| {
            let Topic { name, partitions, .. } = &self.topics[at];
            TopicProduceResponse {
                name: &self.names[name.clone()],
                partition_responses: Array::made(partitions.clone(), &partition),
                ..Default::default()
            }
        };
        let responses = Array::made(0..self.topics.len(), &topic);
        let answer = ProduceResponse { responses, ..Default::default() };
        let writer = &mut Writer::copying(&mut self.out);
        write(head, &answer, writer);
    }

    fn fetch(&mut self, case: &Case, head: Head<'_>, body: &[u8]) {
        let (request, _) = FetchRequest::decode(body, head.version).expect("it is good");
        for topic in &request.topics {
            let first = self.partitions.len();
            for it in &topic.partitions {
                assert!(0 <= it.partition && 0 < it.partition_max_bytes);
                self.partitions.push(Partition { index: it.partition, at: it.fetch_offset });
            }
            let partitions = first..self.partitions.len();
            self.topics.push(Topic { name: 0..0, id: topic.topic_id, partitions });
        }
        let bytes = u32::try_from(case.records.len()).expect("some KiB");
        let partition = |at: usize| PartitionData {
            partition_index: self.partitions[at].index,
            high_watermark: self.partitions[at].at,
            last_stable_offset: self.partitions[at].at,
            log_start_offset: 0,
            aborted_transactions: Some(Array::empty()),
            records: Some(Records::Outside { bytes }),
            ..Default::default()
        };
        let topic = |at: usize| FetchableTopicResponse {
            topic_id: self.topics[at].id,
            partitions: Array::made(self.topics[at].partitions.clone(), &partition),
            ..Default::default()
        };
        let responses = Array::made(0..self.topics.len(), &topic);
        let answer = FetchResponse { responses, ..Default::default() };
        let writer = &mut Writer::splicing(&mut self.out, &mut self.splices);
        write(head, &answer, writer);
    }

    fn metadata(&mut self, case: &Case, head: Head<'_>, body: &[u8]) {
        let (request, _) = MetadataRequest::decode(body, head.version).expect("it is good");
        for topic in request.topics.iter().flatten() {
            let name = self.keep(topic.name.expect("all are named"));
            self.topics.push(Topic { name, id: topic.topic_id, partitions: 0..0 });
        }
        let replicas = [1, 2, 3];
        let broker = |at| MetadataResponseBroker {
            node_id: replicas[at],
            host: "broker.example",
            port: 9092,
            rack: None,
        };
        let partition = |at: usize| MetadataResponsePartition {
            partition_index: i32::try_from(at).expect("few"),
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: (&replicas).into(),
            isr_nodes: (&replicas).into(),
            ..Default::default()
        };
        let topic = |at: usize| MetadataResponseTopic {
            name: Some(&self.names[self.topics[at].name.clone()]),
            topic_id: self.topics[at].id,
            partitions: Array::made(0..case.partitions_of_topic, &partition),
            ..Default::default()
        };
        let answer = MetadataResponse {
            brokers: Array::made(0..replicas.len(), &broker),
            cluster_id: Some("a-cluster"),
            controller_id: 1,
            topics: Array::made(0..self.topics.len(), &topic),
            ..Default::default()
        };
        let writer = &mut Writer::copying(&mut self.out);
        write(head, &answer, writer);
    }
}

fn write<'a, M: Message<'a>>(head: Head<'_>, answer: &M, writer: &mut Writer<'_>) {
    frame::encode_response(head.key, head.version, head.correlation_id, answer, writer)
        .expect("it can be said");
}

//! What is asked, and how much of it: a case's request frame, as a client would send it.

use corelane_net::frame;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Array, Records, Request, Uuid, Writer};

/// Partitions of one topic, where a case is about partitions.
const PARTITIONS_OF_TOPIC: usize = 100;
pub(super) const CORRELATION: i32 = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Produce,
    Fetch,
    Metadata,
}

pub(super) struct Case {
    pub(super) what: What,
    pub(super) topics: usize,
    pub(super) partitions_of_topic: usize,
    /// The records of one partition.
    pub(super) records: Vec<u8>,
}

impl Case {
    /// `produce, 10 partitions, 16 KiB`, or `metadata, 10 topics, 3 partitions`.
    pub(super) fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split([' ', ',']).filter(|it| !it.is_empty()).collect();
        let [what, count, _, size, unit] = words[..] else { panic!("no case: {text}") };
        let number = |it: &str| it.parse::<usize>().expect("a case has numbers");
        let (count, size) = (number(count), number(size));
        let what = match what {
            "produce" => What::Produce,
            "fetch" => What::Fetch,
            "metadata" => What::Metadata,
            _ => panic!("no case: {text}"),
        };
        let (topics, partitions_of_topic, bytes) = match (what, unit) {
            (What::Metadata, _) => (count, size, 0),
            (_, unit) => {
                let of_topic = count.min(PARTITIONS_OF_TOPIC);
                (count / of_topic, of_topic, size * if unit == "KiB" { 1024 } else { 1 })
            }
        };
        Self { what, topics, partitions_of_topic, records: vec![0x5a; bytes] }
    }

    /// The newest version that the broker offers and `kafka-protocol` knows.
    pub(super) fn version(&self) -> i16 {
        match self.what {
            What::Produce => 11,
            What::Fetch => 17,
            What::Metadata => 13,
        }
    }

    /// What follows the four bytes of size.
    pub(super) fn frame(&self) -> Vec<u8> {
        let names: Vec<String> = (0..self.topics).map(|it| format!("a-topic-of-{it}")).collect();
        match self.what {
            What::Produce => self.produce(&names),
            What::Fetch => self.fetch(),
            What::Metadata => {
                let wanted = |it: usize| MetadataRequestTopic {
                    name: Some(names[it].as_str()),
                    ..Default::default()
                };
                let topics = Some(Array::made(0..self.topics, &wanted));
                self.framed(&MetadataRequest { topics, ..Default::default() })
            }
        }
    }

    fn produce(&self, names: &[String]) -> Vec<u8> {
        let partition = |index| PartitionProduceData {
            index: i32::try_from(index).expect("few"),
            records: Some(Records::Bytes(&self.records)),
        };
        let topic = |it: usize| TopicProduceData {
            name: names[it].as_str(),
            partition_data: Array::made(0..self.partitions_of_topic, &partition),
            ..Default::default()
        };
        self.framed(&ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: Array::made(0..self.topics, &topic),
            ..Default::default()
        })
    }

    fn fetch(&self) -> Vec<u8> {
        let partition = |index| FetchPartition {
            partition: i32::try_from(index).expect("few"),
            fetch_offset: 1 << 40,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = |it: usize| FetchTopic {
            topic_id: Uuid((it as u128 + 1).to_be_bytes()),
            partitions: Array::made(0..self.partitions_of_topic, &partition),
            ..Default::default()
        };
        self.framed(&FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            topics: Array::made(0..self.topics, &topic),
            ..Default::default()
        })
    }

    fn framed<'a, R: Request<'a>>(&self, request: &R) -> Vec<u8> {
        let mut out = Vec::new();
        let writer = &mut Writer::copying(&mut out);
        frame::encode_request(self.version(), CORRELATION, Some("a-client"), request, writer)
            .expect("it can be said");
        out.split_off(4)
    }
}

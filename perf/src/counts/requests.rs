//! The requests of a case, made once and sent again and again over a plain socket.

use corelane_net::api::ApiKey;
use corelane_net::frame;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelane_net::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelane_net::wire::{Array, Records, Request, Writer};
use corelane_storage::build::BatchBuilder;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

const TOPIC: &str = "counted";
const PARTITIONS: usize = 16;
const VALUE_BYTES: usize = 1024;
const FETCH_BYTES: i32 = 1100;
const PRODUCE: i16 = 11;
const FETCH: i16 = 12;
const METADATA: i16 = 12;

pub(super) struct Requests {
    socket: TcpStream,
    frame: Vec<u8>,
    check: fn(&[u8]) -> bool,
    answer: Vec<u8>,
}

impl Requests {
    pub(super) fn prepare(case: &str, port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        let mut requests = Self { socket, frame: metadata(), check: has_topic, answer: Vec::new() };
        // Until the topic is there on all its lanes.
        while !requests.ask()? {}
        let (frame, check): (_, fn(&[u8]) -> bool) = match case {
            "produce, 1 partition, 1 KiB" => (produce(1), is_produced),
            "produce, 16 partitions, 1 KiB" => (produce(PARTITIONS), is_produced),
            "metadata, 1 topic" | super::SILENT => (metadata(), has_topic),
            case => {
                requests.frame = produce(PARTITIONS);
                requests.check = is_produced;
                requests.once()?;
                match case {
                    "fetch, 1 partition, 1 KiB" => (fetch(1), is_fetched),
                    "fetch, 16 partitions, 1 KiB" => (fetch(PARTITIONS), is_fetched),
                    other => panic!("a case without a request: {other}"),
                }
            }
        };
        (requests.frame, requests.check) = (frame, check);
        Ok(requests)
    }

    /// One request and its answer, which must be a good one.
    pub(super) fn once(&mut self) -> io::Result<()> {
        if self.ask()? { Ok(()) } else { Err(io::Error::other("the broker refused a request")) }
    }

    fn ask(&mut self) -> io::Result<bool> {
        self.socket.write_all(&self.frame)?;
        let mut size = [0; 4];
        self.socket.read_exact(&mut size)?;
        self.answer.resize(u32::from_be_bytes(size) as usize, 0);
        self.socket.read_exact(&mut self.answer)?;
        Ok((self.check)(&self.answer))
    }
}

fn framed<'a, R: Request<'a>>(version: i16, request: &R) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = &mut Writer::copying(&mut out);
    frame::encode_request(version, 7, Some("counts"), request, writer).expect("it can be said");
    out
}

fn metadata() -> Vec<u8> {
    let topic = |_| MetadataRequestTopic { name: Some(TOPIC), ..Default::default() };
    let topics = Some(Array::made(0..1, &topic));
    framed(METADATA, &MetadataRequest { topics, ..Default::default() })
}

fn has_topic(answer: &[u8]) -> bool {
    let answer = frame::decode_response::<MetadataResponse<'_>>(ApiKey::Metadata, METADATA, answer);
    let (_, answer) = answer.expect("a broker's answer");
    answer.topics.iter().all(|it| it.error_code == 0 && it.partitions.len() == PARTITIONS)
}

fn produce(partitions: usize) -> Vec<u8> {
    let value = [0x5a; VALUE_BYTES];
    let mut batch = BatchBuilder::new();
    batch.record(1, None, Some(&value));
    let batch = batch.build();
    let partition = |index| PartitionProduceData {
        index: i32::try_from(index).expect("few"),
        records: Some(Records::Bytes(&batch)),
    };
    let topic = |_| TopicProduceData {
        name: TOPIC,
        partition_data: Array::made(0..partitions, &partition),
        ..Default::default()
    };
    let topic_data = Array::made(0..1, &topic);
    framed(
        PRODUCE,
        &ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data, ..Default::default() },
    )
}

fn is_produced(answer: &[u8]) -> bool {
    let answer = frame::decode_response::<ProduceResponse<'_>>(ApiKey::Produce, PRODUCE, answer);
    let (_, answer) = answer.expect("a broker's answer");
    let mut partitions =
        answer.responses.iter().flat_map(|it| it.partition_responses.iter().collect::<Vec<_>>());
    partitions.all(|it| it.error_code == 0)
}

fn fetch(partitions: usize) -> Vec<u8> {
    let partition = |index| FetchPartition {
        partition: i32::try_from(index).expect("few"),
        fetch_offset: 0,
        partition_max_bytes: FETCH_BYTES,
        ..Default::default()
    };
    let topic = |_| FetchTopic {
        topic: TOPIC,
        partitions: Array::made(0..partitions, &partition),
        ..Default::default()
    };
    let topics = Array::made(0..1, &topic);
    let max_bytes = 1 << 20;
    framed(
        FETCH,
        &FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes, topics, ..Default::default() },
    )
}

fn is_fetched(answer: &[u8]) -> bool {
    let answer = frame::decode_response::<FetchResponse<'_>>(ApiKey::Fetch, FETCH, answer);
    let (_, answer) = answer.expect("a broker's answer");
    let mut partitions =
        answer.responses.iter().flat_map(|it| it.partitions.iter().collect::<Vec<_>>());
    partitions
        .all(|it| it.error_code == 0 && it.records.is_some_and(|it| VALUE_BYTES < it.bytes().len()))
}

//! The same by the crate `kafka-protocol`, as its documentation shows: values are owned, texts and
//! records are counted references into the frame.

use super::case::{Case, What};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};

const SIZE_BYTES: usize = 4;

pub(super) struct Desk {
    out: BytesMut,
    records: Bytes,
}

pub(super) fn once(case: &Case, frame: &[u8]) -> Vec<u8> {
    let mut desk = Desk::new(case);
    desk.serve(case, &Bytes::copy_from_slice(frame));
    desk.out.to_vec()
}

/// The bytes of all batches of a produce.
pub(super) fn decode(frame: &Bytes) -> usize {
    let mut rest = frame.clone();
    let header = decode_request_header_from_buffer(&mut rest).expect("it is good");
    let request = ProduceRequest::decode(&mut rest, header.request_api_version);
    let mut bytes = 0;
    for topic in &request.expect("it is good").topic_data {
        assert!(!topic.name.is_empty());
        for it in &topic.partition_data {
            assert!(0 <= it.index);
            bytes += it.records.as_ref().map_or(0, Bytes::len);
        }
    }
    bytes
}

impl Desk {
    pub(super) fn new(case: &Case) -> Self {
        Self { out: BytesMut::new(), records: Bytes::copy_from_slice(&case.records) }
    }

    pub(super) fn serve(&mut self, case: &Case, frame: &Bytes) -> usize {
        let mut rest = frame.clone();
        let header = decode_request_header_from_buffer(&mut rest).expect("it is good");
        self.out.clear();
        match case.what {
            What::Produce => self.produce(&header, rest),
            What::Fetch => self.fetch(&header, rest),
            What::Metadata => self.metadata(case, &header, rest),
        }
        self.out.len()
    }

    fn produce(&mut self, header: &RequestHeader, mut body: Bytes) {
        let version = header.request_api_version;
        let request = ProduceRequest::decode(&mut body, version).expect("it is good");
        let mut bytes = 0;
        let responses = request.topic_data.into_iter().map(|topic| {
            let partitions = topic.partition_data.into_iter().map(|it| {
                assert!(0 <= it.index);
                bytes += it.records.unwrap_or_default().len();
                PartitionProduceResponse::default()
                    .with_index(it.index)
                    .with_base_offset(i64::try_from(bytes).expect("bytes of a frame"))
                    .with_log_start_offset(0)
            });
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_partition_responses(partitions.collect())
        });
        let answer = ProduceResponse::default().with_responses(responses.collect());
        self.write(ApiKey::Produce, header, &answer);
    }

    fn fetch(&mut self, header: &RequestHeader, mut body: Bytes) {
        let version = header.request_api_version;
        let request = FetchRequest::decode(&mut body, version).expect("it is good");
        let records = &self.records;
        let responses = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|it| {
                assert!(0 <= it.partition && 0 < it.partition_max_bytes);
                PartitionData::default()
                    .with_partition_index(it.partition)
                    .with_high_watermark(it.fetch_offset)
                    .with_last_stable_offset(it.fetch_offset)
                    .with_log_start_offset(0)
                    .with_aborted_transactions(Some(Vec::new()))
                    .with_records(Some(records.clone()))
            });
            FetchableTopicResponse::default()
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions.collect())
        });
        let answer = FetchResponse::default().with_responses(responses.collect());
        self.write(ApiKey::Fetch, header, &answer);
    }

    fn metadata(&mut self, case: &Case, header: &RequestHeader, mut body: Bytes) {
        let version = header.request_api_version;
        let request = MetadataRequest::decode(&mut body, version).expect("it is good");
        let replicas = [1, 2, 3].map(BrokerId);
        let brokers = replicas.iter().map(|it| {
            MetadataResponseBroker::default()
                .with_node_id(*it)
                .with_host(StrBytes::from_static_str("broker.example"))
                .with_port(9092)
        });
        let topics = request.topics.into_iter().flatten().map(|topic| {
            let partitions = (0..case.partitions_of_topic).map(|it| {
                MetadataResponsePartition::default()
                    .with_partition_index(i32::try_from(it).expect("few"))
                    .with_leader_id(BrokerId(1))
                    .with_leader_epoch(0)
                    .with_replica_nodes(replicas.to_vec())
                    .with_isr_nodes(replicas.to_vec())
            });
            MetadataResponseTopic::default()
                .with_name(topic.name)
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions.collect())
        });
        let answer = MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(StrBytes::from_static_str("a-cluster")))
            .with_controller_id(BrokerId(1))
            .with_topics(topics.collect());
        self.write(ApiKey::Metadata, header, &answer);
    }

    fn write(&mut self, key: ApiKey, header: &RequestHeader, answer: &impl Encodable) {
        let version = header.request_api_version;
        self.out.put_i32(0);
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut self.out, key.response_header_version(version))
            .expect("it can be said");
        answer.encode(&mut self.out, version).expect("it can be said");
        let size = i32::try_from(self.out.len() - SIZE_BYTES).expect("a frame is small enough");
        self.out[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
    }
}

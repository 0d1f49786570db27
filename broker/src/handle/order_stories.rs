//! Stories of clients that do not wait for answers before they ask on, over real frames in the
//! simulator: a request sees what an earlier one of its connection did.

use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::frame;
use corelane_net::messages::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use corelane_net::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use corelane_net::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use corelane_net::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::heartbeat::HeartbeatRequest;
use corelane_net::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane_net::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelane_net::wire::{Array, Records, Request, Writer};
use corelane_storage::build::BatchBuilder;

use super::resources::TOPIC;
use crate::testing::{Client, answer, story};

/// Some are of the connection's lane, and some are not.
const PARTITIONS: i32 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

type Check<'a> = Box<dyn Fn(&[u8]) + 'a>;

/// Requests that go out in one write, and what is expected of each answer in turn.
#[derive(Default)]
struct Pipeline<'a> {
    bytes: Vec<u8>,
    checks: Vec<Check<'a>>,
}

impl<'a> Pipeline<'a> {
    fn ask<R: Request<'a> + 'a>(
        mut self,
        version: i16,
        request: R,
        check: impl Fn(&R::Response<'_>) + 'a,
    ) -> Self {
        let writer = &mut Writer::copying(&mut self.bytes);
        frame::encode_request(version, 7, Some("story"), &request, writer).expect("it can be said");
        self.checks.push(Box::new(move |frame| check(&answer(version, frame, &request))));
        self
    }

    /// Asks what is not answered.
    fn tell<R: Request<'a> + 'a>(mut self, version: i16, request: &R) -> Self {
        let writer = &mut Writer::copying(&mut self.bytes);
        frame::encode_request(version, 7, Some("story"), request, writer).expect("it can be said");
        self
    }

    async fn run(self, client: &mut Client) {
        let mut bytes = self.bytes.as_slice();
        for check in self.checks {
            let frame = if bytes.is_empty() {
                client.next().await
            } else {
                client.ask_raw(std::mem::take(&mut bytes)).await
            };
            check(&frame.expect("an answer"));
        }
    }
}

fn create(topic: &str) -> CreateTopicsRequest<'_> {
    let topic = CreatableTopic {
        name: topic,
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..Default::default()
    };
    CreateTopicsRequest { topics: [topic].into(), ..Default::default() }
}

fn is_made(told: &CreateTopicsResponse<'_>) {
    assert_eq!(told.topics.first().expect("one topic").error_code, 0);
}

fn look(topic: &str, allow_auto_topic_creation: bool) -> MetadataRequest<'_> {
    let topic = MetadataRequestTopic { name: Some(topic), ..Default::default() };
    MetadataRequest {
        topics: Some([topic].into()),
        allow_auto_topic_creation,
        ..Default::default()
    }
}

fn is_there(told: &MetadataResponse<'_>) {
    assert_eq!(told.topics.first().expect("one topic").error_code, 0);
}

fn one_batch() -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    batch.record(0, None, Some(b"value"));
    batch.build()
}

/// One record to each of so many partitions.
fn produce<'a>(partitions: &'a [PartitionProduceData<'a>]) -> ProduceRequest<'a> {
    let topic =
        TopicProduceData { name: "t", partition_data: partitions.into(), ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: [topic].into(), ..Default::default() }
}

fn to_all(batch: &[u8], count: i32) -> Vec<PartitionProduceData<'_>> {
    let data = |index| PartitionProduceData { index, records: Some(Records::Bytes(batch)) };
    (0..count).map(data).collect()
}

/// Each batch got this offset.
fn stored_at(base: i64) -> impl Fn(&ProduceResponse<'_>) {
    move |told| {
        for it in &told.responses.first().expect("one topic").partition_responses {
            assert_eq!((it.error_code, it.base_offset), (0, base), "partition {}", it.index);
        }
    }
}

fn offsets<'a>(partitions: &'a [ListOffsetsPartition]) -> ListOffsetsRequest<'a> {
    let topic = ListOffsetsTopic { name: "t", partitions: partitions.into() };
    ListOffsetsRequest { replica_id: -1, topics: [topic].into(), ..Default::default() }
}

fn of_all(timestamp: i64) -> Vec<ListOffsetsPartition> {
    let of = |partition_index| ListOffsetsPartition {
        partition_index,
        timestamp,
        current_leader_epoch: -1,
    };
    (0..PARTITIONS).map(of).collect()
}

/// Each partition has its offset there.
fn are_at(offset: i64) -> impl Fn(&ListOffsetsResponse<'_>) {
    move |told| {
        for it in &told.topics.first().expect("one topic").partitions {
            assert_eq!((it.error_code, it.offset), (0, offset), "partition {}", it.partition_index);
        }
    }
}

fn fetch<'a>(partitions: &'a [FetchPartition], max_wait_ms: i32) -> FetchRequest<'a> {
    let topic = FetchTopic { topic: "t", partitions: partitions.into(), ..Default::default() };
    FetchRequest {
        topics: [topic].into(),
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        ..Default::default()
    }
}

fn from_all(fetch_offset: i64) -> Vec<FetchPartition> {
    let of = |partition| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    (0..PARTITIONS).map(of).collect()
}

#[test]
fn records_are_seen_by_who_asks_behind_them() {
    story(2, |mut client| async move {
        Pipeline::default().ask(7, create("t"), is_made).run(&mut client).await;
        let batch = one_batch();
        let (data, latest) = (to_all(&batch, PARTITIONS), of_all(LATEST));
        for round in 0..5 {
            let from = from_all(3 * round + 2);
            Pipeline::default()
                .ask(11, produce(&data), stored_at(3 * round))
                .ask(8, offsets(&latest), are_at(3 * round + 1))
                .ask(11, produce(&data), stored_at(3 * round + 1))
                .ask(11, produce(&data), stored_at(3 * round + 2))
                .ask(12, fetch(&from, 0), |told| {
                    for it in &told.responses.first().expect("one topic").partitions {
                        let bytes = it.records.map_or(0, |it| it.bytes().len());
                        assert_eq!((it.error_code, bytes), (0, batch.len()), "{round}");
                        assert_eq!(it.high_watermark, 3 * round + 3);
                    }
                })
                .run(&mut client)
                .await;
        }
    });
}

/// Their sender waits for no answer, and who looks behind them sees them all the same. Those who look
/// together all wait for it.
#[test]
fn records_without_acknowledgement_are_seen_by_who_asks_behind_them() {
    story(2, |mut client| async move {
        Pipeline::default().ask(7, create("t"), is_made).run(&mut client).await;
        let batch = one_batch();
        let (data, latest) = (to_all(&batch, PARTITIONS), of_all(LATEST));
        for round in 0..5 {
            let from = from_all(3 * round + 1);
            let silent = || ProduceRequest { acks: 0, ..produce(&data) };
            let parts = |partition_index| DeleteRecordsPartition { partition_index, offset: -1 };
            let parts: Vec<_> = (0..PARTITIONS).map(parts).collect();
            let topic = DeleteRecordsTopic { name: "t", partitions: Array::from(&parts[..]) };
            let delete = DeleteRecordsRequest { topics: [topic].into(), timeout_ms: 1000 };
            Pipeline::default()
                .tell(11, &silent())
                .tell(11, &silent())
                .ask(8, offsets(&latest), are_at(3 * round + 2))
                .ask(12, fetch(&from, 0), |told| {
                    for it in &told.responses.first().expect("one topic").partitions {
                        let bytes = it.records.map_or(0, |it| it.bytes().len());
                        assert_eq!((it.error_code, bytes), (0, batch.len()), "{round}");
                    }
                })
                .tell(11, &silent())
                .ask(2, delete, |told| {
                    for it in &told.topics.first().expect("the topic").partitions {
                        assert_eq!((it.error_code, it.low_watermark), (0, 3 * round + 3));
                    }
                })
                .run(&mut client)
                .await;
        }
    });
}

/// What has nothing to do with their records does not wait for the disk on their account.
#[test]
fn records_without_acknowledgement_hold_nobody_up_who_does_not_look() {
    story(2, |mut client| async move {
        Pipeline::default().ask(7, create("t"), is_made).run(&mut client).await;
        let batch = one_batch();
        let data = to_all(&batch, PARTITIONS);
        let alone = client.now();
        Pipeline::default()
            .ask(4, HeartbeatRequest { group_id: "g", ..Default::default() }, |_| {})
            .run(&mut client)
            .await;
        let alone = client.now().since(alone);
        let began = client.now();
        Pipeline::default()
            .tell(11, &ProduceRequest { acks: 0, ..produce(&data) })
            .ask(4, HeartbeatRequest { group_id: "g", ..Default::default() }, |_| {})
            .run(&mut client)
            .await;
        let behind = client.now().since(began);
        let began = client.now();
        Pipeline::default()
            .tell(11, &ProduceRequest { acks: 0, ..produce(&data) })
            .ask(8, offsets(&of_all(LATEST)), are_at(2))
            .run(&mut client)
            .await;
        let looks = client.now().since(began);
        assert!(behind < looks, "{alone:?} alone, {behind:?} behind them, {looks:?} to see them");
    });
}

#[test]
fn a_topic_is_there_for_who_asks_behind_its_making_and_gone_behind_its_end() {
    story(2, |mut client| async move {
        let batch = one_batch();
        let data = to_all(&batch, PARTITIONS);
        let commit = || {
            let partition = OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 1,
                ..Default::default()
            };
            let topic = OffsetCommitRequestTopic {
                name: "t",
                partitions: [partition].into(),
                ..Default::default()
            };
            OffsetCommitRequest {
                group_id: "g",
                generation_id_or_member_epoch: -1,
                topics: [topic].into(),
                ..Default::default()
            }
        };
        // Who commits has looked for its coordinator before.
        while {
            let frame = client.ask(8, &commit()).await;
            let told = answer(8, &frame, &commit()).topics.first().expect("the topic");
            told.partitions.first().expect("it").error_code
                != ErrorCode::UnknownTopicOrPartition.code()
        } {
            use corelane_net::messages::find_coordinator::FindCoordinatorRequest;
            let request = FindCoordinatorRequest { key: "g", ..Default::default() };
            client.ask(3, &request).await;
            client.sleep(Nanos::millis(10)).await;
        }
        for _ in 0..5 {
            let state = DeleteTopicState { name: Some("t"), ..Default::default() };
            let end = DeleteTopicsRequest {
                topics: [state].into(),
                timeout_ms: 1000,
                ..Default::default()
            };
            Pipeline::default()
                .ask(7, create("t"), is_made)
                .ask(8, commit(), |told| {
                    let topic = told.topics.first().expect("the topic");
                    assert_eq!(topic.partitions.first().expect("it").error_code, 0);
                })
                .ask(11, produce(&data), stored_at(0))
                .ask(12, look("t", false), is_there)
                .ask(6, end, |told| {
                    assert_eq!(told.responses.first().expect("the topic").error_code, 0);
                })
                .ask(12, look("t", false), |told| {
                    let unknown = ErrorCode::UnknownTopicOrPartition.code();
                    assert_eq!(told.topics.first().expect("the topic").error_code, unknown);
                })
                .run(&mut client)
                .await;
        }
    });
}

#[test]
fn records_go_to_a_topic_that_a_look_ahead_of_them_makes() {
    story(2, |mut client| async move {
        let batch = one_batch();
        let data = to_all(&batch, 1);
        Pipeline::default()
            .ask(12, look("t", true), is_there)
            .ask(11, produce(&data), stored_at(0))
            .run(&mut client)
            .await;
    });
}

#[test]
fn a_value_is_told_as_it_was_set_just_ahead() {
    story(2, |mut client| async move {
        Pipeline::default().ask(7, create("t"), is_made).run(&mut client).await;
        for value in ["7", "8", "9"] {
            let config =
                AlterableConfig { name: "retention.ms", config_operation: 0, value: Some(value) };
            let resource = AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "t",
                configs: [config].into(),
            };
            let set = IncrementalAlterConfigsRequest {
                resources: [resource].into(),
                ..Default::default()
            };
            let resource = DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: "t",
                configuration_keys: Some(["retention.ms"].into()),
            };
            let show =
                DescribeConfigsRequest { resources: [resource].into(), ..Default::default() };
            Pipeline::default()
                .ask(1, set, |told| {
                    assert_eq!(told.responses.first().expect("the topic").error_code, 0);
                })
                .ask(4, show, |told| {
                    let topic = told.results.first().expect("the topic");
                    assert_eq!(topic.configs.first().expect("one key").value, Some(value));
                })
                .run(&mut client)
                .await;
        }
    });
}

#[test]
fn what_was_deleted_just_ahead_is_before_the_earliest() {
    story(2, |mut client| async move {
        Pipeline::default().ask(7, create("t"), is_made).run(&mut client).await;
        let batch = one_batch();
        let (data, earliest) = (to_all(&batch, PARTITIONS), of_all(EARLIEST));
        for round in 0..5 {
            let parts = |partition_index| DeleteRecordsPartition { partition_index, offset: -1 };
            let parts: Vec<_> = (0..PARTITIONS).map(parts).collect();
            let topic = DeleteRecordsTopic { name: "t", partitions: Array::from(&parts[..]) };
            let delete = DeleteRecordsRequest { topics: [topic].into(), timeout_ms: 1000 };
            Pipeline::default()
                .ask(11, produce(&data), stored_at(round))
                .ask(8, offsets(&earliest), are_at(round))
                .ask(2, delete, |told| {
                    for it in &told.topics.first().expect("the topic").partitions {
                        assert_eq!((it.error_code, it.low_watermark), (0, round + 1));
                    }
                })
                .ask(8, offsets(&earliest), are_at(round + 1))
                .run(&mut client)
                .await;
        }
    });
}

/// Else the records it waits for could not come by its own connection.
#[test]
fn a_fetch_that_waits_holds_nobody_up() {
    story(2, |mut client| async move {
        Pipeline::default().ask(7, create("t"), is_made).run(&mut client).await;
        let batch = one_batch();
        let (data, from) = (to_all(&batch, 1), from_all(0));
        let began = client.now();
        Pipeline::default()
            .ask(12, fetch(&from, 300_000), |told| {
                let topic = told.responses.first().expect("one topic");
                let bytes =
                    topic.partitions.iter().map(|it| it.records.map_or(0, |it| it.bytes().len()));
                assert_eq!(bytes.sum::<usize>(), batch.len());
            })
            .ask(7, create("u"), is_made)
            .ask(11, produce(&data), stored_at(0))
            .ask(4, HeartbeatRequest { group_id: "g", ..Default::default() }, |_| {})
            .run(&mut client)
            .await;
        assert!(client.now() < began + Nanos::secs(300), "it waited to its end");
    });
}

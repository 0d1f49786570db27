//! Requests that name very many things, and another task of their lane that has its turns meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::lane::Importance;
use corelane_core::limits::SLICE_BYTES;
use corelane_net::frame::decode_response;
use corelane_net::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use corelane_net::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use corelane_net::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane_net::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Array, Records, Request};

use crate::groups::tests::{Client, story};
use crate::node::pace::THING_BYTES;

/// What each request names. Nothing of it is there, so nobody waits for another lane or the disk.
const THINGS: usize = 20_000;

/// Things that are looked at between two turns of the lane's other tasks, at most.
const THINGS_PER_TURN_MAX: usize = SLICE_BYTES / THING_BYTES;

/// Asks, and says how many turns another task of the lane had before the answer was there.
async fn turns_while_asking<'a, R: Request<'a>>(
    client: &Client,
    version: i16,
    request: &R,
) -> (usize, Vec<u8>) {
    let (turns, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let lane = client.node.lane();
    let looking = (lane.clone(), Rc::clone(&turns), Rc::clone(&over));
    lane.spawn("look on", Importance::Serving, async move {
        let (lane, turns, over) = looking;
        while !over.get() {
            turns.set(turns.get() + 1);
            lane.yield_now().await;
        }
    });
    let frame = client.ask(version, request).await;
    over.set(true);
    (turns.get(), frame)
}

/// Says how many things the answer told of.
async fn check<'a, R: Request<'a>>(
    client: &Client,
    version: i16,
    request: &R,
    told: impl Fn(&R::Response<'_>) -> usize,
) {
    let (turns, frame) = turns_while_asking(client, version, request).await;
    let (_, answer) = decode_response(R::KEY, version, &frame).expect("decodes");
    assert_eq!(told(&answer), THINGS, "{:?}", R::KEY);
    let expected = THINGS / THINGS_PER_TURN_MAX;
    assert!(expected <= turns, "{:?}: {turns} turns for {THINGS} things", R::KEY);
}

fn index(at: usize) -> i32 {
    i32::try_from(at).expect("few")
}

#[test]
fn partitions_of_one_topic_are_looked_at_a_slice_at_a_time() {
    story(|client| async move {
        let c = &client;
        let partition = |at| FetchPartition { partition: index(at), ..Default::default() };
        let topics = [FetchTopic {
            topic: "t",
            partitions: Array::made(0..THINGS, &partition),
            ..Default::default()
        }];
        let request = FetchRequest { topics: (&topics).into(), ..Default::default() };
        check(c, 12, &request, |it| it.responses.iter().map(|it| it.partitions.len()).sum()).await;
        // A client without a session pays no less.
        let request = FetchRequest { session_epoch: -1, ..request };
        check(c, 12, &request, |it| it.responses.iter().map(|it| it.partitions.len()).sum()).await;

        let partition = |at| PartitionProduceData {
            index: index(at),
            records: Some(Records::Bytes(b"never looked at")),
        };
        let topics = [TopicProduceData {
            name: "t",
            partition_data: Array::made(0..THINGS, &partition),
            ..Default::default()
        }];
        let request =
            ProduceRequest { acks: -1, topic_data: (&topics).into(), ..Default::default() };
        check(c, 11, &request, |it| {
            it.responses.iter().map(|it| it.partition_responses.len()).sum()
        })
        .await;

        let partition =
            |at| ListOffsetsPartition { partition_index: index(at), ..Default::default() };
        let topics =
            [ListOffsetsTopic { name: "t", partitions: Array::made(0..THINGS, &partition) }];
        let request = ListOffsetsRequest { topics: (&topics).into(), ..Default::default() };
        check(c, 7, &request, |it| it.topics.iter().map(|it| it.partitions.len()).sum()).await;

        let partition = |at| DeleteRecordsPartition { partition_index: index(at), offset: 0 };
        let topics =
            [DeleteRecordsTopic { name: "t", partitions: Array::made(0..THINGS, &partition) }];
        let request = DeleteRecordsRequest { topics: (&topics).into(), timeout_ms: 1000 };
        check(c, 2, &request, |it| it.topics.iter().map(|it| it.partitions.len()).sum()).await;

        let partition =
            |at| OffsetForLeaderPartition { partition: index(at), ..Default::default() };
        let topics =
            [OffsetForLeaderTopic { topic: "t", partitions: Array::made(0..THINGS, &partition) }];
        let request =
            OffsetForLeaderEpochRequest { topics: (&topics).into(), ..Default::default() };
        check(c, 4, &request, |it| it.topics.iter().map(|it| it.partitions.len()).sum()).await;

        let partition =
            |at| OffsetCommitRequestPartition { partition_index: index(at), ..Default::default() };
        let topics = [OffsetCommitRequestTopic {
            name: "t",
            partitions: Array::made(0..THINGS, &partition),
            ..Default::default()
        }];
        let request =
            OffsetCommitRequest { group_id: "g", topics: (&topics).into(), ..Default::default() };
        check(c, 8, &request, |it| it.topics.iter().map(|it| it.partitions.len()).sum()).await;
    });
}

#[test]
fn names_are_looked_at_a_slice_at_a_time() {
    story(|client| async move {
        let c = &client;
        let names: Vec<String> = (0..THINGS).map(|at| format!("a-topic-{at}")).collect();
        let topic = |at: usize| MetadataRequestTopic {
            name: Some(names[at].as_str()),
            ..Default::default()
        };
        let topics = Some(Array::made(0..THINGS, &topic));
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
        check(c, 12, &request, |it| it.topics.len()).await;

        let topic = |at: usize| TopicRequest { name: names[at].as_str() };
        let request = DescribeTopicPartitionsRequest {
            topics: Array::made(0..THINGS, &topic),
            response_partition_limit: 1000,
            cursor: None,
        };
        check(c, 0, &request, |it| it.topics.len()).await;

        let resource = |at: usize| DescribeConfigsResource {
            resource_type: 2,
            resource_name: names[at].as_str(),
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: Array::made(0..THINGS, &resource),
            ..Default::default()
        };
        check(c, 4, &request, |it| it.results.len()).await;
    });
}

//! Stories of topics that come and go under readers, over real frames in the simulator.

use std::cell::Cell;
use std::rc::Rc;

use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Records, Uuid};
use corelane_storage::build::BatchBuilder;

use crate::node::GONE_FOR;
use crate::testing::{Client, answer, story, story_over};

const PARTITIONS: i32 = 4;

fn name(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a known code")
}

/// What a look says that lets the broker make the topic: the error, the id, the partitions.
async fn look(client: &mut Client, topic: &str) -> (ErrorCode, Uuid, usize) {
    let topics = [MetadataRequestTopic { name: Some(topic), ..Default::default() }];
    let request = MetadataRequest {
        topics: Some((&topics).into()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let frame = client.ask(12, &request).await;
    let told = answer(12, &frame, &request).topics.first().expect("one topic");
    (name(told.error_code), told.topic_id, told.partitions.len())
}

async fn delete(client: &mut Client, topic: &str) {
    let state = DeleteTopicState { name: Some(topic), ..Default::default() };
    let request =
        DeleteTopicsRequest { topics: [state].into(), timeout_ms: 1000, ..Default::default() };
    let frame = client.ask(6, &request).await;
    let told = answer(6, &frame, &request).responses.first().expect("one topic").error_code;
    assert_eq!(name(told), ErrorCode::None);
}

async fn grow(client: &mut Client, topic: &str) {
    use corelane_net::messages::create_partitions::{
        CreatePartitionsRequest, CreatePartitionsTopic,
    };
    let growth = CreatePartitionsTopic { name: topic, count: PARTITIONS, assignments: None };
    let request =
        CreatePartitionsRequest { topics: [growth].into(), timeout_ms: 1000, ..Default::default() };
    let frame = client.ask(3, &request).await;
    let told = answer(3, &frame, &request).results.first().expect("one topic").error_code;
    assert_eq!(name(told), ErrorCode::None);
}

async fn produce(client: &mut Client, topic: &str, partition: i32) {
    let mut batch = BatchBuilder::new();
    batch.record(0, None, Some(b"value"));
    let batch = batch.build();
    let partitions =
        [PartitionProduceData { index: partition, records: Some(Records::Bytes(&batch)) }];
    let topics = [TopicProduceData {
        name: topic,
        partition_data: (&partitions).into(),
        ..Default::default()
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: (&topics).into(),
        ..Default::default()
    };
    let frame = client.ask(9, &request).await;
    let told = answer(9, &frame, &request).responses.first().expect("one topic");
    let told = told.partition_responses.first().expect("one partition").error_code;
    assert_eq!(name(told), ErrorCode::None);
}

/// Asks for every partition from these offsets on, and waits so long. For each: the error, and how
/// many bytes came.
async fn fetch(
    client: &mut Client,
    id: Uuid,
    from: [i64; PARTITIONS as usize],
    wait: Nanos,
) -> Vec<(ErrorCode, usize)> {
    let part = |(partition, from)| FetchPartition {
        partition,
        fetch_offset: from,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions: Vec<_> = (0..).zip(from).map(part).collect();
    let topics = [FetchTopic { topic_id: id, partitions: partitions.into(), ..Default::default() }];
    let request = FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).expect("a short wait"),
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: (&topics).into(),
        ..Default::default()
    };
    let frame = client.ask(13, &request).await;
    let told = answer(13, &frame, &request).responses.first().expect("one topic");
    let tell = |it: &corelane_net::messages::fetch::PartitionData<'_>| {
        (name(it.error_code), it.records.map_or(0, |it| it.len()))
    };
    told.partitions.iter().map(|it| tell(&it)).collect()
}

#[test]
fn a_deleted_topic_is_seen_gone_for_a_moment_before_a_look_makes_it_again() {
    story(2, |mut client| async move {
        let c = &mut client;
        let (error, first, _) = look(c, "t").await;
        assert_eq!(error, ErrorCode::None);
        delete(c, "t").await;
        for _ in 0..2 {
            assert_eq!(look(c, "t").await, (ErrorCode::UnknownTopicOrPartition, Uuid::ZERO, 0));
        }
        c.sleep(GONE_FOR).await;
        let (error, second, partitions) = look(c, "t").await;
        assert_eq!((error, partitions), (ErrorCode::None, 1));
        assert_ne!(first, second);
        // One that was never there is made at once.
        assert_eq!(look(c, "new").await.0, ErrorCode::None);
    });
}

/// A short question that names one large topic many times must not have an endless answer.
#[test]
fn a_topic_named_many_times_is_told_once() {
    story(2, |mut client| async move {
        let c = &mut client;
        let (_, id, _) = look(c, "t").await;
        let by_name = MetadataRequestTopic { name: Some("t"), ..Default::default() };
        let missing = MetadataRequestTopic { name: Some("missing"), ..Default::default() };
        let by_id = MetadataRequestTopic { name: None, topic_id: id };
        let topics = [by_name.clone(), missing.clone(), by_name, by_id.clone(), missing, by_id];
        let request = MetadataRequest { topics: Some((&topics).into()), ..Default::default() };
        let frame = c.ask(12, &request).await;
        let told = answer(12, &frame, &request);
        let names: Vec<_> = told.topics.iter().map(|it| it.name.unwrap_or_default()).collect();
        assert_eq!(names, ["t", "missing", "t"], "once by name, once by id, in the order asked");
    });
}

#[test]
fn who_waits_for_records_hears_of_them_on_any_lane() {
    story(2, |mut client| async move {
        let c = &mut client;
        let (_, id, _) = look(c, "t").await;
        grow(c, "t").await;
        let mut from = [0; PARTITIONS as usize];
        for partition in 0..PARTITIONS {
            let mut other = c.another().await;
            let began = c.now();
            c.beside(async move { produce(&mut other, "t", partition).await });
            let told = fetch(c, id, from, Nanos::secs(100)).await;
            assert!(c.now() - began < Nanos::secs(50), "it waited to the end");
            let at = usize::try_from(partition).expect("small");
            for (it, (error, bytes)) in told.into_iter().enumerate() {
                assert_eq!(error, ErrorCode::None);
                assert_eq!(0 < bytes, it == at, "partition {it}, produced to {at}");
            }
            from[at] = 1;
        }
        let began = c.now();
        let told = fetch(c, id, from, Nanos::secs(10)).await;
        assert!(told.iter().all(|it| *it == (ErrorCode::None, 0)));
        assert!(Nanos::secs(10) <= c.now() - began, "nothing came, and it did not wait");
    });
}

#[test]
fn many_who_wait_leave_room_for_others() {
    const PLACES: usize = 4;
    story_over(PLACES, 2, |mut client| async move {
        let c = &mut client;
        let (_, id, _) = look(c, "t").await;
        grow(c, "t").await;
        let woken = Rc::new(Cell::new(0));
        for _ in 0..4 * PLACES {
            let (mut other, woken) = (c.another().await, Rc::clone(&woken));
            c.beside(async move {
                let told = fetch(&mut other, id, [0; PARTITIONS as usize], Nanos::secs(100)).await;
                assert!(told.iter().all(|it| it.0 == ErrorCode::None));
                woken.set(woken.get() + 1);
            });
        }
        // All of them wait by now; questions between lanes still find their places.
        assert_eq!(fetch(c, id, [0; PARTITIONS as usize], Nanos::secs(1)).await.len(), 4);
        let began = c.now();
        assert_eq!(look(c, "new").await.0, ErrorCode::None);
        assert_eq!(woken.get(), 0);
        produce(c, "t", 0).await;
        produce(c, "t", 1).await;
        while woken.get() < 4 * PLACES {
            fetch(c, id, [1, 1, 0, 0], Nanos::millis(10)).await;
            assert!(c.now() - began < Nanos::secs(10), "only {} were woken", woken.get());
        }
    });
}

#[test]
fn a_reader_that_waits_learns_that_its_topic_is_gone() {
    story(2, |mut client| async move {
        let c = &mut client;
        let (_, id, _) = look(c, "t").await;
        grow(c, "t").await;
        let mut other = c.another().await;
        let began = c.now();
        c.beside(async move { delete(&mut other, "t").await });
        let told = fetch(c, id, [0; PARTITIONS as usize], Nanos::secs(100)).await;
        assert!(c.now() - began < Nanos::secs(50), "it waited to the end");
        assert!(told.iter().any(|it| it.0 != ErrorCode::None), "{told:?}");
        // Who asks later names an id that nobody knows.
        let told = fetch(c, id, [0; PARTITIONS as usize], Nanos::secs(100)).await;
        assert!(told.iter().all(|it| it.0 == ErrorCode::UnknownTopicId), "{told:?}");
    });
}

/// A client may send no records for a partition, or none of any length, beside good ones of every lane.
#[test]
fn absent_records_are_refused_alone() {
    story(2, |mut client| async move {
        look(&mut client, "t").await;
        grow(&mut client, "t").await;
        let mut batch = BatchBuilder::new();
        batch.record(0, None, Some(b"value"));
        let batch = batch.build();
        let sent = [Some(Records::Bytes(&batch)), None, Some(Records::Bytes(&[]))];
        let partitions: Vec<_> = (0..PARTITIONS)
            .map(|index| PartitionProduceData { index, records: sent[index as usize % sent.len()] })
            .collect();
        let topics = [TopicProduceData {
            name: "t",
            partition_data: partitions.as_slice().into(),
            ..Default::default()
        }];
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: (&topics).into(),
            ..Default::default()
        };
        for round in 0..2 {
            let frame = client.ask(9, &request).await;
            let told = answer(9, &frame, &request).responses.first().expect("one topic");
            for it in &told.partition_responses {
                let (error, base) = match it.index {
                    0 | 3 => (ErrorCode::None, round),
                    _ => (ErrorCode::InvalidRecord, -1),
                };
                assert_eq!((name(it.error_code), it.base_offset), (error, base), "{}", it.index);
            }
        }
    });
}

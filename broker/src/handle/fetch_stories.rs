//! Stories of fetch sessions, over real frames in the simulator.

use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::frame;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Records, Uuid, Writer};
use corelane_storage::build::BatchBuilder;

use crate::testing::{Client, answer, story};

const PARTITIONS: i32 = 4;

/// More of one lane than a reader watches itself.
const MANY: i32 = 200;

/// Makes the topic, and gives its id.
async fn prepare(client: &mut Client) -> Uuid {
    prepare_with(client, PARTITIONS).await
}

async fn prepare_with(client: &mut Client, partitions: i32) -> Uuid {
    use corelane_net::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
    let topics = [CreatableTopic {
        name: "t",
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    }];
    let request = CreateTopicsRequest { topics: (&topics).into(), ..Default::default() };
    let frame = client.ask(7, &request).await;
    let told = answer(7, &frame, &request).topics.first().expect("one topic").error_code;
    assert_eq!(told, ErrorCode::None.code());
    let topics = [MetadataRequestTopic { name: Some("t"), ..Default::default() }];
    let request = MetadataRequest { topics: Some((&topics).into()), ..Default::default() };
    let frame = client.ask(12, &request).await;
    answer(12, &frame, &request).topics.first().expect("one topic").topic_id
}

async fn produce(client: &mut Client, partitions: &[i32]) {
    let mut batch = BatchBuilder::new();
    batch.record(0, None, Some(b"value"));
    let batch = batch.build();
    let partitions: Vec<_> = partitions
        .iter()
        .map(|index| PartitionProduceData { index: *index, records: Some(Records::Bytes(&batch)) })
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
    let frame = client.ask(9, &request).await;
    let told = answer(9, &frame, &request).responses.first().expect("one topic");
    for it in &told.partition_responses {
        assert_eq!(it.error_code, ErrorCode::None.code());
    }
}

/// A client that keeps a session over one topic.
struct Reader {
    client: Client,
    id: Uuid,
    version: i16,
    session: (i32, i32),
}

impl Reader {
    /// Asks for these partitions from these offsets on, forgets those, and tells what came: the error
    /// of the whole, then each partition with its watermark and whether it has records.
    async fn fetch(&mut self, wants: &[(i32, i64)], forget: &[i32]) -> String {
        let part = |(partition, from): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *from,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let partitions: Vec<_> = wants.iter().map(part).collect();
        let (topic, topic_id) = if self.version < 13 { ("t", Uuid::ZERO) } else { ("", self.id) };
        let topics = [FetchTopic { topic, topic_id, partitions: partitions.as_slice().into() }];
        let gone = [ForgottenTopic { topic, topic_id, partitions: forget.into() }];
        let request = FetchRequest {
            max_wait_ms: 10,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: topics[..usize::from(!wants.is_empty())].into(),
            forgotten_topics_data: gone[..usize::from(!forget.is_empty())].into(),
            ..Default::default()
        };
        let frame = self.client.ask(self.version, &request).await;
        let response = answer(self.version, &frame, &request);
        if response.error_code != 0 {
            let error = ErrorCode::from_code(response.error_code).expect("a known code");
            assert_eq!((response.session_id, response.responses.len()), (0, 0));
            return format!("{error:?}");
        }
        if self.session.0 == 0 || self.session.1 < 0 {
            self.session.0 = response.session_id;
        }
        assert_eq!(response.session_id, self.session.0);
        self.session.1 += 1;
        let mut told = Vec::new();
        for topic in &response.responses {
            for it in &topic.partitions {
                let records = it.records.map_or(0, |it| it.len());
                let error = ErrorCode::from_code(it.error_code).expect("a known code");
                told.push(match error {
                    ErrorCode::None if 0 < records => {
                        format!("{}@{}+", it.partition_index, it.high_watermark)
                    }
                    ErrorCode::None => format!("{}@{}", it.partition_index, it.high_watermark),
                    error => format!("{}:{error:?}", it.partition_index),
                });
            }
        }
        told.join(" ")
    }
}

#[test]
fn a_session_is_told_only_what_is_new() {
    for version in [12, 13, 17] {
        story(2, move |mut client| async move {
            let id = prepare(&mut client).await;
            produce(&mut client, &[1]).await;
            let other = client.another().await;
            let mut reader = Reader { client: other, id, version, session: (0, 0) };
            let all = [(0, 0), (1, 0), (2, 0), (3, 0)];
            assert_eq!(reader.fetch(&all, &[]).await, "0@0 1@1+ 2@0 3@0");
            assert_ne!(reader.session.0, 0);
            // What was not moved on is given again.
            assert_eq!(reader.fetch(&[], &[]).await, "1@1+");
            assert_eq!(reader.fetch(&[(1, 1)], &[]).await, "");
            produce(&mut client, &[0, 1, 3]).await;
            assert_eq!(reader.fetch(&[], &[2]).await, "0@1+ 3@1+ 1@2+");
            // A partition that is wanted beyond its end, and one that does not exist.
            assert_eq!(reader.fetch(&[(0, 9), (1, 2), (3, 1)], &[]).await, "0:OffsetOutOfRange");
            assert_eq!(reader.fetch(&[(0, 1), (8, 0)], &[]).await, "0@1 8:UnknownTopicOrPartition");
            assert_eq!(reader.fetch(&[], &[]).await, "8:UnknownTopicOrPartition");
            assert_eq!(reader.fetch(&[], &[8]).await, "");
            produce(&mut client, &[2]).await;
            assert_eq!(reader.fetch(&[], &[]).await, "", "it was forgotten");
            assert_eq!(reader.fetch(&[(2, 1)], &[]).await, "2@1");
        });
    }
}

#[test]
fn a_session_that_is_broken_is_refused_as_a_whole() {
    story(1, |mut client| async move {
        let id = prepare(&mut client).await;
        let mut reader =
            Reader { client: client.another().await, id, version: 17, session: (0, 0) };
        let all = [(0, 0), (1, 0)];
        assert_eq!(reader.fetch(&all, &[]).await, "0@0 1@0");
        let (session, _) = reader.session;
        reader.session = (session, 5);
        assert_eq!(reader.fetch(&[], &[]).await, "InvalidFetchSessionEpoch");
        reader.session = (session, 1);
        reader.version = 12;
        assert_eq!(reader.fetch(&[], &[]).await, "FetchSessionTopicIdError");
        reader.version = 17;
        assert_eq!(reader.fetch(&[], &[]).await, "");
        // The last one without a session ends it.
        reader.session = (session, -1);
        assert_eq!(reader.fetch(&all, &[]).await, "0@0 1@0");
        assert_eq!(reader.session.0, 0);
        reader.session = (session, 2);
        assert_eq!(reader.fetch(&[], &[]).await, "FetchSessionIdNotFound");
    });
}

/// A fetch of so many entries, spread over the topic's partitions.
async fn wait(
    client: &mut Client,
    max_wait_ms: i32,
    entries: usize,
    padding: usize,
) -> (Nanos, usize) {
    let partitions: Vec<_> = (0..PARTITIONS).cycle().take(entries).collect();
    wait_for(client, max_wait_ms, &partitions, padding).await
}

/// A fetch of these partitions, all from their start, with so many bytes behind it that mean nothing.
/// Gives how long it took, and how many of them had records.
async fn wait_for(
    client: &mut Client,
    max_wait_ms: i32,
    partitions: &[i32],
    padding: usize,
) -> (Nanos, usize) {
    let part = |partition| FetchPartition {
        partition,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions: Vec<_> = partitions.iter().copied().map(part).collect();
    let topics =
        [FetchTopic { topic: "t", partitions: partitions.as_slice().into(), ..Default::default() }];
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: topics[..usize::from(!partitions.is_empty())].into(),
        ..Default::default()
    };
    let mut out = Vec::new();
    frame::encode_request(12, 7, Some("story"), &request, &mut Writer::copying(&mut out))
        .expect("it can be said");
    out.resize(out.len() + padding, 0);
    let size = u32::try_from(out.len() - 4).expect("a short frame");
    out[..4].copy_from_slice(&size.to_be_bytes());
    let began = client.now();
    let frame = client.ask_raw(&out).await.expect("an answer");
    let response = answer(12, &frame, &request);
    assert_eq!(response.error_code, 0);
    let told = response.responses.iter().map(|topic| {
        let with_records =
            topic.partitions.iter().filter(|it| it.records.is_some_and(|it| !it.is_empty()));
        with_records.count()
    });
    (client.now().since(began), told.sum())
}

/// Longer than a story may last.
const FOR_EVER_MS: i32 = i32::MAX;

#[test]
fn a_fetch_without_room_gives_the_first_that_has_anything() {
    for lanes in [1, 2] {
        story(lanes, |mut client| async move {
            prepare(&mut client).await;
            produce(&mut client, &[1, 2, 3]).await;
            for max_bytes in [0, 1] {
                let part = |partition| FetchPartition {
                    partition,
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                };
                let partitions = [0, 1, 2, 3].map(part);
                let topic =
                    FetchTopic { topic: "t", partitions: partitions.into(), ..Default::default() };
                let request = FetchRequest {
                    max_wait_ms: 10,
                    min_bytes: 1,
                    max_bytes,
                    session_epoch: -1,
                    topics: [topic].into(),
                    ..Default::default()
                };
                let frame = client.ask(12, &request).await;
                let topic = answer(12, &frame, &request).responses.first().expect("one topic");
                let with_records = topic
                    .partitions
                    .iter()
                    .filter(|it| it.records.is_some_and(|it| !it.is_empty()));
                let with_records: Vec<_> = with_records.map(|it| it.partition_index).collect();
                assert_eq!(with_records, [1]);
            }
        });
    }
}

#[test]
fn a_fetch_of_nothing_is_answered_at_once() {
    story(1, |mut client| async move {
        prepare(&mut client).await;
        wait(&mut client, FOR_EVER_MS, 0, 0).await;
    });
}

#[test]
fn a_frame_longer_than_its_fetch_needs_does_not_stay() {
    story(2, |mut client| async move {
        prepare(&mut client).await;
        wait(&mut client, FOR_EVER_MS, 4, 80 * 1024).await;
        let (took, _) = wait(&mut client, 300, 4, 40 * 1024).await;
        assert!(Nanos::millis(300) <= took, "{took:?}");
    });
}

#[test]
fn fetches_that_wait_leave_room_for_others() {
    story(1, |mut client| async move {
        prepare(&mut client).await;
        let mut other = client.another().await;
        client.beside(async move {
            let (took, _) = wait(&mut other, FOR_EVER_MS, 40_000, 0).await;
            assert!(took < Nanos::secs(10), "it gave way: {took:?}");
        });
        client.sleep(Nanos::secs(5)).await;
        // Who asks for more than anybody may have waits for nothing.
        let (took, _) = wait(&mut client, FOR_EVER_MS, 50_001, 0).await;
        assert!(took < Nanos::secs(3), "{took:?}");
        let mut other = client.another().await;
        client.beside(async move {
            other.sleep(Nanos::secs(1)).await;
            produce(&mut other, &[3]).await;
        });
        let (took, told) = wait(&mut client, FOR_EVER_MS, 30_001, 0).await;
        assert!(0 < told && Nanos::secs(1) <= took, "{took:?}");
    });
}

#[test]
fn many_partitions_of_one_lane_are_watched() {
    story(2, |mut client| async move {
        prepare_with(&mut client, MANY).await;
        for partition in [0, 1, MANY - 1] {
            let mut other = client.another().await;
            client.beside(async move {
                other.sleep(Nanos::secs(1)).await;
                produce(&mut other, &[partition]).await;
            });
            let all: Vec<_> =
                (0..MANY).filter(|it| *it == partition || 1 < *it && *it < MANY - 1).collect();
            let (took, told) = wait_for(&mut client, FOR_EVER_MS, &all, 0).await;
            assert!(told == 1 && Nanos::secs(1) <= took, "{took:?}");
        }
        let (took, _) = wait_for(&mut client, 300, &[5; 200], 0).await;
        assert!(Nanos::millis(300) <= took, "{took:?}");
    });
}

/// A consumer says which epoch the record before has. What it has may be another log: then it is told
/// where the two part, and otherwise nothing changes.
#[test]
fn a_reader_of_another_log_is_told_where_they_part() {
    story(2, |mut client| async move {
        let c = &mut client;
        let id = prepare(c).await;
        produce(c, &[0]).await;
        produce(c, &[0]).await;
        let none = ErrorCode::None;
        let out_of_range = ErrorCode::OffsetOutOfRange;
        for (version, offset, last_fetched_epoch, error, parting) in [
            (12, 50, 0, none, (0, 2)),
            (18, 50, 0, none, (0, 2)),
            (12, 3, 0, none, (0, 2)),
            (12, 2, 0, none, (-1, -1)),
            (12, 0, 0, none, (-1, -1)),
            (12, 0, -1, none, (-1, -1)),
            (12, 50, -1, out_of_range, (-1, -1)),
            (12, 2, 1, out_of_range, (-1, -1)),
            (11, 50, -1, out_of_range, (-1, -1)),
        ] {
            let part = FetchPartition {
                fetch_offset: offset,
                last_fetched_epoch,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let (topic, topic_id) = if version < 13 { ("t", Uuid::ZERO) } else { ("", id) };
            let topic = FetchTopic { topic, topic_id, partitions: [part].into() };
            let request = FetchRequest {
                max_wait_ms: if offset == 2 { 0 } else { 500_000 },
                min_bytes: 1,
                max_bytes: 1 << 20,
                topics: [topic].into(),
                ..Default::default()
            };
            let before = c.now();
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request).responses.first().expect("the topic");
            let told = told.partitions.first().expect("its partition");
            let case = format!("version {version} from {offset} after {last_fetched_epoch}");
            assert_eq!(told.error_code, error.code(), "{case}");
            let found = (told.diverging_epoch.epoch, told.diverging_epoch.end_offset);
            assert_eq!(found, parting, "{case}");
            let records = told.records.map_or(0, |it| it.len());
            assert_eq!(0 < records, offset == 0, "{case}");
            assert!(c.now() < before + Nanos::secs(1), "{case} waited");
        }
    });
}

//! The corners of the protocol that brokers which are not Kafka get wrong, over real frames in the
//! simulator. What one message looks like in bytes is tested in net; here is what is said in it.

use std::fmt::Write as _;

use corelane_net::ErrorCode;
use corelane_net::api::{APIS, ApiKey, api_versions};
use corelane_net::frame;
use corelane_net::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::{Array, Records, Request, Uuid, Writer};
use corelane_storage::build::BatchBuilder;

use crate::testing::{Client, answer, story};

fn framed<'a, R: Request<'a>>(version: i16, request: &R) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = &mut Writer::copying(&mut out);
    frame::encode_request(version, 7, Some("story"), request, writer).expect("it can be said");
    out
}

/// The same frame with so many bytes more than its message has.
fn with_more(mut framed: Vec<u8>, more: usize) -> Vec<u8> {
    framed.extend(std::iter::repeat_n(0xee, more));
    let size = u32::try_from(framed.len() - 4).expect("a small frame");
    framed[..4].copy_from_slice(&size.to_be_bytes());
    framed
}

fn one_batch() -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    batch.record(0, None, Some(b"value"));
    batch.build()
}

fn produce<'a>(acks: i16, topic: &'a str, batch: &'a [u8]) -> ProduceRequest<'a> {
    let partition = PartitionProduceData { index: 0, records: Some(Records::Bytes(batch)) };
    let topic =
        TopicProduceData { name: topic, partition_data: [partition].into(), ..Default::default() };
    ProduceRequest { acks, timeout_ms: 1000, topic_data: [topic].into(), ..Default::default() }
}

fn named(topic: &str) -> MetadataRequest<'_> {
    let topic = MetadataRequestTopic { name: Some(topic), ..Default::default() };
    MetadataRequest {
        topics: Some([topic].into()),
        allow_auto_topic_creation: true,
        ..Default::default()
    }
}

/// Topics the broker tells of, asked with this list in this version.
async fn told_of(client: &mut Client, version: i16, request: &MetadataRequest<'_>) -> usize {
    let frame = client.ask(version, request).await;
    answer(version, &frame, request).topics.len()
}

#[test]
fn an_empty_list_means_all_in_the_oldest_metadata_and_none_in_every_later_one() {
    story(2, |mut client| async move {
        let c = &mut client;
        for topic in ["a", "b"] {
            assert_eq!(told_of(c, 12, &named(topic)).await, 1);
        }
        let empty = MetadataRequest { topics: Some(Array::empty()), ..Default::default() };
        let missing = MetadataRequest { topics: None, ..Default::default() };
        assert_eq!(told_of(c, 0, &empty).await, 2);
        for version in 1..=13 {
            assert_eq!(told_of(c, version, &empty).await, 0, "empty in version {version}");
            assert_eq!(told_of(c, version, &missing).await, 2, "none in version {version}");
        }
    });
}

/// Clients wait for a controller before they create anything, take offsets to be of one topic for as
/// long as its id stays, and compare the epochs they are told in different answers.
#[test]
fn metadata_names_a_controller_an_id_that_stays_and_an_epoch_that_other_requests_know() {
    story(2, |mut client| async move {
        let c = &mut client;
        let mut ids = Vec::new();
        let mut epochs = Vec::new();
        for version in 0..=13 {
            let request = named("t");
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request);
            let node = told.brokers.first().expect("one broker").node_id;
            if 1 <= version {
                assert_eq!(told.controller_id, node, "version {version}");
            }
            let topic = told.topics.first().expect("the topic");
            let partition = topic.partitions.first().expect("its partition");
            assert_eq!(partition.leader_id, node);
            if 7 <= version {
                epochs.push(partition.leader_epoch);
            }
            if 10 <= version {
                ids.push(topic.topic_id);
            } else {
                assert_eq!(topic.topic_id, Uuid::ZERO, "version {version} has no place for it");
            }
        }
        assert!(ids.iter().all(|it| *it == ids[0] && *it != Uuid::ZERO), "{ids:?}");
        assert!(epochs.iter().all(|it| *it == epochs[0] && 0 <= *it), "{epochs:?}");
        for version in 2..=4 {
            let partition = OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: epochs[0],
                leader_epoch: epochs[0],
            };
            let topic = OffsetForLeaderTopic { topic: "t", partitions: [partition].into() };
            let request =
                OffsetForLeaderEpochRequest { topics: [topic].into(), ..Default::default() };
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request).topics.first().expect("the topic");
            let told = told.partitions.first().expect("its partition");
            assert_eq!((told.error_code, told.leader_epoch), (0, epochs[0]), "version {version}");
            assert_eq!(told.end_offset, 0);
        }
    });
}

#[test]
fn a_topic_that_is_not_there_is_told_by_the_name_or_the_id_that_was_asked_for() {
    story(2, |mut client| async move {
        let c = &mut client;
        let batch = one_batch();
        for version in 3..=11 {
            let request = produce(-1, "none", &batch);
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request).responses.first().expect("the topic");
            let told = (told.name, told.partition_responses.first().expect("it").error_code);
            let unknown = ErrorCode::UnknownTopicOrPartition.code();
            assert_eq!(told, ("none", unknown), "version {version}");
        }
        let id = Uuid([9; 16]);
        for version in 4..=18 {
            let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
            let (topic, topic_id, error) = if version < 13 {
                ("none", Uuid::ZERO, ErrorCode::UnknownTopicOrPartition)
            } else {
                ("", id, ErrorCode::UnknownTopicId)
            };
            let topic = FetchTopic { topic, topic_id, partitions: [partition].into() };
            let request = FetchRequest {
                topics: [topic].into(),
                // It does not wait for a topic that is not there.
                max_wait_ms: 500_000,
                min_bytes: 1,
                ..Default::default()
            };
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request).responses.first().expect("the topic");
            let told = (told.topic_id, told.partitions.first().expect("it").error_code);
            assert_eq!(told, (topic_id, error.code()), "version {version}");
        }
    });
}

#[test]
fn records_without_acknowledgement_are_answered_by_silence_and_in_trouble_by_the_end() {
    story(2, |mut client| async move {
        let c = &mut client;
        assert_eq!(told_of(c, 12, &named("t")).await, 1);
        let batch = one_batch();
        for version in 3..=11 {
            // The first frame that comes back is the answer to what was asked behind it.
            let both =
                [framed(version, &produce(0, "t", &batch)), framed(12, &named("t"))].concat();
            let frame = c.ask_raw(&both).await.expect("an answer");
            let topics = answer(12, &frame, &named("t")).topics;
            assert_eq!(topics.first().expect("the topic").name, Some("t"), "version {version}");
        }
        let mut other = c.another().await;
        let frame = other.ask_raw(&framed(9, &produce(0, "none", &batch))).await;
        assert_eq!(frame, None);
    });
}

#[test]
fn bytes_behind_a_request_are_ignored_and_counted() {
    story(2, |mut client| async move {
        let c = &mut client;
        for more in [1, 1000] {
            let frame = c.ask_raw(&with_more(framed(12, &named("t")), more)).await;
            let frame = frame.expect("it is answered as if they were not there");
            assert_eq!(answer(12, &frame, &named("t")).topics.len(), 1);
        }
        // And the next request begins where the frame ended.
        assert_eq!(told_of(c, 12, &named("t")).await, 1);
        c.ask_for_numbers();
        // Lanes are woken by questions of each other; making topics asks one.
        for at in 0.. {
            let name = format!("made-{at}");
            assert_eq!(told_of(c, 12, &named(&name)).await, 1);
            let mut counted = 0;
            for line in c.printed() {
                if let Some((_, count)) = line.split_once("requests.with_more_bytes ") {
                    counted += count.parse::<u32>().expect("a number");
                }
            }
            if 0 < counted {
                assert_eq!(counted, 2);
                break;
            }
            assert!(at < 50, "the lanes do not say what they counted: {:?}", c.printed());
        }
    });
}

#[test]
fn what_a_request_waited_for_can_be_asked() {
    story(2, |mut client| async move {
        let c = &mut client;
        assert_eq!(told_of(c, 12, &named("t")).await, 1);
        let batch = one_batch();
        let request = produce(-1, "t", &batch);
        let frame = c.ask(11, &request).await;
        let topic = answer(11, &frame, &request).responses.first().expect("one topic");
        assert_eq!(topic.partition_responses.first().expect("one partition").error_code, 0);
        c.ask_for_numbers();
        // Lanes are woken by questions of each other; making topics asks one.
        let missing = |lines: &[String]| {
            let stages = ["received", "decoded", "queued", "committed", "answered"];
            let told = |stage: &str| {
                let what = format!("request.Produce.{stage} 1 times, p50 ");
                lines.iter().any(|it| it.contains(&what))
            };
            stages.into_iter().find(|it| !told(it))
        };
        for at in 0.. {
            assert_eq!(told_of(c, 12, &named(&format!("made-{at}"))).await, 1);
            match missing(&c.printed()) {
                None => break,
                Some(stage) => assert!(at < 50, "nobody says {stage}: {:?}", c.printed()),
            }
        }
    });
}

#[test]
fn a_request_that_lists_too_much_ends_its_connection_and_no_other() {
    story(2, |mut client| async move {
        let c = &mut client;
        let wanted = |_| MetadataRequestTopic { name: Some("t"), ..Default::default() };
        let of = |count| MetadataRequest {
            topics: Some(Array::made(0..count, &wanted)),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        // They are all of one name, which is told once.
        assert_eq!(told_of(c, 12, &of(100_000)).await, 1);
        let mut other = c.another().await;
        assert_eq!(other.ask_raw(&framed(12, &of(100_001))).await, None);
        assert_eq!(told_of(c, 12, &named("t")).await, 1);
        let lines = c.printed();
        let why = "malformed Metadata version 12: an array of 100001 elements";
        let line = lines.iter().find(|it| it.contains(why));
        let line = line.unwrap_or_else(|| panic!("nobody said why: {lines:?}"));
        assert!(line.contains("connection from 10.0.0."), "it does not say whose: {line}");
    });
}

/// A client that does not know how old the broker is must be able to read what it is told of that.
#[test]
fn versions_are_told_in_a_form_that_every_client_reads() {
    story(1, |mut client| async move {
        let c = &mut client;
        let request = ApiVersionsRequest {
            client_software_name: "story",
            client_software_version: "1",
            ..Default::default()
        };
        for version in 0..=4 {
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request);
            let mut lines = String::new();
            for it in &told.api_keys {
                let key = ApiKey::from_code(it.api_key).expect("a key of the protocol");
                writeln!(lines, "{key:?} {} {}", it.min_version, it.max_version).expect("text");
            }
            assert_eq!(told.api_keys, api_versions().api_keys, "{lines}");
            assert!(lines.contains("Produce 0 11\n"), "{lines}");
            for absent in ["Telemetry", "ConsumerGroup", "ShareGroup", "Vote", "WriteTxn"] {
                assert!(!lines.contains(absent), "{absent} in {lines}");
            }
            // Clients take transactions of the second kind from this feature alone.
            assert!(told.finalized_features.iter().all(|it| it.name != "transaction.version"));
        }
        // From the future, more than once: the connection stays.
        for version in [5, 6, i16::MAX] {
            let mut bytes = framed(4, &request);
            bytes[6..8].copy_from_slice(&version.to_be_bytes());
            let frame = c.ask_raw(&bytes).await.expect("it is answered");
            let (id, told) =
                frame::decode_response::<ApiVersionsResponse<'_>>(ApiKey::ApiVersions, 0, &frame)
                    .expect("it is of version 0");
            assert_eq!((id, told.error_code), (7, ErrorCode::UnsupportedVersion.code()));
            assert_eq!(frame.len(), 4 + 2 + 4 + 6, "and nothing is behind it");
        }
        assert_eq!(told_of(c, 12, &named("t")).await, 1);
    });
}

/// One version below the least, one above the most: of every key.
#[test]
fn what_was_not_announced_ends_its_connection() {
    story(1, |client| async move {
        for api in APIS.iter().filter(|it| it.key != ApiKey::ApiVersions) {
            let versions = match api.accepted() {
                Some(it) => vec![it.min - 1, it.max + 1],
                None => vec![api.key.facts().versions.min],
            };
            for version in versions {
                let mut bytes = framed(0, &ApiVersionsRequest::default());
                bytes[4..6].copy_from_slice(&api.key.code().to_be_bytes());
                bytes[6..8].copy_from_slice(&version.to_be_bytes());
                let mut other = client.another().await;
                assert_eq!(other.ask_raw(&bytes).await, None, "{:?} {version}", api.key);
            }
        }
    });
}

/// Whatever is in it: a request whose key is accepted comes to somebody.
#[test]
fn every_accepted_key_has_a_handler() {
    story(2, |client| async move {
        for api in APIS {
            let Some(versions) = api.accepted() else { continue };
            let mut c = client.another().await;
            let mut frame = vec![0, 0, 0, 50];
            frame.extend((api.key as i16).to_be_bytes());
            frame.extend(versions.max.to_be_bytes());
            frame.extend([0; 46]);
            c.ask_raw(&frame).await;
        }
        let lost: Vec<_> =
            client.printed().into_iter().filter(|it| it.contains("has no handler")).collect();
        assert!(lost.is_empty(), "{lost:?}");
    });
}

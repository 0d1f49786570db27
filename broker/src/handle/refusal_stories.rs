//! Stories of batches and producers that are not taken, over real frames in the simulator.

use corelane_net::ErrorCode;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::find_coordinator::FindCoordinatorRequest;
use corelane_net::messages::init_producer_id::InitProducerIdRequest;
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane_net::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelane_net::wire::Records;
use corelane_storage::build::BatchBuilder;
use corelane_storage::compress::{Codec, Compressor, Level};

use crate::testing::{Client, answer, story};

/// Where a batch says its version.
const AT_MAGIC: usize = 16;

async fn make_topic(client: &mut Client) {
    let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
    let request = MetadataRequest {
        topics: Some([topic].into()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let frame = client.ask(9, &request).await;
    let topic = answer(9, &frame, &request).topics.first().expect("one topic");
    assert_eq!(topic.error_code, ErrorCode::None.code());
}

fn batch(value: &[u8]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    batch.record(0, None, Some(value));
    batch
}

fn zstd() -> Vec<u8> {
    batch(b"value").build_compressed(Codec::Zstd, Level::Default, &mut Compressor::new())
}

/// Sends a batch, and says what was told of it.
async fn send(client: &mut Client, version: i16, batch: &[u8]) -> (ErrorCode, String) {
    let partition = PartitionProduceData { index: 0, records: Some(Records::Bytes(batch)) };
    let topic =
        TopicProduceData { name: "t", partition_data: [partition].into(), ..Default::default() };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: [topic].into(),
        ..Default::default()
    };
    let frame = client.ask(version, &request).await;
    let topic = answer(version, &frame, &request).responses.first().expect("one topic");
    let told = topic.partition_responses.first().expect("one partition");
    let code = ErrorCode::from_code(told.error_code).expect("a known code");
    (code, told.error_message.unwrap_or_default().to_owned())
}

#[test]
fn clients_that_know_no_zstd_cannot_write_it() {
    story(2, |mut client| async move {
        let c = &mut client;
        make_topic(c).await;
        for version in 3..7 {
            let (code, _) = send(c, version, &zstd()).await;
            assert_eq!(code, ErrorCode::UnsupportedCompressionType, "version {version}");
            assert_eq!(send(c, version, &batch(b"x").build()).await.0, ErrorCode::None);
        }
        for version in 7..12 {
            assert_eq!(send(c, version, &zstd()).await.0, ErrorCode::None, "version {version}");
        }
        // Readers of any version are given what is stored, as Kafka does it by now.
        let partition = FetchPartition {
            partition: 0,
            fetch_offset: 4,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: "t", partitions: [partition].into(), ..Default::default() };
        let request =
            FetchRequest { max_bytes: 1 << 20, topics: [topic].into(), ..Default::default() };
        for version in 4..13 {
            let frame = c.ask(version, &request).await;
            let topic = answer(version, &frame, &request).responses.first().expect("one topic");
            let told = topic.partitions.first().expect("one partition");
            assert_eq!(told.error_code, ErrorCode::None.code(), "version {version}");
            assert!(told.records.is_some_and(|it| !it.is_empty()));
        }
    });
}

#[test]
fn what_is_wrong_with_a_batch_is_said_in_words() {
    story(2, |mut client| async move {
        let c = &mut client;
        make_topic(c).await;
        let large = batch(&vec![7; 2_000_000]).build();
        let (code, words) = send(c, 9, &large).await;
        assert_eq!(code, ErrorCode::MessageTooLarge);
        let bytes = large.len();
        assert_eq!(words, format!("The batch has {bytes} bytes, and max.message.bytes is 1048588"));
        let of_version = |magic: u8| {
            let mut batch = batch(b"value").build();
            batch[AT_MAGIC] = magic;
            batch
        };
        for magic in [0, 1] {
            let (code, words) = send(c, 9, &of_version(magic)).await;
            assert_eq!(code, ErrorCode::InvalidRecord);
            assert_eq!(words, format!("The batch has the version {magic}, and only 2 is taken"));
        }
        assert_eq!(send(c, 9, &of_version(3)).await.0, ErrorCode::CorruptMessage);
        let whole = batch(b"value").build();
        let (code, words) = send(c, 9, &whole[..whole.len() - 1]).await;
        assert_eq!(code, ErrorCode::InvalidRecord);
        let bytes = whole.len();
        let wanted = format!("The batch needs at least {bytes} bytes, and {} are there", bytes - 1);
        assert_eq!(words, wanted);
    });
}

#[test]
fn what_a_topic_takes_is_about_folded_bytes() {
    story(2, |mut client| async move {
        let c = &mut client;
        make_topic(c).await;
        let folded = |bytes: usize| {
            let mut fold = Compressor::new();
            batch(&vec![7; bytes]).build_compressed(Codec::Zstd, Level::Default, &mut fold)
        };
        assert_eq!(send(c, 9, &folded(2_000_000)).await.0, ErrorCode::None);
        let (code, words) = send(c, 9, &folded(34 << 20)).await;
        assert_eq!(code, ErrorCode::MessageTooLarge, "{words}");
    });
}

#[test]
fn a_transactional_producer_learns_at_once_that_there_are_no_transactions() {
    story(2, |mut client| async move {
        let c = &mut client;
        // Every client gives up at this one.
        let refused = ErrorCode::TransactionalIdAuthorizationFailed;
        for version in 1..7 {
            let request = FindCoordinatorRequest {
                key: if version < 4 { "tx" } else { "" },
                key_type: 1,
                coordinator_keys: ["tx"].into_iter().filter(|_| 4 <= version).collect(),
            };
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request);
            let (code, words) = match told.coordinators.first() {
                Some(it) => (it.error_code, it.error_message),
                None => (told.error_code, told.error_message),
            };
            assert_eq!(code, refused.code(), "version {version}");
            assert!(words.is_some_and(|it| it.contains("no transactions")), "{words:?}");
        }
        for version in 0..6 {
            let request = InitProducerIdRequest {
                transactional_id: Some("tx"),
                transaction_timeout_ms: 1000,
                ..Default::default()
            };
            let frame = c.ask(version, &request).await;
            let told = answer(version, &frame, &request);
            assert_eq!(told.error_code, refused.code());
            assert_eq!((told.producer_id, told.producer_epoch), (-1, -1));
        }
    });
}

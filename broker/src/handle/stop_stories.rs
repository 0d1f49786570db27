//! Stories of a broker that is told to end while clients wait for its answers.

use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane_net::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};

use crate::testing::{Client, answer, story};

/// Longer than a story may last.
const FOR_EVER_MS: i32 = i32::MAX;

/// What open requests get at most that wait for nobody else.
const AT_ONCE: Nanos = Nanos::secs(1);

async fn make_topic(client: &mut Client, name: &str) -> bool {
    let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
    let request = MetadataRequest {
        topics: Some([topic].into()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    client.try_ask(9, &request).await.is_some()
}

/// Tells the broker to end after so long, on a connection of its own.
async fn end_after(client: &Client, span: Nanos) {
    let mut other = client.another().await;
    client.beside(async move {
        other.sleep(span).await;
        other.end_broker();
        // Lanes are woken by questions of each other; making topics asks one.
        for at in 0.. {
            if !make_topic(&mut other, &format!("made-{at}")).await {
                return;
            }
        }
    });
}

#[test]
fn a_fetch_that_waits_is_answered_when_the_broker_ends() {
    story(2, |mut client| async move {
        // Of one lane and of the other.
        for name in ["a", "b", "c", "d", "e", "f"] {
            assert!(make_topic(&mut client, name).await);
        }
        end_after(&client, Nanos::secs(2)).await;
        let partition = || FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let topic =
            |topic| FetchTopic { topic, partitions: [partition()].into(), ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: FOR_EVER_MS,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: ["a", "b", "c", "d", "e", "f"].map(topic).into(),
            ..Default::default()
        };
        let began = client.now();
        let frame = client.ask(12, &request).await;
        let told = answer(12, &frame, &request);
        assert_eq!((told.error_code, told.responses.len()), (0, 6));
        for topic in &told.responses {
            for it in &topic.partitions {
                assert_eq!((it.error_code, it.high_watermark), (0, 0));
            }
        }
        let took = client.now().since(began);
        assert!(Nanos::secs(2) <= took && took < Nanos::secs(2) + AT_ONCE, "{took:?}");
    });
}

#[test]
fn a_member_that_waits_for_its_group_looks_elsewhere_when_the_broker_ends() {
    story(2, |mut client| async move {
        let protocol = || JoinGroupRequestProtocol { name: "range", metadata: &[] };
        for group in ["one", "two", "three", "four"] {
            let request = || JoinGroupRequest {
                group_id: group,
                session_timeout_ms: 1_000_000,
                rebalance_timeout_ms: FOR_EVER_MS,
                protocol_type: "consumer",
                protocols: [protocol()].into(),
                ..Default::default()
            };
            let frame = client.ask(3, &request()).await;
            assert_eq!(answer(3, &frame, &request()).error_code, ErrorCode::None.code());
        }
        // The first member of each group does not come again.
        let waiting = |group: &'static str, mut other: Client| async move {
            let request = JoinGroupRequest {
                group_id: group,
                session_timeout_ms: 1_000_000,
                rebalance_timeout_ms: FOR_EVER_MS,
                protocol_type: "consumer",
                protocols: [protocol()].into(),
                ..Default::default()
            };
            let began = other.now();
            let frame = other.ask(3, &request).await;
            let told = answer(3, &frame, &request).error_code;
            assert_eq!(told, ErrorCode::CoordinatorNotAvailable.code(), "{group}");
            let took = other.now().since(began);
            assert!(Nanos::secs(2) <= took && took < Nanos::secs(3) + AT_ONCE, "{took:?}");
        };
        let mut others = Vec::new();
        for group in ["one", "two", "three", "four"] {
            others.push(waiting(group, client.another().await));
        }
        end_after(&client, Nanos::secs(3)).await;
        corelane_core::lane::join_all(others).await;
    });
}

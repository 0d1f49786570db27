//! A byte that rots on the medium, met by clients of the whole broker: its partition is offline from
//! then on, at every start, and nobody is given a wrong byte. The others serve.

use std::cell::Cell;
use std::num::NonZeroU16;
use std::rc::Rc;

use corelane_bench::worlds::server::{PORT, Server};
use corelane_client::conn::{ConnOptions, Connection};
use corelane_client::{Client, Options};
use corelane_core::lane::Lane;
use corelane_core::ring::sim::{Disk, Faults, World};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelane_net::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelane_net::wire::{Records, Uuid};
use corelane_storage::batch::Batches;
use corelane_storage::build::BatchBuilder;

use crate::guard::guarded;

const SEGMENT: &str = "/data/t-0/00000000000000000000.log";

/// Batches of each partition, and the bytes of each. Those of the first partition fill its journal so
/// far that a checkpoint comes, which knows its first segments sealed.
const BATCHES: [i64; 2] = [300, 30];
const BATCH_BYTES: usize = 60_000;

const LANES: NonZeroU16 = NonZeroU16::new(2).expect("two");

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a known code")
}

/// The only record of a batch.
fn value(partition: i32, offset: i64) -> Vec<u8> {
    let mut value = format!("{partition}/{offset} ").into_bytes();
    value.resize(BATCH_BYTES, b'a' + (offset % 26) as u8);
    value
}

struct Wire {
    connection: Connection,
    id: Uuid,
}

impl Wire {
    async fn produce(&self, partition: i32, offset: i64) -> ErrorCode {
        let mut batch = BatchBuilder::new();
        batch.record(1_700_000_000_000, None, Some(&value(partition, offset)));
        let batch = batch.build();
        let partitions =
            [PartitionProduceData { index: partition, records: Some(Records::Bytes(&batch)) }];
        let topics = [TopicProduceData {
            name: "t",
            topic_id: self.id,
            partition_data: (&partitions).into(),
        }];
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 5_000,
            topic_data: (&topics).into(),
            ..Default::default()
        };
        let answer = self.connection.call(&request).await.expect("an answer");
        let said = answer.decode::<ProduceResponse<'_>>().expect("readable");
        let topic = said.responses.first().expect("the topic");
        code(topic.partition_responses.first().expect("the partition").error_code)
    }

    /// The error, and how many records from `from` on are there, every one as it was sent.
    async fn fetch(&self, partition: i32, from: i64) -> (ErrorCode, i64) {
        let wanted = [FetchPartition {
            partition,
            fetch_offset: from,
            partition_max_bytes: 100_000,
            ..Default::default()
        }];
        let topics = [FetchTopic { topic: "t", topic_id: self.id, partitions: (&wanted).into() }];
        let request = FetchRequest {
            max_bytes: 100_000,
            session_epoch: -1,
            topics: (&topics).into(),
            ..Default::default()
        };
        let answer = self.connection.call(&request).await.expect("an answer");
        let said = answer.decode::<FetchResponse<'_>>().expect("readable");
        let topic = said.responses.first().expect("the topic");
        let it = topic.partitions.first().expect("the partition");
        let bytes = it.records.map(|it| it.bytes().to_vec()).unwrap_or_default();
        let mut count = 0;
        for batch in Batches::new(&bytes) {
            let Ok(batch) = batch else { break };
            let mut sent = BatchBuilder::new();
            sent.record(1_700_000_000_000, None, Some(&value(partition, from + count)));
            assert_eq!(batch.base_offset().0, from + count);
            let (sent, found) = (sent.build(), batch.bytes());
            assert!(found[21..] == sent[21..], "offset {} has other bytes", from + count);
            count += 1;
        }
        (code(it.error_code), count)
    }

    /// Reads a partition from its start until it ends, or an error says why not.
    async fn read(&self, partition: i32) -> (ErrorCode, i64) {
        let mut at = 0;
        loop {
            match self.fetch(partition, at).await {
                (ErrorCode::None, 0) => return (ErrorCode::None, at),
                (ErrorCode::None, count) => at += count,
                (error, _) => return (error, at),
            }
        }
    }

    async fn latest(&self, partition: i32) -> ErrorCode {
        let wanted = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp: -1,
        };
        let topics = [ListOffsetsTopic { name: "t", partitions: [wanted].into() }];
        let request =
            ListOffsetsRequest { replica_id: -1, topics: (&topics).into(), ..Default::default() };
        let answer = self.connection.call(&request).await.expect("an answer");
        let said = answer.decode::<ListOffsetsResponse<'_>>().expect("readable");
        let topic = said.topics.first().expect("the topic");
        code(topic.partitions.first().expect("the partition").error_code)
    }

    /// Of each partition its error, leader and offline replicas.
    async fn metadata(&self) -> Vec<(ErrorCode, i32, Vec<i32>)> {
        let topics = [MetadataRequestTopic { name: Some("t"), ..Default::default() }];
        let request = MetadataRequest { topics: Some((&topics).into()), ..Default::default() };
        let answer = self.connection.call(&request).await.expect("an answer");
        let said = answer.decode::<MetadataResponse<'_>>().expect("readable");
        let topic = said.topics.first().expect("the topic");
        let told = topic.partitions.iter();
        let mut told: Vec<_> = told
            .map(|it| {
                let offline = it.offline_replicas.iter().collect();
                (it.partition_index, (code(it.error_code), it.leader_id, offline))
            })
            .collect();
        told.sort_unstable_by_key(|it| it.0);
        told.into_iter().map(|it| it.1).collect()
    }

    /// A damaged partition 0 beside a whole partition 1.
    async fn expect_one_offline(&self) {
        let storage = ErrorCode::KafkaStorageError;
        assert_eq!(self.fetch(0, 0).await, (storage, 0));
        assert_eq!(self.produce(0, 0).await, storage);
        assert_eq!(self.latest(0).await, storage);
        assert_eq!(self.read(1).await, (ErrorCode::None, BATCHES[1]));
        assert_eq!(self.latest(1).await, ErrorCode::None);
        let told = self.metadata().await;
        let node = told[1].1;
        let offline = (ErrorCode::LeaderNotAvailable, -1, vec![node]);
        assert_eq!(told, [offline, (ErrorCode::None, node, vec![])]);
    }
}

/// Tells a story to the running broker, from a machine of its own.
fn tell<F: Future<Output = ()> + 'static>(
    world: &mut World,
    server: &Server,
    story: impl Fn(Lane, Connection) -> F + Copy + 'static,
) {
    let (client, addr) = (world.node(1), world.addr(server.node, PORT));
    let done = Rc::new(Cell::new(false));
    let told = Rc::clone(&done);
    world.start(client, move |lane| {
        let told = Rc::clone(&told);
        async move {
            let connection = loop {
                match Connection::open(&lane, addr, &ConnOptions::default()).await {
                    Ok(it) => break it,
                    // The broker is starting.
                    Err(_) => lane.sleep(Nanos::millis(20)).await,
                }
            };
            story(lane, connection).await;
            told.set(true);
        }
    });
    let limit = world.now() + Nanos::secs(600);
    while !done.get() && world.now() < limit {
        world.run_for(Nanos::millis(50));
        let trouble = server.watch(world);
        assert!(trouble.is_none(), "the broker goes on: {:?}", trouble.map(|it| it.what));
    }
    assert!(done.get(), "the story ends; the broker said {:?}", server.said.borrow());
}

async fn wire(lane: &Lane, connection: Connection) -> Wire {
    let client = Client::new(lane, Options::new(vec![connection.peer()]));
    let id = client.topic("t").await.expect("it is there").id;
    Wire { connection, id }
}

fn said_where(server: &Server) -> usize {
    let said = server.said.borrow();
    said.iter().filter(|it| it.contains("is offline") && it.contains(SEGMENT)).count()
}

/// A disk with both partitions on it, and the broker's machine gone.
fn written() -> Disk {
    let mut world = World::new(7, Faults::none());
    let server = Server::new(&mut world, LANES, None);
    server.start(&mut world);
    tell(&mut world, &server, |lane, connection| async move {
        let client = Client::new(&lane, Options::new(vec![connection.peer()]));
        let config = [("segment.bytes", "1048576")];
        client.create_topic("t", 2, &config).await.expect("made");
        let wire = wire(&lane, connection).await;
        for (partition, batches) in (0..).zip(BATCHES) {
            for offset in 0..batches {
                assert_eq!(wire.produce(partition, offset).await, ErrorCode::None);
            }
        }
        lane.sleep(Nanos::secs(20)).await;
    });
    world.kill(server.node);
    world.disk(server.node)
}

/// One bit of the first segment of partition 0 rots, long after the checkpoint knew it.
fn rots(disk: &Disk, byte: u64) {
    let mut world = World::new(8, Faults::none());
    let server = Server::new(&mut world, LANES, None);
    world.replace_disk(server.node, disk.clone());
    assert!(world.with_disk(server.node, |disk| disk.rot(SEGMENT, byte, 3)));
    let rotten = world.disk(server.node).content(SEGMENT);
    server.start(&mut world);
    tell(&mut world, &server, |lane, connection| async move {
        let wire = wire(&lane, connection).await;
        assert_eq!(wire.latest(0).await, ErrorCode::None, "no start reads what is not dirty");
        let (error, end) = wire.read(0).await;
        assert_eq!(error, ErrorCode::KafkaStorageError);
        assert!(end < BATCHES[0]);
        // The other lanes are told of it now and then.
        lane.sleep(Nanos::secs(3)).await;
        wire.expect_one_offline().await;
    });
    assert_eq!(said_where(&server), 1, "{:?}", server.said.borrow());
    world.kill(server.node);
    server.restart(&mut world);
    tell(&mut world, &server, |lane, connection| async move {
        wire(&lane, connection).await.expect_one_offline().await;
    });
    assert_eq!(said_where(&server), 2, "{:?}", server.said.borrow());
    assert!(world.disk(server.node).content(SEGMENT) == rotten, "it is kept as it is");
}

/// In a record; in an offset and in an epoch, which no checksum of the batch itself covers.
#[test]
fn a_rotten_byte_takes_its_partition_offline_and_no_other() {
    guarded(|| {
        let disk = written();
        for byte in [300_000, 7, 15] {
            rots(&disk, byte);
        }
    });
}

//! Produce and Fetch, the two requests that carry records: no allocation on the way in, none on
//! the way out once buffers have their size, and records that stay outside fall into place.

use crate::allocations::requested_by;
use corelane_net::{
    api::ApiKey,
    frame::{self, Incoming},
    messages::{
        fetch::{
            AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
            FetchableTopicResponse, PartitionData,
        },
        produce::{
            PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
            TopicProduceData, TopicProduceResponse,
        },
    },
    wire::{Array, Message, Records, Request, Splice, Uuid, Writer, range_of},
};

fn frame_of<'a, R: Request<'a>>(version: i16, request: &R) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode_request(version, 1, Some("me"), request, &mut Writer::copying(&mut out)).unwrap();
    out.split_off(4)
}

#[test]
fn a_produce_request_is_read_and_answered_without_allocation() {
    let batches: Vec<Vec<u8>> = (0u8..20).map(|it| vec![it; 200]).collect();
    let partitions = || {
        (0..).zip(&batches).map(|(index, batch)| PartitionProduceData {
            index,
            records: Some(Records::Bytes(batch)),
        })
    };
    for version in 3..=11 {
        let topic = |name| TopicProduceData {
            name,
            partition_data: partitions().collect(),
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            topic_data: [topic("one"), topic("two")].into(),
            ..Default::default()
        };
        let bytes = frame_of(version, &request);
        let (mut places, mut indexes) = (Vec::with_capacity(40), Vec::with_capacity(40));
        let mut out = Vec::with_capacity(4096);
        let ((), requested) = requested_by(|| {
            let Ok(Incoming::Request { head, body }) = frame::open(&bytes) else { panic!() };
            let (request, _) = ProduceRequest::decode(body, head.version).unwrap();
            for topic in &request.topic_data {
                for partition in &topic.partition_data {
                    let records = partition.records.unwrap_or_default();
                    places.push(range_of(&bytes, records.bytes()));
                    indexes.push(partition.index);
                }
            }
            let answer =
                |at: usize| PartitionProduceResponse { index: indexes[at], ..Default::default() };
            let topics = [("one", 0..20), ("two", 20..40)].map(|(name, numbers)| {
                let partition_responses = Array::made(numbers, &answer);
                TopicProduceResponse { name, partition_responses, ..Default::default() }
            });
            let answer = ProduceResponse { responses: (&topics).into(), ..Default::default() };
            let writer = &mut Writer::copying(&mut out);
            frame::encode_response(ApiKey::Produce, version, 1, &answer, writer).unwrap();
        });
        assert_eq!(requested.times, 0, "version {version}");
        let found: Vec<&[u8]> = places.into_iter().map(|it| &bytes[it]).collect();
        assert_eq!(found, [batches.clone(), batches.clone()].concat());
        let (_, answer): (_, ProduceResponse<'_>) =
            frame::decode_response(ApiKey::Produce, version, &out[4..]).unwrap();
        assert_eq!(
            answer.responses.iter().map(|it| it.partition_responses.len()).sum::<usize>(),
            40
        );
    }
}

#[test]
fn an_answer_made_while_it_is_written_is_the_one_that_was_gathered_before() {
    let partition = |at: usize| PartitionProduceResponse {
        index: i32::try_from(at).unwrap(),
        base_offset: 1 << at,
        ..Default::default()
    };
    // Topics share the numbers of all partitions.
    let parts = [0..3, 3..3, 3..9];
    let made = |at: usize| TopicProduceResponse {
        name: ["one", "none", "two"][at],
        partition_responses: Array::made(parts[at].clone(), &partition),
        ..Default::default()
    };
    let gathered = |at: usize| TopicProduceResponse {
        partition_responses: parts[at].clone().map(partition).collect(),
        ..made(at)
    };
    let made = ProduceResponse { responses: Array::made(0..3, &made), ..Default::default() };
    let gathered =
        ProduceResponse { responses: (0..3).map(gathered).collect(), ..Default::default() };
    assert_eq!(made, gathered);
    assert_eq!(made.responses.iter().map(|it| it.partition_responses.len()).sum::<usize>(), 9);
    for version in 3..=11 {
        let mut out = Vec::with_capacity(1024);
        let (wrote, requested) = requested_by(|| made.encode(version, &mut out));
        assert_eq!((wrote, requested.times), (Ok(()), 0), "version {version}");
        let mut expected = Vec::new();
        gathered.encode(version, &mut expected).unwrap();
        assert_eq!(out, expected, "version {version}");
    }
}

#[test]
fn a_fetch_request_is_read_without_allocation() {
    for version in 4..=18 {
        let partition = |partition| FetchPartition {
            partition,
            fetch_offset: 1 << 40,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let (topic, topic_id) = if version < 13 { ("t", Uuid::ZERO) } else { ("", Uuid([7; 16])) };
        let topic = FetchTopic { topic, topic_id, partitions: (0..100).map(partition).collect() };
        let bytes =
            frame_of(version, &FetchRequest { topics: [topic].into(), ..Default::default() });
        let (wanted, requested) = requested_by(|| {
            let Ok(Incoming::Request { head, body }) = frame::open(&bytes) else { panic!() };
            let (request, _) = FetchRequest::decode(body, head.version).unwrap();
            let partitions = request.topics.iter().map(|it| {
                it.partitions
                    .iter()
                    .map(|it| i64::from(it.partition) + it.fetch_offset)
                    .sum::<i64>()
            });
            partitions.sum::<i64>()
        });
        assert_eq!(wanted, (100 << 40) + 99 * 50);
        assert_eq!(requested.times, 0, "version {version}");
    }
}

/// Sends as a lane does: header bytes, records, header bytes.
fn joined(out: &[u8], splices: &[Splice], extents: &[&[u8]]) -> Vec<u8> {
    assert_eq!(splices.len(), extents.len());
    let (mut wire, mut sent) = (Vec::new(), 0);
    for (splice, extent) in splices.iter().zip(extents) {
        assert_eq!(splice.bytes as usize, extent.len());
        wire.extend_from_slice(&out[sent..splice.at]);
        wire.extend_from_slice(extent);
        sent = splice.at;
    }
    wire.extend_from_slice(&out[sent..]);
    wire
}

#[test]
fn records_left_outside_make_the_same_frame_as_records_copied() {
    let extents: [&[u8]; 3] = [&[1; 100], &[], &[3; 70_000]];
    for version in 4..=18 {
        let aborted = [AbortedTransaction { producer_id: 5, first_offset: 6 }];
        let answer = |outside: bool| {
            let partitions = (0..).zip(extents).map(|(partition_index, extent)| PartitionData {
                partition_index,
                aborted_transactions: Some((&aborted).into()),
                records: Some(if outside {
                    Records::Outside { bytes: u32::try_from(extent.len()).unwrap() }
                } else {
                    Records::Bytes(extent)
                }),
                ..Default::default()
            });
            let partitions = partitions.collect();
            let topic = FetchableTopicResponse { topic: "t", partitions, ..Default::default() };
            FetchResponse { responses: [topic].into(), ..Default::default() }
        };
        let mut copied = Vec::new();
        let writer = &mut Writer::copying(&mut copied);
        frame::encode_response(ApiKey::Fetch, version, 9, &answer(false), writer).unwrap();

        let (mut out, mut splices) = (Vec::with_capacity(1024), Vec::with_capacity(8));
        let outside = answer(true);
        let (result, requested) = requested_by(|| {
            let writer = &mut Writer::splicing(&mut out, &mut splices);
            frame::encode_response(ApiKey::Fetch, version, 9, &outside, writer)
        });
        result.unwrap();
        assert_eq!(requested.times, 0, "version {version}");
        assert_eq!(joined(&out, &splices, &extents), copied, "version {version}");
    }
}

#[test]
fn a_writer_that_copies_refuses_records_left_outside_and_leaves_nothing_behind() {
    let partition =
        PartitionData { records: Some(Records::Outside { bytes: 5 }), ..Default::default() };
    let topic = FetchableTopicResponse { partitions: [partition].into(), ..Default::default() };
    let answer = FetchResponse { responses: [topic].into(), ..Default::default() };
    let mut out = vec![1, 2, 3];
    let error = answer.encode(12, &mut out).unwrap_err();
    assert_eq!(error.to_string(), "5 bytes of records were left outside a writer that copies");
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn a_field_the_version_has_no_place_for_is_an_error_unless_it_may_be_dropped() {
    let request = FetchRequest { rack_id: "here", ..Default::default() };
    assert!(request.encode(4, &mut Vec::new()).is_ok(), "the rack may be dropped");

    let request = ProduceRequest { transactional_id: None, ..Default::default() };
    assert!(request.encode(3, &mut Vec::new()).is_ok());

    let response = FetchResponse { session_id: 5, ..Default::default() };
    let error = response.encode(6, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "field session_id is set and version 6 has no place for it");
}

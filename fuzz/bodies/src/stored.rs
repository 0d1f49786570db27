//! What lies on the disk of a broker and is read when it starts: batches, journal frames, indexes,
//! checkpoints.
//!
//! A checksum keeps nearly every mutant out, and what is behind it unread. So each body takes the bytes
//! twice: as they are, and with the checksum that belongs to them.

use corelane_core::ids::{
    LaneId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
use corelane_storage::batch::{Batch, Batches};
use corelane_storage::build::BatchBuilder;
use corelane_storage::chain::{Chain, ChainHead};
use corelane_storage::checkpoint::{
    Checkpoint, CheckpointHead, ExtentSum, PartitionRecord, Section, SegmentRecord, encode_section,
};
use corelane_storage::checksum;
use corelane_storage::compress::{Codec, Compressor, Decompressor, Level};
use corelane_storage::epochs::LeaderEpochs;
use corelane_storage::frame::{
    BLOCK_BYTES, Body, Entry, EntryHead, Frame, FrameEncoder, FrameHeader, FramePlace, JournalId,
};
use corelane_storage::index::{INTERVAL_BYTES, Index, IndexBuilder, IndexedBatch};
use corelane_storage::producers::Producers;
use corelane_storage::record::Records;
use corelane_storage::validate::{AppendRules, Scratch, validate};

use crate::Target;

/// Any bytes as record batches: read back, and as an append of a client.
pub const BATCH: Target = Target { name: "log_batch", body: batches, seeds: batch_seeds };

/// Any bytes as a frame of a journal, with the chain that it is to continue.
pub const FRAME: Target = Target { name: "log_frame", body: frame, seeds: frame_seeds };

/// Any bytes as the index of a segment.
pub const INDEX: Target = Target { name: "log_index", body: index, seeds: index_seeds };

/// Any bytes as the checkpoint of a lane.
pub const CHECKPOINT: Target =
    Target { name: "log_checkpoint", body: checkpoint, seeds: checkpoint_seeds };

/// What one batch may unfold to.
const UNFOLD_BYTES_MAX: usize = 1 << 20;

const TIME_MS: i64 = 1_700_000_000_000;

const JOURNAL: JournalId = JournalId([7; 16]);
const PLACE: FramePlace = FramePlace { file: 3, position: 8192 };
const BEFORE: ChainHead =
    ChainHead { journal: JOURNAL, incarnation: 5, sequence: 11, checksum: 99 };

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition: PartitionIndex(2) }
}

/// Puts the checksum of `bytes[from..to]` at `at`.
fn summed(bytes: &[u8], at: usize, from: usize, to: usize, big_endian: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if from <= to
        && at + 4 <= bytes.len()
        && let Some(covered) = bytes.get(from..to)
    {
        let sum = checksum::of(covered);
        let sum = if big_endian { sum.to_be_bytes() } else { sum.to_le_bytes() };
        bytes[at..at + 4].copy_from_slice(&sum);
    }
    bytes
}

fn number(bytes: &[u8], at: usize) -> usize {
    let four = bytes.get(at..).and_then(|it| it.first_chunk::<4>());
    four.map_or(0, |it| u32::from_le_bytes(*it) as usize)
}

// --- batches ------------------------------------------------------------------------------------------

fn batches(bytes: &[u8]) {
    read_batches(bytes);
    let Ok((first, _)) = Batch::split(bytes) else { return };
    let whole = first.bytes().len();
    let mended = summed(bytes, 17, 21, whole, true);
    read_batches(&mended);
    let mut append = mended[..whole].to_vec();
    let mut scratch = Scratch::new(UNFOLD_BYTES_MAX);
    if let Ok(accepted) = validate(&AppendRules::default(), TIME_MS, &mut append, &mut scratch) {
        let taken = if accepted.replaced { scratch.replaced() } else { &mut append };
        let (batch, rest) = Batch::split(taken).expect("what is taken is a batch");
        assert!(rest.is_empty());
        assert_eq!(batch.crc(), batch.computed_crc());
        assert_eq!(batch.record_count(), i32::try_from(accepted.records).expect("counted"));
        let read = read_records(&batch).expect("what is taken unfolds");
        assert_eq!(read, accepted.records as usize, "every record of what is taken is whole");
    }
}

fn read_batches(bytes: &[u8]) {
    let mut total = 0;
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { return };
        total += batch.bytes().len();
        let _next = (batch.next_offset(), batch.max_timestamp(), batch.whole_crc());
        if batch.crc() == batch.computed_crc() {
            // What does not unfold is an error, and no more.
            let _read = read_records(&batch);
        }
    }
    assert_eq!(total, bytes.len(), "every byte belongs to a batch, or there was an error");
}

fn read_records(batch: &Batch<'_>) -> Option<usize> {
    let codec = Codec::from_number(batch.attributes().codec_number())?;
    let mut unfold = Decompressor::new();
    let payload = unfold.decompress(codec, batch.payload(), UNFOLD_BYTES_MAX).ok()?;
    assert!(payload.len() <= UNFOLD_BYTES_MAX);
    let mut count = 0;
    for record in Records::new(payload, u32::try_from(batch.record_count()).ok()?) {
        let record = record.ok()?;
        let _headers = record.headers().count();
        count += 1;
    }
    Some(count)
}

fn batch_seeds() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    builder.record(TIME_MS, None, Some(b"value"));
    let plain = builder.build();
    let header: [(&str, Option<&[u8]>); 2] = [("name", Some(b"value")), ("none", None)];
    builder.record_with_headers(TIME_MS + 5, Some(b"key"), None, &header);
    builder.record(TIME_MS + 3, Some(b"key"), Some(&[b'a'; 300]));
    builder.producer(ProducerId(4), ProducerEpoch(1), 7);
    builder.place(Offset(1000), LeaderEpoch(3));
    let mut seeds = vec![plain.clone(), builder.build()];
    let mut compressor = Compressor::new();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        seeds.push(builder.build_compressed(codec, Level::Default, &mut compressor));
    }
    seeds.push([plain.clone(), plain].concat());
    seeds
}

// --- frames -------------------------------------------------------------------------------------------

fn frame(bytes: &[u8]) {
    read_frame(bytes);
    read_frame(&summed(bytes, 12, 16, number(bytes, 64), false));
}

fn read_frame(bytes: &[u8]) {
    let Ok(length) = Frame::length(bytes) else { return };
    let place = Frame::claimed_place(bytes).expect("it looks like a frame");
    let Ok(frame) = Frame::decode(bytes, place) else { return };
    assert_eq!(frame.bytes, length);
    let entries = frame.entries().map(|it| (it.encoded_bytes(), it.body.log_bytes()));
    assert!(entries.map(|it| it.0).sum::<usize>() <= length, "entries lie in their frame");
    let mut chain = Chain::from(BEFORE);
    if chain.offer(&frame).is_ok() {
        assert_eq!(chain.head().sequence, BEFORE.sequence + 1);
    } else {
        chain.witness(&frame.header);
    }
    let _end = chain.end();
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let head = EntryHead {
        of: partition(),
        ownership: 1,
        leader_epoch: LeaderEpoch(2),
        base: Offset(10),
        end: Offset(12),
        segment: Offset(0),
        position: 4000,
    };
    let extent = [5; 96]; // up to a whole block from position 4000
    let bodies = [
        Body::Create { name: "orders" },
        Body::Data { bytes: &[1; 300] },
        Body::Carried { bytes: &[2; 40] },
        Body::Extent { head: &extent, extent_bytes: 8192, extent_checksum: 4, tail: b"tail" },
        Body::Truncate,
        Body::Roll,
        Body::LogStart,
        Body::EpochStart,
        Body::Delete,
    ];
    let seal = |bodies: &[Body<'_>]| {
        let budget = 2 * BLOCK_BYTES;
        let (mut encoder, mut out) = (FrameEncoder::new(budget), vec![0; budget]);
        for body in bodies {
            encoder.push(&mut out, &Entry { head, body: *body }, None).expect("it fits");
        }
        let header = FrameHeader {
            journal: JOURNAL,
            incarnation: BEFORE.incarnation,
            sequence: BEFORE.sequence + 1,
            previous: BEFORE.checksum,
            durable: BEFORE.sequence,
            place: PLACE,
        };
        let sealed = encoder.seal(&mut out, &header);
        out.truncate(sealed.bytes);
        out
    };
    vec![seal(&bodies), seal(&bodies[1..2]), seal(&[])]
}

// --- indexes ------------------------------------------------------------------------------------------

fn index(bytes: &[u8]) {
    read_index(bytes);
    read_index(&summed(bytes, 12, 16, number(bytes, 16), false));
}

fn read_index(bytes: &[u8]) {
    let Ok(index) = Index::decode(bytes, partition(), Offset(100)) else { return };
    let length = index.length();
    for (offset, position) in index.entries_by_offset() {
        assert!(position < length && Offset(100) <= offset);
        assert!(index.position_of(offset) <= position);
        let _bound = index.bound_before(offset);
    }
    for timestamp in [i64::MIN, -1, TIME_MS, i64::MAX] {
        assert!(index.position_at(timestamp).is_none_or(|it| it <= length));
    }
    assert!(index.extents().iter().all(|it| u64::from(it.position) <= u64::from(length)));
    let _rest = (index.latest(), index.aborted().len(), index.extents_over(0, length).len());
}

fn index_seeds() -> Vec<Vec<u8>> {
    let seed = |batches: u32, extents: &[ExtentSum]| {
        let mut builder = IndexBuilder::new(partition(), Offset(100), INTERVAL_BYTES);
        for at in 0..batches {
            let base = Offset(100 + 2 * i64::from(at));
            builder.add(&IndexedBatch {
                base,
                last: base.advance(1),
                position: 3000 * at,
                bytes: 3000,
                max_timestamp: TIME_MS + i64::from(at),
                max_timestamp_offset: base,
            });
        }
        let mut out = Vec::new();
        builder.encode(&[], extents, &mut out);
        out
    };
    let extent = |position, bytes| ExtentSum { position, bytes, checksum: 3 };
    vec![seed(0, &[]), seed(9, &[]), seed(40, &[extent(0, 4096), extent(4096, 8192)])]
}

// --- checkpoints --------------------------------------------------------------------------------------

fn checkpoint(bytes: &[u8]) {
    read_checkpoint(bytes);
    read_checkpoint(&summed(bytes, 12, 16, number(bytes, 24), false));
}

fn read_checkpoint(bytes: &[u8]) {
    let Ok(read) = Checkpoint::load(bytes) else { return };
    assert!(read.bytes <= bytes.len());
    for it in read.partitions.values() {
        assert!(!it.segments.is_empty(), "a record has a segment");
    }
    // What was understood is written and understood again.
    let mut out = Vec::new();
    encode_section(Section::Full, &read.head, read.partitions.values(), &[], &mut out);
    let again = Checkpoint::load(&out).expect("what we wrote ourselves");
    assert_eq!((again.head, again.partitions), (read.head, read.partitions));
}

fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let head = CheckpointHead {
        lane: LaneId(1),
        generation: 4,
        from: BEFORE,
        from_place: PLACE,
        as_of: 17,
    };
    let segment = |base, sealed, extents| SegmentRecord {
        base: Offset(base),
        stored: 8192,
        length: 8192 + if sealed { 0 } else { 100 },
        sealed,
        extents,
    };
    let mut epochs = LeaderEpochs::default();
    epochs.assign(LeaderEpoch(0), Offset(0)).expect("the first");
    epochs.assign(LeaderEpoch(2), Offset(12)).expect("the next");
    let record = PartitionRecord {
        of: partition(),
        topic: "orders".to_owned(),
        ownership: 1,
        log_start: Offset(3),
        end: Offset(30),
        high_watermark: Offset(30),
        segments: vec![
            segment(0, true, Vec::new()),
            segment(20, false, vec![ExtentSum { position: 0, bytes: 8192, checksum: 5 }]),
        ],
        epochs,
        producers: Producers::default(),
    };
    let mut full = Vec::new();
    let previous = encode_section(Section::Full, &head, [&record].into_iter(), &[], &mut full);
    let mut both = full.clone();
    let delta = Section::Delta { previous };
    let later = CheckpointHead { generation: 5, as_of: 20, ..head };
    encode_section(delta, &later, std::iter::empty(), &[partition()], &mut both);
    let mut empty = Vec::new();
    encode_section(Section::Full, &head, std::iter::empty(), &[], &mut empty);
    vec![full, both, empty]
}

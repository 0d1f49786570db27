//! Batches as Kafka's Java client 4.3 writes them, one for each codec: what we build must have the
//! same bytes, what we validate must be taken, what we unfold must be the same records.
//!
//! Each holds the same three records of producer 4000, epoch 3, from sequence 17 on.

use crate::{
    batch::Batch,
    build::BatchBuilder,
    compress::{Codec, Compressor, Decompressor, Level},
    record::Records,
    validate::{AppendRules, Compression, Scratch, validate},
};
use corelane_core::ids::{ProducerEpoch, ProducerId};

const NOW_MS: i64 = 1_700_000_000_000;

const JAVA: [(Codec, &[u8]); 5] = [
    (Codec::None, include_bytes!("golden/java-none.bin")),
    (Codec::Gzip, include_bytes!("golden/java-gzip.bin")),
    (Codec::Snappy, include_bytes!("golden/java-snappy.bin")),
    (Codec::Lz4, include_bytes!("golden/java-lz4.bin")),
    (Codec::Zstd, include_bytes!("golden/java-zstd.bin")),
];

fn ours() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.producer(ProducerId(4000), ProducerEpoch(3), 17);
    let header = |name, value| [(name, value)];
    builder
        .record_with_headers(NOW_MS, Some(b"key0"), Some(&[b'a'; 400]), &header("h0", None))
        .record_with_headers(
            NOW_MS + 50,
            Some(b"key1"),
            Some(&[b'b'; 400]),
            &header("h1", Some(&[1, 2, 1])),
        )
        .record_with_headers(NOW_MS + 2, None, Some(&[b'c'; 400]), &header("h2", Some(&[1, 2, 2])));
    builder
}

#[test]
fn an_uncompressed_batch_has_the_same_bytes() {
    assert_eq!(ours().build(), JAVA[0].1);
}

#[test]
fn javas_batches_are_taken_as_they_lie_and_unfold_to_the_same_records() {
    let plain = ours().build();
    let plain = Batch::split(&plain).unwrap().0;
    let mut unfold = Decompressor::new();
    for (codec, bytes) in JAVA {
        let mut sent = bytes.to_vec();
        let mut scratch = Scratch::new(1 << 20);
        let it = validate(&AppendRules::default(), NOW_MS, &mut sent, &mut scratch).unwrap();
        assert_eq!((&sent[..], it.codec, it.records, it.replaced), (bytes, codec, 3, false));
        assert_eq!((it.max_timestamp, it.max_timestamp_delta), (NOW_MS + 50, 1));
        let stamp = it.producer.unwrap();
        assert_eq!((stamp.base_sequence, stamp.last_sequence), (17, 19));
        let batch = Batch::split(bytes).unwrap().0;
        let payload = unfold.decompress(codec, batch.payload(), 10_000).unwrap();
        assert_eq!(payload, plain.payload(), "{codec:?}");
        assert_eq!(Records::new(payload, 3).filter_map(Result::ok).count(), 3);
    }
}

#[test]
fn each_of_them_turns_into_each_other_codec() {
    let plain = ours().build();
    for (_, bytes) in JAVA {
        for to in Codec::ALL {
            let compression = Compression::Fixed(to, Level::Default);
            let rules = AppendRules { compression, ..AppendRules::default() };
            let mut sent = bytes.to_vec();
            let mut scratch = Scratch::new(1 << 20);
            let it = validate(&rules, NOW_MS, &mut sent, &mut scratch).unwrap();
            let stored = if it.replaced { scratch.replaced().to_vec() } else { sent };
            let batch = Batch::split(&stored).unwrap().0;
            let mut unfold = Decompressor::new();
            let payload = unfold.decompress(to, batch.payload(), 10_000).unwrap();
            assert_eq!(payload, Batch::split(&plain).unwrap().0.payload());
        }
    }
    let folded = ours().build_compressed(Codec::Gzip, Level::Of(9), &mut Compressor::new());
    assert_eq!(Batch::split(&folded).unwrap().0.producer_id(), ProducerId(4000));
}

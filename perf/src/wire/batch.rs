//! One batch of a produce request, looked at record by record before it is appended.
//!
//! `ours` validates it as an append does: header, checksum, then every record where it lies. The crate has
//! no such step; what comes closest is its decoder of records, which checks the checksum and makes a value of
//! every record.

use bytes::Bytes;
use corelane_storage::build::BatchBuilder;
use corelane_storage::validate::{AppendRules, Scratch, validate};
use kafka_protocol::records::RecordBatchDecoder;

const NOW_MS: i64 = 1_700_000_000_000;
const KEY: &[u8] = b"some-key";
const SCRATCH_BYTES: usize = 1 << 20;

/// How every case of this kind begins.
pub(super) const VALIDATE: &str = "validate, ";

/// `validate, 16 records, 16 KiB`.
pub(super) fn parse(case: &str) -> Option<Vec<u8>> {
    let words: Vec<&str> = case.strip_prefix(VALIDATE)?.split([' ', ',']).collect();
    let [records, _, "", kib, "KiB"] = words[..] else { panic!("no case: {case}") };
    let number = |it: &str| it.parse::<usize>().expect("a case has numbers");
    let (records, bytes) = (number(records), number(kib) * 1024);
    let value = vec![0x5a; bytes / records];
    let mut batch = BatchBuilder::new();
    for _ in 0..records {
        batch.record(NOW_MS, Some(KEY), Some(&value));
    }
    Some(batch.build())
}

pub(super) struct Ours {
    rules: AppendRules,
    scratch: Scratch,
    batch: Vec<u8>,
}

impl Ours {
    pub(super) fn new(batch: Vec<u8>) -> Self {
        // The usual limit is too low for the largest case.
        let rules = AppendRules { message_bytes_max: batch.len(), ..AppendRules::default() };
        Self { rules, scratch: Scratch::new(SCRATCH_BYTES), batch }
    }

    /// Gives the bytes of the batch.
    pub(super) fn validate(&mut self) -> usize {
        let accepted = validate(&self.rules, NOW_MS, &mut self.batch, &mut self.scratch);
        accepted.expect("it is good").bytes
    }
}

pub(super) struct Theirs(Bytes);

impl Theirs {
    pub(super) fn new(batch: Vec<u8>) -> Self {
        Self(Bytes::from(batch))
    }

    /// Gives the bytes of the batch.
    pub(super) fn decode(&self) -> usize {
        let set = RecordBatchDecoder::decode(&mut self.0.clone()).expect("it is good");
        assert!(!std::hint::black_box(set).records.is_empty(), "a batch has records");
        self.0.len()
    }
}

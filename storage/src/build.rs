//! Batches made here rather than by a client: control batches, tests, the tools.
//!
//! A builder gives its records the offset deltas 0, 1, 2… and keeps the first record's timestamp
//! as the base. It is not on the way of a client's batch, so it may allocate.

use crate::{
    batch::{Attributes, HEADER_BYTES, HeaderFields, write_header},
    compress::{Codec, Compressor, Level},
    record::{RecordFields, put_nullable, put_record},
};
use corelane_core::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// What the protocol writes where there is no timestamp.
pub const NO_TIMESTAMP: i64 = -1;
/// What the protocol writes where there is no sequence.
pub const NO_SEQUENCE: i32 = -1;

/// Collects records into one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    fields: HeaderFields,
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self {
            fields: HeaderFields {
                base_offset: Offset::ZERO,
                leader_epoch: LeaderEpoch::NONE,
                attributes: 0,
                last_offset_delta: -1,
                base_timestamp: NO_TIMESTAMP,
                max_timestamp: NO_TIMESTAMP,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch::NONE,
                base_sequence: NO_SEQUENCE,
                record_count: 0,
            },
            payload: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The place in the log.
    pub fn place(&mut self, base: Offset, epoch: LeaderEpoch) -> &mut Self {
        self.fields.base_offset = base;
        self.fields.leader_epoch = epoch;
        self
    }

    /// Who produced it, and the sequence number of the first record.
    pub fn producer(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: i32,
    ) -> &mut Self {
        self.fields.producer_id = id;
        self.fields.producer_epoch = epoch;
        self.fields.base_sequence = base_sequence;
        self
    }

    /// Sets bits of [`Attributes`] beside the codec.
    pub fn attributes(&mut self, bits: i16) -> &mut Self {
        self.fields.attributes |= bits;
        self
    }

    pub fn record(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> &mut Self {
        self.record_with_headers(timestamp, key, value, &[])
    }

    pub fn record_with_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        if self.fields.record_count == 0 {
            self.fields.base_timestamp = timestamp;
            self.fields.max_timestamp = timestamp;
        }
        self.fields.max_timestamp = self.fields.max_timestamp.max(timestamp);
        self.fields.last_offset_delta += 1;
        self.fields.record_count += 1;
        let mut raw = Vec::new();
        for (name, value) in headers {
            put_nullable(&mut raw, Some(name.as_bytes()));
            put_nullable(&mut raw, *value);
        }
        let fields = RecordFields {
            timestamp_delta: timestamp.wrapping_sub(self.fields.base_timestamp),
            offset_delta: self.fields.last_offset_delta,
            key,
            value,
            header_count: i32::try_from(headers.len()).expect("headers beyond 2^31"),
            headers: &raw,
        };
        put_record(&mut self.payload, &mut self.scratch, &fields);
        self
    }

    /// The batch, uncompressed.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut batch = vec![0; HEADER_BYTES];
        batch.extend_from_slice(&self.payload);
        write_header(&mut batch, &self.fields);
        batch
    }

    /// The batch with its records compressed.
    #[must_use]
    pub fn build_compressed(
        &self,
        codec: Codec,
        level: Level,
        compressor: &mut Compressor,
    ) -> Vec<u8> {
        let mut batch = vec![0; HEADER_BYTES];
        compressor.compress(codec, level, &self.payload, &mut batch);
        let mut fields = self.fields;
        fields.attributes |= codec.attribute_bits();
        write_header(&mut batch, &fields);
        batch
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkerKind {
    Abort,
    Commit,
}

/// The control batch that ends a producer's transaction: one record, no sequence.
#[must_use]
pub fn transaction_marker(
    producer: ProducerId,
    epoch: ProducerEpoch,
    kind: MarkerKind,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Vec<u8> {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&(kind as i16).to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    BatchBuilder::new()
        .producer(producer, epoch, NO_SEQUENCE)
        .attributes(Attributes::TRANSACTIONAL | Attributes::CONTROL)
        .record(timestamp, Some(&key), Some(&value))
        .build()
}

/// The marker a control batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    pub kind: MarkerKind,
    pub coordinator_epoch: i32,
}

impl Marker {
    /// Reads the key and value of a control record; `None` when it is no transaction marker.
    #[must_use]
    pub fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Self> {
        let key: [u8; 4] = key?.first_chunk().copied()?;
        let kind = match i16::from_be_bytes([key[2], key[3]]) {
            0 => MarkerKind::Abort,
            1 => MarkerKind::Commit,
            _ => return None,
        };
        let value: [u8; 6] = value?.first_chunk().copied()?;
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Some(Self { kind, coordinator_epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Batch, record::Records};

    #[test]
    fn a_marker_reads_as_it_was_written() {
        for kind in [MarkerKind::Abort, MarkerKind::Commit] {
            let bytes = transaction_marker(ProducerId(9), ProducerEpoch(3), kind, 12, 1_000);
            let batch = Batch::split(&bytes).unwrap().0;
            assert!(batch.is_control() && batch.is_transactional());
            assert_eq!(batch.base_sequence(), NO_SEQUENCE);
            let record = Records::new(batch.payload(), 1).next().unwrap().unwrap();
            let marker = Marker::parse(record.key, record.value);
            assert_eq!(marker, Some(Marker { kind, coordinator_epoch: 12 }));
        }
        assert_eq!(Marker::parse(Some(&[0, 0, 0, 2]), Some(&[0; 6])), None);
        assert_eq!(Marker::parse(Some(&[0, 0, 0]), Some(&[0; 6])), None);
        assert_eq!(Marker::parse(Some(&[0; 4]), None), None);
    }
}

//! The files that Kafka keeps beside its segments, in Kafka's own bytes: a clean stop leaves them for
//! its tools. Nothing here is ever read back by us. Integers are big-endian.

use crate::{
    checksum,
    epochs::LeaderEpochs,
    index::Index,
    producers::{Aborted, Producers},
};
use corelane_core::ids::{Offset, PartitionIndex, TopicId};
use std::fmt::Write;

pub const EPOCHS_NAME: &str = "leader-epoch-checkpoint";
pub const METADATA_NAME: &str = "partition.metadata";
/// Says that nothing of what lies beside it must be looked at before it is used.
pub const CLEAN_NAME: &str = ".kafka_cleanshutdown";
pub const RECOVERY_POINTS_NAME: &str = "recovery-point-offset-checkpoint";
pub const HIGH_WATERMARKS_NAME: &str = "replication-offset-checkpoint";
pub const LOG_STARTS_NAME: &str = "log-start-offset-checkpoint";
pub const CLEANER_NAME: &str = "cleaner-offset-checkpoint";

const SNAPSHOT_VERSION: i16 = 1;
const ABORTED_VERSION: i16 = 0;
const NONE: i64 = -1;

/// Where batches are, by their last offset. The first batch needs no entry.
pub fn offset_index(index: &Index<'_>, out: &mut Vec<u8>) {
    for (last, position) in index.entries_by_last().filter(|it| 0 < it.1) {
        out.extend(last.to_be_bytes());
        out.extend(position.to_be_bytes());
    }
}

/// The largest timestamps so far, and where they are.
pub fn time_index(index: &Index<'_>, base: Offset, out: &mut Vec<u8>) {
    for it in index.entries_by_time().filter(|it| 0 <= it.timestamp) {
        out.extend(it.timestamp.to_be_bytes());
        out.extend((it.offset.distance_from(base) as u32).to_be_bytes());
    }
}

/// The transactions that were taken back.
pub fn aborted_index(aborted: &[Aborted], out: &mut Vec<u8>) {
    for it in aborted {
        out.extend(ABORTED_VERSION.to_be_bytes());
        for field in [it.producer.0, it.first.0, it.last.0, it.last_stable.0] {
            out.extend(field.to_be_bytes());
        }
    }
}

/// What the log knows of its producers: of each, the last batch.
pub fn producer_snapshot(producers: &Producers, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let count = u32::try_from(producers.len()).expect("producers are bounded");
    body.extend(count.to_be_bytes());
    for it in producers.describe() {
        let last = producers.last_batch(it.id);
        let offset = last.map_or(NONE, |it| it.last.0);
        let delta = last.map_or(0, |it| it.last.distance_from(it.base) as i32);
        body.extend(it.id.0.to_be_bytes());
        body.extend(it.epoch.0.to_be_bytes());
        body.extend(it.last_sequence.unwrap_or(-1).to_be_bytes());
        body.extend(offset.to_be_bytes());
        body.extend(delta.to_be_bytes());
        body.extend(it.last_timestamp.unwrap_or(NONE).to_be_bytes());
        body.extend(it.coordinator_epoch.to_be_bytes());
        body.extend(it.open_from.map_or(NONE, |it| it.0).to_be_bytes());
    }
    out.extend(SNAPSHOT_VERSION.to_be_bytes());
    out.extend(checksum::of(&body).to_be_bytes());
    out.extend(body);
}

#[must_use]
pub fn epoch_checkpoint(epochs: &LeaderEpochs) -> String {
    let starts = epochs.starts();
    let mut text = format!("0\n{}\n", starts.len());
    for it in starts {
        writeln!(text, "{} {}", it.epoch, it.start).expect("text grows");
    }
    text
}

#[must_use]
pub fn partition_metadata(topic: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic}")
}

/// One offset of each partition.
#[must_use]
pub fn offset_checkpoint<'a>(
    of: impl ExactSizeIterator<Item = (&'a str, PartitionIndex, Offset)>,
) -> String {
    let mut text = format!("0\n{}\n", of.len());
    for (topic, partition, offset) in of {
        writeln!(text, "{topic} {partition} {offset}").expect("text grows");
    }
    text
}

/// `epoch` is that of the run.
#[must_use]
pub fn clean_shutdown(epoch: u64) -> String {
    format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::{IndexBuilder, IndexedBatch},
        validate::ProducerStamp,
    };
    use corelane_core::ids::{LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};

    const BASE: Offset = Offset(1000);

    fn indexed(timestamps: &[i64]) -> (Vec<u8>, Vec<u8>) {
        let of = TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(1) };
        let mut builder = IndexBuilder::new(of, BASE, 100);
        for (at, &max_timestamp) in (0..).zip(timestamps) {
            let base = BASE.advance(3 * at);
            builder.add(&IndexedBatch {
                base,
                last: base.advance(2),
                position: 100 * at,
                bytes: 100,
                max_timestamp,
                max_timestamp_offset: base.advance(1),
            });
        }
        let mut file = Vec::new();
        builder.encode(&[], &[], &mut file);
        let index = Index::decode(&file, of, BASE).expect("just made");
        let (mut offsets, mut times) = (Vec::new(), Vec::new());
        offset_index(&index, &mut offsets);
        time_index(&index, BASE, &mut times);
        (offsets, times)
    }

    #[test]
    fn batches_are_found_by_their_last_offset_and_the_first_needs_no_entry() {
        let (offsets, times) = indexed(&[9, 5, 11]);
        assert_eq!(offsets, [0, 0, 0, 5, 0, 0, 0, 100, 0, 0, 0, 8, 0, 0, 0, 200]);
        let expect = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 7];
        assert_eq!(times, expect);
    }

    #[test]
    fn records_without_a_time_have_no_place_among_times() {
        assert_eq!(indexed(&[-1, -1]).1, []);
        assert_eq!(indexed(&[]), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_snapshot_has_the_last_batch_of_each_producer() {
        let mut producers = Producers::default();
        for (sequence, base) in [(0, 40), (3, 43)] {
            let stamp = ProducerStamp {
                id: ProducerId(7),
                epoch: ProducerEpoch(2),
                base_sequence: sequence,
                last_sequence: sequence + 2,
                transactional: false,
            };
            producers.appended(&stamp, Offset(base), Offset(base + 2), 500, 600);
        }
        let mut file = Vec::new();
        producer_snapshot(&producers, &mut file);
        let mut body = vec![0, 0, 0, 1];
        body.extend([0, 0, 0, 0, 0, 0, 0, 7, 0, 2]);
        body.extend([0, 0, 0, 5]);
        body.extend([0, 0, 0, 0, 0, 0, 0, 45, 0, 0, 0, 2]);
        body.extend([0, 0, 0, 0, 0, 0, 1, 0xf4]);
        body.extend([0xff; 4]);
        body.extend([0xff; 8]);
        assert_eq!(&file[6..], &body);
        assert_eq!(file[..2], [0, 1]);
        assert_eq!(file[2..6], checksum::of(&body).to_be_bytes());
    }

    #[test]
    fn aborted_transactions_take_34_bytes_each() {
        let aborted = [Aborted {
            producer: ProducerId(1),
            first: Offset(2),
            last: Offset(3),
            last_stable: Offset(4),
        }];
        let mut file = Vec::new();
        aborted_index(&aborted, &mut file);
        assert_eq!(file.len(), 34);
        assert_eq!((file[9], file[17], file[25], file[33]), (1, 2, 3, 4));
    }

    #[test]
    fn checkpoints_are_lines() {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in [(0, 0), (3, 17)] {
            epochs.assign(LeaderEpoch(epoch), Offset(start)).expect("they grow");
        }
        assert_eq!(epoch_checkpoint(&epochs), "0\n2\n0 0\n3 17\n");
        let of =
            [("orders", PartitionIndex(1), Offset(5)), ("a.b-c", PartitionIndex(0), Offset(0))];
        assert_eq!(offset_checkpoint(of.into_iter()), "0\n2\norders 1 5\na.b-c 0 0\n");
        assert_eq!(clean_shutdown(12), "{\"version\":0,\"brokerEpoch\":12}");
        let text = partition_metadata(TopicId([0; 16]));
        assert_eq!(text, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA");
    }
}

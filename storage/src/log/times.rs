//! Finding offsets by time, and sizes.

use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};
use corelane_core::ring::Errno;

use super::scan::{Next, ScanError};
use super::store::{ReadError, Shared, Store};
use crate::batch::Batch;
use crate::compress::{Codec, Decompressor, held_bytes_max};
use crate::record::Records;

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundTime {
    pub timestamp: i64,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl Store {
    /// The first record below the high watermark whose timestamp is `timestamp` or later.
    ///
    /// # Errors
    /// When the partition is not here, or the disk does not give its bytes back.
    pub async fn offset_for_timestamp(
        &self,
        of: &TopicPartition,
        timestamp: i64,
    ) -> Result<Option<FoundTime>, ReadError> {
        let shared = self.readable(of)?;
        self.reading(&shared, async || {
            let start = shared.borrow().log_start();
            self.find_time(&shared, timestamp, start).await
        })
        .await
    }

    async fn find_time(
        &self,
        shared: &Shared,
        timestamp: i64,
        start: Offset,
    ) -> Result<Option<FoundTime>, ReadError> {
        let limit = shared.borrow().visible();
        for base in self.bases(shared) {
            self.index_for_read(shared, base).await?;
            let from = {
                let partition = shared.borrow();
                let Some(segment) = partition.segment(base) else { continue };
                if segment.max_timestamp < timestamp {
                    continue;
                }
                segment.signpost_before(timestamp).position
            };
            let mut found = None;
            let walked = self.scan_segment(shared, base, from, |batch, _| {
                if limit <= batch.base_offset() {
                    return Next::Enough;
                }
                if timestamp <= batch.max_timestamp() && start < batch.next_offset() {
                    let unfold = held_bytes_max(usize::MAX, self.0.config.unfold_bytes_max);
                    found = first_record(batch, unfold, |time, offset| {
                        timestamp <= time && start <= offset && offset < limit
                    });
                }
                if found.is_some() { Next::Enough } else { Next::More }
            });
            walked.await.map_err(|error| self.read_error(shared, base, error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp below the high watermark.
    ///
    /// # Errors
    /// As [`Self::offset_for_timestamp`].
    pub async fn max_timestamp(&self, of: &TopicPartition) -> Result<Option<FoundTime>, ReadError> {
        let shared = self.readable(of)?;
        self.reading(&shared, async || self.find_largest(&shared).await).await
    }

    async fn find_largest(&self, shared: &Shared) -> Result<Option<FoundTime>, ReadError> {
        let mut largest = -1;
        for base in self.bases(shared) {
            self.index_for_read(shared, base).await?;
            let partition = shared.borrow();
            let seen = partition.segment(base).map_or(-1, |it| it.max_timestamp);
            largest = largest.max(seen);
        }
        if largest < 0 {
            return Ok(None);
        }
        let start = shared.borrow().log_start();
        if let Some(found) = self.find_time(shared, largest, start).await? {
            return Ok(Some(found));
        }
        // It is above the high watermark or below the start: look at what lies between.
        self.largest_by_walk(shared).await
    }

    async fn largest_by_walk(&self, shared: &Shared) -> Result<Option<FoundTime>, ReadError> {
        let (start, limit) = {
            let partition = shared.borrow();
            (partition.log_start(), partition.visible())
        };
        // A batch counts whole, though some of its first records may be deleted.
        let mut largest: Option<(i64, Offset)> = None;
        for base in self.bases(shared) {
            let walked = self.scan_segment(shared, base, 0, |batch, _| {
                if limit <= batch.base_offset() {
                    return Next::Enough;
                }
                let found = (batch.max_timestamp(), batch.base_offset());
                if start < batch.next_offset() && largest.is_none_or(|it| it.0 < found.0) {
                    largest = Some(found);
                }
                Next::More
            });
            walked.await.map_err(|error| self.read_error(shared, base, error))?;
        }
        match largest {
            Some((largest, base)) => self.find_time(shared, largest, base.min(start)).await,
            None => Ok(None),
        }
    }

    /// Bytes of a partition's log, as its segments hold them.
    #[must_use]
    pub fn bytes_of(&self, of: &TopicPartition) -> Option<u64> {
        self.partition(of).map(|it| it.borrow().bytes())
    }

    /// The open segment does not know how old it is: the upkeep finds out.
    pub(super) fn ask_age(&self, of: TopicPartition) {
        if self.0.keep.ageless.borrow_mut().insert(of) {
            self.0.upkeep.notify();
        }
    }

    /// Looks at the first batch of segments that go on since an earlier run: their age counts from
    /// it. Where it has no time, or is damaged, the age counts from now.
    pub(super) async fn learn_ages(&self) -> Result<(), Errno> {
        loop {
            let next = self.0.keep.ageless.borrow_mut().pop_first();
            let Some(of) = next else { return Ok(()) };
            let Some(shared) = self.partition(&of) else { continue };
            let base = {
                let partition = shared.borrow();
                let open = partition.open_segment();
                if open.first_timestamp.is_some() || open.is_empty() {
                    continue;
                }
                open.base
            };
            let first = match self.first_timestamp(&shared, base).await {
                Ok(first) => first.filter(|it| 0 <= *it),
                // Readers find the damage, and say so.
                Err(ScanError::Corrupt { .. }) => None,
                Err(ScanError::Disk(errno)) => {
                    self.0.keep.ageless.borrow_mut().insert(of);
                    return Err(errno);
                }
            };
            if let Some(segment) = shared.borrow_mut().segment_mut(base) {
                segment.first_timestamp.get_or_insert(first.unwrap_or(self.0.lane.wall().0));
            }
        }
    }

    fn bases(&self, shared: &Shared) -> Vec<Offset> {
        shared.borrow().segments.iter().filter(|it| !it.is_empty()).map(|it| it.base).collect()
    }

    pub(super) async fn index_for_read(
        &self,
        shared: &Shared,
        base: Offset,
    ) -> Result<(), ReadError> {
        let indexed = self.ensure_indexed(shared, base).await;
        indexed.map_err(|error| self.read_error(shared, base, error))
    }

    pub(super) fn read_error(&self, shared: &Shared, base: Offset, error: ScanError) -> ReadError {
        match error {
            ScanError::Corrupt { position } => {
                ReadError::Corrupt { path: self.segment_path(shared, base), position }
            }
            // What a log has is in a file of it.
            ScanError::Disk(Errno::NOENT) => {
                ReadError::Corrupt { path: self.segment_path(shared, base), position: 0 }
            }
            ScanError::Disk(errno) => ReadError::Failed(errno),
        }
    }
}

/// The first record of a batch that is wanted. A batch that does not unfold is taken as a whole:
/// it was looked into when it came.
fn first_record(
    batch: &Batch<'_>,
    unfold_bytes_max: usize,
    wanted: impl Fn(i64, Offset) -> bool,
) -> Option<FoundTime> {
    let leader_epoch = batch.leader_epoch();
    let count = u32::try_from(batch.record_count()).ok()?;
    let codec = Codec::from_number(batch.attributes().codec_number())?;
    let mut unfold = Decompressor::new();
    let stamped = batch.attributes().has(crate::batch::Attributes::LOG_APPEND_TIME);
    let payload = unfold.decompress(codec, batch.payload(), unfold_bytes_max).ok()?;
    for record in Records::new(payload, count) {
        let record = record.ok()?;
        let offset = Offset(batch.base_offset().0 + i64::from(record.offset_delta));
        let timestamp = if stamped {
            batch.max_timestamp()
        } else {
            batch.base_timestamp() + record.timestamp_delta
        };
        if wanted(timestamp, offset) {
            return Some(FoundTime { timestamp, offset, leader_epoch });
        }
    }
    None
}

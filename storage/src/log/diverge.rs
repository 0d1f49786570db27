//! Whether a reader's log is this one: it says which epoch the record before the one it wants has.

use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};

use super::store::{ReadDone, ReadError, Store};
use crate::log::partition::OutOfRange;

impl Store {
    /// What a reader is told that comes from `last` and goes on at `from`, if it has another log.
    ///
    /// # Errors
    /// When the partition is not here, or its leader has not written that epoch yet.
    pub fn diverging(
        &self,
        of: &TopicPartition,
        from: Offset,
        last: LeaderEpoch,
    ) -> Result<Option<ReadDone>, ReadError> {
        let shared = self.readable(of)?;
        let partition = shared.borrow();
        let log_start = partition.log_start();
        let Some((epoch, end)) = partition.end_of_epoch(last) else {
            let end = partition.visible();
            return Err(ReadError::OutOfRange(OutOfRange { log_start, end }));
        };
        // Who comes from before the start has no place in this log, whatever it has.
        if from < log_start || (last <= epoch && from <= end) {
            return Ok(None);
        }
        let visible = partition.visible();
        Ok(Some(ReadDone {
            slices: Vec::new(),
            file: None,
            bytes: 0,
            visible,
            stable: partition.stable(),
            log_start,
            aborted: Vec::new(),
            // What is not durable may be taken back, and was never shown.
            diverging: Some((epoch, end.min(visible))),
        }))
    }
}

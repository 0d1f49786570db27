//! Records out of a partition, waiting for them if there are none yet.

use corelane_core::time::Nanos;
use corelane_net::api::ApiKey;
use corelane_net::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use crate::client::{Client, Use};
use crate::error::{ClientError, check};

/// What to fetch, and how long to wait for it.
#[derive(Debug, Clone, Copy)]
pub struct FetchWant {
    pub partition: i32,
    pub from: i64,
    pub wait: Nanos,
    pub bytes_min: i32,
    pub bytes_max: i32,
    /// Whether records of open transactions are left out.
    pub committed_only: bool,
}

impl FetchWant {
    #[must_use]
    pub fn new(partition: i32, from: i64) -> Self {
        Self {
            partition,
            from,
            wait: Nanos::millis(500),
            bytes_min: 1,
            bytes_max: 1 << 20,
            committed_only: false,
        }
    }
}

/// What a partition had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub high_watermark: i64,
    pub last_stable: i64,
    pub log_start: i64,
    /// Whole batches, perhaps with the beginning of another; see [`crate::records::read`].
    pub records: Vec<u8>,
}

impl Client {
    /// Fetches from one partition.
    ///
    /// # Errors
    /// When it is refused, or no answer comes.
    pub async fn fetch(&self, topic: &str, want: &FetchWant) -> Result<Fetched, ClientError> {
        let fetched = self.try_fetch(topic, want).await;
        fetched.inspect_err(|error| self.learn_from(topic, error))
    }

    async fn try_fetch(&self, topic: &str, want: &FetchWant) -> Result<Fetched, ClientError> {
        let (id, leader, connection) = self.to_leader(topic, want.partition, Use::Fetch).await?;
        let partition = FetchPartition {
            partition: want.partition,
            current_leader_epoch: leader.epoch,
            fetch_offset: want.from,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: want.bytes_max,
            ..Default::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: i32::try_from(want.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: want.bytes_min,
            max_bytes: want.bytes_max,
            isolation_level: i8::from(want.committed_only),
            session_epoch: -1,
            topics: [FetchTopic { topic, topic_id: id, partitions: [partition].into() }].into(),
            ..Default::default()
        };
        let answer = connection.start(&request, want.wait).await?.answer().await?;
        let said = answer.decode::<FetchResponse<'_>>()?;
        check(ApiKey::Fetch, said.error_code, None)?;
        // From version 13 on topics go by their ids alone.
        let by_id = 13 <= answer.version;
        let missing = ClientError::Missing { key: answer.key, what: "the partition asked for" };
        let named = |it: &_| {
            let it: &corelane_net::messages::fetch::FetchableTopicResponse<'_> = it;
            if by_id { it.topic_id == id } else { it.topic == topic }
        };
        let there = said.responses.iter().find(named).ok_or(missing.clone())?;
        let mut parts = there.partitions.iter();
        let part = parts.find(|it| it.partition_index == want.partition).ok_or(missing)?;
        check(ApiKey::Fetch, part.error_code, None)?;
        Ok(Fetched {
            high_watermark: part.high_watermark,
            last_stable: part.last_stable_offset,
            log_start: part.log_start_offset,
            records: part.records.map_or_else(Vec::new, |it| it.bytes().to_vec()),
        })
    }
}

//! Topics made and removed, offsets looked up, names for producers.

use corelane_core::time::Nanos;
use corelane_net::api::ApiKey;
use corelane_net::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelane_net::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use corelane_net::messages::delete_topics::{
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use corelane_net::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelane_net::wire::Uuid;

use crate::client::{Client, Use};
use crate::error::{ClientError, check};

/// How long the broker may take to make or remove a topic.
const TOPIC_TIMEOUT: Nanos = Nanos::secs(30);

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first that is still there.
    Earliest,
    /// The one after the last that can be read.
    Latest,
    /// The first record at or after this time.
    Timestamp(i64),
}

/// The name of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerName {
    pub id: i64,
    pub epoch: i16,
}

impl Client {
    /// Makes a topic; gives its id.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, ClientError> {
        let config = |(name, value)| CreatableTopicConfig { name, value: Some(value) };
        let configs: Vec<_> = configs.iter().copied().map(config).collect();
        let topic = CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.as_slice().into(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: [topic].into(),
            timeout_ms: i32::try_from(TOPIC_TIMEOUT.as_millis()).expect("a few seconds"),
            validate_only: false,
        };
        let connection = self.to_controller().await?;
        let answer = connection.start(&request, TOPIC_TIMEOUT).await?.answer().await?;
        let said = answer.decode::<CreateTopicsResponse<'_>>()?;
        let missing = ClientError::Missing { key: answer.key, what: "the topic to be made" };
        let topic = said.topics.iter().find(|it| it.name == name).ok_or(missing)?;
        check(ApiKey::CreateTopics, topic.error_code, topic.error_message)?;
        Ok(topic.topic_id)
    }

    /// Removes a topic.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let connection = self.to_controller().await?;
        // Names moved from one field to another in version 6.
        let by_state = 6 <= connection.version_of::<DeleteTopicsRequest<'_>>()?;
        let mut request = DeleteTopicsRequest {
            timeout_ms: i32::try_from(TOPIC_TIMEOUT.as_millis()).expect("a few seconds"),
            ..Default::default()
        };
        if by_state {
            request.topics = [DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO }].into();
        } else {
            request.topic_names = [name].into();
        }
        let answer = connection.start(&request, TOPIC_TIMEOUT).await?.answer().await?;
        let said = answer.decode::<DeleteTopicsResponse<'_>>()?;
        let missing = ClientError::Missing { key: answer.key, what: "the topic to be removed" };
        let topic = said.responses.iter().find(|it| it.name == Some(name)).ok_or(missing)?;
        check(ApiKey::DeleteTopics, topic.error_code, topic.error_message)?;
        self.forget(name);
        Ok(())
    }

    /// Removes the topic of this id, and no other that may have its name by now.
    ///
    /// # Errors
    /// When it is refused, or nobody answers; brokers from before topics had ids do not know how.
    pub async fn delete_topic_by_id(&self, id: Uuid) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            timeout_ms: i32::try_from(TOPIC_TIMEOUT.as_millis()).expect("a few seconds"),
            topics: [DeleteTopicState { name: None, topic_id: id }].into(),
            ..Default::default()
        };
        let connection = self.to_controller().await?;
        let answer = connection.start(&request, TOPIC_TIMEOUT).await?.answer().await?;
        let said = answer.decode::<DeleteTopicsResponse<'_>>()?;
        let missing = ClientError::Missing { key: answer.key, what: "the topic to be removed" };
        let topic = said.responses.iter().find(|it| it.topic_id == id).ok_or(missing)?;
        if let Some(name) = topic.name {
            self.forget(name);
        }
        check(ApiKey::DeleteTopics, topic.error_code, topic.error_message)
    }

    /// Removes the records before an offset; gives where the partition begins now.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: i64,
    ) -> Result<i64, ClientError> {
        let deleted = self.try_delete_records(topic, partition, before).await;
        deleted.inspect_err(|error| self.learn_from(topic, error))
    }

    async fn try_delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: i64,
    ) -> Result<i64, ClientError> {
        let (_, _, connection) = self.to_leader(topic, partition, Use::Ask).await?;
        let wanted = DeleteRecordsPartition { partition_index: partition, offset: before };
        let request = DeleteRecordsRequest {
            topics: [DeleteRecordsTopic { name: topic, partitions: [wanted].into() }].into(),
            timeout_ms: i32::try_from(TOPIC_TIMEOUT.as_millis()).expect("a few seconds"),
        };
        let answer = connection.start(&request, TOPIC_TIMEOUT).await?.answer().await?;
        let said = answer.decode::<DeleteRecordsResponse<'_>>()?;
        let named = said.topics.iter().find(|it| it.name == topic);
        let found = named
            .and_then(|it| it.partitions.iter().find(|it| it.partition_index == partition))
            .ok_or(ClientError::Missing { key: answer.key, what: "the partition asked for" })?;
        check(ApiKey::DeleteRecords, found.error_code, None)?;
        Ok(found.low_watermark)
    }

    /// Looks an offset up; none when no record is that young.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        at: At,
    ) -> Result<Option<i64>, ClientError> {
        let found = self.try_list_offset(topic, partition, at).await;
        found.inspect_err(|error| self.learn_from(topic, error))
    }

    async fn try_list_offset(
        &self,
        topic: &str,
        partition: i32,
        at: At,
    ) -> Result<Option<i64>, ClientError> {
        let (_, leader, connection) = self.to_leader(topic, partition, Use::Ask).await?;
        let timestamp = match at {
            At::Earliest => -2,
            At::Latest => -1,
            At::Timestamp(ms) => ms,
        };
        let wanted = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: leader.epoch,
            timestamp,
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: [ListOffsetsTopic { name: topic, partitions: [wanted].into() }].into(),
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let said = answer.decode::<ListOffsetsResponse<'_>>()?;
        let named = said.topics.iter().find(|it| it.name == topic);
        let found = named
            .and_then(|it| it.partitions.iter().find(|it| it.partition_index == partition))
            .ok_or(ClientError::Missing { key: answer.key, what: "the partition asked for" })?;
        check(ApiKey::ListOffsets, found.error_code, None)?;
        Ok(Some(found.offset).filter(|it| 0 <= *it))
    }

    /// A new name for an idempotent producer.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn init_producer(&self) -> Result<ProducerName, ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = self.to_any(Use::Ask).await?.call(&request).await?;
        let said = answer.decode::<InitProducerIdResponse>()?;
        check(ApiKey::InitProducerId, said.error_code, None)?;
        Ok(ProducerName { id: said.producer_id, epoch: said.producer_epoch })
    }
}

//! The wire: Kafka's messages in and out of a lane's buffers.
//!
//! - [`messages`]: one module for each key, generated from `schema/`; names are Kafka's, in
//!   Rust's spelling. One struct has the fields of all versions of a message.
//! - [`wire`]: the grammar below them. Decoding borrows from the frame and never allocates;
//!   what is wrong is refused, whatever it claims.
//! - [`frame`]: size and header around a message.
//! - [`api`]: the table of what this broker offers.
//!
//! # A request comes in
//!
//! ```
//! use corelane_net::frame::{self, Incoming};
//! use corelane_net::messages::produce::{ProduceRequest, TopicProduceData, PartitionProduceData};
//! use corelane_net::wire::{Message, Records, Writer, range_of};
//! # let partition = PartitionProduceData { index: 3, records: Some(Records::Bytes(b"batch")) };
//! # let topic = TopicProduceData {
//! #     name: "t", partition_data: [partition].into(), ..Default::default() };
//! # let request = ProduceRequest { acks: -1, topic_data: [topic].into(), ..Default::default() };
//! # let mut bytes = Vec::new();
//! # frame::encode_request(9, 7, Some("me"), &request, &mut Writer::copying(&mut bytes))?;
//! # let frame = &bytes[4..];
//!
//! // `frame` is what followed the four bytes of size.
//! let Incoming::Request { head, body } = frame::open(frame)? else { panic!() };
//! let (request, read) = ProduceRequest::decode(body, head.version)?;
//! assert_eq!(read, body.len(), "more than this may follow, and is ignored");
//! for topic in &request.topic_data {
//!     for partition in &topic.partition_data {
//!         let records = partition.records.unwrap_or_default();
//!         // A place in the frame can be kept where a borrow cannot, across an await.
//!         let place = range_of(frame, records.bytes());
//!         assert_eq!(&frame[place], b"batch");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An answer goes out
//!
//! Arrays are built from vectors or borrowed slices. Fields that a version has no place for are
//! dropped when Kafka drops them, and are an error otherwise.
//!
//! ```
//! use corelane_net::api::ApiKey;
//! use corelane_net::frame;
//! use corelane_net::messages::heartbeat::HeartbeatResponse;
//! use corelane_net::wire::Writer;
//! use corelane_net::ErrorCode;
//!
//! let answer = HeartbeatResponse {
//!     error_code: ErrorCode::RebalanceInProgress.code(),
//!     ..Default::default()
//! };
//! let mut out = Vec::new();
//! frame::encode_response(ApiKey::Heartbeat, 4, 7, &answer, &mut Writer::copying(&mut out))?;
//! assert_eq!(out[..4], [0, 0, 0, 12]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Records stay where they are
//!
//! A Fetch answer says how many bytes of records there are and not which. The writer notes where
//! they belong; who sends the answer sends header bytes, records, header bytes, in turn.
//!
//! ```
//! use corelane_net::api::ApiKey;
//! use corelane_net::frame;
//! use corelane_net::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
//! use corelane_net::wire::{Records, Splice, Writer};
//!
//! let partition = |index, bytes| PartitionData {
//!     partition_index: index,
//!     records: Some(Records::Outside { bytes }),
//!     ..Default::default()
//! };
//! let partitions = [partition(0, 1000), partition(1, 500)];
//! let topics = [FetchableTopicResponse {
//!     topic: "t",
//!     partitions: (&partitions).into(),
//!     ..Default::default()
//! }];
//! let answer = FetchResponse { responses: (&topics).into(), ..Default::default() };
//!
//! let (mut out, mut splices) = (Vec::new(), Vec::new());
//! let writer = &mut Writer::splicing(&mut out, &mut splices);
//! frame::encode_response(ApiKey::Fetch, 12, 7, &answer, writer)?;
//!
//! let mut sent = 0;
//! for Splice { at, bytes } in splices {
//!     let header = &out[sent..at]; // send this, then `bytes` bytes of the next extent
//!     assert!(!header.is_empty() && bytes >= 500);
//!     sent = at;
//! }
//! let end = &out[sent..]; // and this
//! assert!(!end.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
pub mod conn;
pub mod frame;
#[path = "generated/mod.rs"]
pub mod messages;
pub mod wire;

pub use messages::error_code::ErrorCode;

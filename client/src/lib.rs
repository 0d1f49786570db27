//! The other end of the wire: a small Kafka client for tests, worlds and tools.
//!
//! It runs on a lane like the broker does, over whichever ring that lane has, so it is the same
//! client on a machine and in the simulator. Nothing here is global, nothing is unbounded, and what is
//! not known is said: [`ClientError::is_indefinite`] tells whether a refused or lost call may have
//! had its effect.
//!
//! - [`Client`]: brokers, leaders, topics, offsets, one fetch at a time;
//! - [`Producer`]: batches of records, in order for each partition, several under way, and when it
//!   is idempotent, exactly once across lost connections and restarted brokers;
//! - [`Member`]: one of a group that shares partitions out and remembers how far it has read;
//! - [`conn`]: one connection, for whoever wants to say something else;
//! - [`records`]: batches and the records in them.
//!
//! ```no_run
//! # async fn example(lane: corelane_core::lane::Lane) -> Result<(), Box<dyn std::error::Error>> {
//! use corelane_client::records::{self, Record};
//! use corelane_client::{Client, FetchWant, Options, Producer, ProducerOptions};
//!
//! let client = Client::new(&lane, Options::new(vec!["127.0.0.1:9092".parse()?]));
//! client.create_topic("greetings", 1, &[]).await?;
//!
//! let producer = Producer::new(&client, "greetings", 0, ProducerOptions::default());
//! let receipt = producer.send(vec![Record::of_value(0, "hello")]).await;
//! let offset = receipt.done().await?.offset.expect("acknowledged");
//!
//! let fetched = client.fetch("greetings", &FetchWant::new(0, offset)).await?;
//! let read = records::read(&fetched.records)?;
//! assert_eq!(read.records[0].1.value.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```

mod admin;
mod assign;
mod client;
mod codec;
pub mod conn;
mod error;
mod fetch;
mod group;
mod offsets;
mod producer;
pub mod records;

pub use admin::{At, ProducerName};
pub use assign::Owned;
pub use client::{Client, Leader, Options, TopicInfo};
pub use codec::Codec;
pub use error::{ClientError, Lost};
pub use fetch::{FetchWant, Fetched};
pub use group::{GroupOptions, Member, Share};
pub use offsets::Offsets;
pub use producer::{Acks, Delivered, Producer, ProducerOptions, Receipt};

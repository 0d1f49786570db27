//! The topics of the node: what they are, and the rules by which they come, change and go.
//!
//! Pure. A rule looks at the [`image::Image`] and a wish and answers with an [`event::Event`] or a
//! refusal; the event counts once it is durable, and only then is it applied. To validate only is
//! to ask and drop the answer. Refusals are enums of their subject; the edge of the broker turns
//! them into Kafka's codes.

pub mod configs;
pub mod create;
pub mod event;
pub mod grow;
pub mod image;
pub mod internal;
pub mod name;
pub mod place;
pub mod remove;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod walk;

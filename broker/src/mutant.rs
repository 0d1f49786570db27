//! Mistakes that can be made on purpose, so that tests prove they would be noticed.
//!
//! Nothing outside of tests sets one; the default is none, and what looks at it does so once for a
//! request or a commit at most, never for a record. Each stands for a promise to clients, and
//! a world that runs the broker with it must complain. Those of the log have
//! [a list of their own](corelane_storage::log::mutant).

/// One promise that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Producers are answered before their records are durable.
    AnswerBeforeCommit,
    /// Answers of a connection leave as they are ready, not as they were asked for.
    AnswersOutOfOrder,
    /// A restart does not know what producers sent before.
    ProducersForgotten,
    /// Readers are shown records that are not durable.
    WatermarkBeforeDurable,
    /// Group members are answered before their offsets are durable.
    OffsetsBeforeDurable,
    /// The journal is written and never flushed.
    NoFlush,
}

/// No mistake, unless a test asks for one.
pub type Mutation = Option<Mutant>;

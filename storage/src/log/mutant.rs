//! Mistakes that can be made on purpose, so that tests prove they would be noticed.
//!
//! Nothing outside of tests sets one; the default is none. Each stands for a promise of the log,
//! and a test that runs the log with it must fail to find its data again.

/// One promise that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Journal writes are reported durable without being so.
    NoFlush,
    /// A failed journal write is taken for a good one.
    IgnoredFlushError,
    /// A restart believes frames whose checksum is wrong.
    NoFrameChecksum,
    /// A restart takes whole frames as they come, whether or not they follow each other.
    NoFrameChain,
    /// A commit is reported as soon as it completes, whatever became of those before it.
    DurabilityOutOfOrder,
    /// Names of new files and folders are not made durable.
    NoDirFlush,
    /// Only the last batch of a producer is recognised when it comes again.
    DedupWindowOfOne,
    /// A ragged end is written to its segment, and its block again when there is more.
    PartialBlockRewritten,
    /// The journal speaks of an extent while its bytes are still on their way to the segment.
    ExtentBeforeItsBytes,
    /// Readers are told of a log's new start before it is durable.
    StartBeforeDurable,
}

/// No mistake, unless a test asks for one.
pub type Mutation = Option<Mutant>;

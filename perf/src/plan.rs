//! How much is measured, and on which cores.

use core_affinity::CoreId;
use std::path::PathBuf;
use std::time::Duration;

/// What one run of one subject is told.
pub(crate) struct Plan {
    pub(crate) measured: Duration,
    /// Where files are written.
    pub(crate) folder: PathBuf,
    pub(crate) log: LogPlan,
}

/// How much is asked of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPlan {
    /// What its journal may take.
    pub(crate) journal_bytes: u64,
    /// How many times as many bytes are appended.
    pub(crate) cycles: u64,
    /// What was written long ago.
    pub(crate) history_bytes: u64,
    /// What only the journal has at a crash.
    pub(crate) dirty_bytes: u64,
    /// Before a start the kernel is asked to forget the names of all files of this machine.
    pub(crate) forget_names: bool,
}

impl Default for LogPlan {
    fn default() -> Self {
        Self {
            journal_bytes: 64 << 20,
            cycles: 5,
            history_bytes: 2 << 30,
            dirty_bytes: 64 << 20,
            forget_names: false,
        }
    }
}

/// The measured thread has the first core this process may use to itself.
pub(crate) fn server_core() -> CoreId {
    cores().first().copied().unwrap_or(CoreId { id: 0 })
}

/// Puts this thread, which makes the load, on the second core, if there is one.
pub(crate) fn use_load_core() {
    if let Some(core) = cores().get(1) {
        core_affinity::set_for_current(*core);
    }
}

fn cores() -> Vec<CoreId> {
    // Asked once a process, before anybody is pinned: a pinned thread sees its own core only.
    static CORES: std::sync::OnceLock<Vec<CoreId>> = std::sync::OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default()).clone()
}

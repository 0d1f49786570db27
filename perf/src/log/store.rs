//! The log of one lane on a real disk, as a broker opens it.

use super::Task;
use super::cases::partition;
use crate::on_lane::failed;
use corelane_core::ids::{LeaderEpoch, Offset, TopicPartition};
use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_core::time::Nanos;
use corelane_storage::batch::BatchMut;
use corelane_storage::log::boot::recover;
use corelane_storage::log::journal::Commit;
use corelane_storage::log::open::{LogConfig, adopt, share_out};
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::small::DataLock;
use corelane_storage::log::store::{AppendError, Store};
use std::io;
use std::process;

/// Files of a journal, as many as a broker's has.
const SLOTS: u64 = 32;
/// Memory above which what is on disk is forgotten, as much as a broker's.
pub(super) const RECENT_BYTES: usize = 64 << 20;
/// Segments kept open, as many as by a broker that may have 20,000 descriptors.
const OPEN_FILES: usize = 20_000 / 12;
/// How long one waits at most before asking again whether an append is possible now.
const PATIENCE: Nanos = Nanos::millis(1);

pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) metrics: Metrics,
    /// What only journals had when it was opened.
    pub(super) found_bytes: u64,
    _lock: DataLock,
}

pub(super) async fn open(lane: &Lane, task: &Task) -> io::Result<Opened> {
    let mut config = LogConfig {
        slot_bytes: task.plan.journal_bytes / SLOTS,
        slots_max: SLOTS as usize,
        ..LogConfig::new(&task.folder)
    };
    config.upkeep.extents = task.extents.clone();
    config.upkeep.memory_bytes_max = RECENT_BYTES;
    config.upkeep.open_files_max = OPEN_FILES;
    let metrics = Metrics::default();
    let mut found = recover(lane, &config.data, process::id(), None).await.map_err(refused)?;
    let mine = share_out(&mut found, 1, |_| 0).remove(0);
    let ready = Store::open(lane, &config, found.generation, mine, &metrics).await;
    let ready = ready.map_err(refused)?;
    adopt(lane, &config, found.generation, 1, &found.notices).await.map_err(refused)?;
    Ok(Opened {
        store: ready.start(),
        metrics,
        found_bytes: found.journal_bytes,
        _lock: found.lock,
    })
}

/// Creates partitions; they exist for good when this is over.
pub(super) async fn create(
    store: &Store,
    count: u32,
    rules: &LogRules,
) -> io::Result<Vec<TopicPartition>> {
    let all: Vec<_> = (0..count).map(partition).collect();
    for of in &all {
        while let Err(why) = store.create(*of, "orders", rules.clone()) {
            wait_if_busy(store, why).await?;
        }
    }
    store.durable(store.journal().latest()).await.map_err(failed)?;
    Ok(all)
}

/// Appends a batch as if it had just come from its client, once there is room for it.
pub(super) async fn append(
    store: &Store,
    of: &TopicPartition,
    batch: &mut [u8],
) -> io::Result<Commit> {
    loop {
        let mut fresh = BatchMut::first(batch).map_err(|it| io::Error::other(format!("{it:?}")))?;
        fresh.assign(Offset::ZERO, LeaderEpoch::NONE);
        match store.append(of, batch, false) {
            Ok(appended) => return Ok(appended.commit),
            Err(why) => wait_if_busy(store, why).await?,
        }
    }
}

async fn wait_if_busy(store: &Store, why: AppendError) -> io::Result<()> {
    if why != AppendError::Overloaded {
        return Err(io::Error::other(format!("refused: {why:?}")));
    }
    let until = store.lane().now() + PATIENCE;
    // Either is a reason to ask again.
    let _either = store.lane().until(until, store.journal().moved()).await;
    Ok(())
}

fn refused(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(why.to_string())
}

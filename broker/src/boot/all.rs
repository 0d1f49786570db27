//! The boot and the end of all lanes, as lane 0 leads them.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use corelane_core::ids::{LaneId, TopicPartition};
use corelane_core::lane::{Lane, join_all};
use corelane_core::mailbox::Link;
use corelane_core::ring::{Errno, Space};
use corelane_storage::log::boot::{Found, Notice, OpenError, recover};
use corelane_storage::log::leave::Left;
use corelane_storage::log::mutant::Mutant as LogMutant;
use corelane_storage::log::open::{LogConfig, adopt, mark_clean, share_out};
use corelane_storage::producers::Producers;

use super::accept::listen;
use super::identity;
use super::lane::{BootAsk, BootTell};
use super::report::{Listening, Ready, Trouble};
use crate::config::keys;
use crate::config::load::Config;
use crate::exit::Exit;
use crate::file_systems::Hazard;
use crate::mutant::{Mutant, Mutation};
use crate::node::{Endpoint, Facts, METADATA};
use crate::topics::place::lane_of;

/// Memory of a lane in use above which what is on disk is forgotten, where nobody says how much memory
/// there is: enough for readers near the end, and used again before the processor forgets it.
const RECENT_BYTES: usize = 64 << 20;

/// Everything lane 0 needs to lead.
pub(super) struct All {
    pub lane: Lane,
    pub link: Link<BootAsk, BootTell>,
    pub config: Arc<Config>,
    pub lanes: NonZeroU16,
    pub pid: u32,
    pub broken: Mutation,
}

/// The data directory, held for as long as this lives.
pub(super) struct Taken {
    found: Found,
}

impl All {
    /// Asks every lane, one step after the other.
    pub(super) async fn bring_up(&self) -> Result<(Ready, Taken), Trouble> {
        let (lane, config) = (&self.lane, &self.config);
        let data = PathBuf::from(&config.data);
        let bound = find_ports(lane, config).await?;
        let log = log_config(config, self.lanes, self.broken);
        let mut found = recover(lane, &data, self.pid, log.broken)
            .await
            .map_err(|error| cannot_open(config, &error))?;
        let metadata = found.partitions.iter().find(|it| it.of == METADATA);
        if let Some(damage) = metadata.and_then(|it| it.damage.as_ref()) {
            // Nothing can be served without it.
            let (file, position) = (damage.file.clone(), damage.position);
            let error = OpenError::Damaged { file, position, why: damage.why.clone() };
            return Err(cannot_open(config, &error));
        }
        if self.broken == Some(Mutant::ProducersForgotten) {
            for it in &mut found.partitions {
                it.producers = Producers::default();
            }
        }
        let identity::Taken { identity, made } =
            identity::take(lane, &data, config.node).await.map_err(|it| Trouble {
                exit: Exit::DataDirectory,
                what: format!("cannot use the data directory {}: {it}", config.data),
            })?;
        let space = lane.space(&data).await;
        let listeners = config.listeners.iter().zip(&bound).map(|(listener, (_, place))| {
            let (host, port) = listener.advertised(place.port());
            let (name, host) = (listener.name.clone(), host.to_owned());
            Listening { name, place: *place, host, port }
        });
        let listeners: Vec<_> = listeners.collect();
        let endpoints = listeners.iter().map(|it| {
            let (listener, host) = (it.name.clone(), it.host.clone());
            Endpoint { listener, host, port: it.port }
        });
        let offline = found.partitions.iter().filter(|it| it.damage.is_some());
        let facts = Arc::new(Facts {
            config: (**config).clone(),
            cluster_id: identity.cluster_id,
            directory: identity.directory,
            data: from_root(&config.data).to_string_lossy().into_owned(),
            endpoints: endpoints.collect(),
            lanes: self.lanes,
            incarnation: found.generation,
            offline: offline.map(|it| it.of).collect(),
            broken: self.broken,
        });
        let lanes = self.lanes;
        let home = |of: &TopicPartition| if *of == METADATA { 0 } else { lane_of(*of, lanes).0 };
        let mut shares = share_out(&mut found, lanes.get(), home).into_iter();
        let open = || BootAsk::Open {
            facts: Arc::clone(&facts),
            mine: shares.next().expect("a share for each lane"),
        };
        self.ask_all(open).await?;
        adopt(lane, &log, found.generation, lanes.get(), &found.notices)
            .await
            .map_err(|error| cannot_open(config, &error))?;
        self.ask_all(|| BootAsk::Start).await?;
        self.ask_one(BootAsk::Show).await?;
        self.ask_all(|| BootAsk::Listen(bound.clone())).await?;
        let ready = Ready {
            listeners,
            notices: std::iter::once(placed(config, &space))
                .chain(misplaced(&config.data, &space))
                .chain(told(&found))
                .chain(forgotten(&found, &facts.cluster_id, made))
                .collect(),
        };
        Ok((ready, Taken { found }))
    }

    /// Every lane makes durable what it has; then the run counts as ended in order.
    /// Says whether the directory is as Kafka's tools expect it, too.
    pub(super) async fn bring_down(&self, taken: &Taken) -> Result<bool, Trouble> {
        let left = self.ask_all(|| BootAsk::Close).await?;
        let log = log_config(&self.config, self.lanes, self.broken);
        mark_clean(&self.lane, &log, taken.found.generation, self.lanes.get(), left)
            .await
            .map_err(|error| cannot_open(&self.config, &error))
    }

    async fn ask_all(&self, mut ask: impl FnMut() -> BootAsk) -> Result<Vec<Left>, Trouble> {
        let asked = (0..self.lanes.get()).map(|it| self.link.ask(LaneId(it), ask()));
        let asked: Vec<_> = asked.collect();
        let mut all = Vec::new();
        for tell in join_all(asked).await {
            all.extend(done(tell)?);
        }
        Ok(all)
    }

    async fn ask_one(&self, ask: BootAsk) -> Result<(), Trouble> {
        done(self.link.ask(self.lane.id(), ask).await).map(drop)
    }
}

fn done(tell: Option<BootTell>) -> Result<Vec<Left>, Trouble> {
    match tell.expect("a lane that boots answers") {
        BootTell::Done => Ok(Vec::new()),
        BootTell::Closed(left) => Ok(left),
        BootTell::Failed(trouble) => Err(trouble),
    }
}

/// A directory as those see it who were not started where we were.
fn from_root(data: &str) -> PathBuf {
    std::path::absolute(data).unwrap_or_else(|_| PathBuf::from(data))
}

/// The line that says where the data is.
fn placed(config: &Config, space: &Result<Space, Errno>) -> String {
    let data = from_root(&config.data);
    match space {
        Ok(Space { total_bytes, free_bytes, file_system }) => format!(
            "data in {} on {file_system}, {} of {} MiB free",
            data.display(),
            free_bytes >> 20,
            total_bytes >> 20
        ),
        Err(errno) => format!("data in {}, of unknown size: {errno}", data.display()),
    }
}

/// The line that says that what holds the data does not keep it as a log needs it.
fn misplaced(data: &str, space: &Result<Space, Errno>) -> Option<String> {
    let kind = &space.as_ref().ok()?.file_system;
    let hazard = Hazard::of(kind)?;
    let data = from_root(data);
    let (means, remedy) = (hazard.means(), hazard.remedy());
    Some(format!("warning: {} is on {kind}. {means} {remedy}", data.display()))
}

/// The line that says that a directory with data in it did not say whose it is.
fn forgotten(found: &Found, cluster_id: &str, made: bool) -> Option<String> {
    (made && found.before.is_some()).then(|| {
        format!(
            "warning: meta.properties was missing from a directory that was used before; the cluster \
             is called {cluster_id} from now on. To keep its name, put the file back and start again"
        )
    })
}

/// The lines that say what the directory held.
fn told(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    match &found.before {
        None => lines.push("the data directory is new".to_owned()),
        Some(before) if before.clean => lines.push(format!(
            "run {} ended in good order with {} lanes",
            before.generation, before.lanes
        )),
        Some(before) => lines.push(format!(
            "run {} with {} lanes did not end in good order; {} bytes came back from its journals",
            before.generation, before.lanes, found.journal_bytes
        )),
    }
    lines.extend(found.notices.iter().map(said));
    lines
}

/// A notice of the log, for people.
pub(super) fn said(notice: &Notice) -> String {
    match notice {
        Notice::TornEnd { lane, sequence } => format!(
            "the journal of lane {lane} was read up to commit {sequence}; of what was being written behind \
             it, nobody had been told"
        ),
        Notice::Stray { folder } => {
            format!("{} belongs to no partition and is set aside", folder.display())
        }
        Notice::IndexRebuilt { file, why } => {
            format!("{} was made again from its segment: {why}", file.display())
        }
        Notice::Damaged(damage) => format!(
            "partition {} is offline, and kept for inspection: {} is damaged at position {}: {}",
            damage.of,
            damage.file.display(),
            damage.position,
            damage.why
        ),
        other => format!("{other:?}"),
    }
}

/// How the log of every lane is set up.
pub(super) fn log_config(config: &Config, lanes: NonZeroU16, broken: Mutation) -> LogConfig {
    let settings = &config.settings;
    let number = |row| u64::try_from(settings.number(row)).unwrap_or(0);
    let mut log = LogConfig::new(&config.data);
    log.unfold_bytes_max = usize::try_from(number(&keys::UNFOLD_BYTES_MAX)).unwrap_or(usize::MAX);
    log.slots_max =
        usize::try_from(number(&keys::JOURNAL_BYTES) / log.slot_bytes).unwrap_or(2).max(2);
    if settings.number(&keys::MEMORY_BYTES) < 0 {
        log.upkeep.memory_bytes_max = RECENT_BYTES;
    }
    log.broken = match broken {
        Some(Mutant::NoFlush) => Some(LogMutant::NoFlush),
        _ => None,
    };
    log.upkeep.lanes = lanes.get();
    log
}

/// Why the data directory keeps the broker from running.
pub(super) fn cannot_open(config: &Config, error: &OpenError) -> Trouble {
    let exit = match error {
        OpenError::Memory { .. } => Exit::Host,
        _ => Exit::DataDirectory,
    };
    Trouble { exit, what: format!("cannot use the data directory {}: {error}", config.data) }
}

/// An address that is not this machine's, or not ours to take, is a mistake of the configuration.
fn cannot_listen(errno: Errno) -> Exit {
    match errno {
        Errno::ADDRINUSE => Exit::AddressInUse,
        Errno::ADDRNOTAVAIL | Errno::ACCES | Errno::PERM => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// Binds every listener once, alone: a port that is in use must be an error, and not a share of
/// somebody else's clients. Then all lanes know which ports they share.
async fn find_ports(lane: &Lane, config: &Config) -> Result<Vec<(String, SocketAddr)>, Trouble> {
    let mut bound = Vec::new();
    let mut held = Vec::new();
    for listener in &config.listeners {
        let addr = SocketAddr::new(listener.address, listener.port);
        let (socket, addr) = listen(lane, addr, false).await.map_err(|errno| {
            let exit = cannot_listen(errno);
            Trouble { exit, what: format!("cannot listen on {addr} ({}): {errno}", listener.name) }
        })?;
        held.push(socket);
        bound.push((listener.name.clone(), addr));
    }
    drop(held);
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(file_system: &str) -> Option<String> {
        let file_system = file_system.to_owned();
        misplaced("/srv/log", &Ok(Space { total_bytes: 1, free_bytes: 1, file_system }))
    }

    #[test]
    fn an_address_that_cannot_be_ours_is_a_mistake_of_the_configuration() {
        for (errno, exit) in [
            (Errno::ADDRINUSE, Exit::AddressInUse),
            (Errno::ADDRNOTAVAIL, Exit::Usage),
            (Errno::ACCES, Exit::Usage),
            (Errno::NOMEM, Exit::Failure),
        ] {
            assert_eq!(cannot_listen(errno), exit, "{errno}");
        }
    }

    #[test]
    fn a_start_warns_of_a_place_that_does_not_keep_data() {
        assert_eq!(warned("ext4"), None);
        assert_eq!(warned("xfs"), None);
        assert_eq!(misplaced("/srv/log", &Err(Errno::NOENT)), None);
        let expect = "warning: /srv/log is on nfs. A network file system: another machine decides what is \
                      durable, and when. Put the data on a local disk with ext4 or xfs.";
        assert_eq!(warned("nfs").as_deref(), Some(expect));
        for kind in ["btrfs", "zfs", "bcachefs", "tmpfs", "overlayfs", "fuse", "ceph", "cifs", "9p"]
        {
            assert!(warned(kind).is_some(), "{kind}");
        }
    }
}

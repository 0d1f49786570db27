//! Who this data directory belongs to: `meta.properties`, as people know it from Kafka.

use std::path::Path;

use corelane_core::buf::Buf;
use corelane_core::ids::{BrokerId, TopicId};
use corelane_core::lane::Lane;
use corelane_core::ring::{Access, Errno, Sync};
use corelane_net::wire::Uuid;

const NAME: &str = "meta.properties";
const VERSION: &str = "1";
const BYTES_MAX: usize = 4096;
const DIRECTORY: &str = "directory.id";

/// The directory's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub cluster_id: String,
    pub node: BrokerId,
    /// The directory's own name among all of the cluster.
    pub directory: Uuid,
}

/// An identity, and whether it was made just now.
pub(super) struct Taken {
    pub identity: Identity,
    pub made: bool,
}

/// Why it cannot be used.
#[derive(Debug)]
pub(super) enum IdentityError {
    Disk(Errno),
    Damaged(String),
    Newer { version: String },
    OtherNode { ours: BrokerId, theirs: BrokerId },
}

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(errno) => write!(f, "{NAME}: {errno}"),
            Self::Damaged(why) => write!(f, "{NAME} is damaged: {why}"),
            Self::Newer { version } => write!(
                f,
                "{NAME} has version {version}, and this program knows version {VERSION}; use the \
                 newer one that wrote it"
            ),
            Self::OtherNode { ours, theirs } => write!(
                f,
                "{NAME} says that the directory belongs to node {}, and this is node {}; \
                 set node.id to {} or choose another directory",
                theirs.0, ours.0, theirs.0
            ),
        }
    }
}

/// Reads the identity, or makes one for a new directory.
pub(super) async fn take(lane: &Lane, data: &Path, node: BrokerId) -> Result<Taken, IdentityError> {
    let path = data.join(NAME);
    let found = match lane.open(&path, Access::default()).await {
        Ok((file, bytes)) => {
            let bytes = usize::try_from(bytes).unwrap_or(BYTES_MAX).min(BYTES_MAX);
            let (read, buf) = lane.read_full(&file, 0, Buf::unpooled(BYTES_MAX), bytes).await;
            read.map_err(IdentityError::Disk)?;
            Some(parse(&String::from_utf8_lossy(buf.filled()), || draw(lane))?)
        }
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(IdentityError::Disk(errno)),
    };
    match found {
        Some((found, _)) if found.node != node => {
            Err(IdentityError::OtherNode { ours: node, theirs: found.node })
        }
        Some((identity, Written::Whole)) => Ok(Taken { identity, made: false }),
        Some((identity, Written::WithoutDirectory)) => {
            write(lane, data, &identity).await.map_err(IdentityError::Disk)?;
            Ok(Taken { identity, made: false })
        }
        None => {
            let cluster_id = TopicId(draw(lane)).to_string();
            let identity = Identity { cluster_id, node, directory: Uuid(draw(lane)) };
            write(lane, data, &identity).await.map_err(IdentityError::Disk)?;
            Ok(Taken { identity, made: true })
        }
    }
}

fn draw(lane: &Lane) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&lane.random().to_be_bytes());
    id[8..].copy_from_slice(&lane.random().to_be_bytes());
    id
}

/// What a file says of itself.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    Whole,
    /// By a version that gave directories no names.
    WithoutDirectory,
}

/// Reads a file; a directory without a name gets the one that is drawn.
fn parse(
    text: &str,
    draw: impl FnOnce() -> [u8; 16],
) -> Result<(Identity, Written), IdentityError> {
    let found = |key: &str| {
        let line = text.lines().find_map(|it| it.trim().strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    let value =
        |key: &str| found(key).ok_or_else(|| IdentityError::Damaged(format!("it has no {key}")));
    let version = value("version")?;
    if version != VERSION {
        return Err(IdentityError::Newer { version });
    }
    let node = value("node.id")?;
    let node = node.parse().map_err(|_| IdentityError::Damaged(format!("node.id is {node}")))?;
    let (directory, written) = match found(DIRECTORY) {
        None => (draw(), Written::WithoutDirectory),
        Some(name) => match TopicId::parse(&name) {
            Some(it) => (it.0, Written::Whole),
            None => return Err(IdentityError::Damaged(format!("{DIRECTORY} is {name}"))),
        },
    };
    let (cluster_id, node) = (value("cluster.id")?, BrokerId(node));
    Ok((Identity { cluster_id, node, directory: Uuid(directory) }, written))
}

async fn write(lane: &Lane, data: &Path, identity: &Identity) -> Result<(), Errno> {
    let Identity { cluster_id, node, directory } = identity;
    let text = format!(
        "version={VERSION}\ncluster.id={cluster_id}\nnode.id={}\n{DIRECTORY}={}\n",
        node.0,
        TopicId(directory.0)
    );
    let fresh = data.join(format!("{NAME}.new"));
    let access = Access { write: true, create: true, ..Access::default() };
    let (file, _) = lane.open(&fresh, access).await?;
    lane.truncate(&file, 0).await?;
    lane.write_all(&file, 0, Buf::copy_of(text.as_bytes()).freeze(), Sync::None).await?;
    lane.flush(&file).await?;
    lane.rename(&fresh, data.join(NAME)).await?;
    lane.flush_dir(data).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_was_written_or_refused_with_its_fault() {
        let identity = |directory| {
            let cluster_id = "abc".to_owned();
            Identity { cluster_id, node: BrokerId(7), directory: Uuid(directory) }
        };
        let parse = |text: &str| parse(text, || [9; 16]);
        let old = "version=1\ncluster.id=abc\nnode.id=7\n";
        let read = parse(old).expect("good");
        assert_eq!(read, (identity([9; 16]), Written::WithoutDirectory));
        let new = format!("{old}directory.id={}\n", TopicId([5; 16]));
        assert_eq!(parse(&new).expect("good"), (identity([5; 16]), Written::Whole));
        for (text, fault) in [
            ("", "has no version"),
            (
                "version=2\ncluster.id=a\nnode.id=1",
                "has version 2, and this program knows version 1",
            ),
            ("version=1\nnode.id=1", "has no cluster.id"),
            ("version=1\ncluster.id=a\nnode.id=x", "node.id is x"),
            ("version=1\ncluster.id=a\nnode.id=1\ndirectory.id=x", "directory.id is x"),
        ] {
            let error = parse(text).expect_err("bad").to_string();
            assert!(error.contains(fault), "{error}");
        }
    }
}

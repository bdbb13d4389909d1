//! Who a node is: an id that its data directory was given once, and how often it was started from it.
//! Rule: only the holder of the directory's lock reads or writes it; a number is on the disk before it is used.
//! What is damaged is refused by name: a guess might be another node's id.

use crate::rescue::UNFINISHED;
use enfilade_registry::{ClusterId, Generation, NodeId, Run};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file that says who the node is.
pub(crate) const NAME: &str = "node.json";
const FORMAT: u32 = 1;

/// Where state is kept that belongs to a node's id.
const STATE: [&str; 2] = ["registry", "raft"];

/// A node's data directory, held by this process as long as this lives.
#[derive(Debug)]
pub(crate) struct Identity {
    dir: PathBuf,
    run: Run,
    cluster: Option<ClusterId>,
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the data directory {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error(
        "{} is damaged: restore it from a copy, or start with an empty data directory to join as a new node",
        .0.display()
    )]
    Damaged(PathBuf),
    #[error("{} has format {found}; this version knows {FORMAT}: start the version that wrote it", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error(
        "the data directory {} holds the state of a node but no {NAME}: restore it, or start with an empty directory",
        .0.display()
    )]
    Nameless(PathBuf),
    #[error("a recovery of {} was cut off: give the same command again", .0.display())]
    Unfinished(PathBuf),
    #[error("the data directory {} belongs to cluster {ours}, this is cluster {theirs}", dir.display())]
    OtherCluster { dir: PathBuf, ours: ClusterId, theirs: ClusterId },
}

/// The file. Numbers are text, because JSON's are not exact.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    node: String,
    generation: u64,
    cluster: Option<String>,
    /// Of all the others.
    check: String,
}

impl Identity {
    /// Takes the directory, gives it an id if it is empty, and raises the generation. Blocks.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub(crate) fn open(dir: &Path, random: impl FnMut() -> io::Result<u64>) -> Result<Self, IdentityError> {
        let lock = lock(dir)?;
        if dir.join(UNFINISHED).exists() {
            return Err(IdentityError::Unfinished(dir.to_owned()));
        }
        let path = dir.join(NAME);
        let (node, last, cluster) = match fs::read(&path) {
            Ok(bytes) => parse(&bytes, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (mint(dir, random)?, 0, None),
            Err(source) => return Err(IdentityError::Io { what: "read", path, source }),
        };
        let run = Run { node, generation: Generation(last + 1) };
        let identity = Self { dir: dir.to_owned(), run, cluster, _lock: lock };
        identity.store()?;
        Ok(identity)
    }

    /// This start of this node.
    pub(crate) fn run(&self) -> Run {
        self.run
    }

    /// The cluster that the directory belongs to, once it belongs to one.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Binds the directory to a cluster for ever. Blocks.
    ///
    /// # Errors
    /// It belongs to another one, or cannot be written.
    pub(crate) fn belongs_to(&mut self, cluster: ClusterId) -> Result<(), IdentityError> {
        match self.cluster {
            Some(ours) if ours == cluster => Ok(()),
            Some(ours) => Err(IdentityError::OtherCluster { dir: self.dir.clone(), ours, theirs: cluster }),
            None => {
                self.cluster = Some(cluster);
                self.store()
            }
        }
    }

    fn store(&self) -> Result<(), IdentityError> {
        store(&self.dir, self.run, self.cluster)
    }
}

/// The node of a directory and its cluster, if there is one. Changes nothing; the caller holds the lock. Blocks.
///
/// # Errors
/// The file is damaged, or cannot be read.
pub(crate) fn look(dir: &Path) -> Result<Option<(NodeId, Option<ClusterId>)>, IdentityError> {
    let path = dir.join(NAME);
    match fs::read(&path) {
        Ok(bytes) => parse(&bytes, &path).map(|(node, _, cluster)| Some((node, cluster))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io { what: "read", path, source }),
    }
}

/// Whether a directory is a node's, or was.
pub(crate) fn is_used(dir: &Path) -> bool {
    STATE.iter().chain([&NAME]).any(|name| dir.join(name).exists())
}

/// Makes a directory that of a node of a cluster that was never started. Blocks.
///
/// # Errors
/// It cannot be written.
pub(crate) fn give(dir: &Path, node: NodeId, cluster: ClusterId) -> Result<(), IdentityError> {
    store(dir, Run { node, generation: Generation(0) }, Some(cluster))
}

fn store(dir: &Path, run: Run, cluster: Option<ClusterId>) -> Result<(), IdentityError> {
    let mut stored = Stored {
        format: FORMAT,
        node: run.node.to_string(),
        generation: run.generation.0,
        cluster: cluster.map(|cluster| cluster.to_string()),
        check: String::new(),
    };
    stored.check = stored.sum();
    let path = dir.join(NAME);
    let failed = |source| IdentityError::Io { what: "write", path: path.clone(), source };
    let text = serde_json::to_vec_pretty(&stored).map_err(|error| failed(error.into()))?;
    replace(dir, &path, &text).map_err(failed)
}

impl Stored {
    fn sum(&self) -> String {
        let cluster = self.cluster.as_deref().unwrap_or("-");
        let text = format!("{} {} {} {cluster}", self.format, self.node, self.generation);
        format!("{:08x}", crc32fast::hash(text.as_bytes()))
    }
}

/// Makes the directory if need be and takes its lock, which lasts as long as the file is open. Blocks.
///
/// # Errors
/// Another process has it, or the directory cannot be used.
pub(crate) fn lock(dir: &Path) -> Result<File, IdentityError> {
    let failed = |what, path: &Path, source| IdentityError::Io { what, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("create", dir, error))?;
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.open(&path).map_err(|error| failed("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IdentityError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
    }
}

/// Under another name first, so that a crash leaves the old file or the new one, and never half of one.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(dir)?.sync_all()
}

/// An id for the node of a directory that holds no state of another one.
///
/// # Errors
/// It does, or there are no random bytes.
pub(crate) fn mint(dir: &Path, mut random: impl FnMut() -> io::Result<u64>) -> Result<NodeId, IdentityError> {
    if STATE.iter().any(|name| dir.join(name).exists()) {
        return Err(IdentityError::Nameless(dir.to_owned()));
    }
    loop {
        let failed = |source| IdentityError::Io { what: "find random bytes for", path: dir.join(NAME), source };
        match random().map_err(failed)? {
            0 => {}
            id => return Ok(NodeId(id)),
        }
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<(NodeId, u64, Option<ClusterId>), IdentityError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let damaged = || IdentityError::Damaged(path.to_owned());
    let Version { format } = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    if format != FORMAT {
        return Err(IdentityError::Format { path: path.to_owned(), found: format });
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    if stored.check != stored.sum() {
        return Err(damaged());
    }
    let node = u64::from_str_radix(&stored.node, 16).ok().filter(|id| *id != 0).ok_or_else(damaged)?;
    let cluster = match &stored.cluster {
        Some(text) => Some(ClusterId(u128::from_str_radix(text, 16).map_err(|_| damaged())?)),
        None => None,
    };
    Ok((NodeId(node), stored.generation, cluster))
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;

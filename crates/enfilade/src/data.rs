//! The data directory of a node alone: its identity, the registry's journal and the node's secrets.
//! Rule: the directory's lock is taken first; only its holder makes anything in it.

use crate::identity::Identity;
use anyhow::Context;
use enfilade_journal::{LocalConfig, LocalRegistry, NowMs};
use enfilade_runtime::{SECRET_BYTES, secret};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a node finds in its data directory, or puts there at its first start.
pub(crate) struct Data {
    pub(crate) identity: Identity,
    pub(crate) registry: Arc<LocalRegistry>,
    pub(crate) session_secret: [u8; SECRET_BYTES],
    pub(crate) cursor_secret: Vec<u8>,
}

/// Opens the data directory, and makes what is missing.
///
/// # Errors
/// It cannot be used, another node uses it, or something in it is damaged.
pub(crate) async fn open(dir: PathBuf, now_ms: NowMs) -> anyhow::Result<Data> {
    tokio::task::spawn_blocking(move || open_blocking(&dir, now_ms))
        .await
        .context("opening the data directory failed")?
}

fn open_blocking(dir: &Path, now_ms: NowMs) -> anyhow::Result<Data> {
    let unusable = || format!("the data directory {} cannot be used", dir.display());
    let identity = Identity::open(dir, random)?;
    let registry = LocalRegistry::open(LocalConfig::new(dir.join("registry"), now_ms)).with_context(unusable)?;
    let torn_bytes = registry.torn_bytes();
    if torn_bytes > 0 {
        tracing::warn!(torn_bytes, "a crash had cut off the last write, which nobody was told of; it is dropped");
    }
    let random = |bytes: &mut [u8; SECRET_BYTES]| getrandom::fill(bytes).map_err(io::Error::other);
    Ok(Data {
        identity,
        registry: Arc::new(registry),
        session_secret: secret(dir, "session.key", random)?,
        cursor_secret: secret(dir, "cursor.key", random)?.to_vec(),
    })
}

/// A number that no other node has.
///
/// # Errors
/// The system has no random bytes.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_ne_bytes(bytes))
}

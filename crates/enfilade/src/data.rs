//! The data directory: the registry's journal and this node's secrets.
//! Rule: the journal's lock is taken first; only its holder makes secrets.

use anyhow::Context;
use enfilade_journal::{LocalConfig, LocalRegistry, NowMs};
use enfilade_runtime::{SECRET_BYTES, secret};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a node finds in its data directory, or puts there at its first start.
pub(crate) struct Data {
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
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(unusable)?;
    let registry = LocalRegistry::open(LocalConfig::new(dir.join("registry"), now_ms)).with_context(unusable)?;
    let torn_bytes = registry.torn_bytes();
    if torn_bytes > 0 {
        tracing::warn!(torn_bytes, "a crash had cut off the last write, which nobody was told of; it is dropped");
    }
    let random = |bytes: &mut [u8; SECRET_BYTES]| getrandom::fill(bytes).map_err(io::Error::other);
    Ok(Data {
        registry: Arc::new(registry),
        session_secret: secret(dir, "session.key", random)?,
        cursor_secret: secret(dir, "cursor.key", random)?.to_vec(),
    })
}

//! A node's share of the registry: its replica if it has the role, else a watch.

use super::control::Control;
use crate::config::Cluster as Section;
use anyhow::Context;
use enfilade_cluster::RaftLinks;
use enfilade_mesh::Mesh;
use enfilade_raft::{Raft, Share, Watcher, WatcherConfig};
use enfilade_registry::{NodeId, Run};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Opens this node's replica in `dir`.
///
/// # Errors
/// It cannot be read.
pub(super) async fn open(
    section: &Section,
    run: Run,
    dir: PathBuf,
    mesh: &Mesh,
    control: &Control,
) -> anyhow::Result<Share> {
    let mut config = enfilade_raft::Config::new(dir, run, Arc::new(RaftLinks(mesh.clone())));
    config.timing = section.timing.registry();
    let raft = control.run(Raft::open(config)).await?.context("the registry cannot be opened")?;
    Ok(Share::Replica(Arc::new(raft)))
}

/// Begins to watch the registry.
///
/// # Errors
/// The node had the role: then its replica in `dir` may still have a vote.
pub(super) async fn watch(
    run: Run,
    dir: &Path,
    replicas: watch::Receiver<Vec<NodeId>>,
    mesh: &Mesh,
    control: &Control,
) -> anyhow::Result<Share> {
    anyhow::ensure!(
        !dir.exists(),
        "{} is a replica of the registry, which may have a vote: give the node the role registry again, \
         or start with an empty data directory to join as a new node",
        dir.display()
    );
    let config = WatcherConfig::new(run, Arc::new(RaftLinks(mesh.clone())), replicas);
    let watcher = control.run(async move { Watcher::start(config) }).await?;
    Ok(Share::Watched(Arc::new(watcher)))
}

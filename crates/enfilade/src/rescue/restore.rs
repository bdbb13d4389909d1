//! `enfilade restore`: the first node of a new cluster, with the registry of a backup.

use super::plant::{Seed, finish, is_unfinished, plant};
use super::{described, new_cluster, read};
use crate::Failure;
use crate::identity;
use std::path::Path;

/// What an operator has to know of what a backup cannot have.
const MISSING: &str = "\
not in the backup:
  keys: this cluster needs the folder of the former one, or nobody's session id is accepted
  sessions that were opened since: their clients get 404 and open new ones
  the end of sessions that ended since: they are there again until their time is up
  events that clients could resume, calls under way and stdio processes: they are answered as after a crash
  the nodes' own configuration files
";

/// Puts the registry of the backup into an empty data directory.
///
/// # Errors
/// The backup is damaged, or the directory is not empty or cannot be written.
pub(crate) async fn restore(file: &Path, dir: &Path) -> Result<(), Failure> {
    let registry = read(file)?;
    let _lock = identity::lock(dir).map_err(anyhow::Error::from)?;
    if is_unfinished(dir) {
        finish(dir)?;
    } else {
        if identity::is_used(dir) {
            return Err(anyhow::anyhow!("{} is not empty: a restored cluster begins anew", dir.display()).into());
        }
        let cluster = new_cluster()?;
        let (raft_term, last_log) = (registry.epoch(), registry.applied());
        let registry = registry.clone().refounded(cluster);
        plant(dir, Seed { registry: &registry, cluster, raft_term, last_log }).await?;
    }
    let (node, cluster) = identity::look(dir).map_err(anyhow::Error::from)?.unwrap_or_default();
    let cluster = cluster.map_or_else(String::new, |cluster| cluster.to_string());
    crate::print(&format!(
        "restored into {} as node {node}, the first of the new cluster {cluster}\n{}{MISSING}\
         start it with `enfilade serve`, then all other nodes with empty data directories\n",
        dir.display(),
        described(&registry),
    ))
}

//! Puts the first node of a cluster into a data directory: a replica that begins with a given registry, and alone votes.
//!
//! Rule: it is built aside in `recovery/`, whose `node.json` is written last, and then moved into place. Wherever that is
//! cut off, the same command ends it, and no node starts from such a directory meanwhile.

use crate::identity;
use anyhow::Context;
use enfilade_raft::offline;
use enfilade_registry::{ClusterId, NodeId, StateMachine};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where it is built. As long as it is there the data directory is neither the former node's nor the new one's.
pub(crate) const UNFINISHED: &str = "recovery";

const RAFT: &str = "raft";

/// What the new node begins with.
pub(super) struct Seed<'a> {
    pub(super) registry: &'a StateMachine,
    pub(super) cluster: ClusterId,
    /// What it elects is of a higher Raft term.
    pub(super) raft_term: u64,
    /// Its first entry has a higher index.
    pub(super) last_log: u64,
}

/// Plants a node with an id of its own. The caller holds the directory's lock. A replica that is there already is kept
/// beside it, under the former node's id.
///
/// # Errors
/// The directory cannot be written.
pub(super) async fn plant(dir: &Path, seed: Seed<'_>) -> anyhow::Result<NodeId> {
    let node = build(dir, seed).await?;
    finish(dir)?;
    Ok(node)
}

async fn build(dir: &Path, seed: Seed<'_>) -> anyhow::Result<NodeId> {
    let aside = dir.join(UNFINISHED);
    // Without its `node.json` it is a beginning that nothing depends on.
    if aside.exists() {
        fs::remove_dir_all(&aside).with_context(cannot("remove", &aside))?;
    }
    DirBuilder::new().mode(0o700).create(&aside).with_context(cannot("make", &aside))?;
    let node = identity::mint(&aside, crate::data::random)?;
    let Seed { registry, cluster, raft_term, last_log } = seed;
    offline::found(&aside.join(RAFT), node, registry, raft_term, last_log).await?;
    identity::give(&aside, node, cluster)?;
    Ok(node)
}

/// Whether a node is there, built and not in its place.
pub(super) fn is_unfinished(dir: &Path) -> bool {
    dir.join(UNFINISHED).join(identity::NAME).exists()
}

/// Moves into place what was built. Every step is repeated without harm.
///
/// # Errors
/// The directory cannot be written.
pub(super) fn finish(dir: &Path) -> anyhow::Result<()> {
    let aside = dir.join(UNFINISHED);
    let (built, place) = (aside.join(RAFT), dir.join(RAFT));
    if built.exists() {
        if place.exists() {
            rename(&place, &kept(dir)?)?;
        }
        rename(&built, &place)?;
    }
    sync(dir)?;
    rename(&aside.join(identity::NAME), &dir.join(identity::NAME))?;
    sync(dir)?;
    fs::remove_dir(&aside).with_context(cannot("remove", &aside))
}

/// Where the former node's replica is kept.
fn kept(dir: &Path) -> anyhow::Result<PathBuf> {
    let former = identity::look(dir)?.context("a replica without a node")?.0;
    Ok(dir.join(format!("{RAFT}.{former}")))
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(cannot("move", from))
}

fn sync(dir: &Path) -> anyhow::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(cannot("write", dir))
}

fn cannot<'a>(what: &'a str, path: &'a Path) -> impl Fn() -> String + 'a {
    move || format!("cannot {what} {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, IdentityError};
    use tempfile::TempDir;

    const CLUSTER: ClusterId = ClusterId(5);
    const FORMER: NodeId = NodeId(7);

    /// The data directory of a node with a replica.
    fn former() -> anyhow::Result<TempDir> {
        let dir = tempfile::tempdir()?;
        identity::give(dir.path(), FORMER, CLUSTER)?;
        fs::create_dir(dir.path().join(RAFT))?;
        fs::write(dir.path().join(RAFT).join("of the former"), "")?;
        Ok(dir)
    }

    async fn built(dir: &Path) -> anyhow::Result<NodeId> {
        let registry = StateMachine::new().refounded(CLUSTER);
        build(dir, Seed { registry: &registry, cluster: CLUSTER, raft_term: 3, last_log: 9 }).await
    }

    #[tokio::test]
    async fn wherever_it_is_cut_off_no_node_starts_and_it_can_be_finished() -> anyhow::Result<()> {
        for done in 0..3 {
            let dir = former()?;
            let dir = dir.path();
            let node = built(dir).await?;
            if done >= 1 {
                fs::rename(dir.join(RAFT), kept(dir)?)?;
            }
            if done >= 2 {
                fs::rename(dir.join(UNFINISHED).join(RAFT), dir.join(RAFT))?;
            }
            let refused = Identity::open(dir, || Ok(1));
            assert!(matches!(refused, Err(IdentityError::Unfinished(_))), "{done}: {refused:?}");
            assert!(is_unfinished(dir), "{done}");
            finish(dir)?;
            assert_eq!(identity::look(dir)?, Some((node, Some(CLUSTER))), "{done}");
            assert!(dir.join(format!("{RAFT}.{FORMER}")).join("of the former").exists(), "{done}");
            assert!(dir.join(RAFT).join("state").exists() && !dir.join(UNFINISHED).exists(), "{done}");
            assert_eq!(Identity::open(dir, || Ok(1))?.run().node, node, "{done}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_was_begun_and_not_built_is_begun_anew() -> anyhow::Result<()> {
        let dir = former()?;
        fs::create_dir_all(dir.path().join(UNFINISHED).join(RAFT).join("log"))?;
        assert!(!is_unfinished(dir.path()));
        let node = built(dir.path()).await?;
        assert!(is_unfinished(dir.path()) && node != FORMER);
        Ok(())
    }
}

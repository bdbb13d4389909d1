//! `enfilade recover`: one node that is left goes on alone when most voters are lost for good. It is the only voter of
//! the same cluster, under an id of its own; every former node, itself too, is removed from the cluster for ever.

use super::described;
use super::plant::{Seed, finish, is_unfinished, plant};
use crate::Failure;
use crate::config::Problem;
use crate::identity;
use anyhow::Context;
use enfilade_raft::offline::{self, Left};
use enfilade_registry::{ClusterId, NodeId};
use std::path::Path;

/// Shows what the node has, and makes it the only voter if the operator accepts the loss of what it does not have.
///
/// # Errors
/// The loss is not accepted, the node runs or belongs to no cluster, or its directory cannot be read or written.
pub(crate) async fn recover(dir: &Path, accepted: Option<u64>) -> Result<(), Failure> {
    if !dir.is_dir() {
        return Err(anyhow::anyhow!("{} is no directory", dir.display()).into());
    }
    let _lock = identity::lock(dir).map_err(anyhow::Error::from)?;
    if is_unfinished(dir) {
        finish(dir)?;
        return crate::print(&format!("the recovery of {} that was cut off is finished\n{NEXT}", dir.display()));
    }
    let known = identity::look(dir).map_err(anyhow::Error::from)?;
    let (node, cluster) = known.with_context(|| format!("{} is no node's data directory", dir.display()))?;
    let cluster = cluster.with_context(|| format!("the node of {} belongs to no cluster", dir.display()))?;
    let left = offline::read(&dir.join("raft")).await.context("the registry cannot be read")?;
    if left.voters.iter().eq([&node]) {
        return Err(anyhow::anyhow!("this node is the only voter already: start it").into());
    }
    if accepted != Some(left.last_log) {
        crate::print(&report(dir, node, &left))?;
        return Err(Failure::Configuration(vec![Problem::on_command_line(refusal(accepted, left.last_log))]));
    }
    let new = carry_on(dir, cluster, left).await?;
    crate::print(&format!("{} is node {new} from now on, the only voter of cluster {cluster}\n{NEXT}", dir.display()))
}

async fn carry_on(dir: &Path, cluster: ClusterId, left: Left) -> anyhow::Result<NodeId> {
    let registry = left.registry.refounded(cluster);
    let seed = Seed { registry: &registry, cluster, raft_term: left.raft_term, last_log: left.last_log };
    plant(dir, seed).await
}

const NEXT: &str = "\
start it with `enfilade serve`; start every other node with an empty data directory: it joins, and votes where
`cluster.voters` says that there are so many voters
";

fn report(dir: &Path, node: NodeId, left: &Left) -> String {
    let name = |node: &NodeId| match left.registry.members().get(*node) {
        Some(member) => format!("{} ({node})", member.name),
        None => node.to_string(),
    };
    let voters: Vec<String> = left.voters.iter().map(name).collect();
    format!(
        "{} is node {}\n{}voters    {}\nlog       up to entry {} of term {}\n\
         lost if other voters had more than this log, and nobody can tell that here:\n  \
         sessions that were opened after entry {}: their clients get 404 and open new ones\n  \
         the end of sessions that ended after it: they are there again until their time is up\n  \
         upstream sessions, subscriptions, log levels, limits and configuration that were set after it\n\
         lost in any case: events that clients could resume, calls under way; they are answered as after a crash\n\
         before: stop all other nodes. Of those that are left take the one with the highest term and then entry.\n\
         after: their data directories are refused for ever, whoever has more in them.\n",
        dir.display(),
        name(&node),
        described(&left.registry),
        voters.join(", "),
        left.last_log,
        left.last_term,
        left.last_log,
    )
}

fn refusal(accepted: Option<u64>, last_log: u64) -> String {
    match accepted {
        None => format!("nothing was changed: to lose what is named above, say --accept-loss-after {last_log}"),
        Some(other) => format!("nothing was changed: the log ends at entry {last_log}, and not at {other}"),
    }
}

//! The registry's leader replaces a voter that is gone for long by a node that has its log and no vote yet, and lets
//! such nodes vote as well while fewer do than the configuration says: after a restore or a recovery only one does.
//!
//! Rule: one change at a time, never fewer voters, never while a node is emptied, and only if most of the new voters are
//! here and have the log. Their number stays odd: with two, either one's loss would stop the other. Who is gone is known
//! from links and gossip together; neither removes anybody alone. The id of a replaced voter is never used again.

use enfilade_membership::Roster;
use enfilade_mesh::Mesh;
use enfilade_raft::{Raft, Status};
use enfilade_registry::{Command, Members, NodeId, Reader, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A replica that lacks no more of the log than this has it.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// These vote from now on, in place of those that do.
    Voters { gone: NodeId, voters: Vec<NodeId> },
    /// These vote from now on: all that did, and more.
    Grow { voters: Vec<NodeId> },
    /// This id was replaced; it is forgotten for ever.
    Forget(NodeId),
}

/// The leader's view of the moment.
struct View<'a> {
    me: NodeId,
    /// How many are to vote.
    wanted: usize,
    status: &'a Status,
    members: &'a Members,
    /// Nodes that gossip hears or that a link leads to; this one is among them.
    here: &'a BTreeSet<NodeId>,
    /// Nodes that have been away for long enough.
    gone: &'a BTreeSet<NodeId>,
}

impl View<'_> {
    fn next(&self) -> Option<Change> {
        if !self.status.is_leader || self.members.iter().any(|(_, member)| member.draining) {
            return None;
        }
        self.forget().or_else(|| self.replace()).or_else(|| self.grow())
    }

    /// A registry node that is no replica any more was replaced.
    fn forget(&self) -> Option<Change> {
        let is_replica = |node: &NodeId| self.status.voters.contains(node) || self.status.learners.contains(node);
        let mut members = self.members.iter().filter(|(_, member)| member.roles.registry);
        let replaced = members.find(|(node, _)| !is_replica(node) && self.gone.contains(node));
        replaced.map(|(node, _)| Change::Forget(node))
    }

    fn replace(&self) -> Option<Change> {
        let gone = *self.status.voters.iter().find(|voter| self.gone.contains(voter))?;
        let new = self.candidates().next()?;
        let voters: Vec<NodeId> =
            self.status.voters.iter().copied().filter(|voter| *voter != gone).chain([new]).collect();
        self.most_have_log(&voters).then_some(Change::Voters { gone, voters })
    }

    /// Two more, or one where their number is even.
    fn grow(&self) -> Option<Change> {
        let voters = &self.status.voters;
        let more = 1 + voters.len() % 2;
        let new: Vec<NodeId> = self.candidates().take(more).collect();
        if new.len() < more || voters.len() + more > self.wanted {
            return None;
        }
        let voters: Vec<NodeId> = voters.iter().copied().chain(new).collect();
        self.most_have_log(&voters).then_some(Change::Grow { voters })
    }

    /// Who may vote and does not yet.
    fn candidates(&self) -> impl Iterator<Item = NodeId> {
        let may_vote = |node: &NodeId| self.members.get(*node).is_some_and(|member| member.roles.registry);
        self.status.learners.iter().copied().filter(move |node| may_vote(node) && self.has_log(*node))
    }

    fn most_have_log(&self, voters: &[NodeId]) -> bool {
        voters.iter().filter(|voter| self.has_log(**voter)).count() > voters.len() / 2
    }

    /// Whether a replica is here and has the log.
    fn has_log(&self, node: NodeId) -> bool {
        let matched = self.status.matched.get(&node).copied().flatten();
        node == self.me
            || self.here.contains(&node)
                && matched.is_some_and(|matched| matched + LAG_ENTRIES_MAX >= self.status.last_log)
    }
}

/// How many vote, and for how long one may be away; nothing: for ever.
pub(super) struct Wanted {
    pub(super) voters: usize,
    pub(super) replace_after: Option<Duration>,
}

/// Looks after the voters as long as this node leads; never ends.
pub(super) async fn run(me: NodeId, raft: Arc<Raft>, mesh: Mesh, roster: watch::Receiver<Arc<Roster>>, wanted: Wanted) {
    // Since when a node is away, as far as this leader knows: another one begins to count anew.
    let mut away: BTreeMap<NodeId, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let status = raft.status().borrow().clone();
        if !status.is_leader {
            away.clear();
            continue;
        }
        let members = raft.members();
        let heard = roster.borrow().runs().map(|run| run.node).collect::<Vec<_>>();
        let here: BTreeSet<NodeId> = heard.into_iter().chain(mesh.connected()).chain([me]).collect();
        let known = status.voters.iter().copied().chain(members.iter().map(|(node, _)| node));
        let missing: BTreeSet<NodeId> = known.filter(|node| !here.contains(node)).collect();
        away.retain(|node, _| missing.contains(node));
        for node in &missing {
            away.entry(*node).or_insert_with(Instant::now);
        }
        let is_gone = |since: &Instant| wanted.replace_after.is_some_and(|after| since.elapsed() >= after);
        let gone = away.iter().filter(|(_, since)| is_gone(since)).map(|(node, _)| *node).collect();
        let view = View { me, wanted: wanted.voters, status: &status, members: &members, here: &here, gone: &gone };
        if let Some(change) = view.next() {
            carry_out(&raft, change).await;
        }
    }
}

async fn carry_out(raft: &Raft, change: Change) {
    match change {
        Change::Voters { gone, voters } => {
            tracing::warn!(%gone, ?voters, "a voter is gone for long: another node votes in its place");
            match raft.change_voters(voters).await {
                Ok(()) => tracing::info!(%gone, "a dead voter was replaced"),
                Err(error) => tracing::warn!(%gone, %error, "the dead voter cannot be replaced now"),
            }
        }
        Change::Grow { voters } => match raft.change_voters(voters.clone()).await {
            Ok(()) => tracing::info!(?voters, "more nodes vote"),
            Err(error) => tracing::warn!(?voters, %error, "more nodes cannot vote now"),
        },
        Change::Forget(node) => match raft.submit(Command::Remove { node }).await {
            Ok(_) => tracing::info!(%node, "the replaced node is forgotten: its data directory cannot be used again"),
            // Slots may name it for a while.
            Err(error) => tracing::debug!(%node, %error, "the replaced node cannot be forgotten yet"),
        },
    }
}

#[cfg(test)]
#[path = "replace_tests.rs"]
mod tests;

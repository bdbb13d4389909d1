//! The members of the cluster, as the registry knows them: who was started under which number, and who is gone for ever.
//! Rule: a node's generation only rises, and a removed node's id is never registered again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Generation, NodeId, Refusal, Roles, Run};

/// A node as it registered at its last start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What people call it.
    pub name: Arc<str>,
    /// `host:port` at which other nodes reach its links.
    pub link: Arc<str>,
    /// What it does.
    pub roles: Roles,
    /// Its present run.
    pub generation: Generation,
    /// Whether it is to be emptied. A drain ends with the run: who wants a node to stay empty does not start it.
    pub draining: bool,
    /// The highest command format that it supports.
    pub formats: u32,
}

/// All members and the ids of those that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    nodes: BTreeMap<NodeId, Member>,
    removed: BTreeSet<NodeId>,
}

impl Members {
    /// The member with this id.
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.nodes.get(&node)
    }

    /// All members, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.nodes.iter().map(|(node, member)| (*node, member))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody registered yet.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the node was removed: its id is never used again.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// The present run of a node.
    pub fn run_of(&self, node: NodeId) -> Option<Run> {
        self.get(node).map(|member| Run { node, generation: member.generation })
    }

    /// Whether this run is the one that its node registered last.
    pub fn is_current(&self, run: Run) -> bool {
        self.run_of(run.node) == Some(run)
    }

    /// Whether the node has registered a later run. Its generation was raised under the lock of the data
    /// directory, so this run's process is gone.
    pub fn is_superseded(&self, run: Run) -> bool {
        self.get(run.node).is_some_and(|member| member.generation > run.generation)
    }

    /// Whether this run may hold slots, now or until it is drained.
    pub fn is_owner(&self, run: Run) -> bool {
        self.is_current(run) && self.get(run.node).is_some_and(|member| member.roles.owner)
    }

    /// Whether this run may be given slots.
    pub fn takes_slots(&self, run: Run) -> bool {
        self.is_owner(run) && !self.is_draining(run.node)
    }

    /// Whether the node is to be emptied.
    pub fn is_draining(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.draining)
    }

    /// The present runs of all nodes with the owner role, in the order of ids.
    pub fn owners(&self) -> impl Iterator<Item = Run> {
        self.iter()
            .filter(|(_, member)| member.roles.owner)
            .map(|(node, member)| Run { node, generation: member.generation })
    }

    pub(crate) fn is_untouched(members: &Arc<Members>) -> bool {
        members.nodes.is_empty() && members.removed.is_empty()
    }

    pub(crate) fn check_register(&self, node: NodeId, new: &Member) -> Result<(), Refusal> {
        if self.is_removed(node) {
            return Err(Refusal::NodeRemoved);
        }
        match self.get(node) {
            Some(old) if old.generation > new.generation => Err(Refusal::OldRun { registered: old.generation }),
            Some(old) if old.generation == new.generation && !new.repeats(old) => {
                Err(Refusal::OldRun { registered: old.generation })
            }
            _ => Ok(()),
        }
    }

    /// Registers a run that was checked. A repeat changes nothing, not even a drain that began since.
    pub(crate) fn register(&mut self, node: NodeId, new: Member) {
        if self.get(node).is_none_or(|old| old.generation < new.generation) {
            self.nodes.insert(node, new);
        }
    }

    pub(crate) fn check_known(&self, node: NodeId) -> Result<(), Refusal> {
        self.get(node).map(drop).ok_or(Refusal::UnknownNode)
    }

    pub(crate) fn drain(&mut self, node: NodeId, on: bool) {
        if let Some(member) = self.nodes.get_mut(&node) {
            member.draining = on;
        }
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.removed.insert(node);
    }

    /// Nobody, and all that ever were members removed.
    pub(crate) fn all_removed(&self) -> Members {
        let removed = self.nodes.keys().chain(&self.removed).copied().collect();
        Members { nodes: BTreeMap::new(), removed }
    }
}

impl Member {
    /// Whether this is what `old` registered: then a repeat is a retry, not a second process of one generation.
    fn repeats(&self, old: &Member) -> bool {
        Member { draining: old.draining, ..self.clone() } == *old
    }
}

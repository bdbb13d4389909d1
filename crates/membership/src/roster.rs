//! The members that are alive, as one node sees them.

use enfilade_registry::{NodeId, Run};

use crate::{Hint, Identity};

/// A member that is alive, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Who it is.
    pub identity: Identity,
    /// The newest hint of this run that arrived here.
    pub hint: Option<Hint>,
}

/// All that are alive, this node among them, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    members: Vec<Alive>,
}

impl Roster {
    /// `members` in any order, one per node.
    pub fn new(mut members: Vec<Alive>) -> Roster {
        members.sort_unstable_by_key(|alive| alive.identity.run.node);
        Roster { members }
    }

    /// The members in the order of their ids.
    pub fn members(&self) -> &[Alive] {
        &self.members
    }

    /// Their runs, in the same order.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.members.iter().map(|alive| alive.identity.run)
    }

    /// One of them.
    pub fn get(&self, node: NodeId) -> Option<&Alive> {
        let found = self.members.binary_search_by_key(&node, |alive| alive.identity.run.node);
        found.ok().and_then(|index| self.members.get(index))
    }
}

//! Nodes and their runs: who an owner is, in words that are never used twice.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node: the number that its data directory was given when it was made. Never reused, also after its removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How many times a node was started: raised at each start under the lock of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// One run of a node, from its start to its end. What an earlier run held in memory is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub generation: Generation,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.generation.0)
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roles {
    /// Terminates client transports.
    pub edge: bool,
    /// Runs the sessions of the slots it holds.
    pub owner: bool,
    /// Holds the whole registry, and may vote.
    pub registry: bool,
}

impl Roles {
    /// All of them: the default.
    pub const ALL: Roles = Roles { edge: true, owner: true, registry: true };
}

/// The cluster, by the number that it was given when it was founded. Data of another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

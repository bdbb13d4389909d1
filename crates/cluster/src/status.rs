//! What an operator sees of the cluster from one node.

use enfilade_registry::{NodeId, Roles, Run};

/// The cluster as this node sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads the registry.
    pub leader: Option<NodeId>,
    /// Whether this node does.
    pub is_leader: bool,
    /// Slots that this node owns.
    pub slots_owned: usize,
    /// Those of them that it may serve when it has a lease.
    pub slots_serving: usize,
    /// Slots whose copies this node holds.
    pub slots_second: usize,
    /// How long this node may still act, in ms; 0 without a lease.
    pub lease_left_ms: u64,
    /// Whether this run is registered.
    pub is_registered: bool,
    /// All members.
    pub members: Vec<MemberStatus>,
}

/// One member as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its present run.
    pub run: Run,
    /// Its name.
    pub name: String,
    /// What it does.
    pub roles: Roles,
    /// Whether it is to be emptied.
    pub draining: bool,
    /// Whether this node has a link to it, or is it.
    pub is_linked: bool,
    /// Slots that it owns.
    pub slots_owned: usize,
    /// Slots whose copies it holds.
    pub slots_second: usize,
}

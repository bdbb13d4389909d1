//! What a replica knows of its group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enfilade_registry::NodeId;
use openraft::ServerState;

use crate::types::Metrics;

/// What a replica knows of its group at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the replica belongs to a group: false only in a new directory.
    pub is_initialised: bool,
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Whether this node leads. It may have been deposed without knowing: see [`Raft::read_index`](crate::Raft::read_index).
    pub is_leader: bool,
    /// Raft's term: of the group, and not of a slot.
    pub raft_term: u64,
    /// The last index of the log.
    pub last_log: u64,
    /// The last index applied here.
    pub applied: u64,
    /// The index of the last snapshot.
    pub snapshot: Option<u64>,
    /// Who votes. While voters change: those of both configurations.
    pub voters: BTreeSet<NodeId>,
    /// Who has the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// On the leader: up to which index each other replica has the log; `None` before its first answer.
    pub matched: BTreeMap<NodeId, Option<u64>>,
    /// Why the replica stopped for good: its disk failed, an entry of an unknown format, a state that differs.
    pub failed: Option<Arc<str>>,
}

impl Status {
    pub(crate) fn from_metrics(metrics: &Metrics) -> Status {
        let membership = metrics.membership_config.membership();
        let others = metrics.replication.iter().flatten();
        Status {
            is_initialised: metrics.last_log_index.is_some() || metrics.current_term > 0,
            leader: metrics.current_leader.map(NodeId),
            is_leader: metrics.state == ServerState::Leader,
            raft_term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.as_ref().map_or(0, |id| id.index),
            snapshot: metrics.snapshot.as_ref().map(|id| id.index),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            matched: others.map(|(node, id)| (NodeId(*node), id.as_ref().map(|id| id.index))).collect(),
            failed: metrics.running_state.as_ref().err().map(|fatal| fatal.to_string().into()),
        }
    }
}

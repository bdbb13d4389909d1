//! What openraft is told of this project's types, and short names for what comes of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use enfilade_registry::Run;
use openraft::EmptyNode;

use crate::state::Origins;

openraft::declare_raft_types!(
    /// The types of the registry's group. Nodes have no data of their own here: who they are says the registry.
    pub(crate) Types:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = EmptyNode,
);

pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type LeaderId = openraft::alias::CommittedLeaderIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Payload = openraft::alias::PayloadOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, Content>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;

/// What a snapshot holds beside its meta data.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Which batches it has.
    pub(crate) origins: Origins,
    /// The registry's own snapshot.
    pub(crate) registry: Bytes,
}

/// What an entry of the log holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proposal {
    /// Commands that were submitted together.
    Batch(Arc<Batch>),
    /// A snapshot is to be taken here.
    Cut(Cut),
}

/// Commands that were submitted together at one node.
#[derive(Debug, PartialEq)]
pub(crate) struct Batch {
    /// Where: it waits for the results.
    pub(crate) origin: Run,
    /// Counts the batches of that run.
    pub(crate) seq: u64,
    /// Their bytes, each with its format.
    pub(crate) commands: Vec<Bytes>,
}

impl Batch {
    pub(crate) fn bytes(&self) -> u64 {
        self.commands.iter().map(|command| command.len() as u64).sum()
    }
}

/// Where a snapshot is taken, and what the one before was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Index and digest of the proposer's snapshot before.
    pub(crate) previous: Option<(u64, [u8; 32])>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proposal::Batch(batch) => {
                write!(f, "batch {} of {}, {} commands", batch.seq, batch.origin, batch.commands.len())
            }
            Proposal::Cut(_) => write!(f, "cut"),
        }
    }
}

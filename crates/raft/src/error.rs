//! What can go wrong with a replica.

use enfilade_journal::JournalError;
use enfilade_registry::NodeId;
use openraft::errors::{ClientWriteError, Fatal, RaftError};

use crate::types::Types;

/// Why a replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log or the snapshots cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshot on the disk is not one of this release.
    #[error("the registry's snapshot: {0}")]
    Snapshot(String),
    /// The times or sizes contradict each other.
    #[error("raft cannot run with this configuration: {0}")]
    Config(String),
    /// What is on the disk does not fit together.
    #[error("raft cannot start: {0}")]
    Start(String),
}

/// Why this node could not show that it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoQuorum {
    /// It does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// No majority answered in time: somebody else may lead by now.
    #[error("no majority answered in time")]
    Late,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Why the group was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Only the leader can.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// There is a group already.
    #[error("the group exists already")]
    Exists,
    /// The change makes no sense now: another is under way, a node is unknown, nobody would be left.
    #[error("refused: {0}")]
    Refused(String),
    /// It did not happen in time; it may still.
    #[error("not done in time")]
    Late,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

impl From<Fatal<Types>> for ControlError {
    fn from(_: Fatal<Types>) -> ControlError {
        ControlError::Stopped
    }
}

impl From<RaftError<Types, ClientWriteError<Types>>> for ControlError {
    fn from(error: RaftError<Types, ClientWriteError<Types>>) -> ControlError {
        match error {
            RaftError::Fatal(_) => ControlError::Stopped,
            RaftError::APIError(ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to)) => {
                ControlError::NotLeader { leader: to.leader_id.map(NodeId) }
            }
            RaftError::APIError(error) => ControlError::Refused(error.to_string()),
        }
    }
}

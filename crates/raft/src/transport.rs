//! How replicas call each other. The composition puts its links behind this; tests put a map of nodes.

use std::time::Duration;

use bytes::Bytes;
use enfilade_registry::{BoxFuture, NodeId};
use futures::stream::BoxStream;

/// What is asked of another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RaftCall {
    /// Entries of the log, or none: the answer says what is on the disk.
    Append,
    /// A vote.
    Vote,
    /// Whether a vote would be granted.
    PreVote,
    /// A piece of a snapshot.
    Snapshot,
    /// To take the lead.
    TransferLeader,
    /// To propose a batch of commands.
    Submit,
    /// Whether the caller leads still, as far as the other replica knows: answered without a disk.
    Heartbeat,
}

impl RaftCall {
    /// All of them.
    pub const ALL: [RaftCall; 7] = [
        RaftCall::Append,
        RaftCall::Vote,
        RaftCall::PreVote,
        RaftCall::Snapshot,
        RaftCall::TransferLeader,
        RaftCall::Submit,
        RaftCall::Heartbeat,
    ];

    /// Its number between nodes. Never reused.
    pub fn number(self) -> u32 {
        match self {
            RaftCall::Append => 1,
            RaftCall::Vote => 2,
            RaftCall::PreVote => 3,
            RaftCall::Snapshot => 4,
            RaftCall::TransferLeader => 5,
            RaftCall::Submit => 6,
            RaftCall::Heartbeat => 7,
        }
    }

    /// The call with this number.
    pub fn from_number(number: u32) -> Option<RaftCall> {
        RaftCall::ALL.into_iter().find(|call| call.number() == number)
    }
}

/// Calls other nodes. Nothing is promised of a call that failed: it may have been carried out.
pub trait Transport: Send + Sync + 'static {
    /// Calls `to` and waits for the answer of its [`Raft::serve`](crate::Raft::serve), for at most `within`.
    fn call(
        &self,
        to: NodeId,
        kind: RaftCall,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'_, Result<Bytes, Unreachable>>;
}

/// The parts of a watch as they come; they end with the exchange.
pub type Parts = BoxStream<'static, Result<Bytes, Unreachable>>;

/// Calls other nodes, and watches them.
pub trait WatchTransport: Transport {
    /// Asks `to` with a message for its [`Raft::watch`](crate::Raft::watch). Dropping the parts ends the watch.
    fn watch(&self, to: NodeId, asked: Bytes) -> BoxFuture<'_, Result<Parts, Unreachable>>;
}

/// No answer came: no connection, a lost one, none in time, or the other node could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {to} gives no answer: {why}")]
pub struct Unreachable {
    /// Who was called.
    pub to: NodeId,
    /// What is known of the reason, for the log.
    pub why: String,
}

/// Why a call of another node is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// Not a message of this release.
    #[error("the message cannot be read")]
    Malformed,
    /// The asking run was removed, or the node has started again since.
    #[error("the node is not to be served")]
    Gone,
    /// This replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

//! What other replicas ask of this one.

use std::pin::pin;

use bytes::Bytes;
use enfilade_proto::raft as pb;
use enfilade_registry::NodeId;
use futures::FutureExt as _;
use futures::future::{Either, select};
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use prost::Message as _;

use crate::codec::BadMessage;
use crate::core::Core;
use crate::network::{self, Received};
use crate::types::Types;
use crate::{RaftCall, ServeError};

impl Core {
    pub(crate) async fn serve(&self, kind: RaftCall, from: NodeId, body: Bytes) -> Result<Bytes, ServeError> {
        match kind {
            RaftCall::Append => {
                let answer = self.openraft.append_entries(network::append_asked(body)?).await?;
                Ok(network::append_answer(&answer))
            }
            RaftCall::Vote => {
                let answer = self.openraft.vote(network::vote_asked(body)?).await?;
                Ok(network::vote_answer(&answer))
            }
            RaftCall::PreVote => {
                let answer = self.openraft.pre_vote(network::vote_asked(body)?).await?;
                Ok(network::vote_answer(&answer))
            }
            RaftCall::TransferLeader => {
                let answer = self.openraft.handle_transfer_leader(network::transfer_asked(body)?).await?;
                Ok(network::transfer_answer(&answer))
            }
            RaftCall::Snapshot => self.serve_snapshot(from, body).await,
            RaftCall::Submit => self.serve_submit(body).await,
            RaftCall::Heartbeat => self.serve_heartbeat(network::append_asked(body)?).await,
        }
    }

    /// Says whether the caller leads still, as far as this replica knows, and puts off elections here. Openraft's own
    /// answer to a heartbeat waits until the log before it is on the disk; this one does not, and says nothing of the log.
    ///
    /// A yes means: until now this replica has granted no vote above the caller's. Openraft notes a vote in memory
    /// before it says so to anybody, and it dealt with the heartbeat before it is asked for the vote (ADR 11).
    async fn serve_heartbeat(&self, asked: AppendEntriesRequest<Types>) -> Result<Bytes, ServeError> {
        let caller = asked.vote;
        let append = pin!(self.openraft.append_entries(asked));
        let known = pin!(self.openraft.with_raft_state(|state| *state.vote_ref()));
        let answer = match select(append, known).await {
            Either::Left((answer, known)) => {
                // Asked already, so that openraft finds somebody who listens.
                known.await?;
                answer?
            }
            Either::Right((known, append)) => match (append.now_or_never(), known?) {
                (Some(answer), _) => answer?,
                (None, known) if known == caller => AppendEntriesResponse::Success,
                (None, known) => AppendEntriesResponse::HigherVote(known),
            },
        };
        Ok(network::append_answer(&answer))
    }

    async fn serve_snapshot(&self, from: NodeId, body: Bytes) -> Result<Bytes, ServeError> {
        let chunk = pb::SnapshotChunk::decode(body).map_err(BadMessage::from)?;
        match self.receiver.take(chunk)? {
            Received::Partly(received) => Ok(network::snapshot_answer(None, received)),
            Received::Whole(vote, snapshot) => {
                let bytes = snapshot.snapshot.registry.len() as u64;
                tracing::info!(%from, bytes, "a snapshot of the registry came from the leader");
                let answer = self.openraft.install_full_snapshot(vote, snapshot).await?;
                Ok(network::snapshot_answer(Some(&answer.vote), bytes))
            }
        }
    }
}

impl From<BadMessage> for ServeError {
    fn from(bad: BadMessage) -> ServeError {
        tracing::warn!(%bad, "a message of another replica cannot be read");
        ServeError::Malformed
    }
}

impl From<Fatal<Types>> for ServeError {
    fn from(_: Fatal<Types>) -> ServeError {
        ServeError::Stopped
    }
}

impl From<RaftError<Types>> for ServeError {
    fn from(_: RaftError<Types>) -> ServeError {
        ServeError::Stopped
    }
}

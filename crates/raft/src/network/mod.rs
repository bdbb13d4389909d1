//! Raft's messages to other replicas, over [`Transport`].
//!
//! Rule: pre-vote and leadership transfer are really asked; openraft's defaults grant the one and drop the other.

mod snapshot;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_proto::raft as pb;
use enfilade_registry::NodeId;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable as NoRoute};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use prost::Message;

pub(crate) use self::snapshot::{Received, Receiver};
pub(crate) use self::wire::{
    append_answer, append_asked, snapshot_answer, transfer_answer, transfer_asked, vote_answer, vote_asked,
};
use crate::codec::{self, BadMessage};
use crate::types::{Content, Entry, LogId, Payload, Proposal, Snapshot, Types, Vote};
use crate::{RaftCall, Transport, Unreachable};

/// Bytes of commands in one message of entries; links refuse messages that are much larger.
const APPEND_BYTES_MAX: u64 = 2 << 20;

/// What entries may take at least: their receiver syncs them before it answers.
const APPEND_WITHIN: Duration = Duration::from_secs(2);

/// How long to leave alone a replica that cannot be reached.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the connections to other replicas.
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) chunk_bytes: usize,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        self.peer(target, RaftCall::Append)
    }

    /// What goes this way is answered from memory: its answers must say nothing of the log. Openraft takes from them that
    /// this node leads still, and when it was asked; what it sends without entries on the other way asks for the log.
    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        self.peer(target, RaftCall::Heartbeat)
    }
}

impl Network {
    fn peer(&self, to: u64, append: RaftCall) -> Peer {
        Peer { to: NodeId(to), append, transport: self.transport.clone(), chunk_bytes: self.chunk_bytes }
    }
}

/// Another replica.
pub(crate) struct Peer {
    to: NodeId,
    /// How it is asked to append: [`RaftCall::Append`] or [`RaftCall::Heartbeat`].
    append: RaftCall,
    transport: Arc<dyn Transport>,
    chunk_bytes: usize,
}

impl Peer {
    async fn call<A: Message + Default>(
        &self,
        kind: RaftCall,
        asked: &impl Message,
        within: Duration,
    ) -> Result<A, RPCError<Types>> {
        let body = Bytes::from(asked.encode_to_vec());
        let answer = self.transport.call(self.to, kind, body, within).await;
        let answer = answer.map_err(|unreachable: Unreachable| no_route(&unreachable))?;
        A::decode(answer).map_err(|_| unreadable(BadMessage::Bytes))
    }

    /// Sends entries that fit into one message.
    async fn append_some(
        &self,
        vote: &Vote,
        previous: Option<&LogId>,
        entries: &[Entry],
        committed: Option<&LogId>,
        within: Duration,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let asked = pb::AppendRequest {
            vote: Some(codec::vote_to(vote)),
            previous: previous.map(codec::log_id_to),
            entries: entries.iter().map(codec::entry_to).collect(),
            committed: committed.map(codec::log_id_to),
        };
        let answer: pb::AppendResponse = self.call(self.append, &asked, within).await?;
        wire::append_answered(answer).map_err(unreadable)
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Content;

    /// Entries that are too many for one message go in several.
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let within = if rpc.entries.is_empty() { option.soft_ttl() } else { option.soft_ttl().max(APPEND_WITHIN) };
        let mut previous = rpc.prev_log_id;
        let mut rest = &rpc.entries[..];
        loop {
            let (now, later) = rest.split_at(fitting(rest));
            let sent = self.append_some(&rpc.vote, previous.as_ref(), now, rpc.leader_commit.as_ref(), within).await;
            let is_first = rest.len() == rpc.entries.len();
            match sent {
                Ok(AppendEntriesResponse::Success) if !later.is_empty() => {
                    previous = now.last().map(|entry| entry.log_id);
                    rest = later;
                }
                Ok(answer) => return Ok(answer),
                Err(error) if is_first => return Err(error),
                Err(_) => return Ok(AppendEntriesResponse::PartialSuccess(previous)),
            }
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.call(RaftCall::Vote, &wire::ask_vote(&rpc), option.soft_ttl()).await?;
        wire::vote_answered(answer).map_err(unreadable)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.call(RaftCall::PreVote, &wire::ask_vote(&rpc), option.soft_ttl()).await?;
        wire::vote_answered(answer).map_err(unreadable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let answer = self.call(RaftCall::TransferLeader, &wire::ask_transfer(&req), option.soft_ttl()).await?;
        wire::transfer_answered(answer).map_err(unreadable)
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(PAUSE)))
    }
}

/// How many of the entries one message takes: at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let more = entries.iter().take_while(|entry| {
        bytes += match &entry.payload {
            Payload::Normal(Proposal::Batch(batch)) => batch.bytes(),
            _ => 0,
        };
        bytes <= APPEND_BYTES_MAX
    });
    more.count().max(1).min(entries.len())
}

fn no_route(error: &Unreachable) -> RPCError<Types> {
    RPCError::Unreachable(NoRoute::new(error))
}

fn unreadable(bad: BadMessage) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&AnyError::new(&bad)))
}

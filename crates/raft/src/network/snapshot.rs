//! Snapshots in pieces, in order, each with a deadline; the last one's grows with the size, for it is answered
//! when the snapshot is installed. Recovery: on any doubt the sender begins again.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use enfilade_proto::raft as pb;
use openraft::errors::{RPCError, StreamingError};
use openraft::raft::SnapshotResponse;
use parking_lot::Mutex;

use super::{Peer, unreadable};
use crate::RaftCall;
use crate::codec::{self, BadMessage, part};
use crate::state::digest_of;
use crate::types::{Content, Snapshot, Types, Vote};

/// What one piece may take.
const PIECE_WITHIN: Duration = Duration::from_secs(5);

/// What installing may take, and for each MiB.
const INSTALL_WITHIN: Duration = Duration::from_secs(10);
const INSTALL_WITHIN_PER_MIB: Duration = Duration::from_millis(500);

/// A snapshot of more bytes is refused: it would not fit into memory beside the state.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 30;

impl Peer {
    pub(super) async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let Content { origins, registry } = snapshot.snapshot;
        let digest = digest_of(&registry).map_err(unreadable)?;
        let meta = codec::snapshot_meta_to(&snapshot.meta, &digest, &origins);
        let total = registry.len();
        let mut offset = 0;
        loop {
            let end = total.min(offset + self.chunk_bytes.max(1));
            let chunk = pb::SnapshotChunk {
                vote: Some(codec::vote_to(&vote)),
                meta: Some(meta.clone()),
                offset: offset as u64,
                total: total as u64,
                content: registry.slice(offset..end),
            };
            let within = if end == total { install_within(total) } else { PIECE_WITHIN };
            let answer: Result<pb::SnapshotAnswer, RPCError<Types>> =
                self.call(RaftCall::Snapshot, &chunk, within).await;
            let answer = answer?;
            if let Some(vote) = answer.vote {
                return Ok(SnapshotResponse::new(codec::vote_from(vote)));
            }
            if answer.received != end as u64 || end == total {
                return Err(unreadable(BadMessage::Wrong("an answer to a piece of a snapshot")).into());
            }
            offset = end;
        }
    }
}

fn install_within(bytes: usize) -> Duration {
    INSTALL_WITHIN + INSTALL_WITHIN_PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// Puts together the pieces of the snapshot that another replica sends. One at a time.
#[derive(Default)]
pub(crate) struct Receiver {
    partial: Mutex<Option<Partial>>,
}

struct Partial {
    vote: Vote,
    meta: pb::SnapshotMeta,
    content: BytesMut,
}

/// What came of a piece.
pub(crate) enum Received {
    /// So many bytes are here; more are to come.
    Partly(u64),
    /// All of it.
    Whole(Vote, Snapshot),
}

impl Receiver {
    /// Takes a piece. One that does not follow is not taken: the sender sees how much is here, and begins again.
    pub(crate) fn take(&self, chunk: pb::SnapshotChunk) -> Result<Received, BadMessage> {
        let vote = codec::vote_from(part(chunk.vote, "a vote")?);
        let meta = part(chunk.meta, "a snapshot's meta")?;
        if chunk.total > SNAPSHOT_BYTES_MAX || chunk.offset.saturating_add(chunk.content.len() as u64) > chunk.total {
            return Err(BadMessage::Wrong("a snapshot's length"));
        }
        let mut partial = self.partial.lock();
        if chunk.offset == 0 {
            *partial = Some(Partial { vote, meta: meta.clone(), content: BytesMut::new() });
        }
        let Some(now) = partial.as_mut().filter(|now| now.vote == vote && now.meta == meta) else {
            return Ok(Received::Partly(0));
        };
        if now.content.len() as u64 == chunk.offset {
            now.content.extend_from_slice(&chunk.content);
        }
        let received = now.content.len() as u64;
        if received < chunk.total {
            return Ok(Received::Partly(received));
        }
        let Some(whole) = partial.take() else { return Ok(Received::Partly(0)) };
        Ok(Received::Whole(vote, checked(whole.meta, whole.content.freeze())?))
    }
}

fn checked(meta: pb::SnapshotMeta, registry: Bytes) -> Result<Snapshot, BadMessage> {
    let (meta, digest, origins) = codec::snapshot_meta_from(meta)?;
    if digest_of(&registry)? != digest {
        return Err(BadMessage::Wrong("a snapshot's digest"));
    }
    Ok(Snapshot { meta, snapshot: Content { origins, registry } })
}

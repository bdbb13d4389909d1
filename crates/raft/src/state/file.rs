//! A snapshot's content on the disk: SnapshotMeta of proto/raft.proto with its length, then the registry's bytes.

use bytes::Bytes;
use enfilade_journal::Snapshots;
use enfilade_proto::raft as pb;
use prost::Message as _;

use super::StateError;
use crate::codec::{self, BadMessage};
use crate::types::{Content, SnapshotMeta};

/// A snapshot as read.
pub(super) struct Stored {
    pub(super) meta: SnapshotMeta,
    pub(super) digest: [u8; 32],
    pub(super) content: Content,
}

pub(super) fn index_of(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.as_ref().map_or(0, |id| id.index)
}

pub(super) fn write(snapshots: &Snapshots, meta: &SnapshotMeta, content: &Content) -> Result<[u8; 32], StateError> {
    let digest = digest_of(&content.registry)?;
    let head = codec::snapshot_meta_to(meta, &digest, &content.origins).encode_length_delimited_to_vec();
    snapshots.write(index_of(meta), &[&head, &content.registry])?;
    Ok(digest)
}

pub(super) fn read(snapshots: &Snapshots, index: u64) -> Result<Stored, StateError> {
    let mut bytes = Bytes::from(snapshots.read(index)?);
    let meta = pb::SnapshotMeta::decode_length_delimited(&mut bytes).map_err(BadMessage::from)?;
    let (meta, digest, origins) = codec::snapshot_meta_from(meta)?;
    Ok(Stored { meta, digest, content: Content { origins, registry: bytes } })
}

/// The digest that a registry's snapshot carries behind its magic and format.
pub(crate) fn digest_of(registry: &[u8]) -> Result<[u8; 32], BadMessage> {
    codec::digest_from(registry.get(12..44).ok_or(BadMessage::Wrong("a snapshot's length"))?)
}

#[cfg(test)]
mod tests {
    use enfilade_registry::{Command, StateMachine};

    use super::*;

    #[test]
    fn the_digest_is_where_it_is_looked_for() {
        let mut registry = StateMachine::new();
        let _ = registry.apply(1, &Command::Tick { elapsed_ms: 5 });
        assert_eq!(digest_of(&registry.snapshot()), Ok(registry.digest()));
        assert_eq!(digest_of(b"short"), Err(BadMessage::Wrong("a snapshot's length")));
    }
}

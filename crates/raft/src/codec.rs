//! Between openraft's types and the messages of proto/raft.proto, which go over the wire and to the disk.
//! Rule: what a message lacks is an error by name, never a default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use enfilade_proto::raft as pb;
use enfilade_registry::{Generation, NodeId, Run};
use openraft::{EmptyNode, EntryPayload};

use crate::state::Origins;
use crate::types::{
    Batch, Cut, Entry, LeaderId, LogId, Membership, Payload, Proposal, SnapshotMeta, StoredMembership, Vote,
};

/// Why bytes are not a message of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadMessage {
    /// Not the bytes of such a message.
    #[error("the bytes are not such a message")]
    Bytes,
    /// A part is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A part has a value that it cannot have.
    #[error("{0} is wrong")]
    Wrong(&'static str),
}

impl From<prost::DecodeError> for BadMessage {
    fn from(_: prost::DecodeError) -> BadMessage {
        BadMessage::Bytes
    }
}

impl From<BadMessage> for std::io::Error {
    fn from(bad: BadMessage) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, bad)
    }
}

/// The part called `name`, which must be there.
pub(crate) fn part<T>(part: Option<T>, name: &'static str) -> Result<T, BadMessage> {
    part.ok_or(BadMessage::Missing(name))
}

pub(crate) fn log_id_to(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id_from(id: pb::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.node }, index: id.index }
}

pub(crate) fn vote_to(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_from(vote: pb::Vote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, node_id: vote.node }, committed: vote.committed }
}

pub(crate) fn batch_to(batch: &Batch) -> pb::Batch {
    pb::Batch {
        origin: Some(pb::Run { node: batch.origin.node.0, generation: batch.origin.generation.0 }),
        seq: batch.seq,
        commands: batch.commands.clone(),
    }
}

pub(crate) fn batch_from(batch: pb::Batch) -> Result<Batch, BadMessage> {
    let origin = part(batch.origin, "a batch's origin")?;
    let origin = Run { node: NodeId(origin.node), generation: Generation(origin.generation) };
    Ok(Batch { origin, seq: batch.seq, commands: by_themselves(&batch.commands) })
}

/// The same commands in one buffer of their size. Those that came are pieces of whatever the network read with them, and
/// the log keeps its entries for long.
fn by_themselves(commands: &[Bytes]) -> Vec<Bytes> {
    let mut whole = Bytes::from(commands.concat());
    commands.iter().map(|command| whole.split_to(command.len())).collect()
}

pub(crate) fn entry_to(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(Proposal::Batch(batch)) => Some(pb::entry::Payload::Batch(batch_to(batch))),
        EntryPayload::Normal(Proposal::Cut(cut)) => Some(pb::entry::Payload::Cut(cut_to(cut))),
        EntryPayload::Membership(membership) => Some(pb::entry::Payload::Membership(membership_to(membership))),
    };
    pb::Entry { id: Some(log_id_to(&entry.log_id)), payload }
}

pub(crate) fn entry_from(entry: pb::Entry) -> Result<Entry, BadMessage> {
    let payload: Payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(pb::entry::Payload::Batch(batch)) => EntryPayload::Normal(Proposal::Batch(Arc::new(batch_from(batch)?))),
        Some(pb::entry::Payload::Cut(cut)) => EntryPayload::Normal(Proposal::Cut(cut_from(cut)?)),
        Some(pb::entry::Payload::Membership(membership)) => EntryPayload::Membership(membership_from(membership)?),
    };
    Ok(Entry { log_id: log_id_from(part(entry.id, "an entry's id")?), payload })
}

fn cut_to(cut: &Cut) -> pb::Cut {
    let previous = cut.previous.map(|(index, digest)| pb::CutDigest { index, digest: Bytes::copy_from_slice(&digest) });
    pb::Cut { previous }
}

fn cut_from(cut: pb::Cut) -> Result<Cut, BadMessage> {
    let previous = match cut.previous {
        Some(previous) => Some((previous.index, digest_from(&previous.digest)?)),
        None => None,
    };
    Ok(Cut { previous })
}

pub(crate) fn digest_from(bytes: &[u8]) -> Result<[u8; 32], BadMessage> {
    bytes.try_into().map_err(|_| BadMessage::Wrong("a digest's length"))
}

fn membership_to(membership: &Membership) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    pb::Membership {
        configs: configs.map(|voters| pb::Voters { nodes: voters.iter().copied().collect() }).collect(),
        nodes: membership.nodes().map(|(node, _)| *node).collect(),
    }
}

fn membership_from(membership: pb::Membership) -> Result<Membership, BadMessage> {
    let nodes: BTreeMap<u64, EmptyNode> =
        membership.nodes.into_iter().map(|node| (node, EmptyNode::default())).collect();
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|voters| voters.nodes.into_iter().collect()).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| BadMessage::Wrong("a membership"))
}

pub(crate) fn stored_membership_to(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        at: stored.log_id().as_ref().map(log_id_to),
        membership: Some(membership_to(stored.membership())),
    }
}

pub(crate) fn stored_membership_from(stored: pb::StoredMembership) -> Result<StoredMembership, BadMessage> {
    let membership = membership_from(part(stored.membership, "a membership")?)?;
    Ok(StoredMembership::new(stored.at.map(log_id_from), membership))
}

pub(crate) fn snapshot_meta_to(meta: &SnapshotMeta, digest: &[u8; 32], origins: &Origins) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(log_id_to),
        membership: Some(stored_membership_to(&meta.last_membership)),
        digest: Bytes::copy_from_slice(digest),
        origins: origins.to_messages(),
    }
}

pub(crate) fn snapshot_meta_from(meta: pb::SnapshotMeta) -> Result<(SnapshotMeta, [u8; 32], Origins), BadMessage> {
    let origins = part(Origins::from_messages(meta.origins), "the run of an origin")?;
    let digest = digest_from(&meta.digest)?;
    let last_membership = stored_membership_from(part(meta.membership, "a snapshot's membership")?)?;
    Ok((SnapshotMeta { last_log_id: meta.last.map(log_id_from), last_membership }, digest, origins))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: 7 }, index }
    }

    #[test]
    fn every_kind_of_entry_survives_its_bytes() {
        let origin = Run { node: NodeId(u64::MAX), generation: Generation(3) };
        let commands = vec![Bytes::from_static(b"\x01{}"), Bytes::new()];
        let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal::Batch(Arc::new(Batch { origin, seq: 9, commands }))),
            EntryPayload::Normal(Proposal::Cut(Cut { previous: None })),
            EntryPayload::Normal(Proposal::Cut(Cut { previous: Some((5, [8; 32])) })),
            EntryPayload::Membership(Membership::new_with_defaults(voters, [9])),
        ];
        for payload in payloads {
            let entry = Entry { log_id: id(2, 11), payload };
            let bytes = entry_to(&entry).encode_to_vec();
            let again = entry_from(pb::Entry::decode(&bytes[..]).expect("a message")).expect("an entry");
            assert_eq!(again, entry);
        }
    }

    #[test]
    fn the_bytes_of_an_entry_are_frozen() {
        let origin = Run { node: NodeId(2), generation: Generation(3) };
        let batch = Batch { origin, seq: 4, commands: vec![Bytes::from_static(b"ab")] };
        let entry = Entry { log_id: id(1, 5), payload: EntryPayload::Normal(Proposal::Batch(Arc::new(batch))) };
        let literal = b"\x0a\x0d\x08\x01\x11\x07\0\0\0\0\0\0\0\x18\x05\
            \x12\x13\x0a\x0b\x09\x02\0\0\0\0\0\0\0\x10\x03\x10\x04\x1a\x02ab";
        assert_eq!(entry_to(&entry).encode_to_vec(), literal);
    }

    #[test]
    fn commands_do_not_keep_what_they_came_in() {
        let read = Bytes::from(vec![7; 16_384]);
        let origin = Some(pb::Run { node: 1, generation: 7 });
        let came =
            pb::Batch { origin, seq: 4, commands: vec![read.slice(10..20), read.slice(0..0), read.slice(50..53)] };
        let commands = batch_from(came).unwrap().commands;
        assert!(read.is_unique(), "nothing holds the buffer");
        assert_eq!(commands.iter().map(Bytes::len).collect::<Vec<_>>(), [10, 0, 3]);
        assert!(commands.concat().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(entry_from(pb::Entry::default()), Err(BadMessage::Missing("an entry's id")));
        assert_eq!(batch_from(pb::Batch::default()), Err(BadMessage::Missing("a batch's origin")));
        let cut = pb::Cut { previous: Some(pb::CutDigest { index: 1, digest: Bytes::from_static(b"short") }) };
        assert_eq!(cut_from(cut), Err(BadMessage::Wrong("a digest's length")));
    }
}

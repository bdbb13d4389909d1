//! The bytes of one record of the log: see LogRecord in proto/raft.proto.

use bytes::Bytes;
use enfilade_proto::raft as pb;
use prost::Message as _;

use super::Kept;
use crate::codec::{self, BadMessage};
use crate::types::{Entry, LogId, Vote};

/// One change of the log.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    Entry(Entry),
    Vote(Vote),
    Committed(LogId),
    Truncated(Option<LogId>),
    Purged(LogId),
}

pub(super) fn entry_bytes(entry: &Entry) -> Vec<u8> {
    bytes_of(pb::log_record::Kind::Entry(codec::entry_to(entry)))
}

pub(super) fn vote_bytes(vote: &Vote) -> Vec<u8> {
    bytes_of(pb::log_record::Kind::Vote(codec::vote_to(vote)))
}

pub(super) fn committed_bytes(committed: &LogId) -> Vec<u8> {
    bytes_of(pb::log_record::Kind::Committed(codec::log_id_to(committed)))
}

pub(super) fn truncated_bytes(after: Option<&LogId>) -> Vec<u8> {
    bytes_of(pb::log_record::Kind::Truncated(pb::Truncated { after: after.map(codec::log_id_to) }))
}

pub(super) fn purged_bytes(upto: &LogId) -> Vec<u8> {
    bytes_of(pb::log_record::Kind::Purged(codec::log_id_to(upto)))
}

fn bytes_of(kind: pb::log_record::Kind) -> Vec<u8> {
    pb::LogRecord { kind: Some(kind) }.encode_to_vec()
}

pub(super) fn read(bytes: Vec<u8>) -> Result<Record, BadMessage> {
    let record = pb::LogRecord::decode(Bytes::from(bytes))?;
    Ok(match codec::part(record.kind, "a record's kind")? {
        pb::log_record::Kind::Entry(entry) => Record::Entry(codec::entry_from(entry)?),
        pb::log_record::Kind::Vote(vote) => Record::Vote(codec::vote_from(vote)),
        pb::log_record::Kind::Committed(id) => Record::Committed(codec::log_id_from(id)),
        pb::log_record::Kind::Truncated(truncated) => Record::Truncated(truncated.after.map(codec::log_id_from)),
        pb::log_record::Kind::Purged(id) => Record::Purged(codec::log_id_from(id)),
    })
}

/// What stands in for the records that were removed.
pub(super) fn base_bytes(kept: &Kept, purged: Option<&LogId>) -> Vec<u8> {
    let base = pb::LogBase {
        vote: kept.vote.as_ref().map(codec::vote_to),
        committed: kept.committed.as_ref().map(codec::log_id_to),
        purged: purged.map(codec::log_id_to),
    };
    base.encode_to_vec()
}

pub(super) fn read_base(bytes: &[u8]) -> Result<(Kept, Option<LogId>), BadMessage> {
    let base = pb::LogBase::decode(bytes)?;
    let kept = Kept { vote: base.vote.map(codec::vote_from), committed: base.committed.map(codec::log_id_from) };
    Ok((kept, base.purged.map(codec::log_id_from)))
}

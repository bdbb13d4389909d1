//! Questions and answers between replicas, to and from their messages.

use bytes::Bytes;
use enfilade_proto::raft as pb;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use prost::Message as _;

use crate::codec::{self, BadMessage, part};
use crate::types::{Types, Vote};

pub(crate) fn append_asked(body: Bytes) -> Result<AppendEntriesRequest<Types>, BadMessage> {
    let asked = pb::AppendRequest::decode(body)?;
    Ok(AppendEntriesRequest {
        vote: codec::vote_from(part(asked.vote, "a vote")?),
        prev_log_id: asked.previous.map(codec::log_id_from),
        entries: asked.entries.into_iter().map(codec::entry_from).collect::<Result<_, _>>()?,
        leader_commit: asked.committed.map(codec::log_id_from),
    })
}

pub(crate) fn append_answer(answer: &AppendEntriesResponse<Types>) -> Bytes {
    use pb::append_response::Result as R;
    let (result, matching, vote) = match answer {
        AppendEntriesResponse::Success => (R::Success, None, None),
        AppendEntriesResponse::PartialSuccess(matching) => (R::Partial, matching.as_ref(), None),
        AppendEntriesResponse::Conflict => (R::Conflict, None, None),
        AppendEntriesResponse::HigherVote(vote) => (R::HigherVote, None, Some(vote)),
    };
    let answer = pb::AppendResponse {
        result: result.into(),
        matching: matching.map(codec::log_id_to),
        vote: vote.map(codec::vote_to),
    };
    answer.encode_to_vec().into()
}

pub(super) fn append_answered(answer: pb::AppendResponse) -> Result<AppendEntriesResponse<Types>, BadMessage> {
    use pb::append_response::Result as R;
    Ok(match answer.result() {
        R::Success => AppendEntriesResponse::Success,
        R::Partial => AppendEntriesResponse::PartialSuccess(answer.matching.map(codec::log_id_from)),
        R::Conflict => AppendEntriesResponse::Conflict,
        R::HigherVote => AppendEntriesResponse::HigherVote(codec::vote_from(part(answer.vote, "the higher vote")?)),
        R::Unknown => return Err(BadMessage::Wrong("an answer to entries")),
    })
}

pub(super) fn ask_vote(asked: &VoteRequest<Types>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(codec::vote_to(&asked.vote)),
        last: asked.last_log_id.as_ref().map(codec::log_id_to),
        transfer: asked.leadership_transfer,
    }
}

pub(crate) fn vote_asked(body: Bytes) -> Result<VoteRequest<Types>, BadMessage> {
    let asked = pb::VoteRequest::decode(body)?;
    let vote = codec::vote_from(part(asked.vote, "a vote")?);
    let mut request = VoteRequest::new(vote, asked.last.map(codec::log_id_from));
    request.leadership_transfer = asked.transfer;
    Ok(request)
}

pub(crate) fn vote_answer(answer: &VoteResponse<Types>) -> Bytes {
    let answer = pb::VoteResponse {
        vote: Some(codec::vote_to(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(codec::log_id_to),
    };
    answer.encode_to_vec().into()
}

pub(super) fn vote_answered(answer: pb::VoteResponse) -> Result<VoteResponse<Types>, BadMessage> {
    let vote = codec::vote_from(part(answer.vote, "a vote")?);
    Ok(VoteResponse::new(vote, answer.last.map(codec::log_id_from), answer.granted))
}

pub(super) fn ask_transfer(asked: &TransferLeaderRequest<Types>) -> pb::TransferRequest {
    pb::TransferRequest {
        from: Some(codec::vote_to(asked.from_leader())),
        to: *asked.to_node_id(),
        last: asked.last_log_id().map(codec::log_id_to),
    }
}

pub(crate) fn transfer_asked(body: Bytes) -> Result<TransferLeaderRequest<Types>, BadMessage> {
    let asked = pb::TransferRequest::decode(body)?;
    let from = codec::vote_from(part(asked.from, "a vote")?);
    Ok(TransferLeaderRequest::new(from, asked.to, asked.last.map(codec::log_id_from)))
}

pub(crate) fn transfer_answer(answer: &TransferLeaderResponse<Types>) -> Bytes {
    use pb::transfer_response::Result as R;
    let answer = match answer {
        Ok(()) => pb::TransferResponse { result: R::Accepted.into(), ..Default::default() },
        Err(TransferLeaderError::VoteChanged { expected, actual }) => pb::TransferResponse {
            result: R::VoteChanged.into(),
            expected_vote: Some(codec::vote_to(expected)),
            actual_vote: Some(codec::vote_to(actual)),
            ..Default::default()
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => pb::TransferResponse {
            result: R::LogNotFlushed.into(),
            expected_log: expected.as_ref().map(codec::log_id_to),
            actual_log: actual.as_ref().map(codec::log_id_to),
            ..Default::default()
        },
    };
    answer.encode_to_vec().into()
}

pub(super) fn transfer_answered(answer: pb::TransferResponse) -> Result<TransferLeaderResponse<Types>, BadMessage> {
    use pb::transfer_response::Result as R;
    Ok(match answer.result() {
        R::Accepted => Ok(()),
        R::VoteChanged => Err(TransferLeaderError::VoteChanged {
            expected: codec::vote_from(part(answer.expected_vote, "the expected vote")?),
            actual: codec::vote_from(part(answer.actual_vote, "the actual vote")?),
        }),
        R::LogNotFlushed => Err(TransferLeaderError::LogNotFlushed {
            expected: answer.expected_log.map(codec::log_id_from),
            actual: answer.actual_log.map(codec::log_id_from),
        }),
        R::Unknown => return Err(BadMessage::Wrong("an answer to a transfer")),
    })
}

/// The answer to a piece of a snapshot.
pub(crate) fn snapshot_answer(vote: Option<&Vote>, received: u64) -> Bytes {
    pb::SnapshotAnswer { vote: vote.map(codec::vote_to), received }.encode_to_vec().into()
}

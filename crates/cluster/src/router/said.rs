//! What this edge says itself when no owner does.

use bytes::Bytes;
use enfilade_mcp::{Id, RpcError};
use enfilade_session::owner::{Reply, outcome_unknown};

/// When to come again, after the hold time was not enough.
const RETRY_AFTER_S: u32 = 1;

/// Nobody serves the slot, for as long as a request may be held. Nothing was executed.
pub(crate) fn nobody(id: Option<&Id>) -> Reply {
    let error = RpcError::gateway(true, "the session's owner is changing; try again");
    Reply::Message { status: 503, body: error.message(id).into(), session: None, retry_after_s: Some(RETRY_AFTER_S) }
}

/// No owner has memory left for a new session. Nothing was executed.
pub(crate) fn full(id: Option<&Id>) -> Reply {
    let error = RpcError::gateway(true, "no node has memory left for another session; try again");
    Reply::Message { status: 503, body: error.message(id).into(), session: None, retry_after_s: Some(RETRY_AFTER_S) }
}

/// This node has had no contact with the registry for too long.
pub(crate) fn alone(id: Option<&Id>) -> Reply {
    let error = RpcError::gateway(true, "this node has lost the cluster's registry; try again, or at another node");
    Reply::Message { status: 503, body: error.message(id).into(), session: None, retry_after_s: Some(RETRY_AFTER_S) }
}

/// Its owner is gone, and whether it did the work nobody knows.
pub(crate) fn unknown(id: Option<&Id>) -> Reply {
    Reply::Message { status: 200, body: outcome_unknown(false).message(id).into(), session: None, retry_after_s: None }
}

/// The same as the last event of a stream.
pub(crate) fn unknown_event(id: &Id) -> Bytes {
    outcome_unknown(false).message(Some(id)).into()
}

/// For what nobody waits for the outcome of: a notification, or an answer of the client.
pub(crate) fn unheard() -> Reply {
    Reply::Message {
        status: 503,
        body: RpcError::gateway(false, "the node that took this message was lost; whether it was heard is unknown")
            .message(None)
            .into(),
        session: None,
        retry_after_s: Some(RETRY_AFTER_S),
    }
}

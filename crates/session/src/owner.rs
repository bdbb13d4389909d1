//! The door between edge and owner: everything that an edge may ask, and everything that it gets back.
//!
//! The node itself is one owner; whoever finds the owner of a slot among several nodes is another.

use crate::stream::EventStream;
use bytes::Bytes;
use enfilade_mcp::classify::Modern;
use enfilade_mcp::{Envelope, Id, RpcError};
use enfilade_registry::{NotServed, SessionId};
use futures::future::BoxFuture;

/// The part of the gateway that runs sessions.
pub trait Owner: Send + Sync {
    /// The virtual server that is offered at `path`.
    fn server_at(&self, path: &str) -> Option<ServerId>;

    /// A modern request (2026-07-28). Dropping the future, or the stream it gave, cancels the request.
    fn modern<'a>(
        &'a self,
        caller: Caller<'a>,
        request: &'a Envelope<'a>,
        meta: &'a Modern<'a>,
        headers: &'a dyn HeaderLookup,
    ) -> BoxFuture<'a, Reply>;

    /// `initialize` of a legacy client: a new session.
    fn initialize<'a>(&'a self, caller: Caller<'a>, request: &'a Envelope<'a>) -> BoxFuture<'a, Reply>;

    /// One message of a legacy session. Dropping the future does not cancel a request.
    fn legacy<'a>(&'a self, caller: Caller<'a>, session: SessionId, message: Legacy<'a>) -> BoxFuture<'a, Reply>;

    /// The stream of messages that belong to no call, or the rest of the stream that `last_event_id` was part of.
    fn open_stream<'a>(
        &'a self,
        caller: Caller<'a>,
        session: SessionId,
        last_event_id: Option<&'a str>,
    ) -> BoxFuture<'a, Reply>;

    /// DELETE: ends a session, its calls, streams and upstream sessions.
    fn end<'a>(&'a self, caller: Caller<'a>, session: SessionId) -> BoxFuture<'a, Reply>;
}

/// Index of a virtual server in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId(pub usize);

/// On whose behalf, and at which virtual server.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The virtual server.
    pub server: ServerId,
    /// The authenticated principal, or [`ANONYMOUS`].
    pub principal: &'a str,
}

/// The principal of everybody, where anonymous access is allowed.
pub const ANONYMOUS: &str = "anonymous";

/// What a legacy client posted to its session.
#[derive(Debug, Clone, Copy)]
pub enum Legacy<'a> {
    /// One message.
    One {
        /// The message.
        envelope: &'a Envelope<'a>,
        /// `MCP-Protocol-Version`, when it was sent.
        version: Option<&'a str>,
        /// The edge sends it a second time, because the answer to the first was lost: if that still runs, this takes
        /// its place.
        again: bool,
    },
    /// A batch: the text of a JSON array that [`enfilade_mcp::json::check`] accepted (2025-03-26 only).
    Batch(&'a str),
}

/// Request headers by lower-case name, for `Mcp-Param-*`.
pub trait HeaderLookup: Send + Sync {
    /// The value, when it is visible ASCII.
    fn header(&self, name: &str) -> Option<&str>;

    /// False where the client's transport has no headers for each message (WebSocket): then none are missing.
    fn are_sent(&self) -> bool {
        true
    }

    /// Names every `Mcp-Param-*` header with its value, for who hands the message on to another node.
    fn params(&self, each: &mut dyn FnMut(&str, &str)) {
        let _ = each; // Without any there is nothing to name.
    }
}

/// What the edge sends to the client.
#[derive(Debug)]
pub enum Reply {
    /// 202 without a body.
    Accepted,
    /// One JSON message.
    Message {
        /// The HTTP status.
        status: u16,
        /// The JSON text.
        body: Bytes,
        /// `Mcp-Session-Id` of a session that was created.
        session: Option<SessionId>,
        /// `Retry-After`, in seconds.
        retry_after_s: Option<u32>,
    },
    /// Server-sent events.
    Events {
        /// The stream; dropping it tells the owner that the client is gone.
        stream: EventStream,
        /// `Mcp-Session-Id`, when it belongs in the head.
        session: Option<SessionId>,
    },
    /// A status without a body (DELETE).
    Status(u16),
    /// This node does not act for the slot now. Nothing was executed: the message may be sent to another node, or again.
    NotServed(NotServed),
    /// The message went to an upstream, and then this node lost the slot: what came of it is not known. Whether it may be
    /// sent again is for the router to say, who asks [`crate::Node::safe`]; otherwise the answer is [`outcome_unknown`].
    Lost,
}

/// The answer to a call whose owner was lost; `safe` calls may be sent again.
#[must_use]
pub fn outcome_unknown(safe: bool) -> RpcError {
    let text = "The gateway node that ran this request was lost before it was answered; its outcome is unknown";
    RpcError::gateway(safe, text).with("outcome", "\"unknown\"".to_owned())
}

impl Reply {
    /// A JSON message with status 200.
    pub(crate) fn message(body: impl Into<Bytes>) -> Self {
        Self::with_status(200, body)
    }

    /// A JSON message.
    pub(crate) fn with_status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Message { status, body: body.into(), session: None, retry_after_s: None }
    }

    /// An error of our own.
    pub fn error(status: u16, id: Option<&Id>, error: &RpcError) -> Self {
        Self::with_status(status, error.message(id))
    }
}

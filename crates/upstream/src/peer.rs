//! What the owner sees of an upstream: calls that end in an answer or a stream of messages, and the messages that
//! belong to no call.

use crate::guard::Permit;
use bytes::Bytes;
use enfilade_mcp::Version;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;

/// One session with an upstream, one process, or (modern) the endpoint itself.
pub trait Peer: Send + Sync {
    /// A request id that was never used with this upstream before.
    fn next_id(&self) -> u64;

    /// Sends one request and waits for the first thing that comes back. Dropping the future, or the [`Messages`] that
    /// it gave, abandons the call: a modern HTTP upstream sees its stream close; for all others call [`Peer::cancel`].
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Exchange, CallError>>;

    /// Sends a notification, or the answer to a request of the upstream (legacy only).
    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), CallError>>;

    /// Tells the upstream that the answer to `id` is not wanted any more. Never fails: there is nobody to tell.
    fn cancel(&self, id: u64, reason: &str) -> BoxFuture<'_, ()>;

    /// Opens the stream of messages that belong to no call: the GET stream of a legacy HTTP session (resumed with
    /// `Last-Event-ID` as long as the session lives; `Ok(None)` when the upstream has none), or what a process says
    /// of its own accord. At most one at a time; resolves once the stream is open.
    fn listen(&self) -> BoxFuture<'_, Result<Option<Messages>, CallError>>;

    /// Ends the session (DELETE) or this holder's share of the process. Idempotent.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// False once the session or process is known to be gone: every further call fails with [`CallError::Gone`].
    fn is_alive(&self) -> bool;
}

/// A request on its way to an upstream.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The id within `message`, from [`Peer::next_id`].
    pub id: u64,
    /// The whole request.
    pub message: Bytes,
    /// Its method, for `Mcp-Method`.
    pub method: &'a str,
    /// The target as the upstream names it, for `Mcp-Name`.
    pub name: Option<&'a str>,
    /// Headers of this call alone, encoded: `Mcp-Param-*` and the fence.
    pub headers: Vec<(String, String)>,
    /// The progress token within `message`, when there is one: notifications with it belong to this call.
    pub progress_token: Option<u64>,
}

/// How a call goes on.
#[derive(Debug)]
pub enum Exchange {
    /// The response came at once (a result or an error, with our id).
    Answer(Bytes),
    /// Messages come one by one; the response is the last.
    Stream(Messages),
}

/// Messages from an upstream, in order. Those of a call keep its place in the bulkhead until they have ended or are
/// dropped.
pub struct Messages {
    source: Box<dyn Source>,
    permit: Option<Permit>,
}

/// Where [`Messages`] come from.
pub(crate) trait Source: Send {
    /// The next message; `None` at a regular end. Must be cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>>;
}

impl Messages {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self { source: Box::new(source), permit: None }
    }

    /// These messages and then the end; for tests of those who read them.
    pub fn scripted(messages: impl IntoIterator<Item = Result<Bytes, CallError>>) -> Self {
        Self::new(Script(messages.into_iter().collect()))
    }

    /// Keeps a place in the bulkhead until the messages have ended or are dropped.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// The next message; `None` when a stream that belongs to no call has ended. A call's stream that ends without the
    /// response yields [`CallError::Lost`]. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        let next = self.source.next().await;
        match (&next, &mut self.permit) {
            (Some(Err(error)), Some(permit)) => permit.settle(Some(error)),
            (None, _) => self.permit = None,
            _ => {}
        }
        next
    }
}

/// Messages that are there already.
struct Script(VecDeque<Result<Bytes, CallError>>);

impl Source for Script {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>> {
        Box::pin(std::future::ready(self.0.pop_front()))
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Messages")
    }
}

/// What `initialize` says on behalf of a client.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The revision to ask for (legacy).
    pub version: Version,
    /// `clientInfo`, a JSON object.
    pub client_info: Arc<str>,
    /// `capabilities`, a JSON object.
    pub capabilities: Arc<str>,
}

/// A legacy session that was opened: `initialize` answered and `notifications/initialized` sent.
pub struct Opened {
    /// The session.
    pub peer: Arc<dyn Peer>,
    /// The id that an HTTP upstream gave it.
    pub session_id: Option<Arc<str>>,
    /// The revision that was agreed.
    pub version: Version,
    /// The `result` of `initialize`, a JSON object.
    pub result: Arc<str>,
}

/// Why a call has no answer from the upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made, or the process could not be started, or that failed so often just now that it was
    /// not tried. Not executed.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// The session or process is gone, and the request was not executed: open a new one and send it again.
    #[error("the upstream has forgotten the session")]
    Gone,
    /// The connection or process was lost after the request was sent: nobody knows whether it was executed.
    #[error("the connection to the upstream was lost; the outcome is unknown")]
    Lost,
    /// The upstream answered with an HTTP status and no JSON-RPC message.
    #[error("the upstream answered with HTTP status {0}")]
    Status(u16),
    /// The answer is larger than a message may be.
    #[error("the upstream's answer is larger than 16 MiB")]
    TooLarge,
    /// The upstream answered, and what is under way already leaves no memory for it.
    #[error("the upstream has answered, but this node has no memory left for the answer")]
    NoMemory,
    /// The bulkhead is full, or no further process may be started. Not executed.
    #[error("too many calls to this upstream are in flight")]
    Busy,
    /// The breaker is open: the upstream was late or failed repeatedly and is left alone for a while. Not executed.
    #[error("the upstream failed repeatedly and is not asked for now")]
    Open,
    /// What came is not MCP.
    #[error("the upstream's answer is not MCP: {0}")]
    Protocol(&'static str),
    /// The connector is shutting down. Not executed.
    #[error("the gateway is shutting down")]
    Closed,
}

impl CallError {
    /// True when the upstream certainly did not execute the request.
    #[must_use]
    pub fn not_executed(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Gone | Self::Busy | Self::Open | Self::Closed)
    }
}

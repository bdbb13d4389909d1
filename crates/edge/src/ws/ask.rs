//! One message of a WebSocket's client, from its bytes to what is said in return.

use super::hearing::Hearing;
use super::token;
use crate::connection::Edge;
use crate::limit::Permit;
use crate::service::is_batch;
use bytes::Bytes;
use enfilade_mcp::classify::{Class, classify_framed};
use enfilade_mcp::method::Method;
use enfilade_mcp::{Envelope, Id, Kind, RpcError, json};
use enfilade_registry::SessionId;
use enfilade_session::owner::{ANONYMOUS, Caller, HeaderLookup, Legacy, Reply, ServerId, outcome_unknown};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

/// A message, and what its connection is at the moment.
pub(crate) struct Message {
    pub(crate) text: Bytes,
    pub(crate) session: SessionOf,
    /// Why no further request is taken.
    pub(crate) closed_to_requests: Option<&'static str>,
    /// A notification that cancels has been compared with the connection's own requests.
    pub(crate) is_cancel_checked: bool,
    /// Counts among the requests in flight; none when there are too many.
    pub(crate) permit: Option<Permit>,
    /// Its bytes among those of all messages.
    pub(crate) _bytes: Permit,
}

/// The legacy session of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionOf {
    None,
    /// `initialize` was sent and is not answered.
    Opening,
    Open(SessionId),
}

impl SessionOf {
    fn id(self) -> Option<SessionId> {
        if let Self::Open(id) = self { Some(id) } else { None }
    }
}

/// What comes of a message.
pub(crate) enum Said {
    Nothing,
    /// An answer.
    Text(Bytes),
    /// The answer to `initialize`, with the session where one was opened.
    Opened(Bytes, Option<SessionId>),
    /// The general stream of the session; none where its owner refuses it.
    General(Option<Hearing>),
    /// The answer comes on a stream.
    Stream(Hearing),
    /// The client cancels this request, with the notification for whoever else has it.
    Cancel(Id, Bytes),
}

impl Said {
    fn error(id: Option<&Id>, error: &RpcError) -> Self {
        Self::Text(error.message(id).into())
    }
}

/// What is known of a message once it was read.
struct Facts {
    opens_session: bool,
    /// Of a modern request, which may be cancelled.
    modern: Option<Id>,
}

/// A message on its way through the gateway.
pub(crate) struct Ask {
    facts: Arc<OnceLock<Facts>>,
    future: Option<BoxFuture<'static, Said>>,
    waker: Option<Waker>,
}

impl Ask {
    pub(crate) fn new(edge: Arc<Edge>, server: ServerId, message: Message) -> Self {
        let facts = Arc::new(OnceLock::new());
        let future = run(edge, server, message, facts.clone()).boxed();
        Self { facts, future: Some(future), waker: None }
    }

    /// Asks for the general stream of a session.
    pub(crate) fn general(edge: Arc<Edge>, server: ServerId, session: SessionId) -> Self {
        let future = async move {
            let caller = Caller { server, principal: ANONYMOUS };
            match edge.owner.open_stream(caller, session, None).await {
                Reply::Events { stream, .. } => Said::General(Some(Hearing::lasting(stream))),
                _ => Said::General(None),
            }
        };
        Self { facts: Arc::default(), future: Some(future.boxed()), waker: None }
    }

    /// It is an `initialize` whose answer is awaited.
    pub(crate) fn opens_session(&self) -> bool {
        self.facts.get().is_some_and(|facts| facts.opens_session)
    }

    /// Drops a modern request, which cancels it; false when it is another one.
    pub(crate) fn cancel(&mut self, id: &Id) -> bool {
        if self.future.is_none() || self.facts.get().and_then(|facts| facts.modern.as_ref()) != Some(id) {
            return false;
        }
        self.future = None;
        self.waker.take().into_iter().for_each(Waker::wake);
        true
    }
}

impl Future for Ask {
    type Output = Said;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Said> {
        let Some(future) = &mut self.future else { return Poll::Ready(Said::Nothing) };
        let polled = future.as_mut().poll(context);
        if polled.is_pending() && !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
        let said = ready!(polled);
        self.future = None;
        Poll::Ready(said)
    }
}

async fn run(edge: Arc<Edge>, server: ServerId, message: Message, facts: Arc<OnceLock<Facts>>) -> Said {
    let caller = Caller { server, principal: ANONYMOUS };
    if is_batch(&message.text) {
        return batch(&edge, caller, message).await;
    }
    let envelope = match Envelope::parse(&message.text) {
        Ok(envelope) => envelope,
        Err(refusal) => return Said::error(refusal.id.as_ref(), &refusal.error),
    };
    let request = match &envelope.kind {
        Kind::Request(request) => Some(request),
        Kind::Notification(_) | Kind::Response(_) => None,
    };
    let id = request.map(|request| &request.id);
    if id.is_some()
        && let Some(why) = refused(&message)
    {
        return Said::error(id, &why);
    }
    if let Some(cancelled) = cancelled(&envelope).filter(|_| !message.is_cancel_checked) {
        return Said::Cancel(cancelled, message.text.clone());
    }
    // Its id was verified: only whether there is one matters.
    let session = message.session.id().map(|_| "");
    let class = match classify_framed(session, &envelope.kind) {
        Ok(class) => class,
        // Notifications and responses have no answers.
        Err(_) if id.is_none() => return Said::Nothing,
        Err(refused) => return Said::error(id, &refused.error),
    };
    let know = |opens_session, modern| drop(facts.set(Facts { opens_session, modern }));
    let owner = &*edge.owner;
    let reply = match (class, message.session.id()) {
        (Class::Modern(meta), _) => {
            know(false, id.cloned());
            let reply = owner.modern(caller, &envelope, &meta, &NoHeaders).await;
            let listens = request.is_some_and(|request| request.method == Method::Listen.as_str());
            return said(reply, id, true, message.permit.filter(|_| !listens));
        }
        (Class::Initialize, _) => {
            if message.session != SessionOf::None {
                let why = "this connection has a session already: open another connection for another one";
                return Said::error(id, &RpcError::invalid_request(why));
            }
            know(true, None);
            return opened(owner.initialize(caller, &envelope).await, id);
        }
        (Class::Legacy { .. }, Some(session)) => {
            owner.legacy(caller, session, Legacy::One { envelope: &envelope, version: None, again: false }).await
        }
        (Class::ModernNotification | Class::Legacy { .. }, _) => return Said::Nothing,
    };
    match id {
        Some(_) => said(reply, id, false, message.permit),
        None => Said::Nothing,
    }
}

/// An array: only sessions of 2025-03-26 have batches; whether this is one, its owner knows.
async fn batch(edge: &Edge, caller: Caller<'_>, message: Message) -> Said {
    let text = match json::check(&message.text) {
        Ok(text) => text,
        Err(why) => return Said::error(None, &RpcError::parse(&why)),
    };
    if let Some(why) = refused(&message) {
        return Said::error(None, &why);
    }
    let Some(session) = message.session.id() else {
        let why = "batches exist only within a session of revision 2025-03-26; send one message at a time";
        return Said::error(None, &RpcError::invalid_request(why));
    };
    let reply = edge.owner.legacy(caller, session, Legacy::Batch(text)).await;
    said(reply, None, false, message.permit)
}

/// Why no request can be taken now.
fn refused(message: &Message) -> Option<RpcError> {
    let busy = message.permit.is_none().then_some("Too many requests in flight; try again");
    message.closed_to_requests.or(busy).map(|why| RpcError::gateway(true, why))
}

/// The request that a notification cancels.
fn cancelled(envelope: &Envelope<'_>) -> Option<Id> {
    match &envelope.kind {
        Kind::Notification(notification) if notification.method == "notifications/cancelled" => {
            notification.params.and_then(|params| json::get(params, "requestId")).and_then(Id::from_json)
        }
        _ => None,
    }
}

fn opened(reply: Reply, id: Option<&Id>) -> Said {
    match reply {
        Reply::Message { body, session, .. } => Said::Opened(body, session),
        reply => match said(reply, id, false, None) {
            Said::Text(text) => Said::Opened(text, None),
            _ => {
                let why = RpcError::gateway(true, "The session could not be opened; try again");
                Said::Opened(why.message(id).into(), None)
            }
        },
    }
}

fn said(reply: Reply, id: Option<&Id>, modern: bool, permit: Option<Permit>) -> Said {
    match reply {
        Reply::Accepted | Reply::Status(_) => Said::Nothing,
        Reply::Message { body, .. } if body.is_empty() => Said::Nothing,
        Reply::Message { body, .. } => Said::Text(token::untagged(body)),
        Reply::Events { stream, .. } => Said::Stream(Hearing::of(stream, id.cloned(), modern, permit)),
        Reply::NotServed(why) => {
            Said::error(id, &RpcError::gateway(true, format!("The session is not served now: {why}; try again")))
        }
        Reply::Lost => Said::error(id, &outcome_unknown(false)),
    }
}

/// A WebSocket's messages have no headers of their own.
struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn header(&self, _name: &str) -> Option<&str> {
        None
    }

    fn are_sent(&self) -> bool {
        false
    }
}

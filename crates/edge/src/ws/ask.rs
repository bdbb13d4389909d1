//! One message of a WebSocket's client, from its bytes to what is said in return.

use super::hearing::Hearing;
use super::token;
use crate::answers::counted;
use crate::connection::Edge;
use crate::ladder;
use crate::load::Place;
use crate::service::is_batch;
use crate::ticket::{Outcome, Reason, Ticket};
use bytes::Bytes;
use enfilade_mcp::classify::{Class, classify_framed};
use enfilade_mcp::method::Method;
use enfilade_mcp::{Envelope, Id, Kind, RpcError, json};
use enfilade_registry::SessionId;
use enfilade_runtime::Permit;
use enfilade_session::owner::{ANONYMOUS, Caller, HeaderLookup, Legacy, Reply, ServerId, outcome_unknown};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::StatusCode;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

/// A message, and what its connection is at the moment.
pub(crate) struct Message {
    pub(crate) text: Bytes,
    pub(crate) session: SessionOf,
    /// Why no further request is taken.
    pub(crate) closed_to_requests: Option<(Reason, &'static str)>,
    /// A notification that cancels has been compared with the connection's own requests.
    pub(crate) is_cancel_checked: bool,
    /// There are too many requests in flight for another.
    pub(crate) is_one_too_many: bool,
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
    future: Option<BoxFuture<'static, (Said, Outcome, Option<Place>)>>,
    waker: Option<Waker>,
    /// None where the gateway itself asks.
    ticket: Option<Ticket>,
}

impl Ask {
    pub(crate) fn new(edge: Arc<Edge>, server: ServerId, message: Message, ticket: Option<Ticket>) -> Self {
        let facts = Arc::new(OnceLock::new());
        let future = run(edge, server, message, facts.clone()).boxed();
        Self { facts, future: Some(future), waker: None, ticket }
    }

    /// Asks for the general stream of a session.
    pub(crate) fn general(edge: Arc<Edge>, server: ServerId, session: SessionId) -> Self {
        let future = async move {
            let caller = Caller { server, principal: ANONYMOUS };
            let said = match edge.owner.open_stream(caller, session, None).await {
                Reply::Events { stream, .. } => Said::General(Some(Hearing::lasting(stream))),
                _ => Said::General(None),
            };
            (said, Outcome::Answered, None)
        };
        Self { facts: Arc::default(), future: Some(future.boxed()), waker: None, ticket: None }
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
        if let Some(mut ticket) = self.ticket.take() {
            ticket.ends(Outcome::Cancelled);
        }
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
        let (mut said, outcome, place) = ready!(polled);
        self.future = None;
        match (&mut said, self.ticket.take()) {
            (Said::Stream(hearing), Some(mut ticket)) if hearing.is_call() => {
                ticket.holds(place);
                hearing.counts(ticket);
            }
            (_, Some(mut ticket)) => ticket.ends(outcome),
            (_, None) => {}
        }
        Poll::Ready(said)
    }
}

async fn run(
    edge: Arc<Edge>,
    server: ServerId,
    message: Message,
    facts: Arc<OnceLock<Facts>>,
) -> (Said, Outcome, Option<Place>) {
    let caller = Caller { server, principal: ANONYMOUS };
    let (mut outcome, mut place) = (Outcome::Answered, None);
    let said = match is_batch(&message.text) {
        true => batch(&edge, caller, &message, &mut outcome, &mut place).await,
        false => one(&edge, caller, &message, &facts, &mut outcome, &mut place).await,
    };
    (said, outcome, place)
}

async fn one(
    edge: &Edge,
    caller: Caller<'_>,
    message: &Message,
    facts: &OnceLock<Facts>,
    outcome: &mut Outcome,
    place: &mut Option<Place>,
) -> Said {
    let envelope = match Envelope::of_shared(&message.text) {
        Ok(envelope) => envelope,
        Err(refusal) => {
            *outcome = Outcome::Refused(Reason::Invalid);
            return Said::error(refusal.id.as_ref(), &refusal.error);
        }
    };
    let request = match &envelope.kind {
        Kind::Request(request) => Some(request),
        Kind::Notification(_) | Kind::Response(_) => None,
    };
    let id = request.map(|request| &request.id);
    if id.is_some()
        && let Some((reason, why)) = refused(message)
    {
        *outcome = Outcome::Refused(reason);
        return Said::error(id, &why);
    }
    if let Some(why) = request.and_then(|request| ladder::refuses(edge.figures.pressure.step(), &request.method)) {
        *outcome = Outcome::Refused(Reason::Memory);
        return Said::error(id, &RpcError::gateway(true, why));
    }
    if let Some(request) = request {
        match ladder::place(&edge.figures.load, &request.method) {
            Ok(given) => *place = given,
            Err(why) => {
                *outcome = Outcome::Refused(Reason::Overload);
                return Said::error(id, &RpcError::gateway(true, why));
            }
        }
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
        Err(refused) => {
            *outcome = Outcome::Refused(Reason::Invalid);
            return Said::error(id, &refused.error);
        }
    };
    let know = |opens_session, modern| drop(facts.set(Facts { opens_session, modern }));
    let owner = &*edge.owner;
    let reply = match (class, message.session.id()) {
        (Class::Modern(meta), _) => {
            know(false, id.cloned());
            let reply = owner.modern(caller, &envelope, &meta, &NoHeaders).await;
            let reply = counted(reply, &edge.figures.answers, id);
            let listens = request.is_some_and(|request| request.method == Method::Listen.as_str());
            *outcome = came_to(&reply);
            return said(reply, id, true, !listens);
        }
        (Class::Initialize, _) => {
            if message.session != SessionOf::None {
                *outcome = Outcome::Refused(Reason::Invalid);
                let why = "this connection has a session already: open another connection for another one";
                return Said::error(id, &RpcError::invalid_request(why));
            }
            know(true, None);
            let reply = owner.initialize(caller, &envelope).await;
            *outcome = came_to(&reply);
            return opened(reply, id);
        }
        (Class::Legacy { .. }, Some(session)) => {
            owner.legacy(caller, session, Legacy::One { envelope: &envelope, version: None, again: false }).await
        }
        (Class::ModernNotification | Class::Legacy { .. }, _) => return Said::Nothing,
    };
    let reply = counted(reply, &edge.figures.answers, id);
    *outcome = came_to(&reply);
    match id {
        Some(_) => said(reply, id, false, true),
        None => Said::Nothing,
    }
}

/// An array: only sessions of 2025-03-26 have batches; whether this is one, its owner knows.
async fn batch(
    edge: &Edge,
    caller: Caller<'_>,
    message: &Message,
    outcome: &mut Outcome,
    place: &mut Option<Place>,
) -> Said {
    *outcome = Outcome::Refused(Reason::Invalid);
    let text = match json::check(&message.text) {
        Ok(text) => text,
        Err(why) => return Said::error(None, &RpcError::parse(&why)),
    };
    if let Some((reason, why)) = refused(message) {
        *outcome = Outcome::Refused(reason);
        return Said::error(None, &why);
    }
    if let Some(why) = ladder::refuses(edge.figures.pressure.step(), "") {
        *outcome = Outcome::Refused(Reason::Memory);
        return Said::error(None, &RpcError::gateway(true, why));
    }
    match ladder::place(&edge.figures.load, "") {
        Ok(given) => *place = given,
        Err(why) => {
            *outcome = Outcome::Refused(Reason::Overload);
            return Said::error(None, &RpcError::gateway(true, why));
        }
    }
    let Some(session) = message.session.id() else {
        let why = "batches exist only within a session of revision 2025-03-26; send one message at a time";
        return Said::error(None, &RpcError::invalid_request(why));
    };
    let reply = edge.owner.legacy(caller, session, Legacy::Batch(text)).await;
    *outcome = came_to(&reply);
    said(reply, None, false, true)
}

/// Why no request can be taken now.
fn refused(message: &Message) -> Option<(Reason, RpcError)> {
    let busy = message.is_one_too_many.then_some((Reason::Requests, "Too many requests in flight; try again"));
    message.closed_to_requests.or(busy).map(|(reason, why)| (reason, RpcError::gateway(true, why)))
}

/// How a request ends that the owner answers so; one whose answer is a stream goes on.
fn came_to(reply: &Reply) -> Outcome {
    match reply {
        Reply::Message { status, .. } => StatusCode::from_u16(*status).map_or(Outcome::Answered, Outcome::of),
        Reply::NotServed(_) => Outcome::Refused(Reason::Owner),
        Reply::Lost => Outcome::Unknown,
        Reply::Accepted | Reply::Status(_) | Reply::Events { .. } => Outcome::Answered,
    }
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
        reply => match said(reply, id, false, false) {
            Said::Text(text) => Said::Opened(text, None),
            _ => {
                let why = RpcError::gateway(true, "The session could not be opened; try again");
                Said::Opened(why.message(id).into(), None)
            }
        },
    }
}

fn said(reply: Reply, id: Option<&Id>, modern: bool, is_call: bool) -> Said {
    match reply {
        Reply::Accepted | Reply::Status(_) => Said::Nothing,
        Reply::Message { body, .. } if body.is_empty() => Said::Nothing,
        Reply::Message { body, .. } => Said::Text(token::untagged(body)),
        Reply::Events { stream, .. } => Said::Stream(Hearing::of(stream, id.cloned(), modern, is_call)),
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

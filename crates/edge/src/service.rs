//! One request, from its head to its answer: admit, read, decide what it is, ask the owner.

use crate::answers;
use crate::body::{self, BodyError};
use crate::connection::{Connection, Edge};
use crate::hand_over;
use crate::headers::{self, LAST_EVENT_ID, Lookup, UNREADABLE};
use crate::ladder;
use crate::load::Place;
use crate::media;
use crate::respond::{self, Body, Refusal};
use crate::sse::Events;
use crate::ticket::{Counted, Outcome, Reason, Ticket};
use crate::ws;
use enfilade_mcp::classify::{Class, Headers, classify, classify_bodiless};
use enfilade_mcp::{Envelope, Era, Kind, RpcError, Version, json};
use enfilade_registry::SessionId;
use enfilade_session::owner::{ANONYMOUS, Caller, Legacy, Reply};
use enfilade_session::stream::EventStream;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Bytes, Incoming};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The path that answers load balancers: 200 while the process runs, 503 from when it hands over before it stops.
pub const HEALTH: &str = "/healthz";

/// A message that is not larger is read before it is decided whether it is let in: it may be one that always is.
const LOOKED_AT_BYTES_MAX: u64 = 64 * 1024;

/// Answers one request of a connection.
pub(crate) async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
    let (head, mut body) = request.into_parts();
    let mut response = guarded(&connection, &head, &mut body).await;
    // Who answers a POST with a stream has read all of it; its end is not always declared.
    let is_read = body.is_end_stream() || head.method == Method::POST;
    // A client whose connection ends with an answer never writes into one that is being closed.
    let edge = &connection.edge;
    let is_last = connection.pass.ends(edge.figures.pressure.step());
    let mut closes = edge.ending.is_leaving() || is_last;
    if !body.is_end_stream() {
        connection.unread.store(true, Ordering::Relaxed);
        closes |= matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    }
    if is_last {
        connection.ends.store(true, Ordering::Relaxed);
    }
    let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if closes && !upgrades && head.version <= http::Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    hand_over::take_over(&connection, &head, is_read, &mut response);
    if let Some(started) = started {
        // Neither headers nor bodies: they hold secrets.
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(method = %head.method, status, ?elapsed, "request");
    }
    Ok(response)
}

/// Host and Origin come first, and what a page may read is said on every answer that it gets.
async fn guarded(connection: &Arc<Connection>, head: &Parts, body: &mut Incoming) -> Response<Body> {
    let edge = &*connection.edge;
    if head.uri.path() == HEALTH && head.method == Method::GET {
        let (status, text) = match edge.ending.is_leaving() {
            false => (StatusCode::OK, &b"ok"[..]),
            true => (StatusCode::SERVICE_UNAVAILABLE, &b"leaving"[..]),
        };
        return respond::whole(status, HeaderValue::from_static("text/plain"), Bytes::from_static(text));
    }
    // What asks only what may be asked is not counted.
    let mut ticket = (head.method != Method::OPTIONS).then(|| edge.figures.accounts.enter());
    let (origin, answer) = match edge.guard.check(connection.place, head) {
        Ok(origin) => (origin, route(connection, head, body, &mut ticket).await),
        Err(why) => (None, Err(why.into())),
    };
    if let Some(mut ticket) = ticket {
        ticket.ends(answer.as_ref().map_or_else(|refusal| refusal.outcome, |answer| Outcome::of(answer.status())));
    }
    let mut response = answer.unwrap_or_else(Response::from);
    if let Some(origin) = origin {
        respond::share_with(origin.clone(), response.headers_mut());
    }
    response
}

/// Takes the ticket where the request goes on after the head of its answer.
async fn route(
    connection: &Arc<Connection>,
    head: &Parts,
    body: &mut Incoming,
    ticket: &mut Option<Ticket>,
) -> Result<Response<Body>, Refusal> {
    let edge = &*connection.edge;
    let Some(server) = edge.owner.server_at(head.uri.path()) else {
        return Err(Refusal::client(StatusCode::NOT_FOUND, "Not found: no MCP server is offered at this path"));
    };
    if head.method == Method::OPTIONS {
        return Ok(respond::preflight(head));
    }
    if ticket.as_mut().is_some_and(|ticket| !ticket.takes(edge.figures.requests.enter())) {
        return Err(Refusal::busy(Reason::Requests, "Too many requests in flight; try again"));
    }
    let caller = Caller { server, principal: ANONYMOUS };
    match head.method {
        Method::POST => post(edge, caller, head, body, ticket).await,
        // Boxed, because every connection keeps room for this future.
        Method::GET if ws::is_asked(head) => Box::pin(ws::open(connection, caller, head)).await,
        Method::GET => get(edge, caller, head).await,
        Method::DELETE => delete(edge, caller, head).await,
        _ => Ok(respond::not_allowed("POST, GET, DELETE, OPTIONS")),
    }
}

/// One message, or a batch of them.
async fn post(
    edge: &Edge,
    caller: Caller<'_>,
    head: &Parts,
    body: &mut Incoming,
    ticket: &mut Option<Ticket>,
) -> Result<Response<Body>, Refusal> {
    // The answer may be either, whatever the message: so says every revision, and so do the SDKs' servers.
    if !media::accepts_both(&head.headers) {
        return Err(not_acceptable("Accept must list application/json and text/event-stream"));
    }
    if !media::is_json(&head.headers) {
        let why = "Content-Type must be application/json, without Content-Encoding";
        return Err(Refusal::client(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let mut place = None;
    if body.size_hint().lower() > LOOKED_AT_BYTES_MAX {
        place = ladder::check_place(&edge.figures.load, "")?;
    }
    let mut budget = edge.figures.messages.empty();
    let wait = Duration::from_millis(edge.config.body_timeout_ms);
    let bytes = body::read(body, edge.config.message_bytes_max, wait, &mut budget).await.map_err(unread)?;
    let headers = headers::mcp(&head.headers);
    if is_batch(&bytes) {
        ladder::check(edge.figures.pressure.step(), "")?;
        hold(edge, "", place, ticket)?;
        let reply = batch(edge, caller, headers, &bytes).await?;
        return Ok(respond::reply(reply, |stream| call(edge, stream, ticket.take())));
    }
    let envelope = Envelope::of_shared(&bytes).map_err(|refusal| Refusal {
        status: StatusCode::BAD_REQUEST,
        id: refusal.id,
        error: refusal.error,
        outcome: Outcome::Refused(Reason::Invalid),
    })?;
    if let Kind::Request(request) = &envelope.kind {
        let taken = ladder::check(edge.figures.pressure.step(), &request.method)
            .and_then(|()| hold(edge, &request.method, place, ticket));
        taken.map_err(|refusal| Refusal { id: Some(request.id.clone()), ..refusal })?;
    }
    let reply = message(edge, caller, head, headers, &envelope).await?;
    let id = if let Kind::Request(request) = &envelope.kind { Some(&request.id) } else { None };
    let reply = answers::counted(reply, &edge.figures.answers, id);
    Ok(respond::reply(reply, |stream| match &envelope.kind {
        Kind::Request(request) if request.method == enfilade_mcp::method::Method::Listen.as_str() => {
            lasting(edge, stream)
        }
        _ => call(edge, stream, ticket.take()),
    }))
}

/// Gives a request of this method its place, unless it has one.
fn hold(edge: &Edge, method: &str, place: Option<Place>, ticket: &mut Option<Ticket>) -> Result<(), Refusal> {
    let place = if place.is_some() { place } else { ladder::check_place(&edge.figures.load, method)? };
    if let Some(ticket) = ticket {
        ticket.holds(place);
    }
    Ok(())
}

async fn message(
    edge: &Edge,
    caller: Caller<'_>,
    head: &Parts,
    headers: Headers<'_>,
    envelope: &Envelope<'_>,
) -> Result<Reply, Refusal> {
    let class = classify(headers, &envelope.kind).map_err(|refused| Refusal {
        status: StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST),
        id: match &envelope.kind {
            Kind::Request(request) => Some(request.id.clone()),
            Kind::Notification(_) | Kind::Response(_) => None,
        },
        error: refused.error,
        outcome: Outcome::Refused(Reason::Invalid),
    })?;
    Ok(match class {
        Class::Modern(meta) => edge.owner.modern(caller, envelope, &meta, &Lookup(&head.headers)).await,
        Class::ModernNotification => Reply::Accepted,
        Class::Initialize => edge.owner.initialize(caller, envelope).await,
        Class::Legacy { session } => {
            let session = verify(edge, session)?;
            edge.owner.legacy(caller, session, Legacy::One { envelope, version: headers.version, again: false }).await
        }
    })
}

/// An array: only sessions of 2025-03-26 have batches; whether this is one, its owner knows.
async fn batch(edge: &Edge, caller: Caller<'_>, headers: Headers<'_>, bytes: &[u8]) -> Result<Reply, Refusal> {
    let bad = |error| Refusal::new(StatusCode::BAD_REQUEST, error);
    let text = json::check(bytes).map_err(|why| bad(RpcError::parse(&why)))?;
    let legacy = |name| Version::parse(name).is_some_and(|version| version.era() == Era::Legacy);
    match headers.session.filter(|_| headers.version.is_none_or(legacy)) {
        Some(session) => {
            let session = verify(edge, session)?;
            Ok(edge.owner.legacy(caller, session, Legacy::Batch(text)).await)
        }
        None => Err(bad(RpcError::invalid_request(
            "batches exist only within a session of revision 2025-03-26; send one message at a time",
        ))),
    }
}

/// The stream of messages that belong to no call, or the rest of a broken stream.
async fn get(edge: &Edge, caller: Caller<'_>, head: &Parts) -> Result<Response<Body>, Refusal> {
    let session = match bodiless(head)? {
        Some(session) => session,
        None => return Ok(respond::not_allowed("POST")),
    };
    if !media::accepts(&head.headers, media::EVENTS) {
        return Err(not_acceptable("Accept must list text/event-stream"));
    }
    let session = verify(edge, session)?;
    let last_event_id = headers::text(&head.headers, &LAST_EVENT_ID);
    if last_event_id == Some(UNREADABLE) {
        return Err(Refusal::client(StatusCode::BAD_REQUEST, "Last-Event-ID is repeated or not visible ASCII"));
    }
    ladder::check_stream(edge.figures.pressure.step(), last_event_id.is_some())?;
    let reply = edge.owner.open_stream(caller, session, last_event_id).await;
    Ok(respond::reply(reply, |stream| lasting(edge, stream)))
}

async fn delete(edge: &Edge, caller: Caller<'_>, head: &Parts) -> Result<Response<Body>, Refusal> {
    let session = match bodiless(head)? {
        Some(session) => session,
        None => return Ok(respond::not_allowed("POST")),
    };
    let session = verify(edge, session)?;
    let reply = edge.owner.end(caller, session).await;
    Ok(respond::reply(reply, |stream| lasting(edge, stream)))
}

/// The session that a GET or DELETE names; nothing where its revision has no such method.
fn bodiless(head: &Parts) -> Result<Option<&str>, Refusal> {
    match classify_bodiless(headers::mcp(&head.headers)) {
        Ok(session) => Ok(Some(session)),
        Err(405) => Ok(None),
        Err(_) => Err(Refusal::client(StatusCode::BAD_REQUEST, "MCP-Protocol-Version is not supported")),
    }
}

/// Proves by arithmetic that the id was minted here, before anything else of the session is touched.
pub(crate) fn verify(edge: &Edge, session: &str) -> Result<SessionId, Refusal> {
    if session == UNREADABLE {
        return Err(Refusal::client(StatusCode::BAD_REQUEST, "Mcp-Session-Id is repeated or not visible ASCII"));
    }
    edge.keys.verify(session).map_err(|_| Refusal::client(StatusCode::NOT_FOUND, "Session not found"))
}

/// The stream of one call: counts as in flight until it ends, and may finish when the node stops.
fn call(edge: &Edge, stream: EventStream, ticket: Option<Ticket>) -> Events {
    let counted = ticket.map_or(Counted::Nothing, Counted::request);
    Events::new(stream, Duration::from_millis(edge.config.keep_alive_ms), None, counted)
}

/// A stream without an end of its own: bounded by sessions and connections, and ended when the node stops.
pub(crate) fn lasting(edge: &Edge, stream: EventStream) -> Events {
    let counted = edge.figures.streams.enter().map_or(Counted::Nothing, Counted::lasting);
    Events::new(stream, Duration::from_millis(edge.config.keep_alive_ms), Some(edge.stopping.watch()), counted)
}

pub(crate) fn is_batch(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

fn not_acceptable(why: &'static str) -> Refusal {
    Refusal::client(StatusCode::NOT_ACCEPTABLE, why)
}

fn unread(why: BodyError) -> Refusal {
    match why {
        BodyError::TooLarge(_) => Refusal::client(StatusCode::PAYLOAD_TOO_LARGE, why.to_string()),
        BodyError::TimedOut(_) => {
            Refusal { outcome: Outcome::Late, ..Refusal::client(StatusCode::REQUEST_TIMEOUT, why.to_string()) }
        }
        BodyError::Broken => {
            Refusal { outcome: Outcome::ClientGone, ..Refusal::client(StatusCode::BAD_REQUEST, why.to_string()) }
        }
        BodyError::Overloaded => Refusal::busy(Reason::Messages, why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// hyper keeps room for this future in every connection, idle or not.
    #[test]
    fn the_future_of_a_request_stays_small() {
        fn size<A, B, F>(_: fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(answer);
        assert!(bytes <= 2304, "{bytes} bytes");
    }

    #[test]
    fn only_an_array_is_a_batch() {
        for (bytes, expected) in
            [("[", true), (" \t\r\n[]", true), ("{}", false), ("", false), ("  ", false), ("\"[\"", false)]
        {
            assert_eq!(is_batch(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }
}

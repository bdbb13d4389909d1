//! The opening handshake (RFC 6455, section 4.2), answered without a library's buffers, and the streams that a client goes
//! on with: what the owner refuses of them is the answer, in place of 101.

use super::hearing::Hearing;
use super::socket::Start;
use crate::connection::{Connection, Edge};
use crate::hand_over::Next;
use crate::headers::{self, LAST_EVENT_ID, SESSION, has_token};
use crate::ladder;
use crate::respond::{self, Body, Refusal};
use crate::service;
use crate::ticket::Reason;
use bytes::Bytes;
use enfilade_mcp::{RpcError, json};
use enfilade_registry::SessionId;
use enfilade_session::owner::{Caller, Reply, ServerId};
use enfilade_session::stream::EventId;
use http::header;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The protocol's version (section 4.1).
const VERSION: &str = "13";
/// The sub-protocol, for clients that offer it (section 1.9).
const PROTOCOL: &str = "mcp";
/// Streams that a client may go on with at a time: those of all calls of a session, and the general one.
const RESUMED_MAX: usize = 257;

/// True when the client wants to go on in WebSocket frames.
pub(crate) fn is_asked(head: &Parts) -> bool {
    head.method == Method::GET && has_token(&head.headers, header::UPGRADE, "websocket")
}

/// What a connection becomes with 101.
pub(crate) struct Opening {
    pub(super) server: ServerId,
    pub(super) start: Start,
}

/// Opens a WebSocket; it begins when hyper has given the connection up.
pub(crate) async fn open(
    connection: &Arc<Connection>,
    caller: Caller<'_>,
    head: &Parts,
) -> Result<Response<Body>, Refusal> {
    let edge = &connection.edge;
    if edge.ending.is_leaving() {
        return Err(Refusal::busy(Reason::Stopping, "This node is being stopped; connect again, to any node"));
    }
    let key = key(&head.headers).map_err(|why| Refusal::client(StatusCode::BAD_REQUEST, why))?;
    if headers::text(&head.headers, header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        let mut response = Refusal::client(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13").into();
        let headers = Response::<Body>::headers_mut(&mut response);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return Ok(response);
    }
    if head.extensions.get::<OnUpgrade>().is_none() {
        return Err(Refusal::client(StatusCode::BAD_REQUEST, "WebSocket needs HTTP/1.1 (RFC 6455, section 4.1)"));
    }
    let start = match resumed(edge, caller, head).await? {
        Ok(start) => start,
        Err(response) => return Ok(response),
    };
    connection.hand_over.put(Next::WebSocket(Box::new(Opening { server: caller.server, start })));
    let mut response = respond::status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.unwrap_or(HeaderValue::from_static("")));
    if has_token(&head.headers, header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(response)
}

/// `Sec-WebSocket-Key`: 16 bytes in Base64 (section 4.2.1); or why this is no opening handshake.
fn key(map: &HeaderMap) -> Result<&str, &'static str> {
    let length = headers::text(map, header::CONTENT_LENGTH).unwrap_or("0");
    if length != "0" || map.contains_key(header::TRANSFER_ENCODING) {
        // Nobody could tell where it ends and frames begin.
        return Err("An opening handshake has no body");
    }
    if !has_token(map, header::CONNECTION, "upgrade") {
        return Err("Connection must list Upgrade");
    }
    let is_key = |key: &&str| {
        let digits = key.strip_suffix("==").map(str::as_bytes).unwrap_or_default();
        digits.len() == 22 && digits.iter().all(|digit| digit.is_ascii_alphanumeric() || b"+/".contains(digit))
    };
    let key = headers::text(map, header::SEC_WEBSOCKET_KEY).filter(is_key);
    key.ok_or("Sec-WebSocket-Key must be 16 bytes in Base64")
}

/// What a connection begins with: nothing, or the streams of the session that it names; or why the owner gives none.
async fn resumed(edge: &Edge, caller: Caller<'_>, head: &Parts) -> Result<Result<Start, Response<Body>>, Refusal> {
    let session = headers::text(&head.headers, &SESSION).or_else(|| parameters(head, "session").next());
    ladder::check_stream(edge.figures.pressure.step(), session.is_some())?;
    let Some(session) = session else {
        return Ok(Ok(Start::default()));
    };
    let session = service::verify(edge, session)?;
    let events = last_events(head)?;
    let is_general = |event: &&&str| EventId::parse(event).is_some_and(|event| event.is_general());
    let general = events.iter().find(is_general).copied();
    let reply = edge.owner.open_stream(caller, session, general).await;
    let Reply::Events { stream, .. } = reply else {
        return Ok(Err(respond::reply(reply, |stream| service::lasting(edge, stream))));
    };
    let mut start = Start { session: Some(session), general: Some(Hearing::lasting(stream)), ..Start::default() };
    for event in events.iter().filter(|event| !is_general(event)) {
        match rest_of(edge, caller, session, event).await {
            Ok(hearing) => start.calls.push(hearing),
            Err(told) => start.told.push(told),
        }
    }
    Ok(Ok(start))
}

/// The rest of a call's stream, or what is told in its place: never silence.
async fn rest_of(edge: &Edge, caller: Caller<'_>, session: SessionId, event: &str) -> Result<Hearing, Bytes> {
    match edge.owner.open_stream(caller, session, Some(event)).await {
        Reply::Events { stream, .. } => Ok(Hearing::lasting(stream)),
        _ => {
            let why = "The stream of this event cannot be gone on with: what its calls came to is not known";
            Err(RpcError::invalid_request(why).with("event", json::quote(event)).message(None).into())
        }
    }
}

/// The last event of each stream that the client goes on with: from headers, or from the query, for browsers.
fn last_events(head: &Parts) -> Result<Vec<&str>, Refusal> {
    let refuse = |why| Err(Refusal::client(StatusCode::BAD_REQUEST, why));
    let mut events = Vec::new();
    for value in head.headers.get_all(&LAST_EVENT_ID) {
        match value.to_str() {
            Ok(text) => events.extend(text.split(',').map(str::trim).filter(|event| !event.is_empty())),
            Err(_) => return refuse("Last-Event-ID is not visible ASCII"),
        }
    }
    events.extend(parameters(head, "last-event-id"));
    if events.len() > RESUMED_MAX {
        return refuse("Last-Event-ID names more streams than a session can have");
    }
    Ok(events)
}

/// Values of a parameter in the query. Neither ids of sessions nor of events have characters that are encoded there.
fn parameters<'a>(head: &'a Parts, name: &'static str) -> impl Iterator<Item = &'a str> {
    let pairs = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value)
}

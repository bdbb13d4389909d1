//! Turns what is to be said into HTTP: statuses, headers, bodies.

use crate::connection::Connection;
use crate::guard::Forbidden;
use crate::headers::SESSION;
use crate::media;
use crate::sse::Events;
use crate::ticket::{Outcome, Reason};
use bytes::Bytes;
use enfilade_mcp::error::code;
use enfilade_mcp::{Fault, Id, RpcError};
use enfilade_registry::SessionId;
use enfilade_session::owner::{Reply, outcome_unknown};
use enfilade_session::stream::EventStream;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

static ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, DELETE, OPTIONS");
const REQUEST_HEADERS: &str = "accept, authorization, content-type, last-event-id, mcp-method, mcp-name, \
                               mcp-protocol-version, mcp-session-id";
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static("Mcp-Session-Id, Retry-After, WWW-Authenticate");

/// The body of an answer.
pub(crate) enum Body {
    Empty,
    Whole(Bytes),
    Events(Box<Events>),
    /// What follows the head is written without hyper.
    Elsewhere(Arc<Connection>),
}

impl Body {
    /// True for a stream without an end of its own.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Events(events) if events.is_lasting())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Events(events) => {
                let mut out = Vec::new();
                if !events.is_done() {
                    ready!(events.poll(context, &mut out));
                }
                Poll::Ready((!out.is_empty()).then(|| Ok(Frame::data(out.into()))))
            }
            Self::Elsewhere(connection) => {
                connection.hand_over.asked();
                Poll::Pending
            }
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Events(events) => events.is_done(),
            Self::Elsewhere(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Events(_) | Self::Elsewhere(_) => SizeHint::default(),
        }
    }
}

/// A request that is answered here, without the owner.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) id: Option<Id>,
    pub(crate) error: RpcError,
    pub(crate) outcome: Outcome,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: RpcError) -> Self {
        Self { status, id: None, error, outcome: Outcome::Refused(Reason::Invalid) }
    }

    /// A fact that has no code of its own in JSON-RPC: the status says it, the text explains it.
    pub(crate) fn client(status: StatusCode, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        let (code, message) = (code::INVALID_REQUEST, message.into());
        Self::new(status, RpcError { code, message, fault: Fault::Client, retry: false, details: Vec::new() })
    }

    /// The same request may be sent again.
    pub(crate) fn busy(why: Reason, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, RpcError::gateway(true, message));
        Self { outcome: Outcome::Refused(why), ..refusal }
    }
}

impl From<Forbidden> for Refusal {
    fn from(why: Forbidden) -> Self {
        Self::client(StatusCode::FORBIDDEN, why.to_string())
    }
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        let mut response = json(refusal.status, refusal.error.message(refusal.id.as_ref()).into());
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A status alone.
pub(crate) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// One JSON text.
fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    whole(status, HeaderValue::from_static(media::JSON), body)
}

/// A body that is known.
pub(crate) fn whole(status: StatusCode, media: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// 405, with what is allowed instead.
pub(crate) fn not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = Refusal::client(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed here").into();
    let headers = Response::<Body>::headers_mut(&mut response);
    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// What the owner said. `open` makes the body of a stream.
pub(crate) fn reply(reply: Reply, open: impl FnOnce(EventStream) -> Events) -> Response<Body> {
    match reply {
        Reply::Accepted => status(StatusCode::ACCEPTED),
        Reply::Status(code) => status(status_of(code)),
        // Whoever routes among several nodes has tried the others already.
        Reply::NotServed(why) => {
            Refusal::busy(Reason::Owner, format!("The session is not served now: {why}; try again")).into()
        }
        Reply::Lost => Refusal::new(StatusCode::BAD_GATEWAY, outcome_unknown(false)).into(),
        Reply::Message { status, body, session, retry_after_s } => {
            let mut response = json(status_of(status), body);
            set_session(response.headers_mut(), session);
            if let Some(seconds) = retry_after_s {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Reply::Events { stream, session } => {
            let mut response = Response::new(Body::Events(Box::new(open(stream))));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media::EVENTS));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
            // Reverse proxies that buffer answers would keep events back.
            headers.insert(&ACCEL_BUFFERING, HeaderValue::from_static("no"));
            set_session(headers, session);
            response
        }
    }
}

fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn set_session(headers: &mut HeaderMap, session: Option<SessionId>) {
    if let Some(value) = session.and_then(|session| HeaderValue::try_from(session.to_string()).ok()) {
        headers.insert(&SESSION, value);
    }
}

/// Lets the page that asked read the answer.
pub(crate) fn share_with(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// The answer to OPTIONS: what a page may send (Fetch, CORS-preflight request).
pub(crate) fn preflight(head: &Parts) -> Response<Body> {
    let mut response = status(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, METHODS);
    if head.headers.contains_key(header::ORIGIN) {
        // Mcp-Param-* names come from tools, so what was asked for is repeated where it may be sent.
        let asked = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let granted = asked.filter(|asked| asked.to_str().is_ok_and(|asked| asked.split(',').all(may_be_sent)));
        let granted = granted.cloned().unwrap_or(HeaderValue::from_static(REQUEST_HEADERS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, granted);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

fn may_be_sent(name: &str) -> bool {
    const PARAM: &str = "mcp-param-";
    let name = name.trim();
    let is_param = name.get(..PARAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(PARAM));
    is_param || REQUEST_HEADERS.split(", ").any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preflight_grants_what_mcp_needs_and_nothing_else() {
        let granted = |asked: &str| {
            let request = http::Request::builder().header("origin", "http://localhost");
            let request = request.header("access-control-request-headers", asked).body(()).expect("a request");
            let response = preflight(&request.into_parts().0);
            response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().expect("text").to_owned()
        };
        assert_eq!(granted("Mcp-Param-Région-less,content-type"), REQUEST_HEADERS);
        assert_eq!(granted("mcp-param-region, Content-Type"), "mcp-param-region, Content-Type");
        assert_eq!(granted("content-type,cookie"), REQUEST_HEADERS);
        assert!(!granted("x-anything").contains("x-anything"));
    }

    #[test]
    fn a_status_that_is_none_is_our_fault() {
        let message = Reply::Message { status: 7, body: Bytes::new(), session: None, retry_after_s: Some(9) };
        let response = reply(message, |_| panic!("no stream"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::RETRY_AFTER], "9");
    }
}

//! A legacy session over Streamable HTTP: calls are POSTs, the session's own stream is a GET, its end a DELETE.

use super::answer::{self, Answer};
use super::endpoint::{self, Endpoint, LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID};
use super::events::EventStream;
use super::link::Body;
use super::reply::Reply;
use super::streams::{CallStream, SessionStream};
use crate::common::Common;
use crate::peer::{Call, CallError, Exchange, Messages, Peer};
use crate::wire;
use bytes::Bytes;
use enfilade_mcp::Version;
use futures::future::BoxFuture;
use http::{HeaderValue, Request};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long the head of the session's own stream is awaited. Some servers send it only with the first event: then the
/// stream counts as open.
const LISTEN_MAX: Duration = Duration::from_secs(2);
/// How long the upstream may take to hear that something is not wanted any more.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// A session. Small, because there are very many, most of them between two uses.
pub(crate) struct Session {
    /// For its streams, which share it.
    me: Weak<Session>,
    common: Arc<Common>,
    endpoint: Arc<Endpoint>,
    /// A copy: what came is a part of all that was read with it, and would keep that for as long.
    session_id: Option<Box<[u8]>>,
    version: Version,
    alive: AtomicBool,
    listening: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        common: Arc<Common>,
        endpoint: Arc<Endpoint>,
        session_id: Option<&HeaderValue>,
        version: Version,
    ) -> Arc<Self> {
        let session_id = session_id.map(|id| id.as_bytes().into());
        let (alive, listening) = (AtomicBool::new(true), AtomicBool::new(false));
        Arc::new_cyclic(|me| Self { me: me.clone(), common, endpoint, session_id, version, alive, listening })
    }

    /// Whoever uses it holds it.
    fn me(&self) -> Result<Arc<Self>, CallError> {
        self.me.upgrade().ok_or(CallError::Closed)
    }

    pub(crate) fn name(&self) -> &str {
        &self.common.name
    }

    pub(crate) fn stopped_listening(&self) {
        self.listening.store(false, Ordering::Release);
    }

    /// Opens the session's stream, or takes one up behind an event.
    pub(crate) async fn get(self: Arc<Self>, last_event_id: Option<HeaderValue>) -> Result<Reply, CallError> {
        let mut request = self.stamped(self.endpoint.get());
        // Endpoints without streams answer every GET with 404; only one that had given an event speaks of the session.
        let resumes = last_event_id.is_some();
        if let Some(id) = last_event_id {
            request.headers_mut().insert(&LAST_EVENT_ID, id);
        }
        let reply = self.endpoint.send(request).await?;
        if reply.status().as_u16() == 404 && self.session_id.is_some() && resumes {
            self.alive.store(false, Ordering::Release);
        }
        Ok(reply)
    }

    /// Puts the session's headers in.
    fn stamped(&self, mut request: Request<Body>) -> Request<Body> {
        let headers = request.headers_mut();
        if self.version.has_version_header() {
            headers.insert(&PROTOCOL_VERSION, HeaderValue::from_static(self.version.as_str()));
        }
        // It was a header's value when it came.
        if let Some(Ok(id)) = self.session_id.as_deref().map(HeaderValue::from_bytes) {
            headers.insert(&SESSION_ID, id);
        }
        request
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Exchange, CallError> {
        self.check()?;
        let mut request = self.stamped(self.endpoint.post(call.message));
        endpoint::put(&mut request, &call.headers)?;
        let reply = self.endpoint.send(request).await?;
        match answer::read(reply, call.id, self.session_id.is_some()).await {
            Ok(Answer::Whole(exchange)) => Ok(exchange),
            Ok(Answer::Events(reply)) => {
                Ok(Exchange::Stream(Messages::new(CallStream::new(call.id, reply, Some(self.me()?)))))
            }
            Err(error) => Err(self.noted(error)),
        }
    }

    pub(crate) async fn post(&self, message: Bytes) -> Result<(), CallError> {
        self.check()?;
        let reply = self.endpoint.send(self.stamped(self.endpoint.post(message))).await?;
        let status = reply.status();
        reply.release();
        match status.as_u16() {
            200..=299 => Ok(()),
            404 if self.session_id.is_some() => Err(self.noted(CallError::Gone)),
            status => Err(CallError::Status(status)),
        }
    }

    fn check(&self) -> Result<(), CallError> {
        if self.common.guard.is_closed() {
            return Err(CallError::Closed);
        }
        if self.is_alive() { Ok(()) } else { Err(CallError::Gone) }
    }

    fn noted(&self, error: CallError) -> CallError {
        if error == CallError::Gone {
            self.alive.store(false, Ordering::Release);
        }
        error
    }

    /// Ends the session at the upstream, once.
    pub(crate) async fn delete(&self) {
        if !self.alive.swap(false, Ordering::AcqRel) || self.session_id.is_none() {
            return;
        }
        let request = self.stamped(self.endpoint.delete());
        if let Ok(Ok(reply)) = tokio::time::timeout(FAREWELL_MAX, self.endpoint.send(request)).await {
            reply.release();
        }
    }
}

impl Peer for Session {
    fn next_id(&self) -> u64 {
        self.common.ids.next()
    }

    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Exchange, CallError>> {
        Box::pin(self.common.guard.call(|| self.exchange(call)))
    }

    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(self.post(message))
    }

    fn cancel(&self, id: u64, reason: &str) -> BoxFuture<'_, ()> {
        let message = wire::cancelled(id, reason);
        Box::pin(async move {
            let _ = tokio::time::timeout(FAREWELL_MAX, self.post(message)).await;
        })
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<Messages>, CallError>> {
        Box::pin(async move {
            self.check()?;
            if self.listening.swap(true, Ordering::AcqRel) {
                return Ok(None);
            }
            let me = self.me()?;
            let events = EventStream::of_session(me.clone());
            let mut stream = SessionStream::new(me, events);
            match tokio::time::timeout(LISTEN_MAX, stream.opened()).await {
                Ok(Ok(false)) => Ok(None),
                Ok(Err(error)) => Err(error),
                Ok(Ok(true)) | Err(_) => Ok(Some(Messages::new(stream))),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.delete())
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) && !self.common.guard.is_closed()
    }
}

//! The modern endpoint (2026-07-28 basic/transports/streamable-http): stateless POSTs and nothing else. A call that is not wanted any
//! more is one whose stream is closed.

use super::answer::{self, Answer};
use super::endpoint::{self, Endpoint, METHOD, NAME, PROTOCOL_VERSION};
use super::link::Body;
use super::streams::CallStream;
use crate::common::Common;
use crate::peer::{Call, CallError, Exchange, Messages, Peer};
use bytes::Bytes;
use enfilade_mcp::{Version, header};
use futures::future::BoxFuture;
use http::{HeaderValue, Request};
use std::sync::Arc;

/// The endpoint as a peer.
pub(crate) struct Modern {
    common: Arc<Common>,
    endpoint: Arc<Endpoint>,
}

impl Modern {
    pub(crate) fn new(common: Arc<Common>, endpoint: Arc<Endpoint>) -> Arc<Self> {
        Arc::new(Self { common, endpoint })
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Exchange, CallError> {
        let id = call.id;
        let request = request(&self.endpoint, call)?;
        match answer::read(self.endpoint.send(request).await?, id, false).await? {
            Answer::Whole(exchange) => Ok(exchange),
            Answer::Events(reply) => Ok(Exchange::Stream(Messages::new(CallStream::new(id, reply, None)))),
        }
    }
}

/// A request with the headers that mirror its body.
pub(crate) fn request(endpoint: &Endpoint, call: Call<'_>) -> Result<Request<Body>, CallError> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| CallError::Protocol("a header cannot be sent"));
    let mut request = endpoint.post(call.message);
    let headers = request.headers_mut();
    headers.insert(&PROTOCOL_VERSION, HeaderValue::from_static(Version::MODERN.as_str()));
    headers.insert(&METHOD, value(call.method)?);
    if let Some(name) = call.name {
        headers.insert(&NAME, value(&header::encode(name))?);
    }
    endpoint::put(&mut request, &call.headers)?;
    Ok(request)
}

impl Peer for Modern {
    fn next_id(&self) -> u64 {
        self.common.ids.next()
    }

    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Exchange, CallError>> {
        Box::pin(self.common.guard.call(|| self.exchange(call)))
    }

    /// Modern clients send no notifications and answer no requests over HTTP.
    fn send(&self, _message: Bytes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn cancel(&self, _id: u64, _reason: &str) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn listen(&self) -> BoxFuture<'_, Result<Option<Messages>, CallError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn is_alive(&self) -> bool {
        !self.common.guard.is_closed()
    }
}

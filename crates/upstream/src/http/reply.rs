//! One HTTP answer: its head, its body counted while it is read, and the connection that goes back when it is through.

use super::pool::Lease;
use crate::peer::CallError;
use bytes::{Bytes, BytesMut};
use enfilade_mcp::MESSAGE_BYTES_MAX;
use enfilade_runtime::Permit;
use futures::FutureExt;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use std::time::Duration;

/// How long the end of a stream is awaited after its response came, before the connection is given up.
const TAIL_MAX: Duration = Duration::from_secs(1);

/// From this size on there is room for the largest message: pages of it cost memory once they are written, while growing
/// by doubling would keep the old copy beside the new one.
const GROWING_BYTES_MAX: usize = 1024 * 1024;

/// An answer whose head has come.
pub(crate) struct Reply {
    response: Response<Incoming>,
    lease: Lease,
}

impl Reply {
    pub(crate) fn new(response: Response<Incoming>, lease: Lease) -> Self {
        Self { response, lease }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// True for a stream of events.
    pub(crate) fn is_events(&self) -> bool {
        let kind = self.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
    }

    /// The whole body. One that came in one piece is not copied.
    pub(crate) async fn collect(mut self) -> Result<Bytes, CallError> {
        let expected = self.response.body().size_hint().exact();
        if expected.is_some_and(|bytes| bytes > MESSAGE_BYTES_MAX as u64) {
            return Err(CallError::TooLarge);
        }
        let mut first = Bytes::new();
        let (mut all, mut share) = (BytesMut::new(), None);
        while let Some(chunk) = self.next().await? {
            let bytes = first.len() + all.len() + chunk.len();
            if bytes > MESSAGE_BYTES_MAX {
                return Err(CallError::TooLarge);
            }
            if !self.covers(&mut share, bytes) {
                return Err(CallError::NoMemory);
            }
            if first.is_empty() && all.is_empty() {
                first = chunk;
                continue;
            }
            if all.is_empty() {
                all.reserve(expected.map_or(first.len() + chunk.len(), |bytes| bytes as usize));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            if expected.is_none() && all.len() > GROWING_BYTES_MAX {
                all.reserve(MESSAGE_BYTES_MAX - all.len());
            }
            all.extend_from_slice(&chunk);
        }
        self.lease.give_back();
        Ok(Permit::keep(share, if all.is_empty() { first } else { all.freeze() }))
    }

    /// Counts so many bytes of what was read; false where there is no memory for them.
    pub(crate) fn covers(&self, share: &mut Option<Permit>, bytes: usize) -> bool {
        self.lease.covers(share, bytes)
    }

    /// The next piece of the body; nothing at its end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        // Of a body of known length the last piece is known to be the last: no further wait for its end.
        while !self.response.body().is_end_stream() {
            match self.lease.frame(self.response.body_mut()).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
                Some(Err(_)) => return Err(CallError::Lost),
                None => break,
            }
        }
        Ok(None)
    }

    /// Lets go of a body of which no more is wanted. Its end usually came along or is about to come; then the
    /// connection is kept.
    pub(crate) fn release(mut self) {
        match self.next().now_or_never() {
            Some(Ok(None)) => self.lease.give_back(),
            Some(_) => {}
            None => {
                let spawner = self.lease.pool();
                spawner.spawn(async move {
                    if let Ok(Ok(None)) = tokio::time::timeout(TAIL_MAX, self.next()).await {
                        self.lease.give_back();
                    }
                });
            }
        }
    }
}

//! What a connection goes on as once hyper has said the head of an answer. hyper keeps some 10 KB for a connection, whatever
//! it does; a stream without an end needs a fraction of that, so it and the socket are taken over from hyper.
//!
//! hyper offers this for 101 only. For events, the body says nothing, and two things are noted: that hyper asked it, which
//! it does once the head is in its buffer, and that hyper flushed the socket after that, which it does once its buffer is
//! empty. Then hyper owes the client nothing, and what it has read but not parsed is all that it has of the connection.

use crate::connection::Connection;
use crate::headers;
use crate::respond::Body;
use crate::sse::Events;
use crate::ws::Opening;
use http::request::Parts;
use http::{Method, Response, Version, header};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What comes after hyper.
pub(crate) enum Next {
    /// The chunks of an answer, and perhaps more requests then.
    Events {
        events: Box<Events>,
        /// The connection ends with them.
        closes: bool,
    },
    WebSocket(Box<Opening>),
}

/// The place where the answer leaves it.
#[derive(Default)]
pub(crate) struct HandOver {
    next: Mutex<Option<Box<Next>>>,
    stage: AtomicU8,
}

/// The head is in hyper's buffer.
const ASKED: u8 = 1;
/// The head is in the socket.
const FLUSHED: u8 = 2;

impl HandOver {
    pub(crate) fn put(&self, next: Next) {
        // Relaxed, here and below: one task does all of it.
        self.stage.store(0, Ordering::Relaxed);
        *self.next.lock() = Some(Box::new(next));
    }

    pub(crate) fn asked(&self) {
        if self.stage.load(Ordering::Relaxed) == 0 {
            self.stage.store(ASKED, Ordering::Relaxed);
        }
    }

    pub(crate) fn flushed(&self) {
        if self.stage.load(Ordering::Relaxed) == ASKED {
            self.stage.store(FLUSHED, Ordering::Relaxed);
        }
    }

    /// True when hyper has done its part of an answer with events.
    pub(crate) fn is_due(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == FLUSHED
    }

    pub(crate) fn take(&self) -> Option<Next> {
        self.stage.store(0, Ordering::Relaxed);
        self.next.lock().take().map(|next| *next)
    }
}

/// Puts the events of a lasting stream aside. Not where bytes of the request may still come (`is_read`), nor for HTTP/1.0,
/// which has no chunks, nor for HTTP/2, whose connections carry other streams as well: those stay with hyper.
pub(crate) fn take_over(connection: &Arc<Connection>, head: &Parts, is_read: bool, response: &mut Response<Body>) {
    let chunks = head.version == Version::HTTP_11 && matches!(head.method, Method::GET | Method::POST);
    if !(chunks && is_read && response.body().is_lasting()) {
        return;
    }
    let closes = [&head.headers, response.headers()];
    let closes = closes.into_iter().any(|map| headers::has_token(map, header::CONNECTION, "close"));
    if let Body::Events(events) = std::mem::replace(response.body_mut(), Body::Elsewhere(connection.clone())) {
        connection.hand_over.put(Next::Events { events, closes });
    }
}

//! A stream of SSE events that survives its connections: when one ends it waits as long as the upstream asked, and goes
//! on with a GET that carries `Last-Event-ID` (2025-11-25 basic/transports, Resumability and Redelivery).
//!
//! Everything that is under way is kept in the stream itself, so a dropped [`EventStream::next`] loses nothing and never
//! makes it ask twice.

use super::reply::Reply;
use super::session::Session;
use crate::backoff;
use crate::peer::{CallError, Peer};
use enfilade_mcp::MESSAGE_BYTES_MAX;
use enfilade_mcp::sse::{Decoded, Decoder, Event};
use enfilade_runtime::Permit;
use futures::future::BoxFuture;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait before reconnecting when the upstream does not say.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest wait that is taken from an upstream: `retry: 0` would make reconnecting a loop without a pause.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait that is taken from an upstream; whoever waits for its answer gave up long before.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// The longest wait between failing attempts, unless the upstream asked for a longer one.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Attempts in a row that may fail, or bring nothing, before the stream is given up.
const FAILURES_MAX: u32 = 6;
/// A stream that lived so long was a good one, even if nothing came.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// Events of one call, or of a session's own stream.
pub(crate) struct EventStream {
    resume: Resume,
    state: State,
    decoder: Decoder,
    /// The share of the event that is being read, or was handed out last, in what is under way.
    share: Option<Permit>,
    last_event_id: Option<HeaderValue>,
    retry: Duration,
    /// Failures and fruitless connections in a row.
    failures: u32,
    opened: Instant,
}

/// Whether a stream may be taken up again.
pub(crate) enum Resume {
    /// It ends with its connection (modern).
    Never,
    /// When the upstream gave its events ids (a call's stream).
    WithId(Arc<Session>),
    /// As long as the session lives (the session's own stream).
    Always(Arc<Session>),
}

enum State {
    Open(Reply),
    Waiting(Instant),
    Opening(BoxFuture<'static, Result<Reply, CallError>>),
    Ended,
}

impl EventStream {
    /// The events of an answer.
    pub(crate) fn of(reply: Reply, resume: Resume) -> Self {
        Self::new(State::Open(reply), resume)
    }

    /// The stream of a session, which a GET opens.
    pub(crate) fn of_session(session: Arc<Session>) -> Self {
        Self::new(State::Opening(Box::pin(session.clone().get(None))), Resume::Always(session))
    }

    fn new(state: State, resume: Resume) -> Self {
        let decoder = Decoder::new(MESSAGE_BYTES_MAX);
        let (share, last_event_id) = Default::default();
        Self { resume, state, decoder, share, last_event_id, retry: RETRY, failures: 0, opened: Instant::now() }
    }

    /// Waits for the head of the first answer; false when the upstream has no such stream. Cancel safe.
    pub(crate) async fn opened(&mut self) -> Result<bool, CallError> {
        if let State::Opening(opening) = &mut self.state {
            let opened = opening.await;
            self.state = State::Ended;
            match opened {
                Ok(reply) if is_stream(&reply) => self.open(reply),
                Ok(reply) => reply.release(),
                Err(error) => return Err(error),
            }
        }
        Ok(matches!(self.state, State::Open(_)))
    }

    /// The data of the next event that has some; nothing when the stream has ended for good. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<String, CallError>> {
        loop {
            while let Some(decoded) = self.decoder.next() {
                match decoded {
                    Decoded::Event(event) => {
                        if let Some(data) = self.take(event) {
                            return Some(Ok(data));
                        }
                    }
                    Decoded::TooLarge { .. } => return Some(Err(CallError::TooLarge)),
                }
            }
            if self.decoder.held() == 0 {
                // What was handed out is asked to be followed: its reader is done with it.
                self.share = None;
            }
            match &mut self.state {
                State::Open(reply) => match reply.next().await {
                    Ok(Some(chunk)) => {
                        if !reply.covers(&mut self.share, self.decoder.held() + chunk.len()) {
                            self.disconnected();
                            return Some(Err(CallError::NoMemory));
                        }
                        self.decoder.push(&chunk);
                    }
                    _ => self.disconnected(),
                },
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.reopen();
                }
                State::Opening(opening) => match opening.await {
                    Ok(reply) if is_stream(&reply) => self.open(reply),
                    Ok(reply) => self.refused(reply),
                    Err(_) => self.failed(),
                },
                State::Ended => return None,
            }
        }
    }

    /// No more events are wanted; a connection that is through with its stream is kept.
    pub(crate) fn release(&mut self) {
        if let State::Open(reply) = std::mem::replace(&mut self.state, State::Ended) {
            reply.release();
        }
    }

    /// Remembers what an event says of the stream, and hands out its data.
    fn take(&mut self, event: Event) -> Option<String> {
        if let Some(id) = event.id {
            // One that cannot be sent back is of no use.
            let id = HeaderValue::from_bytes(id.as_bytes()).ok().filter(|id| !id.is_empty());
            // Progress, if only in ids: an upstream may close early again and again, as long as it moves on.
            if id.is_some() && self.last_event_id != id {
                self.failures = 0;
            }
            self.last_event_id = id;
        }
        if let Some(retry_ms) = event.retry_ms {
            self.retry = Duration::from_millis(retry_ms).clamp(RETRY_MIN, RETRY_MAX);
        }
        let is_message = event.event.is_none_or(|kind| kind == "message");
        (is_message && !event.data.is_empty()).then(|| {
            self.failures = 0;
            event.data
        })
    }

    fn open(&mut self, reply: Reply) {
        self.opened = Instant::now();
        self.state = State::Open(reply);
    }

    /// The connection is gone: wait as long as asked, or end.
    fn disconnected(&mut self) {
        (self.decoder, self.share) = (Decoder::new(MESSAGE_BYTES_MAX), None);
        if self.opened.elapsed() >= GOOD_LIFE {
            self.failures = 0;
        }
        let may_resume = match &self.resume {
            Resume::Never => false,
            Resume::WithId(session) => session.is_alive() && self.last_event_id.is_some(),
            Resume::Always(session) => session.is_alive(),
        };
        if !may_resume || self.failures >= FAILURES_MAX {
            self.state = State::Ended;
            return;
        }
        // As long as asked for once, and longer when that did not help.
        let wait = match self.failures {
            0 => self.retry,
            failures => self.retry.max(backoff::delay(self.retry, BACKOFF_MAX, failures, backoff::random())),
        };
        self.failures += 1;
        self.state = State::Waiting(Instant::now() + wait);
    }

    fn reopen(&mut self) {
        self.state = match &self.resume {
            Resume::WithId(session) | Resume::Always(session) if session.is_alive() => {
                State::Opening(Box::pin(session.clone().get(self.last_event_id.clone())))
            }
            _ => State::Ended,
        };
    }

    fn failed(&mut self) {
        self.opened = Instant::now();
        self.disconnected();
    }

    /// The upstream answered the GET with something else than a stream.
    fn refused(&mut self, reply: Reply) {
        let may_pass = reply.status().is_server_error() || reply.status().as_u16() == 429;
        reply.release();
        if may_pass {
            self.failed();
        } else {
            self.state = State::Ended;
        }
    }
}

fn is_stream(reply: &Reply) -> bool {
    reply.status().is_success() && reply.is_events()
}

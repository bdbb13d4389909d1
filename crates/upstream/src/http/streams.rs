//! Events as messages: those of a call, which end with its response, and those of a session's own stream.

use super::events::{EventStream, Resume};
use super::reply::Reply;
use super::session::Session;
use crate::peer::{CallError, Source};
use crate::wire;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;

/// The messages of one call.
pub(crate) struct CallStream {
    id: u64,
    events: EventStream,
    batch: VecDeque<String>,
    done: bool,
}

impl CallStream {
    /// The answer to request `id`; a session's can be resumed.
    pub(crate) fn new(id: u64, reply: Reply, session: Option<Arc<Session>>) -> Self {
        let resume = session.map_or(Resume::Never, Resume::WithId);
        Self { id, events: EventStream::of(reply, resume), batch: VecDeque::new(), done: false }
    }

    /// The next message; the response is the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        while !self.done {
            if let Some(message) = self.batch.pop_front() {
                return Some(Ok(self.passed(message)));
            }
            match self.events.next().await {
                Some(Ok(data)) if wire::is_batch(&data) => self.batch = split(&data, self.id),
                Some(Ok(data)) => return Some(Ok(self.passed(data))),
                Some(Err(error)) => return Some(Err(self.ended(error))),
                None => return Some(Err(self.ended(CallError::Lost))),
            }
        }
        None
    }

    fn passed(&mut self, message: String) -> Bytes {
        if wire::answers(&message, self.id) {
            self.done = true;
            self.events.release();
        }
        message.into()
    }

    fn ended(&mut self, error: CallError) -> CallError {
        self.done = true;
        error
    }
}

impl Source for CallStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>> {
        Box::pin(self.next())
    }
}

/// The messages of a batch, our response last.
fn split(batch: &str, id: u64) -> VecDeque<String> {
    let (mut others, mut response) = (VecDeque::new(), None);
    for part in wire::split(batch) {
        match wire::answers(part, id) {
            true => response = Some(part.to_owned()),
            false => others.push_back(part.to_owned()),
        }
    }
    others.extend(response);
    others
}

/// What a session's own stream brings.
pub(crate) struct SessionStream {
    session: Arc<Session>,
    events: EventStream,
    batch: VecDeque<String>,
}

impl SessionStream {
    pub(crate) fn new(session: Arc<Session>, events: EventStream) -> Self {
        Self { session, events, batch: VecDeque::new() }
    }

    /// Waits for the head of the upstream's answer; false when it has no such stream. Cancel safe.
    pub(crate) async fn opened(&mut self) -> Result<bool, CallError> {
        self.events.opened().await
    }

    async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        loop {
            if let Some(message) = self.batch.pop_front() {
                return Some(Ok(message.into()));
            }
            match self.events.next().await? {
                Ok(data) => self.batch.extend(wire::split(&data).map(str::to_owned)),
                Err(error) => tracing::warn!(upstream = self.session.name(), %error, "message left out"),
            }
        }
    }
}

impl Source for SessionStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>> {
        Box::pin(self.next())
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.session.stopped_listening();
    }
}

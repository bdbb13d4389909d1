//! One stream towards the client of a WebSocket: the session's general one, or that of a request.

use super::token;
use crate::ticket::{Outcome, Ticket};
use bytes::Bytes;
use enfilade_mcp::{Id, json};
use enfilade_session::owner::outcome_unknown;
use enfilade_session::stream::{Event, EventId, EventStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A stream of whole messages. Asked only when the socket takes one.
pub(crate) struct Hearing {
    stream: Option<EventStream>,
    /// The request that it belongs to.
    request: Option<Id>,
    /// The request can be cancelled by its id: it is a modern one.
    modern: bool,
    /// The request was answered on it.
    answered: bool,
    /// The last event of it that can be gone on after.
    last: Option<EventId>,
    /// It ends with the answer of a request.
    is_call: bool,
    /// The request, which is in flight.
    ticket: Option<Ticket>,
    waker: Option<Waker>,
}

impl Hearing {
    /// A stream that belongs to no request of this connection.
    pub(crate) fn lasting(stream: EventStream) -> Self {
        Self::of(stream, None, false, false)
    }

    pub(crate) fn of(stream: EventStream, request: Option<Id>, modern: bool, is_call: bool) -> Self {
        let (stream, answered, last, ticket, waker) = (Some(stream), false, None, None, None);
        Self { stream, request, modern, answered, last, is_call, ticket, waker }
    }

    /// True while a request waits for its answer on it.
    pub(crate) fn is_call(&self) -> bool {
        self.is_call && self.stream.is_some()
    }

    /// The request that it goes on with.
    pub(crate) fn counts(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    fn ends(&mut self, outcome: Outcome) {
        if let Some(mut ticket) = self.ticket.take() {
            ticket.ends(outcome);
        }
    }

    fn note(&mut self, event: &Event) {
        self.last = event.id.or(self.last);
        self.answered = self.answered || self.request.as_ref().is_some_and(|request| answers(&event.data, request));
    }

    /// What is said at the end, so that nobody waits for an answer that does not come. Over HTTP the end of the body says it.
    fn last_word(&mut self) -> Option<Bytes> {
        let request = self.request.take().filter(|_| !self.answered)?;
        Some(match self.modern {
            true => outcome_unknown(false).message(Some(&request)).into(),
            false => token::ended(self.last, &request),
        })
    }

    /// Ends the stream of a modern request, which cancels it; false when it is another one's.
    pub(crate) fn cancel(&mut self, id: &Id) -> bool {
        if !self.modern || self.stream.is_none() || self.request.as_ref() != Some(id) {
            return false;
        }
        self.stream = None;
        self.ends(Outcome::Cancelled);
        self.waker.take().into_iter().for_each(Waker::wake);
        true
    }
}

/// Whether a message is the answer to this request.
fn answers(message: &[u8], request: &Id) -> bool {
    let text = std::str::from_utf8(message).unwrap_or_default();
    json::get(text, "method").is_none() && json::get(text, "id").and_then(Id::from_json).as_ref() == Some(request)
}

impl futures::Stream for Hearing {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        loop {
            let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
            match Pin::new(stream).poll_next(context) {
                Poll::Pending => {
                    if this.modern && !this.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                        this.waker = Some(context.waker().clone());
                    }
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    this.stream = None;
                    let is_answered = this.answered || this.request.is_none();
                    this.ends(match this.modern {
                        _ if is_answered => Outcome::Answered,
                        true => Outcome::Unknown,
                        false => Outcome::Cancelled,
                    });
                    return Poll::Ready(this.last_word());
                }
                Poll::Ready(Some(event)) => {
                    this.note(&event);
                    match (event.id, event.data.is_empty()) {
                        (Some(id), true) => return Poll::Ready(Some(token::opened(id, this.request.as_ref()))),
                        (None, true) => {}
                        (Some(id), false) => return Poll::Ready(Some(token::with_event(event.data, id))),
                        (None, false) => return Poll::Ready(Some(token::untagged(event.data))),
                    }
                }
            }
        }
    }
}

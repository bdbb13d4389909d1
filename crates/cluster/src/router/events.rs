//! The events of an owner on another node, as a stream for the client of this one.
//!
//! A stream that breaks ends. The client can resume it when it has seen an event id; else it is told, as the last event,
//! that its answer is lost.

use super::doors::Lost;
use super::seen::Seen;
use crate::wire;
use bytes::Bytes;
use enfilade_mesh::Message;
use enfilade_registry::Fence;
use enfilade_session::stream::{Event, EventId};
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Holds the exchange; dropping it gives the stream up at the owner.
pub(crate) struct RemoteEvents {
    payloads: Option<BoxStream<'static, Result<Message, Lost>>>,
    /// Resolves when another node speaks for the slot.
    superseded: BoxFuture<'static, ()>,
    ready: VecDeque<Event>,
    fence: Option<Fence>,
    seen: Arc<Seen>,
    /// What to say when the stream is lost, as long as the client cannot resume it.
    unknown: Option<Bytes>,
    /// The last event that came, or where the stream began, if it can be gone on with elsewhere.
    position: Option<EventId>,
    moved: bool,
    /// Whether a stream that breaks goes on elsewhere.
    is_elsewhere: Box<dyn Fn() -> bool + Send>,
}

impl RemoteEvents {
    /// `unknown` is the error with the request's id; nothing for streams that answer no request.
    pub(crate) fn new(
        payloads: BoxStream<'static, Result<Message, Lost>>,
        superseded: BoxFuture<'static, ()>,
        fence: Option<Fence>,
        seen: Arc<Seen>,
        unknown: Option<Bytes>,
    ) -> Self {
        let (ready, is_elsewhere) = (VecDeque::new(), Box::new(|| false));
        let payloads = Some(payloads);
        Self { payloads, superseded, ready, fence, seen, unknown, position: None, moved: false, is_elsewhere }
    }

    /// The stream begins after this event; `is_elsewhere` says whether its slot was moved.
    pub(crate) fn follow(mut self, after: Option<EventId>, is_elsewhere: impl Fn() -> bool + Send + 'static) -> Self {
        (self.position, self.is_elsewhere) = (after, Box::new(is_elsewhere));
        self
    }

    /// Once it has ended: whether it goes on at another node, because its slot was moved.
    pub(crate) fn is_moved(&self) -> bool {
        self.moved
    }

    /// After which event.
    pub(crate) fn position(&self) -> Option<EventId> {
        self.position
    }

    /// Takes one payload in.
    fn take(&mut self, payload: Result<Message, Lost>) -> Result<(), Lost> {
        // An owner of a lower term than another answer came from no longer speaks for the slot.
        if self.fence.is_some_and(|fence| !self.seen.accept(fence)) {
            return Err(Lost);
        }
        let (events, moved) = wire::decode_events(payload?).map_err(|error| {
            tracing::error!(%error, "an owner's events are not understood");
            Lost
        })?;
        if events.iter().any(|event| event.id.is_some()) {
            self.unknown = None;
        }
        self.moved |= moved;
        self.position = events.iter().rev().find_map(|event| event.id).or(self.position);
        self.ready.extend(events);
        Ok(())
    }
}

impl Stream for RemoteEvents {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            let Some(payloads) = &mut self.payloads else { return Poll::Ready(None) };
            let payload = match payloads.as_mut().poll_next(context) {
                Poll::Ready(Some(payload)) => payload,
                Poll::Ready(None) => {
                    self.payloads = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    ready!(self.superseded.as_mut().poll(context));
                    Err(Lost)
                }
            };
            if self.take(payload).is_err() {
                self.payloads = None;
                self.moved |= (self.is_elsewhere)();
                let unknown = self.unknown.take().filter(|_| !self.moved);
                return Poll::Ready(unknown.map(|data| Event { id: None, data }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_registry::{Slot, Term};
    use futures::{FutureExt, StreamExt};

    fn event(id: Option<u64>, data: &'static str) -> Event {
        Event { id: id.map(|seq| EventId { stream: 1, term: 1, seq }), data: data.into() }
    }

    fn stream(payloads: Vec<Result<Message, Lost>>, seen: &Arc<Seen>) -> RemoteEvents {
        let fence = Fence { slot: Slot::new(1).expect("a slot"), term: Term(2) };
        let payloads = futures::stream::iter(payloads).boxed();
        RemoteEvents::new(payloads, futures::future::pending().boxed(), Some(fence), seen.clone(), Some("lost".into()))
    }

    fn all(stream: RemoteEvents) -> Vec<Event> {
        stream.collect::<Vec<_>>().now_or_never().expect("nothing to wait for")
    }

    #[test]
    fn a_lost_stream_with_ids_just_ends_and_one_without_says_so() {
        let seen = Arc::new(Seen::new());
        let with = wire::encode_events(vec![event(Some(0), ""), event(Some(1), "a")]);
        assert_eq!(all(stream(vec![Ok(with), Err(Lost)], &seen)), [event(Some(0), ""), event(Some(1), "a")]);
        let without = wire::encode_events(vec![event(None, "a")]);
        let ended = all(stream(vec![Ok(without.clone())], &seen));
        assert_eq!(ended, [event(None, "a")], "an end is no loss");
        assert_eq!(all(stream(vec![Ok(without), Err(Lost)], &seen)), [event(None, "a"), event(None, "lost")]);
        assert_eq!(all(stream(vec![Ok(Bytes::from_static(b"\xff").into())], &seen)), [event(None, "lost")]);
    }

    #[test]
    fn what_an_owner_of_a_lower_term_says_is_dropped() {
        let seen = Arc::new(Seen::new());
        assert!(seen.accept(Fence { slot: Slot::new(1).expect("a slot"), term: Term(3) }));
        let late = wire::encode_events(vec![event(None, "late")]);
        assert_eq!(all(stream(vec![Ok(late)], &seen)), [event(None, "lost")]);
    }

    #[test]
    fn a_silent_owner_that_was_superseded_is_given_up() {
        let mut events = stream(Vec::new(), &Arc::new(Seen::new()));
        events.payloads = Some(futures::stream::pending().boxed());
        events.superseded = futures::future::ready(()).boxed();
        assert_eq!(all(events), [event(None, "lost")]);
    }
}

//! The reading side of a stream: what an edge turns into server-sent events, wherever the stream is.

use super::state::Next;
use super::{Event, EventId, Kind, Stream};
use crate::slots::Held;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A stream of events towards a client. Dropping it tells the owner that the client is gone.
pub struct EventStream(Source);

enum Source {
    /// A stream of this node.
    Here(Reader),
    /// A stream of another node.
    Remote(Box<dyn futures::Stream<Item = Event> + Send + Unpin>),
}

struct Reader {
    stream: Arc<Stream>,
    number: u64,
    /// Resolves when a lost lease is back, or the slot is gone.
    pause: Option<BoxFuture<'static, bool>>,
}

impl EventStream {
    pub(super) fn here(stream: Arc<Stream>, number: u64) -> Self {
        Self(Source::Here(Reader { stream, number, pause: None }))
    }

    /// The events of a stream of another node, or of anything else that has some.
    #[must_use]
    pub fn remote(events: Box<dyn futures::Stream<Item = Event> + Send + Unpin>) -> Self {
        Self(Source::Remote(events))
    }

    /// The next event; `None` at the end of the stream, or when another reader has taken over.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// After which event a reader could go on at the slot's next owner ([`crate::owner::Owner::open_stream`]); the number
    /// is `u64::MAX` before the first event. None for streams that cannot be resumed, and for those of other nodes.
    #[must_use]
    pub fn position(&self) -> Option<EventId> {
        match &self.0 {
            Source::Here(reader) if reader.stream.kind != Kind::Ephemeral => {
                let seq = reader.stream.state.lock().read.wrapping_sub(1);
                Some(EventId { stream: reader.stream.id, term: reader.stream.term, seq })
            }
            _ => None,
        }
    }

    /// True when the stream of this node has ended, or will, because the node lost its slot: more may come elsewhere.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &self.0 {
            Source::Here(reader) => reader.stream.is_lost(),
            Source::Remote(_) => false,
        }
    }

    /// True when the slot was moved from this node: the stream goes on at the slot's owner, after its position.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        match &self.0 {
            Source::Here(reader) => reader.stream.is_moved(),
            Source::Remote(_) => false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        match &mut self.0 {
            Source::Here(reader) => reader.poll(context),
            Source::Remote(events) => Pin::new(&mut **events).poll_next(context),
        }
    }
}

impl Reader {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let mut state = self.stream.state.lock();
            if state.reader != self.number {
                return Poll::Ready(None);
            }
            // Only the attached reader registers, or an older one would take the wake-up of its successor.
            self.stream.waker.register(context.waker());
            let next = state.next();
            match next {
                Next::Nothing if self.stream.is_lost() => return Poll::Ready(None),
                Next::Nothing => return Poll::Pending,
                Next::End => return Poll::Ready(None),
                Next::Event | Next::Notice => {}
            }
            let held = self.stream.gate.as_ref().map(|gate| (gate, gate.holds()));
            if let Some((gate, Held::Paused)) = held {
                drop(state);
                let waiting = || {
                    let gate = gate.clone();
                    async move { gate.pass().await }.boxed()
                };
                ready!(self.pause.get_or_insert_with(waiting).poll_unpin(context));
                self.pause = None;
                continue;
            }
            self.pause = None;
            if let Some((_, Held::Gone)) = held {
                return Poll::Ready(None);
            }
            if matches!(next, Next::Notice) {
                return Poll::Ready(state.take_notice().map(|data| Event { id: None, data }));
            }
            let event = state.take_event(self.stream.kind);
            let trim = state.untold_trim();
            drop(state);
            self.stream.tell_trim(trim);
            return Poll::Ready(event.map(|(seq, data)| self.event(seq, data)));
        }
    }

    fn event(&self, seq: u64, data: Bytes) -> Event {
        let resumable = self.stream.kind != Kind::Ephemeral;
        let id = resumable.then_some(EventId { stream: self.stream.id, term: self.stream.term, seq });
        Event { id, data }
    }
}

impl futures::Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(context)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Here(reader) => f.debug_struct("EventStream").field("stream", &reader.stream.id).finish(),
            Source::Remote(_) => f.write_str("EventStream(remote)"),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.stream.state.lock();
        if state.reader == self.number {
            state.reader = 0;
            drop(state);
            self.stream.abandon();
        }
    }
}

//! A stream towards a client of this edge, wherever its slot is: when that is moved, the stream goes on at the new owner,
//! after the last event that left here, and the client sees nothing of it.

use super::events::RemoteEvents;
use super::{Router, said};
use crate::ask::{Ask, What};
use bytes::Bytes;
use enfilade_registry::SessionId;
use enfilade_session::owner::{Caller, Owner, Reply, ServerId};
use enfilade_session::stream::{Event, EventId, EventStream};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};

pub(super) struct Following {
    source: Source,
    /// What to say when the stream is lost, as long as the client cannot resume it.
    unknown: Option<Bytes>,
    again: Option<Again>,
    opening: Option<BoxFuture<'static, Reply>>,
}

pub(super) enum Source {
    /// Of this node's own owner.
    Here(EventStream),
    /// Of another node.
    There(RemoteEvents),
    /// Where it went; followed by itself.
    Next(EventStream),
    Over,
}

/// How a stream is opened at its slot's next owner.
struct Again {
    router: Weak<Router>,
    server: ServerId,
    principal: String,
    session: SessionId,
    /// It answers no call: also without event ids there is something to open.
    is_general: bool,
}

impl Again {
    fn of(router: Weak<Router>, ask: Ask<'_>) -> Option<Self> {
        let (session, is_general) = match ask.what {
            What::Legacy { session, .. } => (session, false),
            What::OpenStream { session, .. } => (session, true),
            What::Modern { .. } | What::Initialize { .. } | What::End { .. } => return None,
        };
        let (server, principal) = (ask.caller.server, ask.caller.principal.to_owned());
        Some(Self { router, server, principal, session, is_general })
    }

    fn open(self, after: Option<EventId>) -> Option<BoxFuture<'static, Reply>> {
        let router = self.router.upgrade().filter(|_| after.is_some() || self.is_general)?;
        let open = async move {
            let caller = Caller { server: self.server, principal: &self.principal };
            let after = after.map(|id| id.to_string());
            router.open_stream(caller, self.session, after.as_deref()).await
        };
        Some(open.boxed())
    }
}

impl Following {
    /// The stream of an answer to `ask`.
    pub(super) fn stream(router: Weak<Router>, ask: Ask<'_>, source: Source) -> EventStream {
        let unknown = ask.id().map(said::unknown_event);
        let following = Self { source, unknown, again: Again::of(router, ask), opening: None };
        EventStream::remote(Box::new(following))
    }

    /// What comes when the source has ended: the stream elsewhere, a last word, or nothing.
    fn after_end(&mut self) -> Option<Event> {
        let (moved, lost) = match &self.source {
            Source::Here(stream) => (stream.is_moved().then(|| stream.position()), stream.is_lost()),
            Source::There(events) => (events.is_moved().then(|| events.position()), events.is_moved()),
            Source::Next(_) | Source::Over => (None, false),
        };
        self.source = Source::Over;
        self.opening = moved.zip(self.again.take()).and_then(|(after, again)| again.open(after));
        if self.opening.is_some() || !lost {
            return None;
        }
        self.unknown.take().map(|data| Event { id: None, data })
    }
}

impl Stream for Following {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(opening) = &mut self.opening {
                let reply = ready!(opening.poll_unpin(context));
                self.opening = None;
                match reply {
                    Reply::Events { stream, .. } => self.source = Source::Next(stream),
                    // A client that has seen an event id may try by itself.
                    _ => return Poll::Ready(self.unknown.take().map(|data| Event { id: None, data })),
                }
            }
            let event = match &mut self.source {
                Source::Here(stream) | Source::Next(stream) => ready!(Pin::new(stream).poll_next(context)),
                Source::There(events) => ready!(Pin::new(events).poll_next(context)),
                Source::Over => None,
            };
            if let Some(event) = event {
                if event.id.is_some() {
                    self.unknown = None;
                }
                return Poll::Ready(Some(event));
            }
            let last = self.after_end();
            if self.opening.is_none() {
                return Poll::Ready(last);
            }
        }
    }
}

//! The events of this node's own owner. Where it loses the slot under a stream, a client that cannot resume is told.

use super::said;
use bytes::Bytes;
use enfilade_mcp::Id;
use enfilade_registry::SessionId;
use enfilade_session::owner::Reply;
use enfilade_session::stream::{Event, EventStream};
use futures::Stream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The stream of a request, with a last word if it is lost. Streams that answer no request need none.
pub(super) fn guarded(stream: EventStream, session: Option<SessionId>, id: Option<&Id>) -> Reply {
    let stream = match id {
        Some(id) => EventStream::remote(Box::new(Guarded { stream, unknown: Some(said::unknown_event(id)) })),
        None => stream,
    };
    Reply::Events { stream, session }
}

struct Guarded {
    stream: EventStream,
    /// What to say when the stream is lost, as long as the client cannot resume it.
    unknown: Option<Bytes>,
}

impl Stream for Guarded {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = ready!(Pin::new(&mut self.stream).poll_next(context));
        Poll::Ready(match event {
            Some(event) => {
                if event.id.is_some() {
                    self.unknown = None;
                }
                Some(event)
            }
            None if self.stream.is_lost() => self.unknown.take().map(|data| Event { id: None, data }),
            None => None,
        })
    }
}

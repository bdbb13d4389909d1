//! A reply on its way to the edge that asked.

use crate::wire;
use enfilade_mesh::{Broken, Sending};
use enfilade_registry::Fence;
use enfilade_session::owner::Reply;
use enfilade_session::stream::{Event, EventStream};
use futures::FutureExt;

/// Events that are ready go together up to this many bytes, and this many of them.
const PAYLOAD_BYTES: usize = 32 * 1024;
const PAYLOAD_EVENTS: usize = 64;

/// What is left to be sent.
pub(super) enum Sent {
    /// Nothing.
    All,
    /// The events behind the head.
    Head(EventStream),
}

/// Sends the head; without events it is all there is.
pub(super) async fn send(sending: &mut Sending, fence: Option<Fence>, reply: Reply) -> Sent {
    let head = wire::encode_reply(fence, &reply);
    let Reply::Events { stream, .. } = reply else {
        if sending.send(head, true).await == Err(Broken::TooLarge) {
            tracing::error!("an answer is larger than what a link carries");
            let _ = sending.send(wire::encode_reply(fence, &Reply::Lost), true).await; // It may be gone.
        }
        return Sent::All;
    };
    match sending.send(head, false).await {
        Ok(()) => Sent::Head(stream),
        Err(_) => Sent::All,
    }
}

/// Sends events until the stream ends or the edge is gone.
pub(super) async fn stream(sending: &mut Sending, stream: &mut EventStream) {
    while let Some(first) = stream.next().await {
        let events = ready(first, stream);
        if sending.send(wire::encode_events(events), false).await.is_err() {
            return;
        }
    }
    // A stream that ended because this node lost the slot has no end: the exchange is reset.
    if stream.is_moved() {
        let _ = sending.send(wire::encode_moved(), true).await; // It may be gone.
    } else if !stream.is_lost() {
        let _ = sending.send(bytes::Bytes::new(), true).await; // It may be gone.
    }
}

/// What is ready together with `first`.
fn ready(first: Event, stream: &mut EventStream) -> Vec<Event> {
    let mut bytes = first.data.len();
    let mut events = vec![first];
    while bytes < PAYLOAD_BYTES && events.len() < PAYLOAD_EVENTS {
        // The end is seen again by the next call.
        let Some(Some(event)) = stream.next().now_or_never() else { break };
        bytes += event.data.len();
        events.push(event);
    }
    events
}

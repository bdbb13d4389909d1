//! What an owner answers: a head with the slot and term that it acted under, and the events of a stream behind it.

use super::Unreadable;
use bytes::Bytes;
use enfilade_mesh::Message as Payload;
use enfilade_proto::owner as proto;
use enfilade_proto::owner::reply::Head as Wire;
use enfilade_registry::{Fence, NotServed, Slot, Term};
use enfilade_session::owner::Reply;
use enfilade_session::stream::{Event, EventId};
use prost::Message;

/// The first payload of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// 202.
    Accepted,
    /// One JSON message.
    Message { status: u16, body: Bytes, session: Option<String>, retry_after_s: Option<u32> },
    /// Events follow.
    Events { session: Option<String>, after: Option<EventId> },
    /// A status alone.
    Status(u16),
    /// Nothing was executed.
    NotServed(NotServed),
    /// It may have been executed, and no answer will come.
    Lost,
}

/// The head of `reply`, made under `fence`; its events, if any, follow in payloads of their own.
pub(crate) fn encode_reply(fence: Option<Fence>, reply: &Reply) -> Payload {
    let mut text = Bytes::new();
    let session = |id: &Option<enfilade_registry::SessionId>| id.map(|id| id.to_string());
    let head = match reply {
        Reply::Accepted => Wire::Accepted(true),
        Reply::Message { status, body, session: id, retry_after_s } => {
            text = body.clone();
            let (status, session) = (u32::from(*status), session(id));
            Wire::Answer(proto::Answer { status, session, retry_after_s: *retry_after_s })
        }
        Reply::Events { session: id, stream } => {
            Wire::Events(proto::Opened { session: session(id), after: stream.position().map(event_id) })
        }
        Reply::Status(status) => Wire::Status(u32::from(*status)),
        Reply::NotServed(why) => Wire::NotServed(why_of(*why).into()),
        Reply::Lost => Wire::Lost(true),
    };
    Payload { head: encode_head(fence, head), body: text }
}

/// Says that nothing was executed.
pub(crate) fn encode_not_served(why: NotServed) -> Payload {
    encode_reply(None, &Reply::NotServed(why))
}

fn encode_head(fence: Option<Fence>, head: Wire) -> Bytes {
    let slot = fence.map_or(0, |fence| u32::from(fence.slot.get()));
    let term = fence.map_or(0, |fence| fence.term.0);
    proto::Reply { slot, term, head: Some(head) }.encode_to_vec().into()
}

/// Reads a head and the fence that it names; term 0 names none.
pub(crate) fn decode_reply(payload: Payload) -> Result<(Option<Fence>, Head), Unreadable> {
    let Payload { head, body } = payload;
    let reply = proto::Reply::decode(head)?;
    let slot = u16::try_from(reply.slot).ok().and_then(Slot::new).ok_or(Unreadable("no such slot"))?;
    let fence = (reply.term != 0).then_some(Fence { slot, term: Term(reply.term) });
    let status = |status: u32| u16::try_from(status).map_err(|_| Unreadable("no such status"));
    let head = match reply.head.ok_or(Unreadable("a reply without a head"))? {
        Wire::Accepted(_) => Head::Accepted,
        Wire::Answer(answer) => Head::Message {
            status: status(answer.status)?,
            body,
            session: answer.session,
            retry_after_s: answer.retry_after_s,
        },
        Wire::Events(opened) => {
            Head::Events { session: opened.session, after: opened.after.as_ref().map(read_event_id) }
        }
        Wire::Status(code) => Head::Status(status(code)?),
        Wire::Lost(_) => Head::Lost,
        Wire::NotServed(why) => Head::NotServed(match proto::Why::try_from(why) {
            Ok(proto::Why::NotOwner) => NotServed::NotOwner,
            Ok(proto::Why::Busy) => NotServed::Busy,
            Ok(proto::Why::Full) => NotServed::Full,
            // A reason of a later version still says that nothing was executed.
            Ok(proto::Why::NotReady | proto::Why::Unspecified) | Err(_) => NotServed::NotReady,
        }),
    };
    Ok((fence, head))
}

fn why_of(why: NotServed) -> proto::Why {
    match why {
        NotServed::NotOwner => proto::Why::NotOwner,
        NotServed::NotReady => proto::Why::NotReady,
        NotServed::Busy => proto::Why::Busy,
        NotServed::Full => proto::Why::Full,
    }
}

/// Events that were ready together, as one payload. The last one's text is not copied: a notice to many streams is the
/// same bytes for all of them, which a link carries once.
pub(crate) fn encode_events(events: Vec<Event>) -> Payload {
    let event = |event: Event| proto::Event { id: event.id.map(event_id), data: event.data };
    let mut events: Vec<proto::Event> = events.into_iter().map(event).collect();
    let body = events.last_mut().map(|last| std::mem::take(&mut last.data)).unwrap_or_default();
    let head = proto::Events { events, moved: false, body: !body.is_empty() }.encode_to_vec().into();
    Payload { head, body }
}

/// The last payload of a stream whose slot was moved.
pub(crate) fn encode_moved() -> Bytes {
    proto::Events { events: Vec::new(), moved: true, body: false }.encode_to_vec().into()
}

fn event_id(id: EventId) -> proto::EventId {
    proto::EventId { stream: id.stream, term: id.term, seq: id.seq }
}

fn read_event_id(id: &proto::EventId) -> EventId {
    EventId { stream: id.stream, term: id.term, seq: id.seq }
}

/// Reads what [`encode_events`] or [`encode_moved`] wrote: the events, and whether the stream goes on elsewhere. Data
/// shares the memory of `payload`.
pub(crate) fn decode_events(payload: Payload) -> Result<(Vec<Event>, bool), Unreadable> {
    let proto::Events { mut events, moved, body } = proto::Events::decode(payload.head)?;
    if body {
        events.last_mut().ok_or(Unreadable("a body of no event"))?.data = payload.body;
    }
    let read = |event: proto::Event| Event { id: event.id.as_ref().map(read_event_id), data: event.data };
    Ok((events.into_iter().map(read).collect(), moved))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence() -> Option<Fence> {
        Some(Fence { slot: Slot::new(4095).expect("a slot"), term: Term(9) })
    }

    #[test]
    fn every_head_goes_there_and_back() {
        let message = Reply::Message { status: 503, body: "{}".into(), session: None, retry_after_s: Some(2) };
        let cases = [
            (Reply::Accepted, Head::Accepted),
            (message, Head::Message { status: 503, body: "{}".into(), session: None, retry_after_s: Some(2) }),
            (Reply::Status(200), Head::Status(200)),
            (Reply::Lost, Head::Lost),
            (Reply::NotServed(NotServed::Busy), Head::NotServed(NotServed::Busy)),
            (Reply::NotServed(NotServed::Full), Head::NotServed(NotServed::Full)),
            (Reply::NotServed(NotServed::NotOwner), Head::NotServed(NotServed::NotOwner)),
            (Reply::NotServed(NotServed::NotReady), Head::NotServed(NotServed::NotReady)),
        ];
        for (reply, head) in cases {
            assert_eq!(decode_reply(encode_reply(fence(), &reply)), Ok((fence(), head)));
        }
        let bare = decode_reply(encode_not_served(NotServed::Busy));
        assert_eq!(bare, Ok((None, Head::NotServed(NotServed::Busy))));
    }

    #[test]
    fn events_go_there_and_back() {
        let events = vec![
            Event { id: Some(EventId { stream: 1, term: 2, seq: 3 }), data: Bytes::new() },
            Event { id: None, data: "{}".into() },
        ];
        for events in [events.clone(), events[..1].to_vec(), Vec::new()] {
            assert_eq!(decode_events(encode_events(events.clone())), Ok((events, false)));
        }
        assert_eq!(decode_events(encode_moved().into()), Ok((Vec::new(), true)));
        let no_event = proto::Events { events: Vec::new(), moved: false, body: true }.encode_to_vec();
        assert!(decode_events(Bytes::from(no_event).into()).is_err());
    }

    #[test]
    fn the_text_of_a_notice_is_the_same_bytes_for_every_stream() {
        let text = Bytes::from(vec![b'x'; 100]);
        let of_one = |_: usize| encode_events(vec![Event { id: None, data: text.clone() }]);
        let payloads: Vec<Payload> = (0..3).map(of_one).collect();
        assert!(
            payloads.iter().all(|payload| payload.body.as_ptr() == text.as_ptr() && payload.head == payloads[0].head)
        );
    }

    #[test]
    fn a_reply_without_a_head_and_a_slot_that_is_none_are_refused() {
        assert!(decode_reply(Payload::default()).is_err());
        let bad = proto::Reply { slot: 4096, term: 1, head: Some(Wire::Accepted(true)) };
        assert!(decode_reply(Bytes::from(bad.encode_to_vec()).into()).is_err());
    }
}

//! A message on its way from an edge to an owner: what the edge says of it, and behind that the JSON text as it came.

use super::Unreadable;
use bytes::Bytes;
use enfilade_mesh::Message as Payload;
use enfilade_proto::owner as proto;
use prost::Message;

pub(crate) use proto::AskKind as Kind;

/// A message as its owner sees it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) head: proto::Ask,
    pub(crate) message: Bytes,
}

/// Encodes `head`; the message goes with it as it is.
pub(crate) fn ask(head: &proto::Ask, message: Bytes) -> Payload {
    Payload { head: head.encode_to_vec().into(), body: message }
}

/// Reads what [`ask`] wrote.
pub(crate) fn decode(payload: Payload) -> Result<Asked, Unreadable> {
    Ok(Asked { head: proto::Ask::decode(payload.head)?, message: payload.body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_there_and_back_without_a_copy_of_the_message() {
        let head = proto::Ask {
            kind: Kind::Modern.into(),
            server: "all".into(),
            principal: "anonymous".into(),
            version: Some("2025-06-18".into()),
            last_event_id: Some(String::new()),
            params: vec![proto::Param { name: "mcp-param-a".into(), value: "1".into() }],
            ..proto::Ask::default()
        };
        for message in [Bytes::new(), "{}".into(), vec![b'x'; 70_000].into()] {
            let asked = decode(ask(&head, message.clone())).expect("readable");
            assert_eq!(asked.head, head);
            assert_eq!(asked.message.as_ptr_range(), message.as_ptr_range());
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert!(decode(Bytes::from_static(b"\xff\xff\xff").into()).is_err());
    }
}

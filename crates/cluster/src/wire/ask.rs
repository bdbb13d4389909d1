//! A message on its way from an edge to an owner. The JSON text is copied once, behind the encoded rest.

use super::Unreadable;
use bytes::{BufMut, Bytes, BytesMut};
use enfilade_proto::owner as proto;
use prost::Message;

pub(crate) use proto::AskKind as Kind;

/// Tag of `Ask.message`: field 15, length-delimited.
const MESSAGE_KEY: u8 = (15 << 3) | 2;

/// Encodes `head`, whose message is empty, with `message` as its message.
pub(crate) fn ask(head: &proto::Ask, message: &str) -> Bytes {
    debug_assert!(head.message.is_empty());
    let length = message.len() as u64;
    let mut out = BytesMut::with_capacity(head.encoded_len() + 11 + message.len());
    // A BytesMut grows: encoding into it does not fail.
    let _ = head.encode(&mut out);
    if !message.is_empty() {
        out.put_u8(MESSAGE_KEY);
        prost::encoding::encode_varint(length, &mut out);
        out.put_slice(message.as_bytes());
    }
    out.freeze()
}

/// Reads what [`ask`] wrote; the message shares the memory of `bytes`.
pub(crate) fn decode(bytes: Bytes) -> Result<proto::Ask, Unreadable> {
    Ok(proto::Ask::decode(bytes)?)
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
        for message in ["", "{}", &"x".repeat(70_000)] {
            let bytes = ask(&head, message);
            let asked = decode(bytes.clone()).expect("readable");
            assert_eq!(asked, proto::Ask { message: Bytes::copy_from_slice(message.as_bytes()), ..head.clone() });
            if !message.is_empty() {
                assert!(bytes.as_ptr_range().contains(&asked.message.as_ptr()), "the message was copied");
            }
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert!(decode(Bytes::from_static(b"\xff\xff\xff")).is_err());
    }
}

//! Reads the envelope of one JSON-RPC message and nothing else: version, id, method, and which of the four kinds it is.
//!
//! Everything is borrowed from the bytes that came in. What is refused here is refused with an error that keeps the id.

use crate::error::RpcError;
use crate::id::Id;
use crate::json::{self, Fields, Malformed};
use crate::meta::Meta;
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

/// Longest method name that is accepted, in bytes.
pub const METHOD_BYTES_MAX: usize = 256;

/// One JSON-RPC 2.0 message.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// The whole text; every other slice is a part of it.
    pub text: &'a str,
    /// The memory that holds the text, where it can be shared.
    source: Option<&'a Bytes>,
    /// What the message is.
    pub kind: Kind<'a>,
}

/// The four kinds of message.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// A request, which must be answered.
    Request(Request<'a>),
    /// A notification, which must not be answered.
    Notification(Notification<'a>),
    /// The answer to a request of the receiver.
    Response(Response<'a>),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The id, to be returned with its JSON type.
    pub id: Id,
    /// Where the id stands in the text.
    pub id_text: &'a str,
    /// The method's name.
    pub method: Cow<'a, str>,
    /// The params object as it came.
    pub params: Option<&'a str>,
    /// Where its `_meta` stands in the params, once that was asked for.
    meta: OnceLock<Option<Range<usize>>>,
}

impl<'a> Request<'a> {
    /// The `_meta` of the params; they are walked once, whoever asks.
    ///
    /// # Errors
    /// As [`Meta::read`].
    pub fn meta(&self) -> Result<Meta<'a>, Malformed> {
        let Some(params) = self.params else { return Ok(Meta::default()) };
        if let Some(known) = self.meta.get() {
            return Meta::of_text(known.clone().and_then(|meta| params.get(meta)));
        }
        let meta = Meta::find(params)?;
        let start = meta.map(|meta| (meta.as_ptr() as usize - params.as_ptr() as usize, meta.len()));
        let _ = self.meta.set(start.map(|(start, length)| start..start + length));
        Meta::of_text(meta)
    }
}

/// A notification.
#[derive(Debug, Clone)]
pub struct Notification<'a> {
    /// The method's name.
    pub method: Cow<'a, str>,
    /// The params object as it came.
    pub params: Option<&'a str>,
}

/// A response: exactly one of result and error.
#[derive(Debug, Clone)]
pub struct Response<'a> {
    /// The id of the request that is answered; absent only in errors about unreadable requests.
    pub id: Option<Id>,
    /// Where the id stands in the text.
    pub id_text: Option<&'a str>,
    /// The outcome.
    pub outcome: Outcome<'a>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The `result` value as it came.
    Result(&'a str),
    /// The `error` object as it came.
    Error(&'a str),
}

impl<'a> Envelope<'a> {
    /// Reads one message from `bytes`.
    ///
    /// # Errors
    /// A [`Refusal`] with −32700 (not JSON) or −32600 (not a JSON-RPC 2.0 message) and the id where one could be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let text = json::check(bytes).map_err(|e| Refusal::without_id(RpcError::parse(&e)))?;
        Self::of_text(text)
    }

    /// Reads one message from bytes that are shared with whoever asks for [`Envelope::shared_text`].
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    pub fn of_shared(bytes: &'a Bytes) -> Result<Self, Refusal> {
        Ok(Self { source: Some(bytes), ..Self::parse(bytes)? })
    }

    /// The text, for who keeps it; it is copied unless the message was read by [`Envelope::of_shared`].
    #[must_use]
    pub fn shared_text(&self) -> Bytes {
        let text = self.text.as_bytes();
        self.source.map_or_else(|| Bytes::copy_from_slice(text), |source| source.slice_ref(text))
    }

    /// Reads one message from a text that [`json::check`] has accepted, such as an element of a batch.
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    pub fn of_text(text: &'a str) -> Result<Self, Refusal> {
        let invalid = |why: &str| Refusal::without_id(RpcError::invalid_request(why));
        if text.starts_with('[') {
            return Err(invalid("a batch stands where one message must; send one message at a time"));
        }
        let fields = Fields::read(text).map_err(|e| invalid(&e.to_string()))?;
        let id_text = fields.get("id");
        let id = id_text.and_then(Id::from_json);
        let refuse = |why: &str| Refusal { id: id.clone(), error: RpcError::invalid_request(why) };
        if fields.string("jsonrpc").as_deref() != Some("2.0") {
            return Err(refuse("\"jsonrpc\" must be \"2.0\""));
        }
        let kind = match (fields.get("method"), fields.get("result"), fields.get("error")) {
            (Some(method), None, None) => {
                let method = json::string(method).filter(|m| (1..=METHOD_BYTES_MAX).contains(&m.len()));
                let method = method.ok_or_else(|| refuse("\"method\" must be a string of 1 to 256 bytes"))?;
                let params = fields.get("params");
                if params.is_some_and(|p| !json::is_object(p)) {
                    return Err(refuse("\"params\" must be an object"));
                }
                match id_text {
                    None => Kind::Notification(Notification { method, params }),
                    Some(id_text) => {
                        let id = id.clone().ok_or_else(|| refuse("\"id\" must be a string or an integer"))?;
                        Kind::Request(Request { id, id_text, method, params, meta: OnceLock::new() })
                    }
                }
            }
            (None, Some(result), None) => {
                let id = id.clone().ok_or_else(|| refuse("a result needs the \"id\" of its request"))?;
                Kind::Response(Response { id: Some(id), id_text, outcome: Outcome::Result(result) })
            }
            (None, None, Some(error)) => {
                if !json::is_object(error) {
                    return Err(refuse("\"error\" must be an object"));
                }
                Kind::Response(Response { id: id.clone(), id_text, outcome: Outcome::Error(error) })
            }
            _ => return Err(refuse("a message has exactly one of \"method\", \"result\" and \"error\"")),
        };
        Ok(Self { text, source: None, kind })
    }
}

/// A message that was refused before it could be handled.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The id, where it could be read.
    pub id: Option<Id>,
    /// What to answer.
    pub error: RpcError,
}

impl Refusal {
    fn without_id(error: RpcError) -> Self {
        Self { id: None, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(text: &str) -> (i64, Option<String>) {
        let refusal = Envelope::parse(text.as_bytes()).expect_err(text);
        (refusal.error.code, refusal.id.map(|id| id.as_json().to_owned()))
    }

    #[test]
    fn the_four_kinds() {
        let parse = |text: &'static str| Envelope::parse(text.as_bytes()).unwrap().kind;
        let Kind::Request(r) = parse(r#"{"jsonrpc":"2.0","id":"x","method":"ping"}"#) else { panic!() };
        assert_eq!((r.id.as_json(), r.id_text, r.method.as_ref(), r.params), ("\"x\"", "\"x\"", "ping", None));
        let Kind::Notification(n) = parse(r#" {"method":"a","params":{"b":1},"jsonrpc":"2.0"} "#) else { panic!() };
        assert_eq!(n.params, Some("{\"b\":1}"));
        let Kind::Response(r) = parse(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#) else { panic!() };
        assert_eq!(r.outcome, Outcome::Result("{}"));
        let Kind::Response(r) = parse(r#"{"jsonrpc":"2.0","error":{"code":1,"message":""}}"#) else { panic!() };
        assert!(r.id.is_none());
    }

    #[test]
    fn the_text_of_a_shared_message_is_not_copied() {
        let bytes = Bytes::from_static(b" {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
        let text = Envelope::of_shared(&bytes).unwrap().shared_text();
        assert_eq!(text, bytes.trim_ascii());
        assert_eq!(text.as_ptr(), bytes.trim_ascii().as_ptr());
        assert_eq!(Envelope::parse(&bytes).unwrap().shared_text(), text);
    }

    #[test]
    fn refusals_keep_the_id() {
        let id = Some("7".to_owned());
        assert_eq!(code("{"), (-32700, None));
        assert_eq!(code("[]"), (-32600, None));
        assert_eq!(code("7"), (-32600, None));
        assert_eq!(code(r#"{"jsonrpc":"1.0","id":7,"method":"a"}"#), (-32600, id.clone()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":7}"#), (-32600, id.clone()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":7,"result":1,"error":{}}"#), (-32600, id.clone()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":7,"method":"a","result":1}"#), (-32600, id.clone()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":7,"method":"a","params":[1]}"#), (-32600, id.clone()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":7,"method":""}"#), (-32600, id.clone()));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#), (-32600, None));
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"a"}"#), (-32600, None));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_with_a_well_formed_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Err(refusal) = Envelope::parse(&bytes) {
                let text = refusal.error.message(refusal.id.as_ref());
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
                prop_assert!(matches!(refusal.error.code, -32700 | -32600));
            }
        }

        #[test]
        fn damaged_messages_never_panic(cut in 0usize..120, flip in 0usize..120, with: u8) {
            let good = br#"{"jsonrpc":"2.0","id":"a\u0041","method":"tools/call","params":{"name":"x","_meta":{"k":[1,2]}}}"#;
            let mut bytes = good[..cut.min(good.len())].to_vec();
            if let Some(byte) = bytes.get_mut(flip) { *byte = with; }
            let _ = Envelope::parse(&bytes);
        }
    }
}

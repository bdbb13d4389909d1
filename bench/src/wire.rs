//! The few MCP messages that the generator writes and reads, in both eras.
//! Pure: bytes in, bytes or a fault out.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version spoken by the legacy cells.
pub(crate) const LEGACY_VERSION: &str = "2025-11-25";
/// Version spoken by the modern cells.
pub(crate) const MODERN_VERSION: &str = "2026-07-28";
/// The tool of the bench upstream that is measured.
pub(crate) const TOOL: &str = "echo";
/// Its tool that says for whom it was called: the end of the path that a node knows the upstream under.
pub(crate) const WHERE: &str = "where";

/// The era of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// `initialize` and sessions.
    Legacy,
    /// Stateless requests that carry `_meta`.
    Modern,
}

impl Era {
    /// The protocol version that this era's clients send.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Era::Legacy => LEGACY_VERSION,
            Era::Modern => MODERN_VERSION,
        }
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        })
    }
}

/// Why an answer to a call does not count.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum WrongAnswer {
    #[error("not the JSON of a tool result: {0}")]
    Malformed(String),
    #[error("error answer: {0}")]
    Error(String),
    #[error("id {got:?} instead of {want}")]
    Id { got: Option<u64>, want: u64 },
    #[error("the echoed text differs: {got} bytes instead of {want}")]
    Text { got: usize, want: usize },
    #[error("the tool result is an error or not complete")]
    NotComplete,
}

/// A `tools/call` whose id is still open.
pub(crate) struct CallTemplate {
    era: Era,
    text: String,
    tail: String,
}

const HEAD: &str = r#"{"jsonrpc":"2.0","id":"#;

impl CallTemplate {
    /// A call whose argument, and so whose result, is `payload_bytes` of plain text.
    pub(crate) fn new(era: Era, payload_bytes: usize) -> Self {
        let text: String =
            "the quick brown fox jumps over the lazy dog. ".chars().cycle().take(payload_bytes).collect();
        let meta = match era {
            Era::Legacy => String::new(),
            Era::Modern => format!(",\"_meta\":{}", modern_meta()),
        };
        let tail =
            format!(r#","method":"tools/call","params":{{"name":"{TOOL}","arguments":{{"text":"{text}"}}{meta}}}}}"#);
        Self { era, text, tail }
    }

    /// The request with this id.
    pub(crate) fn body(&self, id: u64) -> Bytes {
        let digits = id.to_string();
        let mut body = BytesMut::with_capacity(HEAD.len() + digits.len() + self.tail.len());
        body.put_slice(HEAD.as_bytes());
        body.put_slice(digits.as_bytes());
        body.put_slice(self.tail.as_bytes());
        body.freeze()
    }

    /// Whether `answer` is the complete result of the call `id`, with the whole text.
    pub(crate) fn check(&self, id: u64, answer: &[u8]) -> Result<(), WrongAnswer> {
        let text = text(self.era, id, answer)?;
        if text == self.text { Ok(()) } else { Err(WrongAnswer::Text { got: text.len(), want: self.text.len() }) }
    }
}

/// A legacy call of [`WHERE`].
pub(crate) fn ask_where(id: u64) -> Bytes {
    format!(r#"{HEAD}{id},"method":"tools/call","params":{{"name":"{WHERE}","arguments":{{}}}}}}"#).into()
}

/// The text of the complete result of the call `id`.
pub(crate) fn text(era: Era, id: u64, answer: &[u8]) -> Result<Cow<'_, str>, WrongAnswer> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| WrongAnswer::Malformed(e.to_string()))?;
    if let Some(error) = answer.error {
        return Err(WrongAnswer::Error(format!("{} {}", error.code, error.message)));
    }
    if answer.id != Some(id) {
        return Err(WrongAnswer::Id { got: answer.id, want: id });
    }
    let mut result = answer.result.ok_or_else(|| WrongAnswer::Malformed("no result".into()))?;
    let complete = era == Era::Legacy || result.result_type.as_deref() == Some("complete");
    if result.is_error || !complete {
        return Err(WrongAnswer::NotComplete);
    }
    match (result.content.pop(), result.content.len()) {
        (Some(content), 0) => Ok(content.text),
        (_, more) => Err(WrongAnswer::Malformed(format!("not one content, {more} more"))),
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<CallResult<'a>>,
    #[serde(borrow)]
    error: Option<ErrorObject<'a>>,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    code: i64,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct CallResult<'a> {
    #[serde(borrow)]
    content: Vec<Content<'a>>,
    #[serde(rename = "isError", default)]
    is_error: bool,
    #[serde(rename = "resultType")]
    result_type: Option<String>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// The opening request of a legacy session.
pub(crate) fn initialize() -> Bytes {
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY_VERSION}","capabilities":{{}},"clientInfo":{}}}}}"#,
        client_info()
    ))
}

/// The notification that ends a legacy opening.
pub(crate) fn initialized() -> Bytes {
    Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
}

fn client_info() -> String {
    format!(r#"{{"name":"enfilade-bench","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))
}

fn modern_meta() -> String {
    format!(
        r#"{{"io.modelcontextprotocol/protocolVersion":"{MODERN_VERSION}","io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#,
        client_info()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u64, text: &str, more: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{more}"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
    }

    #[test]
    fn a_request_is_json_of_the_wanted_size() {
        for era in [Era::Legacy, Era::Modern] {
            let body = CallTemplate::new(era, 10_240).body(7);
            let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(json["id"], 7);
            assert_eq!(json["params"]["name"], TOOL);
            assert_eq!(json["params"]["arguments"]["text"].as_str().map(str::len), Some(10_240));
            assert_eq!(json["params"].get("_meta").is_some(), era == Era::Modern);
        }
    }

    #[test]
    fn wrong_answers_are_told_apart() {
        let call = CallTemplate::new(Era::Legacy, 9);
        let check = |body: String| call.check(3, body.as_bytes());
        assert_eq!(check(answer(3, "the quick", "")), Ok(()));
        assert_eq!(check(answer(4, "the quick", "")), Err(WrongAnswer::Id { got: Some(4), want: 3 }));
        assert_eq!(check(answer(3, "the quic", "")), Err(WrongAnswer::Text { got: 8, want: 9 }));
        assert_eq!(check(answer(3, "the quick", r#""isError":true,"#)), Err(WrongAnswer::NotComplete));
        let error = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"no"}}"#;
        assert_eq!(check(error.into()), Err(WrongAnswer::Error("-32602 no".into())));
        assert!(matches!(check("{".into()), Err(WrongAnswer::Malformed(_))));
        assert!(matches!(check(r#"{"id":3,"result":{"content":[]}}"#.into()), Err(WrongAnswer::Malformed(_))));
    }

    #[test]
    fn a_modern_result_must_say_that_it_is_complete() {
        let call = CallTemplate::new(Era::Modern, 9);
        assert_eq!(call.check(1, answer(1, "the quick", "").as_bytes()), Err(WrongAnswer::NotComplete));
        assert_eq!(call.check(1, answer(1, "the quick", r#""resultType":"complete","#).as_bytes()), Ok(()));
    }
}

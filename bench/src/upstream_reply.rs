//! What the bench upstream answers, in both eras: a function of headers, body and the open sessions.
//! The echoed text is spliced from the request's bytes, never decoded.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::{LEGACY_VERSION, MODERN_VERSION, TOOL, WHERE};

const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY_VERSION];
const SERVER_INFO: &str =
    concat!(r#"{"name":"enfilade-bench-upstream","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
const TOOLS: &str = r#""tools":[{"name":"echo","description":"Returns its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}},{"name":"where","description":"Says for whom it was called.","inputSchema":{"type":"object"}}]"#;
const CACHE_HINTS: &str = r#""ttlMs":3600000,"cacheScope":"public""#;

const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const PARSE_ERROR: i32 = -32700;
const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED_VERSION: i32 = -32022;

/// Session ids that were given out and not deleted.
#[derive(Default)]
pub(crate) struct Sessions(HashSet<u128>);

impl Sessions {
    fn open(&mut self) -> Option<String> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        let id = u128::from_ne_bytes(random);
        self.0.insert(id);
        Some(format!("{id:032x}"))
    }

    /// The key of an open session, or the status that refuses the request.
    fn find(&self, id: Option<&str>) -> Result<u128, StatusCode> {
        let id = id.ok_or(StatusCode::BAD_REQUEST)?;
        let key = u128::from_str_radix(id, 16).map_err(|_| StatusCode::NOT_FOUND)?;
        self.0.contains(&key).then_some(key).ok_or(StatusCode::NOT_FOUND)
    }
}

/// The MCP headers of a request.
#[derive(Default)]
pub(crate) struct Head<'a> {
    pub(crate) version: Option<&'a str>,
    pub(crate) method: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) session: Option<&'a str>,
    /// Who asks, by the path; an empty text without such a path.
    pub(crate) caller: &'a str,
}

/// An answer; its body is JSON or empty.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) session: Option<String>,
    pub(crate) body: Bytes,
}

impl Reply {
    /// Only a status.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, session: None, body: Bytes::new() }
    }

    /// A result from its pieces, which are put together without a look at them.
    fn result(id: &RawValue, pieces: &[&str]) -> Self {
        let mut parts = vec![r#"{"jsonrpc":"2.0","id":"#, id.get(), r#","result":{"#];
        parts.extend_from_slice(pieces);
        parts.push("}}");
        let mut body = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| body.put_slice(part.as_bytes()));
        Self { status: StatusCode::OK, session: None, body: body.freeze() }
    }

    fn error(status: StatusCode, id: Option<&RawValue>, code: i32, message: &str, data: &str) -> Self {
        let id = id.map(|id| format!(r#","id":{}"#, id.get())).unwrap_or_default();
        let body = format!(r#"{{"jsonrpc":"2.0"{id},"error":{{"code":{code},"message":"{message}"{data}}}}}"#);
        Self { status, session: None, body: body.into() }
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize, Default)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
    #[serde(rename = "protocolVersion")]
    version: Option<String>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

/// Answers a POST.
pub(crate) fn post(head: &Head, body: &[u8], sessions: &mut Sessions) -> Reply {
    let message: Message = match serde_json::from_slice(body) {
        Ok(message) => message,
        Err(error) => {
            let code = if error.is_data() { INVALID_REQUEST } else { PARSE_ERROR };
            return Reply::error(StatusCode::BAD_REQUEST, None, code, "not a message this server reads", "");
        }
    };
    let version = message.params.as_ref().and_then(|params| params.meta.as_ref()?.version.as_deref());
    let method = message.method.as_deref().unwrap_or_default();
    match version {
        Some(version) => modern(head, &message, method, version),
        None if method == "initialize" => initialize(&message, sessions),
        None if head.session.is_some() || head.version.is_none_or(|version| LEGACY_VERSIONS.contains(&version)) => {
            legacy(head, &message, method, sessions)
        }
        None => {
            let text = "the request lacks its _meta fields";
            Reply::error(StatusCode::BAD_REQUEST, message.id, INVALID_PARAMS, text, "")
        }
    }
}

/// Answers a DELETE: ends the session.
pub(crate) fn delete(head: &Head, sessions: &mut Sessions) -> Reply {
    Reply::empty(match sessions.find(head.session) {
        Ok(key) => {
            sessions.0.remove(&key);
            StatusCode::OK
        }
        Err(status) => status,
    })
}

fn initialize(message: &Message, sessions: &mut Sessions) -> Reply {
    let Some(id) = message.id else {
        return Reply::error(StatusCode::BAD_REQUEST, None, INVALID_REQUEST, "initialize needs an id", "");
    };
    let wanted = message.params.as_ref().and_then(|params| params.version.as_deref());
    let version = LEGACY_VERSIONS.into_iter().find(|&known| wanted == Some(known)).unwrap_or(LEGACY_VERSION);
    let pieces = [r#""protocolVersion":""#, version, r#"","capabilities":{"tools":{}},"serverInfo":"#, SERVER_INFO];
    match sessions.open() {
        Some(session) => Reply { session: Some(session), ..Reply::result(id, &pieces) },
        None => Reply::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn legacy(head: &Head, message: &Message, method: &str, sessions: &Sessions) -> Reply {
    if let Err(status) = sessions.find(head.session) {
        return Reply::error(status, message.id, INVALID_REQUEST, "no such session", "");
    }
    if head.version.is_some_and(|version| !LEGACY_VERSIONS.contains(&version)) {
        return Reply::error(StatusCode::BAD_REQUEST, message.id, INVALID_REQUEST, "unsupported protocol version", "");
    }
    // Notifications, and answers to requests that this server never sends.
    let (Some(id), Some(_)) = (message.id, &message.method) else {
        return Reply::empty(StatusCode::ACCEPTED);
    };
    match method {
        "ping" => Reply::result(id, &[]),
        "tools/list" => Reply::result(id, &[TOOLS]),
        "tools/call" => call(head, id, message, ""),
        _ => Reply::error(StatusCode::OK, Some(id), METHOD_NOT_FOUND, "method not found", ""),
    }
}

fn modern(head: &Head, message: &Message, method: &str, version: &str) -> Reply {
    let Some(id) = message.id else {
        return Reply::empty(StatusCode::ACCEPTED);
    };
    if let Err(reply) = check_modern(head, message, method, version, id) {
        return reply;
    }
    let server_info = r#""_meta":{"io.modelcontextprotocol/serverInfo":"#;
    let complete = r#""resultType":"complete","#;
    match method {
        "server/discover" => {
            let versions = r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"#;
            Reply::result(id, &[complete, versions, CACHE_HINTS, ",", server_info, SERVER_INFO, "}"])
        }
        "tools/list" => Reply::result(id, &[complete, TOOLS, ",", CACHE_HINTS, ",", server_info, SERVER_INFO, "}"]),
        "tools/call" => call(head, id, message, complete),
        _ => Reply::error(StatusCode::NOT_FOUND, Some(id), METHOD_NOT_FOUND, "method not found", ""),
    }
}

/// The checks that the revision asks of every request, in its order: fields, headers, version.
fn check_modern(head: &Head, message: &Message, method: &str, version: &str, id: &RawValue) -> Result<(), Reply> {
    let bad = |code, text: &str, data: &str| Err(Reply::error(StatusCode::BAD_REQUEST, Some(id), code, text, data));
    let params = message.params.as_ref();
    if params.and_then(|params| params.meta.as_ref()?.capabilities).is_none() {
        return bad(INVALID_PARAMS, "the request lacks its _meta fields", "");
    }
    let name = params.and_then(|params| params.name.as_deref());
    if head.version != Some(version) || head.method != Some(method) || (name.is_some() && head.name != name) {
        return bad(HEADER_MISMATCH, "headers and body differ", "");
    }
    if version != MODERN_VERSION {
        let data = serde_json::json!({"supported": [MODERN_VERSION, LEGACY_VERSION], "requested": version});
        return bad(UNSUPPORTED_VERSION, "unsupported protocol version", &format!(r#","data":{data}"#));
    }
    Ok(())
}

/// The echo: the raw JSON string of the argument becomes the raw JSON string of the content.
fn call(head: &Head, id: &RawValue, message: &Message, before: &str) -> Reply {
    let params = message.params.as_ref();
    let text = params.and_then(|params| params.arguments.as_ref()?.text).filter(|text| text.get().starts_with('"'));
    match (params.and_then(|params| params.name.as_deref()), text) {
        (Some(TOOL), Some(text)) => {
            Reply::result(id, &[before, r#""content":[{"type":"text","text":"#, text.get(), r#"}],"isError":false"#])
        }
        (Some(TOOL), None) => {
            let content = r#""content":[{"type":"text","text":"the argument `text` must be a string"}],"isError":true"#;
            Reply::result(id, &[before, content])
        }
        (Some(WHERE), _) => {
            Reply::result(id, &[before, r#""content":[{"type":"text","text":""#, head.caller, r#""}],"isError":false"#])
        }
        _ => Reply::error(StatusCode::OK, Some(id), INVALID_PARAMS, "unknown tool", ""),
    }
}

#[cfg(test)]
#[path = "upstream_reply_tests.rs"]
mod tests;

//! The few messages that connectors write themselves, and the little that they read of the messages which pass: whose
//! answer, request or notification it is. Nothing is validated here; the owner does that once, for all.

use bytes::Bytes;
use enfilade_mcp::meta::{self, IMPLEMENTATION};
use enfilade_mcp::{Id, Splice, Version, json};
use std::borrow::Cow;

use crate::peer::{CallError, Hello};

/// `notifications/initialized`.
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// `server/discover` (2026-07-28 server/discover).
pub(crate) fn discover(id: u64) -> Bytes {
    let (version_key, info_key, capabilities_key) = (meta::VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES);
    let version = Version::MODERN;
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{"_meta":{{"{version_key}":"{version}","{info_key}":{IMPLEMENTATION},"{capabilities_key}":{{}}}}}}}}"#
    ))
}

/// `initialize` on behalf of a client.
pub(crate) fn initialize(id: u64, hello: &Hello) -> Bytes {
    let Hello { version, client_info, capabilities } = hello;
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{client_info}}}}}"#
    ))
}

/// `notifications/cancelled`.
pub(crate) fn cancelled(id: u64, reason: &str) -> Bytes {
    let reason = json::quote(reason);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":{reason}}}}}"#
    ))
}

/// The answer to a request that belongs to no call (BRIDGE.md rule 6).
pub(crate) fn refusal(id: &Id) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"no client is there to answer this request now"}}}}"#
    )
}

/// The answer to `ping`.
pub(crate) fn pong(id: &Id) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

/// What a message from an upstream is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sort<'a> {
    /// An answer, with the id where it is a number.
    Response(Option<u64>),
    /// A request of the upstream.
    Request { id: Id, method: Cow<'a, str> },
    /// A notification of the upstream.
    Notification { method: Cow<'a, str>, params: Option<&'a str> },
    /// No message at all.
    Nothing,
}

/// Reads what `text` is.
pub(crate) fn sort(text: &str) -> Sort<'_> {
    let (mut id, mut method, mut params, mut outcome) = (None, None, None, false);
    for member in json::members(text) {
        match member.key {
            "\"id\"" => id = Some(member.value),
            "\"method\"" => method = json::string(member.value),
            "\"params\"" => params = Some(member.value),
            "\"result\"" | "\"error\"" => outcome = true,
            _ => {}
        }
    }
    match (method, id.and_then(Id::from_json)) {
        (Some(method), Some(id)) => Sort::Request { id, method },
        (Some(method), None) => Sort::Notification { method, params },
        (None, id) if outcome => Sort::Response(id.and_then(|id| id.as_number())),
        (None, _) => Sort::Nothing,
    }
}

/// The number in `params.progressToken`.
pub(crate) fn progress_token(params: Option<&str>) -> Option<u64> {
    json::get(params?, "progressToken")?.parse().ok()
}

/// The number in `params._meta.io.modelcontextprotocol/subscriptionId`.
pub(crate) fn subscription(params: Option<&str>) -> Option<u64> {
    json::at(params?, &["_meta", meta::SUBSCRIPTION_ID])?.parse().ok()
}

/// True when `message` is the answer to our request `id`.
pub(crate) fn answers(message: &str, id: u64) -> bool {
    plainly_answers(message.as_bytes(), id) || sort(message) == Sort::Response(Some(id))
}

/// As [`answers`], for the two spellings that nearly all servers use, without reading the whole message: the id right
/// behind `jsonrpc`, at the beginning or at the end.
pub(crate) fn plainly_answers(message: &[u8], id: u64) -> bool {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) == Some(id);
    if let Some(rest) = message.strip_prefix(br#"{"jsonrpc":"2.0","id":"#) {
        let Some(end) = rest.iter().take(20).position(|byte| *byte == b',') else { return false };
        let (digits, rest) = rest.split_at(end);
        return number(digits) && (rest.starts_with(br#","result":"#) || rest.starts_with(br#","error":"#));
    }
    if !message.starts_with(br#"{"result":"#) {
        return false;
    }
    // The last brace closes the message, so what stands before it belongs to the message itself.
    let Some(front) = message.strip_suffix(b"}") else { return false };
    let digits = front.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (front, digits) = front.split_at(front.len() - digits);
    front.ends_with(br#","jsonrpc":"2.0","id":"#) && number(digits)
}

/// The members of a batch, or the one message that `text` is.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let one = (!is_batch(text)).then_some(text);
    one.into_iter().chain(json::elements(text))
}

/// True for an array of messages (2025-03-26).
pub(crate) fn is_batch(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

/// The error that an upstream sent with an HTTP error status, with our id put in where it had none; nothing when it is
/// no JSON-RPC error or answers somebody else.
pub(crate) fn error_for(body: &str, id: u64) -> Option<String> {
    let text = json::check(body.as_bytes()).ok()?;
    json::get(text, "error").filter(|error| json::get(error, "code").is_some())?;
    match json::get(text, "id") {
        Some(own) if own.parse() == Ok(id) => Some(text.to_owned()),
        None | Some("null") => {
            let mut splice = Splice::new(text);
            splice.set(text, "id", &id.to_string());
            if json::get(text, "jsonrpc").is_none() {
                splice.set(text, "jsonrpc", "\"2.0\"");
            }
            Some(splice.finish())
        }
        Some(_) => None,
    }
}

/// The id of the response that begins with `head`, for answers that are too long to be kept.
pub(crate) fn id_in_head(head: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(head);
    json::members(&text).take_while(|member| !matches!(member.key, "\"method\"" | "\"params\"")).find_map(|member| {
        let is_id = member.key == "\"id\"";
        is_id.then(|| member.value.parse().ok()).flatten()
    })
}

/// What `initialize` was answered with: the agreed revision and the result object.
pub(crate) fn initialized(response: &str) -> Result<(Version, &str), CallError> {
    let Some(result) = json::get(response, "result").filter(|result| json::is_object(result)) else {
        return Err(CallError::Protocol("initialize was refused"));
    };
    let version = json::get(result, "protocolVersion").and_then(json::string);
    let version = version.and_then(|name| Version::parse(&name)).filter(|version| *version != Version::MODERN);
    Ok((version.ok_or(CallError::Protocol("initialize was answered with an unknown revision"))?, result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_messages() {
        assert_eq!(sort(r#"{"result":{"id":9},"jsonrpc":"2.0","id":7}"#), Sort::Response(Some(7)));
        assert_eq!(sort(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#), Sort::Response(None));
        let Sort::Request { id, method } = sort(r#"{"id":"a","method":"ping"}"#) else { panic!() };
        assert_eq!((id.as_json(), method.as_ref()), ("\"a\"", "ping"));
        let Sort::Notification { method, params } = sort(r#"{"method":"m","params":{"progressToken":3}}"#) else {
            panic!()
        };
        assert_eq!((method.as_ref(), progress_token(params)), ("m", Some(3)));
        for garbage in ["", "{", "[]", "Server started on stdio", "{\"a\"", "}{", "{\"id\":1}"] {
            assert_eq!(sort(garbage), Sort::Nothing, "{garbage}");
        }
    }

    #[test]
    fn finds_answers_in_any_spelling() {
        for (message, expected) in [
            (r#"{"jsonrpc":"2.0","id":12,"result":{}}"#, true),
            (r#"{"jsonrpc":"2.0","id":12,"error":{"code":1}}"#, true),
            (r#"{"result":{},"jsonrpc":"2.0","id":12}"#, true),
            (r#"{"result":{},"jsonrpc":"2.0","id":112}"#, false),
            (r#"{"result":{"jsonrpc":"2.0","id":12}}"#, false),
            (r#"{"error":{},"jsonrpc":"2.0","id":12}"#, true),
            (r#" { "id" : 12 , "result" : {} }"#, true),
            (r#"{"jsonrpc":"2.0","id":123,"result":{}}"#, false),
            (r#"{"jsonrpc":"2.0","id":"12","result":{}}"#, false),
            (r#"{"jsonrpc":"2.0","id":12,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","method":"x","params":{"id":12}}"#, false),
        ] {
            assert_eq!(answers(message, 12), expected, "{message}");
        }
    }

    #[test]
    fn error_bodies_get_our_id() {
        for (body, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":5,"error":{"code":-1}}"#,
                Some(r#"{"jsonrpc":"2.0","id":5,"error":{"code":-1}}"#),
            ),
            (
                r#"{"jsonrpc":"2.0","error":{"code":-1},"id":null}"#,
                Some(r#"{"jsonrpc":"2.0","error":{"code":-1},"id":5}"#),
            ),
            (r#"{"jsonrpc":"2.0","error":{"code":-1}}"#, Some(r#"{"id":5,"jsonrpc":"2.0","error":{"code":-1}}"#)),
            (r#"{"jsonrpc":"2.0","id":6,"error":{"code":-1}}"#, None),
            (r#"{"error":"invalid_token"}"#, None),
            ("Not Found", None),
        ] {
            assert_eq!(error_for(body, 5).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn finds_the_id_of_what_is_cut_off() {
        assert_eq!(id_in_head(br#"{"jsonrpc":"2.0","id":41,"result":{"content":[{"text":"aaaa"#), Some(41));
        assert_eq!(id_in_head(br#"{"id":41,"jsonrpc"#), Some(41));
        assert_eq!(id_in_head(br#"{"result":{"id":41,"text":"aaaa"#), None);
        assert_eq!(id_in_head(br#"{"method":"a","id":41,"params":{"te"#), None);
        assert_eq!(id_in_head(b"garbage"), None);
    }

    #[test]
    fn our_messages_are_json() {
        let hello =
            Hello { version: Version::V2025_06_18, client_info: IMPLEMENTATION.into(), capabilities: "{}".into() };
        for message in [discover(1), initialize(2, &hello), cancelled(3, "a \"reason\"")] {
            assert!(enfilade_mcp::Envelope::parse(&message).is_ok(), "{message:?}");
        }
        let id = Id::number(1);
        for message in [INITIALIZED.to_owned(), refusal(&id), pong(&id)] {
            assert!(enfilade_mcp::Envelope::parse(message.as_bytes()).is_ok(), "{message}");
        }
    }

    #[test]
    fn reads_initialize_answers() {
        let answer = |version: &str| format!(r#"{{"id":1,"result":{{"protocolVersion":"{version}"}}}}"#);
        assert_eq!(initialized(&answer("2025-03-26")).unwrap().0, Version::V2025_03_26);
        assert!(initialized(&answer("2026-07-28")).is_err());
        assert!(initialized(&answer("1.0")).is_err());
        assert!(initialized(r#"{"id":1,"error":{"code":-32601}}"#).is_err());
    }

    #[test]
    fn batches_are_split() {
        assert_eq!(split(r#" [{"a":1}, {"b":2}]"#).collect::<Vec<_>>(), [r#"{"a":1}"#, r#"{"b":2}"#]);
        assert_eq!(split(r#"{"a":[1]}"#).collect::<Vec<_>>(), [r#"{"a":[1]}"#]);
        assert_eq!(split("[]").count(), 0);
    }
}

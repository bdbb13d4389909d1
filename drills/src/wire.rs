//! The few messages that the clients write, and what an answer means. Pure.

use serde_json::{Value, json};

pub(crate) const VERSION: &str = "2025-11-25";
pub(crate) const MODERN: &str = "2026-07-28";

pub(crate) fn initialize() -> String {
    let client = json!({"name": "enfilade-drills", "version": env!("CARGO_PKG_VERSION")});
    let params = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string()
}

pub(crate) fn initialized() -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()
}

pub(crate) fn ping(id: u64) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()
}

/// `subscriptions/listen` of 2026-07-28, to what tools there are.
pub(crate) fn listen(id: u64) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"notifications": {"toolsListChanged": true}, "_meta": meta});
    json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params}).to_string()
}

/// A call whose JSON-RPC id is its number, unique in a drill.
pub(crate) fn call(call: u64, tool: &str, mut arguments: Value) -> String {
    arguments["call"] = call.into();
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": call, "method": "tools/call", "params": params}).to_string()
}

/// What a JSON-RPC answer says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The result of this call.
    Result,
    /// An error: whether it was executed nobody knows.
    Unknown,
    /// An error: it was certainly not executed, or may be sent again.
    Again(String),
    /// Another error.
    Error(String),
    /// Not an answer to this call.
    Wrong(String),
}

/// Reads the answer to the call (or ping) `id`.
pub(crate) fn said(id: u64, answer: &Value) -> Said {
    if answer["id"].as_u64() != Some(id) {
        return Said::Wrong(format!("an answer to {} instead of {id}", answer["id"]));
    }
    let error = &answer["error"];
    if error.is_null() {
        let text = answer["result"]["content"][0]["text"].as_str();
        return match text {
            Some(text) if text != id.to_string() => Said::Wrong(format!("the result of {text} instead of {id}")),
            _ if answer["result"]["isError"] == true => Said::Error("a tool error".to_owned()),
            _ if answer["result"].is_object() => Said::Result,
            _ => Said::Wrong("neither result nor error".to_owned()),
        };
    }
    let message = error["message"].as_str().unwrap_or_default();
    if message.contains("outcome is unknown") {
        return Said::Unknown;
    }
    let text = format!("{} {message}", error["code"]);
    if error["data"]["retry"] == true { Said::Again(text) } else { Said::Error(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let result = |id: u64, text: &str| json!({"id": id, "result": {"content": [{"type": "text", "text": text}]}});
        assert_eq!(said(7, &result(7, "7")), Said::Result);
        assert_eq!(said(7, &json!({"id": 7, "result": {}})), Said::Result);
        assert!(matches!(said(7, &result(8, "8")), Said::Wrong(_)));
        assert!(matches!(said(7, &result(7, "8")), Said::Wrong(_)));
        assert!(matches!(said(7, &json!({"id": 7})), Said::Wrong(_)));
        let error = |message: &str, retry: bool| json!({"id": 7, "error": {"code": -32603, "message": message, "data": {"retry": retry}}});
        assert_eq!(said(7, &error("lost; the outcome is unknown", false)), Said::Unknown);
        assert!(matches!(said(7, &error("too many calls", true)), Said::Again(_)));
        assert!(matches!(said(7, &error("no such tool", false)), Said::Error(_)));
    }
}

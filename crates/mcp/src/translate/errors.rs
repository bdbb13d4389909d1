//! Errors of upstreams in the other era's words (BRIDGE.md rule 13). Messages and `data` stay as they are.

use super::edit;
use crate::error::code;
use crate::json::{self, Fields};
use crate::splice::Splice;

/// A URL must be opened first (2025-11-25 only).
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// What a modern upstream's error is to a legacy client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorOutcome {
    /// An `error` object.
    Error(String),
    /// The `result` of a tool call, with `isError`.
    ToolResult(String),
}

/// An upstream's `error` object for a modern client; nothing when it can stay as it is.
///
/// −32042 is meant to have been answered with `input_required` before; what still comes here is an internal error.
#[must_use]
pub fn error_to_modern(error: &str, method: &str) -> Option<String> {
    let Some(number) = number(error) else { return Some(malformed(error)) };
    let code = match number {
        code::RESOURCE_NOT_FOUND if method == "resources/read" => code::INVALID_PARAMS,
        code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION => return None,
        // Reserved for codes that the specification has not defined.
        code::RESOURCE_NOT_FOUND | -32099..=-32020 => code::INTERNAL,
        _ => return None,
    };
    with_code(error, code)
}

/// A modern upstream's `error` object for a legacy client; nothing when it can stay as it is.
#[must_use]
pub fn error_to_legacy(error: &str, method: &str) -> Option<ErrorOutcome> {
    let Some(number) = number(error) else { return Some(ErrorOutcome::Error(malformed(error))) };
    let code = match number {
        // Without a URI it says that the params are wrong, not that the resource is missing.
        code::INVALID_PARAMS if method == "resources/read" && has_uri(error) => code::RESOURCE_NOT_FOUND,
        code::MISSING_CAPABILITY if method == "tools/call" => {
            return Some(ErrorOutcome::ToolResult(tool_result(error)));
        }
        code::MISSING_CAPABILITY => code::INVALID_PARAMS,
        // These speak of the gateway's own request, and −32042 would be taken for an elicitation.
        code::HEADER_MISMATCH | code::UNSUPPORTED_VERSION | URL_ELICITATION_REQUIRED => code::INTERNAL,
        _ => return None,
    };
    with_code(error, code).map(ErrorOutcome::Error)
}

/// The code, where it is written as an integer and only once: nobody may read another one than we do.
fn number(error: &str) -> Option<i64> {
    Fields::read(error).ok()?.get("code")?.parse().ok()
}

/// An internal error with the message of an error that has no proper code.
fn malformed(error: &str) -> String {
    let message = json::get(error, "message").filter(|text| text.starts_with('"'));
    format!(
        r#"{{"code":{},"message":{}}}"#,
        code::INTERNAL,
        message.unwrap_or(r#""the upstream's error is malformed""#)
    )
}

fn with_code(error: &str, code: i64) -> Option<String> {
    let old = json::get(error, "code")?;
    Some(Splice::new(error).replace(old, code.to_string()).finish())
}

fn has_uri(error: &str) -> bool {
    json::at(error, &["data", "uri"]).is_some_and(|uri| uri.starts_with('"'))
}

/// Tells the model, which is the one that can do without the tool.
fn tool_result(error: &str) -> String {
    let message = json::get(error, "message").and_then(json::string).unwrap_or_default();
    let mut text = message.into_owned();
    let required = json::at(error, &["data", "requiredCapabilities"]).unwrap_or_default();
    let required: Vec<_> = json::members(required).map(|member| member.name().into_owned()).collect();
    if !required.is_empty() {
        text = format!("{text} (this client would have to support: {})", required.join(", "));
    }
    let block = edit::object(&[("type", "\"text\"".into()), ("text", json::quote(text.trim_start()).into())]);
    format!(r#"{{"content":[{block}],"isError":true}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn error(code: i64) -> String {
        json!({"code": code, "message": "why", "data": {"uri": "file:///a", "more": 1}}).to_string()
    }

    fn code_of(text: &str) -> i64 {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            (&value["message"], &value["data"]["uri"], &value["data"]["more"]),
            (&json!("why"), &json!("file:///a"), &json!(1))
        );
        value["code"].as_i64().unwrap()
    }

    #[test]
    fn codes_to_modern() {
        let to = |code, method| error_to_modern(&error(code), method).map(|text| code_of(&text));
        assert_eq!(to(-32002, "resources/read"), Some(-32602));
        assert_eq!(to(-32002, "tools/call"), Some(-32603));
        for code in [-32042, -32023, -32050, -32099] {
            assert_eq!(to(code, "tools/call"), Some(-32603), "{code}");
        }
        for code in [-32020, -32021, -32022, -32602, -32603, -32601, -32000, -32001, -32019, -32100, 7] {
            assert_eq!(to(code, "resources/read"), None, "{code}");
        }
    }

    #[test]
    fn codes_to_legacy() {
        let to = |code, method| match error_to_legacy(&error(code), method) {
            Some(ErrorOutcome::Error(text)) => Some(code_of(&text)),
            Some(ErrorOutcome::ToolResult(text)) => panic!("{text}"),
            None => None,
        };
        assert_eq!(to(-32602, "resources/read"), Some(-32002));
        assert_eq!(to(-32602, "tools/call"), None);
        assert_eq!(to(-32021, "prompts/get"), Some(-32602));
        for code in [-32020, -32022, -32042] {
            assert_eq!(to(code, "tools/call"), Some(-32603), "{code}");
        }
        for code in [-32603, -32601, -32000, 7] {
            assert_eq!(to(code, "resources/read"), None, "{code}");
        }
        let no_uri = r#"{"code":-32602,"message":"uri is missing"}"#;
        assert_eq!(error_to_legacy(no_uri, "resources/read"), None);
    }

    #[test]
    fn a_missing_capability_is_told_to_the_model() {
        let error = json!({"code": -32021, "message": "Missing \"elicitation\"", "data": {"requiredCapabilities": {"elicitation": {}}}});
        let Some(ErrorOutcome::ToolResult(text)) = error_to_legacy(&error.to_string(), "tools/call") else { panic!() };
        let said = "Missing \"elicitation\" (this client would have to support: elicitation)";
        let expected = json!({"content": [{"type": "text", "text": said}], "isError": true});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn malformed_errors_become_internal_ones() {
        for code in ["\"x\"", "1.5", "-32050.0", "-3.205e4", "-32603,\"code\":-32050"] {
            let text = format!(r#"{{"code":{code},"message":"m"}}"#);
            let expected = r#"{"code":-32603,"message":"m"}"#.to_owned();
            assert_eq!(error_to_modern(&text, "tools/call"), Some(expected.clone()));
            assert_eq!(error_to_legacy(&text, "tools/call"), Some(ErrorOutcome::Error(expected)));
        }
        assert!(error_to_modern("{}", "ping").is_some_and(|error| error.contains("-32603")));
    }
}

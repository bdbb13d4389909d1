//! JSON-RPC errors as MCP defines them, and the one place where a fact becomes a code, an HTTP status and a text.
//!
//! Each error says whose fault it is and whether the same request may be sent again; texts carry no internals.

use crate::id::Id;
use crate::json::{self, Malformed};
use std::borrow::Cow;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request must change.
    Client,
    /// The MCP server behind the gateway.
    Upstream,
    /// The gateway itself.
    Gateway,
}

impl Fault {
    /// Its name in `error.data.fault`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

/// A JSON-RPC error that the gateway itself answers with.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// The code; only those of JSON-RPC and MCP.
    pub code: i64,
    /// What went wrong and what to change.
    pub message: Cow<'static, str>,
    /// Whose fault it is.
    pub fault: Fault,
    /// True when the same request may be sent again, now or later: it was not executed, or may be executed twice.
    pub retry: bool,
    /// Further members of `data`, each a name and a JSON text.
    pub details: Vec<(&'static str, String)>,
}

/// The codes (JSON-RPC 2.0; MCP 2026-07-28 basic, Error Codes).
pub mod code {
    /// The bytes are not JSON.
    pub const PARSE: i64 = -32700;
    /// Not a JSON-RPC message, or one that may not stand here.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Params are missing, wrong or name nothing.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The gateway or an upstream failed.
    pub const INTERNAL: i64 = -32603;
    /// A resource that does not exist (until 2025-11-25).
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    /// Headers and body differ (2026-07-28).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// A capability that the client did not declare is needed (2026-07-28).
    pub const MISSING_CAPABILITY: i64 = -32021;
    /// The revision is not supported (2026-07-28).
    pub const UNSUPPORTED_VERSION: i64 = -32022;
}

impl RpcError {
    fn new(code: i64, fault: Fault, retry: bool, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), fault, retry, details: Vec::new() }
    }

    /// −32700.
    #[must_use]
    pub fn parse(why: &Malformed) -> Self {
        Self::new(code::PARSE, Fault::Client, false, format!("Parse error: {why}"))
    }

    /// −32600.
    #[must_use]
    pub fn invalid_request(why: &str) -> Self {
        Self::new(code::INVALID_REQUEST, Fault::Client, false, format!("Invalid request: {why}"))
    }

    /// −32601.
    #[must_use]
    pub fn method_not_found(method: &str) -> Self {
        let method: String = method.chars().take(64).collect();
        Self::new(code::METHOD_NOT_FOUND, Fault::Client, false, format!("Method not found: {method}"))
    }

    /// −32602.
    #[must_use]
    pub fn invalid_params(why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::INVALID_PARAMS, Fault::Client, false, why)
    }

    /// −32020.
    #[must_use]
    pub fn header_mismatch(why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::HEADER_MISMATCH, Fault::Client, false, why)
    }

    /// −32022 with the revisions that this path serves without a session.
    #[must_use]
    pub fn unsupported_version(requested: &str) -> Self {
        let requested: String = requested.chars().take(64).collect();
        let mut error = Self::new(code::UNSUPPORTED_VERSION, Fault::Client, false, "Unsupported protocol version");
        error.details.push(("supported", r#"["2026-07-28"]"#.to_owned()));
        error.details.push(("requested", json::quote(&requested)));
        error
    }

    /// −32021 with the capabilities that the client would have to declare, a JSON object.
    #[must_use]
    pub fn missing_capability(required: &str) -> Self {
        let text = "Missing required client capability";
        Self::new(code::MISSING_CAPABILITY, Fault::Client, false, text)
            .with("requiredCapabilities", required.to_owned())
    }

    /// −32603, the upstream's fault.
    #[must_use]
    pub fn upstream(retry: bool, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::INTERNAL, Fault::Upstream, retry, why)
    }

    /// −32603, the gateway's fault.
    #[must_use]
    pub fn gateway(retry: bool, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::INTERNAL, Fault::Gateway, retry, why)
    }

    /// The same error with one more member in `data`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.details.push((name, value));
        self
    }

    /// The `error` object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut data = format!(r#"{{"fault":"{}","retry":{}"#, self.fault.as_str(), self.retry);
        for (name, value) in &self.details {
            data.push_str(&format!(",{}:{value}", json::quote(name)));
        }
        format!(r#"{{"code":{},"message":{},"data":{data}}}}}"#, self.code, json::quote(&self.message))
    }

    /// The whole response; without an id where none could be read.
    #[must_use]
    pub fn message(&self, id: Option<&Id>) -> String {
        error_message(id, &self.to_json())
    }
}

/// An error response from an `error` object.
#[must_use]
pub fn error_message(id: Option<&Id>, error: &str) -> String {
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","error":{error}}}"#),
    }
}

/// A result response from a `result` value.
#[must_use]
pub fn result_message(id: &Id, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// The HTTP status of a modern answer that carries an error with this code (BRIDGE.md 5); 200 for all others.
#[must_use]
pub fn modern_status(code: i64) -> u16 {
    match code {
        code::PARSE
        | code::INVALID_REQUEST
        | code::HEADER_MISMATCH
        | code::MISSING_CAPABILITY
        | code::UNSUPPORTED_VERSION => 400,
        code::METHOD_NOT_FOUND => 404,
        _ => 200,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_the_id_and_name_the_fault() {
        let id = Id::from_json("\"a\"").unwrap();
        let text = RpcError::unsupported_version("1900-01-01").message(Some(&id));
        let expected = concat!(
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32022,"message":"Unsupported protocol version","#,
            r#""data":{"fault":"client","retry":false,"supported":["2026-07-28"],"requested":"1900-01-01"}}}"#
        );
        assert_eq!(text, expected);
        assert!(json::check(RpcError::method_not_found("a\"b\n").message(None).as_bytes()).is_ok());
    }
}

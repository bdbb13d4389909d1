//! What the answer to `server/discover` says about an upstream (BRIDGE.md rule 18). Pure.

use crate::peer::CallError;
use enfilade_mcp::error::code;
use enfilade_mcp::{Version, json};

/// What is to be concluded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// It speaks 2026-07-28; this is its DiscoverResult.
    Modern(&'a str),
    /// It speaks 2026-07-28 and wants to be asked once more.
    AskAgain,
    /// It must be opened with `initialize`.
    Legacy,
    /// Nothing can be concluded now.
    Unknown(CallError),
}

/// Judges an HTTP answer: its status and body.
pub(crate) fn judge_http(status: u16, body: &str) -> Verdict<'_> {
    let text = json::check(body.as_bytes()).ok();
    let error = text.and_then(|text| json::get(text, "error")).filter(|error| json::get(error, "code").is_some());
    match status {
        200..=299 => text.map_or(Verdict::Legacy, judge),
        // It is not the revision that these complain about.
        401 | 403 | 407 | 408 | 425 | 429 => Verdict::Unknown(CallError::Status(status)),
        400..=499 => text.map_or(Verdict::Legacy, judge),
        // Some old servers fail on methods that they do not know, but they say so in JSON-RPC.
        500 if error.is_some() => text.map_or(Verdict::Legacy, judge),
        _ => Verdict::Unknown(CallError::Status(status)),
    }
}

/// Judges a JSON-RPC response.
pub(crate) fn judge(response: &str) -> Verdict<'_> {
    if let Some(result) = json::get(response, "result") {
        return if lists_modern(json::get(result, "supportedVersions")) {
            Verdict::Modern(result)
        } else {
            Verdict::Legacy
        };
    }
    let Some(error) = json::get(response, "error") else { return Verdict::Legacy };
    match json::get(error, "code").and_then(|code| code.parse().ok()) {
        Some(code::UNSUPPORTED_VERSION) if lists_modern(json::at(error, &["data", "supported"])) => Verdict::AskAgain,
        Some(code::HEADER_MISMATCH | code::MISSING_CAPABILITY) => Verdict::AskAgain,
        _ => Verdict::Legacy,
    }
}

fn lists_modern(versions: Option<&str>) -> bool {
    versions.is_some_and(|versions| {
        json::elements(versions).filter_map(json::string).any(|version| version == Version::MODERN.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let modern = r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#;
        let result = r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#;
        let again = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"data":{"supported":["2026-07-28"]}}}"#;
        let other = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"data":{"supported":["2027-01-01"]}}}"#;
        let error = |code: i64| format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"m"}}}}"#);
        let unknown = |status| Verdict::Unknown(CallError::Status(status));
        for (status, body, expected) in [
            (200, modern, Verdict::Modern(result)),
            (200, r#"{"result":{}}"#, Verdict::Legacy),
            (200, r#"{"result":{"supportedVersions":["2025-11-25"]}}"#, Verdict::Legacy),
            (200, "hello", Verdict::Legacy),
            (400, again, Verdict::AskAgain),
            (200, again, Verdict::AskAgain),
            (400, other, Verdict::Legacy),
            (400, &error(-32020), Verdict::AskAgain),
            (400, &error(-32000), Verdict::Legacy),
            (404, &error(-32601), Verdict::Legacy),
            (404, "Not Found", Verdict::Legacy),
            (405, "", Verdict::Legacy),
            (401, &error(-32000), unknown(401)),
            (429, "", unknown(429)),
            (500, &error(-32603), Verdict::Legacy),
            (500, "oops", unknown(500)),
            (503, &error(-32603), unknown(503)),
        ] {
            assert_eq!(judge_http(status, body), expected, "{status} {body}");
        }
    }
}

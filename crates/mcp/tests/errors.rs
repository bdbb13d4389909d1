//! Errors as tables (P7): codes of the specification only, whose fault it is and whether to retry, no internals in
//! texts, and no code that the other era does not know.

use enfilade_mcp::classify::{Headers, classify};
use enfilade_mcp::envelope::{METHOD_BYTES_MAX, Request};
use enfilade_mcp::error::{code, error_message, modern_status};
use enfilade_mcp::json::{DEPTH_MAX, Malformed};
use enfilade_mcp::translate::{ErrorOutcome, error_to_legacy, error_to_modern};
use enfilade_mcp::{Envelope, Fault, Id, Kind, RpcError};
use serde_json::{Value, json};

/// Codes that the gateway itself may send: JSON-RPC's and those that 2026-07-28 defines.
const OURS: [i64; 8] = [-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022];
/// What a text for clients must not have: paths, Rust, and the names of libraries.
const INTERNALS: [&str; 11] =
    ["/", "panicked", "unwrap", "::", ".rs", "Some(", "None", "Err(", "serde", "tokio", "RawValue"];
/// Error texts are short, whatever the request was.
const MESSAGE_CHARS_MAX: usize = 512;

fn constructed() -> Vec<(RpcError, i64, u16, Fault, bool)> {
    use Fault::{Client, Gateway, Upstream};
    let mut rows = vec![
        (RpcError::invalid_request("a batch stands here"), -32600, 400, Client, false),
        (RpcError::method_not_found("nothing"), -32601, 404, Client, false),
        (RpcError::invalid_params("the cursor does not belong to this list"), -32602, 200, Client, false),
        (RpcError::header_mismatch("Mcp-Name is missing"), -32020, 400, Client, false),
        (RpcError::missing_capability(r#"{"elicitation":{}}"#), -32021, 400, Client, false),
        (RpcError::unsupported_version("1900-01-01"), -32022, 400, Client, false),
        (RpcError::upstream(true, "the upstream is down"), -32603, 200, Upstream, true),
        (RpcError::upstream(false, "the outcome is unknown"), -32603, 200, Upstream, false),
        (RpcError::gateway(true, "the gateway is stopping"), -32603, 200, Gateway, true),
        (RpcError::gateway(false, "the gateway failed"), -32603, 200, Gateway, false),
        (RpcError::gateway(false, String::from("x")).with("uri", "\"a:1\"".to_owned()), -32603, 200, Gateway, false),
    ];
    let malformed = [
        Malformed::Utf8(7),
        Malformed::Grammar { line: 1, column: 2 },
        Malformed::Depth,
        Malformed::Duplicate("id".to_owned()),
        Malformed::NotAnObject,
    ];
    rows.extend(malformed.map(|why| (RpcError::parse(&why), -32700, 400, Client, false)));
    rows
}

/// The `error` object of an error's whole message, after a check of everything that all errors share.
fn sound(error: &RpcError) -> Value {
    let text = error.message(None);
    let whole: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!((&whole["jsonrpc"], whole.get("id")), (&json!("2.0"), None));
    let object = whole["error"].clone();
    assert!(OURS.contains(&error.code) && object["code"] == error.code, "{text}");
    let message = object["message"].as_str().unwrap();
    assert!(!message.is_empty() && message.chars().count() <= MESSAGE_CHARS_MAX, "{} characters", message.len());
    assert!(matches!(object["data"]["fault"].as_str(), Some("client" | "upstream" | "gateway")), "{text}");
    assert!(object["data"]["retry"].is_boolean(), "{text}");
    object
}

#[test]
fn every_constructor() {
    for (error, code, status, fault, retry) in constructed() {
        let object = sound(&error);
        assert_eq!(object["code"], code, "{error:?}");
        assert_eq!(modern_status(code), status, "{error:?}");
        assert_eq!((&object["data"]["fault"], &object["data"]["retry"]), (&json!(fault.as_str()), &json!(retry)));
        for internal in INTERNALS {
            assert!(!error.message.contains(internal), "{internal:?} in {:?}", error.message);
        }
    }
    let data = |error: RpcError| sound(&error)["data"].clone();
    let expected = json!({"fault": "client", "retry": false, "supported": ["2026-07-28"], "requested": "\"\n"});
    assert_eq!(data(RpcError::unsupported_version("\"\n")), expected);
    let expected = json!({"fault": "client", "retry": false, "requiredCapabilities": {"sampling": {"tools": {}}}});
    assert_eq!(data(RpcError::missing_capability(r#"{"sampling":{"tools":{}}}"#)), expected);
    let expected = json!({"fault": "gateway", "retry": true, "uri": "a:1", "\"": null});
    let error = RpcError::gateway(true, "x").with("uri", "\"a:1\"".to_owned()).with("\"", "null".to_owned());
    assert_eq!(data(error), expected);
}

#[test]
fn ids_come_back_as_they_are() {
    for id in ["1", "-1", "0", "\"1\"", "\"\"", "\"é\\n\"", "9007199254740993", "123456789012345678901234567890"] {
        let id = Id::from_json(id).unwrap();
        for (error, ..) in constructed() {
            let head = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":{},"#, id.as_json(), error.code);
            let text = error.message(Some(&id));
            assert!(text.starts_with(&head), "{text}");
            assert_eq!(error_message(Some(&id), &error.to_json()), text);
        }
    }
}

/// Requests that are wrong in every way this crate knows, with words that a careless text would repeat.
fn wrong_messages() -> Vec<Vec<u8>> {
    let long = serde_json::to_string(&"é\"\u{1}".repeat(4000)).unwrap();
    let long = long.trim_matches('"');
    let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
    let mut texts: Vec<Vec<u8>> = [
        String::new(),
        "{".into(),
        "[]".into(),
        "7".into(),
        deep,
        format!("\"{long}"),
        format!(r#"{{"{long}":1,"{long}":2}}"#),
        format!(r#"{{"jsonrpc":"{long}","id":1,"method":"a"}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":"{long}","method":"a"}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{long}"}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":"{long}"}}"#),
        r#"{"jsonrpc":"2.0","id":1}"#.into(),
        r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#.into(),
        r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#.into(),
        r#"{"jsonrpc":"2.0","result":{}}"#.into(),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"{long}":1,"{long}":2}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"_meta":{{"{long}":1,"{long}":2}}}}}}"#),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":7}}"#.into(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.into(),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(),
    ]
    .map(String::into_bytes)
    .into();
    let version = r#""io.modelcontextprotocol/protocolVersion""#;
    let capabilities = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
    for meta in
        [format!("{version}:7"), format!(r#"{version}:"{long}""#), format!(r#"{version}:"{long}",{capabilities}"#)]
    {
        texts.push(
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{{meta}}}}}}}"#).into_bytes(),
        );
    }
    texts.push(b"{\"jsonrpc\":\"\xff\"}".to_vec());
    texts
}

#[test]
fn refusals_of_whatever_is_wrong_are_short_and_say_nothing_of_us() {
    // A client's own words and the names of the specification are no internals.
    let theirs = ["io.modelcontextprotocol/", "tools/call"];
    let mut seen = Vec::new();
    for bytes in wrong_messages() {
        let errors: Vec<RpcError> = match Envelope::parse(&bytes) {
            Err(refusal) => vec![refusal.error],
            Ok(envelope) => [None, Some("2026-07-28"), Some("2025-11-25")]
                .into_iter()
                .filter_map(|version| {
                    let own = match &envelope.kind {
                        Kind::Request(Request { method, .. }) => Some(method.as_ref()),
                        _ => None,
                    };
                    let headers = Headers { version, method: own, ..Headers::default() };
                    Some(classify(headers, &envelope.kind).err()?.error)
                })
                .collect(),
        };
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert!(!errors.is_empty(), "{shown} is refused");
        for error in errors {
            sound(&error);
            let text = theirs.iter().fold(error.message.to_string(), |text, word| text.replace(word, ""));
            for internal in INTERNALS {
                assert!(!text.contains(internal), "{internal:?} in {text:?}, for {shown}");
            }
            seen.push(error.code);
        }
    }
    for code in [code::PARSE, code::INVALID_REQUEST, code::INVALID_PARAMS, code::HEADER_MISMATCH] {
        assert!(seen.contains(&code), "{code} was never seen");
    }
}

#[test]
fn unknown_methods_and_versions_are_repeated_in_part() {
    let long = "\"é".repeat(METHOD_BYTES_MAX);
    let shown: String = long.chars().take(64).collect();
    assert_eq!(sound(&RpcError::method_not_found(&long))["message"], format!("Method not found: {shown}"));
    assert_eq!(sound(&RpcError::unsupported_version(&long))["data"]["requested"], shown);
}

#[test]
fn statuses_of_all_codes() {
    for code in -33000..=-31000 {
        let status = match code {
            -32700 | -32600 | -32020 | -32021 | -32022 => 400,
            -32601 => 404,
            _ => 200,
        };
        assert_eq!(modern_status(code), status, "{code}");
    }
    assert_eq!([modern_status(i64::MIN), modern_status(0), modern_status(400), modern_status(i64::MAX)], [200; 4]);
}

const METHODS: [&str; 5] = ["resources/read", "tools/call", "prompts/get", "tools/list", "x/unknown"];
/// Error objects around a code; `data` with and without what the bridge reads, and spaces that must stay.
const SHAPES: [(&str, &str); 4] = [
    (r#"{"code":"#, r#","message":"why"}"#),
    (r#"{"message":"why \u00e9","data":{"uri":"file:///a","n":1.0},"code":"#, "}"),
    (r#"{ "code" : "#, r#" , "message":"", "data" : {"requiredCapabilities":{"sampling":{}},"uri":7}, "more":[1] }"#),
    (r#"{"data":"code","code":"#, r#","message":"\"code\":1"}"#),
];

/// Every code, method and shape once, the most important codes among them.
fn upstream_errors() -> impl Iterator<Item = (i64, &'static str, (&'static str, &'static str))> {
    (-33000..=-31000).chain([0, 1, 404, i64::MIN, i64::MAX]).flat_map(|code| {
        METHODS.into_iter().flat_map(move |method| SHAPES.into_iter().map(move |shape| (code, method, shape)))
    })
}

/// The code of `text`, which must be `shape` around it and nothing else.
fn code_within(text: &str, (head, tail): (&str, &str)) -> i64 {
    let code = text.strip_prefix(head).and_then(|text| text.strip_suffix(tail));
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("more than the code differs: {text}"))
}

#[test]
fn errors_to_modern_have_codes_that_modern_clients_know() {
    for (code, method, shape) in upstream_errors() {
        let error = format!("{}{code}{}", shape.0, shape.1);
        let changed = error_to_modern(&error, method);
        let after = code_within(changed.as_deref().unwrap_or(&error), shape);
        let expected = match code {
            -32002 if method == "resources/read" => -32602,
            -32002 | -32099..=-32023 => -32603,
            _ => code,
        };
        assert_eq!(after, expected, "{error} of {method}");
        assert!(after != -32002 && after != -32042, "{error} of {method}");
        assert!(!(-32099..=-32020).contains(&after) || OURS.contains(&after), "{error} of {method}");
        assert_eq!(changed.is_some(), after != code, "only what must change is copied: {error}");
        assert_eq!(error_to_modern(changed.as_deref().unwrap_or(&error), method), None, "once is enough: {error}");
    }
}

#[test]
fn errors_to_legacy_have_codes_that_legacy_clients_know() {
    let mut results = 0;
    for (code, method, shape) in upstream_errors() {
        let error = format!("{}{code}{}", shape.0, shape.1);
        let after = match error_to_legacy(&error, method) {
            None => code,
            Some(ErrorOutcome::Error(text)) => code_within(&text, shape),
            Some(ErrorOutcome::ToolResult(text)) => {
                assert_eq!((code, method), (-32021, "tools/call"), "{error}");
                let result: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&result["isError"], &result["content"][0]["type"]), (&json!(true), &json!("text")));
                results += 1;
                continue;
            }
        };
        let has_uri = shape.0.contains("file:///a");
        let expected = match code {
            -32602 if method == "resources/read" && has_uri => -32002,
            -32021 => -32602,
            -32020 | -32022 | -32042 => -32603,
            _ => code,
        };
        assert_eq!(after, expected, "{error} of {method}");
        assert!(!(-32022..=-32020).contains(&after), "{error} of {method}");
    }
    assert_eq!(results, SHAPES.len());
}

/// A missing resource is one in both eras, there and back, with its URI.
#[test]
fn a_missing_resource_stays_one() {
    let legacy = r#"{"code":-32002,"message":"Resource not found","data":{"uri":"file:///a"}}"#;
    let modern = r#"{"code":-32602,"message":"Resource not found","data":{"uri":"file:///a"}}"#;
    assert_eq!(error_to_modern(legacy, "resources/read").as_deref(), Some(modern));
    assert_eq!(error_to_legacy(modern, "resources/read"), Some(ErrorOutcome::Error(legacy.to_owned())));
}

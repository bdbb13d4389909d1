//! Literal answers of the bench upstream.

use serde_json::{Value, json};

use super::*;

fn meta(version: &str) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn send(head: &Head, message: &Value, sessions: &mut Sessions) -> (u16, Value, Option<String>) {
    let reply = post(head, message.to_string().as_bytes(), sessions);
    let body = if reply.body.is_empty() { Value::Null } else { serde_json::from_slice(&reply.body).expect("JSON") };
    (reply.status.as_u16(), body, reply.session)
}

fn open(sessions: &mut Sessions) -> String {
    let init =
        json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {"protocolVersion": "2025-06-18"}});
    let (status, body, session) = send(&Head::default(), &init, sessions);
    assert_eq!((status, &body["id"], &body["result"]["protocolVersion"]), (200, &json!("a"), &json!("2025-06-18")));
    session.expect("session id")
}

#[test]
fn a_legacy_session_lives_from_initialize_to_delete() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions);
    let head = Head { session: Some(&session), version: Some(LEGACY_VERSION), ..Head::default() };
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(send(&head, &initialized, &mut sessions), (202, Value::Null, None));
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert_eq!(send(&head, &list, &mut sessions).1["result"]["tools"][0]["name"], TOOL);
    assert_eq!(send(&Head::default(), &list, &mut sessions).0, 400);
    assert_eq!(delete(&head, &mut sessions).status, 200);
    assert_eq!(send(&head, &list, &mut sessions).0, 404);
    assert_eq!(delete(&head, &mut sessions).status, 404);
}

#[test]
fn an_unknown_version_is_negotiated_down() {
    let init = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2026-07-28"}});
    let (_, body, _) = send(&Head::default(), &init, &mut Sessions::default());
    assert_eq!(body["result"]["protocolVersion"], LEGACY_VERSION);
}

#[test]
fn the_echo_returns_the_very_bytes() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions);
    let head = Head { session: Some(&session), ..Head::default() };
    let body = br#"{"jsonrpc":"2.0","id":"x\u0041","method":"tools/call","params":{"name":"echo","arguments":{"text":"a\n\u00e9\"b"}}}"#;
    let reply = post(&head, body, &mut sessions);
    let want = r#"{"jsonrpc":"2.0","id":"x\u0041","result":{"content":[{"type":"text","text":"a\n\u00e9\"b"}],"isError":false}}"#;
    assert_eq!(reply.body, want);
}

#[test]
fn faulty_calls_are_refused() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions);
    let head = Head { session: Some(&session), ..Head::default() };
    let mut call = |params: Value| {
        send(&head, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}), &mut sessions).1
    };
    assert_eq!(call(json!({"name": "echo", "arguments": {"text": 5}}))["result"]["isError"], true);
    assert_eq!(call(json!({"name": "echo"}))["result"]["isError"], true);
    assert_eq!(call(json!({"name": "other", "arguments": {}}))["error"]["code"], INVALID_PARAMS);
    let unknown = json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/list"});
    assert_eq!(send(&head, &unknown, &mut sessions).1["error"]["code"], METHOD_NOT_FOUND);
    assert_eq!(post(&head, b"{", &mut sessions).status, 400);
    assert_eq!(post(&head, b"[]", &mut sessions).status, 400);
}

#[test]
fn modern_requests_are_checked_in_order() {
    let request = |method: &str, name: Option<&str>, version: &str| {
        let mut params = json!({"_meta": meta(version), "arguments": {"text": "hi"}});
        if let Some(name) = name {
            params["name"] = json!(name);
        }
        json!({"jsonrpc": "2.0", "id": 9, "method": method, "params": params})
    };
    let cases = [
        ("2026-07-28", "server/discover", None, "2026-07-28", 200, Value::Null),
        ("2026-07-28", "tools/list", None, "2026-07-28", 200, Value::Null),
        ("2026-07-28", "tools/call", Some("echo"), "2026-07-28", 200, Value::Null),
        ("2026-07-28", "initialize", None, "2026-07-28", 404, json!(METHOD_NOT_FOUND)),
        ("2025-11-25", "tools/list", None, "2026-07-28", 400, json!(HEADER_MISMATCH)),
        ("1900-01-01", "tools/list", None, "1900-01-01", 400, json!(UNSUPPORTED_VERSION)),
    ];
    for (header, method, name, version, status, code) in cases {
        let session = Some("ignored");
        let head = Head { version: Some(header), method: Some(method), name, session, ..Head::default() };
        let (got, body, session) = send(&head, &request(method, name, version), &mut Sessions::default());
        assert_eq!((got, &body["error"]["code"], session), (status, &code, None), "{method} {header}");
        if status == 200 {
            assert_eq!(body["result"]["resultType"], "complete");
        }
    }
    let name = Some("other");
    let head = Head { version: Some(MODERN_VERSION), method: Some("tools/call"), name, ..Head::default() };
    let (_, body, _) = send(&head, &request("tools/call", Some("echo"), MODERN_VERSION), &mut Sessions::default());
    assert_eq!(body["error"]["code"], HEADER_MISMATCH);
}

#[test]
fn a_modern_header_without_meta_lacks_fields() {
    let head = Head { version: Some(MODERN_VERSION), ..Head::default() };
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let (status, body, _) = send(&head, &list, &mut Sessions::default());
    assert_eq!((status, &body["error"]["code"]), (400, &json!(INVALID_PARAMS)));
}

#[test]
fn who_called_is_told() {
    let mut sessions = Sessions::default();
    let session = open(&mut sessions);
    let head = Head { session: Some(&session), caller: "node-7", ..Head::default() };
    let id = 9;
    let body = post(&head, &crate::wire::ask_where(id), &mut sessions).body;
    assert_eq!(crate::wire::text(crate::wire::Era::Legacy, id, &body), Ok("node-7".into()));
}

//! What each revision may send and what it gets, over HTTP/1.1 and HTTP/2: media types, methods, versions, sessions.

mod common;

use common::{Node, POST, forged, legacy, modern, modern_headers, modern_of, session};
use enfilade_edge::Protocol;

const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const INITIALIZE: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;

/// A row: what is sent, then the status, the code and what the owner was asked.
struct Row {
    name: String,
    method: &'static str,
    headers: Vec<(String, String)>,
    body: String,
    expected: (u16, Option<i64>, Option<String>),
}

fn row(name: &str, method: &'static str, headers: &[(&str, &str)], body: &str, status: u16, code: Option<i64>) -> Row {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Row { name: name.into(), method, headers, body: body.into(), expected: (status, code, None) }
}

fn post(name: &str, headers: &[(&str, &str)], body: &str, status: u16, code: Option<i64>) -> Row {
    row(name, "POST", &[&POST, headers].concat(), body, status, code)
}

impl Row {
    /// The owner is asked this; without it, nothing.
    fn asks(mut self, what: impl Into<String>) -> Self {
        self.expected.2 = Some(what.into());
        self
    }
}

async fn run(rows: Vec<Row>) {
    let node = Node::start(|_| ()).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = node.client(protocol).await;
        for row in &rows {
            let name = format!("{} over {protocol:?}", row.name);
            let headers: Vec<_> = row.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answer = client.ask(row.method, "/mcp", &headers, row.body.clone()).await;
            let asked = node.owner.asked().pop();
            assert_eq!((answer.status, answer.code(), asked), row.expected, "{name}: {:?}", answer.body);
            if !answer.body.is_empty() {
                assert_eq!(answer.headers["content-type"], "application/json", "{name}");
                assert_ne!(answer.json().get("id"), Some(&serde_json::Value::Null), "{name}");
            }
            assert_eq!(answer.headers.contains_key("allow"), answer.status == 405, "{name}");
            assert!(!answer.headers.contains_key("set-cookie"), "{name}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn media_types() {
    let (json, events) = ("application/json", "text/event-stream");
    let (both, session) = ("application/json, text/event-stream", session());
    let body = legacy("ping");
    let send = |name: &str, headers: &[(&str, &str)], status, code| {
        let row = row(name, "POST", &[headers, &[("mcp-session-id", &session)]].concat(), &body, status, code);
        if status == 200 { row.asks("legacy ping -") } else { row }
    };
    let bad = Some(-32600);
    run(vec![
        send("both", &[("accept", both), ("content-type", json)], 200, None),
        send("two headers", &[("accept", json), ("accept", events), ("content-type", json)], 200, None),
        send("anything", &[("accept", "*/*"), ("content-type", "application/json; charset=utf-8")], 200, None),
        send("no Accept", &[("content-type", json)], 406, bad),
        send("JSON only", &[("accept", json), ("content-type", json)], 406, bad),
        send("events only", &[("accept", events), ("content-type", json)], 406, bad),
        send("HTML", &[("accept", "text/html"), ("content-type", json)], 406, bad),
        send("refused by weight", &[("accept", "*/*, text/event-stream;q=0"), ("content-type", json)], 406, bad),
        send("no Content-Type", &[("accept", both)], 415, bad),
        send("text", &[("accept", both), ("content-type", "text/plain")], 415, bad),
        send("form", &[("accept", both), ("content-type", "application/x-www-form-urlencoded")], 415, bad),
        send("gzip", &[("accept", both), ("content-type", json), ("content-encoding", "gzip")], 415, bad),
    ])
    .await;
}

#[tokio::test]
async fn sessions_of_the_legacy_revisions() {
    let (session, forged) = (session(), forged());
    let mut rows = vec![
        post("initialize", &[], INITIALIZE, 200, None).asks("initialize"),
        post("initialize, modern header", &[("mcp-protocol-version", "2026-07-28")], INITIALIZE, 200, None)
            .asks("initialize"),
        post("initialize, any header", &[("mcp-protocol-version", "1")], INITIALIZE, 200, None).asks("initialize"),
        post("no session", &[], &legacy("ping"), 400, Some(-32600)),
        post("forged session", &[("mcp-session-id", &forged)], &legacy("ping"), 404, Some(-32600)),
        post("malformed session", &[("mcp-session-id", "x")], &legacy("ping"), 404, Some(-32600)),
        post("empty session", &[("mcp-session-id", "")], &legacy("ping"), 404, Some(-32600)),
        post(
            "session twice",
            &[("mcp-session-id", &session), ("mcp-session-id", &session)],
            &legacy("ping"),
            400,
            Some(-32600),
        ),
        post("session not ASCII", &[("mcp-session-id", "é")], &legacy("ping"), 400, Some(-32600)),
        post("no version", &[("mcp-session-id", &session)], &legacy("ping"), 200, None).asks("legacy ping -"),
        post(
            "notification",
            &[("mcp-session-id", &session)],
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            202,
            None,
        )
        .asks("legacy notifications/initialized -"),
        post("response", &[("mcp-session-id", &session)], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 202, None)
            .asks("legacy response -"),
        post("the owner's status", &[("mcp-session-id", &session)], &legacy("unknown"), 404, Some(-32601))
            .asks("legacy unknown -"),
        row("GET, no Accept", "GET", &[("mcp-session-id", &session)], "", 406, Some(-32600)),
        row("GET, JSON", "GET", &[("mcp-session-id", &session), ("accept", "application/json")], "", 406, Some(-32600)),
        row("GET, forged", "GET", &[("mcp-session-id", &forged), ("accept", "*/*")], "", 404, Some(-32600)),
        row("GET, no session", "GET", &[("accept", "text/event-stream")], "", 405, Some(-32600)),
        row(
            "GET, bad event id",
            "GET",
            &[("accept", "*/*"), ("mcp-session-id", &session), ("last-event-id", "é")],
            "",
            400,
            Some(-32600),
        ),
        row("DELETE", "DELETE", &[("mcp-session-id", &session)], "", 200, None).asks("end"),
        row("DELETE, forged", "DELETE", &[("mcp-session-id", &forged)], "", 404, Some(-32600)),
        row("DELETE, no session", "DELETE", &[], "", 405, Some(-32600)),
        row("PUT", "PUT", &POST, "{}", 405, Some(-32600)),
        row("PATCH", "PATCH", &POST, "{}", 405, Some(-32600)),
    ];
    for version in LEGACY {
        let headers = [("mcp-session-id", session.as_str()), ("MCP-Protocol-Version", version)];
        rows.push(post(version, &headers, &legacy("ping"), 200, None).asks(format!("legacy ping {version}")));
        rows.push(row(version, "DELETE", &headers, "", 200, None).asks("end"));
    }
    for version in ["1", "2099-01-01", "", "2025-11-25 x", "é"] {
        let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", version)];
        rows.push(post(version, &headers, &legacy("ping"), 400, Some(-32600)));
        rows.push(row(version, "DELETE", &headers, "", 400, Some(-32600)));
    }
    run(rows).await;
}

#[tokio::test]
async fn the_modern_revision() {
    let session = session();
    let header = |method: &'static str| [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    let version = ("mcp-protocol-version", "2026-07-28");
    let with_session = [("mcp-session-id", session.as_str()), version];
    let list = modern("tools/list");
    let asked = "modern tools/list at 0 by anonymous";
    run(vec![
        post("a request", &header("tools/list"), &list, 200, None).asks(asked),
        post(
            "a session id plays no part",
            &[&header("tools/list")[..], &[("mcp-session-id", "x")]].concat(),
            &list,
            200,
            None,
        )
        .asks(asked),
        post(
            "a repeated session id neither",
            &[&header("tools/list")[..], &[("mcp-session-id", "x"); 2]].concat(),
            &list,
            200,
            None,
        )
        .asks(asked),
        post("no Mcp-Method", &[version], &list, 400, Some(-32020)),
        post("another Mcp-Method", &header("tools/call"), &list, 400, Some(-32020)),
        post(
            "Mcp-Method twice",
            &[&header("tools/list")[..], &[("mcp-method", "tools/list")]].concat(),
            &list,
            400,
            Some(-32020),
        ),
        post("no version header", &[("mcp-method", "tools/list")], &list, 400, Some(-32020)),
        post(
            "another version header",
            &[("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/list")],
            &list,
            400,
            Some(-32020),
        ),
        post(
            "unknown version",
            &[("mcp-protocol-version", "v9"), ("mcp-method", "tools/list")],
            &modern_of("v9", "tools/list"),
            400,
            Some(-32022),
        ),
        post("no metadata", &header("tools/list"), &legacy("tools/list"), 400, Some(-32602)),
        post("ping is gone", &header("ping"), &modern("ping"), 404, Some(-32601)),
        post("initialize is gone", &header("initialize"), &modern("initialize"), 404, Some(-32601)),
        post("the owner's 404", &header("unknown"), &modern("unknown"), 404, Some(-32601))
            .asks("modern unknown at 0 by anonymous"),
        post("notification", &[version], r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#, 202, None),
        post("response", &[version], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 400, Some(-32600)),
        post("batch", &[version], &format!("[{list}]"), 400, Some(-32600)),
        post("batch with a session id", &with_session, &format!("[{list}]"), 400, Some(-32600)),
        row("GET", "GET", &[("accept", "*/*"), version], "", 405, Some(-32600)),
        row("GET with a session id", "GET", &[&[("accept", "*/*")][..], &with_session].concat(), "", 405, Some(-32600)),
        row("DELETE with a session id", "DELETE", &with_session, "", 405, Some(-32600)),
    ])
    .await;
}

#[tokio::test]
async fn garbage_and_batches() {
    let session = session();
    let id = ("mcp-session-id", session.as_str());
    let ping = legacy("ping");
    run(vec![
        post("empty", &[id], "", 400, Some(-32700)),
        post("not JSON", &[id], "{", 400, Some(-32700)),
        post("no message", &[id], "7", 400, Some(-32600)),
        post("null id", &[id], r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, 400, Some(-32600)),
        post("another JSON-RPC", &[id], r#"{"jsonrpc":"1.0","id":7,"method":"a"}"#, 400, Some(-32600)),
        post("both", &[id], r#"{"jsonrpc":"2.0","id":7,"method":"a","result":{}}"#, 400, Some(-32600)),
        post("batch", &[id], &format!(" [{ping}]"), 202, None).asks(format!("batch [{ping}]")),
        post("batch, 2025-03-26", &[id, ("mcp-protocol-version", "2025-03-26")], &format!("[{ping}]"), 202, None)
            .asks(format!("batch [{ping}]")),
        post("batch, unknown version", &[id, ("mcp-protocol-version", "1")], &format!("[{ping}]"), 400, Some(-32600)),
        post("batch, no session", &[], &format!("[{ping}]"), 400, Some(-32600)),
        post("batch, forged session", &[("mcp-session-id", &forged())], &format!("[{ping}]"), 404, Some(-32600)),
        post("batch, not JSON", &[id], "[", 400, Some(-32700)),
    ])
    .await;
}

#[tokio::test]
async fn errors_carry_the_id_that_was_sent() {
    let node = Node::start(|_| ()).await;
    let mut client = node.client(Protocol::Http1).await;
    for (body, id) in [
        (r#"{"jsonrpc":"2.0","id":"a","method":"x"}"#, "\"a\""),
        (r#"{"jsonrpc":"2.0","id":-5,"method":"x"}"#, "-5"),
        (r#"{"jsonrpc":"1.0","id":9,"method":"x"}"#, "9"),
    ] {
        let answer = client.ask("POST", "/mcp", &POST, body).await;
        assert_eq!((answer.status, answer.json()["id"].to_string().as_str()), (400, id));
    }
    node.stop().await;
}

#[tokio::test]
async fn paths_sessions_and_headers_reach_the_owner() {
    let node = Node::start(|_| ()).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = node.client(protocol).await;
        let answer = client.ask("POST", "/second", &modern_headers("tools/list"), modern("tools/list")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(node.owner.asked().pop().as_deref(), Some("modern tools/list at 1 by anonymous"));
        for path in ["/", "/mcp/", "/other", "/MCP"] {
            let answer = client.ask("POST", path, &POST, INITIALIZE).await;
            assert_eq!((answer.status, answer.code()), (404, Some(-32600)), "{path}");
        }
        let answer = client.ask("POST", "/mcp?x=1", &POST, INITIALIZE).await;
        assert_eq!(answer.headers["mcp-session-id"], session().as_str());
        let answer = client.ask("GET", "/healthz", &[], "").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        for (values, seen) in [(&["eu"][..], "eu"), (&[], "absent"), (&["a", "a"], "\0"), (&["é"], "\0")] {
            let params: Vec<_> = values.iter().map(|value| ("Mcp-Param-Region", *value)).collect();
            let headers = [&modern_headers("headers")[..], &params].concat();
            let answer = client.ask("POST", "/mcp", &headers, modern("headers")).await;
            assert_eq!(answer.json()["result"], seen, "{values:?}");
        }
    }
    node.stop().await;
}

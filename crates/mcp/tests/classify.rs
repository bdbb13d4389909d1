//! BRIDGE.md rule 1 as tables: which era a POST, GET or DELETE belongs to, and what is answered at the edge.

use Want::{Accepted, Initialize, Modern, Refused, Session};
use enfilade_mcp::classify::{Class, Headers, classify, classify_bodiless, classify_framed};
use enfilade_mcp::{Envelope, Version};
use serde_json::{Value, json};

/// What a message must turn out to be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Want {
    /// A modern request.
    Modern,
    /// A modern notification: 202.
    Accepted,
    /// A legacy `initialize`.
    Initialize,
    /// Traffic of the legacy session that was named.
    Session,
    /// An HTTP status and a JSON-RPC code.
    Refused(u16, i64),
}

/// (e): neither metadata, nor `initialize`, nor a session.
const NO_SESSION: Want = Refused(400, -32600);
/// (c): a session cannot have this version.
const BAD_VERSION: Want = Refused(400, -32600);
/// A modern client posts no responses.
const POSTED: Want = Refused(400, -32600);
/// (d), or one of the required fields is missing.
const NO_META: Want = Refused(400, -32602);
const HEADER: Want = Refused(400, -32020);
const VERSION: Want = Refused(400, -32022);
const NO_METHOD: Want = Refused(404, -32601);

const SESSION: &str = "a-session";
const GARBAGE: [&str; 9] = [
    "",
    " ",
    "2025-11-26",
    "2026-07-29",
    " 2026-07-28",
    "2025-11-25, 2025-11-25",
    "DRAFT-2026-v1",
    "é",
    "2024-11-05\0",
];

const REQUESTS: [&str; 6] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
    r#"{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"t","_meta":{"progressToken":1}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"x/unknown"}"#,
    // Without its version, modern metadata makes nothing modern.
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}}"#,
];
const NOTIFICATIONS: [&str; 3] = [
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    r#"{"jsonrpc":"2.0","method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#,
];
const RESPONSES: [&str; 4] = [
    r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    r#"{"jsonrpc":"2.0","id":"1","error":{"code":-1,"message":"no"}}"#,
    r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"what?"}}"#,
    // Only a request's params say that it is modern.
    r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
];
const INITIALIZES: [&str; 5] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{}}}"#,
    r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2026-07-28"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":7,"_meta":{"progressToken":1}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#,
];

fn classified(headers: Headers<'_>, text: &str) -> Want {
    let envelope = Envelope::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    want(classify(headers, &envelope.kind), headers, text)
}

/// Of a transport without headers.
fn framed(session: Option<&str>, text: &str) -> Want {
    let envelope = Envelope::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    want(classify_framed(session, &envelope.kind), Headers { session, ..Headers::default() }, text)
}

fn want(class: Result<Class<'_>, enfilade_mcp::classify::Refused>, headers: Headers<'_>, text: &str) -> Want {
    match class {
        Ok(Class::Modern(_)) => Modern,
        Ok(Class::ModernNotification) => Accepted,
        Ok(Class::Initialize) => Initialize,
        Ok(Class::Legacy { session }) => {
            assert_eq!(Some(session), headers.session, "the session is the one that was named: {text}");
            Session
        }
        Err(refused) => Refused(refused.status, refused.error.code),
    }
}

/// One row for one `MCP-Protocol-Version`; columns: request, notification, response, `initialize`.
struct Row {
    version: Option<&'static str>,
    without_session: [Want; 4],
    with_session: [Want; 4],
}

#[rustfmt::skip]
fn rows_without_metadata() -> Vec<Row> {
    let row = |version, without_session, with_session| Row { version, without_session, with_session };
    let legacy_without = [NO_SESSION, NO_SESSION, NO_SESSION, Initialize];
    let legacy_with =    [Session,    Session,    Session,    Initialize];
    let mut rows = vec![
        //                       request  notification response initialize
        row(None,               legacy_without,                             legacy_with),
        row(Some("2024-11-05"), legacy_without,                             legacy_with),
        row(Some("2025-03-26"), legacy_without,                             legacy_with),
        row(Some("2025-06-18"), legacy_without,                             legacy_with),
        row(Some("2025-11-25"), legacy_without,                             legacy_with),
        row(Some("2026-07-28"), [NO_META, Accepted, POSTED, Initialize],    [BAD_VERSION, BAD_VERSION, BAD_VERSION, Initialize]),
    ];
    rows.extend(GARBAGE.map(|garbage| 
        row(Some(garbage),      [NO_META, NO_META, POSTED, Initialize],     [BAD_VERSION, BAD_VERSION, BAD_VERSION, Initialize])));
    rows
}

#[test]
fn without_modern_metadata_headers_decide() {
    let columns: [&[&str]; 4] = [&REQUESTS, &NOTIFICATIONS, &RESPONSES, &INITIALIZES];
    for row in rows_without_metadata() {
        for (session, wants) in [(None, row.without_session), (Some(SESSION), row.with_session)] {
            for (texts, want) in columns.into_iter().zip(wants) {
                for text in texts {
                    let headers = Headers { version: row.version, session, ..Headers::default() };
                    assert_eq!(classified(headers, text), want, "{headers:?} {text}");
                    // Mirrored headers mean nothing to a message without metadata.
                    let mirrored = Headers { method: Some("x/other"), name: Some("=?base64?!?="), ..headers };
                    assert_eq!(classified(mirrored, text), want, "{mirrored:?} {text}");
                }
            }
        }
    }
    assert_eq!(rows_without_metadata().len(), 1 + Version::ALL.len() + GARBAGE.len());
}

/// A modern message with headers that agree; the tests then change one thing.
#[derive(Debug, Clone)]
struct Post {
    version: Option<&'static str>,
    method: Option<&'static str>,
    name: Option<&'static str>,
    text: String,
}

const META: &str =
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

impl Post {
    fn with_meta(method: &'static str, params: &str, meta: &str) -> Self {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}"_meta":{{{meta}}}}}}}"#);
        Self { version: Some("2026-07-28"), method: Some(method), name: None, text }
    }

    fn new(method: &'static str, params: &str) -> Self {
        Self::with_meta(method, params, META)
    }

    fn call() -> Self {
        Self { name: Some("t"), ..Self::new("tools/call", r#""name":"t","#) }
    }

    fn notification(mut self) -> Self {
        self.text = self.text.replace(r#""id":1,"#, "");
        self
    }
}

/// A session plays no part in a modern message, so each row must hold with one and without.
fn hold(rows: Vec<(&str, Post, Want)>) {
    for (what, post, want) in rows {
        for session in [None, Some(SESSION), Some("")] {
            let headers = Headers { version: post.version, session, method: post.method, name: post.name };
            assert_eq!(classified(headers, &post.text), want, "{what}: {post:?}");
        }
    }
}

#[test]
fn modern_metadata_makes_a_message_modern() {
    let named = |method, params, name| Post { name: Some(name), ..Post::new(method, params) };
    hold(vec![
        ("a list", Post::new("tools/list", ""), Modern),
        ("discovery", Post::new("server/discover", ""), Modern),
        ("listening", Post::new("subscriptions/listen", r#""notifications":{},"#), Modern),
        ("a call", Post::call(), Modern),
        ("a prompt", named("prompts/get", r#""name":"p","#, "p"), Modern),
        ("a resource", named("resources/read", r#""uri":"file:///a b","#, "file:///a b"), Modern),
        ("a task", named("tasks/get", r#""taskId":"1","#, "1"), Modern),
        ("a task's update", named("tasks/update", r#""taskId":"1","#, "1"), Modern),
        ("a task's end", named("tasks/cancel", r#""taskId":"1","#, "1"), Modern),
        ("an unknown method: it may pass (rule 20)", Post::new("x/unknown", ""), Modern),
        (
            "a name that is no ASCII",
            named("tools/call", r#""name":"Hello, 世界","#, "=?base64?SGVsbG8sIOS4lueVjA==?="),
            Modern,
        ),
        ("an escaped name", named("tools/call", r#""name":"\u0074","#, "t"), Modern),
        ("a name with white space around the header", named("tools/call", r#""name":"t","#, " t\t"), Modern),
        ("a name where none belongs", named("tools/list", "", "t"), Modern),
        ("a call without a name is refused later", Post::new("tools/call", ""), Modern),
        ("a notification", Post::new("notifications/cancelled", "").notification(), Accepted),
        (
            "a notification without headers",
            Post { version: None, method: None, ..Post::new("x/y", "") }.notification(),
            Accepted,
        ),
        (
            "a notification of another version",
            Post { version: Some("2025-11-25"), ..Post::new("x/y", "") }.notification(),
            Accepted,
        ),
    ]);
}

#[test]
fn the_fields_of_the_metadata_come_first() {
    const VERSION_ONLY: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let mut rows = vec![
        ("no capabilities", Post::with_meta("tools/list", "", VERSION_ONLY), NO_META),
        (
            "no capabilities, and wrong headers",
            Post { version: None, method: None, ..Post::with_meta("tools/list", "", VERSION_ONLY) },
            NO_META,
        ),
        ("no capabilities, and a removed method", Post::with_meta("ping", "", VERSION_ONLY), NO_META),
    ];
    for version in ["null", "7", "[]", "{}", "true"] {
        let meta = META.replace(r#""2026-07-28""#, version);
        rows.push(("a version that is no string", Post::with_meta("tools/list", "", &meta), NO_META));
    }
    for capabilities in ["null", "7", "[]", r#""{}""#, "true"] {
        let meta = META.replace("{}", capabilities);
        rows.push(("capabilities that are no object", Post::with_meta("tools/list", "", &meta), NO_META));
    }
    hold(rows);
}

#[test]
fn then_the_headers() {
    let call = Post::call();
    let mut rows = vec![
        ("no version header", Post { version: None, ..call.clone() }, HEADER),
        ("no method header", Post { method: None, ..call.clone() }, HEADER),
        ("no name header", Post { name: None, ..call.clone() }, HEADER),
        ("another method", Post { method: Some("tools/list"), ..call.clone() }, HEADER),
        ("the method in other letters", Post { method: Some("Tools/Call"), ..call.clone() }, HEADER),
        ("an empty method", Post { method: Some(""), ..call.clone() }, HEADER),
        ("another name", Post { name: Some("u"), ..call.clone() }, HEADER),
        ("the name in other letters", Post { name: Some("T"), ..call.clone() }, HEADER),
        ("an empty name", Post { name: Some(""), ..call.clone() }, HEADER),
        ("a name that is not Base64", Post { name: Some("=?base64?t?="), ..call.clone() }, HEADER),
        ("a name that is not UTF-8", Post { name: Some("=?base64?/w==?="), ..call.clone() }, HEADER),
        ("a name with a control character", Post { name: Some("t\u{1}"), ..call.clone() }, HEADER),
        ("a removed method under another header", Post { method: Some("tools/list"), ..Post::new("ping", "") }, HEADER),
        ("initialize without headers", Post { version: None, method: None, ..Post::new("initialize", "") }, HEADER),
    ];
    let others = Version::ALL.map(Version::as_str).into_iter().filter(|version| *version != "2026-07-28");
    for other in others.chain(GARBAGE) {
        rows.push(("another version in the header", Post { version: Some(other), ..call.clone() }, HEADER));
        let meta =
            META.replace("2026-07-28", &other.escape_default().to_string().replace("\\u{", "\\u00").replace('}', ""));
        if serde_json::from_str::<Value>(&format!("{{{meta}}}")).is_ok() {
            rows.push(("another version in the body", Post::with_meta("tools/list", "", &meta), HEADER));
        }
    }
    hold(rows);
}

#[test]
fn then_the_version_and_then_the_method() {
    let mut rows = Vec::new();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-29", "DRAFT-2026-v1", ""] {
        let meta = META.replace("2026-07-28", version);
        for method in ["tools/list", "ping", "initialize", "x/unknown"] {
            let post = Post { version: Some(version), ..Post::with_meta(method, "", &meta) };
            rows.push(("a version without metadata, or of no revision", post, VERSION));
        }
    }
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
    ] {
        rows.push(("a removed method", Post::new(method, ""), NO_METHOD));
    }
    hold(rows);
}

#[test]
fn params_that_can_be_read_in_two_ways_are_refused_in_both_eras() {
    const TWICE: [&str; 5] = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":null}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{},"_meta":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","\u006eame":"b"}}"#,
        r#"{"jsonrpc":"2.0","method":"x/y","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/protocolVersion":"2025-11-25"}}}"#,
    ];
    for text in TWICE {
        for version in [None].into_iter().chain(Version::ALL.map(|version| Some(version.as_str()))) {
            for session in [None, Some(SESSION)] {
                let headers = Headers { version, session, ..Headers::default() };
                assert_eq!(classified(headers, text), NO_META, "{headers:?} {text}");
            }
        }
    }
}

#[test]
fn a_modern_request_says_who_it_is() {
    let meta = concat!(
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots": {}},"#,
        r#""io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/logLevel":"debug","progressToken":"p""#
    );
    let read = |meta: &str| {
        let post = Post::with_meta("tools/list", "", meta);
        let envelope = Envelope::parse(post.text.as_bytes()).unwrap();
        let headers = Headers { version: post.version, method: post.method, ..Headers::default() };
        let Ok(Class::Modern(modern)) = classify(headers, &envelope.kind) else { panic!("{meta}") };
        json!([modern.capabilities, modern.client_info, modern.log_level, modern.progress_token])
    };
    assert_eq!(read(meta), json!([r#"{"roots": {}}"#, r#"{"name":"c"}"#, "debug", "\"p\""]));
    assert_eq!(read(META), json!(["{}", null, null, null]));
}

#[test]
fn an_unsupported_version_is_told_what_is_supported() {
    let post =
        Post { version: Some("1900-01-01"), ..Post::with_meta("x/y", "", &META.replace("2026-07-28", "1900-01-01")) };
    let envelope = Envelope::parse(post.text.as_bytes()).unwrap();
    let headers = Headers { version: post.version, method: post.method, ..Headers::default() };
    let error: Value = serde_json::from_str(&classify(headers, &envelope.kind).unwrap_err().error.to_json()).unwrap();
    let data = json!({"fault": "client", "retry": false, "supported": ["2026-07-28"], "requested": "1900-01-01"});
    assert_eq!(error["data"], data);
}

#[test]
fn where_messages_have_no_headers_the_body_decides_alone() {
    let columns: [(&[&str], Want); 4] =
        [(&REQUESTS, Session), (&NOTIFICATIONS, Session), (&RESPONSES, Session), (&INITIALIZES, Initialize)];
    for (texts, with) in columns {
        for text in texts {
            let without = if with == Session { NO_SESSION } else { with };
            assert_eq!((framed(None, text), framed(Some(SESSION), text)), (without, with), "{text}");
        }
    }
    let modern = |version: &str, method: &str, more: &str| {
        let meta = format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
        );
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{more}{meta}}}}}"#)
    };
    for (text, want) in [
        (modern("2026-07-28", "tools/call", r#""name":"t","#), Modern),
        (modern("2026-07-28", "tools/list", ""), Modern),
        (modern("2026-07-29", "tools/list", ""), VERSION),
        (modern("2026-07-28", "ping", ""), NO_METHOD),
        (modern("2026-07-28", "tools/list", "").replace("clientCapabilities", "x"), NO_META),
    ] {
        assert_eq!((framed(None, &text), framed(Some(SESSION), &text)), (want, want), "{text}");
    }
}

#[test]
fn get_and_delete_need_a_session() {
    let mut rows = vec![(None, Err(405), Ok(SESSION))];
    for legacy in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        rows.push((Some(legacy), Err(405), Ok(SESSION)));
    }
    rows.push((Some("2026-07-28"), Err(405), Err(405)));
    rows.extend(GARBAGE.map(|garbage| (Some(garbage), Err(405), Err(400))));
    for (version, without, with) in rows {
        let headers = |session| Headers { version, session, ..Headers::default() };
        assert_eq!(classify_bodiless(headers(None)), without, "{version:?}");
        assert_eq!(classify_bodiless(headers(Some(SESSION))), with, "{version:?} with a session");
    }
}

//! Streamable HTTP: calls, errors, limits, the pool of connections.

mod support;

use enfilade_mcp::{Era, MESSAGE_BYTES_MAX, Version, json as walk};
use enfilade_runtime::Limit;
use enfilade_upstream::{Call, CallError, Config, Connector, Exchange};
use support::*;

const INITIALIZED: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}"#;

/// A legacy server with a session, which answers calls as the test says.
async fn legacy(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| match (request.method.as_str(), request.rpc().as_str()) {
        ("POST", "initialize") => Reply::Plain(
            200,
            "content-type: application/json\r\nmcp-session-id: abc\r\n",
            result(request.id(), INITIALIZED),
        ),
        ("POST", method) if method.starts_with("notifications/") => accepted(),
        ("DELETE", _) => Reply::Plain(200, "", String::new()),
        _ => answer(request),
    })
    .await
}

#[tokio::test]
async fn a_legacy_session_from_open_to_close() {
    let server = legacy(|request| json(result(request.id(), "{}"))).await;
    let connector = connector(Config::http("main", &server.url));
    let opened = connector.open(&hello()).await.unwrap();
    assert_eq!((opened.session_id.as_deref(), opened.version), (Some("abc"), Version::V2025_11_25));
    assert_eq!(&*opened.result, INITIALIZED);
    assert_eq!(call(&*opened.peer, "echo", "{}").await.unwrap().len(), 1);
    opened.peer.cancel(7, "why").await;
    opened.peer.close().await;
    opened.peer.close().await;
    assert!(!opened.peer.is_alive());
    assert_eq!(call(&*opened.peer, "echo", "{}").await.unwrap_err(), CallError::Gone);

    let log = server.received();
    let rpc: Vec<_> = log.iter().map(|r| if r.method == "POST" { r.rpc() } else { r.method.clone() }).collect();
    assert_eq!(rpc, ["initialize", "notifications/initialized", "tools/call", "notifications/cancelled", "DELETE"]);
    assert_eq!(walk::at(&log[0].body, &["params", "capabilities"]), Some(r#"{"elicitation":{}}"#));
    assert_eq!((log[0].header("mcp-session-id"), log[0].header("mcp-protocol-version")), (None, None));
    for request in &log[1..] {
        assert_eq!(request.header("mcp-session-id"), Some("abc"));
        assert_eq!(request.header("mcp-protocol-version"), Some("2025-11-25"));
    }
    assert!(log.iter().all(|request| request.connection == 0), "one connection is enough");
}

#[tokio::test]
async fn a_modern_call_carries_its_headers_and_nothing_else_is_sent() {
    let server = Server::start(|request| match request.rpc().as_str() {
        "server/discover" => json(result(request.id(), r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#)),
        _ => Reply::Plain(
            200,
            "content-type: application/json\r\nmcp-session-id: abc\r\n",
            result(request.id(), r#"{"resultType":"complete"}"#),
        ),
    })
    .await;
    let mut config = Config::http("main", &server.url);
    config.headers.insert("X-Key".to_owned(), "secret".to_owned());
    let connector = connector(config);
    assert_eq!(connector.era().await, Ok(Era::Modern));
    assert_eq!(&*connector.discover().await.unwrap(), r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#);
    let peer = connector.modern().await.unwrap();
    call(&*peer, "naïve", "{}").await.unwrap();
    peer.cancel(1, "").await;
    peer.send("{}".into()).await.unwrap();
    assert!(peer.listen().await.unwrap().is_none());
    call(&*peer, "plain name", "{}").await.unwrap();
    connector.shutdown().await;
    assert_eq!(call(&*peer, "x", "{}").await.unwrap_err(), CallError::Closed);

    let log = server.received();
    let names: Vec<_> = log.iter().map(|r| (r.rpc(), r.header("mcp-name").map(str::to_owned))).collect();
    let expected =
        [("server/discover", None), ("tools/call", Some("=?base64?bmHDr3Zl?=")), ("tools/call", Some("plain name"))];
    assert_eq!(names, expected.map(|(method, name)| (method.to_owned(), name.map(str::to_owned))));
    for request in &log {
        assert_eq!(request.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(request.header("mcp-method"), Some(&*request.rpc()));
        assert_eq!(request.header("accept"), Some("application/json, text/event-stream"));
        assert_eq!((request.header("x-key"), request.header("mcp-session-id")), (Some("secret"), None));
    }
}

#[tokio::test]
async fn a_call_of_a_legacy_session_carries_headers_of_its_own() {
    let server = legacy(|request| json(result(request.id(), "{}"))).await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let id = peer.next_id();
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo"}}}}"#).into();
    let headers = vec![("enfilade-fence".to_owned(), "7.3".to_owned())];
    let call = Call { id, message, method: "tools/call", name: Some("echo"), headers, progress_token: None };
    assert!(matches!(peer.call(call.clone()).await, Ok(Exchange::Answer(_))));
    let unfit = Call { id: peer.next_id(), headers: vec![("enfilade-fence".to_owned(), "\n".to_owned())], ..call };
    assert!(matches!(peer.call(unfit).await, Err(CallError::Protocol(_))));

    let log = server.received();
    let fences: Vec<_> = log.iter().map(|request| request.header("enfilade-fence")).collect();
    assert_eq!(fences, [None, None, Some("7.3")]);
}

#[tokio::test]
async fn error_statuses() {
    let server = legacy(|request| match request.header("mcp-name").unwrap_or(&request.body) {
        body if body.contains("gone") => Reply::Plain(404, "", "Session not found".to_owned()),
        body if body.contains("refused") => Reply::Plain(
            400,
            "content-type: application/json\r\n",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no"}}"#.to_owned(),
        ),
        body if body.contains("broken") => Reply::Plain(502, "", "bad gateway".to_owned()),
        body if body.contains("closed") => Reply::Drop,
        _ => Reply::Plain(200, "content-type: text/html\r\n", "<html>".to_owned()),
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let (id, refused) = start_call(&*peer, "refused", "{}").await;
    let Ok(Exchange::Answer(answer)) = refused else { panic!() };
    assert_eq!(walk::get(&text(&answer), "id"), Some(&*id.to_string()));
    assert_eq!(call(&*peer, "broken", "{}").await.unwrap_err(), CallError::Status(502));
    assert_eq!(call(&*peer, "closed", "{}").await.unwrap_err(), CallError::Lost);
    assert!(matches!(call(&*peer, "page", "{}").await.unwrap_err(), CallError::Protocol(_)));
    assert!(peer.is_alive());
    assert_eq!(call(&*peer, "gone", "{}").await.unwrap_err(), CallError::Gone);
    assert!(!peer.is_alive());
    assert_eq!(connector.in_flight(), 0);
}

#[tokio::test]
async fn a_session_that_is_resumed_elsewhere_needs_no_initialize() {
    let server = legacy(|request| json(result(request.id(), "{}"))).await;
    let connector = connector(Config::http("main", &server.url));
    let before = connector.next_id();
    let peer = connector.resume("kept", Version::V2025_06_18).unwrap();
    call(&*peer, "echo", "{}").await.unwrap();
    connector.leave().await;
    let log = server.received();
    assert_eq!(log.len(), 1, "neither initialize nor DELETE");
    assert_eq!(log[0].header("mcp-session-id"), Some("kept"));
    assert_eq!(log[0].header("mcp-protocol-version"), Some("2025-06-18"));
    assert!(log[0].id() > before);
}

#[tokio::test]
async fn a_shutdown_ends_sessions_and_calls() {
    let server = legacy(|_| Reply::Hang).await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let hung = async { start_call(&*peer, "hang", "{}").await.1 };
    let stop = async {
        server.until("the call", |log| log.iter().any(|r| r.rpc() == "tools/call")).await;
        connector.shutdown().await;
    };
    let (hung, ()) = within("the shutdown", async { tokio::join!(hung, stop) }).await;
    assert_eq!(hung.unwrap_err(), CallError::Lost);
    assert!(server.received().iter().any(|request| request.method == "DELETE"));
    assert_eq!(connector.open(&hello()).await.err(), Some(CallError::Closed));
}

#[tokio::test]
async fn nobody_there() {
    let server = legacy(|_| Reply::Drop).await;
    let url = server.stop().await;
    let connector = connector(Config::http("main", url));
    assert_eq!(connector.era().await, Err(CallError::Unreachable));
    let peer = connector.modern().await.unwrap();
    for _ in 0..6 {
        assert_eq!(call(&*peer, "echo", "{}").await.unwrap_err(), CallError::Unreachable);
    }
    assert!(connector.is_open(), "the breaker opened");
}

#[tokio::test]
async fn too_many_calls_are_refused_at_once() {
    let server = legacy(|_| Reply::Hang).await;
    let mut config = Config::http("main", &server.url);
    config.calls_max = 1;
    let connector = connector(config);
    let peer = connector.open(&hello()).await.unwrap().peer;
    let first = {
        let peer = peer.clone();
        tokio::spawn(async move { start_call(&*peer, "hang", "{}").await.1 })
    };
    server.until("the call", |log| log.iter().any(|r| r.rpc() == "tools/call")).await;
    assert_eq!(connector.in_flight(), 1);
    assert_eq!(call(&*peer, "echo", "{}").await.unwrap_err(), CallError::Busy);
    first.abort();
    until("the place is free", || connector.in_flight() == 0).await;
}

#[tokio::test]
async fn answers_up_to_the_limit_and_not_one_byte_more() {
    let server = legacy(|request| {
        let bytes = MESSAGE_BYTES_MAX + usize::from(request.body.contains("more"));
        let around = result(request.id(), "\"\"").len();
        let answer = result(request.id(), &format!("\"{}\"", "a".repeat(bytes - around)));
        match request.body.contains("events") {
            true => Reply::Events("", vec![Step::Text(format!("data: {answer}\n\n"))]),
            false => json(answer),
        }
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    for tool in ["json", "events"] {
        assert_eq!(call(&*peer, tool, "{}").await.unwrap()[0].len(), MESSAGE_BYTES_MAX, "{tool}");
        assert_eq!(call(&*peer, &format!("{tool}-more"), "{}").await.unwrap_err(), CallError::TooLarge, "{tool}");
    }
    assert!(peer.is_alive());
}

#[tokio::test]
async fn an_answer_without_room_is_refused_and_the_next_one_is_served() {
    let server = legacy(|request| {
        let bytes = if request.body.contains("large") { 90_000 } else { 30_000 };
        let answer = result(request.id(), &format!("\"{}\"", "a".repeat(bytes)));
        match request.body.contains("events") {
            true => Reply::Events("", vec![Step::Text(format!("data: {answer}\n\n"))]),
            false => json(answer),
        }
    })
    .await;
    let messages = Limit::new(80_000);
    let connector = Connector::within(Config::http("main", &server.url), messages.clone()).unwrap();
    let peer = connector.open(&hello()).await.unwrap().peer;
    for kind in ["json", "events"] {
        assert_eq!(call(&*peer, kind, "{}").await.unwrap().len(), 1, "{kind}");
        assert_eq!(call(&*peer, &format!("{kind}-large"), "{}").await.unwrap_err(), CallError::NoMemory, "{kind}");
        until("all is given back", || messages.now() == 0).await;
    }
    let (_, first) = start_call(&*peer, "json", "{}").await;
    assert!(messages.now() > 30_000, "{}", messages.now());
    let (_, second) = start_call(&*peer, "json", "{}").await;
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(call(&*peer, "json", "{}").await.unwrap_err(), CallError::NoMemory);
    drop((first, second));
    assert_eq!(call(&*peer, "json", "{}").await.unwrap().len(), 1);
    assert!(peer.is_alive() && !connector.is_open(), "the upstream does what it is for");
}

/// Each call gets its own answer, whatever connection it came on, and connections are used again.
#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_a_time() {
    let server = legacy(|request| {
        let id = request.id();
        match id % 3 {
            0 => json(result(id, &id.to_string())),
            1 => Reply::Events("", vec![Step::Text(format!("data: {}\n\n", result(id, &id.to_string())))]),
            _ => json(format!(r#"{{"result":{id},"jsonrpc":"2.0","id":{id}}}"#)),
        }
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let callers = (0..32).map(|_| {
        let peer = peer.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                let (id, exchange) = start_call(&*peer, "echo", "{}").await;
                let all = match exchange.unwrap() {
                    Exchange::Answer(answer) => vec![text(&answer)],
                    Exchange::Stream(mut messages) => rest(&mut messages).await.unwrap(),
                };
                assert_eq!(walk::get(&all[0], "result"), Some(&*id.to_string()));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(connector.in_flight(), 0);
    let connections = server.received().iter().map(|request| request.connection).max().unwrap() + 1;
    assert!(connections <= 64, "{connections} connections for 3200 calls");
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let server = Server::start(|request| {
        Reply::Plain(200, "content-type: application/json\r\nconnection: close\r\n", result(request.id(), "{}"))
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.modern().await.unwrap();
    for _ in 0..20 {
        call(&*peer, "echo", "{}").await.unwrap();
    }
}

#[tokio::test]
async fn shared_sessions_are_opened_once_and_closed_when_idle() {
    let server = legacy(|request| json(result(request.id(), "{}"))).await;
    let mut config = Config::http("main", &server.url);
    config.sessions = enfilade_upstream::Sharing::Shared;
    config.idle_ms = 1;
    let connector = connector(config);
    let (one, other) = (connector.open(&hello()).await.unwrap(), connector.open(&hello()).await.unwrap());
    one.peer.close().await;
    assert!(!one.peer.is_alive() && other.peer.is_alive());
    call(&*other.peer, "echo", "{}").await.unwrap();
    let initializes: Vec<_> = server.received().into_iter().filter(|r| r.rpc() == "initialize").collect();
    assert_eq!(initializes.len(), 1);
    assert_eq!(walk::at(&initializes[0].body, &["params", "capabilities"]), Some("{}"));
    other.peer.close().await;
    server.until("the session is closed", |log| log.iter().any(|r| r.method == "DELETE")).await;
    assert!(connector.open(&hello()).await.unwrap().peer.is_alive());
}

//! Streamable HTTP: answers as events, resumption, and the session's own stream.

mod support;

use enfilade_mcp::Version;
use enfilade_upstream::{CallError, Config, Exchange};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::*;
use tokio::sync::Notify;

const SESSION: &str = "content-type: application/json\r\nmcp-session-id: abc\r\n";

fn initialized(request: &Received, version: &str) -> Reply {
    let answer =
        format!(r#"{{"protocolVersion":"{version}","capabilities":{{}},"serverInfo":{{"name":"s","version":"1"}}}}"#);
    Reply::Plain(200, SESSION, result(request.id(), &answer))
}

/// A legacy server of 2025-03-26 that answers calls and GETs as the test says.
async fn legacy(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| match request.rpc().as_str() {
        "initialize" => initialized(request, "2025-03-26"),
        method if method.starts_with("notifications/") => accepted(),
        _ => answer(request),
    })
    .await
}

fn progress(token: u64, value: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{value}}}}}"#
    )
}

#[tokio::test]
async fn progress_comes_before_the_response_and_the_connection_is_kept() {
    let server = legacy(|request| {
        let id = request.id();
        let events = format!("data: {}\n\n: comment\n\ndata: {}\n\n", progress(id, 1), progress(id, 2));
        Reply::Events("", vec![Step::Text(events), Step::Text(format!("data: {}\n\n", result(id, "{}")))])
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let opened = connector.open(&hello()).await.unwrap();
    for _ in 0..3 {
        let (id, exchange) = start_call(&*opened.peer, "count", "{}").await;
        let Ok(Exchange::Stream(mut messages)) = exchange else { panic!() };
        assert_eq!(connector.in_flight(), 1);
        assert_eq!(rest(&mut messages).await.unwrap(), [progress(id, 1), progress(id, 2), result(id, "{}")]);
        drop(messages);
        assert_eq!(connector.in_flight(), 0);
    }
    assert_eq!(opened.version, Version::V2025_03_26);
    assert!(server.received().iter().all(|r| r.header("mcp-protocol-version").is_none()), "older than the header");
}

/// The call's stream ends early and twice; it goes on with GETs, each after exactly the asked time.
#[tokio::test]
async fn a_broken_stream_goes_on_where_it_was() {
    let server = legacy(|request| match (request.method.as_str(), request.header("last-event-id")) {
        ("POST", _) => Reply::Events("", vec![Step::Text("id: e1\nretry: 300\ndata: \n\n".to_owned())]),
        (_, Some("e1")) => {
            Reply::Events("", vec![Step::Text(format!("id: e2\ndata: {}\n\nid: e3\nda", progress(1, 1))), Step::Break])
        }
        (_, Some("e2")) => Reply::Events("", vec![Step::Text(format!("id: e4\ndata: {}\n\n", result(1, "{}")))]),
        _ => Reply::Plain(400, "", String::new()),
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let message = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}"#;
    let call = enfilade_upstream::Call {
        id: 1,
        message: message.into(),
        method: "tools/call",
        name: Some("slow"),
        headers: Vec::new(),
        progress_token: None,
    };
    let Ok(Exchange::Stream(mut messages)) = peer.call(call).await else { panic!() };
    // Readers come and go: neither the wait nor the request starts anew.
    let mut all = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        match tokio::time::timeout(Duration::from_millis(1), messages.next()).await {
            Ok(Some(message)) => all.push(text(&message.unwrap())),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    assert_eq!(all, [progress(1, 1), result(1, "{}")]);
    let gets: Vec<_> = server.received().into_iter().filter(|r| r.method == "GET").collect();
    assert_eq!(gets.len(), 2);
    let closed = server.closed.lock().unwrap().clone();
    for (get, closed) in gets.iter().zip(closed) {
        let waited = get.at - closed;
        assert!((Duration::from_millis(299)..Duration::from_millis(900)).contains(&waited), "{waited:?}");
        assert_eq!(get.header("mcp-session-id"), Some("abc"));
    }
    assert_eq!(server.received().iter().filter(|r| r.rpc() == "tools/call").count(), 1, "never sent again");
}

#[tokio::test]
async fn a_stream_without_ids_or_of_a_modern_call_is_lost() {
    let server = legacy(|request| match request.body.contains("modern") {
        true => Reply::Events("", vec![Step::Text(format!("id: e1\ndata: {}\n\n", progress(1, 1)))]),
        false => Reply::Events("", vec![Step::Text(format!("data: {}\n\n", progress(1, 1))), Step::Break]),
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    assert_eq!(call(&*peer, "legacy", "{}").await.unwrap_err(), CallError::Lost);
    assert_eq!(call(&*connector.modern().await.unwrap(), "modern", "{}").await.unwrap_err(), CallError::Lost);
    assert!(server.received().iter().all(|r| r.method == "POST"));
}

#[tokio::test]
async fn a_dropped_modern_call_closes_its_stream() {
    let server =
        legacy(|_| Reply::Events("", vec![Step::Text(format!("data: {}\n\n", progress(1, 1))), Step::Stay])).await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.modern().await.unwrap();
    let (_, Ok(Exchange::Stream(mut messages))) = start_call(&*peer, "slow", "{}").await else { panic!() };
    assert!(messages.next().await.unwrap().is_ok());
    drop(messages);
    until("the server sees it", || server.closed.lock().unwrap().len() == 1).await;
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn batches_in_events_are_split() {
    let server = legacy(|request| {
        let id = request.id();
        let batch = format!("data: [{},{}]\n\n", result(id, "{}"), progress(id, 1));
        Reply::Events("", vec![Step::Text(batch)])
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let all = call(&*peer, "batch", "{}").await.unwrap();
    assert!(all[0].contains("progress") && all[1].contains("result"), "{all:?}");
}

#[tokio::test]
async fn the_sessions_own_stream_reconnects_and_ends_with_the_session() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    let server = legacy(move |request| match request.header("last-event-id") {
        None => Reply::Events(
            "",
            vec![Step::Text(format!("id: 1\nretry: 20\ndata: \n\nid: 2\ndata: {changed}\n\n")), Step::Break],
        ),
        Some("2") => Reply::Events(
            "",
            vec![Step::Text(format!("id: 3\ndata: {changed}\n\n")), Step::Wait(wait.clone()), Step::Break],
        ),
        Some(_) => Reply::Plain(404, "", String::new()),
    })
    .await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    let mut own = peer.listen().await.unwrap().unwrap();
    assert!(peer.listen().await.unwrap().is_none(), "at most one at a time");
    for _ in 0..2 {
        assert_eq!(within("news", own.next()).await.unwrap().unwrap(), changed);
    }
    go.notify_one();
    assert!(within("the end", own.next()).await.is_none());
    assert!(!peer.is_alive(), "404 to a resumption: the session is gone");
}

#[tokio::test]
async fn servers_without_a_stream_are_fine() {
    for status in [400, 404, 405] {
        let server = legacy(move |_| Reply::Plain(status, "", String::new())).await;
        let connector = connector(Config::http("main", &server.url));
        let peer = connector.open(&hello()).await.unwrap().peer;
        assert!(peer.listen().await.unwrap().is_none());
        assert!(peer.is_alive());
        assert_eq!(server.received().iter().filter(|r| r.method == "GET").count(), 1);
    }
}

#[tokio::test]
async fn the_head_of_the_own_stream_may_come_late() {
    let server = legacy(|_| Reply::Hang).await;
    let connector = connector(Config::http("main", &server.url));
    let peer = connector.open(&hello()).await.unwrap().peer;
    assert!(within("listen", peer.listen()).await.unwrap().is_some());
    assert_eq!(server.received().iter().filter(|r| r.method == "GET").count(), 1);
}

#[tokio::test]
async fn shared_sessions_share_what_they_hear() {
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    let ask = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let server = legacy(move |request| match request.method.as_str() {
        "GET" => Reply::Events(
            "",
            vec![Step::Wait(wait.clone()), Step::Text(format!("data: {ask}\n\ndata: {changed}\n\n")), Step::Stay],
        ),
        _ => accepted(),
    })
    .await;
    let mut config = Config::http("main", &server.url);
    config.sessions = enfilade_upstream::Sharing::Shared;
    let connector = connector(config);
    let peers = [connector.open(&hello()).await.unwrap().peer, connector.open(&hello()).await.unwrap().peer];
    let mut one = peers[0].listen().await.unwrap().unwrap();
    let mut other = peers[1].listen().await.unwrap().unwrap();
    go.notify_one();
    assert_eq!(within("news", one.next()).await.unwrap().unwrap(), changed);
    assert_eq!(within("news", other.next()).await.unwrap().unwrap(), changed);
    let log = server.received();
    assert_eq!(log.iter().filter(|r| r.method == "GET").count(), 1);
    assert!(log.iter().any(|r| r.body.contains("-32603") && r.body.contains("\"q\"")), "its request was refused");
}

//! Who gets in: hosts, origins, connections, requests in flight; and how the node stops.

mod common;

use common::raw::Raw;
use common::{Node, POST, modern, modern_headers, session, within};
use enfilade_edge::Protocol;
use tokio::io::AsyncReadExt;

const DISCOVER: &str = "server/discover";

async fn discover(raw: &mut Raw, host: &str, headers: &str) -> (u16, Option<String>) {
    let body = modern(DISCOVER);
    let head = format!(
        "POST /mcp HTTP/1.1\r\n{host}accept: */*\r\ncontent-type: application/json\r\nmcp-method: {DISCOVER}\r\n\
         mcp-protocol-version: 2026-07-28\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    raw.send(head + &body).await;
    let (head, _) = raw.answer().await;
    (head.status, head.get("access-control-allow-origin").map(str::to_owned))
}

#[tokio::test]
async fn a_rebound_name_and_a_foreign_page_stay_outside() {
    let node = Node::start(|config| config.origins.push("https://app.example.com".into())).await;
    let port = node.http1.port();
    let local = format!("host: 127.0.0.1:{port}\r\n");
    let own = format!("http://127.0.0.1:{port}");
    let table: [(&str, &str, u16); 10] = [
        (&local, "", 200),
        ("host: localhost\r\n", "", 200),
        (&local, &own, 200),
        (&local, "https://app.example.com", 200),
        ("host: evil.example.com\r\n", "", 403),
        ("host: evil.example.com\r\n", "http://evil.example.com", 403),
        (&local, "http://evil.example.com", 403),
        (&local, "null", 403),
        ("host: evil.example.com\r\n", &own, 403),
        ("", "", 403),
    ];
    let mut raw = Raw::connect(node.http1).await;
    for (host, origin, status) in table {
        let header = if origin.is_empty() { String::new() } else { format!("origin: {origin}\r\n") };
        let (got, shared) = discover(&mut raw, host, &header).await;
        assert_eq!(got, status, "{host} {origin}");
        let expected = Some(origin).filter(|origin| status == 200 && !origin.is_empty());
        assert_eq!(shared.as_deref(), expected, "{host} {origin}");
        assert_eq!(node.owner.asked().len(), usize::from(status == 200));
    }
    let mut client = node.client(Protocol::Http2).await;
    let evil = [&modern_headers(DISCOVER)[..], &[("host", "evil.example.com")]].concat();
    assert_eq!(client.ask("POST", "/mcp", &evil, modern(DISCOVER)).await.status, 403);
    node.stop().await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_first() {
    let node = Node::start(|_| ()).await;
    let mut client = node.client(Protocol::Http1).await;
    let origin = ("origin", "http://localhost:6274");
    let asked = ("access-control-request-headers", "content-type,mcp-param-region");
    let answer = client.ask("OPTIONS", "/mcp", &[origin, asked, ("access-control-request-method", "POST")], "").await;
    let get = |name: &str| answer.headers.get(name).map(|value| value.to_str().expect("text"));
    assert_eq!(answer.status, 204);
    assert_eq!(get("access-control-allow-origin"), Some(origin.1));
    assert_eq!(get("access-control-allow-headers"), Some(asked.1));
    assert!(get("access-control-allow-methods").is_some_and(|methods| methods.contains("DELETE")));
    assert_eq!(get("access-control-allow-credentials"), None);
    let answer = client.ask("OPTIONS", "/mcp", &[("origin", "http://evil.com")], "").await;
    assert_eq!((answer.status, answer.headers.get("access-control-allow-origin")), (403, None));
    // The page must be able to read refusals, too, and the session id.
    let answer = client.ask("POST", "/mcp", &[&POST[..], &[origin]].concat(), "{").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.headers["access-control-allow-origin"], origin.1);
    let exposed = answer.headers["access-control-expose-headers"].to_str().expect("text");
    assert!(exposed.contains("Mcp-Session-Id"), "{exposed}");
    assert_eq!(answer.headers["vary"], "Origin");
    assert!(node.owner.asked().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_a_freed_place_is_taken() {
    let node = Node::start(|config| config.connections_max = 2).await;
    let mut first = Raw::connect(node.http1).await;
    let mut second = Raw::connect(node.http1).await;
    let host = "host: localhost\r\n";
    assert_eq!(discover(&mut first, host, "").await.0, 200);
    assert_eq!(discover(&mut second, host, "").await.0, 200);
    let mut third = Raw::connect(node.http1).await;
    let (head, body) = third.answer().await;
    assert_eq!((head.status, head.get("retry-after"), head.get("connection")), (503, Some("1"), Some("close")));
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok_and(|body| body["error"]["data"]["retry"] == true));
    assert!(third.is_closed().await);
    // HTTP/2 is told in its own words: SETTINGS, then GOAWAY.
    let mut raw = Raw::connect(node.http2).await;
    let mut frames = Vec::new();
    within(raw.io.read_to_end(&mut frames)).await.expect("frames");
    assert_eq!((frames[3], frames[12], frames.len()), (4, 7, 26));
    assert_eq!(discover(&mut first, host, "").await.0, 200, "those inside are served");
    drop(second);
    loop {
        // The place is free once the node has seen the close, which no client can observe but by asking.
        let mut raw = Raw::connect(node.http1).await;
        raw.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        if raw.answer().await.0.status == 200 {
            break;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_of_an_address_is_told_so_and_others_come_in() {
    let node = Node::start(|config| config.connections_per_address_max = Some(2)).await;
    let host = "host: localhost\r\n";
    let from = async |last: u8| Raw::connect_from([127, 0, 0, last], node.http1).await;
    let (mut first, mut second) = (from(1).await, from(1).await);
    assert_eq!(discover(&mut first, host, "").await.0, 200);
    assert_eq!(discover(&mut second, host, "").await.0, 200);
    let mut third = from(1).await;
    let (head, _) = third.answer().await;
    assert_eq!((head.status, head.get("retry-after"), head.get("connection")), (429, Some("1"), Some("close")));
    assert!(third.is_closed().await);
    assert_eq!(discover(&mut from(2).await, host, "").await.0, 200, "another address");
    assert_eq!(discover(&mut first, host, "").await.0, 200, "those inside are served");
    drop(second);
    loop {
        let mut raw = from(1).await;
        raw.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        if raw.answer().await.0.status == 200 {
            break;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn one_request_too_many_is_told_so_and_lasting_streams_do_not_count() {
    let node = Node::start(|config| config.requests_in_flight_max = 2).await;
    let mut client = node.client(Protocol::Http2).await;
    let listen = "subscriptions/listen";
    let mut lasting = Vec::new();
    for _ in 0..3 {
        lasting.push(client.open("POST", "/mcp", &modern_headers(listen), modern(listen)).await);
        let get = [("accept", "*/*"), ("mcp-session-id", &session())];
        lasting.push(client.open("GET", "/mcp", &get, "").await);
    }
    assert!(lasting.iter().all(|answer| answer.status() == 200));
    let streaming = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
    let stream = node.owner.stream();
    let mut waiting = node.client(Protocol::Http1).await;
    let waiting =
        tokio::spawn(async move { waiting.ask("POST", "/mcp", &modern_headers("wait"), modern("wait")).await });
    node.owner.until(|counts| counts.running == 1).await;
    let refused = client.ask("POST", "/mcp", &modern_headers("tools/list"), modern("tools/list")).await;
    assert_eq!((refused.status, refused.code()), (503, Some(-32603)));
    assert_eq!(refused.headers["retry-after"], "1");
    drop(streaming);
    within(stream.abandoned()).await;
    let taken = client.ask("POST", "/mcp", &modern_headers("tools/list"), modern("tools/list")).await;
    assert_eq!(taken.status, 200, "a call's stream gives its place back when it ends");
    node.owner.release.send_replace(true);
    assert_eq!(waiting.await.expect("no panic").status, 200);
    node.stop().await;
}

#[tokio::test]
async fn stopping_finishes_calls_ends_streams_and_takes_no_more() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let node = Node::start(|_| ()).await;
        let _idle = Raw::connect(node.http1).await;
        let get = [("accept", "*/*"), ("mcp-session-id", &session())];
        let mut streams = node.client(protocol).await;
        let stream = streams.open("GET", "/mcp", &get, "").await;
        let mut client = node.client(protocol).await;
        let call =
            tokio::spawn(async move { client.ask("POST", "/mcp", &modern_headers("wait"), modern("wait")).await });
        node.owner.until(|counts| counts.running == 1).await;
        node.ending.stop();
        let ended = within(http_body_util::BodyExt::collect(stream.into_body())).await;
        assert!(ended.is_ok(), "the stream ends, it does not break: {ended:?}");
        assert!(tokio::net::TcpStream::connect(node.http1).await.is_err(), "nobody listens any more");
        assert!(!node.task.is_finished(), "the call is waited for");
        node.owner.release.send_replace(true);
        assert_eq!(call.await.expect("no panic").status, 200);
        within(node.task).await.expect("no panic");
    }
}

#[tokio::test]
async fn a_node_that_leaves_serves_and_sends_its_clients_away() {
    let node = Node::start(|_| {}).await;
    node.ending.leave();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = node.client(protocol).await;
        let health = client.ask("GET", "/healthz", &[], "").await;
        assert_eq!((health.status, &*health.body), (503, &b"leaving"[..]), "{protocol:?}");
    }
    let mut raw = Raw::connect(node.http1).await;
    raw.send("GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let (head, _) = raw.answer().await;
    assert_eq!((head.status, head.get("connection")), (404, Some("close")));
    assert!(raw.is_closed().await);
    node.stop().await;
}

#[tokio::test]
async fn clients_that_never_spoke_do_not_hold_up_the_stop() {
    // Both times are far longer than a test may take.
    let hour = 3_600_000;
    let node = Node::start(|config| (config.header_timeout_ms, config.drain_ms) = (hour, hour)).await;
    let mut silent = [Raw::connect(node.http1).await, Raw::connect(node.http2).await];
    // Connections are taken in their order, so that the silent ones are there once a later one is served.
    for protocol in [Protocol::Http1, Protocol::Http2] {
        assert_eq!(node.client(protocol).await.ask("GET", "/healthz", &[], "").await.status, 200);
    }
    node.stop().await;
    for raw in &mut silent {
        assert!(raw.is_closed().await);
    }
}

#[tokio::test]
async fn calls_that_do_not_finish_are_given_up_after_the_drain_time() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let node = Node::start(|config| config.drain_ms = 50).await;
        let mut client = node.client(protocol).await;
        let call = tokio::spawn(async move {
            client.open("POST", "/mcp", &modern_headers("wait"), modern("wait")).await;
        });
        node.owner.until(|counts| counts.running == 1).await;
        let owner = node.owner.clone();
        node.stop().await;
        owner.until(|counts| counts.running == 0 && counts.dropped == 1).await;
        assert!(call.await.is_err(), "no answer came");
    }
}

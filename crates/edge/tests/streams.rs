//! Server-sent events on the wire: their head, framing, resumption, keep-alive, and what a disconnect does.

mod common;

use common::raw::Raw;
use common::{Node, legacy, modern, modern_headers, session, within};
use enfilade_edge::Protocol;
use http_body_util::BodyExt;

fn get(headers: &str) -> String {
    format!(
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {}\r\n{headers}\r\n",
        session()
    )
}

#[tokio::test]
async fn a_stream_opens_with_its_head_and_priming_and_resumes() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    raw.send(get("")).await;
    let head = raw.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    assert_eq!(head.get("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(head.get("x-accel-buffering"), Some("no"));
    let priming = raw.chunk().await;
    let retry = priming.strip_prefix("id: 0.1.0\nretry: ").and_then(|rest| rest.strip_suffix("\ndata: \n\n"));
    let retry: u64 = retry.and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("{priming:?}"));
    assert!((500..5000).contains(&retry), "{retry}");
    node.owner.stream().send("{\"n\":1}");
    assert_eq!(raw.chunk().await, "id: 0.1.1\ndata: {\"n\":1}\n\n");
    drop(raw);
    node.owner.stream().send("{\"n\":2}");
    let mut raw = Raw::connect(node.http1).await;
    raw.send(get("Last-Event-ID: 0.1.0\r\n")).await;
    assert_eq!(raw.head().await.status, 200);
    assert_eq!(node.owner.asked(), ["open_stream -", "open_stream 0.1.0"]);
    assert_eq!(raw.chunk().await, "id: 0.1.1\ndata: {\"n\":1}\n\nid: 0.1.2\ndata: {\"n\":2}\n\n");
    node.owner.stream().finish();
    assert_eq!(raw.chunk().await, "", "the end");
    raw.send(get("")).await;
    assert_eq!(raw.head().await.status, 200, "the connection lives on");
    node.stop().await;
}

#[tokio::test]
async fn the_head_does_not_wait_for_the_first_event_and_silence_gets_comments() {
    let node = Node::start(|config| config.keep_alive_ms = 20).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = node.client(protocol).await;
        let answer = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut body = answer.into_body();
        for _ in 0..3 {
            let frame = within(body.frame()).await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), ":\n\n", "{protocol:?}");
        }
        node.owner.stream().send("{}");
        node.owner.stream().finish();
        let rest = within(body.collect()).await.expect("the rest").to_bytes();
        assert!(rest.ends_with(b"data: {}\n\n"), "{rest:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream() {
    let node = Node::start(|config| config.keep_alive_ms = 20).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = node.client(protocol).await;
        let answer = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
        let stream = node.owner.stream();
        assert!(stream.is_attached());
        drop(answer);
        client.task.abort();
        within(stream.abandoned()).await;
        assert!(!stream.is_attached(), "{protocol:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn one_http2_stream_is_closed_without_its_connection() {
    let node = Node::start(|_| ()).await;
    let mut client = node.client(Protocol::Http2).await;
    let answer = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
    let stream = node.owner.stream();
    drop(answer);
    within(stream.abandoned()).await;
    let answer = client.ask("POST", "/mcp", &modern_headers("tools/list"), modern("tools/list")).await;
    assert_eq!(answer.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_future_of_its_request() {
    let node = Node::start(|_| ()).await;
    for (n, protocol) in [Protocol::Http1, Protocol::Http2].into_iter().enumerate() {
        let mut client = node.client(protocol).await;
        let request = tokio::spawn(async move {
            client.open("POST", "/mcp", &modern_headers("wait"), modern("wait")).await;
        });
        node.owner.until(|counts| counts.running == 1).await;
        // Dropping the client's handle and future is what closes the socket.
        request.abort();
        node.owner.until(|counts| counts.running == 0 && counts.dropped == n + 1).await;
    }
    let mut raw = Raw::connect(node.http1).await;
    raw.post(&format!("mcp-session-id: {}\r\n", session()), legacy("wait").as_bytes()).await;
    node.owner.until(|counts| counts.running == 1).await;
    drop(raw);
    node.owner.until(|counts| counts.running == 0 && counts.dropped == 3).await;
    node.stop().await;
}

#[tokio::test]
async fn a_large_event_arrives_whole() {
    let node = Node::start(|_| ()).await;
    let mut client = node.client(Protocol::Http1).await;
    let answer = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
    let text = format!("\"{}\"", "é".repeat(1 << 20));
    node.owner.stream().send(text.clone());
    node.owner.stream().finish();
    let body = within(answer.into_body().collect()).await.expect("a body").to_bytes();
    assert_eq!(body, format!("data: {text}\n\n"));
    node.stop().await;
}

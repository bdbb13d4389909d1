//! Streams without an end of their own, over HTTP/1.1: taken over from hyper once their head has left.

mod common;

use common::raw::{Raw, post_head};
use common::{Node, legacy, modern, session, within};
use enfilade_session::stream::Stream;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;

fn get(version: &str, headers: &str) -> String {
    let session = session();
    format!(
        "GET /mcp {version}\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n{headers}\r\n"
    )
}

fn ping() -> String {
    let body = legacy("ping");
    post_head(&format!("mcp-session-id: {}\r\ncontent-length: {}\r\n", session(), body.len())) + &body
}

/// A connection with the session's stream open, and its priming event read.
async fn open(node: &Node, headers: &str) -> (Raw, Arc<Stream>) {
    let mut raw = Raw::connect(node.http1).await;
    raw.send(get("HTTP/1.1", headers)).await;
    begun(&mut raw).await;
    (raw, node.owner.stream())
}

/// The same for a client that takes little at a time.
async fn narrow(node: &Node) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut raw = Raw { io: BufReader::new(within(socket.connect(node.http1)).await.expect("connected")) };
    raw.send(get("HTTP/1.1", "")).await;
    begun(&mut raw).await;
    raw
}

async fn begun(raw: &mut Raw) {
    let head = raw.head().await;
    assert_eq!((head.status, head.get("transfer-encoding")), (200, Some("chunked")));
    assert!(raw.chunk().await.starts_with("id: "));
}

async fn is_answered(raw: &mut Raw) {
    let (head, body) = raw.answer().await;
    assert_eq!((head.status, body.as_str()), (200, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#));
}

#[tokio::test]
async fn silence_gets_comments_and_events_come_between_them() {
    let node = Node::start(|config| config.keep_alive_ms = 20).await;
    let (mut raw, stream) = open(&node, "").await;
    for n in 1..=3 {
        assert_eq!(raw.chunk().await, ":\n\n");
        stream.send(format!("{{\"n\":{n}}}"));
        let event = loop {
            // The event may have been taken when the next comment was due.
            let chunk = raw.chunk().await;
            if chunk != ":\n\n" {
                break chunk;
            }
        };
        assert_eq!(event, format!("id: 0.1.{n}\ndata: {{\"n\":{n}}}\n\n"));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_or_closes_its_side_frees_its_place_and_its_owner_is_told() {
    let node = Node::start(|config| config.connections_max = 1).await;
    for half in [false, true] {
        let body = modern("subscriptions/listen");
        // The place of the one before is free soon, not at once: the owner is told first.
        let mut raw = loop {
            let mut raw = Raw::connect(node.http1).await;
            let headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n";
            raw.post(headers, body.as_bytes()).await;
            if raw.head().await.status == 200 {
                break raw;
            }
        };
        let stream = node.owner.stream();
        stream.send("{}");
        assert_eq!(raw.chunk().await, "data: {}\n\n");
        if half {
            raw.io.shutdown().await.expect("closed");
            within(stream.abandoned()).await;
            assert!(raw.is_closed().await);
        } else {
            drop(raw);
            within(stream.abandoned()).await;
        }
        assert!(!stream.is_attached());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_came_in_chunks_is_no_obstacle() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    let headers = "mcp-protocol-version: 2026-07-28\r\nmcp-method: subscriptions/listen\r\n";
    raw.send(post_head(&format!("{headers}transfer-encoding: chunked\r\n"))).await;
    let body = modern("subscriptions/listen");
    raw.send(format!("{:x}\r\n{body}\r\n", body.len())).await;
    raw.send(format!("0\r\n\r\n{}", ping())).await;
    assert_eq!(raw.head().await.status, 200);
    node.owner.stream().send("{}");
    assert_eq!(raw.chunk().await, "data: {}\n\n");
    node.owner.stream().finish();
    assert_eq!(raw.chunk().await, "");
    is_answered(&mut raw).await;
    node.stop().await;
}

#[tokio::test]
async fn a_burst_comes_whole_and_in_order_in_bounded_chunks() {
    let node = Node::start(|_| ()).await;
    let (mut raw, stream) = open(&node, "").await;
    let event = |n: usize| format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(n % 600));
    let mut expected = String::new();
    for n in 1..=5000 {
        stream.send(event(n));
        expected += &format!("id: 0.1.{n}\ndata: {}\n\n", event(n));
    }
    stream.finish();
    let (mut text, mut longest) = (String::new(), 0);
    loop {
        let chunk = raw.chunk().await;
        if chunk.is_empty() {
            break;
        }
        longest = longest.max(chunk.len());
        text += &chunk;
    }
    assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
    assert!(longest < 64 * 1024, "{longest}");
    node.stop().await;
}

/// Sends events that nobody reads until one stays where it is; tells how many. Each is followed by a notice, which waits
/// behind events that were not taken, and takes the place of the one before where that still waits.
async fn fill(node: &Node, stream: &Stream) -> usize {
    let mut other = Raw::connect(node.http1).await;
    for n in 1..300 {
        stream.send(large(n));
        // The stream's turn has come when another connection's has.
        for _ in 0..3 {
            other.send(ping()).await;
            is_answered(&mut other).await;
        }
        if stream.notice("subject", format!("{n}").into()).coalesced {
            return n;
        }
    }
    panic!("30 MB were taken for a client that does not read");
}

fn large(n: usize) -> String {
    format!("\"{n} {}\"", "y".repeat(100_000))
}

#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for_and_loses_nothing() {
    let node = Node::start(|_| ()).await;
    let (mut raw, stream) = (narrow(&node).await, node.owner.stream());
    let sent = fill(&node, &stream).await;
    let (mut events, mut notices) = (0, 0);
    let mut text = String::new();
    while notices < sent {
        text += &raw.chunk().await;
        while let Some((event, rest)) = text.split_once("\n\n") {
            match event.strip_prefix("data: ") {
                Some(notice) => {
                    let notice = notice.parse().expect("a number");
                    assert!(notice > notices, "{notice} after {notices}");
                    notices = notice;
                }
                None => {
                    events += 1;
                    assert!(event == format!("id: 0.1.{events}\ndata: {}", large(events)), "{events}");
                }
            }
            text = rest.to_owned();
        }
    }
    assert_eq!((events, text.as_str()), (sent, ""));
    stream.send("{}");
    assert_eq!(raw.chunk().await, format!("id: 0.1.{}\ndata: {{}}\n\n", sent + 1));
    node.stop().await;
}

#[tokio::test]
async fn requests_that_come_during_a_stream_are_answered_after_it() {
    let node = Node::start(|_| ()).await;
    let large = format!("{}{}", legacy("length"), " ".repeat(300_000));
    let large_head = post_head(&format!("mcp-session-id: {}\r\ncontent-length: {}\r\n", session(), large.len()));
    let result = format!("\"result\":{}}}", legacy("length").len());
    for early in 0..3 {
        let mut raw = Raw::connect(node.http1).await;
        let (with_it, later) = match early {
            0 => (String::new(), ping() + &ping()),
            1 => (ping(), ping()),
            _ => (ping()[..20].to_owned(), ping()[20..].to_owned() + &ping()),
        };
        raw.send(get("HTTP/1.1", "") + &with_it).await;
        begun(&mut raw).await;
        raw.send(later).await;
        let stream = node.owner.stream();
        stream.send("{}");
        // Two streams are opened in each round.
        assert_eq!(raw.chunk().await, format!("id: {}.1.1\ndata: {{}}\n\n", 2 * early));
        stream.finish();
        assert_eq!(raw.chunk().await, "");
        is_answered(&mut raw).await;
        is_answered(&mut raw).await;
        // And another stream on the same connection, with more behind it than is read ahead.
        raw.send(get("HTTP/1.1", "")).await;
        begun(&mut raw).await;
        let (reader, mut writer) = tokio::io::split(raw.io.into_inner());
        let sent = async {
            writer.write_all(large_head.as_bytes()).await.expect("sent");
            writer.write_all(large.as_bytes()).await.expect("sent");
        };
        node.owner.stream().finish();
        let answered = async {
            let mut answer = Vec::new();
            let mut reader = BufReader::new(reader);
            while !answer.ends_with(result.as_bytes()) {
                assert_ne!(reader.read_buf(&mut answer).await.expect("read"), 0);
            }
            answer
        };
        let ((), answer) = within(futures::future::join(sent, answered)).await;
        assert!(answer.starts_with(b"0\r\n\r\nHTTP/1.1 200 OK\r\n"));
    }
    node.stop().await;
}

/// hyper takes a part of what was read ahead, and gives back what it has not parsed, before the rest.
#[tokio::test]
async fn what_follows_a_second_stream_keeps_its_order() {
    let node = Node::start(|_| ()).await;
    let (mut raw, first) = open(&node, "").await;
    let (pings, mut other) = (60, Raw::connect(node.http1).await);
    for part in [get("HTTP/1.1", ""), ping().repeat(pings)] {
        raw.send(part).await;
        // It was read when another connection's turn has come.
        for _ in 0..3 {
            other.send(ping()).await;
            is_answered(&mut other).await;
        }
    }
    first.finish();
    assert_eq!(raw.chunk().await, "");
    begun(&mut raw).await;
    node.owner.stream().finish();
    assert_eq!(raw.chunk().await, "");
    for _ in 0..pings {
        is_answered(&mut raw).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_wants_to_close_after_it_is_closed_after_it() {
    let node = Node::start(|_| ()).await;
    let (mut raw, stream) = open(&node, "Connection: close\r\n").await;
    stream.send("{}");
    stream.finish();
    // The last event and the end come together or not.
    assert!(raw.chunk().await.ends_with("data: {}\n\n"));
    assert_eq!(raw.chunk().await, "");
    assert!(raw.is_closed().await);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_ends_streams_with_their_last_chunk() {
    let node = Node::start(|_| ()).await;
    let (mut raw, _stream) = open(&node, "").await;
    node.ending.stop();
    assert_eq!(raw.chunk().await, "");
    assert!(raw.is_closed().await);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_does_not_wait_for_a_client_that_does_not_read() {
    let node = Node::start(|config| config.drain_ms = 50).await;
    let (raw, stream) = (narrow(&node).await, node.owner.stream());
    fill(&node, &stream).await;
    node.stop().await;
    drop(raw);
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_long_loses_its_place() {
    let node = Node::start(|config| (config.keep_alive_ms, config.connections_max) = (250, 2)).await;
    let (raw, stream) = (narrow(&node).await, node.owner.stream());
    fill(&node, &stream).await;
    let first = Raw::connect(node.http1).await;
    let is_served = async {
        loop {
            let mut second = Raw::connect(node.http1).await;
            second.send(ping()).await;
            if second.head().await.status == 200 {
                return;
            }
        }
    };
    within(is_served).await;
    assert!(!stream.is_attached());
    drop((raw, first));
    node.stop().await;
}

#[tokio::test]
async fn http_1_0_gets_its_events_without_chunks() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    raw.send(get("HTTP/1.0", "")).await;
    let head = raw.head().await;
    assert_eq!((head.status, head.get("transfer-encoding")), (200, None));
    let stream = node.owner.stream();
    stream.send("{}");
    stream.finish();
    let mut text = String::new();
    within(raw.io.read_to_string(&mut text)).await.expect("the end");
    assert!(text.starts_with("id: 0.1.0\n") && text.ends_with("\nid: 0.1.1\ndata: {}\n\n"), "{text:?}");
    node.stop().await;
}

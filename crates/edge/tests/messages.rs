//! The size of one message, and the time it may take.

mod common;

use common::raw::{Raw, post_head};
use common::{Node, POST, legacy, session};
use enfilade_edge::Protocol;
use tokio::io::AsyncReadExt;

const MAX: usize = 16 * 1024 * 1024;

/// A request of exactly so many bytes, which is answered with its length.
fn message(bytes: usize) -> Vec<u8> {
    let (start, end) = (r#"{"jsonrpc":"2.0","id":1,"method":"length","params":{"x":""#, "\"}}");
    let mut text = Vec::with_capacity(bytes);
    text.extend_from_slice(start.as_bytes());
    text.resize(bytes - end.len(), b'x');
    text.extend_from_slice(end.as_bytes());
    text
}

fn headers(session: &str) -> Vec<(&str, &str)> {
    [&POST[..], &[("mcp-session-id", session)]].concat()
}

#[tokio::test]
async fn sixteen_mebibytes_and_not_one_more() {
    let (node, session) = (Node::start(|_| ()).await, session());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = node.client(protocol).await;
        let answer = client.ask("POST", "/mcp", &headers(&session), message(MAX)).await;
        assert_eq!((answer.status, answer.json()["result"].as_u64()), (200, Some(MAX as u64)), "{protocol:?}");
        let answer = client.ask("POST", "/mcp", &headers(&session), message(MAX + 1)).await;
        assert_eq!((answer.status, answer.code()), (413, Some(-32600)), "{protocol:?}");
        assert!(answer.json().get("id").is_none());
        let mut client = node.client(protocol).await;
        let answer = client.ask("POST", "/mcp", &headers(&session), message(100)).await;
        assert_eq!(answer.json()["result"], 100, "the next message is served over {protocol:?}");
    }
    node.stop().await;
}

async fn send_chunked(raw: &mut Raw, message: &[u8], size: usize) {
    raw.send(post_head(&format!("transfer-encoding: chunked\r\nmcp-session-id: {}\r\n", session()))).await;
    for chunk in message.chunks(size) {
        raw.send(format!("{:x}\r\n", chunk.len())).await;
        raw.send(chunk).await;
        raw.send("\r\n").await;
    }
    raw.send("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_message_of_undeclared_length_is_counted_while_it_comes() {
    let node = Node::start(|config| config.message_bytes_max = 1000).await;
    for (bytes, chunk, status) in
        [(1000, 1000, 200), (1000, 7, 200), (1001, 1001, 413), (1001, 7, 413), (1001, 1000, 413)]
    {
        let mut raw = Raw::connect(node.http1).await;
        send_chunked(&mut raw, &message(bytes), chunk).await;
        let (head, body) = raw.answer().await;
        assert_eq!(head.status, status, "{bytes} in chunks of {chunk}: {body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_connection_takes_further_messages_after_chunked_ones() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    for bytes in [100, 100_000, 200] {
        send_chunked(&mut raw, &message(bytes), 1000).await;
        let (head, body) = raw.answer().await;
        assert_eq!(head.status, 200);
        assert!(body.ends_with(&format!("\"result\":{bytes}}}")), "{body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_to_go_on() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    let message = message(100);
    let headers = format!("content-length: {}\r\nexpect: 100-continue\r\nmcp-session-id: {}\r\n", 100, session());
    raw.send(post_head(&headers)).await;
    assert_eq!(raw.head().await.status, 100);
    raw.send(message).await;
    assert_eq!(raw.answer().await.0.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_it_is_sent() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    raw.send(post_head(&format!("content-length: {}\r\n", MAX + 1))).await;
    let (head, _) = raw.answer().await;
    assert_eq!((head.status, head.get("connection")), (413, Some("close")));
    assert!(raw.is_closed().await);
    node.stop().await;
}

#[tokio::test]
async fn the_refusal_reaches_a_client_that_is_still_sending() {
    let node = Node::start(|_| ()).await;
    let mut raw = Raw::connect(node.http1).await;
    // More than sockets buffer, so that a reset would come before the client has read anything.
    raw.post("", &vec![b'x'; 4 * MAX]).await;
    let (head, body) = raw.answer().await;
    assert_eq!(head.status, 413, "{body}");
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let node = Node::start(|config| config.body_timeout_ms = 50).await;
    for sent in ["", "{\"jsonrpc\""] {
        let mut raw = Raw::connect(node.http1).await;
        raw.send(post_head("content-length: 100\r\n")).await;
        raw.send(sent).await;
        let (head, body) = raw.answer().await;
        assert_eq!(head.status, 408, "{body}");
        assert!(raw.is_closed().await);
    }
    assert!(node.owner.asked().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_head_that_stands_still_is_given_up() {
    let node = Node::start(|config| config.header_timeout_ms = 50).await;
    for sent in ["", "POST /mcp HT"] {
        let mut raw = Raw::connect(node.http1).await;
        raw.send(sent).await;
        assert!(raw.is_closed().await, "{sent:?}");
    }
    let mut silent = Raw::connect(node.http2).await;
    assert!(silent.is_closed().await, "HTTP/2");
    node.stop().await;
}

#[tokio::test]
async fn all_messages_together_are_bounded() {
    let node = Node::start(|config| {
        config.message_bytes_max = 1000;
        config.messages_bytes_max = 1500;
    })
    .await;
    let mut first = Raw::connect(node.http1).await;
    let mut waits = message(1000);
    let at = waits.windows(6).position(|part| part == b"length").expect("the method");
    waits.splice(at..at + 6, *b"wait");
    let session = format!("mcp-session-id: {}\r\n", session());
    first.post(&session, &waits).await;
    node.owner.until(|counts| counts.running == 1).await;
    let mut second = Raw::connect(node.http1).await;
    second.post(&session, &message(600)).await;
    let (head, _) = second.answer().await;
    assert_eq!((head.status, head.get("retry-after")), (503, Some("1")));
    node.owner.release.send_replace(true);
    assert_eq!(first.answer().await.0.status, 200);
    let mut third = Raw::connect(node.http1).await;
    third.post(&session, &message(600)).await;
    assert_eq!(third.answer().await.0.status, 200, "the bytes come back");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_given_up() {
    let node = Node::start(|config| config.keep_alive_ms = 100).await;
    let mut client = Raw::connect(node.http1).await;
    let body = legacy("large");
    client.post(&format!("mcp-session-id: {}\r\n", session()), body.as_bytes()).await;
    // More than sockets take. Its head comes, and then nothing is read until the node has given up.
    assert_eq!(client.head().await.status, 200);
    common::within(async {
        while node.figures.answers().now() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut rest, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(bytes @ 1..) = client.io.read(&mut buffer).await {
        rest += bytes;
    }
    assert!(rest < 16_000_000, "{rest}");
    node.stop().await;
}

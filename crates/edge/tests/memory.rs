//! A message without end costs no memory. Alone in its binary, because it measures the process.

#![cfg(target_os = "linux")]

mod common;

use common::raw::{Raw, post_head};
use common::{Node, legacy, session};
use tokio::io::AsyncWriteExt;

/// The most memory that this process had resident so far, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn a_gibibyte_adds_less_than_32_mebibytes_and_the_next_message_is_served() {
    let node = Node::start(|_| ()).await;
    let headers = format!("mcp-session-id: {}\r\n", session());
    let mut raw = Raw::connect(node.http1).await;
    raw.post(&headers, legacy("ping").as_bytes()).await;
    assert_eq!(raw.answer().await.0.status, 200);
    let before = peak_kib();
    raw.send(post_head(&format!("{headers}transfer-encoding: chunked\r\n"))).await;
    let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
    for _ in 0..(1 << 30) / 0x10000 {
        // The node may close the connection while this still sends.
        if common::within(raw.io.write_all(&chunk)).await.is_err() {
            break;
        }
    }
    let mut next = Raw::connect(node.http1).await;
    next.post(&headers, legacy("ping").as_bytes()).await;
    assert_eq!(next.answer().await.0.status, 200);
    let added = peak_kib() - before;
    assert!(added < 32 * 1024, "{added} KiB were added");
    assert!(added > 8 * 1024, "the message must have been read up to its limit: {added} KiB");
    node.stop().await;
}

//! A connection that carried a large message keeps no room for the next. Alone in its binary, because it measures the
//! process.

#![cfg(target_os = "linux")]

mod common;

use common::ws::{CONTINUE, FIN, TEXT, Ws};
use common::{Node, modern};
use enfilade_mcp::MESSAGE_BYTES_MAX;

/// What this process has resident now, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn twelve_connections_that_sent_16_mebibytes_each_do_not_hold_192() {
    let node = Node::start(|_| ()).await;
    let mut text = modern("length").into_bytes();
    let end = text.pop().expect("a brace");
    text.resize(MESSAGE_BYTES_MAX - 1, b' ');
    text.push(end);
    let before = resident_kib();
    let mut open = Vec::new();
    for n in 0..12 {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        let (first, rest) = text.split_at(if n % 2 == 0 { text.len() } else { text.len() - 10 });
        if rest.is_empty() {
            ws.text(first).await;
        } else {
            ws.frame(TEXT, first).await;
            ws.frame(FIN | CONTINUE, rest).await;
        }
        // The head of the next frame must not keep what came before it.
        ws.raw.send([FIN | TEXT]).await;
        assert_eq!(ws.json().await["result"], MESSAGE_BYTES_MAX);
        open.push(ws);
    }
    let added = resident_kib().saturating_sub(before);
    // The system's allocator keeps some of what the last of them and this test gave back.
    assert!(added < 4 * (MESSAGE_BYTES_MAX / 1024) as u64, "{added} KiB were added");
    let next = modern("tools/list");
    for ws in &mut open {
        // The rest of the frame whose first byte was sent.
        let length = u8::try_from(next.len() >> 8).expect("small");
        ws.raw.send([0x80 | 126, length, next.len() as u8]).await;
        ws.raw.send([0; 4]).await;
        ws.raw.send(&next).await;
        assert_eq!(ws.json().await["id"], 7);
    }
    drop(open);
    node.stop().await;
}

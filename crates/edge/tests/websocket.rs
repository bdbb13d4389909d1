//! RFC 6455, section by section, in frames that are written by hand.

mod common;

use common::raw::Raw;
use common::ws::{BINARY, CLOSE, CONTINUE, FIN, PING, PONG, TEXT, Ws, opening};
use common::{Node, modern, within};
use enfilade_mcp::MESSAGE_BYTES_MAX;
use tokio::io::AsyncWriteExt;

/// A request that is answered with its own length.
fn length_of(bytes: usize) -> Vec<u8> {
    let mut text = modern("length");
    let fill = bytes - text.len() - r#","fill":"""#.len();
    text.insert_str(text.len() - 1, &format!(r#","fill":"{}""#, "x".repeat(fill)));
    assert_eq!(text.len(), bytes);
    text.into_bytes()
}

async fn is_served(ws: &mut Ws) {
    ws.text(modern("tools/list")).await;
    assert_eq!(ws.json().await["id"], 7);
}

#[tokio::test]
async fn section_4_2_the_opening_handshake() {
    let node = Node::start(|_| ()).await;
    for (headers, protocol) in [
        ("", None),
        ("sec-websocket-protocol: chat, mcp\r\n", Some("mcp")),
        ("sec-websocket-protocol: chat\r\ncontent-length: 0\r\n", None),
        ("sec-websocket-extensions: permessage-deflate\r\norigin: http://localhost:1\r\n", None),
    ] {
        let (mut ws, head) = Ws::ask(&node, "/mcp", headers).await;
        assert_eq!(head.status, 101, "{headers}");
        assert_eq!(head.get("upgrade"), Some("websocket"));
        assert_eq!(head.get("connection"), Some("upgrade"));
        assert_eq!(head.get("sec-websocket-accept"), Some(common::ws::ACCEPT));
        assert_eq!((head.get("sec-websocket-protocol"), head.get("sec-websocket-extensions")), (protocol, None));
        is_served(&mut ws).await;
    }
    let good = opening("/mcp", "");
    // Names of headers and these two values are the same in any case.
    let shouted = good.replace("upgrade: websocket", "UPGRADE: WebSocket");
    let mut raw = Raw::connect(node.http1).await;
    raw.send(shouted.replace("connection: Upgrade", "Connection: keep-alive, uPGRADE")).await;
    assert_eq!(raw.head().await.status, 101);
    for (bad, status) in [
        (good.replace("connection: Upgrade\r\n", ""), 400),
        (good.replace("sec-websocket-key", "x-key"), 400),
        (good.replace("dGhl", "d*hl"), 400),
        (good.replace("dGhl", "dGh"), 400),
        (good.replace("\r\n\r\n", "\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"), 400),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (good.replace("\r\n\r\n", "\r\ncontent-length: 5\r\n\r\nhello"), 400),
        (good.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n"), 400),
        (good.replace("version: 13", "version: 8"), 426),
        (good.replace("sec-websocket-version: 13\r\n", ""), 426),
        (good.replace("/mcp", "/nothing"), 404),
        (good.replace("host: localhost", "host: evil.com"), 403),
        (good.replace("\r\n\r\n", "\r\norigin: http://evil.com\r\n\r\n"), 403),
    ] {
        let mut raw = Raw::connect(node.http1).await;
        raw.send(&bad).await;
        let head = raw.head().await;
        assert_eq!(head.status, status, "{bad}");
        assert_eq!(head.get("sec-websocket-version"), (status == 426).then_some("13"));
    }
    node.stop().await;
}

#[tokio::test]
async fn section_5_1_and_5_2_masks_reserved_bits_and_operations() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.raw.send([FIN | TEXT, 2, b'{', b'}']).await;
    assert_eq!(ws.closed().await, Some(1002), "not masked");
    let reserved = (0x3..=0x7).chain(0xb..=0xf).map(|operation| FIN | operation);
    for first in [0xc0 | TEXT, 0xa0 | TEXT, 0x90 | TEXT, 0xf0 | PING, 0xc0 | CLOSE].into_iter().chain(reserved) {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        ws.frame(first, "{}").await;
        assert_eq!(ws.closed().await, Some(1002), "{first:x}");
    }
    assert_eq!(node.owner.asked(), Vec::<String>::new());
    node.stop().await;
}

#[tokio::test]
async fn section_5_4_fragments_with_control_frames_between_them() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    let text = modern("tools/list").into_bytes();
    for size in [1, 7, 50, text.len() - 1] {
        let parts: Vec<&[u8]> = text.chunks(size).collect();
        for (at, part) in parts.iter().enumerate() {
            let kind = if at == 0 { TEXT } else { CONTINUE };
            let last = if at + 1 == parts.len() { FIN } else { 0 };
            ws.frame(last | kind, part).await;
            if last == 0 && at % 20 == 0 {
                ws.frame(CONTINUE, "").await;
                ws.frame(FIN | PING, "between").await;
                assert_eq!(ws.read().await, (FIN | PONG, b"between".to_vec()));
            }
        }
        assert_eq!(ws.json().await["id"], 7, "{size}");
    }
    for frames in [
        &[(FIN | CONTINUE, "{}")][..],
        &[(CONTINUE, "{}")],
        &[(TEXT, "{"), (FIN | TEXT, "}")],
        &[(TEXT, "{"), (FIN | BINARY, "}")],
        &[(PING, "x")],
        &[(TEXT, "{"), (CLOSE, "")],
    ] {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        for (first, payload) in frames {
            ws.frame(*first, payload).await;
        }
        assert_eq!(ws.closed().await, Some(1002), "{frames:?}");
    }
    // Closing is a control frame as well.
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.frame(TEXT, "{").await;
    ws.frame(FIN | CLOSE, 1000_u16.to_be_bytes()).await;
    assert_eq!(ws.closed().await, Some(1000));
    node.stop().await;
}

#[tokio::test]
async fn section_5_5_pings_and_pongs() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    for payload in [vec![], b"\xff\x00".to_vec(), vec![7; 125]] {
        ws.frame(FIN | PONG, &payload).await;
        ws.frame(FIN | PING, &payload).await;
        assert_eq!(ws.read().await, (FIN | PONG, payload));
    }
    is_served(&mut ws).await;
    ws.frame(FIN | PING, [7; 126]).await;
    assert_eq!(ws.closed().await, Some(1002), "control frames are short");
    node.stop().await;
}

#[tokio::test]
async fn section_5_6_binary_messages_are_refused() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.frame(FIN | BINARY, modern("tools/list")).await;
    assert_eq!(ws.closed().await, Some(1003));
    assert_eq!(node.owner.asked(), Vec::<String>::new());
    node.stop().await;
}

#[tokio::test]
async fn section_7_4_codes_of_clients_that_close() {
    let node = Node::start(|_| ()).await;
    let closing = |code: u16, reason: &str| [&code.to_be_bytes(), reason.as_bytes()].concat();
    // Their own codes come back: those that RFC 6455 and its registry have for the wire, and those of applications.
    let known = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999];
    let unknown = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
    let codes = known.map(|code| (closing(code, ""), Some(code)));
    let wrong = unknown.map(|code| (closing(code, ""), Some(1002)));
    let others = [
        (vec![], None),
        (closing(1000, "done ✓"), Some(1000)),
        (closing(1001, &"x".repeat(123)), Some(1001)),
        (closing(1001, &"x".repeat(124)), Some(1002)),
        (vec![3], Some(1002)),
        ([&1000_u16.to_be_bytes()[..], b"\xff"].concat(), Some(1007)),
    ];
    for (payload, answer) in codes.into_iter().chain(wrong).chain(others) {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        ws.frame(FIN | CLOSE, &payload).await;
        assert_eq!(ws.closed().await, answer, "{payload:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn section_8_1_text_is_utf_8_also_where_a_fragment_ends_within_a_character() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    let text = modern("length").replace("\"id\":7", "\"id\":\"κόσμε 𝄞\"").into_bytes();
    for size in 1..5 {
        let parts: Vec<&[u8]> = text.chunks(size).collect();
        for (at, part) in parts.iter().enumerate() {
            let last = if at + 1 == parts.len() { FIN } else { 0 };
            ws.frame(last | if at == 0 { TEXT } else { CONTINUE }, part).await;
        }
        let answer = ws.json().await;
        assert_eq!((answer["id"].as_str(), answer["result"].as_u64()), (Some("κόσμε 𝄞"), Some(text.len() as u64)));
    }
    let ends = "\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fffe}\u{ffff}\u{10000}\u{10ffff}";
    ws.text(modern("length").replace("\"id\":7", &format!("\"id\":\"{ends}\""))).await;
    assert_eq!(ws.json().await["id"], ends);
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xce", b"\xce\xba\xe1\xbd"] {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        ws.text(bad).await;
        assert_eq!(ws.closed().await, Some(1007), "{bad:?}");
        let mut ws = Ws::open(&node, "/mcp", "").await;
        let (first, second) = bad.split_at(bad.len() / 2);
        ws.frame(TEXT, first).await;
        ws.frame(FIN | CONTINUE, second).await;
        assert_eq!(ws.closed().await, Some(1007), "{bad:?} in two");
    }
    // No end of the message has to come for it.
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.frame(TEXT, b"{\"a\":\"\xff").await;
    assert_eq!(ws.closed().await, Some(1007));
    node.stop().await;
}

#[tokio::test]
async fn section_10_4_the_largest_message_is_taken_and_one_byte_more_is_not() {
    let node = Node::start(|_| ()).await;
    let whole = length_of(MESSAGE_BYTES_MAX);
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(&whole).await;
    assert_eq!(ws.json().await["result"], MESSAGE_BYTES_MAX);
    for (at, part) in whole.chunks(1 << 20).enumerate() {
        let last = if (at + 1) << 20 >= whole.len() { FIN } else { 0 };
        ws.frame(last | if at == 0 { TEXT } else { CONTINUE }, part).await;
    }
    assert_eq!(ws.json().await["result"], MESSAGE_BYTES_MAX);
    // Refused as soon as it is known: of the first only the head has come, of the second no end.
    for length in [MESSAGE_BYTES_MAX as u64 + 1, u64::from(u32::MAX) + 1, 1 << 63, u64::MAX] {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        ws.head(FIN | TEXT, length).await;
        assert_eq!(ws.closed().await, Some(1009), "{length}");
    }
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.frame(TEXT, &whole).await;
    ws.frame(CONTINUE, "x").await;
    assert_eq!(ws.closed().await, Some(1009));
    node.stop().await;
}

#[tokio::test]
async fn the_bytes_of_messages_that_are_being_read_are_bounded_for_all() {
    let node = Node::start(|config| (config.message_bytes_max, config.messages_bytes_max) = (100_000, 100_000)).await;
    let (mut first, mut second) = (Ws::open(&node, "/mcp", "").await, Ws::open(&node, "/mcp", "").await);
    first.frame(TEXT, vec![b' '; 60_000]).await;
    first.frame(FIN | PING, "").await;
    assert_eq!(first.read().await.0, FIN | PONG, "the part was read");
    second.frame(TEXT, vec![b' '; 60_000]).await;
    assert_eq!(second.closed().await, Some(1013));
    drop(first);
    let mut third = Ws::open(&node, "/mcp", "").await;
    third.text(length_of(60_000)).await;
    assert_eq!(third.json().await["result"], 60_000);
    node.stop().await;
}

#[tokio::test]
async fn connections_count_as_long_as_they_are_open() {
    let node = Node::start(|config| config.connections_max = 1).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    is_served(&mut ws).await;
    let mut raw = Raw::connect(node.http1).await;
    raw.send(opening("/mcp", "")).await;
    assert_eq!(raw.head().await.status, 503);
    ws.frame(FIN | CLOSE, "").await;
    assert_eq!(ws.closed().await, None);
    let again = async {
        loop {
            let mut raw = Raw::connect(node.http1).await;
            raw.send(opening("/mcp", "")).await;
            if raw.head().await.status == 101 {
                return;
            }
        }
    };
    within(again).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_answers_first_and_then_sends_its_clients_elsewhere() {
    let node = Node::start(|_| ()).await;
    let (mut idle, mut busy) = (Ws::open(&node, "/mcp", "").await, Ws::open(&node, "/mcp", "").await);
    busy.text(modern("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    node.ending.stop();
    assert_eq!(idle.closed().await, Some(1012));
    busy.text(modern("tools/list").replace("\"id\":7", "\"id\":8")).await;
    let refused = busy.json().await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["retry"]), (&8.into(), &true.into()));
    node.owner.release.send_replace(true);
    assert_eq!(busy.json().await["id"], 7);
    assert_eq!(busy.closed().await, Some(1012));
    within(node.task).await.expect("no panic");
}

#[tokio::test]
async fn a_node_that_cannot_wait_goes_away() {
    let node = Node::start(|config| config.drain_ms = 50).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(modern("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    node.ending.stop();
    assert_eq!(ws.closed().await, Some(1001));
    node.owner.until(|counts| counts.dropped == 1).await;
    within(node.task).await.expect("no panic");
}

#[tokio::test]
async fn a_node_that_leaves_takes_no_more() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    node.ending.leave();
    let (mut refused, head) = Ws::ask(&node, "/mcp", "").await;
    assert_eq!((head.status, head.get("retry-after"), head.get("connection")), (503, Some("1"), Some("close")));
    let _ = refused.raw.io.shutdown().await;
    is_served(&mut ws).await;
    node.stop().await;
}

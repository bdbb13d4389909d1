//! RFC 6455 to the byte: lengths, masks, pieces, the samples of section 5.7, and what is said and heard around the end.

mod common;

use common::ws::{CLOSE, CONTINUE, FIN, MASK, PING, PONG, TEXT, Ws, masked};
use common::{Node, modern, within};
use tokio::io::AsyncReadExt;

/// A text of so many bytes, and what answers it: its length where there is room for a request, else an error.
fn text_of(bytes: usize) -> (Vec<u8>, serde_json::Value) {
    let mut text = modern("length").into_bytes();
    if bytes < text.len() {
        return (vec![b' '; bytes], (-32700).into());
    }
    let end = text.pop().expect("a brace");
    text.resize(bytes - 1, b' ');
    text.push(end);
    (text, bytes.into())
}

#[tokio::test]
async fn section_5_2_lengths_on_both_sides_of_each_form() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    for bytes in [0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537] {
        let (text, expected) = text_of(bytes);
        ws.text(text).await;
        let answer = ws.json().await;
        let got = if expected == -32700 { &answer["error"]["code"] } else { &answer["result"] };
        assert_eq!(got, &expected, "{bytes}: {answer}");
    }
    drop(ws);
    node.stop().await;
}

#[tokio::test]
async fn section_5_3_each_frame_has_a_mask_of_its_own() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    let (text, expected) = text_of(1001);
    for mask in [[0; 4], [0xff; 4], [0, 0, 0, 1], [0x7b, 0x22, 0x6a, 0x73], [0x80, 0xbf, 0xc0, 0xfe]] {
        ws.raw.send(masked(FIN | TEXT, &text, mask)).await;
        assert_eq!(ws.json().await["result"], expected, "{mask:x?}");
        let (first, second) = text.split_at(501);
        ws.raw.send([masked(TEXT, first, MASK), masked(FIN | CONTINUE, second, mask)].concat()).await;
        assert_eq!(ws.json().await["result"], expected, "{mask:x?} in the second frame");
    }
    drop(ws);
    node.stop().await;
}

#[tokio::test]
async fn section_5_4_a_long_message_of_the_node_comes_in_fragments() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(modern("stream")).await;
    ws.text(modern("tools/list").replace("\"id\":7", "\"id\":8")).await;
    assert_eq!(ws.json().await["id"], 8);
    // Of characters with two bytes, so that a fragment ends within one, whichever byte the first begins at.
    for begin in ["", "x"] {
        let fill = format!("{begin}{}", "é".repeat(20_000));
        let notice = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"fill":"{fill}"}}}}"#);
        node.owner.stream().send(notice.clone());
        let (mut first, mut all) = ws.read().await;
        assert_eq!(first, TEXT, "the first of several");
        while first & FIN == 0 {
            let (next, part) = ws.read().await;
            assert!(part.len() <= 8 * 1024, "{} bytes", part.len());
            assert_eq!(next & 0x0f, CONTINUE);
            all.extend(part);
            first = next;
        }
        assert_eq!(String::from_utf8(all).expect("text"), notice);
    }
    ws.frame(FIN | PING, "after").await;
    assert_eq!(ws.read().await, (FIN | PONG, b"after".to_vec()));
    let stream = node.owner.stream();
    drop(ws);
    within(stream.abandoned()).await;
    node.stop().await;
}

#[tokio::test]
async fn section_5_5_1_nothing_is_heard_after_a_close() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    let close = masked(FIN | CLOSE, 1000_u16.to_be_bytes(), MASK);
    ws.raw
        .send([close, masked(FIN | PING, "late", MASK), masked(FIN | TEXT, modern("tools/list"), MASK)].concat())
        .await;
    assert_eq!(ws.read().await, (FIN | CLOSE, 1000_u16.to_be_bytes().to_vec()));
    // Section 7.1.1: the server ends the connection; this client does nothing.
    assert!(ws.raw.is_closed().await, "nothing follows");
    assert_eq!(node.owner.asked(), Vec::<String>::new());
    drop(ws);
    node.stop().await;
}

#[tokio::test]
async fn section_5_7_the_samples_are_read_and_said() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    let hello = [0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    ws.raw.send([&[0x89, 0x85], &hello[..]].concat()).await;
    let mut pong = [0; 7];
    within(ws.raw.io.read_exact(&mut pong)).await.expect("a pong");
    assert_eq!(pong, [0x8a, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    ws.raw.send([&[0x81, 0x85], &hello[..]].concat()).await;
    assert_eq!(ws.json().await["error"]["code"], -32700, "Hello is no JSON");
    ws.raw.send([0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]).await;
    assert_eq!(ws.closed().await, Some(1002), "a client's frame without a mask");
    node.stop().await;
}

#[tokio::test]
async fn section_6_2_frames_are_read_in_whatever_pieces_they_come() {
    let node = Node::start(|_| ()).await;
    let (text, expected) = text_of(300);
    let (first, second) = text.split_at(130);
    let frames = [
        masked(TEXT, first, MASK),
        masked(FIN | PING, "between", MASK),
        masked(CONTINUE, "", MASK),
        masked(FIN | CONTINUE, second, MASK),
        masked(FIN | PONG, "unasked", MASK),
        masked(FIN | TEXT, &text, MASK),
        masked(FIN | CLOSE, 4321_u16.to_be_bytes(), MASK),
    ]
    .concat();
    for size in [1, 3, 131, frames.len()] {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        for piece in frames.chunks(size) {
            ws.raw.send(piece).await;
        }
        assert_eq!(ws.read().await, (FIN | PONG, b"between".to_vec()), "{size}");
        for _ in 0..2 {
            assert_eq!(ws.json().await["result"], expected, "{size}");
        }
        assert_eq!(ws.closed().await, Some(4321), "{size}");
    }
    node.stop().await;
}

#[tokio::test]
async fn section_7_1_a_client_that_is_gone_without_a_word_leaves_nothing_behind() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(modern("wait")).await;
    // In the middle of a frame.
    ws.head(FIN | TEXT, 1000).await;
    node.owner.until(|counts| counts.running == 1).await;
    drop(ws);
    node.owner.until(|counts| counts.running == 0 && counts.dropped == 1).await;
    node.stop().await;
}

#[tokio::test]
async fn section_10_4_a_client_that_goes_on_sending_reads_why_it_was_refused() {
    let node = Node::start(|config| config.message_bytes_max = 1000).await;
    for (fits, parts) in [(true, 1000), (false, 1001)] {
        let mut ws = Ws::open(&node, "/mcp", "").await;
        let (text, expected) = text_of(parts);
        let frame = |(at, byte): (usize, &[u8])| {
            let last = if at + 1 == parts { FIN } else { 0 };
            masked(last | if at == 0 { TEXT } else { CONTINUE }, byte, MASK)
        };
        ws.raw.send(text.chunks(1).enumerate().flat_map(frame).collect::<Vec<u8>>()).await;
        match fits {
            true => assert_eq!(ws.json().await["result"], expected),
            false => assert_eq!(ws.closed().await, Some(1009)),
        }
    }
    // All of it is on its way before the node can say anything.
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(vec![b' '; 100_000]).await;
    assert_eq!(ws.closed().await, Some(1009));
    node.stop().await;
}

//! Both eras over WebSocket: sessions and how a client goes on with one, streams, cancellation, slow readers.

mod common;

use common::ws::{CLOSE, FIN, PING, PONG, Ws};
use common::{Node, forged, legacy, modern, session, within};
use enfilade_session::stream::STREAM_BYTES_MAX;
use serde_json::json;

const SESSION: &str = "io.enfilade/session";
const EVENT: &str = "io.enfilade/event";

async fn opened(node: &Node) -> Ws {
    let mut ws = Ws::open(node, "/mcp", "").await;
    ws.text(legacy("initialize")).await;
    let answer = ws.json().await;
    assert_eq!((&answer["id"], &answer["result"]["_meta"][SESSION]), (&json!(7), &json!(session())), "{answer}");
    ws
}

#[tokio::test]
async fn initialize_opens_a_session_that_the_connection_keeps() {
    let node = Node::start(|_| ()).await;
    let mut ws = opened(&node).await;
    // The general stream needs no request of its own.
    let general = ws.json().await;
    assert_eq!(general["method"], "notifications/enfilade/stream");
    assert_eq!(general["params"], json!({"_meta": {EVENT: "0.1.0"}}));
    ws.text(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    ws.text(legacy("tools/call")).await;
    assert_eq!(ws.json().await, json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    node.owner.stream().send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {EVENT: "0.1.1"}}});
    assert_eq!(ws.json().await, ping);
    ws.text(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    ws.text(legacy("initialize")).await;
    assert_eq!(ws.json().await["error"]["code"], -32600, "one session is enough");
    let asked = ["initialize", "open_stream -", "legacy notifications/initialized -", "legacy tools/call -"];
    assert_eq!(node.owner.asked(), [&asked[..], &["legacy response -"]].concat());
    node.stop().await;
}

#[tokio::test]
async fn without_a_session_only_modern_requests_are_taken() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    for text in ["", "{", "[1]", "7", &legacy("tools/list"), &format!("[{}]", legacy("tools/list"))] {
        ws.text(text).await;
        assert!(ws.json().await["error"]["code"].is_i64(), "{text}");
    }
    ws.text(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    ws.text(modern("length")).await;
    assert_eq!(ws.json().await["result"], modern("length").len());
    assert_eq!(node.owner.asked(), ["modern length at 0 by anonymous"]);
    node.stop().await;
}

#[tokio::test]
async fn requests_run_at_the_same_time_and_answers_come_as_they_are_ready() {
    let node = Node::start(|_| ()).await;
    let mut ws = opened(&node).await;
    ws.json().await;
    for _ in 0..3 {
        ws.text(legacy("wait")).await;
    }
    node.owner.until(|counts| counts.running == 3).await;
    ws.text(legacy("tools/list").replace("\"id\":7", "\"id\":8")).await;
    assert_eq!(ws.json().await["id"], 8);
    node.owner.release.send_replace(true);
    for _ in 0..3 {
        assert_eq!(ws.json().await["id"], 7);
    }
    node.stop().await;
}

#[tokio::test]
async fn too_many_requests_are_refused_and_responses_are_not() {
    let node = Node::start(|config| config.requests_in_flight_max = 2).await;
    let mut ws = opened(&node).await;
    ws.json().await;
    ws.text(legacy("wait")).await;
    ws.text(legacy("wait")).await;
    node.owner.until(|counts| counts.running == 2).await;
    node.owner.asked();
    ws.text(legacy("tools/list")).await;
    assert_eq!(ws.json().await["error"]["data"], json!({"fault": "gateway", "retry": true}));
    ws.text(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    ws.frame(FIN | PING, "").await;
    assert_eq!(ws.read().await.0, FIN | PONG, "the response was taken");
    node.owner.release.send_replace(true);
    assert_eq!((ws.json().await["id"].clone(), ws.json().await["id"].clone()), (json!(7), json!(7)));
    assert_eq!(node.owner.asked(), ["legacy response -"]);
    node.stop().await;
}

#[tokio::test]
async fn a_session_is_gone_on_with_after_the_last_events() {
    let node = Node::start(|_| ()).await;
    let mut ws = opened(&node).await;
    ws.json().await;
    let general = node.owner.stream();
    ws.text(legacy("kept")).await;
    let params = json!({"requestId": 7, "_meta": {EVENT: "1.1.0"}});
    assert_eq!(ws.json().await["params"], params, "the stream of the call is open");
    let call = node.owner.stream();
    call.send(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#);
    assert_eq!(ws.json().await["params"], json!({"progress": 1, "_meta": {EVENT: "1.1.1"}}));
    drop(ws);
    call.send(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    general.send(r#"{"jsonrpc":"2.0","method":"m"}"#);
    node.owner.asked();
    let header = format!("mcp-session-id: {}\r\nlast-event-id: 1.1.1, 0.1.0\r\n", session());
    let query = format!("/mcp?session={}&last-event-id=1.1.1&last-event-id=0.1.0", session());
    for (target, headers) in [("/mcp", &*header), (&*query, "")] {
        let mut ws = Ws::open(&node, target, headers).await;
        assert_eq!(ws.json().await["result"], json!({"_meta": {EVENT: "1.1.2"}}));
        assert_eq!(ws.json().await["params"], json!({"_meta": {EVENT: "0.1.1"}}));
        assert_eq!(node.owner.asked(), ["open_stream 0.1.0", "open_stream 1.1.1"]);
        ws.text(legacy("tools/list")).await;
        assert_eq!(ws.json().await["id"], 7, "the session is the connection's");
        assert_eq!(node.owner.asked(), ["legacy tools/list -"]);
    }
    // The stream of a call that nobody has is told of; the general one is taken up from where it was read.
    let mut ws = Ws::open(&node, "/mcp", &format!("mcp-session-id: {}\r\nlast-event-id: 9.1.1\r\n", session())).await;
    let lost = ws.json().await;
    assert_eq!((lost.get("id"), &lost["error"]["data"]["event"]), (None, &json!("9.1.1")));
    node.stop().await;
}

#[tokio::test]
async fn sessions_that_cannot_be_gone_on_with_are_refused_before_the_connection_opens() {
    let node = Node::start(|_| ()).await;
    let many = "1.1.1,".repeat(300);
    for (session, events, status) in [(forged(), "", 404), (session(), "0.1.9", 404), (session(), &many, 400)] {
        let headers = format!("mcp-session-id: {session}\r\nlast-event-id: {events}\r\n");
        let (_, head) = Ws::ask(&node, "/mcp", &headers).await;
        assert_eq!(head.status, status, "{events}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_general_stream_that_is_read_elsewhere_ends_the_connection_after_its_answers() {
    let node = Node::start(|_| ()).await;
    let mut ws = opened(&node).await;
    ws.json().await;
    ws.text(legacy("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    let _other = node.owner.stream().attach(None).expect("a reader");
    ws.text(legacy("tools/list").replace("\"id\":7", "\"id\":8")).await;
    let answer = ws.json().await;
    assert_eq!((&answer["id"], answer["error"]["data"]["retry"].as_bool()), (&json!(8), Some(true)), "{answer}");
    node.owner.release.send_replace(true);
    assert_eq!(ws.json().await["id"], 7);
    assert_eq!(ws.closed().await, Some(1012));
    node.stop().await;
}

#[tokio::test]
async fn modern_streams_flow_and_are_cancelled_by_notification_or_by_closing() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    ws.text(modern("subscriptions/listen")).await;
    ws.text(modern("tools/list").replace("\"id\":7", "\"id\":8")).await;
    assert_eq!(ws.json().await["id"], 8);
    let listening = node.owner.stream();
    // An event id that a server made up is not passed on.
    let forged = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.enfilade/event":"0.1.9","a":1}}}"#;
    listening.send(forged);
    assert_eq!(ws.json().await["params"]["_meta"], json!({"a": 1}));
    listening.send(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    assert_eq!(ws.json().await, json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    ws.text(cancel).await;
    within(listening.abandoned()).await;
    ws.text(modern("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    ws.text(cancel).await;
    node.owner.until(|counts| counts.running == 0 && counts.dropped == 1).await;
    ws.text(modern("stream")).await;
    ws.text(modern("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    let call = node.owner.stream();
    ws.frame(FIN | CLOSE, 1000_u16.to_be_bytes()).await;
    assert_eq!(ws.closed().await, Some(1000));
    within(call.abandoned()).await;
    node.owner.until(|counts| counts.running == 0 && counts.dropped == 2).await;
    node.stop().await;
}

#[tokio::test]
async fn a_cancellation_in_a_session_is_its_owners() {
    let node = Node::start(|_| ()).await;
    let mut ws = opened(&node).await;
    ws.json().await;
    ws.text(legacy("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    node.owner.asked();
    ws.text(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#).await;
    ws.text(legacy("tools/list").replace("\"id\":7", "\"id\":8")).await;
    assert_eq!(ws.json().await["id"], 8);
    assert_eq!(node.owner.asked(), ["legacy notifications/cancelled -", "legacy tools/list -"]);
    node.owner.release.send_replace(true);
    assert_eq!(ws.json().await["id"], 7);
    node.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_without_its_answer_is_told() {
    let node = Node::start(|_| ()).await;
    let mut ws = opened(&node).await;
    ws.json().await;
    ws.text(legacy("kept")).await;
    assert_eq!(ws.json().await["params"]["_meta"][EVENT], "1.1.0");
    // Read elsewhere, as when its reader was given up for being slow.
    let call = node.owner.stream();
    let _other = call.attach(None).expect("a reader");
    let params = json!({"requestId": 7, "ended": true, "_meta": {EVENT: "1.1.0"}});
    assert_eq!(ws.json().await["params"], params);
    ws.text(modern("stream")).await;
    ws.text(modern("tools/list").replace("\"id\":7", "\"id\":8")).await;
    assert_eq!(ws.json().await["id"], 8);
    node.owner.stream().finish();
    let unknown = ws.json().await;
    assert_eq!((&unknown["id"], &unknown["error"]["data"]["outcome"]), (&json!(7), &json!("unknown")), "{unknown}");
    // With its answer there is nothing more to say.
    for name in ["kept", "stream"] {
        let request = if name == "kept" { legacy(name) } else { modern(name) };
        ws.text(request).await;
        ws.text(modern("tools/list").replace("\"id\":7", "\"id\":8")).await;
        while ws.json().await["id"] != 8 {}
        node.owner.stream().send(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
        node.owner.stream().finish();
        assert_eq!(ws.json().await["id"], 7);
    }
    ws.text(modern("tools/list").replace("\"id\":7", "\"id\":9")).await;
    assert_eq!(ws.json().await["id"], 9, "nothing came between");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_more_than_a_stream_keeps() {
    let node = Node::start(|config| config.drain_ms = 50).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(modern("stream")).await;
    ws.text(modern("tools/list").replace("\"id\":7", "\"id\":8")).await;
    assert_eq!(ws.json().await["id"], 8);
    let stream = node.owner.stream();
    // The system's buffers take some; what they do not take stays in the stream until it gives its reader up.
    let line = format!("\"{}\"", "x".repeat(STREAM_BYTES_MAX / 4));
    let given_up = async {
        while stream.is_attached() {
            stream.send(line.clone());
            tokio::task::yield_now().await;
        }
    };
    within(given_up).await;
    within(stream.abandoned()).await;
    node.stop().await;
}

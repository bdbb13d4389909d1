//! What was begun at one node is gone on with at another, although nothing was lost and nothing moved.

mod common;

use common::{World, asked, until, within};
use enfilade_runtime::Memory;
use serde_json::Value;
use std::collections::BTreeSet;

const VERSION: &str = "2025-11-25";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_one_node_is_good_on_others() {
    // Two full pages, and a rest.
    let world = World::start_with_tools(3, 1_000).await;
    let session = world.open_owned_by(0, VERSION).await;
    let (mut names, mut cursor) = (Vec::new(), String::from(r#""x":0"#));
    for at in 0..5 {
        let list = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{cursor}}}}}"#);
        let page = within(world.nodes[at % 3].post(session, list)).await.unwrap();
        let page: Value = serde_json::from_str(&page.text).unwrap();
        let tools = page["result"]["tools"].as_array().unwrap_or_else(|| panic!("{page}"));
        names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
        // Without a session every node answers by itself.
        let modern = within(world.nodes[(at + 1) % 3].modern_request("tools/list", None, &cursor)).await.unwrap();
        let modern: Value = serde_json::from_str(&modern.text).unwrap();
        assert!(modern["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{modern}");
        let Some(next) = page["result"]["nextCursor"].as_str() else {
            assert_eq!(at, 2, "the last page");
            break;
        };
        cursor = format!(r#""cursor":"{next}""#);
    }
    let all: BTreeSet<&String> = names.iter().collect();
    assert!(all.len() == names.len() && names.len() > 1_000, "each tool once: {} of {}", all.len(), names.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_at_another_node() {
    let world = World::start_legacy(3).await;
    let session = asked::open(&world, 1).await;
    let elicitation = r#"{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{"name":"test_elicitation","arguments":{"message":"Well?"}}}"#;
    let sampling = r#"{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{"name":"test_sampling","arguments":{"prompt":"Well?"}}}"#;
    let yes = r#"{"action":"accept","content":{"response":"yes indeed"}}"#;
    let said =
        r#"{"role":"assistant","content":{"type":"text","text":"yes indeed"},"model":"m","stopReason":"endTurn"}"#;
    for (call, method, result) in [(elicitation, "elicitation/create", yes), (sampling, "sampling/createMessage", said)]
    {
        // The stream is at one node, the owner is another, and the answer goes to the third.
        let mut events = asked::post(&world, 0, session, call);
        let question: Value = serde_json::from_str(&within(events.recv()).await.unwrap()).unwrap();
        assert_eq!(question["method"], method, "{question}");
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, question["id"]);
        assert_eq!(within(world.nodes[2].post(session, answer)).await.unwrap().status, 202);
        let last = within(events.recv()).await.unwrap();
        assert!(last.contains("yes indeed"), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_resumed_at_another_node() {
    let world = World::start(3).await;
    let session = world.open_owned_by(1, VERSION).await;
    let call = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"slow","arguments":{"ms":3000,"steps":30},"_meta":{"progressToken":"p"}}}"#;
    let router = world.nodes[0].router.clone();
    // The client of node 0 reads a part, and its connection breaks.
    let reading = world.nodes[0].spawn(async move { asked::read(&router, session, call, 5).await });
    let first = within(reading).await.unwrap();
    let last = *first.last().unwrap();
    let rest = within(world.nodes[2].resume(session, last)).await.unwrap();
    assert_eq!(rest.content().as_deref(), Some("done"));
    let seqs: Vec<u64> = first.iter().chain(&rest.ids).map(|id| id.seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "no gap and no double");
    until(|| async { world.nodes[1].node.in_flight() }, |now| *now == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_for_which_the_owner_has_no_memory_is_refused_at_once() {
    let world = World::start(3).await;
    let session = world.open_owned_by(1, VERSION).await;
    let (pressure, messages) = &world.nodes[1].memory;
    let (large, small) = (format!(r#"{{"text":"{}"}}"#, "x".repeat(64 * 1024)), r#"{"text":"x"}"#);
    for (used_bytes, arguments, status) in
        [(0, &*large, 200), (1 << 20, &large, 503), (1 << 20, small, 200), (0, &large, 200)]
    {
        pressure.measured(Memory { used_bytes, max_bytes: 1 << 20 });
        let answer = within(world.nodes[0].call(session, "echo", arguments)).await.expect("the node runs");
        let (text, bytes) = (answer.text.get(..400).unwrap_or(&answer.text), arguments.len());
        assert_eq!(answer.status, status, "{used_bytes} {bytes}: {text}");
        assert_eq!(answer.text.contains("no memory left"), status == 503, "{used_bytes} {bytes}: {text}");
        until(|| async { messages.now() }, |now| *now == 0).await;
    }
}

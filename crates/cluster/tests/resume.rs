//! A resumable stream whose owner is lost goes on at another node: no gap, no double, and a last word.

mod common;

use common::{World, until, within};
use enfilade_registry::Reader;
use enfilade_session::stream::EventId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_resumed_at_another_node_after_its_owner_was_lost() {
    let mut world = World::start(3).await;
    let session = world.open_owned_by(2, "2025-11-25").await;
    let in_sync = |world: &World| world.nodes[0].raft.slot_table().get(session.slot()).in_sync;
    until(|| async { in_sync(&world) }, |in_sync| *in_sync).await;
    let call = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"slow","arguments":{"ms":20000,"steps":2000},"_meta":{"progressToken":"p"}}}"#;
    let streaming = world.nodes[0].post(session, call.into());
    let read = world.nodes[1].content(session, "slow", r#"{"ms":1500,"steps":1}"#).await;
    assert_eq!(read, "done", "the stream has flowed for a while");
    world.nodes[2].kill();
    let first = within(streaming).await.unwrap();
    assert!(first.ids.len() > 50, "{} events, {}", first.ids.len(), first.text);
    assert!(!first.is_unknown(), "the client can resume");
    let last = *first.ids.last().unwrap();
    let rest = within(world.nodes[1].resume(session, last)).await.unwrap();
    assert!(rest.is_unknown() && rest.text.contains("\"long\""), "{rest:?}");
    let ids: Vec<EventId> = first.ids.iter().chain(&rest.ids).copied().collect();
    let expected: Vec<u64> = (0..ids.len() as u64).collect();
    assert_eq!(ids.iter().map(|id| id.seq).collect::<Vec<_>>(), expected, "no gap and no double");
    assert!(ids.iter().all(|id| (id.stream, id.term) == (last.stream, last.term)));
    let progress = first.texts.iter().chain(&rest.texts).filter(|text| text.contains("notifications/progress"));
    let progress: Vec<u64> = progress.map(|text| number(text)).collect();
    assert_eq!(progress, (1..=progress.len() as u64).collect::<Vec<_>>(), "the messages themselves, too");
}

/// The progress that a notification tells.
fn number(text: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    value["params"]["progress"].as_f64().unwrap() as u64
}

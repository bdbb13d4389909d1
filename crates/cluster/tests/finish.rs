//! Calls under way when their slot is moved: the former owner finishes them, their clients see nothing of it.

mod common;

use common::{Answer, CALLER, World, until, within};
use enfilade_registry::{Command, Reader, SessionId, Writer};
use enfilade_session::owner::{Legacy, Owner, Reply};
use enfilade_testkit::everything::Era;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::mpsc;

const OLDEST: &str = "2024-11-05";
const OLD: &str = "2025-06-18";
const NEW: &str = "2025-11-25";

/// Moves the slot of a session, as the leader would, and waits until every node knows. Another slot goes the other way, so
/// that the leader finds every node with its share and moves nothing itself.
async fn moved(world: &World, session: SessionId, to: usize) {
    let raft = world.nodes[to].raft.clone();
    let (slot, run) = (session.slot(), world.nodes[to].run);
    let done = world.nodes[to].spawn(async move {
        until(
            || async {
                let table = raft.slot_table();
                let record = *table.get(slot);
                if record.owner == Some(run) {
                    return true;
                }
                if let (Some(from), 0) = (record.owner, table.moving()) {
                    let other = table.iter().find(|(_, record)| record.owner == Some(run)).expect("its share");
                    let there = Command::Move { slots: vec![(slot, record.term)], to: run };
                    let back = Command::Move { slots: vec![(other.0, other.1.term)], to: from };
                    let _ = futures::join!(raft.submit(there), raft.submit(back)); // Looked at again.
                }
                false
            },
            |done| *done,
        )
        .await
    });
    within(done).await.unwrap();
    for (at, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.is_up()) {
        until(|| async { node.raft.slot_table().get(slot).owner }, |owner| *owner == Some(run)).await;
        assert_eq!(world.owner(at, session), Some(to));
    }
}

async fn in_flight(world: &World, at: usize, count: usize) {
    until(|| async { world.nodes[at].node.in_flight() }, |now| *now == count).await;
}

/// What the upstream has witnessed.
async fn counts(world: &World, session: SessionId) -> Value {
    serde_json::from_str(&world.nodes[0].content(session, "counts", "{}").await).unwrap()
}

/// Arguments of a call that ends after [`release`].
fn until_released(gate: &str) -> String {
    format!(r#"{{"ms":0,"until":"{gate}"}}"#)
}

async fn release(world: &World, session: SessionId, gate: &str) {
    world.nodes[0].content(session, "count", &format!(r#"{{"key":"{gate}"}}"#)).await;
}

fn expect_done(answers: &[Answer]) {
    for answer in answers {
        assert_eq!(answer.content().as_deref(), Some("done"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_are_answered_through_the_new_owner() {
    calls_are_answered(World::start_patient(Era::Both).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_a_session_of_an_upstream_are_too() {
    calls_are_answered(World::start_patient(Era::Legacy).await).await;
}

async fn calls_are_answered(world: World) {
    for version in [OLDEST, OLD, NEW] {
        let session = world.open_owned_by(1, version).await;
        // From the edges of the former owner, of the new one, and of another node.
        let calls: Vec<_> =
            world.nodes.iter().map(|node| node.call(session, "slow", &until_released(version))).collect();
        in_flight(&world, 1, 3).await;
        moved(&world, session, 2).await;
        assert_eq!(world.nodes[1].node.in_flight(), 3, "they go on where they were");
        assert_eq!(world.nodes[1].content(session, "echo", r#"{"text":"served"}"#).await, "served");
        release(&world, session, version).await;
        let mut answers = Vec::new();
        for call in calls {
            answers.push(within(call).await.unwrap());
        }
        expect_done(&answers);
        in_flight(&world, 1, 0).await;
    }
    let session = world.open(0, NEW).await;
    assert_eq!(counts(&world, session).await["calls"]["slow"], 9, "each was executed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_without_a_gap_or_a_double() {
    let world = World::start_patient(Era::Both).await;
    let session = world.open_owned_by(1, NEW).await;
    let call = r#"{"jsonrpc":"2.0","id":"long","method":"tools/call","params":{"name":"slow","arguments":{"ms":3000,"steps":300,"until":"moved"},"_meta":{"progressToken":"p"}}}"#;
    let streaming: Vec<_> =
        [0, 1].map(|at| world.nodes[at].post(session, call.replace("long", &at.to_string()))).into();
    let read = world.nodes[0].content(session, "slow", r#"{"ms":300,"steps":1}"#).await;
    assert_eq!(read, "done", "the streams have flowed for a while");
    moved(&world, session, 2).await;
    assert!(streaming.iter().all(|streaming| !streaming.is_finished()), "the move was in the middle of it");
    release(&world, session, "moved").await;
    for streaming in streaming {
        let answer = within(streaming).await.unwrap();
        assert_eq!(answer.content().as_deref(), Some("done"));
        let seqs: Vec<u64> = answer.ids.iter().map(|id| id.seq).collect();
        assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "no gap and no double");
        assert!(answer.ids.iter().all(|id| (id.stream, id.term) == (answer.ids[0].stream, answer.ids[0].term)));
        let values = answer.texts.iter().filter(|text| text.contains("notifications/progress"));
        let progress: Vec<u64> = values
            .map(|text| serde_json::from_str::<Value>(text).unwrap()["params"]["progress"].as_f64().unwrap() as u64)
            .collect();
        assert_eq!(progress, (1..=300).collect::<Vec<_>>(), "the messages themselves, too");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_cancelled_after_its_slot_was_moved() {
    let world = World::start_patient(Era::Both).await;
    let session = world.open_owned_by(1, NEW).await;
    let call = r#"{"jsonrpc":"2.0","id":"h","method":"tools/call","params":{"name":"hang","arguments":{}}}"#;
    let hanging = world.nodes[0].post(session, call.into());
    in_flight(&world, 1, 1).await;
    until(|| async { counts(&world, session).await }, |counts| counts["calls"]["hang"] == 1).await;
    moved(&world, session, 2).await;
    let twice = within(world.nodes[0].post(session, call.into())).await.unwrap();
    assert!(twice.text.contains("in flight already"), "{twice:?}");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"h"}}"#;
    assert_eq!(within(world.nodes[0].post(session, cancel.into())).await.unwrap().status, 202);
    let ended = within(hanging).await.unwrap();
    assert_eq!(ended.text, "", "its stream just ends: {ended:?}");
    until(|| async { counts(&world, session).await }, |counts| counts["cancelled"] == 1).await;
    in_flight(&world, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_finisher_leaves_is_unknown() {
    let mut world = World::start_patient(Era::Both).await;
    let session = world.open_owned_by(1, NEW).await;
    let calls: Vec<_> = [0, 2].map(|at| world.nodes[at].call(session, "hang", "{}")).into();
    in_flight(&world, 1, 2).await;
    moved(&world, session, 2).await;
    world.nodes[1].kill();
    for call in calls {
        let answer = within(call).await.unwrap();
        assert!(answer.is_unknown(), "{answer:?}");
    }
    assert_eq!(world.nodes[0].content(session, "echo", r#"{"text":"still"}"#).await, "still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_from_before_a_move_is_answered_after_it() {
    let world = World::start_patient(Era::Legacy).await;
    let session = common::asked::open(&world, 1).await;
    let call = r#"{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{"name":"test_elicitation","arguments":{"message":"Well?"}}}"#;
    let mut events = common::asked::post(&world, 0, session, call);
    let question: Value = serde_json::from_str(&within(events.recv()).await.unwrap()).unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    moved(&world, session, 2).await;
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept","content":{{"response":"yes indeed"}}}}}}"#,
        question["id"]
    );
    assert_eq!(within(world.nodes[0].post(session, answer)).await.unwrap().status, 202);
    let last = within(events.recv()).await.unwrap();
    assert!(last.contains("yes indeed") && last.contains("\"q\""), "{last}");
    assert_eq!(within(events.recv()).await, None, "that was all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_general_stream_goes_with_its_slot() {
    let world = World::start_patient(Era::Both).await;
    for version in ["2024-11-05", OLD, NEW] {
        for at in [0, 1] {
            let session = world.open_owned_by(1, version).await;
            let (sender, mut events) = mpsc::channel(64);
            let (opened, ready) = tokio::sync::oneshot::channel();
            let router = world.nodes[at].router.clone();
            world.nodes[at].spawn(async move {
                let reply = router.open_stream(CALLER, session, None).await;
                let Reply::Events { mut stream, .. } = reply else { panic!("{reply:?}") };
                opened.send(()).unwrap();
                while let Some(event) = stream.next().await {
                    sender.send(event.data).await.unwrap();
                }
            });
            within(ready).await.unwrap();
            moved(&world, session, 2).await;
            // Who takes a session up says that its client should look again.
            let notice = within(events.recv()).await.expect("the stream is open still");
            assert!(String::from_utf8_lossy(&notice).contains("list_changed"), "{notice:?}");
            assert_eq!(within(world.nodes[0].end(session)).await.unwrap().status, 200);
            while within(events.recv()).await.is_some() {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_under_calls_that_overlap() {
    let world = World::start_patient(Era::Both).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut loads = Vec::new();
    for _ in 0..4 {
        let session = world.open_owned_by(1, NEW).await;
        // At every moment some of them are under way.
        for late in 0..4 {
            let (router, stop) = (world.nodes[late % 3].router.clone(), stop.clone());
            loads.push(world.nodes[late % 3].spawn(async move {
                let mut answers =
                    vec![common::call(&router, session, "slow", &format!(r#"{{"ms":{}}}"#, late * 200)).await];
                while !stop.load(Ordering::Relaxed) {
                    answers.push(common::call(&router, session, "slow", r#"{"ms":800}"#).await);
                }
                answers
            }));
        }
    }
    in_flight(&world, 1, 16).await;
    let started = Instant::now();
    world.nodes[1].drain().await;
    println!("drained in {:?}", started.elapsed());
    assert_eq!(world.nodes[1].node.in_flight(), 0, "all calls were finished");
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for load in loads {
        let answers = within(load).await.unwrap();
        expect_done(&answers);
        calls += answers.len();
    }
    let session = world.open(0, NEW).await;
    assert_eq!(counts(&world, session).await["calls"]["slow"], calls, "each was executed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_moved_on_under_a_call_that_is_finished_elsewhere() {
    let world = World::start_patient(Era::Both).await;
    let session = world.open_owned_by(1, NEW).await;
    let calls = [0, 1, 2].map(|at| world.nodes[at].call(session, "slow", &until_released("moved")));
    let streaming = r#"{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{"name":"slow","arguments":{"ms":4000,"steps":400,"until":"moved"},"_meta":{"progressToken":"p"}}}"#;
    let streaming = world.nodes[0].post(session, streaming.into());
    in_flight(&world, 1, 4).await;
    // On to another node, to the last one, and back to the one that finishes them.
    for to in [2, 0, 1] {
        moved(&world, session, to).await;
        assert_eq!(world.nodes[to].content(session, "echo", r#"{"text":"served"}"#).await, "served");
    }
    assert!(calls.iter().all(|call| !call.is_finished()), "all that while they were under way");
    release(&world, session, "moved").await;
    for call in calls {
        expect_done(&[within(call).await.unwrap()]);
    }
    let answer = within(streaming).await.unwrap();
    assert_eq!(answer.content().as_deref(), Some("done"));
    let seqs: Vec<u64> = answer.ids.iter().map(|id| id.seq).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "no gap and no double");
    let progress = answer.texts.iter().filter(|text| text.contains("notifications/progress")).count();
    assert_eq!(progress, 400, "all that it said");
    assert_eq!(counts(&world, session).await["calls"]["slow"], 4, "each was executed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_moved_twice_is_cancelled_where_it_runs() {
    let world = World::start_patient(Era::Both).await;
    let session = world.open_owned_by(1, NEW).await;
    let call = r#"{"jsonrpc":"2.0","id":"h","method":"tools/call","params":{"name":"hang","arguments":{}}}"#;
    let hanging = world.nodes[0].post(session, call.into());
    until(|| async { counts(&world, session).await }, |counts| counts["calls"]["hang"] == 1).await;
    moved(&world, session, 2).await;
    moved(&world, session, 0).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"h"}}"#;
    assert_eq!(within(world.nodes[2].post(session, cancel.into())).await.unwrap().status, 202);
    assert_eq!(within(hanging).await.unwrap().text, "", "its stream just ends");
    until(|| async { counts(&world, session).await }, |counts| counts["cancelled"] == 1).await;
}

/// Posts a batch; the answers by their ids, in the order of these.
fn post_batch(world: &World, at: usize, session: SessionId, text: String) -> tokio::task::JoinHandle<Vec<Value>> {
    let router = world.nodes[at].router.clone();
    world.nodes[at].spawn(async move {
        let Reply::Events { mut stream, .. } = router.legacy(CALLER, session, Legacy::Batch(&text)).await else {
            panic!("no stream")
        };
        let mut answers = Vec::new();
        while let Some(event) = stream.next().await {
            answers.push(serde_json::from_slice::<Value>(&event.data).unwrap());
        }
        answers.sort_by_key(|answer| answer["id"].as_u64());
        answers
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_on_where_it_was_begun() {
    let world = World::start_patient(Era::Both).await;
    let session = world.open_owned_by(1, "2025-03-26").await;
    let call = |id: u64| {
        let arguments = until_released("moved");
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"slow","arguments":{arguments}}}}}"#
        )
    };
    // More than are dealt with at a time, so that the last ones begin after the move.
    let calls: Vec<String> = (0..20).map(call).collect();
    let batch = format!(r#"[{},{{"jsonrpc":"2.0","id":20,"method":"ping"}}]"#, calls.join(","));
    let batches =
        [0, 1, 2].map(|at| post_batch(&world, at, session, batch.replace("\"id\":", &format!("\"id\":{}00", at + 1))));
    in_flight(&world, 1, 48).await;
    moved(&world, session, 2).await;
    assert!(batches.iter().all(|batch| !batch.is_finished()), "the move was in the middle of them");
    release(&world, session, "moved").await;
    for (at, batch) in batches.into_iter().enumerate() {
        let answers = within(batch).await.unwrap();
        let ids: Vec<u64> = answers.iter().filter_map(|answer| answer["id"].as_u64()).collect();
        let wanted: Vec<u64> = (0..=20).map(|id| format!("{}00{id}", at + 1).parse().unwrap()).collect();
        let mut sorted = wanted.clone();
        sorted.sort_unstable();
        assert_eq!(ids, sorted, "each is answered once");
        assert!(answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");
    }
    let session = world.open(0, NEW).await;
    assert_eq!(counts(&world, session).await["calls"]["slow"], 60, "each was executed once");
}

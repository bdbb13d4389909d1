//! Effects under a fence: they wait while the lease is lost, go on after it, and end when the slot is another node's.

#[path = "common/answered.rs"]
mod answered;
mod common;
#[path = "common/scripted.rs"]
mod scripted;
#[path = "common/slots.rs"]
mod slots;

use answered::*;
use common::{CALLER, World, content, events as events_of, until, upstream, value, within};
use enfilade_registry::{Command, NotServed, Slot, Term};
use enfilade_session::config::{Limits, PrefixChoice};
use enfilade_session::copy::NoCopies;
use enfilade_session::owner::{Owner, Reply, ServerId};
use enfilade_session::slots::Held;
use scripted::*;
use serde_json::json;
use slots::Lease;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn an_answer_waits_for_a_lost_lease_and_then_goes() {
    let mut server = Server::start().await;
    let lease = Arc::new(Lease::new(3));
    let world = world(&server, lease.clone(), Arc::new(NoCopies));
    let client = world.open("2025-11-25", "{}").await;
    let post = client.post(CALL);
    tokio::pin!(post);
    let running = tokio::select! {
        reply = &mut post => panic!("{reply:?}"),
        running = server.call() => running,
    };
    lease.set(Held::Paused);
    assert!(matches!(client.post(CALL).await, Reply::NotServed(NotServed::NotReady)), "nothing new is begun");
    let asked = lease.asked();
    running.answer("late").await;
    tokio::select! {
        biased;
        reply = &mut post => panic!("it left without a lease: {reply:?}"),
        () = lease.until_asked(asked) => {}
    }
    lease.set(Held::Yes);
    assert_eq!(content(&common::last(within(post).await).await), "late");
    assert_eq!(server.heard("tools/call"), 1);
}

#[tokio::test]
async fn events_wait_for_a_lost_lease_and_streams_stay_open() {
    let mut server = Server::start().await;
    let lease = Arc::new(Lease::new(3));
    let world = world(&server, lease.clone(), Arc::new(NoCopies));
    let client = world.open("2025-06-18", "{}").await;
    let (reply, running) = tokio::join!(client.post(CALL), async {
        let running = server.call().await;
        running.progress(1).await;
        running
    });
    let mut stream = events_of(reply);
    assert_eq!(text(&event(&mut stream).await)["params"]["progress"], 1);
    lease.set(Held::Paused);
    running.progress(2).await;
    running.answer("done").await;
    let asked = lease.asked();
    tokio::select! {
        event = stream.next() => panic!("it left without a lease: {event:?}"),
        () = lease.until_asked(asked) => {}
    }
    lease.set(Held::Yes);
    assert_eq!(text(&event(&mut stream).await)["params"]["progress"], 2);
    assert_eq!(text(&event(&mut stream).await)["id"], 7);
    assert_eq!(within(stream.next()).await, None);
}

#[tokio::test]
async fn a_call_that_waited_and_was_not_sent_may_go_elsewhere() {
    let mut server = Server::start().await;
    let lease = Arc::new(Lease::new(3));
    let limits = Limits { head_wait_ms: 1, ..quick() };
    let world = World::among(vec![server.config()], PrefixChoice::Always, limits, lease.clone(), Arc::new(NoCopies));
    let client = world.open("2025-11-25", "{}").await;
    // Its upstream session is there, so that nothing but the call itself waits.
    let (_, ()) = tokio::join!(client.post(CALL), async { server.call().await.answer("first").await });
    until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
    let asked = lease.asked();
    lease.pause_behind_next();
    let post = client.post(CALL);
    tokio::pin!(post);
    tokio::select! {
        reply = &mut post => panic!("{reply:?}"),
        // More than once: it does not become a stream while it waits.
        () = lease.until_asked(asked + 20) => {}
    }
    lease.set(Held::Gone);
    world.node.release(Slot::MIN, Term(4));
    let reply = within(post).await;
    assert!(matches!(reply, Reply::NotServed(NotServed::NotOwner)), "{reply:?}");
    assert_eq!(server.heard("tools/call"), 1, "the first");
    assert!(matches!(client.post(CALL).await, Reply::NotServed(NotServed::NotOwner)));
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let envelope = enfilade_mcp::Envelope::parse(initialize.as_bytes()).unwrap();
    let refused = world.node.initialize(CALLER, &envelope).await;
    assert!(matches!(refused, Reply::NotServed(NotServed::NotReady)), "{refused:?}");
}

#[tokio::test]
async fn when_the_slot_is_gone_nothing_more_leaves() {
    let mut server = Server::start().await;
    let lease = Arc::new(Lease::new(3));
    let world = world(&server, lease.clone(), Arc::new(NoCopies));
    let client = world.open("2025-11-25", "{}").await;
    let mut general = client.stream(None).await;
    let (streamed, running) = tokio::join!(client.post(CALL), async {
        let running = server.call().await;
        running.progress(1).await;
        running
    });
    let mut stream = events_of(streamed);
    let other = CALL.replace("\"id\":7", "\"id\":8");
    let (lost, ()) = tokio::join!(client.post(&other), async {
        let _other = server.call().await;
        lease.renew(5);
        world.node.release(Slot::MIN, Term(5));
    });
    assert!(matches!(lost, Reply::Lost), "{lost:?}");
    running.progress(2).await;
    running.answer("too late").await;
    let mut seen = Vec::new();
    while let Some(event) = within(stream.next()).await {
        seen.push(event);
    }
    assert!(seen.len() <= 2 && seen.iter().all(|event| !event.data.starts_with(b"{\"jsonrpc\":\"2.0\",\"id\"")));
    assert!(stream.is_lost());
    assert_eq!(within(general.next()).await, None);
    until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
    world.node.shutdown().await;
    assert_eq!((server.heard("DELETE"), server.heard("notifications/cancelled")), (0, 0));
}

#[tokio::test]
async fn a_move_that_was_aborted_costs_nothing() {
    let mut server = Server::start().await;
    let lease = Arc::new(Lease::new(3));
    let world = world(&server, lease.clone(), Arc::new(NoCopies));
    let client = world.open("2025-11-25", "{}").await;
    let (reply, ()) = tokio::join!(client.post(CALL), async {
        let running = server.call().await;
        lease.set(Held::Paused);
        assert_eq!(world.node.in_flight_of(Slot::MIN), 1);
        world.node.renew(Slot::MIN, Term(4));
        lease.renew(4);
        world.node.release(Slot::MIN, Term(4));
        running.answer("here").await;
    });
    assert_eq!(content(&common::last(reply).await), "here");
    assert_eq!(value(&client.ask("9", "ping", "{}").await)["result"], json!({}));
}
#[tokio::test]
async fn a_session_ends_with_the_state_of_its_stateful_upstream() {
    let lost = Arc::new(Mutex::new(false));
    let is_lost = lost.clone();
    let server = Scripted::start(move |request| match request.method() {
        "initialize" => initialized(request, json!({"tools": {}})),
        "tools/list" => request.result(json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})),
        "tools/call" if *is_lost.lock().unwrap() => Say::Status(404),
        "tools/call" => request.result(json!({"content": []})),
        "ping" => request.result(json!({})),
        _ => Say::Status(202),
    })
    .await;
    let mut config = upstream("one", &server.url);
    config.stateful = true;
    let world = World::with(vec![config], PrefixChoice::Always, quick());
    let client = world.open("2025-11-25", "{}").await;
    assert!(client.call("t", "{}").await.contains("result"));
    *lost.lock().unwrap() = true;
    let reply = client.post(CALL).await;
    assert!(matches!(reply, Reply::Message { status: 404, .. }), "{reply:?}");
    assert!(matches!(client.post(CALL).await, Reply::Message { status: 404, .. }));
    assert!(world.registry.apply(&Command::SetLogLevel { id: client.id, level: None }).is_err(), "it is ended");
}

#[tokio::test]
async fn only_what_the_operator_calls_safe_is_sent_twice() {
    let server = Server::start().await;
    let (mut plain, mut trusting) = (server.config(), server.config());
    (plain.replay_safe, trusting.trust_annotations) = (vec!["t".into()], true);
    (plain.name, trusting.name) = ("plain".into(), "trusting".into());
    let world = World::with(vec![plain, trusting], PrefixChoice::Always, quick());
    let safe = |name: &str| world.node.safe(ServerId(0), "tools/call", Some(&format!("{{\"name\":\"{name}\"}}")));
    assert!(safe("plain__t"), "known before anything was listed");
    let client = world.open("2025-11-25", "{}").await;
    until(|| client.ask("1", "tools/list", "{}"), |list| list.contains("plain__r") && list.contains("trusting__r"))
        .await;
    for (name, expected) in
        [("plain__t", true), ("plain__r", false), ("trusting__t", false), ("trusting__r", true), ("t", false)]
    {
        assert_eq!(safe(name), expected, "{name}");
    }
    for (method, expected) in [("tools/list", true), ("resources/read", true), ("initialize", false), ("x/y", false)] {
        assert_eq!(world.node.safe(ServerId(0), method, None), expected, "{method}");
    }
}

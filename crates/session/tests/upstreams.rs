//! Upstreams that misbehave: they refuse, end their streams, answer late, die and come back as something else.

mod common;
#[path = "common/scripted.rs"]
mod scripted;

use common::{CALLER, Peer, World, all, content, events as events_of, next, until, upstream, value, within};
use enfilade_registry::Term;
use enfilade_session::config::{Limits, PrefixChoice, ServerConfig};
use enfilade_session::copy::NoCopies;
use enfilade_session::owner::Owner;
use enfilade_session::slots::AllSlots;
use enfilade_session::{Node, NodeConfig, Registry};
use enfilade_testkit::everything::Era;
use scripted::*;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

fn quick() -> Limits {
    Limits { health_interval_ms: 50, list_wait_ms: 200, ..Limits::default() }
}

fn shared(name: &str, url: &str) -> enfilade_upstream::Config {
    serde_json::from_value(json!({"name": name, "url": url, "sessions": "shared"})).unwrap()
}

/// Reads until a message of this method.
async fn hear(stream: &mut enfilade_session::stream::EventStream, method: &str) -> Value {
    loop {
        let message = value(&next(stream).await.expect("the stream ended"));
        if message["method"] == method {
            return message;
        }
    }
}

#[tokio::test]
async fn a_dead_modern_upstream_stays_down_and_may_come_back_as_legacy() {
    let mode = Arc::new(Mutex::new("modern"));
    let now = mode.clone();
    let tools = |name: &str| json!({"tools": [{"name": name, "inputSchema": {"type": "object"}}]});
    let server = Scripted::start(move |asked| match (*now.lock().unwrap(), asked.method()) {
        ("dead", _) => Say::Break,
        ("modern", "server/discover") => asked.result(discovered(json!({"tools": {}}))),
        ("modern", "tools/list") => asked.result(tools("modern")),
        ("legacy", "initialize") => initialized(asked, json!({"tools": {}})),
        ("legacy", "notifications/initialized") => Say::Status(202),
        ("legacy", "ping") => asked.result(json!({})),
        ("legacy", "tools/list") => asked.result(tools("legacy")),
        _ => Say::Status(405),
    })
    .await;
    let world = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, quick());
    let client = world.open("2025-11-25", "{}").await;
    let list = || client.ask("1", "tools/list", "{}");
    until(list, |answer| answer.contains("\"modern\"")).await;
    *mode.lock().unwrap() = "dead";
    until(list, |answer| answer.contains("error")).await;
    for _ in 0..5 {
        let answer = list().await;
        assert!(answer.contains("down"), "it is up again without having been asked: {answer}");
    }
    *mode.lock().unwrap() = "legacy";
    until(list, |answer| answer.contains("\"legacy\"")).await;
}

#[tokio::test]
async fn announcements_are_heard_after_the_stream_ended_and_the_gap_is_told() {
    let (streams, mut opened) = mpsc::channel::<(Vec<Value>, mpsc::Sender<Value>)>(8);
    let server = Scripted::start(move |asked| match asked.method() {
        "server/discover" => asked.result(discovered(all_capabilities())),
        "subscriptions/listen" => {
            let (sender, say) = events();
            sender.try_send(acknowledged(&wanted_uris(asked))).unwrap();
            streams.try_send((wanted_uris(asked), sender)).unwrap();
            say
        }
        "resources/list" => asked.result(json!({"resources": [{"uri": "x://a", "name": "a"}]})),
        _ => asked.result(json!({})),
    })
    .await;
    let world = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, quick());
    let client = world.open("2025-11-25", "{}").await;
    let mut general = client.stream(None).await;
    let first = within(opened.recv()).await.unwrap();
    drop(first);
    let (_, second) = within(opened.recv()).await.unwrap();
    second.send(notification("notifications/tools/list_changed", json!({}))).await.unwrap();
    hear(&mut general, "notifications/tools/list_changed").await;

    assert!(client.ask("1", "resources/subscribe", r#"{"uri":"x://a"}"#).await.contains("\"result\":{}"));
    let (uris, third) = within(opened.recv()).await.unwrap();
    assert_eq!(uris, [json!("x://a")]);
    third.send(notification("notifications/resources/updated", json!({"uri": "x://a"}))).await.unwrap();
    assert_eq!(hear(&mut general, "notifications/resources/updated").await["params"]["uri"], "x://a");
    drop((second, third));
    let _fourth = within(opened.recv()).await.unwrap();
    let told = hear(&mut general, "notifications/resources/updated").await;
    assert_eq!(told["params"]["uri"], "x://a", "what was said meanwhile is unknown");

    // Nobody wants the resource any more: the upstream is asked for lists only.
    world.node.end(CALLER, client.id).await;
    let (uris, _fifth) = within(opened.recv()).await.unwrap();
    assert!(uris.is_empty(), "{uris:?}");
}

#[tokio::test]
async fn one_client_s_bad_resource_hurts_no_other() {
    let (streams, mut opened) = mpsc::channel::<mpsc::Sender<Value>>(8);
    let server = Scripted::start(move |asked| match asked.method() {
        "server/discover" => asked.result(discovered(all_capabilities())),
        "subscriptions/listen" if wanted_uris(asked).contains(&json!("x://bad")) => Say::Status(400),
        "subscriptions/listen" => {
            let (sender, say) = events();
            sender.try_send(acknowledged(&wanted_uris(asked))).unwrap();
            streams.try_send(sender).unwrap();
            say
        }
        _ => asked.result(json!({})),
    })
    .await;
    let world = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, quick());
    let (good, bad) = (world.open("2025-11-25", "{}").await, world.open("2025-11-25", "{}").await);
    let mut general = good.stream(None).await;
    let _lists_only = within(opened.recv()).await.unwrap();
    assert!(good.ask("1", "resources/subscribe", r#"{"uri":"x://good"}"#).await.contains("\"result\":{}"));
    let stream = within(opened.recv()).await.unwrap();
    let refused = bad.ask("1", "resources/subscribe", r#"{"uri":"x://bad"}"#).await;
    assert_eq!(value(&refused)["error"]["code"], -32603, "{refused}");
    stream.send(notification("notifications/resources/updated", json!({"uri": "x://good"}))).await.unwrap();
    assert_eq!(hear(&mut general, "notifications/resources/updated").await["params"]["uri"], "x://good");
    assert!(bad.ask("1", "tools/list", "{}").await.contains("result"), "the upstream is up");
}

#[tokio::test]
async fn a_refused_subscription_is_asked_for_again_and_the_last_one_s_end_is_told() {
    let asked_for = Arc::new(Mutex::new(Vec::<String>::new()));
    let log = asked_for.clone();
    let server = Scripted::start(move |asked| {
        let count = |method: &str| log.lock().unwrap().iter().filter(|known| *known == method).count();
        log.lock().unwrap().push(asked.method().to_owned());
        match asked.method() {
            "initialize" => initialized(asked, all_capabilities()),
            "notifications/initialized" => Say::Status(202),
            "resources/subscribe" if count("resources/subscribe") == 1 => asked.error(-32002, "not yet"),
            _ if asked.verb == "GET" => events_forever(),
            "resources/list" => asked.result(json!({"resources": [{"uri": "x://a", "name": "a"}]})),
            "server/discover" => Say::Status(400),
            _ => asked.result(json!({})),
        }
    })
    .await;
    let world = World::with(vec![shared("one", &server.url)], PrefixChoice::Always, quick());
    let client = world.open("2025-11-25", "{}").await;
    let subscribe = || client.ask("1", "resources/subscribe", r#"{"uri":"x://a"}"#);
    let refused = value(&subscribe().await);
    assert_eq!((&refused["error"]["code"], &refused["error"]["message"]), (&json!(-32002), &json!("not yet")));
    assert!(subscribe().await.contains("\"result\":{}"));
    let times = |method: &str| asked_for.lock().unwrap().iter().filter(|known| *known == method).count();
    assert_eq!(times("resources/subscribe"), 2, "the upstream was asked again");
    assert_eq!(times("resources/unsubscribe"), 0);
    world.node.end(CALLER, client.id).await;
    until(|| async { times("resources/unsubscribe") }, |times| *times == 1).await;
}

#[tokio::test]
async fn a_shared_session_that_the_upstream_forgot_costs_no_call() {
    let (sessions, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, forgotten) = (sessions.clone(), lost.clone());
    let server = Scripted::start(move |asked| {
        let known = asked.headers.contains_key("mcp-session-id");
        match asked.method() {
            "initialize" => {
                opened.fetch_add(1, Ordering::SeqCst);
                initialized(asked, json!({"tools": {}}))
            }
            "notifications/initialized" => Say::Status(202),
            "server/discover" => Say::Status(400),
            _ if asked.verb != "POST" => Say::Status(405),
            // The session of before is gone, for everybody who has not opened another.
            _ if known && forgotten.load(Ordering::SeqCst) == opened.load(Ordering::SeqCst) => Say::Status(404),
            "tools/list" => asked.result(json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})),
            "tools/call" => asked.result(json!({"content": [{"type": "text", "text": "done"}]})),
            _ => asked.result(json!({})),
        }
    })
    .await;
    let limits = Limits { health_interval_ms: 60_000, ..quick() };
    let world = World::with(vec![shared("one", &server.url)], PrefixChoice::Always, limits);
    let call = || world.modern_text("tools/call", r#""name":"t","arguments":{}"#);
    assert_eq!(content(&call().await), "done");
    lost.store(sessions.load(Ordering::SeqCst), Ordering::SeqCst);
    assert_eq!(content(&call().await), "done", "the forgotten session had not executed it");
    assert_eq!(sessions.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn slow_calls_and_a_broken_connection_do_not_take_an_upstream_down() {
    let (pings, sessions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (pinged, opened) = (pings.clone(), sessions.clone());
    let server = Scripted::start(move |asked| match asked.method() {
        "initialize" => {
            opened.fetch_add(1, Ordering::SeqCst);
            initialized(asked, json!({"tools": {}}))
        }
        "server/discover" => Say::Status(400),
        "ping" if pinged.fetch_add(1, Ordering::SeqCst) == 0 => Say::Break,
        "ping" => asked.result(json!({})),
        "tools/list" => asked.result(json!({"tools": [{"name": "slow", "inputSchema": {"type": "object"}}]})),
        "tools/call" => events_forever(),
        _ if asked.verb == "POST" => Say::Status(202),
        _ => Say::Status(405),
    })
    .await;
    let mut config = shared("one", &server.url);
    config.call_deadline_ms = 50;
    let limits = Limits { health_interval_ms: 400, ..quick() };
    let world = World::with(vec![config], PrefixChoice::Always, limits);
    let call = || world.modern_text("tools/call", r#""name":"slow","arguments":{}"#);
    let late = futures::future::join_all((0..5).map(|_| call())).await;
    assert!(late.iter().all(|answer| answer.contains("error")), "{late:?}");
    assert!(call().await.contains("repeatedly"), "the breaker is open");
    until(|| async { pings.load(Ordering::SeqCst) }, |pings| *pings > 2).await;
    assert_eq!(sessions.load(Ordering::SeqCst), 1, "it was never taken for dead");
}

#[tokio::test]
async fn a_node_that_restarts_takes_up_the_subscriptions_of_its_sessions() {
    let (streams, mut opened) = mpsc::channel::<(Vec<Value>, mpsc::Sender<Value>)>(8);
    let server = Scripted::start(move |asked| match asked.method() {
        "server/discover" => asked.result(discovered(json!({"resources": {"subscribe": true}}))),
        "subscriptions/listen" => {
            let (sender, say) = events();
            sender.try_send(acknowledged(&wanted_uris(asked))).unwrap();
            streams.try_send((wanted_uris(asked), sender)).unwrap();
            say
        }
        "resources/list" => asked.result(json!({"resources": [{"uri": "x://a", "name": "a"}]})),
        _ => asked.result(json!({})),
    })
    .await;
    let before = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, quick());
    let client = before.open("2025-11-25", "{}").await;
    assert!(client.ask("1", "resources/subscribe", r#"{"uri":"x://a"}"#).await.contains("\"result\":{}"));
    let _old = within(opened.recv()).await.unwrap();
    before.node.shutdown().await;

    let servers = vec![ServerConfig {
        name: "default".into(),
        path: "/mcp".into(),
        prefix: PrefixChoice::Always,
        upstreams: vec![],
    }];
    let config = NodeConfig { servers, limits: quick(), cursor_secret: vec![1; 32] };
    let (reader, writer) = (before.registry.clone(), before.registry.clone());
    let parts = Registry { reader, writer, keys: before.keys.clone() };
    let connector = enfilade_upstream::Connector::new(upstream("one", &server.url)).unwrap();
    let node =
        Node::start(config, vec![connector], parts, Arc::new(AllSlots::new(Term(2))), Arc::new(NoCopies)).unwrap();
    let mut general = events_of(node.open_stream(CALLER, client.id, None).await);
    let told = hear(&mut general, "notifications/resources/updated").await;
    assert_eq!(told["params"]["uri"], "x://a", "nobody knows what changed meanwhile");
    let (uris, stream) = within(opened.recv()).await.unwrap();
    assert_eq!(uris, [json!("x://a")]);
    stream.send(notification("notifications/resources/updated", json!({"uri": "x://a"}))).await.unwrap();
    hear(&mut general, "notifications/resources/updated").await;
}

#[tokio::test]
async fn one_upstream_alone_is_not_taken_for_an_empty_one() {
    let server = Scripted::start(|asked| match asked.method() {
        "server/discover" => asked.result(discovered(json!({"tools": {}}))),
        _ => asked.error(-32603, "broken"),
    })
    .await;
    let good = Peer::start("good", Era::Legacy).await;
    let alone = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, quick());
    for (list, code) in [("tools/list", -32603), ("prompts/list", -32601), ("resources/templates/list", -32601)] {
        let client = alone.open("2025-11-25", "{}").await;
        let answer = client.ask("1", list, "{}").await;
        assert_eq!(value(&answer)["error"]["code"], code, "{answer}");
    }
    let several = World::with(vec![upstream("one", &server.url), good.config()], PrefixChoice::Always, quick());
    let client = several.open("2025-11-25", "{}").await;
    until(|| client.ask("1", "tools/list", "{}"), |answer| answer.contains("good__echo")).await;
}

#[tokio::test]
async fn a_late_list_is_fetched_once_and_announced_and_reads_do_not_wait_for_it() {
    let (release, held) = oneshot::channel::<()>();
    let held = Mutex::new(Some(held));
    let (lists, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (tools, resources) = (lists.clone(), count.clone());
    let server = Scripted::start(move |asked| match asked.method() {
        "server/discover" => asked.result(discovered(json!({"tools": {}, "resources": {}}))),
        "tools/list" => {
            tools.fetch_add(1, Ordering::SeqCst);
            let answer = asked.answer(json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}));
            held.lock().unwrap().take().map_or(Say::Status(500), |released| Say::Later(released, answer))
        }
        "resources/list" => {
            resources.fetch_add(1, Ordering::SeqCst);
            asked.result(json!({"resources": [{"uri": "x://a", "name": "a"}], "ttlMs": 0}))
        }
        "resources/read" => asked.result(json!({"contents": [{"uri": "x://a", "text": "A"}]})),
        _ => asked.result(json!({})),
    })
    .await;
    let good = Peer::start("good", Era::Legacy).await;
    let world = World::with(vec![upstream("late", &server.url), good.config()], PrefixChoice::Always, quick());
    let client = world.open("2025-11-25", "{}").await;
    let mut general = client.stream(None).await;
    let list = || client.ask("1", "tools/list", "{}");
    until(list, |answer| answer.contains("good__echo")).await;
    until(|| async { lists.load(Ordering::SeqCst) }, |asked| *asked == 1).await;
    assert!(!list().await.contains("late__"));

    until(|| client.ask("1", "resources/list", "{}"), |answer| answer.contains("x://a")).await;
    let before = count.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert!(client.ask("1", "resources/read", r#"{"uri":"x://a"}"#).await.contains("\"A\""));
    }
    assert_eq!(count.load(Ordering::SeqCst), before, "what is known is not listed again");

    while let Some(Some(_)) = futures::FutureExt::now_or_never(general.next()) {}
    release.send(()).unwrap();
    hear(&mut general, "notifications/tools/list_changed").await;
    assert!(list().await.contains("late__t"));
    assert_eq!(lists.load(Ordering::SeqCst), 1, "who waited no longer did not end it");
}

#[tokio::test]
async fn legacy_clients_get_no_output_schema_that_they_cannot_read() {
    let tool = json!({"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}});
    let plain = json!({"name": "u", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}});
    let server = Scripted::start(move |asked| match asked.method() {
        "server/discover" => asked.result(discovered(json!({"tools": {}}))),
        _ => asked.result(json!({"tools": [tool, plain]})),
    })
    .await;
    let world = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, quick());
    let client = world.open("2025-11-25", "{}").await;
    let legacy = value(&client.ask("1", "tools/list", "{}").await);
    assert!(legacy["result"]["tools"][0].get("outputSchema").is_none(), "{legacy}");
    assert_eq!(legacy["result"]["tools"][1]["outputSchema"]["type"], "object");
    let modern = value(&world.modern_text("tools/list", "").await);
    assert_eq!(modern["result"]["tools"][0]["outputSchema"]["type"], "array");
}

#[tokio::test]
async fn listening_is_bounded_and_ends_with_its_result() {
    let server = Scripted::start(|asked| match asked.method() {
        "server/discover" => asked.result(discovered(all_capabilities())),
        "subscriptions/listen" => {
            let (sender, say) = events();
            sender.try_send(acknowledged(&wanted_uris(asked))).unwrap();
            tokio::spawn(async move { sender.closed().await });
            say
        }
        _ => asked.result(json!({})),
    })
    .await;
    let limits = Limits { list_wait_ms: 10_000, ..quick() };
    let world = World::with(vec![upstream("one", &server.url)], PrefixChoice::Always, limits);
    let uris: Vec<String> = (0..1_100).map(|at| format!("\"x://{at}\"")).collect();
    let filter = format!(r#""notifications":{{"resourceSubscriptions":[{}]}}"#, uris.join(","));
    let mut listen = events_of(world.modern("\"L\"", "subscriptions/listen", &filter, "{}", "").await);
    let told = value(&next(&mut listen).await.unwrap());
    assert_eq!(told["params"]["notifications"]["resourceSubscriptions"].as_array().unwrap().len(), 1_000);
    let (rest, ()) = tokio::join!(all(listen), world.node.end_listens());
    let result = value(rest.last().unwrap());
    assert_eq!((&result["id"], &result["result"]["resultType"]), (&json!("L"), &json!("complete")));
    until(|| async { world.node.subscriptions().1 }, |topics| *topics == 0).await;
}

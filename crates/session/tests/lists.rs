//! Lists, announcements and upstreams that come and go.

mod common;

use common::*;
use enfilade_session::config::{Limits, PrefixChoice};
use enfilade_session::stream::EventId;
use enfilade_testkit::everything::Era;

#[tokio::test]
async fn an_upstream_that_is_killed_vanishes_and_returns_and_the_others_never_fail() {
    let mut peers = Vec::new();
    for at in 0..5 {
        let era = if at % 2 == 0 { Era::Legacy } else { Era::Modern };
        peers.push(Peer::start(&format!("p{at}"), era).await);
    }
    let world = World::new(peers.iter().map(Peer::config).collect(), PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let mut general = client.stream(None).await;
    let offers = |answer: &String, at: usize| names(answer, "tools", "name").contains(&format!("p{at}__echo"));
    let list = || client.ask("1", "tools/list", "{}");
    until(list, |answer| (0..5).all(|at| offers(answer, at))).await;
    for victim in [2, 3] {
        while let Some(Some(_)) = futures::FutureExt::now_or_never(general.next()) {}
        peers[victim].kill().await;
        let gone = until(list, |answer| !offers(answer, victim)).await;
        assert!((0..5).filter(|at| *at != victim).all(|at| offers(&gone, at)));
        assert!(next(&mut general).await.unwrap().contains("list_changed"));
        for at in (0..5).filter(|at| *at != victim) {
            assert_eq!(content(&client.call(&format!("p{at}__echo"), r#"{"text":"on"}"#).await), "on");
        }
        while let Some(Some(_)) = futures::FutureExt::now_or_never(general.next()) {}
        peers[victim].run().await;
        until(list, |answer| offers(answer, victim)).await;
        assert!(next(&mut general).await.unwrap().contains("list_changed"));
        assert_eq!(content(&client.call(&format!("p{victim}__echo"), r#"{"text":"back"}"#).await), "back");
    }
}

#[tokio::test]
async fn a_forgotten_upstream_session_is_opened_again_with_its_log_level() {
    let mut peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    assert_eq!(content(&client.call("echo", r#"{"text":"1"}"#).await), "1");
    assert!(client.ask("2", "logging/setLevel", r#"{"level":"debug"}"#).await.contains("{}"));
    peer.kill().await;
    peer.run().await;
    let answer = until(|| client.call("echo", r#"{"text":"2"}"#), |answer| !answer.contains("error")).await;
    assert_eq!(content(&answer), "2");
    let bad = client.ask("2", "logging/setLevel", r#"{"level":"loud"}"#).await;
    assert_eq!(value(&bad)["error"]["code"], -32602);
}

#[tokio::test]
async fn changed_lists_are_announced_to_both_eras_and_seen() {
    for era in [Era::Legacy, Era::Modern] {
        let peer = Peer::start("one", era).await;
        let world = World::new(vec![peer.config()], PrefixChoice::Always);
        let client = world.open("2025-11-25", "{}").await;
        let list = || client.ask("1", "tools/list", "{}");
        until(list, |answer| answer.contains("echo")).await;
        let mut general = client.stream(None).await;
        let filter = r#""notifications":{"toolsListChanged":true}"#;
        let mut listen = events(world.modern("\"L\"", "subscriptions/listen", filter, "{}", "").await);
        let acknowledged = value(&next(&mut listen).await.unwrap());
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["notifications"]["toolsListChanged"], true);
        while let Some(Some(_)) = futures::FutureExt::now_or_never(general.next()) {}
        client.call("add_tool", r#"{"name":"fresh"}"#).await;
        let told = value(&next(&mut listen).await.unwrap());
        assert_eq!(told["method"], "notifications/tools/list_changed");
        assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "L");
        while !next(&mut general).await.unwrap().contains("notifications/tools/list_changed") {}
        until(list, |answer| names(answer, "tools", "name").contains(&"fresh".to_owned())).await;
        drop(listen);
        until(|| async { world.node.subscriptions().0 }, |subscribers| *subscribers == 1).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_late_hears_of_lists_that_changed_before() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let (client, late) = (world.open("2025-11-25", "{}").await, world.open("2025-11-25", "{}").await);
    let list = || client.ask("1", "tools/list", "{}");
    until(list, |answer| answer.contains("echo")).await;
    let mut general = client.stream(None).await;
    while let Some(Some(_)) = futures::FutureExt::now_or_never(general.next()) {}
    client.call("add_tool", r#"{"name":"fresh"}"#).await;
    while !next(&mut general).await.unwrap().contains("notifications/tools/list_changed") {}
    assert_eq!(world.node.subscriptions().0, 1, "a session that was not used hears of nothing yet");
    let mut general = late.stream(None).await;
    while !next(&mut general).await.unwrap().contains("notifications/tools/list_changed") {}
}

#[tokio::test]
async fn a_resource_is_watched_once_for_all_and_updates_reach_everybody() {
    for era in [Era::Legacy, Era::Modern] {
        let peer = Peer::start("one", era).await;
        let world = World::new(vec![peer.config()], PrefixChoice::Always);
        let client = world.open("2025-11-25", "{}").await;
        let uri = "test://watched-resource";
        let subscribed = client.ask("1", "resources/subscribe", &format!(r#"{{"uri":"{uri}"}}"#)).await;
        assert_eq!(value(&subscribed)["result"], serde_json::json!({}), "{era:?}: {subscribed}");
        let filter = format!(r#""notifications":{{"resourceSubscriptions":["{uri}"]}}"#);
        let mut listen = events(world.modern("7", "subscriptions/listen", &filter, "{}", "").await);
        let acknowledged = value(&next(&mut listen).await.unwrap());
        assert_eq!(acknowledged["params"]["notifications"]["resourceSubscriptions"][0], uri, "{acknowledged}");
        let mut general = client.stream(None).await;
        client.call("emit", &format!(r#"{{"what":"resource","uri":"{uri}"}}"#)).await;
        let updated = loop {
            let message = next(&mut general).await.unwrap();
            if message.contains("resources/updated") {
                break message;
            }
        };
        assert_eq!(value(&updated)["params"]["uri"], uri);
        let updated = value(&next(&mut listen).await.unwrap());
        assert_eq!(updated["params"]["uri"], uri);
        assert_eq!(updated["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
        let gone = client.ask("1", "resources/unsubscribe", &format!(r#"{{"uri":"{uri}"}}"#)).await;
        assert_eq!(value(&gone)["result"], serde_json::json!({}));
        drop(listen);
        until(|| async { world.node.subscriptions().1 }, |topics| *topics == 0).await;
    }
}

#[tokio::test]
async fn pages_miss_nothing_and_forged_cursors_are_refused() {
    let (one, two) = (Peer::start("one", Era::Legacy).await, Peer::start("two", Era::Modern).await);
    let limits = Limits { page_items_max: 7, ..Limits::default() };
    let world = World::with(vec![one.config(), two.config()], PrefixChoice::Always, limits);
    let client = world.open("2025-11-25", "{}").await;
    let first = |answer: &String| value(answer)["result"]["nextCursor"].is_string();
    until(|| client.ask("1", "tools/list", "{}"), first).await;
    let pages = || async {
        let (mut found, mut cursor) = (Vec::new(), serde_json::Value::Null);
        loop {
            let params = if cursor.is_null() { "{}".to_owned() } else { format!("{{\"cursor\":{cursor}}}") };
            let page = client.ask("1", "tools/list", &params).await;
            found.extend(names(&page, "tools", "name"));
            cursor = value(&page)["result"]["nextCursor"].clone();
            if cursor.is_null() {
                return found;
            }
        }
    };
    let found =
        until(pages, |found| ["one__", "two__"].iter().all(|prefix| found.iter().any(|name| name.starts_with(prefix))))
            .await;
    let mut once = found.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), found.len(), "no item twice");
    for name in ["one__echo", "one__whoami", "two__echo", "two__whoami"] {
        assert!(found.contains(&name.to_owned()), "{name}");
    }
    for forged in ["\"AAAA\"", "\"\"", "7"] {
        let answer = client.ask("1", "tools/list", &format!("{{\"cursor\":{forged}}}")).await;
        assert_eq!(value(&answer)["error"]["code"], -32602, "{answer}");
    }
}

#[tokio::test]
async fn a_stream_that_broke_is_resumed_after_its_last_event() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"slow","arguments":{"ms":200,"steps":5},"_meta":{"progressToken":1}}}"#;
    let mut stream = events(client.post(call).await);
    let priming = within(stream.next()).await.unwrap();
    assert!(priming.data.is_empty(), "2025-11-25 streams open with an empty event");
    let seen: EventId = within(stream.next()).await.unwrap().id.unwrap();
    drop(stream);
    let rest = client.stream(Some(&seen.to_string())).await;
    let messages = all(rest).await;
    assert_eq!(value(messages.last().unwrap())["id"], 5, "{messages:?}");
    let again = all(client.stream(Some(&seen.to_string())).await).await;
    assert_eq!(again, messages, "a finished stream can be read again");
}

#[tokio::test]
async fn batches_belong_to_one_revision() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"text":"b"}}},{"id":3}]"#;
    let client = world.open("2025-03-26", "{}").await;
    let answers = all(events(client.batch(batch).await)).await;
    assert_eq!(answers.len(), 3, "{answers:?}");
    let find = |id: i64| answers.iter().find(|answer| value(answer)["id"] == id).unwrap();
    assert_eq!(content(find(2)), "b");
    assert_eq!(value(find(3))["error"]["code"], -32600);
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let client = world.open(version, "{}").await;
        assert!(last(client.batch(batch).await).await.contains("-32600"), "{version}");
    }
}

#[tokio::test]
async fn an_ended_session_is_unknown_and_one_of_another_server_too() {
    use enfilade_session::owner::{Caller, Owner, Reply};
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let stranger = Caller { principal: "somebody else", ..CALLER };
    assert!(matches!(world.node.end(stranger, client.id).await, Reply::Message { status: 404, .. }));
    let mut general = client.stream(None).await;
    assert!(matches!(world.node.end(CALLER, client.id).await, Reply::Status(200)));
    within(async { while general.next().await.is_some() {} }).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert!(matches!(client.post(ping).await, Reply::Message { status: 404, .. }));
}

#[tokio::test]
async fn a_resource_that_is_given_up_can_be_watched_again_at_once() {
    for era in [Era::Legacy, Era::Modern] {
        let peer = Peer::start("one", era).await;
        let world = World::new(vec![peer.config()], PrefixChoice::Always);
        let client = world.open("2025-11-25", "{}").await;
        let params = r#"{"uri":"test://watched-resource"}"#;
        for _ in 0..3 {
            for method in ["resources/subscribe", "resources/unsubscribe"] {
                let answer = within(client.ask("1", method, params)).await;
                assert_eq!(value(&answer)["result"], serde_json::json!({}), "{era:?} {method}: {answer}");
            }
        }
    }
}

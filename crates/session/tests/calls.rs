//! Calls through a node to real MCP servers of both eras: payloads are compared literally.

mod common;

use common::*;
use enfilade_registry::Reader;
use enfilade_session::config::PrefixChoice;
use enfilade_session::owner::Reply;
use enfilade_testkit::everything::Era;
use std::sync::Arc;

const ALL: &str = r#"{"sampling":{},"elicitation":{},"roots":{"listChanged":true}}"#;

#[tokio::test]
async fn a_legacy_session_calls_a_legacy_upstream() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let initialized = value(&client.initialized);
    assert_eq!(initialized["result"]["protocolVersion"], "2025-11-25");
    assert!(initialized["result"]["capabilities"]["tools"].is_object(), "{initialized}");
    assert_eq!(content(&client.call("echo", r#"{"text":"héllo \"x\""}"#).await), "héllo \"x\"");
    let answer = client.ask("\"a-7\"", "tools/call", r#"{"name":"add","arguments":{"a":2,"b":3}}"#).await;
    assert_eq!(value(&answer)["id"], "a-7");
    assert_eq!(value(&answer)["result"]["structuredContent"]["sum"], 5);
    assert!(names(&client.ask("2", "tools/list", "{}").await, "tools", "name").contains(&"echo".to_owned()));
    assert_eq!(value(&client.ask("3", "ping", "{}").await)["result"], serde_json::json!({}));
}

#[tokio::test]
async fn plain_calls_cross_eras_in_both_directions() {
    for (upstream, modern_client) in [(Era::Legacy, true), (Era::Modern, false), (Era::Modern, true)] {
        let peer = Peer::start("one", upstream).await;
        let world = World::new(vec![peer.config()], PrefixChoice::Always);
        let echo = r#""name":"echo","arguments":{"text":"hi"}"#;
        let read = r#""uri":"test://static-text""#;
        let (called, listed, read) = if modern_client {
            (
                world.modern_text("tools/call", echo).await,
                world.modern_text("tools/list", "").await,
                world.modern_text("resources/read", read).await,
            )
        } else {
            let client = world.open("2025-06-18", ALL).await;
            (
                client.ask("1", "tools/call", &format!("{{{echo}}}")).await,
                client.ask("1", "tools/list", "{}").await,
                client.ask("1", "resources/read", &format!("{{{read}}}")).await,
            )
        };
        assert_eq!(content(&called), "hi", "{upstream:?}");
        assert!(names(&listed, "tools", "name").contains(&"add".to_owned()));
        assert_eq!(value(&read)["result"]["contents"][0]["uri"], "test://static-text");
        for answer in [&called, &listed, &read] {
            assert_eq!(value(answer)["result"]["resultType"].is_string(), modern_client, "{answer}");
        }
        assert_eq!(value(&read)["result"]["ttlMs"].is_u64(), modern_client);
    }
}

#[tokio::test]
async fn several_upstreams_keep_their_names_apart() {
    let (one, two) = (Peer::start("one", Era::Legacy).await, Peer::start("two", Era::Modern).await);
    let world = World::new(vec![one.config(), two.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let listed = until(
        || client.ask("1", "tools/list", "{}"),
        |answer| ["one__echo", "two__echo"].iter().all(|n| names(answer, "tools", "name").contains(&(*n).to_owned())),
    )
    .await;
    assert!(!names(&listed, "tools", "name").contains(&"echo".to_owned()));
    for name in ["one", "two"] {
        let who = content(&client.call(&format!("{name}__whoami"), "{}").await);
        assert_eq!(value(&who)["server"], name, "{who}");
    }
    assert_eq!(value(&client.call("echo", r#"{"text":"x"}"#).await)["error"]["code"], -32602);
    let uris = until(
        || client.ask("1", "resources/list", "{}"),
        |answer| names(answer, "resources", "uri").contains(&"two+test://static-text".to_owned()),
    )
    .await;
    assert!(names(&uris, "resources", "uri").contains(&"one+test://static-text".to_owned()));
    let read = client.ask("1", "resources/read", r#"{"uri":"two+test://static-text"}"#).await;
    assert_eq!(value(&read)["result"]["contents"][0]["uri"], "two+test://static-text", "{read}");
    let missing = client.ask("1", "resources/read", r#"{"uri":"test://nothing"}"#).await;
    assert_eq!(value(&missing)["error"]["code"], -32002);
    assert_eq!(value(&missing)["error"]["data"]["uri"], "test://nothing");
}

#[tokio::test]
async fn progress_comes_before_the_answer_with_the_clients_token() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let call = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"slow","arguments":{"ms":50,"steps":3},"_meta":{"progressToken":"mine"}}}"#;
    let messages = all(events(client.post(call).await)).await;
    let (answer, progress) = messages.split_last().unwrap();
    assert_eq!(value(answer)["id"], 5);
    assert!(progress.len() >= 2, "{messages:?}");
    for message in progress {
        assert_eq!(value(message)["params"]["progressToken"], "mine", "{message}");
    }
}

#[tokio::test]
async fn an_upstream_asks_the_client_and_gets_its_answer() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", ALL).await;
    for kind in ["elicitation", "sampling", "roots"] {
        let mut general = client.stream(None).await;
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{{"name":"ask","arguments":{{"kind":"{kind}"}}}}}}"#
        );
        let mut stream = events(within(client.post(&call)).await);
        // Lists that came late are announced on the general stream, too.
        let id = loop {
            let message = tokio::select! {
                message = next(&mut stream) => value(&message.unwrap()),
                message = next(&mut general) => value(&message.unwrap()),
            };
            if let Some(id) = message.get("id") {
                break id.clone();
            }
        };
        let result = match kind {
            "elicitation" => r#"{"action":"accept","content":{"name":"Ada"}}"#,
            "sampling" => r#"{"role":"assistant","content":{"type":"text","text":"Paris"},"model":"m"}"#,
            _ => r#"{"roots":[{"uri":"file:///r","name":"r"}]}"#,
        };
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        assert!(matches!(client.post(&answer).await, Reply::Accepted));
        let last = all(stream).await.pop().unwrap();
        assert_eq!(value(&last)["id"], "q", "{last}");
        let expected = ["Ada", "Paris", "file:///r"];
        assert!(expected.iter().any(|text| last.contains(text)), "{kind}: {last}");
    }
}

#[tokio::test]
async fn a_modern_call_asks_by_its_result_and_state_passes_unchanged() {
    let peer = Peer::start("one", Era::Modern).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let call = r#""name":"ask","arguments":{"kind":"elicitation"}"#;
    let first = last(world.modern("1", "tools/call", call, r#"{"elicitation":{}}"#, "").await).await;
    let first = value(&first)["result"].clone();
    assert_eq!(first["resultType"], "input_required", "{first}");
    let key = first["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let retry = format!(
        r#"{call},"inputResponses":{{"{key}":{{"action":"accept","content":{{"name":"Ada"}}}}}},"requestState":{}"#,
        first["requestState"]
    );
    let second = last(world.modern("2", "tools/call", &retry, r#"{"elicitation":{}}"#, "").await).await;
    assert!(content(&second).contains("Ada"), "{second}");
    // What a legacy client could only be told by translation is refused with a clear text.
    let client = world.open("2025-11-25", r#"{"elicitation":{}}"#).await;
    let refused = client.call("ask", r#"{"kind":"elicitation"}"#).await;
    assert!(refused.contains("error") || refused.contains("isError"), "{refused}");
}

#[tokio::test]
async fn a_cancel_reaches_the_upstream_and_the_call_ends_without_an_answer() {
    for era in [Era::Legacy, Era::Modern] {
        let peer = Peer::start("one", era).await;
        let world = World::new(vec![peer.config()], PrefixChoice::Always);
        let client = world.open("2025-11-25", "{}").await;
        let hang = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"hang","arguments":{}}}"#;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
        let cancelled = || async { value(&content(&client.call("counts", "{}").await))["cancelled"].as_u64() };
        let (reply, ()) = tokio::join!(client.post(hang), async {
            until(|| async { world.node.in_flight() }, |calls| *calls > 0).await;
            // The upstream counts the call once it runs it.
            until(|| async { content(&client.call("counts", "{}").await) }, |text| text.contains("hang")).await;
            assert!(matches!(client.post(cancel).await, Reply::Accepted));
        });
        assert!(all(events(reply)).await.is_empty(), "{era:?}: a cancelled call has no answer");
        until(cancelled, |count| *count == Some(1)).await;
        until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
    }
}

#[tokio::test]
async fn a_modern_client_that_goes_away_cancels_its_call() {
    for era in [Era::Modern, Era::Legacy] {
        let peer = Peer::start("one", era).await;
        let world = World::new(vec![peer.config()], PrefixChoice::Always);
        let counts = || async { content(&world.modern_text("tools/call", r#""name":"counts","arguments":{}"#).await) };
        let hang = world.modern("1", "tools/call", r#""name":"hang","arguments":{}"#, "{}", "");
        tokio::select! {
            reply = hang => panic!("{reply:?}"),
            _ = until(counts, |text| text.contains("hang")) => {}
        }
        until(counts, |text| value(text)["cancelled"] == 1).await;
        until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
    }
}

#[tokio::test]
async fn a_hung_upstream_is_answered_at_the_deadline() {
    let peer = Peer::start("one", Era::Legacy).await;
    let mut config = peer.config();
    config.call_deadline_ms = 300;
    let world = World::new(vec![config], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let answer = value(&within(client.call("hang", "{}")).await);
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert_eq!(answer["error"]["data"]["fault"], "upstream");
    assert_eq!(answer["error"]["data"]["retry"], false, "a tool call is not safe to send again");
    until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
}

#[tokio::test]
async fn a_request_that_an_edge_sends_again_takes_the_place_of_the_first() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    let call = |ms, steps| {
        format!(
            r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"slow","arguments":{{"ms":{ms},"steps":{steps}}},"_meta":{{"progressToken":1}}}}}}"#
        )
    };
    // It streams, so it is under way when the second comes.
    let mut first = events(client.post(&call(600_000, 10_000)).await);
    assert!(next(&mut first).await.is_some_and(|message| message.contains("progress")));
    let refused = value(&last(client.post(&call(1, 1)).await).await);
    assert_eq!(refused["error"]["code"], -32600, "a client's own mistake stays one: {refused}");
    let answer = value(&last(client.post_again(&call(1, 1)).await).await);
    assert!(answer["result"].is_object(), "{answer}");
    let rest = all(first).await;
    assert!(rest.iter().all(|message| message.contains("progress")), "nobody answers the first: {rest:?}");
    until(|| async { world.node.in_flight() }, |calls| *calls == 0).await;
}

#[tokio::test]
async fn the_owner_keeps_no_record_of_a_session_beside_the_registrys() {
    let peer = Peer::start("one", Era::Legacy).await;
    let world = World::new(vec![peer.config()], PrefixChoice::Always);
    let client = world.open("2025-11-25", "{}").await;
    // The registry's, and what is asked for here. One more would be copied when the registry changes its own.
    let holders = || Arc::strong_count(&world.registry.session(&client.id).unwrap());
    assert_eq!(holders(), 2);
    assert_eq!(content(&client.call("echo", r#"{"text":"1"}"#).await), "1");
    assert_eq!(holders(), 2);
}

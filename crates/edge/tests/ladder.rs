//! What is taken while memory is short or the node late, over every transport: step by step less, and all of it again afterwards.

mod common;

use common::raw::Raw;
use common::ws::Ws;
use common::{Node, POST, legacy, modern, modern_headers, session, within};
use enfilade_edge::{Protocol, Reason};
use enfilade_runtime::Memory;

const MAX: u64 = 6400 << 20;

/// So much of the memory is used, in percent.
fn uses(node: &Node, percent: u64) {
    node.pressure.measured(Memory { used_bytes: MAX / 100 * percent, max_bytes: MAX });
}

/// A kind of request: what it is called here, its method, headers and body.
type Kind = (&'static str, &'static str, Vec<(&'static str, String)>, String);

fn kinds() -> Vec<Kind> {
    let of = |pairs: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let session = session();
    let own = ("mcp-session-id", session.as_str());
    let posts = of(&[&POST[..], &[own]].concat());
    let modern_call = |method| -> Vec<(&'static str, String)> {
        let names = ["accept", "content-type", "mcp-protocol-version", "mcp-method"];
        names.into_iter().zip(modern_headers(method).map(|(_, value)| value.to_owned())).collect()
    };
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let (events, listen) = (("accept", "text/event-stream"), "subscriptions/listen");
    vec![
        ("ping", "POST", posts.clone(), legacy("ping")),
        ("cancel", "POST", posts.clone(), cancel.to_owned()),
        ("answer", "POST", posts.clone(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned()),
        ("end", "DELETE", of(&[own]), String::new()),
        ("call", "POST", posts.clone(), legacy("tools/call")),
        ("batch", "POST", posts.clone(), format!("[{}]", legacy("tools/call"))),
        ("modern call", "POST", modern_call("tools/call"), modern("tools/call")),
        // There is no such stream, so the owner says 404.
        ("stream that goes on", "GET", of(&[events, own, ("last-event-id", "99.1.1")]), String::new()),
        ("session", "POST", of(&POST), legacy("initialize")),
        ("stream", "GET", of(&[events, own]), String::new()),
        ("listen", "POST", modern_call(listen), modern(listen)),
    ]
}

/// What is refused at a step; the names of [`kinds`].
const REFUSED: [(u64, &[&str]); 5] = [
    (79, &[]),
    (80, &["session", "stream", "listen"]),
    (90, &["call", "batch", "modern call", "stream that goes on", "session", "stream", "listen"]),
    (84, &["session", "stream", "listen"]),
    (74, &[]),
];

#[tokio::test]
async fn each_step_takes_less_and_all_is_taken_again() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let node = Node::start(|_| ()).await;
        for (percent, refused) in REFUSED {
            let mut clients = Vec::new();
            uses(&node, 0);
            for _ in kinds() {
                clients.push(node.client(protocol).await);
                let last = clients.last_mut().expect("one");
                assert_eq!(last.ask("GET", "/healthz", &[], "").await.status, 200, "it is inside");
            }
            // Down to 84 from the last step, to the one before it.
            uses(&node, if percent == 84 { 95 } else { 0 });
            uses(&node, percent);
            let mut open = Vec::new();
            for ((name, method, headers, body), client) in kinds().into_iter().zip(&mut clients) {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = client.open(method, "/mcp", &headers, body).await;
                let (status, after) = (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
                if refused.contains(&name) {
                    assert_eq!((status, after.is_some()), (503, true), "{protocol:?} {percent} {name}");
                } else {
                    assert!([200, 202, 404].contains(&status), "{protocol:?} {percent} {name}: {status}");
                }
                open.push(answer);
            }
        }
        let (_, ended, by_reason) = node.figures.requests();
        let expected: usize = REFUSED.iter().map(|(_, refused)| refused.len()).sum();
        assert_eq!((by_reason[Reason::Memory as usize], ended[1]), (expected as u64, expected as u64), "{protocol:?}");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_names_its_request_and_keeps_the_connection() {
    let node = Node::start(|_| ()).await;
    let mut client = node.client(Protocol::Http1).await;
    uses(&node, 80);
    let refused = client.ask("POST", "/mcp", &POST, legacy("initialize")).await;
    let error = refused.json();
    assert_eq!((refused.status, &error["id"], &error["error"]["data"]["retry"]), (503, &7.into(), &true.into()));
    uses(&node, 70);
    assert_eq!(client.ask("POST", "/mcp", &POST, legacy("initialize")).await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_websocket_that_is_open_is_served_step_by_step() {
    let node = Node::start(|_| ()).await;
    let mut ws = Ws::open(&node, "/mcp", "").await;
    for (percent, method, taken) in [
        (80, "initialize", false),
        (80, "subscriptions/listen", false),
        (80, "tools/list", true),
        (90, "tools/list", false),
        (90, "tasks/cancel", true),
        (0, "initialize", true),
    ] {
        uses(&node, percent);
        let text = if method == "initialize" { legacy(method) } else { modern(method) };
        ws.text(text).await;
        let answer = ws.json().await;
        assert_eq!((answer["error"].is_null(), &answer["id"]), (taken, &7.into()), "{percent} {method}: {answer}");
        assert!(taken || answer["error"]["data"]["retry"] == true, "{answer}");
    }
    uses(&node, 80);
    assert_eq!(Ws::ask(&node, "/mcp", "").await.1.status, 503);
    let goes_on = format!("mcp-session-id: {}\r\n", session());
    assert_eq!(Ws::ask(&node, "/mcp", &goes_on).await.1.status, 101);
    node.stop().await;
}

#[tokio::test]
async fn at_the_last_step_a_new_connection_does_what_gives_memory_back_and_ends() {
    let node = Node::start(|_| ()).await;
    let mut inside = node.client(Protocol::Http1).await;
    assert_eq!(inside.ask("GET", "/healthz", &[], "").await.status, 200);
    uses(&node, 95);
    for (name, method, headers, body) in kinds() {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut client = node.client(protocol).await;
            let answer = client.ask(method, "/mcp", &headers, body.clone()).await;
            let frees = ["ping", "cancel", "answer", "end"].contains(&name);
            assert_eq!(answer.status == 503, !frees, "{protocol:?} {name}: {}", answer.status);
            let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
            assert_eq!(closes, protocol == Protocol::Http1, "{protocol:?} {name}: it leaves its place to another");
            within(client.task).await.expect("the connection ends");
        }
    }
    let mut raw = Raw::connect(node.http1).await;
    raw.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(raw.answer().await.0.status, 200);
    assert!(raw.is_closed().await);
    let stays = inside.ask("DELETE", "/mcp", &[("mcp-session-id", &session())], "").await;
    assert!(stays.status == 200 && !stays.headers.contains_key("connection"), "who was inside stays");
    uses(&node, 80);
    assert_eq!(node.client(Protocol::Http1).await.ask("GET", "/healthz", &[], "").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn connections_beyond_those_are_refused_and_silent_ones_do_not_stay() {
    let node = Node::start(|_| ()).await;
    uses(&node, 95);
    let mut silent = Vec::new();
    let (head, body) = loop {
        let mut raw = Raw::connect(node.http1).await;
        if silent.len() >= 256 {
            raw.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            let answer = raw.answer().await;
            // Should they have taken long to open, the first of them have gone already.
            if answer.0.status != 200 {
                break answer;
            }
        }
        silent.push(raw);
    };
    assert_eq!((head.status, head.get("retry-after"), head.get("connection")), (503, Some("1"), Some("close")));
    assert!(body.contains("memory"), "{body}");
    for mut raw in silent {
        assert!(raw.is_closed().await, "after a few seconds of silence");
    }
    assert_eq!(node.client(Protocol::Http1).await.ask("GET", "/healthz", &[], "").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn messages_may_take_what_memory_is_left_and_no_more() {
    let node = Node::start(|_| ()).await;
    let mut client = node.client(Protocol::Http1).await;
    let headers = modern_headers("length");
    // Half of what is left to 90 % of 64 MiB are 3.2 MiB, then 0.5 MiB as always.
    let of = |used_percent: u64| Memory { used_bytes: (64 << 20) / 100 * used_percent, max_bytes: 64 << 20 };
    let text = |bytes: usize| {
        modern("length").replace(r#""params":{"#, &format!(r#""params":{{"x":"{}","#, "x".repeat(bytes)))
    };
    for (used, bytes, status) in [(80, 3 << 20, 200), (80, 4 << 20, 503), (99, 4 << 20, 503), (0, 4 << 20, 200)] {
        node.pressure.measured(of(used));
        let answer = client.ask("POST", "/mcp", &headers, text(bytes)).await;
        assert_eq!(answer.status, status, "{used} {bytes}");
        if status == 503 {
            // What was not read to its end ends the connection.
            node.pressure.measured(of(0));
            client = node.client(Protocol::Http1).await;
            assert_eq!(client.ask("GET", "/healthz", &[], "").await.status, 200, "it is inside");
        }
    }
    let (_, _, refused) = node.figures.requests();
    assert_eq!(refused[Reason::Messages as usize], 2);
    node.stop().await;
}

#[tokio::test]
async fn a_node_whose_own_work_waits_takes_no_more_calls_but_what_lightens_it() {
    let node = Node::start(|config| config.own_wait_max_ms = 1).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = node.client(Protocol::Http1).await;
        let ask = async move { client.ask("POST", "/mcp", &modern_headers("wait"), modern("wait")).await.status };
        waiting.push(tokio::spawn(ask));
    }
    node.owner.until(|counts| counts.running == 4).await;
    let mut client = node.client(Protocol::Http1).await;
    // At each of its turns all others wait for a millisecond.
    let busy = tokio::spawn(std::future::poll_fn(|context| {
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 1 {}
        context.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    let list = "tools/list";
    let refused = loop {
        let answer = client.ask("POST", "/mcp", &modern_headers(list), modern(list)).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.code()), (503, Some(-32603)));
    assert_eq!(refused.headers["retry-after"], "1");
    let mut ws = Ws::open(&node, "/mcp", "").await;
    ws.text(modern(list)).await;
    assert_eq!(ws.json().await["error"]["data"]["retry"], true);
    let session = session();
    let own = [&POST[..], &[("mcp-session-id", session.as_str())]].concat();
    assert_eq!(client.ask("POST", "/mcp", &own, legacy("ping")).await.status, 200);
    assert_eq!(client.ask("DELETE", "/mcp", &own[2..], "").await.status, 200);
    assert!(node.figures.requests().2[Reason::Overload as usize] >= 2);
    busy.abort();
    node.owner.release.send_replace(true);
    for call in waiting {
        assert_eq!(call.await.expect("no panic"), 200, "those that were let in are answered");
    }
    assert_eq!(client.ask("POST", "/mcp", &modern_headers(list), modern(list)).await.status, 200);
    node.stop().await;
}

//! Every request is counted when it comes in and once when it ends, whatever becomes of it.

mod common;

use common::raw::Raw;
use common::ws::Ws;
use common::{Node, POST, legacy, modern, modern_headers, session, within};
use enfilade_edge::{Figures, Outcome, Protocol, Reason};
use tokio::task::JoinSet;

/// Requests that came in, that ended by [`Outcome::NAMES`], and that were refused by [`Reason::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Expected {
    entered: u64,
    ended: [u64; Outcome::NAMES.len()],
    refused: [u64; Reason::ALL.len()],
}

impl Expected {
    fn add(&mut self, outcome: Outcome, count: u64) {
        let name = match outcome {
            Outcome::Answered => "answered",
            Outcome::Refused(_) => "refused",
            Outcome::Cancelled => "cancelled",
            Outcome::Late => "late",
            Outcome::Unknown => "unknown",
            Outcome::ClientGone => "client_gone",
        };
        let index = Outcome::NAMES.iter().position(|known| *known == name).expect("a name");
        self.entered += count;
        self.ended[index] += count;
        if let Outcome::Refused(reason) = outcome {
            let index = Reason::ALL.iter().position(|known| *known == reason).expect("a reason");
            self.refused[index] += count;
        }
    }
}

/// The counts, once nothing is in flight. What a client sees may come a moment before it is counted.
async fn settled(figures: &Figures, entered: u64) -> Expected {
    within(async {
        loop {
            let (came, ended, refused) = figures.requests();
            if came >= entered && ended.iter().sum::<u64>() == came {
                return Expected { entered: came, ended, refused };
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn each_kind_of_end_is_counted_as_what_it_is() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let node = Node::start(|config| config.body_timeout_ms = 50).await;
        let mut expected = Expected::default();
        let mut client = node.client(protocol).await;

        for method in ["tools/list", "unknown"] {
            client.ask("POST", "/mcp", &modern_headers(method), modern(method)).await;
            expected.add(Outcome::Answered, 1);
        }
        for (path, headers, body) in [("/mcp", &POST[..], "{"), ("/none", &POST[..], "{}"), ("/mcp", &[][..], "{}")] {
            assert!(client.ask("POST", path, headers, body).await.status >= 400);
            expected.add(Outcome::Refused(Reason::Invalid), 1);
        }
        // Neither health nor what asks only what may be asked counts.
        client.ask("GET", "/healthz", &[], "").await;
        client.ask("OPTIONS", "/mcp", &[], "").await;

        // A stream that stays has been answered when it is open.
        let get = [("accept", "*/*"), ("mcp-session-id", &session())];
        let lasting = client.open("GET", "/mcp", &get, "").await;
        expected.add(Outcome::Answered, 1);

        // The streams of two calls: one ends with its answer, one without; the client of a third goes away.
        let said = [(Some(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#), Outcome::Answered), (None, Outcome::Cancelled)];
        for (answer, outcome) in said {
            let mut client = node.client(protocol).await;
            let open = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
            let stream = node.owner.stream();
            stream.send(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#);
            answer.into_iter().for_each(|answer| assert!(stream.send(answer)));
            stream.finish();
            within(http_body_util::BodyExt::collect(open.into_body())).await.expect("its end");
            expected.add(outcome, 1);
        }
        let mut gone = node.client(protocol).await;
        let open = gone.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
        let stream = node.owner.stream();
        drop(open);
        gone.task.abort();
        within(stream.abandoned()).await;
        expected.add(Outcome::ClientGone, 1);

        assert_eq!(settled(&node.figures, expected.entered).await, expected, "{protocol:?}");
        drop((lasting, client));
        node.stop().await;
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_and_places_that_are_taken_are_counted() {
    let node = Node::start(|config| (config.body_timeout_ms, config.requests_in_flight_max) = (50, 1)).await;
    let mut expected = Expected::default();
    let mut raw = Raw::connect(node.http1).await;
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    raw.send(head).await;
    assert_eq!(raw.answer().await.0.status, 408);
    expected.add(Outcome::Late, 1);

    let mut broken = Raw::connect(node.http1).await;
    broken.send(head).await;
    drop(broken);
    expected.add(Outcome::ClientGone, 1);
    assert_eq!(settled(&node.figures, expected.entered).await, expected);

    let mut waiting = node.client(Protocol::Http1).await;
    let waiting =
        tokio::spawn(async move { waiting.ask("POST", "/mcp", &modern_headers("wait"), modern("wait")).await });
    node.owner.until(|counts| counts.running == 1).await;
    let mut client = node.client(Protocol::Http1).await;
    assert_eq!(client.ask("POST", "/mcp", &modern_headers("tools/list"), modern("tools/list")).await.status, 503);
    expected.add(Outcome::Refused(Reason::Requests), 1);
    node.owner.release.send_replace(true);
    assert_eq!(waiting.await.expect("no panic").status, 200);
    expected.add(Outcome::Answered, 1);
    assert_eq!(settled(&node.figures, expected.entered).await, expected);
    node.stop().await;
}

#[tokio::test]
async fn messages_of_a_websocket_are_counted_one_by_one() {
    let node = Node::start(|_| ()).await;
    let mut expected = Expected::default();
    // The opening request is one, too.
    let mut ws = Ws::open(&node, "/mcp", "").await;
    expected.add(Outcome::Answered, 1);
    ws.text(modern("tools/list")).await;
    ws.json().await;
    expected.add(Outcome::Answered, 1);
    ws.text("{").await;
    ws.json().await;
    expected.add(Outcome::Refused(Reason::Invalid), 1);
    ws.text(modern("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    ws.text(cancel).await;
    node.owner.until(|counts| counts.running == 0).await;
    expected.add(Outcome::Cancelled, 1);
    expected.add(Outcome::Answered, 1);
    // Another's request: the notification goes on its way, and is one message all the same.
    ws.text(cancel).await;
    expected.add(Outcome::Answered, 1);
    assert_eq!(settled(&node.figures, expected.entered).await, expected);
    ws.text(modern("wait")).await;
    node.owner.until(|counts| counts.running == 1).await;
    drop(ws);
    expected.add(Outcome::ClientGone, 1);
    assert_eq!(settled(&node.figures, expected.entered).await, expected);
    node.stop().await;
}

/// Many clients at once, a share of which goes away in the middle of everything.
#[tokio::test]
async fn in_the_end_as_many_have_ended_as_came() {
    const CLIENTS: u64 = 64;
    const ROUNDS: u64 = 25;
    let node = Node::start(|config| config.requests_in_flight_max = 48).await;
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let protocol = if n % 4 == 0 { Protocol::Http2 } else { Protocol::Http1 };
        let mut client = node.client(protocol).await;
        clients.spawn(async move {
            let (mut answered, mut refused) = (0, 0);
            for round in 0..ROUNDS {
                // Calls that wait hold all places in turn, so that others are refused; they end when their client does.
                let ask = match (n * 7 + round) % 5 {
                    0 => client.ask("POST", "/mcp", &POST, legacy("initialize").replace("7", "{")).await,
                    1 => client.ask("DELETE", "/mcp", &[("mcp-session-id", &session())], "").await,
                    _ => client.ask("POST", "/mcp", &modern_headers("tools/list"), modern("tools/list")).await,
                };
                match ask.status {
                    200 => answered += 1,
                    400 | 503 => refused += 1,
                    other => panic!("{other}"),
                }
            }
            if n % 2 == 0 {
                let wait = client.open("POST", "/mcp", &modern_headers("stream"), modern("stream")).await;
                match wait.status().as_u16() {
                    200 => drop((wait, client)),
                    _ => return (answered, refused + 1, 0),
                }
                return (answered, refused, 1);
            }
            (answered, refused, 0)
        });
    }
    let (mut answered, mut refused, mut gone) = (0, 0, 0);
    while let Some(client) = clients.join_next().await {
        let client = client.expect("no panic");
        (answered, refused, gone) = (answered + client.0, refused + client.1, gone + client.2);
    }
    let counted = settled(&node.figures, answered + refused + gone).await;
    assert_eq!(counted.ended, [answered, refused, 0, 0, 0, gone]);
    assert_eq!(counted.entered, CLIENTS * ROUNDS + CLIENTS / 2);
    assert_eq!(counted.refused.iter().sum::<u64>(), refused);
    node.stop().await;
}

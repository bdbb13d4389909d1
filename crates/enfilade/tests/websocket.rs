//! WebSocket at three nodes of real processes: both eras on one connection, and sessions that go on at another node.

mod common;

use common::client::{meta, text_of};
use common::node::until;
use common::socket::Socket;
use common::wire::Wire;
use common::{Server, Signal, send};
use serde_json::{Value, json};

const EVENT: &str = "io.enfilade/event";

struct Cluster {
    server: Server,
    urls: Vec<String>,
}

impl Cluster {
    fn start() -> Self {
        let args = ["--log", "warn,rmcp=off,openraft=off", "up", "--nodes", "3", "--listen", "127.0.0.1:0"];
        let mut server = Server::start(&args);
        let mut urls = vec![server.url.clone()];
        for _ in 1..3 {
            let line = server.line();
            urls.push(line.strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line:?}")).to_owned());
        }
        Self { server, urls }
    }
}

fn echo(text: &str) -> Value {
    json!({"name": "everything__echo", "arguments": {"text": text}})
}

/// Params of a modern request.
fn modern(mut params: Value) -> Value {
    params["_meta"] = meta();
    params
}

#[test]
fn both_eras_on_one_connection_and_what_is_announced() {
    let cluster = Cluster::start();
    let mut socket = Socket::legacy(&cluster.urls[0]);
    assert_eq!(text_of(&socket.ask("tools/call", &echo("legacy"))), Some("legacy"));
    assert_eq!(text_of(&socket.ask("tools/call", &modern(echo("modern")))), Some("modern"));
    let listen = socket.request("subscriptions/listen", &modern(json!({"notifications": {"toolsListChanged": true}})));
    socket.until(|message| message["method"] == "notifications/subscriptions/acknowledged");
    let add = json!({"name": "everything__add_tool", "arguments": {"name": "new"}});
    let added = socket.request("tools/call", &add);
    let (mut answered, mut heard) = (false, [false; 2]);
    while !(answered && heard == [true; 2]) {
        let message = socket.next();
        answered |= message["id"] == added;
        if message["method"] == "notifications/tools/list_changed" {
            let id = &message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
            heard[usize::from(*id == listen)] = true;
        }
    }
    // Ended over HTTP, the session ends its connection.
    let ended = Wire::to(&cluster.urls[1]).ask("DELETE", &[("Mcp-Session-Id", &socket.session)], "");
    assert_eq!((ended.status, socket.closed()), (200, 1012));
    assert_eq!(Socket::open(&cluster.urls[2], &[("mcp-session-id", &socket.session)]).err(), Some(404));
    assert_eq!(cluster.server.stop(), 0);
}

/// The values of progress that a call reports from here on, to its answer, each with its event id.
fn rest_of(socket: &mut Socket, call: u64, values: &mut Vec<u64>) {
    loop {
        let message = socket.next();
        if message["id"] == call {
            assert_eq!(text_of(&message), Some("done"), "{message}");
            assert!(message["result"]["_meta"][EVENT].is_string(), "{message}");
            return;
        }
        if message["method"] == "notifications/progress" {
            values.push(message["params"]["progress"].as_f64().expect("a number") as u64);
        }
    }
}

#[test]
fn a_session_goes_on_at_another_node_without_a_gap_or_a_double() {
    let cluster = Cluster::start();
    let mut socket = Socket::legacy(&cluster.urls[0]);
    let call = socket.request(
        "tools/call",
        &json!({
            "name": "everything__slow",
            "arguments": {"ms": 5000, "steps": 50},
            "_meta": {"progressToken": "p"},
        }),
    );
    let (mut values, mut last) = (Vec::new(), String::new());
    while values.len() < 10 {
        let message = socket.next();
        if message["method"] == "notifications/progress" {
            values.push(message["params"]["progress"].as_f64().expect("a number") as u64);
            last = message["params"]["_meta"][EVENT].as_str().expect("an event id").to_owned();
        }
    }
    let session = std::mem::take(&mut socket.session);
    drop(socket);
    // The same at the other nodes, one after the other; the last one hears the end.
    for url in &cluster.urls[1..] {
        let resume = [("mcp-session-id", &*session), ("last-event-id", &*last)];
        let mut there = Socket::open(url, &resume).expect("it goes on");
        if *url == cluster.urls[2] {
            rest_of(&mut there, call, &mut values);
            assert_eq!(text_of(&there.ask("tools/call", &echo("still"))), Some("still"));
            break;
        }
        let next = there.until(|message| message["method"] == "notifications/progress");
        values.push(next["params"]["progress"].as_f64().expect("a number") as u64);
        last = next["params"]["_meta"][EVENT].as_str().expect("an event id").to_owned();
    }
    assert_eq!(values, (1..=50).collect::<Vec<u64>>());
    assert_eq!(Socket::open(&cluster.urls[0], &[("mcp-session-id", "made-up")]).err(), Some(404));
    assert_eq!(cluster.server.stop(), 0);
}

#[test]
fn a_killed_node_takes_no_session_with_it_and_a_stopped_one_says_where_to_go() {
    let cluster = Cluster::start();
    let mut sockets: Vec<Socket> = (0..3).map(|_| Socket::legacy(&cluster.urls[0])).collect();
    let sessions: Vec<String> = sockets.iter().map(|socket| socket.session.clone()).collect();
    let mut pids = common::children(cluster.server.pid());
    pids.sort_by_cached_key(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
    send(pids[0], Signal::SIGKILL);
    sockets.clear();
    for (session, url) in sessions.iter().zip(cluster.urls[1..].iter().cycle()) {
        let mut there = None;
        until("the session is served", || match Socket::open(url, &[("mcp-session-id", session)]) {
            Ok(socket) => there.replace(socket).is_none(),
            Err(status) => {
                assert_ne!(status, 404, "a session was lost");
                false
            }
        });
        let mut there = there.expect("it is open");
        assert_eq!(text_of(&there.ask("tools/call", &echo("here"))), Some("here"));
        sockets.push(there);
    }
    assert_eq!(cluster.server.stop(), 0);
    for socket in &mut sockets {
        assert_eq!(socket.closed(), 1012);
    }
}

/// The largest message.
const MAX: usize = 16_777_216;

#[test]
fn the_largest_message_goes_over_a_link_and_one_byte_more_closes_the_connection() {
    let cluster = Cluster::start();
    let session = Socket::legacy(&cluster.urls[0]).session;
    // One owner: at one of the two, at least, the session is another node's.
    for url in &cluster.urls[1..] {
        let mut socket = Socket::open(url, &[("mcp-session-id", &session)]).expect("it goes on");
        let call = |text: &str| {
            let params = json!({"name": "everything__length", "arguments": {"text": text}});
            json!({"jsonrpc": "2.0", "id": "big", "method": "tools/call", "params": params}).to_string()
        };
        let room = MAX - call("").len();
        socket.send(&call(&"a".repeat(room)));
        let answer = socket.until(|message| message["id"] == "big");
        assert_eq!(text_of(&answer), Some(&*room.to_string()), "{url}");
        socket.begin(MAX as u64 + 1);
        assert_eq!(socket.closed(), 1009, "{url}");
    }
    assert_eq!(cluster.server.stop(), 0);
}

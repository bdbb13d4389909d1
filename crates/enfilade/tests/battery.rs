//! Messages at and over the limit of 16 MiB, with real processes, and what they cost in memory (T7).
//! Figures are printed. Memory is that of a gateway process of the test's own.

#![cfg(target_os = "linux")]

mod common;

use common::client::{Client, KINDS, Kind, shown, text_of};
use common::{Folder, Server};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Command;

/// The largest message.
const MAX: usize = 16_777_216;

const GIBIBYTE: u64 = 1 << 30;

/// What a message of any size may add to the gateway's memory.
const ADDED_KIB_MAX: u64 = 32 * 1024;

/// A gateway with one virtual server per upstream, at `/NAME`: there the upstream's tools keep their names.
struct Gateway {
    server: Server,
    _folder: Folder,
    _upstreams: Vec<Server>,
}

impl Gateway {
    fn start(upstreams: &str, running: Vec<Server>) -> Self {
        let names = upstreams.split("name: ").skip(1).filter_map(|rest| rest.split(',').next());
        let servers: String =
            names.map(|name| format!("  - {{name: {name}, path: /{name}, upstreams: [{name}]}}\n")).collect();
        let yaml = format!("listen: [{{address: \"127.0.0.1:0\"}}]\nupstreams:\n{upstreams}servers:\n{servers}");
        let folder = Folder::new();
        let file = folder.file("c.yaml", &yaml);
        let data = folder.text("data");
        let server = Server::start(&["--log", "off", "up", "--nodes", "1", "--config", &file, "--data-dir", &data]);
        Self { server, _folder: folder, _upstreams: running }
    }

    /// Upstreams of every kind that take messages: the demo server.
    fn of_demos() -> Self {
        let demos = ["legacy", "modern"].map(|era| Server::start(&["--log", "off", "demo", "--era", era]));
        let mut yaml = String::new();
        for (era, demo) in ["legacy", "modern"].iter().zip(&demos) {
            yaml.push_str(&format!("  - {{name: http-{era}, url: \"{}\"}}\n", demo.url));
            let arguments = format!("[\"--log\", \"off\", demo, --stdio, --era, {era}]");
            yaml.push_str(&format!(
                "  - {{name: stdio-{era}, command: \"{}\", args: {arguments}}}\n",
                env!("CARGO_BIN_EXE_enfilade")
            ));
        }
        Self::start(&yaml, demos.into())
    }

    /// Upstreams of every kind that answer with messages of any size.
    fn of_sized() -> Self {
        let program = example("sized");
        let http = Server::start_command(Command::new(&program));
        let mut yaml = String::new();
        for era in ["legacy", "modern"] {
            yaml.push_str(&format!("  - {{name: http-{era}, era: {era}, url: \"{}\"}}\n", http.url));
            yaml.push_str(&format!("  - {{name: stdio-{era}, era: {era}, command: \"{program}\", args: [--stdio]}}\n"));
        }
        Self::start(&yaml, vec![http])
    }

    fn url(&self, upstream: &str) -> String {
        format!("http://{}/{upstream}", self.server.address())
    }

    /// The most memory that the gateway has had so far.
    fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Says what something added to the gateway's memory, and judges it.
    fn judge(&self, what: &str, before: u64) {
        let added = self.peak_kib() - before;
        println!("battery: {what}: {added} KiB added to a peak of {before} KiB (limit {ADDED_KIB_MAX})");
        assert!(added < ADDED_KIB_MAX, "{what}: {added} KiB");
    }
}

/// A program of this crate's `examples`, which cargo builds along with the tests.
fn example(name: &str) -> String {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("the target folder").join("examples");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: cargo build -p enfilade --examples", path.display());
    path.to_str().expect("a path of text").to_owned()
}

const UPSTREAMS: [&str; 4] = ["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"];

/// A call of `length` whose whole body has so many bytes; gives the length of the text as well.
fn body_of(client: &Client, bytes: usize) -> (String, usize) {
    let with = |text: &str| client.body(1, "tools/call", json!({"name": "length", "arguments": {"text": text}}));
    let text = "a".repeat(bytes - with("").len());
    let body = with(&text);
    assert_eq!(body.len(), bytes);
    (body, text.len())
}

/// The headers that a client adds for a tool.
fn named(kind: Kind, tool: &'static str) -> Vec<(&'static str, &'static str)> {
    (kind == Kind::Modern).then_some(("Mcp-Name", tool)).into_iter().collect()
}

#[test]
fn the_largest_request_is_served_and_one_byte_more_is_refused() {
    let gateway = Gateway::of_demos();
    for upstream in UPSTREAMS {
        for kind in KINDS {
            let what = format!("request, {kind:?} client, {upstream}");
            let mut client = Client::new(kind, &gateway.url(upstream));
            assert_eq!(client.text("length", json!({"text": "ab"})), "2", "{what}");
            let (body, length) = body_of(&client, MAX);
            let served = client.post("tools/call", &named(kind, "length"), &body);
            assert_eq!(text_of(&served.message(1)), Some(&*length.to_string()), "{what}: {}", shown(&served));

            let (body, _) = body_of(&client, MAX + 1);
            let refused = client.post("tools/call", &named(kind, "length"), &body);
            assert_eq!(refused.status, 413, "{what}: {}", shown(&refused));
            let error: Value = serde_json::from_str(&refused.body).expect("JSON");
            assert_eq!(error["error"]["data"]["fault"], "client", "{what}: {error}");
            assert_eq!(error["error"]["data"]["retry"], false, "{what}: {error}");
            // The same session goes on.
            assert_eq!(client.again().text("length", json!({"text": "abc"})), "3", "{what}");
            println!("battery: {what}: {MAX} bytes served, {} answered with 413, next served", MAX + 1);
        }
    }
    assert_eq!(gateway.server.stop(), 0);
}

/// A call of `sized`.
fn sized(client: &mut Client, bytes: u64, how: &str) -> Value {
    client.call("sized", json!({"bytes": bytes, "how": how}))
}

/// How the sized server frames an answer, by upstream.
fn framings(upstream: &str) -> &'static [&'static str] {
    if upstream.starts_with("http") { &["length", "chunked", "events"] } else { &["line"] }
}

fn is_too_large(answer: &Value) -> bool {
    let error = &answer["error"];
    error["data"]["fault"] == "upstream" && error["message"].as_str().is_some_and(|text| text.contains("16 MiB"))
}

#[test]
fn the_largest_answer_is_passed_on_and_one_byte_more_is_an_error() {
    let gateway = Gateway::of_sized();
    for upstream in UPSTREAMS {
        for kind in KINDS {
            for how in framings(upstream) {
                let what = format!("answer, {kind:?} client, {upstream}, {how}");
                let mut client = Client::new(kind, &gateway.url(upstream));
                let small = sized(&mut client, 1000, how);
                // Between them the texts of two answers differ as much as the messages.
                let between = text_of(&small).unwrap_or_else(|| panic!("{what}: {small}")).len();
                let large = sized(&mut client, MAX as u64, how);
                let text = text_of(&large).unwrap_or_else(|| panic!("{what}: {}", large["error"]));
                assert!(text.bytes().all(|byte| byte == b'a'), "{what}");
                // The gateway's ids grow, so the second envelope may be longer by a digit.
                let expected = MAX - 1000 + between;
                assert!((expected - 1..=expected).contains(&text.len()), "{what}: {} of {expected}", text.len());
                let refused = sized(&mut client, MAX as u64 + 1, how);
                assert!(is_too_large(&refused), "{what}: {}", refused["error"]);
                assert!(text_of(&sized(&mut client, 1000, how)).is_some(), "{what}: the next call");
                println!("battery: {what}: {MAX} bytes passed on, {} refused, next served", MAX + 1);
            }
        }
    }
    assert_eq!(gateway.server.stop(), 0);
}

#[test]
fn a_gibibyte_from_a_client_costs_little() {
    for kind in KINDS {
        // A gateway of its own: its peak does not go down again.
        let gateway = Gateway::of_demos();
        let mut client = Client::new(kind, &gateway.url("http-modern"));
        assert_eq!(client.text("length", json!({"text": "ab"})), "2");
        let before = gateway.peak_kib();
        let sent = endless(&mut client);
        let refused = client.wire.answer();
        assert_eq!(refused.status, 413, "after {sent} bytes");
        assert_eq!(client.again().text("length", json!({"text": "abc"})), "3");
        gateway.judge(&format!("request of 1 GiB in chunks, {kind:?} client ({sent} bytes sent)"), before);
        assert_eq!(gateway.server.stop(), 0);
    }
}

/// Sends a gibibyte in chunks, or as much as is taken.
fn endless(client: &mut Client) -> u64 {
    client.begin("tools/call", &[("Mcp-Name", "length")], "Transfer-Encoding: chunked");
    let chunk = [&b"10000\r\n"[..], &[b'a'; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < GIBIBYTE && client.wire.io.get_mut().write_all(&chunk).is_ok() {
        sent += 0x10000;
    }
    sent
}

#[test]
fn a_gibibyte_from_an_upstream_costs_little() {
    for upstream in UPSTREAMS {
        for how in framings(upstream) {
            // A gateway of its own: its peak does not go down again.
            let gateway = Gateway::of_sized();
            let mut client = Client::new(Kind::Modern, &gateway.url(upstream));
            assert!(text_of(&sized(&mut client, 1000, how)).is_some());
            let before = gateway.peak_kib();
            let refused = sized(&mut client, GIBIBYTE, how);
            assert!(is_too_large(&refused), "{upstream} {how}: {refused}");
            assert!(text_of(&sized(&mut client, 1000, how)).is_some(), "{upstream} {how}: the next call");
            gateway.judge(&format!("answer of 1 GiB, {upstream}, {how}"), before);
            assert_eq!(gateway.server.stop(), 0);
        }
    }
}

/// What the largest message costs while it is passed on. That it is seen at all proves the measurement.
#[test]
fn what_one_large_message_costs() {
    let gateway = Gateway::of_demos();
    let mut client = Client::new(Kind::Modern, &gateway.url("http-modern"));
    assert_eq!(client.text("length", json!({"text": "ab"})), "2");
    let before = gateway.peak_kib();
    let (body, length) = body_of(&client, MAX);
    let served = client.post("tools/call", &named(Kind::Modern, "length"), &body);
    assert_eq!(text_of(&served.message(1)), Some(&*length.to_string()), "{}", shown(&served));
    let added = gateway.peak_kib() - before;
    println!("battery: one request of {MAX} bytes passed on: {added} KiB added to a peak of {before} KiB");
    // The message itself, and not more than a few copies of it at a time.
    let message = MAX as u64 / 1024;
    assert!((message / 2..4 * message).contains(&added), "{added} KiB");
    assert_eq!(gateway.server.stop(), 0);
}

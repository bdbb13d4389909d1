//! `enfilade up` as its users meet it: the real binary, real upstreams, raw HTTP.

mod common;

use common::{Folder, Server, Session, Signal, call_modern, enfilade, post};
use serde_json::json;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Splits the printed curl command at its quotes: what is between them at odd places is headers, then the body.
fn parts(command: &str) -> (Vec<(String, String)>, String) {
    let quoted: Vec<&str> = command.split('\'').skip(1).step_by(2).skip(1).collect();
    let (body, headers) = quoted.split_last().expect("a body");
    let headers = headers.iter().map(|header| header.split_once(": ").expect("a header"));
    (headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), (*body).to_owned())
}

#[test]
fn without_configuration_both_eras_reach_the_demo_at_once() {
    let mut server = Server::start(&["up", "--nodes", "1", "--listen", "127.0.0.1:0"]);
    assert_eq!(server.line(), "try it:");
    let command = server.line();
    assert!(command.starts_with("curl ") && command.contains(&server.url), "{command}");
    let (headers, body) = parts(&command);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = post(&server.url, &headers, &body).message(1);
    assert_eq!(answer["result"]["structuredContent"], json!({"sum": 5}), "{answer}");

    let mut session = Session::open(&server.url);
    let answer = session.ask("tools/call", json!({"name": "second__echo", "arguments": {"text": "hello"}}));
    assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
    let answer = call_modern(&server.url, "second__echo", &json!({"text": "hello"}));
    assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn mcp_json_with_a_stdio_upstream() {
    let folder = Folder::new();
    let program = env!("CARGO_BIN_EXE_enfilade");
    let document = json!({"mcpServers": {
        "My Server": {"command": "${PROGRAM}", "args": ["demo", "--stdio", "--name", "${env:SELF}"]},
        "off": {"command": "/nonexistent", "disabled": true},
    }});
    let file = folder.file("mcp.json", &document.to_string());
    let data = folder.text("data");
    let mut command =
        enfilade(&["up", "--nodes", "1", "--mcp-json", &file, "--listen", "127.0.0.1:0", "--data-dir", &data]);
    command.env("PROGRAM", program).env("SELF", "me");
    let server = Server::start_command(command);
    // One upstream alone keeps its names.
    let answer = call_modern(&server.url, "whoami", &json!({}));
    assert!(answer["result"].to_string().contains("me"), "{answer}");
    let mut session = Session::open(&server.url);
    let answer = session.ask("tools/call", json!({"name": "add", "arguments": {"a": 20, "b": 22}}));
    assert_eq!(answer["result"]["structuredContent"], json!({"sum": 42}), "{answer}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn virtual_servers_and_a_legacy_upstream() {
    let demo = Server::start(&["demo", "--listen", "127.0.0.1:0", "--era", "legacy", "--name", "old"]);
    let folder = Folder::new();
    let yaml = format!(
        "listen: [{{address: \"127.0.0.1:0\"}}]\nupstreams: [{{name: old, url: \"{}\"}}]\n\
         servers: [{{name: one, path: /one}}, {{name: two, path: /deep/two}}]\n",
        demo.url
    );
    let file = folder.file("c.yaml", &yaml);
    let mut server = Server::start(&["up", "--nodes", "1", "--config", &file, "--data-dir", &folder.text("data")]);
    let second = server.line();
    let second = second.strip_prefix("ready ").expect("a second server");
    assert!(server.url.ends_with("/one") && second.ends_with("/deep/two"), "{} {second}", server.url);
    for url in [server.url.as_str(), second] {
        let answer = call_modern(url, "echo", &json!({"text": "through"}));
        assert_eq!(answer["result"]["content"][0]["text"], "through", "{answer}");
    }
    let elsewhere = server.url.replace("/one", "/three");
    assert_eq!(post(&elsewhere, &[], "{}").status, 404);
    assert_eq!(server.stop(), 0);
    assert_eq!(demo.stop(), 0);
}

#[test]
fn sessions_survive_a_restart() {
    let demo = Server::start(&["demo", "--listen", "127.0.0.1:0"]);
    let folder = Folder::new();
    let yaml = format!("listen: [{{address: \"127.0.0.1:0\"}}]\nupstreams: [{{name: a, url: \"{}\"}}]\n", demo.url);
    let (file, data) = (folder.file("c.yaml", &yaml), folder.text("data"));
    let first = Server::start(&["up", "--nodes", "1", "--config", &file, "--data-dir", &data]);
    let mut session = Session::open(&first.url);
    let echo = json!({"name": "echo", "arguments": {"text": "still here"}});
    assert_eq!(session.ask("tools/call", echo.clone())["result"]["content"][0]["text"], "still here");
    assert_eq!(first.stop(), 0);

    let second = Server::start(&["up", "--nodes", "1", "--config", &file, "--data-dir", &data]);
    let answer = session.moved_to(&second.url).ask("tools/call", echo);
    assert_eq!(answer["result"]["content"][0]["text"], "still here", "{answer}");

    // The directory has one user at a time.
    let third =
        enfilade(&["up", "--nodes", "1", "--config", &file, "--data-dir", &data]).stdout(Stdio::piped()).output();
    let third = third.expect("the binary runs");
    assert_eq!(third.status.code(), Some(1), "{}", String::from_utf8_lossy(&third.stderr));
    assert_eq!(third.stdout, b"");
    assert_eq!(second.stop(), 0);
    assert_eq!(demo.stop(), 0);
}

#[test]
fn either_signal_stops_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&["up", "--nodes", "1", "--listen", "127.0.0.1:0"]);
        server.signal(signal);
        assert_eq!(server.end(), 0, "{signal}");
    }
}

#[test]
fn a_taken_address_is_an_error_but_not_of_usage() {
    let demo = Server::start(&["demo", "--listen", "127.0.0.1:0"]);
    let address = demo.url.trim_start_matches("http://").trim_end_matches("/mcp");
    let output = common::run(&["up", "--nodes", "1", "--listen", address]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(address), "{error}");
    assert_eq!(demo.stop(), 0);
}

/// Polls a condition that another process brings about.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let demo = Server::start(&["demo", "--listen", "127.0.0.1:0"]);
    let folder = Folder::new();
    let yaml = format!(
        "listen: [{{address: \"127.0.0.1:0\"}}]\ndrain_ms: 600000\nupstreams: [{{name: a, url: \"{}\"}}]\n",
        demo.url
    );
    let file = folder.file("c.yaml", &yaml);
    let mut server = Server::start(&["up", "--nodes", "1", "--config", &file, "--data-dir", &folder.text("data")]);
    let url = server.url.clone();
    // A call that keeps the node from stopping; it is cut off, whatever its answer then looks like.
    let caller = std::thread::spawn(move || std::panic::catch_unwind(|| call_modern(&url, "hang", &json!({}))));
    let called = || call_modern(&demo.url, "counts", &json!({})).to_string().contains("hang");
    until("the call reaches the upstream", called);
    server.signal(Signal::SIGTERM);
    let address = server.url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    until("no connection is taken any more", || TcpStream::connect(&address).is_err());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end(), 130);
    assert!(caller.join().expect("the panic was caught").is_err(), "the call was answered");
    assert_eq!(demo.stop(), 0);
}

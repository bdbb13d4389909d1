//! Memory that is short: what the operator and clients are told, and a control group that nobody is killed in.

#![cfg(target_os = "linux")]

mod common;

use common::{Folder, LIMIT, MODERN, Server, call_modern, enfilade, post};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A node alone in front of this upstream, and where its health is asked.
fn node(folder: &Folder, upstream: &str, more: &str, wrap: impl FnOnce(Command) -> Command) -> (Server, String) {
    let yaml = format!(
        "{more}listen: [{{address: \"127.0.0.1:0\"}}]\nhealth: \"127.0.0.1:0\"\ndata_dir: {}\n\
         upstreams: [{{name: demo, url: \"{upstream}\"}}]\n",
        folder.text("data"),
    );
    let file = folder.file("node.yaml", &yaml);
    let mut command = wrap(enfilade(&["--log", "warn", "serve", "--config", &file]));
    command.stderr(fs::File::create(folder.path("log")).expect("a file"));
    let (server, before) = Server::start_and_hear(command);
    let health = before.iter().find_map(|line| line.strip_prefix("health ")).expect("its health").to_owned();
    (server, health)
}

/// The whole answer to a GET.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the connection's end");
    answer
}

/// A metric without a label.
fn metric(health: &str, name: &str) -> u64 {
    let page = get(health, "/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {page}"))
}

#[test]
fn a_node_over_its_memory_says_so_and_refuses() {
    let folder = Folder::new();
    // Less than any process takes.
    let (server, health) = node(&folder, "http://127.0.0.1:9/mcp", "memory_bytes_max: 1048576\n", |command| command);
    let until = Instant::now() + LIMIT;
    while metric(&health, "enfilade_memory_step") != 2 {
        assert!(Instant::now() < until, "{}", get(&health, "/metrics"));
    }
    let ready = get(&health, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("memory is nearly used up"), "{ready}");
    // More than may be inside by then: these are told without being asked.
    let mut all: Vec<_> = (0..300).map(|_| TcpStream::connect(server.address()).expect("a connection")).collect();
    let until = Instant::now() + LIMIT;
    while metric(&health, "enfilade_edge_connections_refused_total{reason=\"memory\"}") == 0 {
        assert!(Instant::now() < until, "{}", get(&health, "/metrics"));
        all.push(TcpStream::connect(server.address()).expect("a connection"));
    }
    drop(all);
    let call = post(&server.url, &[], r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#);
    assert_eq!((call.status, call.header("retry-after")), (503, Some("1")), "{}", call.body);
    assert_eq!(server.stop(), 0);
    let log = fs::read_to_string(folder.path("log")).expect("its log");
    let said = log.lines().filter(|line| line.contains("memory is nearly used up: connections")).count();
    assert_eq!(said, 1, "once, with what to do: {log}");
    assert!(log.contains("memory_bytes_max"), "{log}");
}

/// A control group for memory, version 1; removed at the end.
struct Group(PathBuf);

impl Group {
    /// Nothing where none can be made; says why.
    fn new(bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|one| one == "memory").then(|| path.trim_start_matches('/').to_owned())
        });
        let Some(path) = path else {
            println!("skipped: this machine has no control groups of version 1 for memory");
            return None;
        };
        let folder = PathBuf::from("/sys/fs/cgroup/memory").join(path).join(format!("enfilade-{}", std::process::id()));
        let made =
            fs::create_dir(&folder).and_then(|()| fs::write(folder.join("memory.limit_in_bytes"), bytes.to_string()));
        if let Err(error) = &made {
            println!("skipped: no control group with a limit on memory at {}: {error}", folder.display());
        }
        made.ok().map(|()| Self(folder))
    }

    /// The same command, in the group from its first byte on.
    fn holds(&self, command: Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args());
        shell
    }

    fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.0.join(file)).ok().and_then(|text| text.trim().parse().ok()).expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + LIMIT;
        // Who was killed leaves it a moment later.
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

/// A connection that has come in.
fn inside(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    stream
}

/// The status of an answer that has begun.
fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = [0; 12];
    let is_there = matches!(stream.peek(&mut answer), Ok(12));
    is_there.then(|| std::str::from_utf8(&answer[9..]).ok()?.parse().ok()).flatten()
}

/// Sends a message but for its end, or until it is answered.
fn hold(mut stream: TcpStream, bytes: usize) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n\r\n",
        bytes + 1
    );
    let chunk = vec![b' '; 1 << 20];
    stream.write_all(head.as_bytes()).expect("a head is taken");
    for _ in 0..bytes / chunk.len() {
        // Who was refused may be closed by now.
        if stream.write_all(&chunk).is_err() || status(&mut stream).is_some() {
            break;
        }
    }
    stream
}

#[test]
fn messages_beyond_the_limit_of_its_group_are_refused_and_it_lives_on() {
    const LIMIT_BYTES: u64 = 192 << 20;
    let Some(group) = Group::new(LIMIT_BYTES) else { return };
    let demo = Server::start(&["demo", "--listen", "127.0.0.1:0"]);
    let folder = Folder::new();
    let (server, health) = node(&folder, &demo.url, "", |command| group.holds(command));
    let before = call_modern(&server.url, "echo", &json!({"text": "before"}));
    assert_eq!(before["result"]["content"][0]["text"], "before", "{before}");
    assert_eq!(metric(&health, "enfilade_memory_bound_bytes"), LIMIT_BYTES);
    // Six times what the group may take, within the bound on messages of the configuration.
    let inside: Vec<_> = (0..80).map(|_| inside(server.address())).collect();
    let mut held: Vec<_> = inside.into_iter().map(|stream| hold(stream, 15 << 20)).collect();
    let until = Instant::now() + LIMIT;
    let refused = loop {
        let refused = held.iter_mut().filter_map(status).filter(|status| *status == 503).count();
        if refused >= 60 {
            break refused;
        }
        assert!(Instant::now() < until, "{refused} of 80 were refused");
    };
    let peak = group.number("memory.max_usage_in_bytes");
    assert!(peak > LIMIT_BYTES / 4, "{} MiB at most: it could have taken more", peak >> 20);
    assert!(get(&health, "/healthz").starts_with("HTTP/1.1 200 "), "it lives");
    drop(held);
    let until = Instant::now() + LIMIT;
    while metric(&health, "enfilade_memory_step") > 0 {
        assert!(Instant::now() < until, "{}", get(&health, "/metrics"));
    }
    let after = call_modern(&server.url, "echo", &json!({"text": "after"}));
    assert_eq!(after["result"]["content"][0]["text"], "after", "{after}");
    assert_eq!(post(&server.url, &[], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).status, 400, "as ever");
    println!("{refused} of 80 refused, {} MiB of {} at most", peak >> 20, LIMIT_BYTES >> 20);
    assert_eq!(server.stop(), 0);
}

/// Asks for an answer of this size, and reads none of it.
fn ask_for(address: &str, bytes: usize) -> TcpStream {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"name": "big", "arguments": {"bytes": bytes}, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: big\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    stream
}

#[test]
fn answers_beyond_the_limit_of_its_group_are_errors_and_it_lives_on() {
    const LIMIT_BYTES: u64 = 192 << 20;
    const ANSWER_BYTES: usize = 10 << 20;
    let Some(group) = Group::new(LIMIT_BYTES) else { return };
    let demo = Server::start(&["demo", "--listen", "127.0.0.1:0"]);
    let folder = Folder::new();
    let (server, health) = node(&folder, &demo.url, "", |command| group.holds(command));
    let before = call_modern(&server.url, "big", &json!({"bytes": ANSWER_BYTES}));
    assert_eq!(before["result"]["content"][0]["text"].as_str().map(str::len), Some(ANSWER_BYTES));
    // Three times what the group may take.
    let mut asked: Vec<_> = (0..60).map(|_| ask_for(server.address(), ANSWER_BYTES)).collect();
    let until = Instant::now() + 3 * LIMIT;
    while asked.iter_mut().filter_map(status).count() < asked.len() {
        assert!(Instant::now() < until, "{}", get(&health, "/metrics"));
    }
    let (mut whole, mut told) = (0, 0);
    for mut stream in asked {
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and the connection's end");
        whole += usize::from(answer.len() > ANSWER_BYTES && !answer.contains("\"error\""));
        told += usize::from(answer.contains("no memory left") && answer.contains("\"error\""));
    }
    let peak = group.number("memory.max_usage_in_bytes");
    assert_eq!(whole + told, 60, "each has an answer, or an error that says why: {whole} and {told}");
    assert!(whole >= 3 && told >= 10, "{whole} answers, {told} errors");
    assert!(get(&health, "/healthz").starts_with("HTTP/1.1 200 "), "it lives");
    let until = Instant::now() + LIMIT;
    while metric(&health, "enfilade_memory_step") + metric(&health, "enfilade_edge_messages_bytes") > 0 {
        assert!(Instant::now() < until, "{}", get(&health, "/metrics"));
    }
    let after = call_modern(&server.url, "big", &json!({"bytes": ANSWER_BYTES}));
    assert_eq!(after["result"]["content"][0]["text"].as_str().map(str::len), Some(ANSWER_BYTES));
    println!("{whole} answers, {told} errors, {} MiB of {} at most", peak >> 20, LIMIT_BYTES >> 20);
    assert_eq!(server.stop(), 0);
}

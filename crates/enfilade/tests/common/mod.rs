//! Runs the real binary and talks raw HTTP/1.1 to it.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod client;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod socket;
pub(crate) mod wire;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) use nix::sys::signal::Signal;

/// The longest that anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const MODERN: &str = "2026-07-28";
pub(crate) const LEGACY: &str = "2025-11-25";

/// The binary with arguments.
pub(crate) fn enfilade(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enfilade"));
    command.args(args);
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    enfilade(args).output().expect("the binary runs")
}

/// A temporary folder with files in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Writes a file; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file is written");
        path.to_str().expect("a path of text").to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path of text").to_owned()
    }
}

/// Sends a signal to a process that is not reaped yet.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).expect("a process id");
    kill(Pid::from_raw(pid), signal).expect("a signal is sent");
}

/// The processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").filter_map(Result::ok);
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flat_map(|task| of(task).split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A running `enfilade`, killed at the end if it was not stopped.
pub(crate) struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The first `ready` line's address.
    pub(crate) url: String,
}

impl Server {
    /// Starts it and waits for its first `ready` line.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_command(enfilade(args))
    }

    pub(crate) fn start_command(command: Command) -> Self {
        let (server, before) = Self::start_and_hear(command);
        assert!(before.is_empty(), "not ready: {before:?}");
        server
    }

    /// The same, with the lines before that one.
    pub(crate) fn start_and_hear(mut command: Command) -> (Self, Vec<String>) {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let mut server = Self { child, out, url: String::new() };
        let mut before = Vec::new();
        loop {
            let line = server.line();
            if let Some(url) = line.strip_prefix("ready ") {
                url.clone_into(&mut server.url);
                return (server, before);
            }
            assert!(!line.is_empty(), "it ended: {before:?}");
            before.push(line);
        }
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `ADDRESS:PORT` of its first `ready` line.
    pub(crate) fn address(&self) -> &str {
        split(&self.url).0
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> i32 {
        let until = Instant::now() + LIMIT;
        // Its output ends with it; then it is only waited for.
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("the rest of its output");
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
            }
            std::thread::yield_now();
        }
        panic!("it did not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The JSON-RPC message that answers `id`, from a JSON body or from an event stream.
    pub(crate) fn message(&self, id: u64) -> Value {
        let texts = self.body.lines().map(|line| line.strip_prefix("data:").unwrap_or(line).trim());
        let mut messages = texts.filter_map(|text| serde_json::from_str::<Value>(text).ok());
        messages.find(|message| message["id"] == id).unwrap_or_else(|| panic!("no answer to {id}: {self:?}"))
    }
}

/// Posts a body and reads the answer to its end.
pub(crate) fn post(url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (address, path) = split(url);
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n",
        body.len()
    );
    let own = ["content-type", "accept"];
    for (name, value) in headers.iter().filter(|(name, _)| !own.contains(&name.to_ascii_lowercase().as_str())) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8(answer).expect("an answer of text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").expect("an http URL");
    rest.split_at(rest.find('/').expect("a path"))
}

/// A modern `tools/call`.
pub(crate) fn call_modern(url: &str, tool: &str, arguments: &Value) -> Value {
    let meta = serde_json::json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = serde_json::json!({"name": tool, "arguments": arguments, "_meta": meta});
    let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let headers = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", "tools/call"), ("Mcp-Name", tool)];
    post(url, &headers, &body.to_string()).message(1)
}

/// A legacy session.
pub(crate) struct Session {
    url: String,
    id: String,
    next: u64,
}

impl Session {
    /// `initialize` and `notifications/initialized`.
    pub(crate) fn open(url: &str) -> Self {
        let client = serde_json::json!({"name": "test", "version": "1"});
        let params = serde_json::json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client});
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        let answer = post(url, &[], &body.to_string());
        assert_eq!(answer.message(1)["result"]["protocolVersion"], LEGACY, "{answer:?}");
        let id = answer.header("Mcp-Session-Id").expect("a session id").to_owned();
        let session = Self { url: url.to_owned(), id, next: 2 };
        let done = session.post(r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#);
        assert_eq!(done.status, 202, "{done:?}");
        session
    }

    fn post(&self, body: &str) -> Answer {
        post(&self.url, &[("Mcp-Session-Id", &self.id), ("MCP-Protocol-Version", LEGACY)], body)
    }

    /// A request, whatever comes of it.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        let body = serde_json::json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.post(&body.to_string()).message(id)
    }

    /// The same session at another address.
    pub(crate) fn moved_to(&self, url: &str) -> Self {
        Self { url: url.to_owned(), id: self.id.clone(), next: self.next }
    }
}

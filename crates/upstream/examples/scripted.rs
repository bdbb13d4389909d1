//! A stdio MCP server for the tests of the connectors: each tool is one way to behave, or to misbehave.
//!
//! Arguments: `--modern` (2026-07-28 only), `--strict` (ends when the first request is not `initialize`), `--mute` (says
//! nothing before `initialize`), `--late` (reads on up to `initialize` before it answers, as one that starts slowly
//! finds its requests), `--deaf` (stays when stdin is closed).

use enfilade_mcp::json;
use std::io::{BufRead, Write};

fn main() {
    let flags: Vec<String> = std::env::args().collect();
    let has = |flag: &str| flags.iter().any(|other| other == flag);
    let mut server = Server { input: std::io::stdin().lock(), modern: has("--modern"), cancelled: Vec::new() };
    let (mut opened, strict, mute, late) = (false, has("--strict"), has("--mute"), has("--late"));
    let mut waiting = Vec::new();
    while let Some(line) = server.read() {
        let method = json::get(&line, "method").and_then(json::string).unwrap_or_default().into_owned();
        opened |= method == "initialize";
        match opened || server.modern {
            false if strict => std::process::exit(1),
            false if mute => {}
            _ if late && !opened => waiting.push((line, method)),
            _ => {
                waiting.drain(..).for_each(|(line, method): (String, String)| server.handle(&line, &method));
                server.handle(&line, &method);
            }
        }
    }
    while has("--deaf") {
        std::thread::park();
    }
}

struct Server {
    input: std::io::StdinLock<'static>,
    modern: bool,
    cancelled: Vec<String>,
}

impl Server {
    fn read(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.input.read_line(&mut line).ok()? > 0).then_some(line)
    }

    fn handle(&mut self, line: &str, method: &str) {
        let id = json::get(line, "id").unwrap_or("null");
        match method {
            "server/discover" if self.modern => answer(id, r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#),
            "initialize" if !self.modern => {
                let version = json::at(line, &["params", "protocolVersion"]).unwrap_or("null");
                let info = r#"{"name":"scripted","version":"1"}"#;
                answer(id, &format!(r#"{{"protocolVersion":{version},"capabilities":{{}},"serverInfo":{info}}}"#));
            }
            "notifications/cancelled" => {
                let id = json::at(line, &["params", "requestId"]).unwrap_or("null");
                self.cancelled.push(id.to_owned());
            }
            "notifications/initialized" => {}
            "subscriptions/listen" => {
                let meta = format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#);
                notify("notifications/subscriptions/acknowledged", &meta);
            }
            "tools/call" => self.call(line, id),
            _ => write(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"unknown"}}}}"#)),
        }
    }

    fn call(&mut self, line: &str, id: &str) {
        let tool = json::at(line, &["params", "name"]).and_then(json::string).unwrap_or_default();
        let arguments = json::at(line, &["params", "arguments"]).unwrap_or("{}");
        let number = |name: &str| json::get(arguments, name).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
        match &*tool {
            "echo" => answer(id, arguments),
            "pid" => answer(id, &std::process::id().to_string()),
            "cancelled" => answer(id, &format!("[{}]", self.cancelled.join(","))),
            "environment" => answer(id, &std::env::vars().count().to_string()),
            "hang" => {}
            "exit" => std::process::exit(3),
            "sized" => sized(id, number("bytes")),
            "news" => {
                notify("notifications/message", r#"{"level":"info","data":"x"}"#);
                notify("notifications/tools/list_changed", "{}");
                let token = json::at(line, &["params", "_meta", "progressToken"]).unwrap_or("null");
                notify("notifications/progress", &format!(r#"{{"progressToken":{token},"progress":1}}"#));
                answer(id, "{}");
            }
            "noise" => {
                (0..number("lines")).for_each(|n| eprintln!("line {n} {}", "x".repeat(5000)));
                println!("this line is no message");
                answer(id, "{}");
            }
            "ask" => {
                write(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
                let reply = self.read().unwrap_or_default();
                answer(id, json::get(&reply, "result").or(json::get(&reply, "error")).unwrap_or("null"));
            }
            "child" => {
                let child = std::process::Command::new("sleep").arg("1000").spawn();
                answer(id, &child.map_or("null".to_owned(), |child| child.id().to_string()));
            }
            _ => answer(id, "null"),
        }
    }
}

/// An answer that is a line of exactly `bytes` bytes, written piece by piece.
fn sized(id: &str, bytes: usize) {
    let (head, tail) = (format!(r#"{{"jsonrpc":"2.0","id":{id},"result":""#), "\"}\n");
    let piece = vec![b'a'; 1024 * 1024];
    let mut left = bytes - head.len() - (tail.len() - 1);
    let mut out = std::io::stdout().lock();
    let mut put = |bytes: &[u8]| out.write_all(bytes).unwrap_or_else(|_| std::process::exit(0));
    put(head.as_bytes());
    while left > 0 {
        let part = left.min(piece.len());
        put(&piece[..part]);
        left -= part;
    }
    put(tail.as_bytes());
    let _ = out.flush();
}

fn answer(id: &str, result: &str) {
    write(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
}

fn notify(method: &str, params: &str) {
    write(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#));
}

fn write(message: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{message}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

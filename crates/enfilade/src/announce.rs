//! What `up` and `serve` print on standard output: where they are, and for the demo commands to try.

use crate::demo;
use std::io::Write;
use std::net::SocketAddr;

/// One line per server; a node without clients says only that it serves.
pub(crate) fn ready(urls: &[String]) {
    if urls.is_empty() {
        line("ready");
    }
    urls.iter().for_each(|url| line(&format!("ready {url}")));
}

/// An address between nodes, once it is bound; nothing is served there yet.
pub(crate) fn bound(what: &str, address: SocketAddr) {
    line(&format!("{what} {address}"));
}

/// A command that calls a tool of the demo; its output is the tool's answer.
pub(crate) fn try_it(url: &str) {
    line("try it:");
    line(&curl(url));
}

/// Two commands that show that a session which was opened at one node works at another.
pub(crate) fn try_sessions(first: &str, second: &str) {
    line("a session opened at one node works at another:");
    line(&open_session(first));
    line(&use_session(second));
}

/// A modern request needs no session, so that one command is enough.
fn curl(url: &str) -> String {
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"curl","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{}","arguments":{{"a":2,"b":3}},"_meta":{meta}}}}}"#,
        tool()
    );
    let name = format!("Mcp-Name: {}", tool());
    post("-w '\\n'", url, &["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", &name], &body)
}

/// Leaves the session's id in a variable of the shell.
fn open_session(url: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}"#;
    let initialize = post("-D - -o /dev/null", url, &[], body);
    format!(r#"session=$({initialize} | tr -d '\r' | awk 'tolower($1) == "mcp-session-id:" {{ print $2 }}')"#)
}

fn use_session(url: &str) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"{}","arguments":{{"a":2,"b":3}}}}}}"#,
        tool()
    );
    let session = "-w '\\n' -H \"Mcp-Session-Id: $session\"";
    post(session, url, &["MCP-Protocol-Version: 2025-11-25"], &body)
}

/// A tool of the demo.
fn tool() -> String {
    format!("{}__add", demo::FIRST)
}

fn post(options: &str, url: &str, headers: &[&str], body: &str) -> String {
    let always = ["Content-Type: application/json", "Accept: application/json, text/event-stream"];
    let headers: Vec<String> = always.iter().chain(headers).map(|header| format!("-H '{header}'")).collect();
    format!("curl -s {options} {url} {} -d '{body}'", headers.join(" "))
}

/// Whoever started us may have stopped listening: that is no reason to stop serving.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::warn!(%error, text, "standard output does not take this line");
    }
}

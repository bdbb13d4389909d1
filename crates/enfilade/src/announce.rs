//! What `up` prints on standard output: an address per server once it serves, and for the demo a command to try.

use crate::demo;
use std::io::Write;

/// One line per server.
pub(crate) fn ready(urls: &[String]) {
    urls.iter().for_each(|url| line(&format!("ready {url}")));
}

/// A command that calls a tool of the demo; its output is the tool's answer.
pub(crate) fn try_it(url: &str) {
    line("try it:");
    line(&curl(url));
}

/// A modern request needs no session, so that one command is enough.
fn curl(url: &str) -> String {
    let tool = format!("{}__add", demo::FIRST);
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"curl","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"a":2,"b":3}},"_meta":{meta}}}}}"#
    );
    let headers = [
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        "MCP-Protocol-Version: 2026-07-28",
        "Mcp-Method: tools/call",
        &format!("Mcp-Name: {tool}"),
    ];
    let headers: Vec<String> = headers.iter().map(|header| format!("-H '{header}'")).collect();
    format!("curl -s -w '\\n' {url} {} -d '{body}'", headers.join(" "))
}

/// Whoever started us may have stopped listening: that is no reason to stop serving.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::warn!(%error, text, "standard output does not take this line");
    }
}

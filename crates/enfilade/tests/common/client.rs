//! A client of either era on a connection of its own.

use super::wire::{Events, Wire};
use super::{Answer, LEGACY, MODERN};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Legacy,
    Modern,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Legacy, Kind::Modern];

pub(crate) struct Client {
    pub(crate) wire: Wire,
    url: String,
    /// The id of a legacy session.
    pub(crate) session: Option<String>,
    next: u64,
}

impl Client {
    pub(crate) fn new(kind: Kind, url: &str) -> Self {
        match kind {
            Kind::Legacy => Self::legacy(url, json!({})),
            Kind::Modern => Self { wire: Wire::to(url), url: url.to_owned(), session: None, next: 1 },
        }
    }

    /// A legacy client with these capabilities, initialised.
    pub(crate) fn legacy(url: &str, capabilities: Value) -> Self {
        let mut wire = Wire::to(url);
        let answer = wire.ask("POST", &[], &initialize(capabilities));
        assert_eq!(answer.message(0)["result"]["protocolVersion"], LEGACY, "{answer:?}");
        let session = answer.header("Mcp-Session-Id").expect("a session id").to_owned();
        let mut client = Self { wire, url: url.to_owned(), session: Some(session), next: 1 };
        let done = client.post("", &[], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(done.status, 202, "{done:?}");
        client
    }

    /// The same client on a further connection.
    pub(crate) fn again(&self) -> Self {
        Self { wire: Wire::to(&self.url), url: self.url.clone(), session: self.session.clone(), next: self.next + 1000 }
    }

    /// The same client at another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { wire: Wire::to(url), url: url.to_owned(), session: self.session.clone(), next: self.next + 1000 }
    }

    /// Sends a message as it is.
    pub(crate) fn send(&mut self, method: &str, more: &[(&str, &str)], body: &str) {
        self.wire.send("POST", &headers(self.session.as_deref(), method, more), body);
    }

    /// Sends the head of a message whose body follows as `framing` says.
    pub(crate) fn begin(&mut self, method: &str, more: &[(&str, &str)], framing: &str) {
        let framing = format!("Content-Type: application/json\r\n{framing}");
        self.wire.begin("POST", &headers(self.session.as_deref(), method, more), &framing);
    }

    /// Posts a message as it is.
    pub(crate) fn post(&mut self, method: &str, more: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, more, body);
        self.wire.answer()
    }

    /// The body of a request, with what a modern client says of itself.
    pub(crate) fn body(&self, id: u64, method: &str, mut params: Value) -> String {
        if self.session.is_none() {
            params["_meta"] = meta();
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
    }

    /// A request, and the message that answers it.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        let name = params["name"].as_str().or(params["uri"].as_str()).map(str::to_owned);
        let named = name.as_deref().filter(|_| self.session.is_none()).map(|name| ("Mcp-Name", name));
        let body = self.body(id, method, params);
        let answer = self.post(method, named.as_slice(), &body);
        assert_eq!(answer.status, 200, "{}", shown(&answer));
        answer.message(id)
    }

    /// A tool call, and the message that answers it.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The text that a tool answers with.
    pub(crate) fn text(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        text_of(&answer).unwrap_or_else(|| panic!("no text: {answer}")).to_owned()
    }

    /// The names of all tools.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let answer = self.ask("tools/list", json!({}));
        let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {answer}"));
        tools.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect()
    }

    /// Opens the stream on which list changes are announced, on a further connection.
    pub(crate) fn listen(&self) -> Events {
        let wire = Wire::to(&self.url);
        if let Some(session) = self.session.as_deref() {
            return wire.events("GET", &headers(Some(session), "", &[]), "");
        }
        let method = "subscriptions/listen";
        let body = self.body(1, method, json!({"notifications": {"toolsListChanged": true}}));
        let mut events = wire.events("POST", &headers(None, method, &[]), &body);
        let first = events.next().expect("an acknowledgement");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        events
    }

    /// DELETE of the session.
    pub(crate) fn end(&mut self) -> Answer {
        self.wire.ask("DELETE", &headers(self.session.as_deref(), "", &[]), "")
    }
}

/// The headers of a message: of a session, or of a modern request.
fn headers<'a>(session: Option<&'a str>, method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut headers = match session {
        Some(session) => vec![("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)],
        None => vec![("MCP-Protocol-Version", MODERN), ("Mcp-Method", method)],
    };
    headers.extend_from_slice(more);
    headers
}

/// An `initialize` with id 0.
pub(crate) fn initialize(capabilities: Value) -> String {
    let client = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": client});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string()
}

pub(crate) fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// The first text of a tool's answer.
pub(crate) fn text_of(answer: &Value) -> Option<&str> {
    answer["result"]["content"][0]["text"].as_str()
}

/// An answer as a failed test shows it.
pub(crate) fn shown(answer: &Answer) -> String {
    format!("{} {}", answer.head, answer.body.chars().take(500).collect::<String>())
}

//! The few messages that clients write, as whole HTTP requests of both eras. Pure.

use serde_json::{Map, Value, json};

use crate::address::Target;

pub(crate) const LEGACY: &str = "2025-11-25";
pub(crate) const MODERN: &str = "2026-07-28";
/// The notice that a resource has changed.
pub(crate) const UPDATED: &str = "notifications/resources/updated";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker<'a> {
    /// A legacy session that opens.
    Nobody,
    /// A legacy session.
    Session(&'a str),
    /// A client of 2026-07-28.
    Modern,
}

/// A request of an asker, before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    /// What `Mcp-Name` says, in requests of 2026-07-28 that name something.
    pub(crate) name: Option<String>,
    /// An object, as JSON.
    pub(crate) params: String,
}

impl Ask {
    /// `arguments`: an object, as JSON.
    pub(crate) fn call(tool: &str, arguments: &str) -> Ask {
        let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, Value::from(tool));
        Ask { method: "tools/call", name: Some(tool.to_owned()), params }
    }

    pub(crate) fn plain(method: &'static str) -> Ask {
        Ask { method, name: None, params: "{}".to_owned() }
    }

    pub(crate) fn of_resource(method: &'static str, uri: &str) -> Ask {
        Ask { method, name: None, params: json!({"uri": uri}).to_string() }
    }

    pub(crate) fn initialize() -> Ask {
        let client = json!({"name": "enfilade-loadtest", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client});
        Ask { method: "initialize", name: None, params: params.to_string() }
    }

    /// `subscriptions/listen`: to the lists of tools, and to a resource.
    pub(crate) fn listen(uri: Option<&str>) -> Ask {
        let mut wanted = json!({"toolsListChanged": true});
        if let Some(uri) = uri {
            wanted["resourceSubscriptions"] = json!([uri]);
        }
        Ask { method: "subscriptions/listen", name: None, params: json!({"notifications": wanted}).to_string() }
    }

    /// The message, with `id`.
    pub(crate) fn message(&self, asker: Asker<'_>, id: u64) -> String {
        let Ask { method, params, .. } = self;
        let members = params.strip_prefix('{').unwrap_or_default();
        let (meta, comma) = match asker {
            Asker::Modern => (META, if members == "}" { "" } else { "," }),
            _ => ("", ""),
        };
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{meta}{comma}{members}}}"#)
    }

    /// The whole POST, with `id`.
    pub(crate) fn post(&self, target: &Target, asker: Asker<'_>, id: u64) -> Vec<u8> {
        let body = self.message(asker, id);
        let more = match asker {
            Asker::Modern => {
                let (method, name) = (self.method, self.name.as_ref());
                let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
                format!("MCP-Protocol-Version: {MODERN}\r\nMcp-Method: {method}\r\n{name}")
            }
            other => other.headers(),
        };
        post(target, &more, &body)
    }
}

/// What each request of 2026-07-28 says of its client.
const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"enfilade-loadtest","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}"#
);

impl Asker<'_> {
    fn headers(self) -> String {
        match self {
            Asker::Nobody => String::new(),
            Asker::Session(id) => format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: {LEGACY}\r\n"),
            Asker::Modern => format!("MCP-Protocol-Version: {MODERN}\r\n"),
        }
    }
}

/// The notice that the session is open, as a message.
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The same as a request of a session.
pub(crate) fn initialized(target: &Target, session: &str) -> Vec<u8> {
    post(target, &Asker::Session(session).headers(), INITIALIZED)
}

/// The GET that opens a WebSocket, for a session that is there already or a new one. `key` is 16 bytes in Base64.
pub(crate) fn upgrade(target: &Target, session: Option<&str>, key: &str) -> Vec<u8> {
    let session = session.map(|session| Asker::Session(session).headers()).unwrap_or_default();
    let Target { host, path, .. } = target;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mcp\r\n{session}\r\n"
    )
    .into_bytes()
}

/// Arguments of a call, as JSON: those of the scenario, and the text that must come back.
pub(crate) fn arguments(given: &Map<String, Value>, text: Option<&str>) -> String {
    let mut arguments = given.clone();
    if let Some(text) = text {
        arguments.insert("text".to_owned(), text.into());
    }
    Value::Object(arguments).to_string()
}

/// The GET of a session's stream.
pub(crate) fn get(target: &Target, session: &str, last_event: Option<&str>) -> Vec<u8> {
    let last = last_event.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let session = Asker::Session(session).headers();
    let Target { host, path, .. } = target;
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{session}{last}\r\n").into_bytes()
}

/// The end of a session.
pub(crate) fn delete(target: &Target, session: &str) -> Vec<u8> {
    let session = Asker::Session(session).headers();
    let Target { host, path, .. } = target;
    format!("DELETE {path} HTTP/1.1\r\nHost: {host}\r\n{session}\r\n").into_bytes()
}

fn post(target: &Target, more: &str, body: &str) -> Vec<u8> {
    let Target { host, path, .. } = target;
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n{more}\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_both_eras_are_json() {
        for ask in [Ask::call("a\"b", r#"{"text":"x"}"#), Ask::plain("ping"), Ask::listen(Some("load://news"))] {
            for asker in [Asker::Nobody, Asker::Session("s"), Asker::Modern] {
                let text = ask.message(asker, 7);
                let said: Value = serde_json::from_str(&text).expect(&text);
                assert_eq!(
                    (&said["id"], &said["method"], &said["jsonrpc"]),
                    (&json!(7), &json!(ask.method), &json!("2.0"))
                );
                let mut params = said["params"].clone();
                let meta = params.as_object_mut().expect("an object").remove("_meta");
                assert_eq!(params, serde_json::from_str::<Value>(&ask.params).expect("JSON"), "{text}");
                let version = meta.map(|meta| meta["io.modelcontextprotocol/protocolVersion"].clone());
                assert_eq!(version, matches!(asker, Asker::Modern).then(|| json!(MODERN)), "{text}");
            }
        }
    }
}

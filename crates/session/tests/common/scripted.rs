//! An MCP server made of one function: for what well-behaved servers do not do. Plain HTTP/1.1 on a socket.

#![allow(dead_code, unreachable_pub, reason = "a module of the tests that use it")]

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// One request.
pub struct Asked {
    pub verb: String,
    pub headers: HashMap<String, String>,
    pub body: Value,
}

impl Asked {
    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub fn param(&self, name: &str) -> &str {
        self.body["params"][name].as_str().unwrap_or_default()
    }

    /// A result for this request.
    pub fn result(&self, result: Value) -> Say {
        Say::Json(200, self.answer(result))
    }

    pub fn answer(&self, result: Value) -> Value {
        json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result})
    }

    pub fn error(&self, code: i64, message: &str) -> Say {
        let error = json!({"code": code, "message": message});
        Say::Json(200, json!({"jsonrpc": "2.0", "id": self.body["id"], "error": error}))
    }
}

/// What the server does.
pub enum Say {
    Json(u16, Value),
    Status(u16),
    /// Server-sent events, until the sender is dropped.
    Events(mpsc::Receiver<Value>),
    /// An answer once it is released.
    Later(tokio::sync::oneshot::Receiver<()>, Value),
    /// The connection breaks.
    Break,
}

pub struct Scripted {
    pub url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    pub async fn start(script: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let script = script.clone();
                connections.spawn(async move { serve(socket, &*script).await });
            }
        });
        Self { url, task }
    }
}

/// A stream of events with its writing end.
pub fn events() -> (mpsc::Sender<Value>, Say) {
    let (sender, receiver) = mpsc::channel(64);
    (sender, Say::Events(receiver))
}

async fn serve(socket: TcpStream, script: &(impl Fn(&Asked) -> Say + Send + Sync)) {
    let mut socket = BufReader::new(socket);
    while let Some(asked) = read(&mut socket).await {
        if write(&mut socket, script(&asked)).await.is_none() {
            return;
        }
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let verb = line.split(' ').next()?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Asked { verb, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

/// Nothing when the connection is over.
async fn write(socket: &mut BufReader<TcpStream>, say: Say) -> Option<()> {
    match say {
        Say::Json(status, body) => answer(socket, status, &body.to_string()).await,
        Say::Status(status) => answer(socket, status, "").await,
        Say::Later(released, body) => {
            released.await.ok()?;
            answer(socket, 200, &body.to_string()).await
        }
        Say::Break => None,
        Say::Events(mut receiver) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head.as_bytes()).await.ok()?;
            loop {
                // The end of the client's side is the end of the stream, whether there is something to say or not.
                let message = tokio::select! {
                    message = receiver.recv() => message,
                    _ = socket.fill_buf() => return None,
                };
                let Some(message) = message else { break };
                let event = format!("data: {message}\n\n");
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                socket.write_all(chunk.as_bytes()).await.ok()?;
            }
            socket.write_all(b"0\r\n\r\n").await.ok()
        }
    }
}

async fn answer(socket: &mut BufReader<TcpStream>, status: u16, body: &str) -> Option<()> {
    let session = "mcp-session-id: scripted\r\n";
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n{session}content-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.ok()
}

/// What a modern server says of itself.
pub fn discovered(capabilities: Value) -> Value {
    json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities, "ttlMs": 0,
        "cacheScope": "public", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}})
}

/// What a legacy server says of itself.
pub fn initialized(asked: &Asked, capabilities: Value) -> Say {
    asked.result(json!({"protocolVersion": asked.param("protocolVersion"), "capabilities": capabilities,
        "serverInfo": {"name": "s", "version": "1"}}))
}

pub fn all_capabilities() -> Value {
    json!({"tools": {"listChanged": true}, "resources": {"subscribe": true, "listChanged": true}})
}

pub fn acknowledged(uris: &[Value]) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
        "params": {"notifications": {"toolsListChanged": true, "resourceSubscriptions": uris}}})
}

pub fn wanted_uris(asked: &Asked) -> Vec<Value> {
    asked.body["params"]["notifications"]["resourceSubscriptions"].as_array().cloned().unwrap_or_default()
}

pub fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// A stream on which nothing is ever said.
pub fn events_forever() -> Say {
    let (sender, say) = events();
    tokio::spawn(async move { sender.closed().await });
    say
}

//! A node with a scripted owner behind real sockets, and two clients: hyper's, and one that writes bytes by hand.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod raw;
pub mod script;
pub mod ws;

use bytes::Bytes;
use enfilade_edge::{Config, Ending, Figures, Listen, Protocol, bind, serve};
use enfilade_registry::{SessionKeys, Slot};
use enfilade_runtime::Pressure;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use script::Script;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A running edge.
pub struct Node {
    /// HTTP/1.1.
    pub http1: SocketAddr,
    /// HTTP/2.
    pub http2: SocketAddr,
    pub owner: Arc<Script>,
    pub ending: Ending,
    pub figures: Figures,
    pub pressure: Pressure,
    pub task: JoinHandle<()>,
}

/// Fails a test that hangs, and says where.
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(20), future).await {
            Ok(output) => output,
            Err(_) => panic!("nothing happened at {place}"),
        }
    }
}

/// A connection without Nagle's delays, which would hide those of the node.
pub async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("set");
    stream
}

pub fn keys() -> SessionKeys {
    SessionKeys::new(1, &[7; 32]).expect("32 bytes are enough")
}

/// A session id that the node accepts.
pub fn session() -> String {
    keys().mint(Slot::new(5).expect("a slot"), [9; 16]).to_string()
}

/// One that somebody made up.
pub fn forged() -> String {
    let other = SessionKeys::new(1, &[8; 32]).expect("32 bytes are enough");
    other.mint(Slot::new(5).expect("a slot"), [9; 16]).to_string()
}

impl Node {
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let listen = |protocol| Listen { address: SocketAddr::from(([127, 0, 0, 1], 0)), protocol };
        let mut config = Config { listen: vec![listen(Protocol::Http1), listen(Protocol::Http2)], ..Config::default() };
        change(&mut config);
        let bound = bind(&config).await.expect("bound");
        let (http1, http2) = (bound[0].local_addr(), bound[1].local_addr());
        let (owner, ending) = (Arc::new(Script::new()), Ending::default());
        let pressure = Pressure::default();
        let figures = Figures::new(&config, pressure.clone());
        let (config, keys) = (Arc::new(config), Arc::new(keys()));
        let task = tokio::spawn(serve(bound, config, owner.clone(), keys, ending.clone(), figures.clone()));
        Self { http1, http2, owner, ending, figures, pressure, task }
    }

    /// Stops in order; every task must end.
    pub async fn stop(self) {
        self.ending.stop();
        within(self.task).await.expect("no panic");
    }

    pub async fn client(&self, protocol: Protocol) -> Client {
        match protocol {
            Protocol::Http1 => {
                let io = TokioIo::new(connect(self.http1).await);
                let (send, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
                Client {
                    address: self.http1,
                    send: Send::Http1(send),
                    task: tokio::spawn(async { drop(connection.await) }),
                }
            }
            Protocol::Http2 => {
                let io = TokioIo::new(connect(self.http2).await);
                let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
                let (send, connection) = handshake.await.expect("HTTP/2");
                Client {
                    address: self.http2,
                    send: Send::Http2(send),
                    task: tokio::spawn(async { drop(connection.await) }),
                }
            }
        }
    }
}

enum Send {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

/// One connection of hyper's client.
pub struct Client {
    address: SocketAddr,
    send: Send,
    /// The connection; aborting it is what a crash of the client looks like.
    pub task: JoinHandle<()>,
}

pub type Streaming = http::Response<hyper::body::Incoming>;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn code(&self) -> Option<i64> {
        if self.body.is_empty() { None } else { self.json()["error"]["code"].as_i64() }
    }
}

impl Client {
    /// Sends a request and gives the answer once its head has come.
    pub async fn open(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Streaming {
        let mut request = Request::builder().method(method);
        let authority = self.address.to_string();
        request = match self.send {
            Send::Http1(_) => request.uri(path).header("host", &authority),
            Send::Http2(_) => request.uri(format!("http://{authority}{path}")),
        };
        for (name, value) in headers {
            request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = async {
            match &mut self.send {
                Send::Http1(send) => {
                    send.ready().await?;
                    send.send_request(request).await
                }
                Send::Http2(send) => send.send_request(request).await,
            }
        };
        within(answer).await.expect("an answer")
    }

    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let (head, body) = self.open(method, path, headers, body).await.into_parts();
        let body = within(body.collect()).await.expect("a body").to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }
}

/// What a client must send with every POST.
pub const POST: [(&str, &str); 2] =
    [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];

/// A request of 2026-07-28 without its headers.
pub fn modern(method: &str) -> String {
    modern_of("2026-07-28", method)
}

pub fn modern_of(version: &str, method: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}

/// A request without metadata.
pub fn legacy(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}"}}"#)
}

/// The headers that go with [`modern`].
pub fn modern_headers(method: &str) -> [(&str, &str); 4] {
    [POST[0], POST[1], ("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]
}

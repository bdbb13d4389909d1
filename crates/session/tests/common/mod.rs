//! A node over real MCP servers (the testkit's, on sockets), driven through the owner's door.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use bytes::Bytes;
use enfilade_mcp::classify::{Class, Headers, classify};
use enfilade_mcp::{Envelope, json};
use enfilade_registry::{MemoryRegistry, SessionId, SessionKeys, Term};
use enfilade_session::config::{Limits, PrefixChoice, ServerConfig};
use enfilade_session::copy::{Copies, NoCopies};
use enfilade_session::owner::{ANONYMOUS, Caller, HeaderLookup, Legacy, Owner, Reply, ServerId};
use enfilade_session::slots::{AllSlots, Slots};
use enfilade_session::stream::EventStream;
use enfilade_session::{Node, NodeConfig, Registry};
use enfilade_testkit::everything::{self, Era, Options};
use enfilade_upstream::{Config, Connector};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// An MCP server of the testkit that can be killed and started again on the same port.
pub struct Peer {
    pub address: std::net::SocketAddr,
    era: Era,
    name: String,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Peer {
    pub async fn start(name: &str, era: Era) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let mut peer = Self { address, era, name: name.into(), stop: CancellationToken::new(), task: None };
        peer.run().await;
        peer
    }

    pub async fn run(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        self.address = listener.local_addr().unwrap();
        self.stop = CancellationToken::new();
        let options = Options { era: self.era, name: self.name.clone(), ..Options::default() };
        let stop = self.stop.clone();
        self.task = Some(tokio::spawn(async move {
            let served = everything::serve_http(listener, options, stop.cancelled_owned());
            let _ = served.await;
        }));
    }

    /// Ends the server at once: its connections break.
    pub async fn kill(&mut self) {
        let task = self.task.take().unwrap();
        self.stop.cancel();
        task.abort();
        let _ = task.await;
    }

    pub fn config(&self) -> Config {
        upstream(&self.name, &format!("http://{}/mcp", self.address))
    }
}

pub fn upstream(name: &str, url: &str) -> Config {
    serde_json::from_value(serde_json::json!({"name": name, "url": url})).unwrap()
}

pub struct World {
    pub node: Arc<Node>,
    pub keys: Arc<SessionKeys>,
    pub registry: Arc<MemoryRegistry>,
}

impl World {
    pub fn new(upstreams: Vec<Config>, prefix: PrefixChoice) -> Self {
        Self::with(upstreams, prefix, Limits { health_interval_ms: 200, ..Limits::default() })
    }

    pub fn with(upstreams: Vec<Config>, prefix: PrefixChoice, limits: Limits) -> Self {
        Self::among(upstreams, prefix, limits, Arc::new(AllSlots::new(Term(1))), Arc::new(NoCopies))
    }

    /// A node that owns what it is told.
    pub fn among(
        upstreams: Vec<Config>,
        prefix: PrefixChoice,
        limits: Limits,
        slots: Arc<dyn Slots>,
        copies: Arc<dyn Copies>,
    ) -> Self {
        let keys = Arc::new(SessionKeys::new(1, &[7; 32]).unwrap());
        Self::of(upstreams, prefix, limits, slots, copies, keys, Arc::new(MemoryRegistry::new()))
    }

    /// Another node with the same registry.
    pub fn beside(
        &self,
        upstreams: Vec<Config>,
        limits: Limits,
        slots: Arc<dyn Slots>,
        copies: Arc<dyn Copies>,
    ) -> Self {
        let (keys, registry) = (self.keys.clone(), self.registry.clone());
        Self::of(upstreams, PrefixChoice::Always, limits, slots, copies, keys, registry)
    }

    fn of(
        upstreams: Vec<Config>,
        prefix: PrefixChoice,
        limits: Limits,
        slots: Arc<dyn Slots>,
        copies: Arc<dyn Copies>,
        keys: Arc<SessionKeys>,
        registry: Arc<MemoryRegistry>,
    ) -> Self {
        let server = ServerConfig { name: "default".into(), path: "/mcp".into(), prefix, upstreams: vec![] };
        let config = NodeConfig { servers: vec![server], limits, cursor_secret: vec![1; 32] };
        let connectors = upstreams.into_iter().map(|config| Connector::new(config).unwrap()).collect();
        let parts = Registry { reader: registry.clone(), writer: registry.clone(), keys: keys.clone() };
        Self { node: Node::start(config, connectors, parts, slots, copies).unwrap(), keys, registry }
    }

    /// A client whose session exists.
    pub fn again(&self, id: SessionId) -> Client<'_> {
        Client { world: self, id, initialized: String::new() }
    }

    pub async fn open(&self, version: &str, capabilities: &str) -> Client<'_> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
        );
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        match self.node.initialize(CALLER, &envelope).await {
            Reply::Message { body, session: Some(id), .. } => {
                let text = String::from_utf8(body.to_vec()).unwrap();
                Client { world: self, id, initialized: text }
            }
            other => panic!("{other:?}"),
        }
    }

    /// A modern request; `extra` are more members of `_meta`.
    pub async fn modern(&self, id: &str, method: &str, members: &str, capabilities: &str, extra: &str) -> Reply {
        let comma = if members.is_empty() { "" } else { "," };
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{members}{comma}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"test","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{capabilities}{extra}}}}}}}"#
        );
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        let params = json::get(&text, "params").unwrap();
        let name = ["name", "uri", "taskId"].iter().find_map(|key| json::string(json::get(params, key)?));
        let name = name.map(|name| name.into_owned());
        let headers =
            Headers { version: Some("2026-07-28"), session: None, method: Some(method), name: name.as_deref() };
        let Ok(Class::Modern(meta)) = classify(headers, &envelope.kind) else { panic!("not modern: {text}") };
        self.node.modern(CALLER, &envelope, &meta, &NoHeaders).await
    }

    pub async fn modern_text(&self, method: &str, members: &str) -> String {
        last(self.modern("1", method, members, "{}", "").await).await
    }
}

pub const CALLER: Caller<'static> = Caller { server: ServerId(0), principal: ANONYMOUS };

pub struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn header(&self, _: &str) -> Option<&str> {
        None
    }
}

pub struct Client<'a> {
    world: &'a World,
    pub id: SessionId,
    pub initialized: String,
}

impl Client<'_> {
    pub async fn post(&self, text: &str) -> Reply {
        self.send(text, false).await
    }

    /// As an edge does that lost the answer to the first.
    pub async fn post_again(&self, text: &str) -> Reply {
        self.send(text, true).await
    }

    async fn send(&self, text: &str, again: bool) -> Reply {
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        let message = Legacy::One { envelope: &envelope, version: None, again };
        self.world.node.legacy(CALLER, self.id, message).await
    }

    pub async fn batch(&self, text: &str) -> Reply {
        self.world.node.legacy(CALLER, self.id, Legacy::Batch(text)).await
    }

    /// The answer to a request, whatever came before it.
    pub async fn ask(&self, id: &str, method: &str, params: &str) -> String {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        last(self.post(&text).await).await
    }

    pub async fn call(&self, tool: &str, arguments: &str) -> String {
        self.ask("1", "tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).await
    }

    pub async fn stream(&self, last: Option<&str>) -> EventStream {
        match self.world.node.open_stream(CALLER, self.id, last).await {
            Reply::Events { stream, .. } => stream,
            other => panic!("{other:?}"),
        }
    }
}

pub fn events(reply: Reply) -> EventStream {
    match reply {
        Reply::Events { stream, .. } => stream,
        other => panic!("not a stream: {other:?}"),
    }
}

/// The next message of a stream; priming events are skipped.
pub async fn next(stream: &mut EventStream) -> Option<String> {
    loop {
        let event = within(stream.next()).await?;
        if !event.data.is_empty() {
            return Some(text(&event.data));
        }
    }
}

pub async fn all(mut stream: EventStream) -> Vec<String> {
    let mut messages = Vec::new();
    while let Some(message) = next(&mut stream).await {
        messages.push(message);
    }
    messages
}

pub async fn last(reply: Reply) -> String {
    match reply {
        Reply::Message { body, .. } => text(&body),
        Reply::Events { stream, .. } => all(stream).await.pop().expect("a stream ends with the answer"),
        other => panic!("{other:?}"),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Bounds a wait, so that a defect fails a test instead of hanging it.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

/// Asks until an answer satisfies the condition.
pub async fn until<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F, mut good: impl FnMut(&T) -> bool) -> T {
    within(async {
        loop {
            let answer = ask().await;
            if good(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

pub fn value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// The text of the first content block of a tool result.
pub fn content(answer: &str) -> String {
    let answer = value(answer);
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

pub fn names(answer: &str, list: &str, key: &str) -> Vec<String> {
    let answer = value(answer);
    let items = answer["result"][list].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}
